use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

use netloom_api::{
    Client,
    types::{AuditEntry, Grants, PluginInspection, PluginLimits, PluginLoad, PluginView},
};
use serde_json::Value;

use super::attachment::done;
use crate::{
    args::{ConfigSource, GrantSource, PluginCommand, PluginLoadArgs},
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
        PluginCommand::Audit { name, last } => {
            let mut entries: Vec<AuditEntry> = client.get("/v1/audit").await?;
            entries.retain(|entry| name.as_ref().is_none_or(|name| entry.plugin == *name));
            let older = entries.len().saturating_sub(last.unwrap_or(usize::MAX));
            entries.drain(..older);
            output.show(entries.as_slice())
        }
        PluginCommand::Inspect { what } => inspect(client, &what, output).await,
    }
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
    Ok(PluginLoad { name: args.name, path: args.path, last: args.last, config, grants, limits })
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
    };
    output.show(&client.post::<PluginInspection>("/v1/plugins/inspect", &request).await?)
}
