use std::{net::IpAddr, path::PathBuf};

use clap::{ArgGroup, Args, Subcommand};
use ipnet::IpNet;
use netloom_core::model::{DefaultRoute, DeviceMode, MacAddress, Name, NetkitPolicy, PairChange};

use super::values::{VirtualAddress, default_route, device_mode, label, netns, policy};

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
    /// Change an endpoint's MTU, GSO and GRO sizes or default policies while packets go through it
    ///
    /// Both ends of its pair change, or none; no packet is lost, and the endpoint is not restarted.
    Set(EndpointSet),
    /// Take an endpoint to a pair of another device mode, in place of a drain
    ///
    /// The new pair is made and its programs attached beside the old one, then the endpoint is switched over: name,
    /// addresses, routes, sysctls, MTU, sizes and counters stay, connections go on. For the milliseconds that are
    /// reported there is no path. The node's end of the pair gets another name.
    Migrate(EndpointMigrate),
    /// Tell which way a packet of an endpoint would take, and which programs would see it
    ///
    /// Nothing is sent. What programs that are not Netloom's decide is not known.
    #[command(after_help = "\
Examples:
  netloom endpoint trace web --to 10.96.0.10:80/tcp
  netloom endpoint trace web --to '[2001:db8::7]:53/udp' --length 1500")]
    Trace {
        /// Its name
        name: Name,
        /// Where the packet goes
        #[arg(long, value_name = "IP:PORT/PROTO")]
        to: VirtualAddress,
        /// Where it says it comes from [default: the endpoint's own address]
        #[arg(long, value_name = "IP")]
        from: Option<IpAddr>,
        /// Its length with the network header, as it is on the link [default: 100]
        #[arg(long, value_name = "BYTES")]
        length: Option<u32>,
    },
    /// Detach an endpoint and delete its devices
    #[command(visible_alias = "rm")]
    Delete {
        /// Its name
        name: Name,
    },
}

/// `netloom endpoint set`
#[derive(Debug, Args)]
#[command(
    group = ArgGroup::new("change").required(true).multiple(true).args([
        "mtu", "gso_max_size", "gro_max_size", "gso_ipv4_max_size", "gro_ipv4_max_size", "policy", "peer_policy",
    ]),
    after_help = "\
Examples:
  netloom endpoint set web --mtu 9000
  netloom endpoint set web --gso-max-size 196608 --gro-max-size 196608
  netloom endpoint set web --peer-policy blackhole"
)]
pub(crate) struct EndpointSet {
    /// Its name
    pub(crate) name: Name,
    #[command(flatten)]
    pub(crate) change: PairArgs,
}

/// `netloom endpoint migrate`
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  netloom endpoint migrate web --mode netkit
  netloom endpoint migrate vm1 --mode netkit-l2 --mac 02:00:00:00:00:01")]
pub(crate) struct EndpointMigrate {
    /// Its name
    pub(crate) name: Name,
    /// The mode it shall have: netkit, netkit-l2 or veth
    #[arg(long, value_name = "MODE", value_parser = device_mode())]
    pub(crate) mode: DeviceMode,
    /// The hardware address it shall have there [default: the one it has]; not with netkit, which has none
    #[arg(long)]
    pub(crate) mac: Option<MacAddress>,
}

/// What can be chosen for a pair when it is made, and changed later.
#[derive(Debug, Args)]
pub(crate) struct PairArgs {
    /// The largest packet, in bytes [default of a new pair: endpoints.mtu of the configuration, or that of the uplinks]
    #[arg(long, value_name = "BYTES")]
    pub(crate) mtu: Option<u32>,
    /// The largest packet that segmentation offload makes; above 65536, of IPv6 alone (BIG TCP)
    #[arg(long, value_name = "BYTES")]
    pub(crate) gso_max_size: Option<u32>,
    /// The largest packet that received ones are gathered into; above 65536, of IPv6 alone
    #[arg(long, value_name = "BYTES")]
    pub(crate) gro_max_size: Option<u32>,
    /// As --gso-max-size, of IPv4 [default: up to 65536, the same]
    #[arg(long, value_name = "BYTES")]
    pub(crate) gso_ipv4_max_size: Option<u32>,
    /// As --gro-max-size, of IPv4 [default: up to 65536, the same]
    #[arg(long, value_name = "BYTES")]
    pub(crate) gro_ipv4_max_size: Option<u32>,
    /// netkit: what becomes of a packet to the other end that no program decided on [default of a new pair:
    /// forward]
    #[arg(long, value_name = "POLICY", value_parser = policy())]
    pub(crate) policy: Option<NetkitPolicy>,
    /// netkit: what becomes of a packet from the other end that no program decided on [default of a new
    /// pair: forward]
    #[arg(long, value_name = "POLICY", value_parser = policy())]
    pub(crate) peer_policy: Option<NetkitPolicy>,
}

impl PairArgs {
    /// As the API has it.
    pub(crate) fn change(&self) -> PairChange {
        PairChange {
            mtu: self.mtu,
            gso_max_size: self.gso_max_size,
            gro_max_size: self.gro_max_size,
            gso_ipv4_max_size: self.gso_ipv4_max_size,
            gro_ipv4_max_size: self.gro_ipv4_max_size,
            primary_policy: self.policy,
            peer_policy: self.peer_policy,
            up: None,
        }
    }
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
    /// Its MTU [default: as policy or the configuration says]
    #[arg(long, value_name = "BYTES")]
    pub(crate) mtu: Option<u32>,
    /// Whether the namespace gets a default route by it: if it has none yet, also behind one that it has, or never
    #[arg(long, value_name = "WHEN", value_parser = default_route(), default_value = "first")]
    pub(crate) default_route: DefaultRoute,
    /// Where else the namespace gets to by it; may be repeated
    #[arg(long = "route", value_name = "PREFIX")]
    pub(crate) routes: Vec<IpNet>,
}
