//! Legacy tc: direct-action BPF filters on a clsact qdisc, as chains.
//!
//! The filters of a hook run by priority, lowest first. A direct-action program's answer is the verdict, but for
//! `TC_ACT_UNSPEC` (-1), which goes on to the next filter: the number that is NEXT on tcx and netkit. So one program
//! serves all three. Another answer ends the chain, `TC_ACT_OK` (0) included.
//!
//! A filter has no owner and no lifetime: it stays until it is deleted or its device goes, whoever made it. Ours are
//! known by priority, handle and program together, and one at our place that runs another program is left alone.
//! The qdisc is shared with everybody. One that we made carries a mark, an empty filter chain that nothing jumps to,
//! so that whoever comes after a crash knows; only a marked one is removed, when its last filter goes.
//!
//! - `message`: requests and answers
//! - `priority`: a priority between two filters
//! - `socket`: a blocking rtnetlink socket in the thread's namespace

mod message;
mod priority;
mod socket;

use std::io;

use netloom_core::model::{
    Chain, ChainEntry, EntryId, Hook, HookPoint, Labels, Placement, ProgramId, Revision,
};

use self::{
    message::{Filter, Qdisc},
    priority::Neighbours,
    socket::Socket,
};
use super::{Attached, LinkError, entry, name_and_tag};
use crate::{netns::Netns, programs::Program};

/// Our handles are this and a number: recognisable to people, and unlike the low ones others take.
const HANDLE_BASE: u32 = 0x6e6c_0000;

/// Reads a hook's filters. Filters without a BPF program are passed over.
pub(crate) fn query(hook: &Hook, netns: &Netns) -> Result<Chain, LinkError> {
    let filters = netns.run(|| Tc::open(hook)?.filters())??;
    Ok(chain(hook, &filters))
}

/// A filter of any kind, as it stands in the way of packets.
#[derive(Clone, Debug)]
pub(crate) struct AnyFilter {
    /// Its kind and priority, or its program.
    pub(crate) name: String,
    /// Its BPF program.
    pub(crate) program: Option<ProgramId>,
    /// Whether that program's answer is the verdict.
    pub(crate) direct_action: bool,
    /// Without a program: whether it decides on every packet.
    pub(crate) ends_for_all: bool,
}

/// Every filter of a hook, those without a BPF program included. None where there is no qdisc for them.
pub(crate) fn filters(hook: &Hook, netns: &Netns) -> Result<Vec<AnyFilter>, LinkError> {
    let filters = netns.run(|| Tc::open(hook)?.filters())??;
    Ok(filters.into_iter().map(Filter::into_any).collect())
}

/// Adds a filter at a place, and the qdisc if it is missing.
pub(crate) fn attach(
    snapshot: &Chain,
    netns: &Netns,
    program: &Program,
    placement: Placement,
) -> Result<Attached, LinkError> {
    let hook = &snapshot.hook;
    netns.run(|| {
        let (tc, filters) = Tc::open_for(snapshot, program)?;
        let gap = match place(snapshot, &filters, placement)? {
            Place::Before(index) => neighbours(&filters, index),
            Place::Of(filter) => {
                tc.put(filter.priority, filter.handle, program, socket::CHANGE)?;
                return Ok(Attached::Filter { priority: filter.priority, handle: filter.handle });
            }
        };
        let priority = priority::between(gap).ok_or_else(|| no_priority(hook, gap))?;
        tc.add(&filters, priority, program)
    })?
}

/// Adds a filter at a priority that no other has.
pub(crate) fn attach_at(
    snapshot: &Chain,
    netns: &Netns,
    program: &Program,
    priority: u16,
) -> Result<Attached, LinkError> {
    netns.run(|| {
        let (tc, filters) = Tc::open_for(snapshot, program)?;
        if filters.iter().any(|filter| filter.priority == priority) {
            return Err(LinkError::Stale { hook: snapshot.hook.clone() });
        }
        tc.add(&filters, priority, program)
    })?
}

