//! Chains on devices, through one interface for tcx, netkit and legacy tc: query, attach, update, detach, pin.
//!
//! A change is always made against a snapshot. tcx and netkit check its revision in the kernel; legacy tc has no
//! revision, so there the chain is read again just before the change and compared.
//!
//! - `link`: one tcx or netkit link
//! - `error`: what can go wrong, and the way out
//! - `gates`: moving a program without a packet missing it or meeting it twice
//! - `probe`: what this kernel can do
//! - `shadow`: programs that no packet reaches
//! - `tc`: filters on legacy tc
//! - `verdict`: what a program answers, as far as its instructions tell

mod error;
mod gates;
mod link;
mod probe;
mod shadow;
mod tc;
mod verdict;

use std::{io, os::fd::AsFd};

use netloom_core::model::{
    Chain, ChainEntry, EntryId, Hook, HookPoint, Labels, LinkId, Placement, ProgramId, Revision,
};
use netloom_sys::bpf::{self, AttachType, Position, Relative};

use crate::{netns::Netns, programs::Program};

pub use self::{
    error::LinkError,
    gates::{GATE_PREFIX, GateError, Gates, TURN, repin, wait_for_packets},
    link::{Link, LinkInfo, unpin},
    probe::{probe_cgroup_order, probe_legacy_tc, probe_netkit_links, probe_tcx},
    shadow::{Shadow, shadows},
    verdict::{Verdict, verdict},
};

/// A program of ours on a hook.
#[derive(Debug)]
pub enum Attached {
    /// By a tcx or netkit link. Unless it is pinned, the program leaves the chain when this is dropped.
    Link(Link),
    /// By a filter on legacy tc, which stays until it is detached.
    Filter {
        /// The filter's priority.
        priority: u16,
        /// Its handle.
        handle: u32,
    },
}

impl Attached {
    /// The kernel's link id; none on legacy tc.
    #[must_use]
    pub fn link_id(&self) -> Option<LinkId> {
        match self {
            Self::Link(link) => Some(link.id()),
            Self::Filter { .. } => None,
        }
    }

    /// The filter's priority and handle on legacy tc.
    #[must_use]
    pub fn filter(&self) -> Option<(u16, u32)> {
        match self {
            Self::Link(_) => None,
            Self::Filter { priority, handle } => Some((*priority, *handle)),
        }
    }

    /// Puts another program in the place of the one that runs there, in the same position; no packet misses both.
    ///
    /// # Errors
    /// [`LinkError::Stale`] if another program than `old` runs there, [`LinkError::AlreadyAttached`],
    /// [`LinkError::DeviceGone`].
    pub fn update(&self, hook: &Hook, netns: &Netns, new: &Program, old: ProgramId) -> Result<(), LinkError> {
        match self {
            Self::Link(link) => link.update(new, old),
            Self::Filter { priority, handle } => tc::replace(hook, netns, (*priority, *handle), new, old),
        }
    }

    /// Takes the program out of its chain. It having gone already, or its device, is no error.
    ///
    /// # Errors
    /// [`LinkError::Foreign`] if the filter there runs another program than `program`.
    pub fn detach(&self, hook: &Hook, netns: &Netns, program: ProgramId) -> Result<(), LinkError> {
        match self {
            Self::Link(link) => link.detach(),
            Self::Filter { priority, handle } => tc::delete(hook, netns, (*priority, *handle), program),
        }
    }
}

/// Reads a chain. What only records know (attachment, owner, priority, labels) is left empty.
///
/// # Errors
/// [`LinkError::DeviceGone`], [`LinkError::Unsupported`], [`LinkError::NotNetkit`], [`LinkError::ViaPeer`],
/// [`LinkError::Denied`].
pub fn query(hook: &Hook, netns: &Netns) -> Result<Chain, LinkError> {
    check_netns(hook, netns)?;
    let Some(attach_type) = attach_type(hook.point) else {
        return tc::query(hook, netns);
    };
    let ifindex = hook.ifindex.0;
    // A program may go between being listed and being described: then the list is out of date.
    for _ in 0..4 {
        let query = netns
            .run(|| bpf::prog_query(ifindex, attach_type))?
            .map_err(|source| LinkError::kernel(hook, bpf::command::PROG_QUERY, source, probe::of))?;
        let entries: Option<Vec<_>> = query.entries.into_iter().map(describe).collect();
        if let Some(entries) = entries {
            return Ok(Chain { hook: hook.clone(), revision: Revision(query.revision), entries });
        }
    }
    Err(LinkError::Stale { hook: hook.clone() })
}

