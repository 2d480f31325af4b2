//! The one place where plans are carried out: [`Executor::run`] and [`Executor::run_past_turn`] for those of requests,
//! [`Executor::recover`] for those that a crash interrupted, and under both a match over [`Op`], each arm a kernel operation.
//!
//! A plan is in the store from before its first step until its last. What could not be undone or finished stays there
//! and is tried again: see [`unfinished`].

mod ownership;
mod pair;
mod programs;
mod relocation;
mod spread;
mod switch;
mod unfinished;
mod update;

use std::{
    collections::HashMap,
    path::{Path, PathBuf},
    sync::Arc,
    time::Instant,
};

use netloom_api::Paths;
use netloom_core::{
    model::{Attachment, Endpoint, EndpointRoute, NetnsId},
    plan::{FixedPlace, Op, Pivot, Plan, RelocationStep},
};
use netloom_kernel::{
    datapath::{Datapath, EndpointConfig},
    devices::{Devices, Pair},
    netns::Netns,
    programs::Program,
};

pub(crate) use self::{
    programs::{kind, read_object},
    switch::gone,
    unfinished::Unfinished,
};

use crate::{
    config::Config,
    failpoints::Failpoints,
    failure::Failure,
    inventory::{Inventory, seen::SeenChains},
    opened::Opened,
    policy::Policy,
    store::{Changes, Store, StoreError, number_key},
    telemetry::{events::Events, metrics::Metrics},
};

/// A plan that may be carried out: it is written down, or goes into the store with what it takes out.
pub(crate) struct Journal {
    key: Option<String>,
    plan: Plan,
}

/// Steps that failed for now, and what each failed with.
#[derive(Default)]
pub(crate) struct Left {
    ops: Vec<Op>,
    failures: Vec<String>,
}

/// What the steps done so far made, for the steps after them and for the record.
#[derive(Default)]
pub(crate) struct Progress {
    pub(crate) pair: Option<Pair>,
    pub(crate) attachments: Vec<Attachment>,
    /// Attachments whose place one of these took.
    pub(crate) replaced: Vec<String>,
    pub(crate) endpoint: Option<Endpoint>,
    /// An endpoint's programs that are loaded and not yet attached: from it, and to it.
    programs: Option<(Option<Program>, Option<Program>)>,
    /// Programs of one object that were loaded together and are not yet attached.
    loaded: Vec<(String, Program)>,
    /// Those that go together.
    together: Vec<String>,
    /// The place of the program that is being attached, where it is decided already.
    fixed: Option<FixedPlace>,
    /// A program that is in the kernel already, instead of one that is loaded.
    present: Option<Program>,
    /// The namespaces that steps before opened, by the path that each is named by.
    namespaces: HashMap<PathBuf, Netns>,
    /// How long an endpoint had no path, where it was taken to another pair.
    pub(crate) gap: Option<std::time::Duration>,
}

impl Progress {
    /// To attach a program that is in the kernel already, if there is one.
    pub(crate) fn with(present: Option<Program>) -> Self {
        Self { present, ..Self::default() }
    }

    /// A namespace that steps work in, opened once: what its path leads to afterwards does not matter. One that is not
    /// what the plan was made for is refused.
    fn namespace(&mut self, path: &Path, id: Option<NetnsId>) -> Result<Netns, Failure> {
        if let Some(netns) = self.namespaces.get(path) {
            return Ok(netns.clone());
        }
        let netns = Netns::open(path)?;
        if id.is_some_and(|id| id != netns.id()) {
            return Err(Failure::conflict(format!("{} leads to another namespace by now", path.display())));
        }
        self.namespaces.insert(path.to_owned(), netns.clone());
        Ok(netns)
    }

    /// An endpoint with the indexes of the pair just made.
    pub(crate) fn on_pair(&self, endpoint: &Endpoint) -> Endpoint {
        let mut endpoint = endpoint.clone();
        if let Some(pair) = &self.pair {
            endpoint.host_ifindex = pair.host.ifindex;
            endpoint.peer_ifindex = pair.peer.ifindex;
        }
        endpoint
    }
}

/// Carries plans out.
pub(crate) struct Executor {
    config: Arc<Config>,
    paths: Paths,
    netns: Netns,
    devices: Devices,
    store: Arc<Store>,
    datapath: Arc<Datapath>,
    metrics: Arc<Metrics>,
    events: Arc<Events>,
    failpoints: Arc<Failpoints>,
    policy: Arc<Policy>,
    inventory: Arc<Inventory>,
    seen: Arc<SeenChains>,
    /// Plans of which a part is left.
    pub(crate) unfinished: Unfinished,
}

