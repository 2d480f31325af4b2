//! What a node full of endpoints or of services takes: memory of the daemon, and the time to take them up.

use std::{fs, time::Instant};

use anyhow::{Context as _, ensure};
use netloom_api::types::{EndpointView, ServicesApplied, Status};
use netloom_test_support::{Daemon, DaemonOptions, Netns};
use serde_json::json;

use crate::{measure::Samples, report::Report};

/// Restarts at each size.
const STARTS: usize = 5;

/// `endpoints_N_rss` and `adopt_N`, with two attachments an endpoint: the growth shows in the steps.
pub(crate) fn endpoints(report: &mut Report) -> anyhow::Result<()> {
    let node = Netns::new("many");
    let config = Some("[log]\nfilter = \"warn\"\n".to_owned());
    let mut daemon =
        Daemon::start(DaemonOptions { node: Some(node.path()), config, ..DaemonOptions::default() });
    let empty = (resident(&daemon)?, starts(&mut daemon, 0)?);
    let mut endpoints = Vec::new();
    for (count, label) in [(250, "250"), (500, "500"), (1_000, "1000")] {
        while endpoints.len() < count {
            let netns = Netns::new("endpoint");
            let spec = json!({ "name": format!("endpoint-{}", endpoints.len()), "netns": netns.path() });
            daemon.post::<EndpointView>("/v1/endpoints", &spec)?;
            endpoints.push(netns);
        }
        let memory = resident(&daemon)?;
        report.compare(&format!("endpoints_{label}_rss"), "MB", &one(memory), &one(empty.0))?;
        report.compare(&format!("adopt_{label}"), "ms", &starts(&mut daemon, count)?, &empty.1)?;
        if count == 1_000 {
            report.state("endpoints_1000_idle_cpu", "%", &one(idle(&daemon)?));
        }
    }
    Ok(())
}

/// `services_10k_apply` and `services_10k_rss`: ten thousand services with ten backends each, in one request.
pub(crate) fn services(report: &mut Report) -> anyhow::Result<()> {
    let node = Netns::new("services");
    let daemon = Daemon::start(DaemonOptions { node: Some(node.path()), ..DaemonOptions::default() });
    let service = |number: u32| {
        let (high, low) = (number / 250, 1 + number % 250);
        let backends: Vec<_> =
            (0..10).map(|of| format!("10.{}.{high}.{low}:{}", 100 + of, 8000 + of)).collect();
        json!({
            "name": format!("s{number}"),
            "vip": format!("10.97.{high}.{low}:80"),
            "protocol": "tcp",
            "backends": backends,
        })
    };
    let request = json!({ "services": (0..10_000).map(service).collect::<Vec<_>>() });
    let began = Instant::now();
    let applied: ServicesApplied = daemon.put("/v1/services", &request)?;
    report.state("services_10k_apply", "ms", &one(began.elapsed().as_secs_f64() * 1e3));
    ensure!(applied.added.len() == 10_000, "{} services", applied.added.len());
    report.state("services_10k_rss", "MB", &one(resident(&daemon)?));
    let none = json!({ "services": [], "prune": true });
    let removed: ServicesApplied = daemon.put("/v1/services", &none)?;
    ensure!(removed.removed.len() == 10_000, "{} services went", removed.removed.len());
    Ok(())
}

fn one(value: f64) -> Samples {
    [value].into_iter().collect()
}

/// The milliseconds from a SIGKILL's successor being started to its first answer.
fn starts(daemon: &mut Daemon, endpoints: usize) -> anyhow::Result<Samples> {
    (0..STARTS)
        .map(|_| {
            daemon.kill9();
            let began = Instant::now();
            daemon.restart();
            let taken = began.elapsed().as_secs_f64() * 1e3;
            let status: Status = daemon.get("/v1/status")?;
            let adopted = (status.adoption.endpoints, status.adoption.attachments);
            ensure!(adopted == (endpoints, 2 * endpoints), "adopted {adopted:?} of {endpoints}");
            Ok(taken)
        })
        .collect()
}

/// Megabytes.
fn resident(daemon: &Daemon) -> anyhow::Result<f64> {
    let status = fs::read_to_string(format!("/proc/{}/status", daemon.pid().context("it runs")?))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("it has a memory")?;
    let kilobytes: f64 = line.trim().trim_end_matches(" kB").parse()?;
    Ok(kilobytes / 1e3)
}

/// The share of one CPU that a daemon takes which nobody asks anything, over ten seconds.
fn idle(daemon: &Daemon) -> anyhow::Result<f64> {
    let ticks = || -> anyhow::Result<f64> {
        let stat = fs::read_to_string(format!("/proc/{}/stat", daemon.pid().context("it runs")?))?;
        let after_name = stat.rsplit(") ").next().context("a process has a name")?;
        let times = after_name.split(' ').skip(11).take(2).map(str::parse::<f64>);
        Ok(times.sum::<Result<f64, _>>()?)
    };
    // A daemon that was started looks at every chain once; that is over by then.
    std::thread::sleep(std::time::Duration::from_secs(30));
    let (before, began) = (ticks()?, Instant::now());
    std::thread::sleep(std::time::Duration::from_secs(10));
    // A tick is a hundredth of a second.
    Ok((ticks()? - before) / began.elapsed().as_secs_f64())
}
