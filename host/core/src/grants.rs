//! Grants: which operations of `netloom:kernel` a plugin may import, and on which objects.
//!
//! A grant names its objects one kind at a time, and what it does not name it does not cover: a kind left out is
//! an error when the grant is read, never "everything".

mod scope;

use std::{collections::BTreeMap, fmt, path::PathBuf, str::FromStr};

use serde::{Deserialize, Serialize};

pub use self::scope::{InvalidScope, Namespace, NamespacePlace, NamespaceScope, Pattern, PortRange};

/// A kernel operation a plugin may be allowed to import, named after its interface in `netloom:kernel`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Grant {
    /// Network devices.
    Devices,
    /// Attached programs.
    Links,
    /// Sockets in every network namespace.
    Sockets,
    /// The datapath's tables.
    Datapath,
    /// Files below granted directories.
    Files,
}

impl Grant {
    /// Every grant.
    pub const ALL: [Self; 5] = [Self::Devices, Self::Links, Self::Sockets, Self::Datapath, Self::Files];

    /// The name, as in configuration, CLI and API.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Devices => "devices",
            Self::Links => "links",
            Self::Sockets => "sockets",
            Self::Datapath => "datapath",
            Self::Files => "files",
        }
    }
}

impl fmt::Display for Grant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// A text is not a grant.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a grant: use devices, links, sockets, datapath or files")]
pub struct InvalidGrant(String);

impl FromStr for Grant {
    type Err = InvalidGrant;
    fn from_str(text: &str) -> Result<Self, InvalidGrant> {
        Self::ALL
            .into_iter()
            .find(|grant| grant.as_str() == text)
            .ok_or_else(|| InvalidGrant(text.to_owned()))
    }
}

/// Whether a grant allows changes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Access {
    /// Looking only.
    #[default]
    Read,
    /// Looking and changing.
    Mutate,
}

impl fmt::Display for Access {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Read => "read",
            Self::Mutate => "mutate",
        })
    }
}

/// Network devices, by name and namespace.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DeviceGrant {
    /// `mutate` also sets MTU, segmentation and policies, creates pairs, and removes those it created.
    #[serde(default)]
    pub access: Access,
    /// The devices, by name.
    pub interfaces: Vec<Pattern>,
    /// The namespaces they are in.
    pub namespaces: Vec<NamespaceScope>,
}

/// Attached programs, by device, namespace and owner.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LinkGrant {
    /// `mutate` also attaches, updates and detaches.
    #[serde(default)]
    pub access: Access,
    /// The devices, by name.
    pub interfaces: Vec<Pattern>,
    /// The namespaces they are in.
    pub namespaces: Vec<NamespaceScope>,
    /// On whose behalf it may attach, and whose attachments it may open.
    pub owners: Vec<Pattern>,
    /// The programs it may attach, by the name it knows them by.
    #[serde(default)]
    pub programs: BTreeMap<String, ProgramGrant>,
}

/// A program that a plugin may attach.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ProgramGrant {
    /// The ELF file.
    pub object: PathBuf,
    /// Which of its programs; its only one if none.
    #[serde(default)]
    pub program: Option<String>,
}

/// Bound sockets, by namespace and port.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SocketGrant {
    /// `mutate` also destroys.
    #[serde(default)]
    pub access: Access,
    /// The namespaces they are in.
    pub namespaces: Vec<NamespaceScope>,
    /// The backends' ports.
    pub ports: Vec<PortRange>,
}

/// The datapath's tables, by endpoint and service.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DatapathGrant {
    /// `mutate` also adds and removes backends.
    #[serde(default)]
    pub access: Access,
    /// The endpoints whose counters it may see.
    pub endpoints: Vec<Pattern>,
    /// The services.
    pub services: Vec<Pattern>,
}

/// Directories, by the name the plugin knows them by.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FileGrant {
    /// Nothing outside of them can be reached, by links neither.
    pub directories: BTreeMap<String, DirectoryGrant>,
}

/// One directory.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DirectoryGrant {
    /// Where it is.
    pub path: PathBuf,
    /// `mutate` also writes and removes files.
    #[serde(default)]
    pub access: Access,
}

/// Everything a plugin is allowed beyond deciding.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Grants {
    /// Network devices.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub devices: Option<DeviceGrant>,
    /// Attached programs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub links: Option<LinkGrant>,
    /// Bound sockets.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sockets: Option<SocketGrant>,
    /// The datapath's tables.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub datapath: Option<DatapathGrant>,
    /// Directories.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub files: Option<FileGrant>,
}

impl Grants {
    /// Nothing beyond what every plugin has.
    #[must_use]
    pub fn none() -> Self {
        Self::default()
    }

    /// One operation on every object: what `--grant OPERATION` means. Programs and directories have to be named,
    /// so of those there are none.
    #[must_use]
    pub fn everything(grant: Grant, access: Access) -> Self {
        let (any, namespaces) = (|| vec![Pattern::any()], || vec![NamespaceScope::Any]);
        let mut grants = Self::default();
        match grant {
            Grant::Devices => {
                grants.devices = Some(DeviceGrant { access, interfaces: any(), namespaces: namespaces() });
            }
            Grant::Links => {
                grants.links = Some(LinkGrant {
                    access,
                    interfaces: any(),
                    namespaces: namespaces(),
                    owners: any(),
                    programs: BTreeMap::new(),
                });
            }
            Grant::Sockets => {
                grants.sockets =
                    Some(SocketGrant { access, namespaces: namespaces(), ports: vec![PortRange::any()] });
            }
            Grant::Datapath => {
                grants.datapath = Some(DatapathGrant { access, endpoints: any(), services: any() });
            }
            Grant::Files => grants.files = Some(FileGrant { directories: BTreeMap::new() }),
        }
        grants
    }

