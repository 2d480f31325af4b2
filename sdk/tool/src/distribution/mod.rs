//! Distributing plugins: components as artifacts in OCI registries, signed.
//!
//! [`reference`] is how an artifact is called and [`artifact`] what it is; [`registry`] talks to registries, [`cache`]
//! and [`lock`] remember, [`pull`] decides whom to ask; [`signatures`] are kept as cosign keeps them, and [`bundle`]
//! takes all of it where no network goes.

mod artifact;
mod bundle;
mod cache;
mod lock;
mod pull;
mod reference;
mod registry;
mod signatures;

use std::{
    fs::OpenOptions,
    io::Write as _,
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::{Context as _, bail};
use clap::Subcommand;
use netloom_signing::{SecretKey, Signature};

use self::{
    artifact::Artifact,
    cache::Cache,
    pull::{Locking, Pulled, Reach, Transport, pull},
    reference::Name,
    registry::Registry,
};

/// Commands about distributing.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Push a component to a registry, as a Wasm OCI artifact
    ///
    /// Prints what to pin it by.
    #[command(after_help = "\
Examples:
  netloom plugin push policy.wasm ghcr.io/acme/policy:1.2
  netloom plugin push policy.wasm localhost:5000/acme/policy:dev --plain-http

Who you are is taken from `docker login` or `podman login`.")]
    Push {
        /// The component
        component: PathBuf,
        #[command(flatten)]
        to: Reach,
    },
    /// Pull a component from a registry, and print where it is
    ///
    /// What is pinned to a digest, or in netloom.lock, is taken from the cache if it was pulled before.
    #[command(after_help = "\
Examples:
  netloom plugin pull ghcr.io/acme/policy:1.2 --output policy.wasm
  netloom plugin pull ghcr.io/acme/policy:1.2 --lock      # the same the next time
  netloom plugin pull ghcr.io/acme/policy:1.2 --verify-key acme.pub")]
    Pull {
        #[command(flatten)]
        from: Reach,
        /// Where to write it; its proof, if it is signed, goes beside it as FILE.sig [default: in the cache]
        #[arg(short, long, visible_alias = "out", value_name = "FILE")]
        output: Option<PathBuf>,
        /// Only if this key (PEM) or identity (TOML) signed it, or one of these if given more than once
        #[arg(long, value_name = "FILE")]
        verify_key: Vec<PathBuf>,
        #[command(flatten)]
        locking: Locking,
    },
    /// Make a pair of keys for signing
    #[command(
        after_help = "Example:\n  netloom plugin keygen acme    # acme.key, which signs, and acme.pub, which verifies"
    )]
    Keygen {
        /// The files to make, without .key and .pub
        #[arg(default_value = "netloom")]
        files: PathBuf,
    },
    /// Sign an artifact in its registry, as `cosign sign --key` does
    #[command(after_help = "\
Examples:
  netloom plugin sign ghcr.io/acme/policy:1.2 --key acme.key
  netloom plugin sign \"$(netloom plugin push policy.wasm ghcr.io/acme/policy:1.2)\" --key acme.key")]
    Sign {
        #[command(flatten)]
        what: Reach,
        /// The private key: PEM, PKCS#8
        #[arg(long, value_name = "PEM")]
        key: PathBuf,
    },
    /// Make sure that a key or an identity signed an artifact, and that the registry has what was signed
    #[command(after_help = "\
Examples:
  netloom plugin verify ghcr.io/acme/policy:1.2 --key acme.pub
  netloom plugin verify ghcr.io/acme/policy:1.2 --key release.toml    # signed without a key, by a workflow

release.toml:
  issuer = \"https://token.actions.githubusercontent.com\"
  identity_regexp = 'https://github\\.com/acme/policy/\\.github/workflows/release\\.yml@refs/tags/.*'")]
    Verify {
        #[command(flatten)]
        what: Reach,
        /// The public key (PEM), or the identity (TOML); one of them, if given more than once
        #[arg(long, value_name = "FILE", required = true)]
        key: Vec<PathBuf>,
    },
    /// Take artifacts to where no registry is reached
    #[command(subcommand)]
    Bundle(BundleCommand),
}

/// `netloom plugin bundle …`
#[derive(Debug, Subcommand)]
pub(crate) enum BundleCommand {
    /// Write artifacts and their signatures into one file, an OCI image layout
    #[command(
        after_help = "Example:\n  netloom plugin bundle create plugins.tar ghcr.io/acme/policy:1.2 ghcr.io/acme/guard:3"
    )]
    Create {
        /// The file to write
        file: PathBuf,
        /// The artifacts
        #[arg(required = true, value_name = "REFERENCE")]
        names: Vec<Name>,
        #[command(flatten)]
        transport: Transport,
        #[command(flatten)]
        locking: Locking,
    },
    /// Take what is in a bundle into the cache, and print what each is pinned by
    #[command(after_help = "\
