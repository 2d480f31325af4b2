//! A namespace of the test's own, gone when the test ends, and words to speak of its chains.

use std::{io::Write, os::fd::AsFd, path::Path, process::Command};

use netloom_core::model::{Chain, Feature, Hook, HookPoint, IfIndex, Placement, Support};
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
            self.make_netkit();
        }
        self.hook_on("primary", point)
    }

    pub(crate) fn hook_on(&self, device: &str, point: HookPoint) -> Hook {
        let ifindex = self.ifindex(device).expect("the device is there");
        Hook { netns: self.netns.id(), device: device.to_owned(), ifindex, point }
    }

    fn ifindex(&self, device: &str) -> Option<IfIndex> {
        let index = self.netns.run(|| {
            let socket =
                rustix::net::socket(rustix::net::AddressFamily::INET, rustix::net::SocketType::DGRAM, None)?;
            rustix::net::netdevice::name_to_index(&socket, device)
        });
        index.unwrap().ok().map(IfIndex)
    }

    fn make_netkit(&self) {
        let made = self.netns.run(|| {
            tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
                let (connection, handle, _) = rtnetlink::new_connection().unwrap();
                tokio::spawn(connection);
                handle.link().add(LinkNetkit::new("primary", "peer", NetkitMode::L3).build()).execute().await
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

/// Every point this kernel has. A missing feature is said, and fails where it is required.
pub(crate) fn points() -> Vec<HookPoint> {
    [link_points(), legacy_points()].concat()
}

/// The points with links.
pub(crate) fn link_points() -> Vec<HookPoint> {
    [tcx_points(), netkit_points()].concat()
}

pub(crate) fn tcx_points() -> Vec<HookPoint> {
    there([HookPoint::TcxIngress, HookPoint::TcxEgress])
}

pub(crate) fn netkit_points() -> Vec<HookPoint> {
    there([HookPoint::NetkitPrimary, HookPoint::NetkitPeer])
}

pub(crate) fn legacy_points() -> Vec<HookPoint> {
    there([HookPoint::TcIngress, HookPoint::TcEgress])
}

/// Both are of one feature.
fn there(points: [HookPoint; 2]) -> Vec<HookPoint> {
    if has(feature(points[0]), &probe(points[0])) { points.to_vec() } else { Vec::new() }
}

pub(crate) fn probe(point: HookPoint) -> Support {
    match feature(point) {
        Feature::Tcx => links::probe_tcx(),
        Feature::LegacyTc => links::probe_legacy_tc(),
        _ => links::probe_netkit_links(),
    }
}

fn feature(point: HookPoint) -> Feature {
    match point {
        HookPoint::TcxIngress | HookPoint::TcxEgress => Feature::Tcx,
        HookPoint::NetkitPrimary | HookPoint::NetkitPeer => Feature::Netkit,
        HookPoint::TcIngress | HookPoint::TcEgress => Feature::LegacyTc,
    }
}

fn has(feature: Feature, support: &Support) -> bool {
    if support.available {
        return true;
    }
    let required = std::env::var("NETLOOM_REQUIRE").unwrap_or_default();
    assert!(
        !required.split(',').any(|name| name.trim() == feature.as_str()),
        "{feature} is required by NETLOOM_REQUIRE and missing: {}",
        support.detail
    );
    let test = std::thread::current().name().unwrap_or_default().to_owned();
    // Not print!, which the test harness keeps to itself when a test passes.
    let line = format!("skipped: {test}: {feature} is missing: {}\n", support.detail);
    let _ = std::io::stderr().write_all(line.as_bytes());
    false
}

/// Whether the object behind a filter, link or pin still holds a program.
pub(crate) fn is_loaded(program: netloom_core::model::ProgramId) -> bool {
    bpf::program_by_id(program.0).is_ok_and(|fd| bpf::program_info(fd.as_fd()).is_ok())
}
