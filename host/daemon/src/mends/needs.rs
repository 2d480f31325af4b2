//! The table: what an endpoint needs, as its record has it, and whether it is so.
//!
//! | what | on the node | in the endpoint | how it is read | how it is mended |
//! |---|---|---|---|---|
//! | name | of the node's end | of its end | by index | renamed back; if the name is taken, the node's record follows |
//! | state | up | up; `lo` as well | flags | set up |
//! | MTU, hardware address | of the node's end | of its end | attributes | set |
//! | sysctls | forwarding, `rp_filter`, those that keep it quiet | those that keep it quiet | `/proc/sys` | written |
//! | addresses | | its own | those of its end | added |
//! | neighbours | its addresses | the gateway | permanent ones of the end | added for good |
//! | routes | to its addresses | its own, which are the default ones unless it has others | of the main table through the end | added, unless somebody else's has the place |
//!
//! They are in this order, because the later ones need the earlier ones.

use std::{fmt, net::IpAddr};

use ipnet::IpNet;
use netloom_core::model::{Device, Endpoint, IfIndex, MacAddress};
use netloom_kernel::devices::{Route, Sysctl, node_sysctls, quiet_sysctls, routes_inside};

/// One end of an endpoint's pair, with its namespace.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum End {
    Node,
    Inside,
}

/// Something that an endpoint needs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum What {
    Name(String),
    Up,
    LoopbackUp,
    Mtu(u32),
    Mac(MacAddress),
    Sysctl(Sysctl),
    Address(IpNet),
    Neighbour(IpAddr, MacAddress),
    Route(Route),
}

/// The same, and at which end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Need {
    pub(crate) end: End,
    pub(crate) what: What,
}

/// What there is at one end.
#[derive(Clone, Debug)]
pub(crate) struct Found {
    pub(crate) device: Device,
    /// Whether `lo` is up; not looked at on the node.
    pub(crate) loopback_up: bool,
    pub(crate) addresses: Vec<IpNet>,
    pub(crate) neighbours: Vec<(IpAddr, MacAddress)>,
    pub(crate) routes: Vec<Route>,
    /// Those that have another value, each with that value.
    pub(crate) sysctls: Vec<(Sysctl, Option<String>)>,
}

/// A need that is not met.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Gap {
    pub(crate) need: Need,
    /// What is there instead, as in `gone` or `1400 instead of 1500`.
    pub(crate) found: String,
}

/// The sysctls of an end, whose device is called so.
pub(crate) fn sysctls(endpoint: &Endpoint, end: End, device: &str) -> Vec<Sysctl> {
    let (v4, v6) = families(endpoint);
    match end {
        End::Node => [quiet_sysctls(device, false), node_sysctls(device, v4, v6)].concat(),
        End::Inside => quiet_sysctls(device, v6),
    }
}

/// Everything that is needed at an end, but for sysctls.
fn needs(endpoint: &Endpoint, end: End, device: IfIndex) -> Vec<What> {
    let mode = &endpoint.mode;
    let (name, mac) = match end {
        End::Node => (&endpoint.host_interface, endpoint.host_mac),
        End::Inside => (&endpoint.spec.interface, endpoint.mac),
    };
    let mut needs = vec![What::Name(name.clone()), What::Up, What::Mtu(mode.mtu)];
    needs.extend(mac.map(What::Mac));
    let addresses = endpoint.addresses.iter().map(IpNet::addr);
    match end {
        End::Node => {
            needs.extend(
                addresses.clone().filter_map(|address| Some(What::Neighbour(address, endpoint.mac?))),
            );
            needs.extend(addresses.map(|address| What::Route(Route::on_link(IpNet::from(address), device))));
        }
        End::Inside => {
            needs.push(What::LoopbackUp);
            needs.extend(endpoint.addresses.iter().copied().map(What::Address));
            let gateway_mac = endpoint.host_mac.map(|mac| mode.device.gateway_mac(mac));
            let routes = routes_inside(device, &endpoint.routes_inside(), gateway_mac.is_some());
            let gateways = routes.iter().filter_map(|route| Some(What::Neighbour(route.via?, gateway_mac?)));
            needs.extend(gateways.collect::<Vec<_>>());
            needs.extend(routes.into_iter().map(What::Route));
        }
    }
    needs
}

fn families(endpoint: &Endpoint) -> (bool, bool) {
    let v4 = endpoint.addresses.iter().any(|address| address.addr().is_ipv4());
    let v6 = endpoint.addresses.iter().any(|address| address.addr().is_ipv6());
    (v4, v6)
}