Example:
  netloom plugin bundle extract plugins.tar --lock
  netloom plugin load oci://ghcr.io/acme/policy:1.2      # without a network")]
    Extract {
        /// The bundle
        file: PathBuf,
        #[command(flatten)]
        locking: Locking,
    },
}

/// Carries out a command.
pub(crate) async fn run(command: Command) -> anyhow::Result<ExitCode> {
    match command {
        Command::Push { component, to } => push(&component, &to).await?,
        Command::Pull { from, output, verify_key, locking } => {
            let signers = pull::signers(&verify_key)?;
            let pulled = pull(&from.name, from.transport, Some(&locking), &signers).await?;
            say(&from.name, &pulled);
            let Pulled { artifact, signatures, .. } = pulled;
            let file = match output {
                Some(file) => {
                    cache::write_with_proof(&file, &artifact, &signatures)?;
                    file
                }
                None => Cache::open()?.lay_out(from.name.last(), &artifact, &signatures)?,
            };
            println!("{}", file.display());
        }
        Command::Keygen { files } => keygen(&files)?,
        Command::Sign { what: Reach { name, transport }, key } => {
            let key = SecretKey::read(&key)?;
            let registry = Registry::of(&name, transport.plain_http)?;
            let (_, digest) = registry.manifest(&name).await?;
            let signature = Signature::make(&key, &name.repository(), &digest);
            signatures::add(&registry, &name, &digest, &signature).await?;
            // Whoever pulled it on this machine before has it signed from now on.
            let signatures = signatures::fetch(&registry, &name, &digest).await?;
            Cache::open()?.keep_signatures(&digest, &signatures)?;
            println!("{}", name.at(&digest));
        }
        Command::Verify { what, key } => {
            let pulled = pull(&what.name, what.transport, None, &pull::signers(&key)?).await?;
            let signed_by = pulled.signed_by.unwrap_or_default();
            println!("{} is signed by {signed_by}", what.name.at(&pulled.artifact.digest));
        }
        Command::Bundle(BundleCommand::Create { file, names, transport, locking }) => {
            let mut artifacts = Vec::new();
            for name in names {
                let pulled = pull(&name, transport, Some(&locking), &[]).await?;
                say(&name, &pulled);
                artifacts.push((name, pulled));
            }
            bundle::create(&file, &artifacts)?;
            println!("{}", file.display());
        }
        Command::Bundle(BundleCommand::Extract { file, locking }) => {
            for name in bundle::extract(&file, &locking)? {
                println!("{name}");
            }
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// What was pulled, for people: what is on standard output is for scripts.
fn say(name: &Name, Pulled { artifact, signatures, signed_by }: &Pulled) {
    let signed = match (signed_by, signatures.len()) {
        (Some(signer), _) => format!("signed by {signer}"),
        (None, 0) => "not signed".to_owned(),
        (None, _) => "signed; --verify-key looks by whom".to_owned(),
    };
    eprintln!("{} ({} KiB, {signed})", name.at(&artifact.digest), artifact.component.len() / 1_024);
}

async fn push(component: &Path, to: &Reach) -> anyhow::Result<()> {
    let bytes = std::fs::read(component)
        .with_context(|| format!("the component {} cannot be read", component.display()))?;
    let artifact = Artifact::new(bytes)
        .with_context(|| format!("{} is no component, and was not pushed", component.display()))?;
    let Reach { name, transport } = to;
    if name.pinned().is_some_and(|pinned| *pinned != artifact.digest) {
        bail!("{} is {}: push it under a tag", component.display(), artifact.digest);
    }
    let registry = Registry::of(name, transport.plain_http)?;
    registry.push_blob(&artifact.component).await?;
    registry.push_blob(&artifact.config).await?;
    registry.push_manifest(name, &artifact.manifest).await?;
    println!("{}", name.at(&artifact.digest));
    Ok(())
}

fn keygen(files: &Path) -> anyhow::Result<()> {
    let (secret, public) = (with_suffix(files, ".key"), with_suffix(files, ".pub"));
    let key = SecretKey::generate();
    for (path, pem, mode) in [(&secret, key.to_pem()?, 0o600), (&public, key.public_pem()?, 0o644)] {
        OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(mode)
            .open(path)
            .and_then(|mut file| file.write_all(pem.as_bytes()))
            .with_context(|| format!("{} cannot be made: a key is never overwritten", path.display()))?;
    }
    println!("{} signs: keep it to yourself", secret.display());
    println!("{} verifies: give it to whoever loads what you sign", public.display());
    Ok(())
}

fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut path = path.as_os_str().to_owned();
    path.push(suffix);
    path.into()
}
