use std::{convert::Infallible, ffi::OsString, path::PathBuf, str::FromStr};

use clap::{Args, Subcommand};
use netloom_core::{
    grants::{Access, Grant},
    model::Name,
};

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
    /// Replace a plugin by another version while it serves
    ///
    /// The new version is looked over, compiled, started with the same configuration and grants, and asked about the
    /// node as it is; what it answers otherwise is shown. Only then does it take over, at once.
    #[command(after_help = "\
Examples:
  netloom plugin reload policy                       # from the file it was loaded from
  netloom plugin reload policy ./new.wasm --dry-run  # only show what it would decide otherwise
  netloom plugin reload policy ./new.wasm --shadow   # ask it, compare, never act on it
  netloom plugin reload policy ./new.wasm --canary 10
  netloom plugin reload policy oci://ghcr.io/acme/policy:1.3 --verify-key acme.pub")]
    Reload {
        /// The plugin's name
        name: Name,
        /// The new component: a file, or oci:// and what a registry calls it [default: the file it was loaded from]
        #[arg(value_name = "FILE|oci://REFERENCE")]
        component: Option<Component>,
        #[command(flatten)]
        fetching: Fetching,
        /// Show what it would decide otherwise, and change nothing
        #[arg(long, conflicts_with_all = ["shadow", "canary"])]
        dry_run: bool,
        /// Try it out: ask it what the serving version is asked, compare and count, never act on it
        #[arg(long, conflicts_with = "canary")]
        shadow: bool,
        /// Try it out: let it decide this share of the questions
        #[arg(long, value_name = "PERCENT", value_parser = clap::value_parser!(u8).range(1..=99))]
        canary: Option<u8>,
    },
    /// Let the version that is tried out serve
    Promote {
        /// The plugin's name
        name: Name,
    },
    /// Drop the version that is tried out
    Abandon {
        /// The plugin's name
        name: Name,
    },
    /// Show the versions of a plugin that are kept
    Versions {
        /// The plugin's name
        name: Name,
    },
    /// Go back to a version that is kept
    Rollback {
        /// The plugin's name
        name: Name,
        /// The start of the version's digest [default: the one before the serving version]
        #[arg(long, value_name = "DIGEST")]
        to: Option<String>,
    },
    /// Write the last decisions with all they were made on, for `netloom plugin replay`
    #[command(after_help = "Example:\n  netloom plugin record > decisions.json")]
    Record {
        /// Only decisions that this plugin had a part in
        #[arg(long)]
        name: Option<Name>,
    },
    /// Begin a plugin: a folder with a policy that works, in Rust, Python or JavaScript
    #[command(disable_help_flag = true)]
    New(ToolArgs),
    /// Fetch the compiler of a language ahead of the first build, or say what the system lacks for it
    #[command(disable_help_flag = true)]
    Setup(ToolArgs),
    /// Build the plugin of a folder into a component
    #[command(disable_help_flag = true)]
    Build(ToolArgs),
    /// Run a component through its scenarios and the conformance suite
    #[command(disable_help_flag = true)]
    Test(ToolArgs),
    /// Ask a component one question
    #[command(disable_help_flag = true)]
    Run(ToolArgs),
    /// Ask a component what others were asked, and show where it answers otherwise
    #[command(disable_help_flag = true)]
    Replay(ToolArgs),
    /// Measure how long a component takes to load, start and answer
    #[command(disable_help_flag = true)]
    Bench(ToolArgs),
    /// Push a component to a registry, as a Wasm OCI artifact
    #[command(disable_help_flag = true)]
    Push(ToolArgs),
    /// Pull a component from a registry, pinned and locked if wanted
    #[command(disable_help_flag = true)]
    Pull(ToolArgs),
    /// Make a pair of keys for signing
    #[command(disable_help_flag = true)]
    Keygen(ToolArgs),
    /// Sign an artifact in its registry, as cosign does
    #[command(disable_help_flag = true)]
    Sign(ToolArgs),
    /// Make sure that a key signed an artifact
    #[command(disable_help_flag = true)]
    Verify(ToolArgs),
    /// Take artifacts to where no registry is reached
    #[command(disable_help_flag = true)]
    Bundle(ToolArgs),
    /// Show what plugins did to the node with their grants, or tried to
    #[command(after_help = "Examples:\n  netloom plugin audit\n  netloom plugin audit operator --last 20")]
    Audit {
        /// Only operations of this plugin
        name: Option<Name>,
        /// Only the newest N
        #[arg(long, value_name = "N")]
        last: Option<usize>,
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

/// Arguments of `netloom-plugin`, which explains them itself: `netloom plugin new --help`.
#[derive(Debug, Args)]
pub(crate) struct ToolArgs {
    /// Arguments; --help explains them
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    pub(crate) arguments: Vec<OsString>,
}

/// `netloom plugin load`
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  netloom plugin load ./policy.wasm
  netloom plugin load ./policy.wasm --name first-aid --config policy.toml --config limit=10
  netloom plugin load ./audit.wasm --last --grant links --grant sockets
  netloom plugin load ./operator.wasm --grant ./operator-grants.toml
  netloom plugin load oci://ghcr.io/acme/policy:1.2 --verify-key acme.pub")]
pub(crate) struct PluginLoadArgs {
    /// The component: a file, or oci:// and what a registry calls it
    #[arg(value_name = "FILE|oci://REFERENCE")]
    pub(crate) component: Component,
    #[command(flatten)]
    pub(crate) fetching: Fetching,
    /// What to call it [default: the file's name without .wasm, or the last part of the repository]
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
    /// What it may do itself: a TOML or JSON file that names the objects; may be repeated, later ones win
    ///
    /// Instead of a file, OPERATION (devices, links, sockets, datapath) allows looking at every object, and
    /// OPERATION=mutate changing every one.
    #[arg(long = "grant", value_name = "FILE|OPERATION")]
    pub(crate) grants: Vec<GrantSource>,
    /// Reload it when its file changes
    #[arg(long)]
    pub(crate) watch: bool,
    /// What it may use, where that differs from the node's configuration; may be repeated
    ///
    /// deadline_ms, judge_deadline_ms, init_deadline_ms, memory_mib, table_elements, host_calls, handles, log_rate,
    /// kv_kib, instances.
    #[arg(long = "limit", value_name = "NAME=NUMBER", value_parser = limit)]
    pub(crate) limits: Vec<(String, u64)>,
}

/// Where a component comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Component {
    /// A file, by its full path.
    File(PathBuf),
    /// An artifact in a registry.
    Registry(String),
}

