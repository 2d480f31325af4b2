use std::{fmt, fs, process::Command};

use anyhow::{Context, Result};
use serde::Deserialize;

use super::modules::Module;
use crate::{process::capture, setup, workspace};

/// A fault that can be put into a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Mutant {
    /// The file, from the workspace's root.
    pub(super) file: String,
    /// Where it is: `line:column`.
    pub(super) at: String,
    /// The function that has it.
    pub(super) function: String,
    /// What is changed, in words.
    pub(super) mutation: String,
    /// What of the file is replaced.
    pub(super) place: Span,
    /// By what.
    pub(super) replacement: String,
    /// The whole function, and what stands between its braces.
    pub(super) around: Span,
    pub(super) body: Span,
}

impl fmt::Display for Mutant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { file, at, function, mutation, .. } = self;
        write!(f, "{file}:{at}: {mutation} in {function}")
    }
}

impl Mutant {
    /// What it is known by as long as its function stays as it is.
    ///
    /// # Errors
    /// If the file cannot be read.
    pub(super) fn key(&self) -> Result<String> {
        let path = workspace::root().join(&self.file);
        let source = fs::read_to_string(&path).with_context(|| format!("reading {}", path.display()))?;
        let (first, last) = (self.around.start.line, self.around.end.line);
        let function: Vec<_> = source.lines().skip(first - 1).take(last - first + 1).collect();
        let (line, column) = (self.place.start.line - first, self.place.start.column);
        let text = format!("{line}:{column}: {} {}", self.mutation, function.join("\n"));
        Ok(format!("{}: {:016x}", self.file, hash(0, &text)))
    }
}

/// A part of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
pub(super) struct Span {
    pub(super) start: Position,
    pub(super) end: Position,
}

/// Line and column, both from 1; columns are characters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
pub(super) struct Position {
    pub(super) line: usize,
    pub(super) column: usize,
}

/// What cargo-mutants writes of a mutant.
#[derive(Debug, Deserialize)]
struct Listed {
    /// `FILE:LINE:COLUMN: WHAT in FUNCTION`, or for a whole function `FILE:LINE:COLUMN: replace FUNCTION with WHAT`.
    name: String,
    file: String,
    genre: String,
    replacement: String,
    span: Span,
    /// None for what is in a constant.
    function: Option<Function>,
}

#[derive(Debug, Deserialize)]
struct Function {
    function_name: String,
    span: Span,
}

/// Every mutant of a module. A fault in a constant is none: it cannot be switched on and off as the program runs.
///
/// # Errors
/// If cargo-mutants is not to be had, or its list is not understood.
pub(super) fn list(module: &Module) -> Result<Vec<Mutant>> {
    let mut command = Command::new(setup::cargo_mutants()?);
    command.current_dir(workspace::root()).args(["mutants", "--no-config", "--list", "--json"]);
    for file in module.files {
        command.args(["--file", file]);
    }
    read(&capture(&mut command)?)
}

fn read(json: &str) -> Result<Vec<Mutant>> {
    let listed: Vec<Listed> = serde_json::from_str(json).context("reading the list of cargo-mutants")?;
    // A function's body is what a mutant replaces that is of the function as a whole.
    let body = |file: &str, function: &Function| {
        let whole = |other: &&Listed| {
            other.genre == "FnValue"
                && other.file == file
                && other.function.as_ref().is_some_and(|f| f.span == function.span)
        };
        listed.iter().find(whole).map(|other| other.span)
    };
    let mutant = |one: &Listed| {
        let function = one.function.as_ref()?;
        let start = one.span.start;
        let at = format!("{}:{}", start.line, start.column);
        let name = one.name.strip_prefix(&format!("{}:{at}: ", one.file))?;
        let mutation = name.strip_suffix(&format!(" in {}", function.function_name)).unwrap_or(name);
        Some(Mutant {
            file: one.file.clone(),
            at,
            function: function.function_name.clone(),
            mutation: mutation.to_owned(),
            place: one.span,
            replacement: one.replacement.clone(),
            around: function.span,
            body: body(&one.file, function)?,
        })
    };
    Ok(listed.iter().filter_map(mutant).collect())
}

/// Of all mutants as many as wanted, the same for the same seed; a mutant that is added or goes changes little.
pub(super) fn sample(mut mutants: Vec<Mutant>, count: usize, seed: u64) -> Vec<Mutant> {
    mutants.sort_by_cached_key(|mutant| hash(seed, &mutant.to_string()));
    mutants.truncate(count);
    mutants
}

/// FNV-1a: the same everywhere and always.
fn hash(seed: u64, text: &str) -> u64 {
    let bytes = seed.to_le_bytes().into_iter().chain(text.bytes());
    bytes.fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3))
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIST: &str = r#"[
        {"name": "a.rs:2:5: replace f -> bool with true", "file": "a.rs", "genre": "FnValue", "replacement": "true",
         "span": {"start": {"line": 2, "column": 5}, "end": {"line": 2, "column": 11}},
         "function": {"function_name": "f", "span": {"start": {"line": 1, "column": 1}, "end": {"line": 3, "column": 2}}}},
        {"name": "a.rs:2:7: replace == with != in f", "file": "a.rs", "genre": "BinaryOperator", "replacement": "!=",
         "span": {"start": {"line": 2, "column": 7}, "end": {"line": 2, "column": 9}},
         "function": {"function_name": "f", "span": {"start": {"line": 1, "column": 1}, "end": {"line": 3, "column": 2}}}},
        {"name": "a.rs:9:7: delete -", "file": "a.rs", "genre": "UnaryOperator", "replacement": "",
         "span": {"start": {"line": 9, "column": 7}, "end": {"line": 9, "column": 8}}, "function": null}
    ]"#;

    #[test]
    fn what_cargo_mutants_lists_is_read_but_for_constants() {
        let mutants = read(LIST).unwrap();
        let told: Vec<_> = mutants.iter().map(|m| (m.at.as_str(), m.mutation.as_str())).collect();
        assert_eq!(told, [("2:5", "replace f -> bool with true"), ("2:7", "replace == with !=")]);
        assert_eq!(mutants[1].body, mutants[0].place);
    }

    #[test]
    fn a_sample_is_the_same_for_the_same_seed() {
        let one = read(LIST).unwrap().remove(1);
        let many: Vec<_> = (0..50).map(|line| Mutant { at: format!("{line}:1"), ..one.clone() }).collect();
        let picked = |seed| sample(many.clone(), 10, seed);
        assert_eq!(picked(1).len(), 10);
        assert_eq!(picked(1), picked(1));
        assert_ne!(picked(1), picked(2));
    }
}
