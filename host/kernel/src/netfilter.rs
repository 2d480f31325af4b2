//! Whether a namespace's netfilter has a say in what its stack forwards: whoever sends packets past the stack has
//! to know.

use std::{fs, io};

use rtnetlink::sys::{Socket, SocketAddr, protocols::NETLINK_NETFILTER};

use crate::netns::Netns;

/// What sees packets that the stack forwards.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Forwarding(pub String);

/// The first base chain or table found that sees forwarded packets: of nftables (to which today's iptables belongs)
/// or of the older iptables. Chains without rules count, for rules may come at any time.
///
/// # Errors
/// If the namespace cannot be entered, or the kernel gives no answer.
pub fn forwarding(netns: &Netns) -> io::Result<Option<Forwarding>> {
    netns.run(|| Ok(legacy_table().or(nftables()?))).map_err(io::Error::other)?
}

fn legacy_table() -> Option<Forwarding> {
    for file in ["ip_tables_names", "ip6_tables_names"] {
        let names = fs::read_to_string(format!("/proc/thread-self/net/{file}")).unwrap_or_default();
        if let Some(name) = names.lines().next() {
            return Some(Forwarding(format!("the iptables table {name}")));
        }
    }
    None
}

// include/uapi/linux/netfilter/nf_tables.h and nfnetlink.h
const NFNL_SUBSYS_NFTABLES: u16 = 10;
const NFT_MSG_NEWCHAIN: u16 = 3;
const NFT_MSG_GETCHAIN: u16 = 4;
const NFTA_CHAIN_TABLE: u16 = 1;
const NFTA_CHAIN_NAME: u16 = 3;
const NFTA_CHAIN_HOOK: u16 = 4;
const NFTA_HOOK_HOOKNUM: u16 = 1;
/// `NF_INET_PRE_ROUTING`, `NF_INET_FORWARD`, `NF_INET_POST_ROUTING`.
const FORWARDED: [u32; 3] = [0, 2, 4];
/// `NFPROTO_INET`, `NFPROTO_IPV4`, `NFPROTO_IPV6`.
const FAMILIES: [u8; 3] = [1, 2, 10];

const HEADER: usize = 16;

fn nftables() -> io::Result<Option<Forwarding>> {
    let mut socket = Socket::new(NETLINK_NETFILTER)?;
    socket.bind_auto()?;
    socket.connect(&SocketAddr::new(0, 0))?;
    socket.send(&request(), 0)?;
    let mut found = None;
    loop {
        let (bytes, _) = socket.recv_from_full()?;
        let mut rest = bytes.as_slice();
        while let Some((kind, payload, next)) = message(rest) {
            match i32::from(kind) {
                libc::NLMSG_DONE => return Ok(found),
                // EOPNOTSUPP, EINVAL: a kernel without nftables has no chains.
                libc::NLMSG_ERROR => return Ok(found),
                _ if kind == NFNL_SUBSYS_NFTABLES << 8 | NFT_MSG_NEWCHAIN => {
                    found = found.or_else(|| chain(payload));
                }
                _ => {}
            }
            rest = next;
        }
    }
}

/// A dump of every chain of every family.
fn request() -> Vec<u8> {
    let flags = (libc::NLM_F_REQUEST | libc::NLM_F_DUMP) as u16;
    let mut bytes = Vec::new();
    bytes.extend(20_u32.to_ne_bytes());
    bytes.extend((NFNL_SUBSYS_NFTABLES << 8 | NFT_MSG_GETCHAIN).to_ne_bytes());
    bytes.extend(flags.to_ne_bytes());
    bytes.extend([0; 8]);
    // struct nfgenmsg: NFPROTO_UNSPEC, version 0, no resource
    bytes.extend([0; 4]);
    bytes
}

/// The kind and the payload of a netlink message, and what follows it.
fn message(bytes: &[u8]) -> Option<(u16, &[u8], &[u8])> {
    let length = u32::from_ne_bytes(bytes.get(..4)?.try_into().ok()?) as usize;
    let kind = u16::from_ne_bytes(bytes.get(4..6)?.try_into().ok()?);
    let payload = bytes.get(HEADER..length)?;
    Some((kind, payload, bytes.get(length.next_multiple_of(4)..).unwrap_or_default()))
}

fn chain(payload: &[u8]) -> Option<Forwarding> {
    let family = *payload.first()?;
    let attributes = payload.get(4..)?;
    let hook = attribute(attributes, NFTA_CHAIN_HOOK)?;
    let number = u32::from_be_bytes(attribute(hook, NFTA_HOOK_HOOKNUM)?.try_into().ok()?);
    if !FAMILIES.contains(&family) || !FORWARDED.contains(&number) {
        return None;
    }
    let text = |kind| {
        let bytes = attribute(attributes, kind).unwrap_or_default();
        String::from_utf8_lossy(bytes).trim_end_matches('\0').to_owned()
    };
    Some(Forwarding(format!("the nftables chain {} {}", text(NFTA_CHAIN_TABLE), text(NFTA_CHAIN_NAME))))
}

/// The value of the first attribute of this kind.
fn attribute(mut attributes: &[u8], wanted: u16) -> Option<&[u8]> {
    loop {
        let length = usize::from(u16::from_ne_bytes(attributes.get(..2)?.try_into().ok()?));
        let kind = u16::from_ne_bytes(attributes.get(2..4)?.try_into().ok()?);
        // Without NLA_F_NESTED and NLA_F_NET_BYTEORDER.
        if kind & 0x3fff == wanted {
            return attributes.get(4..length);
        }
        attributes = attributes.get(length.max(4).next_multiple_of(4)..)?;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(kind: u16, value: &[u8]) -> Vec<u8> {
        let mut bytes = ((value.len() + 4) as u16).to_ne_bytes().to_vec();
        bytes.extend(kind.to_ne_bytes());
        bytes.extend(value);
        bytes.resize(bytes.len().next_multiple_of(4), 0);
        bytes
    }

    fn payload(family: u8, hook: u32) -> Vec<u8> {
        let mut bytes = vec![family, 0, 0, 0];
        bytes.extend(with(NFTA_CHAIN_TABLE, b"nat\0"));
        bytes.extend(with(NFTA_CHAIN_NAME, b"POSTROUTING\0"));
        let hook = with(NFTA_HOOK_HOOKNUM, &hook.to_be_bytes());
        bytes.extend(with(NFTA_CHAIN_HOOK | 0x8000, &hook));
        bytes
    }

    #[test]
    fn chains_that_see_what_is_forwarded_are_told_from_others() {
        assert_eq!(chain(&payload(2, 4)), Some(Forwarding("the nftables chain nat POSTROUTING".into())));
        assert_eq!(chain(&payload(2, 1)), None, "what is for the node itself");
        assert_eq!(chain(&payload(7, 2)), None, "a bridge's");
    }

    #[test]
    fn bytes_of_any_length_are_taken() {
        let whole = payload(2, 4);
        for length in 0..whole.len() {
            assert!(length == whole.len() || chain(&whole[..length]).is_none());
            assert!(message(&whole[..length]).is_none(), "its length is more than there is");
        }
    }
}
