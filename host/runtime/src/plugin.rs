use std::{
    fmt,
    future::Future,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use netloom_core::{
    answer::{Answer, RawMode, RawPlacement, RawReapPlan},
    grants::Grants,
    model::{Candidate, Chain, Name, ReapEvent},
    validate,
};
use tokio::sync::Semaphore;

use crate::{
    bindings::convert,
    error::{self, CallError, Failure},
    hook::Hook,
    inspect::Inspection,
    instance::{Blueprint, Instance, slack},
    log,
    question::{EndpointFacts, NodeFacts, Suspect},
    supervision::{State, Supervision, Supervisor},
};

/// Sockets that the host asks about in one call: so many, and what is made of them on the way, stay in a CPU's cache.
const ASKED_AT_ONCE: usize = 1_024;

/// A loaded plugin. Calls may come from many tasks at once: each has an instance to itself, kept warm between
/// calls, up to the plugin's limit of instances; so what a plugin must remember belongs into its `kv` store.
///
/// An instance that trapped, ran past its deadline or into a limit is thrown away; the plugin then pauses, and is
/// quarantined if that happens too often. Calls in flight when a plugin is replaced or unloaded are answered.
pub struct Plugin {
    blueprint: Blueprint,
    inspection: Inspection,
    digest: Arc<str>,
    bundled: bool,
    slots: Semaphore,
    idle: Mutex<Vec<Instance>>,
    supervisor: Mutex<Supervisor>,
    unhealthy: Mutex<Option<String>>,
    calls: AtomicU64,
    failures: AtomicU64,
    instances: AtomicU64,
}

/// How a plugin is doing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Status {
    /// Its name.
    pub name: Name,
    /// Whether it is asked.
    pub state: State,
    /// Why not, or why it is unhealthy.
    pub reason: Option<String>,
    /// Calls made to it.
    pub calls: u64,
    /// Of those, how many trapped, timed out, ran into a limit or gave a bad answer.
    pub failures: u64,
    /// Instances made of it so far.
    pub instances: u64,
    /// The SHA-256 of the component, hexadecimal.
    pub digest: String,
    /// The hooks it serves.
    pub hooks: Vec<Hook>,
    /// Whether it came with the daemon.
    pub bundled: bool,
}

/// What a plugin says of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Health {
    /// All is well, or it has no opinion.
    Healthy,
    /// Something is wrong, and what.
    Unhealthy(String),
}

