use std::{
    any::Any,
    net::{IpAddr, SocketAddr},
    process::{Child, Command, Stdio},
};

use anyhow::Context as _;
use netloom_core::model::{Capabilities, DeviceMode, Protocol};
use netloom_roundtrips::nodes::{Node, modes, route_between, wire};
use netloom_test_support::Netns;
use tokio::runtime::Runtime;

use crate::traffic::{Client, Traffic};

/// A way of joining a client to a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Setup {
    /// Both on the host, over `lo`.
    Loopback,
    /// Both on hosts of their own, over a wire.
    Hosts,
    /// Two endpoints.
    Endpoints(Kind, Where),
    /// Two endpoints on one node, the server's address a service's.
    Service(DeviceMode),
}

/// How an endpoint is joined to its node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// As CNI's `bridge` plugin does it: a veth in a bridge that has the gateway's address.
    Bridge,
    /// As CNI's `ptp` plugin does it: a veth and a route.
    Route,
    /// By Netloom.
    Netloom(DeviceMode),
}

/// Where the two endpoints are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Where {
    SameNode,
    /// On two nodes, joined by a wire.
    Wire,
}

/// A path that is there as long as this is.
pub(crate) struct Path {
    pub(crate) client: Netns,
    server: Option<Netns>,
    listen: IpAddr,
    /// Where the client connects to, if it is not where the server listens.
    service: Option<SocketAddr>,
    _nodes: Box<dyn Any>,
}

const PORT: u16 = 7000;
const VIP: &str = "198.18.0.1:80";

impl Setup {
    /// All that this kernel can do.
    pub(crate) fn all(capabilities: &Capabilities) -> Vec<Self> {
        let modes = modes(capabilities);
        let kinds = [Kind::Bridge, Kind::Route].into_iter().chain(modes.iter().copied().map(Kind::Netloom));
        let kinds: Vec<Kind> = kinds.collect();
        let mut all = vec![Self::Loopback];
        all.extend(kinds.iter().map(|kind| Self::Endpoints(*kind, Where::SameNode)));
        all.push(Self::Hosts);
        all.extend(kinds.iter().map(|kind| Self::Endpoints(*kind, Where::Wire)));
        all.extend(modes.last().map(|mode| Self::Service(*mode)));
        all
    }

    /// The name, as in the figures.
    pub(crate) fn name(self) -> String {
        let kind = |kind| match kind {
            Kind::Bridge => "bridge".to_owned(),
            Kind::Route => "route".to_owned(),
            Kind::Netloom(mode) => mode.as_str().replace('-', "_"),
        };
        match self {
            Self::Loopback => "loopback".to_owned(),
            Self::Hosts => "host_to_host".to_owned(),
            Self::Endpoints(of, Where::SameNode) => format!("same_node_{}", kind(of)),
            Self::Endpoints(of, Where::Wire) => format!("wire_{}", kind(of)),
            Self::Service(_) => "service".to_owned(),
        }
    }

    /// Makes it.
    pub(crate) fn build(self, runtime: &Runtime, capabilities: &Capabilities) -> Path {
        match self {
            Self::Loopback => Path::within(Netns::new("host"), IpAddr::from([127, 0, 0, 1])),
            Self::Hosts => {
                let (near, far) = (Netns::new("near"), Netns::new("far"));
                wire(&near, &far);
                Path::between(near, far, FAR_HOST, ())
            }
            Self::Endpoints(Kind::Netloom(mode), Where::SameNode) => {
                let mut node = Node::new("node", capabilities);
                let client = node.endpoint(runtime, mode, &[CLIENT]).netns;
                let server = node.endpoint(runtime, mode, &[SERVER]).netns;
                Path::between(client, server, SERVER, node)
            }
            Self::Endpoints(Kind::Netloom(mode), Where::Wire) => {
                let (mut near, mut far) = (Node::new("near", capabilities), Node::new("far", capabilities));
                wire(&near.netns, &far.netns);
                let client = near.endpoint(runtime, mode, &[CLIENT]).netns;
                let server = far.endpoint(runtime, mode, &[FAR_SERVER]).netns;
                route_between(&near.netns, &far.netns);
                near.uplink(runtime, "wire");
                far.uplink(runtime, "wire");
                Path::between(client, server, FAR_SERVER, (near, far))
            }
            Self::Endpoints(kind, Where::SameNode) => {
                let node = Netns::new("node");
                let client = stock(&node, kind, CLIENT, "vetha");
                let server = stock(&node, kind, SERVER, "vethb");
                Path::between(client, server, SERVER, node)
            }
            Self::Endpoints(kind, Where::Wire) => {
                let (near, far) = (Netns::new("near"), Netns::new("far"));
                wire(&near, &far);
                let client = stock(&near, kind, CLIENT, "vetha");
                let server = stock(&far, kind, FAR_SERVER, "vetha");
                route_between(&near, &far);
                Path::between(client, server, FAR_SERVER, (near, far))
            }
            Self::Service(mode) => {
                let mut node = Node::new("node", capabilities);
                let client = node.endpoint(runtime, mode, &[CLIENT]).netns;
                let server = node.endpoint(runtime, mode, &[SERVER]).netns;
                let vip = VIP.parse().expect("an address");
                node.service(vip, Protocol::Tcp, SocketAddr::new(SERVER, PORT));
                Path { service: Some(vip), ..Path::between(client, server, SERVER, node) }
            }
        }
    }
}

