//! A namespace of the test's own, gone when the test ends, and words to speak of its chains.

use std::{os::fd::AsFd, path::Path, process::Command};

use netloom_core::model::{Chain, Hook, HookPoint, IfIndex, Placement};
use netloom_kernel::{
    links::{self, Attached, LinkError},
    mounts,
    netns::Netns,
    programs::Program,
};
use netloom_sys::bpf;
use rtnetlink::{LinkNetkit, packet_route::link::NetkitMode};

pub(crate) struct Scratch {
    pub(crate) netns: Netns,
}

impl Scratch {
    /// A namespace with a veth pair `blue` and `red`.
    pub(crate) fn new() -> Self {
        let netns = Netns::create().expect("a namespace; these tests need root");
        let scratch = Self { netns };
        scratch.run("ip link add blue type veth peer name red");
        scratch.run("ip link set blue up");
        scratch.run("ip link set red up");
        scratch.run("ip link set lo up");
        scratch
    }

    /// The hook that tests of a point use: on `blue`, or on a netkit pair's primary, which is made for it.
    pub(crate) fn hook(&self, point: HookPoint) -> Hook {
        if !point.is_netkit() {
            return self.hook_on("blue", point);
        }
        if self.ifindex("primary").is_none() {
            self.make_netkit(NetkitMode::L3);
        }
        self.hook_on("primary", point)
    }

    pub(crate) fn hook_on(&self, device: &str, point: HookPoint) -> Hook {
        let ifindex = self.ifindex(device).expect("the device is there");
        Hook { netns: self.netns.id(), device: device.to_owned(), ifindex, point }
    }

    fn ifindex(&self, device: &str) -> Option<IfIndex> {
        ifindex(&self.netns, device)
    }

    pub(crate) fn make_netkit(&self, mode: NetkitMode) {
        let made = self.netns.run(|| {
            tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
                let (connection, handle, _) = rtnetlink::new_connection().unwrap();
                tokio::spawn(connection);
                handle.link().add(LinkNetkit::new("primary", "peer", mode).build()).execute().await
            })
        });
        made.unwrap().expect("a netkit pair");
    }

    /// Runs a command in the namespace.
    pub(crate) fn run(&self, command: &str) -> String {
        self.run_words(&command.split_whitespace().collect::<Vec<_>>())
    }

    fn run_words(&self, words: &[&str]) -> String {
        let command = words.join(" ");
        let output = self.netns.run(|| Command::new(words[0]).args(&words[1..]).output()).unwrap();
        let output = output.unwrap_or_else(|error| panic!("{command}: {error}"));
        assert!(output.status.success(), "{command}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    /// A filter of another tool without a BPF program, for IPv4 only: classic instructions that match nothing.
    pub(crate) fn add_classic_filter(&self, side: &str, priority: u16) {
        let priority = priority.to_string();
        let filter = ["prio", &priority, "protocol", "ip", "bpf", "bytecode", "1,6 0 0 0"];
        self.run_words(&[["tc", "filter", "add", "dev", "blue", side].as_slice(), &filter].concat());
    }

    pub(crate) fn query(&self, hook: &Hook) -> Chain {
        links::query(hook, &self.netns).unwrap()
    }

    pub(crate) fn names(&self, hook: &Hook) -> Vec<String> {
        self.query(hook).entries.into_iter().map(|entry| entry.name).collect()
    }

    /// Attaches in the chain as it is now.
    pub(crate) fn attach(&self, hook: &Hook, program: &Program, placement: Placement) -> Attached {
        self.try_attach(hook, program, placement).unwrap()
    }

    pub(crate) fn try_attach(
        &self,
        hook: &Hook,
        program: &Program,
        placement: Placement,
    ) -> Result<Attached, LinkError> {
        links::attach(&self.query(hook), &self.netns, program, placement)
    }

    /// Attaches as tools do that know nothing of links.
    pub(crate) fn attach_without_link(&self, hook: &Hook, program: &Program) {
        let point = match hook.point {
            HookPoint::TcxIngress => bpf::AttachType::TCX_INGRESS,
            HookPoint::TcxEgress => bpf::AttachType::TCX_EGRESS,
            HookPoint::NetkitPrimary => bpf::AttachType::NETKIT_PRIMARY,
            HookPoint::NetkitPeer => bpf::AttachType::NETKIT_PEER,
            other => panic!("{other} has filters"),
        };
        let attach =
            || bpf::prog_attach(program.fd(), hook.ifindex.0, point, bpf::Position::Tail, None, None);
        self.netns.run(attach).unwrap().unwrap();
    }
}

/// A device's index in a namespace.
pub(crate) fn ifindex(netns: &Netns, device: &str) -> Option<IfIndex> {
    let index = netns.run(|| {
        let socket =
            rustix::net::socket(rustix::net::AddressFamily::INET, rustix::net::SocketType::DGRAM, None)?;
        rustix::net::netdevice::name_to_index(&socket, device)
    });
    index.unwrap().ok().map(IfIndex)
}

/// A program that lets the next one decide.
pub(crate) fn program(name: &str) -> Program {
    Program::from_fd(bpf::load_next(name).expect("a program; these tests need root")).unwrap()
}

/// A bpf filesystem, gone with the value.
pub(crate) struct Bpffs(tempfile::TempDir);

impl Bpffs {
    pub(crate) fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        mounts::ensure_bpffs(folder.path()).unwrap();
        Self(folder)
    }

    pub(crate) fn path(&self) -> &Path {
        self.0.path()
    }
}

impl Drop for Bpffs {
    fn drop(&mut self) {
        let _ = rustix::mount::unmount(self.0.path(), rustix::mount::UnmountFlags::DETACH);
    }
}

/// One test a point: `at_points!(tcx netkit tc: this_holds, that_holds)`, of functions that take it.
macro_rules! at_points {
    (@ { $($ways:tt)* } tcx $($more:tt)+) => {
        at_points!(@ { $($ways)*
            tcx_ingress: [netloom_core::model::Feature::Tcx] => netloom_core::model::HookPoint::TcxIngress,
            tcx_egress: [netloom_core::model::Feature::Tcx] => netloom_core::model::HookPoint::TcxEgress,
        } $($more)+);
    };
    (@ { $($ways:tt)* } netkit $($more:tt)+) => {
        at_points!(@ { $($ways)*
            netkit_primary: [netloom_core::model::Feature::NetkitLinks] => netloom_core::model::HookPoint::NetkitPrimary,
            netkit_peer: [netloom_core::model::Feature::NetkitLinks] => netloom_core::model::HookPoint::NetkitPeer,
        } $($more)+);
    };
    (@ { $($ways:tt)* } tc $($more:tt)+) => {
        at_points!(@ { $($ways)*
            tc_ingress: [netloom_core::model::Feature::LegacyTc] => netloom_core::model::HookPoint::TcIngress,
            tc_egress: [netloom_core::model::Feature::LegacyTc] => netloom_core::model::HookPoint::TcEgress,
        } $($more)+);
    };
    (@ $ways:tt : $($test:ident),+ $(,)?) => { netloom_test_support::each_way!($($test),+; $ways); };
    ($first:ident $($more:tt)+) => { at_points!(@ {} $first $($more)+); };
}
pub(crate) use at_points;

/// Whether the object behind a filter, link or pin still holds a program.
pub(crate) fn is_loaded(program: netloom_core::model::ProgramId) -> bool {
    bpf::program_by_id(program.0).is_ok_and(|fd| bpf::program_info(fd.as_fd()).is_ok())
}
