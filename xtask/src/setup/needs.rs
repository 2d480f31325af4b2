//! What is needed for which purpose, and how it is found.

use std::{path::Path, process::Command};

use anyhow::Result;

use super::{apt, bpftool, cargo_deny, rust};
use crate::process::{capture, find};

/// What a command of ours is about to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Need {
    /// Check formatting and lints.
    Lint,
    /// Check the licences and sources of dependencies.
    Licences,
    /// List an archive for machines with another program than ours.
    Archives,
    /// Compile BPF programs.
    Bpf,
    /// Compile plugins in Rust.
    Guest,
    /// Make network namespaces and look into them.
    Netns,
    /// Boot another kernel.
    Vm,
    /// Push plugins to a registry.
    Registry,
    /// Compile plugins in C.
    C,
    /// Compile plugins in Python.
    Python,
    /// Compile plugins in JavaScript.
    JavaScript,
    /// Compile plugins in Go.
    Go,
}

impl Need {
    pub(crate) const ALL: [Self; 12] = [
        Self::Lint,
        Self::Licences,
        Self::Archives,
        Self::Bpf,
        Self::Guest,
        Self::Netns,
        Self::Vm,
        Self::Registry,
        Self::C,
        Self::Python,
        Self::JavaScript,
        Self::Go,
    ];

    /// What it is for, in the words of an error.
    pub(crate) const fn purpose(self) -> &'static str {
        match self {
            Self::Lint => "check formatting and lints",
            Self::Licences => "check the licences of dependencies",
            Self::Archives => "list the archives of machines",
            Self::Bpf => "build the BPF programs",
            Self::Guest => "build plugins in Rust",
            Self::Netns => "test in network namespaces",
            Self::Vm => "boot other kernels",
            Self::Registry => "test with a registry",
            Self::C => "build plugins in C",
            Self::Python => "build plugins in Python",
            Self::JavaScript => "build plugins in JavaScript",
            Self::Go => "build plugins in Go",
        }
    }

    pub(super) const fn requirements(self) -> &'static [Requirement] {
        match self {
            Self::Lint => LINT,
            Self::Licences => LICENCES,
            Self::Archives => ARCHIVES,
            Self::Bpf => BPF,
            Self::Guest => GUEST,
            Self::Netns => NETNS,
            Self::Vm => VM,
            Self::Registry => REGISTRY,
            Self::C => C,
            Self::JavaScript => JAVASCRIPT,
            // Go comes as a Python package.
            Self::Python | Self::Go => PYTHON,
        }
    }
}

const LINT: &[Requirement] = &[
    Requirement {
        name: "clippy",
        check: Check::Call(|| rust::clippy().is_some()),
        packages: Packages::Rust("rust-clippy"),
    },
    Requirement { name: "rustfmt", check: Check::Call(rust::rustfmt), packages: Packages::Rust("rustfmt") },
];

const LICENCES: &[Requirement] = &[Requirement {
    name: "cargo-deny",
    check: Check::Call(cargo_deny::is_there),
    packages: Packages::One("python3-venv"),
}];

const ARCHIVES: &[Requirement] = &[Requirement::program("cpio", "cpio")];

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
    check: Check::Call(rust::guest_toolchain),
    packages: Packages::Guest,
}];

pub(super) const BPFTOOL: Requirement = Requirement {
    name: "bpftool 7.3 or newer",
    check: Check::Call(bpftool::is_there),
    packages: Packages::Bpftool,
};

const NETNS: &[Requirement] = &[
    Requirement::program("ip", "iproute2"),
    Requirement::program("tc", "iproute2"),
    Requirement::program("nft", "nftables"),
    Requirement::program("ping", "iputils-ping"),
    Requirement::program("busybox", "busybox-static"),
    Requirement::program("curl", "curl"),
    Requirement::program("python3", "python3"),
    Requirement::program("strace", "strace"),
    Requirement {
        name: "the CNI plugins of others",
        check: Check::Call(cni_plugins),
        packages: Packages::One("containernetworking-plugins"),
    },
    BPFTOOL,
];

const VM: &[Requirement] = &[
    Requirement::program("qemu-system-x86_64", "qemu-system-x86"),
    Requirement::program("busybox", "busybox-static"),
    Requirement::program("dash", "dash"),
    Requirement::program("depmod", "kmod"),
    Requirement::program("ip", "iproute2"),
    Requirement::program("nft", "nftables"),
    Requirement::program("ping", "iputils-ping"),
    Requirement::program("python3", "python3"),
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

/// What `netloom plugin build` fetches the compiler with.
const PYTHON: &[Requirement] = &[Requirement {
    name: "Python with its environments",
    check: Check::Call(python_environments),
    packages: Packages::One("python3-venv"),
}];

const JAVASCRIPT: &[Requirement] =
    &[Requirement::program("node", "nodejs"), Requirement::program("npm", "npm")];

/// One thing that must be there.
pub(super) struct Requirement {
    pub(super) name: &'static str,
    check: Check,
    pub(super) packages: Packages,
}

impl Requirement {
    const fn program(name: &'static str, package: &'static str) -> Self {
        Self { name, check: Check::Program, packages: Packages::One(package) }
    }

    pub(super) fn is_met(&self) -> bool {
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
pub(super) enum Packages {
    /// A package.
    One(&'static str),
    /// The newest of the packages `<name>-<version>`, or `<name>` where there is none.
    Newest(&'static str),
    /// bpftool's own, or those that it is built with.
    Bpftool,
    /// The distribution's compiler for the web, for where rustup cannot fetch the target.
    Guest,
    /// A part of the distribution's Rust: of no use to another one.
    Rust(&'static str),
}

impl Packages {
    pub(super) fn names(&self) -> Result<Vec<String>> {
        Ok(match self {
            Self::One(name) => vec![(*name).to_owned()],
            Self::Newest(name) => vec![apt::newest(name)?],
            Self::Bpftool => bpftool::packages()?,
            Self::Guest => {
                let mut names: Vec<String> =
                    ["rustc-web", "cargo-web", "rust-web-src"].map(str::to_owned).into();
                names.push(apt::newest("lld")?);
                names
            }
            Self::Rust(_) if rust::is_rustups() => Vec::new(),
            Self::Rust(name) => vec![(*name).to_owned()],
        })
    }
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

fn cni_plugins() -> bool {
    Path::new("/usr/lib/cni/host-local").is_file()
}

/// One that is new enough for what Rust's compiler writes.
pub(super) fn linker() -> bool {
    (17..=30).any(|version| find(&format!("wasm-ld-{version}")).is_some())
}

fn wasi_libc() -> bool {
    Path::new("/usr/include/wasm32-wasi/stdlib.h").is_file()
}

/// Debian has the parts of Python that these take in a package of their own.
pub(super) fn python_environments() -> bool {
    find("python3").is_some()
        && capture(Command::new("python3").args(["-c", "import ensurepip, venv"])).is_ok()
}
