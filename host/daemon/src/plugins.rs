//! Plugins: the bundled ones, those of the configuration, and those loaded at run time, which survive restarts.
//!
//! - [`components`]: our copies of those
//! - [`signers`]: whose plugins this node takes
//! - [`reload`]: other versions of a plugin
//! - [`kv`]: plugins' own data

mod components;
mod kv;
mod reload;
mod signers;

use std::{collections::HashMap, path::Path, sync::Arc, time::Duration};

use anyhow::{Context as _, anyhow};
use netloom_api::types::{Done, Finding, PluginInspection, PluginLimits, PluginLoad, PluginView};
use netloom_core::model::Name;
use netloom_kernel::netns::Netns;
use netloom_runtime::{
    HostConfig, Inspection, Limits, LoadRequest, Metric, Operations, Plugin, PluginHost, PluginMetrics,
    Position,
};
use tokio::sync::Mutex as AsyncMutex;

use self::{
    components::Components,
    kv::PluginData,
    reload::with_trial,
    signers::{Component, NotTaken, Signers},
};
use crate::{
    background::Background,
    config::{Config, Load},
    failure::Failure,
    inventory::Inventory,
    locks::Locks,
    opened::Opened,
    policy::Policy,
    store::{PluginRecord, Store, StoreError, VersionRecord},
    telemetry::{kept::now_ms, metrics::Metrics},
};

/// How long a bundled plugin may take to start, at least: without one the node does not start, and a machine that has
/// just booted is busy with much else.
const BUNDLED_START: Duration = Duration::from_secs(10);

/// The plugins that are loaded, and where they came from.
pub(crate) struct Plugins {
    config: Arc<Config>,
    netns: Netns,
    store: Arc<Store>,
    locks: Arc<Locks>,
    metrics: Arc<Metrics>,
    background: Arc<Background>,
    policy: Arc<Policy>,
    inventory: Arc<Inventory>,
    plugin_host: PluginHost,
    signers: Signers,
    components: Components,
    /// Where the versions that are tried out came from.
    trial_load: AsyncMutex<HashMap<Name, PluginLoad>>,
}

impl Plugins {
    pub(crate) fn new(
        opened: &Opened,
        policy: &Arc<Policy>,
        inventory: &Arc<Inventory>,
        operations: Arc<dyn Operations>,
    ) -> anyhow::Result<Self> {
        let Opened { config, paths, store, .. } = opened;
        let plugin_host = PluginHost::new(HostConfig {
            cache_dir: Some(config.plugins.compiled.clone().unwrap_or_else(|| paths.state.join("compiled"))),
            limits: Limits {
                deadline: config.deadline(),
                memory_bytes: config.plugins.memory_mib << 20,
                ..Limits::default()
            },
            kv: Arc::new(PluginData(Arc::clone(store))),
            metrics: Arc::new(PluginMetrics::default()),
            operations: Some(operations),
            ..HostConfig::default()
        })?;
        Ok(Self {
            config: Arc::clone(config),
            netns: opened.netns.clone(),
            store: Arc::clone(store),
            locks: Arc::clone(&opened.locks),
            metrics: Arc::clone(&opened.metrics),
            background: Arc::clone(&opened.background),
            policy: Arc::clone(policy),
            inventory: Arc::clone(inventory),
            plugin_host,
            signers: Signers::read(&config.plugins.signed_by)?,
            components: Components::new(&paths.state),
            trial_load: AsyncMutex::default(),
        })
    }

