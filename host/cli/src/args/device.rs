use std::path::PathBuf;

use clap::{ArgGroup, Args, Subcommand};
use ipnet::IpNet;
use netloom_core::model::{DeviceMode, MacAddress, NetkitScrub};

use super::{
    endpoint::PairArgs,
    values::{device_mode, netns, scrub},
};

/// `netloom device …`
#[derive(Debug, Subcommand)]
pub(crate) enum DeviceCommand {
    /// List the devices of the node, or of another network namespace
    #[command(visible_alias = "ls")]
    List {
        /// The network namespace: a name as `ip netns` lists it, or a path [default: the node's]
        #[arg(long, value_name = "PATH|NAME", value_parser = netns)]
        netns: Option<PathBuf>,
    },
    /// Show one device, whoever made it: its attributes, counters, and the other end of its pair in whatever
    /// namespace that is
    Show {
        /// Its name
        name: String,
        /// Its network namespace: a name as `ip netns` lists it, or a path [default: the node's]
        #[arg(long, value_name = "PATH|NAME", value_parser = netns)]
        netns: Option<PathBuf>,
    },
    /// Create a device pair of the node's own, which is no endpoint's
    Create(Box<DeviceCreate>),
    /// Change a pair that was made with `netloom device create` while packets go through it
    ///
    /// Both ends change, or none; no packet is lost.
    Set(DeviceSet),
    /// Delete a pair that was made with `netloom device create`, and what is attached to it
    #[command(visible_alias = "rm")]
    Delete {
        /// The name of the node's end
        name: String,
    },
}

/// `netloom device create`
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  netloom device create uplink0 --mode netkit --peer eth0 --peer-netns blue --address 10.0.0.2/24
  netloom device create tap0 --mode veth --peer tap1 --mtu 9000 --tx-queues 4 --rx-queues 4
  netloom device create vm0 --mode netkit-l2 --peer eth0 --peer-netns vm --peer-mac 02:00:00:00:00:01")]
pub(crate) struct DeviceCreate {
    /// The name of the node's end, at most 15 bytes
    pub(crate) name: String,
    /// What kind of pair
    #[arg(long, value_name = "MODE", value_parser = device_mode())]
    pub(crate) mode: DeviceMode,
    /// The name of the other end, at most 15 bytes
    #[arg(long, value_name = "DEVICE")]
    pub(crate) peer: String,
    /// The network namespace the other end is born in: a name or a path [default: the node's]
    #[arg(long, value_name = "PATH|NAME", value_parser = netns)]
    pub(crate) peer_netns: Option<PathBuf>,
    /// An address of the other end, with its prefix length; may be repeated
    #[arg(long = "address", value_name = "IP/LENGTH")]
    pub(crate) addresses: Vec<IpNet>,
    /// The hardware address of the node's end; none in netkit's L3 mode
    #[arg(long)]
    pub(crate) mac: Option<MacAddress>,
    /// The hardware address of the other end; none in netkit's L3 mode
    #[arg(long, value_name = "MAC")]
    pub(crate) peer_mac: Option<MacAddress>,
    #[command(flatten)]
    pub(crate) pair: PairArgs,
    /// netkit: whether mark and priority are cleared towards the other end (Linux 6.13)
    #[arg(long, value_name = "SCRUB", value_parser = scrub())]
    pub(crate) scrub: Option<NetkitScrub>,
    /// netkit: whether mark and priority are cleared from the other end (Linux 6.13)
    #[arg(long, value_name = "SCRUB", value_parser = scrub())]
    pub(crate) peer_scrub: Option<NetkitScrub>,
    /// netkit: bytes kept free in front of packets (Linux 6.14)
    #[arg(long, value_name = "BYTES")]
    pub(crate) headroom: Option<u16>,
    /// netkit: bytes kept free behind packets (Linux 6.14)
    #[arg(long, value_name = "BYTES")]
    pub(crate) tailroom: Option<u16>,
    /// Transmit queues of each end
    #[arg(long, value_name = "N")]
    pub(crate) tx_queues: Option<u32>,
    /// Receive queues of each end
    #[arg(long, value_name = "N")]
    pub(crate) rx_queues: Option<u32>,
    /// What `ip link` shows beside whose device it is
    #[arg(long, value_name = "TEXT")]
    pub(crate) alias: Option<String>,
}

/// `netloom device set`
#[derive(Debug, Args)]
#[command(
    group = ArgGroup::new("change").required(true).multiple(true).args([
        "mtu", "gso_max_size", "gro_max_size", "gso_ipv4_max_size", "gro_ipv4_max_size", "policy", "peer_policy",
        "up", "down",
    ]),
    after_help = "\
Examples:
  netloom device set uplink0 --mtu 9000
  netloom device set uplink0 --down"
)]
pub(crate) struct DeviceSet {
    /// The name of the node's end
    pub(crate) name: String,
    #[command(flatten)]
    pub(crate) change: PairArgs,
    /// Set the node's end up
    #[arg(long, conflicts_with = "down")]
    pub(crate) up: bool,
    /// Set the node's end down
    #[arg(long)]
    pub(crate) down: bool,
}
