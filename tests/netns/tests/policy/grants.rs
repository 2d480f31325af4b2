//! Plugins that touch the node themselves: what their grants cover is carried out, undone where it fails, and
//! written down; nothing else is.

use std::{
    sync::atomic::{AtomicU8, Ordering},
    time::Duration,
};

use netloom_api::types::{AuditEntry, PluginView, ReapReport};
use serde_json::{Value, json};

use netloom_netns_tests::{Endpoint, Node, ObjectFile, refusal};

use crate::{patient_limits, patient_node};

/// A node with an operating plugin, which carries out the steps of its configuration when a reap is asked about.
struct Operated {
    node: Node,
    folder: tempfile::TempDir,
}

impl Operated {
    fn start() -> Self {
        static STARTED: AtomicU8 = AtomicU8::new(1);
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("operating.wasm"), netloom_test_components::OPERATING).unwrap();
        let node = patient_node();
        let vip = format!("10.96.99.{}:1", STARTED.fetch_add(1, Ordering::Relaxed));
        node.service("probe", &vip, "tcp", &["10.99.0.1:1".to_owned()]);
        Self { node, folder }
    }

    fn load(&self, grants: Value, config: Value) -> Result<PluginView, netloom_api::ClientError> {
        let path = self.folder.path().join("operating.wasm");
        let limits = patient_limits();
        let body = json!({ "name": "operating", "path": path, "grants": grants, "config": config, "limits": limits });
        self.node.daemon.post("/v1/plugins", &body)
    }

    /// What came of each step.
    fn run(&self, grants: &Value, steps: Value) -> Vec<String> {
        self.load(grants.clone(), json!({ "steps": steps })).unwrap();
        self.node.daemon.expect_error("nothing was reaped reason=plugin operating forbade it");
        let ask = json!({ "service": "probe", "backend": "10.99.0.1:1", "dry_run": true });
        let report: ReapReport = self.node.daemon.post("/v1/reap", &ask).unwrap();
        let reason = report.reason.expect("the plugin vetoes");
        let told = reason.strip_prefix("plugin operating forbade it: ").expect("the plugin answers");
        told.split(" | ").map(str::to_owned).collect()
    }

    /// What it did, without what it was told to try again later: the daemon itself may be at work in the namespace.
    fn audit(&self) -> Vec<AuditEntry> {
        let mut trail: Vec<AuditEntry> = self.node.daemon.get("/v1/audit").unwrap();
        trail.retain(|entry| !entry.error.as_ref().is_some_and(|why| why.contains("try again later")));
        trail
    }

    fn own_inode(&self) -> u64 {
        std::os::unix::fs::MetadataExt::ino(&std::fs::metadata(self.node.netns.path()).unwrap())
    }
}

/// Everything, to be narrowed by a test.
fn grants() -> Value {
    json!({
        "devices": { "access": "mutate", "interfaces": ["*"], "namespaces": ["*"] },
        "links": { "access": "mutate", "interfaces": ["*"], "namespaces": ["*"], "owners": ["acme/*"] },
        "sockets": { "access": "mutate", "namespaces": ["*"], "ports": ["*"] },
        "datapath": { "access": "mutate", "endpoints": ["*"], "services": ["*"] },
        "files": { "directories": {} },
    })
}

fn with(mut grants: Value, path: &str, value: Value) -> Value {
    *grants.pointer_mut(path).expect("the grant has this") = value;
    grants
}

fn device(node: &Node, endpoint: &Endpoint) -> (u32, u32) {
    let peer = endpoint.netns.ip(&["-o", "link", "show", "eth0"]);
    let host = node.netns.ip(&["-o", "link", "show", endpoint.device()]);
    let mtu = |line: &str| line.split("mtu ").nth(1).unwrap().split(' ').next().unwrap().parse().unwrap();
    (mtu(&host), mtu(&peer))
}

