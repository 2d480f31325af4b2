//! Framing: `struct nlmsghdr`, `struct inet_diag_req_v2` and `struct inet_diag_msg`, to and from bytes.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    os::fd::{AsRawFd, BorrowedFd},
};

use super::{DiagAction, DiagError, Family, SocketId, Transport};

const HEADER_LEN: usize = 16;
/// `sizeof(struct inet_diag_req_v2)`.
const BODY_LEN: usize = 56;
/// `sizeof(struct inet_diag_msg)`.
const FOUND_LEN: usize = 72;
/// A request without attributes.
pub(super) const REQUEST_LEN: usize = HEADER_LEN + BODY_LEN;

const SOCK_DIAG_BY_FAMILY: u16 = 20;
const SOCK_DESTROY: u16 = 21;
const INET_DIAG_REQ_BYTECODE: u16 = 1;
const INET_DIAG_REQ_SK_BPF_STORAGES: u16 = 2;
const SK_DIAG_BPF_STORAGE_REQ_MAP_FD: u16 = 1;
const INET_DIAG_INFO: u16 = 2;
const INET_DIAG_SK_BPF_STORAGES: u16 = 20;
const SK_DIAG_BPF_STORAGE: u16 = 1;
const SK_DIAG_BPF_STORAGE_MAP_VALUE: u16 = 3;
/// Offset of `tcpi_bytes_acked` in `struct tcp_info`; `tcpi_bytes_received` follows.
const TCP_INFO_BYTES: usize = 120;

/// A socket as sock_diag reports it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Found {
    /// The family it was created with.
    pub family: Family,
    /// The kernel's state number, `include/net/tcp_states.h`.
    pub state: u8,
    /// Its own address, as the kernel has it: v4-mapped on an IPv6 socket that talks IPv4.
    pub local: SocketAddr,
    /// Its peer's, as the kernel has it.
    pub remote: SocketAddr,
    /// The index of the device it is bound to, or 0.
    pub device: u32,
    /// As `SO_COOKIE` reports it.
    pub cookie: u64,
    /// The number of its file, as `/proc/PID/fd` shows it; 0 if no file holds it.
    pub inode: u32,
    /// TCP, and a dump: what the peer acknowledged, in bytes, the SYN counted as one; else 0.
    pub bytes_acked: u64,
    /// TCP, and a dump: what was received in order, in bytes; else 0.
    pub bytes_received: u64,
}

impl Found {
    /// Its exact identity.
    #[must_use]
    pub const fn id(&self, transport: Transport) -> SocketId {
        SocketId {
            transport,
            local: self.local,
            remote: self.remote,
            device: self.device,
            cookie: self.cookie,
        }
    }
}

/// One request, before it is numbered.
pub(super) struct Request<'a> {
    pub(super) transport: Transport,
    kind: u16,
    flags: u16,
    family: Family,
    extensions: u8,
    states: u32,
    id: [u8; 48],
    filter: &'a [u8],
    storages: &'a [BorrowedFd<'a>],
}

