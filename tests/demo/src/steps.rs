//! The steps. Each does something through the daemon's API, and then looks at what the kernel and the
//! applications say of it.

use std::{
    io,
    net::{IpAddr, SocketAddr},
    time::{Duration, Instant},
};

use anyhow::{Context as _, bail, ensure};
use netloom_api::types::{
    AttachAnswer, Attachment, Chain, Done, EndpointView, Fate, PluginView, ReapReport, Service, Status,
};
use netloom_core::model::Owner;
use netloom_kernel::{links, programs::Program};
use netloom_test_support::{BlockedReader, Daemon, Netns, command};
use serde_json::{Value, json};
use tempfile::TempDir;

/// A program that only looks: `tests/programs/observer.bpf.c`.
const OBSERVER: &str = "observer.bpf.o";
/// A program that plays a firewall, and like a good one leaves what it lets through to those behind it, the datapath
/// among them: `tests/programs/observer.bpf.c`.
const FIREWALL: &str = "firewall.bpf.o";
/// The plugin: `examples/custom-policy`.
const PLUGIN: &str = "custom-policy.wasm";
const VIP: &str = "10.96.0.10:80";
const SPARED_VIP: &str = "10.96.0.11:80";
/// A reap is done within milliseconds; an emulated machine under load takes longer.
const PATIENCE: Duration = Duration::from_secs(20);

/// What the steps share.
pub(crate) struct Stage {
    files: TempDir,
    pub(crate) daemon: Daemon,
    client: Netns,
    server: Netns,
    endpoints: Vec<EndpointView>,
}

impl Stage {
    pub(crate) fn new(daemon: Daemon) -> anyhow::Result<Self> {
        let files = tempfile::tempdir().context("no folder can be made")?;
        for (name, bytes) in [
            (OBSERVER, netloom_test_programs::OBSERVER),
            (FIREWALL, netloom_test_programs::OBSERVER),
            (PLUGIN, netloom_test_components::CUSTOM_POLICY),
        ] {
            std::fs::write(files.path().join(name), bytes)
                .with_context(|| format!("{name} cannot be written"))?;
        }
        Ok(Self {
            files,
            daemon,
            client: Netns::new("client"),
            server: Netns::new("server"),
            endpoints: Vec::new(),
        })
    }

    /// The device mode the endpoints got.
    pub(crate) fn mode(&self) -> String {
        self.endpoints.first().map_or_else(String::new, |view| view.endpoint.mode.device.to_string())
    }

    pub(crate) fn endpoints(&mut self) -> anyhow::Result<Value> {
        let mut seen = Vec::new();
        for (name, netns) in [("client", &self.client), ("server", &self.server)] {
            let body = json!({ "name": name, "netns": netns.path() });
            let view: EndpointView = self.daemon.post("/v1/endpoints", &body)?;
            let endpoint = &view.endpoint;
            let shown = command(&["ip", "-o", "-d", "link", "show", &endpoint.host_interface]).expect_ok();
            let kind = if endpoint.mode.device.is_netkit() { "netkit" } else { "veth" };
            ensure!(shown.contains(kind), "the kernel shows no {kind} device: {shown}");
            let addresses: Vec<String> =
                endpoint.addresses.iter().map(|net| net.addr().to_string()).collect();
            seen.push(format!(
                "{name}: {} {} in {}, mode {} decided by {}",
                endpoint.host_interface,
                addresses.join(" "),
                netns.name(),
                endpoint.mode.device,
                endpoint.decided_by
            ));
            self.endpoints.push(view);
        }
        Ok(json!({ "endpoints": seen, "mode": self.mode() }))
    }

    pub(crate) fn ping(&self) -> anyhow::Result<Value> {
        let mut reached = Vec::new();
        let before = self.view("server")?.counters;
        for address in self.addresses("server")? {
            ensure!(self.client.can_ping(address), "the client does not reach {address}");
            reached.push(address.to_string());
        }
        let after = self.view("server")?.counters;
        let (received, sent) =
            (after.received_packets - before.received_packets, after.sent_packets - before.sent_packets);
        let expected = u64::try_from(reached.len())?;
        ensure!(
            received >= expected && sent >= expected,
            "the datapath counted {received} packets to the server and {sent} from it"
        );
        Ok(json!({ "reached": reached, "packets through the datapath": received + sent }))
    }