/// What of it is not so, in the order in which it can be mended.
pub(crate) fn gaps(endpoint: &Endpoint, end: End, found: &Found) -> Vec<Gap> {
    let mut needs = needs(endpoint, end, found.device.ifindex);
    // A device that has just been given its MTU or brought up has its sysctls, and needs them before addresses.
    let at = needs
        .iter()
        .position(|what| matches!(what, What::Address(_) | What::Neighbour(..) | What::Route(_)))
        .unwrap_or(needs.len());
    needs.splice(at..at, found.sysctls.iter().map(|(sysctl, _)| What::Sysctl(sysctl.clone())));
    let unmet = needs.into_iter().filter_map(|what| {
        let instead = found.instead_of(&what)?;
        Some(Gap { need: Need { end, what }, found: instead })
    });
    unmet.collect()
}

impl Found {
    /// What is there instead; none if it is as it should be.
    fn instead_of(&self, what: &What) -> Option<String> {
        const GONE: &str = "gone";
        let device = &self.device;
        match what {
            What::Name(name) => (device.name != *name).then(|| instead(&device.name, name)),
            What::Up => (!device.up).then(|| "down".to_owned()),
            What::LoopbackUp => (!self.loopback_up).then(|| "down".to_owned()),
            What::Mtu(bytes) => (device.mtu != *bytes).then(|| instead(&device.mtu, bytes)),
            What::Mac(mac) => match device.mac {
                Some(found) if found == *mac => None,
                Some(found) => Some(instead(&found, mac)),
                None => Some(GONE.to_owned()),
            },
            What::Sysctl(sysctl) => {
                let (_, value) = self.sysctls.iter().find(|(other, _)| other == sysctl)?;
                Some(value.as_ref().map_or_else(|| GONE.to_owned(), |value| instead(value, &sysctl.value())))
            }
            What::Address(address) => {
                let there = self.addresses.iter().any(|found| found.addr() == address.addr());
                (!there).then(|| GONE.to_owned())
            }
            What::Neighbour(address, mac) => {
                match self.neighbours.iter().find(|(found, _)| found == address) {
                    Some((_, found)) if found == mac => None,
                    Some((_, found)) => Some(instead(found, mac)),
                    None => Some(GONE.to_owned()),
                }
            }
            What::Route(route) => {
                let same = |other: &&Route| other.destination == route.destination;
                let mut there = self.routes.iter().filter(same);
                // One that has no metric of its own may be given one.
                let there = there.any(|other| {
                    other.device == route.device
                        && other.via == route.via
                        && (route.metric.is_none() || other.metric == route.metric)
                });
                (!there).then(|| GONE.to_owned())
            }
        }
    }
}

fn instead(found: &dyn fmt::Display, wanted: &dyn fmt::Display) -> String {
    format!("{found} instead of {wanted}")
}

impl What {
    /// Its kind, as metrics have it.
    pub(crate) const fn kind(&self) -> &'static str {
        match self {
            Self::Name(_) => "name",
            Self::Up | Self::LoopbackUp => "state",
            Self::Mtu(_) => "mtu",
            Self::Mac(_) => "mac",
            Self::Sysctl(_) => "sysctl",
            Self::Address(_) => "address",
            Self::Neighbour(..) => "neighbour",
            Self::Route(_) => "route",
        }
    }
}

impl fmt::Display for Need {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (device, place) = match self.end {
            End::Node => ("its device on the node", "on the node"),
            End::Inside => ("its device inside", "inside"),
        };
        match &self.what {
            What::Name(_) => write!(f, "the name of {device}"),
            What::Up => f.write_str(device),
            What::LoopbackUp => f.write_str("lo inside"),
            What::Mtu(_) => write!(f, "the MTU of {device}"),
            What::Mac(_) => write!(f, "the hardware address of {device}"),
            What::Sysctl(sysctl) => write!(f, "{sysctl} {place}"),
            What::Address(address) => write!(f, "its address {}", address.addr()),
            What::Neighbour(address, _) => write!(f, "the neighbour entry of {address} {place}"),
            What::Route(route) if route.destination.prefix_len() == 0 => {
                let family = if route.destination.addr().is_ipv4() { "IPv4" } else { "IPv6" };
                write!(f, "the default route of {family} {place}")
            }
            What::Route(route) if route.destination == IpNet::from(route.destination.addr()) => {
                write!(f, "the route to {} {place}", route.destination.addr())
            }
            What::Route(route) => write!(f, "the route to {} {place}", route.destination),
        }
    }
}

#[cfg(test)]
mod tests {
    use netloom_core::model::{
        AttachmentKind, DeviceMode, EndpointMode, EndpointRoute, EndpointSpec, Name, NetnsCookie, NetnsId,
    };

    use super::*;

    const INSIDE: MacAddress = MacAddress([2, 0, 0, 0, 0, 1]);
    const NODE: MacAddress = MacAddress([2, 0, 0, 0, 0, 2]);

