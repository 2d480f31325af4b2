use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use super::{
    libtest::{Counts, Report},
    tier::Tier,
};

/// What became of a tier.
pub(crate) struct Outcome {
    /// Which.
    pub(crate) tier: Tier,
    /// Its tests.
    pub(crate) counts: Counts,
    /// Why it could not run, if so.
    pub(crate) reason: Option<String>,
    /// How long it took.
    pub(crate) time: Duration,
}

/// A tier under way.
pub(crate) struct Progress {
    /// In front of each line, where other tiers run beside.
    label: String,
    counts: Counts,
    started: Instant,
    times: Vec<(Duration, String)>,
}

/// How many of the slowest tests are named.
const SLOWEST: usize = 8;

impl Progress {
    /// Nothing has run yet.
    pub(crate) fn begin(tier: Tier) -> Self {
        println!("\n── {tier}");
        let label = if tier.kernel().is_some() { format!("{tier:<10}") } else { String::new() };
        Self { label, counts: Counts::default(), started: Instant::now(), times: Vec::new() }
    }

    /// A program of tests has ended: whether as it should. Its output is shown if not.
    pub(crate) fn program(&mut self, name: &str, report: &Report, ended: &Result<(), String>, output: &str) {
        let mut counts = report.counts;
        if ended.is_err() && counts.failed == 0 {
            // It died, or it failed beside its tests.
            counts.failed += 1;
        }
        if counts == Counts::default() {
            return;
        }
        let skipped =
            if counts.skipped > 0 { format!(", {} skipped", counts.skipped) } else { String::new() };
        let failed = if counts.failed > 0 { format!(", {} FAILED", counts.failed) } else { String::new() };
        let label = &self.label;
        let mut text = format!("   {label}{name:<44} {:>4} passed{failed}{skipped}\n", counts.passed);
        for skip in &report.skips {
            text.push_str(&format!("     skipped: {skip}\n"));
        }
        if counts.failed > 0 {
            let why = ended.as_ref().err().map_or("", String::as_str);
            text.push_str(&format!("{}\n{name}: {why}\n", output.trim_end()));
        }
        // In one go: another tier may write as well.
        print!("{text}");
        self.counts += counts;
    }

    /// A check that is no program of tests: `Ok(Some(why))` if it was skipped.
    pub(crate) fn check(&mut self, name: &str, result: Result<Option<String>, String>) {
        match result {
            Ok(None) => {
                println!("   {name:<44}    passed");
                self.counts.passed += 1;
            }
            Ok(Some(why)) => {
                println!("   {name:<44}    skipped: {why}");
                self.counts.skipped += 1;
            }
            Err(why) => {
                println!("   {name:<44}    FAILED\n{why}");
                self.counts.failed += 1;
            }
        }
    }

    /// A test has ended that ran alone.
    pub(crate) fn took(&mut self, test: &str, time: Duration) {
        self.times.push((time, test.to_owned()));
    }

    /// The tier has ended.
    pub(crate) fn end(mut self, tier: Tier) -> Outcome {
        if !self.times.is_empty() {
            self.times.sort_by(|a, b| b.cmp(a));
            self.times.truncate(SLOWEST);
            let mut text = format!("   {}the slowest tests:\n", self.label);
            for (time, test) in &self.times {
                text.push_str(&format!("     {:>4} s  {test}\n", time.as_secs()));
            }
            print!("{text}");
        }
        Outcome { tier, counts: self.counts, reason: None, time: self.started.elapsed() }
    }
}

/// A tier under way in several machines, each of which runs some tests of each program.
pub(crate) struct Gathered {
    tier: Tier,
    progress: Progress,
    parts: BTreeMap<String, Parts>,
    /// Since when machines run, and until when.
    ran: Option<(Instant, Instant)>,
}

/// What is known of a program whose tests were shared out.
#[derive(Default)]
struct Parts {
    /// How many machines have not told yet.
    left: usize,
    report: Report,
    errors: Vec<String>,
    output: String,
}

impl Gathered {
    /// Nothing has run yet.
    pub(crate) fn begin(tier: Tier) -> Self {
        Self { tier, progress: Progress::begin(tier), parts: BTreeMap::new(), ran: None }
    }

    /// A machine starts, or ends.
    pub(crate) fn runs(&mut self) {
        let now = Instant::now();
        self.ran = Some((self.ran.map_or(now, |(since, _)| since), now));
    }

