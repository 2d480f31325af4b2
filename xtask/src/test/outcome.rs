use std::{
    collections::{BTreeMap, BTreeSet},
    time::{Duration, Instant},
};

use super::{
    libtest::{Counts, Report, Skip},
    skips::Expected,
    tier::Tier,
};

/// What became of a tier.
pub(crate) struct Outcome {
    /// Which.
    pub(crate) tier: Tier,
    /// Its tests.
    pub(crate) counts: Counts,
    /// What is to be said of it at the end: skips that nobody expects, entries of the list without effect.
    pub(crate) notes: Vec<String>,
    /// How long it took.
    pub(crate) time: Duration,
    /// Those that passed, with their programs.
    pub(crate) ran: Ran,
}

/// Tests, by program.
pub(crate) type Ran = BTreeMap<String, BTreeSet<String>>;

/// How a tier's tests are judged.
pub(crate) struct Rules {
    /// Which tests are expected not to run.
    pub(crate) expected: Expected,
    /// Whether nobody watches: what is not expected is a failure then.
    pub(crate) ci: bool,
    /// Whether every test of every package was asked for.
    pub(crate) complete: bool,
}

/// A tier under way.
pub(crate) struct Progress {
    tier: Tier,
    rules: Rules,
    /// In front of each line, where other tiers run beside.
    label: String,
    counts: Counts,
    notes: Vec<String>,
    /// Tests that the tier leaves out, by program.
    left_out: Ran,
    ran: Ran,
    started: Instant,
    times: Vec<(Duration, String)>,
}

/// How many of the slowest tests are named.
const SLOWEST: usize = 8;

impl Progress {
    /// Nothing has run yet.
    pub(crate) fn begin(tier: Tier, rules: Rules) -> Self {
        println!("\n── {tier}");
        // Others run beside it.
        let label = if tier == Tier::Unit { String::new() } else { format!("{tier:<10}") };
        Self {
            tier,
            rules,
            label,
            counts: Counts::default(),
            notes: Vec::new(),
            left_out: Ran::new(),
            ran: Ran::new(),
            started: Instant::now(),
            times: Vec::new(),
        }
    }

    /// The variables that tell the tests what is expected of the kernel.
    pub(crate) fn environment(&self) -> Vec<(String, String)> {
        self.rules.expected.environment()
    }

    /// A program of tests has ended: whether as it should. Its output is shown if not.
    pub(crate) fn program(&mut self, name: &str, report: &Report, ended: &Result<(), String>, output: &str) {
        self.ran.entry(name.to_owned()).or_default().extend(report.ran.iter().cloned());
        let mut counts = Counts { passed: report.passed, failed: report.failed, ..Counts::default() };
        let mut why: Vec<String> = ended.as_ref().err().cloned().into_iter().collect();
        if report.results == 0 && why.is_empty() {
            why.push("it ended well, and wrote no result".to_owned());
        }
        if !why.is_empty() && counts.failed == 0 {
            // It died, or it failed beside its tests.
            counts.failed += 1;
        }
        let (mut reasons, mut text) = (BTreeMap::<&str, usize>::new(), String::new());
        for skip in &report.skips {
            match self.rules.expected.judge(name, skip) {
                Ok(()) => {
                    counts.expected += 1;
                    *reasons.entry(&skip.needs).or_default() += 1;
                }
                Err(way_out) => {
                    counts.unexpected += 1;
                    let Skip { test, needs, .. } = skip;
                    text.push_str(&format!("     not run, which nobody expects: {test}: needs {needs}\n"));
                    self.notes.push(format!(
                        "{} {name} {test} did not run: it needs {needs}. {way_out}",
                        self.tier
                    ));
                }
            }
        }
        let left_out = self.left_out.get(name).unwrap_or(const { &BTreeSet::new() });
        for stale in self.rules.expected.stale(name, report, self.rules.complete, left_out) {
            counts.failed += usize::from(self.rules.ci);
            text.push_str(&format!("     {stale}\n"));
            self.notes.push(format!("{} {stale}", self.tier));
        }
        if counts == Counts::default() {
            return;
        }
        let reasons: Vec<_> =
            reasons.iter().map(|(needs, count)| format!("{count} for want of {needs}")).collect();
        let reasons = if reasons.is_empty() { String::new() } else { format!(": {}", reasons.join(", ")) };
        let not_run = match counts.not_run() {
            0 => String::new(),
            not_run => format!(", {not_run} not run{reasons}"),
        };
        let failed = if counts.failed > 0 { format!(", {} FAILED", counts.failed) } else { String::new() };
        let label = &self.label;
        text.insert_str(0, &format!("   {label}{name:<44} {:>4} passed{failed}{not_run}\n", counts.passed));
        if !why.is_empty() || report.failed > 0 {
            text.push_str(&format!("{}\n{name}: {}\n", output.trim_end(), why.join("; ")));
        }
        // In one go: another tier may write as well.
        print!("{text}");
        self.counts += counts;
    }

