use std::process::Command;

/// What a program wrote and how it ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Output {
    /// Its standard output.
    pub stdout: String,
    /// Its standard error.
    pub stderr: String,
    /// Its exit code; none if a signal ended it.
    pub code: Option<i32>,
}

impl Output {
    /// Whether it exited with 0.
    #[must_use]
    pub fn ok(&self) -> bool {
        self.code == Some(0)
    }

    /// Its standard output, if it exited with 0.
    ///
    /// # Panics
    /// If it did not; shows what it wrote.
    #[must_use]
    pub fn expect_ok(self) -> String {
        assert!(self.ok(), "it exited with {:?}:\n{}{}", self.code, self.stdout, self.stderr);
        self.stdout
    }
}

/// Runs a program to its end, whatever that is.
///
/// # Panics
/// If it cannot be started.
#[must_use]
pub fn command(words: &[&str]) -> Output {
    let (program, args) = words.split_first().expect("a command has a program");
    output(Command::new(program).args(args))
}

pub(crate) fn output(command: &mut Command) -> Output {
    let output = command.output().unwrap_or_else(|error| panic!("{command:?} cannot be started: {error}"));
    Output {
        stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        code: output.status.code(),
    }
}

/// Runs a program that must succeed.
pub(crate) fn must(words: &[&str]) -> String {
    let output = command(words);
    assert!(output.ok(), "`{}` failed ({:?}): {}", words.join(" "), output.code, output.stderr.trim());
    output.stdout
}
