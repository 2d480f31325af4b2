use std::{net::IpAddr, path::PathBuf};

use netloom_api::{
    Client,
    types::{EndpointSpec, EndpointView, Labels, Status},
};
use serde_json::Value;

use super::{label, name_of, patiently};
use crate::{
    config::{Dns, NetworkConfig},
    environment::{self, Attachment},
    failure::Failure,
    ipam::Ipam,
    result::AddResult,
    version::SpecVersion,
};

pub(super) async fn run(
    client: &Client,
    version: SpecVersion,
    config: &NetworkConfig,
    ipam: Option<&Ipam<'_>>,
) -> Result<Value, Failure> {
    let (attachment, netns) = environment::attachment_in_netns()?;
    let mut spec = spec(config, &attachment, netns)?;
    let Some(ipam) = ipam else { return ask(client, version, config, &spec, config.dns()).await };
    let assigned = ipam.add()?;
    spec.addresses = assigned.addresses;
    spec.routes.extend(assigned.routes);
    let added = ask(client, version, config, &spec, config.dns().or(assigned.dns)).await;
    if added.as_ref().is_err_and(|failure| !failure.leaves_open_what_was_done()) {
        ipam.take_back();
    }
    added
}

/// Asks netloomd for the endpoint.
async fn ask(
    client: &Client,
    version: SpecVersion,
    config: &NetworkConfig,
    spec: &EndpointSpec,
    dns: Option<Dns>,
) -> Result<Value, Failure> {
    if let Some(wanted) = config.ip_masq {
        masquerades(client, wanted, &spec.addresses).await?;
    }
    // A deletion of before that is still waiting is not about this one.
    config.deletions().remove(&spec.name).ok();
    let view: EndpointView = patiently(client.post("/v1/endpoints", spec)).await?;
    let previous = config.prev_result.clone().unwrap_or_default();
    let result = AddResult::new(version, &view, &spec.netns, previous, dns);
    serde_json::to_value(result).map_err(Failure::Decode)
}

/// Whether the node does with what endpoints send to outside as is wanted. It is the same for all of them.
async fn masquerades(client: &Client, wanted: bool, addresses: &[IpAddr]) -> Result<(), Failure> {
    let status: Status = patiently(client.get("/v1/status")).await?;
    let node = status.outside.masquerade;
    let left_out = |address: &&IpAddr| !status.pools.iter().any(|pool| pool.prefix.contains(*address));
    let why = match (wanted, node.wanted, addresses.iter().find(left_out)) {
        (true, true, None) | (false, false, _) => return Ok(()),
        (true, true, Some(address)) => {
            format!("the node masquerades its pools, and {address} is in none: leave out either")
        }
        (true, false, _) => {
            let why = node.off.unwrap_or_default();
            format!("the node masquerades nothing ({why}): leave it out, or see netloomd's configuration")
        }
        (false, true, _) => {
            "the node masquerades what all its endpoints send to outside: leave it out, name the \
                          destinations in datapath.native, or set datapath.masquerade = false in netloomd's \
                          configuration"
                .to_owned()
        }
    };
    Err(Failure::Unsupported { key: "ipMasq", value: wanted.to_string(), why })
}

fn spec(config: &NetworkConfig, attachment: &Attachment, netns: PathBuf) -> Result<EndpointSpec, Failure> {
    Ok(EndpointSpec {
        name: name_of(attachment)?,
        netns,
        interface: attachment.interface.clone(),
        addresses: config.addresses()?,
        mac: config.mac()?,
        runtime_class: config.runtime_class.clone(),
        virtual_machine: config.virtual_machine,
        mtu: config.mtu(),
        default_route: config.default_route.unwrap_or_default(),
        routes: config.routes(),
        labels: labels(config, attachment),
    })
}

/// What policy may want to know, and what DEL and GC recognise the endpoint by.
fn labels(config: &NetworkConfig, attachment: &Attachment) -> Labels {
    let mut labels: Labels = config.labels().collect();
    for (argument, label) in [
        ("K8S_POD_NAMESPACE", "io.kubernetes.pod.namespace"),
        ("K8S_POD_NAME", "io.kubernetes.pod.name"),
        ("K8S_POD_UID", "io.kubernetes.pod.uid"),
    ] {
        labels.extend(environment::argument(argument).map(|value| (label.to_owned(), value)));
    }
    // Last, so that no user's label takes their place.
    for (label, value) in [
        (label::NETWORK, &config.name),
        (label::CONTAINER, &attachment.container),
        (label::INTERFACE, &attachment.interface),
    ] {
        labels.insert(label.to_owned(), value.clone());
    }
    labels
}
