//! Reaps that are due and not done yet: over a crash, during a grace period, at a limited rate, and what is bound while
//! they run.

use std::{
    net::UdpSocket,
    thread,
    time::{Duration, Instant},
};

use aya::maps::{Map, MapData, SkStorage};
use netloom_api::types::{Fate, ReapReport, Service, ServicesApplied, StoreCheck};
use netloom_core::model::Protocol;
use netloom_ebpf::layout::Binding;
use netloom_kernel::bindings::Bindings;
use netloom_test_support::{Daemon, Netns};
use serde_json::json;

use netloom_netns_tests::Node;

use crate::{
    reaping::{addresses, clients, metric, was_cut},
    reloading::until,
};

/// The addresses of a test's services: other tests' daemons translate for the same processes.
fn vips(test: u8) -> [String; 2] {
    [format!("10.96.70.{test}:53"), format!("10.96.71.{test}:53")]
}

/// Sockets of a backend, of which each tells of its end once.
struct Bound {
    sockets: Vec<UdpSocket>,
    cut: Vec<bool>,
}

impl Bound {
    fn to(netns: &Netns, vip: &str, count: usize) -> Self {
        Self { sockets: clients(netns, vip, count), cut: vec![false; count] }
    }

    /// How many were cut up to now.
    fn cut(&mut self) -> usize {
        for (socket, cut) in self.sockets.iter().zip(&mut self.cut) {
            *cut = *cut || was_cut(socket);
        }
        self.cut.iter().filter(|cut| **cut).count()
    }

    fn await_cut(&mut self, wanted: usize) {
        let started = Instant::now();
        while self.cut() < wanted {
            assert!(started.elapsed() < Duration::from_secs(60), "{} of {wanted} are cut", self.cut());
            thread::sleep(Duration::from_millis(1));
        }
    }
}

/// Waits until sockets were looked for so often since the daemon's start.
fn await_looks(node: &Node, looks: u64) {
    let name = "netloom_reap_phase_seconds_count{phase=\"find\"}";
    until("sockets are not looked for once more", || metric(node, name) == looks);
}

fn remove_backend(daemon: &Daemon, backend: &str) -> Result<ReapReport, netloom_api::ClientError> {
    daemon.delete(&format!("/v1/services/doomed/backends/{backend}"))
}

/// A daemon that dies when a change is made and written down, and the reap that it makes due is not begun.
fn killed_before_the_reap(test: u8, change: impl FnOnce(&Daemon, &str, &str) -> bool) {
    let mut node = Node::start();
    let [doomed_vip, lasting_vip] = vips(test);
    let netns = Netns::new("client");
    let backends = addresses(101, 2);
    node.service("doomed", &doomed_vip, "udp", &backends[..1]);
    node.service("lasting", &lasting_vip, "udp", &backends[1..]);
    let mut doomed = Bound::to(&netns, &doomed_vip, 5);
    let mut lasting = Bound::to(&netns, &lasting_vip, 3);
    node.daemon.crash_after(1);
    assert!(!change(&node.daemon, &backends[0], &doomed_vip), "the daemon answered before it died");
    assert_eq!(doomed.cut(), 0, "it died after the reap");

    node.daemon.restart_after_crash();

    assert_eq!((doomed.cut(), lasting.cut()), (5, 0), "{}", node.daemon.log());
    let owed = "1 reaps that were due";
    assert!(node.status().adoption.recovered.iter().any(|what| what == owed), "{:?}", node.status().adoption);
    // It is owed until the last look for its sockets is over, and no longer.
    let due = || node.daemon.get::<StoreCheck>("/v1/store/check").unwrap().records.get("reaps").copied();
    until("the reap stays due", || due().is_none_or(|due| due == 0));
    node.daemon.stop();
    node.daemon.restart();
    assert_eq!(node.status().adoption.recovered, Vec::<String>::new(), "it is done again with each start");
}