    pub(crate) fn order(&self) -> anyhow::Result<Value> {
        let answer = self.attach(OBSERVER, "acme/observer", &[("role", "observer")])?;
        let kernel = self.kernel_order(&answer.chain)?;
        ensure!(
            kernel.first() == Some(&answer.attachment.program.0),
            "the observer is not in front: {kernel:?}"
        );
        let seen_before = self.observed(&answer.attachment)?;
        let server = self.address("server")?;
        ensure!(self.client.can_ping(server), "the client does not reach {server}");
        let seen = self.observed(&answer.attachment)? - seen_before;
        ensure!(seen > 0, "the observer saw no packet");
        Ok(json!({
            "decided by": answer.decided_by,
            "the kernel's chain": names(&answer.chain),
            "at": answer.chain.hook.to_string(),
            "packets observed": seen,
        }))
    }

    pub(crate) fn service(&self) -> anyhow::Result<Value> {
        let backend = SocketAddr::new(self.address("server")?, 8080);
        let _echo = self.server.tcp_echo(&backend.to_string());
        self.add_service("web", VIP, backend)?;
        let vip: SocketAddr = VIP.parse()?;
        let mut connection = self.client.connect_tcp(vip);
        ensure!(connection.exchange("hello") == "hello", "the backend does not answer");
        let peer = connection.peer();
        ensure!(peer == vip, "getpeername gives {peer}");
        let sockets: Vec<Value> = self.daemon.get("/v1/sockets")?;
        let bound = sockets.iter().any(|socket| socket.get("backend") == Some(&json!(backend)));
        ensure!(bound, "the connection is not bound to {backend}: {sockets:?}");
        self.remove_service("web")?;
        Ok(json!({ "connected to": VIP, "landed on": backend, "getpeername": peer }))
    }

    pub(crate) fn reap(&self) -> anyhow::Result<Value> {
        let server = self.address("server")?;
        // Not the backend of the step before, whose reap may still look for stragglers.
        let (backend, other) = (SocketAddr::new(server, 8083), SocketAddr::new(server, 9090));
        let _echo = self.server.tcp_echo(&backend.to_string());
        let _unrelated_echo = self.server.tcp_echo(&other.to_string());
        self.add_service("web", VIP, backend)?;
        let mut stale = self.client.connect_tcp(VIP.parse()?);
        stale.exchange("hello");
        let stale = stale.blocked_reader();
        let mut unrelated = self.client.connect_tcp(other);
        unrelated.exchange("hello");

        let start = Instant::now();
        let report: ReapReport = self.daemon.delete(&format!("/v1/services/web/backends/{backend}"))?;
        let error = aborted(&stale)?;
        let noticed = start.elapsed();
        let destroyed = report.sockets.iter().filter(|socket| socket.fate == Fate::Destroyed).count();
        ensure!(destroyed == 1, "{destroyed} sockets were destroyed: {report:?}");
        ensure!(unrelated.exchange("still here") == "still here", "the unrelated connection broke");
        self.remove_service("web")?;
        Ok(json!({
            "decided by": report.decided_by,
            "the application got": error,
            "after": format!("{:.1} ms", noticed.as_secs_f64() * 1e3),
            "found by": report.finder,
            "found in": format!("{} us", report.find_us),
            "the unrelated connection": "lives",
        }))
    }

    pub(crate) fn custom_plugin(&self) -> anyhow::Result<Value> {
        let before = self.attach(FIREWALL, "acme/firewall", &[])?;
        self.detach(&before.attachment)?;
        let place_before = place(&before)?;
        ensure!(place_before > 0, "without the plugin the firewall is in front of the observer");

        let body = json!({
            "name": "custom-policy",
            "path": self.files.path().join(PLUGIN),
            "config": { "first": "acme/firewall", "spare_ports": [8082] },
        });
        let plugin: PluginView = self.daemon.post("/v1/plugins", &body)?;
        let after = self.attach(FIREWALL, "acme/firewall", &[])?;
        let place_after = place(&after)?;
        let kernel = self.kernel_order(&after.chain)?;
        ensure!(place_after == 0, "with the plugin the firewall is number {place_after} in the chain");
        ensure!(kernel.first() == Some(&after.attachment.program.0), "the kernel's order is {kernel:?}");
        ensure!(after.decided_by == "custom-policy", "{} decided", after.decided_by);

        let sparing = self.spare()?;
        let _: Done = self.daemon.delete("/v1/plugins/custom-policy")?;
        self.detach(&after.attachment)?;
        Ok(json!({
            "loaded": format!("{} for {}", plugin.name, plugin.hooks.join(", ")),
            "acme/firewall without it": format!("number {} in the chain, by {}", place_before + 1, before.decided_by),
            "acme/firewall with it": format!("number {} in the chain, by {}", place_after + 1, after.decided_by),
            "sockets": sparing,
        }))
    }

