//! Every command that `netloom` has is run by a test, and every command that a test covers is there.

use std::collections::BTreeSet;

use netloom_test_support::{binary, command};

use crate::{attachments, authors, devices, endpoints, node, plugins, reaping, records, services};

/// What the tests of this program cover. Each list is held against what its test ran, when that ends.
fn covered() -> Vec<&'static str> {
    let lists = [
        attachments::COVERS,
        authors::COVERS,
        devices::COVERS,
        endpoints::COVERS,
        node::COVERS,
        plugins::COVERS,
        reaping::COVERS,
        records::COVERS,
        services::COVERS,
    ];
    lists.into_iter().flatten().map(|covered| covered.command).collect()
}

/// The commands below this one that do something, as their help shows them.
fn commands(words: &[String], found: &mut BTreeSet<String>) {
    let netloom = binary("netloom");
    let line: Vec<&str> = [netloom.to_str().unwrap()]
        .into_iter()
        .chain(words.iter().map(String::as_str))
        .chain(["--help"])
        .collect();
    let help = command(&line).expect_ok();
    let below = below(&help);
    let alone = help.lines().any(|line| line.starts_with("Usage: ") && !line.contains("COMMAND"));
    if below.is_empty() || alone {
        found.insert(words.join(" "));
    }
    for name in below {
        commands(&[words, &[name]].concat(), found);
    }
}

/// The names in a help text's list of commands. Their descriptions are indented further.
fn below(help: &str) -> Vec<String> {
    let list =
        help.lines().skip_while(|line| *line != "Commands:").skip(1).take_while(|line| !line.is_empty());
    let entries = list.filter_map(|line| line.strip_prefix("  ").filter(|entry| !entry.starts_with(' ')));
    let names = entries.filter_map(|entry| entry.split_whitespace().next());
    names.filter(|name| *name != "help").map(str::to_owned).collect()
}

#[test]
fn every_command_is_covered_and_none_that_there_is_not() {
    let mut there = BTreeSet::new();
    commands(&[], &mut there);
    assert!(there.contains("endpoint add") && there.contains("plugin bundle create"), "{there:?}");
    let covered = covered();
    let once: BTreeSet<String> = covered.iter().map(|&command| command.to_owned()).collect();
    assert_eq!(once.len(), covered.len(), "a command is covered by two tests: {covered:?}");
    let missing: Vec<_> = there.difference(&once).collect();
    assert!(missing.is_empty(), "no test runs these commands against a real netloomd: {missing:?}");
    let gone: Vec<_> = once.difference(&there).collect();
    assert!(gone.is_empty(), "tests claim to cover commands that netloom does not have: {gone:?}");
}
