//! `cargo xtask demo`: the main job in a few steps, on a real kernel.

use std::{
    os::unix::process::CommandExt as _,
    path::{Path, PathBuf},
    process::{Command, ExitCode},
    time::Duration,
};

use anyhow::{Context, Result, bail};

use crate::{
    build::{self, Profile},
    process::line,
    progress::step,
    setup::{self, Need},
    vm::{self, Job, Kernel, same_path},
    workspace,
};

/// Shows what Netloom does, with a real daemon on a real kernel: this one, or another in a machine of its own
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// On Debian's kernel of this version instead of the running one; needs no root
    #[arg(long, value_enum)]
    kernel: Option<Kernel>,
    /// Prints the report as JSON
    #[arg(long)]
    json: bool,
    /// Waits before it cleans up, until Ctrl-C, for a look around
    #[arg(long, conflicts_with = "kernel")]
    hold: bool,
}

/// What the demo runs.
struct Pieces {
    demo: PathBuf,
    netloomd: PathBuf,
    netloom: PathBuf,
}

/// `cargo xtask demo`.
pub(crate) fn main(args: &Args) -> Result<ExitCode> {
    if args.kernel.is_none() && !workspace::is_root() {
        bail!(
            "the demo makes namespaces and loads BPF programs, which needs root. Run it as root, for instance with \
             `sudo env PATH=\"$PATH\" cargo xtask demo`, or let `cargo xtask demo --kernel 6.12` run it in a machine \
             of its own, which needs no root"
        );
    }
    let place = if args.kernel.is_some() { Need::Vm } else { Need::Netns };
    setup::ensure(&[Need::Bpf, Need::Guest, place])?;
    let pieces = build()?;
    match args.kernel {
        None => here(&pieces, args),
        Some(kernel) => there(&pieces, args, kernel),
    }
}

fn build() -> Result<Pieces> {
    step("building netloomd, netloom and the demo");
    // The whole workspace, as the tests do: another selection would compile the dependencies with other features.
    let programs = build::programs(Profile::Dev)?;
    let program = |name| build::named(&programs, name).map(Path::to_path_buf);
    Ok(Pieces {
        demo: program("netloom-demo")?,
        netloomd: program("netloomd")?,
        netloom: program("netloom")?,
    })
}

impl Pieces {
    /// The command line.
    fn words(&self, args: &Args) -> Vec<String> {
        let mut words = vec![self.demo.display().to_string()];
        for (option, path) in [("--netloomd", &self.netloomd), ("--netloom", &self.netloom)] {
            words.extend([option.to_owned(), path.display().to_string()]);
        }
        words.extend(args.json.then(|| "--json".to_owned()));
        words.extend(args.hold.then(|| "--hold".to_owned()));
        words
    }
}

/// Becomes the demo: its exit code is ours, and Ctrl-C reaches it alone.
fn here(pieces: &Pieces, args: &Args) -> Result<ExitCode> {
    let mut command = Command::new(&pieces.demo);
    command.args(pieces.words(args).iter().skip(1)).env("PATH", workspace::path());
    let error = command.exec();
    Err(error).with_context(|| format!("`{}` cannot be started", line(&command)))
}

fn there(pieces: &Pieces, args: &Args, kernel: Kernel) -> Result<ExitCode> {
    let files = [&pieces.demo, &pieces.netloomd, &pieces.netloom];
    let job = Job {
        command: pieces.words(args),
        copies: files.into_iter().map(|path| same_path(path)).collect(),
        ..Job::default()
    };
    let options = vm::Options { memory: 3072, timeout: Duration::from_secs(600), ..vm::Options::default() };
    step(&format!("starting a machine with kernel {}", kernel.as_str()));
    vm::run(kernel, &job, &options, vm::print).map(exit_code)
}

fn exit_code(code: i32) -> ExitCode {
    ExitCode::from(u8::try_from(code).unwrap_or(u8::MAX))
}
