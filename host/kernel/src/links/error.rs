use std::{io, path::PathBuf};

use netloom_core::model::{Chain, Hook, HookPoint, LinkId, NetnsId, Support};

use crate::{netns::NetnsError, programs::ProgramError};

/// A chain could not be read or changed.
#[derive(Debug, thiserror::Error)]
pub enum LinkError {
    /// The chain changed since the snapshot.
    #[error("the chain at {hook} changed since it was looked at: look again, decide again")]
    Stale {
        /// Where.
        hook: Hook,
    },
    /// No room.
    #[error("{hook} is full: the kernel takes {} programs on a hook. Detach one first", Chain::MAX_ENTRIES)]
    Full {
        /// Where.
        hook: Hook,
    },
    /// The same program twice.
    #[error("program {program:?} is in the chain of {on} already: load it once more to attach it once more")]
    AlreadyAttached {
        /// The hook or link.
        on: String,
        /// Its name.
        program: String,
    },
    /// The entry to go before or after is gone.
    #[error(
        "the entry to place the program at is no longer in the chain at {hook}: look again, decide again"
    )]
    AnchorGone {
        /// Where.
        hook: Hook,
    },
    /// A placement names no entry.
    #[error("there is no entry {entry} at {hook}: the snapshot has {entries}, numbered from 0")]
    NoSuchEntry {
        /// Where.
        hook: Hook,
        /// The number given.
        entry: u32,
        /// How many there are.
        entries: usize,
    },
    /// A program without a link cannot be replaced by a link.
    #[error(
        "program {program:?} at {hook} has no link to replace it by: place the new one before or after it"
    )]
    NoLink {
        /// Where.
        hook: Hook,
        /// Its name.
        program: String,
    },
    /// The device is gone.
    #[error(
        "the device is gone: no {hook}. Remove what was attached to it, or attach to the device that replaced it"
    )]
    DeviceGone {
        /// Where it was.
        hook: Hook,
    },
    /// The device of a link is gone.
    #[error("link {link} outlived its device: remove its pin, and attach to the device that replaced it")]
    LinkWithoutDevice {
        /// Which.
        link: LinkId,
    },
    /// The kernel has no such hook point.
    #[error("this kernel has no {} for {hook}: {detail}. {}", kind(hook.point), way_out(hook.point))]
    Unsupported {
        /// Where.
        hook: Hook,
        /// What a probe saw.
        detail: String,
    },
    /// Not a netkit device.
    #[error("{hook} does not exist: {} is not a netkit device. Use tcx-ingress or tcx-egress on it", hook.device)]
    NotNetkit {
        /// Where.
        hook: Hook,
    },
    /// The wrong end of a netkit pair.
    #[error(
        "{hook} cannot be reached through the endpoint's end of the netkit pair: use the node's end, the primary, \
         for both netkit-primary and netkit-peer"
    )]
    ViaPeer {
        /// Where.
        hook: Hook,
    },
    /// A capability is missing.
    #[error("{call} on {on} was denied: run as root, or with CAP_BPF, CAP_NET_ADMIN and CAP_SYS_ADMIN")]
    Denied {
        /// The call.
        call: &'static str,
        /// On what.
        on: String,
    },
    /// Not a program that runs on devices.
    #[error(
        "program {program:?} is not a classifier and does not attach to {hook}: load it from a section \"tc\""
    )]
    NotAClassifier {
        /// Where.
        hook: Hook,
        /// Its name.
        program: String,
    },
    /// The link was updated by somebody else.
    #[error("link {link} runs another program than expected: somebody updated it. Look at its chain again")]
    LinkRunsAnother {
        /// Which.
        link: LinkId,
    },
    /// There is no such link.
    #[error("there is no link {link} any more: look at its chain again")]
    LinkGone {
        /// Which.
        link: LinkId,
    },
    /// Something else than a link to a device.
    #[error("what is at {on} is not a tcx or netkit link: remove it, or use another path")]
    NotALink {
        /// Where.
        on: String,
    },
    /// Nothing is pinned there.
    #[error("nothing is pinned at {path}: it was removed, or the machine was booted since")]
    NoPin {
        /// Where.
        path: PathBuf,
    },
    /// A filter of somebody else.
    #[error(
        "the filter with priority {priority} and handle {handle:#x} at {hook} is not ours (it runs program \
         {program}): it was left alone"
    )]
    Foreign {
        /// Where.
        hook: Hook,
        /// Its priority.
        priority: u16,
        /// Its handle.
        handle: u32,
        /// Its program's id; 0 if it has none.
        program: u32,
    },
    /// No priority is free between two filters.
    #[error(
        "no filter priority is free there at {hook}, behind priority {before} and in front of {after}: place the \
         program elsewhere in the chain, or give the other tool's filter another priority"
    )]
    NoPriority {
        /// Where.
        hook: Hook,
        /// Of the filter in front, 0 if none.
        before: u32,
        /// Of the filter behind, 65536 if none.
        after: u32,
    },
    /// An ingress qdisc has no egress side.
    #[error(
        "{hook} needs a clsact qdisc, and the device has an ingress qdisc of another tool: replace it by \
         `tc qdisc replace dev {} clsact`, which takes the same filters",
        hook.device
    )]
    IngressQdisc {
        /// Where.
        hook: Hook,
    },
    /// Its filters are not the device's own.
    #[error(
        "the filters of {hook} are in a block that several devices share, by which the tool that made it manages \
         them: attach to tcx-ingress or tcx-egress"
    )]
    SharedBlock {
        /// Where.
        hook: Hook,
    },
    /// Another namespace was given than the hook's.
    #[error("{hook} was looked for in {given}: give the hook's own namespace")]
    OtherNetns {
        /// Where.
        hook: Hook,
        /// What was given.
        given: NetnsId,
    },
    /// The namespace cannot be entered.
    #[error(transparent)]
    Netns(#[from] NetnsError),
    /// The program cannot be opened, or nothing pinned.
    #[error(transparent)]
    Program(#[from] ProgramError),
    /// Anything else.
    #[error("{call} on {on} failed")]
    Sys {
        /// The call.
        call: &'static str,
        /// On what.
        on: String,
        /// What the kernel said.
        source: io::Error,
    },
}

impl LinkError {
    /// What an errno of a command on a hook of links means; `probe` tells whether this kernel has a hook point.
    pub(crate) fn kernel(
        hook: &Hook,
        call: &'static str,
        source: io::Error,
        probe: impl FnOnce(HookPoint) -> Support,
    ) -> Self {
        let hook = hook.clone();
        match source.raw_os_error() {
            Some(libc::ESTALE) => Self::Stale { hook },
            Some(libc::ERANGE) => Self::Full { hook },
            Some(libc::ENODEV | libc::ENOLINK) => Self::DeviceGone { hook },
            Some(libc::ENXIO) if hook.point.is_netkit() => Self::NotNetkit { hook },
            Some(libc::EACCES) if hook.point.is_netkit() => Self::ViaPeer { hook },
            // A kernel without a hook point says EINVAL, as it does to a bad argument.
            Some(libc::EINVAL) => {
                let support = probe(hook.point);
                if support.available {
                    Self::sys(call, hook.to_string(), source)
                } else {
                    Self::Unsupported { hook, detail: support.detail }
                }
            }
            _ => Self::sys(call, hook.to_string(), source),
        }
    }

    pub(crate) fn sys(call: &'static str, on: String, source: io::Error) -> Self {
        match source.raw_os_error() {
            Some(libc::EPERM) => Self::Denied { call, on },
            _ => Self::Sys { call, on, source },
        }
    }
}

fn kind(point: HookPoint) -> &'static str {
    match point {
        HookPoint::TcxIngress | HookPoint::TcxEgress => "tcx (Linux 6.6)",
        HookPoint::NetkitPrimary | HookPoint::NetkitPeer => "netkit (Linux 6.7, CONFIG_NETKIT)",
        HookPoint::TcIngress | HookPoint::TcEgress => {
            "clsact (CONFIG_NET_SCH_INGRESS and CONFIG_NET_CLS_BPF)"
        }
    }
}

