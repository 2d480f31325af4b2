//! What a plugin costs.

use anyhow::Context as _;
use netloom_core::model::Name;
use netloom_runtime::{HostConfig, LoadRequest, PluginHost};

use crate::{
    measure::{in_turn, milliseconds},
    report::Report,
};

/// The bench `plugin`.
pub(crate) fn run(report: &mut Report) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let scratch = tempfile::tempdir().context("creating a folder for compiled components")?;
    let cached = PluginHost::new(HostConfig {
        cache_dir: Some(scratch.path().join("compiled")),
        ..HostConfig::default()
    })?;
    let uncached = PluginHost::new(HostConfig::default())?;
    let bundled = netloom_bundled::PLUGINS.first().context("no plugin is bundled")?;
    let load = |host: &PluginHost| {
        let request = LoadRequest::new(Name::new(bundled.name)?, bundled.component);
        milliseconds(|| runtime.block_on(host.load(request)).context("loading a bundled plugin"))
    };
    let (ours, compiled) = in_turn(20, || load(&cached), || load(&uncached))?;
    report.compare("load_cached", "ms", &ours, &compiled);
    report.state("load_compiling", "ms", &compiled);
    Ok(())
}
