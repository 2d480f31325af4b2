//! Plugins that are replaced while they serve.

use std::{
    io::{Read as _, Write as _},
    os::unix::net::UnixStream,
    path::PathBuf,
    time::{Duration, Instant},
};

use netloom_api::types::{PluginVersion, PluginView, ReloadReport};
use serde_json::{Value, json};

use netloom_netns_tests::{Node, ObjectFile, refusal};

use crate::{patient_limits, patient_node};

/// A file that becomes one component after another.
pub(crate) struct File(tempfile::TempDir);

impl File {
    pub(crate) fn of(bytes: &[u8]) -> Self {
        let file = Self(tempfile::tempdir().unwrap());
        file.write(bytes);
        file
    }

    pub(crate) fn write(&self, bytes: &[u8]) {
        let partial = self.0.path().join("partial");
        std::fs::write(&partial, bytes).unwrap();
        std::fs::rename(partial, self.path()).unwrap();
    }

    pub(crate) fn path(&self) -> PathBuf {
        self.0.path().join("policy.wasm")
    }
}

/// A component that does the same and has another digest: it carries one more custom section.
pub(crate) fn other_version(component: &[u8]) -> Vec<u8> {
    [component, b"\x00\x05\x04note"].concat()
}

fn load(node: &Node, file: &File, watch: bool) -> PluginView {
    let config = json!({ "first": "acme/firewall" });
    let limits = patient_limits();
    let body =
        json!({ "name": "policy", "path": file.path(), "config": config, "watch": watch, "limits": limits });
    node.daemon.post("/v1/plugins", &body).unwrap()
}

fn reload(node: &Node, body: Value) -> Result<ReloadReport, netloom_api::ClientError> {
    node.daemon.post("/v1/plugins/policy/reload", &body)
}

fn serving(node: &Node) -> String {
    node.daemon.get::<PluginView>("/v1/plugins/policy").unwrap().digest
}

