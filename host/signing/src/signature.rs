use serde::{Deserialize, Serialize};
use sigstore_verify::types::Bundle;

use crate::{Digest, Refusal, SecretKey, Signer};

/// What cosign writes as the type of a payload.
const TYPE: &str = "cosign container image signature";

/// A signature of a manifest, in one of the two forms that cosign has.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged, deny_unknown_fields)]
pub enum Signature {
    /// A payload, signed by a key: what cosign writes up to version 2, and Netloom.
    Payload {
        /// What was signed, to the byte.
        payload: String,
        /// Base64 of DER.
        signature: String,
    },
    /// A Sigstore bundle, with all that it takes to verify it: what cosign writes from version 3 on.
    Bundle {
        /// Its JSON.
        bundle: String,
    },
}

/// What is signed about a manifest: the text that cosign signs, to the byte, so that signing twice gives the same.
///
/// `reference` is the repository, with its registry.
#[must_use]
pub fn payload(reference: &str, manifest: &Digest) -> String {
    let reference = serde_json::Value::from(reference);
    format!(
        r#"{{"critical":{{"identity":{{"docker-reference":{reference}}},"image":{{"docker-manifest-digest":"{manifest}"}},"type":"{TYPE}"}},"optional":null}}"#
    )
}

/// What of a payload counts. The reference does not: a mirror has the same artifact under another name.
#[derive(Deserialize)]
struct Payload {
    critical: Critical,
}

#[derive(Deserialize)]
struct Critical {
    image: Image,
    #[serde(rename = "type")]
    kind: String,
}

#[derive(Deserialize)]
struct Image {
    #[serde(rename = "docker-manifest-digest")]
    manifest: Digest,
}

impl Signature {
    /// Signs a manifest.
    #[must_use]
    pub fn make(key: &SecretKey, reference: &str, manifest: &Digest) -> Self {
        let payload = payload(reference, manifest);
        let signature = key.sign(payload.as_bytes());
        Self::Payload { payload, signature }
    }

    /// Which of these signed this manifest.
    ///
    /// # Errors
    /// None of them did, or it was another manifest.
    pub fn verify<'s>(&self, manifest: &Digest, signers: &'s [Signer]) -> Result<&'s Signer, Refusal> {
        match self {
            Self::Payload { payload, signature } => verify_payload(payload, signature, manifest, signers),
            Self::Bundle { bundle } => verify_bundle(bundle, manifest, signers),
        }
    }

    /// What it is about, as it travels.
    #[must_use]
    pub fn contents(&self) -> &str {
        match self {
            Self::Payload { payload: contents, .. } | Self::Bundle { bundle: contents } => contents,
        }
    }
}

fn verify_payload<'s>(
    payload: &str,
    signature: &str,
    manifest: &Digest,
    signers: &'s [Signer],
) -> Result<&'s Signer, Refusal> {
    // The signature first: what nobody known has signed is not looked at.
    let signer = signers
        .iter()
        .find(|signer| matches!(signer, Signer::Key(key) if key.verifies(payload.as_bytes(), signature)))
        .ok_or_else(|| Refusal::OtherKey { keys: crate::signer::names(signers) })?;
    let Payload { critical } = serde_json::from_str(payload)
        .map_err(|error| Refusal::Payload { key: signer.name().to_owned(), reason: error.to_string() })?;
    if critical.kind != TYPE {
        let reason = format!("its type is {:?}", critical.kind);
        return Err(Refusal::Payload { key: signer.name().to_owned(), reason });
    }
    if critical.image.manifest != *manifest {
        let signed = critical.image.manifest;
        return Err(Refusal::OtherManifest { signed, manifest: manifest.clone() });
    }
    Ok(signer)
}

fn verify_bundle<'s>(bundle: &str, manifest: &Digest, signers: &'s [Signer]) -> Result<&'s Signer, Refusal> {
    let bundle = Bundle::from_json(bundle).map_err(|error| Refusal::NoBundle(error.to_string()))?;
    let mut reasons = Vec::new();
    for signer in signers {
        match signer.made(&bundle, manifest) {
            Ok(()) => return Ok(signer),
            Err(reason) => reasons.push(format!("{}: {reason}", signer.name())),
        }
    }
    Err(Refusal::OtherBundle { reasons: reasons.join("; ") })
}
