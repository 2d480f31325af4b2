//! The one place where plans are carried out: a match over [`Op`], each arm a kernel operation.
//!
//! A plan is in the store from before its first step until the commit of what it made. So a daemon that was
//! killed finds it, and undoes or finishes it with the same code.

mod ownership;
mod programs;

use std::{
    collections::HashMap,
    path::{Path, PathBuf},
    time::Instant,
};

use netloom_core::{
    model::{Attachment, Endpoint, NetnsId},
    plan::{FixedPlace, Op, Plan, Recovery},
};
use netloom_kernel::{datapath::EndpointConfig, devices::Pair, netns::Netns, programs::Program};

pub(crate) use self::programs::{kind, read_object};

use crate::{
    failure::Failure,
    node::Node,
    store::{Changes, StoreError, number_key},
};

/// A plan's key in the store.
pub(crate) struct Journal(String);

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

impl Journal {
    /// Writes a plan down together with other changes.
    pub(crate) fn of(plan: &Plan, changes: &Changes) -> Result<Self, StoreError> {
        let key = number_key(changes.next("plan")?);
        changes.put(&key, plan)?;
        Ok(Self(key))
    }
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

impl Node {
    /// Writes a plan down. One that would make what somebody has made already is refused.
    pub(crate) fn begin(&self, plan: &Plan) -> Result<Journal, Failure> {
        self.check_pins(plan)?;
        Ok(self.commit(|changes| Journal::of(plan, changes))?)
    }

    /// Carries a plan out, and commits what it made together with its end. If a step or the commit fails, what
    /// was done is undone.
    pub(crate) async fn execute<T>(
        &self,
        plan: Plan,
        journal: Journal,
        commit: impl FnOnce(&Progress, &Changes) -> Result<T, StoreError>,
    ) -> Result<T, Failure> {
        let mut progress = Progress { together: plan.programs(), ..Progress::default() };
        let mut failed = None;
        for (done, op) in plan.ops.iter().enumerate() {
            if let Err(failure) = self.apply(op, &mut progress).await {
                failed = Some((done, failure));
                break;
            }
            self.failpoints.step_done().await;
        }
        if failed.is_none() {
            let committed = self.commit(|changes| {
                let made = commit(&progress, changes)?;
                changes.remove::<Plan>(&journal.0)?;
                Ok(made)
            });
            match committed {
                Ok(made) => return Ok(made),
                Err(error) => failed = Some((plan.ops.len(), error.into())),
            }
        }
        let (done, failure) =
            failed.unwrap_or_else(|| (plan.ops.len(), Failure::conflict("the plan had no end")));
        let left = self.undo(&plan, done).await;
        Err(self.give_up(&journal, &left, failure)?)
    }

    fn commit<T>(&self, changes: impl FnOnce(&Changes) -> Result<T, StoreError>) -> Result<T, StoreError> {
        let began = Instant::now();
        let committed = self.store.commit(changes);
        self.metrics.commit_seconds.observe(began.elapsed().as_secs_f64());
        committed
    }

    /// Strikes a plan off.
    pub(crate) fn end(&self, journal: &Journal) -> Result<(), StoreError> {
        self.store.settle(|changes| changes.remove::<Plan>(&journal.0)).map(drop)
    }

    /// Strikes an undone plan off, unless something of it is left: the failure to report.
    pub(crate) fn give_up(
        &self,
        journal: &Journal,
        left: &[String],
        failure: Failure,
    ) -> Result<Failure, StoreError> {
        if left.is_empty() {
            self.end(journal)?;
            return Ok(failure);
        }
        // The plan stays in the store: the next start tries again.
        Ok(failure.context(format!("and undoing it left: {}", left.join("; "))))
    }

    /// Carries out a plan that takes something away: every step, also after one failed, then the commit.
    pub(crate) async fn finish<T>(
        &self,
        plan: Plan,
        journal: Journal,
        commit: impl FnOnce(&Changes) -> Result<T, StoreError>,
    ) -> Result<Vec<String>, Failure> {
        let warnings = self.apply_all(&plan.ops).await;
        self.store.settle(|changes| {
            commit(changes)?;
            changes.remove::<Plan>(&journal.0)
        })?;
        Ok(warnings)
    }

    /// Undoes or finishes what an earlier daemon was at when it ended.
    pub(crate) async fn recover(&self) -> Result<Vec<String>, Failure> {
        let mut recovered = Vec::new();
        for (key, plan) in self.store.all::<Plan>()? {
            let (done, left) = match plan.recovery {
                Recovery::AtTurn => self.recover_relocation(&plan).await,
                Recovery::Undo => ("undone", self.undo(&plan, usize::MAX).await),
                Recovery::Finish => ("finished", self.apply_all(&plan.ops).await),
            };
            if left.is_empty() {
                self.store.commit(|changes| changes.remove::<Plan>(&key))?;
                recovered.push(format!("{}: {done}", plan.what));
            } else {
                tracing::error!(
                    plan = plan.what,
                    left = left.join("; "),
                    "a crash left what cannot be cleaned up"
                );
                recovered.push(format!("{}: not {done}: {}", plan.what, left.join("; ")));
            }
        }
        Ok(recovered)
    }

    async fn undo(&self, plan: &Plan, done: usize) -> Vec<String> {
        self.metrics.undone_plans.inc();
        self.apply_all(&plan.undo(done)).await
    }

    pub(crate) async fn apply_all(&self, ops: &[Op]) -> Vec<String> {
        let mut failures = Vec::new();
        let mut progress = Progress::default();
        for op in ops {
            if let Err(failure) = self.apply(op, &mut progress).await {
                tracing::error!(%failure, ?op, "a clean-up step failed");
                failures.push(failure.to_string());
            }
            self.failpoints.step_done().await;
        }
        failures
    }

    pub(crate) async fn apply(&self, op: &Op, progress: &mut Progress) -> Result<(), Failure> {
        tracing::debug!(?op, "step");
        if let Some(device) = op.device() {
            self.watch.expect(device);
        }
        match op {
            Op::CreatePair { netns, netns_id, pair } => {
                let netns = progress.namespace(netns, *netns_id)?;
                let made = self.devices.create_pair(pair, &netns).await;
                progress.pair = Some(made.map_err(Failure::device)?);
            }
            Op::Wire { netns, addresses } => {
                let pair =
                    progress.pair.clone().ok_or_else(|| Failure::conflict("there is no pair to wire"))?;
                let netns = progress.namespace(netns, Some(pair.peer.netns))?;
                let connected =
                    self.devices.connect_endpoint(&pair, &netns, addresses, pair.gateway_mac()).await?;
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

pub(crate) fn remove_folder(folder: &Path) -> Result<(), Failure> {
    match std::fs::remove_dir_all(folder) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(anyhow::anyhow!("the maps pinned in {} cannot be removed: {error}", folder.display()).into())
        }
        _ => Ok(()),
    }
}
