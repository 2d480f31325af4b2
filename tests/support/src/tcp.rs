use std::{
    io::{self, Read, Write},
    net::{Shutdown, SocketAddr, TcpListener, TcpStream},
    sync::{Arc, Mutex, PoisonError, mpsc},
    thread::{self, JoinHandle},
    time::Duration,
};

use crate::{Netns, at_this_pace};

/// Long enough for a machine under load; nothing waits so long unless it fails.
const PATIENCE: Duration = Duration::from_secs(10);

/// A server that returns what it gets. It ends, and closes its connections, with this value.
#[derive(Debug)]
pub struct TcpEcho {
    address: SocketAddr,
    listener: Arc<TcpListener>,
    connections: Arc<Mutex<Vec<TcpStream>>>,
    thread: Option<JoinHandle<()>>,
}

impl TcpEcho {
    pub(crate) fn start(netns: &Netns, address: SocketAddr) -> Self {
        let listener = netns
            .run(|| TcpListener::bind(address))
            .unwrap_or_else(|error| panic!("listening on {address} in {} failed: {error}", netns.name()));
        let address = listener.local_addr().expect("a listening socket has an address");
        let (listener, connections) = (Arc::new(listener), Arc::new(Mutex::new(Vec::new())));
        let (mine, kept) = (Arc::clone(&listener), Arc::clone(&connections));
        let thread = thread::spawn(move || {
            loop {
                match mine.accept() {
                    Ok((stream, _)) => serve(stream, &kept),
                    // It listens no more.
                    Err(error) if error.kind() == io::ErrorKind::InvalidInput => break,
                    // One that has gone before it was taken.
                    Err(_) => {}
                }
            }
        });
        Self { address, listener, connections, thread: Some(thread) }
    }

    /// Where it listens.
    #[must_use]
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// How many connections it has accepted.
    #[must_use]
    pub fn accepted(&self) -> usize {
        self.connections.lock().unwrap_or_else(PoisonError::into_inner).len()
    }
}

fn serve(stream: TcpStream, kept: &Mutex<Vec<TcpStream>>) {
    let Ok(copy) = stream.try_clone() else { return };
    kept.lock().unwrap_or_else(PoisonError::into_inner).push(copy);
    thread::spawn(move || {
        // The client's going away, in whichever way, ends the connection.
        drop(io::copy(&mut &stream, &mut &stream));
        drop(stream.shutdown(Shutdown::Both));
    });
}

impl Drop for TcpEcho {
    fn drop(&mut self) {
        // Who waits for a connection is told that there is no listener any more.
        let _ = rustix::net::shutdown(&*self.listener, rustix::net::Shutdown::Both);
        if let Some(thread) = self.thread.take() {
            drop(thread.join());
        }
        for connection in self.connections.lock().unwrap_or_else(PoisonError::into_inner).drain(..) {
            // It may be gone already.
            drop(connection.shutdown(Shutdown::Both));
        }
    }
}

/// An open TCP connection.
#[derive(Debug)]
pub struct TcpConnection {
    stream: TcpStream,
}

impl TcpConnection {
    pub(crate) fn open(netns: &Netns, address: SocketAddr) -> io::Result<Self> {
        let stream = netns.run(|| TcpStream::connect_timeout(&address, at_this_pace(PATIENCE)))?;
        stream.set_read_timeout(Some(at_this_pace(PATIENCE)))?;
        Ok(Self { stream })
    }

    /// This end's address.
    #[must_use]
    pub fn local(&self) -> SocketAddr {
        self.stream.local_addr().expect("a connected socket has an address")
    }

    /// The other end's address, as `getpeername` gives it.
    #[must_use]
    pub fn peer(&self) -> SocketAddr {
        self.stream.peer_addr().expect("a connected socket has a peer")
    }

    /// Sends a text and reads as many bytes back.
    ///
    /// # Panics
    /// If the connection has ended, or nothing comes for some seconds.
    pub fn exchange(&mut self, text: &str) -> String {
        self.try_exchange(text).unwrap_or_else(|error| panic!("the connection broke: {error}"))
    }

    /// Sends a text and reads as many bytes back.
    ///
    /// # Errors
    /// What `write` or `read` said.
    pub fn try_exchange(&mut self, text: &str) -> io::Result<String> {
        self.stream.write_all(text.as_bytes())?;
        let mut back = vec![0; text.len()];
        self.stream.read_exact(&mut back)?;
        Ok(String::from_utf8_lossy(&back).into_owned())
    }

    /// Hands the connection to a thread that is blocked in `read` until the connection ends.
    ///
    /// # Panics
    /// If no thread can be started.
    #[must_use]
    pub fn blocked_reader(self) -> BlockedReader {
        self.stream.set_read_timeout(None).expect("a timeout can be taken away");
        let stream = Arc::new(self.stream);
        let reading = Arc::clone(&stream);
        let (sender, ended) = mpsc::channel();
        thread::spawn(move || {
            let mut buffer = [0; 1024];
            let end = loop {
                match (&*reading).read(&mut buffer) {
                    Ok(0) => break Ok(()),
                    Ok(_) => {}
                    Err(error) => break Err(error),
                }
            };
            // Nobody may be waiting for it any more.
            drop(sender.send(end));
        });
        BlockedReader { stream, ended }
    }
}

/// A thread blocked in `read`.
#[derive(Debug)]
pub struct BlockedReader {
    stream: Arc<TcpStream>,
    ended: mpsc::Receiver<io::Result<()>>,
}

impl BlockedReader {
    /// How reading ended, if it does in this time: `Ok` for an orderly end, else the error, for instance of kind
    /// `ConnectionAborted`. `None` if it is still blocked.
    #[must_use]
    pub fn end_within(&self, time: Duration) -> Option<io::Result<()>> {
        self.ended.recv_timeout(time).ok()
    }

    /// The error it ended with, if it does in this time.
    ///
    /// # Panics
    /// If it is still blocked then, or the connection ended in order.
    #[must_use]
    pub fn error_within(&self, time: Duration) -> io::Error {
        match self.end_within(time) {
            Some(Err(error)) => error,
            Some(Ok(())) => panic!("the connection ended in order, not with an error"),
            None => panic!("the reader was still blocked after {time:?}"),
        }
    }

    /// This end's address.
    #[must_use]
    pub fn local(&self) -> SocketAddr {
        self.stream.local_addr().expect("a connected socket has an address")
    }
}

impl Drop for BlockedReader {
    fn drop(&mut self) {
        // Ends the thread; the connection may be gone already.
        drop(self.stream.shutdown(Shutdown::Both));
    }
}
