use std::{
    io,
    path::{Path, PathBuf},
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use p256::{
    ecdsa::{
        DerSignature, SigningKey, VerifyingKey,
        signature::{Signer as _, Verifier as _, hazmat::PrehashVerifier as _},
    },
    elliptic_curve::Generate as _,
    pkcs8::{
        DecodePrivateKey as _, DecodePublicKey as _, EncodePrivateKey as _, EncodePublicKey as _, LineEnding,
    },
};

/// A key cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// The file.
    #[error("the key {} cannot be read: {source}", path.display())]
    Read {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// It is something else.
    #[error(
        "{name} is no public key of the curve P-256 in PEM, such as `netloom plugin keygen` and cosign write: {reason}"
    )]
    NotPublic {
        /// Which.
        name: String,
        /// Why.
        reason: String,
    },
    /// It is something else.
    #[error(
        "{name} is no private key of the curve P-256 in PEM (PKCS#8), such as `netloom plugin keygen` writes: {reason}"
    )]
    NotSecret {
        /// Which.
        name: String,
        /// Why.
        reason: String,
    },
    /// Cosign's own form, behind a password.
    #[error(
        "{name} is encrypted by cosign, which is not supported: sign with `cosign sign --key`, whose signatures are \
         verified here all the same, or with a key of `netloom plugin keygen`"
    )]
    Encrypted {
        /// Which.
        name: String,
    },
    /// It cannot be written as PEM.
    #[error("the key cannot be written as PEM: {0}")]
    Write(String),
}

/// The half that verifies.
#[derive(Clone, Debug)]
pub struct PublicKey {
    key: VerifyingKey,
    name: String,
}

impl PublicKey {
    /// From PEM, with a name to call it by.
    ///
    /// # Errors
    /// It is something else.
    pub fn from_pem(name: &str, pem: &str) -> Result<Self, KeyError> {
        VerifyingKey::from_public_key_pem(pem)
            .map(|key| Self { key, name: name.to_owned() })
            .map_err(|error| KeyError::NotPublic { name: name.to_owned(), reason: error.to_string() })
    }

    /// Its file, or what else it is called.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Whether it made this signature (base64 of DER, of ECDSA with SHA-256).
    #[must_use]
    pub fn verifies(&self, message: &[u8], signature: &str) -> bool {
        STANDARD.decode(signature.trim()).is_ok_and(|signature| self.verifies_bytes(message, &signature))
    }

    /// The same of a signature in DER.
    pub(crate) fn verifies_bytes(&self, message: &[u8], signature: &[u8]) -> bool {
        DerSignature::try_from(signature).is_ok_and(|signature| self.key.verify(message, &signature).is_ok())
    }

    /// The same, about what has this SHA-256.
    pub(crate) fn verifies_digest(&self, digest: &[u8], signature: &[u8]) -> bool {
        DerSignature::try_from(signature)
            .is_ok_and(|signature| self.key.verify_prehash(digest, &signature).is_ok())
    }
}

/// The half that signs.
pub struct SecretKey(SigningKey);

impl SecretKey {
    /// A new one.
    #[must_use]
    pub fn generate() -> Self {
        Self(SigningKey::generate())
    }

    /// From a PEM file.
    ///
    /// # Errors
    /// The file cannot be read, or holds something else.
    pub fn read(path: &Path) -> Result<Self, KeyError> {
        Self::from_pem(&path.display().to_string(), &read(path)?)
    }

    /// From PEM, with a name for errors.
    ///
    /// # Errors
    /// It is something else.
    pub fn from_pem(name: &str, pem: &str) -> Result<Self, KeyError> {
        if ["COSIGN", "SIGSTORE"].iter().any(|by| pem.contains(&format!("BEGIN ENCRYPTED {by} PRIVATE KEY")))
        {
            return Err(KeyError::Encrypted { name: name.to_owned() });
        }
        SigningKey::from_pkcs8_pem(pem)
            .map(Self)
            .map_err(|error| KeyError::NotSecret { name: name.to_owned(), reason: error.to_string() })
    }

    /// As PEM (PKCS#8). Whoever has it can sign.
    ///
    /// # Errors
    /// It cannot be encoded.
    pub fn to_pem(&self) -> Result<String, KeyError> {
        let pem = self.0.to_pkcs8_pem(LineEnding::LF).map_err(|error| KeyError::Write(error.to_string()))?;
        Ok(pem.to_string())
    }

    /// Its public half, as PEM (SPKI).
    ///
    /// # Errors
    /// It cannot be encoded.
    pub fn public_pem(&self) -> Result<String, KeyError> {
        let public = self.0.verifying_key();
        public.to_public_key_pem(LineEnding::LF).map_err(|error| KeyError::Write(error.to_string()))
    }

    /// Signs: base64 of DER, of ECDSA with SHA-256. The same message has the same signature.
    #[must_use]
    pub fn sign(&self, message: &[u8]) -> String {
        let signature: DerSignature = self.0.sign(message);
        STANDARD.encode(signature.as_bytes())
    }
}

fn read(path: &Path) -> Result<String, KeyError> {
    std::fs::read_to_string(path).map_err(|source| KeyError::Read { path: path.to_owned(), source })
}
