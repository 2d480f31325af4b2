//! Two changes of one object at once end as if they had come one after the other, in the order in which they were
//! asked for. A change is made to wait in its middle, so that each test meets the moment that it is about.

use std::{
    io::{Read as _, Write as _},
    os::unix::net::UnixStream,
    path::PathBuf,
    process::{Child, Stdio},
    thread,
    time::{Duration, Instant},
};

use netloom_api::types::{EndpointView, OrphanView};
use netloom_core::model::{DeviceMode, Feature};
use netloom_netns_tests::{Node, ObjectFile, refusal};
use netloom_test_support::{DaemonOptions, Netns, at_this_pace, require};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::json;
use tempfile::TempDir;

use crate::link::{self, Raw};

/// An endpoint is added in so many steps.
const ADDED: usize = 5;

/// A node whose daemon waits after a step.
struct Paused {
    node: Node,
    folder: TempDir,
}

impl Paused {
    fn after(step: usize) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let pause = format!("{step}:{}", folder.path().display());
        let env = vec![("NETLOOM_PAUSE_AFTER".to_owned(), pause)];
        Self { node: Node::with(DaemonOptions { env, ..DaemonOptions::default() }), folder }
    }

    fn wait_until_paused(&self) {
        wait_until("the step is reached", || self.folder.path().join("paused").exists());
    }

    fn go(&self) {
        std::fs::write(self.folder.path().join("go"), "").unwrap();
    }

    /// Starts a command, and sees it wait for the one in the middle.
    fn waiting(&self, words: &[&str]) -> Child {
        let mut child = start(&self.node, words);
        let asked = Instant::now();
        while asked.elapsed() < Duration::from_millis(300) {
            assert_eq!(child.try_wait().unwrap(), None, "{words:?} does not wait");
            thread::sleep(Duration::from_millis(10));
        }
        child
    }
}

fn wait_until(what: &str, mut condition: impl FnMut() -> bool) {
    let began = Instant::now();
    while !condition() {
        assert!(began.elapsed() < at_this_pace(Duration::from_secs(30)), "waited too long until {what}");
        thread::sleep(Duration::from_millis(5));
    }
}

fn start(node: &Node, words: &[&str]) -> Child {
    node.daemon.netloom_command(words).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap()
}

/// How a command ended: its errors, if it failed.
fn end(child: Child) -> Result<(), String> {
    let ended = child.wait_with_output().unwrap();
    if ended.status.success() { Ok(()) } else { Err(String::from_utf8_lossy(&ended.stderr).into_owned()) }
}

fn add<'a>(netns: &'a str, name: &'a str) -> [&'a str; 5] {
    ["endpoint", "add", name, "--netns", netns]
}

fn assert_nothing_is_left(node: &Node) {
    assert_eq!(node.endpoints().len(), 0);
    assert_eq!(node.status().attachments.len(), 0);
    assert_eq!(node.traces(), Vec::<String>::new());
}

fn assert_no_orphans(node: &Node) {
    let orphans: Vec<OrphanView> = node.daemon.get("/v1/orphans").unwrap();
    assert_eq!(orphans, []);
}

#[test]
fn a_deletion_waits_for_the_addition_that_is_under_way_though_nobody_waits_for_that_any_more() {
    let paused = Paused::after(2);
    let netns = Netns::new("web");
    let path = netns.path().display().to_string();
    let mut adding = start(&paused.node, &add(&path, "web"));
    paused.wait_until_paused();
    adding.kill().and_then(|()| adding.wait()).unwrap();
    let deleting = paused.waiting(&["endpoint", "delete", "web"]);
    paused.go();
    assert_eq!(end(deleting), Ok(()));
    assert_nothing_is_left(&paused.node);
    assert!(paused.node.add(json!({ "name": "web", "netns": netns.path() })).is_ok());
}

