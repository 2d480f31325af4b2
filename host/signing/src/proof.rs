use std::{
    io,
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};

use crate::{Digest, Refusal, Signature, Signer};

/// What shows who signed a component: the manifest that names it, and signatures of that manifest. It lies beside the
/// component's file, as `FILE.sig`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Proof {
    /// The manifest as the registry has it, to the byte.
    pub manifest: String,
    /// Who signed it.
    pub signatures: Vec<Signature>,
}

/// A proof cannot be read or kept.
#[derive(Debug, thiserror::Error)]
pub enum ProofError {
    /// The file.
    #[error("the proof {} cannot be read: {source}", path.display())]
    Read {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// What it holds.
    #[error("the proof {} is not understood ({source}): get it anew with `netloom plugin pull --output`", path.display())]
    Parse {
        /// Which.
        path: PathBuf,
        /// Why.
        source: serde_json::Error,
    },
}

/// What of a manifest counts here.
#[derive(Deserialize)]
struct Manifest {
    layers: Vec<Layer>,
}

#[derive(Deserialize)]
struct Layer {
    digest: Digest,
}

impl Proof {
    /// Where the proof of a component's file lies.
    #[must_use]
    pub fn path(component: &Path) -> PathBuf {
        let mut path = component.as_os_str().to_owned();
        path.push(".sig");
        path.into()
    }

    /// The proof beside a component's file, if there is one.
    ///
    /// # Errors
    /// It is there, but cannot be read.
    pub fn beside(component: &Path) -> Result<Option<Self>, ProofError> {
        let path = Self::path(component);
        match std::fs::read(&path) {
            Ok(bytes) => match serde_json::from_slice(&bytes) {
                Ok(proof) => Ok(Some(proof)),
                Err(source) => Err(ProofError::Parse { path, source }),
            },
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(source) => Err(ProofError::Read { path, source }),
        }
    }

    /// Which of these signed this component.
    ///
    /// # Errors
    /// None of them did, or they signed something else.
    pub fn verify<'s>(&self, component: &[u8], signers: &'s [Signer]) -> Result<&'s Signer, Refusal> {
        let signer = self.signed_by(signers)?;
        let manifest: Manifest =
            serde_json::from_str(&self.manifest).map_err(|error| Refusal::Manifest(error.to_string()))?;
        let component = Digest::of(component);
        match manifest.layers.as_slice() {
            [layer] if layer.digest == component => Ok(signer),
            _ => Err(Refusal::OtherComponent { component }),
        }
    }

    /// Which of these signed the manifest.
    ///
    /// # Errors
    /// None of them did.
    pub fn signed_by<'s>(&self, signers: &'s [Signer]) -> Result<&'s Signer, Refusal> {
        let manifest = Digest::of(self.manifest.as_bytes());
        let mut refusal = Refusal::Unsigned;
        for signature in &self.signatures {
            match signature.verify(&manifest, signers) {
                Ok(signer) => return Ok(signer),
                // A signature by a known key says more than one by somebody else.
                Err(Refusal::OtherKey { .. }) if refusal != Refusal::Unsigned => {}
                Err(why) => refusal = why,
            }
        }
        Err(refusal)
    }
}
