//! `docs/plugins/first.md` from its first command to a plugin that decides on a node, with the operator's own `netloom`;
//! then `docs/plugins/debugging.md` with that plugin.

use std::path::Path;

use netloom_api::types::AttachAnswer;
use netloom_netns_tests::ObjectFile;
use netloom_test_support::{Page, typed};
use serde_json::json;

use crate::patient_node;

#[test]
fn the_first_page_ends_with_a_plugin_that_decides() {
    let node = patient_node();
    let web = node.endpoint("web");
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let page = Page::read(&here.join("../../docs/plugins/first.md"));
    let folder = tempfile::tempdir().unwrap();
    let programs = node.daemon.netloom_command(&[]).get_program().to_owned();
    let programs = Path::new(&programs).parent().unwrap();
    let sdk = here.join("../../sdk/rust");
    let env = [
        ("NETLOOM_SDK", sdk.to_str().unwrap()),
        ("NETLOOM_INSTANCE", node.daemon.instance().as_str()),
        ("CARGO_TARGET_DIR", env!("CARGO_TARGET_TMPDIR")),
        ("GIT_AUTHOR_NAME", "A new user"),
        ("GIT_AUTHOR_EMAIL", "user@example.org"),
        ("GIT_COMMITTER_NAME", "A new user"),
        ("GIT_COMMITTER_EMAIL", "user@example.org"),
    ];
    let mut commands: Vec<String> =
        page.sections().iter().skip(1).flat_map(|section| page.section(section)).collect();
    let explain = commands.pop().unwrap();
    let said = typed(&commands, folder.path(), programs, &env).expect_ok();
    assert!(said.contains("first-0.1.0.wasm: OK") && said.contains("active"), "{said}");

    let object = ObjectFile::of(netloom_test_programs::PASS);
    let labels = json!({ "role": "observer" });
    let request =
        json!({ "device": web.device(), "object": object.path(), "owner": "acme/flows", "labels": labels });
    let answer: AttachAnswer = node.attach(request).unwrap();
    assert_eq!(answer.decided_by, "first");
    let explained = typed(&[explain], folder.path(), programs, &env).expect_ok();
    assert!(explained.contains("acme/flows") && explained.contains("first"), "{explained}");

    // The page on debugging goes on from there.
    let page = Page::read(&here.join("../../docs/plugins/debugging.md"));
    let commands: Vec<String> = page.commands().map(str::to_owned).collect();
    let said = typed(&commands, folder.path(), programs, &env).expect_ok();
    assert!(said.contains(" decisions, 0 answered otherwise") && !said.contains("\n0 decisions"), "{said}");
    assert!(said.contains("netloom_decisions"), "{said}");
}
