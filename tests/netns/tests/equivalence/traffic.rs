//! Datagrams and connections, and where they arrive.

use std::{
    collections::BTreeSet,
    fmt, io,
    io::{Read, Write},
    net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket},
    sync::atomic::{AtomicU16, Ordering},
    thread,
    time::{Duration, Instant},
};

use fastrand::Rng;
use netloom_test_support::at_this_pace;
use socket2::{Domain, Protocol, Socket, Type};

use crate::{
    policy::{Flow, Policy},
    world::{Place, World},
};

/// Where all places listen.
pub(crate) const PORTS: [u16; 2] = [7000, 7001];

/// Nothing more is to come when nothing has come for so long.
const QUIET: Duration = Duration::from_millis(300);

/// No flow has the ports of an earlier one, and both worlds have the same.
static NEXT_PORT: AtomicU16 = AtomicU16::new(10_000);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Datagram,
    Connection,
}

/// A datagram or connection to somewhere.
#[derive(Clone, Debug)]
pub(crate) struct Case {
    kind: Kind,
    from: Place,
    port: u16,
    to: SocketAddr,
}

impl Case {
    /// Half of them are such as the policy has something to say of.
    pub(crate) fn random(rng: &mut Rng, world: &World, policy: &Policy) -> Self {
        let kind = if rng.u8(..3) == 0 { Kind::Connection } else { Kind::Datagram };
        if rng.bool()
            && let Some(flow) = policy.flow(rng)
        {
            let Flow { sender, to, port, .. } = *flow;
            return Self { kind, from: sender, port: next_port(), to: SocketAddr::new(to, port) };
        }
        let from = match rng.u8(..10) {
            0 => Place::Server,
            1 => Place::Node,
            2 | 3 => Place::Outside,
            _ => Place::Client,
        };
        let own = world.addresses(from);
        let targets: Vec<_> = world.targets().into_iter().filter(|target| !own.contains(target)).collect();
        let [v4, v6] = *rng.choice(&targets).expect("there are targets");
        let port = *rng.choice(&PORTS).expect("there are ports");
        let to = SocketAddr::new(if rng.bool() { v4 } else { v6 }, port);
        Self { kind, from, port: next_port(), to }
    }

    /// The same as another flow.
    pub(crate) fn again(&self) -> Self {
        Self { port: next_port(), ..self.clone() }
    }
}

fn next_port() -> u16 {
    NEXT_PORT
        .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |port| {
            Some(if port >= 30_000 { 10_000 } else { port + 1 })
        })
        .unwrap_or_default()
}

impl fmt::Display for Case {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} from {:?}, port {}, to {}", self.kind, self.from, self.port, self.to)
    }
}

/// What became of a case.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Outcome {
    /// Where it arrived: the place, the address there, and whose it was.
    arrived: BTreeSet<(Place, SocketAddr, IpAddr)>,
    /// Who answered.
    answered: BTreeSet<SocketAddr>,
}

impl Outcome {
    pub(crate) fn arrived(&self) -> bool {
        !self.arrived.is_empty()
    }

    pub(crate) fn is_translated(&self, case: &Case, world: &World) -> bool {
        let own: Vec<IpAddr> = world.addresses(case.from).into_iter().flatten().collect();
        self.arrived.iter().any(|(_, to, from)| *to != case.to || !own.contains(from))
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "arrived {:?}, answered {:?}", self.arrived, self.answered)
    }
}

/// One that listens at an address of a place.
struct Listener {
    place: Place,
    address: SocketAddr,
    datagrams: UdpSocket,
    connections: TcpListener,
    accepted: Vec<TcpStream>,
}

/// The sender of a case. What it is sent says which case it is of.
enum Sender {
    Datagram(UdpSocket),
    Connection {
        stream: TcpStream,
        told: bool,
    },
    /// The kernel would not send it.
    None,
}

/// Runs cases at once, to the end of all.
pub(crate) fn run(world: &World, cases: &[Case]) -> Vec<Outcome> {
    let mut listeners = listen(world);
    let mut outcomes = vec![Outcome::default(); cases.len()];
    let mut senders: Vec<Sender> =
        cases.iter().enumerate().map(|(number, case)| send(world, case, number)).collect();
    let mut last = Instant::now();
    while last.elapsed() < at_this_pace(QUIET) {
        let mut heard = false;
        for listener in &mut listeners {
            for (number, from) in listener.hear() {
                if let Some(outcome) = outcomes.get_mut(number) {
                    outcome.arrived.insert((listener.place, listener.address, from));
                    heard = true;
                }
            }
        }
        for ((number, sender), outcome) in senders.iter_mut().enumerate().zip(&mut outcomes) {
            if let Some(from) = sender.answer(number) {
                heard |= outcome.answered.insert(from);
            }
        }
        if heard {
            last = Instant::now();
        } else {
            thread::sleep(Duration::from_millis(2));
        }
    }
    outcomes
}

