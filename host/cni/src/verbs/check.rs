use std::{fs, os::unix::fs::MetadataExt, path::Path};

use netloom_api::{
    Client,
    types::{EndpointCheck, EndpointView},
};
use netloom_core::model::NetnsId;

use super::{if_there, name_of, route_of};
use crate::{
    config::{NetworkConfig, PreviousResult},
    environment,
    failure::Failure,
};

/// Compares the endpoint with what ADD answered.
pub(super) async fn run(client: &Client, config: &NetworkConfig) -> Result<(), Failure> {
    let (attachment, netns) = environment::attachment_in_netns()?;
    let Some(previous) = &config.prev_result else {
        return Err(Failure::Config("CHECK needs prevResult, the result of ADD".to_owned()));
    };
    let name = name_of(&attachment)?;
    let Some(view) = if_there(client.get::<EndpointView>(&route_of(&name))).await? else {
        return Err(Failure::Drifted(format!("netloomd knows no endpoint {name}")));
    };
    has_device(&view)?;
    is_in(&view, &netns)?;
    has_addresses(&view, previous)?;
    let checked = if_there(client.get::<EndpointCheck>(&format!("{}/check", route_of(&name)))).await?;
    match checked.map(|checked| checked.problems.join("; ")) {
        Some(problems) if !problems.is_empty() => Err(Failure::Drifted(problems)),
        _ => Ok(()),
    }
}

fn has_device(view: &EndpointView) -> Result<(), Failure> {
    let name = &view.endpoint.host_interface;
    match &view.device {
        None => Err(Failure::Drifted(format!("its device {name} is gone"))),
        Some(device) if !device.up => Err(Failure::Drifted(format!("its device {name} is down"))),
        Some(_) => Ok(()),
    }
}

fn is_in(view: &EndpointView, netns: &Path) -> Result<(), Failure> {
    let found = fs::metadata(netns)
        .map_err(|error| Failure::Environment(vec![format!("CNI_NETNS {}: {error}", netns.display())]))?;
    let found = NetnsId { device: found.dev(), inode: found.ino() };
    if found == view.endpoint.netns {
        return Ok(());
    }
    let (netns, expected) = (netns.display(), view.endpoint.netns);
    Err(Failure::Drifted(format!("{netns} is {found}, and it is in {expected}")))
}

/// Plugins behind this one may have added addresses; none of ours may be missing.
fn has_addresses(view: &EndpointView, previous: &PreviousResult) -> Result<(), Failure> {
    let is_known = |ip| previous.ips.iter().any(|known| known.address.addr() == ip);
    let unknown = view.endpoint.addresses.iter().find(|address| !is_known(address.addr()));
    match unknown {
        Some(address) => Err(Failure::Drifted(format!("it has {address}, which prevResult has not"))),
        None => Ok(()),
    }
}