#[test]
fn a_crash_between_the_removal_of_a_backend_and_its_reap_leaves_the_reap_to_the_next_start() {
    killed_before_the_reap(1, |daemon, backend, _| remove_backend(daemon, backend).is_ok());
}

#[test]
fn a_crash_between_the_removal_of_a_service_and_its_reap_leaves_the_reap_to_the_next_start() {
    killed_before_the_reap(2, |daemon, _, _| daemon.delete::<ReapReport>("/v1/services/doomed").is_ok());
}

#[test]
fn a_crash_between_a_change_of_many_services_and_its_reap_leaves_the_reap_to_the_next_start() {
    killed_before_the_reap(3, |daemon, _, vip| {
        let wanted = json!({ "services": [
            { "name": "doomed", "vip": vip, "protocol": "udp", "backends": ["127.101.1.1:7000"] },
        ] });
        daemon.put::<ServicesApplied>("/v1/services", &wanted).is_ok()
    });
}

#[test]
fn a_grace_period_passes_before_anything_is_cut_and_an_operator_need_not_wait() {
    const GRACE: Duration = Duration::from_millis(1_500);
    let node = Node::configured("[plugins.config.socket-reap]\ngrace_ms = 1500\n");
    let netns = Netns::new("client");
    let ([doomed_vip, asked_vip], backends) = (vips(4), addresses(102, 2));
    node.service("doomed", &doomed_vip, "udp", &backends[..1]);
    node.service("asked", &asked_vip, "udp", &backends[1..]);
    let mut doomed = Bound::to(&netns, &doomed_vip, 5);
    let mut asked = Bound::to(&netns, &asked_vip, 3);

    let started = Instant::now();
    let report = remove_backend(&node.daemon, &backends[0]).unwrap();
    assert!(report.sockets.is_empty(), "{report:?}");
    assert!(report.reason.unwrap().contains("after a grace period of 1500 ms"));
    let request = json!({ "backend": backends[1] });
    let report: ReapReport = node.daemon.post("/v1/reap", &request).unwrap();
    assert_eq!(report.sockets.len(), 3, "{report:?}");
    assert_eq!(asked.cut(), 3);
    doomed.await_cut(1);
    assert!(started.elapsed() >= GRACE, "cut after {:?}", started.elapsed());
    doomed.await_cut(5);
}

#[test]
fn a_daemon_that_dies_in_the_grace_period_begins_it_anew() {
    let mut node = Node::configured("[plugins.config.socket-reap]\ngrace_ms = 1500\n");
    let netns = Netns::new("client");
    let ([vip, _], backend) = (vips(5), addresses(103, 1).remove(0));
    node.service("doomed", &vip, "udp", std::slice::from_ref(&backend));
    let mut doomed = Bound::to(&netns, &vip, 5);
    remove_backend(&node.daemon, &backend).unwrap();
    assert_eq!(doomed.cut(), 0);
    node.daemon.kill9();
    let started = Instant::now();
    node.daemon.restart();
    doomed.await_cut(1);
    assert!(started.elapsed() >= Duration::from_millis(1_500), "cut after {:?}", started.elapsed());
    doomed.await_cut(5);
}

#[test]
fn all_reaps_together_destroy_no_more_sockets_a_second_than_they_may() {
    const RATE: usize = 40;
    let node = Node::configured(&format!("[sockets]\ndestroy_rate = {RATE}\n"));
    let netns = Netns::new("client");
    let (vips, backends) = (vips(6), addresses(104, 2));
    for ((name, vip), backend) in ["one", "two"].into_iter().zip(&vips).zip(&backends) {
        node.service(name, vip, "udp", std::slice::from_ref(backend));
    }
    let bound = vips.map(|vip| Bound::to(&netns, &vip, 60));
    let all: usize = bound.iter().map(|bound| bound.sockets.len()).sum();

    let started = Instant::now();
    let destroyed: usize = thread::scope(|scope| {
        let reaps = ["one", "two"].map(|name| {
            let node = &node;
            scope.spawn(move || node.daemon.delete::<ReapReport>(&format!("/v1/services/{name}")).unwrap())
        });
        reaps.map(|reap| reap.join().unwrap().sockets.len()).iter().sum()
    });
    let took = started.elapsed();

    assert_eq!(destroyed, all);
    // What may be destroyed in a second is destroyed at once; the rest has to wait.
    let least = Duration::from_millis(1_000 * (all - RATE) as u64 / RATE as u64);
    assert!(took >= least, "{all} sockets in {took:?}");
}

