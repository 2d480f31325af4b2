//! Debian's kernels, fetched once and unpacked with their modules ready for `modprobe`.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, bail};
use clap::ValueEnum;

use crate::{
    process::{capture, quiet},
    progress::step,
    setup, workspace,
};

/// The kernels that the tests know.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Kernel {
    /// Neither tcx nor netkit.
    #[value(name = "6.1")]
    V6_1,
    /// tcx and netkit.
    #[value(name = "6.12")]
    V6_12,
    /// The newest that Debian has for its stable release.
    #[value(name = "newest")]
    Newest,
}

impl Kernel {
    /// As in `--kernel`.
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::V6_1 => "6.1",
            Self::V6_12 => "6.12",
            Self::Newest => "newest",
        }
    }

    /// What the names of its packages begin with.
    const fn package(self) -> &'static str {
        match self {
            Self::V6_1 => "linux-image-6.1.",
            Self::V6_12 => "linux-image-6.12.",
            Self::Newest => "linux-image-",
        }
    }
}

/// The suite that has the newest kernels. No machine has it among its package sources unless somebody wanted to.
const NEWEST_SUITE: &str = "trixie-backports";

/// An unpacked kernel.
pub(crate) struct Image {
    /// The kernel itself.
    pub(crate) vmlinuz: PathBuf,
    /// Has `lib/modules/<release>`, with uncompressed modules and depmod's files.
    pub(crate) root: PathBuf,
    /// The Debian package it came in.
    pub(crate) package: String,
}

/// The kernel's image, from an earlier run or freshly downloaded.
pub(crate) fn image(kernel: Kernel) -> Result<Image> {
    let dir = workspace::target().join("vm").join(kernel.as_str());
    let ready = dir.join("image");
    if let Some(image) = open(&ready) {
        return Ok(image);
    }
    fs::create_dir_all(&dir).with_context(|| format!("creating {}", dir.display()))?;
    let scratch = tempfile::tempdir_in(&dir).context("creating a scratch folder for the kernel")?;
    let mut packages = local_packages(&dir)?;
    if packages.is_empty() {
        packages = download(kernel, scratch.path(), &dir)?;
    } else {
        step(&format!("kernel {}: the packages in {}", kernel.as_str(), dir.display()));
    }
    let unpacked = scratch.path().join("image");
    for package in &packages {
        quiet(Command::new("dpkg-deb").arg("-x").arg(package).arg(&unpacked))?;
    }
    if unpacked.join("usr/lib/modules").is_dir() && !unpacked.join("lib").exists() {
        fs::rename(unpacked.join("usr/lib"), unpacked.join("lib")).context("moving the modules")?;
    }
    let release = release(&unpacked)?;
    let places = [
        unpacked.join("boot").join(format!("vmlinuz-{release}")),
        modules(&unpacked, &release).join("vmlinuz"),
    ];
    let vmlinuz = places.iter().find(|place| place.is_file()).context("the packages have no kernel")?;
    fs::rename(vmlinuz, unpacked.join("vmlinuz")).context("taking vmlinuz out of the package")?;
    prepare_modules(&unpacked, &release)?;
    let named = packages.iter().filter_map(|package| package.file_stem()?.to_str());
    let name = named.min_by_key(|name| !name.starts_with("linux-image-")).unwrap_or_default();
    fs::write(unpacked.join("package"), name).context("writing the package's name")?;
    // Another run may have been faster; its result is as good.
    if fs::rename(&unpacked, &ready).is_err() && !ready.exists() {
        bail!("moving the unpacked kernel to {} failed", ready.display());
    }
    open(&ready).with_context(|| format!("{} is not a whole image; delete it and try again", ready.display()))
}

fn open(ready: &Path) -> Option<Image> {
    let package = fs::read_to_string(ready.join("package")).ok()?;
    let vmlinuz = ready.join("vmlinuz");
    vmlinuz.is_file().then(|| Image { vmlinuz, root: ready.to_path_buf(), package })
}

/// Packages that someone put there, for machines whose package sources have no such kernel.
fn local_packages(dir: &Path) -> Result<Vec<PathBuf>> {
    let mut packages = Vec::new();
    for entry in fs::read_dir(dir).with_context(|| format!("reading {}", dir.display()))? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "deb") {
            packages.push(path);
        }
    }
    Ok(packages)
}

