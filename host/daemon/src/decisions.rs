//! The last decisions, kept for explanation.

use std::{
    collections::VecDeque,
    sync::{Mutex, MutexGuard, PoisonError},
    time::{SystemTime, UNIX_EPOCH},
};

use netloom_api::types::{Decision, DecisionStep};

const KEPT: usize = 1_000;

/// A bounded record of what was decided, by whom, on what.
#[derive(Default)]
pub(crate) struct Decisions(Mutex<Kept>);

#[derive(Default)]
struct Kept {
    sequence: u64,
    decisions: VecDeque<Decision>,
}

impl Decisions {
    fn lock(&self) -> MutexGuard<'_, Kept> {
        // A panic between two changes of a log leaves a log: what is there is still true.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn add(
        &self,
        hook: &str,
        subject: String,
        steps: Vec<DecisionStep>,
        outcome: String,
        decided_by: String,
    ) {
        let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let mut kept = self.lock();
        kept.sequence += 1;
        let decision = Decision {
            sequence: kept.sequence,
            time_ms: u64::try_from(since_epoch.as_millis()).unwrap_or(u64::MAX),
            hook: hook.to_owned(),
            subject,
            steps,
            outcome,
            decided_by,
        };
        tracing::info!(
            hook,
            subject = decision.subject,
            outcome = decision.outcome,
            by = decision.decided_by,
            "decided"
        );
        if kept.decisions.len() == KEPT {
            kept.decisions.pop_front();
        }
        kept.decisions.push_back(decision);
    }

    /// All that are kept, newest last.
    pub(crate) fn all(&self) -> Vec<Decision> {
        self.lock().decisions.iter().cloned().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_last_thousand_are_kept() {
        let decisions = Decisions::default();
        for number in 0..=KEPT {
            decisions.add("attach-order", number.to_string(), vec![], "head".into(), "test".into());
        }
        let kept = decisions.all();
        assert_eq!(kept.len(), KEPT);
        assert_eq!(kept.first().map(|d| d.sequence), Some(2));
        assert_eq!(kept.last().map(|d| d.subject.clone()), Some(KEPT.to_string()));
    }
}
