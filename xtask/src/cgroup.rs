//! A cgroup for a program of tests and all that it starts: the daemons under test translate services for what is in it,
//! and for nothing else on the machine.

use std::{
    fs, io,
    path::PathBuf,
    process::{self, Command},
    sync::atomic::{AtomicU32, Ordering},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result};

/// Tells the tests' daemons that the cgroup they are born in is theirs.
const VARIABLE: &str = "NETLOOM_OWN_CGROUP";
/// How long what was killed may take to be gone.
const PATIENCE: Duration = Duration::from_secs(30);

/// Whoever made it removes it.
pub(crate) struct Cgroup(PathBuf);

impl Cgroup {
    /// Makes one; none without a cgroup2 hierarchy or the rights to use it: then daemons translate for all processes.
    pub(crate) fn make() -> Option<Self> {
        static MADE: AtomicU32 = AtomicU32::new(0);
        let mounts = fs::read_to_string("/proc/self/mounts").ok()?;
        let mount = mounts.lines().find_map(|line| match line.split(' ').collect::<Vec<_>>()[..] {
            [_, point, "cgroup2", ..] => Some(PathBuf::from(point)),
            _ => None,
        })?;
        let name = format!("netloom-tests-{}-{}", process::id(), MADE.fetch_add(1, Ordering::Relaxed));
        let path = mount.join(name);
        fs::create_dir(&path).ok()?;
        Some(Self(path))
    }

    /// A command that goes into it and then becomes `program`, whose arguments follow.
    pub(crate) fn command(&self, program: &str) -> Command {
        let mut command = Command::new("sh");
        command.args(["-c", "echo 0 > \"$0\" && exec \"$@\""]).arg(self.0.join("cgroup.procs")).arg(program);
        command.env(VARIABLE, "1");
        command
    }

    /// Removes it, once all in it have ended.
    ///
    /// # Errors
    /// If something is left in it.
    pub(crate) fn remove(self) -> Result<()> {
        let started = Instant::now();
        loop {
            match fs::remove_dir(&self.0) {
                Err(error) if error.kind() == io::ErrorKind::ResourceBusy && started.elapsed() < PATIENCE => {
                    thread::sleep(Duration::from_millis(5));
                }
                ended => {
                    return ended
                        .with_context(|| format!("something of the tests is left in {}", self.0.display()));
                }
            }
        }
    }
}
