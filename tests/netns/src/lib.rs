//! A node for tests: a network namespace with a netloomd of its own, and endpoints on it. The tests are in
//! `tests/node`.

#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::missing_panics_doc,
    reason = "a test fails by panicking"
)]
#![allow(clippy::needless_pass_by_value, reason = "`json!` at the call reads better than `&json!`")]

pub mod applications;
pub mod shown;
mod way;
mod wire;

use std::{
    collections::BTreeMap,
    net::IpAddr,
    path::PathBuf,
    sync::{Mutex, PoisonError},
};

use netloom_api::{
    ClientError,
    types::{AttachAnswer, Chain, Done, EndpointMigrated, EndpointView, Service, Status},
};
use netloom_core::model::Name;
use netloom_test_support::{Daemon, DaemonOptions, Netns, command};
use serde_json::{Value, json};

#[doc(hidden)]
pub use netloom_core::model::{DeviceMode, Feature};
#[doc(hidden)]
pub use netloom_test_support::each_way;

pub use way::Way;
pub use wire::{Met, Wire};

/// A node: a namespace with a netloomd of its own.
pub struct Node {
    /// Its daemon.
    pub daemon: Daemon,
    /// The namespace that is the node.
    pub netns: Netns,
}

impl Node {
    /// The node's own address, as its endpoints know it.
    pub const ADDRESS: &'static str = "192.0.2.1";

    /// A node without configuration.
    pub fn start() -> Self {
        Self::with(DaemonOptions::default())
    }

    /// A node with a configuration.
    pub fn configured(config: &str) -> Self {
        Self::with(DaemonOptions { config: Some(config.to_owned()), ..DaemonOptions::default() })
    }

    /// A node with a daemon started as told.
    pub fn with(options: DaemonOptions) -> Self {
        let netns = Netns::new("node");
        netns.add_address("lo", &format!("{}/32", Self::ADDRESS));
        netns.add_address("lo", "2001:db8::1/128");
        let daemon = Daemon::start(DaemonOptions { node: Some(netns.path()), ..options });
        Self { daemon, netns }
    }

    /// An endpoint with addresses of the pool.
    pub fn endpoint(&self, name: &str) -> Endpoint {
        let netns = Netns::new(name);
        let view =
            self.add(json!({ "name": name, "netns": netns.path() })).expect("an endpoint can be added");
        Endpoint { netns, view }
    }

    /// The same on a pair of this mode, whichever policy would choose.
    pub fn endpoint_on(&self, name: &str, mode: DeviceMode) -> Endpoint {
        let mut endpoint = self.endpoint(name);
        if endpoint.view.endpoint.mode.device != mode {
            let route = format!("/v1/endpoints/{name}/migrate");
            let migrated: Result<EndpointMigrated, _> = self.daemon.post(&route, &json!({ "mode": mode }));
            endpoint.view = migrated.expect("it can be taken to another pair").endpoint;
        }
        endpoint
    }

    /// Asks for an endpoint.
    pub fn add(&self, spec: Value) -> Result<EndpointView, ClientError> {
        self.daemon.post("/v1/endpoints", &spec)
    }

    /// Asks for an endpoint's deletion.
    pub fn delete(&self, name: &str) -> Result<Done, ClientError> {
        self.daemon.delete(&format!("/v1/endpoints/{name}"))
    }

    /// Every endpoint.
    pub fn endpoints(&self) -> Vec<EndpointView> {
        self.daemon.get("/v1/endpoints").expect("endpoints are listed")
    }

    /// The daemon at a glance.
    pub fn status(&self) -> Status {
        self.daemon.status()
    }

    /// Asks for an attachment.
    pub fn attach(&self, request: Value) -> Result<AttachAnswer, ClientError> {
        self.daemon.post("/v1/attachments", &request)
    }

    /// The chains of a device.
    pub fn chains(&self, device: &str) -> Vec<Chain> {
        self.daemon.get(&format!("/v1/chains?device={device}")).expect("chains are listed")
    }

    /// A service with these backends, at an address that no other test's service has: each daemon translates for
    /// all processes of this program of tests, so one would get the other's connections.
    pub fn service(&self, name: &str, vip: &str, protocol: &str, backends: &[String]) -> Service {
        static OWNERS: Mutex<BTreeMap<(String, String), Name>> = Mutex::new(BTreeMap::new());
        let mut owners = OWNERS.lock().unwrap_or_else(PoisonError::into_inner);
        let owner = owners
            .entry((vip.to_owned(), protocol.to_owned()))
            .or_insert_with(|| self.daemon.instance().clone());
        assert_eq!(owner, self.daemon.instance(), "{vip} is another test's: take one that none has");
        drop(owners);
        let body = json!({ "name": name, "vip": vip, "protocol": protocol, "backends": backends });
        self.daemon.post("/v1/services", &body).expect("a service can be added")
    }

