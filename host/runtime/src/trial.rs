//! Trying a version out beside the one that serves.

use std::sync::{
    Arc, Mutex, PoisonError,
    atomic::{AtomicU64, Ordering},
};

use netloom_core::model::Name;

use crate::{
    plugin::Plugin,
    recording::{Question, RecordedNode, Reply},
};

/// How a version is tried out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TrialMode {
    /// It is asked what the serving version is asked, compared and counted, and never acted on.
    Shadow,
    /// It decides this share of the questions, in percent.
    Canary(u8),
}

/// A version beside the one that serves.
pub struct Trial {
    plugin: Arc<Plugin>,
    mode: TrialMode,
    questions: AtomicU64,
    asked: AtomicU64,
    differed: AtomicU64,
    failed: AtomicU64,
    last: Mutex<Option<Difference>>,
}

/// How a trial goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TrialStatus {
    /// How it is tried out.
    pub mode: TrialMode,
    /// Its component's SHA-256.
    pub digest: String,
    /// Questions it was asked.
    pub asked: u64,
    /// Of those, how many it answered differently; known in shadow mode alone.
    pub differed: u64,
    /// Of those, how many it failed on.
    pub failed: u64,
    /// The last difference.
    pub last: Option<Difference>,
}

/// A question that two versions answer differently.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference {
    /// What was asked.
    pub question: Question,
    /// What the serving version said.
    pub serving: Reply,
    /// What the other said.
    pub tried: Reply,
}

impl Trial {
    /// Begins a trial.
    #[must_use]
    pub fn new(plugin: Arc<Plugin>, mode: TrialMode) -> Self {
        Self {
            plugin,
            mode,
            questions: AtomicU64::new(0),
            asked: AtomicU64::new(0),
            differed: AtomicU64::new(0),
            failed: AtomicU64::new(0),
            last: Mutex::new(None),
        }
    }

    /// The version tried out.
    #[must_use]
    pub fn plugin(&self) -> &Arc<Plugin> {
        &self.plugin
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &Name {
        self.plugin.name()
    }

    /// How it goes.
    #[must_use]
    pub fn status(&self) -> TrialStatus {
        TrialStatus {
            mode: self.mode,
            digest: self.plugin.inspection().digest.clone(),
            asked: self.asked.load(Ordering::Relaxed),
            differed: self.differed.load(Ordering::Relaxed),
            failed: self.failed.load(Ordering::Relaxed),
            last: self.last.lock().unwrap_or_else(PoisonError::into_inner).clone(),
        }
    }

    /// Whether this question is the canary's: spread evenly, not in runs.
    pub(crate) fn takes_over(&self) -> bool {
        let TrialMode::Canary(percent) = self.mode else { return false };
        let number = self.questions.fetch_add(1, Ordering::Relaxed);
        let share = u64::from(percent.min(100));
        (number + 1) * share / 100 > number * share / 100
    }

    /// Whether every question is to be shown to it.
    pub(crate) fn is_shadow(&self) -> bool {
        self.mode == TrialMode::Shadow
    }

    /// Notes how a question of the canary's ended.
    pub(crate) fn note(&self, failed: bool) {
        self.asked.fetch_add(1, Ordering::Relaxed);
        self.failed.fetch_add(u64::from(failed), Ordering::Relaxed);
    }

    /// Asks it what the serving version was asked, and compares.
    pub(crate) async fn compare(&self, node: &RecordedNode, question: Question, serving: Reply) {
        let tried = self.plugin.ask(node.facts(), &question).await;
        self.note(matches!(tried, Reply::Failed(_)));
        if tried != serving {
            self.differed.fetch_add(1, Ordering::Relaxed);
            let difference = Difference { question, serving, tried };
            *self.last.lock().unwrap_or_else(PoisonError::into_inner) = Some(difference);
        }
    }
}

impl std::fmt::Debug for Trial {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Trial").field("status", &self.status()).finish_non_exhaustive()
    }
}
