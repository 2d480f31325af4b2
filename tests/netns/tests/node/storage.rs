//! The disk under netloomd fills up, is mounted read-only, or gives back less than was written.

use std::{
    fs::{self, File},
    io::Write as _,
    path::{Path, PathBuf},
    process,
    sync::atomic::{AtomicU32, Ordering},
    time::{Duration, Instant},
};

use netloom_api::{
    Paths,
    types::{Doctor, Event, EventKind, Finding, Name, StoreCheck},
};
use netloom_netns_tests::{Node, refusal};
use netloom_test_support::{DaemonOptions, Output, at_this_pace, binary, command};
use serde_json::json;

/// What the log says when the disk refuses.
const BROKEN: &str = "the store is broken: changes are refused";

/// A small file system of its own for an instance's state.
struct SmallDisk {
    instance: Name,
    state: PathBuf,
}

impl SmallDisk {
    fn new() -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let instance = Name::new(format!("nlt-{}-disk{number}", process::id())).unwrap();
        let state = Paths::of(Some(&instance)).state;
        fs::create_dir_all(&state).unwrap();
        mount(&["-t", "tmpfs", "-o", "size=6m,mode=0700", "none"], &state);
        Self { instance, state }
    }

    /// A node whose state is on it.
    fn node(&self) -> Node {
        Node::with(DaemonOptions { instance: Some(self.instance.clone()), ..DaemonOptions::default() })
    }

    fn store(&self) -> PathBuf {
        self.state.join("store.redb")
    }

    fn fill(&self) {
        let mut file = File::create(self.state.join("filler")).unwrap();
        while file.write_all(&[1; 4096]).is_ok() {}
    }

    fn free(&self) {
        fs::remove_file(self.state.join("filler")).unwrap();
    }

    fn remount(&self, how: &str) {
        mount(&["-o", &format!("remount,{how}")], &self.state);
    }

    /// Leaves what it holds in the folder below, so that the daemon's clean-up finds it there.
    fn give_back(&self, node: &mut Node) {
        if node.daemon.pid().is_some() {
            node.daemon.stop();
        }
        let kept = tempfile::tempdir().unwrap();
        let copy = |from: &Path, to: &Path| {
            drop(command(&["cp", "-a", &format!("{}/.", from.display()), to.to_str().unwrap()]).expect_ok());
        };
        copy(&self.state, kept.path());
        unmount(&self.state);
        copy(kept.path(), &self.state);
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        if std::thread::panicking() {
            drop(command(&["umount", "--lazy", self.state.to_str().unwrap()]));
            drop(fs::remove_dir(&self.state));
        }
    }
}

fn mount(words: &[&str], at: &Path) {
    drop(command(&[&["mount"], words, &[at.to_str().unwrap()]].concat()).expect_ok());
}

fn unmount(at: &Path) {
    drop(command(&["umount", at.to_str().unwrap()]).expect_ok());
}

fn findings(node: &Node) -> Vec<Finding> {
    let doctor: Doctor = node.daemon.get("/v1/doctor").unwrap();
    doctor
        .findings
        .into_iter()
        .filter(|finding| finding.subject == "store" && finding.severity == "error")
        .collect()
}

fn events(node: &Node, kind: EventKind) -> usize {
    let events: Vec<Event> = node.daemon.get("/v1/events").unwrap();
    events.iter().filter(|event| event.kind == kind).count()
}

fn writable(node: &Node) -> bool {
    let metrics = node.daemon.text("/metrics").unwrap();
    let value = metrics.lines().find_map(|line| line.strip_prefix("netloom_store_writable "));
    value.expect("the metric is there") == "1"
}

/// Tries to add one service after another, until the disk is full: how many were added, and the refusal.
fn add_services_until_refused(node: &Node) -> (usize, (u16, String, String)) {
    for number in 0..500 {
        let vip = format!("10.95.{}.{}:80", number / 250, number % 250 + 1);
        let service = json!({ "name": format!("s{number}"), "vip": vip, "protocol": "tcp", "backends": ["10.0.0.1:80"] });
        let added = node.daemon.post::<serde_json::Value>("/v1/services", &service);
        if added.is_err() {
            return (number, refusal(added));
        }
    }
    panic!("500 services fit onto a full disk");
}

