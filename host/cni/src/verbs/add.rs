use std::path::PathBuf;

use netloom_api::{
    Client,
    types::{EndpointSpec, EndpointView, Labels},
};
use serde_json::Value;

use super::{label, name_of, patiently};
use crate::{
    config::NetworkConfig,
    environment::{self, Attachment},
    failure::Failure,
    result::AddResult,
    version::SpecVersion,
};

pub(super) async fn run(
    client: &Client,
    version: SpecVersion,
    config: &NetworkConfig,
) -> Result<Value, Failure> {
    let (attachment, netns) = environment::attachment_in_netns()?;
    if config.prev_result.is_some() {
        let why = "netloom-cni makes the container's device: put it first in the list of plugins";
        return Err(Failure::Config(format!("prevResult is set, but {why}")));
    }
    let spec = spec(config, &attachment, netns)?;
    let view: EndpointView = patiently(client.post("/v1/endpoints", &spec)).await?;
    serde_json::to_value(AddResult::new(version, &view, &spec.netns)).map_err(Failure::Decode)
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
