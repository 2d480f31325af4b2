//! What ADD answers, in the version that was asked for.

use std::path::Path;

use ipnet::IpNet;
use netloom_api::types::{EndpointRoute, EndpointView};
use serde::Serialize;
use serde_json::{Map, Value};

use crate::{
    config::{Dns, PreviousAddress, PreviousResult},
    version::SpecVersion,
};

/// The index of the container's device among those of an endpoint.
const CONTAINER_INTERFACE: usize = 1;

/// What the plugins in front did, and what was done here, behind it.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct AddResult {
    cni_version: &'static str,
    interfaces: Vec<OneOf<Map<String, Value>, Interface>>,
    ips: Vec<OneOf<PreviousAddress, Ip>>,
    routes: Vec<OneOf<Map<String, Value>, Route>>,
    dns: OneOf<Map<String, Value>, Dns>,
}

#[derive(Debug, Serialize)]
#[serde(untagged)]
enum OneOf<Theirs, Ours> {
    Theirs(Theirs),
    Ours(Ours),
}

#[derive(Debug, Serialize)]
struct Interface {
    name: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    mac: Option<String>,
    /// From 1.1.0 on.
    #[serde(skip_serializing_if = "Option::is_none")]
    mtu: Option<u32>,
    /// The container's namespace; none for the node's device.
    #[serde(skip_serializing_if = "Option::is_none")]
    sandbox: Option<String>,
}

#[derive(Debug, Serialize)]
struct Ip {
    /// Until 1.0.0.
    #[serde(skip_serializing_if = "Option::is_none")]
    version: Option<&'static str>,
    address: IpNet,
    interface: usize,
}

#[derive(Debug, Serialize)]
struct Route {
    dst: IpNet,
    /// From 1.1.0 on.
    #[serde(skip_serializing_if = "Option::is_none")]
    priority: Option<u32>,
}

impl AddResult {
    /// The result for an endpoint in this namespace, behind what the plugins in front answered.
    pub(crate) fn new(
        version: SpecVersion,
        view: &EndpointView,
        netns: &Path,
        previous: PreviousResult,
        dns: Option<Dns>,
    ) -> Self {
        let endpoint = &view.endpoint;
        let mtu = (version >= SpecVersion::V1_1_0).then_some(endpoint.mode.mtu);
        let container = previous.interfaces.len() + CONTAINER_INTERFACE;
        let ip = |address: &IpNet| Ip {
            version: family(version, address),
            address: *address,
            interface: container,
        };
        let with_priority = version >= SpecVersion::V1_1_0;
        let route = |route: EndpointRoute| Route {
            dst: route.destination,
            priority: route.metric.filter(|_| with_priority),
        };
        let node = Interface {
            name: endpoint.host_interface.clone(),
            mac: endpoint.host_mac.map(|mac| mac.to_string()),
            mtu,
            sandbox: None,
        };
        let inside = Interface {
            name: endpoint.spec.interface.clone(),
            mac: endpoint.mac.map(|mac| mac.to_string()),
            mtu,
            sandbox: Some(netns.display().to_string()),
        };
        Self {
            cni_version: version.as_str(),
            interfaces: behind(previous.interfaces, [node, inside]),
            ips: behind(
                previous.ips.into_iter().map(|theirs| in_version(version, theirs)),
                endpoint.addresses.iter().map(ip),
            ),
            routes: behind(previous.routes, endpoint.routes_inside().into_iter().map(route)),
            dns: dns.map_or(OneOf::Theirs(previous.dns), OneOf::Ours),
        }
    }
}

fn behind<T, O>(theirs: impl IntoIterator<Item = T>, ours: impl IntoIterator<Item = O>) -> Vec<OneOf<T, O>> {
    theirs.into_iter().map(OneOf::Theirs).chain(ours.into_iter().map(OneOf::Ours)).collect()
}

/// The family of an address, as versions before 1.0.0 say it.
fn family(version: SpecVersion, address: &IpNet) -> Option<&'static str> {
    let family = if address.addr().is_ipv4() { "4" } else { "6" };
    (version < SpecVersion::V1_0_0).then_some(family)
}

/// An address of another plugin's. Its result may be of another version.
fn in_version(version: SpecVersion, mut theirs: PreviousAddress) -> PreviousAddress {
    match family(version, &theirs.address) {
        Some(family) => theirs.others.insert("version".to_owned(), family.into()),
        None => theirs.others.remove("version"),
    };
    theirs
}
