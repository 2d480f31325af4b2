//! Who made a component: signatures in the forms that cosign has, and the proof that goes with a component's file, so
//! that whoever loads it can tell without a registry.
//!
//! What is signed is a [`payload`], a small JSON text that names the digest of a manifest, or a statement about that
//! digest in a Sigstore bundle; the manifest names the component's digest. A [`Proof`] has the manifest and the
//! signatures, and a [`Signer`] is whose count: a key, or an identity.

mod digest;
mod keys;
mod proof;
mod refusal;
mod signature;
mod signer;

pub use digest::{Digest, NoDigest};
pub use keys::{KeyError, PublicKey, SecretKey};
pub use proof::{Proof, ProofError};
pub use refusal::Refusal;
pub use signature::{Signature, payload};
pub use signer::{Identity, Signer, SignerError};
