//! Carries out the kernel operations it is told to when it is asked about a reap, and says what came of each in its
//! veto. It imports every operation, so that it needs every grant.

use std::net::SocketAddr;

use netloom_sdk::{
    host::{datapath, devices, files, links, sockets},
    prelude::*,
};
use serde::Deserialize;

/// One operation. A device is named by the namespace it is in, as seen in `list-devices`, and its name.
#[derive(Clone, Deserialize)]
#[serde(tag = "op", rename_all = "kebab-case", deny_unknown_fields)]
enum Step {
    Devices,
    Open { inode: u64, name: String },
    SetMtu { inode: u64, name: String, mtu: u32 },
    SetSegmentation { inode: u64, name: String, size: u32 },
    SetPolicy { inode: u64, name: String },
    Create { inode: u64, name: String, peer: String },
    Remove { inode: u64, name: String },
    Query { inode: u64, name: String },
    Attach { inode: u64, name: String, program: String, owner: String, #[serde(default)] stale: bool },
    Update { id: String, program: String },
    Detach { id: String },
    Sockets { #[serde(default)] backends: Vec<SocketAddr> },
    Destroy { backends: Vec<SocketAddr>, #[serde(default)] forge: bool },
    Endpoints,
    Counters { name: String },
    Services,
    Backends { name: String },
    AddBackend { name: String, address: SocketAddr },
    RemoveBackend { name: String, address: SocketAddr },
    Entries,
    Read { path: String },
    Write { path: String, text: String },
    /// Opens devices and never lets go.
    Hoard { inode: u64, name: String },
}

#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Config {
    steps: Vec<Step>,
    /// Also when it is asked for a place, while the host holds the namespace.
    in_place: bool,
}

#[plugin(attach_order, socket_reap, lifecycle)]
#[derive(Default)]
struct Operating(Config);

impl Lifecycle for Operating {
    type Config = Config;
    fn init(&mut self, config: Config) -> Result<(), String> {
        self.0 = config;
        Ok(())
    }
}

impl Operating {
    fn run(&self) -> String {
        let outcomes = self.0.steps.iter().map(|step| match self.act(step) {
            Ok(text) => text,
            Err(error) => format!("{error:?}"),
        });
        outcomes.collect::<Vec<_>>().join(" | ")
    }

    /// As a plugin should, it tries again where the host says so: somebody else is changing the namespace. While the
    /// host itself waits for the plugin, that would not help.
    fn act(&self, step: &Step) -> Outcome {
        let tries = if self.0.in_place { 0 } else { 2_000 };
        for _ in 0..tries {
            match act(step) {
                Err(Error::Exhausted(why)) if why.contains("try again later") => {}
                outcome => return outcome,
            }
        }
        act(step)
    }
}

impl AttachOrder for Operating {
    fn place(&mut self, _node: &Node, _chain: &Chain, _candidate: &Candidate) -> PlaceDecision {
        if self.0.in_place { PlaceDecision::Veto(self.run()) } else { PlaceDecision::Abstain }
    }
}

impl SocketReap for Operating {
    fn plan(&mut self, _node: &Node, _event: &ReapEvent) -> PlanDecision {
        PlanDecision::Veto(self.run())
    }
}

type Outcome = Result<String, Error>;

/// Namespaces of a machine differ by inode: all of them are on one nsfs.
fn netns(inode: u64) -> NetnsId {
    let known = devices::list_devices().unwrap_or_default();
    let device = known.first().map_or(4, |info| info.netns.device);
    NetnsId { device, inode }
}

fn names<T>(items: impl IntoIterator<Item = T>, name: impl Fn(T) -> String) -> String {
    let mut names: Vec<String> = items.into_iter().map(name).collect();
    names.sort();
    names.join(",")
}

fn found(backends: &[SocketAddr]) -> Result<Vec<BoundSocket>, Error> {
    let filter = sockets::Filter {
        protocols: Vec::new(),
        states: Vec::new(),
        backends: backends.iter().map(|address| (*address).into()).collect(),
        netns_cookies: Vec::new(),
        min_age_ns: 0,
    };
    let iterator = sockets::iterate(&filter)?;
    let mut all = Vec::new();
    loop {
        let batch = iterator.next(2)?;
        if batch.is_empty() {
            return Ok(all);
        }
        all.extend(batch);
    }
}

fn act(step: &Step) -> Outcome {
    let done = |()| "done".to_owned();
    Ok(match step {
        Step::Devices => names(devices::list_devices()?, |info| info.name),
        Step::Open { inode, name } => {
            let info = devices::open(netns(*inode), name)?.inspect()?;
            format!("{} mtu {} gso {}", info.name, info.mtu, info.gso_max_size)
        }
        Step::SetMtu { inode, name, mtu } => devices::open(netns(*inode), name)?.set_mtu(*mtu).map(done)?,
        Step::SetSegmentation { inode, name, size } => {
            devices::open(netns(*inode), name)?.set_segmentation(*size, *size).map(done)?
        }
        Step::SetPolicy { inode, name } => devices::open(netns(*inode), name)?
            .set_policy(NetkitPolicy::Forward, NetkitPolicy::Blackhole)
            .map(done)?,
        Step::Create { inode, name, peer } => {
            let request = devices::PairRequest {
                mode: DeviceMode::Veth,
                name: name.clone(),
                peer_netns: netns(*inode),
                peer_name: peer.clone(),
                peer_mac: None,
                peer_addresses: Vec::new(),
                mtu: 1_400,
            };
            devices::create(&request)?.inspect()?.name
        }
        Step::Remove { inode, name } => devices::open(netns(*inode), name)?.remove().map(done)?,
        Step::Query { inode, name } => {
            let chain = links::query(netns(*inode), name, HookPoint::TcxIngress)?;
            names(&chain.entries, |entry| entry.owner.clone().unwrap_or_else(|| "foreign".to_owned()))
        }
        Step::Attach { inode, name, program, owner, stale } => {
            let chain = links::query(netns(*inode), name, HookPoint::TcxIngress)?;
            let revision = chain.revision - u64::from(*stale);
            let point = HookPoint::TcxIngress;
            links::attach(netns(*inode), name, point, program, owner, Placement::Head, revision)?.id()
        }
        Step::Update { id, program } => links::open(id)?.update(program).map(done)?,
        Step::Detach { id } => links::open(id)?.detach().map(done)?,
        Step::Sockets { backends } => {
            names(found(backends)?, |socket| socket.endpoint.unwrap_or_else(|| "nobody".to_owned()))
        }
        Step::Destroy { backends, forge } => {
            use sockets::Outcome;
            let mut doomed = found(backends)?;
            for socket in doomed.iter_mut().filter(|_| *forge) {
                socket.local.port ^= 1;
            }
            names(sockets::destroy(&doomed)?, |outcome| {
                let text = match outcome {
                    Outcome::Destroyed => "destroyed",
                    Outcome::Gone => "gone",
                    Outcome::Changed => "changed",
                    Outcome::Failed => "failed",
                };
                text.to_owned()
            })
        }
        Step::Endpoints => names(datapath::endpoints()?, |endpoint| endpoint.name),
        Step::Counters { name } => format!("{} sent", datapath::endpoint_counters(name)?.sent_packets),
        Step::Services => datapath::services()?.join(","),
        Step::Backends { name } => {
            names(datapath::open_service(name)?.backends()?, |backend| backend.address.port.to_string())
        }
        Step::AddBackend { name, address } => {
            datapath::open_service(name)?.add_backend((*address).into()).map(done)?
        }
        Step::RemoveBackend { name, address } => {
            datapath::open_service(name)?.remove_backend((*address).into()).map(done)?
        }
        Step::Entries => names(files::directories(), |name| {
            format!("{name}:{}", files::entries(&name, "").unwrap_or_default().join("+"))
        }),
        Step::Read { path } => String::from_utf8_lossy(&files::read("data", path)?).into_owned(),
        Step::Write { path, text } => files::write("data", path, text.as_bytes()).map(done)?,
        Step::Hoard { inode, name } => {
            let mut held = Vec::new();
            loop {
                held.push(devices::open(netns(*inode), name)?);
            }
        }
    })
}
