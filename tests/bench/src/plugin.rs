//! What a plugin costs: to load, to start, to ask, and to have many of, or a bad one, beside it.

mod languages;
mod native;
mod neighbour;

use std::{path::Path, sync::Arc, time::Instant};

use anyhow::{Context as _, bail};
use netloom_core::{
    model::{
        Candidate, Capabilities, Chain, ChainEntry, Feature, Hook, HookPoint, IfIndex, Labels, Name, NetnsId,
        Owner, ProgramId, Revision, Support,
    },
    validate,
};
use netloom_runtime::{
    HostConfig, LoadRequest, NodeFacts, Plugin, PluginHost, Registry, Supervision, Verdict,
};

use crate::{
    measure::{Samples, in_turn, milliseconds},
    report::Report,
};

/// Decisions of one sample.
const BATCH: usize = 200;
/// Samples of each kind.
const ROUNDS: usize = 40;
/// Entries of the chain that is decided on.
const CHAIN: u32 = 8;
const MICRO: f64 = 1e6;

/// The bench `plugin`.
pub(crate) fn run(report: &mut Report, out: &Path) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let scratch = tempfile::tempdir().context("creating a folder for compiled components")?;
    let cached = PluginHost::new(HostConfig {
        cache_dir: Some(scratch.path().join("compiled")),
        supervision: Supervision {
            failures: usize::MAX,
            first_backoff: std::time::Duration::ZERO,
            ..Supervision::default()
        },
        ..HostConfig::default()
    })?;
    loading(report, &runtime, &cached)?;
    decisions(report, &runtime, &cached)?;
    neighbour::run(report, &runtime, &cached)?;
    many(report, &runtime)?;
    languages::run(report, &runtime, &cached, &std::path::absolute(out)?.join("plugins"))
}

fn bundled() -> anyhow::Result<&'static [u8]> {
    let found = netloom_bundled::PLUGINS.iter().find(|plugin| plugin.name == "attach-order");
    found.map(|plugin| plugin.component).context("attach-order is not bundled")
}

fn loading(
    report: &mut Report,
    runtime: &tokio::runtime::Runtime,
    cached: &PluginHost,
) -> anyhow::Result<()> {
    let uncached = PluginHost::new(HostConfig::default())?;
    let component: Arc<[u8]> = bundled()?.into();
    let load = |host: &PluginHost| {
        let request = LoadRequest::new(Name::new("attach-order")?, Arc::clone(&component));
        milliseconds(|| runtime.block_on(host.load(request)).context("loading a bundled plugin"))
    };
    let (ours, compiled) = in_turn(20, || load(cached), || load(&uncached))?;
    report.compare("load_cached", "ms", &ours, &compiled)?;
    report.state("load_compiling", "ms", &compiled);
    Ok(())
}

/// A chain as a busy endpoint has it, and a program that goes into its middle.
pub(crate) fn chain() -> anyhow::Result<Chain> {
    let entry = |at: u32| {
        let owner =
            if at + 1 == CHAIN { "netloom/datapath".to_owned() } else { format!("acme/program-{at}") };
        Ok(ChainEntry {
            program: ProgramId(100 + at),
            link: None,
            name: format!("program_{at}"),
            tag: "0123456789abcdef".to_owned(),
            filter: None,
            attachment: Some(format!("acme-program-{at}")),
            owner: Some(Owner::new(owner)?),
            priority: Some(i32::try_from(at)?),
            labels: if at == 0 { Labels::from([("role".into(), "observer".into())]) } else { Labels::new() },
        })
    };
    Ok(Chain {
        hook: Hook {
            netns: NetnsId { device: 4, inode: 4_026_531_840 },
            device: "nlweb0a1b2c".to_owned(),
            ifindex: IfIndex(7),
            point: HookPoint::TcxIngress,
        },
        revision: Revision(CHAIN.into()),
        entries: (0..CHAIN).map(entry).collect::<anyhow::Result<_>>()?,
    })
}

pub(crate) fn candidate() -> anyhow::Result<Candidate> {
    Ok(Candidate {
        owner: Owner::new("acme/firewall")?,
        name: "firewall".to_owned(),
        tag: "fedcba9876543210".to_owned(),
        priority: 4,
        labels: Labels::from([("role".into(), "filter".into()), ("team".into(), "net".into())]),
        required: false,
    })
}

fn capabilities() -> Capabilities {
    let there = || Support { available: true, detail: "tried".to_owned() };
    Capabilities {
        kernel: "6.18.0".to_owned(),
        features: Feature::ALL.into_iter().map(|feature| (feature, there())).collect(),
    }
}

