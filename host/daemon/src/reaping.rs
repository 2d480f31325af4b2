//! Reaping: the sockets bound to backends that are gone are found in every namespace, judged, and destroyed.
//!
//! Policy says what is looked for. If no plugin decides, or one fails, nothing is reaped, and that is loud.
//!
//! - `back_fill`: sockets from before the daemon
//! - `due`: what is due, gathered until the pass under way is through
//! - `pass`: finding, judging, destroying
//! - `scope`: which sockets an event is about
//! - `sockets`: what an operator lists and destroys

mod back_fill;
mod due;
mod pass;
mod scope;
mod sockets;

use std::{
    collections::HashSet,
    net::SocketAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use netloom_api::types::{ReapReport, ReapRequest};
use netloom_core::model::{Backend, Protocol, ReapEvent, ReapPlan, ReapReason, SocketFilter};
use netloom_kernel::{datapath::Datapath, netns::Netns, sockets::Sockets};
use tokio::{sync::Mutex as AsyncMutex, task::JoinSet};

use self::{back_fill::BackFill, due::Due};
use crate::{
    background::Background,
    config::Config,
    failpoints::Failpoints,
    failure::Failure,
    inventory::Inventory,
    opened::Opened,
    policy::{Policy, Reaper},
    store::{ServiceRecord, Store},
    telemetry::metrics::Metrics,
};

/// Backends of one event, as plugins are promised.
const MAX_EVENT: usize = 1_024;

/// What is looked for in one go: backends about which one plugin gave one plan.
struct Pass {
    /// The parts of a change that the plugin was asked about, each as long as it may be.
    events: Vec<ReapEvent>,
    /// The plan, with the backends of all events.
    plan: ReapPlan,
    reaper: Reaper,
    /// Sockets that were bound later are none of its business.
    bound_before: Option<Instant>,
}

impl Pass {
    /// Whether a plan differs from this one in its backends alone.
    fn agrees(&self, plan: &ReapPlan, reaper: &Reaper) -> bool {
        let like = |plan: &ReapPlan| {
            let filter = SocketFilter { backends: Vec::new(), ..plan.filter.clone() };
            (plan.grace, plan.action, filter)
        };
        self.reaper.is(reaper) && like(&self.plan) == like(plan)
    }
}

/// Finds and destroys sockets.
pub(crate) struct Reaping {
    config: Arc<Config>,
    netns: Netns,
    store: Arc<Store>,
    datapath: Arc<Datapath>,
    sockets: Arc<Sockets>,
    metrics: Arc<Metrics>,
    background: Arc<Background>,
    failpoints: Arc<Failpoints>,
    policy: Arc<Policy>,
    inventory: Arc<Inventory>,
    back_fill: BackFill,
    due: Due,
    destroy_next: AsyncMutex<tokio::time::Instant>,
}

impl Reaping {
    pub(crate) fn new(opened: &Opened, policy: &Arc<Policy>, inventory: &Arc<Inventory>) -> Self {
        Self {
            config: Arc::clone(&opened.config),
            netns: opened.netns.clone(),
            store: Arc::clone(&opened.store),
            datapath: Arc::clone(&opened.datapath),
            sockets: Arc::clone(&opened.sockets),
            metrics: Arc::clone(&opened.metrics),
            background: Arc::clone(&opened.background),
            failpoints: Arc::clone(&opened.failpoints),
            policy: Arc::clone(policy),
            inventory: Arc::clone(inventory),
            back_fill: BackFill::open(&opened.config, &opened.datapath),
            due: Due::default(),
            destroy_next: AsyncMutex::new(tokio::time::Instant::now()),
        }
    }

    /// How sockets are found.
    pub(crate) fn finder(&self) -> String {
        self.sockets.finder().as_str().to_owned()
    }

    /// Marks every socket of the node, as some were connected before services were translated.
    pub(crate) fn mark_sockets(&self) {
        self.back_fill.mark();
    }

    /// Services have backends that they had not.
    pub(crate) fn backends_were_added(&self) {
        self.back_fill.backends_were_added();
    }

    /// Reaps for a change of any number of backends, which is written down under these keys, if any. What policy
    /// wants to wait for is done in the background.
    async fn reap(
        self: &Arc<Self>,
        event: ReapEvent,
        owed: Vec<String>,
        dry_run: bool,
    ) -> Result<ReapReport, Failure> {
        let start = Instant::now();
        let (passes, mut reasons) = self.passes(&event).await;
        let mut report = ReapReport { dry_run, finder: self.finder(), ..ReapReport::default() };
        report.decided_by = passes.first().map(|pass| pass.reaper.name().to_string());
        for pass in &passes {
            let grace = pass.plan.grace;
            if !grace.is_zero() && !dry_run {
                reasons
                    .push(format!("sockets are looked for after a grace period of {} ms", grace.as_millis()));
                continue;
            }
            // A reap that failed stays due: the next start tries again.
            let part = self.carry_out(pass, dry_run).await?;
            report.sockets.extend(part.sockets);
            report.find_us += part.find_us;
            reasons.extend(part.reason);
        }
        reasons.dedup();
        report.reason = (!reasons.is_empty()).then(|| reasons.join("; "));
        report.total_us = micros(start.elapsed());
        if !dry_run {
            if !passes.is_empty() {
                self.metrics.reap_seconds.observe(start.elapsed().as_secs_f64());
            }
            self.finish_reap(passes, owed);
        }
        Ok(report)
    }

    /// Carries out what an operator asked for.
    pub(crate) async fn request(self: &Arc<Self>, request: ReapRequest) -> Result<ReapReport, Failure> {
        let services = match &request.service {
            Some(name) => vec![self.inventory.service_record(name)?],
            None => self.store.all::<ServiceRecord>()?.into_iter().map(|(_, record)| record).collect(),
        };
        // A backend may have been removed from its service already, and its sockets live on.
        let backends: Vec<Backend> =
            services.iter().map(|record| record.service.backend(request.backend)).collect();
        if backends.is_empty() {
            return Err(Failure::not_found("there is no service, so no socket is bound to a backend"));
        }
        let event = ReapEvent { reason: ReapReason::Requested, backends };
        self.reap(event, Vec::new(), request.dry_run).await
    }

    /// Asks policy about all backends: what to look for, and why nothing for those where that is so.
    async fn passes(&self, event: &ReapEvent) -> (Vec<Pass>, Vec<String>) {
        let (mut passes, mut refusals) = (Vec::<Pass>::new(), Vec::new());
        for backends in event.backends.chunks(MAX_EVENT) {
            let event = ReapEvent { reason: event.reason, backends: backends.to_vec() };
            match self.policy.plan_reap(&event).await {
                Ok((plan, reaper)) => {
                    if let Some(pass) = passes.iter_mut().find(|pass| pass.agrees(&plan, &reaper)) {
                        pass.plan.filter.backends.extend(plan.filter.backends);
                        pass.events.push(event);
                    } else {
                        passes.push(Pass { events: vec![event], plan, reaper, bound_before: None });
                    }
                }
                Err(reason) => {
                    tracing::error!(%reason, "nothing was reaped");
                    refusals.push(reason);
                }
            }
        }
        (passes, refusals)
    }

    /// Does in the background what is left of a reap. Then it is done with.
    fn finish_reap(self: &Arc<Self>, passes: Vec<Pass>, owed: Vec<String>) {
        let reaping = Arc::clone(self);
        self.background.spawn(async move {
            let mut running = JoinSet::new();
            for pass in passes {
                running.spawn(Arc::clone(&reaping).finish_pass(pass));
            }
            let mut all_done = true;
            while let Some(ended) = running.join_next().await {
                if let Err(failure) = ended.map_err(Failure::from).flatten() {
                    tracing::error!(%failure, "the last sockets of a reap could not be looked for: it stays due");
                    all_done = false;
                }
            }
            let paid = || {
                reaping.store.settle(|changes| {
                    owed.iter().try_for_each(|key| changes.remove::<ReapEvent>(key).map(drop))
                })
            };
            if all_done
                && !owed.is_empty()
                && let Err(error) = paid()
            {
                tracing::error!(%error, "a reap that was done stays due");
            }
        });
    }

    /// Waits out the grace period that policy asked for. Whoever chose the backend just before it went is bound to
    /// it a moment later: such sockets are looked for once more, when all of them have left their binding.
    async fn finish_pass(self: Arc<Self>, mut pass: Pass) -> Result<(), Failure> {
        if !pass.plan.grace.is_zero() {
            tokio::time::sleep(pass.plan.grace).await;
            self.carry_out(&pass, false).await?;
        }
        let waiting = Arc::clone(&self);
        tokio::task::spawn_blocking(move || waiting.datapath.wait_for_translations()).await??;
        // Whoever binds from now on does so because the backend is there again: that is none of this change.
        pass.bound_before = Some(Instant::now());
        self.carry_out(&pass, false).await?;
        self.retire(pass.plan.filter.backends).await
    }

    /// Gives up the storages of backends that no service has and no socket is bound to.
    async fn retire(&self, backends: Vec<(SocketAddr, Protocol)>) -> Result<(), Failure> {
        let filter =
            SocketFilter { backends: backends.clone(), connected_only: true, ..SocketFilter::default() };
        let bound = self.find(filter).await?;
        let bound: HashSet<_> = bound.iter().map(|socket| (socket.backend, socket.protocol)).collect();
        let unbound: Vec<_> = backends.into_iter().filter(|backend| !bound.contains(backend)).collect();
        self.datapath.retire_backends(&unbound)?;
        Ok(())
    }
}

/// What a plan looks for from now on; sockets that were bound after a moment, if one is given, are left alone.
fn looked_for(plan: &ReapPlan, bound_before: Option<Instant>) -> SocketFilter {
    let mut filter = plan.filter.clone();
    if let Some(moment) = bound_before {
        filter.min_age = filter.min_age.max(moment.elapsed());
    }
    filter
}

pub(crate) fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use netloom_core::model::ReapAction;

    use super::*;

    #[test]
    fn what_policy_looks_for_is_looked_for_and_nothing_that_was_bound_too_late() {
        let (age, minute) = (Duration::from_secs(1), Duration::from_secs(60));
        let filter = SocketFilter { connected_only: true, min_age: age, ..SocketFilter::default() };
        let plan = ReapPlan { filter: filter.clone(), grace: Duration::ZERO, action: ReapAction::Destroy };
        assert_eq!(looked_for(&plan, None), filter);
        assert_eq!(looked_for(&plan, Some(Instant::now() + minute)), filter, "policy asks for older ones");
        let late = looked_for(&plan, Instant::now().checked_sub(minute));
        assert!(late.min_age >= minute);
        assert_eq!(SocketFilter { min_age: age, ..late }, filter);
    }
}
