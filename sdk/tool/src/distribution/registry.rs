//! Talking to a registry. What it sends is compared with the digest it was asked for, whatever it says itself.

use std::time::Duration;

use anyhow::{Context as _, anyhow, bail};
use docker_credential::DockerCredential;
use futures::TryStreamExt as _;
use netloom_signing::Digest;
use oci_client::{
    Client, RegistryOperation,
    client::{ClientConfig, ClientProtocol},
    errors::{DigestError, OciDistributionError, OciErrorCode},
    manifest::{OCI_IMAGE_MEDIA_TYPE, OciDescriptor},
    secrets::RegistryAuth,
};

use super::reference::Name;

/// How long a registry may take to be reached, and between two pieces of an answer.
const PATIENCE: Duration = Duration::from_secs(20);

/// The largest thing that is fetched. A component with an interpreter has some 20 MB.
const LARGEST: u64 = 256 << 20;

/// A registry, as one asks it about one repository.
pub(crate) struct Registry {
    client: Client,
    auth: RegistryAuth,
    name: Name,
}

impl Registry {
    /// Gets ready; nothing is sent yet.
    pub(crate) fn of(name: &Name, plain_http: bool) -> anyhow::Result<Self> {
        if plain_http && !name.is_local() {
            bail!(
                "--plain-http is for registries on this machine: what {} sends could be read and changed on its way. \
                 Give it TLS, or reach it through a tunnel to localhost",
                name.registry()
            );
        }
        // Of two cryptography libraries that rustls can use, this one builds without further tools. An error says
        // that there is one already.
        drop(rustls::crypto::ring::default_provider().install_default());
        let protocol = if plain_http { ClientProtocol::Http } else { ClientProtocol::Https };
        let config = ClientConfig {
            protocol,
            connect_timeout: Some(PATIENCE),
            read_timeout: Some(PATIENCE),
            user_agent: concat!("netloom-plugin/", env!("CARGO_PKG_VERSION")),
            ..ClientConfig::default()
        };
        let client = Client::try_from(config).context("requests to registries cannot be prepared")?;
        Ok(Self { client, auth: login(name.registry()), name: name.clone() })
    }

    /// The manifest of this name, and its digest.
    pub(crate) async fn manifest(&self, name: &Name) -> anyhow::Result<(Vec<u8>, Digest)> {
        let answer =
            self.client.pull_manifest_raw(name.reference(), &self.auth, &[OCI_IMAGE_MEDIA_TYPE]).await;
        let (bytes, _) = answer.map_err(|error| self.explain(error, &format!("cannot get {name}")))?;
        let digest = Digest::of(&bytes);
        match name.pinned() {
            Some(pinned) if *pinned != digest => Err(self.lied(pinned, &digest)),
            _ => Ok((bytes.to_vec(), digest)),
        }
    }

