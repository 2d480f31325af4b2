//! Nodes that are larger than their tables: backends that share a storage of bindings, and more clients than are
//! remembered.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{SocketAddr, UdpSocket},
};

use aya::maps::{HashMap, Map, MapData};
use netloom_api::types::{Fate, ReapReport, Service, SocketView};
use netloom_core::model::Protocol;
use netloom_ebpf::layout::{Affinity, Client};
use netloom_kernel::bindings::Bindings;
use netloom_test_support::Netns;
use serde_json::json;

use netloom_netns_tests::Node;

use crate::{
    reaping::{addresses, clients, was_cut},
    reloading::until,
};

/// The number of each backend's storage.
fn storages(node: &Node) -> BTreeMap<SocketAddr, u32> {
    let bindings = Bindings::open(&node.daemon.paths().bpffs.join("maps")).unwrap();
    let numbered = bindings.backends().unwrap().into_iter();
    numbered
        .map(|((address, protocol), number)| {
            assert_eq!(protocol, Protocol::Udp);
            (address, number)
        })
        .collect()
}

/// Sockets of a service with a backend of its own. The services of each test are in a network of theirs: other tests'
/// daemons translate for the same processes.
fn bound(node: &Node, netns: &Netns, network: u8, number: usize, backend: &str) -> Vec<UdpSocket> {
    let vip = format!("10.96.{network}.{number}:53");
    node.service(&format!("s{number}"), &vip, "udp", &[backend.to_owned()]);
    clients(netns, &vip, 3)
}

#[test]
fn backends_beyond_the_storages_share_them_and_only_the_sockets_of_the_dead_one_are_cut() {
    const STORAGES: usize = 4;
    let config = format!("[datapath]\nmax_backends = {STORAGES}\n[plugins]\nbundled = false\n");
    let node = Node::configured(&config);
    node.daemon.expect_error("nothing was reaped reason=no plugin decides about reaping");
    let netns = Netns::new("client");
    let backends = addresses(110, 10);
    let (gone, there) = backends.split_at(STORAGES);
    let there = &there[..STORAGES];
    // Nobody decides about reaping: the sockets of these live on, and so do their storages.
    let mut sockets = Vec::new();
    for (number, backend) in gone.iter().enumerate() {
        sockets.push(bound(&node, &netns, 80, number, backend));
    }
    for number in 0..gone.len() {
        let _: ReapReport = node.daemon.delete(&format!("/v1/services/s{number}")).unwrap();
    }
    for (number, backend) in there.iter().enumerate() {
        sockets.push(bound(&node, &netns, 80, gone.len() + number, backend));
    }
    let numbers = storages(&node);
    assert_eq!(numbers.len(), 2 * STORAGES);
    assert_eq!(numbers.values().collect::<BTreeSet<_>>().len(), STORAGES, "{numbers:?}");

    let all: Vec<SocketView> = node.daemon.get("/v1/sockets").unwrap();
    let mut count = BTreeMap::<String, usize>::new();
    for view in &all {
        *count.entry(view.socket.backend.to_string()).or_default() += 1;
    }
    let each: BTreeMap<String, usize> =
        gone.iter().chain(there).map(|backend| (backend.clone(), 3)).collect();
    assert_eq!(count, each, "each socket is found once");

    // One of the living, and one of those that are gone.
    let doomed = [STORAGES + 1, 1];
    for dead in doomed {
        let request = json!({ "filter": { "backend": backends[dead] } });
        let report: ReapReport = node.daemon.post("/v1/sockets/destroy", &request).unwrap();
        assert_eq!(report.sockets.len(), 3, "{report:?}");
        assert!(report.sockets.iter().all(|socket| socket.fate == Fate::Destroyed), "{report:?}");
    }
    let cut: Vec<usize> =
        sockets.iter().map(|sockets| sockets.iter().filter(|socket| was_cut(socket)).count()).collect();
    let wanted: Vec<usize> =
        (0..sockets.len()).map(|index| if doomed.contains(&index) { 3 } else { 0 }).collect();
    assert_eq!(cut, wanted);
}

#[test]
fn a_storage_is_given_to_another_backend_when_nothing_is_bound_in_it_any_more() {
    const STORAGES: usize = 4;
    let node = Node::configured(&format!("[datapath]\nmax_backends = {STORAGES}\n"));
    let netns = Netns::new("client");
    for (round, backend) in addresses(111, 3 * STORAGES).iter().enumerate() {
        let sockets = bound(&node, &netns, 82, round, backend);
        assert_eq!(storages(&node).len(), 1, "round {round}");
        let report: ReapReport = node.daemon.delete(&format!("/v1/services/s{round}")).unwrap();
        assert_eq!(report.sockets.len(), sockets.len());
        until("its storage is kept", || storages(&node).is_empty());
    }
}

/// The namespaces of the clients whose backends are remembered.
fn remembered(node: &Node) -> Vec<u64> {
    let map = MapData::from_pin(node.daemon.paths().bpffs.join("maps/nl_affinities")).unwrap();
    let map: HashMap<_, [u8; Client::SIZE], [u8; Affinity::SIZE]> =
        Map::from_map_data(map).unwrap().try_into().unwrap();
    map.keys().map(|key| Client::from_bytes(key.unwrap()).netns_cookie).collect()
}

#[test]
fn more_clients_than_are_remembered_push_out_who_stayed_away_and_not_who_comes_all_the_time() {
    const REMEMBERED: usize = 16;
    let node = Node::configured(&format!("[datapath]\nmax_affinities = {REMEMBERED}\n"));
    let vip = "10.96.81.1:53";
    let body = json!({
        "name": "sticky", "vip": vip, "protocol": "udp", "backends": addresses(112, 40), "affinity_seconds": 3600,
    });
    let _: Service = node.daemon.post("/v1/services", &body).unwrap();
    let chosen = |netns: &Netns| -> SocketAddr {
        let socket = clients(netns, vip, 1).remove(0);
        let cookie = rustix::net::sockopt::socket_cookie(&socket).unwrap();
        let views: Vec<SocketView> = node.daemon.get("/v1/sockets?service=sticky").unwrap();
        let view = views.iter().find(|view| view.socket.cookie.0 == cookie).unwrap();
        view.socket.backend
    };
    let is_remembered = |netns: &Netns| remembered(&node).contains(&netns.handle().cookie().unwrap().0);
    let (once, regular) = (Netns::new("once"), Netns::new("regular"));
    chosen(&once);
    let first = chosen(&regular);
    assert!(is_remembered(&once) && is_remembered(&regular));
    for number in 0..3 * REMEMBERED {
        chosen(&Netns::new("other"));
        assert_eq!(chosen(&regular), first, "after {number} others");
        let remembered = remembered(&node).len();
        assert!(remembered <= REMEMBERED, "{remembered} are remembered");
    }
    assert!(!is_remembered(&once) && is_remembered(&regular));
}
