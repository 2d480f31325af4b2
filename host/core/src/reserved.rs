//! Addresses that no endpoint can have.

use std::{
    fmt,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

use ipnet::IpNet;

/// The gateway of every endpoint that has a link layer, by IPv4. No device has it: link-local addresses need none of the
/// node's.
pub const GATEWAY_V4: IpAddr = IpAddr::V4(Ipv4Addr::new(169, 254, 1, 1));
/// The same by IPv6.
pub const GATEWAY_V6: IpAddr = IpAddr::V6(Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 1));

/// What a node and its services need for themselves.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Reserved {
    /// The node's addresses, with the networks on their links.
    pub own: Vec<IpNet>,
    /// The next hops of its routes.
    pub gateways: Vec<IpAddr>,
    /// The addresses of services.
    pub vips: Vec<IpAddr>,
}

/// Why no endpoint can have an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unusable {
    /// It stands for no address, or for this network: 0.0.0.0/8, ::.
    Unspecified,
    /// It means the same in each namespace: 127.0.0.0/8, ::1.
    Loopback,
    /// It is a group's.
    Multicast,
    /// The gateway of every endpoint.
    EndpointsGateway,
    /// It is of one link: 169.254.0.0/16, `fe80::/10`.
    LinkLocal,
    /// 240.0.0.0/4, the limited broadcast among them.
    Reserved,
    /// An IPv4 address in IPv6's form: `::ffff:0:0/96`.
    Mapped,
    /// The node has it.
    Own,
    /// It is the broadcast address of this network, which the node is on.
    Broadcast(IpNet),
    /// It is the next hop of a route of the node.
    Gateway,
    /// It is the address of a service.
    Vip,
}

impl fmt::Display for Unusable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unspecified => f.write_str("stands for no host"),
            Self::Loopback => f.write_str("is a loopback address"),
            Self::Multicast => f.write_str("is the address of a group"),
            Self::EndpointsGateway => f.write_str("is the gateway of every endpoint"),
            Self::LinkLocal => f.write_str("is link-local"),
            Self::Reserved => f.write_str("is reserved (240.0.0.0/4)"),
            Self::Mapped => f.write_str("is an IPv4 address written as IPv6"),
            Self::Own => f.write_str("is the node's own"),
            Self::Broadcast(network) => {
                write!(f, "is the broadcast address of {network}, which the node is on")
            }
            Self::Gateway => f.write_str("is the gateway of a route of the node"),
            Self::Vip => f.write_str("is the address of a service"),
        }
    }
}

impl Unusable {
    /// Whether it is so on every node.
    #[must_use]
    pub const fn is_always(self) -> bool {
        !matches!(self, Self::Own | Self::Broadcast(_) | Self::Gateway | Self::Vip)
    }
}

impl Reserved {
    /// Why no endpoint can have an address; none if one can.
    #[must_use]
    pub fn refuses(&self, address: IpAddr) -> Option<Unusable> {
        anywhere(address).or_else(|| self.here(address))
    }

    fn here(&self, address: IpAddr) -> Option<Unusable> {
        if self.own.iter().any(|own| own.addr() == address) {
            return Some(Unusable::Own);
        }
        if let Some(network) = self.own.iter().find(|own| is_broadcast(own, address)) {
            return Some(Unusable::Broadcast(network.trunc()));
        }
        if self.gateways.contains(&address) {
            return Some(Unusable::Gateway);
        }
        self.vips.contains(&address).then_some(Unusable::Vip)
    }
}

/// A network of one or two addresses has none.
fn is_broadcast(network: &IpNet, address: IpAddr) -> bool {
    matches!(network, IpNet::V4(network) if network.prefix_len() < 31 && IpAddr::V4(network.broadcast()) == address)
}

fn anywhere(address: IpAddr) -> Option<Unusable> {
    if [GATEWAY_V4, GATEWAY_V6].contains(&address) {
        return Some(Unusable::EndpointsGateway);
    }
    if address.is_loopback() {
        return Some(Unusable::Loopback);
    }
    if address.is_multicast() {
        return Some(Unusable::Multicast);
    }
    match address {
        IpAddr::V4(address) => match address.octets() {
            [0, ..] => Some(Unusable::Unspecified),
            [169, 254, ..] => Some(Unusable::LinkLocal),
            [first, ..] if first >= 240 => Some(Unusable::Reserved),
            _ => None,
        },
        IpAddr::V6(address) if address.is_unspecified() => Some(Unusable::Unspecified),
        IpAddr::V6(address) if address.is_unicast_link_local() => Some(Unusable::LinkLocal),
        IpAddr::V6(address) => address.to_ipv4_mapped().map(|_| Unusable::Mapped),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reserved() -> Reserved {
        Reserved {
            own: ["198.51.100.1/24", "192.0.2.1/31", "2001:db8::1/64"].map(|own| own.parse().unwrap()).into(),
            gateways: ["198.51.100.2", "fd00::2"].map(|address| address.parse().unwrap()).into(),
            vips: ["10.96.0.10", "fd00:96::1"].map(|address| address.parse().unwrap()).into(),
        }
    }

    fn why(address: &str) -> Option<Unusable> {
        reserved().refuses(address.parse().unwrap())
    }

    #[test]
    fn what_no_node_gives_an_endpoint_is_refused() {
        for (address, expected) in [
            ("0.0.0.0", Unusable::Unspecified),
            ("0.1.2.3", Unusable::Unspecified),
            ("::", Unusable::Unspecified),
            ("127.0.0.2", Unusable::Loopback),
            ("::1", Unusable::Loopback),
            ("224.0.0.1", Unusable::Multicast),
            ("ff02::1", Unusable::Multicast),
            ("169.254.1.1", Unusable::EndpointsGateway),
            ("fe80::1", Unusable::EndpointsGateway),
            ("169.254.7.7", Unusable::LinkLocal),
            ("fe80::5", Unusable::LinkLocal),
            ("febf::5", Unusable::LinkLocal),
            ("240.0.0.1", Unusable::Reserved),
            ("255.255.255.255", Unusable::Reserved),
            ("::ffff:10.0.0.1", Unusable::Mapped),
        ] {
            assert_eq!(why(address), Some(expected), "{address}");
            assert!(expected.is_always());
        }
    }

    #[test]
    fn what_this_node_needs_is_refused() {
        let network = "198.51.100.0/24".parse().unwrap();
        for (address, expected) in [
            ("198.51.100.1", Unusable::Own),
            ("2001:db8::1", Unusable::Own),
            ("198.51.100.255", Unusable::Broadcast(network)),
            ("198.51.100.2", Unusable::Gateway),
            ("fd00::2", Unusable::Gateway),
            ("10.96.0.10", Unusable::Vip),
            ("fd00:96::1", Unusable::Vip),
        ] {
            assert_eq!(why(address), Some(expected), "{address}");
            assert!(!expected.is_always());
        }
    }

    #[test]
    fn all_others_are_an_endpoints_to_have() {
        for address in ["10.0.0.1", "198.51.100.3", "192.0.2.0", "223.255.255.255", "fd00::1", "fec0::1"] {
            assert_eq!(why(address), None, "{address}");
        }
    }
}
