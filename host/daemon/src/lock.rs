//! One daemon an instance: a lock on a file of its run directory, released by the kernel however it ends.

use std::{
    fs::File,
    io::{Read as _, Seek as _, Write as _},
    os::unix::fs::{DirBuilderExt as _, PermissionsExt},
    path::Path,
};

use anyhow::{Context as _, bail};
use netloom_api::Paths;
use rustix::fs::{FlockOperation, flock};
use tokio::net::UnixListener;

/// Held as long as the daemon lives.
pub(crate) struct InstanceLock {
    _file: File,
}

impl InstanceLock {
    /// Takes the instance, and makes its directories.
    pub(crate) fn take(paths: &Paths) -> anyhow::Result<Self> {
        for directory in [&paths.run, &paths.state] {
            private_directory(directory)?;
        }
        let path = paths.run.join("lock");
        let mut file = File::options()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(&path)
            .with_context(|| format!("the lock {} cannot be opened", path.display()))?;
        if flock(&file, FlockOperation::NonBlockingLockExclusive).is_err() {
            let mut pid = String::new();
            file.read_to_string(&mut pid).context("the lock cannot be read")?;
            bail!(
                "another netloomd (process {}) already serves {}; stop it, or start this one with --instance NAME",
                pid.trim(),
                paths.socket.display()
            );
        }
        file.set_len(0).and_then(|()| file.rewind()).context("the lock cannot be written")?;
        writeln!(file, "{}", std::process::id()).context("the lock cannot be written")?;
        Ok(Self { _file: file })
    }
}

fn private_directory(path: &Path) -> anyhow::Result<()> {
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path)
        .with_context(|| format!("the directory {} cannot be made", path.display()))
}

/// Listens on the instance's socket. The lock is held, so a socket that is there was left by a killed daemon.
pub(crate) fn listen(socket: &Path, _lock: &InstanceLock) -> anyhow::Result<UnixListener> {
    match std::fs::remove_file(socket) {
        Ok(()) => {
            tracing::info!(socket = %socket.display(), "removed the socket of a daemon that was killed");
        }
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
        Err(error) => {
            return Err(error)
                .with_context(|| format!("the stale socket {} cannot be removed", socket.display()));
        }
    }
    let listener = UnixListener::bind(socket)
        .with_context(|| format!("the socket {} cannot be made", socket.display()))?;
    std::fs::set_permissions(socket, PermissionsExt::from_mode(0o600))
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
}
