//! Whether a namespace's netfilter has a say in what its stack forwards: whoever sends packets past the stack has
//! to know.

use std::{fs, io, path::Path};

use netlink_packet_core::{NLM_F_DUMP, NLM_F_REQUEST, NLMSG_DONE, NLMSG_ERROR, NetlinkBuffer, NlasIterator};
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
    let of_thread = Path::new("/proc/thread-self/net");
    netns.run(|| Ok(legacy_table(of_thread).or(nftables()?))).map_err(io::Error::other)?
}

/// The first table that a folder of `/proc` names; a kernel without the older iptables has no such files.
fn legacy_table(folder: &Path) -> Option<Forwarding> {
    for file in ["ip_tables_names", "ip6_tables_names"] {
        let names = fs::read_to_string(folder.join(file)).unwrap_or_default();
        if let Some(name) = names.lines().next() {
            return Some(Forwarding(format!("the iptables table {name}")));
        }
    }
    None
}

// include/uapi/linux/netfilter/nf_tables.h and nfnetlink.h
/// `NFNL_SUBSYS_NFTABLES`, and in it `NFT_MSG_NEWCHAIN`.
const NEW_CHAIN: u16 = 10 << 8 | 3;
/// `NFT_MSG_GETCHAIN`.
const GET_CHAIN: u16 = 10 << 8 | 4;
const NFTA_CHAIN_TABLE: u16 = 1;
const NFTA_CHAIN_NAME: u16 = 3;
const NFTA_CHAIN_HOOK: u16 = 4;
const NFTA_HOOK_HOOKNUM: u16 = 1;
/// `NF_INET_PRE_ROUTING`, `NF_INET_FORWARD`, `NF_INET_POST_ROUTING`.
const FORWARDED: [u32; 3] = [0, 2, 4];
/// `NFPROTO_INET`, `NFPROTO_IPV4`, `NFPROTO_IPV6`.
const FAMILIES: [u8; 3] = [1, 2, 10];

fn nftables() -> io::Result<Option<Forwarding>> {
    let mut socket = Socket::new(NETLINK_NETFILTER)?;
    socket.bind_auto()?;
    socket.connect(&SocketAddr::new(0, 0))?;
    socket.send(&request(), 0)?;
    let mut found = None;
    loop {
        let (bytes, _) = socket.recv_from_full()?;
        let mut rest = bytes.as_slice();
        while let Ok(message) = NetlinkBuffer::new_checked(rest) {
            match message.message_type() {
                // An error: a kernel without nftables has no chains.
                NLMSG_DONE | NLMSG_ERROR => return Ok(found),
                NEW_CHAIN => found = found.or_else(|| chain(message.payload())),
                _ => {}
            }
            rest = rest.get(message.length().next_multiple_of(4) as usize..).unwrap_or_default();
        }
    }
}

/// A dump of every chain of every family.
fn request() -> Vec<u8> {
    // The header, and a struct nfgenmsg: NFPROTO_UNSPEC, version 0, no resource.
    let mut bytes = vec![0; 20];
    let mut message = NetlinkBuffer::new(&mut bytes);
    message.set_length(20);
    message.set_message_type(GET_CHAIN);
    message.set_flags(NLM_F_REQUEST | NLM_F_DUMP);
    bytes
}

fn chain(payload: &[u8]) -> Option<Forwarding> {
    let family = *payload.first()?;
    let attributes = payload.get(4..)?;
    let hook = attribute(attributes, NFTA_CHAIN_HOOK)?;
    let number = u32::from_be_bytes(attribute(&hook, NFTA_HOOK_HOOKNUM)?.try_into().ok()?);
    if !FAMILIES.contains(&family) || !FORWARDED.contains(&number) {
        return None;
    }
    let text = |kind| {
        let bytes = attribute(attributes, kind).unwrap_or_default();
        String::from_utf8_lossy(&bytes).trim_end_matches('\0').to_owned()
    };
    Some(Forwarding(format!("the nftables chain {} {}", text(NFTA_CHAIN_TABLE), text(NFTA_CHAIN_NAME))))
}

/// The value of the first attribute of this kind.
fn attribute(attributes: &[u8], wanted: u16) -> Option<Vec<u8>> {
    let mut attributes = NlasIterator::new(attributes).filter_map(Result::ok);
    attributes.find(|attribute| attribute.kind() == wanted).map(|attribute| attribute.value().to_vec())
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
    fn a_table_of_the_older_iptables_is_found_in_either_family() {
        let folder = tempfile::tempdir().unwrap();
        let named = |file: &str, names: &str| {
            fs::write(folder.path().join(file), names).unwrap();
            legacy_table(folder.path()).map(|Forwarding(what)| what)
        };
        assert_eq!(legacy_table(folder.path()), None);
        assert_eq!(named("ip_tables_names", ""), None, "a module that has no table");
        assert_eq!(named("ip6_tables_names", "mangle\nnat\n").as_deref(), Some("the iptables table mangle"));
        assert_eq!(named("ip_tables_names", "filter\n").as_deref(), Some("the iptables table filter"));
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
            assert_eq!(chain(&whole[..length]), None);
        }
    }
}