pub(crate) fn until(complaint: &str, holds: impl Fn() -> bool) {
    let patience = Instant::now() + Duration::from_secs(60);
    while !holds() {
        assert!(Instant::now() < patience, "{complaint}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

#[test]
fn a_new_version_is_compared_on_the_node_as_it_is_and_taken_back_to_the_old_one() {
    let mut node = patient_node();
    let web = node.endpoint("web");
    let object = ObjectFile::of(netloom_test_programs::PASS);
    let file = File::of(netloom_test_components::CUSTOM_POLICY);
    let first = load(&node, &file, false).digest;
    node.attach(json!({ "device": web.device(), "object": object.path(), "owner": "acme/firewall" }))
        .unwrap();

    file.write(&other_version(netloom_test_components::CUSTOM_POLICY));
    let dry = reload(&node, json!({ "dry_run": true })).unwrap();
    assert_eq!((dry.outcome.as_str(), dry.differences.len()), ("dry run", 0));
    assert!(dry.compared >= 3, "three attachments: {dry:?}");
    assert_eq!(serving(&node), first, "a dry run changed something");

    let report = reload(&node, json!({})).unwrap();
    assert_eq!(report.outcome, "serving");
    let second = serving(&node);
    assert_eq!(second, report.digest);
    assert_ne!(second, first);

    // It fails where the old one answers: refused.
    let bad = File::of(netloom_test_components::MISBEHAVING);
    let (status, error, _) = refusal(reload(&node, json!({ "path": bad.path() })));
    assert_eq!(status, 422, "{error}");
    assert_eq!(serving(&node), second);

    node.daemon.kill9();
    node.daemon.restart();
    assert_eq!(serving(&node), second);
    let versions: Vec<PluginVersion> = node.daemon.get("/v1/plugins/policy/versions").unwrap();
    assert_eq!(
        versions.iter().map(|v| (&v.digest, v.serving)).collect::<Vec<_>>(),
        [(&first, false), (&second, true)]
    );
    let back: ReloadReport = node.daemon.post("/v1/plugins/policy/rollback", &json!({})).unwrap();
    assert_eq!(back.digest, first);
    assert_eq!(serving(&node), first);
    let shown = node.daemon.netloom(&["plugin", "versions", "policy"]).expect_ok();
    assert!(shown.contains(&first[..12]) && shown.contains("yes"), "{shown}");
    let (status, error, _) =
        refusal(node.daemon.post::<ReloadReport>("/v1/plugins/attach-order/reload", &json!({})));
    assert_eq!(status, 409, "{error}");
}

#[test]
fn a_version_is_tried_out_as_a_shadow_and_promoted() {
    let node = patient_node();
    let web = node.endpoint("web");
    let object = ObjectFile::of(netloom_test_programs::PASS);
    let file = File::of(netloom_test_components::CUSTOM_POLICY);
    let first = load(&node, &file, false).digest;
    file.write(&other_version(netloom_test_components::CUSTOM_POLICY));
    let report = reload(&node, json!({ "shadow": true })).unwrap();
    assert_eq!(report.outcome, "trial");
    node.attach(json!({ "device": web.device(), "object": object.path(), "owner": "acme/firewall" }))
        .unwrap();
    assert_eq!(serving(&node), first);
    let trial = || node.daemon.get::<PluginView>("/v1/plugins/policy").unwrap().trial.unwrap();
    until("the shadow was never asked", || trial().asked > 0);
    let trial = trial();
    assert_eq!((trial.mode.as_str(), trial.differed, trial.failed), ("shadow", 0, 0));
    let promoted: PluginView = node.daemon.post("/v1/plugins/policy/trial", &()).unwrap();
    assert_eq!((promoted.digest, promoted.trial), (report.digest, None));
    let (status, _, _) = refusal(node.daemon.delete::<PluginView>("/v1/plugins/policy/trial"));
    assert_eq!(status, 404);
    let (status, error, _) = refusal(reload(&node, json!({ "canary": 100 })));
    assert_eq!(status, 400, "{error}");
}

#[test]
fn a_file_that_changes_is_followed_and_one_that_is_no_plugin_is_not() {
    const ERROR: &str = "its file changed and was not loaded; the version of before goes on plugin=policy";
    let node = patient_node();
    let file = File::of(netloom_test_components::CUSTOM_POLICY);
    let first = load(&node, &file, true).digest;
    file.write(b"no plugin at all");
    until("the change was not seen", || node.daemon.log().contains(ERROR));
    node.daemon.expect_error(ERROR);
    assert_eq!(serving(&node), first);
    file.write(&other_version(netloom_test_components::CUSTOM_POLICY));
    until("the change was not followed", || serving(&node) != first);
}

#[test]
fn a_file_that_changed_while_the_daemon_was_down_is_followed() {
    let mut node = patient_node();
    let file = File::of(netloom_test_components::CUSTOM_POLICY);
    let first = load(&node, &file, true).digest;
    node.daemon.stop();
    file.write(&other_version(netloom_test_components::CUSTOM_POLICY));
    node.daemon.restart();
    until("the change was not followed", || serving(&node) != first);
}

/// A reload that was asked for, and whose answer is still to be read.
fn ask_for_a_reload(node: &Node) -> UnixStream {
    let mut asked = UnixStream::connect(node.daemon.paths().socket).unwrap();
    let request = "POST /v1/plugins/policy/reload HTTP/1.1\r\nHost: netloom\r\nConnection: close\r\n\
                   Content-Type: application/json\r\nContent-Length: 2\r\n\r\n{}";
    asked.write_all(request.as_bytes()).unwrap();
    asked
}

/// Its answer; empty if the daemon went before it gave one.
fn answer(mut asked: UnixStream) -> String {
    let mut answer = String::new();
    // A connection that is cut off may also end with an error.
    asked.read_to_string(&mut answer).ok();
    answer
}

#[test]
fn a_daemon_killed_while_it_reloads_starts_with_a_whole_version() {
    let mut node = patient_node();
    let file = File::of(netloom_test_components::CUSTOM_POLICY);
    load(&node, &file, false);
    // How long one takes that is let be.
    let mut version = other_version(netloom_test_components::CUSTOM_POLICY);
    file.write(&version);
    let began = Instant::now();
    assert!(answer(ask_for_a_reload(&node)).starts_with("HTTP/1.1 200"));
    let whole = began.elapsed();

    let mut killed = Vec::new();
    // In an eighth of the time each, until one is over before it could be killed. On a busy machine that may be long
    // after the time of the first: then the time doubles.
    for eighth in 0_u32.. {
        assert!(eighth < 24, "no reload was over in 256 times the time of the first");
        let before = serving(&node);
        version = other_version(&version);
        file.write(&version);
        let asked = ask_for_a_reload(&node);
        let delay = whole * eighth.min(16) / 8 * 2_u32.pow(eighth.saturating_sub(16));
        std::thread::sleep(delay);
        node.daemon.kill9();
        let answer = answer(asked);
        node.daemon.restart();
        let view: PluginView = node.daemon.get("/v1/plugins/policy").unwrap();
        assert_eq!(view.state, "active");
        let versions: Vec<PluginVersion> = node.daemon.get("/v1/plugins/policy/versions").unwrap();
        assert!(
            versions.iter().any(|version| version.serving && version.digest == view.digest),
            "{versions:?}"
        );
        if !answer.is_empty() {
            assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
            assert_ne!(view.digest, before, "what was answered is what serves");
            break;
        }
        killed.push(delay);
    }
    assert!(!killed.is_empty(), "none was killed before its answer");
    println!("killed {killed:?} into reloads, which take {whole:?}");
}

#[test]
fn decisions_are_recorded_with_all_they_were_made_on() {
    let node = patient_node();
    node.endpoint("web");
    let text = node.daemon.netloom(&["plugin", "record", "--name", "datapath-mode"]).expect_ok();
    let recordings: Vec<netloom_runtime::Recording> = serde_json::from_str(&text).unwrap();
    assert_eq!(recordings.len(), 1);
    let netloom_runtime::Question::Choose { spec, .. } = &recordings[0].question else {
        panic!("{recordings:?}")
    };
    assert_eq!(spec.name.as_str(), "web");
    assert_eq!(recordings[0].replies[0].plugin.as_str(), "datapath-mode");
}
