use std::{path::PathBuf, sync::Arc, time::Instant};

use netloom_core::{grants::Grants, model::Name};
use wasmtime::component::Component;

use crate::{
    cache::{Cache, hex_digest},
    engine::TickingEngine,
    error::{HostError, LoadError, Refusal},
    files::Directories,
    inspect::{self, Inspection},
    instance::{Blueprint, Exports, NoInstance},
    kv::{KvStore, MemoryKv},
    limits::Limits,
    log::LogGate,
    metrics::PluginMetrics,
    operations::Operations,
    plugin::{Health, Plugin},
    schema,
    settings::Settings,
    supervision::Supervision,
};

/// What the plugin host is given.
#[derive(Clone)]
pub struct HostConfig {
    /// Where compiled components are kept, for this user alone; none compiles at every load.
    pub cache_dir: Option<PathBuf>,
    /// What each plugin may use, unless its [`LoadRequest`] says otherwise.
    pub limits: Limits,
    /// When a failing plugin is started again.
    pub supervision: Supervision,
    /// Where plugins keep their data.
    pub kv: Arc<dyn KvStore>,
    /// Where plugins' metrics go.
    pub metrics: Arc<PluginMetrics>,
    /// Who carries out kernel operations for plugins that are granted them; without, such plugins do not load.
    pub operations: Option<Arc<dyn Operations>>,
}

impl Default for HostConfig {
    fn default() -> Self {
        Self {
            cache_dir: None,
            limits: Limits::default(),
            supervision: Supervision::default(),
            kv: Arc::new(MemoryKv::default()),
            metrics: Arc::new(PluginMetrics::default()),
            operations: None,
        }
    }
}

/// A plugin to load.
#[derive(Clone, Debug)]
pub struct LoadRequest {
    /// What to call it.
    pub name: Name,
    /// The component.
    pub component: Arc<[u8]>,
    /// Its configuration.
    pub config: serde_json::Map<String, serde_json::Value>,
    /// What it may import.
    pub grants: Grants,
    /// What it may use; none takes the host's.
    pub limits: Option<Limits>,
    /// Whether it came with the daemon.
    pub bundled: bool,
}

impl LoadRequest {
    /// A component under a name, without configuration and grants.
    pub fn new(name: Name, component: impl Into<Arc<[u8]>>) -> Self {
        Self {
            name,
            component: component.into(),
            config: serde_json::Map::new(),
            grants: Grants::none(),
            limits: None,
            bundled: false,
        }
    }
}

/// Where plugins are compiled, linked and started. Cheap to clone; plugins outlive it.
#[derive(Clone)]
pub struct PluginHost {
    engine: Arc<TickingEngine>,
    cache: Option<Arc<Cache>>,
    config: HostConfig,
}

impl PluginHost {
    /// Sets up the engine, its ticker thread and the cache.
    ///
    /// # Errors
    /// [`HostError`] if one of them cannot be had.
    pub fn new(config: HostConfig) -> Result<Self, HostError> {
        let cache = config.cache_dir.as_deref().map(Cache::open).transpose()?.map(Arc::new);
        Ok(Self { engine: Arc::new(TickingEngine::start()?), cache, config })
    }

    /// The metrics of every plugin.
    #[must_use]
    pub fn metrics(&self) -> &Arc<PluginMetrics> {
        &self.config.metrics
    }

    /// What each plugin may use, unless its [`LoadRequest`] says otherwise.
    #[must_use]
    pub fn limits(&self) -> &Limits {
        &self.config.limits
    }

    /// What a component is. Compiles it, so that a load that follows finds it in the cache.
    ///
    /// # Errors
    /// [`Refusal`] if it is no component.
    pub async fn inspect(&self, component: impl Into<Arc<[u8]>>) -> Result<Inspection, Refusal> {
        let limit = self.config.limits.component_bytes;
        self.compile(component.into(), limit).await.map(|(_, inspection)| inspection)
    }

