//! Reaping: the sockets bound to a backend that is gone are found in every namespace, judged, and destroyed.
//!
//! Policy says what is looked for. If no plugin decides, or one fails, nothing is reaped, and that is loud.

use std::{
    collections::{HashMap, HashSet},
    net::SocketAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use netloom_api::types::{Fate, ReapReport, ReapRequest, ReapedSocket};
use netloom_core::model::{
    Backend, BoundSocket, DestroyOutcome, Endpoint, Name, NetnsCookie, Protocol, ReapAction, ReapEvent,
    ReapPlan, ReapReason, ServiceId, SocketFilter,
};

use netloom_kernel::sockets::Destroyer;

use crate::{
    failure::Failure,
    metrics::OfFate,
    node::Node,
    policy::Reaper,
    store::{ServiceRecord, StoreError},
};

/// Sockets judged in one call.
const BATCH: usize = 4_096;

/// How a reap is carried out.
pub(crate) enum Mode {
    /// It is written down under this key, and is done with when the sockets are gone.
    Owed(String),
    /// An operator waits for it.
    Now,
    /// Find and judge, destroy nothing.
    DryRun,
}

impl Node {
    /// Reaps for one event. A grace period that policy asks for is waited out in the background.
    pub(crate) async fn reap(self: &Arc<Self>, event: ReapEvent, mode: Mode) -> Result<ReapReport, Failure> {
        let start = Instant::now();
        let dry_run = matches!(mode, Mode::DryRun);
        let decided = self.policy.plan_reap(self, &event).await;
        let empty = ReapReport { dry_run, finder: self.finder(), ..ReapReport::default() };
        let (plan, reaper) = match decided {
            Ok(decided) => decided,
            Err(reason) => {
                tracing::error!(%reason, "nothing was reaped");
                self.paid(mode)?;
                return Ok(ReapReport { reason: Some(reason), ..empty });
            }
        };
        let by = Some(reaper.name().to_string());
        if plan.grace.is_zero() || dry_run {
            // A reap that failed stays due: the next start tries again.
            let report = self.carry_out(&event, &plan, &reaper, dry_run, start).await?;
            if !dry_run {
                self.look_again(event, plan, reaper, mode);
            }
            return Ok(ReapReport { decided_by: by, ..report });
        }
        let reason = format!("sockets are looked for after a grace period of {} ms", plan.grace.as_millis());
        let node = Arc::clone(self);
        tokio::spawn(async move {
            tokio::time::sleep(plan.grace).await;
            match node.carry_out(&event, &plan, &reaper, false, Instant::now()).await {
                Ok(_) => node.look_again(event, plan, reaper, mode),
                Err(failure) => {
                    tracing::error!(%failure, "a reap failed after its grace period, and stays due");
                }
            }
        });
        Ok(ReapReport { decided_by: by, reason: Some(reason), ..empty })
    }

    /// Carries out what an operator asked for.
    pub(crate) async fn reap_request(self: &Arc<Self>, request: ReapRequest) -> Result<ReapReport, Failure> {
        let services = match &request.service {
            Some(name) => vec![self.service_record(name)?],
            None => self.store.all::<ServiceRecord>()?.into_iter().map(|(_, record)| record).collect(),
        };
        // A backend may have been removed from its service already, and its sockets live on.
        let backends: Vec<Backend> =
            services.iter().map(|record| record.service.backend(request.backend)).collect();
        if backends.is_empty() {
            return Err(Failure::not_found("there is no service, so no socket is bound to a backend"));
        }
        let event = ReapEvent { reason: ReapReason::Requested, backends };
        self.reap(event, if request.dry_run { Mode::DryRun } else { Mode::Now }).await
    }

    /// Reaps that an earlier daemon owed when it ended.
    pub(crate) async fn pay_reaps(self: &Arc<Self>) -> Result<usize, Failure> {
        let owed = self.store.all::<ReapEvent>()?;
        let count = owed.len();
        for (key, event) in owed {
            if let Err(failure) = self.reap(event, Mode::Owed(key)).await {
                tracing::error!(%failure, "a reap that was due failed, and stays due");
            }
        }
        Ok(count)
    }

    /// Whoever chose the backend just before it went is bound to it a moment later: such sockets are looked for once
    /// more, in the background, when all of them have left their binding. Then the reap is done with.
    fn look_again(self: &Arc<Self>, event: ReapEvent, plan: ReapPlan, reaper: Reaper, mode: Mode) {
        let node = Arc::clone(self);
        tokio::spawn(async move {
            let finished = async {
                let waiting = Arc::clone(&node);
                tokio::task::spawn_blocking(move || waiting.datapath.wait_for_translations()).await??;
                node.carry_out(&event, &plan, &reaper, false, Instant::now()).await?;
                node.retire(&event).await?;
                node.paid(mode)
            };
            if let Err(failure) = finished.await {
                tracing::error!(%failure, "the last sockets of a reap could not be looked for: it stays due");
            }
        });
    }

    /// Gives up the storages of backends that no service has and no socket is bound to.
    async fn retire(&self, event: &ReapEvent) -> Result<(), Failure> {
        let backends: Vec<_> =
            event.backends.iter().map(|backend| (backend.address, backend.protocol)).collect();
        let filter =
            SocketFilter { backends: backends.clone(), connected_only: true, ..SocketFilter::default() };
        let bound = self.find(filter).await?;
        let bound: HashSet<_> = bound.iter().map(|socket| (socket.backend, socket.protocol)).collect();
        let unbound: Vec<_> = backends.into_iter().filter(|backend| !bound.contains(backend)).collect();
        self.datapath.retire_backends(&unbound)?;
        Ok(())
    }

    fn paid(&self, mode: Mode) -> Result<(), Failure> {
        if let Mode::Owed(key) = mode {
            self.store.commit(|changes| changes.remove::<ReapEvent>(&key).map(drop))?;
        }
        Ok(())
    }

    async fn carry_out(
        &self,
        event: &ReapEvent,
        plan: &ReapPlan,
        reaper: &Reaper,
        dry_run: bool,
        start: Instant,
    ) -> Result<ReapReport, Failure> {
        let names = self.endpoints_by_cookie()?;
        let labels = self.labels()?;
        let scope = self.scope(event, plan)?;
        let finding = Instant::now();
        let found = self.find(plan.filter.clone()).await?;
        let find = finding.elapsed();
        let found: Vec<BoundSocket> = found.into_iter().filter(|socket| scope.covers(socket)).collect();

        let report_only = self.sockets.destroyer() == Destroyer::Nothing;
        let mut fates = match plan.action {
            _ if report_only => vec![Some(Fate::Observed); found.len()],
            ReapAction::Observe => vec![Some(Fate::Observed); found.len()],
            ReapAction::Destroy => vec![None; found.len()],
            action @ (ReapAction::JudgeRecords | ReapAction::JudgePacked) => {
                self.judge(event, reaper, action, &found, &names).await
            }
        };
        if dry_run {
            for fate in fates.iter_mut().filter(|fate| fate.is_none()) {
                *fate = Some(Fate::WouldDestroy);
            }
        }
        self.destroy(&found, &mut fates).await?;

        let total = start.elapsed();
        let sockets: Vec<ReapedSocket> = found
            .into_iter()
            .zip(fates)
            .map(|(socket, fate)| ReapedSocket {
                view: labels.view(socket),
                fate: fate.unwrap_or_else(|| Fate::Failed("no outcome was reported".into())),
            })
            .collect();
        self.record(&sockets, total, dry_run);
        let reason =
            report_only.then(|| "sockets cannot be destroyed on this node: see `netloom doctor`".into());
        Ok(ReapReport {
            dry_run,
            reason,
            finder: self.finder(),
            sockets,
            find_us: micros(find),
            total_us: micros(total),
            ..ReapReport::default()
        })
    }

    /// Asks the plugin about each socket. `None` is a socket to destroy; a plugin that fails spares all.
    async fn judge(
        &self,
        event: &ReapEvent,
        reaper: &Reaper,
        action: ReapAction,
        sockets: &[BoundSocket],
        names: &HashMap<NetnsCookie, Name>,
    ) -> Vec<Option<Fate>> {
        let mut fates = Vec::with_capacity(sockets.len());
        for batch in sockets.chunks(BATCH) {
            match reaper.judge(self, event, action, batch, names).await {
                Ok(verdicts) => {
                    fates.extend(verdicts.into_iter().map(|destroy| (!destroy).then_some(Fate::Spared)));
                }
                Err(reason) => {
                    tracing::error!(plugin = %reaper.name(), %reason, "sockets were spared, as they could not be judged");
                    fates.extend(batch.iter().map(|_| Some(Fate::Spared)));
                }
            }
        }
        fates
    }

    /// Destroys the sockets whose fate is open.
    pub(crate) async fn destroy(
        &self,
        sockets: &[BoundSocket],
        fates: &mut [Option<Fate>],
    ) -> Result<(), Failure> {
        let doomed: Vec<BoundSocket> = sockets
            .iter()
            .zip(fates.iter())
            .filter(|(_, fate)| fate.is_none())
            .map(|(socket, _)| socket.clone())
            .collect();
        if doomed.is_empty() {
            return Ok(());
        }
        let mut outcomes = Vec::with_capacity(doomed.len());
        for (index, batch) in self.batches(&doomed).enumerate() {
            if index > 0 {
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
            let (sockets, batch) = (Arc::clone(&self.sockets), batch.to_vec());
            outcomes.extend(tokio::task::spawn_blocking(move || sockets.destroy(&batch)).await??);
        }
        let open = fates.iter_mut().filter(|fate| fate.is_none());
        for (fate, outcome) in open.zip(outcomes) {
            *fate = Some(match outcome {
                DestroyOutcome::Destroyed => Fate::Destroyed,
                DestroyOutcome::Gone => Fate::Gone,
                DestroyOutcome::Failed(why) => Fate::Failed(why),
            });
        }
        Ok(())
    }

    /// What may be destroyed within a second each.
    fn batches<'a>(&self, doomed: &'a [BoundSocket]) -> impl Iterator<Item = &'a [BoundSocket]> {
        let rate = usize::try_from(self.config.sockets.destroy_rate).unwrap_or(usize::MAX);
        doomed.chunks(if rate == 0 { doomed.len().max(1) } else { rate })
    }

    pub(crate) async fn find(&self, filter: SocketFilter) -> Result<Vec<BoundSocket>, Failure> {
        let (sockets, back_fill) = (Arc::clone(&self.sockets), self.back_fill.clone());
        let found = tokio::task::spawn_blocking(move || {
            back_fill.bind()?;
            sockets.find(&filter)
        });
        Ok(found.await??)
    }

    /// Which of the sockets bound to the event's addresses the event is about.
    fn scope(&self, event: &ReapEvent, plan: &ReapPlan) -> Result<Scope, Failure> {
        let services: HashMap<String, ServiceRecord> =
            self.store.all::<ServiceRecord>()?.into_iter().collect();
        let mut known = HashMap::new();
        let mut live = HashSet::new();
        for record in services.values() {
            known.insert(record.id, record.service.name.clone());
            let backends = record.service.backends.iter();
            live.extend(
                backends.map(|address| (record.service.name.clone(), *address, record.service.protocol)),
            );
        }
        if event.reason == ReapReason::Requested {
            live.clear();
        }
        let about = event
            .backends
            .iter()
            .map(|backend| (backend.service.clone(), backend.address, backend.protocol))
            .filter(|backend| !live.contains(backend))
            .collect();
        let host = self.netns.cookie()?;
        Ok(Scope { known, about, host: (!plan.filter.netns_cookies.contains(&host)).then_some(host) })
    }

    pub(crate) fn endpoints_by_cookie(&self) -> Result<HashMap<NetnsCookie, Name>, StoreError> {
        let endpoints = self.store.all::<Endpoint>()?;
        Ok(endpoints.into_iter().map(|(_, endpoint)| (endpoint.netns_cookie, endpoint.spec.name)).collect())
    }

    pub(crate) fn record(&self, sockets: &[ReapedSocket], total: Duration, dry_run: bool) {
        let mut counts: HashMap<&'static str, u64> = HashMap::new();
        for socket in sockets {
            let fate = fate_label(&socket.fate);
            *counts.entry(fate).or_default() += 1;
        }
        for (fate, count) in &counts {
            self.metrics.reaped_sockets.get_or_create(&OfFate { fate }).inc_by(*count);
        }
        if !dry_run {
            self.metrics.reap_seconds.observe(total.as_secs_f64());
        }
        tracing::info!(found = sockets.len(), ?counts, micros = micros(total), dry_run, "reaped");
    }
}

