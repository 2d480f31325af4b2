//! What building and testing need of the machine: found missing, and installed.

mod bpftool;
mod registry;

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, bail};

use crate::{
    process::{capture, find, quiet},
    progress::step,
    workspace,
};

/// What a command of ours is about to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Need {
    /// Compile BPF programs.
    Bpf,
    /// Compile plugins.
    Guest,
    /// Make network namespaces and look into them.
    Netns,
    /// Boot another kernel.
    Vm,
    /// Push plugins to a registry.
    Registry,
    /// Compile plugins in C.
    C,
}

impl Need {
    const ALL: [Self; 6] = [Self::Bpf, Self::Guest, Self::Netns, Self::Vm, Self::Registry, Self::C];

    /// What it is for, in the words of an error.
    const fn purpose(self) -> &'static str {
        match self {
            Self::Bpf => "build the BPF programs",
            Self::Guest => "build plugins",
            Self::Netns => "test in network namespaces",
            Self::Vm => "boot other kernels",
            Self::Registry => "test with a registry",
            Self::C => "build plugins in C",
        }
    }

    const fn requirements(self) -> &'static [Requirement] {
        match self {
            Self::Bpf => BPF,
            Self::Guest => GUEST,
            Self::Netns => NETNS,
            Self::Vm => VM,
            Self::Registry => REGISTRY,
            Self::C => C,
        }
    }
}

const BPF: &[Requirement] = &[
    Requirement { name: "clang 17 or newer", check: Check::Call(clang), packages: Packages::Newest("clang") },
    Requirement {
        name: "libbpf's headers",
        check: Check::Call(bpf_headers),
        packages: Packages::One("libbpf-dev"),
    },
];

const GUEST: &[Requirement] = &[Requirement {
    name: "a Rust compiler for wasm32-unknown-unknown",
    check: Check::Call(guest_toolchain),
    packages: Packages::Guest,
}];

const BPFTOOL: Requirement = Requirement {
    name: "bpftool 7.3 or newer",
    check: Check::Call(bpftool::is_there),
    packages: Packages::Bpftool,
};

const NETNS: &[Requirement] = &[
    Requirement::program("ip", "iproute2"),
    Requirement::program("tc", "iproute2"),
    Requirement::program("ping", "iputils-ping"),
    Requirement::program("python3", "python3"),
    BPFTOOL,
];

const VM: &[Requirement] = &[
    Requirement::program("qemu-system-x86_64", "qemu-system-x86"),
    Requirement::program("busybox", "busybox-static"),
    Requirement::program("dash", "dash"),
    Requirement::program("depmod", "kmod"),
    Requirement::program("ip", "iproute2"),
    Requirement::program("ping", "iputils-ping"),
    Requirement::program("setpriv", "util-linux"),
    Requirement::program("xz", "xz-utils"),
    Requirement::program("zstd", "zstd"),
    BPFTOOL,
];

const REGISTRY: &[Requirement] = &[Requirement::program("docker-registry", "docker-registry")];

const C: &[Requirement] = &[
    Requirement {
        name: "a linker for clang's WebAssembly",
        check: Check::Call(linker),
        packages: Packages::Newest("lld"),
    },
    Requirement {
        name: "the C library for WebAssembly",
        check: Check::Call(wasi_libc),
        packages: Packages::One("wasi-libc"),
    },
];

/// One thing that must be there.
struct Requirement {
    name: &'static str,
    check: Check,
    packages: Packages,
}

impl Requirement {
    const fn program(name: &'static str, package: &'static str) -> Self {
        Self { name, check: Check::Program, packages: Packages::One(package) }
    }

    fn is_met(&self) -> bool {
        match self.check {
            Check::Program => find(self.name).is_some(),
            Check::Call(check) => check(),
        }
    }
}

/// How it is found.
enum Check {
    /// The program that the requirement is named after can be run.
    Program,
    /// As this says.
    Call(fn() -> bool),
}

