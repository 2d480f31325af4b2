//! What cannot be removed is named, and removed as soon as it can be.

use std::{fs, path::Path};

use netloom_api::types::Doctor;
use netloom_test_support::{Netns, Output, binary, command, until};
use serde_json::json;

use netloom_netns_tests::{Node, ObjectFile, refusal};

/// Something that keeps a path from being removed: a mount on it, taken away with this value.
struct Obstacle(String);

impl Obstacle {
    fn on(path: &Path) -> Self {
        let path = path.to_str().unwrap().to_owned();
        let source = if Path::new(&path).is_dir() { "/mnt" } else { "/dev/null" };
        let _ = command(&["mount", "--bind", source, &path]).expect_ok();
        Self(path)
    }
}

impl Drop for Obstacle {
    fn drop(&mut self) {
        let unmounted = command(&["umount", &self.0]);
        assert!(unmounted.ok() || std::thread::panicking(), "{unmounted:?}");
    }
}

/// `netloomd cleanup`, where the node's netloomd ran.
fn cleanup(node: &Node) -> Output {
    let netns = format!("--net={}", node.netns.path().display());
    let netloomd = binary("netloomd");
    let instance = node.daemon.instance().as_str();
    command(&["nsenter", &netns, "--", netloomd.to_str().unwrap(), "--instance", instance, "cleanup"])
}

/// What is left goes by itself, now that it can.
fn goes(pin: &Path) {
    until(|| pin.exists(), |there| !there);
}

#[test]
fn an_endpoints_deletion_names_what_it_left_and_is_finished_when_it_can_be() {
    let mut node = Node::start();
    let web = node.endpoint("web");
    let pin = node.daemon.paths().bpffs.join("endpoints/web/from");
    node.daemon.expect_error("a clean-up step failed");
    let obstacle = Obstacle::on(&pin);

    let done = node.delete("web").unwrap();

    let told = done.warnings.join("\n");
    assert!(told.contains(pin.to_str().unwrap()), "{told}");
    assert!(!web.netns.ip(&["-o", "link"]).contains("eth0"), "what can be removed is");
    assert_eq!(node.endpoints().len(), 0);
    for _ in 0..2 {
        let doctor: Doctor = node.daemon.get("/v1/doctor").unwrap();
        let finding = doctor.findings.iter().find(|finding| finding.subject == "delete endpoint web");
        assert!(finding.is_some_and(|it| it.message.contains(pin.to_str().unwrap())), "{doctor:?}");
        assert!(node.daemon.text("/metrics").unwrap().contains("netloom_unfinished_plans 1"));
        // Its pin would be taken for the next one's.
        let netns = Netns::new("web");
        let (status, error, hint) = refusal(node.add(json!({ "name": "web", "netns": netns.path() })));
        assert!(status == 409 && error.contains(pin.to_str().unwrap()), "{status} {error}");
        assert!(hint.contains("doctor"), "{hint}");
        node.daemon.kill9();
        node.daemon.restart();
    }
    let recovered = node.status().adoption.recovered;
    assert!(
        recovered.iter().any(|what| what.starts_with("delete endpoint web: not finished")),
        "{recovered:?}"
    );
    drop(obstacle);
    goes(&pin);
    assert_eq!(node.traces(), Vec::<String>::new());
    let netns = Netns::new("web");
    node.add(json!({ "name": "web", "netns": netns.path() })).unwrap();
}

#[test]
fn the_command_line_shows_what_a_deletion_left_and_a_request_for_its_name_finishes_it() {
    let node = Node::start();
    let _web = node.endpoint("web");
    let pin = node.daemon.paths().bpffs.join("endpoints/web/to");
    node.daemon.expect_error("a clean-up step failed");
    let obstacle = Obstacle::on(&pin);
    let deleted = node.daemon.netloom(&["endpoint", "delete", "web"]);
    drop(obstacle);
    assert!(format!("{}{}", deleted.stdout, deleted.stderr).contains(pin.to_str().unwrap()), "{deleted:?}");
    // At once, and not when the daemon would try again.
    let _web = node.endpoint("web");
    assert_eq!(node.endpoints().len(), 1);
}

#[test]
fn a_detachment_that_cannot_be_is_told_and_finished_when_it_can_be() {
    let mut node = Node::start();
    let web = node.endpoint("web");
    let object = ObjectFile::of(netloom_test_programs::OBSERVER);
    let request = json!({ "device": web.device(), "object": object.path(), "owner": "flows" });
    let id = node.attach(request).unwrap().attachment.id;
    let pin = node.daemon.paths().bpffs.join("attachments").join(&id);
    node.daemon.expect_error("a clean-up step failed");
    let obstacle = Obstacle::on(&pin);
    let detached = node.daemon.netloom(&["detach", &id]);
    assert!(
        format!("{}{}", detached.stdout, detached.stderr).contains(pin.to_str().unwrap()),
        "{detached:?}"
    );
    node.daemon.kill9();
    drop(obstacle);
    node.daemon.restart();
    goes(&pin);
    let owners = node.chains(web.device()).into_iter().flat_map(|chain| chain.entries);
    assert!(owners.into_iter().all(|entry| entry.owner.unwrap().as_str() == "netloom/datapath"));
}

#[test]
fn a_cleanup_names_what_it_left_fails_and_does_the_rest_when_it_is_asked_again() {
    let mut node = Node::start();
    let web = node.endpoint("web");
    let (device, paths) = (web.device().to_owned(), node.daemon.paths());
    node.daemon.stop();
    let pin = paths.bpffs.join("endpoints/web/from");
    let kept = paths.state.join("plugins");
    fs::create_dir_all(&kept).unwrap();
    let obstacles = [Obstacle::on(&pin), Obstacle::on(&kept)];

    let failed = cleanup(&node);

    assert!(!failed.ok(), "{failed:?}");
    for path in [&pin, &paths.state] {
        assert!(failed.stderr.contains(path.to_str().unwrap()), "{failed:?}");
    }
    assert!(!failed.stdout.contains("is gone"), "{failed:?}");
    assert!(!node.netns.ip(&["-o", "link"]).contains(&device), "what can be removed is");
    assert!(!paths.run.exists(), "what can be removed is");
    drop(obstacles);
    let again = cleanup(&node);
    assert!(again.ok() && again.stdout.contains("is gone"), "{again:?}");
    assert!(!paths.bpffs.exists() && !paths.state.exists() && !paths.run.exists());
}
