//! What cannot be removed is named, and removed when an operator says so.

use std::{fs, path::Path};

use netloom_api::types::OrphanView;
use netloom_test_support::{Netns, Output, binary, command};
use serde_json::json;

use netloom_netns_tests::{Node, ObjectFile};

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

/// A pin that no record knows is told of, stays over a restart, and goes when an operator says so.
fn remove_orphan(node: &Node, pin: &Path) {
    let orphans: Vec<OrphanView> = node.daemon.get("/v1/orphans").unwrap();
    let what = format!("pin {}", pin.display());
    assert!(orphans.iter().any(|orphan| orphan.what == what), "{orphans:?}");
    let removed = node.daemon.netloom(&["orphans", "--remove"]);
    assert!(removed.ok(), "{removed:?}");
}

#[test]
fn an_endpoints_deletion_names_what_it_left_which_goes_at_an_operators_word() {
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
    drop(obstacle);
    assert!(pin.exists());
    node.daemon.kill9();
    node.daemon.restart();
    remove_orphan(&node, &pin);
    assert_eq!(node.traces(), Vec::<String>::new());
    let netns = Netns::new("web");
    node.add(json!({ "name": "web", "netns": netns.path() })).unwrap();
}

#[test]
fn the_command_line_shows_what_a_deletion_left() {
    let node = Node::start();
    let _web = node.endpoint("web");
    let pin = node.daemon.paths().bpffs.join("endpoints/web/to");
    node.daemon.expect_error("a clean-up step failed");
    let obstacle = Obstacle::on(&pin);
    let deleted = node.daemon.netloom(&["endpoint", "delete", "web"]);
    drop(obstacle);
    assert!(format!("{}{}", deleted.stdout, deleted.stderr).contains(pin.to_str().unwrap()), "{deleted:?}");
    remove_orphan(&node, &pin);
}

#[test]
fn a_detachment_that_cannot_be_is_told_and_what_is_left_goes_at_an_operators_word() {
    let mut node = Node::start();
    let web = node.endpoint("web");
    let object = ObjectFile::of(netloom_test_programs::OBSERVER);
    let request = json!({ "device": web.device(), "object": object.path(), "owner": "flows" });
    let id = node.attach(request).unwrap().attachment.id;
    let pin = node.daemon.paths().bpffs.join("attachments").join(&id);
    node.daemon.expect_error("a clean-up step failed");
    let obstacle = Obstacle::on(&pin);
    let detached = node.daemon.netloom(&["detach", &id]);
    drop(obstacle);
    assert!(
        format!("{}{}", detached.stdout, detached.stderr).contains(pin.to_str().unwrap()),
        "{detached:?}"
    );
    node.daemon.kill9();
    node.daemon.restart();
    remove_orphan(&node, &pin);
    assert!(!pin.exists());
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
