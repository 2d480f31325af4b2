//! The command line.

mod attachment;
#[cfg(test)]
mod book;
mod device;
mod endpoint;
mod monitor;
mod plugin;
mod service;
mod store;
mod values;

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};
use clap_complete::Shell;
use netloom_core::model::Name;

pub(crate) use self::{
    attachment::{AttachArgs, AttachmentCommand, ChainCommand, ChainRebalance, ChainShow},
    device::{DeviceCommand, DeviceCreate, DeviceSet},
    endpoint::{EndpointAdd, EndpointCommand, EndpointMigrate, EndpointSet},
    monitor::MonitorArgs,
    plugin::{Component, ConfigSource, Fetching, GrantSource, PluginCommand, PluginLoadArgs, ToolArgs},
    service::{BackendCommand, ReapArgs, ServiceCommand, SocketArgs, SocketsCommand},
    store::StoreCommand,
};

const AFTER_HELP: &str = "\
Exit codes: 0 done, 1 refused or failed, 2 wrong usage.

Examples:
  netloom status
  netloom endpoint add web --netns blue
  netloom chain show --endpoint web
  netloom attach count.o --endpoint web --owner monitoring --label role=observer
  netloom service add shop 10.96.0.10:80/tcp --backend 10.0.0.2:8080
  netloom doctor --output json";

/// Operates netloomd, the network agent of this node.
#[derive(Debug, Parser)]
#[command(name = "netloom", version, after_help = AFTER_HELP, arg_required_else_help = true)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) global: Global,
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// What every command takes.
#[derive(Debug, Args)]
#[command(next_help_heading = "Global options")]
pub(crate) struct Global {
    /// netloomd's unix socket [default: the instance's]
    #[arg(long, global = true, value_name = "PATH", env = "NETLOOM_SOCKET", hide_env_values = true)]
    pub(crate) socket: Option<PathBuf>,
    /// The instance of netloomd to talk to, where a node runs more than one
    #[arg(long, global = true, value_name = "NAME", env = "NETLOOM_INSTANCE", hide_env_values = true)]
    pub(crate) instance: Option<Name>,
    /// How answers are written
    #[arg(short, long, global = true, value_name = "FORMAT", value_enum, default_value_t = Format::Table)]
    pub(crate) output: Format,
}

/// How answers are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// Tables for people
    Table,
    /// Tables with every column
    Wide,
    /// netloomd's answer as JSON; errors are JSON on stderr
    Json,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Show the daemon, its endpoints, attachments, services and plugins
    Status,
    /// Attach containers and pods to the node
    #[command(subcommand, visible_alias = "endpoints")]
    Endpoint(EndpointCommand),
    /// Look at devices in any namespace; make, change and delete pairs of the node's own
    #[command(subcommand, visible_alias = "devices")]
    Device(DeviceCommand),
    /// Show which programs run on a device, in which order, and bring them into order
    #[command(subcommand, visible_alias = "chains")]
    Chain(ChainCommand),
    /// Attach a BPF program to a device; a plugin decides its place
    Attach(AttachArgs),
    /// Detach a program that was attached with `netloom attach`
    #[command(after_help = "Example:\n  netloom detach monitoring-count-1")]
    Detach {
        /// The attachment's id, as `netloom attachment list` shows it
        id: String,
    },
    /// List, update and migrate the programs that Netloom has attached
    #[command(visible_alias = "attachments", args_conflicts_with_subcommands = true)]
    Attachment {
        #[command(subcommand)]
        command: Option<AttachmentCommand>,
    },
    /// Translate virtual addresses to backends
    #[command(subcommand, visible_alias = "services")]
    Service(ServiceCommand),
    /// Add and remove the backends of a service
    #[command(subcommand, visible_alias = "backends")]
    Backend(BackendCommand),
    /// Destroy the sockets bound to a backend, in every network namespace
    ///
    /// Plugins decide which of them. Exits with 1 if a socket could not be destroyed, or if no plugin decided and
    /// so nothing was reaped.
    Reap(ReapArgs),
    /// Show and destroy the sockets bound to backends, in every network namespace
    #[command(visible_alias = "socket", args_conflicts_with_subcommands = true)]
    Sockets {
        #[command(subcommand)]
        command: Option<SocketsCommand>,
    },
    /// Load, inspect and unload policy plugins
    #[command(subcommand, visible_alias = "plugins")]
    Plugin(PluginCommand),
    /// Explain what plugins decided: who was asked, who answered, in how long
    #[command(after_help = "Examples:\n  netloom explain --last 5\n  netloom explain --hook socket-reap")]
    Explain {
        /// Only decisions of this hook
        #[arg(long, value_name = "HOOK", value_parser = ["attach-order", "datapath-mode", "socket-reap"])]
        hook: Option<String>,
        /// Only the newest N decisions
        #[arg(long, value_name = "N")]
        last: Option<usize>,
    },
    /// Show what happened on the node without a request: programs of others, devices that went, and the like
    #[command(after_help = "Examples:\n  netloom events --last 20\n  netloom events --kind shadowed")]
    Events {
        /// Only events of this kind, such as foreign-attached or churn
        #[arg(long, value_name = "KIND")]
        kind: Option<String>,
        /// Only the newest N events
        #[arg(long, value_name = "N")]
        last: Option<usize>,
    },
    /// Watch packets being dropped and connects to services being translated or refused, as it happens
    ///
    /// The datapath reports events only while somebody watches, and only so many a second; those that are missing
    /// are counted in the stream.
    Monitor(MonitorArgs),
    /// Check what this node's kernel can do and what is wrong on it
    ///
    /// Exits with 1 if a finding is an error.
    Doctor,
    /// Show devices and pins under Netloom's names that no record knows, and remove them
    ///
    /// netloomd leaves them as they are: they may be of a store that was lost, and in use.
    #[command(after_help = "Examples:\n  netloom orphans\n  netloom orphans --remove")]
    Orphans {
        /// Remove all that are shown
        #[arg(long)]
        remove: bool,
    },
    /// Check, copy and put back netloomd's records
    #[command(subcommand)]
    Store(StoreCommand),
    /// Print netloomd's metrics as OpenMetrics text
    Metrics,
    /// Print a shell's completion script
    #[command(after_help = "Example:\n  netloom completions bash > /etc/bash_completion.d/netloom")]
    Completions {
        /// The shell
        shell: Shell,
    },
}
