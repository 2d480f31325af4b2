//! What ADD answers, in the version that was asked for.

use std::path::Path;

use ipnet::IpNet;
use netloom_api::types::EndpointView;
use serde::Serialize;
use serde_json::{Map, Value};

use crate::version::SpecVersion;

/// The index of the container's device among the interfaces.
const CONTAINER_INTERFACE: usize = 1;

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct AddResult {
    cni_version: &'static str,
    interfaces: [Interface; 2],
    ips: Vec<Ip>,
    routes: Vec<Route>,
    dns: Map<String, Value>,
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
    dst: &'static str,
}

impl AddResult {
    /// The result for an endpoint in this namespace.
    pub(crate) fn new(version: SpecVersion, view: &EndpointView, netns: &Path) -> Self {
        let endpoint = &view.endpoint;
        let mtu = (version >= SpecVersion::V1_1_0).then_some(endpoint.mode.mtu);
        let with_family = version < SpecVersion::V1_0_0;
        let ip = |address: &IpNet| Ip {
            version: with_family.then_some(if is_v4(address) { "4" } else { "6" }),
            address: *address,
            interface: CONTAINER_INTERFACE,
        };
        let default_route =
            |dst, of: fn(&IpNet) -> bool| endpoint.addresses.iter().any(of).then_some(Route { dst });
        Self {
            cni_version: version.as_str(),
            interfaces: [
                Interface {
                    name: endpoint.host_interface.clone(),
                    mac: endpoint.host_mac.map(|mac| mac.to_string()),
                    mtu,
                    sandbox: None,
                },
                Interface {
                    name: endpoint.spec.interface.clone(),
                    mac: endpoint.mac.map(|mac| mac.to_string()),
                    mtu,
                    sandbox: Some(netns.display().to_string()),
                },
            ],
            ips: endpoint.addresses.iter().map(ip).collect(),
            routes: [default_route("0.0.0.0/0", is_v4), default_route("::/0", |address| !is_v4(address))]
                .into_iter()
                .flatten()
                .collect(),
            dns: Map::new(),
        }
    }
}

fn is_v4(address: &IpNet) -> bool {
    matches!(address, IpNet::V4(_))
}