/// How our own filters around a place are to be spread for a priority to be free there: which gets which, in the
/// order in which they are to be moved. Ours are the entries with an attachment.
pub(crate) fn spread(
    snapshot: &Chain,
    netns: &Netns,
    placement: Placement,
) -> Result<Vec<(EntryId, u16)>, LinkError> {
    let hook = &snapshot.hook;
    let filters = netns.run(|| {
        let tc = Tc::open(hook)?;
        let filters = tc.filters()?;
        tc.check(snapshot, &filters).map(|()| filters)
    })??;
    let Place::Before(index) = place(snapshot, &filters, placement)? else { return Ok(Vec::new()) };
    let entry = |filter: &Filter| {
        let at = (0_u32..).zip(&snapshot.entries);
        let mut ours = at.filter(|(_, entry)| entry.attachment.is_some());
        ours.find(|(_, entry)| entry.filter == Some((filter.priority, filter.handle)))
            .map(|(id, _)| EntryId(id))
    };
    let standing: Vec<_> = filters
        .iter()
        .map(|filter| priority::Standing { priority: filter.priority, movable: entry(filter).is_some() })
        .collect();
    let moves =
        priority::spread(&standing, index).ok_or_else(|| no_priority(hook, neighbours(&filters, index)))?;
    Ok(moves.into_iter().filter_map(|(at, priority)| Some((entry(filters.get(at)?)?, priority))).collect())
}

/// Gives a filter another program, in place and in one step.
pub(crate) fn replace(
    hook: &Hook,
    netns: &Netns,
    (priority, handle): (u16, u32),
    new: &Program,
    old: ProgramId,
) -> Result<(), LinkError> {
    netns.run(|| {
        let tc = Tc::open(hook)?;
        let filters = tc.filters()?;
        let filter =
            find(&filters, priority, handle).ok_or_else(|| LinkError::Stale { hook: hook.clone() })?;
        check_ours(hook, filter, old)?;
        refuse_twice(hook, &filters, new)?;
        tc.put(priority, handle, new, socket::CHANGE)
    })?
}

/// Deletes a filter if it is the one meant, and the qdisc if it was ours and is idle.
pub(crate) fn delete(
    hook: &Hook,
    netns: &Netns,
    (priority, handle): (u16, u32),
    program: ProgramId,
) -> Result<(), LinkError> {
    netns.run(|| {
        let tc = match Tc::open(hook) {
            // Its filters went with the device.
            Err(LinkError::DeviceGone { .. }) => return Ok(()),
            other => other?,
        };
        let filters = tc.filters()?;
        if let Some(filter) = find(&filters, priority, handle) {
            check_ours(hook, filter, program)?;
            match tc.socket.request(message::delete_filter(hook, filter), socket::ACK) {
                Err(error) if error.raw_os_error() == Some(libc::ENOENT) => {}
                other => drop(other.map_err(|error| fail(hook, "RTM_DELTFILTER", error))?),
            }
        }
        tc.remove_idle_qdisc()
    })?
}

/// A socket in the device's namespace, and the hook.
struct Tc<'a> {
    hook: &'a Hook,
    socket: Socket,
}

impl<'a> Tc<'a> {
    /// For the calling thread's namespace. A dump of a device that is gone is just empty, hence the look at it.
    fn open(hook: &'a Hook) -> Result<Self, LinkError> {
        let socket = Socket::open().map_err(|error| fail(hook, "socket(NETLINK_ROUTE)", error))?;
        socket
            .request(message::get_device(hook), socket::GET)
            .map_err(|error| fail(hook, "RTM_GETLINK", error))?;
        Ok(Self { hook, socket })
    }

    /// For adding a program to the chain of a snapshot: with the filters as they are.
    fn open_for(snapshot: &'a Chain, program: &Program) -> Result<(Self, Vec<Filter>), LinkError> {
        let tc = Self::open(&snapshot.hook)?;
        let filters = tc.filters()?;
        tc.check(snapshot, &filters)?;
        refuse_twice(&snapshot.hook, &filters, program)?;
        Ok((tc, filters))
    }

    fn filters(&self) -> Result<Vec<Filter>, LinkError> {
        self.filters_of(self.hook.point)
    }

    fn filters_of(&self, point: HookPoint) -> Result<Vec<Filter>, LinkError> {
        // An ingress qdisc gives its filters whichever side is asked for (`ingress_tcf_block`,
        // `net/sched/sch_ingress.c`).
        if point == HookPoint::TcEgress && self.qdisc()? != Some(Qdisc::Clsact) {
            return Ok(Vec::new());
        }
        let answers = self.socket.dump(&message::list_filters(self.hook, point));
        let answers = answers.map_err(|error| fail(self.hook, "RTM_GETTFILTER", error))?;
        Ok(answers.iter().filter_map(|answer| message::filter(answer, self.hook)).collect())
    }

