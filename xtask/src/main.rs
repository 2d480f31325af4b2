//! Netloom's development commands.

mod artifacts;
mod bench;
mod build;
mod cgroup;
mod demo;
mod equivalence;
mod faults;
mod fuzz;
mod histories;
mod kernels;
mod long;
mod mutants;
mod process;
mod progress;
mod setup;
mod structure;
mod test;
mod vm;
mod wit;
mod workspace;

use std::process::ExitCode;

use anyhow::Result;
use clap::Parser;

/// Netloom's development commands: each sets up what it needs
#[derive(Debug, Parser)]
#[command(bin_name = "cargo xtask", max_term_width = 100)]
enum Task {
    Setup(setup::Args),
    Bench(bench::Args),
    BuildEbpf(artifacts::EbpfArgs),
    BuildPlugins(artifacts::PluginsArgs),
    Demo(demo::Args),
    Equivalence(equivalence::Args),
    Faults(faults::Args),
    Fuzz(fuzz::Args),
    Histories(histories::Args),
    HookReference(wit::Args),
    Kernels(kernels::Args),
    Mutants(mutants::Args),
    Structure(structure::Args),
    Test(test::Args),
    Vm(vm::Args),
}

fn main() -> ExitCode {
    match run(Task::parse()) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(task: Task) -> Result<ExitCode> {
    match task {
        Task::Bench(args) => bench::main(&args),
        Task::Setup(args) => setup::main(&args).map(|()| ExitCode::SUCCESS),
        Task::BuildEbpf(args) => artifacts::ebpf_main(&args).map(|()| ExitCode::SUCCESS),
        Task::BuildPlugins(args) => artifacts::plugins_main(&args).map(|()| ExitCode::SUCCESS),
        Task::Demo(args) => demo::main(&args),
        Task::Equivalence(args) => equivalence::main(&args),
        Task::Faults(args) => faults::main(&args),
        Task::Fuzz(args) => fuzz::main(&args),
        Task::Histories(args) => histories::main(&args),
        Task::HookReference(args) => wit::main(&args),
        Task::Kernels(args) => kernels::main(&args).map(|()| ExitCode::SUCCESS),
        Task::Mutants(args) => mutants::main(&args),
        Task::Structure(args) => structure::main(&args),
        Task::Test(args) => test::main(&args),
        Task::Vm(args) => vm::main(args),
    }
}
