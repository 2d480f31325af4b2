use std::{net::IpAddr, path::PathBuf};

use clap::{Args, Subcommand};
use netloom_core::model::{MacAddress, Name};

use super::values::{label, netns};

/// `netloom endpoint …`
#[derive(Debug, Subcommand)]
pub(crate) enum EndpointCommand {
    /// Attach a network namespace to the node
    Add(EndpointAdd),
    /// List the endpoints
    #[command(visible_alias = "ls")]
    List,
    /// Show one endpoint: its devices, addresses, mode and counters
    Show {
        /// Its name
        name: Name,
    },
    /// Detach an endpoint and delete its devices
    #[command(visible_alias = "rm")]
    Delete {
        /// Its name
        name: Name,
    },
}

/// `netloom endpoint add`
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  ip netns add blue && netloom endpoint add web --netns blue
  netloom endpoint add vm1 --netns /proc/4242/ns/net --vm --mac 02:00:00:00:00:01
  netloom endpoint add db --netns green --address 10.0.0.7 --address fd00::7 --label app=db")]
pub(crate) struct EndpointAdd {
    /// What to call it: unique on the node
    pub(crate) name: Name,
    /// Its network namespace: a name as `ip netns` lists it, or a path
    #[arg(long, value_name = "PATH|NAME", value_parser = netns)]
    pub(crate) netns: PathBuf,
    /// An address it shall have; may be repeated [default: one of the node's pool]
    #[arg(long = "address", value_name = "IP")]
    pub(crate) addresses: Vec<IpAddr>,
    /// The hardware address it shall have; asks for an L2 device
    #[arg(long)]
    pub(crate) mac: Option<MacAddress>,
    /// It is a virtual machine
    #[arg(long = "vm")]
    pub(crate) virtual_machine: bool,
    /// The container runtime class, such as kata
    #[arg(long, value_name = "CLASS")]
    pub(crate) runtime_class: Option<String>,
    /// A label that policy can look at; may be repeated
    #[arg(long = "label", value_name = "KEY=VALUE", value_parser = label)]
    pub(crate) labels: Vec<(String, String)>,
    /// The device's name inside the namespace
    #[arg(long, value_name = "DEVICE", default_value = "eth0")]
    pub(crate) interface: String,
}
