//! When a plugin that failed is asked again: pure, the time is an argument.

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

/// When a failing plugin is started again, and when no more.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Supervision {
    /// The pause after a first failure; each failure that follows without a success in between doubles it.
    /// 100 ms.
    pub first_backoff: Duration,
    /// The longest pause. 30 s.
    pub longest_backoff: Duration,
    /// So many failures within the window put the plugin in quarantine. 5.
    pub failures: usize,
    /// The window. 60 s.
    pub window: Duration,
}

impl Default for Supervision {
    fn default() -> Self {
        Self {
            first_backoff: Duration::from_millis(100),
            longest_backoff: Duration::from_secs(30),
            failures: 5,
            window: Duration::from_secs(60),
        }
    }
}

/// Whether a plugin is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// It is.
    Active,
    /// It failed, and is asked again from then on.
    Backoff {
        /// Then.
        until: Instant,
    },
    /// It failed too often, and is not asked until it is loaded again or released.
    Quarantined,
}

impl State {
    /// The name, as in CLI and API.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Active => "active",
            Self::Backoff { .. } => "backoff",
            Self::Quarantined => "quarantined",
        }
    }
}

#[derive(Debug)]
pub(crate) struct Supervisor {
    rules: Supervision,
    state: State,
    reason: Option<String>,
    recent: VecDeque<Instant>,
    in_a_row: u32,
}

impl Supervisor {
    pub(crate) fn new(rules: Supervision) -> Self {
        Self { rules, state: State::Active, reason: None, recent: VecDeque::new(), in_a_row: 0 }
    }

    /// The state now, with the reason where it is not active.
    pub(crate) fn state(&mut self, now: Instant) -> (State, Option<String>) {
        if matches!(self.state, State::Backoff { until } if until <= now) {
            self.state = State::Active;
        }
        match self.state {
            State::Active => (State::Active, None),
            state => (state, self.reason.clone()),
        }
    }

    pub(crate) fn succeeded(&mut self) {
        self.in_a_row = 0;
    }

    /// Notes a failure and gives the state it leads to.
    pub(crate) fn failed(&mut self, now: Instant, reason: String) -> State {
        if self.state == State::Quarantined {
            return self.state;
        }
        self.in_a_row = self.in_a_row.saturating_add(1);
        self.recent.push_back(now);
        while self.recent.front().is_some_and(|at| now.duration_since(*at) > self.rules.window) {
            self.recent.pop_front();
        }
        self.reason = Some(reason);
        self.state = if self.recent.len() >= self.rules.failures {
            State::Quarantined
        } else {
            let doublings = self.in_a_row.saturating_sub(1).min(16);
            let pause = self.rules.first_backoff.saturating_mul(1 << doublings);
            State::Backoff { until: now + pause.min(self.rules.longest_backoff) }
        };
        self.state
    }

    /// Forgets every failure.
    pub(crate) fn release(&mut self) {
        *self = Self::new(self.rules.clone());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn supervisor(failures: usize) -> Supervisor {
        Supervisor::new(Supervision { failures, ..Supervision::default() })
    }

    #[test]
    fn pauses_double_until_a_success() {
        let (mut it, start) = (supervisor(100), Instant::now());
        let pause = |it: &mut Supervisor| match it.failed(start, "trap".into()) {
            State::Backoff { until } => until - start,
            other => panic!("{other:?}"),
        };
        assert_eq!(pause(&mut it), Duration::from_millis(100));
        assert_eq!(pause(&mut it), Duration::from_millis(200));
        assert_eq!(pause(&mut it), Duration::from_millis(400));
        it.succeeded();
        assert_eq!(pause(&mut it), Duration::from_millis(100));
        for _ in 0..20 {
            pause(&mut it);
        }
        assert_eq!(pause(&mut it), Duration::from_secs(30));
    }

    #[test]
    fn a_pause_ends_by_itself() {
        let (mut it, start) = (supervisor(5), Instant::now());
        it.failed(start, "trap".into());
        let (state, reason) = it.state(start + Duration::from_millis(99));
        assert!(matches!(state, State::Backoff { .. }));
        assert_eq!(reason.as_deref(), Some("trap"));
        assert_eq!(it.state(start + Duration::from_millis(100)), (State::Active, None));
    }

    #[test]
    fn failures_within_the_window_end_in_quarantine_even_with_successes_between() {
        let (mut it, start) = (supervisor(3), Instant::now());
        for second in [0, 20] {
            assert_ne!(it.failed(start + Duration::from_secs(second), "trap".into()), State::Quarantined);
            it.succeeded();
        }
        assert_eq!(it.failed(start + Duration::from_secs(40), "third trap".into()), State::Quarantined);
        let later = start + Duration::from_secs(1_000_000);
        assert_eq!(it.state(later), (State::Quarantined, Some("third trap".into())));
        it.release();
        assert_eq!(it.state(later), (State::Active, None));
    }

    #[test]
    fn failures_far_apart_do_not_add_up() {
        let (mut it, start) = (supervisor(2), Instant::now());
        for minute in 0..5 {
            let now = start + Duration::from_secs(61 * minute);
            assert_ne!(it.failed(now, "trap".into()), State::Quarantined);
            it.succeeded();
        }
    }
}