fn listen(world: &World) -> Vec<Listener> {
    let mut listeners = Vec::new();
    for place in Place::ALL {
        world.netns(place).run(|| {
            for (address, port) in world
                .addresses(place)
                .into_iter()
                .flatten()
                .flat_map(|address| PORTS.map(|port| (address, port)))
            {
                let address = SocketAddr::new(address, port);
                let datagrams = UdpSocket::bind(address).expect("a port is free");
                let connections = TcpListener::bind(address).expect("a port is free");
                datagrams.set_nonblocking(true).expect("a socket takes that");
                connections.set_nonblocking(true).expect("a socket takes that");
                listeners.push(Listener { place, address, datagrams, connections, accepted: Vec::new() });
            }
        });
    }
    listeners
}

impl Listener {
    /// What has arrived: cases, and from whom. Each is answered.
    fn hear(&mut self) -> Vec<(usize, IpAddr)> {
        let mut heard = Vec::new();
        let mut buffer = [0; 8];
        while let Ok((_, from)) = self.datagrams.recv_from(&mut buffer) {
            heard.push((number(buffer), from.ip()));
            drop(self.datagrams.send_to(&buffer, from));
        }
        while let Ok((stream, _)) = self.connections.accept() {
            stream.set_nonblocking(true).expect("a socket takes that");
            self.accepted.push(stream);
        }
        for stream in &mut self.accepted {
            if let (Ok(8), Ok(from)) = (stream.read(&mut buffer), stream.peer_addr()) {
                heard.push((number(buffer), from.ip()));
                drop(stream.write_all(&buffer));
            }
        }
        heard
    }
}

fn number(bytes: [u8; 8]) -> usize {
    usize::try_from(u64::from_be_bytes(bytes)).unwrap_or(usize::MAX)
}

fn send(world: &World, case: &Case, number: usize) -> Sender {
    let sent = world.netns(case.from).run(|| match case.kind {
        Kind::Datagram => datagram(case, number).map(Sender::Datagram),
        Kind::Connection => connection(case).map(|stream| Sender::Connection { stream, told: false }),
    });
    sent.unwrap_or(Sender::None)
}

fn socket(case: &Case, kind: Type, protocol: Protocol) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(case.to), kind, Some(protocol))?;
    let any: IpAddr = if case.to.is_ipv4() { [0; 4].into() } else { [0; 16].into() };
    if case.to.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    socket.set_nonblocking(true)?;
    socket.set_reuse_address(true)?;
    socket.bind(&SocketAddr::new(any, case.port).into())?;
    Ok(socket)
}

fn datagram(case: &Case, number: usize) -> io::Result<UdpSocket> {
    let socket: UdpSocket = socket(case, Type::DGRAM, Protocol::UDP)?.into();
    socket.send_to(&(number as u64).to_be_bytes(), case.to)?;
    Ok(socket)
}

fn connection(case: &Case) -> io::Result<TcpStream> {
    let socket = socket(case, Type::STREAM, Protocol::TCP)?;
    match socket.connect(&case.to.into()) {
        Err(error) if error.raw_os_error() != Some(rustix::io::Errno::INPROGRESS.raw_os_error()) => {
            Err(error)
        }
        _ => Ok(socket.into()),
    }
}

impl Sender {
    /// Who has answered, if somebody has since.
    fn answer(&mut self, number: usize) -> Option<SocketAddr> {
        let mut buffer = [0; 8];
        match self {
            Self::None => None,
            Self::Datagram(socket) => socket.recv_from(&mut buffer).ok().map(|(_, from)| from),
            Self::Connection { stream, told } => {
                let peer = stream.peer_addr().ok()?;
                if !*told {
                    *told = stream.write_all(&(number as u64).to_be_bytes()).is_ok();
                }
                matches!(stream.read(&mut buffer), Ok(8)).then_some(peer)
            }
        }
    }
}
