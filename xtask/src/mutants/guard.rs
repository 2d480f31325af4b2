use std::{
    io::{BufRead as _, BufReader},
    path::Path,
    process::{Child, Command, Stdio},
    sync::mpsc::{self, RecvTimeoutError},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};

use super::{build::Built, modules::Guard, switch::VARIABLE};
use crate::{
    cgroup::Cgroup,
    process::{describe, line},
    test::ended,
    workspace,
};

/// How tests came to an end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum End {
    /// All passed.
    Passed,
    /// The first that failed, or how the program ended.
    Failed(String),
    /// None of both within the time they had.
    TimedOut,
}

/// What runs a program in namespaces of its own: whatever a killed test leaves is gone with them.
const SANDBOX: &str = "set -e
mount -t tmpfs tmpfs /run
mount -t tmpfs tmpfs /var/lib
umount --lazy /sys
mount -t sysfs sysfs /sys
mount -t tmpfs tmpfs /sys/fs/cgroup
mkdir /sys/fs/cgroup/unified
mount -t cgroup2 cgroup2 /sys/fs/cgroup/unified
mount -t bpf bpf /sys/fs/bpf
ip link set lo up
exec \"$@\"";

/// The tests of a module, ready to be run.
pub(super) struct Tests<'a> {
    pub(super) built: &'a Built,
    /// Where the copy of the sources lies.
    pub(super) root: &'a Path,
}

impl Tests<'_> {
    /// Runs tests with a fault switched on, or none with 0, until the first fails. One that passes when it is run again,
    /// alone, or then fails without the fault as well, has not noticed anything: all are run once more.
    ///
    /// # Errors
    /// If they cannot be started.
    pub(super) fn run(&self, guard: &Guard, fault: u32, limit: Duration) -> Result<End> {
        let first = self.run_once(guard, guard.filters, fault, limit)?;
        let End::Failed(test) = &first else { return Ok(first) };
        let alone = |fault| self.run_once(guard, &[test, "--exact"], fault, limit);
        // A program that died has no test that could be run alone: then all of none pass.
        if alone(fault)? != End::Passed && (fault == 0 || alone(0)? == End::Passed) {
            return Ok(first);
        }
        self.run_once(guard, guard.filters, fault, limit)
    }

    fn run_once(&self, guard: &Guard, args: &[&str], fault: u32, limit: Duration) -> Result<End> {
        let scratch = tempfile::tempdir().context("creating a folder for tests")?;
        let cgroup = if guard.touches_kernel { Cgroup::make() } else { None };
        let mut command = self.command(guard, args, cgroup.as_ref())?;
        command.env("TMPDIR", scratch.path()).env(VARIABLE, fault.to_string());
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut child = command.spawn().with_context(|| format!("`{}` cannot be started", line(&command)))?;
        let end = watch(&mut child, limit);
        // What runs in its namespaces ends with it.
        child.kill().ok();
        child.wait().with_context(|| format!("waiting for `{}`", line(&command)))?;
        cgroup.map_or(Ok(()), Cgroup::remove)?;
        end
    }

    fn command(&self, guard: &Guard, args: &[&str], cgroup: Option<&Cgroup>) -> Result<Command> {
        let Some(program) = self.built.tests.get(guard.program) else {
            bail!("cargo built no tests called {}", guard.program)
        };
        let mut command = cgroup.map_or_else(|| Command::new("nice"), |it| it.command("nice"));
        if guard.touches_kernel {
            // It takes no notice of what interrupts us, and would go on without us.
            command.args(["setpriv", "--pdeathsig", "KILL"]);
            command.args(["unshare", "--mount", "--net", "--pid", "--fork", "--kill-child", "--mount-proc"]);
            command.args(["sh", "-c", SANDBOX, "sandbox"]);
        }
        let folder = self.root.join(guard.folder);
        command.arg(program).args(args).current_dir(&folder).env("CARGO_MANIFEST_DIR", folder);
        command.env("PATH", workspace::path());
        for (name, program) in &self.built.programs {
            command.env(format!("NETLOOM_{}", name.to_uppercase()), program);
        }
        Ok(command)
    }
}

/// Waits for the first failure, the end, or that the time is over.
fn watch(child: &mut Child, limit: Duration) -> Result<End> {
    let deadline = Instant::now() + limit;
    let stdout = child.stdout.take().context("the tests have no output")?;
    let (sender, lines) = mpsc::channel();
    // It ends with the program, or when nobody listens.
    thread::spawn(move || {
        BufReader::new(stdout).lines().map_while(Result::ok).try_for_each(|line| sender.send(line).ok())
    });
    loop {
        match lines.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
            Ok(line) => match ended(&line) {
                Some((test, "FAILED")) => return Ok(End::Failed(test.to_owned())),
                _ => continue,
            },
            Err(RecvTimeoutError::Timeout) => return Ok(End::TimedOut),
            Err(RecvTimeoutError::Disconnected) => break,
        }
    }
    let status = child.wait().context("waiting for tests")?;
    Ok(if status.success() { End::Passed } else { End::Failed(describe(status)) })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn end_of(script: &str, limit: Duration) -> End {
        let mut command = Command::new("sh");
        let mut child = command.args(["-c", script]).stdout(Stdio::piped()).spawn().unwrap();
        let end = watch(&mut child, limit).unwrap();
        child.kill().ok();
        child.wait().unwrap();
        end
    }

    #[test]
    fn the_first_failure_is_the_end_and_so_is_the_end_of_patience() {
        let minute = Duration::from_secs(60);
        let failing = "echo 'test a ... ok'; echo 'test b ... FAILED'; exec sleep 60";
        assert_eq!(end_of(failing, minute), End::Failed("b".into()));
        assert_eq!(end_of("echo 'test a ... ok'", minute), End::Passed);
        assert_eq!(end_of("exit 3", minute), End::Failed("exit code 3".into()));
        assert_eq!(end_of("exec sleep 60", Duration::from_millis(50)), End::TimedOut);
    }
}
