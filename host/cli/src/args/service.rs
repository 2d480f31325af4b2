use std::{net::SocketAddr, path::PathBuf};

use clap::{Args, Subcommand};
use netloom_api::types::SocketQuery;
use netloom_core::model::{Choice, Name, Protocol, SocketState, Weight};

pub(crate) use super::values::{VirtualAddress, Weighted};

/// `netloom service …`
#[derive(Debug, Subcommand)]
pub(crate) enum ServiceCommand {
    /// Add a service: connections to its virtual address go to one of its backends
    #[command(after_help = "\
Examples:
  netloom service add shop 10.96.0.10:80/tcp --backend 10.0.0.2:8080 --backend 10.0.0.3:8080
  netloom service add shop 10.96.0.10:80/tcp --backend 10.0.0.2:8080=3 --backend 10.0.0.3:8080
  netloom service add dns '[fd00::10]:53/udp' --backend '[fd00:1::2]:53'
  netloom service add web 0.0.0.0:30080/tcp --backend 10.0.0.2:8080   # at every address of the node
  netloom service add cache 10.96.0.11:6379/tcp --choice maglev --backend 10.0.0.2:6379")]
    Add {
        /// What to call it: unique on the node
        name: Name,
        /// The virtual address
        #[arg(value_name = "VIP:PORT/PROTO")]
        address: VirtualAddress,
        /// A backend; may be repeated. A weight of 3 gets it three times the connections of a weight of 1, the
        /// default; 0 gets it none
        #[arg(long = "backend", value_name = "IP:PORT[=WEIGHT]")]
        backends: Vec<Weighted>,
        /// How it chooses a backend: random, for each connection anew, or maglev, by the client's network namespace,
        /// so that few clients change their backend when backends come and go
        #[arg(long, default_value_t)]
        choice: Choice,
        /// For so many seconds after its last connection, a client gets the backend it had
        #[arg(long, value_name = "SECONDS", default_value_t, hide_default_value = true)]
        affinity: u32,
    },
    /// Add, change and remove many services at once: all of the changes are made, or none
    #[command(after_help = "\
Examples:
  netloom service list --output json > services.json
  netloom service apply services.json --dry-run
  netloom service apply services.json --prune
  my-controller | netloom service apply -")]
    Apply {
        /// The services, as `netloom service list --output json` shows them; - is standard input
        file: PathBuf,
        /// Remove services that the file does not name, and reap the sockets bound to their backends
        #[arg(long)]
        prune: bool,
        /// Say what would change, and change nothing
        #[arg(long)]
        dry_run: bool,
    },
    /// List the services
    #[command(visible_alias = "ls")]
    List,
    /// Show one service, and what was counted of it
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
        /// How many connections it gets, in proportion to the others: 0 to 100
        #[arg(long, default_value_t)]
        weight: Weight,
    },
    /// Change how many new connections a backend gets; those it has live on
    #[command(after_help = "\
Examples:
  netloom backend weight shop 10.0.0.4:8080 3   # three times as many as a backend with a weight of 1
  netloom backend weight shop 10.0.0.4:8080 0   # none: drain it before it goes")]
    Weight {
        /// The service
        service: Name,
        /// The backend
        #[arg(value_name = "IP:PORT")]
        address: SocketAddr,
        /// 0 to 100
        weight: Weight,
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
#[derive(Clone, Debug, Subcommand)]
pub(crate) enum SocketsCommand {
    /// List the bound sockets
    #[command(
        visible_alias = "ls",
        after_help = "\
Examples:
  netloom sockets list --backend 10.0.0.2:8080
  netloom sockets list --endpoint web --protocol udp --older-than 1h"
    )]
    List {
        #[command(flatten)]
        filter: SocketArgs,
    },
    /// Destroy bound sockets, without asking a plugin
    ///
    /// Unconnected sockets are never destroyed, and the node's own only if --netns names its namespace.
    #[command(after_help = "\
Examples:
  netloom sockets destroy --endpoint web --service shop --dry-run
  netloom sockets destroy --backend 10.0.0.2:8080 --older-than 10m")]
    Destroy {
        #[command(flatten)]
        filter: SocketArgs,
        /// Show what would be destroyed, and destroy nothing
        #[arg(long)]
        dry_run: bool,
        /// Without a filter: yes, all of them
        #[arg(long)]
        yes: bool,
    },
}

/// Which sockets: all that is given must hold.
#[derive(Clone, Debug, Default, Args)]
pub(crate) struct SocketArgs {
    /// Bound through this service
    #[arg(long, value_name = "NAME")]
    service: Option<Name>,
    /// Bound to this backend
    #[arg(long, value_name = "IP:PORT")]
    backend: Option<SocketAddr>,
    /// Of this endpoint
    #[arg(long, value_name = "NAME")]
    endpoint: Option<Name>,
    /// Of this network namespace: a path, a name of /run/netns, or its cookie
    #[arg(long, value_name = "NETNS")]
    netns: Option<String>,
    /// tcp or udp
    #[arg(long, value_name = "PROTO")]
    protocol: Option<Protocol>,
    /// In this state, such as established or close-wait
    #[arg(long, value_name = "STATE", value_parser = state)]
    state: Option<SocketState>,
    /// Bound at least so long ago, such as 90s or 1h
    #[arg(long, value_name = "TIME")]
    older_than: Option<humantime::Duration>,
}

impl SocketArgs {
    /// As the API takes it.
    pub(crate) fn query(&self) -> SocketQuery {
        let named = |text: &String| {
            let is_name = text.parse::<u64>().is_err() && !text.contains('/');
            if is_name { format!("/run/netns/{text}") } else { text.clone() }
        };
        SocketQuery {
            service: self.service.clone(),
            backend: self.backend,
            endpoint: self.endpoint.clone(),
            netns: self.netns.as_ref().map(named),
            protocol: self.protocol,
            state: self.state,
            min_age_ms: self.older_than.map(|age| u64::try_from(age.as_millis()).unwrap_or(u64::MAX)),
        }
    }
}

fn state(text: &str) -> Result<SocketState, String> {
    SocketState::ALL.into_iter().find(|state| state.to_string() == text).ok_or_else(|| {
        let connected = SocketState::ALL.into_iter().filter(|state| state.is_connected());
        let names: Vec<String> = connected.map(|state| state.to_string()).collect();
        format!("use one of {}", names.join(", "))
    })
}