    /// Whether the chain still is what the snapshot says.
    fn check(&self, snapshot: &Chain, filters: &[Filter]) -> Result<(), LinkError> {
        let then = snapshot.entries.iter().map(|entry| (entry.filter, entry.program));
        let now = filters.iter().filter_map(|filter| {
            let program = filter.program.as_ref()?;
            Some((Some((filter.priority, filter.handle)), program.id))
        });
        if now.eq(then) { Ok(()) } else { Err(LinkError::Stale { hook: self.hook.clone() }) }
    }

    /// Adds a filter, and the qdisc if it is missing.
    fn add(&self, filters: &[Filter], priority: u16, program: &Program) -> Result<Attached, LinkError> {
        let handle = free_handle(filters);
        let made_qdisc = self.ensure_qdisc()?;
        match self.put(priority, handle, program, socket::CREATE) {
            Ok(()) => Ok(Attached::Filter { priority, handle }),
            Err(error) => {
                if made_qdisc {
                    // The first error is the one to tell; the mark is there for a later try.
                    let _ = self.remove_idle_qdisc();
                }
                Err(error)
            }
        }
    }

    fn put(&self, priority: u16, handle: u32, program: &Program, flags: u16) -> Result<(), LinkError> {
        let request = message::new_filter(self.hook, priority, handle, program);
        match self.socket.request(request, flags) {
            Ok(_) => Ok(()),
            Err(error) if matches!(error.raw_os_error(), Some(libc::EEXIST)) => {
                Err(LinkError::Stale { hook: self.hook.clone() })
            }
            Err(error) => Err(fail(self.hook, "RTM_NEWTFILTER", error)),
        }
    }

    /// Whether it had to be made.
    fn ensure_qdisc(&self) -> Result<bool, LinkError> {
        // Twice: somebody else's may come between the look and the making.
        for _ in 0..2 {
            match (self.qdisc()?, self.hook.point) {
                (Some(Qdisc::Clsact), _) | (Some(Qdisc::Ingress), HookPoint::TcIngress) => return Ok(false),
                (Some(Qdisc::Ingress), _) => {
                    return Err(LinkError::IngressQdisc { hook: self.hook.clone() });
                }
                (None, _) => {}
            }
            match self.socket.request(message::new_clsact(self.hook), socket::CREATE) {
                Ok(_) => {
                    let marked = self.socket.request(message::new_mark(self.hook), socket::CREATE);
                    return match marked {
                        Ok(_) => Ok(true),
                        Err(error) => {
                            let _ = self.socket.request(message::delete_clsact(self.hook), socket::ACK);
                            Err(fail(self.hook, "RTM_NEWCHAIN", error))
                        }
                    };
                }
                Err(error) if error.raw_os_error() == Some(libc::EEXIST) => {}
                Err(error) => return Err(fail(self.hook, "RTM_NEWQDISC", error)),
            }
        }
        Err(LinkError::Stale { hook: self.hook.clone() })
    }

    fn qdisc(&self) -> Result<Option<Qdisc>, LinkError> {
        let answers = self.socket.dump(&message::list_qdiscs(self.hook));
        let answers = answers.map_err(|error| fail(self.hook, "RTM_GETQDISC", error))?;
        Ok(answers.iter().find_map(|answer| message::qdisc(answer, self.hook)))
    }

    fn remove_idle_qdisc(&self) -> Result<(), LinkError> {
        if self.qdisc()? != Some(Qdisc::Clsact) {
            return Ok(());
        }
        let mut chains = Vec::new();
        for point in [HookPoint::TcIngress, HookPoint::TcEgress] {
            if !self.filters_of(point)?.is_empty() {
                return Ok(());
            }
            let answers = self.socket.dump(&message::list_chains(self.hook, point));
            let answers = answers.map_err(|error| fail(self.hook, "RTM_GETCHAIN", error))?;
            chains.extend(answers.iter().filter_map(|answer| message::chain(answer, self.hook)));
        }
        // Chains besides the mark are somebody else's use of it. Chain 0 is always there once it had a filter.
        chains.retain(|chain| *chain != 0);
        if chains != [message::MARK] {
            return Ok(());
        }
        match self.socket.request(message::delete_clsact(self.hook), socket::ACK) {
            Ok(_) => Ok(()),
            Err(error)
                if matches!(error.raw_os_error(), Some(libc::ENOENT | libc::EINVAL | libc::ENODEV)) =>
            {
                Ok(())
            }
            Err(error) => Err(fail(self.hook, "RTM_DELQDISC", error)),
        }
    }
}

