//! System calls of a running daemon that are made to fail, or to be its last, by name and count: strace does it.

use std::{
    fs::{self, File},
    path::PathBuf,
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use netloom_test_support::until;
use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

/// How long strace may take to let go of a process.
const PATIENCE: Duration = Duration::from_secs(2);

/// What becomes of a call.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Effect {
    /// It fails with this error.
    Fails(&'static str),
    /// The process is killed instead.
    Kills,
}

/// The call with this number, counted from 1 in each thread from when the fault is set.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Fault {
    pub(crate) calls: &'static str,
    pub(crate) effect: Effect,
    pub(crate) count: usize,
}

/// A fault that is set.
pub(crate) struct Injection {
    strace: Child,
    folder: TempDir,
}

impl Injection {
    /// Sets a fault in a process with all its threads, of now and later.
    pub(crate) fn set(process: u32, fault: Fault) -> Self {
        let Fault { calls, effect, count } = fault;
        let effect = match effect {
            Effect::Fails(errno) => format!("error={errno}"),
            Effect::Kills => "signal=SIGKILL".to_owned(),
        };
        let folder = tempfile::tempdir().expect("a folder can be made");
        let messages = File::create(folder.path().join("messages")).expect("a file can be made");
        let strace = Command::new("strace")
            .args(["-f", "-o"])
            .arg(log(&folder))
            .args(["-e", &format!("trace={calls}"), "-e", &format!("inject={calls}:{effect}:when={count}")])
            .args(["-p", &process.to_string()])
            .stdin(Stdio::null())
            .stderr(messages)
            .spawn()
            .expect("strace is there: `cargo xtask setup` installs it");
        let injection = Self { strace, folder };
        until(|| traced(process), |traced| *traced);
        injection
    }

    /// Takes it back: how many calls it met.
    pub(crate) fn end(mut self) -> usize {
        self.stop();
        let log = fs::read_to_string(log(&self.folder)).unwrap_or_default();
        log.lines().filter(|line| line.contains("(INJECTED)") || line.contains("killed by SIGKILL")).count()
    }

    /// Ends strace. One that waits for threads of a process that was killed may not hear of it.
    fn stop(&mut self) {
        let strace = Pid::from_raw(self.strace.id().cast_signed()).expect("a process");
        let asked = Instant::now();
        while let Ok(None) = self.strace.try_wait() {
            if asked.elapsed() > PATIENCE {
                self.strace.kill().ok();
            } else {
                kill_process(strace, Signal::INT).ok();
            }
            thread::sleep(Duration::from_millis(5));
        }
    }
}

impl Drop for Injection {
    fn drop(&mut self) {
        self.stop();
    }
}

fn log(folder: &TempDir) -> PathBuf {
    folder.path().join("log")
}

/// Whether every thread of a process is traced.
fn traced(process: u32) -> bool {
    let tasks = fs::read_dir(format!("/proc/{process}/task")).expect("the process runs");
    let mut threads = tasks.flatten().map(|task| {
        let status = fs::read_to_string(task.path().join("status")).unwrap_or_default();
        // One that has ended in between is none.
        !status.lines().any(|line| line.strip_prefix("TracerPid:").is_some_and(|pid| pid.trim() == "0"))
    });
    threads.all(|traced| traced)
}