    /// Two backends go; the plugin spares the sockets of one of them.
    fn spare(&self) -> anyhow::Result<String> {
        let server = self.address("server")?;
        let (doomed_backend, spared_backend) = (SocketAddr::new(server, 8081), SocketAddr::new(server, 8082));
        let _echoes =
            [doomed_backend, spared_backend].map(|address| self.server.tcp_echo(&address.to_string()));
        self.add_service("doomed", VIP, doomed_backend)?;
        self.add_service("spared", SPARED_VIP, spared_backend)?;
        let mut doomed = self.client.connect_tcp(VIP.parse()?);
        doomed.exchange("hello");
        let doomed = doomed.blocked_reader();
        let mut spared = self.client.connect_tcp(SPARED_VIP.parse()?);
        spared.exchange("hello");

        self.remove_service("doomed")?;
        let report = self.remove_service("spared")?;
        let error = aborted(&doomed)?;
        let was_spared = report.sockets.iter().any(|socket| socket.fate == Fate::Spared);
        ensure!(was_spared, "the plugin did not spare the socket: {report:?}");
        ensure!(spared.exchange("still here") == "still here", "the spared connection broke");
        Ok(format!("port 8081 {error}, port 8082 spared and alive"))
    }

    pub(crate) fn restart(&mut self) -> anyhow::Result<Value> {
        let before: Status = self.daemon.status();
        let receiver =
            self.server.count_datagrams(&SocketAddr::new(self.address("server")?, 7000).to_string());
        let sender = self.client.send_datagrams(receiver.address(), Duration::from_micros(500));
        wait_for(|| receiver.arrived() > 50).context("no datagram arrives before the daemon is killed")?;
        self.daemon.kill9();
        let while_down = receiver.arrived();
        wait_for(|| receiver.arrived() > while_down + 50).context("the datapath stopped with the daemon")?;
        self.daemon.restart();
        let after_restart = receiver.arrived();
        wait_for(|| receiver.arrived() > after_restart + 50).context("the new daemon broke the datapath")?;
        let arrivals = receiver.compare(sender.stop(), PATIENCE);
        ensure!(arrivals.lost == 0 && arrivals.duplicated == 0, "{arrivals:?}");

        let after: Status = self.daemon.status();
        let links = |status: &Status| {
            status.attachments.iter().map(|each| (each.id.clone(), each.link)).collect::<Vec<_>>()
        };
        ensure!(
            links(&before) == links(&after),
            "the links changed: {:?} and {:?}",
            links(&before),
            links(&after)
        );
        ensure!(
            after.adoption.endpoints == before.endpoints.len()
                && after.adoption.attachments == before.attachments.len()
                && after.adoption.reattached == 0
                && after.adoption.dropped.is_empty(),
            "it did not adopt everything: {:?}",
            after.adoption
        );
        Ok(json!({
            "datagrams": arrivals.sent,
            "lost": arrivals.lost,
            "duplicated": arrivals.duplicated,
            "adopted": format!("{} endpoints, {} attachments", after.adoption.endpoints, after.adoption.attachments),
        }))
    }

    /// Removes everything, and looks for what might be left.
    pub(crate) fn cleanup(self) -> anyhow::Result<Value> {
        let paths = self.daemon.paths();
        let devices: Vec<String> =
            self.endpoints.iter().map(|view| view.endpoint.host_interface.clone()).collect();
        let namespaces = [self.client.name().to_owned(), self.server.name().to_owned()];
        let links: Vec<u32> = match self.daemon.get::<Status>("/v1/status") {
            Ok(status) => {
                let attached = status.attachments.iter().filter_map(|each| each.link).map(|link| link.0);
                attached.chain(status.socket_lb_links.iter().copied()).collect()
            }
            Err(_) => Vec::new(),
        };
        drop(self);

        for path in [&paths.run, &paths.state, &paths.bpffs] {
            ensure!(!path.exists(), "{} is left", path.display());
        }
        let shown = command(&["ip", "-o", "link", "show"]).expect_ok();
        let left: Vec<_> = devices.iter().filter(|device| shown.contains(device.as_str())).collect();
        ensure!(left.is_empty(), "devices are left: {left:?}");
        let shown = command(&["ip", "netns", "list"]).expect_ok();
        let left: Vec<_> = namespaces.iter().filter(|name| shown.contains(name.as_str())).collect();
        ensure!(left.is_empty(), "namespaces are left: {left:?}");
        // The kernel frees links a moment after their last user.
        let gone = |id: &u32| links::Link::from_id(netloom_core::model::LinkId(*id)).is_err();
        wait_for(|| links.iter().all(gone)).context("BPF links are left")?;
        Ok(json!({ "left behind": "nothing", "links gone": links.len(), "devices gone": devices.len() }))
    }

    fn view(&self, name: &str) -> anyhow::Result<EndpointView> {
        Ok(self.daemon.get(&format!("/v1/endpoints/{name}"))?)
    }