impl Plugin {
    pub(crate) fn new(
        blueprint: Blueprint,
        inspection: Inspection,
        supervision: Supervision,
        bundled: bool,
        first: Instance,
    ) -> Self {
        Self {
            slots: Semaphore::new(blueprint.limits.instances.max(1)),
            blueprint,
            digest: inspection.digest.as_str().into(),
            inspection,
            bundled,
            idle: Mutex::new(vec![first]),
            supervisor: Mutex::new(Supervisor::new(supervision)),
            unhealthy: Mutex::new(None),
            calls: AtomicU64::new(0),
            failures: AtomicU64::new(0),
            instances: AtomicU64::new(1),
        }
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &Name {
        &self.blueprint.plugin
    }

    /// What its component is.
    #[must_use]
    pub fn inspection(&self) -> &Inspection {
        &self.inspection
    }

    /// What it may import.
    #[must_use]
    pub fn grants(&self) -> &Grants {
        &self.blueprint.grants
    }

    /// The SHA-256 of its component, hexadecimal.
    #[must_use]
    pub fn digest(&self) -> &Arc<str> {
        &self.digest
    }

    /// Whether it serves a hook.
    #[must_use]
    pub fn serves(&self, hook: Hook) -> bool {
        self.inspection.hooks.contains(&hook)
    }

    /// How it is doing.
    #[must_use]
    pub fn status(&self) -> Status {
        let (state, reason) = lock(&self.supervisor).state(Instant::now());
        Status {
            name: self.name().clone(),
            state,
            reason: reason.or_else(|| lock(&self.unhealthy).clone()),
            calls: self.calls.load(Ordering::Relaxed),
            failures: self.failures.load(Ordering::Relaxed),
            instances: self.instances.load(Ordering::Relaxed),
            digest: self.inspection.digest.clone(),
            hooks: self.inspection.hooks.clone(),
            bundled: self.bundled,
        }
    }

    /// Where does this program go in this chain?
    ///
    /// # Errors
    /// [`CallError`] if the plugin gave no answer.
    pub async fn place(
        &self,
        node: NodeFacts<'_>,
        chain: &Chain,
        candidate: &Candidate,
    ) -> Result<Answer<RawPlacement>, CallError> {
        let arguments = (convert::node(node), convert::chain(chain), convert::candidate(candidate));
        let decision = self
            .call(
                Hook::AttachOrder,
                "place",
                self.blueprint.limits.deadline,
                move |mut instance| async move {
                    let answer = match &instance.attach_order {
                        Some(guest) => {
                            let (node, chain, candidate) = &arguments;
                            guest.call_place(&mut instance.store, node, chain, candidate).await
                        }
                        None => Err(not_exported()),
                    };
                    (instance, answer)
                },
            )
            .await?;
        Ok(clean(decision.into()))
    }

    /// In which order should Netloom's own entries of this chain run? Abstaining keeps it as it is.
    ///
    /// # Errors
    /// [`CallError`] if the plugin gave no answer.
    pub async fn rebalance(&self, node: NodeFacts<'_>, chain: &Chain) -> Result<Answer<Vec<u32>>, CallError> {
        let (node, chain) = (convert::node(node), convert::chain(chain));
        let decision = self
            .call(
                Hook::AttachOrder,
                "rebalance",
                self.blueprint.limits.deadline,
                move |mut instance| async move {
                    let answer = match &instance.attach_order {
                        Some(guest) => guest.call_rebalance(&mut instance.store, &node, &chain).await,
                        None => Err(not_exported()),
                    };
                    (instance, answer)
                },
            )
            .await?;
        Ok(decision.into())
    }

    /// Which datapath does this endpoint get on this node?
    ///
    /// # Errors
    /// [`CallError`] if the plugin gave no answer.
    pub async fn choose(
        &self,
        node: NodeFacts<'_>,
        endpoint: EndpointFacts<'_>,
    ) -> Result<Answer<RawMode>, CallError> {
        let (node, endpoint) = (convert::node(node), convert::endpoint(endpoint));
        let decision = self
            .call(
                Hook::DatapathMode,
                "choose",
                self.blueprint.limits.deadline,
                move |mut instance| async move {
                    let answer = match &instance.datapath_mode {
                        Some(guest) => guest.call_choose(&mut instance.store, &node, &endpoint).await,
                        None => Err(not_exported()),
                    };
                    (instance, answer)
                },
            )
            .await?;
        Ok(clean(decision.into()))
    }

    /// What does the host look for, for this event?
    ///
    /// # Errors
    /// [`CallError`] if the plugin gave no answer; then nothing may be reaped.
    pub async fn plan(
        &self,
        node: NodeFacts<'_>,
        event: &ReapEvent,
    ) -> Result<Answer<RawReapPlan>, CallError> {
        let (node, event) = (convert::node(node), convert::event(event));
        let decision = self
            .call(Hook::SocketReap, "plan", self.blueprint.limits.deadline, move |mut instance| async move {
                let answer = match &instance.socket_reap {
                    Some(guest) => guest.call_plan(&mut instance.store, &node, &event).await,
                    None => Err(not_exported()),
                };
                (instance, answer)
            })
            .await?;
        Ok(clean(decision.into()))
    }

    /// Which of these sockets are to be destroyed? One answer a socket, in order; asked in batches.
    ///
    /// # Errors
    /// [`CallError`] if the plugin gave no answer to a batch, or too few or many; then nothing may be reaped.
    pub async fn judge(&self, event: &ReapEvent, sockets: &[Suspect<'_>]) -> Result<Vec<bool>, CallError> {
        let mut judgements = Vec::with_capacity(sockets.len());
        let mut places = convert::Places::of(event);
        for batch in sockets.chunks(ASKED_AT_ONCE) {
            let records = batch.iter().map(|suspect| convert::bound_socket(&mut places, *suspect));
            let records = records.collect::<Result<Vec<_>, _>>();
            let records = records.map_err(|error| self.not_asked("judge", &error))?;
            let event = convert::event(event);
            let given = self
                .call(
                    Hook::SocketReap,
                    "judge",
                    self.blueprint.limits.judge_deadline,
                    move |mut instance| async move {
                        let answer = match &instance.socket_reap {
                            Some(guest) => guest.call_judge(&mut instance.store, &event, &records).await,
                            None => Err(not_exported()),
                        };
                        (instance, answer)
                    },
                )
                .await?;
            let checked = validate::judgements(batch.len(), given);
            judgements.extend(checked.map_err(|error| self.bad_answer("judge", &error))?);
        }
        Ok(judgements)
    }

    /// The same, packed for speed.
    ///
    /// # Errors
    /// As [`Plugin::judge`].
    pub async fn judge_packed(
        &self,
        event: &ReapEvent,
        sockets: &[Suspect<'_>],
    ) -> Result<Vec<bool>, CallError> {
        let mut judgements = Vec::with_capacity(sockets.len());
        let mut places = convert::Places::of(event);
        for batch in sockets.chunks(ASKED_AT_ONCE) {
            let words =
                convert::pack(&mut places, batch).map_err(|error| self.not_asked("judge-packed", &error))?;
            let event = convert::event(event);
            let given = self
                .call(
                    Hook::SocketReap,
                    "judge-packed",
                    self.blueprint.limits.judge_deadline,
                    move |mut instance| async move {
                        let answer = match &instance.socket_reap {
                            Some(guest) => guest.call_judge_packed(&mut instance.store, &event, &words).await,
                            None => Err(not_exported()),
                        };
                        (instance, answer)
                    },
                )
                .await?;
            let checked = validate::packed_judgements(batch.len(), &given);
            judgements.extend(checked.map_err(|error| self.bad_answer("judge-packed", &error))?);
        }
        Ok(judgements)
    }

    /// How does the plugin say it is doing? Its answer shows in [`Plugin::status`].
    ///
    /// # Errors
    /// [`CallError`] if the plugin gave no answer.
    pub async fn health(&self) -> Result<Health, CallError> {
        if !self.serves(Hook::Lifecycle) {
            return Ok(Health::Healthy);
        }
        let answer = self
            .call(Hook::Lifecycle, "health", self.blueprint.limits.deadline, |mut instance| async move {
                let answer = match &instance.lifecycle {
                    Some(guest) => guest.call_health(&mut instance.store).await,
                    None => Err(not_exported()),
                };
                (instance, answer)
            })
            .await?;
        let complaint = answer.err().map(|why| log::clean_reason(&why));
        lock(&self.unhealthy).clone_from(&complaint);
        Ok(complaint.map_or(Health::Healthy, Health::Unhealthy))
    }

    /// Notes that an answer could not be used: a failure of the plugin, exactly like a trap.
    pub fn report_bad_answer(&self, reason: &str) {
        self.failed(&Failure::BadAnswer(log::clean_reason(reason)));
        lock(&self.idle).clear();
    }

    /// Makes an instance, lets it `init`, and throws it away: whether it would start.
    ///
    /// # Errors
    /// [`CallError`] if it does not.
    pub async fn try_start(&self) -> Result<(), CallError> {
        let started = self.blueprint.instantiate().await;
        started.map(drop).map_err(|none| self.error("init", none.into()))
    }

    /// Ends backoff or quarantine, and forgets the failures that led to it.
    pub fn release(&self) {
        lock(&self.supervisor).release();
    }

    async fn call<T, F, Fut>(
        &self,
        hook: Hook,
        function: &'static str,
        deadline: Duration,
        run: F,
    ) -> Result<T, CallError>
    where
        F: FnOnce(Instance) -> Fut,
        Fut: Future<Output = (Instance, wasmtime::Result<T>)>,
    {
        self.attempt(hook, deadline, run).await.map_err(|failure| self.error(function, failure))
    }

    async fn attempt<T, F, Fut>(&self, hook: Hook, deadline: Duration, run: F) -> Result<T, Failure>
    where
        F: FnOnce(Instance) -> Fut,
        Fut: Future<Output = (Instance, wasmtime::Result<T>)>,
    {
        if !self.serves(hook) {
            return Err(Failure::NotServed(hook));
        }
        let _slot = match tokio::time::timeout(deadline, self.slots.acquire()).await {
            Ok(Ok(slot)) => slot,
            // The semaphore is never closed, so only time can run out.
            _ => return Err(Failure::Busy(deadline)),
        };
        self.admit()?;
        self.calls.fetch_add(1, Ordering::Relaxed);
        let warm = lock(&self.idle).pop();
        let mut instance = match warm {
            Some(instance) => instance,
            None => self.fresh().await?,
        };
        let _running = self.blueprint.engine.running();
        instance.arm(deadline);
        match tokio::time::timeout(slack(deadline), run(instance)).await {
            Ok((instance, Ok(answer))) => {
                lock(&self.supervisor).succeeded();
                lock(&self.idle).push(instance);
                Ok(answer)
            }
            Ok((instance, Err(error))) => {
                let breach = instance.store.data().meter.breach();
                if let Some(backtrace) = error::backtrace(&error) {
                    let plugin = self.name().as_str();
                    tracing::debug!(target: "netloom::plugin", plugin, backtrace, "where it failed");
                }
                Err(self.failed(&Failure::of(&error, breach, deadline)))
            }
            Err(_) => Err(self.failed(&Failure::Deadline(deadline))),
        }
    }

    async fn fresh(&self) -> Result<Instance, Failure> {
        self.instances.fetch_add(1, Ordering::Relaxed);
        self.blueprint.instantiate().await.map_err(|none| self.failed(&none.into()))
    }

    fn admit(&self) -> Result<(), Failure> {
        let now = Instant::now();
        let (state, reason) = lock(&self.supervisor).state(now);
        let reason = reason.unwrap_or_default();
        match state {
            State::Active => Ok(()),
            State::Backoff { until } => Err(Failure::Backoff { reason, retry_in: until - now }),
            State::Quarantined => Err(Failure::Quarantined(reason)),
        }
    }

    fn failed(&self, failure: &Failure) -> Failure {
        self.failures.fetch_add(1, Ordering::Relaxed);
        let state = lock(&self.supervisor).failed(Instant::now(), failure.to_string());
        let plugin = self.name().as_str();
        match state {
            State::Quarantined => {
                lock(&self.idle).clear();
                tracing::error!(plugin, %failure, "the plugin failed too often and is quarantined");
            }
            _ => tracing::warn!(plugin, %failure, "the plugin failed"),
        }
        failure.clone()
    }

    fn error(&self, function: &'static str, failure: Failure) -> CallError {
        CallError { plugin: self.name().clone(), function, failure }
    }

    fn not_asked(&self, function: &'static str, why: &dyn fmt::Display) -> CallError {
        self.error(function, Failure::Question(why.to_string()))
    }

    fn bad_answer(&self, function: &'static str, why: &dyn fmt::Display) -> CallError {
        let why = why.to_string();
        self.report_bad_answer(&why);
        self.error(function, Failure::BadAnswer(why))
    }
}

impl fmt::Debug for Plugin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Plugin").field("status", &self.status()).finish_non_exhaustive()
    }
}

/// A veto's reason, as it may be shown.
fn clean<T>(answer: Answer<T>) -> Answer<T> {
    match answer {
        Answer::Veto(why) => Answer::Veto(log::clean_reason(&why)),
        other => other,
    }
}

fn not_exported() -> wasmtime::Error {
    wasmtime::Error::msg("the hook is not exported")
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
