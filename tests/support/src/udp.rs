use std::{
    io,
    net::{Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use crate::{Netns, at_this_pace};

/// How long an answer may take on a machine under load.
const PATIENCE: Duration = Duration::from_secs(5);

/// A server that returns each datagram to its sender. It ends with this value.
#[derive(Debug)]
pub struct UdpEcho {
    socket: Arc<Stoppable>,
    thread: Option<JoinHandle<()>>,
}

impl UdpEcho {
    pub(crate) fn start(netns: &Netns, address: SocketAddr) -> Self {
        let socket = Stoppable::bind(netns, address);
        let mine = Arc::clone(&socket);
        let thread = thread::spawn(move || {
            let mut buffer = [0; 65536];
            while !mine.is_stopped() {
                let Ok((length, from)) = mine.socket.recv_from(&mut buffer) else { continue };
                if let Some(datagram) = buffer.get(..length) {
                    // The sender may be gone: its loss.
                    drop(mine.socket.send_to(datagram, from));
                }
            }
        });
        Self { socket, thread: Some(thread) }
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.socket.address
    }
}

impl Drop for UdpEcho {
    fn drop(&mut self) {
        self.socket.stop();
        if let Some(thread) = self.thread.take() {
            drop(thread.join());
        }
    }
}

/// A socket on which a thread waits until it is told to stop. It does not ask the time: on an emulated machine that is
/// what costs.
#[derive(Debug)]
pub(crate) struct Stoppable {
    pub(crate) socket: UdpSocket,
    pub(crate) address: SocketAddr,
    stopped: AtomicBool,
}

impl Stoppable {
    pub(crate) fn bind(netns: &Netns, address: SocketAddr) -> Arc<Self> {
        let socket = netns
            .run(|| UdpSocket::bind(address))
            .unwrap_or_else(|error| panic!("binding {address} (UDP) in {} failed: {error}", netns.name()));
        let address = socket.local_addr().expect("a bound socket has an address");
        Arc::new(Self { socket, address, stopped: AtomicBool::new(false) })
    }

    pub(crate) fn is_stopped(&self) -> bool {
        self.stopped.load(Ordering::Relaxed)
    }

    /// Whoever waits for a datagram gets an empty one, then and from now on.
    pub(crate) fn stop(&self) {
        self.stopped.store(true, Ordering::Relaxed);
        // The kernel wakes who waits, and says that there is no connection.
        let _ = rustix::net::shutdown(&self.socket, rustix::net::Shutdown::Both);
    }
}

/// A connected UDP socket.
#[derive(Debug)]
pub struct UdpConnection {
    socket: UdpSocket,
}

impl UdpConnection {
    pub(crate) fn open(netns: &Netns, address: SocketAddr) -> io::Result<Self> {
        let socket = netns.run(|| {
            let socket = UdpSocket::bind(unspecified(address))?;
            socket.connect(address)?;
            Ok::<_, io::Error>(socket)
        })?;
        socket.set_read_timeout(Some(at_this_pace(PATIENCE)))?;
        Ok(Self { socket })
    }

    /// This end's address.
    #[must_use]
    pub fn local(&self) -> SocketAddr {
        self.socket.local_addr().expect("a bound socket has an address")
    }

    /// The other end's address, as `getpeername` gives it.
    #[must_use]
    pub fn peer(&self) -> SocketAddr {
        self.socket.peer_addr().expect("a connected socket has a peer")
    }

    /// Sends a text and waits for an answer.
    ///
    /// # Errors
    /// What `send` or `recv` said, `WouldBlock` if nothing came for some seconds.
    pub fn try_exchange(&mut self, text: &str) -> io::Result<String> {
        self.socket.send(text.as_bytes())?;
        let mut buffer = [0; 65536];
        let length = self.socket.recv(&mut buffer)?;
        Ok(String::from_utf8_lossy(buffer.get(..length).unwrap_or_default()).into_owned())
    }

    /// Sends a text and waits for an answer.
    ///
    /// # Panics
    /// If none comes.
    pub fn exchange(&mut self, text: &str) -> String {
        self.try_exchange(text).unwrap_or_else(|error| panic!("no answer to {text:?}: {error}"))
    }
}

pub(crate) const fn unspecified(peer: SocketAddr) -> SocketAddr {
    match peer {
        SocketAddr::V4(_) => SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::UNSPECIFIED), 0),
        SocketAddr::V6(_) => SocketAddr::new(std::net::IpAddr::V6(Ipv6Addr::UNSPECIFIED), 0),
    }
}