impl Request<'_> {
    pub(super) fn exact(socket: &SocketId, action: DiagAction) -> Request<'static> {
        let (local, remote) = (canonical(socket.local), canonical(socket.remote));
        // An unspecified address of the other family goes with a specified one: `[::]` on either side of an IPv4
        // address is 0.0.0.0 to the kernel.
        let family = if is_v4(local) || is_v4(remote) { Family::V4 } else { Family::V6 };
        // udp_dump_one takes source and destination swapped, "for historical reasons"; SOCK_DESTROY does not.
        let (src, dst) = if action == DiagAction::Lookup && socket.transport == Transport::Udp {
            (remote, local)
        } else {
            (local, remote)
        };
        let (kind, flags) = match action {
            DiagAction::Destroy => (SOCK_DESTROY, libc::NLM_F_REQUEST | libc::NLM_F_ACK),
            DiagAction::Lookup => (SOCK_DIAG_BY_FAMILY, libc::NLM_F_REQUEST),
        };
        Request {
            transport: socket.transport,
            kind,
            flags: flags as u16,
            family,
            extensions: 0,
            states: u32::MAX,
            id: encode_id(family, src, dst, socket.device, socket.cookie),
            filter: &[],
            storages: &[],
        }
    }

    pub(super) fn dump<'a>(
        family: Family,
        transport: Transport,
        states: u32,
        filter: &'a [u8],
        storages: &'a [BorrowedFd<'a>],
    ) -> Request<'a> {
        let extensions = if transport == Transport::Tcp { 1 << (INET_DIAG_INFO - 1) } else { 0 };
        Request {
            transport,
            kind: SOCK_DIAG_BY_FAMILY,
            flags: (libc::NLM_F_REQUEST | libc::NLM_F_DUMP) as u16,
            family,
            extensions,
            states,
            id: [0; 48],
            filter,
            storages,
        }
    }

    pub(super) fn encode(&self, sequence: u32, out: &mut Vec<u8>) {
        let start = out.len();
        out.extend([0; 4]);
        out.extend(self.kind.to_ne_bytes());
        out.extend(self.flags.to_ne_bytes());
        out.extend(sequence.to_ne_bytes());
        out.extend(0u32.to_ne_bytes());
        out.extend([self.family.number(), self.transport.number(), self.extensions, 0]);
        out.extend(self.states.to_ne_bytes());
        out.extend(self.id);
        if !self.filter.is_empty() {
            attribute(out, INET_DIAG_REQ_BYTECODE, self.filter);
        }
        if !self.storages.is_empty() {
            let mut maps = Vec::new();
            for map in self.storages {
                attribute(&mut maps, SK_DIAG_BPF_STORAGE_REQ_MAP_FD, &map.as_raw_fd().to_ne_bytes());
            }
            attribute(out, INET_DIAG_REQ_SK_BPF_STORAGES | libc::NLA_F_NESTED as u16, &maps);
        }
        let length = ((out.len() - start) as u32).to_ne_bytes();
        if let Some(header) = out.get_mut(start..start + 4) {
            header.copy_from_slice(&length);
        }
    }
}

/// Appends one attribute, whose value is a multiple of 4 bytes long.
fn attribute(out: &mut Vec<u8>, kind: u16, value: &[u8]) {
    out.extend((4 + value.len() as u16).to_ne_bytes());
    out.extend(kind.to_ne_bytes());
    out.extend(value);
}

/// IPv4 for a v4-mapped address, else the address itself. An IPv4 lookup finds IPv6 sockets with v4-mapped
/// addresses too, for both transports and in every kernel.
pub(super) fn canonical(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}

fn is_v4(address: SocketAddr) -> bool {
    address.is_ipv4() && !address.ip().is_unspecified()
}

fn encode_id(family: Family, src: SocketAddr, dst: SocketAddr, device: u32, cookie: u64) -> [u8; 48] {
    fn address(family: Family, ip: IpAddr) -> [u8; 16] {
        let mut bytes = [0; 16];
        match (family, ip) {
            (Family::V4, IpAddr::V4(ip)) => {
                for (to, from) in bytes.iter_mut().zip(ip.octets()) {
                    *to = from;
                }
            }
            (Family::V6, IpAddr::V6(ip)) => bytes = ip.octets(),
            // Unspecified: an address of the other family is chosen against only then.
            (Family::V4, IpAddr::V6(_)) | (Family::V6, IpAddr::V4(_)) => {}
        }
        bytes
    }
    let fields = src
        .port()
        .to_be_bytes()
        .into_iter()
        .chain(dst.port().to_be_bytes())
        .chain(address(family, src.ip()))
        .chain(address(family, dst.ip()))
        .chain(device.to_ne_bytes())
        .chain((cookie as u32).to_ne_bytes())
        .chain(((cookie >> 32) as u32).to_ne_bytes());
    let mut id = [0; 48];
    for (to, from) in id.iter_mut().zip(fields) {
        *to = from;
    }
    id
}

/// What one message of an answer is.
pub(super) enum Kind<'a> {
    /// NLMSG_ERROR: a positive errno, 0 for an acknowledgement.
    Error(i32),
    /// NLMSG_DONE: the end of a dump, with a positive errno or 0.
    Done(i32),
    /// A socket.
    Socket(&'a [u8]),
    /// Something else.
    Other,
}

pub(super) struct Part<'a> {
    pub(super) sequence: u32,
    pub(super) kind: Kind<'a>,
}

/// The messages in one datagram.
pub(super) fn parts(mut datagram: &[u8]) -> impl Iterator<Item = Result<Part<'_>, DiagError>> {
    std::iter::from_fn(move || {
        if datagram.is_empty() {
            return None;
        }
        let part = parse_part(datagram);
        datagram = match &part {
            Ok((_, rest)) => rest,
            Err(_) => &[],
        };
        Some(part.map(|(part, _)| part))
    })
}