    /// What the kernel has under this instance's names: devices, pins. Empty on a clean node.
    pub fn traces(&self) -> Vec<String> {
        let mut traces = Vec::new();
        let shown = self.netns.ip(&["-o", "link", "show"]);
        traces.extend(shown.lines().filter(|line| line.contains(": nl")).map(str::to_owned));
        for folder in ["endpoints", "attachments"] {
            let folder = self.daemon.paths().bpffs.join(folder);
            let entries = std::fs::read_dir(&folder).map(|entries| entries.flatten().collect::<Vec<_>>());
            traces.extend(entries.unwrap_or_default().iter().map(|entry| entry.path().display().to_string()));
        }
        traces
    }
}

/// An endpoint and its namespace.
pub struct Endpoint {
    /// Its namespace.
    pub netns: Netns,
    /// What the daemon said of it.
    pub view: EndpointView,
}

impl Endpoint {
    /// Its IPv4 address.
    pub fn v4(&self) -> IpAddr {
        self.address(IpAddr::is_ipv4)
    }

    /// Its IPv6 address.
    pub fn v6(&self) -> IpAddr {
        self.address(IpAddr::is_ipv6)
    }

    fn address(&self, family: fn(&IpAddr) -> bool) -> IpAddr {
        let addresses = self.view.endpoint.addresses.iter().map(|net| net.addr());
        addresses.into_iter().find(family).expect("the pools have both families")
    }

    /// The node's end of its pair.
    pub fn device(&self) -> &str {
        &self.view.endpoint.host_interface
    }
}

/// An object of `tests/programs`, as a file.
pub struct ObjectFile {
    folder: tempfile::TempDir,
}

impl ObjectFile {
    /// A file with these bytes.
    pub fn of(bytes: &[u8]) -> Self {
        let folder = tempfile::tempdir().expect("a folder can be made");
        std::fs::write(folder.path().join("object.bpf.o"), bytes).expect("a file can be written");
        Self { folder }
    }

    /// Where it is.
    pub fn path(&self) -> PathBuf {
        self.folder.path().join("object.bpf.o")
    }
}

/// A refusal's text and hint.
pub fn refusal<T: std::fmt::Debug>(result: Result<T, ClientError>) -> (u16, String, String) {
    match result {
        Err(ClientError::Refused { status, body }) => {
            (status.as_u16(), body.error, body.hint.unwrap_or_default())
        }
        other => panic!("not refused: {other:?}"),
    }
}

/// The ids of all BPF links of the kernel, as bpftool lists them.
pub fn bpftool_links() -> Vec<u32> {
    let links: Vec<Value> =
        serde_json::from_str(&bpftool(None, &["link", "list"])).expect("bpftool writes JSON");
    links.iter().filter_map(|link| number(&link["id"])).collect()
}

/// What bpftool lists at a place: programs with their links, first to run first.
pub type Listed = Vec<(u32, Option<u32>)>;

/// The chains of this node's devices as `bpftool net` lists them, by the device's index and the kind of place, such as
/// `tcx/ingress`.
pub fn bpftool_chains(node: &Node) -> BTreeMap<(u32, String), Listed> {
    let text = bpftool(Some(&node.netns), &["net", "list"]);
    let lists: Value = serde_json::from_str(&text).expect("bpftool writes JSON");
    let mut chains: BTreeMap<_, Listed> = BTreeMap::new();
    for entry in lists.pointer("/0/tc").and_then(Value::as_array).expect("bpftool lists tc") {
        let place = (number(&entry["ifindex"]), entry["kind"].as_str().map(str::to_owned));
        let program = entry.get("prog_id").or_else(|| entry.get("id")).and_then(number);
        let ((Some(device), Some(kind)), Some(program)) = (place, program) else {
            panic!("bpftool writes something else: {entry}")
        };
        // 0 stands for none.
        let link = entry.get("link_id").and_then(number).filter(|link| *link != 0);
        chains.entry((device, kind)).or_default().push((program, link));
    }
    chains
}

fn number(value: &Value) -> Option<u32> {
    u32::try_from(value.as_u64()?).ok()
}

/// What bpftool says as JSON, in this namespace or here.
fn bpftool(netns: Option<&Netns>, arguments: &[&str]) -> String {
    let run = |arguments: &[&str]| {
        let words = [&["bpftool", "--json"], arguments].concat();
        netns.map_or_else(|| command(&words), |netns| netns.command(&words)).expect_ok()
    };
    let version: Value = serde_json::from_str(&run(&["version"])).expect("bpftool writes JSON");
    let mut parts = version["version"].as_str().expect("a version").split('.').map(str::parse::<u32>);
    let mut part = || parts.next().and_then(Result::ok).unwrap_or_default();
    assert!((part(), part()) >= (7, 3), "this bpftool knows no tcx: `cargo xtask test` brings one that does");
    run(arguments)
}
