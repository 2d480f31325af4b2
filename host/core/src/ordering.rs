//! Positions in a chain: what a placement means, and where a program goes when no plugin says.

use serde::{Deserialize, Serialize};

use crate::model::{Candidate, Chain, ChainEntry, EntryId, Owner, Placement};

/// Where a program goes when no plugin decides: none serves the hook, all abstain, or all fail.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum DefaultPlacement {
    /// Behind everything, but in front of the node's datapath, whose verdict is final.
    #[default]
    BeforeDatapath,
    /// In front of everything.
    Head,
    /// Behind everything: a program behind the datapath never runs.
    Tail,
}

impl DefaultPlacement {
    /// The placement of a candidate in a chain.
    #[must_use]
    pub fn place(self, chain: &Chain, candidate: &Candidate) -> Placement {
        match self {
            Self::Head => Placement::Head,
            Self::Tail => Placement::Tail,
            Self::BeforeDatapath if candidate.owner.as_str() == Owner::DATAPATH => Placement::Tail,
            Self::BeforeDatapath => datapath_entry(chain).map_or(Placement::Tail, Placement::Before),
        }
    }
}

fn datapath_entry(chain: &Chain) -> Option<EntryId> {
    let position = chain.entries.iter().position(is_datapath)?;
    u32::try_from(position).ok().map(EntryId)
}

fn is_datapath(entry: &ChainEntry) -> bool {
    entry.owner.as_ref().is_some_and(|owner| owner.as_str() == Owner::DATAPATH)
}

/// The index at which a program lands when it is placed in a chain of `len` entries; none if the placement
/// names an entry that is not there.
#[must_use]
pub fn position(len: usize, placement: Placement) -> Option<usize> {
    let existing = |id: EntryId| Some(id.0 as usize).filter(|index| *index < len);
    match placement {
        Placement::Head => Some(0),
        Placement::Tail => Some(len),
        Placement::Before(id) | Placement::Replace(id) => existing(id),
        Placement::After(id) => existing(id).map(|index| index + 1),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::model::{Hook, HookPoint, IfIndex, NetnsId, ProgramId, Revision};

    fn entry(program: u32, owner: Option<&str>) -> ChainEntry {
        ChainEntry {
            program: ProgramId(program),
            link: None,
            name: String::new(),
            tag: String::new(),
            filter: None,
            attachment: None,
            owner: owner.map(|owner| Owner::new(owner).unwrap()),
            priority: owner.map(|_| 0),
            labels: Default::default(),
        }
    }

    fn chain(owners: &[Option<&str>]) -> Chain {
        Chain {
            hook: Hook {
                netns: NetnsId { device: 4, inode: 1 },
                device: "eth0".into(),
                ifindex: IfIndex(2),
                point: HookPoint::TcxIngress,
            },
            revision: Revision(1),
            entries: (1..).zip(owners).map(|(program, owner)| entry(program, *owner)).collect(),
        }
    }

    fn candidate(owner: &str) -> Candidate {
        Candidate {
            owner: Owner::new(owner).unwrap(),
            name: "program".into(),
            tag: "0".repeat(16),
            priority: 0,
            labels: Default::default(),
            required: false,
        }
    }

    #[test]
    fn without_a_plugin_a_program_goes_in_front_of_the_datapath() {
        let chain = chain(&[None, Some("acme/firewall"), Some(Owner::DATAPATH), None]);
        let placement = DefaultPlacement::BeforeDatapath.place(&chain, &candidate("observer"));
        assert_eq!(placement, Placement::Before(EntryId(2)));
    }

    #[test]
    fn without_a_plugin_the_datapath_goes_last() {
        for owners in [[None, Some("acme/firewall")], [Some(Owner::DATAPATH), None]] {
            let placement =
                DefaultPlacement::BeforeDatapath.place(&chain(&owners), &candidate(Owner::DATAPATH));
            assert_eq!(placement, Placement::Tail);
        }
    }

    #[test]
    fn a_position_is_counted_from_the_head_and_beside_an_entry_that_is_there() {
        let at = |placement| position(3, placement);
        assert_eq!((at(Placement::Head), at(Placement::Tail)), (Some(0), Some(3)));
        for id in 0..3 {
            let (entry, index) = (EntryId(id), id as usize);
            assert_eq!(at(Placement::Before(entry)), Some(index));
            assert_eq!(at(Placement::Replace(entry)), Some(index));
            assert_eq!(at(Placement::After(entry)), Some(index + 1));
        }
        for gone in [Placement::Before, Placement::Replace, Placement::After] {
            assert_eq!(at(gone(EntryId(3))), None);
        }
    }

    #[test]
    fn a_chain_without_datapath_is_appended_to() {
        let placement = DefaultPlacement::default().place(&chain(&[None]), &candidate("observer"));
        assert_eq!(placement, Placement::Tail);
    }

    proptest! {
        #[test]
        fn every_default_names_an_entry_that_exists(
            owners in prop::collection::vec(prop::option::of(prop::sample::select(
                vec!["acme/firewall", "observer", Owner::DATAPATH])), 0..63),
            kind in prop::sample::select(vec![
                DefaultPlacement::BeforeDatapath, DefaultPlacement::Head, DefaultPlacement::Tail]),
            owner in prop::sample::select(vec!["observer", Owner::DATAPATH]),
        ) {
            let chain = chain(&owners);
            let placement = kind.place(&chain, &candidate(owner));
            let index = position(chain.entries.len(), placement);
            prop_assert!(index.is_some_and(|index| index <= chain.entries.len()));
        }

        #[test]
        fn nothing_but_the_datapath_is_put_behind_the_datapath(
            before in 0_usize..10, after in 0_usize..10,
        ) {
            let mut owners = vec![None; before];
            owners.push(Some(Owner::DATAPATH));
            owners.extend(vec![None; after]);
            let chain = chain(&owners);
            let placement = DefaultPlacement::BeforeDatapath.place(&chain, &candidate("observer"));
            prop_assert!(position(chain.entries.len(), placement).unwrap() <= before);
        }
    }
}