    fn endpoint(device: DeviceMode) -> Endpoint {
        let has_mac = device.has_mac();
        Endpoint {
            spec: EndpointSpec::plain(Name::new("web").unwrap(), "/run/netns/web"),
            id: 1,
            netns: NetnsId { device: 4, inode: 1 },
            netns_cookie: NetnsCookie(1),
            mode: EndpointMode::plain(device, AttachmentKind::Tcx),
            decided_by: "built-in".into(),
            addresses: ["10.210.0.2/32", "fd00::2/128"].map(|address| address.parse().unwrap()).into(),
            host_interface: "nlweb".into(),
            host_ifindex: IfIndex(70),
            peer_ifindex: IfIndex(2),
            mac: has_mac.then_some(INSIDE),
            host_mac: has_mac.then_some(NODE),
            attachments: Vec::new(),
            routes: None,
        }
    }

    /// An end as it is when everything is as it should be.
    fn whole(endpoint: &Endpoint, end: End) -> Found {
        let index = if end == End::Node { endpoint.host_ifindex } else { endpoint.peer_ifindex };
        let mut found = Found {
            device: Device { ifindex: index, up: true, ..Device::default() },
            loopback_up: true,
            addresses: Vec::new(),
            neighbours: Vec::new(),
            routes: Vec::new(),
            sysctls: Vec::new(),
        };
        for what in needs(endpoint, end, index) {
            match what {
                What::Name(name) => found.device.name = name,
                What::Mtu(bytes) => found.device.mtu = bytes,
                What::Mac(mac) => found.device.mac = Some(mac),
                What::Address(address) => found.addresses.push(address),
                What::Neighbour(address, mac) => found.neighbours.push((address, mac)),
                What::Route(route) => found.routes.push(route),
                What::Up | What::LoopbackUp | What::Sysctl(_) => {}
            }
        }
        found
    }

    fn told(endpoint: &Endpoint, end: End, found: &Found) -> Vec<String> {
        gaps(endpoint, end, found).iter().map(|gap| format!("{} is {}", gap.need, gap.found)).collect()
    }

    #[test]
    fn what_is_as_it_should_be_has_no_gaps() {
        for mode in [DeviceMode::Netkit, DeviceMode::NetkitL2, DeviceMode::Veth] {
            for end in [End::Node, End::Inside] {
                let endpoint = endpoint(mode);
                let found = whole(&endpoint, end);
                assert_eq!(told(&endpoint, end, &found), Vec::<String>::new(), "{mode} {end:?}");
                assert_eq!(found.neighbours.is_empty(), !mode.has_mac());
            }
        }
    }

    #[test]
    fn each_thing_that_is_missing_is_told_with_what_is_there_instead() {
        let endpoint = endpoint(DeviceMode::Veth);
        let mut found = whole(&endpoint, End::Inside);
        found.device = Device {
            name: "eth7".into(),
            ifindex: endpoint.peer_ifindex,
            mtu: 1_400,
            mac: Some(NODE),
            ..Device::default()
        };
        found.addresses.clear();
        found.neighbours.clear();
        found.routes.retain(|route| route.destination.addr().is_ipv6());
        let accept = quiet_sysctls("eth7", false).remove(0);
        found.sysctls = vec![(accept, Some("1".into()))];
        assert_eq!(
            told(&endpoint, End::Inside, &found),
            [
                "the name of its device inside is eth7 instead of eth0",
                "its device inside is down",
                "the MTU of its device inside is 1400 instead of 1500",
                "the hardware address of its device inside is 02:00:00:00:00:02 instead of 02:00:00:00:00:01",
                "net/ipv6/conf/eth7/accept_dad inside is 1 instead of 0",
                "its address 10.210.0.2 is gone",
                "its address fd00::2 is gone",
                "the neighbour entry of 169.254.1.1 inside is gone",
                "the neighbour entry of fe80::1 inside is gone",
                "the default route of IPv4 inside is gone",
            ]
        );
    }

    #[test]
    fn routes_of_its_own_are_wanted_in_place_of_the_default_ones() {
        let route =
            |destination: &str, metric| EndpointRoute { destination: destination.parse().unwrap(), metric };
        let routes = vec![route("0.0.0.0/0", Some(2_048)), route("10.8.0.0/16", None)];
        let endpoint = Endpoint { routes: Some(routes), ..endpoint(DeviceMode::Veth) };
        let mut found = whole(&endpoint, End::Inside);
        found.routes[0].metric = None;
        found.routes.pop();
        assert_eq!(
            told(&endpoint, End::Inside, &found),
            ["the default route of IPv4 inside is gone", "the route to 10.8.0.0/16 inside is gone"]
        );
    }

    #[test]
    fn what_is_of_others_is_no_gap() {
        let endpoint = endpoint(DeviceMode::Netkit);
        let mut found = whole(&endpoint, End::Node);
        found.addresses.push("10.9.0.1/24".parse().unwrap());
        found.routes.push(Route::on_link("10.9.0.0/24".parse().unwrap(), endpoint.host_ifindex));
        found.neighbours.push(("10.9.0.7".parse().unwrap(), NODE));
        assert_eq!(gaps(&endpoint, End::Node, &found), []);
    }
}