#[test]
fn nothing_leaves_an_endpoint_before_its_programs_are_there_whatever_address_it_is_sent_to() {
    // Its pair is there, and the datapath knows it.
    let paused = Paused::after(2);
    let netns = Netns::new("web");
    let path = netns.path().display().to_string();
    let adding = start(&paused.node, &add(&path, "web"));
    paused.wait_until_paused();
    let shown = paused.node.netns.ip(&["-o", "link", "show"]);
    let device = shown.lines().find_map(|line| line.split(": ").nth(1).filter(|name| name.starts_with("nl")));
    let device = device.unwrap().split('@').next().unwrap();
    assert!(!shown.lines().any(|line| line.contains(device) && line.contains(",UP")), "{shown}");
    // Who is in there may do the same as root.
    netns.ip(&["link", "set", "eth0", "up"]);
    let to = link::mac(&paused.node.netns, device);
    let (source, destination) = ("10.210.0.2".parse().unwrap(), Node::ADDRESS.parse().unwrap());
    let raw = Raw { from: &netns, device: "eth0", to: &to, source, destination };
    let receiver = link::receiver(&paused.node.netns, destination);
    for to in [to.as_str(), "ff:ff:ff:ff:ff:ff"] {
        Raw { to, ..raw }.send("", "early");
    }
    paused.go();
    assert_eq!(end(adding), Ok(()));
    raw.send("", "in time");
    assert_eq!(link::received(&receiver), "in time");
}

#[test]
fn an_addition_that_comes_through_only_after_its_deletion_adds_nothing() {
    let node = Node::start();
    let netns = Netns::new("web");
    let path = netns.path().display().to_string();
    let daemon = Pid::from_raw(i32::try_from(node.daemon.pid().unwrap()).unwrap()).unwrap();
    let socket = node.daemon.paths().socket;
    kill_process(daemon, Signal::STOP).unwrap();
    let before = connections(&socket);
    let connected = |count| wait_until("it is connected", || connections(&socket) == before + count);
    let mut adding = start(&node, &add(&path, "web"));
    connected(1);
    let deleting = start(&node, &["endpoint", "delete", "web"]);
    connected(2);
    adding.kill().and_then(|()| adding.wait()).unwrap();
    kill_process(daemon, Signal::CONT).unwrap();
    // Which of the two the daemon meets first is left to it.
    drop(end(deleting));
    let since = Instant::now();
    while since.elapsed() < Duration::from_secs(1) {
        assert_nothing_is_left(&node);
        thread::sleep(Duration::from_millis(20));
    }
}

/// The connections to a socket that are in this network namespace.
fn connections(socket: &std::path::Path) -> usize {
    let table = std::fs::read_to_string("/proc/net/unix").unwrap();
    table.lines().filter(|line| line.ends_with(&socket.display().to_string())).count()
}

/// A request by hand, which says when it was made; the answer's status.
fn request(node: &Node, method: &str, route: &str, asked: u64, body: &str) -> u16 {
    let mut stream = UnixStream::connect(node.daemon.paths().socket).unwrap();
    let length = body.len();
    write!(
        stream,
        "{method} {route} HTTP/1.1\r\nhost: netloomd\r\nconnection: close\r\nnetloom-asked: {asked}\r\n\
         content-length: {length}\r\n\r\n{body}"
    )
    .unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer.split(' ').nth(1).unwrap().parse().unwrap()
}

#[test]
fn requests_that_overtake_each_other_end_in_the_order_in_which_they_were_asked() {
    let node = Node::start();
    let netns = Netns::new("web");
    let body = json!({ "name": "web", "netns": netns.path() }).to_string();
    let (add, delete) = ("/v1/endpoints", "/v1/endpoints/web");
    assert_eq!(request(&node, "DELETE", delete, 20, ""), 404);
    assert_eq!(request(&node, "POST", add, 10, &body), 409, "its deletion was asked for later");
    assert_nothing_is_left(&node);
    assert_eq!(request(&node, "POST", add, 30, &body), 200);
    assert_eq!(request(&node, "DELETE", delete, 25, ""), 404, "it means the one before");
    assert_eq!(node.endpoints().len(), 1);
    assert_eq!(request(&node, "DELETE", delete, 40, ""), 200);
    assert_nothing_is_left(&node);
}