enum Place<'a> {
    /// In front of the filter with this index, or behind all.
    Before(usize),
    /// In the place of a filter.
    Of(&'a Filter),
}

/// Where among all filters, those without a program included, a placement in the chain is.
fn place<'a>(snapshot: &Chain, filters: &'a [Filter], placement: Placement) -> Result<Place<'a>, LinkError> {
    let position = |id| {
        let entry = entry(snapshot, id)?;
        let position =
            filters.iter().position(|filter| entry.filter == Some((filter.priority, filter.handle)));
        position.ok_or_else(|| LinkError::AnchorGone { hook: snapshot.hook.clone() })
    };
    let index = match placement {
        Placement::Head => 0,
        Placement::Tail => filters.len(),
        Placement::Before(id) => position(id)?,
        Placement::After(id) => position(id)? + 1,
        Placement::Replace(id) => {
            let filter = filters.get(position(id)?);
            return filter
                .map(Place::Of)
                .ok_or_else(|| LinkError::AnchorGone { hook: snapshot.hook.clone() });
        }
    };
    Ok(Place::Before(index))
}

fn neighbours(filters: &[Filter], index: usize) -> Neighbours {
    let before = index.checked_sub(1).and_then(|index| filters.get(index)).map(|filter| filter.priority);
    let after = filters
        .get(index)
        .map(|filter| priority::Behind { priority: filter.priority, shareable: filter.takes_ours() });
    Neighbours { before, after }
}

fn no_priority(hook: &Hook, gap: Neighbours) -> LinkError {
    LinkError::NoPriority {
        hook: hook.clone(),
        before: gap.before.map_or(0, u32::from),
        after: gap.after.map_or(65536, |after| u32::from(after.priority)),
    }
}

fn chain(hook: &Hook, filters: &[Filter]) -> Chain {
    let entries = filters.iter().filter_map(|filter| {
        let program = filter.program.as_ref()?;
        // The program is held by the filter, so it is there unless the filter went just now.
        let (name, tag) =
            name_and_tag(program.id).unwrap_or_else(|_| (program.name.clone(), program.tag.clone()));
        Some(ChainEntry {
            program: program.id,
            link: None,
            name,
            tag,
            filter: Some((filter.priority, filter.handle)),
            attachment: None,
            owner: None,
            priority: None,
            labels: Labels::new(),
        })
    });
    Chain { hook: hook.clone(), revision: Revision(0), entries: entries.collect() }
}

fn find(filters: &[Filter], priority: u16, handle: u32) -> Option<&Filter> {
    filters.iter().find(|filter| (filter.priority, filter.handle) == (priority, handle))
}

fn check_ours(hook: &Hook, filter: &Filter, program: ProgramId) -> Result<(), LinkError> {
    let running = filter.program.as_ref().map(|program| program.id);
    if running == Some(program) {
        return Ok(());
    }
    Err(LinkError::Foreign {
        hook: hook.clone(),
        priority: filter.priority,
        handle: filter.handle,
        program: running.map_or(0, |program| program.0),
    })
}

/// Legacy tc would take a program twice on a hook. tcx and netkit do not, and nothing good comes of it.
fn refuse_twice(hook: &Hook, filters: &[Filter], program: &Program) -> Result<(), LinkError> {
    let there = |filter: &Filter| filter.program.as_ref().is_some_and(|other| other.id == program.id());
    if filters.iter().any(there) {
        return Err(LinkError::AlreadyAttached { on: hook.to_string(), program: program.name().to_owned() });
    }
    Ok(())
}

fn free_handle(filters: &[Filter]) -> u32 {
    let taken = |handle: u32| filters.iter().any(|filter| filter.handle == handle);
    (HANDLE_BASE + 1..).find(|handle| !taken(*handle)).unwrap_or(HANDLE_BASE)
}

fn fail(hook: &Hook, call: &'static str, source: io::Error) -> LinkError {
    match source.raw_os_error() {
        Some(libc::ENODEV) => LinkError::DeviceGone { hook: hook.clone() },
        Some(libc::EOPNOTSUPP) if call.ends_with("TFILTER") => LinkError::SharedBlock { hook: hook.clone() },
        // What the kernel says to a kind of qdisc or filter it was built without.
        Some(libc::ENOENT) if matches!(call, "RTM_NEWQDISC" | "RTM_NEWTFILTER") => {
            LinkError::Unsupported { hook: hook.clone(), detail: format!("{call}: {source}") }
        }
        _ => LinkError::sys(call, hook.to_string(), source),
    }
}
