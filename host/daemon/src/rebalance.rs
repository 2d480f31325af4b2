//! Bringing our own entries of a chain into the order that policy wants, with the fewest moves.

use netloom_api::types::{Attachment, Chain, Endpoint, RebalanceRequest, Rebalanced};
use netloom_core::{
    model::{EntryId, Hook},
    moves::{self, Beside, Neighbour},
    plan::{Place, Relocation, Target},
};
use netloom_kernel::links;
use tokio::sync::OwnedMutexGuard;

use crate::{failure::Failure, node::Node};

/// A move needs a place for the program to go to, and one for the turn.
const PLACES: usize = 2;
/// How often an order is asked for that others, or an inconstant plugin, undo.
const LOOKS: u32 = 8;

impl Node {
    /// Brings the chains of a device into order.
    pub(crate) async fn rebalance(&self, request: RebalanceRequest) -> Result<Vec<Rebalanced>, Failure> {
        let RebalanceRequest { device, netns, endpoint, point, dry_run } = request;
        let chains = self.chains(device.as_deref(), netns.as_deref(), endpoint.as_ref()).await?;
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
        let _guards = self.hook_locks(hook).await?;
        self.rebalance_locked(hook, dry_run).await
    }

    /// The locks that whoever changes programs of ours on a hook must have: the endpoint's whose device it is, so
    /// that it is not deleted meanwhile, then the hook's namespace.
    pub(crate) async fn hook_locks(&self, hook: &Hook) -> Result<Vec<OwnedMutexGuard<()>>, Failure> {
        let on_hook = |endpoint: &Endpoint| {
            hook.netns == self.netns.id()
                && endpoint.host_interface == hook.device
                && endpoint.netns != hook.netns
        };
        let endpoints = self.store.all::<Endpoint>()?;
        let endpoint = endpoints.into_iter().map(|(_, endpoint)| endpoint).find(on_hook);
        let mut guards = Vec::new();
        if let Some(endpoint) = endpoint {
            guards.push(self.locks.netns(endpoint.netns).await);
        }
        guards.push(self.locks.netns(hook.netns).await);
        Ok(guards)
    }

    /// The same for who has the hook's locks.
    pub(crate) async fn rebalance_locked(&self, hook: &Hook, dry_run: bool) -> Result<Rebalanced, Failure> {
        let mut rebalanced =
            Rebalanced { chain: self.present(hook).await?, moved: Vec::new(), decided_by: None };
        // A chain that others change meanwhile may need a second look.
        for _ in 0..LOOKS {
            let chain = rebalanced.chain.clone();
            let Some(decided) = self.policy.rebalance(self, &chain).await? else { break };
            rebalanced.decided_by = Some(decided.decided_by);
            if moves::in_order(&decided.answer) {
                break;
            }
            for way in self.ways(&chain, &decided.answer)? {
                if !dry_run {
                    self.room(hook).await?;
                    self.relocate(&way).await?;
                }
                rebalanced.moved.push(way.id);
            }
            if dry_run {
                break;
            }
            rebalanced.chain = self.present(hook).await?;
        }
        Ok(rebalanced)
    }

    /// The moves that reach an order.
    fn ways(&self, chain: &Chain, wanted: &[EntryId]) -> Result<Vec<Relocation>, Failure> {
        let records: Vec<Option<Attachment>> = chain
            .entries
            .iter()
            .map(|entry| entry.attachment.as_deref().map(|id| self.attachment(id)).transpose())
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
        let present = self.present(hook).await?.entries.len();
        if !hook.point.is_legacy() && present + PLACES > Chain::MAX_ENTRIES {
            return Err(Failure::conflict(format!(
                "{hook} has {present} programs: to move one without a packet missing it takes {PLACES} free places \
                 of the kernel's {}",
                Chain::MAX_ENTRIES
            ))
            .hint("detach a program first"));
        }
        Ok(())
    }

    /// A chain as it is, by a hook that was looked up before.
    pub(crate) async fn present(&self, hook: &Hook) -> Result<Chain, Failure> {
        let netns = self.netns_of(hook)?;
        Ok(self.annotated(links::query(hook, &netns)?)?)
    }
}
