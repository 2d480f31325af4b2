//! Every path of a packet, in every pair of device modes and both families, with every protocol, and what each end
//! counted of it. Prints a matrix.
#![allow(clippy::expect_used, clippy::indexing_slicing, clippy::panic, clippy::unwrap_used, missing_docs)]

use std::{
    collections::BTreeMap,
    fmt::Write as _,
    io::{Read, Write as _},
    net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket},
    sync::atomic::{AtomicU16, Ordering},
    thread,
    time::Duration,
};

use netloom_core::model::{DeviceMode, Protocol};
use netloom_roundtrips::nodes::{Endpoint, Node, modes, route_between, wire};
use netloom_test_support::{Netns, until};
use tokio::runtime::{Builder, Runtime};

/// Two nodes on a wire. The near one has two endpoints of each mode, the far one has one.
struct World {
    near: Node,
    far: Node,
    clients: Vec<Endpoint>,
    servers: Vec<Endpoint>,
    far_servers: Vec<Endpoint>,
}

fn runtime() -> Runtime {
    Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap()
}

fn addresses(node: u8, number: u8) -> [IpAddr; 2] {
    [format!("10.1.{node}.{number}").parse().unwrap(), format!("fd00:{node}::{number}").parse().unwrap()]
}

impl World {
    fn new(runtime: &Runtime) -> Self {
        let _inside = runtime.enter();
        let capabilities = runtime.block_on(netloom_kernel::capabilities::probe());
        let (mut near, mut far) = (Node::new("near", &capabilities), Node::new("far", &capabilities));
        wire(&near.netns, &far.netns);
        let modes = modes(&capabilities);
        let all = |node: &mut Node, net, first| -> Vec<Endpoint> {
            let numbered = modes.iter().zip(first..);
            numbered.map(|(mode, number)| node.endpoint(runtime, *mode, &addresses(net, number))).collect()
        };
        let clients = all(&mut near, 1, 10);
        let servers = all(&mut near, 1, 20);
        let far_servers = all(&mut far, 2, 10);
        route_between(&near.netns, &far.netns);
        near.uplink(runtime, "wire");
        far.uplink(runtime, "wire");
        Self { near, far, clients, servers, far_servers }
    }
}

type Attempt = fn(&Path<'_>) -> Result<(), String>;

/// What is tried on each path.
const TRIED: [(&str, Attempt); 6] = [
    ("icmp", |path| path.ping()),
    ("tcp", |path| path.stream()),
    ("udp 1", |path| path.datagram(1)),
    ("udp mtu", |path| path.datagram(path.largest(1500))),
    ("udp mtu+1", |path| path.datagram(path.largest(1500) + 1)),
    ("udp 8000", |path| path.datagram(8000)),
];

struct Path<'a> {
    from: &'a Netns,
    to: &'a Netns,
    /// The server's.
    address: IpAddr,
    /// The node whose service the client goes to.
    through: Option<&'a Node>,
}

