use std::{
    env, fs,
    io::ErrorKind,
    path::{Path, PathBuf},
    process,
    sync::{Mutex, MutexGuard, PoisonError},
    thread,
    time::{Duration, Instant},
};

use netloom_kernel::mounts;

use crate::at_this_pace;

/// What other tests start while the process is in the cgroup is born there, and has to end first.
const PATIENCE: Duration = Duration::from_secs(30);

/// One test at a time: a process is in one cgroup.
static TURN: Mutex<()> = Mutex::new(());

/// The cgroup that this process was born in, if whoever started it says that it is its own.
pub(crate) fn given() -> Option<PathBuf> {
    env::var_os("NETLOOM_OWN_CGROUP")?;
    Some(mounts::cgroup2_mount()?.join(current().strip_prefix("/").ok()?))
}

/// The path of this process's cgroup within the hierarchy.
fn current() -> PathBuf {
    let own = fs::read_to_string("/proc/self/cgroup").expect("/proc is mounted");
    PathBuf::from(own.lines().find_map(|line| line.strip_prefix("0::")).unwrap_or("/"))
}

/// A cgroup of the test's own, which its process is in as long as this value lives.
#[derive(Debug)]
pub struct Cgroup {
    path: PathBuf,
    before: PathBuf,
    _turn: MutexGuard<'static, ()>,
}

impl Cgroup {
    /// Makes one and joins it, when no other test of this process is in one.
    ///
    /// # Panics
    /// Without a cgroup2 hierarchy, or the rights to use it.
    #[must_use]
    pub fn join() -> Self {
        let turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
        let root = mounts::ensure_cgroup2(Path::new("/sys/fs/cgroup/unified"))
            .expect("a cgroup2 hierarchy; needs root");
        let path = root.join(format!("netloom-test-{}", process::id()));
        fs::create_dir(&path).expect("a cgroup can be made");
        let before = root.join(current().strip_prefix("/").expect("it is below the root"));
        fs::write(path.join("cgroup.procs"), "0").expect("a process can join a cgroup");
        Self { path, before, _turn: turn }
    }

    /// Its folder.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        let left = fs::write(self.before.join("cgroup.procs"), "0");
        let started = Instant::now();
        let removed = loop {
            match fs::remove_dir(&self.path) {
                Err(error)
                    if error.kind() == ErrorKind::ResourceBusy
                        && started.elapsed() < at_this_pace(PATIENCE) =>
                {
                    thread::sleep(Duration::from_millis(5));
                }
                ended => break ended,
            }
        };
        if !thread::panicking() {
            left.and(removed).unwrap_or_else(|error| panic!("{} is left: {error}", self.path.display()));
        }
    }
}
