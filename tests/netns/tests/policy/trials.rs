//! A version that decides a share of the questions.

use netloom_api::types::{Done, PluginView, ReloadReport};
use netloom_netns_tests::{Node, ObjectFile, refusal};
use netloom_runtime::{Question, Recording};
use serde_json::json;

use crate::{
    patient_limits, patient_node,
    reloading::{File, other_version},
};

/// A node on which a version of the plugin `policy` serves and another is its canary: the digests of both.
struct Canary {
    node: Node,
    serving: String,
    tried: String,
}

impl Canary {
    const PERCENT: u64 = 25;

    fn start() -> Self {
        let node = patient_node();
        let file = File::of(netloom_test_components::CUSTOM_POLICY);
        let config = json!({ "first": "acme/firewall" });
        let body =
            json!({ "name": "policy", "path": file.path(), "config": config, "limits": patient_limits() });
        let serving = node.daemon.post::<PluginView>("/v1/plugins", &body).unwrap().digest;
        file.write(&other_version(netloom_test_components::CUSTOM_POLICY));
        let request = json!({ "canary": Self::PERCENT });
        let report: ReloadReport = node.daemon.post("/v1/plugins/policy/reload", &request).unwrap();
        assert_eq!(report.outcome, "trial");
        Self { node, serving, tried: report.digest }
    }

    fn view(&self) -> PluginView {
        self.node.daemon.get("/v1/plugins/policy").unwrap()
    }

    /// Has so many places decided, and gives the digest of the version that decided each.
    fn decide(&self, questions: usize) -> Vec<String> {
        let web = self.node.endpoint("web");
        let object = ObjectFile::of(netloom_test_programs::PASS);
        let request = json!({ "device": web.device(), "object": object.path(), "owner": "acme/firewall" });
        for _ in 0..questions {
            let attachment = self.node.attach(request.clone()).unwrap().attachment;
            assert_eq!(attachment.decided_by, "policy");
            let _: Done = self.node.daemon.delete(&format!("/v1/attachments/{}", attachment.id)).unwrap();
        }
        let text = self.node.daemon.netloom(&["plugin", "record", "--name", "policy"]).expect_ok();
        let recorded: Vec<Recording> = serde_json::from_str(&text).unwrap();
        let asked = recorded.into_iter().filter(|recording| {
            matches!(&recording.question, Question::Place { candidate, .. } if candidate.owner.as_str() == "acme/firewall")
        });
        let reply = |recording: Recording| {
            let reply = recording.replies.into_iter().find(|reply| reply.plugin.as_str() == "policy");
            reply.unwrap().digest
        };
        asked.map(reply).collect()
    }
}

#[test]
fn a_canary_decides_its_share_evenly_and_is_promoted() {
    let it = Canary::start();
    assert_eq!(it.view().trial.unwrap().mode, "canary 25%");
    // The endpoint's own two programs are asked about as well.
    let deciding = it.decide(20);
    assert_eq!(deciding.len(), 20);
    let turns: Vec<usize> = (0..20).filter(|turn| deciding[*turn] == it.tried).collect();
    assert_eq!(turns.len(), 5, "{turns:?}");
    assert!(turns.windows(2).all(|pair| pair[1] - pair[0] == 4), "a quarter is every fourth: {turns:?}");
    assert!(deciding.iter().all(|digest| *digest == it.tried || *digest == it.serving));
    let view = it.view();
    let trial = view.trial.unwrap();
    assert_eq!((view.digest, trial.failed), (it.serving.clone(), 0));
    assert!((5..=6).contains(&trial.asked), "{}", trial.asked);

    let promoted: PluginView = it.node.daemon.post("/v1/plugins/policy/trial", &()).unwrap();
    assert_eq!((promoted.digest, promoted.trial), (it.tried, None));
}

#[test]
fn a_canary_that_is_abandoned_decides_nothing_more() {
    let it = Canary::start();
    let abandoned: PluginView = it.node.daemon.delete("/v1/plugins/policy/trial").unwrap();
    assert_eq!((abandoned.digest, abandoned.trial), (it.serving.clone(), None));
    assert!(it.decide(8).iter().all(|digest| *digest == it.serving));
    let (status, _, _) = refusal(it.node.daemon.post::<PluginView>("/v1/plugins/policy/trial", &()));
    assert_eq!(status, 404);
}

#[test]
fn a_trial_does_not_survive_a_restart() {
    let mut it = Canary::start();
    it.node.daemon.kill9();
    it.node.daemon.restart();
    let view = it.view();
    assert_eq!((view.digest, view.trial), (it.serving.clone(), None));
}