/// A backend whose sockets are reaped in the course of two seconds.
struct Slowly {
    node: Node,
    netns: Netns,
    vip: String,
    backend: String,
    doomed: Bound,
}

impl Slowly {
    fn new(test: u8) -> Self {
        let node = Node::configured("[sockets]\ndestroy_rate = 25\n");
        let netns = Netns::new("client");
        let ([vip, _], backend) = (vips(test), addresses(100 + test, 1).remove(0));
        node.service("doomed", &vip, "udp", std::slice::from_ref(&backend));
        let doomed = Bound::to(&netns, &vip, 75);
        Self { node, netns, vip, backend, doomed }
    }

    /// Removes the backend, and does something when it is settled which sockets the first look has found.
    fn reap(&mut self, meanwhile: impl FnOnce(&Node)) {
        let Self { node, backend, doomed, .. } = self;
        let node = &*node;
        let report = thread::scope(|scope| {
            let reap = scope.spawn(|| remove_backend(&node.daemon, backend).unwrap());
            doomed.await_cut(1);
            meanwhile(node);
            reap.join().unwrap()
        });
        assert_eq!(report.sockets.len(), doomed.sockets.len());
        assert!(report.sockets.iter().all(|socket| socket.fate == Fate::Destroyed), "{report:?}");
    }
}

#[test]
fn a_socket_that_is_bound_to_a_backend_while_its_sockets_are_reaped_is_cut_as_well() {
    let mut it = Slowly::new(7);
    // It has chosen the backend before that went, and its binding comes late: as connect would write it.
    let mut straggler = Bound::to(&it.netns, &it.backend, 1);
    let bindings = Bindings::open(&it.node.daemon.paths().bpffs.join("maps")).unwrap();
    let (_, storage) = bindings.storage((it.backend.parse().unwrap(), Protocol::Udp)).unwrap().unwrap();
    let storage = Map::from_map_data(MapData::from_fd(storage).unwrap()).unwrap();
    let mut storage: SkStorage<_, [u8; Binding::SIZE]> = storage.try_into().unwrap();
    let like = Binding::from_bytes(storage.get(&it.doomed.sockets[0], 0).unwrap());

    it.reap(|_| {
        let cookie = rustix::net::sockopt::socket_cookie(&straggler.sockets[0]).unwrap();
        let late = Binding { cookie, bound_at: monotonic(), ..like };
        storage.insert(&straggler.sockets[0], late.to_bytes(), 0).unwrap();
    });
    straggler.await_cut(1);
}

#[test]
fn what_connects_to_a_backend_that_came_back_while_its_sockets_were_reaped_is_left_alone() {
    let mut it = Slowly::new(8);
    let netns = Netns::new("late");
    let mut late = None;
    let (backend, vip) = (it.backend.clone(), it.vip.clone());
    it.reap(|node| {
        let _: Service =
            node.daemon.post("/v1/services/doomed/backends", &json!({ "address": backend })).unwrap();
        late = Some(Bound::to(&netns, &vip, 3));
    });
    // The second is in the background.
    await_looks(&it.node, 2);
    assert_eq!(late.unwrap().cut(), 0);
    assert_eq!(it.doomed.cut(), it.doomed.sockets.len());
}

/// `CLOCK_MONOTONIC`, in nanoseconds.
fn monotonic() -> u64 {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    u64::try_from(now.tv_sec).unwrap() * 1_000_000_000 + u64::try_from(now.tv_nsec).unwrap()
}
