//! Replacing a plugin while it serves: the new version is looked over, started and asked about the node as it is
//! before anything changes; then one swap. The old one serves until then, and is kept to go back to.

use std::{
    collections::HashMap,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, SystemTime},
};

use anyhow::anyhow;
use netloom_api::types::{
    AnswerDifference, PluginLoad, PluginVersion, PluginView, ReloadReport, ReloadRequest, RollbackRequest,
    TrialView,
};
use netloom_core::model::{Attachment, Endpoint, Name, ReapEvent, ReapReason};
use netloom_kernel::{links, netns::Netns};
use netloom_runtime::{Plugin, Question, Reply, Trial, TrialMode};

use super::{
    Plugins, read_component,
    signers::{Component, NotTaken},
    view,
};
use crate::{
    failure::Failure,
    policy::Policy,
    store::{Changes, PluginRecord, StoreError, VersionRecord, number_key},
    telemetry::kept::now_ms,
};

/// Most objects of each kind that both versions are asked about.
const MAX_QUESTIONS: usize = 64;
/// Versions of a plugin that are kept.
const KEPT_VERSIONS: usize = 5;

impl Plugins {
    /// Loads another version of a plugin.
    pub(crate) async fn reload(&self, name: &Name, request: ReloadRequest) -> Result<ReloadReport, Failure> {
        if request.canary.is_some_and(|percent| !(1..=99).contains(&percent)) {
            return Err(Failure::invalid(anyhow!("a canary decides 1 to 99 percent")));
        }
        if request.shadow && request.canary.is_some() {
            return Err(Failure::invalid(anyhow!(
                "a version is tried out as a shadow or as a canary, not both"
            )));
        }
        let _guard = self.locks.plugins().await;
        let serving = self.registered(name)?;
        let mut load = self.source_of(name)?;
        if let Some(path) = request.path {
            load.path = path;
        }
        let trial = match request.canary {
            Some(percent) => Some(TrialMode::Canary(percent)),
            None => request.shadow.then_some(TrialMode::Shadow),
        };
        let component = self.signers.read_component(&load.path).await.map_err(NotTaken::failure)?;
        self.replace(&serving, load, component, request.dry_run, trial).await
    }

    /// Goes back to a version that is kept.
    pub(crate) async fn rollback(
        &self,
        name: &Name,
        request: RollbackRequest,
    ) -> Result<ReloadReport, Failure> {
        let _guard = self.locks.plugins().await;
        let serving = self.registered(name)?;
        let digest = Arc::clone(serving.digest());
        let wanted = |record: &PluginRecord| match &request.digest {
            Some(start) => record.digest.starts_with(start.as_str()),
            None => record.digest != *digest,
        };
        let kept = self.versions_of(name)?;
        let version = kept.into_iter().map(|(_, record)| record).rfind(wanted).ok_or_else(|| {
            Failure::not_found(format!("no such version of {name} is kept"))
                .hint(format!("see `netloom plugin versions {name}`"))
        })?;
        let component = self.components.read(&version, &self.signers).await.map_err(Failure::refused)?;
        self.replace(&serving, version.load, component, false, None).await
    }

    async fn replace(
        &self,
        serving: &Arc<Plugin>,
        load: PluginLoad,
        component: Component,
        dry_run: bool,
        trial: Option<TrialMode>,
    ) -> Result<ReloadReport, Failure> {
        let name = serving.name();
        let request = self.load_request(&load, Arc::clone(&component.bytes)).map_err(Failure::invalid)?;
        let next = Arc::new(self.plugin_host.load(request).await.map_err(Failure::refused)?);
        let digest = Arc::clone(next.digest());
        let (compared, differences) = self.compare(serving, &next).await?;
        let report = |outcome: &str| -> Result<ReloadReport, Failure> {
            Ok(ReloadReport {
                plugin: self.show(name)?,
                digest: digest.to_string(),
                outcome: outcome.to_owned(),
                compared,
                differences,
            })
        };
        if dry_run {
            return report("dry run");
        }
        self.store.ready()?;
        if let Some(mode) = trial {
            self.keep(&digest, &component, || Ok(()))?;
            self.policy.registry.try_out(Trial::new(next, mode));
            self.trial_load.lock().await.insert(name.clone(), load);
            return report("trial");
        }
        self.keep(&digest, &component, || self.serve_instead(next, load))?;
        report("serving")
    }

    /// Keeps the record, then swaps: a daemon killed in between starts with the new version, as it would have gone on.
    fn serve_instead(&self, next: Arc<Plugin>, load: PluginLoad) -> Result<(), Failure> {
        let name = next.name().clone();
        self.store.commit(|changes| {
            let order = match changes.get::<PluginRecord>(name.as_str())? {
                Some(present) => present.order,
                None => changes.next("plugin")?,
            };
            let record = PluginRecord { load, digest: next.digest().to_string(), order, loaded_ms: now_ms() };
            self.put_version(changes, &name, &record)
        })?;
        self.policy.registry.end_trial(&name);
        self.policy.registry.insert(next, None);
        self.collect_components();
        tracing::info!(plugin = %name, "another version serves");
        Ok(())
    }