    /// Tests of a program that the tier leaves out, and why.
    pub(crate) fn left_out(&mut self, name: &str, tests: &[String], why: &str) {
        println!("   {}{name:<44} {:>4} not run here: {why}", self.label, tests.len());
        self.counts.expected += tests.len();
        self.left_out.entry(name.to_owned()).or_default().extend(tests.iter().cloned());
    }

    /// A check that is no program of tests: `Ok(Some(why))` if it did not run.
    pub(crate) fn check(&mut self, name: &str, result: Result<Option<String>, String>) {
        match result {
            Ok(None) => {
                println!("   {name:<44}    passed");
                self.counts.passed += 1;
            }
            Ok(Some(why)) => {
                println!("   {name:<44}    not run: {why}");
                self.notes.push(format!("{} {name} did not run: {why}", self.tier));
                self.counts.unexpected += 1;
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
    pub(crate) fn end(mut self) -> Outcome {
        if !self.times.is_empty() {
            self.times.sort_by(|a, b| b.cmp(a));
            self.times.truncate(SLOWEST);
            let mut text = format!("   {}the slowest tests:\n", self.label);
            for (time, test) in &self.times {
                text.push_str(&format!("     {:>4} s  {test}\n", time.as_secs()));
            }
            print!("{text}");
        }
        Outcome {
            tier: self.tier,
            counts: self.counts,
            notes: self.notes,
            time: self.started.elapsed(),
            ran: self.ran,
        }
    }
}

/// A tier under way in several machines, each of which runs some tests of each program.
pub(crate) struct Gathered {
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
    pub(crate) fn begin(tier: Tier, rules: Rules) -> Self {
        Self { progress: Progress::begin(tier, rules), parts: BTreeMap::new(), ran: None }
    }

    /// The variables that tell the tests what is expected of the kernel.
    pub(crate) fn environment(&self) -> Vec<(String, String)> {
        self.progress.environment()
    }

    /// Tests of a program that the tier leaves out, and why.
    pub(crate) fn left_out(&mut self, name: &str, tests: &[String], why: &str) {
        self.progress.left_out(name, tests, why);
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
        parts.report += report.clone();
        let error = match ended {
            Ok(()) if report.results == 0 => {
                Some("in one machine it ended well, and wrote no result".to_owned())
            }
            ended => ended.clone().err(),
        };
        if let Some(error) = error {
            parts.errors.push(error);
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
        Outcome { time, ..self.progress.end() }
    }
}

/// A tier that cannot run here.
pub(crate) fn cannot_run(tier: Tier, reason: &str) -> Outcome {
    println!("\n── {tier}\n   cannot run: {reason}");
    let counts = Counts { unexpected: 1, ..Counts::default() };
    let notes = vec![format!("{tier} cannot run: {reason}")];
    Outcome { tier, counts, notes, time: Duration::ZERO, ran: Ran::new() }
}

/// The table at the end, what nobody expects, and the counts over all.
pub(crate) fn summarize(outcomes: &[Outcome], ci: bool) -> Summary {
    let summary = Summary { counts: outcomes.iter().map(|outcome| outcome.counts).sum(), ci };
    println!(
        "\n{:<10} {:>7} {:>7} {:>20} {:>22} {:>7}",
        "tier", "passed", "failed", "not run, as expected", "not run, unexpectedly", "time"
    );
    for outcome in outcomes {
        let Counts { passed, failed, expected, unexpected } = outcome.counts;
        let time = format!("{} s", outcome.time.as_secs());
        println!("{:<10} {passed:>7} {failed:>7} {expected:>20} {unexpected:>22} {time:>7}", outcome.tier);
    }
    for note in outcomes.iter().flat_map(|outcome| &outcome.notes) {
        println!("\n{note}");
    }
    println!("\n{}", summary.words());
    println!("{}", summary.last_line());
    summary
}

/// The counts over all tiers.
pub(crate) struct Summary {
    counts: Counts,
    ci: bool,
}

impl Summary {
    /// Whether all is as it should be: without CI, somebody reads what was skipped.
    pub(crate) const fn is_success(&self) -> bool {
        self.counts.failed == 0 && (self.counts.unexpected == 0 || !self.ci)
    }

    fn words(&self) -> String {
        match (self.counts.unexpected, self.ci) {
            (0, _) => "0 unexpected skips".to_owned(),
            (skips, true) => format!("{skips} unexpected skips, above: with CI set, each of them has failed"),
            (skips, false) => format!("{skips} unexpected skips, above: with CI set, they are failures"),
        }
    }

    /// Machines read this: each test is counted once, and what is failed is not skipped.
    fn last_line(&self) -> String {
        let Counts { passed, failed, expected, unexpected } = self.counts;
        let (failed, skipped) =
            if self.ci { (failed + unexpected, expected) } else { (failed, expected + unexpected) };
        format!("{passed} passed, {failed} failed, {skipped} skipped")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rules(ci: bool) -> Rules {
        Rules { expected: Expected::nothing(), ci, complete: true }
    }

    fn skip(needs: &str) -> Skip {
        Skip { test: "x".into(), needs: needs.into(), way_out: "go there".into() }
    }

    fn summary(counts: Counts, ci: bool) -> Summary {
        Summary { counts, ci }
    }

    #[test]
    fn what_nobody_expects_fails_only_in_ci() {
        let mut progress = Progress::begin(Tier::Unit, rules(true));
        let report = Report { passed: 3, results: 1, skips: vec![skip("python3")], ..Report::default() };
        progress.program("program", &report, &Ok(()), "");
        progress.check("cargo fmt", Ok(None));
        progress.check("clippy", Ok(Some("there is none".into())));
        let Outcome { counts, notes, .. } = progress.end();
        assert_eq!(counts, Counts { passed: 4, failed: 0, expected: 0, unexpected: 2 });
        assert!(notes[0].contains("unit program x did not run: it needs python3. go there"), "{notes:?}");
        assert_eq!(notes.len(), 2);

        let (in_ci, by_hand) = (summary(counts, true), summary(counts, false));
        assert!(!in_ci.is_success() && by_hand.is_success());
        assert_eq!(in_ci.last_line(), "4 passed, 2 failed, 0 skipped");
        assert_eq!(by_hand.last_line(), "4 passed, 0 failed, 2 skipped");
        assert!(
            in_ci.words().starts_with("2 unexpected skips")
                && by_hand.words().starts_with("2 unexpected skips")
        );
    }

    #[test]
    fn what_is_expected_not_to_run_is_counted_and_fails_nowhere() {
        let counts = Counts { passed: 1, expected: 2, ..Counts::default() };
        for ci in [true, false] {
            let summary = summary(counts, ci);
            assert!(summary.is_success());
            assert_eq!(
                (summary.words().as_str(), summary.last_line().as_str()),
                ("0 unexpected skips", "1 passed, 0 failed, 2 skipped")
            );
        }
        let mut progress = Progress::begin(Tier::Vm6_1, rules(true));
        progress.left_out("program", &["x".to_owned(), "y".to_owned()], "it is the same elsewhere");
        assert_eq!(progress.end().counts, Counts { expected: 2, ..Counts::default() });
    }

    #[test]
    fn a_tier_that_cannot_run_fails_only_in_ci() {
        let outcome = cannot_run(Tier::Netns, "needs root");
        assert!(summarize(&[outcome], false).is_success());
        assert!(!summarize(&[cannot_run(Tier::Netns, "needs root")], true).is_success());
    }

    #[test]
    fn a_program_is_what_it_was_in_all_its_machines() {
        let passed = Report { passed: 2, results: 1, ..Report::default() };
        let mut gathered = Gathered::begin(Tier::Vm6_12, rules(true));
        for name in ["x", "x", "y", "z", "z", "mute", "mute"] {
            gathered.expect(name);
        }
        gathered.program("x", &passed, &Ok(()), "");
        gathered.program("y", &passed, &Ok(()), "");
        gathered.program("x", &passed, &Ok(()), "");
        gathered.program("z", &passed, &Ok(()), "");
        gathered.program("mute", &passed, &Ok(()), "");
        gathered.program("mute", &Report::default(), &Ok(()), "");
        let outcome = gathered.end();
        assert_eq!(
            outcome.counts,
            Counts { passed: 10, failed: 2, ..Counts::default() },
            "one machine never came to z, and in one there was no result"
        );
    }

    #[test]
    fn a_program_that_died_or_says_nothing_has_failed() {
        for ended in [Err("killed by signal 11".into()), Ok(())] {
            for ci in [true, false] {
                let mut progress = Progress::begin(Tier::Unit, rules(ci));
                progress.program("x", &Report::default(), &ended, "");
                assert_eq!(progress.end().counts.failed, 1);
            }
        }
        let mut progress = Progress::begin(Tier::Unit, rules(true));
        progress.program("x", &Report { results: 1, ..Report::default() }, &Ok(()), "");
        assert_eq!(progress.end().counts, Counts::default(), "it has no test, and says so");
    }
}
