//! Running other programs, so that each failure names the command and shows the end of its output.

use std::{
    io::{BufRead, BufReader, Read},
    process::{Child, Command, ExitStatus, Stdio},
    thread,
};

use anyhow::{Context, Result, bail};

use crate::workspace;

/// How many lines of a failed command's output are shown.
const TAIL: usize = 30;

/// The command as one would type it.
pub(crate) fn line(command: &Command) -> String {
    let mut words = vec![quote(&command.get_program().to_string_lossy())];
    words.extend(command.get_args().map(|arg| quote(&arg.to_string_lossy())));
    words.join(" ")
}

/// A word quoted for a shell, where it needs that.
pub(crate) fn quote(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./=:,+@%".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        word.to_owned()
    } else {
        format!("'{}'", word.replace('\'', r"'\''"))
    }
}

/// The last lines of an output.
pub(crate) fn tail(output: &str) -> String {
    let lines: Vec<&str> = output.trim_end().lines().collect();
    let from = lines.len().saturating_sub(TAIL);
    lines.get(from..).unwrap_or_default().join("\n")
}

/// Runs a command whose output goes where ours goes.
pub(crate) fn run(command: &mut Command) -> Result<()> {
    let status = command.status().with_context(|| cannot_start(command))?;
    if !status.success() {
        bail!("`{}` failed ({})", line(command), describe(status));
    }
    Ok(())
}

/// Runs a command silently; a failure shows the end of what it wrote.
pub(crate) fn quiet(command: &mut Command) -> Result<()> {
    capture(command).map(drop)
}

/// Runs a command and returns what it wrote to its standard output.
pub(crate) fn capture(command: &mut Command) -> Result<String> {
    let output = command.stdin(Stdio::null()).output().with_context(|| cannot_start(command))?;
    let stdout = String::from_utf8_lossy(&output.stdout).into_owned();
    if !output.status.success() {
        let stderr = String::from_utf8_lossy(&output.stderr);
        bail!(
            "`{}` failed ({}):\n{}",
            line(command),
            describe(output.status),
            tail(&format!("{stdout}\n{stderr}"))
        );
    }
    Ok(stdout)
}

/// A finished command and everything it wrote, both streams in the order in which they came.
pub(crate) struct Finished {
    /// How it ended.
    pub(crate) status: ExitStatus,
    /// What it wrote.
    pub(crate) output: String,
}

/// Runs a command and collects its output; `each` sees every line as it comes.
pub(crate) fn watch(command: &mut Command, mut each: impl FnMut(&str)) -> Result<Finished> {
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .with_context(|| cannot_start(command))?;
    let (sender, lines) = std::sync::mpsc::channel();
    let mut readers = Vec::new();
    for stream in streams(&mut child) {
        let sender = sender.clone();
        readers.push(thread::spawn(move || {
            let mut reader = BufReader::new(stream);
            let mut line = Vec::new();
            while reader.read_until(b'\n', &mut line).is_ok_and(|read| read > 0) {
                let text = String::from_utf8_lossy(&line).trim_end_matches(['\n', '\r']).to_owned();
                if sender.send(text).is_err() {
                    return;
                }
                line.clear();
            }
        }));
    }
    drop(sender);
    let mut output = String::new();
    for line in lines {
        each(&line);
        output.push_str(&line);
        output.push('\n');
    }
    for reader in readers {
        // A reader that panicked has lost output only; the status says how the command ended.
        drop(reader.join());
    }
    let status = child.wait().with_context(|| format!("waiting for `{}`", line(command)))?;
    Ok(Finished { status, output })
}

fn streams(child: &mut Child) -> Vec<Box<dyn Read + Send>> {
    let mut streams: Vec<Box<dyn Read + Send>> = Vec::new();
    if let Some(stdout) = child.stdout.take() {
        streams.push(Box::new(stdout));
    }
    if let Some(stderr) = child.stderr.take() {
        streams.push(Box::new(stderr));
    }
    streams
}

/// How a process ended, in words.
pub(crate) fn describe(status: ExitStatus) -> String {
    use std::os::unix::process::ExitStatusExt;
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("exit code {code}"),
        (None, Some(signal)) => format!("killed by signal {signal}"),
        (None, None) => status.to_string(),
    }
}

fn cannot_start(command: &Command) -> String {
    format!("`{}` cannot be started", line(command))
}

/// Where a program is found: ours first, and looking also where only root's PATH looks.
pub(crate) fn find(program: &str) -> Option<std::path::PathBuf> {
    let path = workspace::path();
    let more = ["/usr/sbin", "/sbin", "/usr/bin", "/bin"].map(std::path::PathBuf::from);
    std::env::split_paths(&path).chain(more).map(|dir| dir.join(program)).find(|path| path.is_file())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_names_the_command_and_shows_what_it_wrote() {
        let error = quiet(Command::new("sh").args(["-c", "echo before; echo why >&2; exit 3"])).unwrap_err();
        let text = error.to_string();
        assert!(text.contains("sh -c 'echo before; echo why >&2; exit 3'"), "{text}");
        assert!(text.contains("exit code 3"), "{text}");
        assert!(text.ends_with("why"), "{text}");
    }

    #[test]
    fn a_missing_program_is_named() {
        let error = run(&mut Command::new("no-such-program-of-netloom")).unwrap_err();
        assert!(error.to_string().contains("`no-such-program-of-netloom` cannot be started"), "{error}");
    }

    #[test]
    fn watching_sees_both_streams() {
        let mut seen = Vec::new();
        let finished = watch(Command::new("sh").args(["-c", "echo out; echo err >&2"]), |line| {
            seen.push(line.to_owned());
        })
        .unwrap();
        seen.sort();
        assert_eq!(seen, ["err", "out"]);
        assert!(finished.status.success());
    }

    #[test]
    fn words_are_quoted_only_where_needed() {
        assert_eq!(quote("--kernel=6.12"), "--kernel=6.12");
        assert_eq!(quote("it's"), r"'it'\''s'");
        assert_eq!(quote(""), "''");
    }
}