#[test]
fn a_plugin_without_a_needed_grant_is_not_loaded_and_the_grant_is_named() {
    let it = Operated::start();
    for missing in ["devices", "links", "sockets", "datapath", "files"] {
        let mut grants = grants();
        grants.as_object_mut().unwrap().remove(missing);
        let (status, error, _) = refusal(it.load(grants, json!({})));
        assert_eq!(status, 422, "{error}");
        assert!(error.contains(&format!("without the grant `{missing}`")), "{error}");
    }
    let (status, error, _) =
        refusal(it.load(json!({ "links": { "interfaces": ["*"], "namespaces": ["*"] } }), json!({})));
    assert_eq!(status, 400, "{error}");
    assert!(error.contains("owners"), "a kind of object that is left out is everything: {error}");
    let view = it.load(grants(), json!({})).unwrap();
    let shown = it.node.daemon.netloom(&["plugin", "inspect", "operating"]).expect_ok();
    assert!(shown.contains("links: mutate * in * for acme/*"), "{shown}");
    assert_eq!(view.grants.iter().count(), 5);
}

#[test]
fn devices_are_seen_and_changed_within_the_grant_and_no_further() {
    let it = Operated::start();
    let (web, db) = (it.node.endpoint("web"), it.node.endpoint("db"));
    let own = it.own_inode();
    let scoped = with(grants(), "/devices/interfaces", json!([web.device(), "eth0", "acme0"]));
    let scoped = with(scoped, "/devices/namespaces", json!(["node", "endpoint:web"]));
    let told = it.run(
        &scoped,
        json!([
            { "op": "devices" },
            { "op": "set-mtu", "inode": own, "name": web.device(), "mtu": 1300 },
            { "op": "set-mtu", "inode": own, "name": db.device(), "mtu": 1300 },
            { "op": "set-mtu", "inode": own, "name": web.device(), "mtu": 12 },
            { "op": "set-segmentation", "inode": own, "name": web.device(), "size": 32768 },
            { "op": "open", "inode": own, "name": "acme0" },
            { "op": "open", "inode": 1, "name": "eth0" },
            { "op": "remove", "inode": own, "name": web.device() },
        ]),
    );
    let mut seen: Vec<&str> = told[0].split(',').collect();
    seen.sort_unstable();
    let mut wanted = vec![web.device(), "eth0"];
    wanted.sort_unstable();
    assert_eq!(seen, wanted);
    assert_eq!(told[1], "done");
    assert_eq!(device(&it.node, &web), (1_300, 1_300), "both ends");
    assert!(told[2].contains("Denied"), "{told:?}");
    assert!(told[3].contains("mtu") || told[3].contains("MTU"), "{told:?}");
    assert_eq!(device(&it.node, &db), (1_500, 1_500));
    assert_eq!(told[4], "done");
    assert!(told[5].contains("NotFound"), "{told:?}");
    assert!(told[6].contains("NotFound"), "{told:?}");
    assert!(told[7].contains("was not created by plugin operating"), "{told:?}");

    let trail: Vec<_> = it.audit().into_iter().map(|e| (e.operation, e.outcome)).collect();
    let wanted = [
        ("devices.set-mtu", "done"),
        ("devices.open", "denied"),
        ("devices.set-mtu", "failed"),
        ("devices.set-segmentation", "done"),
        ("devices.remove", "failed"),
    ];
    assert_eq!(trail, wanted.map(|(operation, outcome)| (operation.to_owned(), outcome.to_owned())));
    let shown = it.node.daemon.netloom(&["plugin", "audit", "operating"]).expect_ok();
    assert!(shown.contains("devices.open") && shown.contains("denied"), "{shown}");
    let metrics = it.node.daemon.netloom(&["metrics"]).expect_ok();
    assert!(
        metrics.contains(
            r#"plugin_operations_total{plugin="operating",operation="devices.open",outcome="denied"} 1"#
        ),
        "{metrics}"
    );
}

