use std::{
    collections::BTreeMap,
    fs,
    os::unix::process::CommandExt as _,
    path::{Path, PathBuf},
    process::Command,
};

use netloom_api::{
    Client,
    types::{
        AuditEntry, Grants, PluginInspection, PluginLimits, PluginLoad, PluginVersion, PluginView,
        ReloadReport, ReloadRequest, RollbackRequest,
    },
};
use netloom_core::model::Name;
use serde_json::Value;

use super::attachment::done;
use crate::{
    args::{Component, ConfigSource, Fetching, GrantSource, PluginCommand, PluginLoadArgs, ToolArgs},
    failure::Failure,
    output::Output,
    route::encoded,
};

type Config = BTreeMap<String, Value>;

pub(super) async fn run(client: &Client, command: PluginCommand, output: &Output) -> Result<(), Failure> {
    match command {
        PluginCommand::List => output.show(client.get::<Vec<PluginView>>("/v1/plugins").await?.as_slice()),
        PluginCommand::Load(args) => {
            output.show(&client.post::<PluginView>("/v1/plugins", &load(args)?).await?)
        }
        PluginCommand::Unload { name } => {
            done(output, &client.delete(&format!("/v1/plugins/{}", encoded(&name))).await?)
        }
        PluginCommand::Reload { name, component, fetching, dry_run, shadow, canary } => {
            let path = component.map(|component| file_of(component, &fetching)).transpose()?;
            let request = ReloadRequest { path, dry_run, shadow, canary };
            output.show(&client.post::<ReloadReport>(&of(&name, "reload"), &request).await?)
        }
        PluginCommand::Promote { name } => {
            output.show(&client.post::<PluginView>(&of(&name, "trial"), &()).await?)
        }
        PluginCommand::Abandon { name } => {
            output.show(&client.delete::<PluginView>(&of(&name, "trial")).await?)
        }
        PluginCommand::Versions { name } => {
            output.show(client.get::<Vec<PluginVersion>>(&of(&name, "versions")).await?.as_slice())
        }
        PluginCommand::Rollback { name, to } => {
            let request = RollbackRequest { digest: to };
            output.show(&client.post::<ReloadReport>(&of(&name, "rollback"), &request).await?)
        }
        PluginCommand::Record { name } => {
            let mut recordings: Vec<Value> = client.get("/v1/recordings").await?;
            recordings.retain(|recording| {
                name.as_ref().is_none_or(|name| {
                    let replies = recording.get("replies").and_then(Value::as_array);
                    replies.is_some_and(|replies| {
                        replies
                            .iter()
                            .any(|reply| reply.get("plugin").and_then(Value::as_str) == Some(name.as_str()))
                    })
                })
            });
            output.text(&(serde_json::to_string_pretty(&recordings)? + "\n"))
        }
        PluginCommand::Audit { name, last } => {
            let mut entries: Vec<AuditEntry> = client.get("/v1/audit").await?;
            entries.retain(|entry| name.as_ref().is_none_or(|name| entry.plugin == *name));
            let older = entries.len().saturating_sub(last.unwrap_or(usize::MAX));
            entries.drain(..older);
            output.show(entries.as_slice())
        }
        PluginCommand::Inspect { what } => inspect(client, &what, output).await,
        PluginCommand::New(arguments) => Err(become_tool("new", &arguments)),
        PluginCommand::Setup(arguments) => Err(become_tool("setup", &arguments)),
        PluginCommand::Build(arguments) => Err(become_tool("build", &arguments)),
        PluginCommand::Test(arguments) => Err(become_tool("test", &arguments)),
        PluginCommand::Run(arguments) => Err(become_tool("run", &arguments)),
        PluginCommand::Replay(arguments) => Err(become_tool("replay", &arguments)),
        PluginCommand::Bench(arguments) => Err(become_tool("bench", &arguments)),
        PluginCommand::Push(arguments) => Err(become_tool("push", &arguments)),
        PluginCommand::Pull(arguments) => Err(become_tool("pull", &arguments)),
        PluginCommand::Keygen(arguments) => Err(become_tool("keygen", &arguments)),
        PluginCommand::Sign(arguments) => Err(become_tool("sign", &arguments)),
        PluginCommand::Verify(arguments) => Err(become_tool("verify", &arguments)),
        PluginCommand::Bundle(arguments) => Err(become_tool("bundle", &arguments)),
    }
}

/// Goes on as `netloom-plugin`, which has the Wasm engine that this command does without. Comes back only if that
/// cannot be.
fn become_tool(name: &str, arguments: &ToolArgs) -> Failure {
    let program = tool();
    let source = Command::new(&program).arg(name).args(&arguments.arguments).exec();
    Failure::Tool { program, source }
}

fn tool() -> PathBuf {
    let beside = std::env::current_exe().ok().and_then(|own| Some(own.parent()?.join("netloom-plugin")));
    beside.filter(|beside| beside.exists()).unwrap_or_else(|| "netloom-plugin".into())
}

