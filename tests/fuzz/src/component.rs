use std::{collections::BTreeMap, sync::LazyLock, time::Duration};

use netloom_core::model::{
    Backend, Candidate, Capabilities, Chain, Protocol, ReapEvent, ReapReason, Revision,
};
use netloom_runtime::{
    HostConfig, Limits, LoadRequest, NodeFacts, Plugin, PluginHost, Question, Supervision,
};

use crate::snapshot;

/// Loads the bytes and, if they are a plugin, asks it everything. Whatever it is or does, the host says so in words.
pub(crate) fn feed(input: &[u8]) {
    RUNTIME.block_on(async {
        match HOST.load(LoadRequest::new(snapshot::name(), input)).await {
            Ok(plugin) => ask(&plugin).await,
            Err(error) => assert!(!error.to_string().is_empty(), "a refusal without a reason"),
        }
    });
}

static RUNTIME: LazyLock<tokio::runtime::Runtime> = LazyLock::new(|| {
    #[expect(clippy::expect_used, reason = "without one there is nothing to test")]
    tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime")
});

static HOST: LazyLock<PluginHost> = LazyLock::new(|| {
    let limits = Limits {
        deadline: Duration::from_millis(10),
        judge_deadline: Duration::from_millis(10),
        init_deadline: Duration::from_millis(10),
        component_bytes: 1 << 20,
        ..Limits::default()
    };
    let supervision = Supervision {
        first_backoff: Duration::ZERO,
        longest_backoff: Duration::ZERO,
        ..Supervision::default()
    };
    #[expect(clippy::expect_used, reason = "without one there is nothing to test")]
    PluginHost::new(HostConfig { limits, supervision, ..HostConfig::default() }).expect("a plugin host")
});

async fn ask(plugin: &Plugin) {
    let capabilities = Capabilities { kernel: "6.18".into(), features: BTreeMap::new() };
    let node = NodeFacts { name: "node", capabilities: &capabilities };
    for question in questions() {
        if plugin.inspection().hooks.contains(&question.hook()) {
            // Failing is an answer as well.
            drop(plugin.ask(node, &question).await);
        }
    }
}

fn questions() -> [Question; 4] {
    let (hook, spec) = (snapshot::hook(), snapshot::spec());
    let netns = hook.netns;
    let chain = Chain { hook, revision: Revision(1), entries: vec![] };
    let backend =
        Backend { service: snapshot::name(), address: ([10, 0, 0, 1], 80).into(), protocol: Protocol::Tcp };
    [
        Question::Place { chain: chain.clone(), candidate: Candidate::datapath(true) },
        Question::Rebalance { chain },
        Question::Choose { spec, netns, addresses: vec![] },
        Question::Plan { event: ReapEvent { reason: ReapReason::Removed, backends: vec![backend] } },
    ]
}