fn parse_part(datagram: &[u8]) -> Result<(Part<'_>, &[u8]), DiagError> {
    const SHORT: DiagError = DiagError::Malformed("a message that is shorter than its header says");
    let len = u32_at(datagram, 0).ok_or(SHORT)? as usize;
    let kind = u16_at(datagram, 4).ok_or(SHORT)?;
    let sequence = u32_at(datagram, 8).ok_or(SHORT)?;
    let body = datagram.get(HEADER_LEN..len).ok_or(SHORT)?;
    let rest = datagram.get(len.next_multiple_of(4)..).unwrap_or_default();
    let errno = || u32_at(body, 0).map_or(0, |errno| (errno as i32).saturating_neg());
    let kind = match i32::from(kind) {
        libc::NLMSG_ERROR => Kind::Error(errno()),
        libc::NLMSG_DONE => Kind::Done(errno()),
        kind if kind == i32::from(SOCK_DIAG_BY_FAMILY) => Kind::Socket(body),
        _ => Kind::Other,
    };
    Ok((Part { sequence, kind }, rest))
}

/// Reads a `struct inet_diag_msg` and the attributes after it.
pub(super) fn parse_found(body: &[u8]) -> Result<Found, DiagError> {
    const SHORT: DiagError = DiagError::Malformed("a socket that is shorter than struct inet_diag_msg");
    if body.len() < FOUND_LEN {
        return Err(SHORT);
    }
    let family = match body.first() {
        Some(2) => Family::V4,
        Some(10) => Family::V6,
        _ => return Err(DiagError::Malformed("a socket of an unknown family")),
    };
    let ip = |at: usize| -> Option<IpAddr> {
        let bytes: [u8; 16] = body.get(at..at + 16)?.try_into().ok()?;
        Some(match family {
            Family::V4 => Ipv4Addr::from(<[u8; 4]>::try_from(bytes.get(..4)?).ok()?).into(),
            Family::V6 => Ipv6Addr::from(bytes).into(),
        })
    };
    let port =
        |at: usize| -> Option<u16> { Some(u16::from_be_bytes(body.get(at..at + 2)?.try_into().ok()?)) };
    let (bytes_acked, bytes_received) = tcp_bytes(body.get(FOUND_LEN..).unwrap_or_default());
    Ok(Found {
        family,
        state: body.get(1).copied().ok_or(SHORT)?,
        local: SocketAddr::new(ip(8).ok_or(SHORT)?, port(4).ok_or(SHORT)?),
        remote: SocketAddr::new(ip(24).ok_or(SHORT)?, port(6).ok_or(SHORT)?),
        device: u32_at(body, 40).ok_or(SHORT)?,
        cookie: u64::from(u32_at(body, 44).ok_or(SHORT)?) | u64::from(u32_at(body, 48).ok_or(SHORT)?) << 32,
        inode: u32_at(body, 68).ok_or(SHORT)?,
        bytes_acked,
        bytes_received,
    })
}

/// `tcpi_bytes_acked` and `tcpi_bytes_received`, if the answer has them.
fn tcp_bytes(attributes: &[u8]) -> (u64, u64) {
    let Some(info) = find_attribute(attributes, INET_DIAG_INFO) else { return (0, 0) };
    let at = |at| info.get(at..at + 8).and_then(|bytes| bytes.try_into().ok()).map_or(0, u64::from_ne_bytes);
    (at(TCP_INFO_BYTES), at(TCP_INFO_BYTES + 8))
}

/// What the first socket-storage map that has something for a socket holds.
pub(super) fn stored(body: &[u8]) -> Option<&[u8]> {
    let storages = find_attribute(body.get(FOUND_LEN..)?, INET_DIAG_SK_BPF_STORAGES)?;
    let storage = find_attribute(storages, SK_DIAG_BPF_STORAGE)?;
    find_attribute(storage, SK_DIAG_BPF_STORAGE_MAP_VALUE)
}

fn find_attribute(mut attributes: &[u8], wanted: u16) -> Option<&[u8]> {
    while let (Some(len), Some(kind)) = (u16_at(attributes, 0), u16_at(attributes, 2)) {
        let value = attributes.get(4..usize::from(len))?;
        if kind & libc::NLA_TYPE_MASK as u16 == wanted {
            return Some(value);
        }
        attributes = attributes.get(usize::from(len).next_multiple_of(4)..).unwrap_or_default();
    }
    None
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_ne_bytes(bytes.get(at..at + 2)?.try_into().ok()?))
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_ne_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}
