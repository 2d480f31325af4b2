//! Our own copies of components, so that a restart does not depend on the files they came from. Each is called by its
//! digest, which it is compared with whenever it is read; one that is damaged is made anew from its source, if that is
//! still the same.

use std::{
    collections::BTreeSet,
    fs::{self, File},
    io::{self, Write as _},
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
};

use anyhow::Context as _;
use netloom_api::types::Finding;
use netloom_runtime::hex_digest;
use netloom_signing::Proof;

use super::signers::{Component, NotTaken, Signers};
use crate::store::{PluginRecord, sync_folder};

/// The folder of the copies.
#[derive(Clone)]
pub(crate) struct Components {
    folder: PathBuf,
}

/// A copy that is not what it was.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Damage {
    #[error("our copy {} cannot be read: {source}", path.display())]
    Unreadable { path: PathBuf, source: io::Error },
    #[error("our copy {} is damaged: its digest is {found}", path.display())]
    Changed { path: PathBuf, found: String },
}

impl Components {
    pub(crate) fn new(state: &Path) -> Self {
        Self { folder: state.join("plugins") }
    }

    fn path(&self, digest: &str) -> PathBuf {
        self.folder.join(format!("{digest}.wasm"))
    }

    /// Keeps a copy; when this returns, it survives a loss of power. Its proof comes first: what is there is whole.
    pub(crate) fn keep(&self, digest: &str, component: &Component) -> anyhow::Result<()> {
        let made = fs::DirBuilder::new().recursive(true).mode(0o700).create(&self.folder);
        made.with_context(|| format!("{} cannot be made", self.folder.display()))?;
        let path = self.path(digest);
        if let Some(proof) = &component.proof {
            put(&Proof::path(&path), &serde_json::to_vec(proof)?)?;
        }
        if whole(&path, digest).is_ok() { Ok(()) } else { put(&path, &component.bytes) }
    }

    /// Reads the component of a record. A damaged copy is made anew from where it was loaded, if that is still the same.
    pub(crate) async fn read(&self, record: &PluginRecord, signers: &Signers) -> anyhow::Result<Component> {
        let path = self.path(&record.digest);
        let damage = match whole(&path, &record.digest) {
            Ok(bytes) => return Ok(signers.take(&path, bytes.into())?),
            Err(damage) => damage,
        };
        let source = &record.load.path;
        let component = match signers.read_component(source).await {
            Ok(component) if hex_digest(&component.bytes) == record.digest => component,
            Ok(_) => {
                let context = format!("and {} is another version by now: load it again", source.display());
                return Err(anyhow::Error::new(damage).context(context));
            }
            Err(error @ NotTaken::Read { .. }) => {
                return Err(anyhow::Error::new(damage).context(format!("and {error}: load it again")));
            }
            Err(error) => return Err(error.into()),
        };
        self.keep(&record.digest, &component)?;
        tracing::warn!(%damage, source = %source.display(), "our copy of a component was made anew");
        Ok(component)
    }

    /// The copies of these records that are damaged, as `netloom doctor` says it.
    pub(crate) fn findings(&self, records: &[PluginRecord]) -> Vec<Finding> {
        let digests: BTreeSet<&str> = records.iter().map(|record| record.digest.as_str()).collect();
        let damaged = digests.into_iter().filter_map(|digest| {
            let damage = whole(&self.path(digest), digest).err()?;
            let of = records.iter().find(|record| record.digest == digest)?;
            let name = of.load.name.as_ref().map_or("?", |name| name.as_str());
            Some(Finding {
                severity: "error".to_owned(),
                subject: format!("plugin {name}"),
                message: format!("{damage}; it goes on until netloomd restarts"),
                hint: format!(
                    "put the same file at {} and restart netloomd, or load it again with `netloom plugin load`",
                    of.load.path.display()
                ),
            })
        });
        damaged.collect()
    }

    /// Removes the copies that nobody refers to, and what interrupted ones left; how many files.
    pub(crate) fn collect(&self, referred: &BTreeSet<String>) -> io::Result<usize> {
        let entries = match fs::read_dir(&self.folder) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(0),
            entries => entries?,
        };
        let mut removed = 0;
        for entry in entries {
            let name = entry?.file_name();
            // What is not called as ours are is none of ours.
            let Some((digest, _)) = name.to_str().and_then(|name| name.split_once('.')) else { continue };
            let ours = digest.len() == 64 && digest.bytes().all(|byte| byte.is_ascii_hexdigit());
            let partial = name.to_str().is_some_and(|name| name.ends_with(".partial"));
            if ours && (partial || !referred.contains(digest)) {
                fs::remove_file(self.folder.join(&name))?;
                removed += 1;
            }
        }
        Ok(removed)
    }
}

