//! One pass: find, judge, destroy, and count.

use std::{
    collections::HashMap,
    sync::Arc,
    time::{Duration, Instant},
};

use netloom_api::types::{Fate, ReapReport, ReapedSocket};
use netloom_core::model::{BoundSocket, DestroyOutcome, Name, NetnsCookie, ReapAction, SocketFilter};
use netloom_kernel::sockets::Destroyer;

use super::{Pass, Reaping, looked_for, micros};
use crate::{
    failure::Failure,
    telemetry::metrics::{OfFate, OfPhase, OfReason},
};

/// Sockets that a plugin judges in one call.
const JUDGE_BATCH: usize = 4_096;

impl Reaping {
    /// Carries a pass out: what was found, and what became of it.
    pub(super) async fn carry_out(&self, pass: &Pass, dry_run: bool) -> Result<ReapReport, Failure> {
        let names = self.inventory.endpoints_by_cookie()?;
        let labels = self.labels()?;
        let scope = self.scope(pass)?;
        let finding = Instant::now();
        let found = self.find(looked_for(&pass.plan, pass.bound_before)).await?;
        let find = finding.elapsed();
        let mut covered: Vec<(usize, BoundSocket)> =
            found.into_iter().filter_map(|socket| Some((scope.event_of(&socket)?, socket))).collect();
        covered.sort_by_key(|(event, _)| *event);

        let report_only = self.sockets.destroyer() == Destroyer::Nothing;
        let judging = Instant::now();
        let (mut fates, mut reason) = match pass.plan.action {
            _ if report_only => (vec![Some(Fate::Observed); covered.len()], None),
            ReapAction::Observe => (vec![Some(Fate::Observed); covered.len()], None),
            ReapAction::Destroy => (vec![None; covered.len()], None),
            ReapAction::JudgeRecords | ReapAction::JudgePacked => self.judged(pass, &covered, &names).await,
        };
        let judge = judging.elapsed();
        if report_only {
            reason = Some("sockets cannot be destroyed on this node: see `netloom doctor`".into());
        }
        if dry_run {
            for fate in fates.iter_mut().filter(|fate| fate.is_none()) {
                *fate = Some(Fate::WouldDestroy);
            }
        }
        let found: Vec<BoundSocket> = covered.into_iter().map(|(_, socket)| socket).collect();
        let destroying = Instant::now();
        self.destroy(&found, &mut fates).await?;
        for (phase, took) in [("find", find), ("judge", judge), ("destroy", destroying.elapsed())] {
            self.metrics.reap_phase_seconds.get_or_create(&OfPhase { phase }).observe(took.as_secs_f64());
        }

        let sockets: Vec<ReapedSocket> = found
            .into_iter()
            .zip(fates)
            .map(|(socket, fate)| ReapedSocket {
                view: labels.view(socket),
                fate: fate.unwrap_or_else(|| Fate::Failed("no outcome was reported".into())),
            })
            .collect();
        self.record(&sockets, finding.elapsed(), dry_run);
        let finder = self.finder();
        Ok(ReapReport { dry_run, reason, finder, sockets, find_us: micros(find), ..ReapReport::default() })
    }

    /// Asks the plugin about each socket. `None` is a socket to destroy. A plugin that fails spares all of the pass,
    /// and the reason is given.
    async fn judged(
        &self,
        pass: &Pass,
        covered: &[(usize, BoundSocket)],
        names: &HashMap<NetnsCookie, Name>,
    ) -> (Vec<Option<Fate>>, Option<String>) {
        let mut fates = Vec::with_capacity(covered.len());
        for (index, event) in pass.events.iter().enumerate() {
            let sockets: Vec<BoundSocket> =
                covered.iter().filter(|(of, _)| *of == index).map(|(_, socket)| socket.clone()).collect();
            for batch in sockets.chunks(JUDGE_BATCH) {
                match self.policy.judge(&pass.reaper, event, pass.plan.action, batch, names).await {
                    Ok(verdicts) => {
                        fates.extend(verdicts.into_iter().map(|destroy| (!destroy).then_some(Fate::Spared)));
                    }
                    Err(reason) => {
                        let plugin = pass.reaper.name();
                        tracing::error!(%plugin, %reason, "nothing was reaped, as sockets could not be judged");
                        let reason = format!("nothing was reaped, as it could not judge them: {reason}");
                        return (vec![Some(Fate::Unjudged); covered.len()], Some(reason));
                    }
                }
            }
        }
        self.metrics.judged_sockets.inc_by(fates.len() as u64);
        (fates, None)
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
        for batch in self.batches(&doomed) {
            self.pace(batch.len()).await;
            let (sockets, batch) = (Arc::clone(&self.sockets), batch.to_vec());
            outcomes.extend(tokio::task::spawn_blocking(move || sockets.destroy(&batch)).await??);
        }
        let open = fates.iter_mut().filter(|fate| fate.is_none());
        for (fate, outcome) in open.zip(outcomes) {
            *fate = Some(match outcome {
                DestroyOutcome::Destroyed => Fate::Destroyed,
                DestroyOutcome::Gone => Fate::Gone,
                DestroyOutcome::Failed(failure) => {
                    let reason = failure.kind.as_str();
                    self.metrics.reap_failures.get_or_create(&OfReason { reason }).inc();
                    Fate::Failed(failure.detail)
                }
            });
        }
        Ok(())
    }

    /// What may be destroyed within a second each.
    fn batches<'a>(&self, doomed: &'a [BoundSocket]) -> impl Iterator<Item = &'a [BoundSocket]> {
        let rate = usize::try_from(self.config.sockets.destroy_rate).unwrap_or(usize::MAX);
        doomed.chunks(if rate == 0 { doomed.len().max(1) } else { rate })
    }

    /// Waits until so many may be destroyed. The limit holds for all reaps of the node together.
    async fn pace(&self, count: usize) {
        let rate = self.config.sockets.destroy_rate;
        if rate == 0 {
            return;
        }
        let mut next = self.destroy_next.lock().await;
        tokio::time::sleep_until(*next).await;
        #[allow(clippy::cast_precision_loss)]
        let taken = Duration::from_secs_f64(count as f64 / rate as f64);
        *next = tokio::time::Instant::now() + taken;
    }

    pub(crate) async fn find(&self, filter: SocketFilter) -> Result<Vec<BoundSocket>, Failure> {
        let (sockets, back_fill) = (Arc::clone(&self.sockets), self.back_fill.clone());
        let found = tokio::task::spawn_blocking(move || {
            back_fill.bind()?;
            sockets.find(&filter)
        });
        Ok(found.await??)
    }

    /// Counts what became of sockets.
    pub(crate) fn record(&self, sockets: &[ReapedSocket], took: Duration, dry_run: bool) {
        let mut counts: HashMap<&'static str, u64> = HashMap::new();
        for socket in sockets {
            *counts.entry(fate_label(&socket.fate)).or_default() += 1;
        }
        for (fate, count) in &counts {
            self.metrics.reaped_sockets.get_or_create(&OfFate { fate }).inc_by(*count);
        }
        tracing::info!(found = sockets.len(), ?counts, micros = micros(took), dry_run, "reaped");
    }
}

/// The labels of `netloom_reaped_sockets`.
const fn fate_label(fate: &Fate) -> &'static str {
    match fate {
        Fate::Destroyed => "destroyed",
        Fate::Gone => "gone",
        Fate::Spared => "spared",
        Fate::Unjudged => "unjudged",
        Fate::WouldDestroy => "would-destroy",
        Fate::Observed => "observed",
        Fate::Failed(_) => "failed",
    }
}
