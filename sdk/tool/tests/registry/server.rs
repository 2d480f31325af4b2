//! A registry of a test's own, whose storage it can look into.

use std::{
    ops::{Deref, DerefMut},
    path::PathBuf,
};

/// A registry that runs.
pub struct Registry(netloom_test_support::Registry);

/// Who may enter a registry that asks: `acme`, with `open sesame`, whose bcrypt hash this is.
const LOGIN: &str = "acme:$2b$04$O208R1e5iC/0TtC7Zgi9FeITWyMjb.ugoCtdEoHM1zJd.5/VRbm9W\n";

/// A registry; none where the program is not there.
pub fn start() -> Option<Registry> {
    start_with("", &[])
}

/// A registry that asks for a login.
pub fn start_with_login() -> Option<Registry> {
    start_with("auth:\n  htpasswd:\n    realm: acme\n    path: FOLDER/htpasswd\n", &[("htpasswd", LOGIN)])
}

/// A registry with more in its configuration, in which FOLDER stands for its own, and files in there.
pub fn start_with(configuration: &str, files: &[(&str, &str)]) -> Option<Registry> {
    netloom_test_support::Registry::start(configuration, files).map(Registry)
}

impl Deref for Registry {
    type Target = netloom_test_support::Registry;
    fn deref(&self) -> &Self::Target {
        &self.0
    }
}

impl DerefMut for Registry {
    fn deref_mut(&mut self) -> &mut Self::Target {
        &mut self.0
    }
}

impl Registry {
    /// The file that holds contents.
    pub fn blob(&self, digest: &str) -> PathBuf {
        let hex = digest.strip_prefix("sha256:").unwrap();
        self.storage().join("blobs/sha256").join(&hex[..2]).join(hex).join("data")
    }

    /// The folder of a tag.
    pub fn tag(&self, repository: &str, tag: &str) -> PathBuf {
        self.storage().join("repositories").join(repository).join("_manifests/tags").join(tag)
    }

    /// Puts contents into the registry's storage, past its API, and gives their digest.
    pub fn put(&self, repository: &str, contents: &str) -> String {
        let digest = self.link(repository, contents, "_layers/sha256");
        let blob = self.blob(&digest);
        std::fs::create_dir_all(blob.parent().unwrap()).unwrap();
        std::fs::write(blob, contents).unwrap();
        digest
    }

    /// The same for a manifest, with a tag if there is one.
    pub fn put_manifest(&self, repository: &str, manifest: &str, tag: Option<&str>) -> String {
        let digest = self.put(repository, manifest);
        self.link(repository, manifest, "_manifests/revisions/sha256");
        if let Some(tag) = tag {
            let current = self.tag(repository, tag).join("current");
            std::fs::create_dir_all(&current).unwrap();
            std::fs::write(current.join("link"), &digest).unwrap();
        }
        digest
    }

    fn link(&self, repository: &str, contents: &str, place: &str) -> String {
        let digest = netloom_signing::Digest::of(contents.as_bytes());
        let folder = self.storage().join("repositories").join(repository).join(place).join(digest.hex());
        std::fs::create_dir_all(&folder).unwrap();
        std::fs::write(folder.join("link"), digest.to_string()).unwrap();
        digest.to_string()
    }
}