fn way_out(point: HookPoint) -> &'static str {
    match point {
        HookPoint::TcxIngress | HookPoint::TcxEgress => "Use tc-ingress or tc-egress",
        HookPoint::NetkitPrimary | HookPoint::NetkitPeer => "Use a veth device",
        HookPoint::TcIngress | HookPoint::TcEgress => "Use tcx-ingress or tcx-egress",
    }
}

#[cfg(test)]
mod tests {
    use netloom_core::model::IfIndex;

    use super::*;

    fn hook(point: HookPoint) -> Hook {
        Hook { netns: NetnsId { device: 4, inode: 1 }, device: "eth0".into(), ifindex: IfIndex(2), point }
    }

    fn of(point: HookPoint, errno: i32) -> LinkError {
        let lacking = |_| Support { available: false, detail: "none".to_owned() };
        LinkError::kernel(&hook(point), "a call", io::Error::from_raw_os_error(errno), lacking)
    }

    #[test]
    fn what_the_kernel_says_of_a_hook_is_named() {
        let (tcx, netkit) = (HookPoint::TcxIngress, HookPoint::NetkitPeer);
        assert!(matches!(of(tcx, libc::ESTALE), LinkError::Stale { .. }));
        assert!(matches!(of(tcx, libc::ERANGE), LinkError::Full { .. }));
        for errno in [libc::ENODEV, libc::ENOLINK] {
            assert!(matches!(of(tcx, errno), LinkError::DeviceGone { .. }));
        }
        assert!(matches!(of(tcx, libc::EPERM), LinkError::Denied { .. }));
        assert!(matches!(of(netkit, libc::ENXIO), LinkError::NotNetkit { .. }));
        assert!(matches!(of(netkit, libc::EACCES), LinkError::ViaPeer { .. }));
        assert!(matches!(of(tcx, libc::EINVAL), LinkError::Unsupported { .. }));
        for errno in [libc::ENXIO, libc::EACCES, libc::ENOMEM] {
            assert!(matches!(of(tcx, errno), LinkError::Sys { .. }));
        }
    }

    #[test]
    fn a_hook_that_the_kernel_has_not_is_named_with_another_way() {
        let text = |point| LinkError::Unsupported { hook: hook(point), detail: "none".into() }.to_string();
        for (point, kind, way_out) in [
            (HookPoint::TcxEgress, "no tcx (Linux 6.6)", "Use tc-ingress or tc-egress"),
            (HookPoint::NetkitPeer, "no netkit (Linux 6.7", "Use a veth device"),
            (HookPoint::TcIngress, "no clsact", "Use tcx-ingress or tcx-egress"),
        ] {
            let text = text(point);
            assert!(text.contains(kind) && text.ends_with(way_out), "{text}");
        }
    }
}