#[test]
fn reading_is_not_changing() {
    let it = Operated::start();
    let web = it.node.endpoint("web");
    let own = it.own_inode();
    let read = |grants, name: &str| with(grants, &format!("/{name}/access"), json!("read"));
    let grants = ["devices", "links", "sockets", "datapath"].into_iter().fold(grants(), read);
    let told = it.run(
        &grants,
        json!([
            { "op": "open", "inode": own, "name": web.device() },
            { "op": "query", "inode": own, "name": web.device() },
            { "op": "set-mtu", "inode": own, "name": web.device(), "mtu": 1300 },
            { "op": "create", "inode": own, "name": "acme0", "peer": "acme1" },
            { "op": "attach", "inode": own, "name": web.device(), "program": "count", "owner": "acme/count" },
            { "op": "destroy", "backends": ["10.0.0.1:80"] },
            { "op": "add-backend", "name": "probe", "address": "10.99.0.2:1" },
        ]),
    );
    assert!(told[0].starts_with(web.device()), "{told:?}");
    assert_eq!(told[1], "netloom/datapath");
    for refused in &told[2..] {
        assert!(refused.contains("Denied") || refused.is_empty(), "{told:?}");
        assert!(!refused.contains("done"), "{told:?}");
    }
    assert_eq!(device(&it.node, &web), (1_500, 1_500));
}

#[test]
fn a_pair_of_its_own_is_made_and_removed_and_goes_with_the_node() {
    let it = Operated::start();
    let web = it.node.endpoint("web");
    let own = it.own_inode();
    let inside = web.view.endpoint.netns.inode;
    let told = it.run(
        &grants(),
        json!([
            { "op": "create", "inode": inside, "name": "acme0", "peer": "acme1" },
            { "op": "create", "inode": inside, "name": "acme0", "peer": "acme2" },
            { "op": "create", "inode": inside, "name": "acme3", "peer": "eth0" },
            { "op": "create", "inode": own, "name": "acme4", "peer": "acme5" },
            { "op": "set-mtu", "inode": own, "name": "acme0", "mtu": 1350 },
            { "op": "open", "inode": inside, "name": "acme1" },
        ]),
    );
    assert_eq!(told[0], "acme0");
    assert!(told[1].contains("already"), "{told:?}");
    assert!(told[2].contains("eth0"), "{told:?}");
    assert!(told[3].contains("another namespace"), "{told:?}");
    assert_eq!(told[4], "done");
    assert!(told[5].starts_with("acme1 mtu 1350"), "{told:?}");
    let shown = it.node.netns.ip(&["-o", "link", "show"]);
    assert!(!shown.contains("acme3"), "a pair that could not be made whole is left: {shown}");

    let removed = it.run(&grants(), json!([{ "op": "remove", "inode": own, "name": "acme0" }, { "op": "remove", "inode": own, "name": "acme0" }]));
    assert_eq!(removed[0], "done");
    assert!(removed[1].contains("NotFound"), "{removed:?}");
    assert!(!it.node.netns.ip(&["-o", "link", "show"]).contains("acme0"));
}

#[test]
fn both_ends_of_a_pair_with_equal_indexes_are_changed_while_packets_go_through_it() {
    let it = Operated::start();
    let web = it.node.endpoint("web");
    let own = it.own_inode();
    // As a plugin's pair may be: an index is chosen by chance.
    let alias = format!("netloom-{}: plugin operating", it.node.daemon.instance());
    let inside = web.netns.name();
    let pair = format!("link add acme0 index 4242 type veth peer name acme1 index 4242 netns {inside}");
    it.node.netns.ip(&pair.split(' ').collect::<Vec<_>>());
    for (netns, device) in [(&it.node.netns, "acme0"), (&web.netns, "acme1")] {
        netns.ip(&["link", "set", device, "alias", &alias]);
        assert!(netns.ip(&["-o", "link", "show", device]).starts_with("4242:"));
    }
    for (netns, device, address) in
        [(&it.node.netns, "acme0", "10.8.0.1/24"), (&web.netns, "acme1", "10.8.0.2/24")]
    {
        netns.add_address(device, address);
        netns.ip(&["link", "set", device, "up"]);
    }
    let receiver = it.node.netns.count_datagrams("10.8.0.1:7000");
    let sender = web.netns.send_datagrams(receiver.address(), Duration::from_micros(50));
    let mtus = [1_350, 1_400].repeat(4);
    let changes: Vec<Value> = mtus
        .iter()
        .map(|mtu| json!({ "op": "set-mtu", "inode": own, "name": "acme0", "mtu": mtu }))
        .collect();
    let told = it.run(&grants(), json!(changes));
    assert_eq!(told, vec!["done"; mtus.len()]);
    assert!(sender.sent() > 0);
    drop(sender);
    for (netns, device) in [(&it.node.netns, "acme0"), (&web.netns, "acme1")] {
        let shown = netns.ip(&["link", "show", device]);
        assert!(shown.contains(" mtu 1400 "), "{shown}");
    }
    it.node.netns.ip(&["link", "delete", "acme0"]);
}

