//! The network's configuration, from stdin.

use std::{net::IpAddr, path::PathBuf};

use ipnet::IpNet;
use netloom_api::{Client, Paths};
use netloom_core::model::{MacAddress, Name};
use serde::{Deserialize, Deserializer, de::DeserializeOwned, de::Error as _};
use serde_json::Value;

use crate::{environment, failure::Failure};

/// The key of what is still in use.
const VALID_ATTACHMENTS: &str = "cni.dev/valid-attachments";

/// A network's configuration, with what the runtime added to it. What other plugins use is ignored.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct NetworkConfig {
    /// The network's name.
    pub(crate) name: String,
    /// netloomd's socket; the instance's if there is none.
    #[serde(default, deserialize_with = "empty_is_none")]
    socket: Option<PathBuf>,
    /// The instance of netloomd.
    #[serde(default, deserialize_with = "empty_is_none")]
    instance: Option<Name>,
    /// The container runtime class of this network's containers, such as `kata`.
    #[serde(default, deserialize_with = "empty_is_none")]
    pub(crate) runtime_class: Option<String>,
    /// Whether this network's containers are virtual machines.
    #[serde(default)]
    pub(crate) virtual_machine: bool,
    #[serde(default)]
    ipam: Value,
    #[serde(default)]
    runtime_config: RuntimeConfig,
    #[serde(default)]
    args: Arguments,
    /// The result of ADD, or of the plugin in front of this one.
    pub(crate) prev_result: Option<PreviousResult>,
    /// GC: what is still in use.
    #[serde(rename = "cni.dev/valid-attachments")]
    pub(crate) valid_attachments: Option<Vec<ValidAttachment>>,
}

/// What the runtime passes for the capabilities `ips` and `mac`.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct RuntimeConfig {
    ips: Vec<Address>,
    #[serde(deserialize_with = "empty_is_none")]
    mac: Option<MacAddress>,
}

/// What the network's user passes by convention.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Arguments {
    cni: CniArguments,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct CniArguments {
    ips: Vec<Address>,
    #[serde(deserialize_with = "empty_is_none")]
    mac: Option<MacAddress>,
    labels: Vec<Label>,
}

#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Label {
    pub(crate) key: String,
    pub(crate) value: String,
}

/// An address, with or without the length of its network.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(untagged)]
enum Address {
    Alone(IpAddr),
    InNetwork(IpNet),
}

impl Address {
    fn ip(self) -> IpAddr {
        match self {
            Self::Alone(address) => address,
            Self::InNetwork(network) => network.addr(),
        }
    }
}

/// What an earlier ADD answered.
#[derive(Debug, Deserialize)]
pub(crate) struct PreviousResult {
    #[serde(default)]
    pub(crate) ips: Vec<PreviousAddress>,
}

#[derive(Debug, Deserialize)]
pub(crate) struct PreviousAddress {
    pub(crate) address: IpNet,
}

/// An attachment that is still in use.
#[derive(Debug, Deserialize)]
pub(crate) struct ValidAttachment {
    #[serde(rename = "containerID")]
    pub(crate) container: String,
    #[serde(rename = "ifname")]
    pub(crate) interface: String,
}

impl NetworkConfig {
    /// Checks a configuration.
    pub(crate) fn parse(mut document: Value) -> Result<Self, Failure> {
        // Left out, it would say nothing of what is in use; null says that nothing is.
        if let Some(valid) = document.get_mut(VALID_ATTACHMENTS).filter(|valid| valid.is_null()) {
            *valid = Value::Array(Vec::new());
        }
        remove_nulls(&mut document);
        let config: Self =
            serde_json::from_value(document).map_err(|error| Failure::Config(error.to_string()))?;
        // The specification gives networks' names the same shape as containers' ids.
        environment::container_id(&config.name)
            .map_err(|why| Failure::Config(format!("the network's name {:?} {why}", config.name)))?;
        let has_ipam = match &config.ipam {
            Value::Null => false,
            Value::Object(fields) => !fields.is_empty(),
            _ => true,
        };
        if has_ipam {
            return Err(Failure::Unsupported {
                key: "ipam",
                value: config.ipam.to_string(),
                why: "netloomd gives the addresses, leave it out",
            });
        }
        Ok(config)
    }

    pub(crate) fn client(&self) -> Client {
        let socket = self.socket.clone();
        Client::new(socket.unwrap_or_else(|| Paths::of(self.instance.as_ref()).socket))
    }

    /// The addresses that were asked for. The runtime's word goes before the user's, newer ways before older.
    pub(crate) fn addresses(&self) -> Result<Vec<IpAddr>, Failure> {
        let given = [&self.runtime_config.ips, &self.args.cni.ips];
        if let Some(ips) = given.into_iter().find(|ips| !ips.is_empty()) {
            return Ok(ips.iter().map(|address| address.ip()).collect());
        }
        let Some(text) = environment::argument("IP") else { return Ok(Vec::new()) };
        let parsed = text.parse::<IpAddr>().or_else(|_| text.parse::<IpNet>().map(|network| network.addr()));
        parsed.map(|address| vec![address]).map_err(|_| {
            Failure::Environment(vec![format!("CNI_ARGS has IP={text}, which is not an address")])
        })
    }

    /// The hardware address that was asked for.
    pub(crate) fn mac(&self) -> Result<Option<MacAddress>, Failure> {
        if let Some(mac) = self.runtime_config.mac.or(self.args.cni.mac) {
            return Ok(Some(mac));
        }
        environment::argument("MAC")
            .map(|text| text.parse())
            .transpose()
            .map_err(|error| Failure::Environment(vec![format!("CNI_ARGS has a wrong MAC: {error}")]))
    }

    /// The labels that the network's user gave.
    pub(crate) fn labels(&self) -> impl Iterator<Item = (String, String)> {
        self.args.cni.labels.iter().map(|label| (label.key.clone(), label.value.clone()))
    }
}

/// Go writes lists, maps and pointers that are empty as null: the same as if they were not there.
fn remove_nulls(value: &mut Value) {
    match value {
        Value::Object(fields) => {
            fields.retain(|_, value| !value.is_null());
            fields.values_mut().for_each(remove_nulls);
        }
        Value::Array(items) => items.iter_mut().for_each(remove_nulls),
        _ => {}
    }
}

/// Go writes texts that are empty as such: the same as if they were not there.
fn empty_is_none<'de, D: Deserializer<'de>, T: DeserializeOwned>(
    deserializer: D,
) -> Result<Option<T>, D::Error> {
    let value = Value::deserialize(deserializer)?;
    if value == "" { Ok(None) } else { serde_json::from_value(value).map_err(D::Error::custom) }
}
