//! netloom-plugin, the tool of plugin authors and of whoever distributes plugins. `netloom plugin new` and so on call
//! it; it needs neither root nor a running netloomd.

mod ask;
mod bench;
mod conformance;
mod distribution;
mod files;
mod languages;
mod scaffold;

use std::{io::IsTerminal as _, path::PathBuf, process::ExitCode};

use clap::{Parser, Subcommand};
use tracing_subscriber::{
    Layer as _,
    filter::{LevelFilter, Targets},
    layer::SubscriberExt as _,
    util::SubscriberInitExt as _,
};

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
    /// Fetch the compiler of a language, as the first build does, or say what the system lacks for it
    Setup {
        /// What plugins are to be written in
        #[arg(long, value_enum, default_value_t = Language::Rust)]
        lang: Language,
    },
    /// Build the plugin of a folder into a component; installs what its language needs where that is missing
    Build {
        /// The plugin's folder
        #[arg(default_value = ".")]
        path: PathBuf,
        /// The component to write [default: NAME.wasm in the folder]
        #[arg(short, long, value_name = "FILE")]
        out: Option<PathBuf>,
        /// Keep the names of functions, so that backtraces have them (Rust and C)
        #[arg(long)]
        names: bool,
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
    // Whoever reads what is printed may have enough of it: `| head`.
    sigpipe::reset();
    match run(Arguments::parse().command) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Shows what plugins log on stderr: all of it where one question is asked, and otherwise only what went wrong.
fn show_log(command: &Command) {
    let level = match command {
        Command::Run { .. } => LevelFilter::TRACE,
        Command::Test { .. } | Command::Replay { .. } => LevelFilter::ERROR,
        _ => LevelFilter::OFF,
    };
    let plugins = Targets::new().with_target("netloom::plugin", level);
    let lines = tracing_subscriber::fmt::layer()
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        .with_target(false)
        .without_time();
    tracing_subscriber::registry().with(lines.with_filter(plugins)).init();
}

fn run(command: Command) -> anyhow::Result<ExitCode> {
    show_log(&command);
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    match command {
        Command::New { path, lang, sdk } => scaffold::new(&path, lang, sdk.as_deref()),
        Command::Setup { lang } => languages::setup(lang),
        Command::Build { path, out, names } => languages::build(&path, out.as_deref(), names),
        Command::Test { source, scenarios } => runtime.block_on(ask::test(&source, &scenarios)),
        Command::Run { source, question } => runtime.block_on(ask::run(&source, &question)),
        Command::Replay { source, recordings, against } => {
            runtime.block_on(ask::replay(&source, &recordings, against.as_deref()))
        }
        Command::Bench { source, rounds } => runtime.block_on(bench::run(&source, rounds)),
        Command::Distribution(command) => runtime.block_on(distribution::run(command)),
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use netloom_test_support::{Page, words};

    use clap::CommandFactory as _;

    use super::*;

    /// `netloom` hands these on as they are, so that only this program knows whether they are right.
    #[test]
    fn every_command_in_the_book_is_one() {
        let book = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/plugins");
        let mut seen = 0;
        for page in ["first.md", "debugging.md", "distributing.md", "operating.md", "grants.md"] {
            for command in Page::read(&book.join(page)).commands() {
                let mut words = words(command);
                let ours = |name: &String| Arguments::command().find_subcommand(name).is_some();
                if !words.starts_with(&["netloom".into(), "plugin".into()]) || !words.get(2).is_some_and(ours)
                {
                    continue;
                }
                words.remove(0);
                seen += 1;
                if let Err(error) = Arguments::try_parse_from(words) {
                    panic!("{page}: `{command}`: {error}");
                }
            }
        }
        assert!(seen > 8, "{seen} commands");
    }
}
