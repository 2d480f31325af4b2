//! Routing rules. Those that look at addresses alone are followed by whoever asks the kernel for the way, which nobody
//! does between endpoints, nor for what comes in for them; of others nobody but the stack knows to which packets they
//! apply.

use std::{io, net::IpAddr};

use ipnet::IpNet;
use rtnetlink::sys::protocols::NETLINK_ROUTE;

use super::Say;
use crate::netlink::{attributes, dump, number};

// include/uapi/linux/fib_rules.h
const NEW_RULE: u16 = 32;
const GET_RULE: u16 = 34;
/// Bytes of a `struct fib_rule_hdr`.
const HEADER: usize = 12;
const FRA_DST: u16 = 1;
const FRA_SRC: u16 = 2;
const FRA_PRIORITY: u16 = 6;
const FRA_SUPPRESS_IFGROUP: u16 = 13;
const FRA_SUPPRESS_PREFIXLEN: u16 = 14;
const FRA_TABLE: u16 = 15;
const FRA_PAD: u16 = 18;
const FRA_PROTOCOL: u16 = 21;
/// `FIB_RULE_INVERT`.
const INVERT: u32 = 2;
/// `FR_ACT_TO_TBL`.
const TO_TABLE: u8 = 1;

/// The rules that the kernel makes: priority and table.
const STANDARD: [(u32, u32); 3] = [(0, 255), (32766, 254), (32767, 253)];

/// In the calling thread's namespace. `local` are the prefixes between whose addresses packets go past the stack.
pub(super) fn look(say: &mut Say, local: &[IpNet]) -> io::Result<()> {
    for family in [libc::AF_INET as u8, libc::AF_INET6 as u8] {
        let mut body = [0; HEADER];
        body[0] = family;
        let rules = dump(NETLINK_ROUTE, GET_RULE, &body)?.unwrap_or_default();
        for rule in rules.iter().filter(|message| message.kind == NEW_RULE) {
            note(say, &rule.payload, local);
        }
    }
    Ok(())
}

fn note(say: &mut Say, payload: &[u8], local: &[IpNet]) {
    let Some(rule) = Rule::read(payload) else {
        return Say::note(&mut say.packets, || "a routing rule that is not understood".to_owned());
    };
    if rule.is_standard() {
        return;
    }
    let named = format!("the routing rule {}", rule.priority);
    if rule.looks_further {
        Say::note(&mut say.packets, || format!("{named} looks at more than addresses"));
    }
    say.sources |= rule.from.is_some();
    let may_be_local = |prefix: Option<IpNet>| prefix.is_none_or(|prefix| meets(prefix, local));
    if rule.inverted || (may_be_local(rule.from) && may_be_local(rule.to)) {
        Say::note(&mut say.local, || named.clone());
    }
    let is_local = |prefix: IpNet| local.iter().any(|other| other.contains(&prefix));
    if rule.inverted || (may_be_local(rule.to) && !rule.from.is_some_and(is_local)) {
        Say::note(&mut say.outside, || format!("{named} looks at what comes in for endpoints"));
    }
}

/// Whether two prefixes have an address in common.
fn meets(prefix: IpNet, others: &[IpNet]) -> bool {
    others.iter().any(|other| prefix.contains(&other.network()) || other.contains(&prefix.network()))
}

#[derive(Debug, Default, PartialEq, Eq)]
struct Rule {
    priority: u32,
    table: u32,
    from: Option<IpNet>,
    to: Option<IpNet>,
    inverted: bool,
    /// It looks at something beside the addresses, or does something else than look a table up.
    looks_further: bool,
}

impl Rule {
    fn is_standard(&self) -> bool {
        let plain = Self { priority: self.priority, table: self.table, ..Self::default() };
        *self == plain && STANDARD.contains(&(self.priority, self.table))
    }

