//! The bundled datapath-mode plugin.
//!
//! netkit where the kernel has it: without a link layer for containers, with one for virtual machines and for
//! endpoints that ask for a hardware address. Elsewhere veth. On netkit nothing leaves the endpoint before its
//! program is attached.

use netloom_sdk::prelude::*;
use serde::Deserialize;

/// The plugin's configuration.
#[derive(Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Config {
    /// Runtime classes whose endpoints are virtual machines. `kata` also stands for `kata-qemu`, `kata-clh` and
    /// the like.
    vm_runtime_classes: Vec<String>,
}

impl Default for Config {
    fn default() -> Self {
        Self { vm_runtime_classes: vec!["kata".to_owned()] }
    }
}

#[plugin(datapath_mode, lifecycle)]
#[derive(Default)]
struct Netkit {
    config: Config,
}

impl Netkit {
    fn needs_link_layer(&self, endpoint: &Endpoint) -> bool {
        let class = endpoint.runtime_class.as_deref();
        endpoint.virtual_machine || endpoint.mac.is_some() || class.is_some_and(|class| self.runs_vms(class))
    }

    fn runs_vms(&self, class: &str) -> bool {
        self.config.vm_runtime_classes.iter().any(|vm| {
            class
                .strip_prefix(vm.as_str())
                .is_some_and(|variant| variant.is_empty() || variant.starts_with('-'))
        })
    }
}

impl DatapathMode for Netkit {
    fn choose(&mut self, node: &Node, endpoint: &Endpoint) -> ModeDecision {
        let device = match (node.netkit, self.needs_link_layer(endpoint)) {
            (false, _) => return Mode::new(DeviceMode::Veth).into(),
            (true, false) => DeviceMode::Netkit,
            (true, true) => DeviceMode::NetkitL2,
        };
        Mode {
            primary_policy: Some(NetkitPolicy::Forward),
            peer_policy: Some(NetkitPolicy::Blackhole),
            ..Mode::new(device)
        }
        .into()
    }
}

impl Lifecycle for Netkit {
    type Config = Config;

    fn init(&mut self, config: Config) -> Result<(), String> {
        if config.vm_runtime_classes.iter().any(String::is_empty) {
            return Err("`vm_runtime_classes` has an empty name: leave it out".to_owned());
        }
        self.config = config;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use netloom_sdk::testing::{self, endpoint, node};

    use super::*;

    fn choose(plugin: &mut Netkit, netkit: bool, endpoint: &Endpoint) -> Mode {
        match plugin.choose(&Node { netkit, ..node() }, endpoint) {
            ModeDecision::Choose(mode) => mode,
            other => panic!("it has an opinion, not {other:?}"),
        }
    }

    #[test]
    fn the_device_follows_the_endpoint_and_the_kernel() {
        let plain = endpoint("a");
        let class = |class: &str| Endpoint { runtime_class: Some(class.to_owned()), ..plain.clone() };
        let cases = [
            ("a container", plain.clone(), DeviceMode::Netkit),
            ("runc", class("runc"), DeviceMode::Netkit),
            ("a name that only begins alike", class("katana"), DeviceMode::Netkit),
            ("kata", class("kata"), DeviceMode::NetkitL2),
            ("a variant of kata", class("kata-qemu"), DeviceMode::NetkitL2),
            ("a VM", Endpoint { virtual_machine: true, ..plain.clone() }, DeviceMode::NetkitL2),
            ("a MAC", Endpoint { mac: Some((2, 0, 0, 0, 0, 1)), ..plain.clone() }, DeviceMode::NetkitL2),
        ];
        for (name, endpoint, wanted) in cases {
            assert_eq!(choose(&mut Netkit::default(), true, &endpoint).device, wanted, "{name}");
            assert_eq!(
                choose(&mut Netkit::default(), false, &endpoint),
                Mode::new(DeviceMode::Veth),
                "{name}"
            );
        }
    }

    #[test]
    fn nothing_leaves_a_netkit_endpoint_before_its_program_is_there() {
        let mode = choose(&mut Netkit::default(), true, &endpoint("a"));
        let policies = (mode.primary_policy, mode.peer_policy);
        assert_eq!(policies, (Some(NetkitPolicy::Forward), Some(NetkitPolicy::Blackhole)));
        assert_eq!(mode.attachment, None, "the host takes the best the kernel has");
    }

    #[test]
    fn runtime_classes_are_configured() {
        let mut plugin = Netkit::default();
        testing::init(&mut plugin, r#"{ "vm_runtime_classes": ["firecracker"] }"#).unwrap();
        for (class, wanted) in [("firecracker", DeviceMode::NetkitL2), ("kata", DeviceMode::Netkit)] {
            let endpoint = Endpoint { runtime_class: Some(class.to_owned()), ..endpoint("a") };
            assert_eq!(choose(&mut plugin, true, &endpoint).device, wanted, "{class}");
        }
    }

    #[test]
    fn a_wrong_configuration_is_refused_in_words() {
        let cases = [
            (r#"{ "vm_classes": [] }"#, "unknown field `vm_classes`, expected `vm_runtime_classes`"),
            (r#"{ "vm_runtime_classes": "kata" }"#, "expected a sequence"),
            (r#"{ "vm_runtime_classes": [""] }"#, "empty name"),
        ];
        for (config, wanted) in cases {
            let error = testing::init(&mut Netkit::default(), config).unwrap_err();
            assert!(error.contains(wanted), "{config}: {error}");
        }
        assert_eq!(testing::init(&mut Netkit::default(), "{}"), Ok(()));
    }
}
