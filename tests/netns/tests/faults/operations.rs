//! What is asked of the daemon while its system calls fail.

use std::{collections::BTreeSet, fs, path::PathBuf};

use netloom_api::{
    ClientError,
    types::{Attachment, Done, PluginView},
};
use netloom_netns_tests::{Node, ObjectFile};
use netloom_test_support::{DaemonOptions, Netns};
use serde_json::{Value, json};
use tempfile::NamedTempFile;

/// A device of somebody else, on which ours attach as well.
const OTHERS: &str = "other0";

/// A node with what operations are about, and with what is of others.
pub(crate) struct World {
    pub(crate) node: Node,
    web: Netns,
    object: ObjectFile,
    component: NamedTempFile,
    others: String,
}

/// An operation: what has to be there before, what is asked, and what takes all of it away again.
pub(crate) struct Operation {
    pub(crate) name: &'static str,
    pub(crate) before: &'static [Request],
    pub(crate) asked: Request,
}

pub(crate) type Request = fn(&World) -> Result<(), ClientError>;

/// Those that add or change something; each of the first has its deletion beside it.
pub(crate) const OPERATIONS: &[Operation] = &[
    Operation { name: "adding an endpoint", before: &[], asked: World::add_endpoint },
    Operation { name: "deleting an endpoint", before: &[World::add_endpoint], asked: World::delete_endpoint },
    Operation { name: "changing an endpoint", before: &[World::add_endpoint], asked: World::change_endpoint },
    Operation { name: "creating a device", before: &[], asked: World::create_device },
    Operation { name: "deleting a device", before: &[World::create_device], asked: World::delete_device },
    Operation { name: "attaching a program", before: &[], asked: World::attach },
    Operation { name: "updating a program", before: &[World::attach], asked: World::update },
    Operation { name: "taking a program to legacy tc", before: &[World::attach], asked: World::to_legacy_tc },
    Operation { name: "detaching a program", before: &[World::attach], asked: World::detach },
    Operation { name: "adding a service", before: &[], asked: World::add_service },
    Operation { name: "removing a backend", before: &[World::add_service], asked: World::remove_backend },
    Operation { name: "loading a plugin", before: &[], asked: World::load_plugin },
    Operation { name: "unloading a plugin", before: &[World::load_plugin], asked: World::unload_plugin },
];

impl World {
    pub(crate) fn new() -> Self {
        let config = "[attachments]\nwatch_ms = 0\n[plugins]\ndeadline_ms = 2000\n";
        let node = Node::with(DaemonOptions {
            config: Some(config.to_owned()),
            // Its calls come in the same order each time, or nearly so.
            env: vec![("TOKIO_WORKER_THREADS".to_owned(), "1".to_owned())],
            faulty: true,
            ..DaemonOptions::default()
        });
        node.netns.ip(&["link", "add", OTHERS, "up", "type", "veth", "peer", "name", "other1"]);
        assert!(node.netns.command(&["tc", "qdisc", "add", "dev", OTHERS, "clsact"]).ok());
        let object = ObjectFile::of(netloom_test_programs::OBSERVER);
        let path = object.path().display().to_string();
        let at = ["tc", "filter", "add", "dev", OTHERS, "ingress", "prio", "40000", "handle", "1"];
        let filter =
            [at.as_slice(), &["bpf", "direct-action", "object-file", &path, "section", "tc"]].concat();
        assert!(node.netns.command(&filter).ok());
        let component = NamedTempFile::new().expect("a file can be made");
        fs::write(component.path(), netloom_test_components::CUSTOM_POLICY).expect("a file can be written");
        let mut world = Self { node, web: Netns::new("web"), object, component, others: String::new() };
        world.others = world.of_others();
        world
    }

    /// Whether what is of others is as it was.
    pub(crate) fn check_others(&self) {
        assert_eq!(self.of_others(), self.others);
    }

    fn of_others(&self) -> String {
        let link = self.node.netns.ip(&["-o", "link", "show", OTHERS]);
        let filters =
            self.node.netns.command(&["tc", "filter", "show", "dev", OTHERS, "ingress", "prio", "40000"]);
        link + &filters.expect_ok()
    }

