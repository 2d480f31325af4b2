//! What it takes to place, attach and pin a program in a chain, and to update one, beside the bare system calls.
//!
//! Most of the time of attaching is the kernel's, which waits until it is through with the chain as it was. What is
//! Netloom's is taken apart from it: reading the chain, and deciding; in time, in the daemon's CPU time, and in
//! instructions.
//!
//! - [`node`]: a daemon, and chains of a length
//! - [`instructions`]: the same on a machine where they can be counted
//! - [`many`]: a node full of endpoints or of services

pub(crate) mod instructions;
mod many;
mod node;

use self::node::{Attached, Node};
use crate::{
    measure::{Samples, all_in_turn, in_turn},
    report::Report,
};

/// Samples of each kind.
const ROUNDS: usize = 40;
/// Programs on a chain before ours: none, as many as a busy endpoint has, and all but two that a chain takes.
const LENGTHS: [usize; 3] = [0, 8, 62];

/// The bench `attach`.
pub(crate) fn run(report: &mut Report) -> anyhow::Result<()> {
    for length in LENGTHS {
        let node = Node::start(length)?;
        attach(report, &node, length)?;
        if length == 8 {
            update(report, &node)?;
        }
    }
    instructions::run(report)?;
    many::endpoints(report)?;
    many::services(report)
}

fn attach(report: &mut Report, node: &Node, length: usize) -> anyhow::Result<()> {
    let taken = all_in_turn(ROUNDS, &[true, false], |ours| {
        if *ours {
            return Ok((0.0, Some(node.attach_for_a_moment()?)));
        }
        Ok((node.bare_attach()?, None))
    })?;
    let [ours, bare] = taken;
    let ours: Vec<Attached> = ours.into_iter().filter_map(|(_, attached)| attached).collect();
    let bare = bare.into_iter().map(|(taken, _)| taken).collect();
    let of = |what: fn(&Attached) -> f64| ours.iter().map(what).collect::<Samples>();
    report.compare(&format!("attach_{length}"), "µs", &of(|attached| attached.phases.all()), &bare)?;
    report.state(&format!("read_{length}"), "µs", &of(|attached| attached.phases.read));
    report.state(&format!("decide_{length}"), "µs", &of(|attached| attached.phases.decide));
    if length == 8 {
        report.state("attach_api", "µs", &of(|attached| attached.request));
        report.state("attach_api_cpu", "µs", &of(|attached| attached.cpu));
        report.state("attach_load", "µs", &of(|attached| attached.phases.load));
        report.state("attach_commit", "µs", &of(|attached| attached.phases.commit));
    }
    Ok(())
}

fn update(report: &mut Report, node: &Node) -> anyhow::Result<()> {
    let id = node.attach("bench")?.id;
    let (ours, bare) = in_turn(ROUNDS, || node.update(&id), || node.bare_update())?;
    report.compare("update_8", "µs", &ours, &bare)
}
