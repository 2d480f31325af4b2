//! A component as an OCI artifact: the form that the Wasm working group of the CNCF agreed on, and that `wkg` reads.
//!
//! <https://tag-runtime.cncf.io/wgs/wasm/deliverables/wasm-oci-artifact/>

use anyhow::{Context as _, bail};
use netloom_plugin_build::interfaces;
use netloom_signing::Digest;
use oci_client::manifest::{OCI_IMAGE_MEDIA_TYPE, OciDescriptor, OciImageManifest};
use serde::Serialize;

const CONFIG: &str = "application/vnd.wasm.config.v0+json";
const LAYER: &str = "application/wasm";

/// The time of every artifact, so that a component always has the same digest.
const CREATED: &str = "1970-01-01T00:00:00Z";

/// An artifact, with all of it.
#[derive(Debug)]
pub(crate) struct Artifact {
    /// Its manifest's digest, by which it is called.
    pub(crate) digest: Digest,
    pub(crate) manifest: Vec<u8>,
    pub(crate) config: Vec<u8>,
    pub(crate) component: Vec<u8>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Config<'a> {
    created: &'a str,
    architecture: &'a str,
    os: &'a str,
    layer_digests: [Digest; 1],
    component: Component,
}

#[derive(Serialize)]
struct Component {
    exports: Vec<String>,
    imports: Vec<String>,
}

impl Artifact {
    /// Of a component.
    pub(crate) fn new(component: Vec<u8>) -> anyhow::Result<Self> {
        let interfaces = interfaces(&component)?;
        let config = serde_json::to_vec(&Config {
            created: CREATED,
            architecture: "wasm",
            os: "wasip2",
            layer_digests: [Digest::of(&component)],
            component: Component { exports: interfaces.exports, imports: interfaces.imports },
        })?;
        let manifest = serde_json::to_vec(&OciImageManifest {
            media_type: Some(OCI_IMAGE_MEDIA_TYPE.to_owned()),
            config: descriptor(CONFIG, &config)?,
            layers: vec![descriptor(LAYER, &component)?],
            ..OciImageManifest::default()
        })?;
        Ok(Self { digest: Digest::of(&manifest), manifest, config, component })
    }
}

/// What a manifest says of an artifact's parts.
pub(crate) struct Parts {
    pub(crate) config: OciDescriptor,
    pub(crate) component: OciDescriptor,
}

impl Parts {
    /// Reads a manifest.
    pub(crate) fn of(manifest: &[u8]) -> anyhow::Result<Self> {
        let manifest: OciImageManifest =
            serde_json::from_slice(manifest).context("its manifest is no image manifest")?;
        let kind = &manifest.config.media_type;
        if kind != CONFIG {
            bail!("it is no Wasm component: its configuration is {kind}, not {CONFIG}");
        }
        match <[OciDescriptor; 1]>::try_from(manifest.layers) {
            Ok([component]) if component.media_type == LAYER => {
                Ok(Self { config: manifest.config, component })
            }
            Ok([other]) => bail!("it is no Wasm component: its layer is {}, not {LAYER}", other.media_type),
            Err(layers) => bail!("it has {} layers: a component is one", layers.len()),
        }
    }
}

/// What a manifest says of contents.
pub(crate) fn descriptor(media_type: &str, contents: &[u8]) -> anyhow::Result<OciDescriptor> {
    Ok(OciDescriptor {
        media_type: media_type.to_owned(),
        digest: Digest::of(contents).to_string(),
        size: contents.len().try_into()?,
        ..OciDescriptor::default()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_component_has_one_digest_and_is_read_back() {
        let component = netloom_test_components::CUSTOM_POLICY;
        let artifact = Artifact::new(component.to_vec()).unwrap();
        assert_eq!(artifact.digest, Artifact::new(component.to_vec()).unwrap().digest);
        let parts = Parts::of(&artifact.manifest).unwrap();
        assert_eq!(parts.component.digest, Digest::of(component).to_string());
        assert_eq!(parts.config.digest, Digest::of(&artifact.config).to_string());
        let config: serde_json::Value = serde_json::from_slice(&artifact.config).unwrap();
        assert_eq!(config["layerDigests"][0], parts.component.digest);
        assert!(config["component"]["exports"].to_string().contains("netloom:policy/attach-order"));
    }

    #[test]
    fn what_is_no_component_is_named() {
        let refused = |manifest: &str| Parts::of(manifest.as_bytes()).err().unwrap().to_string();
        let image = r#"{"schemaVersion":2,"config":{"mediaType":"application/vnd.oci.image.config.v1+json",
            "digest":"sha256:0","size":1},"layers":[]}"#;
        assert!(refused(image).contains("vnd.oci.image.config"));
        let image = image.replace("application/vnd.oci.image.config.v1+json", CONFIG);
        assert!(refused(&image).contains("0 layers"));
        assert!(refused("{}").contains("manifest"));
        assert!(Artifact::new(b"no component".to_vec()).is_err());
    }
}
