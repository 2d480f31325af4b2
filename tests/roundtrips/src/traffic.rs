use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpListener, TcpStream, UdpSocket},
    thread,
    time::{Duration, Instant},
};

use anyhow::Context as _;
use clap::ValueEnum;
use serde::Serialize;

/// What goes over a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "snake_case")]
#[value(rename_all = "snake_case")]
pub(crate) enum Traffic {
    /// One byte there and back, over a connection.
    TcpRr,
    /// One byte there and back, in a datagram.
    UdpRr,
    /// A stream, one way.
    TcpBulk,
    /// A connection is made, and ended by the server.
    Connect,
    /// A connection is made, one byte goes there and back, it is ended.
    TcpCrr,
}

/// What a write of the stream has.
const CHUNK: usize = 64 << 10;
/// What the server answers after.
const MEGABYTE: usize = 1 << 20;
/// How long the server may take to be there.
const PATIENCE: Duration = Duration::from_secs(10);

impl Traffic {
    pub(crate) const ALL: [Self; 5] = [Self::TcpRr, Self::UdpRr, Self::TcpBulk, Self::Connect, Self::TcpCrr];

    /// Its name on the command line.
    pub(crate) fn name(self) -> String {
        self.to_possible_value().map(|value| value.get_name().to_owned()).unwrap_or_default()
    }

    /// Answers, for ever.
    pub(crate) fn serve(self, address: SocketAddr) -> anyhow::Result<()> {
        if self == Self::UdpRr {
            let socket = UdpSocket::bind(address).with_context(|| format!("binding {address}"))?;
            let mut buffer = [0; 2048];
            loop {
                let (length, from) = socket.recv_from(&mut buffer).context("receiving")?;
                socket.send_to(buffer.get(..length).unwrap_or_default(), from).context("answering")?;
            }
        }
        let listener = TcpListener::bind(address).with_context(|| format!("listening on {address}"))?;
        loop {
            let (stream, _) = listener.accept().context("accepting")?;
            // An end in disorder is the client's loss.
            drop(match self {
                Self::TcpBulk => sink(&stream),
                Self::Connect => Ok(()),
                _ => echo(&stream),
            });
        }
    }

    /// A client of a server that may take a moment to be there.
    pub(crate) fn client(self, server: SocketAddr) -> anyhow::Result<Client> {
        let started = Instant::now();
        loop {
            match self.try_client(server) {
                Ok(client) => return Ok(client),
                Err(error) if started.elapsed() > PATIENCE => {
                    return Err(error).with_context(|| format!("{} to {server}", self.name()));
                }
                Err(_) => thread::sleep(Duration::from_millis(10)),
            }
        }
    }

    fn try_client(self, server: SocketAddr) -> std::io::Result<Client> {
        Ok(match self {
            Self::UdpRr => {
                let unspecified: SocketAddr =
                    if server.is_ipv4() { ([0, 0, 0, 0], 0).into() } else { ([0_u16; 8], 0).into() };
                let socket = UdpSocket::bind(unspecified)?;
                socket.connect(server)?;
                socket.set_read_timeout(Some(Duration::from_millis(200)))?;
                socket.send(&[1])?;
                socket.recv(&mut [0])?;
                socket.set_read_timeout(None)?;
                Client::Datagrams(socket)
            }
            Self::TcpRr | Self::TcpBulk => {
                let stream = TcpStream::connect_timeout(&server, Duration::from_millis(500))?;
                stream.set_nodelay(true)?;
                if self == Self::TcpRr { Client::Exchange(stream) } else { Client::Stream(stream) }
            }
            Self::Connect | Self::TcpCrr => {
                drop(TcpStream::connect_timeout(&server, Duration::from_millis(500))?);
                if self == Self::Connect { Client::Connect(server) } else { Client::Connections(server) }
            }
        })
    }
}

/// The end that measures.
pub(crate) enum Client {
    Exchange(TcpStream),
    Datagrams(UdpSocket),
    Stream(TcpStream),
    Connect(SocketAddr),
    Connections(SocketAddr),
}

impl Client {
    /// Nanoseconds an exchange, a connection or, of a stream of so many megabytes, a byte.
    pub(crate) fn measure(&self, count: u32) -> anyhow::Result<f64> {
        let mut byte = [1];
        let mut per = f64::from(count);
        let started = Instant::now();
        match self {
            Self::Exchange(stream) => {
                for _ in 0..count {
                    (&*stream).write_all(&byte)?;
                    (&*stream).read_exact(&mut byte)?;
                }
            }
            Self::Datagrams(socket) => {
                for _ in 0..count {
                    socket.send(&byte)?;
                    socket.recv(&mut byte)?;
                }
            }
            Self::Stream(stream) => {
                let chunk = vec![7; CHUNK];
                // The time of a byte needs no more of them than this.
                let megabytes = count.div_ceil(32);
                for _ in 0..megabytes {
                    for _ in 0..MEGABYTE / CHUNK {
                        (&*stream).write_all(&chunk)?;
                    }
                    (&*stream).read_exact(&mut byte)?;
                }
                per = f64::from(megabytes) * 1_048_576.0;
            }
            Self::Connect(server) => {
                for _ in 0..count.div_ceil(2) {
                    // To the server's end of it, so that no connection overtakes another.
                    while TcpStream::connect(server)?.read(&mut byte)? > 0 {}
                }
                per = f64::from(count.div_ceil(2));
            }
            Self::Connections(server) => {
                for _ in 0..count.div_ceil(2) {
                    let stream = TcpStream::connect(server)?;
                    (&stream).write_all(&byte)?;
                    (&stream).read_exact(&mut byte)?;
                }
                per = f64::from(count.div_ceil(2));
            }
        }
        Ok(started.elapsed().as_secs_f64() * 1e9 / per)
    }
}

fn echo(mut stream: &TcpStream) -> std::io::Result<()> {
    stream.set_nodelay(true)?;
    let mut byte = [0];
    while stream.read(&mut byte)? > 0 {
        stream.write_all(&byte)?;
    }
    Ok(())
}

fn sink(mut stream: &TcpStream) -> std::io::Result<()> {
    let mut buffer = vec![0; CHUNK];
    let mut received = 0;
    loop {
        match stream.read(&mut buffer)? {
            0 => return Ok(()),
            length => received += length,
        }
        while received >= MEGABYTE {
            received -= MEGABYTE;
            stream.write_all(&[1])?;
        }
    }
}
