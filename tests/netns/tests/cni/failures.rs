//! What cannot be done is refused by the daemon itself, and leaves nothing behind.

use netloom_netns_tests::{Node, shown::devices};
use netloom_test_support::Netns;
use serde_json::json;

use crate::runtime::{call, endpoints, network, with};

#[test]
fn what_the_daemon_refuses_is_told_and_nothing_is_left() {
    let node = Node::start();
    let config = network(&node, "1.1.0");
    let (first, second) = (Netns::new("first"), Netns::new("second"));
    let taken = with(config.clone(), json!({ "runtimeConfig": { "ips": ["10.210.0.9"] } }));
    call("ADD", "first", &first).run(&taken).result();

    let (code, message) = call("ADD", "second", &second).run(&taken).error();
    assert!(
        code == 100 && message.contains("10.210.0.9") && message.contains("first_eth0"),
        "{code} {message}"
    );
    let (code, message) = call("ADD", "first", &second).run(&config).error();
    assert!(code == 100 && message.contains("first_eth0"), "{code} {message}");
    let (code, message) = call("ADD", "again", &first).run(&config).error();
    assert!(code == 100 && message.contains("eth0"), "an interface that is there: {code} {message}");
    for path in ["/run/netns/nowhere", "/etc/hostname"] {
        let (code, message) = call("ADD", "second", &second).with("CNI_NETNS", path).run(&config).error();
        assert!(code == 100 && message.contains(path), "{code} {message}");
    }
    for text in ["", "{", "netloom"] {
        assert_eq!(call("ADD", "second", &second).run_text(text).error().0, 6, "{text:?}");
    }
    assert_eq!((devices(&second), endpoints(&node)), (vec!["lo".to_owned()], vec!["first_eth0".to_owned()]));
    // As runtimes do after each of these.
    call("DEL", "second", &second).run(&config).silent();
    assert_eq!(endpoints(&node), ["first_eth0"]);
}

#[test]
fn while_the_daemon_is_away_add_and_check_are_to_be_tried_again_and_work_then() {
    let mut node = Node::start();
    let config = network(&node, "1.0.0");
    let (old, new) = (Netns::new("old"), Netns::new("new"));
    let result = call("ADD", "old", &old).run(&config).result();
    let checked = with(config.clone(), json!({ "prevResult": result }));
    node.daemon.kill9();

    for (command, config) in [("ADD", &config), ("CHECK", &checked)] {
        let (code, message) = call(command, "old", &old).run(config).error();
        assert_eq!(code, 11, "{command}: {message}");
        assert!(message.starts_with("no netloomd answers on /run/netloom-"), "{message}");
    }
    assert_eq!(devices(&new), ["lo"]);
    node.daemon.restart();
    call("CHECK", "old", &old).run(&checked).silent();
    call("ADD", "new", &new).run(&config).result();
    for (container, netns) in [("old", &old), ("new", &new)] {
        call("DEL", container, netns).run(&config).silent();
        assert_eq!(devices(netns), ["lo"]);
    }
    assert_eq!(node.traces(), Vec::<String>::new());
}
