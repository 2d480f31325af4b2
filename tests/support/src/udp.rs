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
    address: SocketAddr,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl UdpEcho {
    pub(crate) fn start(netns: &Netns, address: SocketAddr) -> Self {
        let socket = bind(netns, address);
        let address = socket.local_addr().expect("a bound socket has an address");
        let stop = Arc::new(AtomicBool::new(false));
        let seen = Arc::clone(&stop);
        let thread = thread::spawn(move || {
            let mut buffer = [0; 65536];
            while !seen.load(Ordering::Relaxed) {
                let Ok((length, from)) = socket.recv_from(&mut buffer) else { continue };
                if let Some(datagram) = buffer.get(..length) {
                    // The sender may be gone: its loss.
                    drop(socket.send_to(datagram, from));
                }
            }
        });
        Self { address, stop, thread: Some(thread) }
    }

    /// Where it listens.
    #[must_use]
    pub const fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for UdpEcho {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            drop(thread.join());
        }
    }
}

/// Binds a socket whose reads return now and then, so that its thread can be stopped.
pub(crate) fn bind(netns: &Netns, address: SocketAddr) -> UdpSocket {
    let socket = netns
        .run(|| UdpSocket::bind(address))
        .unwrap_or_else(|error| panic!("binding {address} (UDP) in {} failed: {error}", netns.name()));
    socket.set_read_timeout(Some(Duration::from_millis(20))).expect("a socket takes a timeout");
    socket
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
