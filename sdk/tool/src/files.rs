//! The plugin a command is about, and the files that hold questions.

use std::{
    io::Read as _,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use anyhow::{Context as _, anyhow, bail};
use clap::Args;
use netloom_core::{
    grants::{Access, Grant, Grants},
    model::{Capabilities, Feature, Name, Support},
};
use netloom_runtime::{
    EmptyNode, HostConfig, Limits, LoadRequest, Operations, Plugin, PluginHost, Question, RecordedNode,
    Reply, Supervision,
};
use serde::{
    Deserialize, Deserializer, Serialize,
    de::{DeserializeOwned, Error as _},
};

/// The plugin, and how it is configured.
#[derive(Debug, Args)]
pub(crate) struct Source {
    /// The component
    pub(crate) component: PathBuf,
    /// Its configuration, a TOML or JSON file
    #[arg(long, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
    /// What it may do itself, a TOML or JSON file as `netloom plugin load` takes it
    ///
    /// The node is empty: there are no devices, sockets and services, so that unless given, each operation is granted.
    /// Directories have to be named.
    #[arg(long = "grant", value_name = "FILE")]
    pub(crate) grants: Option<PathBuf>,
}

/// A scenario: a question, and what the plugin has to answer.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Scenario {
    /// The node; one whose kernel has everything unless given.
    #[serde(default = "node")]
    pub(crate) node: RecordedNode,
    /// What is asked.
    pub(crate) question: Question,
    /// The answer.
    pub(crate) expect: Reply,
}

/// What is to be asked: a scenario, whose expectation does not matter, or the question alone.
#[derive(Debug)]
pub(crate) struct Asked {
    /// The node; one whose kernel has everything unless given.
    pub(crate) node: RecordedNode,
    /// What is asked.
    pub(crate) question: Question,
}

// Not an untagged enum: that would say of a wrong question only that it fits neither.
impl<'de> Deserialize<'de> for Asked {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let mut object = serde_json::Map::deserialize(from)?;
        let wrong = |error: serde_json::Error| D::Error::custom(error);
        let given = object.remove("node");
        match object.remove("question") {
            Some(question) => Ok(Self {
                node: given.map_or_else(|| Ok(node()), serde_json::from_value).map_err(wrong)?,
                question: serde_json::from_value(question).map_err(wrong)?,
            }),
            None => {
                let question = serde_json::from_value(object.into()).map_err(wrong)?;
                Ok(Self { node: node(), question })
            }
        }
    }
}

/// A node whose kernel has everything.
pub(crate) fn node() -> RecordedNode {
    let there = || Support { available: true, detail: "tried".to_owned() };
    let features = Feature::ALL.into_iter().map(|feature| (feature, there())).collect();
    RecordedNode {
        name: "node-1".to_owned(),
        capabilities: Capabilities { kernel: "6.18.0".to_owned(), features },
    }
}

/// How many compiled components are kept. One of a plugin in Python has 60 MB.
const COMPILED: usize = 8;

/// A host that gives plugins of every language what they need, and compiles none that it has compiled before: a plugin
/// in Python takes half a minute.
pub(crate) fn host() -> anyhow::Result<PluginHost> {
    let Ok(folder) = cache("NETLOOM_CACHE").map(|folder| folder.join("compiled")) else {
        return compiling_host();
    };
    // Whoever cannot keep what was compiled compiles anew.
    forget(&folder).ok();
    PluginHost::new(HostConfig { cache_dir: Some(folder), ..config() }).or_else(|_| compiling_host())
}

/// One that compiles whatever it loads.
pub(crate) fn compiling_host() -> anyhow::Result<PluginHost> {
    Ok(PluginHost::new(config())?)
}

/// Makes room for one more compiled component. Another run may do so as well.
fn forget(folder: &Path) -> std::io::Result<()> {
    let mut compiled = Vec::new();
    for entry in std::fs::read_dir(folder)? {
        let entry = entry?;
        if entry.path().extension().is_some_and(|extension| extension == "cwasm") {
            compiled.push((entry.metadata()?.modified()?, entry.path()));
        }
    }
    compiled.sort();
    for (_, path) in compiled.iter().rev().skip(COMPILED - 1) {
        std::fs::remove_file(path)?;
        // Another version's has none.
        drop(std::fs::remove_file(path.with_extension("crc32")));
    }
    Ok(())
}

