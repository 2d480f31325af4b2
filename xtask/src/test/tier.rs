use std::{fmt, path::Path};

use clap::ValueEnum;

use super::{outcome::Ran, selected};
use crate::{
    build::{Kind, Program},
    vm::Kernel,
};

/// Programs of namespace tests of what is the same on every kernel: they run on the running one, and in no machine.
const ON_ONE_KERNEL: [&str; 6] = [
    "tests/netns/tests/cni",
    "tests/netns/tests/commands",
    "tests/netns/tests/faults",
    "tests/netns/tests/policy",
    "tests/support/tests/daemons",
    "tests/support/tests/traffic",
];

/// The kinds of tests, by what they need.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
pub(crate) enum Tier {
    /// Formatting, lints, licences; unit, property and documentation tests
    #[value(name = "unit")]
    Unit,
    /// Real namespaces on the running kernel; needs root
    #[value(name = "netns")]
    Netns,
    /// Plugins in Wasm, well-behaved and not
    #[value(name = "plugin")]
    Plugin,
    /// The namespace tests on Linux 6.12, where netkit and tcx must be there: those that have not passed on the running
    /// kernel, and those of netkit, or all if this tier is asked for
    #[value(name = "vm-6.12")]
    Vm6_12,
    /// The namespace tests on Linux 6.1, without netkit and tcx: those that have not passed on the running kernel, and
    /// those of what it does otherwise, or all if this tier is asked for
    #[value(name = "vm-6.1")]
    Vm6_1,
    /// The namespace tests on Debian's newest kernel: a selection of them, or all if this tier is asked for
    #[value(name = "vm-newest")]
    VmNewest,
}

/// Tests that count every packet that a device sends, which 6.1 disturbs.
const COUNTS_EXACTLY: [(&str, &str); 3] = [
    ("host/kernel/tests/datapath", "forwarding::endpoints_and_the_node_reach_each_other::veth_tc"),
    (
        "host/kernel/tests/datapath",
        "forwarding::endpoints_reach_each_other_past_the_nodes_stack::veth_tc_to_veth_tc",
    ),
    ("tests/roundtrips/tests/counters", "counters_equal_what_was_sent_to_the_byte_on_both_ends_in_all_modes"),
];

impl Tier {
    /// Every tier, in the order in which they run: what fails sooner comes first.
    pub(crate) const ALL: [Self; 6] =
        [Self::Unit, Self::Plugin, Self::Netns, Self::Vm6_12, Self::Vm6_1, Self::VmNewest];

    /// As in `--tier`.
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Unit => "unit",
            Self::Netns => "netns",
            Self::Plugin => "plugin",
            Self::Vm6_12 => "vm-6.12",
            Self::Vm6_1 => "vm-6.1",
            Self::VmNewest => "vm-newest",
        }
    }

    /// The kernel it boots, if it does.
    pub(crate) const fn kernel(self) -> Option<Kernel> {
        match self {
            Self::Vm6_12 => Some(Kernel::V6_12),
            Self::Vm6_1 => Some(Kernel::V6_1),
            Self::VmNewest => Some(Kernel::Newest),
            Self::Unit | Self::Netns | Self::Plugin => None,
        }
    }

    /// Whether a program of tests is of this tier. Where a test lies says what it needs: integration tests of the crates
    /// that talk to the kernel take namespaces, those of the crates that make or run plugins take Wasm. A machine
    /// takes namespace tests.
    pub(crate) fn runs(self, program: &Program, root: &Path) -> bool {
        let dir = program.package_dir.strip_prefix(root).unwrap_or(&program.package_dir);
        let netns = ["host/kernel", "host/daemon", "tests"];
        let plugin = ["host/runtime", "sdk", "plugins", "examples"];
        let below = |places: &[&str]| places.iter().any(|place| dir.starts_with(place));
        let integration = program.kind == Kind::Integration;
        let tier = if integration && below(&netns) {
            Self::Netns
        } else if below(&plugin) && (integration || !below(&["host/runtime", "sdk"])) {
            Self::Plugin
        } else {
            Self::Unit
        };
        self == tier || (self.kernel().is_some() && tier == Self::Netns)
    }

    /// Why it leaves out a test of a program that is its own, if it does. A machine runs what depends on its kernel:
    /// all programs but those of [`ON_ONE_KERNEL`], and of these, unless it is asked for, what is [`selected`] given
    /// what has passed `here`, on the running kernel.
    pub(crate) fn leaves_out(
        self,
        program: &Program,
        test: &str,
        asked_for: bool,
        here: &Ran,
    ) -> Option<&'static str> {
        let passed_here = here.get(&program.name).is_some_and(|tests| tests.contains(test));
        if self.kernel().is_none() {
            None
        } else if ON_ONE_KERNEL.contains(&program.name.as_str()) {
            Some("it depends on no kernel, and runs on this machine's own")
        } else if !asked_for && !selected::selects(self, &program.name, test, passed_here) {
            Some(match self {
                Self::VmNewest => {
                    "on the newest kernel a selection runs, and all of them with `--tier vm-newest`"
                }
                Self::Vm6_1 => "it has passed on the running kernel; all run with `--tier vm-6.1`",
                _ => "it has passed on the running kernel; all run with `--tier vm-6.12`",
            })
        } else if self == Self::Vm6_1 && COUNTS_EXACTLY.contains(&(program.name.as_str(), test)) {
            Some("it counts every packet, and 6.1 reports the groups of a new device at times of its own")
        } else {
            None
        }
    }
}

