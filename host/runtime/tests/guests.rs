//! Every guest of `tests/guests`, loaded, asked, and survived: see the tables in its README.

// Clippy's exception for tests does not reach the functions beside them.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod support;

use std::{
    collections::BTreeMap,
    fs,
    path::PathBuf,
    sync::{Arc, OnceLock},
    time::Duration,
};

use netloom_core::{
    answer::Answer,
    model::{EndpointSpec, NetnsId},
    validate::{self, ModeDefaults},
};
use netloom_plugin_build::Options;
use netloom_runtime::{
    Breach, EndpointFacts, Failure, Health, HostConfig, LoadError, LoadRequest, Plugin, PluginHost, Refusal,
};
use support::{candidate, capabilities, chain, event, name, node, patient, socket, suspects};

/// The guests written in Rust, by name. They are built once a run, in the target directory of this test.
fn built() -> &'static BTreeMap<String, Vec<u8>> {
    static BUILT: OnceLock<BTreeMap<String, Vec<u8>>> = OnceLock::new();
    BUILT.get_or_init(|| {
        let test = std::env::current_exe().unwrap();
        let target = test.ancestors().find(|dir| dir.join("CACHEDIR.TAG").exists()).unwrap();
        let options = Options { target_dir: Some(target.join("guests")), ..Options::default() };
        let built = netloom_plugin_build::build_all(&directory(), &options).unwrap();
        built.into_iter().map(|guest| (guest.name, fs::read(guest.path).unwrap())).collect()
    })
}

fn directory() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../tests/guests")
}

fn guest(which: &str) -> Vec<u8> {
    built().get(which).unwrap_or_else(|| panic!("no guest {which}")).clone()
}

async fn refusal(component: Vec<u8>) -> Refusal {
    host().load(support::request("guest", component)).await.expect_err("it is refused").reason
}

/// Compiles each guest once.
fn host() -> PluginHost {
    let cache_dir = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("plugin-cache");
    PluginHost::new(HostConfig { cache_dir: Some(cache_dir), ..patient() }).unwrap()
}

/// The misbehaving guest, told what to do.
async fn told(host: &PluginHost, hook: &str, what: &str) -> Result<Arc<Plugin>, LoadError> {
    let mut request = LoadRequest::new(name("bad"), guest("misbehaving"));
    request.config.insert("in".to_owned(), hook.into());
    request.config.insert("do".to_owned(), what.into());
    host.load(request).await.map(Arc::new)
}

/// What a hook made of it: an answer that passes the host's checks, in words, or why there is none.
async fn ask(plugin: &Plugin, hook: &str) -> Result<String, String> {
    fn told<T: std::fmt::Debug, V: std::fmt::Debug, E: std::fmt::Display>(
        answer: Answer<T>,
        check: impl FnOnce(T) -> Result<V, E>,
    ) -> Result<String, String> {
        match answer {
            Answer::Decide(raw) => {
                check(raw).map(|value| format!("{value:?}")).map_err(|why| why.to_string())
            }
            other => Ok(format!("{other:?}")),
        }
    }
    let capabilities = capabilities();
    let node = node(&capabilities);
    let chain = chain(&[None, Some(("acme/a", 1)), Some(("acme/b", 2))]);
    let candidate = candidate("acme/probe");
    let event = event(&["10.0.0.1:80"]);
    let sockets: Vec<_> = (0..100).map(|cookie| socket(cookie, "10.0.0.1:80")).collect();
    let suspects = suspects(&sockets);
    let words = |error: netloom_runtime::CallError| error.to_string();
    match hook {
        "health" => plugin.health().await.map(|health| format!("{health:?}")).map_err(words),
        "place" => {
            let answer = plugin.place(node, &chain, &candidate).await.map_err(words)?;
            told(answer, |raw| validate::placement(&chain, &candidate, raw))
        }
        "rebalance" => {
            plugin.rebalance(node, &chain).await.map(|answer| format!("{answer:?}")).map_err(words)
        }
        "choose" => {
            let spec = endpoint();
            let facts = EndpointFacts { spec: &spec, netns: NetnsId { device: 4, inode: 9 }, addresses: &[] };
            let answer = plugin.choose(node, facts).await.map_err(words)?;
            let defaults = ModeDefaults { attachment: Default::default(), mtu: 1_500 };
            told(answer, |raw| validate::mode(&raw, &spec, false, &capabilities, &defaults))
        }
        "plan" => {
            let answer = plugin.plan(node, &event).await.map_err(words)?;
            told(answer, |raw| validate::reap_plan(&event, raw))
        }
        "judge" => {
            plugin.judge(&event, &suspects).await.map(|given| format!("{}", given.len())).map_err(words)
        }
        "judge-packed" => plugin
            .judge_packed(&event, &suspects)
            .await
            .map(|given| format!("{}", given.len()))
            .map_err(words),
        other => panic!("no hook {other}"),
    }
}

