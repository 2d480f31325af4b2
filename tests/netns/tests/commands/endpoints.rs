//! `netloom endpoint …`

use netloom_api::types::{Done, EndpointMigrated, EndpointView, Trace, TraceOutcome};
use netloom_netns_tests::{
    Node,
    shown::{addresses, devices, link},
};
use netloom_test_support::Netns;

use crate::session::{Covered, Session, both};

pub(crate) const COVERS: &[Covered] = &[
    both("endpoint add"),
    both("endpoint delete"),
    both("endpoint list"),
    both("endpoint migrate"),
    both("endpoint set"),
    both("endpoint show"),
    both("endpoint trace"),
];

#[test]
fn endpoints_come_are_changed_and_go() {
    let node = Node::start();
    let netloom = Session::on(&node, COVERS);
    let (web, db) = (Netns::new("web"), Netns::new("db"));

    // One by a path and with addresses of the pool, one by a name and with what it wants.
    let said =
        netloom.table("endpoint add", &format!("web --netns {} --label app=shop", web.path().display()));
    let given = addresses(&web, "eth0");
    assert_eq!(given.len(), 2, "of both families: {given:?}");
    assert!(given.iter().all(|address| said.contains(address)), "{given:?} in {said}");
    let wants = "--interface net1 --address 10.210.7.7 --mac 02:00:00:00:00:07";
    let added: EndpointView = netloom.json("endpoint add", &format!("db --netns {} {wants}", db.name()));
    assert_eq!(addresses(&db, "net1"), ["10.210.7.7/32"]);
    assert_eq!(link(&db, "net1")["address"], "02:00:00:00:00:07");
    let ends = [link(&node.netns, &added.endpoint.host_interface), link(&db, "net1")];
    let indexes = [added.endpoint.host_ifindex, added.endpoint.peer_ifindex].map(|index| index.0);
    assert_eq!(ends.map(|end| end["ifindex"].clone()), indexes.map(serde_json::Value::from));
    assert!(web.can_ping([10, 210, 7, 7]));

    let listed: Vec<EndpointView> = netloom.json("endpoint list", "");
    let names: Vec<&str> = listed.iter().map(|view| view.endpoint.spec.name.as_str()).collect();
    assert_eq!(names, ["db", "web"]);
    let said = netloom.table("endpoint list", "");
    assert!(names.iter().all(|name| said.contains(name)) && said.contains("10.210.7.7"), "{said}");
    let view: EndpointView = netloom.json("endpoint show", "web");
    assert_eq!(view.endpoint.spec.labels["app"], "shop");
    assert!(view.counters.sent_packets > 0, "its ping was not counted: {:?}", view.counters);
    let device = view.endpoint.host_interface;
    let said = netloom.table("endpoint show", "web");
    assert!(said.contains(&device) && said.contains(&given[0]), "{said}");

    // A change is one of both ends.
    netloom.table("endpoint set", "web --mtu 1400");
    assert_eq!(
        [link(&node.netns, &device), link(&web, "eth0")].map(|end| end["mtu"].clone()),
        [1_400, 1_400]
    );
    let changed: EndpointView = netloom.json("endpoint set", "db --mtu 1300");
    assert_eq!(changed.endpoint.mode.mtu, 1_300);
    assert_eq!(link(&db, "net1")["mtu"], 1_300);

    let trace: Trace = netloom.json("endpoint trace", "web --to 10.210.7.7:80/tcp");
    assert_eq!(trace.ways.iter().map(|way| way.outcome).collect::<Vec<_>>(), [TraceOutcome::Endpoint]);
    let said = netloom.table("endpoint trace", "web --to 203.0.113.9:80/tcp");
    assert!(said.contains("It goes nowhere."), "{said}");

    // Another pair, on every kernel.
    let migrated: EndpointMigrated =
        netloom.json("endpoint migrate", "db --mode veth --mac 02:00:00:00:00:08");
    assert_eq!(migrated.from, added.endpoint.mode.device);
    assert_eq!(link(&db, "net1")["address"], "02:00:00:00:00:08");
    assert!(devices(&node.netns).contains(&migrated.endpoint.endpoint.host_interface));
    let said = netloom.table("endpoint migrate", "web --mode veth --mac 02:00:00:00:00:09");
    assert!(said.contains("Without a path"), "{said}");
    assert_eq!(link(&web, "eth0")["address"], "02:00:00:00:00:09");
    assert_eq!(addresses(&web, "eth0"), given);
    assert!(web.can_ping([10, 210, 7, 7]));

    netloom.table("endpoint delete", "web");
    assert_eq!(devices(&web), ["lo"]);
    assert!(!web.can_ping([10, 210, 7, 7]));
    let done: Done = netloom.json("endpoint delete", "db");
    assert_eq!(done.warnings, Vec::<String>::new());
    assert_eq!((devices(&db), node.traces(), node.endpoints().len()), (vec!["lo".to_owned()], vec![], 0));
}
