//! netloomd, the node's network agent.
//!
//! [`opened`] is what everything stands on, [`node`] has the parts, each with what it needs, and [`executor`] is the one
//! that changes devices and programs. [`start`], [`report`], [`operator`] and [`api`] go over all of them.

mod api;
mod background;
mod chains;
mod config;
mod endpoints;
mod executor;
mod failpoints;
mod failure;
mod inventory;
mod locks;
mod mends;
mod monitor;
mod naming;
mod node;
mod opened;
mod operator;
mod orphans;
mod pairs;
mod plugins;
mod policy;
mod reaping;
mod report;
mod services;
mod slow;
mod socket_lb;
mod start;
mod store;
mod telemetry;
mod uplinks;

use std::{io::IsTerminal as _, path::PathBuf, process::ExitCode, sync::Arc, time::Duration};

use anyhow::Context as _;
use clap::{Parser, Subcommand};
use netloom_api::Paths;
use netloom_core::model::Name;
use netloom_kernel::sockets::{Destroyer, Finder};
use netloom_runtime::Operations;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::signal::unix::{SignalKind, signal};
use tracing_subscriber::EnvFilter;

use crate::{
    api::Api,
    config::{Config, LogFormat},
    node::Node,
    opened::Opened,
    operator::{Actions, Operator},
    report::Report,
    start::Start,
    store::InstanceLock,
};

/// Netloom's node agent: Wasm plugins decide, it acts on the kernel.
///
/// It needs no configuration. Attached programs and connections go on when it stops; it takes them up again when
/// it starts.
#[derive(Parser)]
#[command(version, name = "netloomd")]
struct Arguments {
    /// Run beside the node's netloomd, with paths of its own: /run/netloom-NAME and so on
    #[arg(long, value_name = "NAME", env = "NETLOOM_INSTANCE", global = true)]
    instance: Option<Name>,

    /// The configuration file [default: /etc/netloom/netloom.toml, if it is there]
    #[arg(long, value_name = "FILE", global = true)]
    config: Option<PathBuf>,

    /// The API's unix socket [default: /run/netloom/netloomd.sock]
    #[arg(long, value_name = "PATH", env = "NETLOOM_SOCKET", global = true)]
    socket: Option<PathBuf>,

    /// Where compiled plugins are kept, instead of what the configuration says
    #[arg(long, value_name = "DIR", env = "NETLOOM_COMPILED", global = true)]
    compiled: Option<PathBuf>,

    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Subcommand)]
enum Command {
    /// Serve (the default)
    Run,
    /// Remove everything this instance has on the node: endpoints, programs, services, files
    Cleanup,
    /// Put a backup in the place of the store, while the daemon does not run; `netloom store restore` does it
    Restore {
        /// What `netloom store backup` wrote
        file: PathBuf,
    },
    /// Print the configuration in force, complete with defaults
    Config,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    match run(arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: Arguments) -> anyhow::Result<()> {
    let mut paths = Paths::of(arguments.instance.as_ref());
    if let Some(socket) = arguments.socket {
        paths.socket = socket;
    }
    let mut config =
        Config::read(arguments.config.as_ref().unwrap_or(&paths.config), arguments.config.is_some())?;
    if arguments.compiled.is_some() {
        config.plugins.compiled = arguments.compiled;
    }
    if matches!(arguments.command, Some(Command::Config)) {
        print!("{}", config.to_toml()?);
        return Ok(());
    }
    start_log(&config)?;
    if let Some(Command::Restore { file }) = &arguments.command {
        return restore(&paths, file);
    }
    check_rights()?;
    allow_descriptors();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .thread_name("netloomd")
        .build()
        .context("the async runtime cannot be started")?;
    let lock = InstanceLock::take(&paths)?;
    let instance = arguments.instance;
    match arguments.command {
        Some(Command::Cleanup) => runtime.block_on(cleanup(instance.as_ref(), paths, config)),
        _ => runtime.block_on(serve(instance.as_ref(), paths, config, &lock)),
    }
}

fn restore(paths: &Paths, file: &std::path::Path) -> anyhow::Result<()> {
    let _lock = InstanceLock::take(paths).context("a store is put back while netloomd does not run")?;
    let restored = store::restore(&paths.state.join("store.redb"), file)?;
    println!("{} records of netloomd {} are in place; start netloomd", restored.records, restored.written_by);
    if let Some(before) = restored.before {
        println!("the store before is kept as {}", before.display());
    }
    Ok(())
}

/// As many descriptors as there may be: namespaces are held by them, and maps on their way into others.
fn allow_descriptors() {
    let maximum = getrlimit(Resource::Nofile).maximum;
    if let Err(error) = setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum }) {
        tracing::warn!(%error, "the limit of descriptors stays as it is");
    }
}