impl Executor {
    pub(crate) fn new(
        opened: &Opened,
        policy: &Arc<Policy>,
        inventory: &Arc<Inventory>,
        seen: &Arc<SeenChains>,
    ) -> Self {
        Self {
            config: Arc::clone(&opened.config),
            paths: opened.paths.clone(),
            netns: opened.netns.clone(),
            devices: opened.devices.clone(),
            store: Arc::clone(&opened.store),
            datapath: Arc::clone(&opened.datapath),
            metrics: Arc::clone(&opened.metrics),
            events: Arc::clone(&opened.events),
            failpoints: Arc::clone(&opened.failpoints),
            policy: Arc::clone(policy),
            inventory: Arc::clone(inventory),
            seen: Arc::clone(seen),
            unfinished: Unfinished::default(),
        }
    }

    /// Writes a plan down. One that would make what somebody has made already is refused, and one about something of
    /// which an earlier plan has left a part undone.
    pub(crate) async fn begin(&self, plan: Plan) -> Result<Journal, Failure> {
        self.finish_earlier(&plan).await?;
        self.check_pins(&plan)?;
        if plan.only_removes() {
            return Ok(Journal { key: None, plan });
        }
        let key = self.commit(|changes| write_down(&plan, changes))?;
        Ok(Journal { key: Some(key), plan })
    }

    /// Carries a plan out whose pivot is the commit of what it made. If a step before it fails, or the commit, what was
    /// done is undone. Afterwards: what was committed, and what of the steps behind it failed for now.
    pub(crate) async fn run<T>(
        &self,
        journal: Journal,
        commit: impl FnOnce(&Progress, &Changes) -> Result<T, StoreError>,
    ) -> Result<(T, Vec<String>), Failure> {
        let Journal { key, plan } = journal;
        let progress = self.run_to_pivot(key.as_deref(), &plan).await?;
        let rest = Plan::rest(plan.what.clone(), plan.after.clone());
        let committed = self.commit(|changes| {
            let made = commit(&progress, changes)?;
            let key = match key.clone() {
                Some(key) if rest.after.is_empty() => {
                    changes.remove::<Plan>(&key)?;
                    None
                }
                Some(key) => {
                    changes.put(&key, &rest)?;
                    Some(key)
                }
                None => Some(write_down(&rest, changes)?),
            };
            Ok((made, key))
        });
        match committed {
            Ok((made, None)) => Ok((made, Vec::new())),
            Ok((made, Some(key))) => Ok((made, self.finish(&key, rest).await?)),
            Err(error) => Err(self.give_up(key.as_deref(), &plan, usize::MAX, error.into()).await?),
        }
    }

    /// The same for a plan whose pivot is a step: what of the steps behind it failed for now.
    pub(crate) async fn run_past_turn(&self, journal: Journal) -> Result<Vec<String>, Failure> {
        let Journal { key, plan } = journal;
        self.run_to_pivot(key.as_deref(), &plan).await?;
        let rest = Plan::rest(plan.what, plan.after);
        match key {
            Some(key) => Ok(self.finish(&key, rest).await?),
            None => Err(Failure::conflict("the plan is not written down")),
        }
    }

    async fn run_to_pivot(&self, key: Option<&str>, plan: &Plan) -> Result<Progress, Failure> {
        let mut progress = Progress { together: plan.programs(), ..Progress::default() };
        for (done, op) in plan.up_to_pivot().enumerate() {
            if let Err(failure) = self.apply(op, &mut progress).await {
                return Err(self.give_up(key, plan, done, failure).await?);
            }
            self.failpoints.step_done().await;
        }
        Ok(progress)
    }

    /// Undoes a plan: the failure to report.
    async fn give_up(
        &self,
        key: Option<&str>,
        plan: &Plan,
        done: usize,
        failure: Failure,
    ) -> Result<Failure, StoreError> {
        let Some(key) = key else { return Ok(failure) };
        let left = self.undo(key, plan, done).await?;
        Ok(if left.is_empty() {
            failure
        } else {
            failure.context(format!("and undoing it left: {}", left.join("; ")))
        })
    }

    /// Undoes a plan's first steps: what of it failed for now.
    async fn undo(&self, key: &str, plan: &Plan, done: usize) -> Result<Vec<String>, StoreError> {
        self.metrics.undone_plans.inc();
        self.finish(key, Plan::rest(format!("undo: {}", plan.what), plan.undo(done))).await
    }

    fn commit<T>(&self, changes: impl FnOnce(&Changes) -> Result<T, StoreError>) -> Result<T, StoreError> {
        let began = Instant::now();
        let committed = self.store.commit(changes);
        self.metrics.commit_seconds.observe(began.elapsed().as_secs_f64());
        committed
    }

