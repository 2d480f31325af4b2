use std::{
    collections::BTreeSet,
    iter::Sum,
    ops::{Add, AddAssign},
};

/// How many tests came to which end.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    /// Did what they were to do.
    pub(crate) passed: usize,
    /// Did not.
    pub(crate) failed: usize,
    /// Did not run, as is expected of them here.
    pub(crate) expected: usize,
    /// Did not run, which nobody expects.
    pub(crate) unexpected: usize,
}

impl Counts {
    /// Those that did not run.
    pub(crate) const fn not_run(self) -> usize {
        self.expected + self.unexpected
    }
}

impl AddAssign for Counts {
    fn add_assign(&mut self, other: Self) {
        *self = *self + other;
    }
}

impl Add for Counts {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self {
            passed: self.passed + other.passed,
            failed: self.failed + other.failed,
            expected: self.expected + other.expected,
            unexpected: self.unexpected + other.unexpected,
        }
    }
}

impl Sum for Counts {
    fn sum<I: Iterator<Item = Self>>(counts: I) -> Self {
        counts.fold(Self::default(), |sum, counts| sum + counts)
    }
}

/// A test that did not run.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Skip {
    /// Which.
    pub(crate) test: String,
    /// What it cannot do without: a feature, `no` and a feature, a program, a few words.
    pub(crate) needs: String,
    /// How to come by that.
    pub(crate) way_out: String,
}

/// What Rust's test harness wrote.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Report {
    /// How many passed, and did run.
    pub(crate) passed: usize,
    /// How many failed.
    pub(crate) failed: usize,
    /// Those that did not run.
    pub(crate) skips: Vec<Skip>,
    /// The names of those that passed, as far as they are known.
    pub(crate) ran: BTreeSet<String>,
    /// How many results there were: none of a program that died.
    pub(crate) results: usize,
}

impl AddAssign for Report {
    fn add_assign(&mut self, other: Self) {
        self.passed += other.passed;
        self.failed += other.failed;
        self.skips.extend(other.skips);
        self.ran.extend(other.ran);
        self.results += other.results;
    }
}

/// Reads the harness's output, with that of passed tests (`--show-output`): a test that does not run says so as
/// `tests/support/src/require.rs` does, and passes.
pub(crate) fn read(output: &str) -> Report {
    let mut report = Report::default();
    let mut ignored = 0;
    // Whose output it is, if that test passed, and whether it is one's output at all.
    let (mut block, mut of_failures) = (None, false);
    for line in output.lines() {
        if let Some(name) = line.strip_prefix("---- ").and_then(|rest| rest.strip_suffix(" stdout ----")) {
            block = Some(name);
        } else if line == "successes:" || line == "failures:" {
            (block, of_failures) = (None, line == "failures:");
        } else if let Some(test) = block {
            let said = line.strip_prefix("skipped: ").filter(|_| !of_failures);
            let skip = said.map(|said| skip(said).unwrap_or_else(|| says_it_otherwise(test, said)));
            // Once for each test, whatever it says.
            let told = report.skips.iter().any(|skip| skip.test == test);
            report.skips.extend(skip.filter(|skip| skip.test == test && !told));
        } else if let Some(result) = line.strip_prefix("test result: ") {
            report.results += 1;
            report.passed += number(result, "passed");
            report.failed += number(result, "failed");
            ignored += number(result, "ignored");
        } else if let Some((test, end)) = ended(line) {
            match end {
                "ok" => drop(report.ran.insert(test.to_owned())),
                end if end.starts_with("ignored") => report.skips.push(is_ignored(test)),
                _ => {}
            }
        }
    }
    let named = report.skips.iter().filter(|skip| skip.needs == IGNORED).count();
    report.skips.extend((named..ignored).map(|_| is_ignored("a test")));
    for skip in report.skips.iter().filter(|skip| skip.needs != IGNORED) {
        report.passed = report.passed.saturating_sub(1);
        report.ran.remove(&skip.test);
    }
    report
}

