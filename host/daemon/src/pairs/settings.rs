//! What is wrong with a change of a pair, whatever the pair's state.

use netloom_core::{model::PairChange, validate};
use netloom_kernel::devices;

use crate::failure::Failure;

/// What is wrong with a change of a pair, whatever the pair's state.
pub(crate) fn check(change: &PairChange, netkit: bool, ipv6: bool, subject: &str) -> Result<(), Failure> {
    if change.is_empty() {
        return Err(Failure::invalid(anyhow::anyhow!("nothing is to be changed of {subject}"))
            .hint("give an MTU, a GSO or GRO size, or a policy"));
    }
    if !netkit && (change.primary_policy.is_some() || change.peer_policy.is_some()) {
        return Err(Failure::invalid(anyhow::anyhow!("{subject} is on veth, which has no default policies"))
            .hint("only netkit pairs have them: the mode is chosen when the pair is made"));
    }
    if let Some(mtu) = change.mtu {
        devices::check_mtu(subject, mtu, ipv6)?;
    }
    validate::segmentation_sizes(&change.end().segmentation)
        .map_err(|error| Failure::invalid(anyhow::anyhow!("{subject}: {error}")))
}