#[test]
fn programs_are_attached_updated_and_detached_for_granted_owners() {
    let it = Operated::start();
    let web = it.node.endpoint("web");
    let own = it.own_inode();
    let (pass, other) =
        (ObjectFile::of(netloom_test_programs::PASS), ObjectFile::of(netloom_test_programs::PASS));
    let mut grants = grants();
    grants["links"]["programs"] =
        json!({ "pass": { "object": pass.path() }, "other": { "object": other.path() } });
    let attach = |program: &str, owner: &str, stale: bool| json!({ "op": "attach", "inode": own, "name": web.device(), "program": program, "owner": owner, "stale": stale });
    let told = it.run(
        &grants,
        json!([
            attach("pass", "acme/count", false),
            attach("pass", "other/count", false),
            attach("pass", "netloom/datapath", false),
            attach("unknown", "acme/count", false),
            attach("pass", "acme/count", true),
            { "op": "query", "inode": own, "name": web.device() },
        ]),
    );
    let id = told[0].clone();
    assert!(id.starts_with("acme-count-"), "{told:?}");
    assert!(
        told[1].contains("Denied") && told[2].contains("Denied") && told[3].contains("Denied"),
        "{told:?}"
    );
    assert!(told[4].contains("Stale"), "{told:?}");
    assert_eq!(told[5], "acme/count,netloom/datapath");
    let status = it.node.status();
    let record = status.attachments.iter().find(|attachment| attachment.id == id).unwrap().clone();
    assert_eq!(record.decided_by, "operating");

    let datapath = status.attachments.iter().find(|attachment| attachment.id != id).unwrap().id.clone();
    let told = it.run(
        &grants,
        json!([
            { "op": "update", "id": id, "program": "other" },
            { "op": "detach", "id": datapath },
            { "op": "update", "id": "acme-count-999", "program": "other" },
        ]),
    );
    assert_eq!(told[0], "done");
    assert!(told[1].contains("Denied"), "{told:?}");
    assert!(told[2].contains("NotFound"), "{told:?}");
    let updated = it.node.status().attachments.into_iter().find(|attachment| attachment.id == id).unwrap();
    assert_ne!(updated.program, record.program);
    assert_eq!(updated.link, record.link, "in place");

    let told = it.run(&grants, json!([{ "op": "detach", "id": id }, { "op": "detach", "id": id }]));
    assert_eq!(told[0], "done");
    assert!(told[1].contains("NotFound"), "{told:?}");
}

#[test]
fn sockets_are_found_and_destroyed_within_the_grant_as_the_kernel_has_them() {
    let it = Operated::start();
    let server = it.node.endpoint("server");
    let (one, two) = (it.node.endpoint("one"), it.node.endpoint("two"));
    let echo = server.netns.tcp_echo(&format!("{}:8080", server.v4()));
    let backend = echo.address();
    it.node.service("web", "10.96.1.1:80", "tcp", &[backend.to_string()]);
    let mut lives = one.netns.connect_tcp("10.96.1.1:80".parse().unwrap());
    let mut dies = two.netns.connect_tcp("10.96.1.1:80".parse().unwrap());

    let scoped = with(grants(), "/sockets/namespaces", json!(["endpoint:two"]));
    let told = it.run(
        &scoped,
        json!([{ "op": "sockets" }, { "op": "destroy", "backends": [backend], "forge": true }]),
    );
    assert_eq!(told, ["two", "changed"]);
    assert_eq!(dies.exchange("alive"), "alive", "a forged tuple destroyed a socket");
    let other_port = with(scoped.clone(), "/sockets/ports", json!(["1-79"]));
    assert_eq!(it.run(&other_port, json!([{ "op": "sockets" }])), [""]);
    assert_eq!(it.run(&scoped, json!([{ "op": "destroy", "backends": [backend] }])), ["destroyed"]);
    assert!(dies.try_exchange("more").is_err());
    assert_eq!(lives.exchange("alive"), "alive");
}

