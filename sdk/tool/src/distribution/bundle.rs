//! Bundles: artifacts with their signatures in one file, for nodes that reach no registry. A bundle is an OCI image
//! layout in a tar archive, which other tools read as well.
//!
//! <https://github.com/opencontainers/image-spec/blob/main/image-layout.md>

use std::{
    collections::BTreeMap,
    fs::File,
    io::{Read as _, Write},
    path::Path,
};

use anyhow::{Context as _, bail};
use netloom_signing::{Digest, Signature};
use oci_client::manifest::{OCI_IMAGE_MEDIA_TYPE, OciDescriptor};
use serde::{Deserialize, Serialize};

use super::{
    artifact::descriptor,
    cache::Cache,
    pull::{Locking, Pulled},
    reference::Name,
    signatures::{self, Image},
};

const LAYOUT: &[u8] = br#"{"imageLayoutVersion":"1.0.0"}"#;
const NAME: &str = "org.opencontainers.image.ref.name";
/// The largest file in a bundle that is read.
const LARGEST: u64 = 256 << 20;

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Index {
    schema_version: u8,
    manifests: Vec<OciDescriptor>,
}

/// Writes artifacts into a bundle.
pub(crate) fn create(file: &Path, artifacts: &[(Name, Pulled)]) -> anyhow::Result<()> {
    let attempt = || format!("{} cannot be written", file.display());
    let mut blobs = BTreeMap::new();
    let mut put = |contents: &[u8]| blobs.insert(Digest::of(contents), contents.to_vec());
    let mut manifests = Vec::new();
    let mut name = |name: &Name, manifest: &[u8]| -> anyhow::Result<()> {
        let annotations = BTreeMap::from([(NAME.to_owned(), name.to_string())]);
        let entry = descriptor(OCI_IMAGE_MEDIA_TYPE, manifest)?;
        manifests.push(OciDescriptor { annotations: Some(annotations), ..entry });
        Ok(())
    };
    for (reference, Pulled { artifact, signatures, .. }) in artifacts {
        for contents in [&artifact.manifest, &artifact.config, &artifact.component] {
            put(contents);
        }
        name(reference, &artifact.manifest)?;
        if !signatures.is_empty() {
            let Image { manifest, config } = signatures::image_of(signatures)?;
            signatures.iter().for_each(|signature| drop(put(signature.contents().as_bytes())));
            put(&config);
            put(&manifest);
            name(&reference.signatures_of(&artifact.digest), &manifest)?;
        }
    }
    let mut archive = tar::Builder::new(File::create(file).with_context(attempt)?);
    add(&mut archive, "oci-layout", LAYOUT).with_context(attempt)?;
    let index = serde_json::to_vec(&Index { schema_version: 2, manifests })?;
    add(&mut archive, "index.json", &index).with_context(attempt)?;
    for (digest, contents) in &blobs {
        add(&mut archive, &format!("blobs/sha256/{}", digest.hex()), contents).with_context(attempt)?;
    }
    archive.into_inner().and_then(|mut file| file.flush()).with_context(attempt)
}

fn add(archive: &mut tar::Builder<File>, path: &str, contents: &[u8]) -> std::io::Result<()> {
    let mut header = tar::Header::new_ustar();
    header.set_size(contents.len() as u64);
    header.set_mode(0o644);
    archive.append_data(&mut header, path, contents)
}

/// Takes the artifacts of a bundle into the cache, and gives their names. What is not what its digest says is left
/// out, and so is what the bundle calls it.
pub(crate) fn extract(file: &Path, locking: &Locking) -> anyhow::Result<Vec<Name>> {
    let attempt = || format!("{} cannot be read", file.display());
    let mut archive = tar::Archive::new(File::open(file).with_context(attempt)?);
    let (mut index, mut blobs) = (None, BTreeMap::new());
    for entry in archive.entries().with_context(attempt)? {
        let entry = entry.with_context(attempt)?;
        let path = entry.path().with_context(attempt)?.into_owned();
        let mut contents = Vec::new();
        entry.take(LARGEST).read_to_end(&mut contents).with_context(attempt)?;
        if path == Path::new("index.json") {
            index = Some(contents);
        } else if path.starts_with("blobs") {
            blobs.insert(Digest::of(&contents), contents);
        }
    }
    let index = index.with_context(|| {
        format!("{} is no bundle such as `netloom plugin bundle create` writes", file.display())
    })?;
    let index: Index =
        serde_json::from_slice(&index).with_context(|| format!("the index of {}", file.display()))?;
    let cache = Cache::open()?;
    for contents in blobs.values() {
        cache.put(contents)?;
    }
    let mut lock = locking.open()?;
    let mut names = Vec::new();
    for manifest in index.manifests {
        let digest: Digest = manifest.digest.parse()?;
        let called = manifest.annotations.unwrap_or_default().remove(NAME).unwrap_or_default();
        let Ok(name) = called.parse::<Name>() else {
            bail!("{} has something called {called:?}, which is no reference", file.display());
        };
        if let Some(signed) = signed(&name) {
            let manifest = blobs.get(&digest).with_context(|| incomplete(file, &name))?;
            cache.keep_signatures(&signed, &read_signatures(manifest, &blobs)?)?;
            continue;
        }
        if cache.artifact(&digest).is_none() || name.pinned().is_some_and(|pinned| *pinned != digest) {
            bail!(incomplete(file, &name));
        }
        if let Some(lock) = lock.as_mut().filter(|_| name.pinned().is_none()) {
            if !locking.update() {
                lock.check(&name, &digest)?;
            }
            lock.note(&name, &digest)?;
        }
        names.push(name.at(&digest));
    }
    Ok(names)
}

fn incomplete(file: &Path, name: &Name) -> String {
    format!("{} is damaged: {name} is not whole. Make it anew, and compare checksums", file.display())
}

/// What the signatures of this name are about, if it is one of signatures.
fn signed(name: &Name) -> Option<Digest> {
    let hex = name.reference().tag()?.strip_prefix("sha256-")?.strip_suffix(".sig")?;
    format!("sha256:{hex}").parse().ok()
}

fn read_signatures(manifest: &[u8], blobs: &BTreeMap<Digest, Vec<u8>>) -> anyhow::Result<Vec<Signature>> {
    let layers = signatures::layers_of(manifest)?.into_iter();
    Ok(layers
        .filter_map(|layer| {
            let contents = blobs.get(&layer.digest.parse().ok()?)?;
            signatures::signature_of(&layer, contents.clone())
        })
        .collect())
}
