//! Processes that hold sockets: one may have 20,000 files on a common machine, and the bench wants a million.
//!
//! A holder reads commands, a line each, and answers each with a line: `udp PATH VIP COUNT` and `tcp PATH VIP COUNT`
//! connect so many sockets in the namespace at a path; `listen PATH` listens there for the latter; `drop` closes the
//! sockets of the last command.

use std::{
    fs::File,
    io::{BufRead as _, BufReader, Write as _, stdin, stdout},
    net::{SocketAddr, TcpStream, UdpSocket},
    os::fd::OwnedFd,
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
    time::Duration,
};

use anyhow::{Context as _, bail};
use rustix::{
    process::{Resource, Rlimit, getrlimit, setrlimit},
    thread::{LinkNameSpaceType, move_into_link_name_space},
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
    let mut held: Vec<Vec<OwnedFd>> = Vec::new();
    for line in stdin().lines() {
        let line = line?;
        let answer = match line.split(' ').collect::<Vec<_>>().as_slice() {
            ["drop"] => {
                held.pop();
                Ok(())
            }
            ["udp", path, vip, count] => {
                enter(path)?;
                udp(vip.parse()?, count.parse()?).map(|opened| held.push(opened))
            }
            ["tcp", path, vip, count] => {
                enter(path)?;
                tcp(vip.parse()?, count.parse()?).map(|opened| held.push(opened))
            }
            ["listen", path] => {
                enter(path)?;
                listen().map(|listener| held.push(vec![listener]))
            }
            _ => bail!("not a command: {line:?}"),
        };
        match answer {
            Ok(()) => println!("done"),
            Err(error) => println!("{error:#}"),
        }
        stdout().flush()?;
    }
    Ok(())
}

fn enter(path: &str) -> anyhow::Result<()> {
    let file = File::open(path).with_context(|| format!("opening {path}"))?;
    move_into_link_name_space(std::os::fd::AsFd::as_fd(&file), Some(LinkNameSpaceType::Network))?;
    Ok(())
}

fn udp(vip: SocketAddr, count: usize) -> anyhow::Result<Vec<OwnedFd>> {
    let connect = |_| {
        let socket = UdpSocket::bind("0.0.0.0:0")?;
        socket.connect(vip)?;
        Ok(socket.into())
    };
    (0..count).map(connect).collect()
}

fn tcp(vip: SocketAddr, count: usize) -> anyhow::Result<Vec<OwnedFd>> {
    let connect = |_| {
        let socket = TcpStream::connect(vip)?;
        // A reset at the end, instead of a connection that waits out its time and its port.
        socket2::SockRef::from(&socket).set_linger(Some(Duration::ZERO))?;
        Ok(socket.into())
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

    pub(crate) fn command(&mut self, line: &str) -> anyhow::Result<()> {
        let commands = self.commands.as_mut().context("its commands are piped")?;
        writeln!(commands, "{line}")?;
        let mut answer = String::new();
        self.answers.read_line(&mut answer)?;
        if answer.trim_end() != "done" {
            bail!("{line}: {answer}");
        }
        Ok(())
    }
}

impl Drop for Holder {
    fn drop(&mut self) {
        drop(self.commands.take());
        let _ = self.child.wait();
    }
}