/// The filters of legacy tc at a hook that run none of some programs, in words. None where there is no qdisc for them.
///
/// # Errors
/// [`LinkError::DeviceGone`], [`LinkError::Unsupported`], [`LinkError::Denied`].
pub fn filters_beside(hook: &Hook, netns: &Netns, programs: &[ProgramId]) -> Result<Vec<String>, LinkError> {
    let is_other = |filter: &tc::AnyFilter| filter.program.is_none_or(|program| !programs.contains(&program));
    Ok(tc::filters(hook, netns)?.into_iter().filter(is_other).map(|filter| filter.name).collect())
}

/// The revisions of chains, all of them in one namespace: a cheap way to see that nothing has changed. None for a
/// chain that cannot be read, because its device is gone or was moved, and for those of legacy tc, which have none.
///
/// # Errors
/// [`LinkError::Netns`] if the namespace cannot be entered.
pub fn revisions(netns: &Netns, hooks: &[Hook]) -> Result<Vec<Option<Revision>>, LinkError> {
    Ok(netns.run(|| {
        let revision = |hook: &Hook| {
            let (revision, _) = bpf::prog_query_revision(hook.ifindex.0, attach_type(hook.point)?).ok()?;
            Some(Revision(revision))
        };
        hooks.iter().map(revision).collect()
    })?)
}

/// Attaches a program in a chain as it was when the snapshot was taken.
///
/// To replace an entry is to update its link or filter, so the caller must own it; the answer is that link, with
/// the same id and position, or that filter.
///
/// # Errors
/// [`LinkError`].
pub fn attach(
    chain: &Chain,
    netns: &Netns,
    program: &Program,
    placement: Placement,
) -> Result<Attached, LinkError> {
    let hook = &chain.hook;
    check_netns(hook, netns)?;
    if !program.is_classifier() {
        return Err(LinkError::NotAClassifier { hook: hook.clone(), program: program.name().to_owned() });
    }
    let Some(attach_type) = attach_type(hook.point) else {
        return tc::attach(chain, netns, program, placement);
    };
    let position = match placement {
        Placement::Head => Position::Head,
        Placement::Tail => Position::Tail,
        Placement::Before(id) => Position::Before(relative(entry(chain, id)?)),
        Placement::After(id) => Position::After(relative(entry(chain, id)?)),
        Placement::Replace(id) => {
            return replace(chain, netns, program, entry(chain, id)?).map(Attached::Link);
        }
    };
    let ifindex = hook.ifindex.0;
    let revision = Some(chain.revision.0);
    let create =
        |revision| netns.run(|| bpf::link_create(program.fd(), ifindex, attach_type, position, revision));
    let mut created = create(revision)?;
    // The kernel gives an emptied netkit chain revision 1 in a query, but compares with the count that went on.
    let stale = |error: &io::Error| error.raw_os_error() == Some(libc::ESTALE);
    if hook.point.is_netkit() && chain.entries.is_empty() && created.as_ref().is_err_and(stale) {
        let now = query(hook, netns)?;
        if now.entries.is_empty() && now.revision == chain.revision {
            created = create(None)?;
        }
    }
    let fd = created.map_err(|source| match source.raw_os_error() {
        Some(libc::EEXIST) => {
            LinkError::AlreadyAttached { on: hook.to_string(), program: program.name().to_owned() }
        }
        Some(libc::ENOENT) => LinkError::AnchorGone { hook: hook.clone() },
        _ => LinkError::kernel(hook, bpf::command::LINK_CREATE, source, probe::of),
    })?;
    Link::from_fd(fd).map(Attached::Link)
}

