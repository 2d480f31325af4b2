use anyhow::{Result, bail};

/// A part of the host, and the tests that would notice if it were wrong.
#[derive(Debug)]
pub(super) struct Module {
    /// As on the command line.
    pub(super) name: &'static str,
    /// Its files, from the workspace's root.
    pub(super) files: &'static [&'static str],
    /// Its tests: those that end sooner, or notice more, come first.
    pub(super) guards: &'static [Guard],
}

/// Tests of one program.
#[derive(Debug)]
pub(super) struct Guard {
    /// Cargo's arguments that build the program, and those that it runs.
    pub(super) build: &'static [&'static str],
    /// The target's name.
    pub(super) program: &'static str,
    /// Where its package lies, from the workspace's root.
    pub(super) folder: &'static str,
    /// Parts of the tests' names; none means all tests.
    pub(super) filters: &'static [&'static str],
    /// Whether it makes namespaces and loads programs: it needs root then, and runs in namespaces of its own.
    pub(super) touches_kernel: bool,
}

impl Guard {
    /// A crate's own tests.
    const fn unit(build: &'static [&'static str], program: &'static str, folder: &'static str) -> Self {
        Self { build, program, folder, filters: &[], touches_kernel: false }
    }

    /// Those of the daemon, of some modules.
    const fn daemon(filters: &'static [&'static str]) -> Self {
        let build = &["test", "--no-run", "--workspace", "--bin", "netloomd"];
        Self { filters, ..Self::unit(build, "netloomd", "host/daemon") }
    }

    /// Tests of the kernel's operations.
    const fn kernel(
        build: &'static [&'static str],
        program: &'static str,
        filters: &'static [&'static str],
    ) -> Self {
        Self { build, program, folder: "host/kernel", filters, touches_kernel: true }
    }

    /// Tests of a daemon on a node.
    const fn node(program: &'static str, filters: &'static [&'static str]) -> Self {
        Self { build: NODE, program, folder: "tests/netns", filters, touches_kernel: true }
    }
}

const CORE: Guard =
    Guard::unit(&["test", "--no-run", "--package", "netloom-core", "--lib"], "netloom_core", "host/core");

const KERNEL: Guard = Guard::unit(
    &["test", "--no-run", "--package", "netloom-kernel", "--lib"],
    "netloom_kernel",
    "host/kernel",
);

const DEVICES: &[&str] = &["test", "--no-run", "--package", "netloom-kernel", "--test", "devices"];
const LINKS: &[&str] = &["test", "--no-run", "--package", "netloom-kernel", "--test", "links"];

/// The programs of a node's tests and those that they run: of every package, so that Wasmtime is not compiled again.
const NODE: &[&str] =
    &["build", "--workspace", "--bin", "netloomd", "--bin", "netloom", "--test", "node", "--test", "policy"];

/// Every module that a pass can be asked for.
pub(super) const MODULES: [Module; 11] = [
    Module {
        name: "ordering",
        files: &["host/core/src/ordering.rs", "host/core/src/moves.rs"],
        guards: &[CORE],
    },
    Module { name: "validate", files: &["host/core/src/validate.rs"], guards: &[CORE] },
    Module {
        name: "route",
        files: &["host/kernel/src/devices/route.rs", "host/kernel/src/devices/lists.rs"],
        guards: &[
            KERNEL,
            Guard::kernel(DEVICES, "devices", &[]),
            Guard::node("node", &["mending::", "outside::uplinks"]),
        ],
    },
    Module {
        name: "endpoint",
        files: &["host/kernel/src/devices/endpoint.rs"],
        guards: &[
            KERNEL,
            Guard::kernel(DEVICES, "devices", &[]),
            Guard::node("node", &["mending::", "outside::uplinks"]),
        ],
    },
    Module {
        name: "netfilter",
        files: &[
            "host/kernel/src/stack.rs",
            "host/kernel/src/netlink.rs",
            "host/kernel/src/stack/netfilter.rs",
            "host/kernel/src/stack/rules.rs",
            "host/kernel/src/stack/queues.rs",
            "host/kernel/src/stack/xfrm.rs",
        ],
        guards: &[KERNEL, Guard::node("node", &["outside::netfilter", "outside::stack"])],
    },
    Module {
        name: "links",
        files: &["host/kernel/src/links.rs", "host/kernel/src/links/*.rs"],
        guards: &[KERNEL, Guard::kernel(LINKS, "links", &[]), Guard::node("node", &["full_hooks::"])],
    },
    Module {
        name: "locks",
        files: &["host/daemon/src/locks.rs"],
        guards: &[Guard::daemon(&["locks::"]), Guard::node("node", &["races::", "endpoints::"])],
    },
    Module {
        name: "executor",
        files: &["host/daemon/src/executor.rs", "host/daemon/src/executor/*.rs"],
        guards: &[
            Guard::daemon(&["executor::"]),
            Guard::node(
                "node",
                &["attachments::", "ownership::", "crashes::", "full_hooks::", "devices::", "endpoints::"],
            ),
            Guard::node("node", &["changes::", "restarts::", "returning::"]),
            Guard::node("node", &["moves::"]),
        ],
    },
    Module {
        name: "adopt",
        files: &[
            "host/daemon/src/start.rs",
            "host/daemon/src/start/*.rs",
            "host/daemon/src/chains/reattach.rs",
        ],
        guards: &[
            Guard::node("node", &["restarts::", "ownership::", "returning::"]),
            Guard::node("node", &["lost::", "crashes::"]),
            Guard::node("policy", &["removal::", "due_reaps::"]),
        ],
    },
    Module {
        name: "services",
        files: &["host/daemon/src/services.rs", "host/daemon/src/services/*.rs"],
        guards: &[
            Guard::daemon(&["services::"]),
            Guard::node("node", &["services::", "reaping::"]),
            Guard::node("policy", &["reaping::", "due_reaps::"]),
        ],
    },
    Module {
        name: "reap",
        files: &["host/daemon/src/reaping.rs", "host/daemon/src/reaping/*.rs"],
        guards: &[
            Guard::daemon(&["reaping::"]),
            Guard::node("node", &["reaping::"]),
            Guard::node("policy", &["reaping::", "due_reaps::"]),
        ],
    },
];

/// The module of this name.
///
/// # Errors
/// If there is none.
pub(super) fn named(name: &str) -> Result<&'static Module> {
    match MODULES.iter().find(|module| module.name == name) {
        Some(module) => Ok(module),
        None => bail!("there is no module {name:?}: the modules are {}", names().join(", ")),
    }
}

fn names() -> Vec<&'static str> {
    MODULES.iter().map(|module| module.name).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::workspace;

    #[test]
    fn the_table_names_what_there_is() {
        for module in &MODULES {
            for file in module.files {
                // Of all files of a folder it is the folder.
                let place = workspace::root().join(file.strip_suffix("/*.rs").unwrap_or(file));
                assert!(place.exists(), "{}: {file}", module.name);
            }
            for guard in module.guards {
                let folder = workspace::root().join(guard.folder);
                assert!(folder.join("Cargo.toml").is_file(), "{}: {}", module.name, guard.folder);
            }
        }
        assert!(named("locks").is_ok());
        assert!(named("lock").unwrap_err().to_string().contains("executor, adopt"));
    }
}
