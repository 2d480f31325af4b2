//! Each runtime class gets the device mode it needs: virtual machines and the classes listed have a link layer, all
//! others the fastest pair that the node has.

use std::collections::BTreeSet;

use netloom_sdk::prelude::*;
use serde::Deserialize;

/// The plugin's configuration.
#[derive(Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Config {
    /// Runtime classes whose guests speak Ethernet.
    layer_2: BTreeSet<String>,
}

impl Default for Config {
    fn default() -> Self {
        Self { layer_2: ["kata", "kubevirt", "firecracker"].map(str::to_owned).into() }
    }
}

#[plugin(datapath_mode, lifecycle)]
#[derive(Default)]
struct RuntimeClassMode(Config);

impl Lifecycle for RuntimeClassMode {
    type Config = Config;

    fn init(&mut self, config: Config) -> Result<(), String> {
        self.0 = config;
        Ok(())
    }
}

impl DatapathMode for RuntimeClassMode {
    fn choose(&mut self, node: &Node, endpoint: &Endpoint) -> ModeDecision {
        let listed = endpoint.runtime_class.as_ref().is_some_and(|class| self.0.layer_2.contains(class));
        let layer_2 = listed || endpoint.virtual_machine || endpoint.mac.is_some();
        let device = match (node.netkit, layer_2) {
            (true, true) => DeviceMode::NetkitL2,
            (true, false) => DeviceMode::Netkit,
            (false, _) => DeviceMode::Veth,
        };
        Mode::new(device).into()
    }
}

#[cfg(test)]
mod tests {
    use netloom_sdk::testing::{self, endpoint, node};

    use super::*;

    fn mode(
        plugin: &mut RuntimeClassMode,
        netkit: bool,
        class: Option<&str>,
        virtual_machine: bool,
    ) -> DeviceMode {
        let node = Node { netkit, ..node() };
        let runtime_class = class.map(str::to_owned);
        let endpoint = Endpoint { runtime_class, virtual_machine, ..endpoint("web") };
        match plugin.choose(&node, &endpoint) {
            ModeDecision::Choose(mode) => mode.device,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn guests_that_speak_ethernet_get_a_link_layer() {
        let mut plugin = RuntimeClassMode::default();
        assert_eq!(mode(&mut plugin, true, None, false), DeviceMode::Netkit);
        assert_eq!(mode(&mut plugin, true, Some("runc"), false), DeviceMode::Netkit);
        assert_eq!(mode(&mut plugin, true, Some("kata"), false), DeviceMode::NetkitL2);
        assert_eq!(mode(&mut plugin, true, None, true), DeviceMode::NetkitL2);
        assert_eq!(mode(&mut plugin, false, Some("kata"), true), DeviceMode::Veth);
    }

    #[test]
    fn the_list_is_the_operators() {
        let mut plugin = RuntimeClassMode::default();
        testing::init(&mut plugin, r#"{ "layer_2": ["gvisor"] }"#).unwrap();
        assert_eq!(mode(&mut plugin, true, Some("kata"), false), DeviceMode::Netkit);
        assert_eq!(mode(&mut plugin, true, Some("gvisor"), false), DeviceMode::NetkitL2);
    }
}
