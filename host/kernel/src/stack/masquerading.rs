//! Masquerading: what endpoints send to addresses that do not know theirs gets the address of the device by which it
//! leaves the node. It is a table of nftables of our own, made and removed whole.

use std::{io, net::IpAddr};

use ipnet::IpNet;
use rtnetlink::sys::protocols::NETLINK_NETFILTER;

use super::nftables::{
    ACCEPT, Attributes, CHAIN_HOOK, CHAIN_NAME, CHAIN_POLICY, CHAIN_TABLE, CHAIN_TYPE, HOOK_NUMBER,
    HOOK_PRIORITY, INET, IPV4, IPV6, Kind, POST_ROUTING, RULE_CHAIN, RULE_EXPRESSIONS, RULE_TABLE,
    RULE_USERDATA, TABLE_NAME, TABLE_USERDATA, Transaction, comment,
};
use crate::{
    netlink::{attribute, dump, text},
    netns::Netns,
};

/// The one chain.
const CHAIN: &str = "postrouting";
/// `NF_IP_PRI_NAT_SRC`.
const PRIORITY: u32 = 100;

/// What is masqueraded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Masquerading {
    /// The table's name, in the family `inet`.
    pub table: String,
    /// The prefixes that it is from.
    pub from: Vec<IpNet>,
    /// Prefixes that know those: what goes there keeps its address.
    pub native: Vec<IpNet>,
}

/// A table of the name, as it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TableState {
    /// There is none, or the kernel has no nftables.
    Absent,
    /// It is ours, by its comment, and as it has to be.
    Whole,
    /// It is ours, and something else than it has to be.
    Changed,
    /// It is somebody else's.
    Foreign,
}

impl Masquerading {
    /// Whether the table is there. Blocks.
    ///
    /// # Errors
    /// If the namespace cannot be entered, or the kernel does not give a whole answer.
    pub fn state(&self, netns: &Netns) -> io::Result<TableState> {
        netns.run(|| self.state_here()).map_err(io::Error::other)?
    }

    /// Makes the table, in place of one of ours that is another. Blocks.
    ///
    /// # Errors
    /// [`io::ErrorKind::AlreadyExists`] if somebody else has a table of this name; what the kernel says, such as that it
    /// was built without NAT.
    pub fn set(&self, netns: &Netns) -> io::Result<()> {
        let set = netns.run(|| match self.state_here()? {
            TableState::Whole => Ok(()),
            TableState::Foreign => Err(io::Error::new(
                io::ErrorKind::AlreadyExists,
                format!("somebody else has a table inet {}", self.table),
            )),
            state => self.transaction(state == TableState::Changed).commit(),
        });
        set.map_err(io::Error::other)?
    }

    /// Removes the table, if it is ours. Whether it was. Blocks.
    ///
    /// # Errors
    /// As [`Self::state`].
    pub fn remove(&self, netns: &Netns) -> io::Result<bool> {
        let removed = netns.run(|| {
            let ours = matches!(self.state_here()?, TableState::Whole | TableState::Changed);
            if ours {
                let mut transaction = Transaction::new();
                transaction.add(Kind::DelTable, &self.named());
                transaction.commit()?;
            }
            Ok(ours)
        });
        removed.map_err(io::Error::other)?
    }

    fn state_here(&self) -> io::Result<TableState> {
        let tables = self.of_table(Kind::GetTable, Kind::NewTable, TABLE_NAME)?;
        let Some(table) = tables.first() else { return Ok(TableState::Absent) };
        if attribute(table, TABLE_USERDATA) != Some(self.mark()) {
            return Ok(TableState::Foreign);
        }
        let chains = self.of_table(Kind::GetChain, Kind::NewChain, CHAIN_TABLE)?;
        let rules = self.of_table(Kind::GetRule, Kind::NewRule, RULE_TABLE)?;
        let comments = rules.iter().map(|rule| attribute(rule, RULE_USERDATA).unwrap_or_default());
        let wanted = self.rules().into_iter().map(|rule| comment(&rule.what));
        let is_whole = chains.len() == 1 && comments.eq(wanted);
        Ok(if is_whole { TableState::Whole } else { TableState::Changed })
    }

    /// The attributes of what the kernel has of a kind in the table.
    fn of_table(&self, request: Kind, answer: Kind, name: u16) -> io::Result<Vec<Vec<u8>>> {
        let messages = match dump(NETLINK_NETFILTER, request.number(), &[INET, 0, 0, 0]) {
            // A kernel without nftables does not know the question.
            Err(error) if error.raw_os_error() == Some(libc::EINVAL) => Vec::new(),
            messages => messages?.unwrap_or_default(),
        };
        let of_kind = messages.into_iter().filter(|message| message.kind == answer.number());
        let attributes = of_kind.filter_map(|message| match message.payload.split_at_checked(4) {
            Some(([INET, ..], attributes)) => Some(attributes.to_vec()),
            _ => None,
        });
        let is_here = |attributes: &Vec<u8>| {
            attribute(attributes, name).is_some_and(|value| text(&value) == self.table)
        };
        Ok(attributes.filter(is_here).collect())
    }

    /// By which the table is known for ours.
    fn mark(&self) -> Vec<u8> {
        comment(&format!("{}: made by netloomd, which makes it anew where it is changed", self.table))
    }

    fn named(&self) -> Attributes {
        Attributes::default().text(TABLE_NAME, &self.table)
    }

