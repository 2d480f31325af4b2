use netloom_api::types::{Chain, Done, HookPoint};
use netloom_core::model::Feature;
use netloom_test_support::require;
use serde_json::{Value, json};

use netloom_netns_tests::{Endpoint, Node, ObjectFile, refusal};

fn on(endpoint: &Endpoint, object: &ObjectFile, owner: &str, more: Value) -> Value {
    let mut request = json!({ "device": endpoint.device(), "object": object.path(), "owner": owner });
    request.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    request
}

fn owners(chain: &Chain) -> Vec<&str> {
    chain.entries.iter().map(|entry| entry.owner.as_ref().map_or("foreign", |owner| owner.as_str())).collect()
}

fn ingress<'a>(chains: &'a [Chain], at: &Chain) -> &'a Chain {
    chains.iter().find(|chain| chain.hook.point == at.hook.point).expect("the chain is listed")
}

#[test]
fn observers_go_first_priorities_in_order_and_the_datapath_last() {
    let node = Node::start();
    let web = node.endpoint("web");
    let object = ObjectFile::of(netloom_test_programs::OBSERVER);
    for (owner, more) in [
        ("late", json!({ "priority": 20 })),
        ("early", json!({ "priority": 10 })),
        ("flows", json!({ "labels": { "role": "observer" } })),
    ] {
        let answer = node.attach(on(&web, &object, owner, more)).unwrap();
        assert_eq!(answer.decided_by, "attach-order");
    }
    let answer = node.attach(on(&web, &object, "middle", json!({ "priority": 15 }))).unwrap();
    let chains = node.chains(web.device());
    let chain = ingress(&chains, &answer.chain);
    assert_eq!(owners(chain), ["flows", "early", "middle", "late", "netloom/datapath"]);
    let _: Done = node.daemon.delete(&format!("/v1/attachments/{}", answer.attachment.id)).unwrap();
    let chains = node.chains(web.device());
    assert_eq!(owners(ingress(&chains, &answer.chain)), ["flows", "early", "late", "netloom/datapath"]);
}

#[test]
fn legacy_tc_has_the_same_order_and_foreign_filters_stay() {
    if !require(Feature::LegacyTc) {
        return;
    }
    let node = Node::configured("[attachments]\nmode = \"tc\"\n[plugins.config.datapath-mode]\n");
    let web = node.endpoint("web");
    let object = ObjectFile::of(netloom_test_programs::OBSERVER);
    node.netns.ip(&["link", "add", "d0", "type", "veth", "peer", "name", "d1"]);
    node.netns.tc(&["qdisc", "add", "dev", "d0", "clsact"]);
    node.netns.tc(&[
        "filter",
        "add",
        "dev",
        "d0",
        "ingress",
        "prio",
        "7",
        "handle",
        "1",
        "bpf",
        "direct-action",
        "object-file",
        object.path().to_str().unwrap(),
        "section",
        "tc",
    ]);
    let request = |owner: &str, priority: i32| json!({ "device": "d0", "object": object.path(), "owner": owner, "priority": priority });
    node.attach(request("second", 2)).unwrap();
    let answer = node.attach(request("first", 1)).unwrap();
    assert_eq!(answer.attachment.hook.point, HookPoint::TcIngress);
    let chain = &node.chains("d0")[0];
    let ours: Vec<_> = owners(chain).into_iter().filter(|owner| *owner != "foreign").collect();
    assert_eq!(ours, ["first", "second"]);
    assert_eq!(chain.entries.len(), 3);
    for attachment in node.status().attachments.iter().filter(|each| each.endpoint.is_none()) {
        let _: Done = node.daemon.delete(&format!("/v1/attachments/{}", attachment.id)).unwrap();
    }
    let left = node.netns.tc(&["filter", "show", "dev", "d0", "ingress"]);
    assert!(left.contains("pref 7") && left.contains("handle 0x1"), "{left}");
    assert!(web.netns.can_ping(node.endpoint("other").v4()));
}

#[test]
fn an_object_that_does_not_verify_shows_the_verifiers_log() {
    let node = Node::start();
    let web = node.endpoint("web");
    let before = node.chains(web.device());
    let object = ObjectFile::of(netloom_test_programs::UNVERIFIABLE);
    let (status, error, _) = refusal(node.attach(on(&web, &object, "bad", json!({}))));
    assert_eq!(status, 422, "{error}");
    assert!(error.contains("R1") || error.contains("invalid") || error.contains("processed"), "{error}");
    assert_eq!(node.chains(web.device()), before);
}

#[test]
fn wrong_requests_name_what_is_wrong() {
    let node = Node::start();
    let web = node.endpoint("web");
    let good = ObjectFile::of(netloom_test_programs::OBSERVER);
    let twins = ObjectFile::of(netloom_test_programs::TWINS);
    let garbage = ObjectFile::of(b"this is no ELF file");
    for (request, word) in [
        (json!({ "device": "nodev0", "object": good.path(), "owner": "a" }), "nodev0"),
        (
            json!({ "device": "lo", "netns": "/run/netns/nowhere", "object": good.path(), "owner": "a" }),
            "nowhere",
        ),
        (on(&web, &good, "a", json!({ "program": "nosuch" })), "nosuch"),
        (on(&web, &twins, "a", json!({})), "several"),
        (on(&web, &garbage, "a", json!({})), "object.bpf.o"),
        (on(&web, &good, "netloom/datapath", json!({})), "netloom/datapath"),
        (json!({ "device": web.device(), "object": "relative.o", "owner": "a" }), "relative.o"),
        (json!({ "device": web.device(), "object": "/nonexistent.o", "owner": "a" }), "/nonexistent.o"),
        (json!({ "device": web.device(), "object": good.path(), "owner": "UPPER" }), "UPPER"),
        (json!({ "gadget": 1 }), "gadget"),
    ] {
        let (status, error, hint) = refusal(node.attach(request.clone()));
        assert!((400..500).contains(&status), "{request}: {status} {error}");
        assert!(format!("{error} {hint}").contains(word), "{request}: {error}");
    }
    let chains = node.chains(web.device());
    assert!(chains.iter().all(|chain| chain.entries.len() == 1), "{chains:?}");
    assert!(node.status().attachments.iter().all(|attachment| attachment.endpoint.is_some()));
}

#[test]
fn the_datapath_cannot_be_detached_by_hand() {
    let node = Node::start();
    let web = node.endpoint("web");
    let (status, error, hint) = refusal(node.daemon.delete::<Done>("/v1/attachments/web:from"));
    assert_eq!(status, 409, "{error}");
    assert!(hint.contains("delete the endpoint"), "{hint}");
    assert_eq!(node.chains(web.device()).len(), 2);
}