    /// One more machine will run tests of this program.
    pub(crate) fn expect(&mut self, name: &str) {
        self.parts.entry(name.to_owned()).or_default().left += 1;
    }

    /// In one machine a program of tests has ended; it is reported once it has in all.
    pub(crate) fn program(&mut self, name: &str, report: &Report, ended: &Result<(), String>, output: &str) {
        let mut parts = self.parts.remove(name).unwrap_or_default();
        parts.left = parts.left.saturating_sub(1);
        parts.report.counts += report.counts;
        parts.report.skips.extend(report.skips.iter().cloned());
        if let Err(error) = ended {
            parts.errors.push(error.clone());
            // Of those that passed nobody wants to read.
            parts.output.push_str(output);
        }
        if parts.left == 0 {
            self.tell(name, parts);
        } else {
            self.parts.insert(name.to_owned(), parts);
        }
    }

    fn tell(&mut self, name: &str, mut parts: Parts) {
        parts.report.skips.sort();
        let ended = if parts.errors.is_empty() { Ok(()) } else { Err(parts.errors.join("; ")) };
        self.progress.program(name, &parts.report, &ended, &parts.output);
    }

    /// A test has ended that ran alone in its machine.
    pub(crate) fn took(&mut self, test: &str, time: Duration) {
        self.progress.took(test, time);
    }

    /// All machines have ended. What one of them did not come to has failed.
    pub(crate) fn end(mut self) -> Outcome {
        for (name, mut parts) in std::mem::take(&mut self.parts) {
            parts.errors.push(format!("{} of its machines ended before it", parts.left));
            self.tell(&name, parts);
        }
        let time = self.ran.map_or(Duration::ZERO, |(since, until)| until - since);
        Outcome { time, ..self.progress.end(self.tier) }
    }
}

/// A tier that cannot run here: skipped, and failed where nobody would notice.
pub(crate) fn cannot_run(tier: Tier, reason: String, ci: bool) -> Outcome {
    println!("\n── {tier}\n   skipped: {reason}");
    let counts = Counts { passed: 0, failed: usize::from(ci), skipped: usize::from(!ci) };
    Outcome { tier, counts, reason: Some(reason), time: Duration::ZERO }
}

/// The table at the end, and the counts over all.
pub(crate) fn summarize(outcomes: &[Outcome]) -> Counts {
    println!("\n{:<10} {:>7} {:>7} {:>8} {:>7}", "tier", "passed", "failed", "skipped", "time");
    for outcome in outcomes {
        let Counts { passed, failed, skipped } = outcome.counts;
        let time = format!("{} s", outcome.time.as_secs());
        println!("{:<10} {passed:>7} {failed:>7} {skipped:>8} {time:>7}", outcome.tier);
        if let Some(reason) = &outcome.reason {
            let verdict = if failed > 0 { "failed, because CI is set and it cannot run" } else { "skipped" };
            println!("           {verdict}: {reason}");
        }
    }
    let sum: Counts = outcomes.iter().map(|outcome| outcome.counts).sum();
    println!("\n{} passed, {} failed, {} skipped", sum.passed, sum.failed, sum.skipped);
    sum
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tier_that_cannot_run_fails_only_in_ci() {
        assert_eq!(cannot_run(Tier::Netns, "needs root".into(), false).counts.skipped, 1);
        assert_eq!(cannot_run(Tier::Netns, "needs root".into(), true).counts.failed, 1);
    }

    #[test]
    fn a_program_is_what_it_was_in_all_its_machines() {
        let passed = Report { counts: Counts { passed: 2, ..Counts::default() }, ..Report::default() };
        let mut gathered = Gathered::begin(Tier::Vm6_12);
        for name in ["x", "x", "y", "z", "z"] {
            gathered.expect(name);
        }
        gathered.program("x", &passed, &Ok(()), "");
        gathered.program("y", &passed, &Ok(()), "");
        gathered.program("x", &passed, &Ok(()), "");
        gathered.program("z", &passed, &Ok(()), "");
        let outcome = gathered.end();
        assert_eq!(
            outcome.counts,
            Counts { passed: 8, failed: 1, skipped: 0 },
            "one machine never came to z"
        );
    }

    #[test]
    fn a_program_that_died_has_failed() {
        let mut progress = Progress::begin(Tier::Unit);
        progress.program("x", &Report::default(), &Err("killed by signal 11".into()), "");
        assert_eq!(progress.end(Tier::Unit).counts.failed, 1);
    }
}
