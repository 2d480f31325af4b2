//! `netloom store …` and `netloom orphans`: what netloomd has written down, and what nobody has.

use netloom_api::types::{OrphanView, StoreCheck};
use netloom_netns_tests::Node;

use crate::session::{Covered, Session, both, text};

pub(crate) const COVERS: &[Covered] =
    &[both("orphans"), text("store backup"), both("store check"), text("store restore")];

#[test]
fn records_are_copied_checked_and_put_back_and_what_no_record_knows_goes_when_somebody_says_so() {
    let mut node = Node::start();
    let netloom = Session::on(&node, COVERS);
    node.service("shop", "10.96.71.1:80", "tcp", &["10.0.0.1:80".to_owned()]);
    netloom.table("store backup", "netloom.backup");
    node.daemon.delete::<serde_json::Value>("/v1/services/shop").unwrap();

    node.daemon.stop();
    netloom.table("store restore", "netloom.backup");
    let alias = format!("netloom-{}: endpoint ghost", node.daemon.instance());
    node.netns.ip(&["link", "add", "ghost0", "type", "veth", "peer", "name", "ghost1"]);
    node.netns.ip(&["link", "set", "ghost0", "alias", &alias]);
    node.daemon.restart();

    assert_eq!(node.status().services.len(), 1);
    let check: StoreCheck = netloom.json("store check", "");
    assert_eq!((check.records.get("services"), check.problems), (Some(&1), Vec::new()));
    assert!(netloom.table("store check", "").contains("1 services"));

    let orphans: Vec<OrphanView> = netloom.json("orphans", "");
    assert_eq!(orphans.iter().map(|orphan| orphan.what.as_str()).collect::<Vec<_>>(), ["device ghost0"]);
    netloom.table("orphans", "--remove");
    assert!(!node.netns.ip(&["-o", "link"]).contains("ghost0"));
}