impl Path<'_> {
    /// The payload of a datagram that just fits into a packet.
    const fn largest(&self, mtu: usize) -> usize {
        mtu - 8 - if self.address.is_ipv4() { 20 } else { 40 }
    }

    fn fresh(&self) -> SocketAddr {
        static PORT: AtomicU16 = AtomicU16::new(20_000);
        SocketAddr::new(self.address, PORT.fetch_add(1, Ordering::Relaxed))
    }

    /// Where the client goes to reach the server.
    fn dialled(&self, protocol: Protocol, server: SocketAddr) -> SocketAddr {
        let Some(node) = self.through else { return server };
        let vip = if server.is_ipv4() { "10.96.40.1" } else { "fd00:96::1" };
        let vip = SocketAddr::new(vip.parse().unwrap(), 80);
        node.service(vip, protocol, server);
        vip
    }

    fn ping(&self) -> Result<(), String> {
        if self.from.can_ping(self.address) { Ok(()) } else { Err("no answer".into()) }
    }

    /// A stream arrives as it was sent, both ways.
    fn stream(&self) -> Result<(), String> {
        let address = self.fresh();
        let data: Vec<u8> = (0..400_000_u32).map(|i| (i % 251) as u8).collect();
        let listener = self.to.run(|| TcpListener::bind(address)).map_err(|e| format!("bind: {e}"))?;
        let server = thread::spawn(move || {
            let (mut stream, _) = listener.accept()?;
            stream.set_read_timeout(Some(Duration::from_secs(10)))?;
            let mut got = vec![0; 400_000];
            stream.read_exact(&mut got)?;
            stream.write_all(&got)
        });
        let dialled = self.dialled(Protocol::Tcp, address);
        let exchange = || {
            let mut stream = TcpStream::connect_timeout(&dialled, Duration::from_secs(10))?;
            stream.set_read_timeout(Some(Duration::from_secs(10)))?;
            stream.write_all(&data)?;
            let mut back = Vec::new();
            stream.read_to_end(&mut back)?;
            Ok::<_, std::io::Error>(back)
        };
        let back = self.from.run(exchange).map_err(|error| error.to_string())?;
        server.join().unwrap().map_err(|error| format!("server: {error}"))?;
        if back == data { Ok(()) } else { Err("other bytes came back".into()) }
    }

    /// A datagram of this size goes there and back.
    fn datagram(&self, size: usize) -> Result<(), String> {
        let address = self.fresh();
        let server = self.to.run(|| UdpSocket::bind(address)).map_err(|e| format!("bind: {e}"))?;
        server.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
        let server = thread::spawn(move || {
            let mut buffer = vec![0; 65_536];
            let (length, from) = server.recv_from(&mut buffer)?;
            server.send_to(buffer.get(..length).unwrap(), from)
        });
        let dialled = self.dialled(Protocol::Udp, address);
        let exchange = || {
            let socket = UdpSocket::bind((if address.is_ipv4() { "0.0.0.0" } else { "::" }, 0))?;
            socket.connect(dialled)?;
            socket.set_read_timeout(Some(Duration::from_secs(5)))?;
            socket.send(&vec![7; size])?;
            let mut buffer = vec![0; 65_536];
            socket.recv(&mut buffer)
        };
        let length = self.from.run(exchange).map_err(|error| error.to_string());
        server.join().unwrap().map_err(|error| format!("server: {error}"))?;
        let length = length?;
        if length == size { Ok(()) } else { Err(format!("{length} bytes of {size}")) }
    }
}

/// Lines of results, and what failed.
#[derive(Default)]
struct Matrix {
    lines: String,
    failures: Vec<String>,
}

impl Matrix {
    fn add(&mut self, name: &str, path: &Path<'_>) {
        write!(self.lines, "{name:46}").unwrap();
        for (what, attempt) in TRIED {
            match attempt(path) {
                Ok(()) => write!(self.lines, " {what:>9}").unwrap(),
                Err(error) => {
                    write!(self.lines, " {:>9}", "FAILED").unwrap();
                    self.failures.push(format!("{name}, {what}: {error}"));
                }
            }
        }
        self.lines.push('\n');
    }

    fn finish(self) {
        println!("{}", self.lines);
        assert!(self.failures.is_empty(), "{}\n{}", self.lines, self.failures.join("\n"));
    }
}

const FAMILIES: [&str; 2] = ["v4", "v6"];

#[test]
fn every_path_in_every_mode() {
    let runtime = runtime();
    let world = World::new(&runtime);
    let mut matrix = Matrix::default();
    let of_near: [IpAddr; 2] = ["198.51.100.1".parse().unwrap(), "2001:db8:1::1".parse().unwrap()];
    let of_far: [IpAddr; 2] = ["198.51.100.2".parse().unwrap(), "2001:db8:1::2".parse().unwrap()];
    for (family, name) in FAMILIES.iter().enumerate() {
        let address = |endpoint: &Endpoint| *endpoint.addresses.get(family).unwrap();
        for client in &world.clients {
            let mode = client.mode;
            let mut add = |what: &str, from: &Netns, to: &Netns, address: IpAddr| {
                matrix.add(&format!("{name} {what}"), &Path { from, to, address, through: None });
            };
            for server in &world.servers {
                let what = format!("{mode} to {} on the node", server.mode);
                add(&what, &client.netns, &server.netns, address(server));
            }
            for server in &world.far_servers {
                let what = format!("{mode} to {} on another node", server.mode);
                add(&what, &client.netns, &server.netns, address(server));
            }
            let itself = address(client);
            let node = *of_near.get(family).unwrap();
            let outside = *of_far.get(family).unwrap();
            add(&format!("{mode} to the node"), &client.netns, &world.near.netns, node);
            add(&format!("the node to {mode}"), &world.near.netns, &client.netns, itself);
            add(&format!("{mode} to outside"), &client.netns, &world.far.netns, outside);
            add(&format!("outside to {mode}"), &world.far.netns, &client.netns, itself);
            add(&format!("{mode} to itself"), &client.netns, &client.netns, itself);
            for (to, server, address) in [
                ("itself", client, itself),
                ("the node", &world.servers[0], address(&world.servers[0])),
                ("another node", &world.far_servers[0], address(&world.far_servers[0])),
            ] {
                let through = Some(&world.near);
                let path = Path { from: &client.netns, to: &server.netns, address, through };
                matrix.add(&format!("{name} {mode} through a service to {to}"), &path);
            }
        }
    }
    matrix.finish();
}

