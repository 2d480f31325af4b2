//! Frames, made by hand.

use std::net::{IpAddr, Ipv6Addr};

/// The hardware address by which endpoints know their node.
pub(super) const GATEWAY_MAC: [u8; 6] = [0x02, 0x77, 0, 0, 0, 1];

const ICMPV6: u8 = 58;
const FRAGMENT: u8 = 44;

/// An endpoint's hardware address.
pub(super) const fn mac(id: u32) -> [u8; 6] {
    let [a, b, c, d] = id.to_be_bytes();
    [0x02, 0x66, a, b, c, d]
}

/// The addresses of one family.
pub(super) fn of_family<const N: usize>(v6: bool, addresses: [(&str, &str); N]) -> [IpAddr; N] {
    addresses.map(|(of_v4, of_v6)| if v6 { of_v6 } else { of_v4 }.parse().unwrap())
}

/// A packet in the making.
#[derive(Clone)]
pub(super) struct Ip {
    from: IpAddr,
    to: IpAddr,
    version: u8,
    ttl: u8,
    protocol: u8,
    /// Of IPv4, in units of four bytes, as it says; options are added up to it.
    header: u8,
    /// Of IPv4: more to come, and the offset in units of eight bytes.
    fragment: u16,
    payload: Vec<u8>,
}

impl Ip {
    /// A datagram of 32 bytes.
    pub(super) fn udp(from: IpAddr, to: IpAddr) -> Self {
        // Long enough for the header of the other family as well.
        let mut payload = vec![0x1b, 0x58, 0x1b, 0x58, 0, 40, 0, 0];
        payload.resize(40, 7);
        let version = if from.is_ipv4() { 4 } else { 6 };
        Self { from, to, version, ttl: 64, protocol: 17, header: 5, fragment: 0, payload }
    }

    pub(super) fn version(self, version: u8) -> Self {
        Self { version, ..self }
    }

    pub(super) fn ttl(self, ttl: u8) -> Self {
        Self { ttl, ..self }
    }

    pub(super) fn protocol(self, protocol: u8) -> Self {
        Self { protocol, ..self }
    }

    pub(super) fn payload(self, payload: Vec<u8>) -> Self {
        Self { payload, ..self }
    }

    /// The length that an IPv4 header says it has, in units of four bytes.
    pub(super) fn header(self, header: u8) -> Self {
        Self { header, ..self }
    }

    /// With eight bytes of IPv4 options.
    pub(super) fn options(self) -> Self {
        self.header(7)
    }

    /// As a fragment; the offset is in units of eight bytes.
    pub(super) fn fragment(self, offset: u16, more: bool) -> Self {
        if self.from.is_ipv4() {
            return Self { fragment: offset | if more { 0x2000 } else { 0 }, ..self };
        }
        let [high, low] = (offset << 3 | u16::from(more)).to_be_bytes();
        let header = [self.protocol, 0, high, low, 0, 0, 0, 7];
        Self { payload: [header.as_slice(), &self.payload].concat(), protocol: FRAGMENT, ..self }
    }

    pub(super) fn frame(self) -> Frame {
        let (kind, packet) = match (self.from, self.to) {
            (IpAddr::V4(from), IpAddr::V4(to)) => {
                let options = vec![1_u8; usize::from(self.header.saturating_sub(5)) * 4];
                let length = u16::try_from(20 + options.len() + self.payload.len()).unwrap();
                let mut packet = vec![self.version << 4 | self.header, 0];
                packet.extend(length.to_be_bytes());
                packet.extend([0, 1]);
                packet.extend(self.fragment.to_be_bytes());
                packet.extend([self.ttl, self.protocol, 0, 0]);
                packet.extend(from.octets());
                packet.extend(to.octets());
                packet.extend(options);
                (0x0800, packet)
            }
            (IpAddr::V6(from), IpAddr::V6(to)) => {
                let mut packet = vec![self.version << 4, 0, 0, 0];
                packet.extend(u16::try_from(self.payload.len()).unwrap().to_be_bytes());
                packet.extend([self.protocol, self.ttl]);
                packet.extend(from.octets());
                packet.extend(to.octets());
                (0x86dd, packet)
            }
            _ => panic!("addresses of two families"),
        };
        Frame { to: None, kind, tags: Vec::new(), packet: [packet, self.payload].concat(), cut: 0 }
    }
}

