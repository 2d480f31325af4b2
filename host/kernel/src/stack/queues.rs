//! Queueing disciplines, which hold packets up, sort them or drop them.

use std::io;

use netloom_core::model::IfIndex;
use rtnetlink::sys::protocols::NETLINK_ROUTE;

use super::Say;
use crate::netlink::{attribute, dump, number, text};

// include/uapi/linux/rtnetlink.h
const NEW_QDISC: u16 = 36;
const GET_QDISC: u16 = 38;
/// Bytes of a `struct tcmsg`.
const HEADER: usize = 20;
const TCA_KIND: u16 = 1;
/// `TC_H_ROOT`, and `TC_H_INGRESS`, which is the parent of clsact as well.
const ROOT: u32 = u32::MAX;
const INGRESS: u32 = 0xffff_fff1;

/// What a device has, by kind.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Queues {
    /// In front of what it sends.
    pub root: Option<String>,
    /// Behind what it receives: `ingress`, or `clsact`.
    pub ingress: Option<String>,
}

/// In the calling thread's namespace.
pub(super) fn look(say: &mut Say) -> io::Result<()> {
    let qdiscs = dump(NETLINK_ROUTE, GET_QDISC, &[0; HEADER])?.unwrap_or_default();
    for message in qdiscs.iter().filter(|message| message.kind == NEW_QDISC) {
        note(say, &message.payload);
    }
    Ok(())
}

fn note(say: &mut Say, payload: &[u8]) -> Option<()> {
    let (header, rest) = payload.split_at_checked(HEADER)?;
    let field = |at: usize| header.get(at..).and_then(number);
    let kind = text(&attribute(rest, TCA_KIND)?);
    let queues = say.queues.entry(IfIndex(field(4)?)).or_default();
    match field(12)? {
        ROOT => queues.root = Some(kind),
        INGRESS => queues.ingress = Some(kind),
        _ => {}
    }
    Some(())
}

/// The qdiscs that a kernel or a distribution gives devices, and those which look at nothing that a packet has from
/// the stack: its priority, and its mark.
const PLAIN: [&str; 13] = [
    "noqueue",
    "pfifo_fast",
    "pfifo",
    "bfifo",
    "pfifo_head_drop",
    "fq",
    "fq_codel",
    "fq_pie",
    "codel",
    "pie",
    "mq",
    "sfq",
    "tbf",
];

/// Whether what a device sends is queued alike whether or not it came through the stack.
#[must_use]
pub fn are_plain(queues: &Queues) -> bool {
    queues.root.as_ref().is_none_or(|kind| PLAIN.contains(&kind.as_str()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::netlink::with;

    fn qdisc(index: u32, parent: u32, kind: &str) -> Vec<u8> {
        let mut bytes = vec![0; HEADER];
        bytes[4..8].copy_from_slice(&index.to_ne_bytes());
        bytes[12..16].copy_from_slice(&parent.to_ne_bytes());
        bytes.extend(with(TCA_KIND, format!("{kind}\0").as_bytes()));
        bytes
    }

    #[test]
    fn the_qdiscs_of_a_device_are_told_apart() {
        let mut say = Say::default();
        for (parent, kind) in [(ROOT, "htb"), (INGRESS, "clsact"), (0x1_0001, "pfifo")] {
            note(&mut say, &qdisc(7, parent, kind));
        }
        let queues = Queues { root: Some("htb".into()), ingress: Some("clsact".into()) };
        assert_eq!(say.queues, [(IfIndex(7), queues.clone())].into());
        assert!(!are_plain(&queues));
        assert!(are_plain(&Queues { root: Some("fq_codel".into()), ingress: None }));
        assert_eq!(note(&mut say, &[0; 7]), None);
    }
}
