use std::{convert::Infallible, path::PathBuf, str::FromStr};

use clap::{Args, Subcommand};
use netloom_core::model::Name;

use super::values::absolute;

/// `netloom plugin …`
#[derive(Debug, Subcommand)]
pub(crate) enum PluginCommand {
    /// List the plugins in the order in which they are asked
    #[command(visible_alias = "ls")]
    List,
    /// Load a plugin
    Load(PluginLoadArgs),
    /// Unload a plugin
    #[command(visible_alias = "rm")]
    Unload {
        /// Its name
        name: Name,
    },
    /// Show what a component exports and imports, or how a loaded plugin fares
    #[command(after_help = "\
Examples:
  netloom plugin inspect ./policy.wasm
  netloom plugin inspect attach-order")]
    Inspect {
        /// A component's file, or a loaded plugin's name
        #[arg(value_name = "PATH|NAME")]
        what: String,
    },
}

/// `netloom plugin load`
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  netloom plugin load ./policy.wasm
  netloom plugin load ./policy.wasm --name first-aid --config policy.toml --config limit=10
  netloom plugin load ./audit.wasm --last --grant links --grant sockets")]
pub(crate) struct PluginLoadArgs {
    /// The component's file
    #[arg(value_parser = absolute)]
    pub(crate) path: PathBuf,
    /// What to call it [default: the file's name without .wasm]
    #[arg(long)]
    pub(crate) name: Option<Name>,
    /// Ask it after the plugins that are loaded, instead of before them
    #[arg(long)]
    pub(crate) last: bool,
    /// Its configuration: a JSON or TOML file, or one value; may be repeated, later ones win
    ///
    /// A value is JSON where it can be (limit=10, strict=true, names=["a","b"]), otherwise text.
    #[arg(long, value_name = "FILE|KEY=VALUE")]
    pub(crate) config: Vec<ConfigSource>,
    /// A kernel operation it may import: devices, links, sockets, datapath; may be repeated
    #[arg(long = "grant", value_name = "OPERATION")]
    pub(crate) grants: Vec<String>,
}

/// Where configuration of a plugin comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum ConfigSource {
    /// A file: JSON if it ends in `.json`, otherwise TOML.
    File(PathBuf),
    /// One value.
    Value(String, String),
}

impl FromStr for ConfigSource {
    type Err = Infallible;
    fn from_str(text: &str) -> Result<Self, Infallible> {
        Ok(match text.split_once('=') {
            Some((key, value)) => Self::Value(key.to_owned(), value.to_owned()),
            None => Self::File(PathBuf::from(text)),
        })
    }
}