#[test]
fn of_two_deletions_with_an_addition_between_them_neither_takes_the_new_endpoint_apart() {
    let paused = Paused::after(2 * ADDED + 1);
    let (other, web) = (paused.node.endpoint("other"), paused.node.endpoint("web"));
    let path = web.netns.path().display().to_string();
    let first = start(&paused.node, &["endpoint", "delete", "web"]);
    paused.wait_until_paused();
    let second = paused.waiting(&["endpoint", "delete", "web"]);
    let adding = paused.waiting(&add(&path, "web"));
    paused.go();
    assert_eq!(end(first), Ok(()));
    drop(end(second));
    assert_eq!(end(adding), Ok(()));
    let view: EndpointView = paused.node.daemon.get("/v1/endpoints/web").unwrap();
    let address = view.endpoint.addresses[0].addr();
    assert!(other.netns.can_ping(address), "the datapath forgot it");
    assert_eq!(paused.node.chains(&view.endpoint.host_interface).len(), 2);
    assert_no_orphans(&paused.node);
}

#[test]
fn an_endpoint_that_is_deleted_while_it_migrates_is_gone_with_both_its_pairs() {
    for step in [1, 3, 5] {
        let paused = Paused::after(ADDED + step);
        let web = paused.node.endpoint("web");
        let migrate = ["endpoint", "migrate", "web", "--mode", "veth", "--mac", "02:00:00:00:00:77"];
        let veth = web.view.endpoint.mode.device == DeviceMode::Veth;
        let migrating = start(&paused.node, if veth { &migrate } else { &migrate[..5] });
        paused.wait_until_paused();
        let deleting = paused.waiting(&["endpoint", "delete", "web"]);
        paused.go();
        assert_eq!(end(migrating), Ok(()), "step {step}");
        assert_eq!(end(deleting), Ok(()), "step {step}");
        assert_nothing_is_left(&paused.node);
        assert_no_orphans(&paused.node);
        assert!(!web.netns.ip(&["-o", "link"]).contains("eth0"), "step {step}");
    }
}

#[test]
fn a_program_that_is_detached_while_it_goes_to_legacy_tc_is_gone_from_both_places() {
    if !require(Feature::Tcx) {
        return;
    }
    for step in 1..=4 {
        let paused = Paused::after(1 + step);
        paused.node.netns.ip(&["link", "add", "d0", "type", "veth", "peer", "name", "d1"]);
        let object = ObjectFile::of(netloom_test_programs::OBSERVER);
        let attached =
            paused.node.attach(json!({ "device": "d0", "object": object.path(), "owner": "flows" })).unwrap();
        let id = attached.attachment.id;
        let migrating = start(&paused.node, &["attachment", "migrate", &id, "--to", "tc"]);
        paused.wait_until_paused();
        let detaching = paused.waiting(&["detach", &id]);
        paused.go();
        assert_eq!(end(migrating), Ok(()), "step {step}");
        assert_eq!(end(detaching), Ok(()), "step {step}");
        assert_nothing_is_left(&paused.node);
        assert_no_orphans(&paused.node);
        assert_eq!(paused.node.chains("d0"), [], "step {step}");
        let again = paused.node.daemon.delete::<netloom_api::types::Done>(&format!("/v1/attachments/{id}"));
        assert_eq!(refusal(again).0, 404);
        let moves: Vec<PathBuf> = std::fs::read_dir(paused.node.daemon.paths().bpffs.join("moves"))
            .map(|entries| entries.flatten().map(|entry| entry.path()).collect())
            .unwrap_or_default();
        assert_eq!(moves, Vec::<PathBuf>::new(), "step {step}");
    }
}