    /// Takes away whatever of the operations is there.
    pub(crate) fn clear(&self) {
        for request in [
            Self::delete_endpoint,
            Self::delete_device,
            Self::detach,
            Self::remove_service,
            Self::unload_plugin,
        ] {
            match request(self) {
                Ok(()) => {}
                Err(ClientError::Refused { status, .. }) if status.as_u16() == 404 => {}
                Err(error) => panic!("{error}"),
            }
        }
    }

    fn delete(&self, route: &str) -> Result<(), ClientError> {
        self.node.daemon.delete::<Done>(route).map(drop)
    }

    fn post(&self, route: &str, body: Value) -> Result<(), ClientError> {
        self.node.daemon.post::<Value>(route, &body).map(drop)
    }

    fn add_endpoint(&self) -> Result<(), ClientError> {
        self.post("/v1/endpoints", json!({ "name": "web", "netns": self.web.path() }))
    }

    fn change_endpoint(&self) -> Result<(), ClientError> {
        self.node.daemon.patch::<Value>("/v1/endpoints/web", &json!({ "mtu": 1400 })).map(drop)
    }

    fn delete_endpoint(&self) -> Result<(), ClientError> {
        self.delete("/v1/endpoints/web")
    }

    fn create_device(&self) -> Result<(), ClientError> {
        let request = json!({
            "name": "pair0", "peer": "pair1", "mode": "veth", "peer_netns": self.web.path(),
            "addresses": ["198.51.100.7/24"],
        });
        self.post("/v1/devices", request)
    }

    fn delete_device(&self) -> Result<(), ClientError> {
        self.delete("/v1/devices/pair0")
    }

    fn object(&self) -> PathBuf {
        self.object.path()
    }

    fn attach(&self) -> Result<(), ClientError> {
        let request = json!({ "device": OTHERS, "owner": "acme/flows", "object": self.object() });
        self.post("/v1/attachments", request)
    }

    /// The route of the only attachment that is no endpoint's.
    fn attachment(&self) -> Result<String, ClientError> {
        let attachments: Vec<Attachment> = self.node.daemon.get("/v1/attachments")?;
        let own = attachments.iter().find(|attachment| attachment.candidate.owner.as_str() == "acme/flows");
        Ok(format!("/v1/attachments/{}", own.map_or("none", |own| own.id.as_str())))
    }

    fn update(&self) -> Result<(), ClientError> {
        self.post(&format!("{}/update", self.attachment()?), json!({ "object": self.object() }))
    }

    fn to_legacy_tc(&self) -> Result<(), ClientError> {
        self.post(&format!("{}/migrate", self.attachment()?), json!({ "to": "tc" }))
    }

    fn detach(&self) -> Result<(), ClientError> {
        self.delete(&self.attachment()?)
    }

    fn add_service(&self) -> Result<(), ClientError> {
        let body = json!({
            "name": "db", "vip": "203.0.113.1:5432", "protocol": "tcp",
            "backends": ["203.0.113.2:5432", "203.0.113.3:5432"],
        });
        self.post("/v1/services", body)
    }

    fn remove_backend(&self) -> Result<(), ClientError> {
        self.node.daemon.delete::<Value>("/v1/services/db/backends/203.0.113.2:5432").map(drop)
    }

    fn remove_service(&self) -> Result<(), ClientError> {
        self.node.daemon.delete::<Value>("/v1/services/db").map(drop)
    }

    fn load_plugin(&self) -> Result<(), ClientError> {
        let body = json!({
            "name": "policy", "path": self.component.path(), "limits": { "init_deadline_ms": 60_000 },
        });
        self.post("/v1/plugins", body)
    }

    fn unload_plugin(&self) -> Result<(), ClientError> {
        self.delete("/v1/plugins/policy")
    }

    /// The components that are kept, and those of plugins.
    pub(crate) fn components(&self) -> (BTreeSet<String>, BTreeSet<String>) {
        let kept = fs::read_dir(self.node.daemon.paths().state.join("plugins")).into_iter().flatten();
        let kept =
            kept.map(|entry| entry.expect("it is a folder").file_name().to_string_lossy().into_owned());
        let plugins: Vec<PluginView> = self.node.daemon.get("/v1/plugins").expect("it answers");
        let loaded = plugins.into_iter().filter(|plugin| plugin.name.as_str() == "policy");
        (kept.collect(), loaded.map(|plugin| format!("{}.wasm", plugin.digest)).collect())
    }
}