fn endpoint() -> EndpointSpec {
    EndpointSpec::plain(name("blue"), "/run/netns/blue")
}

const HOOKS: [&str; 7] = ["health", "place", "rebalance", "choose", "plan", "judge", "judge-packed"];

/// Told to do this in each hook, the plugin fails there with these words; the others go on.
async fn fails_everywhere(what: &str, words: &[&str]) {
    let host = host();
    let good = told(&host, "place", "nothing").await.unwrap();
    for hook in HOOKS.into_iter().skip(1) {
        let bad = told(&host, hook, what).await.unwrap();
        let error = ask(&bad, hook).await.expect_err(hook);
        assert!(error.starts_with("plugin bad: "), "{hook}: {error}");
        assert!(words.iter().any(|words| error.contains(words)), "{hook}: {error}");
        assert_eq!(bad.status().failures, 1, "{hook}");
        assert!(ask(&good, hook).await.is_ok(), "the other plugin goes on after {hook}");
    }
    for hook in ["init", "health"] {
        let refused = told(&host, hook, what).await.expect_err(hook);
        assert!(matches!(refused.reason, Refusal::Start(_)), "{hook}: {refused}");
    }
}

#[tokio::test]
async fn told_to_do_nothing_it_has_no_opinion() {
    let plugin = told(&host(), "place", "nothing").await.unwrap();
    for hook in ["place", "rebalance", "choose", "plan"] {
        assert_eq!(ask(&plugin, hook).await.as_deref(), Ok("Abstain"), "{hook}");
    }
    assert_eq!(plugin.health().await, Ok(Health::Healthy));
    assert_eq!(plugin.status().failures, 0);
}

#[tokio::test]
async fn loops_are_cut_off() {
    fails_everywhere("loop", &["ran past its deadline"]).await;
}

#[tokio::test]
async fn traps_and_panics_are_named() {
    fails_everywhere("trap", &["panicked or aborted"]).await;
    fails_everywhere("panic", &["panicked or aborted"]).await;
}

#[tokio::test]
async fn recursion_ends_in_the_guest() {
    fails_everywhere("recurse", &["endless recursion"]).await;
}

#[tokio::test]
async fn memory_bombs_end_at_the_limit() {
    fails_everywhere("memory-bomb", &["wanted more than 16777216 bytes", "ran past its deadline"]).await;
}

#[tokio::test]
async fn floods_of_host_calls_end_at_the_limit() {
    fails_everywhere("host-calls", &["called the host more than", "ran past its deadline"]).await;
    fails_everywhere("chatter", &["called the host more than", "ran past its deadline"]).await;
}

#[tokio::test]
async fn what_stays_within_the_limits_is_answered() {
    let host = host();
    for what in ["hoard", "log-long-line"] {
        let plugin = told(&host, "place", what).await.unwrap();
        assert_eq!(ask(&plugin, "place").await.as_deref(), Ok("Abstain"), "{what}");
    }
    let spinning = told(&host, "place", "spin").await.unwrap();
    match ask(&spinning, "place").await {
        Ok(answer) => assert_eq!(answer, "Abstain"),
        Err(error) => assert!(error.contains("ran past its deadline"), "{error}"),
    }
}

