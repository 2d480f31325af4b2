//! What could be neither undone nor finished yet: it stays in the store, is tried again with ever longer pauses, and
//! before anything else is done to what it is about.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use netloom_api::types::Finding;
use netloom_core::plan::Plan;
use tokio::sync::{Mutex as AsyncMutex, Notify};

use super::{Executor, Left};
use crate::{failure::Failure, store::StoreError};

/// The first pause, which doubles each time.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(300);

/// Plans of which a part is left.
#[derive(Default)]
pub(crate) struct Unfinished {
    plans: Mutex<BTreeMap<String, Rest>>,
    /// One of them is tried at a time.
    trying: AsyncMutex<()>,
    more: Notify,
}

/// One of them.
struct Rest {
    plan: Plan,
    failures: Vec<String>,
    pause: Duration,
    due: Instant,
}

impl Unfinished {
    fn plans(&self) -> MutexGuard<'_, BTreeMap<String, Rest>> {
        self.plans.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How many there are.
    pub(crate) fn count(&self) -> usize {
        self.plans().len()
    }

    fn note(&self, key: &str, plan: Plan, failures: Vec<String>) {
        let mut plans = self.plans();
        let pause = plans.get(key).map_or(FIRST_PAUSE, |before| LONGEST_PAUSE.min(before.pause * 2));
        plans.insert(key.to_owned(), Rest { plan, failures, pause, due: Instant::now() + pause });
        drop(plans);
        self.more.notify_one();
    }

    /// Those about something that a plan is about as well.
    fn about(&self, plan: &Plan) -> Vec<String> {
        let subjects = plan.subjects();
        let plans = self.plans();
        let same = plans.iter().filter(|(_, rest)| !rest.plan.subjects().is_disjoint(&subjects));
        same.map(|(key, _)| key.clone()).collect()
    }

    /// The next that is due, and when.
    fn next(&self) -> Option<(String, Instant)> {
        self.plans().iter().map(|(key, rest)| (key.clone(), rest.due)).min_by_key(|(_, due)| *due)
    }

    /// As `netloom doctor` says it.
    pub(crate) fn findings(&self) -> Vec<Finding> {
        let finding = |rest: &Rest| Finding {
            severity: "warning".to_owned(),
            subject: rest.plan.what.clone(),
            message: format!(
                "{} of its steps cannot be done: {}",
                rest.plan.after.len(),
                rest.failures.join("; ")
            ),
            hint: format!(
                "take away what is in the way; it is tried again within {} s, and before its name is used again",
                rest.pause.as_secs()
            ),
        };
        self.plans().values().map(finding).collect()
    }
}

impl Executor {
    /// Carries out what is left of a plan. What fails stays written down: what it failed with.
    pub(super) async fn finish(&self, key: &str, rest: Plan) -> Result<Vec<String>, StoreError> {
        let Left { ops, failures } = self.apply_all(rest.after).await;
        if ops.is_empty() {
            self.unfinished.plans().remove(key);
            self.store.settle(|changes| changes.remove::<Plan>(key))?;
            return Ok(failures);
        }
        let rest = Plan::rest(rest.what, ops);
        self.store.settle(|changes| changes.put(key, &rest))?;
        if !self.unfinished.plans().contains_key(key) {
            tracing::error!(plan = rest.what, left = failures.join("; "), "a clean-up step failed");
        }
        self.unfinished.note(key, rest, failures.clone());
        Ok(failures)
    }

    /// Finishes what earlier plans left of what a plan is about. One that only takes away goes on without.
    pub(super) async fn finish_earlier(&self, plan: &Plan) -> Result<(), Failure> {
        for key in self.unfinished.about(plan) {
            let failures = self.try_again(&key).await?;
            if !failures.is_empty() && !plan.only_removes() {
                return Err(Failure::conflict(format!(
                    "something of it is left from before: {}",
                    failures.join("; ")
                ))
                .hint("take away what is in the way; `netloom doctor` tells what it is"));
            }
        }
        Ok(())
    }

    async fn try_again(&self, key: &str) -> Result<Vec<String>, StoreError> {
        let _trying = self.unfinished.trying.lock().await;
        let Some(plan) = self.unfinished.plans().get(key).map(|rest| rest.plan.clone()) else {
            return Ok(Vec::new());
        };
        let what = plan.what.clone();
        let failures = self.finish(key, plan).await?;
        if failures.is_empty() {
            tracing::info!(plan = what, "what was left is finished");
        }
        Ok(failures)
    }

    /// Tries again for as long as the daemon runs.
    pub(crate) async fn finish_in_time(self: Arc<Self>) {
        loop {
            let next = self.unfinished.next();
            let due = async {
                match &next {
                    Some((_, due)) => tokio::time::sleep_until((*due).into()).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = due => {}
                () = self.unfinished.more.notified() => continue,
            }
            let Some((key, _)) = next else { continue };
            if let Err(error) = self.try_again(&key).await {
                tracing::warn!(%error, "what is left of a plan is not tried again for now");
                tokio::time::sleep(FIRST_PAUSE).await;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use netloom_core::{
        model::HookPoint,
        plan::{Op, Target},
    };

    use super::*;

    fn detach(id: &str) -> Plan {
        let target =
            Target { netns: None, device: "d0".into(), point: HookPoint::TcxIngress, endpoint: None };
        Plan::rest(format!("detach {id}"), vec![Op::Detach { id: id.into(), target }])
    }

    #[test]
    fn pauses_grow_to_five_minutes_and_begin_anew_for_another_plan() {
        let unfinished = Unfinished::default();
        let pauses: Vec<u64> = (0..11)
            .map(|_| {
                unfinished.note("1", detach("a"), vec!["busy".into()]);
                unfinished.plans()["1"].pause.as_secs()
            })
            .collect();
        assert_eq!(pauses, [1, 2, 4, 8, 16, 32, 64, 128, 256, 300, 300]);
        unfinished.note("2", detach("b"), vec![]);
        assert_eq!(unfinished.next().unwrap().0, "2");
    }

    #[test]
    fn what_is_left_of_an_attachment_concerns_plans_about_it_alone() {
        let unfinished = Unfinished::default();
        unfinished.note("1", detach("a"), vec!["busy".into()]);
        assert_eq!(unfinished.about(&detach("a")), ["1"]);
        assert!(unfinished.about(&detach("b")).is_empty());
        let findings = unfinished.findings();
        assert!(findings[0].subject == "detach a" && findings[0].message.contains("busy"), "{findings:?}");
    }
}
