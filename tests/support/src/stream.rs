use std::{
    collections::HashMap,
    net::{SocketAddr, UdpSocket},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use crate::{
    Netns, at_this_pace,
    udp::{Stoppable, unspecified},
};

/// Sends numbered datagrams, one in each interval, which is longer on an emulated machine: its one CPU has to send
/// them, carry them, and do what the test is about.
#[derive(Debug)]
pub struct UdpSender {
    stop: Arc<AtomicBool>,
    sent: Arc<AtomicU64>,
    thread: Option<JoinHandle<()>>,
}

impl UdpSender {
    /// Datagrams of `size` bytes, at least the 8 of their number.
    pub(crate) fn start(netns: &Netns, to: SocketAddr, interval: Duration, size: usize) -> Self {
        let socket = netns
            .run(|| {
                let socket = UdpSocket::bind(unspecified(to))?;
                socket.connect(to)?;
                Ok::<_, std::io::Error>(socket)
            })
            .unwrap_or_else(|error| panic!("connecting to {to} in {} failed: {error}", netns.name()));
        let stop = Arc::new(AtomicBool::new(false));
        let sent = Arc::new(AtomicU64::new(0));
        let (seen, count) = (Arc::clone(&stop), Arc::clone(&sent));
        let interval = at_this_pace(interval);
        let thread = thread::spawn(move || {
            let mut number = 0_u64;
            let filling = vec![0; size.saturating_sub(size_of_val(&number))];
            while !seen.load(Ordering::Relaxed) {
                // One that cannot be sent counts as sent and lost: its number never arrives.
                drop(socket.send(&[&number.to_be_bytes(), filling.as_slice()].concat()));
                number += 1;
                count.store(number, Ordering::Relaxed);
                thread::sleep(interval);
            }
        });
        Self { stop, sent, thread: Some(thread) }
    }

    /// How many were sent up to now.
    #[must_use]
    pub fn sent(&self) -> u64 {
        self.sent.load(Ordering::Relaxed)
    }

    /// Stops sending: how many were sent.
    #[must_use]
    pub fn stop(mut self) -> u64 {
        self.end();
        self.sent()
    }

    fn end(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            drop(thread.join());
        }
    }
}

impl Drop for UdpSender {
    fn drop(&mut self) {
        self.end();
    }
}

/// Counts numbered datagrams as they arrive.
#[derive(Debug)]
pub struct UdpReceiver {
    socket: Arc<Stoppable>,
    distinct: Arc<AtomicU64>,
    thread: Option<JoinHandle<HashMap<u64, u64>>>,
}

/// What arrived of a number of datagrams.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Arrivals {
    /// Sent.
    pub sent: u64,
    /// Never arrived.
    pub lost: u64,
    /// Arrived once more than they were sent.
    pub duplicated: u64,
}

impl UdpReceiver {
    pub(crate) fn start(netns: &Netns, address: SocketAddr) -> Self {
        let socket = Stoppable::bind(netns, address);
        // A busy machine may leave the counting thread waiting; what overflows meanwhile would count as lost.
        rustix::net::sockopt::set_socket_recv_buffer_size_force(&socket.socket, 16 << 20)
            .expect("root can have a large buffer");
        let distinct = Arc::new(AtomicU64::new(0));
        let (mine, count) = (Arc::clone(&socket), Arc::clone(&distinct));
        let thread = thread::spawn(move || {
            let mut arrived = HashMap::new();
            let mut datagram = vec![0; 1 << 16];
            while !mine.is_stopped() {
                let received = mine.socket.recv(&mut datagram).unwrap_or_default();
                if let Some(number) = datagram.get(..received).and_then(<[u8]>::first_chunk) {
                    *arrived.entry(u64::from_be_bytes(*number)).or_default() += 1;
                    count.store(u64::try_from(arrived.len()).unwrap_or(u64::MAX), Ordering::Relaxed);
                }
            }
            arrived
        });
        Self { socket, distinct, thread: Some(thread) }
    }

    /// Where it receives.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.socket.address
    }

    /// How many different ones arrived up to now.
    #[must_use]
    pub fn arrived(&self) -> u64 {
        self.distinct.load(Ordering::Relaxed)
    }

    /// Waits until so many have arrived, or the time is over, then stops and compares with what was sent.
    ///
    /// # Panics
    /// If the counting thread did.
    #[must_use]
    pub fn compare(mut self, sent: u64, patience: Duration) -> Arrivals {
        let (started, patience) = (Instant::now(), at_this_pace(patience));
        while self.arrived() < sent && started.elapsed() < patience {
            thread::sleep(Duration::from_millis(5));
        }
        // A duplicate would follow close behind.
        thread::sleep(Duration::from_millis(50));
        self.socket.stop();
        let thread = self.thread.take().expect("it is stopped once only");
        let arrived = thread.join().expect("the counting thread ends well");
        let lost = (0..sent).filter(|number| !arrived.contains_key(number)).count();
        let duplicated = arrived.values().map(|times| times - 1).sum();
        Arrivals { sent, lost: u64::try_from(lost).unwrap_or(u64::MAX), duplicated }
    }
}

impl Drop for UdpReceiver {
    fn drop(&mut self) {
        self.socket.stop();
        if let Some(thread) = self.thread.take() {
            drop(thread.join());
        }
    }
}