    /// The manifest of this name, if there is one.
    pub(crate) async fn manifest_if_any(&self, name: &Name) -> anyhow::Result<Option<(Vec<u8>, Digest)>> {
        match self.manifest(name).await {
            Ok(found) => Ok(Some(found)),
            Err(error) if error.downcast_ref::<OciDistributionError>().is_some_and(is_absent) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// The artifacts of this type that refer to a manifest. A registry that does not understand the question has none.
    pub(crate) async fn referrers(&self, digest: &Digest, kind: &str) -> anyhow::Result<Vec<Digest>> {
        let attempt = format!("cannot ask what refers to {digest} of {}", self.name.repository());
        self.sign_in(RegistryOperation::Pull, &attempt).await?;
        let index = match self.client.pull_referrers(self.name.at(digest).reference(), None).await {
            Ok(index) => index,
            Err(error @ OciDistributionError::RequestError(_)) => return Err(self.explain(error, &attempt)),
            Err(_) => return Ok(Vec::new()),
        };
        let entries = index.manifests.iter();
        let these =
            entries.filter(|entry| entry.artifact_type.as_deref().is_some_and(|of| of.starts_with(kind)));
        these.map(|entry| Ok(entry.digest.parse()?)).collect()
    }

    /// What a manifest names.
    pub(crate) async fn blob(&self, descriptor: &OciDescriptor) -> anyhow::Result<Vec<u8>> {
        let wanted: Digest = descriptor.digest.parse()?;
        let size = u64::try_from(descriptor.size).unwrap_or(u64::MAX);
        if size > LARGEST {
            bail!("{} of {} has {size} bytes: more than {LARGEST} are not fetched", wanted, self.name);
        }
        let attempt = format!("cannot get {wanted} of {}", self.name.repository());
        let answer = self.client.pull_blob_stream(self.name.reference(), descriptor).await;
        let mut stream = answer.map_err(|error| self.explain(error, &attempt))?;
        let mut bytes = Vec::new();
        loop {
            match stream.try_next().await {
                Ok(Some(piece)) => bytes.extend_from_slice(&piece),
                Ok(None) => break,
                // The client's own comparison, which ours below is to tell of.
                Err(error) if error.get_ref().is_some_and(|cause| cause.is::<DigestError>()) => break,
                Err(error) => return Err(anyhow!(error).context(attempt)),
            }
            if bytes.len() as u64 > size {
                bail!(
                    "{} sends more than the {size} bytes that {wanted} has: nothing of it was kept",
                    self.name.registry()
                );
            }
        }
        let digest = Digest::of(&bytes);
        if digest == wanted { Ok(bytes) } else { Err(self.lied(&wanted, &digest)) }
    }

    /// Stores contents under their digest.
    pub(crate) async fn push_blob(&self, contents: &[u8]) -> anyhow::Result<()> {
        let attempt = format!("cannot push to {}", self.name.repository());
        self.sign_in(RegistryOperation::Push, &attempt).await?;
        let (reference, digest) = (self.name.reference(), Digest::of(contents).to_string());
        let there = self.client.blob_exists(reference, &digest).await;
        if there.map_err(|error| self.explain(error, &attempt))? {
            return Ok(());
        }
        let pushed = self.client.push_blob(reference, contents.to_vec(), &digest).await;
        pushed.map(drop).map_err(|error| self.explain(error, &attempt))
    }

    /// Stores a manifest under a name.
    pub(crate) async fn push_manifest(&self, name: &Name, manifest: &[u8]) -> anyhow::Result<()> {
        let attempt = format!("cannot push {name}");
        let kind = OCI_IMAGE_MEDIA_TYPE.parse().context("a media type is no header")?;
        self.sign_in(RegistryOperation::Push, &attempt).await?;
        let pushed = self.client.push_manifest_raw(name.reference(), manifest.to_vec(), kind).await;
        pushed.map(drop).map_err(|error| self.explain(error, &attempt))
    }

    async fn sign_in(&self, operation: RegistryOperation, attempt: &str) -> anyhow::Result<()> {
        let signed_in = self.client.auth(self.name.reference(), &self.auth, operation).await;
        signed_in.map(drop).map_err(|error| self.explain(error, attempt))
    }

    fn lied(&self, wanted: &Digest, got: &Digest) -> anyhow::Error {
        anyhow!(
            "{} sent {got} for {wanted}: it is damaged, or somebody changed it; nothing of it was kept. Try again, and \
             if it stays so, push the artifact anew or ask another registry",
            self.name.registry()
        )
    }

    fn explain(&self, error: OciDistributionError, attempt: &str) -> anyhow::Error {
        let registry = self.name.registry();
        let way_out = match &error {
            OciDistributionError::RequestError(cause) if cause.is_connect() || cause.is_timeout() => {
                let tls = if self.name.is_local() { "; one without TLS takes --plain-http" } else { "" };
                format!(
                    "{registry} cannot be reached{tls}. What is pinned (@sha256:…) or in netloom.lock, and was \
                     pulled or extracted from a bundle before, needs no registry"
                )
            }
            denied if is_denied(denied) => {
                format!(
                    "{registry} wants to know who asks: `docker login {registry}` or `podman login {registry}`"
                )
            }
            OciDistributionError::DigestError(DigestError::VerificationError { expected, actual }) => {
                format!(
                    "{registry} sent {actual} for {expected}: it is damaged, or somebody changed it; nothing of it was kept. \
                 Try again, and if it stays so, push the artifact anew or ask another registry"
                )
            }
            absent if is_absent(absent) => {
                format!("{registry} has no such artifact: is it pushed, and the name right?")
            }
            _ => format!("{registry} refused or was not understood"),
        };
        anyhow!(error).context(way_out).context(attempt.to_owned())
    }
}

fn is_denied(error: &OciDistributionError) -> bool {
    match error {
        OciDistributionError::UnauthorizedError { .. } | OciDistributionError::AuthenticationFailure(_) => {
            true
        }
        // So the client says it where it asks whether there is something.
        OciDistributionError::RequestError(cause) => {
            cause.status().is_some_and(|status| [401, 403].contains(&status.as_u16()))
        }
        OciDistributionError::ServerError { code, .. } => [401, 403].contains(code),
        _ => false,
    }
}

fn is_absent(error: &OciDistributionError) -> bool {
    match error {
        OciDistributionError::ImageManifestNotFoundError(_) => true,
        OciDistributionError::ServerError { code, .. } => *code == 404,
        OciDistributionError::RegistryError { envelope, .. } => envelope.errors.iter().any(|error| {
            use OciErrorCode::{BlobUnknown, ManifestUnknown, NameUnknown, NotFound};
            [BlobUnknown, ManifestUnknown, NameUnknown, NotFound].contains(&error.code)
        }),
        _ => false,
    }
}

/// What `docker login` or `podman login` left for this registry. Without any, we ask as anybody.
fn login(registry: &str) -> RegistryAuth {
    let found = docker_credential::get_credential(registry)
        .or_else(|_| docker_credential::get_podman_credential(registry));
    match found {
        Ok(DockerCredential::UsernamePassword(user, password)) => RegistryAuth::Basic(user, password),
        Ok(DockerCredential::IdentityToken(token)) => RegistryAuth::Bearer(token),
        Err(_) => RegistryAuth::Anonymous,
    }
}