/// `chains::netkit: needs netkit-links; tests/kernels.toml says which kernels have it`
fn skip(line: &str) -> Option<Skip> {
    let (test, reason) = line.split_once(": needs ")?;
    let (needs, way_out) = reason.split_once("; ")?;
    Some(Skip { test: test.to_owned(), needs: needs.to_owned(), way_out: way_out.to_owned() })
}

/// A test that runs in part, or says in words of its own that it does not.
fn says_it_otherwise(test: &str, said: &str) -> Skip {
    let way_out = "let it say that by `require` of netloom-test-support".to_owned();
    Skip { test: test.to_owned(), needs: format!("something, of which it says {said:?}"), way_out }
}

const IGNORED: &str = "not to be ignored";

fn is_ignored(test: &str) -> Skip {
    let way_out = "let it say what it needs, by `require` of netloom-test-support".to_owned();
    Skip { test: test.to_owned(), needs: IGNORED.to_owned(), way_out }
}

/// The test whose end this line tells, and that end.
pub(crate) fn ended(line: &str) -> Option<(&str, &str)> {
    let (test, end) = line.strip_prefix("test ")?.split_once(" ... ")?;
    let end = end.trim_end();
    (matches!(end, "ok" | "FAILED") || end.starts_with("ignored")).then_some((test, end))
}

/// Of `ok. 3 passed; 0 failed; 1 ignored; 0 measured; 2 filtered out; finished in 0.01s`.
fn number(result: &str, of: &str) -> usize {
    let parts = result.split([';', '.']).map(str::trim);
    parts.filter_map(|part| part.strip_suffix(of)?.trim().parse().ok()).next().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    const OUTPUT: &str = "
running 6 tests
test chains::netkit ... ok
test chains::tcx ... ok
test reads ... ok
test breaks ... FAILED
test sleeps ... ignored, it is late
test mumbles ... ok

successes:

---- chains::netkit stdout ----
skipped: chains::netkit: needs netkit-links; tests/kernels.toml says which kernels have it

---- reads stdout ----
skipped: another: needs a unicorn; it is of a test of this very line
test result: ok. 900 passed; 0 failed; 0 ignored; of a program that the test ran

---- mumbles stdout ----
skipped: no luck here
skipped: nor there

successes:
    chains::netkit
    chains::tcx
    mumbles
    reads

failures:

---- breaks stdout ----
skipped: breaks: needs luck; but then it went on
thread panicked

failures:
    breaks

test result: FAILED. 4 passed; 1 failed; 2 ignored; 0 measured; 0 filtered out; finished in 0.01s
";

    #[test]
    fn a_skipped_test_is_one_that_passed_and_says_so_of_itself() {
        let report = read(OUTPUT);
        assert_eq!((report.passed, report.failed, report.results), (2, 1, 1));
        let skips: Vec<_> =
            report.skips.iter().map(|skip| (skip.test.as_str(), skip.needs.as_str())).collect();
        let otherwise = "something, of which it says \"no luck here\"";
        assert_eq!(
            skips,
            [
                ("sleeps", IGNORED),
                ("chains::netkit", "netkit-links"),
                ("mumbles", otherwise),
                ("a test", IGNORED)
            ]
        );
        assert_eq!(report.skips[1].way_out, "tests/kernels.toml says which kernels have it");
        assert_eq!(report.ran.iter().collect::<Vec<_>>(), ["chains::tcx", "reads"]);
    }

    #[test]
    fn the_lines_of_ended_tests_name_them() {
        let ended: Vec<_> = OUTPUT.lines().filter_map(ended).map(|(test, _)| test).collect();
        assert_eq!(ended, ["chains::netkit", "chains::tcx", "reads", "breaks", "sleeps", "mumbles"]);
    }

    #[test]
    fn results_add_up_and_a_dead_program_has_none() {
        let mut twice = read(OUTPUT);
        twice += read("test more ... ok\ntest result: ok. 5 passed; 0 failed; 0 ignored;");
        assert_eq!((twice.results, twice.passed, twice.skips.len(), twice.ran.len()), (2, 7, 4, 3));
        assert_eq!(read("running 1 test\ntest reads ... ok\n").results, 0);
    }
}
