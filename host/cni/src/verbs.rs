//! The commands as requests to netloomd.

mod add;
mod check;
mod del;
mod gc;
mod status;

use std::{future::Future, time::Duration};

use netloom_api::ClientError;
use netloom_core::model::Name;
use serde_json::Value;

use crate::{
    config::NetworkConfig,
    environment::{Attachment, Command},
    failure::Failure,
    ipam::Ipam,
    name::endpoint_name,
    version::SpecVersion,
};

/// Labels that say which attachment an endpoint is.
mod label {
    /// The network's name.
    pub(super) const NETWORK: &str = "cni.netloom/network";
    /// The container's id.
    pub(super) const CONTAINER: &str = "cni.netloom/container";
    /// The device's name inside it.
    pub(super) const INTERFACE: &str = "cni.netloom/interface";
}

/// Longer than netloomd takes for anything, shorter than runtimes wait.
const PATIENCE: Duration = Duration::from_secs(60);

/// Carries out a command; what it answers, if it answers anything.
pub(crate) async fn run(
    command: Command,
    version: SpecVersion,
    config: &NetworkConfig,
    stdin: &str,
) -> Result<Option<Value>, Failure> {
    let client = config.client();
    let ipam = config.ipam_type().map(|kind| Ipam { kind, stdin });
    let pass_on = |command| ipam.as_ref().map_or(Ok(()), |ipam| ipam.pass_on(command));
    match command {
        Command::Add => add::run(&client, version, config, ipam.as_ref()).await.map(Some),
        Command::Check => {
            since(SpecVersion::V0_4_0, "CHECK", version)?;
            pass_on("CHECK")?;
            check::run(&client, config).await.map(|()| None)
        }
        Command::Del => {
            // An address is given back when nobody has it any more.
            del::run(&client, config).await?;
            pass_on("DEL").map(|()| None)
        }
        Command::Gc => {
            since(SpecVersion::V1_1_0, "GC", version)?;
            gc::run(&client, config).await?;
            pass_on("GC").map(|()| None)
        }
        Command::Status => {
            since(SpecVersion::V1_1_0, "STATUS", version)?;
            pass_on("STATUS")?;
            status::run(&client, ipam.is_some()).await.map(|()| None)
        }
        Command::Version => Ok(None),
    }
}

fn since(first: SpecVersion, command: &'static str, version: SpecVersion) -> Result<(), Failure> {
    if version < first {
        return Err(Failure::Command { command, since: first.as_str(), version: version.as_str() });
    }
    Ok(())
}

/// An answer of netloomd's, if it comes in time.
async fn patiently<T>(request: impl Future<Output = Result<T, ClientError>>) -> Result<T, Failure> {
    match tokio::time::timeout(PATIENCE, request).await {
        Ok(answer) => Ok(answer?),
        Err(_) => Err(Failure::Timeout(PATIENCE.as_secs())),
    }
}

/// The same, where there may be no such thing.
async fn if_there<T>(request: impl Future<Output = Result<T, ClientError>>) -> Result<Option<T>, Failure> {
    match patiently(request).await {
        Ok(answer) => Ok(Some(answer)),
        Err(Failure::Refused(error)) if crate::failure::is_not_found(&error) => Ok(None),
        Err(failure) => Err(failure),
    }
}

fn name_of(attachment: &Attachment) -> Result<Name, Failure> {
    endpoint_name(attachment).map_err(|error| Failure::Environment(vec![format!("CNI_CONTAINERID: {error}")]))
}

fn route_of(name: &Name) -> String {
    format!("/v1/endpoints/{name}")
}