/// Which sockets an event is about: those bound through its services, to backends that did not come back
/// meanwhile, outside the node's own namespace unless policy names it.
struct Scope {
    known: HashMap<ServiceId, Name>,
    about: HashSet<(Name, SocketAddr, Protocol)>,
    host: Option<NetnsCookie>,
}

impl Scope {
    fn covers(&self, socket: &BoundSocket) -> bool {
        if self.host == Some(socket.netns_cookie) {
            return false;
        }
        let bound_to =
            |service: &Name| self.about.contains(&(service.clone(), socket.backend, socket.protocol));
        match self.known.get(&socket.service) {
            Some(service) => bound_to(service),
            // Its service was removed: it is one of the event's if the address is.
            None => self
                .about
                .iter()
                .any(|(_, address, protocol)| (*address, *protocol) == (socket.backend, socket.protocol)),
        }
    }
}

/// The labels of `netloom_reaped_sockets`.
const fn fate_label(fate: &Fate) -> &'static str {
    match fate {
        Fate::Destroyed => "destroyed",
        Fate::Gone => "gone",
        Fate::Spared => "spared",
        Fate::WouldDestroy => "would-destroy",
        Fate::Observed => "observed",
        Fate::Failed(_) => "failed",
    }
}

pub(crate) fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use netloom_core::model::{SocketCookie, SocketState};

    use super::*;

    const BACKEND: &str = "10.0.0.1:80";

    fn socket(service: u32, netns: u64) -> BoundSocket {
        BoundSocket {
            cookie: SocketCookie(1),
            netns_cookie: NetnsCookie(netns),
            protocol: Protocol::Tcp,
            state: SocketState::Established,
            local: "10.0.0.9:4000".parse().unwrap(),
            remote: BACKEND.parse().unwrap(),
            backend: BACKEND.parse().unwrap(),
            service: ServiceId(service),
            age: Duration::from_secs(1),
            bytes_sent: 0,
            bytes_received: 0,
        }
    }

    fn scope() -> Scope {
        let (web, other) = (Name::new("web").unwrap(), Name::new("other").unwrap());
        Scope {
            known: HashMap::from([(ServiceId(1), web.clone()), (ServiceId(2), other)]),
            about: HashSet::from([(web, BACKEND.parse().unwrap(), Protocol::Tcp)]),
            host: Some(NetnsCookie(7)),
        }
    }

    #[test]
    fn only_sockets_of_the_events_service_are_covered() {
        assert!(scope().covers(&socket(1, 1)));
        assert!(!scope().covers(&socket(2, 1)), "the same backend serves another service");
    }

    #[test]
    fn sockets_of_a_removed_service_are_covered_by_address() {
        assert!(scope().covers(&socket(3, 1)));
    }

    #[test]
    fn the_nodes_own_sockets_are_spared_unless_policy_names_them() {
        assert!(!scope().covers(&socket(1, 7)));
        assert!(Scope { host: None, ..scope() }.covers(&socket(1, 7)));
    }

    #[test]
    fn a_backend_that_came_back_keeps_its_sockets() {
        let back = Scope { about: HashSet::new(), ..scope() };
        assert!(!back.covers(&socket(1, 1)));
    }
}
