//! What this kernel can do, found by trying it on the loopback device of a network namespace that nobody else sees
//! and that is gone afterwards.

use std::{io, os::fd::AsFd};

use netloom_core::model::{Hook, HookPoint, IfIndex, Placement, Support};
use netloom_sys::bpf::{self, AttachType, Position};

use super::{LinkError, tc};
use crate::{
    netns::{Netns, NetnsError},
    programs::Program,
};

/// The loopback device is the first of each namespace.
const LOOPBACK: IfIndex = IfIndex(1);

/// Whether tcx links can be made.
#[must_use]
pub fn probe_tcx() -> Support {
    match link_create(AttachType::TCX_INGRESS) {
        Ok(Ok(())) => there("a tcx link was made"),
        other => missing(other),
    }
}

/// Whether netkit links can be made. No netkit device is needed: the kernel refuses any other device with an errno
/// of its own, after it has found the hook point.
#[must_use]
pub fn probe_netkit_links() -> Support {
    match link_create(AttachType::NETKIT_PRIMARY) {
        Ok(Ok(())) => there("a netkit link was made"),
        Ok(Err(error)) if error.raw_os_error() == Some(libc::ENXIO) => {
            there("BPF_LINK_CREATE asks for a netkit device")
        }
        other => missing(other),
    }
}

/// Whether clsact and direct-action filters can be made.
#[must_use]
pub fn probe_legacy_tc() -> Support {
    match legacy_tc() {
        Ok(()) => there("a direct-action filter was made"),
        Err(error) => Support { available: false, detail: with_cause(&error) },
    }
}

/// Whether cgroup links take positions. Nothing is attached: the kernel says that the cgroup is none, or before that
/// it does not know the flag.
#[must_use]
pub fn probe_cgroup_order() -> Support {
    let program = match bpf::load_connect("netloom_probe") {
        Ok(program) => program,
        Err(error) => return Support { available: false, detail: format!("BPF_PROG_LOAD: {error}") },
    };
    let errno = |before| {
        let hook = AttachType::CGROUP_INET4_CONNECT;
        bpf::cgroup_link_nowhere(program.as_fd(), hook, before).err().and_then(|error| error.raw_os_error())
    };
    match (errno(true), errno(false)) {
        (Some(libc::EBADF), Some(libc::EINVAL)) => {
            there("BPF_LINK_CREATE knows positions, and asks for a cgroup")
        }
        (before, unknown) => Support {
            available: false,
            detail: format!(
                "BPF_LINK_CREATE: error {before:?} to a position, {unknown:?} to an unknown flag"
            ),
        },
    }
}

/// The probe for a hook point of links.
pub(super) fn of(point: HookPoint) -> Support {
    if point.is_netkit() { probe_netkit_links() } else { probe_tcx() }
}

fn link_create(attach_type: AttachType) -> Result<io::Result<()>, NetnsError> {
    Netns::create()?.run(|| {
        let program = bpf::load_next("netloom_probe")?;
        bpf::link_create(program.as_fd(), LOOPBACK.0, attach_type, Position::Tail, None).map(drop)
    })
}

fn legacy_tc() -> Result<(), LinkError> {
    let netns = Netns::create()?;
    let hook =
        Hook { netns: netns.id(), device: "lo".to_owned(), ifindex: LOOPBACK, point: HookPoint::TcIngress };
    let program = bpf::load_next("netloom_probe")
        .map_err(|source| LinkError::sys(bpf::command::PROG_LOAD, hook.to_string(), source))?;
    let program = Program::from_fd(program)?;
    tc::attach(&tc::query(&hook, &netns)?, &netns, &program, Placement::Tail).map(drop)
}

fn there(seen: &str) -> Support {
    Support { available: true, detail: seen.to_owned() }
}

fn missing(outcome: Result<io::Result<()>, NetnsError>) -> Support {
    let detail = match outcome {
        Ok(Ok(())) => "it worked".to_owned(),
        Ok(Err(error)) => format!("BPF_LINK_CREATE: {error}"),
        Err(error) => with_cause(&error),
    };
    Support { available: false, detail }
}

fn with_cause(error: &dyn std::error::Error) -> String {
    match error.source() {
        Some(cause) => format!("{error}: {cause}"),
        None => error.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_missing_is_told_with_its_cause() {
        let error = LinkError::sys("a call", "a hook".into(), io::Error::from_raw_os_error(libc::ENOMEM));
        let text = with_cause(&error);
        assert!(text.starts_with("a call on a hook failed: ") && text.contains("memory"), "{text}");
        let error = LinkError::Denied { call: "a call", on: "a hook".into() };
        assert_eq!(with_cause(&error), error.to_string());
    }
}
