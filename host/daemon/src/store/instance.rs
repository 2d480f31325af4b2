//! One daemon an instance: a lock on a file of its run directory, released by the kernel however it ends.

use std::{
    fs::{self, File},
    io::{self, Read as _, Seek as _, Write as _},
    os::unix::fs::{DirBuilderExt as _, MetadataExt as _, PermissionsExt},
    path::Path,
    thread,
    time::Duration,
};

use anyhow::{Context as _, bail};
use netloom_api::Paths;
use rustix::{
    fs::{FlockOperation, flock, major, minor},
    process::geteuid,
};
use tokio::net::UnixListener;

/// Held as long as the daemon lives.
pub(crate) struct InstanceLock {
    _file: File,
}

impl InstanceLock {
    /// Takes the instance, and makes its directories. Those that are there have to be its own: whoever can write there
    /// could put a socket, a store or a pin into them.
    pub(crate) fn take(paths: &Paths) -> anyhow::Result<Self> {
        for directory in [&paths.run, &paths.state] {
            private_directory(directory)?;
        }
        check_owner(&paths.bpffs)?;
        let path = paths.run.join("lock");
        let mut file = File::options()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(&path)
            .with_context(|| format!("the lock {} cannot be opened", path.display()))?;
        if flock(&file, FlockOperation::NonBlockingLockExclusive).is_err() {
            bail!(
                "another netloomd (process {}) already serves {}; stop it, or start this one with --instance NAME",
                holder(&mut file)?,
                paths.socket.display()
            );
        }
        file.set_len(0).and_then(|()| file.rewind()).context("the lock cannot be written")?;
        writeln!(file, "{}", std::process::id()).context("the lock cannot be written")?;
        Ok(Self { _file: file })
    }
}

/// Who holds the lock: as the kernel says, or where it does not (the other runs in another container), as is written in
/// it. Whoever has just got it has not written it yet.
fn holder(file: &mut File) -> anyhow::Result<String> {
    let metadata = file.metadata().context("the lock cannot be looked at")?;
    let locks = fs::read_to_string("/proc/locks").unwrap_or_default();
    if let Some(pid) = holder_in(&locks, metadata.dev(), metadata.ino()) {
        return Ok(pid.to_string());
    }
    for _ in 0..50 {
        let mut pid = String::new();
        file.rewind().and_then(|()| file.read_to_string(&mut pid)).context("the lock cannot be read")?;
        if !pid.trim().is_empty() {
            return Ok(pid.trim().to_owned());
        }
        thread::sleep(Duration::from_millis(10));
    }
    Ok("unknown".to_owned())
}

/// The process that holds a lock on a file by flock(2), in a table as `/proc/locks` has it: see `proc(5)`.
fn holder_in(locks: &str, device: u64, inode: u64) -> Option<u32> {
    let file = format!("{:02x}:{:02x}:{inode}", major(device), minor(device));
    locks.lines().find_map(|line| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        match fields.as_slice() {
            [_, "FLOCK", _, _, pid, of, ..] if *of == file => pid.parse().ok().filter(|pid| *pid != 0),
            _ => None,
        }
    })
}

fn private_directory(path: &Path) -> anyhow::Result<()> {
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path)
        .with_context(|| format!("the directory {} cannot be made", path.display()))?;
    check_owner(path)
}

/// Refuses a directory that others than this user may write to.
fn check_owner(path: &Path) -> anyhow::Result<()> {
    let metadata = match fs::metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        metadata => metadata.with_context(|| format!("{} cannot be looked at", path.display()))?,
    };
    let own = geteuid().as_raw();
    let path = path.display();
    if metadata.uid() != own {
        bail!(
            "the directory {path} belongs to user {} and not to user {own}, so that others could change what netloomd \
             keeps there: look who made it, then remove it or `chown {own} {path}`",
            metadata.uid()
        );
    }
    if metadata.mode() & 0o022 != 0 {
        bail!(
            "others may write to the directory {path} (mode {:04o}), and so change what netloomd keeps there: look what \
             is in it, then remove it or `chmod 0700 {path}`",
            metadata.mode() & 0o7777
        );
    }
    Ok(())
}

/// Listens on the instance's socket. The lock is held, so a socket that is there was left by a killed daemon.
pub(crate) fn listen(socket: &Path, _lock: &InstanceLock) -> anyhow::Result<UnixListener> {
    match fs::remove_file(socket) {
        Ok(()) => {
            tracing::info!(socket = %socket.display(), "removed the socket of a daemon that was killed");
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => {
            return Err(error)
                .with_context(|| format!("the stale socket {} cannot be removed", socket.display()));
        }
    }
    let listener = UnixListener::bind(socket)
        .with_context(|| format!("the socket {} cannot be made", socket.display()))?;
    fs::set_permissions(socket, PermissionsExt::from_mode(0o600))
        .with_context(|| format!("the socket {} cannot be made private", socket.display()))?;
    Ok(listener)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn paths(folder: &Path) -> Paths {
        Paths {
            socket: folder.join("run/netloomd.sock"),
            run: folder.join("run"),
            state: folder.join("state"),
            bpffs: folder.join("bpf"),
            config: folder.join("netloom.toml"),
        }
    }

    #[tokio::test]
    async fn a_second_daemon_is_told_who_is_there_and_a_stale_socket_is_replaced() {
        let folder = tempfile::tempdir().unwrap();
        let paths = paths(folder.path());
        let lock = InstanceLock::take(&paths).unwrap();
        let error = InstanceLock::take(&paths).err().unwrap().to_string();
        assert!(error.contains(&std::process::id().to_string()), "{error}");
        assert!(error.contains("--instance"), "{error}");

        drop(listen(&paths.socket, &lock).unwrap());
        assert!(paths.socket.exists(), "the socket of a dead daemon stays");
        listen(&paths.socket, &lock).unwrap();

        drop(lock);
        InstanceLock::take(&paths).unwrap();
    }

    /// Whoever loses the race may look before the winner has written who it is, or at who was there before.
    #[test]
    fn who_holds_the_lock_is_told_whatever_is_written_in_it() {
        let folder = tempfile::tempdir().unwrap();
        let paths = paths(folder.path());
        let _lock = InstanceLock::take(&paths).unwrap();
        for written in ["", "1\n"] {
            fs::write(paths.run.join("lock"), written).unwrap();
            let error = InstanceLock::take(&paths).err().unwrap().to_string();
            assert!(error.contains(&format!("process {}", std::process::id())), "{error}");
        }
    }

    #[test]
    fn a_directory_that_others_may_write_to_is_refused() {
        for which in ["run", "state", "bpf"] {
            let folder = tempfile::tempdir().unwrap();
            let directory = folder.path().join(which);
            fs::create_dir(&directory).unwrap();
            for mode in [0o1777, 0o777, 0o720, 0o702] {
                fs::set_permissions(&directory, fs::Permissions::from_mode(mode)).unwrap();
                let error = InstanceLock::take(&paths(folder.path())).err().unwrap().to_string();
                let path = directory.to_str().unwrap();
                assert!(error.contains(path) && error.contains(&format!("{mode:04o}")), "{error}");
            }
            fs::set_permissions(&directory, fs::Permissions::from_mode(0o755)).unwrap();
            InstanceLock::take(&paths(folder.path())).unwrap();
        }
    }
}