const FAR_HOST: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(198, 51, 100, 2));
const CLIENT: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(10, 1, 1, 2));
const SERVER: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(10, 1, 1, 3));
const FAR_SERVER: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(10, 1, 2, 3));

impl Path {
    fn within(netns: Netns, listen: IpAddr) -> Self {
        Self { client: netns, server: None, listen, service: None, _nodes: Box::new(()) }
    }

    fn between(client: Netns, server: Netns, listen: IpAddr, nodes: impl Any) -> Self {
        Self { client, server: Some(server), listen, service: None, _nodes: Box::new(nodes) }
    }

    /// Starts the server, which ends with the value.
    pub(crate) fn serve(&self, traffic: Traffic) -> anyhow::Result<Server> {
        let program = std::env::current_exe().context("finding this program")?;
        let netns = self.server.as_ref().unwrap_or(&self.client);
        let address = SocketAddr::new(self.listen, PORT).to_string();
        let mut command = Command::new(program);
        command.args(["serve", &traffic.name(), &address]).stdin(Stdio::null()).stdout(Stdio::null());
        // A child is born in the namespace of the thread that starts it.
        Ok(Server(netns.run(|| command.spawn()).context("starting the server")?))
    }

    /// A client of the server.
    pub(crate) fn connect(&self, traffic: Traffic) -> anyhow::Result<Client> {
        let address = match self.service {
            Some(service) if traffic != Traffic::UdpRr => service,
            _ => SocketAddr::new(self.listen, PORT),
        };
        self.client.run(|| traffic.client(address))
    }
}

/// A server, while it runs.
pub(crate) struct Server(Child);

impl Drop for Server {
    fn drop(&mut self) {
        // It has no state, and may have failed already.
        drop(self.0.kill().and_then(|()| self.0.wait()));
    }
}

/// An endpoint as a stock CNI plugin makes it.
fn stock(node: &Netns, kind: Kind, address: IpAddr, name: &str) -> Netns {
    let endpoint = Netns::new("endpoint");
    let inside = ["type", "veth", "peer", "name", "eth0", "netns", endpoint.name()];
    node.ip(&[&["link", "add", name][..], &inside].concat());
    node.ip(&["link", "set", name, "up"]);
    assert!(node.command(&["sh", "-c", "echo 1 >/proc/sys/net/ipv4/ip_forward"]).ok());
    endpoint.ip(&["link", "set", "eth0", "up"]);
    let octets = address.to_string();
    let gateway = octets.rsplit_once('.').map(|(net, _)| format!("{net}.1")).expect("an IPv4 address");
    if kind == Kind::Bridge {
        // It is there already for the second endpoint.
        if !node.command(&["ip", "link", "show", "cni0"]).ok() {
            node.ip(&["link", "add", "cni0", "type", "bridge"]);
            node.ip(&["link", "set", "cni0", "up"]);
            node.add_address("cni0", &format!("{gateway}/24"));
        }
        node.ip(&["link", "set", name, "master", "cni0"]);
        endpoint.add_address("eth0", &format!("{address}/24"));
        endpoint.ip(&["route", "add", "default", "via", &gateway]);
    } else {
        node.add_address(name, &format!("{gateway}/32"));
        node.ip(&["route", "add", &format!("{address}/32"), "dev", name]);
        endpoint.add_address("eth0", &format!("{address}/32"));
        endpoint.ip(&["route", "add", &gateway, "dev", "eth0", "scope", "link"]);
        endpoint.ip(&["route", "add", "default", "via", &gateway]);
    }
    endpoint
}
