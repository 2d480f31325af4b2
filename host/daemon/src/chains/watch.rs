//! Watching the chains our programs are on: others may change them at any time.
//!
//! The kernel announces changes of devices and legacy filters, but none of tcx and netkit chains: of those the
//! revision is looked at now and then, which costs microseconds a chain. What others have there is never touched;
//! what is ours and was lost is attached anew, and brought back into its order.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    path::PathBuf,
    sync::Arc,
    time::{Duration, Instant},
};

use netloom_api::types::{Attachment, Chain, EventKind, Owner};
use netloom_core::model::{Hook, IfIndex, NetnsId};
use netloom_kernel::{
    devices::Changes,
    links::{self, LinkError, Shadow},
    netns::Netns,
};

use super::Chains;
use crate::{
    failure::Failure,
    inventory::{
        presence::{Loss, Presence},
        seen::Seen,
    },
    locks::HookGuard,
    naming, slow,
};

/// Changes by others within [`CHURN_WINDOW`] from which on they are reported as a conflict of two tools.
const CHURN_BEGINS: u64 = 40;
/// Changes by others within [`CHURN_WINDOW`] below which the conflict is over.
const CHURN_ENDS: u64 = 5;
const CHURN_WINDOW: Duration = Duration::from_secs(10);
/// Shortest time between two looks: adding an endpoint causes a dozen announcements.
const RESYNC_PAUSE: Duration = Duration::from_millis(50);
/// Looks between two at the legacy filters of other namespaces, which have neither revision nor announcement here.
const LEGACY_EVERY: u64 = 10;
/// The same for those of this namespace: they are announced, and an announcement may be lost.
const ANNOUNCED_EVERY: u64 = 600;

impl Chains {
    /// Watches for as long as the daemon runs.
    pub(crate) async fn watch(self: Arc<Self>) {
        let period = Duration::from_millis(self.config.attachments.watch_ms);
        if period.is_zero() {
            return;
        }
        let mut changes = Changes::listen(&self.netns)
            .inspect_err(|error| tracing::warn!(%error, "the kernel's announcements are not heard"))
            .ok();
        let mut round = 0;
        let mut unreadable = BTreeSet::new();
        loop {
            let announced = match &mut changes {
                None => {
                    tokio::time::sleep(period).await;
                    BTreeSet::new()
                }
                Some(listening) => tokio::select! {
                    () = tokio::time::sleep(period) => BTreeSet::new(),
                    devices = listening.next() => devices.unwrap_or_else(|| {
                        changes = None;
                        BTreeSet::new()
                    })
                },
            };
            let heard = changes.is_some();
            let look = self.check_chains(&announced, heard, round, &mut unreadable);
            if let Err(failure) = slow::told("a look at the chains", look).await {
                tracing::warn!(%failure, "the chains cannot be watched");
            }
            round += 1;
            // What is announced meanwhile is looked at together.
            tokio::time::sleep(RESYNC_PAUSE).await;
        }
    }

    /// `announced` are the devices of which the kernel told a change, if it is `heard`; `unreadable` the chains that
    /// could not be looked at the last time.
    async fn check_chains(
        &self,
        announced: &BTreeSet<IfIndex>,
        heard: bool,
        round: u64,
        unreadable: &mut BTreeSet<Hook>,
    ) -> Result<(), Failure> {
        let mut namespaces: HashMap<NetnsId, (Option<PathBuf>, BTreeSet<Hook>)> = HashMap::new();
        for attachment in self.store.attachments().values() {
            let (_, hooks) = namespaces
                .entry(attachment.hook.netns)
                .or_insert_with(|| (attachment.netns.clone(), BTreeSet::new()));
            hooks.insert(attachment.hook.clone());
        }
        let watched =
            |hook: &Hook| namespaces.get(&hook.netns).is_some_and(|(_, hooks)| hooks.contains(hook));
        self.seen.all().retain(|hook, _| watched(hook));
        unreadable.retain(watched);
        for (id, (path, hooks)) in namespaces {
            let hooks: Vec<Hook> = hooks.into_iter().collect();
            let own = id == self.netns.id();
            let netns = match &path {
                Some(path) if !own => Netns::open(path).ok().filter(|netns| netns.id() == id),
                _ => Some(self.netns.clone()),
            };
            let revisions = match &netns {
                Some(netns) => links::revisions(netns, &hooks)?,
                None => vec![None; hooks.len()],
            };
            for (hook, revision) in hooks.into_iter().zip(revisions) {
                let announced = own && announced.contains(&hook.ifindex);
                let changed = if hook.point.is_legacy() {
                    let every = if own && heard { ANNOUNCED_EVERY } else { LEGACY_EVERY };
                    announced || round.is_multiple_of(every) || !self.seen.all().contains_key(&hook)
                } else {
                    let known = self.seen.all().get(&hook).and_then(|seen| seen.revision);
                    announced || revision.is_none() || known != revision
                };
                if !changed {
                    continue;
                }
                match self.check_chain(&hook).await {
                    Ok(()) => {
                        unreadable.remove(&hook);
                    }
                    Err(failure) => {
                        // Forgotten, it is looked at again in the next round.
                        self.seen.all().remove(&hook);
                        if unreadable.insert(hook.clone()) {
                            tracing::warn!(%hook, %failure, "a chain cannot be watched");
                        }
                    }
                }
            }
        }
        self.metrics.shadowed.set(i64::try_from(self.seen.shadowed()).unwrap_or(i64::MAX));
        Ok(())
    }

