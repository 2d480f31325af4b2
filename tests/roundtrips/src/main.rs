//! Sends the same traffic over the loopback device, over what a user would pick instead of Netloom, and through
//! Netloom in each of its device modes, in turn and on one kernel. Writes a line of JSON for each measurement.
//!
//! What it measures is time. On a machine that runs one instruction a nanosecond, as QEMU's `-icount shift=0` makes
//! one, that is the number of instructions.
//!
//! - [`paths`]: from a client's namespace to a server's, one way of joining them each
//! - [`traffic`]: what goes over a path

#![allow(
    clippy::expect_used,
    clippy::unwrap_used,
    clippy::panic,
    reason = "it stands on the tests' support, and fails as a test does"
)]

mod paths;
mod traffic;

use std::{net::SocketAddr, process::ExitCode, thread, time::Duration};

use clap::{Args, Parser, Subcommand};
use serde::Serialize;

use crate::{
    paths::{Path, Setup},
    traffic::Traffic,
};

#[derive(Parser)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Measures; a line of JSON for each repetition
    Measure(Measure),
    /// The other end of the traffic, in the caller's namespace, until it is killed
    #[command(hide = true)]
    Serve {
        /// Which traffic
        traffic: Traffic,
        /// Where it listens
        address: SocketAddr,
    },
}

#[derive(Args)]
struct Measure {
    /// Only these paths
    #[arg(long, value_delimiter = ',')]
    path: Vec<String>,
    /// Only this traffic
    #[arg(long, value_enum, value_delimiter = ',')]
    traffic: Vec<Traffic>,
    /// How often each is measured, after a first time that does not count
    #[arg(long, default_value_t = 4)]
    repetitions: u32,
    /// Exchanges, or megabytes, of a measurement
    #[arg(long, default_value_t = 500)]
    count: u32,
    /// Seconds to wait first: a kernel that has just booted has other things to do
    #[arg(long, default_value_t = 0)]
    settle: u64,
    /// How often everything is done, path by path
    #[arg(long, default_value_t = 1)]
    rounds: u32,
}

/// One measurement.
#[derive(Serialize)]
struct Line<'a> {
    path: &'a str,
    traffic: Traffic,
    repetition: u32,
    /// Nanoseconds an exchange, a connection or a byte.
    value: f64,
}

fn main() -> ExitCode {
    match run(Arguments::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: Arguments) -> anyhow::Result<()> {
    let measure = match arguments.command {
        Command::Serve { traffic, address } => return traffic.serve(address),
        Command::Measure(measure) => measure,
    };
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
    let _inside = runtime.enter();
    let wanted = |name: String| measure.path.is_empty() || measure.path.contains(&name);
    thread::sleep(Duration::from_secs(measure.settle));
    let capabilities = runtime.block_on(netloom_kernel::capabilities::probe());
    for round in 0..measure.rounds {
        for setup in Setup::all(&capabilities) {
            if !wanted(setup.name()) {
                continue;
            }
            let path = setup.build(&runtime, &capabilities);
            for traffic in Traffic::ALL {
                if measure.traffic.is_empty() || measure.traffic.contains(&traffic) {
                    one(&measure, &setup, &path, traffic, round)?;
                }
            }
        }
    }
    Ok(())
}

fn one(measure: &Measure, setup: &Setup, path: &Path, traffic: Traffic, round: u32) -> anyhow::Result<()> {
    let server = path.serve(traffic)?;
    let client = path.connect(traffic)?;
    for repetition in 0..=measure.repetitions {
        let value = path.client.run(|| client.measure(measure.count))?;
        if repetition > 0 {
            let repetition = round * measure.repetitions + repetition;
            println!("{}", serde_json::to_string(&Line { path: &setup.name(), traffic, repetition, value })?);
        }
    }
    drop(server);
    Ok(())
}