    /// Loads the plugins of this start. A bundled plugin that fails is an error, as something is wrong with this
    /// build or its configuration; any other is reported, and the node goes on without it.
    pub(crate) async fn load_all(&self) -> anyhow::Result<()> {
        let Config { plugins, .. } = &*self.config;
        if plugins.bundled {
            for bundled in netloom_bundled::PLUGINS {
                let name = Name::new(bundled.name)?;
                let config = plugins.config.get(&name).map(json_table).transpose()?.unwrap_or_default();
                let all = self.plugin_host.limits();
                let init_deadline = all.init_deadline.max(BUNDLED_START);
                let request = LoadRequest {
                    config,
                    bundled: true,
                    limits: Some(Limits { init_deadline, ..all.clone() }),
                    ..LoadRequest::new(name, bundled.component)
                };
                let plugin = self.plugin_host.load(request).await?;
                self.policy.registry.insert(Arc::new(plugin), Some(Position::Last));
            }
        }
        // The first of the configuration is asked first: so it is put in front last.
        for load in plugins.load.iter().rev() {
            if let Err(error) = self.load_configured(load).await {
                tracing::error!(plugin = %load.name, error = format!("{error:#}"), "a configured plugin was not loaded");
            }
        }
        let mut records = self.store.all::<PluginRecord>()?;
        records.sort_by_key(|(_, record)| record.order);
        for (name, record) in records {
            if let Err(error) = self.load_recorded(&record).await {
                tracing::error!(
                    plugin = name,
                    error = format!("{error:#}"),
                    "a plugin of before was not loaded"
                );
            }
        }
        self.count_plugins();
        self.collect_components();
        Ok(())
    }

    async fn load_configured(&self, load: &Load) -> anyhow::Result<()> {
        let component = self.signers.read_component(&load.path).await?.bytes;
        let request = LoadRequest {
            config: json_table(&load.config)?,
            limits: Some(self.limits_of(&load.limits)?),
            grants: load.grants.clone(),
            ..LoadRequest::new(load.name.clone(), component)
        };
        let plugin = self.plugin_host.load(request).await?;
        self.policy.registry.insert(Arc::new(plugin), Some(Position::First));
        Ok(())
    }

    async fn load_recorded(&self, record: &PluginRecord) -> anyhow::Result<()> {
        let component = self.components.read(record, &self.signers).await?;
        let plugin = self.plugin_host.load(self.load_request(&record.load, component.bytes)?).await?;
        self.policy.registry.insert(Arc::new(plugin), Some(position(&record.load)));
        Ok(())
    }

    /// Loads a plugin, or replaces the one of the same name. The old one serves until the new one is ready.
    pub(crate) async fn load(&self, mut load: PluginLoad) -> Result<PluginView, Failure> {
        let _guard = self.locks.plugins().await;
        let component = self.signers.read_component(&load.path).await.map_err(NotTaken::failure)?;
        let name = plugin_name(&load)?;
        if netloom_bundled::PLUGINS.iter().any(|bundled| bundled.name == name.as_str()) {
            return Err(Failure::conflict(format!("{name} is a bundled plugin's name"))
                .hint("give yours another with --name; it decides before the bundled ones"));
        }
        load.name = Some(name.clone());
        let plugin = self
            .plugin_host
            .load(self.load_request(&load, Arc::clone(&component.bytes)).map_err(Failure::invalid)?)
            .await
            .map_err(Failure::refused)?;
        let digest = plugin.inspection().digest.clone();
        self.store.ready()?;
        self.keep(&digest, &component, || {
            self.store.commit(|changes| {
                let order = changes.next("plugin")?;
                let record =
                    PluginRecord { load: load.clone(), digest: digest.clone(), order, loaded_ms: now_ms() };
                self.put_version(changes, &name, &record)
            })?;
            Ok(())
        })?;
        let plugin = Arc::new(plugin);
        self.policy.registry.insert(Arc::clone(&plugin), Some(position(&load)));
        self.count_plugins();
        self.collect_components();
        Ok(view(&plugin))
    }

    /// Unloads a plugin: the others, or the hooks' fallbacks, decide from now on.
    pub(crate) async fn unload(&self, name: &Name) -> Result<Done, Failure> {
        let _guard = self.locks.plugins().await;
        let plugin = self.registered(name)?;
        if plugin.status().bundled {
            return Err(Failure::conflict(format!("{name} came with netloomd"))
                .hint("load a plugin in front of it, or set plugins.bundled = false"));
        }
        let versions = self.versions_of(name)?;
        let recorded = self.store.commit(|changes| {
            versions.iter().try_for_each(|(key, _)| changes.remove::<VersionRecord>(key).map(drop))?;
            changes.remove::<PluginRecord>(name.as_str())
        })?;
        self.policy.registry.remove(name);
        self.plugin_host.metrics().forget(name);
        self.count_plugins();
        self.collect_components();
        let warning =
            (!recorded).then(|| format!("{name} is in the configuration, and comes back with a restart"));
        Ok(Done { warnings: warning.into_iter().collect() })
    }

