//! The last decisions, kept for explanation.

use netloom_api::types::{Decision, DecisionStep};

use crate::telemetry::kept::Kept;

/// A bounded record of what was decided, by whom, on what.
#[derive(Default)]
pub(crate) struct Decisions(Kept<Decision>);

impl Decisions {
    pub(crate) fn add(
        &self,
        hook: &str,
        subject: String,
        steps: Vec<DecisionStep>,
        outcome: String,
        decided_by: String,
    ) {
        tracing::info!(hook, subject, outcome, by = decided_by, "decided");
        let hook = hook.to_owned();
        self.0.add(|sequence, time_ms| Decision {
            sequence,
            time_ms,
            hook,
            subject,
            steps,
            outcome,
            decided_by,
        });
    }

    /// All that are kept, newest last.
    pub(crate) fn all(&self) -> Vec<Decision> {
        self.0.all()
    }
}
