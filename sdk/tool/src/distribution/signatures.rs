//! Signatures in a registry, where and as cosign keeps them: up to its version 2 in an image at the tag
//! `sha256-DIGEST.sig`, a layer a signature; from version 3 on in artifacts that refer to what is signed, each with a
//! Sigstore bundle for its layer. Both are read, and ours are of the first kind, which every registry takes.
//!
//! <https://github.com/sigstore/cosign/blob/main/specs/SIGNATURE_SPEC.md>

use std::collections::BTreeMap;

use anyhow::Context as _;
use netloom_signing::{Digest, Signature};
use oci_client::manifest::{IMAGE_CONFIG_MEDIA_TYPE, OCI_IMAGE_MEDIA_TYPE, OciDescriptor, OciImageManifest};
use serde_json::json;

use super::{artifact::descriptor, reference::Name, registry::Registry};

const LAYER: &str = "application/vnd.dev.cosign.simplesigning.v1+json";
const ANNOTATION: &str = "dev.cosignproject.cosign/signature";

/// A Sigstore bundle: what a layer is, and an artifact that has one. Versions differ in what follows.
const BUNDLE: &str = "application/vnd.dev.sigstore.bundle.v0.3+json";
const ANY_BUNDLE: &str = "application/vnd.dev.sigstore.bundle";

/// The time that cosign writes.
const CREATED: &str = "0001-01-01T00:00:00Z";

/// More signatures of one artifact are not looked at, and none that is larger.
const MOST: usize = 64;
const LARGEST: i64 = 1 << 20;

/// The image that holds signatures.
pub(crate) struct Image {
    pub(crate) manifest: Vec<u8>,
    pub(crate) config: Vec<u8>,
}

/// The image with these layers.
fn image(layers: Vec<OciDescriptor>) -> anyhow::Result<Image> {
    let diff_ids: Vec<&str> = layers.iter().map(|layer| layer.digest.as_str()).collect();
    let history: Vec<_> = layers.iter().map(|_| json!({ "created": CREATED })).collect();
    let config = serde_json::to_vec(&json!({
        "architecture": "",
        "created": CREATED,
        "history": history,
        "os": "",
        "rootfs": { "type": "layers", "diff_ids": diff_ids },
        "config": {},
    }))?;
    let manifest = serde_json::to_vec(&OciImageManifest {
        media_type: Some(OCI_IMAGE_MEDIA_TYPE.to_owned()),
        config: descriptor(IMAGE_CONFIG_MEDIA_TYPE, &config)?,
        layers,
        ..OciImageManifest::default()
    })?;
    Ok(Image { manifest, config })
}

fn layer(signature: &Signature) -> anyhow::Result<OciDescriptor> {
    let contents = signature.contents().as_bytes();
    match signature {
        Signature::Payload { signature, .. } => {
            let annotations = BTreeMap::from([(ANNOTATION.to_owned(), signature.clone())]);
            Ok(OciDescriptor { annotations: Some(annotations), ..descriptor(LAYER, contents)? })
        }
        Signature::Bundle { .. } => descriptor(BUNDLE, contents),
    }
}

/// The image that holds these signatures.
pub(crate) fn image_of(signatures: &[Signature]) -> anyhow::Result<Image> {
    image(signatures.iter().map(layer).collect::<anyhow::Result<_>>()?)
}

/// The layers of a manifest that are signatures.
pub(crate) fn layers_of(manifest: &[u8]) -> anyhow::Result<Vec<OciDescriptor>> {
    let manifest: OciImageManifest =
        serde_json::from_slice(manifest).context("the manifest of its signatures is not understood")?;
    let signatures = manifest.layers.into_iter().filter(|layer| {
        (layer.media_type == LAYER || layer.media_type.starts_with(ANY_BUNDLE)) && layer.size <= LARGEST
    });
    Ok(signatures.take(MOST).collect())
}

/// The signature that a layer with these contents is. What is no text is nothing that anybody signed about a component.
pub(crate) fn signature_of(layer: &OciDescriptor, contents: Vec<u8>) -> Option<Signature> {
    let contents = String::from_utf8(contents).ok()?;
    if layer.media_type != LAYER {
        return Some(Signature::Bundle { bundle: contents });
    }
    let signature = layer.annotations.as_ref()?.get(ANNOTATION)?.clone();
    Some(Signature::Payload { payload: contents, signature })
}

/// Gets the signatures of a manifest.
pub(crate) async fn fetch(
    registry: &Registry,
    name: &Name,
    digest: &Digest,
) -> anyhow::Result<Vec<Signature>> {
    let image = registry.manifest_if_any(&name.signatures_of(digest)).await?;
    let mut manifests: Vec<Vec<u8>> = image.into_iter().map(|(manifest, _)| manifest).collect();
    for referrer in registry.referrers(digest, ANY_BUNDLE).await?.iter().take(MOST) {
        // One may have been removed, and still be in the list.
        let referrer = registry.manifest_if_any(&name.at(referrer)).await?;
        manifests.extend(referrer.map(|(manifest, _)| manifest));
    }
    let mut signatures = Vec::new();
    for manifest in manifests {
        for layer in layers_of(&manifest)? {
            signatures.extend(signature_of(&layer, registry.blob(&layer).await?));
        }
    }
    Ok(signatures)
}

/// Adds a signature to those of a manifest.
pub(crate) async fn add(
    registry: &Registry,
    name: &Name,
    digest: &Digest,
    signature: &Signature,
) -> anyhow::Result<()> {
    let place = name.signatures_of(digest);
    let mut layers = match registry.manifest_if_any(&place).await? {
        Some((manifest, _)) => {
            let present: OciImageManifest = serde_json::from_slice(&manifest)
                .with_context(|| format!("{place} is there, and holds no signatures: remove it"))?;
            present.layers
        }
        None => Vec::new(),
    };
    let added = layer(signature)?;
    let same = |layer: &OciDescriptor| layer.digest == added.digest && layer.annotations == added.annotations;
    if layers.iter().any(same) {
        return Ok(());
    }
    layers.push(added);
    let Image { manifest, config } = image(layers)?;
    registry.push_blob(signature.contents().as_bytes()).await?;
    registry.push_blob(&config).await?;
    registry.push_manifest(&place, &manifest).await
}