/// The file that holds a component. netloom-plugin fetches what is in a registry, and lays it out in the cache with
/// its proof beside it: netloomd itself talks to nobody.
fn file_of(component: Component, fetching: &Fetching) -> Result<PathBuf, Failure> {
    let reference = match component {
        Component::File(path) if fetching.verify_key.is_empty() => return Ok(path),
        Component::File(path) => return Err(Failure::KeyForFile { path }),
        Component::Registry(reference) => reference,
    };
    let program = tool();
    let mut command = Command::new(&program);
    command.arg("pull");
    for key in &fetching.verify_key {
        command.arg("--verify-key").arg(key);
    }
    command.args(fetching.plain_http.then_some("--plain-http")).arg("--").arg(&reference);
    let output = command.output().map_err(|source| Failure::Tool { program, source })?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        let reason = said.trim().strip_prefix("error: ").unwrap_or(said.trim()).to_owned();
        return Err(Failure::Fetch { reference, reason });
    }
    let path = PathBuf::from(String::from_utf8_lossy(&output.stdout).trim());
    std::path::absolute(&path).map_err(|source| Failure::Path { path, source })
}

/// A route below a plugin's.
fn of(name: &Name, what: &str) -> String {
    format!("/v1/plugins/{}/{what}", encoded(name))
}

fn load(args: PluginLoadArgs) -> Result<PluginLoad, Failure> {
    let mut config = Config::new();
    for source in args.config {
        match source {
            ConfigSource::File(path) => config.extend(config_file(&path)?),
            ConfigSource::Value(key, value) => {
                config.insert(key, serde_json::from_str(&value).unwrap_or(Value::String(value)));
            }
        }
    }
    let grants = grants(args.grants)?;
    let limits = limits(&args.limits)?;
    let path = file_of(args.component, &args.fetching)?;
    Ok(PluginLoad { name: args.name, path, last: args.last, config, grants, limits, watch: args.watch })
}

/// `deadline_ms=200` and so on, as in the configuration.
fn limits(given: &[(String, u64)]) -> Result<PluginLimits, Failure> {
    let table: BTreeMap<&str, u64> = given.iter().map(|(name, value)| (name.as_str(), *value)).collect();
    let value = serde_json::to_value(table)?;
    serde_json::from_value(value).map_err(|error| Failure::Limits(error.to_string()))
}

fn grants(sources: Vec<GrantSource>) -> Result<Grants, Failure> {
    sources.into_iter().try_fold(Grants::none(), |sum, source| match source {
        GrantSource::Everything(grant, access) => Ok(sum.and(Grants::everything(grant, access))),
        GrantSource::File(path) => {
            let text = fs::read_to_string(&path)
                .map_err(|source| Failure::ReadGrants { path: path.clone(), source })?;
            let json = path.extension().is_some_and(|extension| extension == "json");
            let read: Result<Grants, String> = if json {
                serde_json::from_str(&text).map_err(|error| error.to_string())
            } else {
                toml::from_str(&text).map_err(|error| error.to_string())
            };
            Ok(sum.and(read.map_err(|reason| Failure::ParseGrants { path, reason })?))
        }
    })
}

fn config_file(path: &Path) -> Result<Config, Failure> {
    let text =
        fs::read_to_string(path).map_err(|source| Failure::ReadConfig { path: path.to_owned(), source })?;
    let unparsable = |format, reason| Failure::ParseConfig { path: path.to_owned(), format, reason };
    if path.extension().is_some_and(|extension| extension == "json") {
        return serde_json::from_str(&text).map_err(|error| unparsable("JSON", error.to_string()));
    }
    let table: toml::Table = toml::from_str(&text).map_err(|error| unparsable("TOML", error.to_string()))?;
    Ok(table.into_iter().map(|(key, value)| (key, json(value))).collect())
}

/// TOML's dates become text: JSON has none.
fn json(value: toml::Value) -> Value {
    match value {
        toml::Value::String(text) => text.into(),
        toml::Value::Integer(number) => number.into(),
        toml::Value::Float(number) => number.into(),
        toml::Value::Boolean(truth) => truth.into(),
        toml::Value::Datetime(time) => time.to_string().into(),
        toml::Value::Array(items) => items.into_iter().map(json).collect(),
        toml::Value::Table(table) => {
            Value::Object(table.into_iter().map(|(key, value)| (key, json(value))).collect())
        }
    }
}

/// A path has a slash or names a file; everything else is the name of a loaded plugin.
async fn inspect(client: &Client, what: &str, output: &Output) -> Result<(), Failure> {
    if !what.contains('/') && !Path::new(what).is_file() {
        let route = format!("/v1/plugins/{}", encoded(what));
        return output.show(&client.get::<PluginView>(&route).await?);
    }
    let path =
        std::path::absolute(what).map_err(|source| Failure::Path { path: PathBuf::from(what), source })?;
    let request = PluginLoad {
        name: None,
        path,
        last: false,
        config: Config::new(),
        grants: Grants::none(),
        limits: PluginLimits::default(),
        watch: false,
    };
    output.show(&client.post::<PluginInspection>("/v1/plugins/inspect", &request).await?)
}