/// How many packets the node's stack forwarded.
fn forwarded(node: &Netns) -> u64 {
    let read = || {
        let v4 = std::fs::read_to_string("/proc/thread-self/net/snmp").unwrap();
        let mut lines = v4.lines().filter(|line| line.starts_with("Ip:"));
        let (names, values) = (lines.next().unwrap(), lines.next().unwrap());
        let v4 = names.split(' ').zip(values.split(' ')).find(|(name, _)| *name == "ForwDatagrams");
        let v6 = std::fs::read_to_string("/proc/thread-self/net/snmp6").unwrap_or_default();
        let v6 = v6.lines().find_map(|line| line.strip_prefix("Ip6OutForwDatagrams"));
        [v4.map(|(_, value)| value), v6]
            .into_iter()
            .flatten()
            .map(|value| value.trim().parse::<u64>().unwrap())
            .sum()
    };
    node.run(read)
}

#[test]
fn nothing_between_endpoints_passes_a_nodes_stack() {
    let runtime = runtime();
    let world = World::new(&runtime);
    for client in &world.clients {
        for server in world.servers.iter().chain(&world.far_servers) {
            for address in &server.addresses {
                let path = Path { from: &client.netns, to: &server.netns, address: *address, through: None };
                // The first packet of all waits for the next hop's hardware address.
                path.ping().unwrap();
                let before = (forwarded(&world.near.netns), forwarded(&world.far.netns));
                path.stream().unwrap();
                path.datagram(8000).unwrap();
                let after = (forwarded(&world.near.netns), forwarded(&world.far.netns));
                assert_eq!(before, after, "{} to {} at {address}", client.mode, server.mode);
            }
        }
    }
}

#[test]
fn both_ends_count_what_their_devices_count() {
    let runtime = runtime();
    let world = World::new(&runtime);
    for client in &world.clients {
        let local = world.servers.iter().map(|server| (&world.near, server));
        let far = world.far_servers.iter().map(|server| (&world.far, server));
        for (node, server) in local.chain(far) {
            for address in &server.addresses {
                let path = Path { from: &client.netns, to: &server.netns, address: *address, through: None };
                path.ping().unwrap();
                let look = || [world.near.traffic(client), node.traffic(server)];
                let before = look();
                path.stream().unwrap();
                path.datagram(1).unwrap();
                path.datagram(8000).unwrap();
                let line = format!("{} to {} at {address}", client.mode, server.mode);
                // The last acknowledgements may be under way, and counted by one and not yet by the other.
                let counted = || {
                    let after = look();
                    let since = |end: usize| [0, 1].map(|by: usize| after[end][by].since(before[end][by]));
                    (&line, [since(0), since(1)])
                };
                until(counted, |(_, ends)| {
                    ends.iter()
                        .all(|[ours, device]| ours == device && ours.sent[0] > 0 && ours.received[0] > 0)
                });
            }
        }
    }
}

#[test]
fn a_narrower_wire_is_told_to_the_sender() {
    let runtime = runtime();
    let world = World::new(&runtime);
    for node in [&world.near, &world.far] {
        node.netns.ip(&["link", "set", "wire", "mtu", "1400"]);
    }
    let mut matrix = BTreeMap::new();
    for client in &world.clients {
        for server in &world.far_servers {
            for address in &server.addresses {
                let path = Path { from: &client.netns, to: &server.netns, address: *address, through: None };
                let line = format!("{} to {} at {address}", client.mode, server.mode);
                path.ping().unwrap();
                // Too large for the wire, and not to be fragmented.
                let destination = address.to_string();
                let words =
                    ["ping", "-c", "3", "-i", "0.2", "-W", "3", "-M", "do", "-s", "1420", &destination];
                let ping = client.netns.command(&words);
                let said = format!("{}{}", ping.stdout, ping.stderr);
                let told = ["mtu = 1400", "mtu=1400", "Packet too big", "Frag needed"];
                assert!(told.iter().any(|words| said.contains(words)), "{line}: {said}");
                path.stream().unwrap_or_else(|error| panic!("{line}, tcp: {error}"));
                for size in [path.largest(1400), path.largest(1400) + 1, path.largest(1500), 8000] {
                    // The first of a size is what the narrow wire is learned by, at either end.
                    let arrives = (0..3).map(|_| path.datagram(size)).find(Result::is_ok);
                    assert!(arrives.is_some(), "{line}, udp {size}");
                }
                matrix.insert(line, "told, and all arrived");
            }
        }
    }
    println!("{matrix:#?}");
}

