//! Nothing is Netloom's that it cannot prove it made: not by its name, not by an alias, not by the lack of one.

use std::process::Stdio;

use netloom_api::{
    ClientError,
    types::{DeviceView, Doctor, Done, Event, EventKind, OrphanView},
};
use netloom_core::model::{DeviceMode, Feature};
use netloom_netns_tests::{Node, ObjectFile, refusal};
use netloom_test_support::{Netns, each_way, until};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};

fn create(node: &Node, request: &Value) -> Result<DeviceView, ClientError> {
    node.daemon.post("/v1/devices", request)
}

fn orphans(node: &Node) -> Vec<String> {
    let views: Vec<OrphanView> = node.daemon.get("/v1/orphans").unwrap();
    views.into_iter().map(|view| view.what).collect()
}

/// The index of a device, which tells it from another one of its name.
fn index(netns: &Netns, device: &str) -> String {
    let shown = netns.ip(&["-o", "link", "show", "dev", device]);
    shown.split(':').next().unwrap().to_owned()
}

fn has(netns: &Netns, device: &str) -> bool {
    let shown = netns.ip(&["-o", "link", "show"]);
    shown.lines().any(|line| line.contains(&format!(": {device}@")) || line.contains(&format!(": {device}:")))
}

/// A pair of somebody else's, without an alias.
fn victim(node: &Node, name: &str, peer: &str) -> String {
    node.netns.ip(&["link", "add", name, "type", "veth", "peer", "name", peer]);
    index(&node.netns, name)
}

#[test]
fn a_device_whose_name_is_wanted_stays_when_the_wish_is_refused() {
    let node = Node::start();
    let inside = Netns::new("inside");
    let before = victim(&node, "victim", "vp");
    let (status, error, _) = refusal(create(
        &node,
        &json!({ "name": "victim", "mode": "veth", "peer": "eth7", "peer_netns": inside.path() }),
    ));
    assert!(status == 409 && error.contains("victim"), "{status} {error}");
    assert_eq!(index(&node.netns, "victim"), before, "it is another device by now");
    assert!(has(&node.netns, "vp") && !has(&inside, "eth7"));
}

#[test]
fn a_start_that_undoes_what_was_never_done_takes_nobodys_device() {
    // Killed after the first step, which made the pair; then somebody else takes its name.
    let mut node = Node::start();
    node.daemon.crash_after(1);
    let inside = Netns::new("inside");
    let request = json!({ "name": "up0", "mode": "veth", "peer": "eth7", "peer_netns": inside.path() });
    assert!(create(&node, &request).is_err());
    inside.ip(&["link", "delete", "eth7"]);
    let before = victim(&node, "up0", "vp");
    node.daemon.restart_after_crash();
    assert_eq!(index(&node.netns, "up0"), before);
    assert!(refusal(create(&node, &request)).1.contains("up0"));
    assert_eq!(index(&node.netns, "up0"), before);
}

#[test]
fn deleting_a_device_or_an_endpoint_whose_device_became_anothers_leaves_that_alone() {
    let node = Node::start();
    let inside = Netns::new("inside");
    create(&node, &json!({ "name": "up0", "mode": "veth", "peer": "eth7", "peer_netns": inside.path() }))
        .unwrap();
    let web = node.endpoint("web");
    let mut before = Vec::new();
    for (name, peer) in [("up0", "vp0"), (web.device(), "vp1")] {
        node.netns.ip(&["link", "delete", name]);
        before.push(victim(&node, name, peer));
    }
    let _: Done = node.daemon.delete("/v1/devices/up0").unwrap();
    node.delete("web").unwrap();
    for (name, before) in ["up0", web.device()].into_iter().zip(before) {
        assert_eq!(index(&node.netns, name), before);
    }
    let events: Vec<Event> = node.daemon.get("/v1/events").unwrap();
    for name in ["up0", web.device()] {
        assert!(
            events.iter().any(|event| event.kind == EventKind::ForeignDevice && event.subject == name),
            "{name}: {events:?}"
        );
    }
    assert_eq!((node.endpoints().len(), node.status().attachments.len()), (0, 0));
}

/// The device of an endpoint is replaced by another of its name between two looks of the daemon's.
fn a_device_that_took_an_endpoints_name_gets_none_of_its_programs(mode: &str) {
    let node = Node::configured(&format!("[attachments]\nmode = \"{mode}\"\nwatch_ms = 50\n"));
    let web = node.endpoint_on("web", DeviceMode::Veth);
    let pid = Pid::from_raw(node.daemon.pid().unwrap().cast_signed()).unwrap();
    kill_process(pid, Signal::STOP).unwrap();
    node.netns.ip(&["link", "delete", web.device()]);
    let before = victim(&node, web.device(), "vp");
    kill_process(pid, Signal::CONT).unwrap();
    let told = || -> Vec<Event> {
        let events: Vec<Event> = node.daemon.get("/v1/events").unwrap();
        events.into_iter().filter(|event| event.kind == EventKind::DeviceGone).collect()
    };
    for event in until(told, |told| told.len() == 2) {
        assert!(event.message.contains("delete the endpoint"), "{event:?}");
    }
    assert!(node.chains(web.device()).iter().all(|chain| chain.entries.is_empty()));
    node.delete("web").unwrap();
    assert_eq!(index(&node.netns, web.device()), before);
    assert_eq!(node.status().attachments, []);
}

