//! netloom, the operator's command.
//!
//! [`args`] is the command line, [`run`] turns each command into requests to netloomd, [`render`] turns each
//! answer into text, and [`output`] puts it on stdout and stderr in the format asked for.

mod args;
mod failure;
mod output;
mod render;
mod route;
mod run;

use std::process::ExitCode;

use clap::Parser;

use crate::{args::Cli, output::Output};

fn main() -> ExitCode {
    let Cli { global, command } = Cli::parse();
    let output = Output::new(global.output);
    match run::run(&global, command, &output) {
        Ok(code) => code,
        Err(failure) if failure.is_broken_pipe() => ExitCode::SUCCESS,
        Err(failure) => {
            output.failure(&failure);
            ExitCode::FAILURE
        }
    }
}