#[test]
fn an_endpoint_gets_answers_to_what_it_could_not_send() {
    let runtime = runtime();
    let world = World::new(&runtime);
    for client in &world.clients {
        // No route; a hop limit that ends at the node is the node's to answer only where its stack forwards.
        world.near.netns.ip(&["route", "replace", "unreachable", "203.0.113.0/24"]);
        let ping = client.netns.command(&["ping", "-c", "1", "-W", "20", "203.0.113.1"]);
        let said = format!("{}{}", ping.stdout, ping.stderr);
        assert!(said.contains("Unreachable"), "{}: {said}", client.mode);
        // Somebody else's address.
        client.netns.add_address("eth0", "10.1.9.9/32");
        let before = world.near.counters(client).dropped_spoofed;
        let ping = client.netns.command(&["ping", "-c", "1", "-W", "1", "-I", "10.1.9.9", "198.51.100.2"]);
        assert!(!ping.ok(), "{}: a forged source got an answer", client.mode);
        assert!(world.near.counters(client).dropped_spoofed > before, "{}: nothing was counted", client.mode);
    }
}

#[test]
fn neighbours_are_answered_for_and_frames_to_anybody_taken_where_there_is_a_link_layer() {
    let runtime = runtime();
    let world = World::new(&runtime);
    for client in world.clients.iter().filter(|client| client.mode.has_mac()) {
        let netns = &client.netns;
        let server = world.servers.first().unwrap();
        // Asked for, instead of told by whoever wired the endpoint.
        netns.ip(&["neighbour", "flush", "dev", "eth0", "nud", "permanent"]);
        for address in &server.addresses {
            assert!(netns.can_ping(*address), "{}: {address} through the gateway", client.mode);
        }
        let gateways = [netns.ip(&["-4", "neighbour"]), netns.ip(&["-6", "neighbour"])];
        assert!(gateways.iter().all(|known| known.contains("lladdr") && !known.contains("PERMANENT")));
        // On the same link, for all the endpoint knows.
        for address in &server.addresses {
            netns.ip(&["route", "replace", &address.to_string(), "dev", "eth0"]);
            assert!(netns.can_ping(*address), "{}: {address} on the link", client.mode);
        }
        // A frame to a hardware address that nobody has.
        let far = world.far_servers.first().unwrap();
        for address in server.addresses.iter().chain(&far.addresses) {
            let text = address.to_string();
            netns.ip(&["route", "replace", &text, "dev", "eth0"]);
            netns.ip(&["neighbour", "replace", &text, "lladdr", "02:00:00:00:de:ad", "dev", "eth0"]);
            assert!(netns.can_ping(*address), "{}: {address} at an address that nobody has", client.mode);
        }
    }
}

#[test]
fn a_route_that_changes_is_followed_and_so_is_an_endpoint_that_goes() {
    let runtime = runtime();
    let mut world = World::new(&runtime);
    let _inside = runtime.enter();
    let client = world.clients.first().unwrap();
    let server = world.far_servers.first().unwrap();
    let address = *server.addresses.first().unwrap();
    assert!(client.netns.can_ping(address));
    let cut = ["route", "replace", "blackhole", "10.1.2.0/24"];
    world.near.netns.ip(&cut);
    // A route is asked for again within a quarter of a second.
    let text = address.to_string();
    let answers = || client.netns.command(&["ping", "-c", "1", "-W", "1", &text]).ok();
    until(answers, |answers| !answers);
    world.near.netns.ip(&["route", "replace", "10.1.2.0/24", "via", "198.51.100.2"]);
    until(answers, |answers| *answers);

    let neighbour = world.servers.remove(0);
    let address = *neighbour.addresses.first().unwrap();
    assert!(client.netns.can_ping(address));
    world.near.withdraw(&neighbour);
    world.near.netns.ip(&["route", "replace", "blackhole", &format!("{address}/32")]);
    assert!(!client.netns.command(&["ping", "-c", "1", "-W", "1", &address.to_string()]).ok());
    assert_ne!(world.clients.first().unwrap().mode, DeviceMode::Netkit, "veth is there everywhere");
}