async fn serve(
    instance: Option<&Name>,
    paths: Paths,
    config: Config,
    lock: &InstanceLock,
) -> anyhow::Result<()> {
    let mut terminate = signal(SignalKind::terminate()).context("signals cannot be received")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("signals cannot be received")?;
    let socket = paths.socket.clone();
    let opened = Opened::new(instance, paths, config).await?;
    let operator = Arc::new(Operator::default());
    let node = Node::new(&opened, Arc::clone(&operator) as Arc<dyn Operations>)?;
    let actions = Arc::new(Actions::new(&opened, &node));
    operator.serve(&actions);
    let start = Arc::new(Start::new(&opened, &node));
    start.run().await?;
    // The socket appears when everything is adopted: who can connect finds the node as it is.
    let listener = store::listen(&socket, lock)?;
    tracing::info!(socket = %socket.display(), kernel = opened.capabilities.kernel, "ready");
    let api = Api::new(&opened, &node, &actions, Report::new(&opened, &node, &start));
    let (stopping, stopped) = tokio::sync::oneshot::channel();
    let server = axum::serve(listener, api::router(api))
        .with_graceful_shutdown(async move {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
            drop(stopping);
            // Their requests end when they do, and no other.
            node.monitor.close();
            tracing::info!("stopping; programs and connections go on");
        })
        .into_future();
    tokio::select! {
        served = server => served.context("serving the API failed")?,
        () = drained(stopped) => tracing::warn!("some clients do not read their answers: they are cut off"),
    }
    opened.background.end().await;
    std::fs::remove_file(&socket).ok();
    Ok(())
}

/// When those who asked before the daemon was told to stop have had their time.
async fn drained(stopped: tokio::sync::oneshot::Receiver<()>) {
    const DRAIN_TIME: Duration = Duration::from_secs(30);
    stopped.await.ok();
    tokio::time::sleep(DRAIN_TIME).await;
}

async fn cleanup(instance: Option<&Name>, paths: Paths, mut config: Config) -> anyhow::Result<()> {
    // No socket is looked for: of all ways this one has nothing to load.
    config.sockets.finder = Some(Finder::SockDiag);
    config.sockets.destroyer = Some(Destroyer::Nothing);
    let opened = Opened::new(instance, paths.clone(), config).await?;
    let node = Node::new(&opened, Arc::new(Operator::default()))?;
    let removed = Start::new(&opened, &node).remove_everything().await;
    let mut left = removed.map_err(|failure| anyhow::anyhow!("{failure}"))?;
    drop((node, opened));
    // One that stays is no reason to leave the others.
    for folder in [&paths.bpffs, &paths.state, &paths.run] {
        left.extend(remove_folder(folder).err().map(|error| format!("{error:#}")));
    }
    if !left.is_empty() {
        anyhow::bail!(
            "not everything could be removed; run `netloomd cleanup` again when nothing keeps it any more:\n- {}",
            left.join("\n- ")
        );
    }
    println!("everything of {} is gone", paths.socket.display());
    Ok(())
}

fn remove_folder(folder: &std::path::Path) -> anyhow::Result<()> {
    let cgroup = folder.join("cgroup2");
    if cgroup.exists() {
        rustix::mount::unmount(&cgroup, rustix::mount::UnmountFlags::DETACH).ok();
    }
    match std::fs::remove_dir_all(folder) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("{} cannot be removed", folder.display()))
        }
        _ => Ok(()),
    }
}

fn start_log(config: &Config) -> anyhow::Result<()> {
    let filter = EnvFilter::try_new(&config.log.filter)
        .with_context(|| format!("log.filter {:?} is not understood", config.log.filter))?;
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal());
    match config.log.format {
        LogFormat::Text => builder.init(),
        LogFormat::Json => builder.json().init(),
    }
    log_panics();
    Ok(())
}

/// A panic ends a task and nothing else, so it is told where everything else is, and in the same format.
fn log_panics() {
    let plain = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        if tracing::enabled!(tracing::Level::ERROR) {
            let thread = std::thread::current();
            let place = panic.location().map(ToString::to_string);
            let why = panic.payload_as_str().unwrap_or("no reason was given");
            tracing::error!(thread = thread.name(), place, "a panic, which is a bug: {why}");
        } else {
            plain(panic);
        }
    }));
}

/// Root, and the capabilities that a container's root may lack.
fn check_rights() -> anyhow::Result<()> {
    // The third opens the namespaces of processes that have capabilities which netloomd has not.
    const NEEDED: [(u32, &str); 4] =
        [(12, "CAP_NET_ADMIN"), (21, "CAP_SYS_ADMIN"), (19, "CAP_SYS_PTRACE"), (39, "CAP_BPF")];
    let status = std::fs::read_to_string("/proc/self/status").context("/proc is not mounted")?;
    let effective = status
        .lines()
        .find_map(|line| line.strip_prefix("CapEff:"))
        .and_then(|hex| u64::from_str_radix(hex.trim(), 16).ok())
        .context("/proc/self/status has no CapEff")?;
    let missing: Vec<&str> =
        NEEDED.iter().filter(|(bit, _)| effective >> bit & 1 == 0).map(|(_, name)| *name).collect();
    if missing.is_empty() {
        return Ok(());
    }
    anyhow::bail!(
        "netloomd needs {}: run it as root, or with these capabilities. Without them `netloomd config` and \
         `netloom plugin` still work",
        missing.join(", ")
    )
}