#[test]
fn a_full_disk_refuses_changes_before_the_kernel_is_touched_and_heals_by_itself() {
    let disk = SmallDisk::new();
    let mut node = disk.node();
    let web = node.endpoint("web");
    let traces = node.traces();
    assert!(writable(&node) && findings(&node).is_empty());

    node.daemon.expect_error(BROKEN);
    disk.fill();
    let (added, (status, error, hint)) = add_services_until_refused(&node);
    assert_eq!(status, 507, "{error}");
    assert!(error.contains(disk.store().to_str().unwrap()) && error.contains("No space left"), "{error}");
    assert!(hint.contains("make room"), "{hint}");

    // Nothing of what is refused is left, and nothing of what is there suffers.
    let netns = netloom_test_support::Netns::new("late");
    let refused = refusal(node.add(json!({ "name": "late", "netns": netns.path() })));
    assert_eq!(refused.0, 507, "{refused:?}");
    let refused = refusal(node.delete("web"));
    assert_eq!(refused.0, 507, "{refused:?}");
    assert_eq!(node.traces(), traces);
    assert!(!netns.ip(&["-o", "link"]).contains("eth0"));
    assert!(web.netns.can_ping(Node::ADDRESS.parse::<std::net::IpAddr>().unwrap()));
    let known = node.status();
    assert_eq!((known.endpoints.len(), known.services.len()), (1, added), "reads go on");

    let trouble = known.store.trouble.expect("the status says so");
    assert!(trouble.message.contains("No space left"), "{trouble:?}");
    let found = findings(&node);
    assert!(found[0].message.contains("No space left") && found[0].hint.contains("make room"), "{found:?}");
    assert!(!node.daemon.netloom(&["doctor"]).ok(), "an error for scripts");
    let shown = node.daemon.netloom(&["status"]).stdout;
    assert!(shown.contains("No space left"), "{shown}");
    assert!(!writable(&node));
    assert!(events(&node, EventKind::StoreBroken) > 0);
    assert!(node.daemon.log().contains("the store is broken"), "{}", node.daemon.log());

    disk.free();
    let patience = Instant::now() + at_this_pace(Duration::from_secs(30));
    while !findings(&node).is_empty() {
        assert!(Instant::now() < patience, "the store does not heal: {:?}", findings(&node));
        std::thread::sleep(Duration::from_millis(20));
    }
    assert!(writable(&node) && node.status().store.trouble.is_none());
    assert!(events(&node, EventKind::StoreHealed) > 0);
    let late = node.endpoint("later");
    assert!(late.netns.can_ping(web.v4()));

    // What is on the disk is what was answered with success.
    node.daemon.kill9();
    node.daemon.restart();
    let status = node.status();
    assert_eq!((status.adoption.endpoints, status.services.len()), (2, added), "{:?}", status.adoption);
    assert!(status.adoption.dropped.is_empty(), "{:?}", status.adoption);
    disk.give_back(&mut node);
}

#[test]
fn a_change_works_again_at_once_when_there_is_room() {
    let disk = SmallDisk::new();
    let mut node = disk.node();
    node.daemon.expect_error(BROKEN);
    for _ in 0..3 {
        disk.fill();
        let (added, refused) = add_services_until_refused(&node);
        assert_eq!(refused.0, 507, "{refused:?}");
        disk.free();
        for number in 0..added {
            node.daemon.delete::<serde_json::Value>(&format!("/v1/services/s{number}")).unwrap();
        }
        node.service("again", "10.97.0.1:80", "tcp", &[]);
        node.daemon.delete::<serde_json::Value>("/v1/services/again").unwrap();
    }
    disk.give_back(&mut node);
}

/// A start that fails.
fn start(node: &Node) -> Output {
    let netns = format!("--net={}", node.netns.path().display());
    let netloomd = binary("netloomd");
    command(&[
        "nsenter",
        &netns,
        "--",
        netloomd.to_str().unwrap(),
        "--instance",
        node.daemon.instance().as_str(),
    ])
}

#[test]
fn a_store_that_cannot_be_used_at_a_start_is_named_with_the_way_out_and_nothing_is_touched() {
    let disk = SmallDisk::new();
    let mut node = disk.node();
    let web = node.endpoint("web");
    let traces = node.traces();
    node.daemon.stop();
    let whole = fs::read(disk.store()).unwrap();

    disk.remount("ro");
    let refused = start(&node);
    disk.remount("rw");
    assert!(!refused.ok());
    assert!(refused.stderr.contains(disk.store().to_str().unwrap()), "{}", refused.stderr);
    assert!(
        refused.stderr.contains("Read-only") && refused.stderr.contains("read-write"),
        "{}",
        refused.stderr
    );

    for length in [0, 1, 100, 4096, whole.len() / 2, whole.len() - 1] {
        fs::write(disk.store(), &whole[..length]).unwrap();
        let refused = start(&node);
        assert!(!refused.ok(), "{length} bytes are taken for a store");
        assert!(!refused.stderr.contains("panicked"), "{length} bytes: {}", refused.stderr);
        for part in [disk.store().to_str().unwrap(), "netloom store restore"] {
            assert!(refused.stderr.contains(part), "{length} bytes: {part} is not in: {}", refused.stderr);
        }
        assert_eq!(fs::metadata(disk.store()).unwrap().len(), length as u64, "the file stays as it is");
        assert_eq!(node.traces(), traces, "{length} bytes");
    }

    fs::write(disk.store(), &whole).unwrap();
    node.daemon.restart();
    assert_eq!(node.status().adoption.endpoints, 1);
    assert!(web.netns.can_ping(Node::ADDRESS.parse::<std::net::IpAddr>().unwrap()));
    disk.give_back(&mut node);
}

