//! Commands as requests to netloomd.

mod attachment;
mod device;
mod endpoint;
mod monitor;
mod plugin;
mod service;
mod store;

use std::process::ExitCode;

use clap::CommandFactory;
use netloom_api::{
    Client, Paths,
    types::{Decision, Doctor, Done, Event, OrphanView, Status},
};

use crate::{
    args::{Cli, Command, Global},
    failure::Failure,
    output::Output,
};

/// Carries out a command.
pub(crate) fn run(global: &Global, command: Command, output: &Output) -> Result<ExitCode, Failure> {
    if let Command::Completions { shell } = command {
        return completions(shell, output);
    }
    let socket = global.socket.clone().unwrap_or_else(|| Paths::of(global.instance.as_ref()).socket);
    let client = Client::new(socket);
    tokio::runtime::Builder::new_current_thread()
        .enable_io()
        .build()
        .map_err(Failure::Runtime)?
        .block_on(ask(&client, command, global, output))
}

async fn ask(
    client: &Client,
    command: Command,
    global: &Global,
    output: &Output,
) -> Result<ExitCode, Failure> {
    match command {
        Command::Status => output.show(&client.get::<Status>("/v1/status").await?)?,
        Command::Endpoint(command) => endpoint::run(client, command, output).await?,
        Command::Device(command) => device::run(client, command, output).await?,
        Command::Chain(command) => attachment::chain(client, command, output).await?,
        Command::Attach(args) => attachment::attach(client, args, output).await?,
        Command::Detach { id } => attachment::detach(client, &id, output).await?,
        Command::Attachment { command } => attachment::attachment(client, command, output).await?,
        Command::Service(command) => return service::run(client, command, output).await,
        Command::Backend(command) => return service::backend(client, command, output).await,
        Command::Reap(args) => return service::reap(client, &args, output).await,
        Command::Sockets { command } => return service::sockets(client, command, output).await,
        Command::Plugin(command) => plugin::run(client, command, output).await?,
        Command::Explain { hook, last } => explain(client, hook.as_deref(), last, output).await?,
        Command::Events { kind, last } => events(client, kind.as_deref(), last, output).await?,
        Command::Monitor(args) => monitor::run(client, &args, output).await?,
        Command::Doctor => return doctor(client, output).await,
        Command::Orphans { remove: false } => {
            output.show(client.get::<Vec<OrphanView>>("/v1/orphans").await?.as_slice())?;
        }
        Command::Orphans { remove: true } => output.show(&client.delete::<Done>("/v1/orphans").await?)?,
        Command::Store(command) => return store::run(client, command, global, output).await,
        Command::Metrics => output.text(&client.text("/metrics").await?)?,
        Command::Completions { shell } => return completions(shell, output),
    }
    Ok(ExitCode::SUCCESS)
}

async fn explain(
    client: &Client,
    hook: Option<&str>,
    last: Option<usize>,
    output: &Output,
) -> Result<(), Failure> {
    let mut decisions: Vec<Decision> = client.get("/v1/decisions").await?;
    decisions.retain(|decision| hook.is_none_or(|hook| decision.hook == hook));
    let older = decisions.len().saturating_sub(last.unwrap_or(usize::MAX));
    decisions.drain(..older);
    output.show(decisions.as_slice())
}

async fn events(
    client: &Client,
    kind: Option<&str>,
    last: Option<usize>,
    output: &Output,
) -> Result<(), Failure> {
    let mut events: Vec<Event> = client.get("/v1/events").await?;
    events.retain(|event| kind.is_none_or(|kind| event.kind.as_str() == kind));
    let older = events.len().saturating_sub(last.unwrap_or(usize::MAX));
    events.drain(..older);
    output.show(events.as_slice())
}

async fn doctor(client: &Client, output: &Output) -> Result<ExitCode, Failure> {
    let doctor: Doctor = client.get("/v1/doctor").await?;
    output.show(&doctor)?;
    let ill = doctor.findings.iter().any(|finding| finding.severity == "error");
    Ok(if ill { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

fn completions(shell: clap_complete::Shell, output: &Output) -> Result<ExitCode, Failure> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "netloom", &mut script);
    output.text(&String::from_utf8_lossy(&script))?;
    Ok(ExitCode::SUCCESS)
}
