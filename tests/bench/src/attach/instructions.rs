//! What placing a program takes in instructions: on an emulated machine that runs one each nanosecond, the daemon's
//! times are their number, the same each time but for what the kernel does in between.

use std::{collections::HashMap, env};

use anyhow::Context as _;
use serde::{Deserialize, Serialize};

use super::{LENGTHS, Node};
use crate::{emulated, measure::Samples, report::Report};

/// Samples of each length, after one that does not count.
const ROUNDS: usize = 10;

/// What was measured once: a line of what the machine writes. A microsecond there is a thousand instructions.
#[derive(Deserialize, Serialize)]
struct Line {
    length: usize,
    read: f64,
    decide: f64,
}

/// `read_N_instructions` and `decide_N_instructions`.
pub(super) fn run(report: &mut Report) -> anyhow::Result<()> {
    let netloomd = emulated::program("NETLOOM_NETLOOMD")?;
    let mut command = emulated::counting()?;
    command.arg("--copy").arg(&netloomd);
    command.arg("--env").arg(format!("NETLOOM_NETLOOMD={}", netloomd.display()));
    command.arg("--").arg(env::current_exe().context("finding this program")?).arg("attach-phases");
    let measured = parse(&emulated::output(command)?)?;
    for length in LENGTHS {
        let (read, decide) = measured.get(&length).with_context(|| format!("no chain of {length}"))?;
        report.state(&format!("read_{length}_instructions"), "instructions", read);
        report.state(&format!("decide_{length}_instructions"), "instructions", decide);
    }
    Ok(())
}

/// The machine's side.
pub(crate) fn main() -> anyhow::Result<()> {
    for length in LENGTHS {
        let node = Node::start(length)?;
        for round in 0..=ROUNDS {
            let phases = node.attach_for_a_moment()?.phases;
            if round > 0 {
                let line = Line { length, read: phases.read, decide: phases.decide };
                println!("{}", serde_json::to_string(&line)?);
            }
        }
    }
    Ok(())
}

/// The instructions of reading and of deciding, by the chain's length.
fn parse(text: &str) -> anyhow::Result<HashMap<usize, (Samples, Samples)>> {
    let mut samples: HashMap<usize, (Samples, Samples)> = HashMap::new();
    for line in text.lines() {
        let line: Line = serde_json::from_str(line).with_context(|| format!("not understood: {line}"))?;
        let (read, decide) = samples.entry(line.length).or_default();
        read.push(line.read * 1e3);
        decide.push(line.decide * 1e3);
    }
    Ok(samples)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_microsecond_of_the_machine_is_a_thousand_instructions() {
        let text = "{\"length\":8,\"read\":20.0,\"decide\":5.5}\n{\"length\":8,\"read\":22.0,\"decide\":5.5}";
        let measured = parse(text).unwrap();
        let (read, decide) = &measured[&8];
        assert!((read.median() - 21_000.0).abs() < 1e-6);
        assert!((decide.median() - 5_500.0).abs() < 1e-6);
        assert!(parse("kernel: hello").is_err());
    }
}