    /// Asks every plugin for its health, now and then, as long as the node lives.
    pub(crate) fn watch_health(&self) {
        let (policy, pause) =
            (Arc::downgrade(&self.policy), Duration::from_secs(self.config.plugins.health_seconds));
        if pause.is_zero() {
            return;
        }
        self.background.spawn(async move {
            loop {
                tokio::time::sleep(pause).await;
                let Some(policy) = policy.upgrade() else { return };
                for plugin in policy.registry.plugins().iter() {
                    // A failure is the supervisor's, which writes it down and counts it; whoever is in quarantine
                    // is not asked.
                    drop(plugin.health().await);
                }
            }
        });
    }

    /// The metrics of plugins' own, with whose they are.
    pub(crate) fn metrics(&self) -> Vec<(Name, String, Metric)> {
        self.plugin_host.metrics().snapshot()
    }

    /// Every plugin, in the order in which they are asked.
    pub(crate) fn list(&self) -> Vec<PluginView> {
        self.policy.registry.plugins().iter().map(|plugin| with_trial(&self.policy, plugin)).collect()
    }

    /// One plugin.
    pub(crate) fn show(&self, name: &Name) -> Result<PluginView, Failure> {
        Ok(with_trial(&self.policy, &*self.registered(name)?))
    }

    /// What a component is, without loading it as a plugin.
    pub(crate) async fn inspect(&self, load: &PluginLoad) -> Result<PluginInspection, Failure> {
        let component = read_component(&load.path).await.map_err(Failure::invalid)?;
        let inspection: Inspection = self
            .plugin_host
            .inspect(component)
            .await
            .map_err(|refusal| Failure::refused(anyhow!("{}: {refusal}", load.path.display())))?;
        Ok(PluginInspection {
            digest: inspection.digest,
            size: inspection.size,
            hooks: inspection.hooks.iter().map(ToString::to_string).collect(),
            imports: inspection.imports,
            grants: inspection.grants.iter().map(|grant| grant.as_str().to_owned()).collect(),
            config_schema: inspection.config_schema,
        })
    }

    pub(crate) fn registered(&self, name: &Name) -> Result<Arc<Plugin>, Failure> {
        self.policy.registry.get(name).ok_or_else(|| {
            Failure::not_found(format!("there is no plugin {name}")).hint("see `netloom plugin list`")
        })
    }

    /// The records that refer to a kept component.
    fn component_records(&self) -> Result<Vec<PluginRecord>, StoreError> {
        let serving = self.store.all::<PluginRecord>()?.into_iter().map(|(_, record)| record);
        let versions =
            self.store.all::<VersionRecord>()?.into_iter().map(|(_, VersionRecord(record))| record);
        Ok(serving.chain(versions).collect())
    }

    /// The kept components that are damaged.
    pub(crate) fn component_findings(&self) -> Result<Vec<Finding>, StoreError> {
        Ok(self.components.findings(&self.component_records()?))
    }

    /// Keeps a component, and does what refers to it from then on. Where that fails, it is not left behind.
    pub(crate) fn keep(
        &self,
        digest: &str,
        component: &Component,
        refer: impl FnOnce() -> Result<(), Failure>,
    ) -> Result<(), Failure> {
        let kept = self.components.keep(digest, component).map_err(Failure::from).and_then(|()| refer());
        if kept.is_err() {
            self.collect_components();
        }
        kept
    }

    /// Removes the kept components that nobody refers to any more.
    pub(crate) fn collect_components(&self) {
        let tried_out = self.policy.registry.trials();
        let referred = self.component_records().map(|records| {
            let trials = tried_out.iter().map(|trial| trial.plugin().digest().to_string());
            records.into_iter().map(|record| record.digest).chain(trials).collect()
        });
        let collected = referred
            .map_err(anyhow::Error::from)
            .and_then(|referred| Ok(self.components.collect(&referred)?));
        match collected {
            Ok(0) => {}
            Ok(removed) => tracing::info!(removed, "kept components that nobody refers to were removed"),
            Err(error) => {
                tracing::warn!(error = format!("{error:#}"), "kept components cannot be cleaned up");
            }
        }
    }

