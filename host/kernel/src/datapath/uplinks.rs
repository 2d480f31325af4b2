use std::{collections::BTreeSet, net::IpAddr};

use aya::maps::lpm_trie::Key;
use ipnet::IpNet;
use netloom_core::model::IfIndex;
use netloom_ebpf::layout::{self, node_flag};

use super::{
    Datapath, DatapathError,
    loader::load_program,
    maps::{Maps, UPLINK_OBJECT},
    tables::{all, delete},
};
use crate::{
    maps::{ENDPOINTS, NATIVE, NODE, OWN_ADDRESSES},
    programs::Program,
};

const FROM_UPLINK: &str = "nl_from_uplink";

/// What became of telling the node's addresses.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OwnAddresses {
    /// Those that are the node's now and were not before, and the other way round.
    pub changed: Vec<IpAddr>,
    /// How many there was no room for.
    pub left: usize,
}

/// What goes through the node's stack, because that has a say in it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ByStack {
    /// What goes from one endpoint to another.
    pub local: bool,
    /// Of what goes from one endpoint to another, the beginnings of flows, and the flows that it translates.
    pub translated: bool,
    /// What endpoints of several addresses of a family send to outside.
    pub several_sources: bool,
    /// What goes to or comes from an address outside the native prefixes: it is masqueraded there.
    pub masqueraded: bool,
}

impl ByStack {
    fn flags(self) -> u32 {
        let bits = [
            (self.local, node_flag::LOCAL_BY_STACK),
            (self.translated, node_flag::TRANSLATES),
            (self.several_sources, node_flag::ROUTES_BY_SOURCE),
            (self.masqueraded, node_flag::MASQUERADES),
        ];
        bits.iter().filter(|(set, _)| *set).fold(0, |flags, (_, bit)| flags | bit)
    }
}

impl Datapath {
    /// Loads a program for the ingress of a device to outside, which sends what is for an endpoint straight there.
    /// Each device needs a program of its own.
    ///
    /// # Errors
    /// [`DatapathError::Rejected`] with the verifier's log, [`DatapathError::Load`].
    pub fn uplink_program(&self) -> Result<Program, DatapathError> {
        let mut object = self.loader.load(UPLINK_OBJECT, netloom_ebpf::UPLINK)?;
        load_program(&mut object, FROM_UPLINK)
    }

    /// Whether an uplink's program, found attached after a restart, sees the endpoints of this datapath.
    #[must_use]
    pub fn uplink_runs_on_these_maps(&self, program: &Program) -> bool {
        let maps = self.maps();
        [maps.endpoints_id, maps.counters_id, maps.monitor_id].iter().all(|id| program.maps().contains(id))
    }

    /// Names the devices by which packets of endpoints leave the node without its stack's doing. With none, all of
    /// them go to the stack.
    ///
    /// # Errors
    /// [`DatapathError::Uplinks`] if there are more than [`layout::UPLINKS`]; [`DatapathError::Map`].
    pub fn set_uplinks(&self, uplinks: &[IfIndex]) -> Result<(), DatapathError> {
        let mut slots = [0; layout::UPLINKS];
        if uplinks.len() > slots.len() {
            return Err(DatapathError::Uplinks { count: uplinks.len(), limit: slots.len() });
        }
        for (slot, uplink) in slots.iter_mut().zip(uplinks) {
            *slot = uplink.0;
        }
        let mut maps = self.maps();
        if maps.node()?.uplinks == slots { Ok(()) } else { maps.change_node(|node| node.uplinks = slots) }
    }

    /// Says what the node's stack has a say in, and which endpoints' devices hold up or filter packets, by the
    /// endpoints' numbers.
    ///
    /// # Errors
    /// [`DatapathError::Map`].
    pub fn set_by_stack(&self, by_stack: ByStack, endpoints: &BTreeSet<u32>) -> Result<(), DatapathError> {
        let mut maps = self.maps();
        let changed = maps.set_through_stack(self.sizes, endpoints)?;
        let flags = by_stack.flags();
        if changed || maps.node()?.flags != flags {
            maps.change_node(|node| node.flags = flags)?;
        }
        Ok(())
    }

