//! What a namespace's network stack does to the packets that it forwards, beyond sending them where its routes say:
//! whoever sends packets past it has to know.
//!
//! nftables, the older iptables and IPVS (`netfilter`), IPsec policies (`xfrm`), routing rules (`rules`), sysctls
//! (`sysctls`) and qdiscs (`queues`) are asked for over netlink, and [`Changes`] are its
//! announcements of them. [`Masquerading`] is a table of nftables of our own.

mod changes;
mod masquerading;
mod netfilter;
mod nftables;
mod queues;
mod rules;
mod sysctls;
mod xfrm;

use std::{collections::BTreeMap, io};

use ipnet::IpNet;
use netloom_core::model::IfIndex;

pub use self::{
    changes::{Change, Changes},
    masquerading::{Masquerading, TableState},
    queues::{Queues, are_plain},
};
use crate::netns::Netns;

/// What a namespace's stack has a say in. Each is the first thing that was found, in words.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Say {
    /// In each packet that is forwarded.
    pub packets: Option<String>,
    /// In where a flow goes and comes from, once and for all when it begins: it translates addresses.
    pub flows: Option<String>,
    /// In what goes from one of the prefixes asked about to another.
    pub local: Option<String>,
    /// In what goes to or comes from elsewhere.
    pub outside: Option<String>,
    /// In what a sender of several addresses sends to elsewhere: it depends on which of them it sends from.
    pub sources: bool,
    /// In what devices send or receive.
    pub queues: BTreeMap<IfIndex, Queues>,
    /// What drops packets that nobody lets be forwarded.
    pub refusals: Vec<Refusal>,
}

/// A base chain of nftables that drops what no rule of it lets be forwarded.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Refusal {
    /// As `nft` calls it: `inet`, `ip` or `ip6`.
    pub family: String,
    /// The table's name.
    pub table: String,
    /// The chain's name.
    pub chain: String,
}

impl Say {
    fn note(field: &mut Option<String>, what: impl FnOnce() -> String) {
        field.get_or_insert_with(what);
    }
}

/// Asks the kernel. `local` are the prefixes between whose addresses packets go past the stack, `uplinks` the names of
/// the devices to elsewhere; `own_table` is a table of nftables in the family `inet` that says nothing new to whoever
/// asks. Blocks for some milliseconds.
///
/// # Errors
/// If the namespace cannot be entered, or the kernel does not give a whole answer.
pub fn look(netns: &Netns, local: &[IpNet], uplinks: &[String], own_table: Option<&str>) -> io::Result<Say> {
    let looked = netns.run(|| {
        let mut say = Say::default();
        netfilter::look(&mut say, own_table)?;
        xfrm::look(&mut say)?;
        rules::look(&mut say, local)?;
        sysctls::look(&mut say, uplinks)?;
        queues::look(&mut say)?;
        Ok(say)
    });
    looked.map_err(io::Error::other)?
}

/// What tells of changes that the kernel announces to nobody: equal as long as nothing has changed. Takes some tens of
/// microseconds.
///
/// # Errors
/// If the namespace cannot be entered.
pub fn unannounced(netns: &Netns) -> io::Result<String> {
    netns.run(netfilter::unannounced).map_err(io::Error::other)
}
