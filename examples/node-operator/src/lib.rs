//! Keeps the MTU of the pairs that it is granted: whenever the node asks for its health, it looks through the devices,
//! and sets the MTU of those that have another. `grants.toml` says which devices it may touch.
//!
//! It acts in `health` and not while it is asked for a decision, since the node holds a namespace then.

use netloom_sdk::{
    host::{devices, metrics},
    prelude::*,
};
use serde::Deserialize;

/// The plugin's configuration.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Config {
    /// What the names of the devices begin with; `nl`, as the node's ends of endpoints' pairs, unless given.
    #[serde(default = "of_endpoints")]
    prefix: String,
    /// Bytes.
    mtu: u32,
}

fn of_endpoints() -> String {
    "nl".to_owned()
}

#[plugin(lifecycle)]
#[derive(Default)]
struct NodeOperator(Option<Config>);

impl Lifecycle for NodeOperator {
    type Config = Config;

    fn init(&mut self, config: Config) -> Result<(), String> {
        if !(1_280..=65_535).contains(&config.mtu) {
            return Err(format!("`mtu` is {}: endpoints with IPv6 take 1280 to 65535 bytes", config.mtu));
        }
        self.0 = Some(config);
        Ok(())
    }

    fn health(&mut self) -> Result<(), String> {
        let Some(config) = &self.0 else { return Ok(()) };
        let seen = devices::list_devices().map_err(|error| format!("devices cannot be listed: {error:?}"))?;
        let mut failures = Vec::new();
        for device in config.due(&seen) {
            match set(device, config.mtu) {
                Ok(()) => {
                    metrics::counter_add("mtu_set", 1);
                    info!("{} has an MTU of {} now", device.name, config.mtu; before = device.mtu);
                }
                // Somebody else is changing it, or it is gone: next time.
                Err(Error::Exhausted(why) | Error::Stale(why) | Error::NotFound(why)) => {
                    debug!("{} is left for later: {why}", device.name);
                }
                Err(error) => failures.push(format!("{}: {error:?}", device.name)),
            }
        }
        if failures.is_empty() {
            Ok(())
        } else {
            Err(format!("the MTU cannot be set on {}", failures.join("; ")))
        }
    }
}

impl Config {
    /// The devices whose MTU is another. Only pairs can be set.
    fn due<'a>(&self, devices: &'a [devices::Info]) -> impl Iterator<Item = &'a devices::Info> {
        let (prefix, mtu) = (self.prefix.clone(), self.mtu);
        devices.iter().filter(move |device| {
            device.mode.is_some() && device.mtu != mtu && device.name.starts_with(&prefix)
        })
    }
}

fn set(device: &devices::Info, mtu: u32) -> Result<(), Error> {
    devices::open(device.netns, &device.name)?.set_mtu(mtu)
}

#[cfg(test)]
mod tests {
    use netloom_sdk::testing;

    use super::*;

    fn device(name: &str, mode: Option<DeviceMode>, mtu: u32) -> devices::Info {
        devices::Info {
            name: name.to_owned(),
            ifindex: 7,
            netns: NetnsId { device: 4, inode: 4_026_531_840 },
            mode,
            mtu,
            mac: None,
            up: true,
            policy: None,
            gso_max_size: 65_536,
            gro_max_size: 65_536,
            packets: (0, 0),
            bytes: (0, 0),
        }
    }

    #[test]
    fn pairs_of_the_prefix_with_another_mtu_are_due() {
        let mut plugin = NodeOperator::default();
        testing::init(&mut plugin, r#"{ "mtu": 1400 }"#).unwrap();
        let devices = [
            device("nlweb", Some(DeviceMode::Netkit), 1_500),
            device("nldb", Some(DeviceMode::Veth), 1_400),
            device("nl-dummy", None, 1_500),
            device("vethother", Some(DeviceMode::Veth), 1_500),
        ];
        let due: Vec<&str> = plugin.0.unwrap().due(&devices).map(|device| device.name.as_str()).collect();
        assert_eq!(due, ["nlweb"]);
    }

    #[test]
    fn an_mtu_that_endpoints_cannot_have_is_refused() {
        for mtu in [0, 1_279, 65_536] {
            let config = format!(r#"{{ "mtu": {mtu} }}"#);
            let error = testing::init(&mut NodeOperator::default(), &config).unwrap_err();
            assert!(error.contains("1280 to 65535"), "{error}");
        }
    }
}