/// The image, and the packages that newer ones have the kernel and its modules in.
fn download(kernel: Kernel, scratch: &Path, dir: &Path) -> Result<Vec<PathBuf>> {
    let apt = match kernel {
        Kernel::V6_1 | Kernel::V6_12 => Apt::default(),
        Kernel::Newest => Apt::beside(NEWEST_SUITE, scratch)?,
    };
    let mut known = apt.candidates(kernel)?;
    if known.is_empty() {
        setup::update_package_lists()?;
        known = apt.candidates(kernel)?;
    }
    if known.is_empty() {
        bail!(
            "no package source of this machine offers Debian's kernel {version} (a package named \
             {package}…-cloud-amd64); add Debian's, or put the package's .deb file into {}",
            dir.display(),
            version = kernel.as_str(),
            package = kernel.package(),
        );
    }
    let mut failures = Vec::new();
    // A list that is not quite fresh names packages that are gone: fall back to an older one.
    for name in known.iter().take(3) {
        step(&format!("kernel {}: downloading {name}", kernel.as_str()));
        let parts = apt.parts(name)?;
        match quiet(apt.command("apt-get").args(["download", "-q"]).args(parts).current_dir(scratch)) {
            Ok(()) => return local_packages(scratch),
            Err(error) => failures.push(format!("{error:#}")),
        }
    }
    bail!(
        "kernel {} could not be downloaded; `apt-get update` may help\n{}",
        kernel.as_str(),
        failures.join("\n")
    )
}

/// Apt, as the machine has it or with one suite more that the machine does not get to know.
#[derive(Default)]
struct Apt {
    options: Vec<String>,
}

impl Apt {
    /// With a suite of the archive that the machine's Debian comes from, and its lists in a folder.
    fn beside(suite: &str, folder: &Path) -> Result<Self> {
        let format = ["indextargets", "--format", "$(REPO_URI)", "Created-By: Packages", "Origin: Debian"];
        let archives = capture(Command::new("apt-get").args(format))?;
        let archive = archives.lines().find(|uri| !uri.contains("security")).with_context(|| {
            format!("the kernels of {suite} come from Debian's archive, which this machine has no package source of")
        })?;
        let (sources, lists) = (folder.join("sources.list"), folder.join("lists"));
        fs::write(&sources, format!("deb {archive} {suite} main\n"))
            .with_context(|| format!("writing {}", sources.display()))?;
        fs::create_dir_all(lists.join("partial")).with_context(|| format!("creating {}", lists.display()))?;
        let settings = [
            format!("Dir::Etc::sourcelist={}", sources.display()),
            "Dir::Etc::sourceparts=-".to_owned(),
            format!("Dir::State::lists={}", lists.display()),
            "Dir::Cache::pkgcache=".to_owned(),
            "Dir::Cache::srcpkgcache=".to_owned(),
            // As another user, which the folder is closed to.
            "APT::Sandbox::User=root".to_owned(),
        ];
        let apt =
            Self { options: settings.into_iter().flat_map(|setting| ["-o".to_owned(), setting]).collect() };
        step(&format!("fetching the package list of {suite}"));
        quiet(apt.command("apt-get").args(["update", "-q"])).with_context(|| {
            format!("the newest kernel is in Debian's {suite}, whose package list cannot be fetched from {archive}")
        })?;
        Ok(apt)
    }

    fn command(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        command.args(&self.options);
        command
    }

    /// An image's package, and those beside it that there are.
    fn parts(&self, image: &str) -> Result<Vec<String>> {
        let mut parts = vec![image.to_owned()];
        for beside in ["linux-binary-", "linux-modules-"] {
            let name = image.replacen("linux-image-", beside, 1);
            let known = capture(self.command("apt-cache").args(["pkgnames", &name]))?;
            parts.extend(known.lines().find(|known| **known == name).map(str::to_owned));
        }
        Ok(parts)
    }

