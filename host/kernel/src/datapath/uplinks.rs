use netloom_core::model::IfIndex;
use netloom_ebpf::layout;

use super::{
    Datapath, DatapathError,
    loader::load_program,
    maps::{Maps, UPLINK_OBJECT},
};
use crate::{maps::NODE, programs::Program};

pub(super) const FROM_UPLINK: &str = "nl_from_uplink";

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
        [maps.endpoints_id, maps.counters_id].iter().all(|id| program.maps().contains(id))
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
        self.maps().change_node(|node| node.uplinks = slots)
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