    /// Looks at one chain: what others changed, and whether ours are in place and in order.
    async fn check_chain(&self, hook: &Hook) -> Result<(), Failure> {
        let guard = self.lock_hook(hook).await?;
        // Read before ours are looked after: what others change meanwhile has another revision, and a look of its own.
        let netns = self.inventory.netns_of(hook).ok();
        let before = match netns.as_ref().map(|netns| links::query(hook, netns)).transpose() {
            Ok(chain) => chain.map(|chain| self.inventory.annotated(chain)).transpose()?,
            Err(LinkError::DeviceGone { .. }) => None,
            Err(error) => return Err(error.into()),
        };
        let mut lost = false;
        let attachments = self.store.attachments();
        for attachment in attachments.values().filter(|attachment| attachment.hook == *hook) {
            lost |= self.reconcile(&guard, attachment).await?;
        }
        let (Some(netns), Some(chain)) = (netns, before) else { return Ok(()) };
        let disordered = self.note_changes(hook, &chain) || lost;
        if disordered {
            let rebalanced = self.rebalance_locked(&guard, hook, false).await?;
            if !rebalanced.moved.is_empty() {
                let message = format!("brought back into order: {}", rebalanced.moved.join(", "));
                self.event(EventKind::OrderRestored, hook, message);
            }
            let chain = self.inventory.present(hook).await?;
            self.note_changes(hook, &chain);
            // Others may have come between those changes of ours.
            self.seen.expect(&hook.device);
        }
        self.look_for_shadows(hook, &netns)
    }

    /// What is new in a chain since the last look. Whether our own programs changed their order.
    fn note_changes(&self, hook: &Hook, chain: &Chain) -> bool {
        let foreign: BTreeMap<_, _> = chain
            .entries
            .iter()
            .filter(|entry| entry.attachment.is_none())
            .map(|entry| ((entry.program.0, entry.link.map(|link| link.0)), entry.name.clone()))
            .collect();
        let ours: Vec<String> = chain.entries.iter().filter_map(|entry| entry.attachment.clone()).collect();
        let mut events = Vec::new();
        let mut all = self.seen.all();
        let first = !all.contains_key(hook);
        let seen = all.entry(hook.clone()).or_default();
        // Of two tools that fight, each blow would hide all other events.
        if !first {
            let named = |id: &(u32, Option<u32>), name: &String| format!("program {name} (id {})", id.0);
            for (id, name) in foreign.iter().filter(|(id, _)| !seen.foreign.contains_key(id)) {
                events.push((EventKind::ForeignAttached, format!("{} came", named(id, name))));
            }
            for (id, name) in seen.foreign.iter().filter(|(id, _)| !foreign.contains_key(id)) {
                events.push((EventKind::ForeignDetached, format!("{} went", named(id, name))));
            }
        }
        // What comes and goes between two looks shows in the revision alone, if none of the changes was ours.
        let steps = seen.revision.map_or(0, |last| chain.revision.0.saturating_sub(last.0));
        let steps = steps.max(events.len() as u64);
        if steps > 0 {
            seen.changes.push_back((Instant::now(), steps));
        }
        while seen.changes.front().is_some_and(|(when, _)| when.elapsed() > CHURN_WINDOW) {
            seen.changes.pop_front();
        }
        let churn = seen.changes.iter().map(|(_, steps)| steps).sum::<u64>();
        if seen.churning {
            // Of two tools that fight, each blow would hide all other events.
            events.clear();
        }
        if churn >= CHURN_BEGINS && !seen.churning {
            let seconds = CHURN_WINDOW.as_secs();
            let message =
                format!("others changed it {churn} times within {seconds} s: do two tools fight over it?");
            events.push((EventKind::Churn, message));
        }
        seen.churning = churn >= if seen.churning { CHURN_ENDS } else { CHURN_BEGINS };
        let mut before = seen.ours.clone();
        before.retain(|id| ours.contains(id));
        let mut now = ours.clone();
        now.retain(|id| before.contains(id));
        let disordered = before != now;
        seen.foreign = foreign;
        seen.ours = ours;
        seen.revision = Some(chain.revision);
        drop(all);
        for (kind, message) in events {
            self.event(kind, hook, message);
        }
        disordered
    }

