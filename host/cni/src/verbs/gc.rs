use std::collections::BTreeSet;

use netloom_api::{
    Client,
    types::{Done, EndpointView},
};
use netloom_core::model::Name;

use super::{if_there, label, patiently, route_of};
use crate::{
    config::{NetworkConfig, ValidAttachment},
    environment::Attachment,
    failure::Failure,
    name::endpoint_name,
};

/// Deletes this network's endpoints that no container uses any longer.
pub(super) async fn run(client: &Client, config: &NetworkConfig) -> Result<(), Failure> {
    // Without the list, everything would look unused.
    let Some(valid) = &config.valid_attachments else {
        return Err(Failure::Config("GC needs cni.dev/valid-attachments".to_owned()));
    };
    let used = valid.iter().map(name_of_valid).collect::<Result<BTreeSet<Name>, Failure>>()?;
    let endpoints: Vec<EndpointView> = patiently(client.get("/v1/endpoints")).await?;
    let unused = endpoints
        .into_iter()
        .map(|view| view.endpoint.spec)
        .filter(|spec| spec.labels.get(label::NETWORK) == Some(&config.name) && !used.contains(&spec.name));
    let mut left = Vec::new();
    for spec in unused {
        // One that cannot be deleted must not keep the others.
        if let Err(failure) = if_there(client.delete::<Done>(&route_of(&spec.name))).await {
            left.push(format!("{}: {failure}", spec.name));
        }
    }
    if left.is_empty() { Ok(()) } else { Err(Failure::Leftovers(left)) }
}

fn name_of_valid(valid: &ValidAttachment) -> Result<Name, Failure> {
    let attachment = Attachment { container: valid.container.clone(), interface: valid.interface.clone() };
    endpoint_name(&attachment).map_err(|_| {
        Failure::Config(format!("cni.dev/valid-attachments has the container {:?}", valid.container))
    })
}
