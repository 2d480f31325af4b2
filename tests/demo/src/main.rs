//! Shows the main job of Netloom in eight steps: a real netloomd, real endpoints, and for each step what the
//! kernel and the applications report.

mod report;
mod steps;

use std::{
    path::PathBuf,
    process::ExitCode,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use anyhow::Context as _;
use clap::Parser;
use netloom_core::model::Name;
use netloom_test_support::{Daemon, DaemonOptions};

use crate::{report::Report, steps::Stage};

/// Eight steps, each with what the kernel reports. `cargo xtask demo` builds what it needs and runs it.
#[derive(Parser)]
struct Arguments {
    /// The netloomd to show
    #[arg(long, env = "NETLOOM_NETLOOMD")]
    netloomd: PathBuf,
    /// The netloom command that belongs to it
    #[arg(long, env = "NETLOOM_NETLOOM")]
    netloom: PathBuf,
    /// Print the report as JSON
    #[arg(long)]
    json: bool,
    /// Wait before the clean-up, for a look around, until Ctrl-C
    #[arg(long)]
    hold: bool,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    match run(&arguments) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &Arguments) -> anyhow::Result<ExitCode> {
    let interrupted = watch_for_interrupt()?;
    // A failed step is in the report; the panic's own text would only be noise.
    std::panic::set_hook(Box::new(|_| {}));
    let mut report = Report::new(arguments.json);
    let options = DaemonOptions {
        instance: Some(Name::new("demo")?),
        binary: Some(arguments.netloomd.clone()),
        ..DaemonOptions::default()
    };
    report.say("starting netloomd, without any configuration");
    let daemon = std::panic::catch_unwind(|| Daemon::start(options)).map_err(|panic| {
        let text = panic.downcast_ref::<String>().cloned().unwrap_or_default();
        anyhow::anyhow!("{text}")
    })?;
    let mut stage = Stage::new(daemon)?;
    play(&mut report, &mut stage, &interrupted);
    if arguments.hold && !interrupted.load(Ordering::Relaxed) {
        hold(&report, arguments);
        while !interrupted.load(Ordering::Relaxed) {
            std::thread::sleep(Duration::from_millis(50));
        }
    }
    report.step("cleanup", "everything is removed, and nothing is left behind", || stage.cleanup());
    // Ctrl-C ends a hold in order; anywhere else it cuts the demo short.
    let cut_short = interrupted.load(Ordering::Relaxed) && !arguments.hold;
    report.finish(cut_short)?;
    Ok(match (cut_short, report.ok) {
        (true, _) => ExitCode::from(130),
        (false, true) => ExitCode::SUCCESS,
        (false, false) => ExitCode::FAILURE,
    })
}

/// The steps before the clean-up. Without endpoints nothing else can be shown; any other step can fail alone.
fn play(report: &mut Report, stage: &mut Stage, interrupted: &AtomicBool) {
    type Act = fn(&mut Stage) -> anyhow::Result<serde_json::Value>;
    let acts: [(&'static str, &str, Act); 7] = [
        ("endpoints", "two endpoints, each in a namespace of its own", |stage| stage.endpoints()),
        ("ping", "they reach each other through the datapath", |stage| stage.ping()),
        ("order", "an observer attached later is placed in front by the plugin", |stage| stage.order()),
        ("service", "a client in an endpoint connects to a VIP and lands on a backend", |stage| {
            stage.service()
        }),
        ("reap", "the backend goes; the stale socket is cut, an unrelated one lives", |stage| stage.reap()),
        ("custom-plugin", "a plugin loaded at run time changes an order and spares a socket", |stage| {
            stage.custom_plugin()
        }),
        ("restart", "the daemon is killed under traffic, and a new one adopts everything", |stage| {
            stage.restart()
        }),
    ];
    for (name, what, act) in acts {
        if interrupted.load(Ordering::Relaxed) {
            return;
        }
        let ok = report.step(name, what, || act(stage));
        if name == "endpoints" {
            report.mode = stage.mode();
            if !ok {
                report.say("without endpoints there is nothing more to show; netloomd's log:");
                report.say(&stage.daemon.log());
                return;
            }
        }
    }
    if !report.ok {
        report.say("netloomd's log:");
        report.say(&stage.daemon.log());
    }
}

fn hold(report: &Report, arguments: &Arguments) {
    report.say("\nholding. Look around in another terminal, then press Ctrl-C here:");
    report.say(&format!("  {} --instance demo status", arguments.netloom.display()));
    let bpftool = program("bpftool");
    for look in ["link", "net"] {
        report.say(&format!("  {} {look}", bpftool.display()));
    }
    for look in ["ip netns", "ls -R /sys/fs/bpf/netloom-demo"] {
        report.say(&format!("  {look}"));
    }
}

/// Where our PATH, which another terminal need not have, has a program.
fn program(name: &str) -> PathBuf {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let mut places = std::env::split_paths(&path).map(|dir| dir.join(name));
    places.find(|place| place.is_file()).unwrap_or_else(|| name.into())
}

fn watch_for_interrupt() -> anyhow::Result<Arc<AtomicBool>> {
    use tokio::signal::unix::{SignalKind, signal};
    let interrupted = Arc::new(AtomicBool::new(false));
    let flag = Arc::clone(&interrupted);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("signals cannot be watched")?;
    let guard = runtime.enter();
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    drop(guard);
    std::thread::spawn(move || {
        runtime.block_on(async {
            tokio::select! {
                _ = interrupt.recv() => {}
                _ = terminate.recv() => {}
            }
        });
        flag.store(true, Ordering::Relaxed);
    });
    Ok(interrupted)
}
