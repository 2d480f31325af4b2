//! IPsec: a policy has a say in every packet that it selects, and which those are only the kernel knows.

use std::io;

use rtnetlink::sys::protocols::NETLINK_XFRM;

use super::Say;
use crate::netlink::{Message, dump};

// include/uapi/linux/xfrm.h
const NEW_POLICY: u16 = 0x13;
const GET_POLICY: u16 = 0x15;
/// Bytes of a `struct xfrm_userpolicy_id`, and of its `struct xfrm_selector`.
const POLICY_ID: usize = 64;
const SELECTOR: usize = 56;
/// Where a `struct xfrm_userpolicy_info` has its direction: behind selector, lifetimes, priority and index.
const DIRECTION: usize = SELECTOR + 64 + 32 + 8;

/// In the calling thread's namespace.
pub(super) fn look(say: &mut Say) -> io::Result<()> {
    let policies = dump(NETLINK_XFRM, GET_POLICY, &[0; POLICY_ID])?.unwrap_or_default();
    if let Some(what) = policies.iter().find_map(policy) {
        Say::note(&mut say.packets, || what.to_owned());
    }
    Ok(())
}

/// What a policy is, unless it is of a single socket.
fn policy(message: &Message) -> Option<&'static str> {
    if message.kind != NEW_POLICY {
        return None;
    }
    match message.payload.get(DIRECTION).copied() {
        Some(0) => Some("an IPsec policy for what comes in"),
        Some(1) => Some("an IPsec policy for what goes out"),
        Some(2) => Some("an IPsec policy for what is forwarded"),
        // XFRM_POLICY_MAX and more: a socket's own.
        Some(_) => None,
        None => Some("an IPsec policy"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn policies_of_sockets_are_told_from_others() {
        let of = |direction: u8| {
            let mut payload = vec![0; DIRECTION + 8];
            payload[DIRECTION] = direction;
            policy(&Message { kind: NEW_POLICY, payload })
        };
        assert_eq!(of(1), Some("an IPsec policy for what goes out"));
        assert_eq!(of(2), Some("an IPsec policy for what is forwarded"));
        assert_eq!(of(3), None);
        let cut = Message { kind: NEW_POLICY, payload: Vec::new() };
        assert_eq!(policy(&cut), Some("an IPsec policy"), "when in doubt, yes");
        assert_eq!(policy(&Message { kind: 1, payload: Vec::new() }), None);
    }
}