#[tokio::test]
async fn answers_that_are_none_are_refused() {
    let host = host();
    for (hook, what, words) in [
        ("place", "unknown-entry", "names entry 4294967295"),
        ("place", "replace-foreign", "belongs to another program"),
        ("choose", "mtu-zero", "the MTU is 0"),
        ("choose", "mtu-huge", "the MTU is 4294967295"),
        ("choose", "gso-huge", "gso-max-size is 4294967295"),
        ("plan", "grace-huge", "grace period"),
        ("plan", "too-many", "plan trapped"),
        ("judge", "too-few", "99 answers for 100"),
        ("judge", "too-many", "101 answers for 100"),
        ("judge-packed", "too-few", "64 answers for 100"),
        ("judge-packed", "too-many", "192 answers for 100"),
    ] {
        let plugin = told(&host, hook, what).await.unwrap();
        let error = ask(&plugin, hook).await.expect_err(what);
        assert!(error.contains(words), "{hook} {what}: {error}");
    }
}

#[tokio::test]
async fn a_long_veto_is_cut() {
    let host = host();
    for hook in ["place", "choose", "plan"] {
        let plugin = told(&host, hook, "long-veto").await.unwrap();
        let answer = ask(&plugin, hook).await.unwrap();
        assert!(answer.starts_with("Veto(\"no no ") && answer.len() < 1_100, "{} bytes", answer.len());
    }
}

#[tokio::test]
async fn init_and_health_that_fail_keep_the_plugin_out() {
    let host = host();
    let refused = told(&host, "init", "fail").await.unwrap_err();
    assert_eq!(refused.reason, Refusal::Init("init was told to fail".into()));
    let refused = told(&host, "health", "fail").await.unwrap_err();
    assert_eq!(refused.reason, Refusal::Unhealthy("health was told to fail".into()));
    let refused = told(&host, "nowhere", "fail").await.unwrap_err();
    assert!(matches!(refused.reason, Refusal::Init(_)), "its configuration is wrong: {refused}");
    let endless = told(&host, "init", "loop").await.unwrap_err();
    assert_eq!(endless.reason, Refusal::Start(Failure::Deadline(Duration::from_millis(500))));
    let bomb = told(&host, "init", "memory-bomb").await.unwrap_err();
    assert!(matches!(bomb.reason, Refusal::Start(Failure::Limit(Breach::Memory(_), _))), "{bomb}");
}

#[tokio::test]
async fn components_that_are_no_plugins_are_refused() {
    let Refusal::UnknownImport { import, .. } = refusal(guest("unknown-import")).await else {
        panic!("accepted")
    };
    assert_eq!(import, "acme:cloud/metadata@1.0.0");
    let Refusal::MissingGrant { import, grant } = refusal(guest("imports-operations")).await else {
        panic!("accepted")
    };
    assert_eq!((import.as_str(), grant.as_str()), ("netloom:kernel/sockets@0.1.0", "sockets"));

    // What it does with its grants is for the node's own tests.
    assert!(matches!(refusal(guest("operating")).await, Refusal::MissingGrant { .. }));

    let text = |file: &str| wat::parse_file(directory().join(file)).unwrap();
    assert_eq!(
        refusal(text("imports-wasi.wat")).await,
        Refusal::Wasi("wasi:cli/environment@0.2.0".to_owned())
    );
    assert_eq!(refusal(text("core-module.wat")).await, Refusal::CoreModule);
    let nothing = refusal(text("no-hooks.wat")).await;
    assert!(
        nothing.to_string().contains("attach-order, datapath-mode, socket-reap or lifecycle"),
        "{nothing}"
    );
    let Refusal::Mismatch(why) = refusal(text("mistyped.wat")).await else { panic!("accepted") };
    assert!(why.contains("netloom:policy/lifecycle@0.1.0"), "{why}");
}

#[test]
fn every_guest_has_a_test() {
    let here = include_str!("guests.rs");
    for name in built().keys() {
        assert!(here.contains(&format!("\"{name}\"")), "no test loads the guest {name}");
    }
    for entry in fs::read_dir(directory()).unwrap() {
        let file = entry.unwrap().file_name().into_string().unwrap();
        assert!(!file.ends_with(".wat") || here.contains(&file), "no test loads {file}");
    }
}