    /// Names the prefixes to and from which packets keep the endpoints' addresses where others are masqueraded.
    ///
    /// # Errors
    /// [`DatapathError::Map`].
    pub fn set_native(&self, prefixes: &[IpNet]) -> Result<(), DatapathError> {
        let failed = |action| move |source| DatapathError::Map { action, map: NATIVE, source };
        let mut maps = self.maps();
        let wanted: BTreeSet<_> = prefixes.iter().map(|prefix| key(*prefix)).collect();
        let present = maps.native.keys().collect::<Result<Vec<_>, _>>().map_err(failed("read"))?;
        let present: BTreeSet<_> = present.iter().map(|key| (key.prefix_len(), key.data())).collect();
        for (bits, address) in wanted.difference(&present) {
            maps.native.insert(&Key::new(*bits, *address), 1, 0).map_err(failed("write"))?;
        }
        for (bits, address) in present.difference(&wanted) {
            maps.native.remove(&Key::new(*bits, *address)).map_err(failed("remove from"))?;
        }
        if wanted == present { Ok(()) } else { maps.change_node(|_| {}) }
    }

    /// Tells the programs the node's own addresses, but for those that mean something else on each link: what comes
    /// from outside in their name is dropped. None of them is an endpoint's from then on; an endpoint that has one
    /// which the node has no more is to be [set](Self::set_endpoint) again.
    ///
    /// # Errors
    /// [`DatapathError::Map`].
    pub fn set_own_addresses(&self, addresses: &[IpAddr]) -> Result<OwnAddresses, DatapathError> {
        let mut maps = self.maps();
        let wanted: BTreeSet<_> =
            addresses.iter().map(|address| layout::Address::from(*address).to_bytes()).collect();
        let present: BTreeSet<_> =
            all(&maps.own_addresses, OWN_ADDRESSES)?.into_iter().map(|(key, _)| key).collect();
        let mut own = OwnAddresses::default();
        for key in present.difference(&wanted) {
            delete(&mut maps.own_addresses, OWN_ADDRESSES, key)?;
            own.changed.push(layout::Address::from_bytes(*key).into());
        }
        for key in wanted.difference(&present) {
            if maps.own_addresses.insert(key, [0; 4], 0).is_err() {
                own.left += 1;
                continue;
            }
            delete(&mut maps.endpoints, ENDPOINTS, key)?;
            own.changed.push(layout::Address::from_bytes(*key).into());
        }
        if !own.changed.is_empty() {
            maps.change_node(|_| {})?;
        }
        Ok(own)
    }

    /// The devices by which packets of endpoints leave the node without its stack's doing.
    ///
    /// # Errors
    /// [`DatapathError::Map`].
    pub fn uplinks(&self) -> Result<Vec<IfIndex>, DatapathError> {
        let node = self.maps().node()?;
        Ok(node.uplinks.into_iter().take_while(|index| *index != 0).map(IfIndex).collect())
    }
}

/// A prefix's length and address, IPv4 mapped.
fn key(prefix: IpNet) -> (u32, [u8; layout::Address::SIZE]) {
    let mapped = if prefix.addr().is_ipv4() { 96 } else { 0 };
    (mapped + u32::from(prefix.prefix_len()), layout::Address::from(prefix.network()).to_bytes())
}

impl Maps {
    pub(super) fn node(&self) -> Result<layout::Node, DatapathError> {
        let bytes = self.node.get(&0, 0);
        bytes.map(layout::Node::from_bytes).map_err(|source| DatapathError::Map {
            action: "read",
            map: NODE,
            source,
        })
    }

    /// One writer at a time: whoever calls holds the maps' lock.
    pub(super) fn change_node(
        &mut self,
        change: impl FnOnce(&mut layout::Node),
    ) -> Result<(), DatapathError> {
        let mut node = self.node()?;
        change(&mut node);
        node.generation = node.generation.wrapping_add(1);
        self.node.set(0, node.to_bytes(), 0).map_err(|source| DatapathError::Map {
            action: "write",
            map: NODE,
            source,
        })
    }
}
