use crate::types::{Endpoint, ModeDecision, Node};

/// Datapath mode selection: what kind of device and datapath an endpoint gets.
///
/// If it fails, the last good answer on this node holds, then the built-in default.
///
/// ```
/// use netloom_sdk::{prelude::*, testing};
///
/// /// Jumbo frames inside the storage network.
/// #[plugin(datapath_mode)]
/// #[derive(Default)]
/// struct Storage;
///
/// impl DatapathMode for Storage {
///     fn choose(&mut self, node: &Node, endpoint: &Endpoint) -> ModeDecision {
///         if endpoint.label("network") != Some("storage") {
///             return ModeDecision::Abstain;
///         }
///         let device = if node.netkit { DeviceMode::Netkit } else { DeviceMode::Veth };
///         Mode { mtu: Some(9000), ..Mode::new(device) }.into()
///     }
/// }
///
/// let node = Node { netkit: false, ..testing::node() };
/// let endpoint = testing::endpoint("ceph-0").with_label("network", "storage");
/// let ModeDecision::Choose(mode) = Storage.choose(&node, &endpoint) else { panic!("it has an opinion") };
/// assert_eq!((mode.device, mode.mtu), (DeviceMode::Veth, Some(9000)));
/// ```
pub trait DatapathMode {
    /// Which datapath does this endpoint get on this node? A field of the answer that is none takes the node's
    /// configured value.
    fn choose(&mut self, node: &Node, endpoint: &Endpoint) -> ModeDecision;
}