    /// Writes a version down as the serving one.
    pub(crate) fn put_version(
        &self,
        changes: &Changes,
        name: &Name,
        record: &PluginRecord,
    ) -> Result<(), StoreError> {
        changes.put(name.as_str(), record)?;
        let key = format!("{name}/{}", number_key(changes.next("plugin_version")?));
        changes.put(&key, &VersionRecord(record.clone()))?;
        // One of them is not committed yet.
        let kept = self.versions_of(name)?;
        for (old, _) in kept.iter().rev().skip(KEPT_VERSIONS.saturating_sub(1)) {
            changes.remove::<VersionRecord>(old)?;
        }
        Ok(())
    }

    pub(crate) fn versions_of(&self, name: &Name) -> Result<Vec<(String, PluginRecord)>, StoreError> {
        let space = format!("{name}/");
        let all = self.store.all::<VersionRecord>()?;
        Ok(all
            .into_iter()
            .filter(|(key, _)| key.starts_with(&space))
            .map(|(key, VersionRecord(record))| (key, record))
            .collect())
    }

    /// The versions that are kept, newest last.
    pub(crate) fn versions(&self, name: &Name) -> Result<Vec<PluginVersion>, Failure> {
        let serving = Arc::clone(self.registered(name)?.digest());
        let versions = self.versions_of(name)?.into_iter().map(|(_, record)| PluginVersion {
            serving: record.digest == *serving,
            digest: record.digest,
            path: record.load.path,
            loaded_ms: record.loaded_ms,
        });
        Ok(versions.collect())
    }

    /// The version that is tried out serves from now on.
    pub(crate) async fn promote(&self, name: &Name) -> Result<PluginView, Failure> {
        let _guard = self.locks.plugins().await;
        let trials = self.policy.registry.trials();
        let trial =
            trials.iter().find(|trial| trial.plugin().name() == name).ok_or_else(|| no_trial(name))?;
        let mut loads = self.trial_load.lock().await;
        let load = match loads.get(name) {
            Some(load) => load.clone(),
            None => self.source_of(name)?,
        };
        self.serve_instead(Arc::clone(trial.plugin()), load)?;
        loads.remove(name);
        self.show(name)
    }

    /// The version that is tried out is dropped.
    pub(crate) async fn abandon_trial(&self, name: &Name) -> Result<PluginView, Failure> {
        let _guard = self.locks.plugins().await;
        self.policy.registry.end_trial(name).ok_or_else(|| no_trial(name))?;
        self.trial_load.lock().await.remove(name);
        self.collect_components();
        self.show(name)
    }

    /// Where a loaded plugin came from.
    fn source_of(&self, name: &Name) -> Result<PluginLoad, Failure> {
        if let Some(record) = self.store.get::<PluginRecord>(name.as_str())? {
            return Ok(record.load);
        }
        let configured = self.config.plugins.load.iter().find(|load| load.name == *name);
        let load = configured.ok_or_else(|| {
            Failure::conflict(format!("{name} came with netloomd, and is replaced with it"))
                .hint("load a plugin in front of it: netloom plugin load FILE")
        })?;
        Ok(PluginLoad {
            name: Some(name.clone()),
            path: load.path.clone(),
            last: false,
            config: serde_json::from_value(serde_json::to_value(&load.config)?)?,
            grants: load.grants.clone(),
            limits: load.limits.clone(),
            watch: load.watch,
        })
    }

    /// Asks both versions about the node as it is. One that fails where the other answers is refused.
    async fn compare(
        &self,
        serving: &Arc<Plugin>,
        next: &Arc<Plugin>,
    ) -> Result<(usize, Vec<AnswerDifference>), Failure> {
        let node = &self.policy.node;
        let mut differences = Vec::new();
        let mut compared = 0;
        for question in self.present_questions()? {
            if !next.serves(question.hook()) && !serving.serves(question.hook()) {
                continue;
            }
            compared += 1;
            let (before, after) =
                (serving.ask(node.facts(), &question).await, next.ask(node.facts(), &question).await);
            if let (Reply::Failed(why), false) = (&after, matches!(before, Reply::Failed(_))) {
                // It was started for this alone: nobody depends on it yet.
                return Err(Failure::refused(anyhow!(
                    "the new version of {} failed when it was asked to {}: {why}",
                    serving.name(),
                    question.subject()
                ))
                .hint("the version of before goes on serving"));
            }
            if before != after {
                differences.push(AnswerDifference {
                    subject: question.subject(),
                    serving: serde_json::to_value(&before)?,
                    tried: serde_json::to_value(&after)?,
                });
            }
        }
        Ok((compared, differences))
    }

