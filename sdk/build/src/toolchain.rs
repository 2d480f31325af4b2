//! Which compiler builds for `wasm32-unknown-unknown` on this machine.

use std::{
    env,
    ffi::OsString,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use crate::BuildError;

/// The target plugins are compiled for.
pub(crate) const TARGET: &str = "wasm32-unknown-unknown";

/// A Cargo and rustc that can build plugins.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Toolchain {
    /// Cargo.
    pub cargo: PathBuf,
    /// The compiler.
    pub rustc: PathBuf,
    /// Set if the target's standard library is not installed and is built from these sources with this linker.
    pub build_std: Option<BuildStd>,
}

/// What it takes to build the standard library.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BuildStd {
    /// The folder of Rust's own sources.
    pub sources: PathBuf,
    /// `wasm-ld`, under whichever name it is installed.
    pub linker: PathBuf,
}

impl Toolchain {
    /// Looks for one: the toolchain in use if it has the target, which is what most people have; else the
    /// system's packages, for machines whose Rust cannot be extended with rustup.
    ///
    /// # Errors
    /// [`BuildError::NoToolchain`] names both ways to install one.
    pub fn find() -> Result<Self, BuildError> {
        let in_use =
            |variable, program| env::var_os(variable).map_or_else(|| PathBuf::from(program), PathBuf::from);
        Self::choose(in_use("CARGO", "cargo"), in_use("RUSTC", "rustc"), Path::new("/usr/bin"))
    }

    fn choose(cargo: PathBuf, rustc: PathBuf, system: &Path) -> Result<Self, BuildError> {
        if has_target(&rustc) {
            return Ok(Self { cargo, rustc, build_std: None });
        }
        Self::of_the_system(system)
    }

    fn of_the_system(bin: &Path) -> Result<Self, BuildError> {
        let (cargo, rustc) = (bin.join("cargo"), bin.join("rustc"));
        if !cargo.exists() || !rustc.exists() {
            return Err(BuildError::NoToolchain { missing: String::new() });
        }
        let mut toolchain = Self { cargo, rustc: rustc.clone(), build_std: None };
        if has_target(&rustc) {
            return Ok(toolchain);
        }
        let sources =
            print(&rustc, &["--print", "sysroot"]).map(|sysroot| sysroot.join("lib/rustlib/src/rust"));
        let sources = sources.filter(|sources| sources.join("library/std").exists());
        match (sources, find_linker()) {
            (Some(sources), Some(linker)) => {
                toolchain.build_std = Some(BuildStd { sources, linker });
                Ok(toolchain)
            }
            (None, _) => Err(BuildError::NoToolchain {
                missing: format!(
                    " ({} is there, but the sources of its standard library are not)",
                    rustc.display()
                ),
            }),
            (_, None) => Err(BuildError::NoToolchain {
                missing: format!(" ({} is there, but no wasm-ld to link with)", rustc.display()),
            }),
        }
    }

    /// Cargo, without what an outer Cargo left in the environment: this may run in a build script, in a test, or
    /// under clippy, each of which would have us compile with other flags, wrappers or directories.
    pub(crate) fn cargo(&self) -> Command {
        let mut command = Command::new(&self.cargo);
        for (name, _) in env::vars_os() {
            if is_of_an_outer_build(&name) {
                command.env_remove(name);
            }
        }
        command.env("RUSTC", &self.rustc);
        // An empty name is no wrapper, whatever the configuration files say: the bytes must not depend on one.
        command.env("RUSTC_WRAPPER", "").env("RUSTC_WORKSPACE_WRAPPER", "");
        if let Some(build_std) = &self.build_std {
            command
                .env("RUSTC_BOOTSTRAP", "1")
                .env("CARGO_TARGET_WASM32_UNKNOWN_UNKNOWN_LINKER", &build_std.linker);
        }
        command
    }
}

