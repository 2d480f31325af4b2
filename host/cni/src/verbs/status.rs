use netloom_api::{
    Client,
    types::{EndpointView, Status},
};

use super::patiently;
use crate::failure::Failure;

/// Whether ADD would work. The pools are of no account where another plugin gives the addresses.
pub(super) async fn run(client: &Client, has_ipam: bool) -> Result<(), Failure> {
    let status: Status = match patiently(client.get("/v1/status")).await {
        Ok(status) => status,
        Err(failure) => return Err(Failure::NotReady(Box::new(failure))),
    };
    let Some(why) = unable(&status, has_ipam) else { return Ok(()) };
    Err(match limits(&status) {
        Some(limits) => Failure::Limited { why, limits },
        None => Failure::Unable(why),
    })
}

/// Why it would not.
fn unable(status: &Status, has_ipam: bool) -> Option<String> {
    if let Some(trouble) = &status.store.trouble {
        return Some(format!("its store cannot be written: {}", trouble.message));
    }
    let full = status.pools.iter().find(|pool| pool.full && !has_ipam);
    full.map(|pool| format!("the pool {} has no free address", pool.prefix))
}

/// Which of the endpoints that are there do not work. The others go on by themselves: programs stay attached.
fn limits(status: &Status) -> Option<String> {
    let cut_off = |view: &&EndpointView| view.device.as_ref().is_none_or(|device| !device.up);
    let names: Vec<String> =
        status.endpoints.iter().filter(cut_off).map(|view| view.endpoint.spec.name.to_string()).collect();
    (!names.is_empty()).then(|| format!("{} cannot be reached", names.join(", ")))
}