    fn read(payload: &[u8]) -> Option<Self> {
        let header = payload.first_chunk::<HEADER>()?;
        let [family, to_length, from_length, tos, table, _, _, action, flags @ ..] = *header;
        let flags = u32::from_ne_bytes(flags);
        let mut rule = Self {
            table: table.into(),
            inverted: flags & INVERT != 0,
            looks_further: tos != 0 || action != TO_TABLE,
            ..Self::default()
        };
        for (kind, value) in attributes(payload.get(HEADER..)?) {
            match kind {
                FRA_DST => rule.to = Some(prefix(family, &value, to_length)?),
                FRA_SRC => rule.from = Some(prefix(family, &value, from_length)?),
                FRA_PRIORITY => rule.priority = number(&value)?,
                FRA_TABLE => rule.table = number(&value)?,
                // -1 stands for none.
                FRA_SUPPRESS_IFGROUP | FRA_SUPPRESS_PREFIXLEN => {
                    rule.looks_further |= number(&value)? != u32::MAX;
                }
                FRA_PAD | FRA_PROTOCOL => {}
                _ => rule.looks_further = true,
            }
        }
        Some(rule)
    }
}

fn prefix(family: u8, value: &[u8], length: u8) -> Option<IpNet> {
    let address: IpAddr = if family == libc::AF_INET as u8 {
        (*value.first_chunk::<4>()?).into()
    } else {
        (*value.first_chunk::<16>()?).into()
    };
    IpNet::new(address, length).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::netlink::with;

    /// A rule of IPv4.
    fn rule(to_length: u8, from_length: u8, more: &[(u16, Vec<u8>)]) -> Vec<u8> {
        let mut bytes = vec![libc::AF_INET as u8, to_length, from_length, 0, 254, 0, 0, TO_TABLE, 0, 0, 0, 0];
        for (kind, value) in more {
            bytes.extend(with(*kind, value));
        }
        bytes
    }

    fn priority(value: u32) -> (u16, Vec<u8>) {
        (FRA_PRIORITY, value.to_ne_bytes().into())
    }

    fn looked(payload: &[u8]) -> Say {
        let mut say = Say::default();
        note(&mut say, payload, &["10.210.0.0/16".parse().unwrap()]);
        say
    }

    #[test]
    fn the_rules_that_each_namespace_has_say_nothing() {
        let suppress = (FRA_SUPPRESS_PREFIXLEN, u32::MAX.to_ne_bytes().to_vec());
        assert_eq!(looked(&rule(0, 0, &[priority(32766), suppress])), Say::default());
        let elsewhere = looked(&rule(0, 0, &[priority(100)]));
        assert_eq!(elsewhere.local.as_deref(), Some("the routing rule 100"));
        assert_eq!(elsewhere.packets, None, "the kernel follows it when it is asked for a way");
    }

    #[test]
    fn rules_by_addresses_concern_what_has_these_addresses() {
        let from = |address: [u8; 4]| rule(0, 16, &[priority(100), (FRA_SRC, address.into())]);
        let other = looked(&from([192, 168, 0, 0]));
        assert_eq!((other.local, other.packets, other.sources), (None, None, true));
        let comes_in = "the routing rule 100 looks at what comes in for endpoints";
        assert_eq!(other.outside.as_deref(), Some(comes_in));
        let pool = looked(&from([10, 210, 0, 0]));
        assert_eq!(pool.local.as_deref(), Some("the routing rule 100"));
        assert_eq!(pool.outside, None, "nothing comes in from there");
        let to = |address: [u8; 4]| looked(&rule(16, 0, &[priority(100), (FRA_DST, address.into())]));
        assert_eq!(to([10, 210, 0, 0]).outside.as_deref(), Some(comes_in));
        assert_eq!(to([192, 168, 0, 0]), Say::default());
        let mut inverted = from([192, 168, 0, 0]);
        inverted[8..12].copy_from_slice(&INVERT.to_ne_bytes());
        assert!(looked(&inverted).local.is_some());
    }

    #[test]
    fn rules_by_anything_else_concern_every_packet() {
        // FRA_IIFNAME, FRA_FWMARK, FRA_L3MDEV, FRA_IP_PROTO, and one that is not there yet.
        for kind in [3, 10, 19, 22, 200] {
            let say = looked(&rule(0, 0, &[priority(100), (kind, vec![1, 0, 0, 0])]));
            assert_eq!(say.packets.as_deref(), Some("the routing rule 100 looks at more than addresses"));
        }
        let mut by_tos = rule(0, 0, &[priority(100)]);
        by_tos[3] = 0x10;
        assert!(looked(&by_tos).packets.is_some());
        assert!(looked(&[0; 5]).packets.is_some(), "when in doubt, yes");
    }
}