impl fmt::Display for Tier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NODE: [Tier; 4] = [Tier::Netns, Tier::Vm6_12, Tier::Vm6_1, Tier::VmNewest];

    fn tiers(package: &str, kind: Kind) -> Vec<Tier> {
        let root = Path::new("/clone");
        let program =
            Program { name: "x".into(), package_dir: root.join(package), kind, executable: "/x".into() };
        Tier::ALL.into_iter().filter(|tier| tier.runs(&program, root)).collect()
    }

    #[test]
    fn a_machine_leaves_tests_out_and_says_why() {
        let named = |name: &str| Program {
            name: name.into(),
            package_dir: "/x".into(),
            kind: Kind::Integration,
            executable: "/x".into(),
        };
        let node = named("tests/netns/tests/node");
        let here = Ran::from([(node.name.clone(), ["services::x".to_owned()].into())]);
        let nothing = Ran::new();
        let leaves_out =
            |tier: Tier, asked_for, here: &Ran| tier.leaves_out(&node, "services::x", asked_for, here);
        for tier in [Tier::Vm6_12, Tier::Vm6_1] {
            assert!(leaves_out(tier, false, &here).is_some_and(|why| why.contains(tier.as_str())));
            assert_eq!(leaves_out(tier, true, &here), None);
            assert_eq!(leaves_out(tier, false, &nothing), None, "it did not run here");
        }
        assert!(leaves_out(Tier::VmNewest, false, &nothing).is_some());
        assert_eq!(leaves_out(Tier::VmNewest, true, &here), None);
        for name in ON_ONE_KERNEL {
            assert!(Tier::VmNewest.leaves_out(&named(name), "x", true, &here).is_some());
            assert_eq!(Tier::Netns.leaves_out(&named(name), "x", false, &here), None);
        }
    }

    #[test]
    fn where_a_test_lies_says_what_it_needs() {
        assert_eq!(tiers("host/core", Kind::Unit), [Tier::Unit]);
        assert_eq!(tiers("host/kernel", Kind::Unit), [Tier::Unit]);
        assert_eq!(tiers("host/kernel", Kind::Integration), NODE);
        assert_eq!(tiers("tests/netns", Kind::Integration), NODE);
        assert_eq!(tiers("host/runtime", Kind::Integration), [Tier::Plugin]);
        assert_eq!(tiers("host/runtime", Kind::Unit), [Tier::Unit]);
        assert_eq!(tiers("sdk/tool", Kind::Integration), [Tier::Plugin]);
        assert_eq!(tiers("sdk/tool", Kind::Unit), [Tier::Unit]);
        assert_eq!(tiers("examples/custom-policy", Kind::Unit), [Tier::Plugin]);
        assert_eq!(tiers("host/cli", Kind::Integration), [Tier::Unit]);
    }
}
