use std::net::SocketAddr;

use clap::{Args, Subcommand};
use netloom_core::model::Name;

pub(crate) use super::values::VirtualAddress;

/// `netloom service …`
#[derive(Debug, Subcommand)]
pub(crate) enum ServiceCommand {
    /// Add a service: connections to its virtual address go to one of its backends
    #[command(after_help = "\
Examples:
  netloom service add shop 10.96.0.10:80/tcp --backend 10.0.0.2:8080 --backend 10.0.0.3:8080
  netloom service add dns '[fd00::10]:53/udp' --backend '[fd00:1::2]:53'")]
    Add {
        /// What to call it: unique on the node
        name: Name,
        /// The virtual address
        #[arg(value_name = "VIP:PORT/PROTO")]
        address: VirtualAddress,
        /// A backend; may be repeated
        #[arg(long = "backend", value_name = "IP:PORT")]
        backends: Vec<SocketAddr>,
    },
    /// List the services
    #[command(visible_alias = "ls")]
    List,
    /// Show one service
    Show {
        /// Its name
        name: Name,
    },
    /// Remove a service, and reap the sockets bound to its backends
    #[command(visible_aliases = ["delete", "rm"])]
    Remove {
        /// Its name
        name: Name,
    },
}

/// `netloom backend …`
#[derive(Debug, Subcommand)]
pub(crate) enum BackendCommand {
    /// Add a backend to a service
    #[command(after_help = "Example:\n  netloom backend add shop 10.0.0.4:8080")]
    Add {
        /// The service
        service: Name,
        /// The backend
        #[arg(value_name = "IP:PORT")]
        address: SocketAddr,
    },
    /// List the backends of every service, or of one
    #[command(visible_alias = "ls")]
    List {
        /// Only this service's
        service: Option<Name>,
    },
    /// Remove a backend from a service, and reap the sockets bound to it
    #[command(visible_aliases = ["delete", "rm"], after_help = "Example:\n  netloom backend remove shop 10.0.0.4:8080")]
    Remove {
        /// The service
        service: Name,
        /// The backend
        #[arg(value_name = "IP:PORT")]
        address: SocketAddr,
    },
}

/// `netloom reap`
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  netloom reap 10.0.0.2:8080 --dry-run
  netloom reap 10.0.0.2:8080 --service shop")]
pub(crate) struct ReapArgs {
    /// The backend
    #[arg(value_name = "IP:PORT")]
    pub(crate) backend: SocketAddr,
    /// Only as a backend of this service
    #[arg(long, value_name = "NAME")]
    pub(crate) service: Option<Name>,
    /// Show what would be destroyed, and destroy nothing
    #[arg(long)]
    pub(crate) dry_run: bool,
}

/// `netloom sockets …`
#[derive(Clone, Copy, Debug, Subcommand)]
pub(crate) enum SocketsCommand {
    /// List the bound sockets
    #[command(visible_alias = "ls")]
    List,
}