/// Kept are where Cargo's home is, how it reaches registries, and the jobserver.
fn is_of_an_outer_build(name: &OsString) -> bool {
    const KEPT: [&str; 6] = [
        "CARGO_HOME",
        "CARGO_HTTP_",
        "CARGO_NET_",
        "CARGO_REGISTRIES_",
        "CARGO_REGISTRY_",
        "CARGO_MAKEFLAGS",
    ];
    let Some(name) = name.to_str() else { return false };
    let foreign = ["CARGO", "RUSTC", "RUSTDOC", "RUSTFLAGS"].iter().any(|prefix| name.starts_with(prefix));
    foreign && !KEPT.iter().any(|kept| name.starts_with(kept))
}

fn has_target(rustc: &Path) -> bool {
    let Some(libraries) = print(rustc, &["--print", "target-libdir", "--target", TARGET]) else {
        return false;
    };
    let Ok(libraries) = fs::read_dir(libraries) else { return false };
    libraries.flatten().any(|file| file.file_name().to_string_lossy().starts_with("libstd-"))
}

fn print(rustc: &Path, arguments: &[&str]) -> Option<PathBuf> {
    let output = Command::new(rustc).args(arguments).output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    output.status.success().then(|| PathBuf::from(text.trim()))
}

/// Debian gives each LLVM's linker a name of its own; the newest is taken.
fn find_linker() -> Option<PathBuf> {
    let path = env::var_os("PATH")?;
    let plain = env::split_paths(&path).map(|dir| dir.join("wasm-ld")).find(|file| file.exists());
    plain.or_else(|| {
        let names = env::split_paths(&path).filter_map(|dir| fs::read_dir(dir).ok()).flatten().flatten();
        let versioned = names.filter_map(|file| {
            let version: u32 = file.file_name().to_str()?.strip_prefix("wasm-ld-")?.parse().ok()?;
            Some((version, file.path()))
        });
        versioned.max().map(|(_, linker)| linker)
    })
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn an_outer_build_leaves_no_trace() {
        for name in
            ["RUSTC", "RUSTC_WRAPPER", "RUSTC_WORKSPACE_WRAPPER", "RUSTFLAGS", "CARGO_ENCODED_RUSTFLAGS"]
        {
            assert!(is_of_an_outer_build(&name.into()), "{name}");
        }
        for name in
            ["CARGO_TARGET_DIR", "CARGO_BUILD_TARGET", "CARGO_PROFILE_RELEASE_LTO", "CARGO_MANIFEST_DIR"]
        {
            assert!(is_of_an_outer_build(&name.into()), "{name}");
        }
        for name in ["PATH", "HOME", "CARGO_HOME", "CARGO_HTTP_PROXY", "CARGO_MAKEFLAGS", "RUST_BACKTRACE"] {
            assert!(!is_of_an_outer_build(&name.into()), "{name}");
        }
    }

    #[test]
    fn a_compiler_with_the_target_is_taken_as_it_is() {
        let dir = tempfile::tempdir().unwrap();
        let [rustc, cargo] = ["rustc", "cargo"].map(|name| dir.path().join(name));
        fs::write(&rustc, format!("#!/bin/sh\necho {}\n", dir.path().display())).unwrap();
        fs::set_permissions(&rustc, fs::Permissions::from_mode(0o755)).unwrap();
        let choose = || Toolchain::choose(cargo.clone(), rustc.clone(), Path::new("/nowhere"));

        assert!(matches!(choose(), Err(BuildError::NoToolchain { .. })));
        fs::write(dir.path().join("libstd-0123.rlib"), "").unwrap();
        assert_eq!(
            choose().unwrap(),
            Toolchain { cargo: cargo.clone(), rustc: rustc.clone(), build_std: None }
        );
    }

    #[test]
    fn without_a_compiler_the_error_names_both_ways_out() {
        let empty = tempfile::tempdir().unwrap();
        let error = Toolchain::of_the_system(empty.path()).unwrap_err().to_string();
        assert!(error.contains("rustup target add wasm32-unknown-unknown"), "{error}");
        assert!(error.contains("rustc-web"), "{error}");
    }
}
