//! Between the addresses of the WIT and those of the standard library.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use crate::types::{IpAddress, SocketAddress};

impl From<IpAddr> for IpAddress {
    fn from(address: IpAddr) -> Self {
        match address {
            IpAddr::V4(v4) => Self::V4(v4.octets().into()),
            IpAddr::V6(v6) => Self::V6(v6.segments().into()),
        }
    }
}

impl From<IpAddress> for IpAddr {
    fn from(address: IpAddress) -> Self {
        match address {
            IpAddress::V4((a, b, c, d)) => Ipv4Addr::new(a, b, c, d).into(),
            IpAddress::V6(segments) => Ipv6Addr::from(<[u16; 8]>::from(segments)).into(),
        }
    }
}

/// An IPv4-mapped address becomes the IPv4 address it stands for, as everywhere in snapshots.
impl From<SocketAddr> for SocketAddress {
    fn from(address: SocketAddr) -> Self {
        Self { ip: address.ip().to_canonical().into(), port: address.port() }
    }
}

impl From<SocketAddress> for SocketAddr {
    fn from(address: SocketAddress) -> Self {
        Self::new(address.ip.into(), address.port)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_survive_the_round_trip() {
        for text in ["10.0.0.2:80", "[2001:db8::7]:443", "[::]:0", "255.255.255.255:65535"] {
            let address: SocketAddr = text.parse().unwrap();
            assert_eq!(SocketAddr::from(SocketAddress::from(address)), address);
        }
    }

    #[test]
    fn a_mapped_address_counts_as_ipv4() {
        let mapped: SocketAddr = "[::ffff:10.0.0.2]:80".parse().unwrap();
        assert_eq!(SocketAddress::from(mapped), SocketAddress { ip: IpAddress::V4((10, 0, 0, 2)), port: 80 });
    }
}
