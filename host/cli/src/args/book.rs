//! What the book tells people to type is understood.

use std::path::{Path, PathBuf};

use clap::Parser as _;
use netloom_test_support::{Page, words};

use super::Cli;

fn pages() -> Vec<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let folders = ["docs", "docs/plugins"].map(|folder| root.join(folder).read_dir().unwrap());
    let files = folders.into_iter().flatten().map(|entry| entry.unwrap().path());
    let pages = files.filter(|path| path.extension().is_some_and(|extension| extension == "md"));
    pages.chain([root.join("README.md")]).collect()
}

#[test]
fn every_command_in_the_book_is_one() {
    let mut seen = 0;
    for path in pages() {
        let text = std::fs::read_to_string(&path).unwrap();
        if !text.contains("```console") {
            continue;
        }
        for command in Page::read(&path).commands() {
            let words = words(command);
            if words.first().is_none_or(|program| program != "netloom") {
                continue;
            }
            seen += 1;
            if let Err(error) = Cli::try_parse_from(&words) {
                panic!("{}: `{command}`: {error}", path.display());
            }
        }
    }
    assert!(seen > 40, "{seen} commands");
}
