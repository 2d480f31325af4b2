//! Processes that hold sockets: one may have 20,000 files on a common machine, and the bench wants a million.
//!
//! A holder reads commands, a line each, and answers each with a line: `udp PATH VIP COUNT` and `tcp PATH VIP COUNT`
//! connect so many sockets in the namespace at a path; `listen PATH` listens there for the latter; `drop` closes the
//! sockets of the last command; `read` has a thread for each socket wait for something to read, and `returned` says
//! when the last of these reads returned.

use std::{
    fs::File,
    io::{BufRead as _, BufReader, Write as _, stdin, stdout},
    net::{SocketAddr, TcpStream, UdpSocket},
    os::fd::OwnedFd,
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
    sync::Arc,
    thread,
    time::Duration,
};

use anyhow::{Context as _, bail, ensure};
use rustix::{
    io::Errno,
    process::{Resource, Rlimit, getrlimit, setrlimit},
    thread::{LinkNameSpaceType, move_into_link_name_space},
    time::{ClockId, clock_gettime},
};

/// Sockets of one holder.
pub(crate) const MAX: usize = 18_000;

/// The port of every backend.
pub(crate) const PORT: u16 = 7000;

/// Connections of one namespace that nobody accepts: as many as the kernel keeps for a listener. They cost no file.
const BACKLOG: i32 = 4_096;

/// The holder's side.
pub(crate) fn main() -> anyhow::Result<()> {
    let maximum = getrlimit(Resource::Nofile).maximum;
    setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum })?;
    let mut held: Vec<Vec<Arc<OwnedFd>>> = Vec::new();
    let mut readers = Vec::new();
    for line in stdin().lines() {
        let line = line?;
        let answer = match line.split(' ').collect::<Vec<_>>().as_slice() {
            ["drop"] => {
                held.pop();
                Ok(None)
            }
            ["udp", path, vip, count] => {
                enter(path)?;
                udp(vip.parse()?, count.parse()?).map(|opened| held.push(opened)).map(|()| None)
            }
            ["tcp", path, vip, count] => {
                enter(path)?;
                tcp(vip.parse()?, count.parse()?).map(|opened| held.push(opened)).map(|()| None)
            }
            ["listen", path] => {
                enter(path)?;
                listen().map(|listener| held.push(vec![Arc::new(listener)])).map(|()| None)
            }
            ["read"] => {
                readers = read(held.iter().flatten());
                Ok(None)
            }
            ["returned"] => returned(std::mem::take(&mut readers)).map(Some),
            _ => bail!("not a command: {line:?}"),
        };
        match answer {
            Ok(None) => println!("done"),
            Ok(Some(time)) => println!("done {}", time.as_nanos()),
            Err(error) => println!("{error:#}"),
        }
        stdout().flush()?;
    }
    Ok(())
}

/// The time of a clock that all processes share.
pub(crate) fn monotonic() -> Duration {
    Duration::try_from(clock_gettime(ClockId::Monotonic)).unwrap_or_default()
}

/// A thread that waits in a read: when it returned, and with what.
type Reader = thread::JoinHandle<(Duration, rustix::io::Result<usize>)>;

/// Waits in a read of each of these sockets.
fn read<'a>(sockets: impl Iterator<Item = &'a Arc<OwnedFd>>) -> Vec<Reader> {
    let reader = |socket: &Arc<OwnedFd>| {
        let socket = Arc::clone(socket);
        thread::spawn(move || {
            let read = rustix::io::read(&*socket, &mut [0_u8; 1]);
            (monotonic(), read)
        })
    };
    let readers = sockets.map(reader).collect();
    // So that threads are waiting and not starting; one that comes too late has a read that returns later.
    thread::sleep(Duration::from_millis(20));
    readers
}

/// When the last of them returned; each has to have been told that its connection was ended.
fn returned(readers: Vec<Reader>) -> anyhow::Result<Duration> {
    let mut last = Duration::ZERO;
    for reader in readers {
        let (time, read) = reader.join().ok().context("a reader panicked")?;
        ensure!(read == Err(Errno::CONNABORTED), "a read returned {read:?} instead of being aborted");
        last = last.max(time);
    }
    Ok(last)
}

fn enter(path: &str) -> anyhow::Result<()> {
    let file = File::open(path).with_context(|| format!("opening {path}"))?;
    move_into_link_name_space(std::os::fd::AsFd::as_fd(&file), Some(LinkNameSpaceType::Network))?;
    Ok(())
}

fn udp(vip: SocketAddr, count: usize) -> anyhow::Result<Vec<Arc<OwnedFd>>> {
    let connect = |_| {
        let socket = UdpSocket::bind("0.0.0.0:0")?;
        socket.connect(vip)?;
        Ok(Arc::new(socket.into()))
    };
    (0..count).map(connect).collect()
}

fn tcp(vip: SocketAddr, count: usize) -> anyhow::Result<Vec<Arc<OwnedFd>>> {
    let connect = |_| {
        let socket = TcpStream::connect(vip)?;
        // A reset at the end, instead of a connection that waits out its time and its port.
        socket2::SockRef::from(&socket).set_linger(Some(Duration::ZERO))?;
        Ok(Arc::new(socket.into()))
    };
    (0..count).map(connect).collect()
}

fn listen() -> anyhow::Result<OwnedFd> {
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None)?;
    socket.bind(&SocketAddr::from(([0, 0, 0, 0], PORT)).into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

/// The bench's side: a holder that ends with this value.
pub(crate) struct Holder {
    child: Child,
    commands: Option<ChildStdin>,
    answers: BufReader<ChildStdout>,
}

impl Holder {
    /// Starts one in a cgroup.
    pub(crate) fn start(cgroup: &std::path::Path) -> anyhow::Result<Self> {
        let mut child = Command::new(std::env::current_exe()?)
            .arg("hold")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .context("starting a process that holds sockets")?;
        let commands = child.stdin.take();
        let answers = BufReader::new(child.stdout.take().context("its answers are piped")?);
        std::fs::write(cgroup.join("cgroup.procs"), child.id().to_string())?;
        Ok(Self { child, commands, answers })
    }

    /// Has a command carried out.
    pub(crate) fn command(&mut self, line: &str) -> anyhow::Result<()> {
        self.ask(line).map(drop)
    }

    /// When the last read that waited returned, of [`monotonic`].
    pub(crate) fn returned(&mut self) -> anyhow::Result<Duration> {
        let answer = self.ask("returned")?;
        Ok(Duration::from_nanos(answer.parse().with_context(|| format!("not a time: {answer}"))?))
    }

    /// What a command's answer has beyond that it is done.
    fn ask(&mut self, line: &str) -> anyhow::Result<String> {
        let commands = self.commands.as_mut().context("its commands are piped")?;
        writeln!(commands, "{line}")?;
        let mut answer = String::new();
        self.answers.read_line(&mut answer)?;
        let done = answer.trim_end().strip_prefix("done").with_context(|| format!("{line}: {answer}"))?;
        Ok(done.trim_start().to_owned())
    }
}

impl Drop for Holder {
    fn drop(&mut self) {
        drop(self.commands.take());
        let _ = self.child.wait();
    }
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    #[test]
    fn a_read_that_returns_otherwise_than_aborted_is_no_measurement() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let client: Arc<OwnedFd> =
            Arc::new(TcpStream::connect(listener.local_addr().unwrap()).unwrap().into());
        let readers = read(std::iter::once(&client));
        drop(listener.accept().unwrap());
        assert!(returned(readers).unwrap_err().to_string().contains("instead of being aborted"));
    }
}
