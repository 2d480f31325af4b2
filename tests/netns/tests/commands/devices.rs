//! `netloom device …`

use netloom_api::types::{DeviceView, Done};
use netloom_netns_tests::{
    Node,
    shown::{addresses, devices, link},
};
use netloom_test_support::Netns;

use crate::session::{Covered, Session, both};

pub(crate) const COVERS: &[Covered] = &[
    both("device create"),
    both("device delete"),
    both("device list"),
    both("device set"),
    both("device show"),
];

#[test]
fn pairs_of_the_node_come_are_changed_and_go_and_those_of_others_are_shown() {
    let node = Node::start();
    let netloom = Session::on(&node, COVERS);
    let left = Netns::new("left");
    node.netns.ip(&["link", "add", "others0", "type", "veth", "peer", "name", "others1"]);

    let create = format!("--mode veth --peer-netns {} --peer", left.name());
    let said = netloom.table("device create", &format!("up0 {create} eth7 --address 10.7.0.2/24 --mtu 4000"));
    assert!(said.contains("up0") && said.contains("eth7"), "{said}");
    assert_eq!(addresses(&left, "eth7"), ["10.7.0.2/24"]);
    assert_eq!([link(&node.netns, "up0"), link(&left, "eth7")].map(|end| end["mtu"].clone()), [4_000, 4_000]);
    let made: DeviceView = netloom.json("device create", &format!("up1 {create} eth8"));
    assert_eq!(link(&node.netns, "up1")["ifindex"], made.device.ifindex.0);
    assert_eq!(
        made.peer.map(|peer| peer.device.ifindex.0.into()),
        Some(link(&left, "eth8")["ifindex"].clone())
    );

    let listed: Vec<DeviceView> = netloom.json("device list", "");
    let mut names: Vec<String> = listed.iter().map(|view| view.device.name.clone()).collect();
    let mut there = devices(&node.netns);
    names.sort();
    there.sort();
    assert_eq!(names, there);
    let said = netloom.table("device list", &format!("--netns {}", left.name()));
    assert!(devices(&left).iter().all(|name| said.contains(name)) && !said.contains("others0"), "{said}");
    let foreign: DeviceView = netloom.json("device show", "others0");
    assert_eq!((foreign.device.kind.as_str(), foreign.owner), ("veth", None));
    let said = netloom.table("device show", &format!("eth7 --netns {}", left.name()));
    assert!(said.contains("device up0") && said.contains("10.7.0.2/24"), "{said}");

    netloom.table("device set", "up0 --mtu 9000");
    assert_eq!([link(&node.netns, "up0"), link(&left, "eth7")].map(|end| end["mtu"].clone()), [9_000, 9_000]);
    let changed: DeviceView = netloom.json("device set", "up1 --down");
    assert!(!changed.device.up);
    assert!(!link(&node.netns, "up1")["flags"].to_string().contains("\"UP\""));

    netloom.table("device delete", "up0");
    let done: Done = netloom.json("device delete", "up1");
    assert_eq!(done.warnings, Vec::<String>::new());
    assert_eq!(devices(&left), ["lo"]);
    let refused = netloom.run("device delete", "others0");
    assert_eq!(refused.code, Some(1), "{refused:?}");
    assert!(devices(&node.netns).contains(&"others0".to_owned()), "somebody else's device is gone");
}