    /// Undoes or finishes what an earlier daemon was at when it ended.
    pub(crate) async fn recover(&self) -> Result<Vec<String>, Failure> {
        let mut recovered = Vec::new();
        for (key, plan) in self.store.all::<Plan>()? {
            let passed = match &plan.pivot {
                Pivot::Commit => false,
                Pivot::Step(step) => self.was_done(step).await,
                Pivot::Passed => true,
            };
            let (done, left) = if passed {
                ("finished", self.finish(&key, Plan::rest(plan.what.clone(), plan.after)).await?)
            } else {
                ("undone", self.undo(&key, &plan, usize::MAX).await?)
            };
            recovered.push(if left.is_empty() {
                format!("{}: {done}", plan.what)
            } else {
                format!("{}: not {done}: {}", plan.what, left.join("; "))
            });
        }
        Ok(recovered)
    }

    /// Whether a step was carried out.
    async fn was_done(&self, step: &Op) -> bool {
        match step {
            Op::Relocate { step: RelocationStep::Turn, way } => self.is_turned(way).await,
            _ => false,
        }
    }

    /// Carries out every step that does not count on one that failed.
    async fn apply_all(&self, ops: Vec<Op>) -> Left {
        let mut left = Left::default();
        let mut progress = Progress::default();
        let mut blocked = false;
        for op in ops {
            if blocked {
                left.ops.push(op);
                continue;
            }
            if let Err(failure) = self.apply(&op, &mut progress).await {
                left.failures.push(failure.to_string());
                blocked = op.is_barrier();
                left.ops.push(op);
            }
            self.failpoints.step_done().await;
        }
        left
    }

    pub(crate) async fn apply(&self, op: &Op, progress: &mut Progress) -> Result<(), Failure> {
        tracing::debug!(?op, "step");
        if let Some(device) = op.device() {
            self.seen.expect(device);
        }
        match op {
            Op::CreatePair { netns, netns_id, pair } => {
                let netns = progress.namespace(netns, *netns_id)?;
                let made = self.devices.create_pair(pair, &netns).await;
                progress.pair = Some(made?);
            }
            Op::Wire { netns, addresses, routes } => {
                let pair =
                    progress.pair.clone().ok_or_else(|| Failure::conflict("there is no pair to wire"))?;
                let netns = progress.namespace(netns, Some(pair.peer.netns))?;
                // Only now that its programs are there. The node's end first: the other one is ready at once then.
                self.devices.set_up(pair.host.ifindex, true).await?;
                Devices::open(&netns)?.set_up(pair.peer.ifindex, true).await?;
                let routes = routes.clone().unwrap_or_else(|| EndpointRoute::defaults(addresses));
                let gateway_mac = pair.gateway_mac();
                let connected =
                    self.devices.connect_endpoint(&pair, &netns, addresses, &routes, gateway_mac).await?;
                for warning in connected.warnings {
                    tracing::warn!(device = pair.host.name, "{warning}");
                }
            }
            Op::Publish { endpoint } => {
                let endpoint = progress.on_pair(endpoint);
                self.metrics.refused(self.datapath.set_endpoint(&EndpointConfig::from(&endpoint)))?;
                progress.endpoint = Some(endpoint);
            }
            Op::Withdraw { id, addresses } => self.datapath.remove_endpoint(*id, addresses)?,
            Op::Attach { id, target, candidate, program, mode, fixed } => {
                progress.fixed.clone_from(fixed);
                let attachment = self.attach_program(id, target, candidate, program, progress).await?;
                progress.attachments.push(Attachment { mode: *mode, ..attachment });
            }
            Op::Detach { id, target } => self.detach_program(id, target).await?,
            Op::DeleteDevice { name, alias, ifindex } => self.delete_device(name, alias, *ifindex).await?,
            Op::HoldRoutes { .. }
            | Op::ReleaseRoutes { .. }
            | Op::SetEnd { .. }
            | Op::SetPolicies { .. }
            | Op::SetUp { .. }
            | Op::Refresh { .. } => self.apply_to_pair(op).await?,
            Op::Update { id, target, program } => {
                progress.attachments.push(self.update_program(id, target, program).await?);
            }
            Op::Restore { id, target } => self.restore_program(id, target).await?,
            Op::Relocate { step, way } => self.relocation_step(*step, way).await?,
            Op::Prepare { endpoint } => progress.endpoint = Some(progress.on_pair(endpoint)),
            Op::Reuse { program } => progress.present = Some(Program::from_id(*program)?),
            Op::Switch { way, back } => progress.gap = self.switch_pair(way, *back).await?,
        }
        Ok(())
    }
}

/// Writes a plan down together with other changes: its key.
fn write_down(plan: &Plan, changes: &Changes) -> Result<String, StoreError> {
    let key = number_key(changes.next("plan")?);
    changes.put(&key, plan)?;
    Ok(key)
}

pub(crate) fn remove_folder(folder: &Path) -> Result<(), Failure> {
    match std::fs::remove_dir_all(folder) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(anyhow::anyhow!("the maps pinned in {} cannot be removed: {error}", folder.display()).into())
        }
        _ => Ok(()),
    }
}
