//! What packets between endpoints cost.
//!
//! Instructions are counted on an emulated machine with one CPU that runs one each nanosecond: the same each time,
//! whatever else happens here. They say nothing of queues and caches; times on this machine do, and vary.

use std::{
    collections::HashMap,
    env,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, bail};
use serde::Deserialize;

use crate::{measure::Samples, report::Report};

/// The traffic whose figures are instructions an exchange or connection, with what the names end in.
const TRAFFIC: [(&str, &str); 5] = [
    ("tcp_rr", "instructions"),
    ("udp_rr", "instructions"),
    ("tcp_crr", "instructions"),
    ("connect", "instructions"),
    ("tcp_bulk", "instructions/byte"),
];
const KINDS: [&str; 5] = ["netkit", "netkit_l2", "veth", "bridge", "route"];

/// The bench `datapath`.
pub(crate) fn run(report: &mut Report, out: &Path) -> anyhow::Result<()> {
    let instructions = instructions()?;
    for (traffic, unit) in TRAFFIC {
        for (place, baseline) in [("same_node", "loopback"), ("wire", "host_to_host")] {
            let base = instructions.get(baseline, traffic)?;
            report.state(&format!("{baseline}_{traffic}"), unit, base);
            for kind in KINDS {
                let path = format!("{place}_{kind}");
                report.compare(&format!("{path}_{traffic}"), unit, instructions.get(&path, traffic)?, base);
            }
        }
    }
    for (name, traffic) in
        [("service_rr", "tcp_rr"), ("service_connect", "connect"), ("service_crr", "tcp_crr")]
    {
        let direct = instructions.get("same_node_netkit", traffic)?;
        report.compare(name, "instructions", instructions.get("service", traffic)?, direct);
    }

    let times = times()?;
    for (traffic, unit) in [("tcp_rr", "ns"), ("udp_rr", "ns"), ("tcp_crr", "ns"), ("tcp_bulk", "ns/byte")] {
        for place in ["same_node", "wire"] {
            let ours = times.get(&format!("{place}_veth"), traffic)?;
            for other in ["bridge", "route"] {
                let theirs = times.get(&format!("{place}_{other}"), traffic)?;
                report.compare(&format!("native_{place}_veth_{traffic}_to_{other}"), unit, ours, theirs);
            }
        }
    }
    let exchange = |name: &str| name.ends_with("_rr") && !name.starts_with("native");
    report.plot(
        out,
        "datapath-instructions",
        "Instructions an exchange, beside loopback or the bare wire",
        exchange,
    )?;
    let time = |name: &str| name.starts_with("native");
    report.plot(out, "datapath-time", "Time of veth with tcx, beside bridge and routed veth", time)
}

/// On the emulated machine, where a nanosecond is an instruction.
fn instructions() -> anyhow::Result<Measured> {
    let program = program("NETLOOM_ROUNDTRIPS")?;
    let mut command = Command::new(self::program("NETLOOM_XTASK")?);
    command.args(["vm", "--kernel", "6.12", "--icount", "--timeout", "1800", "--"]).arg(program);
    command.args(["measure", "--settle", "60", "--repetitions", "4", "--count", "400"]);
    measured(command)
}

/// Here, path by path and again, so that whatever else the machine does falls on all alike.
fn times() -> anyhow::Result<Measured> {
    let mut command = Command::new(program("NETLOOM_ROUNDTRIPS")?);
    command.args(["measure", "--rounds", "7", "--repetitions", "3", "--count", "2000"]);
    command.args(["--traffic", "tcp_rr,udp_rr,tcp_crr,tcp_bulk", "--path"]);
    command.arg("same_node_veth,same_node_bridge,same_node_route,wire_veth,wire_bridge,wire_route");
    measured(command)
}

fn program(variable: &str) -> anyhow::Result<PathBuf> {
    let path =
        env::var_os(variable).with_context(|| format!("{variable} is not set: run `cargo xtask bench`"))?;
    Ok(path.into())
}

/// A line of netloom-roundtrips.
#[derive(Deserialize)]
struct Line {
    path: String,
    traffic: String,
    value: f64,
}

/// What was measured, by path and traffic.
struct Measured(HashMap<(String, String), Samples>);

impl Measured {
    fn get(&self, path: &str, traffic: &str) -> anyhow::Result<&Samples> {
        let key = (path.to_owned(), traffic.to_owned());
        self.0.get(&key).with_context(|| format!("{traffic} was not measured over {path}"))
    }
}

fn measured(mut command: Command) -> anyhow::Result<Measured> {
    let output = command.stderr(std::process::Stdio::inherit()).output();
    let output = output.with_context(|| format!("{command:?} cannot be started"))?;
    if !output.status.success() {
        bail!("{command:?} failed ({})", output.status);
    }
    parse(&String::from_utf8_lossy(&output.stdout))
}

fn parse(text: &str) -> anyhow::Result<Measured> {
    let mut samples: HashMap<_, Samples> = HashMap::new();
    for line in text.lines() {
        let line: Line = serde_json::from_str(line).with_context(|| format!("not understood: {line}"))?;
        samples.entry((line.path, line.traffic)).or_default().push(line.value);
    }
    Ok(Measured(samples))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_sorted_by_path_and_traffic() {
        let text = r#"{"path":"loopback","traffic":"tcp_rr","repetition":1,"value":3.0}
{"path":"loopback","traffic":"tcp_rr","repetition":2,"value":5.0}
{"path":"loopback","traffic":"udp_rr","repetition":1,"value":9.0}"#;
        let measured = parse(text).unwrap();
        assert!((measured.get("loopback", "udp_rr").unwrap().median() - 9.0).abs() < f64::EPSILON);
        assert!(measured.get("service", "udp_rr").is_err());
        assert!(parse("kernel: hello").is_err());
    }
}