    /// Packages with this kernel, the newest first.
    fn candidates(&self, kernel: Kernel) -> Result<Vec<String>> {
        let names = capture(self.command("apt-cache").args(["pkgnames", kernel.package()]))?;
        let is_kernel = |name: &&str| {
            name.ends_with("-cloud-amd64")
                && name[kernel.package().len()..].starts_with(|c: char| c.is_ascii_digit())
        };
        let mut names: Vec<String> = names.lines().filter(is_kernel).map(str::to_owned).collect();
        names.sort_by_key(|name| std::cmp::Reverse(numbers(name)));
        Ok(names)
    }
}

/// The numbers in a package's name, which order versions as people do.
fn numbers(name: &str) -> Vec<u64> {
    name.split(|c: char| !c.is_ascii_digit()).filter_map(|part| part.parse().ok()).collect()
}

fn release(unpacked: &Path) -> Result<String> {
    let modules = unpacked.join("lib/modules");
    let mut entries = fs::read_dir(&modules).with_context(|| format!("reading {}", modules.display()))?;
    let first = entries.next().with_context(|| format!("{} is empty", modules.display()))??;
    Ok(first.file_name().to_string_lossy().into_owned())
}

fn modules(unpacked: &Path, release: &str) -> PathBuf {
    unpacked.join("lib/modules").join(release)
}

/// Keeps what network tests can use, uncompressed (the initramfs is compressed as a whole), and indexes it.
fn prepare_modules(unpacked: &Path, release: &str) -> Result<()> {
    const KEPT: [&str; 9] = [
        "arch/x86/crypto",
        "crypto",
        "drivers/char",
        "drivers/net",
        "drivers/virtio",
        "fs/fuse",
        "fs/overlayfs",
        "lib",
        "net",
    ];
    const LEFT_OUT: [&str; 15] = [
        "drivers/char/tpm",
        "drivers/net/ethernet",
        "drivers/net/hyperv",
        "drivers/net/wireless",
        "net/9p",
        "net/bluetooth",
        "net/ceph",
        "net/dccp",
        "net/l2tp",
        "net/rds",
        "net/sctp",
        "net/smc",
        "net/sunrpc",
        "net/tipc",
        "net/wireless",
    ];
    let modules = modules(unpacked, release);
    let all = modules.join("kernel");
    let kept = modules.join("kept");
    for dir in KEPT {
        let from = all.join(dir);
        if from.is_dir() {
            let to = kept.join(dir);
            fs::create_dir_all(to.parent().unwrap_or(&kept)).context("selecting modules")?;
            fs::rename(&from, &to).with_context(|| format!("selecting {}", from.display()))?;
        }
    }
    for dir in LEFT_OUT {
        let dir = kept.join(dir);
        if dir.is_dir() {
            fs::remove_dir_all(&dir).with_context(|| format!("removing {}", dir.display()))?;
        }
    }
    fs::remove_dir_all(&all).context("removing the other modules")?;
    fs::rename(&kept, &all).context("selecting modules")?;

    let mut compressed = Vec::new();
    find_compressed(&all, &mut compressed)?;
    if !compressed.is_empty() {
        quiet(Command::new("xz").args(["-d", "-T0", "--"]).args(&compressed))?;
    }
    let depmod = crate::process::find("depmod").unwrap_or_else(|| "depmod".into());
    quiet(Command::new(depmod).arg("-b").arg(unpacked).arg(release))
}

fn find_compressed(dir: &Path, found: &mut Vec<PathBuf>) -> Result<()> {
    for entry in fs::read_dir(dir).with_context(|| format!("reading {}", dir.display()))? {
        let path = entry?.path();
        if path.is_dir() {
            find_compressed(&path, found)?;
        } else if path.extension().is_some_and(|extension| extension == "xz") {
            found.push(path);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn newer_packages_come_first() {
        let mut names = [
            "linux-image-6.12.9+deb12-cloud-amd64",
            "linux-image-6.12.111+deb12-cloud-amd64",
            "linux-image-6.12.12+bpo-cloud-amd64",
        ];
        names.sort_by_key(|name| std::cmp::Reverse(numbers(name)));
        assert_eq!(names[0], "linux-image-6.12.111+deb12-cloud-amd64");
        assert_eq!(names[2], "linux-image-6.12.9+deb12-cloud-amd64");
    }
}
