//! What was pulled, by its digest: `oci/blobs/sha256/HEX` below Netloom's cache folder. A file that is not what its name
//! says counts as absent.

use std::{
    fs::Permissions,
    io::Write as _,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
};

use anyhow::Context as _;
use netloom_signing::{Digest, Proof, Signature};
use oci_client::manifest::OciDescriptor;

use super::artifact::{Artifact, Parts};
use crate::files;

/// The cache.
pub(crate) struct Cache {
    folder: PathBuf,
}

impl Cache {
    /// The user's own.
    pub(crate) fn open() -> anyhow::Result<Self> {
        Ok(Self { folder: files::cache("NETLOOM_CACHE")?.join("oci") })
    }

    /// Contents by their digest.
    pub(crate) fn get(&self, digest: &Digest) -> Option<Vec<u8>> {
        let bytes = std::fs::read(self.blob(digest)).ok()?;
        (Digest::of(&bytes) == *digest).then_some(bytes)
    }

    /// Keeps contents.
    pub(crate) fn put(&self, contents: &[u8]) -> anyhow::Result<()> {
        write(&self.blob(&Digest::of(contents)), contents)
    }

    /// An artifact that is here with all its parts.
    pub(crate) fn artifact(&self, digest: &Digest) -> Option<Artifact> {
        let manifest = self.get(digest)?;
        let Parts { config, component } = Parts::of(&manifest).ok()?;
        let part = |descriptor: &OciDescriptor| self.get(&descriptor.digest.parse().ok()?);
        Some(Artifact {
            digest: digest.clone(),
            config: part(&config)?,
            component: part(&component)?,
            manifest,
        })
    }

    /// Keeps an artifact; its manifest last, so that what is there is whole.
    pub(crate) fn keep(&self, artifact: &Artifact) -> anyhow::Result<()> {
        self.put(&artifact.component)?;
        self.put(&artifact.config)?;
        self.put(&artifact.manifest)
    }

    /// The signatures of a manifest that were seen. Nothing vouches for them but themselves.
    pub(crate) fn signatures(&self, digest: &Digest) -> Vec<Signature> {
        let bytes = std::fs::read(self.signatures_file(digest)).ok();
        bytes.and_then(|bytes| serde_json::from_slice(&bytes).ok()).unwrap_or_default()
    }

    /// Keeps the signatures of a manifest.
    pub(crate) fn keep_signatures(&self, digest: &Digest, signatures: &[Signature]) -> anyhow::Result<()> {
        write(&self.signatures_file(digest), &serde_json::to_vec(signatures)?)
    }

    /// Lays an artifact's component out as a file with its proof beside it, for who takes files.
    pub(crate) fn lay_out(
        &self,
        name: &str,
        artifact: &Artifact,
        signatures: &[Signature],
    ) -> anyhow::Result<PathBuf> {
        let file = self.folder.join("plugins").join(artifact.digest.hex()).join(format!("{name}.wasm"));
        write_with_proof(&file, artifact, signatures)?;
        Ok(file)
    }

    fn blob(&self, digest: &Digest) -> PathBuf {
        self.folder.join("blobs/sha256").join(digest.hex())
    }

    fn signatures_file(&self, digest: &Digest) -> PathBuf {
        self.folder.join("signatures").join(format!("{}.json", digest.hex()))
    }
}

/// Writes a component and, where it is signed, its proof. An unsigned one takes away the proof of what was there.
pub(crate) fn write_with_proof(
    file: &Path,
    artifact: &Artifact,
    signatures: &[Signature],
) -> anyhow::Result<()> {
    let proof_file = Proof::path(file);
    if signatures.is_empty() {
        match std::fs::remove_file(&proof_file) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                return Err(error).with_context(|| format!("{} cannot be removed", proof_file.display()));
            }
            _ => {}
        }
    } else {
        let manifest = String::from_utf8(artifact.manifest.clone()).context("its manifest is no text")?;
        let proof = Proof { manifest, signatures: signatures.to_vec() };
        write(&proof_file, &serde_json::to_vec(&proof)?)?;
    }
    write(file, &artifact.component)
}

/// Writes a file whole or not at all, as others may read it meanwhile.
pub(crate) fn write(file: &Path, contents: &[u8]) -> anyhow::Result<()> {
    let attempt = || format!("{} cannot be written", file.display());
    let folder = match file.parent() {
        Some(folder) if folder != Path::new("") => folder,
        _ => Path::new("."),
    };
    std::fs::create_dir_all(folder).with_context(|| format!("{} cannot be made", folder.display()))?;
    // As any new file: what the umask leaves.
    let permissions = Permissions::from_mode(0o666);
    let mut partial =
        tempfile::Builder::new().permissions(permissions).tempfile_in(folder).with_context(attempt)?;
    partial.write_all(contents).with_context(attempt)?;
    partial.persist(file).with_context(attempt)?;
    Ok(())
}