/// A copy's contents, if they are what its name says.
fn whole(path: &Path, digest: &str) -> Result<Vec<u8>, Damage> {
    let bytes = fs::read(path).map_err(|source| Damage::Unreadable { path: path.to_owned(), source })?;
    let found = hex_digest(&bytes);
    if found == digest { Ok(bytes) } else { Err(Damage::Changed { path: path.to_owned(), found }) }
}

/// Writes a file that is there as a whole or not at all, also when power is lost.
fn put(path: &Path, contents: &[u8]) -> anyhow::Result<()> {
    let mut partial = path.as_os_str().to_owned();
    partial.push(".partial");
    let partial = PathBuf::from(partial);
    let written = File::options()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(&partial)
        .and_then(|mut file| file.write_all(contents).and_then(|()| file.sync_all()))
        .and_then(|()| fs::rename(&partial, path))
        .and_then(|()| sync_folder(path));
    if written.is_err() {
        drop(fs::remove_file(&partial));
    }
    written.with_context(|| format!("the component cannot be kept as {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Lab {
        folder: tempfile::TempDir,
        components: Components,
        signers: Signers,
        record: PluginRecord,
    }

    impl Lab {
        /// A component that was loaded from `source.wasm`, and of which a copy is kept.
        async fn new() -> Self {
            let folder = tempfile::tempdir().unwrap();
            let source = folder.path().join("source.wasm");
            fs::write(&source, "a component").unwrap();
            let load: netloom_api::types::PluginLoad =
                serde_json::from_value(serde_json::json!({ "name": "policy", "path": source })).unwrap();
            let digest = hex_digest(b"a component");
            let record = PluginRecord { load, digest, order: 1, loaded_ms: 0 };
            let lab = Self {
                components: Components::new(folder.path()),
                signers: Signers::read(&[]).unwrap(),
                record,
                folder,
            };
            let component = lab.signers.read_component(&lab.record.load.path).await.unwrap();
            lab.components.keep(&lab.record.digest, &component).unwrap();
            lab
        }

        fn copy(&self) -> PathBuf {
            self.components.path(&self.record.digest)
        }

        async fn read(&self) -> anyhow::Result<Component> {
            self.components.read(&self.record, &self.signers).await
        }

        fn findings(&self) -> Vec<Finding> {
            self.components.findings(std::slice::from_ref(&self.record))
        }
    }

    #[tokio::test]
    async fn a_damaged_copy_is_told_and_made_anew_from_where_it_came() {
        for contents in [Some(""), Some("a componenT"), Some("a compo"), None] {
            let lab = Lab::new().await;
            assert!(lab.findings().is_empty());
            match contents {
                Some(contents) => fs::write(lab.copy(), contents).unwrap(),
                None => fs::remove_file(lab.copy()).unwrap(),
            }
            let found = lab.findings();
            assert_eq!(found.len(), 1, "{contents:?}");
            assert!(found[0].message.contains(lab.copy().to_str().unwrap()), "{found:?}");
            assert_eq!(&*lab.read().await.unwrap().bytes, b"a component");
            assert_eq!(fs::read(lab.copy()).unwrap(), b"a component");
            assert!(lab.findings().is_empty());
        }
    }

    #[tokio::test]
    async fn a_damaged_copy_whose_source_is_another_or_gone_is_not_loaded() {
        let lab = Lab::new().await;
        fs::write(lab.copy(), "something else").unwrap();
        fs::write(&lab.record.load.path, "another version").unwrap();
        let error = format!("{:#}", lab.read().await.err().unwrap());
        assert!(error.contains("damaged") && error.contains("another version"), "{error}");
        fs::remove_file(&lab.record.load.path).unwrap();
        let error = format!("{:#}", lab.read().await.err().unwrap());
        assert!(error.contains("damaged") && error.contains("source.wasm"), "{error}");
    }

    #[tokio::test]
    async fn a_copy_that_nobody_refers_to_is_removed_and_nothing_else() {
        let lab = Lab::new().await;
        let beside = lab.copy().with_file_name("notes.txt");
        fs::write(&beside, "somebody's").unwrap();
        fs::write(lab.copy().with_extension("wasm.sig.partial"), "half").unwrap();
        let referred = BTreeSet::from([lab.record.digest.clone()]);
        assert_eq!(lab.components.collect(&referred).unwrap(), 1);
        assert!(lab.copy().exists());
        assert_eq!(lab.components.collect(&BTreeSet::new()).unwrap(), 1);
        assert!(!lab.copy().exists() && beside.exists());
        assert!(lab.folder.path().join("source.wasm").exists());
    }
}
