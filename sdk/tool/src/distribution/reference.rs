//! How an artifact is called: `REGISTRY/REPOSITORY[:TAG][@DIGEST]`.

use std::{fmt, net::IpAddr, str::FromStr};

use anyhow::{Context as _, bail};
use netloom_signing::Digest;
use oci_client::Reference;

/// An artifact in a registry.
#[derive(Clone, Debug)]
pub(crate) struct Name {
    reference: Reference,
    pinned: Option<Digest>,
}

impl Name {
    /// For the client.
    pub(crate) const fn reference(&self) -> &Reference {
        &self.reference
    }

    /// The digest it is pinned to.
    pub(crate) const fn pinned(&self) -> Option<&Digest> {
        self.pinned.as_ref()
    }

    /// Where the registry listens: a host, with its port where it has one.
    pub(crate) fn registry(&self) -> &str {
        self.reference.registry()
    }

    /// Registry and repository, without tag and digest.
    pub(crate) fn repository(&self) -> String {
        format!("{}/{}", self.reference.registry(), self.reference.repository())
    }

    /// The last part of the repository: what a plugin from it is called.
    pub(crate) fn last(&self) -> &str {
        let repository = self.reference.repository();
        repository.rsplit_once('/').map_or(repository, |(_, last)| last)
    }

    /// The same, pinned.
    pub(crate) fn at(&self, digest: &Digest) -> Self {
        let (registry, repository) = (self.reference.registry(), self.reference.repository());
        let reference =
            Reference::with_digest(registry.to_owned(), repository.to_owned(), digest.to_string());
        Self { reference, pinned: Some(digest.clone()) }
    }

    /// Where cosign puts the signatures of a manifest in this repository.
    pub(crate) fn signatures_of(&self, digest: &Digest) -> Self {
        let (registry, repository) = (self.reference.registry(), self.reference.repository());
        let tag = format!("sha256-{}.sig", digest.hex());
        Self { reference: Reference::with_tag(registry.to_owned(), repository.to_owned(), tag), pinned: None }
    }

    /// Whether the registry is on this machine.
    pub(crate) fn is_local(&self) -> bool {
        let registry = self.registry();
        let host = match registry.rsplit_once(':') {
            Some((host, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => host,
            _ => registry,
        };
        let host = host.trim_start_matches('[').trim_end_matches(']');
        host == "localhost" || host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
    }
}

impl FromStr for Name {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> anyhow::Result<Self> {
        let text = text.strip_prefix("oci://").unwrap_or(text);
        let registry = text.split_once('/').map(|(registry, _)| registry);
        // Other tools take what names no registry for Docker Hub's: a typing error would ask strangers.
        if !registry.is_some_and(|name| name == "localhost" || name.contains(['.', ':'])) {
            bail!(
                "{text:?} names no registry: write REGISTRY/REPOSITORY:TAG, such as ghcr.io/acme/policy:1.2"
            );
        }
        let reference: Reference = text
            .parse()
            .with_context(|| format!("{text:?} is no reference such as ghcr.io/acme/policy:1.2"))?;
        let pinned = reference.digest().map(str::parse).transpose()?;
        Ok(Self { reference, pinned })
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.reference.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reference_names_its_registry() {
        let name: Name = "oci://ghcr.io/acme/policies/order".parse().unwrap();
        assert_eq!(name.to_string(), "ghcr.io/acme/policies/order:latest");
        assert_eq!((name.repository().as_str(), name.last()), ("ghcr.io/acme/policies/order", "order"));
        assert!("acme/order:1".parse::<Name>().unwrap_err().to_string().contains("names no registry"));
        assert!("order".parse::<Name>().is_err());
        assert!("ghcr.io/acme/Order".parse::<Name>().is_err());
        assert!("ghcr.io/acme/order@sha256:12".parse::<Name>().is_err());
    }

    #[test]
    fn loopback_is_this_machine() {
        for local in ["localhost/a/b", "localhost:5000/a/b", "127.0.0.1:5000/a/b", "127.1.2.3:80/a"] {
            assert!(local.parse::<Name>().unwrap().is_local(), "{local}");
        }
        for other in ["ghcr.io/a/b", "localhost.example.org/a/b", "10.0.0.1:5000/a/b"] {
            assert!(!other.parse::<Name>().unwrap().is_local(), "{other}");
        }
    }

    #[test]
    fn signatures_lie_where_cosign_looks() {
        let digest = Digest::of(b"manifest");
        let name: Name = "ghcr.io/acme/order:1".parse().unwrap();
        let wanted = format!("ghcr.io/acme/order:sha256-{}.sig", digest.hex());
        assert_eq!(name.signatures_of(&digest).to_string(), wanted);
        assert_eq!(name.at(&digest).to_string(), format!("ghcr.io/acme/order@{digest}"));
    }
}