#[test]
fn the_datapath_and_directories_are_scoped_too() {
    let it = Operated::start();
    it.node.endpoint("web");
    it.node.endpoint("db");
    it.node.service("shop", "10.96.2.1:80", "tcp", &["10.0.0.1:80".to_owned()]);
    let data = tempfile::tempdir().unwrap();
    std::fs::write(data.path().join("seen"), "before").unwrap();
    let scoped = with(grants(), "/datapath/endpoints", json!(["web"]));
    let scoped = with(scoped, "/datapath/services", json!(["sh*"]));
    let scoped =
        with(scoped, "/files/directories", json!({ "data": { "path": data.path(), "access": "mutate" } }));
    let told = it.run(
        &scoped,
        json!([
            { "op": "endpoints" },
            { "op": "counters", "name": "web" },
            { "op": "counters", "name": "db" },
            { "op": "services" },
            { "op": "add-backend", "name": "shop", "address": "10.0.0.2:81" },
            { "op": "remove-backend", "name": "shop", "address": "10.0.0.1:80" },
            { "op": "backends", "name": "shop" },
            { "op": "backends", "name": "probe" },
            { "op": "entries" },
            { "op": "read", "path": "seen" },
            { "op": "write", "path": "left", "text": "after" },
            { "op": "read", "path": "../../../etc/hostname" },
        ]),
    );
    assert_eq!(told[0], "web");
    assert!(told[1].ends_with("sent") && told[2].contains("Denied"), "{told:?}");
    assert_eq!(told[3..7], ["shop", "done", "done", "81"]);
    assert!(told[7].contains("Denied"), "{told:?}");
    // The backend it removes is reaped, for which it is asked as well, and does all of this then, at the same time.
    assert!(told[8].starts_with("data:") && told[8].contains("seen"), "{told:?}");
    assert_eq!(told[9..11], ["before", "done"]);
    assert!(!told[11].is_empty() && !told[11].contains("done"), "{told:?}");
    assert_eq!(std::fs::read_to_string(data.path().join("left")).unwrap(), "after");
}

#[test]
fn a_plugin_that_acts_where_the_host_waits_for_it_is_told_so_and_nobody_hangs() {
    let it = Operated::start();
    let web = it.node.endpoint("web");
    let own = it.own_inode();
    let object = ObjectFile::of(netloom_test_programs::PASS);
    let mut grants = grants();
    grants["links"]["programs"] = json!({ "pass": { "object": object.path() } });
    let steps = json!([
        { "op": "attach", "inode": own, "name": web.device(), "program": "pass", "owner": "acme/count" },
    ]);
    it.load(grants, json!({ "steps": steps, "in_place": true })).unwrap();
    let body = json!({ "device": web.device(), "object": object.path(), "owner": "acme/outer" });
    let (_, error, _) = refusal(it.node.attach(body));
    assert!(error.contains("is being changed at this moment"), "{error}");
    assert_eq!(it.node.status().attachments.len(), 2, "the endpoint's own two");
}

#[test]
fn handles_cannot_be_hoarded() {
    let it = Operated::start();
    it.node.daemon.expect_error("a plugin failed; the others go on plugin=operating why=\"trapped");
    let web = it.node.endpoint("web");
    let steps = json!([{ "op": "hoard", "inode": it.own_inode(), "name": web.device() }]);
    it.load(grants(), json!({ "steps": steps })).unwrap();
    let ask = json!({ "service": "probe", "backend": "10.99.0.1:1", "dry_run": true });
    let report: ReapReport = it.node.daemon.post("/v1/reap", &ask).unwrap();
    assert_eq!(report.decided_by.as_deref(), Some("socket-reap"), "{report:?}");
    let view: PluginView = it.node.daemon.get("/v1/plugins/operating").unwrap();
    assert_eq!(view.failures, 1, "{view:?}");
}
