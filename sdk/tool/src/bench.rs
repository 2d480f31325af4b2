//! How long a plugin takes.

use std::{process::ExitCode, time::Instant};

use netloom_runtime::{Hook, Reply};

use crate::{conformance, files, files::Source};

/// Loads, starts and asks, and prints what each took.
pub(crate) async fn run(source: &Source, rounds: usize) -> anyhow::Result<ExitCode> {
    let host = files::compiling_host()?;
    let started = Instant::now();
    let plugin = host.load(source.request()?).await?;
    println!("{:24} {:>10.1} ms", "compile and load", started.elapsed().as_secs_f64() * 1e3);

    let mut starts = Vec::with_capacity(rounds);
    for _ in 0..rounds.min(200) {
        let started = Instant::now();
        plugin.try_start().await?;
        starts.push(started.elapsed().as_secs_f64() * 1e6);
    }
    show("start an instance", starts);
    let node = files::node();
    for (name, question) in conformance::typical()? {
        if question.hook() == Hook::Lifecycle || !plugin.serves(question.hook()) {
            continue;
        }
        let mut times = Vec::with_capacity(rounds);
        for _ in 0..rounds {
            let started = Instant::now();
            let reply = plugin.ask(node.facts(), &question).await;
            if let Reply::Failed(why) = reply {
                anyhow::bail!("{name}: it failed: {why}");
            }
            times.push(started.elapsed().as_secs_f64() * 1e6);
        }
        show(&name, times);
    }
    Ok(ExitCode::SUCCESS)
}

fn show(name: &str, mut times: Vec<f64>) {
    times.sort_by(f64::total_cmp);
    let at =
        |percent: usize| times.get(times.len().saturating_sub(1) * percent / 100).copied().unwrap_or(0.0);
    println!("{name:24} {:>10.1} µs median, {:.1} µs p99", at(50), at(99));
}
