//! The network's configuration, from stdin.

use std::{net::IpAddr, ops::RangeInclusive, path::PathBuf};

use ipnet::IpNet;
use netloom_api::{Client, Deletions, Paths};
use netloom_core::model::{DefaultRoute, MacAddress, Name};
use serde::{Deserialize, Deserializer, Serialize, de::DeserializeOwned, de::Error as _};
use serde_json::{Map, Value, json};

use crate::{
    environment::{self, Command},
    failure::Failure,
};

/// The key of what is still in use.
const VALID_ATTACHMENTS: &str = "cni.dev/valid-attachments";

/// The MTUs that any device may have. With IPv6, netloomd takes fewer.
const MTUS: RangeInclusive<u32> = 68..=65_535;

/// Capabilities that others have: the runtime passes them to plugins that claim them alone.
const UNSUPPORTED_CAPABILITIES: [(&str, &str, &str); 4] = [
    (
        "runtimeConfig.portMappings",
        "portMappings",
        "netloom-cni publishes no ports, take the capability off it and put the plugin portmap behind it",
    ),
    (
        "runtimeConfig.bandwidth",
        "bandwidth",
        "netloom-cni limits no bandwidth, take the capability off it and, for veth pairs, put the plugin bandwidth behind it",
    ),
    (
        "runtimeConfig.ipRanges",
        "ipRanges",
        "netloomd gives addresses of its own pools, take the capability off netloom-cni and set endpoints.ipv4_pool, or \
         have another plugin give them: ipam.type",
    ),
    ("runtimeConfig.aliases", "aliases", "netloomd resolves no names, take the capability off netloom-cni"),
];

/// A network's configuration, with what the runtime added to it. What other plugins use is ignored.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct NetworkConfig {
    /// This plugin's name, by which the runtime has found it.
    #[serde(default, rename = "type")]
    kind: String,
    /// The network's name; DEL does without.
    #[serde(default)]
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
    /// Whether what containers send to outside gets the node's address; as the node has it if nothing is said.
    pub(crate) ip_masq: Option<bool>,
    /// Bytes; as the node has it if nothing is said, or 0.
    #[serde(default)]
    mtu: u32,
    /// Whether the container gets a default route by this network.
    pub(crate) default_route: Option<DefaultRoute>,
    #[serde(default)]
    routes: Vec<Route>,
    #[serde(default)]
    dns: Dns,
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

/// What the runtime passes for the capabilities `ips`, `mac` and `dns`, and for others.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct RuntimeConfig {
    ips: Vec<Address>,
    #[serde(deserialize_with = "empty_is_none")]
    mac: Option<MacAddress>,
    dns: RuntimeDns,
    #[serde(flatten)]
    others: Map<String, Value>,
}

/// Where a container gets to by this network. All ways lead to the node.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Route {
    dst: IpNet,
    #[serde(flatten)]
    others: Map<String, Value>,
}

/// How names are resolved: netloomd has nothing to do with it, and passes it on.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Dns {
    #[serde(skip_serializing_if = "Vec::is_empty")]
    nameservers: Vec<String>,
    #[serde(skip_serializing_if = "String::is_empty")]
    domain: String,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    search: Vec<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    options: Vec<String>,
}

