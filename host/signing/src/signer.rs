use std::{
    io,
    path::{Path, PathBuf},
};

use regex::Regex;
use serde::Deserialize;
use sigstore_verify::{
    VerificationPolicy, Verifier,
    trust_root::{SIGSTORE_PRODUCTION_TRUSTED_ROOT, TrustedRoot},
    types::{Bundle, Sha256Hash, SignatureContent, Statement},
};

use crate::{Digest, KeyError, PublicKey};

/// What cosign states where it signs. Other statements about a manifest (how it was built, what is in it) are no
/// signatures of it.
const SIGNED: &str = "https://sigstore.dev/cosign/sign/v1";

/// A signer cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum SignerError {
    /// The file.
    #[error("the signer {} cannot be read: {source}", path.display())]
    Read {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A key.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// It is something else.
    #[error("{} is neither a public key (PEM) nor an identity (TOML, with `issuer` and `identity`): {reason}", path.display())]
    Identity {
        /// Which.
        path: PathBuf,
        /// Why.
        reason: String,
    },
    /// Whom an identity trusts.
    #[error(
        "{} trusts {}, which is no trusted root such as `cosign trusted-root create` writes: {reason}",
        path.display(),
        root.display()
    )]
    Root {
        /// Which identity.
        path: PathBuf,
        /// Its root.
        root: PathBuf,
        /// Why.
        reason: String,
    },
}

/// Whose signature counts.
#[derive(Clone, Debug)]
pub enum Signer {
    /// Whoever has the secret half of a key.
    Key(PublicKey),
    /// Whoever an issuer knows by a name, whatever key it signs with (in cosign's words: keyless).
    Identity(Box<Identity>),
}

/// A name, and who has to vouch for it.
#[derive(Clone, Debug)]
pub struct Identity {
    /// Its file.
    file: String,
    who: Who,
    issuer: String,
    /// The authorities and logs that count.
    root: TrustedRoot,
}

#[derive(Clone, Debug)]
enum Who {
    Exactly(String),
    Matching(Regex),
}

/// An identity's file.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Document {
    issuer: String,
    identity: Option<String>,
    identity_regexp: Option<String>,
    trusted_root: Option<PathBuf>,
}

impl Signer {
    /// From a file: a public key in PEM, or an identity in TOML.
    ///
    /// # Errors
    /// The file, or the trusted root that it names, cannot be read, or holds something else.
    pub fn read(path: &Path) -> Result<Self, SignerError> {
        let source = |source| SignerError::Read { path: path.to_owned(), source };
        let text = std::fs::read_to_string(path).map_err(source)?;
        if text.contains("-----BEGIN") {
            Ok(Self::Key(PublicKey::from_pem(&path.display().to_string(), &text)?))
        } else {
            Ok(Self::Identity(Box::new(Identity::from_toml(path, &text)?)))
        }
    }

    /// Its file, or what else it is called.
    #[must_use]
    pub fn name(&self) -> &str {
        match self {
            Self::Key(key) => key.name(),
            Self::Identity(identity) => &identity.file,
        }
    }

    /// Makes sure that it made this Sigstore bundle, about this manifest.
    pub(crate) fn made(&self, bundle: &Bundle, manifest: &Digest) -> Result<(), String> {
        let digest = Sha256Hash::from_hex(manifest.hex()).map_err(|error| error.to_string())?;
        if let SignatureContent::DsseEnvelope(envelope) = &bundle.content {
            let statement: Statement = serde_json::from_slice(envelope.payload.as_bytes())
                .map_err(|error| format!("its statement is not understood: {error}"))?;
            if statement.predicate_type != SIGNED {
                return Err(format!("it is a statement of another kind, {}", statement.predicate_type));
            }
            if !statement.matches_sha256(&digest) {
                return Err("it is about something else".to_owned());
            }
        }
        match self {
            Self::Key(key) => by_key(key, &bundle.content, &digest),
            Self::Identity(identity) => identity.made(bundle, digest),
        }
    }
}

/// A key needs nobody to vouch for it: logs and authorities are not looked at.
fn by_key(key: &PublicKey, content: &SignatureContent, digest: &Sha256Hash) -> Result<(), String> {
    let verified = match content {
        SignatureContent::DsseEnvelope(envelope) => {
            key.verifies_bytes(&envelope.pae(), envelope.signature.sig.as_bytes())
        }
        SignatureContent::MessageSignature(message) => {
            key.verifies_digest(digest.as_bytes(), message.signature.as_bytes())
        }
        _ => return Err("it is a bundle of an unknown kind".to_owned()),
    };
    if verified { Ok(()) } else { Err("it is by another key, or about something else".to_owned()) }
}

impl Identity {
    fn from_toml(path: &Path, text: &str) -> Result<Self, SignerError> {
        let refuse = |reason: String| SignerError::Identity { path: path.to_owned(), reason };
        let document: Document = toml::from_str(text).map_err(|error| refuse(error.to_string()))?;
        let who = match (document.identity, document.identity_regexp) {
            (Some(name), None) => Who::Exactly(name),
            (None, Some(pattern)) => {
                // All of the name has to match.
                let whole = Regex::new(&format!("^(?:{pattern})$"));
                Who::Matching(whole.map_err(|error| refuse(error.to_string()))?)
            }
            _ => return Err(refuse("it has to have one of `identity` and `identity_regexp`".to_owned())),
        };
        let root = match document.trusted_root {
            None => TrustedRoot::from_json(SIGSTORE_PRODUCTION_TRUSTED_ROOT)
                .map_err(|error| refuse(format!("Sigstore's public root: {error}")))?,
            Some(named) => {
                let root = path.parent().unwrap_or(Path::new("")).join(named);
                let refuse =
                    |reason: String| SignerError::Root { path: path.to_owned(), root: root.clone(), reason };
                let text = std::fs::read_to_string(&root).map_err(|error| refuse(error.to_string()))?;
                let trusted = TrustedRoot::from_json(&text).map_err(|error| refuse(error.to_string()))?;
                Verifier::new(&trusted).map_err(|error| refuse(error.to_string()))?;
                trusted
            }
        };
        Ok(Self { file: path.display().to_string(), who, issuer: document.issuer, root })
    }

    /// The certificate has to be by a trusted authority, for this name by this issuer, in a certificate log, and the
    /// signature in a signature log while the certificate held.
    fn made(&self, bundle: &Bundle, digest: Sha256Hash) -> Result<(), String> {
        let policy = VerificationPolicy::any_identity().require_issuer(self.issuer.as_str());
        let verified =
            Verifier::new(&self.root).and_then(|verifier| verifier.verify(digest, bundle, &policy));
        let verified = verified.map_err(|error| error.to_string())?;
        let name = verified.identity().ok_or("its certificate names nobody")?;
        if self.is(name.as_str()) { Ok(()) } else { Err(format!("it is by {name}")) }
    }

    fn is(&self, name: &str) -> bool {
        match &self.who {
            Who::Exactly(wanted) => name == wanted,
            Who::Matching(pattern) => pattern.is_match(name),
        }
    }
}

pub(crate) fn names(signers: &[Signer]) -> String {
    signers.iter().map(Signer::name).collect::<Vec<_>>().join(", ")
}