/// What has it.
enum Packages {
    /// A package.
    One(&'static str),
    /// The newest of the packages `<name>-<version>`, or `<name>` where there is none.
    Newest(&'static str),
    /// bpftool's own, or those that it is built with.
    Bpftool,
    /// The distribution's compiler for the web, for where rustup cannot fetch the target.
    Guest,
}

impl Packages {
    fn names(&self) -> Result<Vec<String>> {
        Ok(match self {
            Self::One(name) => vec![(*name).to_owned()],
            Self::Newest(name) => vec![newest(name)?],
            Self::Bpftool => bpftool::packages()?,
            Self::Guest => {
                let mut names: Vec<String> =
                    ["rustc-web", "cargo-web", "rust-web-src"].map(str::to_owned).into();
                names.push(newest("lld")?);
                names
            }
        })
    }
}

/// Installs what building and testing need
#[derive(Debug, clap::Args)]
pub(crate) struct Args {}

/// `cargo xtask setup`.
pub(crate) fn main(_: &Args) -> Result<()> {
    ensure(&Need::ALL)?;
    step("everything needed to build and test is here");
    Ok(())
}

/// Installs what is missing of all this; instant if nothing is.
pub(crate) fn ensure(needs: &[Need]) -> Result<()> {
    if missing(needs).is_empty() {
        return Ok(());
    }
    make(needs)?;
    let absent = missing(needs);
    if absent.is_empty() {
        return Ok(());
    }
    let names: Vec<&str> = absent.iter().map(|requirement| requirement.name).collect();
    if find("apt-get").is_none() {
        bail!("missing: {}. Install them with this system's package tool, then try again", names.join(", "));
    }
    if workspace::is_root() && lists_are_missing() {
        update_package_lists()?;
    }
    let packages = packages(&absent)?;
    if !workspace::is_root() {
        bail!(
            "missing: {}. Install them with\n\n    sudo apt-get install {}\n\n{}",
            names.join(", "),
            packages.join(" "),
            still_works()
        );
    }
    step(&format!("installing {} (for: {})", packages.join(", "), names.join(", ")));
    if install(&packages).is_err() {
        // The lists may be older than the archive.
        update_package_lists()?;
        install(&self::packages(&absent)?)?;
    }
    make(needs)?;
    let still: Vec<&str> = missing(needs).iter().map(|requirement| requirement.name).collect();
    if !still.is_empty() {
        bail!("installed {}, but still missing: {}", packages.join(", "), still.join(", "));
    }
    Ok(())
}

/// Gets what no package has.
fn make(needs: &[Need]) -> Result<()> {
    if needs.contains(&Need::Guest) && !guest_toolchain() {
        add_rustup_target();
    }
    if missing(needs).iter().any(|requirement| requirement.name == BPFTOOL.name) {
        bpftool::build()?;
    }
    if needs.contains(&Need::Registry) && !REGISTRY.iter().all(Requirement::is_met) {
        registry::fetch()?;
    }
    Ok(())
}

/// Downloads a package without installing it, into an empty folder.
fn download(name: &str, folder: &Path) -> Result<PathBuf> {
    if !known(name)? {
        update_package_lists()?;
        if !known(name)? {
            bail!("no package source of this machine offers {name}");
        }
    }
    quiet(Command::new("apt-get").args(["download", "-q", name]).current_dir(folder))?;
    let entries = fs::read_dir(folder).with_context(|| format!("reading {}", folder.display()))?;
    let mut paths = entries.filter_map(|entry| Some(entry.ok()?.path()));
    paths
        .find(|path| path.extension().is_some_and(|extension| extension == "deb"))
        .with_context(|| format!("apt-get downloaded {name}, but left no .deb file"))
}

/// Fetches apt's package lists.
pub(crate) fn update_package_lists() -> Result<()> {
    if !workspace::is_root() {
        bail!("apt's package lists are missing or old; run `sudo apt-get update`, then try again");
    }
    step("updating apt's package lists");
    quiet(Command::new("apt-get").args(["update", "-q"]))
}

fn missing(needs: &[Need]) -> Vec<&'static Requirement> {
    needs.iter().flat_map(|need| need.requirements()).filter(|requirement| !requirement.is_met()).collect()
}

fn still_works() -> String {
    let works: Vec<&str> =
        Need::ALL.iter().filter(|need| missing(&[**need]).is_empty()).map(|need| need.purpose()).collect();
    if works.is_empty() {
        "Until then, only `cargo xtask test --tier unit` can do a part of its work.".to_owned()
    } else {
        format!("Until then this machine can {}.", works.join(", "))
    }
}

fn packages(requirements: &[&Requirement]) -> Result<Vec<String>> {
    let mut packages = Vec::new();
    for requirement in requirements {
        packages.extend(requirement.packages.names()?);
    }
    packages.sort();
    packages.dedup();
    Ok(packages)
}

fn install(packages: &[String]) -> Result<()> {
    quiet(
        Command::new("apt-get")
            .env("DEBIAN_FRONTEND", "noninteractive")
            .args(["install", "-y", "-q", "--no-install-recommends"])
            .args(packages),
    )
}

fn lists_are_missing() -> bool {
    fs::read_dir("/var/lib/apt/lists").map_or(true, |mut entries| {
        !entries
            .any(|entry| entry.is_ok_and(|entry| entry.file_name().to_string_lossy().contains("_Packages")))
    })
}

fn known(package: &str) -> Result<bool> {
    let shown = capture(Command::new("apt-cache").args(["policy", package]))?;
    Ok(shown.lines().any(|line| line.contains("Candidate:") && !line.contains("(none)")))
}

fn newest(name: &str) -> Result<String> {
    let prefix = format!("{name}-");
    let names = capture(Command::new("apt-cache").args(["pkgnames", &prefix]))?;
    let newest = names.lines().filter_map(|package| package.strip_prefix(&prefix)?.parse::<u32>().ok()).max();
    Ok(newest.map_or_else(|| name.to_owned(), |version| format!("{name}-{version}")))
}

fn clang() -> bool {
    if (17..=30).any(|version| find(&format!("clang-{version}")).is_some()) {
        return true;
    }
    let Ok(shown) = capture(Command::new("clang").arg("--version")) else { return false };
    let version = shown.split("version ").nth(1).and_then(|rest| rest.split('.').next());
    version.and_then(|version| version.parse::<u32>().ok()).is_some_and(|version| version >= 17)
}

fn bpf_headers() -> bool {
    Path::new("/usr/include/bpf/bpf_helpers.h").is_file()
}

/// Whether plugins can be compiled: by the Rust in use, or by the distribution's with its own standard library
/// and linker.
fn guest_toolchain() -> bool {
    let libdir = capture(Command::new("rustc").args([
        "--print",
        "target-libdir",
        "--target",
        "wasm32-unknown-unknown",
    ]));
    if libdir.is_ok_and(|dir| Path::new(dir.trim()).is_dir()) {
        return true;
    }
    let sources = Path::new("/usr/lib/rustlib/src/rust/library").is_dir();
    linker() && sources && Path::new("/usr/bin/rustc").is_file() && Path::new("/usr/bin/cargo").is_file()
}

/// Most machines get the target from rustup; where that fails the distribution's packages serve.
fn add_rustup_target() {
    if find("rustup").is_none() {
        return;
    }
    step("rustup target add wasm32-unknown-unknown");
    let added =
        quiet(Command::new("timeout").args(["120", "rustup", "target", "add", "wasm32-unknown-unknown"]))
            .context("rustup has no such target here");
    if let Err(error) = added {
        step(&format!("{error:#}"));
    }
}

/// One that is new enough for what Rust's compiler writes.
fn linker() -> bool {
    (17..=30).any(|version| find(&format!("wasm-ld-{version}")).is_some())
}

fn wasi_libc() -> bool {
    Path::new("/usr/include/wasm32-wasi/stdlib.h").is_file()
}
