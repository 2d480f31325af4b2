use std::{
    collections::{BTreeMap, BTreeSet},
    path::PathBuf,
    process::{Command, Stdio},
};

use anyhow::{Context, Result, bail};
use serde_json::Value;

use super::{
    modules::Module,
    mutant::Mutant,
    scratch::Scratch,
    switch::{Switched, switch},
};
use crate::{process::line, progress::step, workspace};

/// The modules' tests, compiled with all faults in.
#[derive(Debug, Default)]
pub(super) struct Built {
    /// The programs of tests, by their targets' names.
    pub(super) tests: BTreeMap<String, PathBuf>,
    /// The programs that they run.
    pub(super) programs: BTreeMap<String, PathBuf>,
    /// The faults that do not compile.
    pub(super) unbuildable: BTreeSet<u32>,
}

/// How often faults that do not compile are taken out: each time the compiler gets further, and finds more.
const ROUNDS: usize = 12;

/// Compiles the modules' tests with these faults, and without those that do not compile.
///
/// # Errors
/// If it does not compile for another reason.
pub(super) fn build(modules: &[&Module], scratch: &Scratch, mutants: &[(u32, Mutant)]) -> Result<Built> {
    let known = scratch.unbuildable();
    let keys: BTreeMap<u32, String> =
        mutants.iter().map(|(number, mutant)| Ok((*number, mutant.key()?))).collect::<Result<_>>()?;
    let unbuildable = keys.iter().filter(|(_, key)| known.contains(*key)).map(|(number, _)| *number);
    let mut built = Built { unbuildable: unbuildable.collect(), ..Built::default() };
    for _ in 0..ROUNDS {
        let files = put_in(scratch, mutants, &built.unbuildable)?;
        built.unbuildable.extend(files.values().flat_map(|file| &file.left_out));
        let mut blamed = BTreeSet::new();
        let guards = modules.iter().flat_map(|module| module.guards);
        let commands: BTreeSet<_> = guards.map(|guard| guard.build).collect();
        for args in commands {
            blamed.extend(compile(args, scratch, &files, &mut built)?);
            if !blamed.is_empty() {
                break;
            }
        }
        if blamed.is_empty() {
            return Ok(built);
        }
        step(&format!("{} faults do not compile; going on without them", blamed.len()));
        scratch.note_unbuildable(blamed.iter().filter_map(|number| keys.get(number)))?;
        built.unbuildable.extend(blamed);
    }
    bail!("after {ROUNDS} rounds there are still faults that do not compile")
}

/// Writes the files with their faults.
fn put_in(
    scratch: &Scratch,
    mutants: &[(u32, Mutant)],
    without: &BTreeSet<u32>,
) -> Result<BTreeMap<String, Switched>> {
    let mut files = BTreeMap::<&str, Vec<(u32, &Mutant)>>::new();
    for (number, mutant) in mutants {
        let faults = files.entry(&mutant.file).or_default();
        if !without.contains(number) {
            faults.push((*number, mutant));
        }
    }
    let mut written = BTreeMap::new();
    for (file, faults) in files {
        let path = workspace::root().join(file);
        let source = std::fs::read_to_string(&path).with_context(|| format!("reading {}", path.display()))?;
        let switched = switch(&source, &faults);
        scratch.write(file, switched.text.as_bytes())?;
        written.insert(file.to_owned(), switched);
    }
    Ok(written)
}

/// Runs cargo: the faults that it did not compile.
fn compile(
    args: &[&str],
    scratch: &Scratch,
    files: &BTreeMap<String, Switched>,
    built: &mut Built,
) -> Result<BTreeSet<u32>> {
    let mut command = cargo(scratch, args);
    let output = command.output().with_context(|| format!("`{}` cannot be started", line(&command)))?;
    let text = String::from_utf8_lossy(&output.stdout);
    let (mut blamed, mut said) = (BTreeSet::new(), String::new());
    for message in text.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok()) {
        note_program(&message, built);
        if message.pointer("/message/level").is_some_and(|level| level == "error") {
            blamed.extend(to_blame(&message, files));
            said += message.pointer("/message/rendered").and_then(Value::as_str).unwrap_or_default();
        }
    }
    if !output.status.success() && blamed.is_empty() {
        bail!("`{}` failed:\n{said}{}", line(&command), String::from_utf8_lossy(&output.stderr));
    }
    Ok(blamed)
}

/// Cargo on the copy. With what it makes a program of the workspace has a name of its own, by the wrapper and the
/// options, beside the user's, and dependencies are the user's.
fn cargo(scratch: &Scratch, args: &[&str]) -> Command {
    let mut command = workspace::cargo();
    command.current_dir(scratch.root()).args(args).args(["--quiet", "--message-format=json"]);
    command.env("CARGO_BUILD_BUILD_DIR", workspace::target());
    command.env("CARGO_TARGET_DIR", workspace::target().join("mutants/built"));
    command.env("RUSTC_WORKSPACE_WRAPPER", "nice").env("CARGO_PROFILE_DEV_DEBUG", "false");
    command.stdin(Stdio::null());
    command
}

fn note_program(message: &Value, built: &mut Built) {
    let name = message.pointer("/target/name").and_then(Value::as_str);
    let executable = message.get("executable").and_then(Value::as_str);
    let (Some(name), Some(executable)) = (name, executable) else { return };
    let is_test = message.pointer("/profile/test").and_then(Value::as_bool).unwrap_or(false);
    let list = if is_test { &mut built.tests } else { &mut built.programs };
    list.insert(name.to_owned(), executable.into());
}

/// The faults that an error is about.
fn to_blame(message: &Value, files: &BTreeMap<String, Switched>) -> Vec<u32> {
    let spans = message.pointer("/message/spans").and_then(Value::as_array);
    let mut all = spans.into_iter().flatten();
    let primary = all.find(|span| span.get("is_primary").is_some_and(|primary| primary == true));
    let place = primary.and_then(|span| {
        let line = span.get("line_start")?.as_u64()?;
        Some((span.get("file_name")?.as_str()?, usize::try_from(line).ok()?))
    });
    let blamed = place.and_then(|(file, line)| Some(files.get(file)?.to_blame(line)));
    blamed.unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn programs_of_tests_and_those_that_they_run_are_told_apart() {
        let mut built = Built::default();
        for test in [true, false] {
            let message = json!({
                "target": {"name": "netloomd"}, "profile": {"test": test}, "executable": format!("/{test}"),
            });
            note_program(&message, &mut built);
        }
        note_program(&json!({"target": {"name": "library"}, "executable": null}), &mut built);
        assert_eq!(built.tests, [("netloomd".to_owned(), "/true".into())].into());
        assert_eq!(built.programs, [("netloomd".to_owned(), "/false".into())].into());
    }

    #[test]
    fn nobody_is_blamed_for_an_error_elsewhere() {
        let message = json!({"message": {"spans": [
            {"is_primary": true, "file_name": "other.rs", "line_start": 3},
        ]}});
        assert!(to_blame(&message, &BTreeMap::new()).is_empty());
    }
}