/// One decision from the snapshot to a placement that may be carried out.
async fn decide(
    registry: &Registry,
    capabilities: &Capabilities,
    chain: &Chain,
    candidate: &Candidate,
) -> anyhow::Result<()> {
    let node = NodeFacts { name: "node-1", capabilities };
    let check = |raw| validate::placement(chain, candidate, raw);
    match registry.place(node, chain, candidate, check).await.verdict {
        Verdict::Decided { .. } => Ok(()),
        other => bail!("not decided: {other:?}"),
    }
}

async fn registry_of(host: &PluginHost) -> anyhow::Result<(Registry, Arc<Plugin>)> {
    let plugin = host.load(LoadRequest::new(Name::new("attach-order")?, bundled()?)).await?;
    let plugin = Arc::new(plugin);
    let registry = Registry::default();
    registry.insert(Arc::clone(&plugin), None);
    Ok((registry, plugin))
}

fn decisions(
    report: &mut Report,
    runtime: &tokio::runtime::Runtime,
    host: &PluginHost,
) -> anyhow::Result<()> {
    let (chain, candidate, capabilities) = (chain()?, candidate()?, capabilities());
    let (registry, plugin) = runtime.block_on(registry_of(host))?;
    // On a worker of the runtime, as the daemon does it.
    let one = || async {
        let started = Instant::now();
        decide(&registry, &capabilities, &chain, &candidate).await?;
        Ok::<_, anyhow::Error>(started.elapsed().as_secs_f64() * MICRO)
    };
    let mut each = Samples::default();
    runtime.block_on(async {
        for _ in 0..BATCH {
            one().await?;
        }
        for _ in 0..BATCH * ROUNDS {
            each.push(one().await?);
        }
        Ok::<_, anyhow::Error>(())
    })?;
    report.state("decision_p50", "µs", &each);
    report.quantile("decision_p99", "µs", &each, 0.99);

    let policy = native::Policy::default();
    let node = NodeFacts { name: "node-1", capabilities: &capabilities };
    let (wasm, native) = in_turn(
        ROUNDS,
        || decisions_of(runtime, &plugin, node, &chain, &candidate),
        || {
            let started = Instant::now();
            for _ in 0..BATCH {
                std::hint::black_box(policy.place(node, &chain, &candidate));
            }
            per_batch(started)
        },
    )?;
    report.compare("decision_native", "µs", &wasm, &native)?;

    let mut starts = Samples::default();
    for _ in 0..ROUNDS {
        let started = Instant::now();
        runtime.block_on(async {
            for _ in 0..BATCH {
                plugin.try_start().await?;
            }
            Ok::<_, anyhow::Error>(())
        })?;
        starts.push(per_batch(started)?);
    }
    report.state("instantiate", "µs", &starts);
    Ok(())
}

/// The microseconds of a decision, of a plugin by itself.
fn decisions_of(
    runtime: &tokio::runtime::Runtime,
    plugin: &Plugin,
    node: NodeFacts<'_>,
    chain: &Chain,
    candidate: &Candidate,
) -> anyhow::Result<f64> {
    let started = Instant::now();
    runtime.block_on(async {
        for _ in 0..BATCH {
            std::hint::black_box(plugin.place(node, chain, candidate).await?);
        }
        Ok::<_, anyhow::Error>(())
    })?;
    per_batch(started)
}

#[allow(clippy::cast_precision_loss, reason = "a small constant")]
fn per_batch(started: Instant) -> anyhow::Result<f64> {
    Ok(started.elapsed().as_secs_f64() * MICRO / BATCH as f64)
}

/// A hundred plugins of which each is another component.
fn many(report: &mut Report, runtime: &tokio::runtime::Runtime) -> anyhow::Result<()> {
    let before = resident_mb()?;
    let host = PluginHost::new(HostConfig::default())?;
    let mut plugins = Vec::new();
    for number in 0..100_u8 {
        // A custom section: the same code, another component.
        let component = [bundled()?, b"\x00\x03\x01n".as_slice(), &[number]].concat();
        let name = Name::new(format!("plugin-{number}"))?;
        plugins.push(runtime.block_on(host.load(LoadRequest::new(name, component)))?);
    }
    let mut all = Samples::default();
    all.push(resident_mb()?);
    let mut base = Samples::default();
    base.push(before);
    report.compare("plugins_100_rss", "MB", &all, &base)?;
    drop(plugins);
    Ok(())
}

#[allow(clippy::cast_precision_loss, reason = "megabytes")]
fn resident_mb() -> anyhow::Result<f64> {
    let status = std::fs::read_to_string("/proc/self/status").context("reading /proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("no VmRSS")?;
    let kib: u64 = line.trim().trim_end_matches(" kB").trim().parse()?;
    Ok(kib as f64 / 1024.0)
}