    /// What plugins would be asked about the node as it is: every attachment, endpoint and service, up to a bound.
    fn present_questions(&self) -> Result<Vec<Question>, Failure> {
        let mut questions = Vec::new();
        for (_, endpoint) in self.store.all::<Endpoint>()?.into_iter().take(MAX_QUESTIONS) {
            let (netns, addresses) = (endpoint.netns, endpoint.addresses);
            questions.push(Question::Choose { spec: endpoint.spec, netns, addresses });
        }
        for service in self.inventory.services()?.into_iter().take(MAX_QUESTIONS) {
            let backends: Vec<_> = service.backends.iter().map(|address| service.backend(*address)).collect();
            if !backends.is_empty() {
                questions.push(Question::Plan { event: ReapEvent { reason: ReapReason::Removed, backends } });
            }
        }
        for (_, attachment) in self.store.all::<Attachment>()?.into_iter().take(MAX_QUESTIONS) {
            let netns = attachment.netns.as_deref().map_or_else(|| Ok(self.netns.clone()), Netns::open);
            // A device that is going has no chain to ask about.
            let Ok(chain) = netns
                .map_err(Failure::from)
                .and_then(|netns| Ok(self.inventory.annotated(links::query(&attachment.hook, &netns)?)?))
            else {
                continue;
            };
            questions.push(Question::Place { chain, candidate: attachment.candidate });
        }
        questions.truncate(3 * MAX_QUESTIONS);
        Ok(questions)
    }

    /// Reloads plugins whose file changed, as long as the node lives.
    pub(crate) fn watch_files(self: &Arc<Self>) {
        const PAUSE: Duration = Duration::from_millis(500);
        let plugins = Arc::downgrade(self);
        self.background.spawn(async move {
            let (mut loaded, mut changing) = (HashMap::new(), HashMap::new());
            loop {
                tokio::time::sleep(PAUSE).await;
                let Some(plugins) = plugins.upgrade() else { return };
                for (name, path) in plugins.watched() {
                    let Some(now) = FileState::of(&path) else { continue };
                    if loaded.get(&name) == Some(&now) {
                        continue;
                    }
                    // Seen for the first time, it may have changed since it was loaded, also before a restart.
                    if !loaded.contains_key(&name) && plugins.serves_file(&name, &path).await {
                        loaded.insert(name, now);
                        continue;
                    }
                    // A file that is still being written changes again: it is read once it stays as it is.
                    if changing.insert(name.clone(), now.clone()).as_ref() != Some(&now) {
                        continue;
                    }
                    loaded.insert(name.clone(), now);
                    plugins.follow_file(&name).await;
                }
            }
        });
    }

    /// Whether the serving version is what the file holds.
    async fn serves_file(&self, name: &Name, path: &Path) -> bool {
        let Some(plugin) = self.policy.registry.get(name) else { return false };
        let held = read_component(path).await.map(|component| netloom_runtime::hex_digest(&component));
        held.is_ok_and(|digest| digest == **plugin.digest())
    }

    async fn follow_file(&self, name: &Name) {
        match self.reload(name, ReloadRequest::default()).await {
            Ok(report) => {
                let differences = report.differences.len();
                tracing::info!(plugin = %name, digest = report.digest, differences, "its file changed: reloaded");
            }
            Err(failure) => {
                tracing::error!(plugin = %name, %failure, "its file changed and was not loaded; the version of before goes on");
            }
        }
    }

    /// The plugins whose file is watched.
    fn watched(&self) -> Vec<(Name, PathBuf)> {
        let names: Vec<Name> =
            self.policy.registry.plugins().iter().map(|plugin| plugin.name().clone()).collect();
        names
            .into_iter()
            .filter_map(|name| {
                let load = self.source_of(&name).ok()?;
                load.watch.then_some((name, load.path))
            })
            .collect()
    }
}

/// A file by what changes when it does.
#[derive(Clone, PartialEq, Eq)]
struct FileState {
    modified: SystemTime,
    size: u64,
    inode: u64,
}

impl FileState {
    fn of(path: &Path) -> Option<Self> {
        let metadata = std::fs::metadata(path).ok()?;
        Some(Self { modified: metadata.modified().ok()?, size: metadata.len(), inode: metadata.ino() })
    }
}

fn no_trial(name: &Name) -> Failure {
    Failure::not_found(format!("no version of {name} is tried out"))
        .hint(format!("begin with: netloom plugin reload {name} FILE --shadow"))
}

/// How the trial of a plugin goes.
pub(crate) fn trial_view(trial: &Trial) -> TrialView {
    let status = trial.status();
    let mode = match status.mode {
        TrialMode::Shadow => "shadow".to_owned(),
        TrialMode::Canary(percent) => format!("canary {percent}%"),
    };
    let last = status.last.map(|difference| AnswerDifference {
        subject: difference.question.subject(),
        serving: serde_json::to_value(&difference.serving).unwrap_or_default(),
        tried: serde_json::to_value(&difference.tried).unwrap_or_default(),
    });
    TrialView {
        digest: status.digest,
        mode,
        asked: status.asked,
        differed: status.differed,
        failed: status.failed,
        last,
    }
}

/// A plugin as the API shows it.
pub(crate) fn with_trial(policy: &Policy, plugin: &Plugin) -> PluginView {
    let trials = policy.registry.trials();
    let trial = trials.iter().find(|trial| trial.name() == plugin.name());
    PluginView { trial: trial.map(|trial| trial_view(trial)), ..view(plugin) }
}
