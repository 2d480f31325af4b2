use crate::Digest;

/// A component is not taken for signed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// There is no signature.
    #[error("nobody has signed it")]
    Unsigned,
    /// Somebody else signed it.
    #[error("it is signed, but by none of the keys asked for ({keys})")]
    OtherKey {
        /// Those asked for.
        keys: String,
    },
    /// A Sigstore bundle, but not one that any of them made.
    #[error("it is signed with a Sigstore bundle, but by none of those asked for ({reasons})")]
    OtherBundle {
        /// Those asked for, and why not.
        reasons: String,
    },
    /// What should be a Sigstore bundle is none.
    #[error("it is signed with a Sigstore bundle that is not understood: {0}")]
    NoBundle(String),
    /// A signature, but of something else.
    #[error(
        "its signature is about {signed}, and it is {manifest}: somebody changed it, or moved the signature"
    )]
    OtherManifest {
        /// What was signed.
        signed: Digest,
        /// What there is.
        manifest: Digest,
    },
    /// The manifest is another component's.
    #[error("its proof is about other contents than {component}: it was changed after it was signed")]
    OtherComponent {
        /// What there is.
        component: Digest,
    },
    /// A key signed what no payload is.
    #[error("what {key} signed is no statement about a component: {reason}")]
    Payload {
        /// Whose.
        key: String,
        /// Why.
        reason: String,
    },
    /// The manifest cannot be read.
    #[error("the manifest in its proof is not understood: {0}")]
    Manifest(String),
}
