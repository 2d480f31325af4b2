//! What packets between endpoints cost.
//!
//! Instructions are counted on an emulated machine with one CPU that runs one each nanosecond: the same each time,
//! whatever else happens here. They say nothing of queues and caches; times on this machine do, and vary.

use std::{collections::HashMap, path::Path, process::Command};

use anyhow::Context as _;
use serde::Deserialize;

use crate::{
    emulated::{self, program},
    measure::Samples,
    report::Report,
};

/// The traffic whose figures are instructions an exchange or connection, with what the names end in.
const TRAFFIC: [(&str, &str); 5] = [
    ("tcp_rr", "instructions"),
    ("udp_rr", "instructions"),
    ("tcp_crr", "instructions"),
    ("connect", "instructions"),
    ("tcp_bulk", "instructions/byte"),
];
const KINDS: [&str; 5] = ["netkit", "netkit_l2", "veth", "bridge", "route"];
/// Where the traffic goes, and what it is measured beside.
const PLACES: [(&str, &str); 2] = [("same_node", "loopback"), ("wire", "host_to_host")];
const SERVICE: [(&str, &str); 3] =
    [("service_rr", "tcp_rr"), ("service_connect", "connect"), ("service_crr", "tcp_crr")];
/// The traffic whose figures are times.
const TIMED: [(&str, &str); 4] =
    [("tcp_rr", "ns"), ("udp_rr", "ns"), ("tcp_crr", "ns"), ("tcp_bulk", "ns/byte")];
/// What the times of veth are beside.
const STOCK: [&str; 2] = ["bridge", "route"];

/// The bench `datapath`.
pub(crate) fn run(report: &mut Report, out: &Path) -> anyhow::Result<()> {
    let instructions = instructions()?;
    for (traffic, unit) in TRAFFIC {
        for (place, baseline) in PLACES {
            let base = instructions.get(baseline, traffic)?;
            report.state(&format!("{baseline}_{traffic}"), unit, base);
            for kind in KINDS {
                let path = format!("{place}_{kind}");
                report.compare(
                    &format!("{path}_{traffic}"),
                    unit,
                    instructions.get(&path, traffic)?,
                    base,
                )?;
            }
        }
    }
    for (name, traffic) in SERVICE {
        let direct = instructions.get("same_node_netkit", traffic)?;
        report.compare(name, "instructions", instructions.get("service", traffic)?, direct)?;
    }

    let times = times()?;
    for (traffic, unit) in TIMED {
        for place in ["same_node", "wire"] {
            let ours = times.get(&format!("{place}_veth"), traffic)?;
            for other in STOCK {
                let theirs = times.get(&format!("{place}_{other}"), traffic)?;
                report.compare(&format!("native_{place}_veth_{traffic}_to_{other}"), unit, ours, theirs)?;
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

/// The names of the figures.
pub(crate) fn figures() -> Vec<String> {
    let mut names: Vec<String> = SERVICE.iter().map(|(name, _)| (*name).to_owned()).collect();
    for (traffic, _) in TRAFFIC {
        for (place, baseline) in PLACES {
            names.push(format!("{baseline}_{traffic}"));
            names.extend(KINDS.iter().map(|kind| format!("{place}_{kind}_{traffic}")));
        }
    }
    for (traffic, _) in TIMED {
        for (place, _) in PLACES {
            names.extend(STOCK.iter().map(|other| format!("native_{place}_veth_{traffic}_to_{other}")));
        }
    }
    names
}

/// On the emulated machine, where a nanosecond is an instruction.
fn instructions() -> anyhow::Result<Measured> {
    let mut command = emulated::counting()?;
    command.arg("--").arg(program("NETLOOM_ROUNDTRIPS")?);
    command.args(["measure", "--settle", "60", "--repetitions", "4", "--count", "400"]);
    parse(&emulated::output(command)?)
}

/// Here, path by path and again, so that whatever else the machine does falls on all alike.
fn times() -> anyhow::Result<Measured> {
    let mut command = Command::new(program("NETLOOM_ROUNDTRIPS")?);
    command.args(["measure", "--rounds", "7", "--repetitions", "3", "--count", "2000"]);
    command.args(["--traffic", "tcp_rr,udp_rr,tcp_crr,tcp_bulk", "--path"]);
    command.arg("same_node_veth,same_node_bridge,same_node_route,wire_veth,wire_bridge,wire_route");
    parse(&emulated::output(command)?)
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