    fn transaction(&self, in_place_of_another: bool) -> Transaction {
        let mut transaction = Transaction::new();
        if in_place_of_another {
            transaction.add(Kind::DelTable, &self.named());
        }
        transaction.add(Kind::NewTable, &self.named().bytes(TABLE_USERDATA, &self.mark()));
        let hook = Attributes::default().number(HOOK_NUMBER, POST_ROUTING).number(HOOK_PRIORITY, PRIORITY);
        let chain = Attributes::default()
            .text(CHAIN_TABLE, &self.table)
            .text(CHAIN_NAME, CHAIN)
            .nested(CHAIN_HOOK, &hook)
            .number(CHAIN_POLICY, ACCEPT)
            .text(CHAIN_TYPE, "nat");
        transaction.add(Kind::NewChain, &chain);
        for rule in self.rules() {
            let rule = Attributes::default()
                .text(RULE_TABLE, &self.table)
                .text(RULE_CHAIN, CHAIN)
                .nested(RULE_EXPRESSIONS, &rule.expressions)
                .bytes(RULE_USERDATA, &comment(&rule.what));
            transaction.add(Kind::NewRule, &rule);
        }
        transaction
    }

    /// First what keeps its address, then the rest.
    fn rules(&self) -> Vec<Rule> {
        let mut rules = Vec::new();
        for from in &self.from {
            let natives =
                self.native.iter().filter(|native| native.addr().is_ipv4() == from.addr().is_ipv4());
            rules.extend(natives.map(|to| {
                Rule {
                    what: format!("{from} to {to} keeps its address"),
                    expressions: address(address(family(*from), Side::Source, *from), Side::Destination, *to)
                        .expression("immediate", &accept()),
                }
            }));
            rules.push(Rule {
                what: format!("{from} is masqueraded"),
                expressions: address(family(*from), Side::Source, *from)
                    .expression("masq", &Attributes::default()),
            });
        }
        rules
    }
}

/// A rule, and what it does in words.
struct Rule {
    what: String,
    expressions: Attributes,
}

/// Which of a packet's addresses.
#[derive(Clone, Copy)]
enum Side {
    Source,
    Destination,
}

// include/uapi/linux/netfilter/nf_tables.h
/// `NFT_REG_VERDICT`, `NFT_REG_1`.
const VERDICT: u32 = 0;
const REGISTER: u32 = 1;
/// `NFT_META_NFPROTO`.
const META_FAMILY: u32 = 15;
/// `NFT_PAYLOAD_NETWORK_HEADER`.
const NETWORK_HEADER: u32 = 1;
/// `NFT_CMP_EQ`.
const EQUAL: u32 = 0;
/// `NFTA_DATA_VALUE`, `NFTA_DATA_VERDICT`.
const VALUE: u16 = 1;
const DATA_VERDICT: u16 = 2;

fn equals(rule: Attributes, value: &[u8]) -> Attributes {
    let data = Attributes::default().bytes(VALUE, value);
    let compared = Attributes::default().number(1, REGISTER).number(2, EQUAL).nested(3, &data);
    rule.expression("cmp", &compared)
}

/// A packet of the family of a prefix.
fn family(of: IpNet) -> Attributes {
    let meta = Attributes::default().number(1, REGISTER).number(2, META_FAMILY);
    let family = if of.addr().is_ipv4() { IPV4 } else { IPV6 };
    equals(Attributes::default().expression("meta", &meta), &[family])
}

/// And one of its addresses in the prefix.
fn address(rule: Attributes, side: Side, prefix: IpNet) -> Attributes {
    let (offset, length) = match (side, prefix.addr().is_ipv4()) {
        (Side::Source, true) => (12, 4),
        (Side::Destination, true) => (16, 4),
        (Side::Source, false) => (8, 16),
        (Side::Destination, false) => (24, 16),
    };
    let payload = Attributes::default()
        .number(1, REGISTER)
        .number(2, NETWORK_HEADER)
        .number(3, offset)
        .number(4, length);
    let octets = |address: IpAddr| match address {
        IpAddr::V4(address) => address.octets().to_vec(),
        IpAddr::V6(address) => address.octets().to_vec(),
    };
    let mask = Attributes::default().bytes(VALUE, &octets(prefix.netmask()));
    let unchanged = Attributes::default().bytes(VALUE, &vec![0; length as usize]);
    let masked = Attributes::default()
        .number(1, REGISTER)
        .number(2, REGISTER)
        .number(3, length)
        .nested(4, &mask)
        .nested(5, &unchanged);
    let rule = rule.expression("payload", &payload).expression("bitwise", &masked);
    equals(rule, &octets(prefix.network()))
}

fn accept() -> Attributes {
    let verdict = Attributes::default().number(1, ACCEPT);
    let data = Attributes::default().nested(DATA_VERDICT, &verdict);
    Attributes::default().number(1, VERDICT).nested(2, &data)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_keeps_its_address_comes_before_what_does_not_in_each_family() {
        let nets = |texts: &[&str]| texts.iter().map(|text| text.parse().unwrap()).collect();
        let it = Masquerading {
            table: "netloom".into(),
            from: nets(&["10.210.0.0/16", "fd6e:6c00::/112"]),
            native: nets(&["10.0.0.0/8", "fd00::/8"]),
        };
        let rules: Vec<String> = it.rules().into_iter().map(|rule| rule.what).collect();
        assert_eq!(
            rules,
            [
                "10.210.0.0/16 to 10.0.0.0/8 keeps its address",
                "10.210.0.0/16 is masqueraded",
                "fd6e:6c00::/112 to fd00::/8 keeps its address",
                "fd6e:6c00::/112 is masqueraded",
            ]
        );
    }
}
