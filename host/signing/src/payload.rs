use serde::{Deserialize, Serialize};

use crate::{Digest, PublicKey, Refusal, SecretKey};

/// What cosign writes as the type of a payload.
const TYPE: &str = "cosign container image signature";

/// A payload and who signed it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Signature {
    /// What was signed, to the byte.
    pub payload: String,
    /// Base64 of DER.
    pub signature: String,
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
        Self { payload, signature }
    }

    /// Which of the keys signed this manifest.
    ///
    /// # Errors
    /// None of them did, or it was another manifest.
    pub fn verify<'k>(&self, manifest: &Digest, keys: &'k [PublicKey]) -> Result<&'k PublicKey, Refusal> {
        // The signature first: what nobody known has signed is not looked at.
        let key = keys
            .iter()
            .find(|key| key.verifies(self.payload.as_bytes(), &self.signature))
            .ok_or_else(|| Refusal::OtherKey { keys: crate::proof::names(keys) })?;
        let Payload { critical } = serde_json::from_str(&self.payload)
            .map_err(|error| Refusal::Payload { key: key.name().to_owned(), reason: error.to_string() })?;
        if critical.kind != TYPE {
            let reason = format!("its type is {:?}", critical.kind);
            return Err(Refusal::Payload { key: key.name().to_owned(), reason });
        }
        if critical.image.manifest != *manifest {
            let signed = critical.image.manifest;
            return Err(Refusal::OtherManifest { signed, manifest: manifest.clone() });
        }
        Ok(key)
    }
}
