//! What a decision costs in each language: the plugin that `netloom plugin new` begins in it, which is the same
//! policy in all.

use std::{
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::Duration,
};

use anyhow::{Context as _, ensure};
use netloom_core::model::Name;
use netloom_runtime::{Limits, LoadRequest, NodeFacts, Plugin, PluginHost};
use netloom_test_support::binary;
use tokio::runtime::Runtime;

use super::{candidate, capabilities, chain, decisions_of};
use crate::{measure::in_turn, report::Report};

/// What is compared with Rust.
const OTHERS: [&str; 4] = ["c", "go", "javascript", "python"];
const ROUNDS: usize = 10;

/// A decision in each, in turn with Rust's.
///
/// # Errors
/// If a plugin cannot be built in one of them: a figure that is missing would look like one that nobody wants.
pub(super) fn run(
    report: &mut Report,
    runtime: &Runtime,
    host: &PluginHost,
    compiled: &Path,
) -> anyhow::Result<()> {
    let (chain, candidate, capabilities) = (chain()?, candidate()?, capabilities());
    let node = NodeFacts { name: "node-1", capabilities: &capabilities };
    let decisions = |plugin: &Plugin| decisions_of(runtime, plugin, node, &chain, &candidate);
    let rust = runtime.block_on(load(host, "rust", compiled))?;
    for language in OTHERS {
        let other = runtime.block_on(load(host, language, compiled)).with_context(|| {
            format!("no plugin in {language}: `cargo xtask setup` installs what it is built with")
        })?;
        let (other, rust) = in_turn(ROUNDS, || decisions(&other), || decisions(&rust))?;
        report.compare(&format!("decision_{language}"), "µs", &other, &rust)?;
    }
    Ok(())
}

async fn load(host: &PluginHost, language: &str, compiled: &Path) -> anyhow::Result<Plugin> {
    let folder = tempfile::tempdir().context("creating a folder for a plugin")?;
    let component = folder.path().join("policy.wasm");
    tool(folder.path(), compiled, &["new", "policy", "--lang", language])?;
    tool(folder.path(), compiled, &["build", "policy", "--out", "policy.wasm"])?;
    let component = std::fs::read(&component).with_context(|| format!("reading {}", component.display()))?;
    let mut request = LoadRequest::new(Name::new(language)?, component);
    // An interpreter needs the room.
    request.limits = Some(Limits {
        memory_bytes: 128 << 20,
        table_elements: 50_000,
        init_deadline: Duration::from_secs(10),
        ..Limits::default()
    });
    Ok(host.load(request).await?)
}

/// Runs `netloom plugin`; what Rust compiles is kept in a folder for the next time.
fn tool(folder: &Path, compiled: &Path, arguments: &[&str]) -> anyhow::Result<()> {
    let sdk = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../sdk/rust");
    let output = Command::new(binary("netloom-plugin"))
        .args(arguments)
        .current_dir(folder)
        .env("CARGO_TARGET_DIR", compiled)
        .env("NETLOOM_SDK", sdk)
        .stdin(Stdio::null())
        .output()
        .context("netloom-plugin cannot be started")?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "`netloom plugin {}` failed: {}", arguments.join(" "), said.trim());
    Ok(())
}