    fn addresses(&self, name: &str) -> anyhow::Result<Vec<IpAddr>> {
        let view = self.endpoints.iter().find(|view| view.endpoint.spec.name.as_str() == name);
        let view = view.with_context(|| format!("there is no endpoint {name}"))?;
        Ok(view.endpoint.addresses.iter().map(|net| net.addr()).collect())
    }

    fn address(&self, name: &str) -> anyhow::Result<IpAddr> {
        self.addresses(name)?.into_iter().find(IpAddr::is_ipv4).context("the endpoint has no IPv4 address")
    }

    fn attach(&self, object: &str, owner: &str, labels: &[(&str, &str)]) -> anyhow::Result<AttachAnswer> {
        let labels: serde_json::Map<String, Value> =
            labels.iter().map(|(key, value)| ((*key).to_owned(), json!(value))).collect();
        let from = self.datapath_point("client")?;
        let body = json!({
            "device": "", "endpoint": "client", "point": from, "object": self.files.path().join(object), "owner": owner, "labels": labels,
        });
        Ok(self.daemon.post("/v1/attachments", &body)?)
    }

    /// Where the datapath of what an endpoint sends is.
    fn datapath_point(&self, name: &str) -> anyhow::Result<Value> {
        let attachments: Vec<Attachment> = self.daemon.get("/v1/attachments")?;
        let from = attachments
            .into_iter()
            .find(|each| each.id == format!("{name}:from") && each.candidate.owner == Owner::datapath());
        Ok(json!(from.context("the endpoint has no datapath")?.hook.point))
    }

    fn detach(&self, attachment: &Attachment) -> anyhow::Result<()> {
        let _: Done = self.daemon.delete(&format!("/v1/attachments/{}", attachment.id))?;
        Ok(())
    }

    fn add_service(&self, name: &str, vip: &str, backend: SocketAddr) -> anyhow::Result<()> {
        let body = json!({ "name": name, "vip": vip, "protocol": "tcp", "backends": [backend] });
        let _: Service = self.daemon.post("/v1/services", &body)?;
        Ok(())
    }

    fn remove_service(&self, name: &str) -> anyhow::Result<ReapReport> {
        Ok(self.daemon.delete(&format!("/v1/services/{name}"))?)
    }

    /// The order that the kernel itself gives, without the daemon.
    fn kernel_order(&self, chain: &Chain) -> anyhow::Result<Vec<u32>> {
        let netns = netloom_kernel::netns::Netns::current()?;
        let kernel = links::query(&chain.hook, &netns)?;
        Ok(kernel.entries.iter().map(|entry| entry.program.0).collect())
    }

    /// How many packets the observer's map has.
    fn observed(&self, attachment: &Attachment) -> anyhow::Result<u64> {
        let program = Program::from_id(attachment.program)?;
        let map = program.maps().first().context("the observer has no map")?.to_string();
        let dump = command(&["bpftool", "--json", "map", "dump", "id", &map]).expect_ok();
        let dump: Value = serde_json::from_str(&dump).context("bpftool's answer is no JSON")?;
        let values = dump.pointer("/0/formatted/values").and_then(Value::as_array);
        let values = values.with_context(|| format!("the observer's map is odd: {dump}"))?;
        Ok(values.iter().filter_map(|cpu| cpu.pointer("/value/packets").and_then(Value::as_u64)).sum())
    }
}

fn names(chain: &Chain) -> Vec<String> {
    let show = |entry: &netloom_core::model::ChainEntry| match &entry.owner {
        Some(owner) => format!("{} ({owner})", entry.name),
        None => format!("{} (foreign)", entry.name),
    };
    chain.entries.iter().map(show).collect()
}

fn place(answer: &AttachAnswer) -> anyhow::Result<usize> {
    let entries = &answer.chain.entries;
    entries
        .iter()
        .position(|entry| entry.attachment.as_ref() == Some(&answer.attachment.id))
        .context("the program is not in the chain it was attached to")
}

fn aborted(reader: &BlockedReader) -> anyhow::Result<&'static str> {
    match reader.end_within(PATIENCE) {
        Some(Err(error)) if error.kind() == io::ErrorKind::ConnectionAborted => Ok("ECONNABORTED"),
        Some(other) => bail!("the application got {other:?} instead of ECONNABORTED"),
        None => bail!("the application still waits"),
    }
}

fn wait_for(mut condition: impl FnMut() -> bool) -> anyhow::Result<()> {
    let start = Instant::now();
    while !condition() {
        ensure!(start.elapsed() < PATIENCE, "it did not come to pass within {PATIENCE:?}");
        std::thread::sleep(Duration::from_millis(2));
    }
    Ok(())
}
