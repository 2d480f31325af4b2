//! README.md and the book: what they tell people to type works, on a node that has what it presupposes.

mod distributing;
mod lab;
mod pages;
mod plugins;
mod readme;

use std::{collections::BTreeSet, path::PathBuf};

use netloom_test_support::Page;

/// Pages, and what runs their commands.
const PAGES: [(&str, How); 17] = [
    (
        "CONTRIBUTING.md",
        How::Nothing("`cargo xtask`: its commands build and test this workspace, and run this test"),
    ),
    ("README.md", How::Run),
    (
        "docs/benchmarks.md",
        How::Nothing("`cargo xtask bench`: a measurement takes minutes, and machines of its own"),
    ),
    ("docs/chains.md", How::Run),
    ("docs/datapath.md", How::Nothing("`cargo xtask test`: it runs this test")),
    ("docs/devices.md", How::Run),
    ("docs/mending.md", How::Run),
    ("docs/monitoring.md", How::Run),
    ("docs/operating.md", How::Run),
    ("docs/plugins/debugging.md", How::Run),
    ("docs/plugins/distributing.md", How::Run),
    ("docs/plugins/first.md", How::Run),
    ("docs/plugins/grants.md", How::Run),
    ("docs/plugins/operating.md", How::Run),
    ("docs/services.md", How::Run),
    ("docs/sockets.md", How::Run),
    (
        "examples/custom-policy/README.md",
        How::Nothing("`cargo`: the workspace's tests build and test this example"),
    ),
];

/// Commands of the other pages that are not run, and why.
const NOT_RUN: [(&str, &str, &str); 7] = [
    ("README.md", "cargo xtask demo", "a run of its own in continuous integration"),
    ("README.md", "cargo xtask test", "it runs this test"),
    ("README.md", "cargo xtask build-plugins", "the lab has the one plugin that is loaded"),
    ("README.md", "netloomd &", "the lab's daemon runs"),
    ("docs/plugins/first.md", "cargo build --release --bins", "the programs of this test run are taken"),
    ("docs/plugins/first.md", "export PATH=", "the programs of this test run are taken"),
    (
        "docs/plugins/distributing.md",
        "netloom plugin verify ghcr.io/acme/policy:1.2 --key release.toml",
        "an artifact that an issuer vouches for needs the issuer, an authority and a log; sdk/tool has the vectors",
    ),
];

/// The address of the page's service. Sockets of all namespaces are translated, by the daemons of all tests that run at
/// this moment: whoever connects to a service takes another address.
const VIP: &str = "10.96.0.10";

/// What becomes of a page's commands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum How {
    /// A test of this folder, or of those of the first plugin `policy/first_page.rs`, runs them, but for those of
    /// [`NOT_RUN`].
    Run,
    /// None is one of Netloom's, and why it is not run here.
    Nothing(&'static str),
}

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// A page whose commands are run.
fn page(path: &str) -> Page {
    assert!(PAGES.contains(&(path, How::Run)), "{path} is not in the list of pages");
    Page::read(&root().join(path))
}

/// Why a command of a page is not run, if it is not.
fn not_run(path: &str, command: &str) -> Option<&'static str> {
    let reason = NOT_RUN.iter().find(|(page, start, _)| *page == path && command.starts_with(start));
    reason.map(|(_, _, reason)| *reason)
}

/// The pages of the repository that have something to type.
fn pages_with_commands() -> BTreeSet<String> {
    let mut folders = vec![PathBuf::new()];
    let mut pages = BTreeSet::new();
    while let Some(folder) = folders.pop() {
        for entry in root().join(&folder).read_dir().unwrap().map(Result::unwrap) {
            let (name, path) = (entry.file_name(), folder.join(entry.file_name()));
            let hidden = name.to_str().is_some_and(|name| name.starts_with('.') || name == "target");
            if entry.file_type().unwrap().is_dir() && !hidden {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "md")
                && std::fs::read_to_string(root().join(&path)).unwrap().contains("```console")
            {
                pages.insert(path.to_str().unwrap().to_owned());
            }
        }
    }
    pages
}

#[test]
fn every_page_with_commands_is_run_or_says_why_not() {
    let listed: BTreeSet<String> = PAGES.iter().map(|(path, _)| (*path).to_owned()).collect();
    assert_eq!(pages_with_commands(), listed);
    for (path, how) in PAGES {
        if matches!(how, How::Nothing(_)) {
            let page = Page::read(&root().join(path));
            let ours = page.commands().find(|command| command.starts_with("netloom"));
            assert_eq!(ours, None, "{path} has a command of Netloom's, which has to be run");
        }
    }
    for (path, start, _) in NOT_RUN {
        assert!(
            page(path).commands().any(|command| command.starts_with(start)),
            "{path} has no `{start}` any more"
        );
    }
}
