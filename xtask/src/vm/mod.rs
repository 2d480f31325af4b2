//! `cargo xtask vm`: a command, as root, on another kernel.

mod cpio;
mod elf;
mod image;
mod initramfs;
mod machine;
mod python;

use std::{
    fs::{self, File},
    io::{IsTerminal, Write},
    path::{Path, PathBuf},
    process::{Command, ExitCode},
    time::Duration,
};

use anyhow::{Context, Result, bail};

pub(crate) use image::Kernel;
pub(crate) use initramfs::{Copy, Job};
use machine::Machine;
pub(crate) use machine::Output;

use crate::{
    process::quiet,
    setup::{self, Need},
};

/// Runs a command as root on another kernel, in a machine of its own, and exits with the command's exit code
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Debian's kernel of this version
    #[arg(long, value_enum, default_value = "6.12")]
    kernel: Kernel,
    /// The machine's memory in MiB
    #[arg(long, default_value_t = 2048)]
    memory: u32,
    /// The machine's CPUs; they take turns on one of ours
    #[arg(long, default_value_t = 1)]
    cpus: u32,
    /// Brings a file or folder into the machine, to the same path or to another one (SOURCE:TARGET); programs
    /// bring their libraries. A COMMAND that is a path of this machine is brought in without it
    #[arg(long, value_name = "PATH")]
    copy: Vec<String>,
    /// Sets a variable for the command
    #[arg(long, value_name = "NAME=VALUE")]
    env: Vec<String>,
    /// Puts what the command leaves in the machine's /out into this folder
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Counts instructions, on one CPU: slow, but the same each time
    #[arg(long)]
    icount: bool,
    /// Stops the machine after so many seconds
    #[arg(long, default_value_t = 300, value_name = "SECONDS")]
    timeout: u64,
    /// The command; without one, a shell
    #[arg(last = true)]
    command: Vec<String>,
}

/// How a machine is run; the defaults fit a test.
pub(crate) struct Options {
    /// In MiB.
    pub(crate) memory: u32,
    /// How many.
    pub(crate) cpus: u32,
    /// Count instructions.
    pub(crate) icount: bool,
    /// When to stop it.
    pub(crate) timeout: Duration,
    /// Where what it leaves in /out goes.
    pub(crate) out: Option<PathBuf>,
}

impl Default for Options {
    fn default() -> Self {
        Self { memory: 2048, cpus: 1, icount: false, timeout: Duration::from_secs(300), out: None }
    }
}

/// `cargo xtask vm`.
pub(crate) fn main(args: Args) -> Result<ExitCode> {
    let mut copies = args.copy.iter().map(|copy| parse_copy(copy)).collect::<Result<Vec<_>>>()?;
    let mut command = args.command;
    if let Some(program) = command.first_mut().filter(|program| program.contains('/')) {
        let path = std::path::absolute(&*program).context("finding the command")?;
        if path.is_file() {
            *program = path.to_string_lossy().into_owned();
            copies.push(Copy { source: path.clone(), target: path });
        }
    }
    let env = args
        .env
        .iter()
        .map(|env| {
            let (name, value) =
                env.split_once('=').with_context(|| format!("--env {env}: not NAME=VALUE"))?;
            Ok((name.to_owned(), value.to_owned()))
        })
        .collect::<Result<_>>()?;
    let job = Job { command, env, copies };
    let options = Options {
        memory: args.memory,
        cpus: args.cpus,
        icount: args.icount,
        timeout: Duration::from_secs(args.timeout),
        out: args.out,
    };
    let code = if job.command.is_empty() {
        interact(args.kernel, &job, &options)?;
        0
    } else {
        run(args.kernel, &job, &options, print)?
    };
    Ok(ExitCode::from(u8::try_from(code).unwrap_or(u8::MAX)))
}

fn parse_copy(copy: &str) -> Result<Copy> {
    let (source, target) = copy.split_once(':').unwrap_or((copy, copy));
    let source = std::path::absolute(source).with_context(|| format!("--copy {copy}"))?;
    let target = std::path::absolute(target).with_context(|| format!("--copy {copy}"))?;
    if !source.exists() {
        bail!("--copy {copy}: there is no {}", source.display());
    }
    Ok(Copy { source, target })
}

/// Passes the output of a machine's command on as ours.
pub(crate) fn print(output: Output) {
    // Nobody reads any more: the command is still worth its exit code.
    drop(match output {
        Output::Stdout(bytes) => {
            let mut out = std::io::stdout().lock();
            out.write_all(&bytes).and_then(|()| out.flush())
        }
        Output::Stderr(bytes) => std::io::stderr().lock().write_all(&bytes),
    });
}

/// Gets everything that machines with this kernel need.
pub(crate) fn ready(kernel: Kernel) -> Result<()> {
    setup::ensure(&[Need::Vm])?;
    initramfs::base(&image::image(kernel)?).map(drop)
}

/// Runs a job in a machine of its own: its command's exit code.
pub(crate) fn run(kernel: Kernel, job: &Job, options: &Options, each: impl FnMut(Output)) -> Result<i32> {
    let prepared = Prepared::new(kernel, job)?;
    let files = prepared.scratch.path().join("files.tar");
    let code = prepared.machine(options).run(options.timeout, &files, each)?;
    if let Some(out) = &options.out {
        fs::create_dir_all(out).with_context(|| format!("creating {}", out.display()))?;
        if files.metadata().is_ok_and(|metadata| metadata.len() > 0) {
            quiet(Command::new("tar").arg("-xf").arg(&files).arg("-C").arg(out))?;
        }
    }
    Ok(code)
}

fn interact(kernel: Kernel, job: &Job, options: &Options) -> Result<()> {
    if !std::io::stdin().is_terminal() {
        bail!("a shell needs a terminal; give a command after `--`");
    }
    Prepared::new(kernel, job)?.machine(options).interact()
}

/// Everything a machine needs, on disk.
struct Prepared {
    scratch: tempfile::TempDir,
    vmlinuz: PathBuf,
    initramfs: PathBuf,
}

impl Prepared {
    fn new(kernel: Kernel, job: &Job) -> Result<Self> {
        setup::ensure(&[Need::Vm])?;
        let image = image::image(kernel)?;
        let base = initramfs::base(&image)?;
        // Sockets' paths may have 107 bytes: a deep target folder is too long for them.
        let scratch = tempfile::Builder::new()
            .prefix("netloom-vm-")
            .tempdir()
            .context("creating a folder for the machine")?;
        let initramfs = scratch.path().join("initramfs");
        fs::copy(&base, &initramfs).context("copying the initramfs")?;
        let file = File::options().append(true).open(&initramfs).context("opening the initramfs")?;
        initramfs::overlay(job, scratch.path(), file)?;
        Ok(Self { scratch, vmlinuz: image.vmlinuz, initramfs })
    }

    fn machine(&self, options: &Options) -> Machine<'_> {
        Machine {
            vmlinuz: &self.vmlinuz,
            initramfs: &self.initramfs,
            memory: options.memory,
            cpus: options.cpus,
            icount: options.icount,
            scratch: self.scratch.path(),
        }
    }
}

/// A file of this machine at the same path in the other.
pub(crate) fn same_path(path: &Path) -> Copy {
    Copy { source: path.to_path_buf(), target: path.to_path_buf() }
}