fn config() -> HostConfig {
    let limits = Limits {
        deadline: Duration::from_secs(2),
        init_deadline: Duration::from_secs(30),
        memory_bytes: 256 << 20,
        table_elements: 100_000,
        ..Limits::default()
    };
    // Each answer is wanted, also after failures.
    let supervision =
        Supervision { first_backoff: Duration::ZERO, failures: usize::MAX, ..Supervision::default() };
    let operations = Some(Arc::new(EmptyNode) as Arc<dyn Operations>);
    HostConfig { limits, supervision, operations, ..HostConfig::default() }
}

impl Source {
    /// Loads it.
    pub(crate) async fn load(&self, host: &PluginHost) -> anyhow::Result<Plugin> {
        Ok(host.load(self.request()?).await?)
    }

    /// What to load.
    pub(crate) fn request(&self) -> anyhow::Result<LoadRequest> {
        let component = std::fs::read(&self.component)
            .with_context(|| format!("the component {} cannot be read", self.component.display()))?;
        let stem = self.component.file_stem().and_then(|stem| stem.to_str()).unwrap_or("plugin");
        let name = Name::new(stem.to_ascii_lowercase()).or_else(|_| Name::new("plugin"))?;
        let mut request = LoadRequest::new(name, component);
        if let Some(path) = &self.config {
            request.config = read_table(path)?;
        }
        request.grants = match &self.grants {
            Some(path) => read_table(path)?,
            None => Grant::ALL
                .into_iter()
                .fold(Grants::none(), |grants, grant| grants.and(Grants::everything(grant, Access::Mutate))),
        };
        Ok(request)
    }
}

fn read(path: &Path) -> anyhow::Result<String> {
    if path == Path::new("-") {
        let mut text = String::new();
        std::io::stdin().read_to_string(&mut text).context("standard input cannot be read")?;
        return Ok(text);
    }
    std::fs::read_to_string(path).with_context(|| format!("{} cannot be read", path.display()))
}

/// Where Netloom keeps what it can get again: the folder that the variable names, or the user's.
pub(crate) fn cache(variable: &str) -> anyhow::Result<PathBuf> {
    if let Some(folder) = std::env::var_os(variable) {
        return Ok(folder.into());
    }
    let cache = std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from);
    let cache = cache.or_else(|| std::env::home_dir().map(|home| home.join(".cache")));
    let folder = cache.with_context(|| format!("there is no home folder: set {variable} to a folder"))?;
    Ok(folder.join("netloom"))
}

/// A file in TOML, or in JSON if it is called so.
fn read_table<T: DeserializeOwned>(path: &Path) -> anyhow::Result<T> {
    let text = read(path)?;
    let read: Result<T, String> = if path.extension().is_some_and(|extension| extension == "json") {
        serde_json::from_str(&text).map_err(|error| error.to_string())
    } else {
        toml::from_str(&text).map_err(|error| error.to_string())
    };
    read.map_err(|error| anyhow!("{} is not understood: {error}", path.display()))
}

/// A JSON file, or standard input.
pub(crate) fn read_json<T: DeserializeOwned>(path: &Path) -> anyhow::Result<T> {
    serde_json::from_str(&read(path)?).with_context(|| format!("{} is not understood", path.display()))
}

/// The JSON files among these paths and in folders of them, sorted.
pub(crate) fn json_files(paths: &[PathBuf]) -> anyhow::Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for path in paths {
        if !path.is_dir() {
            files.push(path.clone());
            continue;
        }
        let entries =
            std::fs::read_dir(path).with_context(|| format!("{} cannot be listed", path.display()))?;
        for entry in entries {
            let file = entry?.path();
            if file.extension().is_some_and(|extension| extension == "json") {
                files.push(file);
            }
        }
    }
    if let Some(missing) = files.iter().find(|file| !file.exists()) {
        bail!("there is no {}", missing.display());
    }
    files.sort();
    Ok(files)
}