    fn look_for_shadows(&self, hook: &Hook, netns: &Netns) -> Result<(), Failure> {
        let found: BTreeMap<String, Shadow> = match links::shadows(hook, netns) {
            Ok(shadows) => {
                shadows.into_iter().filter(|shadow| shadow.certain).map(|s| (s.what.clone(), s)).collect()
            }
            Err(LinkError::DeviceGone { .. }) => return Ok(()),
            Err(error) => return Err(error.into()),
        };
        let fresh: Vec<Shadow> = {
            let mut all = self.seen.all();
            let Some(seen) = all.get_mut(hook) else { return Ok(()) };
            let fresh = found.iter().filter(|(what, _)| !seen.shadows.contains(*what));
            let fresh = fresh.map(|(_, shadow)| shadow.clone()).collect();
            seen.shadows = found.into_keys().collect();
            fresh
        };
        for shadow in fresh {
            let message =
                format!("no packet reaches {}: {} at {} always decides", shadow.what, shadow.by, shadow.at);
            self.event(EventKind::Shadowed, &shadow.hook, message);
        }
        Ok(())
    }

    /// Attaches anew what others detached, follows a device that was moved, and drops what has no device any more.
    /// Whether something was attached anew.
    async fn reconcile(&self, held: &HookGuard, attachment: &Attachment) -> Result<bool, Failure> {
        let id = &attachment.id;
        let found = self.inventory.presence(attachment).await?;
        if let Presence::Moved(hook, netns) = found {
            let message = if hook.netns == attachment.hook.netns {
                format!("{id}: its device has another name, and it goes on at {hook}")
            } else {
                format!("{id} moved with its device to {hook}, and goes on there")
            };
            let moved = Attachment { hook, netns, ..attachment.clone() };
            self.store.settle(|changes| changes.put(id, &moved))?;
            self.event(EventKind::DeviceMoved, &attachment.hook, message);
            return Ok(false);
        }
        let Presence::Lost(loss) = found else { return Ok(false) };
        let failure = match self.reattach(held, attachment).await {
            Ok(anew) => {
                self.store.settle(|changes| changes.put(id, &anew))?;
                // A device that went between two questions looked as if it were still there.
                let same = anew.hook.ifindex == attachment.hook.ifindex;
                let loss = if same { loss } else { Loss::DeviceGone };
                self.event(loss.kind(), &attachment.hook, format!("{id}: {loss}; attached anew"));
                return Ok(true);
            }
            Err(failure) => failure,
        };
        // A device that goes loses its programs before its name: only now is it plain what happened.
        let loss = match self.inventory.presence(attachment).await? {
            Presence::Lost(now) => now,
            Presence::InPlace | Presence::Moved(..) => loss,
        };
        if attachment.candidate.owner.as_str() == Owner::DATAPATH {
            // The endpoint is there until somebody deletes it, and its datapath's record with it.
            let seen = self.seen.all().insert(attachment.hook.clone(), Seen::default());
            if seen.is_none_or(|seen| seen.revision.is_some() || !seen.ours.is_empty()) {
                self.event(loss.kind(), &attachment.hook, format!("{id}: {loss}; delete the endpoint"));
            }
        } else {
            links::unpin(&naming::pin(&self.paths.bpffs, id))?;
            self.executor.forget_replaced(id)?;
            self.store.settle(|changes| changes.remove::<Attachment>(id))?;
            self.remove_unused_maps()?;
            self.event(loss.kind(), &attachment.hook, format!("{id}: {loss}; dropped ({failure})"));
        }
        Ok(false)
    }

    fn event(&self, kind: EventKind, hook: &Hook, message: String) {
        self.events.add(kind, hook.to_string(), message);
    }
}
