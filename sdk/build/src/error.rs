use std::{io, path::PathBuf};

use crate::EncodeError;

/// Why a plugin was not built.
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    /// No compiler here has what a plugin needs.
    #[error(
        "no Rust compiler here builds for wasm32-unknown-unknown. Install the target with \
         `rustup target add wasm32-unknown-unknown`, or on Debian the packages rustc-web, cargo-web, \
         rust-web-src and lld-22{missing}"
    )]
    NoToolchain {
        /// What was looked for in the system's own toolchain and is not there; may be empty.
        missing: String,
    },

    /// A program could not be started.
    #[error("starting {}: {source}", program.display())]
    Start {
        /// The program.
        program: PathBuf,
        /// Why not.
        source: io::Error,
    },

    /// There is no package in the folder.
    #[error("{} is not the manifest of a Cargo package: give the folder with the plugin's Cargo.toml", manifest.display())]
    NoPackage {
        /// What was looked for.
        manifest: PathBuf,
    },

    /// The package is not a plugin.
    #[error("{} has no library to make a component of: add `[lib]` with `crate-type = [\"cdylib\"]`", manifest.display())]
    NoLibrary {
        /// Its manifest.
        manifest: PathBuf,
    },

    /// Cargo could not read the workspace.
    #[error("reading the Cargo workspace of {}: {message}", manifest.display())]
    Metadata {
        /// The manifest it was asked about.
        manifest: PathBuf,
        /// What Cargo said.
        message: String,
    },

    /// The compiler refused.
    #[error("the plugin does not compile ({}):\n{message}", workspace.display())]
    Compile {
        /// Where it was compiled.
        workspace: PathBuf,
        /// What Cargo said; empty if it was shown already.
        message: String,
    },

    /// The module is not one to make a component of.
    #[error("{}: {source}", module.display())]
    Encode {
        /// The core module.
        module: PathBuf,
        /// What is wrong with it.
        source: EncodeError,
    },

    /// The schema of its configuration is not JSON.
    #[error("{} is not JSON: {source}", path.display())]
    Schema {
        /// The file.
        path: PathBuf,
        /// Where it is wrong.
        source: serde_json::Error,
    },

    /// A file could not be read or written.
    #[error("{action} {}: {source}", path.display())]
    File {
        /// Reading, writing and so on.
        action: &'static str,
        /// The file.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
}
