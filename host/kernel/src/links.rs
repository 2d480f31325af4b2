//! Chains of tcx and netkit: query, attach, update, detach, pin.