/// Attaches a program to legacy tc at a priority that no filter there has.
///
/// # Errors
/// [`LinkError::Stale`] if the chain is another than in the snapshot, or a filter has the priority; else as
/// [`attach`].
pub fn attach_filter(
    chain: &Chain,
    netns: &Netns,
    program: &Program,
    priority: u16,
) -> Result<Attached, LinkError> {
    check_netns(&chain.hook, netns)?;
    tc::attach_at(chain, netns, program, priority)
}

/// How to make room where [`attach`] found no priority free on legacy tc: which entries of ours (those with an
/// attachment) are to get which priority, one after the other. None of them passes another filter on its way.
///
/// # Errors
/// [`LinkError::NoPriority`] if the filters of others leave no room; [`LinkError::Stale`].
pub fn spread(chain: &Chain, netns: &Netns, placement: Placement) -> Result<Vec<(EntryId, u16)>, LinkError> {
    check_netns(&chain.hook, netns)?;
    tc::spread(chain, netns, placement)
}

/// A link cannot be created in the place of another entry (mprog takes BPF_F_REPLACE only from programs without a
/// link), but the entry's own link can be given another program.
fn replace(chain: &Chain, netns: &Netns, program: &Program, entry: &ChainEntry) -> Result<Link, LinkError> {
    let hook = &chain.hook;
    let Some(id) = entry.link else {
        return Err(LinkError::NoLink { hook: hook.clone(), program: entry.name.clone() });
    };
    if query(hook, netns)?.revision != chain.revision {
        return Err(LinkError::Stale { hook: hook.clone() });
    }
    let link = Link::from_id(id)?;
    match link.update(program, entry.program) {
        Ok(()) => Ok(link),
        Err(LinkError::AlreadyAttached { program, .. }) => {
            Err(LinkError::AlreadyAttached { on: hook.to_string(), program })
        }
        Err(LinkError::LinkRunsAnother { .. }) => Err(LinkError::Stale { hook: hook.clone() }),
        Err(error) => Err(error),
    }
}

pub(crate) fn entry(chain: &Chain, id: EntryId) -> Result<&ChainEntry, LinkError> {
    chain.entry(id).ok_or_else(|| LinkError::NoSuchEntry {
        hook: chain.hook.clone(),
        entry: id.0,
        entries: chain.entries.len(),
    })
}

fn relative(entry: &ChainEntry) -> Relative<'static> {
    match entry.link {
        Some(id) => Relative::LinkId(id.0),
        None => Relative::ProgramId(entry.program.0),
    }
}

/// None if the program has gone.
fn describe(entry: bpf::QueryEntry) -> Option<ChainEntry> {
    let (name, tag) = name_and_tag(ProgramId(entry.program)).ok()?;
    Some(ChainEntry {
        program: ProgramId(entry.program),
        link: entry.link.map(LinkId),
        name,
        tag,
        filter: None,
        attachment: None,
        owner: None,
        priority: None,
        labels: Labels::new(),
    })
}

pub(crate) fn name_and_tag(program: ProgramId) -> io::Result<(String, String)> {
    let fd = bpf::program_by_id(program.0)?;
    let info = bpf::program_info(fd.as_fd())?;
    let tag = info.tag_hex();
    Ok((info.name, tag))
}

fn check_netns(hook: &Hook, netns: &Netns) -> Result<(), LinkError> {
    // The same index is another device elsewhere: better no change than one there.
    if hook.netns == netns.id() {
        Ok(())
    } else {
        Err(LinkError::OtherNetns { hook: hook.clone(), given: netns.id() })
    }
}

/// None for legacy tc.
pub(crate) fn attach_type(point: HookPoint) -> Option<AttachType> {
    match point {
        HookPoint::TcxIngress => Some(AttachType::TCX_INGRESS),
        HookPoint::TcxEgress => Some(AttachType::TCX_EGRESS),
        HookPoint::NetkitPrimary => Some(AttachType::NETKIT_PRIMARY),
        HookPoint::NetkitPeer => Some(AttachType::NETKIT_PEER),
        HookPoint::TcIngress | HookPoint::TcEgress => None,
    }
}