    /// Whether this one is among them.
    #[must_use]
    pub const fn has(&self, grant: Grant) -> bool {
        match grant {
            Grant::Devices => self.devices.is_some(),
            Grant::Links => self.links.is_some(),
            Grant::Sockets => self.sockets.is_some(),
            Grant::Datapath => self.datapath.is_some(),
            Grant::Files => self.files.is_some(),
        }
    }

    /// Each of them.
    pub fn iter(&self) -> impl Iterator<Item = Grant> + '_ {
        Grant::ALL.into_iter().filter(|grant| self.has(*grant))
    }

    /// These, and what another adds: of an operation that both have, the other's.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        Self {
            devices: other.devices.or(self.devices),
            links: other.links.or(self.links),
            sockets: other.sockets.or(self.sockets),
            datapath: other.datapath.or(self.datapath),
            files: other.files.or(self.files),
        }
    }

    /// The paths of namespaces that one of them names.
    pub fn namespace_paths(&self) -> impl Iterator<Item = &PathBuf> {
        let devices = self.devices.iter().flat_map(|grant| &grant.namespaces);
        let links = self.links.iter().flat_map(|grant| &grant.namespaces);
        let sockets = self.sockets.iter().flat_map(|grant| &grant.namespaces);
        devices.chain(links).chain(sockets).filter_map(|scope| match scope {
            NamespaceScope::Path(path) => Some(path),
            _ => None,
        })
    }
}

impl DeviceGrant {
    /// Whether it covers a device.
    #[must_use]
    pub fn covers(&self, namespace: &Namespace, interface: &str) -> bool {
        covers(&self.interfaces, interface) && covers_namespace(&self.namespaces, namespace)
    }
}

impl LinkGrant {
    /// Whether it covers the chains of a device.
    #[must_use]
    pub fn covers(&self, namespace: &Namespace, interface: &str) -> bool {
        covers(&self.interfaces, interface) && covers_namespace(&self.namespaces, namespace)
    }

    /// Whether it covers what belongs to an owner.
    #[must_use]
    pub fn covers_owner(&self, owner: &str) -> bool {
        covers(&self.owners, owner)
    }
}

impl SocketGrant {
    /// Whether it covers a socket. One whose namespace is neither the node's nor an endpoint's nor named has none.
    #[must_use]
    pub fn covers(&self, namespace: Option<&Namespace>, port: u16) -> bool {
        let ports = self.ports.iter().any(|range| range.contains(port));
        ports
            && match namespace {
                Some(namespace) => covers_namespace(&self.namespaces, namespace),
                None => self.namespaces.contains(&NamespaceScope::Any),
            }
    }
}

impl DatapathGrant {
    /// Whether it covers an endpoint.
    #[must_use]
    pub fn covers_endpoint(&self, name: &str) -> bool {
        covers(&self.endpoints, name)
    }

    /// Whether it covers a service.
    #[must_use]
    pub fn covers_service(&self, name: &str) -> bool {
        covers(&self.services, name)
    }
}

fn covers(patterns: &[Pattern], name: &str) -> bool {
    patterns.iter().any(|pattern| pattern.matches(name))
}

fn covers_namespace(scopes: &[NamespaceScope], namespace: &Namespace) -> bool {
    scopes.iter().any(|scope| scope.covers(namespace))
}

fn list<T: fmt::Display>(items: &[T]) -> String {
    items.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ")
}

/// For people: one line an operation.
impl fmt::Display for Grants {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut lines = Vec::new();
        if let Some(DeviceGrant { access, interfaces, namespaces }) = &self.devices {
            lines.push(format!("devices: {access} {} in {}", list(interfaces), list(namespaces)));
        }
        if let Some(LinkGrant { access, interfaces, namespaces, owners, programs }) = &self.links {
            let programs: Vec<&String> = programs.keys().collect();
            let programs =
                if programs.is_empty() { String::new() } else { format!(", programs {}", list(&programs)) };
            lines.push(format!(
                "links: {access} {} in {} for {}{programs}",
                list(interfaces),
                list(namespaces),
                list(owners)
            ));
        }
        if let Some(SocketGrant { access, namespaces, ports }) = &self.sockets {
            lines.push(format!("sockets: {access} ports {} in {}", list(ports), list(namespaces)));
        }
        if let Some(DatapathGrant { access, endpoints, services }) = &self.datapath {
            lines.push(format!(
                "datapath: {access} endpoints {}, services {}",
                list(endpoints),
                list(services)
            ));
        }
        if let Some(FileGrant { directories }) = &self.files {
            let each = directories.iter().map(|(name, directory)| {
                format!("{name} = {} ({})", directory.path.display(), directory.access)
            });
            lines.push(format!("files: {}", each.collect::<Vec<_>>().join(", ")));
        }
        f.write_str(&lines.join("\n"))
    }
}

#[cfg(test)]
mod tests;