/// A packet behind an extension header of eight bytes.
pub(super) fn with_extension(kind: u8, mut ip: Ip) -> Ip {
    // Six bytes of padding; a routing header without segments.
    let header = [ip.protocol, 0, if kind == 43 { 4 } else { 1 }, if kind == 43 { 0 } else { 4 }, 0, 0, 0, 0];
    ip.payload.splice(0..0, header);
    ip.protocol = kind;
    ip
}

/// A packet that each router is to look at.
pub(super) fn hop_by_hop(mut ip: Ip) -> Ip {
    let header = [ip.protocol, 0, 5, 2, 0, 0, 1, 0];
    ip.payload.splice(0..0, header);
    ip.protocol = 0;
    ip
}

/// A packet behind so many headers of options for its destination.
pub(super) fn options(count: usize, ip: Ip) -> Ip {
    (0..count).fold(ip, |ip, _| with_extension(60, ip))
}

/// A fragment of a packet whose first header this is.
pub(super) fn later_fragment(protocol: u8, ip: Ip) -> Ip {
    ip.protocol(protocol).fragment(8, false)
}

/// A message of neighbour discovery.
pub(super) fn discovery(kind: u8, from: IpAddr, to: IpAddr) -> Ip {
    let mut payload = vec![kind, 0, 0, 0, 0, 0, 0, 0];
    payload.extend("2001:db8:9::8".parse::<Ipv6Addr>().unwrap().octets());
    payload.extend([2, 1, 0x02, 0x66, 6, 6, 6, 6]);
    Ip::udp(from, to).protocol(ICMPV6).ttl(255).payload(payload)
}

/// A solicitation as the kernel sends it.
pub(super) fn solicitation(from: IpAddr, to: IpAddr, target: IpAddr) -> Frame {
    let IpAddr::V6(target) = target else { panic!("{target} is not of IPv6") };
    let mut payload = vec![135, 0, 0, 0, 0, 0, 0, 0];
    payload.extend(target.octets());
    payload.extend([1, 1]);
    payload.extend(mac(1));
    Ip::udp(from, to).protocol(ICMPV6).ttl(255).payload(payload).frame()
}

/// A packet on a link.
#[derive(Clone)]
pub(super) struct Frame {
    /// Whose hardware address it goes to, if not to the one that is to have it.
    to: Option<[u8; 6]>,
    kind: u16,
    tags: Vec<u16>,
    packet: Vec<u8>,
    /// So many bytes are missing at its end.
    cut: usize,
}

impl Frame {
    /// Endpoint 1 asks for 10.1.0.254, or for the gateway.
    pub(super) fn arp(target: u8) -> Self {
        let target = if target == 1 { [169, 254, 1, 1] } else { [10, 1, 0, target] };
        let mut packet = vec![0, 1, 8, 0, 6, 4, 0, 1];
        packet.extend(mac(1));
        packet.extend([10, 1, 0, 1]);
        packet.extend([0; 6]);
        packet.extend(target);
        Self { to: Some([0xff; 6]), kind: 0x0806, tags: Vec::new(), packet, cut: 0 }
    }

    pub(super) fn to(self, mac: [u8; 6]) -> Self {
        Self { to: Some(mac), ..self }
    }

    /// With another Ethernet type than what is in it.
    pub(super) fn of_type(self, kind: u16) -> Self {
        Self { kind, ..self }
    }

    /// With tags of these types, all of VLAN 5.
    pub(super) fn tagged(self, tags: &[u16]) -> Self {
        Self { tags: tags.to_vec(), ..self }
    }

    pub(super) fn cut(self, cut: usize) -> Self {
        Self { cut, ..self }
    }

    /// As it comes in: without hardware addresses where the link has none.
    pub(super) fn bytes(&self, receiver: Option<[u8; 6]>) -> Vec<u8> {
        let (to, from) = match receiver {
            Some(receiver) => (self.to.unwrap_or(receiver), mac(1)),
            None => ([0; 6], [0; 6]),
        };
        let mut bytes = [to, from].concat();
        for tag in &self.tags {
            bytes.extend(tag.to_be_bytes());
            bytes.extend([0, 5]);
        }
        bytes.extend(self.kind.to_be_bytes());
        bytes.extend(&self.packet);
        bytes.truncate(bytes.len() - self.cut);
        bytes
    }
}

/// Whether a question was made the answer to it.
pub(super) fn is_answer(before: &[u8], after: &[u8]) -> bool {
    let arp = before.get(12..14) == Some([8, 6].as_slice());
    let (kind, asks, answers) = if arp { (21, 1, 2) } else { (14 + 40, 135, 136) };
    before.get(kind) == Some(&asks) && after.get(kind) == Some(&answers) && before.len() == after.len()
}