fn netloom(node: &Node, words: &[&str]) -> Output {
    node.daemon.netloom(words)
}

#[test]
fn a_backup_of_the_running_daemon_is_put_back_when_it_does_not_run() {
    let mut node = Node::start();
    let web = node.endpoint("web");
    node.service("shop", "10.96.0.10:80", "tcp", &["10.0.0.1:80".to_owned()]);
    let folder = tempfile::tempdir().unwrap();
    let backup = folder.path().join("netloom.backup");
    let path = backup.to_str().unwrap();
    let written = netloom(&node, &["store", "backup", path]);
    assert!(written.ok(), "{}", written.stderr);
    let again = netloom(&node, &["store", "backup", path]);
    assert!(!again.ok() && again.stderr.contains("new file"), "{}", again.stderr);
    let checked = netloom(&node, &["store", "check"]);
    assert!(checked.ok(), "{}", checked.stdout);
    assert!(checked.stdout.contains("1 services") && checked.stdout.contains("none"), "{}", checked.stdout);

    let refused = netloom(&node, &["store", "restore", path]);
    let pid = node.daemon.pid().unwrap().to_string();
    assert!(!refused.ok() && refused.stderr.contains(&pid), "{}", refused.stderr);

    drop(node.daemon.delete::<serde_json::Value>("/v1/services/shop").unwrap());
    node.daemon.stop();
    let store = node.daemon.paths().state.join("store.redb");
    let present = fs::read(&store).unwrap();
    let whole = fs::read(&backup).unwrap();
    let bad = folder.path().join("bad");
    for contents in [&whole[..whole.len() / 2], b"no backup"] {
        fs::write(&bad, contents).unwrap();
        let refused = netloom(&node, &["store", "restore", bad.to_str().unwrap()]);
        assert!(!refused.ok() && refused.stderr.contains(bad.to_str().unwrap()), "{}", refused.stderr);
        assert_eq!(fs::read(&store).unwrap(), present, "the store stays as it is");
    }
    let restored = netloom(&node, &["store", "restore", path]);
    assert!(
        restored.ok() && restored.stdout.contains("before-restore"),
        "{}{}",
        restored.stdout,
        restored.stderr
    );
    node.daemon.restart();
    let status = node.status();
    assert_eq!((status.adoption.endpoints, status.services.len()), (1, 1), "{:?}", status.adoption);
    assert!(web.netns.can_ping(Node::ADDRESS.parse::<std::net::IpAddr>().unwrap()));
}

/// Records of a kind, as a check counts them.
fn records(node: &Node, kind: &str) -> usize {
    let check: StoreCheck = node.daemon.get("/v1/store/check").unwrap();
    assert!(check.problems.is_empty(), "{:?}", check.problems);
    check.records.get(kind).copied().unwrap_or_default()
}

fn commits(node: &Node) -> u64 {
    let metrics = node.daemon.text("/metrics").unwrap();
    let value = metrics.lines().find_map(|line| line.strip_prefix("netloom_store_commits_total "));
    value.expect("the metric is there").parse().unwrap()
}

#[test]
fn a_backend_that_goes_and_the_reap_that_is_due_are_one_change() {
    let node = Node::start();
    node.service("shop", "10.96.0.11:80", "tcp", &["10.0.0.1:80".to_owned(), "10.0.0.2:80".to_owned()]);
    for route in ["/v1/services/shop/backends/10.0.0.1:80", "/v1/services/shop"] {
        let before = commits(&node);
        drop(node.daemon.delete::<serde_json::Value>(route).unwrap());
        let patience = Instant::now() + at_this_pace(Duration::from_secs(60));
        while records(&node, "reaps") > 0 {
            assert!(Instant::now() < patience, "the reap stays due");
            std::thread::sleep(Duration::from_millis(20));
        }
        // One that takes it away and makes the reap due, one when that is done.
        assert_eq!(commits(&node) - before, 2, "{route}");
    }
}

