//! Bringing our own entries of a chain into the order that policy wants, with the fewest moves.

use netloom_api::types::{Attachment, Chain, Endpoint, RebalanceRequest, Rebalanced};
use netloom_core::{
    model::{EntryId, Hook, NetnsId},
    moves::{self, Beside, Neighbour},
    plan::{Place, Relocation, Target},
};

use super::Chains;
use crate::{failure::Failure, locks::HookGuard};

/// Free places of a chain that a move takes: one to go to, one for the turn.
const PLACES_TO_MOVE: usize = 2;
/// Most rounds towards an order that others, or an inconsistent plugin, undo.
const MAX_ROUNDS: u32 = 8;

impl Chains {
    /// Brings the chains of a device into order.
    pub(crate) async fn rebalance(&self, request: RebalanceRequest) -> Result<Vec<Rebalanced>, Failure> {
        let RebalanceRequest { device, netns, endpoint, point, dry_run } = request;
        let chains = self.inventory.chains(device.as_deref(), netns.as_deref(), endpoint.as_ref()).await?;
        let mut answers = Vec::new();
        for chain in chains {
            let asked_for = point.is_none_or(|point| point == chain.hook.point);
            if asked_for && !moves::ours(&chain).is_empty() {
                answers.push(self.rebalance_hook(&chain.hook, dry_run).await?);
            }
        }
        Ok(answers)
    }

    /// Brings one chain into order.
    pub(crate) async fn rebalance_hook(&self, hook: &Hook, dry_run: bool) -> Result<Rebalanced, Failure> {
        let guard = self.lock_hook(hook).await?;
        self.rebalance_locked(&guard, hook, dry_run).await
    }

    /// The lock that whoever changes programs of ours on a hook must have.
    pub(crate) async fn lock_hook(&self, hook: &Hook) -> Result<HookGuard, Failure> {
        loop {
            let endpoint = self.namespace_behind(hook)?;
            let inside = match endpoint {
                Some(endpoint) => Some(self.locks.netns(endpoint).await),
                None => None,
            };
            let guard = HookGuard::of(inside, self.locks.netns(hook.netns).await);
            // The device may have become another endpoint's while its lock was waited for.
            if self.namespace_behind(hook)? == endpoint {
                return Ok(guard);
            }
        }
    }

    /// The namespace of the endpoint whose device on the node a hook is on.
    fn namespace_behind(&self, hook: &Hook) -> Result<Option<NetnsId>, Failure> {
        if hook.netns != self.netns.id() {
            return Ok(None);
        }
        let endpoints = self.store.all::<Endpoint>()?.into_iter().map(|(_, endpoint)| endpoint);
        let mut on_device = endpoints.filter(|endpoint| endpoint.host_ifindex == hook.ifindex);
        Ok(on_device.next().map(|endpoint| endpoint.netns).filter(|netns| *netns != hook.netns))
    }

    /// The lock of an attachment's hook, and its record as it is from then on.
    pub(crate) async fn lock_attachment(&self, id: &str) -> Result<(HookGuard, Attachment), Failure> {
        loop {
            let before = self.inventory.attachment(id)?.hook;
            let guard = self.lock_hook(&before).await?;
            let attachment = self.inventory.attachment(id)?;
            // It may have followed its device to another namespace, or its endpoint to another device.
            if (attachment.hook.netns, attachment.hook.ifindex) == (before.netns, before.ifindex) {
                return Ok((guard, attachment));
            }
        }
    }

    /// The same for who has the hook's lock.
    pub(crate) async fn rebalance_locked(
        &self,
        held: &HookGuard,
        hook: &Hook,
        dry_run: bool,
    ) -> Result<Rebalanced, Failure> {
        let mut rebalanced =
            Rebalanced { chain: self.inventory.present(hook).await?, moved: Vec::new(), decided_by: None };
        // A chain that others change meanwhile may need a second look.
        for _ in 0..MAX_ROUNDS {
            let chain = rebalanced.chain.clone();
            let Some(decided) = self.policy.rebalance(&chain).await? else { break };
            rebalanced.decided_by = Some(decided.decided_by);
            if moves::in_order(&decided.answer) {
                break;
            }
            for way in self.ways(&chain, &decided.answer)? {
                if !dry_run {
                    self.room(hook).await?;
                    self.relocate(held, &way).await?;
                }
                rebalanced.moved.push(way.id);
            }
            if dry_run {
                break;
            }
            rebalanced.chain = self.inventory.present(hook).await?;
        }
        Ok(rebalanced)
    }

    /// The moves that reach an order.
    fn ways(&self, chain: &Chain, wanted: &[EntryId]) -> Result<Vec<Relocation>, Failure> {
        let records: Vec<Option<Attachment>> = chain
            .entries
            .iter()
            .map(|entry| entry.attachment.as_deref().map(|id| self.inventory.attachment(id)).transpose())
            .collect::<Result<_, _>>()?;
        let record = |id: EntryId| records.get(id.0 as usize).and_then(Option::as_ref);
        let required = |id| record(id).is_some_and(|record| record.candidate.required);
        let ways = moves::moves(wanted, required).into_iter().filter_map(|to| {
            let moved = record(to.entry)?;
            let place = match to.to {
                Neighbour::Before(id) => Beside::Before(record(id)?.id.clone()),
                Neighbour::After(id) => Beside::After(record(id)?.id.clone()),
            };
            let target = Target::of(moved);
            let place = Place::Beside(place);
            Some(Relocation { id: moved.id.clone(), from: target.clone(), to: target, place })
        });
        Ok(ways.collect())
    }

    async fn room(&self, hook: &Hook) -> Result<(), Failure> {
        let present = self.inventory.present(hook).await?.entries.len();
        if !hook.point.is_legacy() && present + PLACES_TO_MOVE > Chain::MAX_ENTRIES {
            return Err(Failure::conflict(format!(
                "{hook} has {present} programs: to move one without a packet missing it takes {PLACES_TO_MOVE} free places \
                 of the kernel's {}",
                Chain::MAX_ENTRIES
            ))
            .hint("detach a program first"));
        }
        Ok(())
    }
}
