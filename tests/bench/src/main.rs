//! Measures what Netloom costs, always beside what a user would pick instead and in the same run.
//!
//! `cargo xtask bench NAME` builds everything optimised and runs it.

mod attach;
mod bars;
mod datapath;
mod emulated;
mod figures;
mod measure;
mod plot;
mod plugin;
mod reap;
mod report;

use std::{path::PathBuf, process::ExitCode};

use clap::{Parser, Subcommand};

use crate::report::Report;

/// Measures, prints a table, and writes NAME.json.
#[derive(Parser)]
struct Arguments {
    /// The folder that gets NAME.json
    #[arg(long, global = true, default_value = "target/bench")]
    out: PathBuf,
    #[command(subcommand)]
    bench: Bench,
}

#[derive(Subcommand)]
enum Bench {
    /// What it takes to place, attach and pin a program, and to update one
    Attach,
    /// What a packet costs between endpoints, in instructions (in a virtual machine) and in time (here)
    Datapath,
    /// What a plugin costs: to load, to start, to ask
    Plugin,
    /// What it costs to find and destroy the sockets of a dead backend
    Reap {
        /// Leaves larger numbers of sockets out, for a quick look
        #[arg(long, default_value_t = 1_000_000, value_name = "SOCKETS")]
        at_most: usize,
    },
    /// What placing a program takes, for another bench, on a machine that counts instructions
    #[command(hide = true)]
    AttachPhases,
    /// Holds sockets for another bench
    #[command(hide = true)]
    Hold,
}

fn main() -> ExitCode {
    match run(&Arguments::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &Arguments) -> anyhow::Result<()> {
    let mut report = match arguments.bench {
        Bench::Attach => Report::new("attach"),
        Bench::Datapath => Report::new("datapath"),
        Bench::Plugin => Report::new("plugin"),
        Bench::Reap { .. } => Report::new("reap"),
        Bench::AttachPhases => return attach::instructions::main(),
        Bench::Hold => return reap::holder::main(),
    };
    match arguments.bench {
        Bench::Attach => attach::run(&mut report)?,
        Bench::Datapath => datapath::run(&mut report, &arguments.out)?,
        Bench::Plugin => plugin::run(&mut report, &arguments.out)?,
        Bench::Reap { at_most } => reap::run(&mut report, at_most, &arguments.out)?,
        Bench::AttachPhases | Bench::Hold => {}
    }
    report.finish(&arguments.out)
}
