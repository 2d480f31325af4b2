//! The bundled attach-order plugin.
//!
//! Programs run in three groups: observers (the label `role=observer`) first, so that no verdict hides a packet
//! from them; then everybody else; then the node's datapath, whose verdict is final. Within a group the lower
//! priority runs earlier, and who came first stays in front. Foreign entries are not moved: a program goes next
//! to its neighbour among Netloom's own.

use std::collections::BTreeMap;

use netloom_sdk::prelude::*;
use serde::Deserialize;

const DATAPATH: &str = "netloom/datapath";

/// The plugin's configuration.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Priorities by owner, instead of those the owners ask for.
    priorities: BTreeMap<String, i32>,
}

/// The plugin; public for the bench, which holds it natively against itself in Wasm.
#[plugin(attach_order, lifecycle)]
#[derive(Default)]
pub struct OwnerPriority {
    config: Config,
}

/// The groups, in the order in which they run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Group {
    Observer,
    Ordinary,
    Datapath,
}

/// What decides the order: the group, then the priority.
type Rank = (Group, i32);

impl OwnerPriority {
    fn rank(&self, owner: &str, role: Option<&str>, priority: i32) -> Rank {
        let group = match (owner, role) {
            (DATAPATH, _) => Group::Datapath,
            (_, Some("observer")) => Group::Observer,
            _ => Group::Ordinary,
        };
        (group, self.config.priorities.get(owner).copied().unwrap_or(priority))
    }

    fn entry_rank(&self, entry: &ChainEntry) -> Rank {
        self.rank(
            entry.owner.as_deref().unwrap_or_default(),
            entry.label("role"),
            entry.priority.unwrap_or(0),
        )
    }
}

impl AttachOrder for OwnerPriority {
    fn place(&mut self, _node: &Node, chain: &Chain, candidate: &Candidate) -> PlaceDecision {
        let rank = self.rank(&candidate.owner, candidate.label("role"), candidate.priority);
        let stays_in_front = |entry: &&ChainEntry| self.entry_rank(entry) <= rank;

        let in_front = chain.ours().take_while(stays_in_front).last();
        let behind = chain.ours().find(|entry| !stays_in_front(entry));
        let placement = match (rank.0, in_front, behind) {
            (Group::Observer, Some(entry), _) => Placement::After(entry.id),
            // The head, and not just in front of our own first: a foreign verdict would hide packets from it.
            (Group::Observer, None, _) => Placement::Head,
            (_, _, Some(entry)) => Placement::Before(entry.id),
            (_, Some(entry), None) => Placement::After(entry.id),
            (_, None, None) => Placement::Tail,
        };
        placement.into()
    }

    fn rebalance(&mut self, _node: &Node, chain: &Chain) -> RebalanceDecision {
        let mut ours: Vec<&ChainEntry> = chain.ours().collect();
        if ours.is_empty() {
            return RebalanceDecision::Keep;
        }
        ours.sort_by_key(|entry| self.entry_rank(entry));
        ours.iter().map(|entry| entry.id).collect()
    }
}

impl Lifecycle for OwnerPriority {
    type Config = Config;

    fn init(&mut self, config: Config) -> Result<(), String> {
        if config.priorities.contains_key(DATAPATH) {
            return Err(format!("`priorities` names {DATAPATH}, which always runs last: leave it out"));
        }
        self.config = config;
        Ok(())
    }
}

#[cfg(test)]
mod tests;
