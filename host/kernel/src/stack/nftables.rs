//! What is said to nftables: numbers, attributes, and transactions, which happen whole or not at all.

use std::io;

use netlink_packet_core::{NLM_F_ACK, NLM_F_APPEND, NLM_F_CREATE, NLM_F_REQUEST, NLMSG_ERROR, NetlinkBuffer};
use rtnetlink::sys::protocols::NETLINK_NETFILTER;

use crate::netlink::{check, connect, messages, receive, with};

// include/uapi/linux/netfilter/nfnetlink.h and nf_tables.h
/// `NFNL_SUBSYS_NFTABLES`.
const SUBSYSTEM: u16 = 10;
const BATCH_BEGIN: u16 = 0x10;
const BATCH_END: u16 = 0x11;
/// Bytes of a header, and of a `struct nfgenmsg`.
const HEADER: usize = 16;
const GENERIC: usize = 4;
/// `NLA_F_NESTED`.
const NESTED: u16 = 0x8000;

/// The types of messages: `NFT_MSG_…`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    NewTable = 0,
    GetTable = 1,
    DelTable = 2,
    NewChain = 3,
    GetChain = 4,
    NewRule = 6,
    GetRule = 7,
}

impl Kind {
    /// As a message has it.
    pub(super) const fn number(self) -> u16 {
        SUBSYSTEM << 8 | self as u16
    }
}

/// `NFPROTO_INET`, `NFPROTO_IPV4`, `NFPROTO_IPV6`.
pub(super) const INET: u8 = 1;
pub(super) const IPV4: u8 = 2;
pub(super) const IPV6: u8 = 10;

/// `NF_INET_LOCAL_IN`, `NF_INET_FORWARD`, `NF_INET_LOCAL_OUT`, `NF_INET_POST_ROUTING`.
pub(super) const LOCAL_IN: u32 = 1;
pub(super) const FORWARD: u32 = 2;
pub(super) const LOCAL_OUT: u32 = 3;
pub(super) const POST_ROUTING: u32 = 4;

/// `NF_DROP`, `NF_ACCEPT`.
pub(super) const DROP: u32 = 0;
pub(super) const ACCEPT: u32 = 1;

pub(super) const TABLE_NAME: u16 = 1;
pub(super) const TABLE_USERDATA: u16 = 6;
pub(super) const CHAIN_TABLE: u16 = 1;
pub(super) const CHAIN_NAME: u16 = 3;
pub(super) const CHAIN_HOOK: u16 = 4;
pub(super) const CHAIN_POLICY: u16 = 5;
pub(super) const CHAIN_TYPE: u16 = 7;
pub(super) const HOOK_NUMBER: u16 = 1;
pub(super) const HOOK_PRIORITY: u16 = 2;
pub(super) const RULE_TABLE: u16 = 1;
pub(super) const RULE_CHAIN: u16 = 2;
pub(super) const RULE_EXPRESSIONS: u16 = 4;
pub(super) const RULE_USERDATA: u16 = 7;
const LIST_ELEMENT: u16 = 1;
const EXPRESSION_NAME: u16 = 1;
const EXPRESSION_DATA: u16 = 2;

/// Attributes, one behind the other.
#[derive(Clone, Debug, Default)]
pub(super) struct Attributes(Vec<u8>);

impl Attributes {
    pub(super) fn bytes(mut self, kind: u16, value: &[u8]) -> Self {
        self.0.extend(with(kind, value));
        self
    }

    pub(super) fn text(self, kind: u16, value: &str) -> Self {
        self.bytes(kind, format!("{value}\0").as_bytes())
    }

    /// Numbers are in network byte order.
    pub(super) fn number(self, kind: u16, value: u32) -> Self {
        self.bytes(kind, &value.to_be_bytes())
    }

    pub(super) fn nested(self, kind: u16, value: &Self) -> Self {
        self.bytes(kind | NESTED, &value.0)
    }

    /// One more expression of a rule.
    pub(super) fn expression(self, name: &str, data: &Self) -> Self {
        let expression = Self::default().text(EXPRESSION_NAME, name).nested(EXPRESSION_DATA, data);
        self.nested(LIST_ELEMENT, &expression)
    }
}

/// A comment, as `nft` keeps it with a table or a rule: kind 0, its length, the text with its zero.
pub(super) fn comment(text: &str) -> Vec<u8> {
    let text = format!("{text}\0");
    [&[0, text.len() as u8], text.as_bytes()].concat()
}

/// A transaction.
pub(super) struct Transaction {
    bytes: Vec<u8>,
    count: u32,
}

impl Transaction {
    pub(super) fn new() -> Self {
        let mut it = Self { bytes: Vec::new(), count: 0 };
        it.put(BATCH_BEGIN, 0, 0, SUBSYSTEM, &[]);
        it
    }

    /// A message of the family `inet`.
    pub(super) fn add(&mut self, kind: Kind, attributes: &Attributes) {
        let flags = if kind == Kind::DelTable { 0 } else { NLM_F_CREATE | NLM_F_APPEND };
        self.put(kind.number(), flags | NLM_F_ACK, INET, 0, &attributes.0);
    }

    fn put(&mut self, kind: u16, flags: u16, family: u8, resource: u16, body: &[u8]) {
        let length = HEADER + GENERIC + body.len();
        let mut bytes = vec![0; HEADER];
        bytes.extend([family, 0]);
        bytes.extend(resource.to_be_bytes());
        bytes.extend(body);
        let mut message = NetlinkBuffer::new(&mut bytes);
        message.set_length(length as u32);
        message.set_message_type(kind);
        message.set_flags(NLM_F_REQUEST | flags);
        message.set_sequence_number(self.count);
        self.count += 1;
        self.bytes.extend(bytes);
    }

    /// Has it happen, in the calling thread's namespace.
    pub(super) fn commit(mut self) -> io::Result<()> {
        self.put(BATCH_END, 0, 0, SUBSYSTEM, &[]);
        let socket = connect(NETLINK_NETFILTER)?;
        socket.send(&self.bytes, 0)?;
        // Each message but the first and the last is acknowledged; what failed may end it earlier.
        let mut left = self.count - 2;
        while left > 0 {
            let bytes = receive(&socket)?;
            for answer in messages(&bytes).filter(|message| message.message_type() == NLMSG_ERROR) {
                check(answer.payload())?;
                left = left.saturating_sub(1);
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::netlink;

    #[test]
    fn attributes_are_read_as_they_were_written() {
        let inner = Attributes::default().number(2, 7);
        let written = Attributes::default().text(1, "gate").nested(4, &inner).0;
        assert_eq!(netlink::attribute(&written, 1).as_deref(), Some(&b"gate\0"[..]));
        let nested = netlink::attribute(&written, 4).unwrap();
        assert_eq!(netlink::attribute(&nested, 2).as_deref(), Some(&7_u32.to_be_bytes()[..]));
        assert_eq!(written.len() % 4, 0);
    }

    #[test]
    fn a_comment_is_one_that_nft_shows() {
        assert_eq!(comment("ab"), [0, 3, b'a', b'b', 0]);
    }
}
