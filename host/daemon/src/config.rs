//! The configuration file. Every key has a default; an empty file, or none, is a complete configuration.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context as _, bail};
use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use netloom_api::types::PluginLimits;
use netloom_core::{
    grants::Grants,
    model::{AttachmentMode, Name},
    ordering::DefaultPlacement,
};
use netloom_kernel::sockets::{Destroyer, Finder};
use serde::{Deserialize, Serialize};

/// Most prefixes of `datapath.native`: the datapath has room for some more.
const MAX_NATIVE: usize = 1_000;

/// Everything an operator can set.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Config {
    pub(crate) node: Node,
    pub(crate) log: Log,
    pub(crate) endpoints: Endpoints,
    pub(crate) attachments: Attachments,
    pub(crate) datapath: Datapath,
    pub(crate) sockets: Sockets,
    pub(crate) plugins: Plugins,
}

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Node {
    /// The host name if none.
    pub(crate) name: Option<String>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Log {
    /// `text` or `json`.
    pub(crate) format: LogFormat,
    /// As in `tracing`: `info`, or `netloomd=debug,info`.
    pub(crate) filter: String,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum LogFormat {
    #[default]
    Text,
    Json,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Endpoints {
    /// Addresses for endpoints that bring none. Both families unless one is empty.
    pub(crate) ipv4_pool: Option<Ipv4Net>,
    pub(crate) ipv6_pool: Option<Ipv6Net>,
    /// Addresses of the pools that are given to nobody who brings none.
    pub(crate) exclude: Vec<IpNet>,
    /// The node's prefixes: an endpoint with an address outside all of them is refused. Any address without them.
    pub(crate) prefixes: Vec<IpNet>,
    /// Bytes; as the devices that lead to outside have it if nothing is said.
    pub(crate) mtu: Option<u32>,
    /// What is made as it was when somebody else changes it.
    pub(crate) mend: Mend,
}

/// What of an endpoint is mended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Mend {
    /// Everything that Netloom set.
    #[default]
    All,
    /// What is on the node; not what is in the endpoint's namespace.
    Node,
    /// Nothing.
    None,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Attachments {
    /// `auto`, `tcx` or `tc`.
    pub(crate) mode: AttachmentMode,
    /// Where a program goes when no plugin decides.
    pub(crate) default_placement: DefaultPlacement,
    /// How often a decision is made anew when the chain changed meanwhile, at most. It takes a fraction of a
    /// millisecond: so many outlast a process that does nothing but attach and detach.
    pub(crate) attempts: u32,
    /// Milliseconds between two looks at the chains for changes by others; 0 for none.
    pub(crate) watch_ms: u64,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Datapath {
    pub(crate) max_endpoints: u32,
    pub(crate) max_services: u32,
    pub(crate) max_backends: u32,
    /// Clients of services with an affinity whose backend is remembered; of more, those that stayed away are forgotten.
    pub(crate) max_affinities: u32,
    /// Answers that UDP sockets wait for which sent to more than sixteen services; of more, the oldest are forgotten and
    /// show the backend's address.
    pub(crate) max_udp_exchanges: u32,
    /// Directions of flows between endpoints that are known at a time while the node's stack translates addresses.
    pub(crate) max_local_flows: u32,
    /// Labels, each `KEY=VALUE` or `KEY`, of endpoints whose sockets see services' addresses as they are.
    pub(crate) untranslated: Vec<String>,
    /// The cgroup whose processes services are translated for; the root if none.
    pub(crate) cgroup: Option<PathBuf>,
    /// How packets of endpoints go to and come from outside.
    pub(crate) outside: Way,
    /// How packets go from one endpoint to another.
    pub(crate) local: Way,
    /// Give what endpoints send to outside the node's address, but for what goes to `native` prefixes.
    pub(crate) masquerade: bool,
    /// Prefixes outside whose hosts know the way to endpoints' addresses.
    pub(crate) native: Vec<IpNet>,
    /// The devices to outside; those of the default routes if there are none here.
    pub(crate) uplinks: Vec<String>,
    /// So many events a second does each CPU report to `netloom monitor`, at most; the others are counted.
    pub(crate) events_per_second: u32,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Way {
    /// Past the node's stack, unless that has a say in them.
    #[default]
    Auto,
    /// Past the node's stack always.
    Direct,
    /// Through the node's stack always.
    Stack,
}

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Sockets {
    /// `sk-storage-iterator`, `netns-iterator` or `sock-diag-dump`; the first of them that the kernel has if none.
    pub(crate) finder: Option<Finder>,
    /// `sock-diag`, `netns-iterator` or `none`; the first of them that the kernel has if none.
    pub(crate) destroyer: Option<Destroyer>,
    /// So many sockets are destroyed in a second, at most; without a limit if 0.
    pub(crate) destroy_rate: u32,
    /// Bind the sockets that were connected before netloomd was first started. The node's own netloomd does if none,
    /// an instance beside it does not.
    pub(crate) back_fill: Option<bool>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Plugins {
    /// Load the plugins that come with netloomd.
    pub(crate) bundled: bool,
    /// Milliseconds a decision may take.
    pub(crate) deadline_ms: u64,
    /// MiB of memory a plugin may use.
    pub(crate) memory_mib: usize,
    /// Seconds between questions for a plugin's health; 0 never asks.
    pub(crate) health_seconds: u64,
    /// Public keys (PEM) and identities (TOML), one of which has to have signed a plugin that is not bundled; none
    /// takes everybody's.
    pub(crate) signed_by: Vec<PathBuf>,
    /// Where compiled plugins are kept, for root alone; in the state directory if none.
    pub(crate) compiled: Option<PathBuf>,
    /// The configuration of each bundled plugin, by its name.
    pub(crate) config: BTreeMap<Name, toml::Table>,
    /// More plugins, in front of the bundled ones, the first to be asked first.
    pub(crate) load: Vec<Load>,
}

/// A plugin to load at start.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Load {
    pub(crate) name: Name,
    pub(crate) path: PathBuf,
    #[serde(default)]
    pub(crate) config: toml::Table,
    #[serde(default)]
    pub(crate) grants: Grants,
    #[serde(default)]
    pub(crate) limits: PluginLimits,
    /// Reload it when its file changes.
    #[serde(default)]
    pub(crate) watch: bool,
}

impl Default for Log {
    fn default() -> Self {
        Self { format: LogFormat::Text, filter: "info".into() }
    }
}

impl Default for Endpoints {
    fn default() -> Self {
        Self {
            ipv4_pool: Ipv4Net::new([10, 210, 0, 0].into(), 16).ok(),
            ipv6_pool: Ipv6Net::new([0xfd6e, 0x6c00, 0, 0, 0, 0, 0, 0].into(), 112).ok(),
            exclude: Vec::new(),
            prefixes: Vec::new(),
            mtu: None,
            mend: Mend::All,
        }
    }
}

impl Endpoints {
    /// The pools that there are, of both families.
    pub(crate) fn pools(&self) -> impl Iterator<Item = IpNet> {
        [self.ipv4_pool.map(IpNet::from), self.ipv6_pool.map(IpNet::from)].into_iter().flatten()
    }
}

impl Default for Attachments {
    fn default() -> Self {
        Self {
            mode: AttachmentMode::Auto,
            default_placement: DefaultPlacement::default(),
            attempts: 64,
            watch_ms: 500,
        }
    }
}

impl Default for Datapath {
    fn default() -> Self {
        Self {
            max_endpoints: 4_096,
            max_services: 16_384,
            max_backends: 131_072,
            max_affinities: 65_536,
            max_udp_exchanges: 65_536,
            max_local_flows: 32_768,
            untranslated: vec!["netloom.dev/service-translation=none".to_owned()],
            cgroup: None,
            outside: Way::Auto,
            local: Way::Auto,
            masquerade: true,
            native: Vec::new(),
            uplinks: Vec::new(),
            events_per_second: 1_000,
        }
    }
}

impl Default for Plugins {
    fn default() -> Self {
        Self {
            bundled: true,
            deadline_ms: 50,
            memory_mib: 16,
            health_seconds: 10,
            signed_by: Vec::new(),
            compiled: None,
            config: BTreeMap::new(),
            load: Vec::new(),
        }
    }
}

impl Config {
    /// Reads the file. Without an explicit path a missing file is an empty one.
    pub(crate) fn read(path: &Path, explicit: bool) -> anyhow::Result<Self> {
        let text = match std::fs::read_to_string(path) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound && !explicit => {
                return Ok(Self::default());
            }
            Err(error) => {
                return Err(error)
                    .with_context(|| format!("the configuration {} cannot be read", path.display()));
            }
        };
        Self::parse(&text).with_context(|| format!("the configuration {} is not valid", path.display()))
    }

    fn parse(text: &str) -> anyhow::Result<Self> {
        let config: Self = toml::from_str(text)?;
        config.check()?;
        Ok(config)
    }

    fn check(&self) -> anyhow::Result<()> {
        if self.attachments.attempts == 0 {
            bail!("attachments.attempts is 0: use 1 or more");
        }
        if let Some(mtu) = self.endpoints.mtu.filter(|mtu| !(68..=65_535).contains(mtu)) {
            bail!("endpoints.mtu is {mtu}: use 68 to 65535, or leave it out");
        }
        let is_in_a_pool =
            |net: &IpNet| self.endpoints.pools().any(|pool| pool.contains(net) || net.contains(&pool));
        if let Some(net) = self.endpoints.exclude.iter().find(|net| !is_in_a_pool(net)) {
            bail!("endpoints.exclude has {net}, of which no pool has anything: leave it out");
        }
        if self.plugins.deadline_ms == 0 || self.plugins.memory_mib == 0 {
            bail!("plugins.deadline_ms and plugins.memory_mib must be 1 or more");
        }
        if self.datapath.untranslated.iter().any(|label| label.is_empty() || label.starts_with('=')) {
            bail!("datapath.untranslated has a label without a key: use KEY or KEY=VALUE");
        }
        if self.datapath.uplinks.len() > 8 {
            bail!("datapath.uplinks names {} devices: name at most 8", self.datapath.uplinks.len());
        }
        if self.datapath.native.len() > MAX_NATIVE {
            bail!("datapath.native has {} prefixes: give at most {MAX_NATIVE}", self.datapath.native.len());
        }
        for (key, value) in [
            ("max_endpoints", self.datapath.max_endpoints),
            ("max_services", self.datapath.max_services),
            ("max_backends", self.datapath.max_backends),
            ("max_affinities", self.datapath.max_affinities),
            ("max_udp_exchanges", self.datapath.max_udp_exchanges),
            ("max_local_flows", self.datapath.max_local_flows),
            ("events_per_second", self.datapath.events_per_second),
        ] {
            if value == 0 {
                bail!("datapath.{key} is 0: use 1 or more");
            }
        }
        Ok(())
    }

    /// The configuration as a file that says everything.
    pub(crate) fn to_toml(&self) -> anyhow::Result<String> {
        toml::to_string_pretty(self).context("the configuration cannot be shown")
    }

    pub(crate) fn deadline(&self) -> Duration {
        Duration::from_millis(self.plugins.deadline_ms)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_empty_file_is_complete_and_says_everything_when_shown() {
        let config = Config::parse("").unwrap();
        let shown = config.to_toml().unwrap();
        assert!(shown.contains("default_placement = \"before-datapath\""), "{shown}");
        assert_eq!(Config::parse(&shown).unwrap().to_toml().unwrap(), shown);
    }

    #[test]
    fn an_unknown_key_is_named() {
        let error = Config::parse("[endpoints]\nmut = 9000\n").unwrap_err();
        assert!(error.to_string().contains("mut"), "{error}");
    }

    #[test]
    fn the_ways_to_find_and_destroy_sockets_can_be_chosen() {
        let text = "[sockets]\nfinder = \"netns-iterator\"\ndestroyer = \"none\"\n";
        let sockets = Config::parse(text).unwrap().sockets;
        assert_eq!((sockets.finder, sockets.destroyer), (Some(Finder::Namespaces), Some(Destroyer::Nothing)));
        let error = Config::parse("[sockets]\nfinder = \"magic\"\n").unwrap_err().to_string();
        assert!(error.contains("sk-storage-iterator"), "{error}");
    }

    #[test]
    fn values_out_of_bounds_are_named_by_their_key() {
        for (text, key) in [
            ("[endpoints]\nmtu = 10\n", "endpoints.mtu"),
            ("[endpoints]\nexclude = [\"10.9.0.0/16\"]\n", "endpoints.exclude"),
            ("[attachments]\nattempts = 0\n", "attachments.attempts"),
            ("[datapath]\nmax_services = 0\n", "datapath.max_services"),
            ("[datapath]\nevents_per_second = 0\n", "datapath.events_per_second"),
            ("[plugins]\ndeadline_ms = 0\n", "plugins.deadline_ms"),
        ] {
            let error = Config::parse(text).unwrap_err().to_string();
            assert!(error.contains(key), "{error}");
        }
    }

    #[test]
    fn a_missing_file_is_an_error_only_if_it_was_asked_for() {
        let missing = Path::new("/nonexistent/netloom.toml");
        assert!(Config::read(missing, false).is_ok());
        assert!(Config::read(missing, true).unwrap_err().to_string().contains("/nonexistent/netloom.toml"));
    }
}
