//! Who made a component: keys and signatures in the form that cosign has for keys, and the proof that goes with a
//! component's file, so that whoever loads it can tell without a registry.
//!
//! What is signed is a [`payload`], a small JSON text that names the digest of a manifest; the manifest names the
//! component's digest. A [`Proof`] has the manifest and the signatures.

mod digest;
mod keys;
mod payload;
mod proof;

pub use digest::{Digest, NoDigest};
pub use keys::{KeyError, PublicKey, SecretKey};
pub use payload::{Signature, payload};
pub use proof::{Proof, ProofError, Refusal};