#[test]
fn a_damaged_component_is_told_and_made_anew_from_where_it_was_loaded() {
    let mut node = Node::configured("[plugins]\ndeadline_ms = 2000\n");
    let folder = tempfile::tempdir().unwrap();
    let source = folder.path().join("policy.wasm");
    fs::write(&source, netloom_test_components::CUSTOM_POLICY).unwrap();
    let load = json!({ "path": source, "limits": { "init_deadline_ms": 60_000 } });
    let loaded: serde_json::Value = node.daemon.post("/v1/plugins", &load).unwrap();
    let digest = loaded["digest"].as_str().unwrap();
    let copy = node.daemon.paths().state.join("plugins").join(format!("{digest}.wasm"));
    let copies = |node: &Node| fs::read_dir(node.daemon.paths().state.join("plugins")).unwrap().count();
    assert_eq!(copies(&node), 1);
    let plugin_findings = |node: &Node| {
        let doctor: Doctor = node.daemon.get("/v1/doctor").unwrap();
        doctor.findings.into_iter().filter(|finding| finding.subject == "plugin policy").collect::<Vec<_>>()
    };
    assert_eq!(plugin_findings(&node), []);

    let mut bytes = fs::read(&copy).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(&copy, &bytes).unwrap();
    let found = plugin_findings(&node);
    assert_eq!(found.len(), 1);
    assert_eq!(found[0].severity, "error");
    assert!(found[0].message.contains(copy.to_str().unwrap()), "{found:?}");
    assert!(!netloom(&node, &["store", "check"]).ok());

    node.daemon.stop();
    node.daemon.restart();
    assert_eq!(plugin_findings(&node), []);
    assert_eq!(fs::read(&copy).unwrap(), netloom_test_components::CUSTOM_POLICY);

    fs::write(&copy, &bytes).unwrap();
    fs::write(&source, "another version").unwrap();
    node.daemon.expect_error("a plugin of before was not loaded plugin=\"policy\"");
    node.daemon.stop();
    node.daemon.restart();
    let plugins: Vec<serde_json::Value> = node.daemon.get("/v1/plugins").unwrap();
    assert!(plugins.iter().all(|plugin| plugin["name"] != "policy"), "a changed component runs");
    assert_eq!(plugin_findings(&node).len(), 1);

    fs::write(&source, netloom_test_components::CUSTOM_POLICY).unwrap();
    node.daemon.stop();
    node.daemon.restart();
    assert_eq!(plugin_findings(&node), []);
    drop(node.daemon.delete::<serde_json::Value>("/v1/plugins/policy").unwrap());
    assert_eq!(copies(&node), 0, "nobody refers to it any more");
}

#[test]
fn folders_of_others_are_refused() {
    let mut node = Node::start();
    node.daemon.stop();
    let paths = node.daemon.paths();
    for folder in [&paths.run, &paths.state, &paths.bpffs] {
        let path = folder.to_str().unwrap();
        for (spoil, mend, said) in
            [(["chown", "1000"], ["chown", "0"], "user 1000"), (["chmod", "1777"], ["chmod", "0700"], "1777")]
        {
            drop(command(&[&spoil[..], &[path]].concat()).expect_ok());
            let refused = start(&node);
            drop(command(&[&mend[..], &[path]].concat()).expect_ok());
            assert!(!refused.ok(), "{path} after {spoil:?}");
            assert!(refused.stderr.contains(path) && refused.stderr.contains(said), "{}", refused.stderr);
        }
    }
    node.daemon.restart();
}

#[test]
fn of_daemons_that_start_in_the_same_moment_one_wins_and_the_others_name_it() {
    const DAEMONS: usize = 4;
    let mut node = Node::start();
    node.daemon.stop();
    let netns = format!("--net={}", node.netns.path().display());
    for _ in 0..3 {
        let start = || {
            process::Command::new("nsenter")
                .args([&netns, "--"])
                .arg(binary("netloomd"))
                .args(["--instance", node.daemon.instance().as_str()])
                .stdin(process::Stdio::null())
                .stdout(process::Stdio::null())
                .stderr(process::Stdio::piped())
                .spawn()
                .unwrap()
        };
        let mut started: Vec<process::Child> = (0..DAEMONS).map(|_| start()).collect();
        let patience = Instant::now() + at_this_pace(Duration::from_secs(60));
        let mut lost = Vec::new();
        while lost.len() < DAEMONS - 1 {
            assert!(Instant::now() < patience, "{} of {DAEMONS} go on", started.len());
            for index in (0..started.len()).rev() {
                if started[index].try_wait().unwrap().is_some() {
                    lost.push(started.remove(index).wait_with_output().unwrap());
                }
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        let mut winner = started.pop().expect("one goes on");
        for output in lost {
            let said = String::from_utf8_lossy(&output.stderr).into_owned();
            assert!(!output.status.success());
            assert!(said.contains(&format!("process {})", winner.id())), "not {}: {said}", winner.id());
        }
        winner.kill().and_then(|()| winner.wait()).unwrap();
    }
    node.daemon.restart();
}
