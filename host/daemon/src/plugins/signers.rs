//! Whose plugins this node takes. Every component that is not bundled is read here, and where `plugins.signed_by`
//! names keys or identities, one of them has to have signed it: the proof lies beside the file, and stays with our own
//! copy.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use anyhow::Context as _;
use netloom_signing::{Proof, ProofError, Refusal, Signer, SignerError};

use crate::failure::Failure;

/// Whose signatures count; none takes everybody's plugins.
#[derive(Debug)]
pub(crate) struct Signers(Vec<Signer>);

/// A component that may be loaded.
#[derive(Clone)]
pub(crate) struct Component {
    pub(crate) bytes: Arc<[u8]>,
    pub(crate) proof: Option<Proof>,
}

/// A component that may not be loaded.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NotTaken {
    #[error("the component {} cannot be read: {source}", path.display())]
    Read { path: PathBuf, source: std::io::Error },
    #[error("{0}; this node takes signed plugins only (plugins.signed_by)")]
    Proof(ProofError),
    #[error("the component {} is not taken: {refusal}; this node takes what one of {signers} signed (plugins.signed_by)", path.display())]
    Refused { path: PathBuf, refusal: Refusal, signers: String },
}

impl Signers {
    /// Reads the keys and identities.
    pub(crate) fn read(paths: &[PathBuf]) -> anyhow::Result<Self> {
        let signers: Result<_, SignerError> = paths.iter().map(|path| Signer::read(path)).collect();
        Ok(Self(signers.context("plugins.signed_by names somebody who cannot be recognised")?))
    }

    /// Reads a component, if it may be loaded.
    pub(crate) async fn read_component(&self, path: &Path) -> Result<Component, NotTaken> {
        let source = |source| NotTaken::Read { path: path.to_owned(), source };
        let bytes: Arc<[u8]> = tokio::fs::read(path).await.map_err(source)?.into();
        self.take(path, bytes)
    }

    /// Takes what was read from a path, if it may be loaded.
    pub(crate) fn take(&self, path: &Path, bytes: Arc<[u8]>) -> Result<Component, NotTaken> {
        let proof = match Proof::beside(path) {
            Ok(proof) => proof,
            // Nobody asked for it.
            Err(_) if self.0.is_empty() => None,
            Err(error) => return Err(NotTaken::Proof(error)),
        };
        if !self.0.is_empty() {
            let signed = match &proof {
                Some(proof) => proof.verify(&bytes, &self.0),
                None => Err(Refusal::Unsigned),
            };
            let signer = signed.map_err(|refusal| {
                let signers: Vec<&str> = self.0.iter().map(Signer::name).collect();
                NotTaken::Refused { path: path.to_owned(), refusal, signers: signers.join(", ") }
            })?;
            tracing::info!(component = %path.display(), signer = signer.name(), "signed by one of this node's");
        }
        Ok(Component { bytes, proof })
    }
}

impl NotTaken {
    /// As the API says it.
    pub(crate) fn failure(self) -> Failure {
        match self {
            Self::Read { .. } => Failure::invalid(self),
            Self::Proof(_) | Self::Refused { .. } => Failure::refused(self).hint(
                "load it from its registry (netloom plugin load oci://REFERENCE), or from a file that `netloom plugin \
                 pull --output FILE` wrote, with FILE.sig beside it",
            ),
        }
    }
}