    pub(crate) fn load_request(
        &self,
        load: &PluginLoad,
        component: Arc<[u8]>,
    ) -> anyhow::Result<LoadRequest> {
        let name = load.name.clone().context("the plugin has no name")?;
        Ok(LoadRequest {
            config: load.config.clone().into_iter().collect(),
            grants: load.grants.clone(),
            limits: Some(self.limits_of(&load.limits)?),
            ..LoadRequest::new(name, component)
        })
    }

    /// The limits of a plugin: its own, and where it has none those of every plugin.
    fn limits_of(&self, own: &PluginLimits) -> anyhow::Result<Limits> {
        let PluginLimits {
            deadline_ms,
            judge_deadline_ms,
            init_deadline_ms,
            memory_mib,
            table_elements,
            host_calls,
            handles,
            log_rate,
            kv_kib,
            instances,
        } = own;
        if [deadline_ms, judge_deadline_ms, init_deadline_ms].contains(&&Some(0)) || *instances == Some(0) {
            return Err(anyhow!("a deadline and the number of instances are 1 or more"));
        }
        let all = self.plugin_host.limits();
        let millis = |own: &Option<u64>, all| own.map_or(all, Duration::from_millis);
        Ok(Limits {
            deadline: millis(deadline_ms, all.deadline),
            judge_deadline: millis(judge_deadline_ms, all.judge_deadline),
            init_deadline: millis(init_deadline_ms, all.init_deadline),
            memory_bytes: memory_mib.map_or(all.memory_bytes, |mib| mib << 20),
            table_elements: table_elements.unwrap_or(all.table_elements),
            host_calls: host_calls.unwrap_or(all.host_calls),
            handles: handles.unwrap_or(all.handles),
            log_rate: log_rate.unwrap_or(all.log_rate),
            kv_bytes: kv_kib.map_or(all.kv_bytes, |kib| kib << 10),
            instances: instances.unwrap_or(all.instances),
            ..all.clone()
        })
    }

    fn count_plugins(&self) {
        self.metrics.set_objects("plugins", self.policy.registry.plugins().len());
    }
}

const fn position(load: &PluginLoad) -> Position {
    if load.last { Position::Last } else { Position::First }
}

/// The name asked for, or the file's.
fn plugin_name(load: &PluginLoad) -> Result<Name, Failure> {
    if let Some(name) = &load.name {
        return Ok(name.clone());
    }
    let stem = load.path.file_stem().and_then(|stem| stem.to_str()).unwrap_or_default();
    Name::new(stem.to_ascii_lowercase())
        .map_err(|error| Failure::invalid(error).hint("name the plugin with --name"))
}

/// Reads a component that is only looked at.
pub(crate) async fn read_component(path: &Path) -> anyhow::Result<Arc<[u8]>> {
    let bytes = tokio::fs::read(path)
        .await
        .with_context(|| format!("the component {} cannot be read", path.display()))?;
    Ok(bytes.into())
}

fn json_table(table: &toml::Table) -> anyhow::Result<serde_json::Map<String, serde_json::Value>> {
    match serde_json::to_value(table)? {
        serde_json::Value::Object(map) => Ok(map),
        other => Err(anyhow!("a plugin's configuration is not a table: {other}")),
    }
}

pub(crate) fn view(plugin: &Plugin) -> PluginView {
    let status = plugin.status();
    PluginView {
        name: status.name,
        bundled: status.bundled,
        digest: status.digest,
        hooks: status.hooks.iter().map(ToString::to_string).collect(),
        state: status.state.as_str().to_owned(),
        reason: status.reason,
        calls: status.calls,
        failures: status.failures,
        grants: plugin.grants().clone(),
        config_schema: plugin.inspection().config_schema.clone(),
        trial: None,
    }
}