each_way!(a_device_that_took_an_endpoints_name_gets_none_of_its_programs; {
    tcx: [Feature::Tcx] => "tcx",
    tc: [Feature::LegacyTc] => "tc",
});

#[test]
fn a_device_that_took_an_endpoints_name_while_the_daemon_was_down_is_not_adopted() {
    let mut node = Node::start();
    let web = node.endpoint("web");
    let alias = format!("netloom-{}: endpoint web", node.daemon.instance());
    node.daemon.kill9();
    node.netns.ip(&["link", "delete", web.device()]);
    let before = victim(&node, web.device(), "vp");
    node.netns.ip(&["link", "set", web.device(), "alias", &alias]);
    node.daemon.restart();
    assert_eq!(index(&node.netns, web.device()), before);
    assert_eq!(node.endpoints().len(), 0);
    let what = format!("device {}", web.device());
    assert!(node.status().adoption.orphans.contains(&what), "{:?}", node.status().adoption);
    // Nor is it cleaned up, but by whoever made it.
    node.netns.ip(&["link", "delete", web.device()]);
}

#[test]
fn a_renamed_device_of_ours_is_adopted_and_deleted_under_its_new_name() {
    let mut node = Node::configured("endpoints.mend = \"none\"");
    let web = node.endpoint("web");
    node.daemon.kill9();
    node.netns.ip(&["link", "set", web.device(), "down"]);
    node.netns.ip(&["link", "set", web.device(), "name", "renamed0"]);
    node.netns.ip(&["link", "set", "renamed0", "up"]);
    node.daemon.restart();
    assert_eq!(node.endpoints()[0].endpoint.host_interface, "renamed0");
    node.delete("web").unwrap();
    assert!(!has(&node.netns, "renamed0"));
}

#[test]
fn of_two_who_create_one_name_at_once_one_wins_and_keeps_its_pair() {
    let node = Node::start();
    for round in 0..8 {
        let name = format!("up{round}");
        let namespaces = [Netns::new("left"), Netns::new("right")];
        let asked = namespaces.each_ref().map(|netns| {
            let netns = netns.path().display().to_string();
            let words =
                ["device", "create", &name, "--mode", "veth", "--peer", "eth7", "--peer-netns", &netns];
            node.daemon.netloom_command(&words).stderr(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap()
        });
        let answers = asked.map(|asked| asked.wait_with_output().unwrap());
        let won = answers.each_ref().map(|answer| answer.status.success());
        let errors = answers.map(|answer| String::from_utf8_lossy(&answer.stderr).into_owned());
        assert!(won[0] != won[1], "{errors:?}");
        assert!(errors.concat().contains(&name) && errors.concat().contains("already"), "{errors:?}");
        for (netns, won) in namespaces.iter().zip(won) {
            assert_eq!(has(netns, "eth7"), won, "round {round}: {errors:?}");
        }
        let shown: DeviceView = node.daemon.get(&format!("/v1/devices/{name}")).unwrap();
        assert!(shown.peer.is_some());
    }
}

#[test]
fn what_no_record_knows_is_told_of_and_removed_on_an_operators_word_only() {
    let mut node = Node::start();
    node.daemon.stop();
    let alias = format!("netloom-{}: endpoint ghost", node.daemon.instance());
    victim(&node, "ghost0", "ghost1");
    node.netns.ip(&["link", "set", "ghost0", "alias", &alias]);
    victim(&node, "other0", "other1");
    node.daemon.restart();
    assert_eq!(orphans(&node), ["device ghost0"]);
    let doctor: Doctor = node.daemon.get("/v1/doctor").unwrap();
    assert!(doctor.findings.iter().any(|finding| finding.subject == "device ghost0"), "{doctor:?}");
    assert!(has(&node.netns, "ghost0"));

    let shown = node.daemon.netloom(&["orphans"]).expect_ok();
    assert!(shown.contains("ghost0") && !shown.contains("other0"), "{shown}");
    assert!(node.daemon.netloom(&["orphans", "--remove"]).ok());
    assert!(!has(&node.netns, "ghost0") && has(&node.netns, "other0"));
    assert_eq!(orphans(&node), Vec::<String>::new());
}

#[test]
fn what_is_there_and_recorded_is_no_orphan() {
    let mut node = Node::start();
    let inside = Netns::new("inside");
    let web = node.endpoint("web");
    create(&node, &json!({ "name": "up0", "mode": "veth", "peer": "eth7", "peer_netns": inside.path() }))
        .unwrap();
    create(&node, &json!({ "name": "here0", "mode": "veth", "peer": "here1" })).unwrap();
    let object = ObjectFile::of(netloom_test_programs::OBSERVER);
    node.attach(json!({ "device": web.device(), "object": object.path(), "owner": "flows" })).unwrap();
    assert_eq!(orphans(&node), Vec::<String>::new());
    node.daemon.kill9();
    node.daemon.restart();
    assert_eq!(orphans(&node), Vec::<String>::new());
    let _: Done = node.daemon.delete("/v1/orphans").unwrap();
    assert!(has(&node.netns, "up0") && has(&node.netns, "here1") && has(&node.netns, web.device()));
}