impl FromStr for Component {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        match text.strip_prefix("oci://") {
            Some(reference) => Ok(Self::Registry(reference.to_owned())),
            None => absolute(text).map(Self::File),
        }
    }
}

/// How a component is fetched from a registry. What is in the netloom.lock of this folder is taken as it is there.
#[derive(Debug, Args)]
pub(crate) struct Fetching {
    /// From a registry: only if this key (PEM) or identity (TOML) signed it, or one of these if given more than once
    #[arg(long, value_name = "FILE")]
    pub(crate) verify_key: Vec<PathBuf>,
    /// From a registry on this machine: without TLS
    #[arg(long)]
    pub(crate) plain_http: bool,
}

fn limit(text: &str) -> Result<(String, u64), String> {
    let (name, number) = text.split_once('=').ok_or("write NAME=NUMBER, such as deadline_ms=200")?;
    let number = number.parse().map_err(|_| format!("{number:?} is no number"))?;
    Ok((name.to_owned(), number))
}

/// Where a grant comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum GrantSource {
    /// A file.
    File(PathBuf),
    /// One operation, on everything.
    Everything(Grant, Access),
}

impl FromStr for GrantSource {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let (name, access) = match text.split_once('=') {
            Some((name, "mutate")) => (name, Access::Mutate),
            Some((name, "read")) => (name, Access::Read),
            Some((_, other)) if !text.contains('/') => {
                return Err(format!("{other:?} is no access: use read or mutate"));
            }
            _ => (text, Access::Read),
        };
        match name.parse::<Grant>() {
            Ok(grant) => Ok(Self::Everything(grant, access)),
            Err(_) if text.contains(['.', '/']) => Ok(Self::File(PathBuf::from(text))),
            Err(error) => Err(format!("{error}, or name a file such as ./grants.toml")),
        }
    }
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
