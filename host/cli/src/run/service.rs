use std::process::ExitCode;

use netloom_api::{
    Client,
    types::{BackendRequest, Fate, ReapReport, ReapRequest, Service},
};
use netloom_core::model::{Backend, Name};

use crate::{
    args::{BackendCommand, ReapArgs, ServiceCommand},
    failure::Failure,
    output::Output,
    route::encoded,
};

pub(super) async fn run(
    client: &Client,
    command: ServiceCommand,
    output: &Output,
) -> Result<ExitCode, Failure> {
    match command {
        ServiceCommand::Add { name, address, backends } => {
            let service = Service { name, vip: address.vip, protocol: address.protocol, backends };
            output.show(&client.post::<Service>("/v1/services", &service).await?)?;
        }
        ServiceCommand::List => output.show(services(client).await?.as_slice())?,
        ServiceCommand::Show { name } => output.show(&service(client, name).await?)?,
        ServiceCommand::Remove { name } => {
            let report = client.delete(&format!("/v1/services/{}", encoded(&name))).await?;
            output.note(&format!("Removed service {name}."))?;
            return reaped(&report, output);
        }
    }
    Ok(ExitCode::SUCCESS)
}

pub(super) async fn backend(
    client: &Client,
    command: BackendCommand,
    output: &Output,
) -> Result<ExitCode, Failure> {
    match command {
        BackendCommand::Add { service, address } => {
            let route = format!("/v1/services/{}/backends", encoded(&service));
            output.show(&client.post::<Service>(&route, &BackendRequest { address }).await?)?;
        }
        BackendCommand::List { service: name } => {
            let services = match name {
                Some(name) => vec![service(client, name).await?],
                None => services(client).await?,
            };
            output.show(backends(services).as_slice())?;
        }
        BackendCommand::Remove { service, address } => {
            let route = format!("/v1/services/{}/backends/{}", encoded(&service), encoded(address));
            let report = client.delete(&route).await?;
            output.note(&format!("Removed backend {address} from service {service}."))?;
            return reaped(&report, output);
        }
    }
    Ok(ExitCode::SUCCESS)
}

pub(super) async fn reap(client: &Client, args: &ReapArgs, output: &Output) -> Result<ExitCode, Failure> {
    let request = ReapRequest { service: args.service.clone(), backend: args.backend, dry_run: args.dry_run };
    let report: ReapReport = client.post("/v1/reap", &request).await?;
    let code = reaped(&report, output)?;
    // Asked for a reap and for nothing else, having reaped nothing is a failure.
    Ok(if report.decided_by.is_none() { ExitCode::FAILURE } else { code })
}

/// Shows what a reap did. Sockets it could not destroy are a failure.
fn reaped(report: &ReapReport, output: &Output) -> Result<ExitCode, Failure> {
    output.show(report)?;
    let failed = report.sockets.iter().any(|socket| matches!(socket.fate, Fate::Failed(_)));
    Ok(if failed { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

async fn services(client: &Client) -> Result<Vec<Service>, Failure> {
    Ok(client.get("/v1/services").await?)
}

async fn service(client: &Client, name: Name) -> Result<Service, Failure> {
    let found = services(client).await?.into_iter().find(|service| service.name == name);
    found.ok_or(Failure::UnknownService(name))
}

fn backends(services: Vec<Service>) -> Vec<Backend> {
    let of = |service: Service| {
        let addresses = service.backends.clone();
        addresses.into_iter().map(move |address| service.backend(address))
    };
    services.into_iter().flat_map(of).collect()
}
