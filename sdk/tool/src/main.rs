//! netloom-plugin, the tool of plugin authors and of whoever distributes plugins. `netloom plugin new` and so on call
//! it; it needs neither root nor a running netloomd.

mod ask;
mod bench;
mod conformance;
mod distribution;
mod files;
mod languages;
mod scaffold;

use std::{path::PathBuf, process::ExitCode};

use clap::{Parser, Subcommand};

use crate::{files::Source, languages::Language};

/// Scaffold, build, test, run, replay, measure and distribute plugins. Needs neither root nor a running netloomd.
#[derive(Debug, Parser)]
#[command(name = "netloom-plugin", bin_name = "netloom plugin", version)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Begin a plugin: a folder with a policy that works, its test scenarios and what it takes to build it
    New {
        /// The folder to make; its name is the plugin's
        path: PathBuf,
        /// What it is written in
        #[arg(long, value_enum, default_value_t = Language::Rust)]
        lang: Language,
        /// The folder of Netloom's SDK for Rust, instead of the published one
        #[arg(long, value_name = "DIR", env = "NETLOOM_SDK")]
        sdk: Option<PathBuf>,
    },
    /// Build the plugin of a folder into a component; installs what its language needs where that is missing
    Build {
        /// The plugin's folder
        #[arg(default_value = ".")]
        path: PathBuf,
        /// The component to write [default: NAME.wasm in the folder]
        #[arg(short, long, value_name = "FILE")]
        out: Option<PathBuf>,
    },
    /// Run a plugin through its scenarios and the conformance suite
    Test {
        #[command(flatten)]
        source: Source,
        /// Scenario files, or folders of them [default: scenarios beside the plugin]
        #[arg(long = "scenarios", value_name = "PATH")]
        scenarios: Vec<PathBuf>,
    },
    /// Ask a plugin one question and print its answer
    Run {
        #[command(flatten)]
        source: Source,
        /// The question: a scenario, or what stands under `question` in one; `-` is standard input
        #[arg(long, value_name = "FILE", default_value = "-")]
        question: PathBuf,
    },
    /// Ask a plugin what others were asked, and print where it answers otherwise
    ///
    /// Exits with 1 if it does.
    Replay {
        #[command(flatten)]
        source: Source,
        /// Decisions written by `netloom plugin record`
        recordings: Vec<PathBuf>,
        /// Compare with what this plugin said [default: with whoever decided]
        #[arg(long, value_name = "PLUGIN")]
        against: Option<String>,
    },
    /// Measure how long a plugin takes to load, start and answer
    Bench {
        #[command(flatten)]
        source: Source,
        /// Questions of each kind
        #[arg(long, default_value_t = 1_000)]
        rounds: usize,
    },
    #[command(flatten)]
    Distribution(distribution::Command),
}

fn main() -> ExitCode {
    match run(Arguments::parse().command) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(command: Command) -> anyhow::Result<ExitCode> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    match command {
        Command::New { path, lang, sdk } => scaffold::new(&path, lang, sdk.as_deref()),
        Command::Build { path, out } => languages::build(&path, out.as_deref()),
        Command::Test { source, scenarios } => runtime.block_on(ask::test(&source, &scenarios)),
        Command::Run { source, question } => runtime.block_on(ask::run(&source, &question)),
        Command::Replay { source, recordings, against } => {
            runtime.block_on(ask::replay(&source, &recordings, against.as_deref()))
        }
        Command::Bench { source, rounds } => runtime.block_on(bench::run(&source, rounds)),
        Command::Distribution(command) => runtime.block_on(distribution::run(command)),
    }
}
