//! Getting an artifact: from the cache where its digest is known, otherwise from its registry.

use std::path::PathBuf;

use anyhow::{Context as _, anyhow};
use clap::Args;
use netloom_signing::{Digest, Proof, Signature, Signer};

use super::{
    artifact::{Artifact, Parts},
    cache::Cache,
    lock::{self, Lock},
    reference::Name,
    registry::Registry,
    signatures,
};

/// Which artifact, and how to reach it.
#[derive(Debug, Args)]
pub(crate) struct Reach {
    /// REGISTRY/REPOSITORY[:TAG][@sha256:DIGEST]
    #[arg(value_name = "REFERENCE")]
    pub(crate) name: Name,
    #[command(flatten)]
    pub(crate) transport: Transport,
}

/// How registries are talked to.
#[derive(Clone, Copy, Debug, Args)]
pub(crate) struct Transport {
    /// Without TLS; only for a registry on this machine
    #[arg(long)]
    pub(crate) plain_http: bool,
}

/// What of it is written down.
#[derive(Clone, Debug, Args)]
pub(crate) struct Locking {
    /// Write down which digest the reference is, in a new netloom.lock where there is none
    #[arg(long)]
    lock: bool,
    /// Take what the reference is now, also if netloom.lock has another digest
    #[arg(long)]
    update: bool,
    /// The lock file
    #[arg(long, value_name = "FILE", default_value = lock::FILE)]
    lock_file: PathBuf,
}

/// What was pulled.
pub(crate) struct Pulled {
    pub(crate) artifact: Artifact,
    pub(crate) signatures: Vec<Signature>,
    /// Who signed it, if somebody was asked for.
    pub(crate) signed_by: Option<String>,
}

impl Locking {
    pub(crate) fn open(&self) -> anyhow::Result<Option<Lock>> {
        Lock::open(&self.lock_file, self.lock)
    }

    pub(crate) const fn update(&self) -> bool {
        self.update
    }
}

/// Gets an artifact, and makes sure that one of the signers signed it if there are any.
pub(crate) async fn pull(
    name: &Name,
    transport: Transport,
    locking: Option<&Locking>,
    signers: &[Signer],
) -> anyhow::Result<Pulled> {
    let cache = Cache::open()?;
    let mut lock = locking.map(Locking::open).transpose()?.flatten();
    let update = locking.is_some_and(Locking::update);
    let locked = lock.as_ref().filter(|_| !update).and_then(|lock| lock.locked(name));
    let cached = name.pinned().or(locked).and_then(|digest| cache.artifact(digest));
    let (artifact, mut signatures, fresh) = match cached {
        Some(artifact) => {
            let signatures = cache.signatures(&artifact.digest);
            (artifact, signatures, false)
        }
        None => {
            let registry = Registry::of(name, transport.plain_http)?;
            let (manifest, digest) = registry.manifest(name).await?;
            if let Some(lock) = lock.as_ref().filter(|_| !update) {
                lock.check(name, &digest)?;
            }
            let artifact = fetch(&registry, &cache, name, manifest, digest).await?;
            let signatures = signatures::fetch(&registry, name, &artifact.digest).await?;
            cache.keep_signatures(&artifact.digest, &signatures)?;
            (artifact, signatures, true)
        }
    };
    let mut signed_by = verify(name, &artifact, &signatures, signers);
    if signed_by.is_err() && !fresh {
        // It may have been signed since it was pulled.
        let registry = Registry::of(name, transport.plain_http)?;
        signatures = signatures::fetch(&registry, name, &artifact.digest).await.with_context(|| {
            format!("{} is in the cache without a signature by those asked for", name.at(&artifact.digest))
        })?;
        cache.keep_signatures(&artifact.digest, &signatures)?;
        signed_by = verify(name, &artifact, &signatures, signers);
    }
    let signed_by = signed_by?;
    if let Some(lock) = lock.as_mut().filter(|_| name.pinned().is_none()) {
        lock.note(name, &artifact.digest)?;
    }
    Ok(Pulled { artifact, signatures, signed_by })
}

async fn fetch(
    registry: &Registry,
    cache: &Cache,
    name: &Name,
    manifest: Vec<u8>,
    digest: Digest,
) -> anyhow::Result<Artifact> {
    let parts = Parts::of(&manifest).with_context(|| format!("{name} cannot be used"))?;
    let mut contents = Vec::new();
    for part in [&parts.config, &parts.component] {
        contents.push(match cache.get(&part.digest.parse()?) {
            Some(cached) => cached,
            None => registry.blob(part).await?,
        });
    }
    let [config, component] = contents.try_into().map_err(|_| anyhow!("an artifact has two parts"))?;
    let artifact = Artifact { digest, manifest, config, component };
    cache.keep(&artifact)?;
    Ok(artifact)
}

fn verify(
    name: &Name,
    artifact: &Artifact,
    signatures: &[Signature],
    signers: &[Signer],
) -> anyhow::Result<Option<String>> {
    if signers.is_empty() {
        return Ok(None);
    }
    let manifest = String::from_utf8(artifact.manifest.clone()).context("its manifest is no text")?;
    let proof = Proof { manifest, signatures: signatures.to_vec() };
    let signer = proof.verify(&artifact.component, signers).with_context(|| {
        format!(
            "{} is not taken; whoever answers for it signs it with `netloom plugin sign` or `cosign sign`",
            name.at(&artifact.digest)
        )
    })?;
    Ok(Some(signer.name().to_owned()))
}

/// Reads keys and identities.
pub(crate) fn signers(paths: &[PathBuf]) -> anyhow::Result<Vec<Signer>> {
    paths.iter().map(|path| Ok(Signer::read(path)?)).collect()
}
