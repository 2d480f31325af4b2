//! How a daemon ends: in order, killed, or by itself at a step of a plan.

use std::{
    os::unix::process::ExitStatusExt as _,
    process::{Child, ExitStatus},
    thread,
    time::{Duration, Instant},
};

use rustix::process::{Pid, Signal, kill_process};

use super::{Daemon, left::Held};
use crate::{at_this_pace, command::output};

/// How long an end may take on a machine under load: less than a daemon grants clients that do not read their answers.
const PATIENCE: Duration = Duration::from_secs(25);
/// The variable that has a daemon end as if killed after so many steps.
const CRASH_AFTER: &str = "NETLOOM_CRASH_AFTER";

impl Daemon {
    /// Ends it as a crash would.
    ///
    /// # Panics
    /// If it does not run, or ended before it could be killed.
    pub fn kill9(&mut self) {
        let mut child = self.child.take().expect("the daemon runs");
        let status = child.kill().and_then(|()| child.wait()).expect("a child can be killed");
        assert_eq!(
            status.signal(),
            Some(9),
            "netloomd ended before it was killed ({status})\n{}",
            self.log()
        );
    }

    /// Ends it in order.
    ///
    /// # Panics
    /// If it does not run, has not ended after a while, or with an error.
    pub fn stop(&mut self) {
        let child = self.child.take().expect("the daemon runs");
        if let Err(complaint) = terminate(child) {
            panic!("{complaint}\n{}", self.log());
        }
    }

    /// Starts it anew after [`Self::kill9`] or [`Self::stop`], and waits until it answers.
    ///
    /// # Panics
    /// As [`Self::start`]; also if it still runs.
    pub fn restart(&mut self) {
        assert!(self.child.is_none(), "it still runs: kill9() or stop() it first");
        self.survive();
        self.launch();
    }

    /// Starts it anew, to end as if killed after so many steps of the plans that it is to carry out.
    ///
    /// # Panics
    /// As [`Self::stop`] and [`Self::restart`].
    pub fn crash_after(&mut self, steps: usize) {
        self.stop();
        self.crash_when_started(steps);
        self.launch();
    }

    /// Starts it anew, to end as if killed after so many steps of the plans that it carries out by itself then, and
    /// waits until it has.
    ///
    /// # Panics
    /// As [`Self::stop`], and if it does not end at a step within a while.
    pub fn crash_at_start(&mut self, steps: usize) {
        self.stop();
        self.crash_when_started(steps);
        self.spawn();
        self.crashed();
    }

    /// Starts it anew after it was killed at the step that [`Self::crash_after`] named, and waits until it answers.
    ///
    /// # Panics
    /// If it is not killed there within a while; as [`Self::start`].
    pub fn restart_after_crash(&mut self) {
        self.crashed();
        self.launch();
    }

    fn crashed(&mut self) {
        let mut child = self.child.take().expect("the daemon was started");
        let status = end_of(&mut child);
        let log = self.log();
        let status = status.unwrap_or_else(|| {
            // It is not to outlive the test.
            drop(child.kill().and_then(|()| child.wait()));
            panic!("netloomd was not killed at a step: it goes on\n{log}")
        });
        assert_eq!(status.signal(), Some(6), "netloomd was not killed at a step: it ended ({status})\n{log}");
        self.survive();
    }

    fn crash_when_started(&mut self, steps: usize) {
        self.survive();
        self.options.env.push((CRASH_AFTER.to_owned(), steps.to_string()));
    }

    /// Whether it runs.
    pub(crate) fn runs(&mut self) -> bool {
        self.child.as_mut().is_some_and(|child| matches!(child.try_wait(), Ok(None)))
    }

    /// Has it survive all steps in the starts that follow.
    fn survive(&mut self) {
        self.options.env.retain(|(name, _)| name != CRASH_AFTER);
    }

    /// Ends it, has it clean up, and looks at what there is afterwards: everything that is not as it should be.
    fn end(&mut self) -> Vec<String> {
        let mut complaints = Vec::new();
        if let Some(child) = self.child.take() {
            complaints.extend(terminate(child).err());
        }
        complaints.extend(self.surprises());
        let held = Held::of(&self.instance);
        let cleanup = output(self.netloomd().arg("--config").arg(self.config_file()).arg("cleanup"));
        // What it did is no complaint.
        let complains = |line: &str| !line.contains(" INFO ");
        if !cleanup.ok() || cleanup.stderr.trim().lines().any(complains) {
            let status =
                cleanup.code.map_or_else(|| "a signal".to_owned(), |code| format!("exit code {code}"));
            complaints.push(format!("its cleanup ended with {status}: {}", cleanup.stderr.trim()));
        }
        complaints.extend(held.left(self.options.node.as_deref()));
        complaints
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let failed = thread::panicking();
        if failed {
            eprintln!("netloomd's log:\n{}", self.log());
        }
        let complaints = self.end();
        if complaints.is_empty() {
            return;
        }
        let complaints = complaints.join("\n  ");
        // A panic while another one is under way would end the process, and all the tests in it.
        if failed {
            eprintln!("netloomd {} did not end well either:\n  {complaints}", self.instance);
        } else {
            let log = self.log();
            panic!("netloomd {} did not end well:\n  {complaints}\nits log:\n{log}", self.instance);
        }
    }
}

/// Ends a process with SIGTERM, or if it takes too long with SIGKILL: what is to be complained of.
fn terminate(mut child: Child) -> Result<(), String> {
    if let Ok(Some(status)) = child.try_wait() {
        return Err(format!("netloomd had ended by itself ({status})"));
    }
    let pid = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
    if pid.is_none_or(|pid| kill_process(pid, Signal::TERM).is_err()) {
        return Err("netloomd cannot be sent SIGTERM".to_owned());
    }
    match end_of(&mut child) {
        Some(status) if status.success() => Ok(()),
        Some(status) => Err(format!("netloomd ended with an error on SIGTERM ({status})")),
        None => {
            // Nothing more can be done if even this fails.
            drop(child.kill().and_then(|()| child.wait()));
            Err(format!(
                "netloomd did not end on SIGTERM within {:?}, and was killed",
                at_this_pace(PATIENCE)
            ))
        }
    }
}

/// How a process ended, if it does within a while.
fn end_of(child: &mut Child) -> Option<ExitStatus> {
    let started = Instant::now();
    loop {
        if let Ok(Some(status)) = child.try_wait() {
            return Some(status);
        }
        if started.elapsed() > at_this_pace(PATIENCE) {
            return None;
        }
        thread::sleep(Duration::from_millis(5));
    }
}