/// The same as runtimes write it.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
struct RuntimeDns {
    servers: Vec<String>,
    searches: Vec<String>,
    options: Vec<String>,
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

/// What an earlier ADD, or the plugin in front of this one, answered.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct PreviousResult {
    pub(crate) interfaces: Vec<Map<String, Value>>,
    pub(crate) ips: Vec<PreviousAddress>,
    pub(crate) routes: Vec<Map<String, Value>>,
    pub(crate) dns: Map<String, Value>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct PreviousAddress {
    pub(crate) address: IpNet,
    /// All else that there is.
    #[serde(flatten)]
    pub(crate) others: Map<String, Value>,
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
    /// Checks a configuration, as far as the command needs it.
    pub(crate) fn parse(mut document: Value, command: Command) -> Result<Self, Failure> {
        // Left out, it would say nothing of what is in use; null says that nothing is.
        if let Some(valid) = document.get_mut(VALID_ATTACHMENTS).filter(|valid| valid.is_null()) {
            *valid = Value::Array(Vec::new());
        }
        remove_nulls(&mut document);
        if let (Some(needed), Some(fields)) = (needed(command), document.as_object_mut()) {
            fields.retain(|key, _| needed.contains(&key.as_str()));
        }
        let config: Self =
            serde_json::from_value(document).map_err(|error| Failure::Config(error.to_string()))?;
        if command != Command::Del {
            // The specification gives networks' names the same shape as containers' ids.
            environment::container_id(&config.name)
                .map_err(|why| Failure::Config(format!("the network's name {:?} {why}", config.name)))?;
        }
        if config.mtu != 0 && !MTUS.contains(&config.mtu) {
            let (least, most) = (MTUS.start(), MTUS.end());
            return Err(Failure::Config(format!("mtu is {}, and not from {least} to {most}", config.mtu)));
        }
        if needed(command).is_none() {
            config.refuse_what_would_be_ignored()?;
        }
        Ok(config)
    }

    /// Nobody is to believe in what would do nothing.
    fn refuse_what_would_be_ignored(&self) -> Result<(), Failure> {
        let unsupported = |key, value: &Value, why: &str| {
            Err(Failure::Unsupported { key, value: value.to_string(), why: why.to_owned() })
        };
        if !is_empty(&self.ipam) && self.ipam_type().is_none() {
            let why =
                "type has to be another plugin, which gives the addresses; leave ipam out, and netloomd does";
            return unsupported("ipam", &self.ipam, why);
        }
        if let Some(route) = self.routes.iter().find(|route| !route.others.values().all(is_empty)) {
            let why = "all routes lead to the node, and to their destination from there: give dst alone";
            return unsupported("routes", &json!([route]), why);
        }
        for (key, capability, why) in UNSUPPORTED_CAPABILITIES {
            if capability == "ipRanges" && self.ipam_type().is_some() {
                continue;
            }
            if let Some(value) = self.runtime_config.others.get(capability).filter(|value| !is_empty(value)) {
                return unsupported(key, value, why);
            }
        }
        Ok(())
    }

    /// The plugin that gives the addresses, if netloomd does not. A name only: it is looked for in CNI_PATH. This one
    /// would ask itself for ever.
    pub(crate) fn ipam_type(&self) -> Option<&str> {
        let is_usable = |kind: &&str| !kind.is_empty() && !kind.contains('/') && *kind != self.kind;
        self.ipam.get("type")?.as_str().filter(is_usable)
    }

    /// The MTU that is asked for.
    pub(crate) fn mtu(&self) -> Option<u32> {
        Some(self.mtu).filter(|mtu| *mtu != 0)
    }

    /// Where else than by default a container gets to by this network.
    pub(crate) fn routes(&self) -> Vec<IpNet> {
        self.routes.iter().map(|route| route.dst).collect()
    }

    /// How names are resolved: by the runtime's word, else by the network's. None if neither says anything.
    pub(crate) fn dns(&self) -> Option<Dns> {
        let RuntimeDns { servers, searches, options } = self.runtime_config.dns.clone();
        let mut dns = self.dns.clone();
        for (given, known) in
            [(servers, &mut dns.nameservers), (searches, &mut dns.search), (options, &mut dns.options)]
        {
            if !given.is_empty() {
                *known = given;
            }
        }
        (dns != Dns::default()).then_some(dns)
    }

    pub(crate) fn client(&self) -> Client {
        let socket = self.socket.clone();
        Client::new(socket.unwrap_or_else(|| Paths::of(self.instance.as_ref()).socket))
    }

    /// Where deletions wait for a netloomd that is away.
    pub(crate) fn deletions(&self) -> Deletions {
        Deletions::beside(self.client().socket())
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

/// What a command needs of a configuration, if not all: the rest may be whatever it is.
fn needed(command: Command) -> Option<&'static [&'static str]> {
    match command {
        Command::Del => Some(&["type", "socket", "instance", "ipam"]),
        Command::Gc => Some(&["name", "type", "socket", "instance", "ipam", VALID_ATTACHMENTS]),
        _ => None,
    }
}

/// Whether it says nothing, as Go writes what it has no value for.
pub(crate) fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Bool(value) => !value,
        Value::Number(number) => number.as_f64() == Some(0.0),
        Value::String(text) => text.is_empty(),
        Value::Array(items) => items.is_empty(),
        Value::Object(fields) => fields.values().all(is_empty),
    }
}

/// Go writes lists, maps and pointers that are empty as null: the same as if they were not there.
pub(crate) fn remove_nulls(value: &mut Value) {
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
