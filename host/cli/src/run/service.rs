use std::{fs, io, path::Path, process::ExitCode};

use netloom_api::{
    Client,
    types::{
        BackendChange, BackendRequest, Fate, ReapReport, ReapRequest, Service, ServiceView, ServicesApplied,
        ServicesApply, SocketDestroy, SocketQuery, SocketView,
    },
};
use netloom_core::model::Name;

use crate::{
    args::{BackendCommand, ReapArgs, ServiceCommand, SocketArgs, SocketsCommand},
    failure::Failure,
    output::Output,
    render::WeightedBackend,
    route::{encoded, with_query},
};

pub(super) async fn run(
    client: &Client,
    command: ServiceCommand,
    output: &Output,
) -> Result<ExitCode, Failure> {
    match command {
        ServiceCommand::Add { name, address, backends, choice, affinity } => {
            let mut service = Service {
                choice,
                affinity_seconds: affinity,
                ..Service::new(name, address.vip, address.protocol)
            };
            for backend in backends {
                service.backends.push(backend.address);
                service.set_weight(backend.address, backend.weight);
            }
            output.show(&client.post::<Service>("/v1/services", &service).await?)?;
        }
        ServiceCommand::List => output.show(services(client).await?.as_slice())?,
        ServiceCommand::Apply { file, prune, dry_run } => {
            let services = read(&file)?;
            let applied: ServicesApplied =
                client.put("/v1/services", &ServicesApply { services, prune, dry_run }).await?;
            output.show(&applied)?;
            return Ok(code(&applied.reap));
        }
        ServiceCommand::Show { name } => {
            let view: ServiceView = client.get(&format!("/v1/services/{}", encoded(&name))).await?;
            output.show(&view)?;
        }
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
        BackendCommand::Add { service, address, weight } => {
            let route = format!("/v1/services/{}/backends", encoded(&service));
            output.show(&client.post::<Service>(&route, &BackendRequest { address, weight }).await?)?;
        }
        BackendCommand::Weight { service, address, weight } => {
            let route = format!("/v1/services/{}/backends/{}", encoded(&service), encoded(address));
            output.show(&client.patch::<Service>(&route, &BackendChange { weight }).await?)?;
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

pub(super) async fn sockets(
    client: &Client,
    command: Option<SocketsCommand>,
    output: &Output,
) -> Result<ExitCode, Failure> {
    match command.unwrap_or_else(|| SocketsCommand::List { filter: SocketArgs::default() }) {
        SocketsCommand::List { filter } => {
            let sockets: Vec<SocketView> = client.get(&route(&filter.query())).await?;
            output.show(sockets.as_slice())?;
            Ok(ExitCode::SUCCESS)
        }
        SocketsCommand::Destroy { filter, dry_run, yes } => {
            let request = SocketDestroy { filter: filter.query(), all: yes, dry_run };
            reaped(&client.post("/v1/sockets/destroy", &request).await?, output)
        }
    }
}

fn route(query: &SocketQuery) -> String {
    let conditions = [
        ("service", query.service.as_ref().map(encoded)),
        ("backend", query.backend.map(encoded)),
        ("endpoint", query.endpoint.as_ref().map(encoded)),
        ("netns", query.netns.as_ref().map(encoded)),
        ("protocol", query.protocol.map(encoded)),
        ("state", query.state.map(encoded)),
        ("min_age_ms", query.min_age_ms.map(encoded)),
    ];
    with_query("/v1/sockets", conditions)
}

/// Shows what a reap did. Sockets that it could not judge or destroy are a failure.
fn reaped(report: &ReapReport, output: &Output) -> Result<ExitCode, Failure> {
    output.show(report)?;
    Ok(code(report))
}

fn code(report: &ReapReport) -> ExitCode {
    let failed = report.sockets.iter().any(|socket| matches!(socket.fate, Fate::Failed(_) | Fate::Unjudged));
    if failed { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}

/// The services of a file, or of standard input.
fn read(file: &Path) -> Result<Vec<Service>, Failure> {
    let text =
        if file == Path::new("-") { io::read_to_string(io::stdin()) } else { fs::read_to_string(file) };
    let text = text.map_err(|source| Failure::ReadServices { path: file.to_owned(), source })?;
    serde_json::from_str(&text)
        .map_err(|error| Failure::ParseServices { path: file.to_owned(), reason: error.to_string() })
}

async fn services(client: &Client) -> Result<Vec<Service>, Failure> {
    Ok(client.get("/v1/services").await?)
}

async fn service(client: &Client, name: Name) -> Result<Service, Failure> {
    let found = services(client).await?.into_iter().find(|service| service.name == name);
    found.ok_or(Failure::UnknownService(name))
}

fn backends(services: Vec<Service>) -> Vec<WeightedBackend> {
    let of = |service: Service| {
        let addresses = service.backends.clone();
        addresses.into_iter().map(move |address| WeightedBackend {
            backend: service.backend(address),
            weight: service.weight(address),
        })
    };
    services.into_iter().flat_map(of).collect()
}
