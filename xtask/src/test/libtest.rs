use std::{collections::BTreeSet, iter::Sum, ops::AddAssign};

/// How many tests came to which end.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    /// Did what they were to do.
    pub(crate) passed: usize,
    /// Did not.
    pub(crate) failed: usize,
    /// Could not be tried here, or are ignored.
    pub(crate) skipped: usize,
}

impl AddAssign for Counts {
    fn add_assign(&mut self, other: Self) {
        self.passed += other.passed;
        self.failed += other.failed;
        self.skipped += other.skipped;
    }
}

impl Sum for Counts {
    fn sum<I: Iterator<Item = Self>>(counts: I) -> Self {
        counts.fold(Self::default(), |mut sum, counts| {
            sum += counts;
            sum
        })
    }
}

/// What Rust's test harness wrote.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Report {
    /// The counts over all its results.
    pub(crate) counts: Counts,
    /// Each test that said it could not be tried, and why.
    pub(crate) skips: Vec<String>,
    /// How many results there were: none of a program that died.
    pub(crate) results: usize,
}

/// Reads the harness's output, with that of passed tests (`--show-output`): a test that cannot be tried writes a
/// line that begins with `skipped:`, and passes.
pub(crate) fn read(output: &str) -> Report {
    let mut report = Report::default();
    let mut skipped = BTreeSet::new();
    let mut block = None;
    for line in output.lines() {
        if let Some(name) = line.strip_prefix("---- ").and_then(|rest| rest.strip_suffix(" stdout ----")) {
            block = Some(name);
        } else if let Some(result) = line.strip_prefix("test result: ") {
            block = None;
            report.results += 1;
            report.counts += result_counts(result);
        } else if let Some(why) = line.strip_prefix("skipped: ") {
            // Written past the harness, the line names its test itself.
            let test = block.unwrap_or_else(|| why.split(": ").next().unwrap_or(why));
            if skipped.insert(test.to_owned()) {
                report.skips.push(if why.starts_with(test) {
                    why.to_owned()
                } else {
                    format!("{test}: {why}")
                });
            }
        }
    }
    let moved = report.skips.len().min(report.counts.passed);
    report.counts.passed -= moved;
    report.counts.skipped += moved;
    report
}

/// The test whose end this line tells.
pub(crate) fn ended(line: &str) -> Option<&str> {
    let (test, end) = line.strip_prefix("test ")?.split_once(" ... ")?;
    matches!(end.trim_end(), "ok" | "FAILED").then_some(test)
}

/// `ok. 3 passed; 0 failed; 1 ignored; 0 measured; 2 filtered out; finished in 0.01s`
fn result_counts(result: &str) -> Counts {
    let number = |of: &str| {
        let parts = result.split([';', '.']).map(str::trim);
        parts.filter_map(|part| part.strip_suffix(of)?.trim().parse().ok()).next().unwrap_or(0)
    };
    Counts { passed: number("passed"), failed: number("failed"), skipped: number("ignored") }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OUTPUT: &str = "
running 4 tests
skipped: chains::netkit: needs netkit
test chains::netkit ... ok
test chains::tcx ... ok
test reads ... ok
test breaks ... FAILED

successes:

---- reads stdout ----
skipped: no unshare(1) here
skipped: a second reason

failures:

---- breaks stdout ----
thread panicked

test result: FAILED. 3 passed; 1 failed; 2 ignored; 0 measured; 0 filtered out; finished in 0.01s
";

    #[test]
    fn each_skipped_test_counts_once() {
        let report = read(OUTPUT);
        assert_eq!(report.counts, Counts { passed: 1, failed: 1, skipped: 4 });
        assert_eq!(report.skips, ["chains::netkit: needs netkit", "reads: no unshare(1) here"]);
    }

    #[test]
    fn the_lines_of_ended_tests_name_them() {
        let ended: Vec<_> = OUTPUT.lines().filter_map(ended).collect();
        assert_eq!(ended, ["chains::netkit", "chains::tcx", "reads", "breaks"]);
    }

    #[test]
    fn results_add_up_and_a_dead_program_has_none() {
        let twice = read(&format!("{OUTPUT}{}", "test result: ok. 5 passed; 0 failed; 0 ignored;"));
        assert_eq!((twice.results, twice.counts.passed), (2, 6));
        assert_eq!(read("running 1 test\n").results, 0);
    }
}
