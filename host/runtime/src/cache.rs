//! Compiled components on disk. Loading one runs its bytes as machine code, so only files that this user alone
//! could have written, and that still match their checksum, are loaded; anything else is compiled anew.

use std::{
    fmt::Write as _,
    fs::{self, DirBuilder, OpenOptions},
    hash::{Hash, Hasher},
    io::Write as _,
    os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt},
    path::{Path, PathBuf},
    sync::atomic::{AtomicU64, Ordering},
};

use sha2::{Digest, Sha256};
use wasmtime::{Engine, component::Component};

use crate::error::CacheError;

/// Compiled components kept, at most; the ones compiled longest ago go first.
const ENTRIES: usize = 256;

#[derive(Debug)]
pub(crate) struct Cache {
    directory: PathBuf,
}

impl Cache {
    /// Opens the cache, creating its directory for this user alone.
    pub(crate) fn open(directory: &Path) -> Result<Self, CacheError> {
        let io = |action, source| CacheError::Io { action, path: directory.to_owned(), source };
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(directory)
            .map_err(|error| io("create", error))?;
        let metadata = fs::symlink_metadata(directory).map_err(|error| io("examine", error))?;
        let unsafe_because =
            |problem: String| Err(CacheError::Unsafe { path: directory.to_owned(), problem });
        if !metadata.is_dir() {
            return unsafe_because("it is not a directory".to_owned());
        }
        let user = rustix::process::geteuid().as_raw();
        if metadata.uid() != user {
            return unsafe_because(format!("it belongs to user {}, not {user}", metadata.uid()));
        }
        if metadata.mode() & 0o077 != 0 {
            return unsafe_because(format!("others can use it (mode {:o})", metadata.mode() & 0o777));
        }
        let cache = Self { directory: directory.to_owned() };
        cache.remove_leftovers().map_err(|error| io("clean", error))?;
        Ok(cache)
    }

    /// Removes what a killed process had half written.
    fn remove_leftovers(&self) -> std::io::Result<()> {
        for entry in fs::read_dir(&self.directory)? {
            let path = entry?.path();
            if path.extension().is_some_and(|extension| extension == "partial") {
                fs::remove_file(path)?;
            }
        }
        Ok(())
    }

    /// The compiled component, if it is here, whole and from this engine.
    pub(crate) fn load(&self, engine: &Engine, digest: &str) -> Option<Component> {
        let (code, sum) = self.paths(engine, digest);
        let expected = fs::read_to_string(&sum).ok()?;
        if !self.is_ours(&code) || !self.is_ours(&sum) {
            tracing::warn!(path = %code.display(), "a compiled plugin could be written by others: compiling anew");
            return None;
        }
        let bytes = fs::read(&code).ok()?;
        if checksum(&bytes) != expected {
            tracing::warn!(path = %code.display(), "a compiled plugin does not match its checksum: compiling anew");
            return None;
        }
        match deserialize(engine, &code) {
            Ok(component) => Some(component),
            Err(error) => {
                tracing::warn!(path = %code.display(), "a compiled plugin is not usable, compiling anew: {error:#}");
                None
            }
        }
    }

    /// Keeps a compiled component. A failure costs the next start a compilation, nothing more.
    pub(crate) fn store(&self, engine: &Engine, digest: &str, component: &Component) {
        if let Err(error) = self.try_store(engine, digest, component) {
            tracing::warn!(path = %self.directory.display(), "could not keep a compiled plugin: {error}");
        }
    }

    fn try_store(&self, engine: &Engine, digest: &str, component: &Component) -> std::io::Result<()> {
        let (code, sum) = self.paths(engine, digest);
        let bytes = component.serialize().map_err(|error| std::io::Error::other(error.to_string()))?;
        replace(&code, &bytes)?;
        replace(&sum, checksum(&bytes).as_bytes())?;
        self.prune()
    }

    fn prune(&self) -> std::io::Result<()> {
        let mut compiled = Vec::new();
        for entry in fs::read_dir(&self.directory)? {
            let entry = entry?;
            if entry.path().extension().is_some_and(|extension| extension == "cwasm") {
                compiled.push((entry.metadata()?.modified()?, entry.path()));
            }
        }
        compiled.sort();
        for (_, path) in compiled.iter().rev().skip(ENTRIES) {
            fs::remove_file(path)?;
            // It may have been lost on its own.
            drop(fs::remove_file(path.with_extension("crc32")));
        }
        Ok(())
    }

    fn is_ours(&self, path: &Path) -> bool {
        let user = rustix::process::geteuid().as_raw();
        fs::symlink_metadata(path).is_ok_and(|metadata| {
            metadata.is_file() && metadata.uid() == user && metadata.mode() & 0o022 == 0
        })
    }

    fn paths(&self, engine: &Engine, digest: &str) -> (PathBuf, PathBuf) {
        let mut hasher = Sha256Hasher(Sha256::new());
        engine.precompile_compatibility_hash().hash(&mut hasher);
        let engine = hex(&hasher.0.finalize());
        let stem = format!("{digest}-{}", engine.get(..16).unwrap_or(&engine));
        (self.directory.join(format!("{stem}.cwasm")), self.directory.join(format!("{stem}.crc32")))
    }
}

/// Writes a file so that a reader sees the old one or the new one, whole.
fn replace(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    // Two loads of one component may be under way at once.
    static WRITES: AtomicU64 = AtomicU64::new(0);
    let write = WRITES.fetch_add(1, Ordering::Relaxed);
    let temporary = path.with_extension(format!("{}-{write}.partial", std::process::id()));
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&temporary)?;
    file.write_all(bytes)?;
    fs::rename(&temporary, path)
}

/// Maps a compiled component.
#[allow(unsafe_code)]
fn deserialize(engine: &Engine, path: &Path) -> wasmtime::Result<Component> {
    // SAFETY: the bytes must come from `Component::serialize` and stay as they are. The directory and the file
    // belong to this user and nobody else can write them (checked), this crate writes nothing else there and
    // replaces files only by renaming, and the content has just matched the checksum written with it.
    unsafe { Component::deserialize_file(engine, path) }
}

/// What tells a file that was damaged or written in part: whoever could write another could write its checksum too. A
/// start checks each plugin's, so it is one that takes little time.
fn checksum(bytes: &[u8]) -> String {
    format!("{:08x}", crc32fast::hash(bytes))
}

/// The SHA-256 of some bytes, hexadecimal.
#[must_use]
pub fn hex_digest(bytes: &[u8]) -> String {
    hex(&Sha256::digest(bytes))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        // Writing to a String does not fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// A hash that is the same in every build: the standard one may change with the compiler.
struct Sha256Hasher(Sha256);

impl Hasher for Sha256Hasher {
    fn write(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    fn finish(&self) -> u64 {
        let digest = self.0.clone().finalize();
        digest.iter().take(8).fold(0, |hash, byte| hash << 8 | u64::from(*byte))
    }
}
