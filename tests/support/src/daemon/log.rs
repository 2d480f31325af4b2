//! What a daemon wrote, and which errors in it are no surprise.

use std::{path::PathBuf, sync::PoisonError};

use super::Daemon;

impl Daemon {
    /// What it wrote to its log, over all its starts.
    #[must_use]
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.log_file()).unwrap_or_default()
    }

    /// Says that the test provokes an error: lines of level ERROR with this text are expected in the log, one of
    /// them at least.
    pub fn expect_error(&self, text: &str) {
        self.expected.lock().unwrap_or_else(PoisonError::into_inner).push(text.to_owned());
    }

    pub(super) fn log_file(&self) -> PathBuf {
        self.scratch.path().join("netloomd.log")
    }

    /// What is wrong with the log: errors and panics that nobody expected, and errors that were expected and did not
    /// come.
    pub(super) fn surprises(&self) -> Vec<String> {
        let expected = self.expected.lock().unwrap_or_else(PoisonError::into_inner);
        let log = self.log();
        if self.options.faulty {
            // One was provoked by each fault, or none: what was done without it shows the same.
            let panics: Vec<&str> = log.lines().filter(|line| is_panic(line)).collect();
            return surprises(&panics.join("\n"), &expected);
        }
        surprises(&log, &expected)
    }
}

fn surprises(log: &str, expected: &[String]) -> Vec<String> {
    let errors: Vec<&str> = log.lines().filter(|line| is_error(line)).collect();
    let unexpected = errors.iter().filter(|line| !expected.iter().any(|text| line.contains(text.as_str())));
    let missing = expected.iter().filter(|text| !errors.iter().any(|line| line.contains(text.as_str())));
    let unexpected =
        unexpected.map(|line| format!("its log has an error that the test did not expect: {line}"));
    unexpected.chain(missing.map(|text| format!("its log has no error with {text:?}"))).collect()
}

/// A line of level ERROR in either format, and what Rust itself writes of a panic.
fn is_error(line: &str) -> bool {
    line.split_whitespace().nth(1) == Some("ERROR") || line.contains("\"level\":\"ERROR\"") || is_panic(line)
}

/// What Rust itself writes of a panic, and what netloomd does.
fn is_panic(line: &str) -> bool {
    line.starts_with("thread '") && line.contains("panicked at") || line.contains("a panic, which is a bug")
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOG: &str = "\
2026-01-01T00:00:00.000000Z  INFO netloomd: no ERROR here
2026-01-01T00:00:00.000000Z ERROR netloomd::reap: nothing was reaped reason=busy
{\"timestamp\":\"2026-01-01T00:00:00.000000Z\",\"level\":\"ERROR\",\"fields\":{\"message\":\"lost\"}}
thread 'netloomd' (7) panicked at host/daemon/src/main.rs:1:2:
";

    #[test]
    fn errors_in_either_format_and_panics_are_surprises() {
        let found = surprises(LOG, &[]);
        assert_eq!(found.len(), 3, "{found:?}");
        assert!(surprises("", &[]).is_empty());
    }

    #[test]
    fn what_is_expected_is_no_surprise_and_has_to_come() {
        let expected = ["nothing was reaped", "lost", "panicked", "never"].map(str::to_owned);
        assert_eq!(surprises(LOG, &expected), ["its log has no error with \"never\""]);
    }
}
