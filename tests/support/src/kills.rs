use std::{fmt::Debug, thread};

use crate::{Daemon, emulated};

/// Has a daemon killed after each step of a change in turn, and counts: a test in which nothing is killed does not
/// pass, nor one that misses a step.
///
/// ```no_run
/// # use netloom_test_support::{Daemon, DaemonOptions, Kills};
/// # let mut daemon = Daemon::start(DaemonOptions::default());
/// # fn change(_: &Daemon) -> Result<(), String> { Ok(()) }
/// let mut kills = Kills::of("a change", 5);
/// while let Some(step) = kills.next_step() {
///     daemon.crash_after(step);
///     let outcome = change(&daemon);
///     if kills.killed(&mut daemon, outcome) {
///         // The next daemon serves: look at what became of the change.
///     }
/// }
/// kills.check();
/// ```
#[derive(Debug)]
#[must_use = "kills are to be counted: call `check`"]
pub struct Kills {
    what: String,
    steps: usize,
    /// The steps to be killed after.
    wanted: Vec<usize>,
    /// Whether one run more is to come to its end: it shows that there are no further steps.
    to_the_end: bool,
    asked: Vec<usize>,
    killed: Vec<usize>,
    survived: Option<usize>,
    checked: bool,
}

impl Kills {
    /// Kills in a change of so many steps: after each of them, and one run that comes to its end.
    pub fn of(what: impl Into<String>, steps: usize) -> Self {
        Self {
            what: what.into(),
            steps,
            wanted: (1..=steps).collect(),
            to_the_end: true,
            asked: Vec::new(),
            killed: Vec::new(),
            survived: None,
            checked: false,
        }
    }

    /// Only after these steps.
    pub fn only(mut self, steps: impl IntoIterator<Item = usize>) -> Self {
        self.wanted = steps.into_iter().collect();
        self
    }

    /// Only after these steps, and no run to the end, where the machine is emulated: a kill is two starts, each of
    /// which takes seconds there.
    pub fn emulated_only(mut self, steps: impl IntoIterator<Item = usize>) -> Self {
        if emulated() {
            self.to_the_end = false;
            return self.only(steps);
        }
        self
    }

    /// The step to be killed after next; none when that was all.
    pub fn next_step(&mut self) -> Option<usize> {
        let end = (self.to_the_end && self.asked.len() == self.wanted.len()).then_some(self.steps + 1);
        let step = self.wanted.get(self.asked.len()).copied().or(end).filter(|_| self.survived.is_none())?;
        self.asked.push(step);
        Some(step)
    }

    /// What came of a change that the daemon was to be killed in: whether it was. It is started anew then, and serves
    /// when this returns, and survives from now on.
    ///
    /// # Panics
    /// If the change failed and the daemon was not killed, or the other way round.
    pub fn killed<T: Debug, E: Debug>(&mut self, daemon: &mut Daemon, outcome: Result<T, E>) -> bool {
        let step = self.asked.last().copied().expect("a step was asked for");
        match outcome {
            Err(_) => {
                daemon.restart_after_crash();
                self.killed.push(step);
                true
            }
            Ok(made) => {
                assert!(daemon.runs(), "{}, step {step}: killed, and still it answered {made:?}", self.what);
                daemon.stop();
                daemon.restart();
                self.survived = Some(step);
                false
            }
        }
    }

    /// Makes sure that the daemon was killed after each step, and says so.
    ///
    /// # Panics
    /// If it was not.
    pub fn check(mut self) {
        self.checked = true;
        let Self { what, steps, wanted, killed, survived, .. } = &self;
        assert_eq!(
            killed, wanted,
            "{what} has other steps than these {steps}; it survived step {survived:?}"
        );
        if self.to_the_end {
            assert_eq!(*survived, Some(steps + 1), "{what} has more steps than {steps}");
        }
        let all = killed.len() == *steps;
        let places = if all { format!("1..={steps}") } else { format!("{killed:?} of {steps}") };
        println!("killed at steps {places} of {what}");
    }
}

impl Drop for Kills {
    fn drop(&mut self) {
        assert!(self.checked || thread::panicking(), "the kills in {} were never counted", self.what);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[should_panic(expected = "a change has other steps than these")]
    fn a_change_in_which_nothing_is_killed_does_not_pass() {
        let mut kills = Kills::of("a change", 2);
        assert_eq!(kills.next_step(), Some(1));
        kills.survived = Some(1);
        assert_eq!(kills.next_step(), None);
        kills.check();
    }

    #[test]
    #[should_panic(expected = "were never counted")]
    fn kills_that_nobody_counts_do_not_pass() {
        drop(Kills::of("a change", 2));
    }

    #[test]
    fn all_steps_and_one_run_that_survives_are_asked_for() {
        let mut kills = Kills::of("a change", 2);
        for step in [1, 2] {
            assert_eq!(kills.next_step(), Some(step));
            kills.killed.push(step);
        }
        assert_eq!(kills.next_step(), Some(3));
        kills.survived = Some(3);
        assert_eq!(kills.next_step(), None);
        kills.check();
    }

    #[test]
    fn of_some_steps_only_those_are_asked_for() {
        let mut kills = Kills::of("a change", 9).only([2, 7]);
        for step in [2, 7] {
            assert_eq!(kills.next_step(), Some(step));
            kills.killed.push(step);
        }
        assert_eq!(kills.next_step(), Some(10));
        kills.survived = Some(10);
        assert_eq!(kills.next_step(), None);
        kills.check();
    }
}