    /// Compiles a component (or takes it from the cache), links it, starts a first instance with its
    /// configuration, and asks for its health. The plugin serves nothing until it is put in a
    /// [`Registry`](crate::Registry).
    ///
    /// # Errors
    /// [`LoadError`] if any of that fails.
    pub async fn load(&self, request: LoadRequest) -> Result<Plugin, LoadError> {
        let name = request.name.clone();
        self.try_load(request).await.map_err(|refusal| refusal.of(&name))
    }

    async fn try_load(&self, request: LoadRequest) -> Result<Plugin, Refusal> {
        let limits = request.limits.unwrap_or_else(|| self.config.limits.clone());
        let (component, inspection) = self.compile(request.component, limits.component_bytes).await?;
        inspect::check(&inspection, &request.grants, self.config.operations.is_some())?;
        if let Some(schema) = &inspection.config_schema {
            schema::check(schema, &request.config)?;
        }
        let directories = Directories::open(request.grants.files.as_ref())
            .map_err(|error| Refusal::Directory(error.to_string()))?;

        let mismatch = |error: wasmtime::Error| Refusal::Mismatch(format!("{error:#}"));
        let linker = Blueprint::linker(&self.engine, &request.grants)
            .map_err(|error| Refusal::Host(format!("{error:#}")))?;
        let pre = linker.instantiate_pre(&component).map_err(mismatch)?;
        let exports = Exports::find(&pre, &inspection.hooks).map_err(mismatch)?;
        let blueprint = Blueprint {
            plugin: request.name,
            settings: Arc::new(Settings::new(request.config)),
            kv: Arc::clone(&self.config.kv),
            metrics: Arc::clone(&self.config.metrics),
            log: Arc::new(LogGate::new(limits.log_rate, Instant::now())),
            grants: Arc::new(request.grants),
            operations: self.config.operations.clone(),
            directories: Arc::new(directories),
            pre,
            exports,
            engine: Arc::clone(&self.engine),
            limits,
        };
        let first = blueprint.instantiate().await.map_err(|none| match none {
            NoInstance::Mismatch(why) => Refusal::Mismatch(why),
            NoInstance::Init(why) => Refusal::Init(why),
            NoInstance::Failed(failure) => Refusal::Start(failure),
        })?;
        let supervision = self.config.supervision.clone();
        let plugin = Plugin::new(blueprint, inspection, supervision, request.bundled, first);
        match plugin.health().await {
            Ok(Health::Healthy) => Ok(plugin),
            Ok(Health::Unhealthy(why)) => Err(Refusal::Unhealthy(why)),
            Err(error) => Err(Refusal::Start(error.failure)),
        }
    }

    async fn compile(&self, bytes: Arc<[u8]>, limit: usize) -> Result<(Component, Inspection), Refusal> {
        inspect::check_bytes(&bytes, limit)?;
        let (engine, cache) = (Arc::clone(&self.engine), self.cache.clone());
        let compile = move || {
            let engine = engine.engine();
            let digest = hex_digest(&bytes);
            let cached = cache.as_ref().and_then(|cache| cache.load(engine, &digest));
            let component = match cached {
                Some(component) => component,
                None => {
                    let component = Component::new(engine, &bytes)
                        .map_err(|error| Refusal::Damaged(first_line(&format!("{error:#}"))))?;
                    if let Some(cache) = &cache {
                        cache.store(engine, &digest, &component);
                    }
                    component
                }
            };
            let config_schema = schema::of(&bytes)?;
            let inspection = inspect::inspect(engine, &component, &digest, bytes.len());
            Ok((component, Inspection { config_schema, ..inspection }))
        };
        let compiled = tokio::task::spawn_blocking(compile).await;
        compiled.unwrap_or_else(|error| Err(Refusal::Host(format!("the compiler failed: {error}"))))
    }
}

fn first_line(text: &str) -> String {
    text.lines().next().unwrap_or_default().to_owned()
}
