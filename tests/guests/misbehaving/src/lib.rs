//! Does the wrong thing in the hook it is told to, and the harmless thing in all others. See ../README.md.
//!
//! Written on the bare bindings: the SDK would not let it give most of these answers.

mod behaviour;

mod bindings {
    wit_bindgen::generate!({
        path: ["../../../wit/kernel", "../../../wit/policy"],
        world: "netloom:policy/all",
        generate_all,
    });
}

use std::cell::RefCell;

use behaviour::{Config, Do, Hook, act};
use bindings::{
    exports::netloom::policy::{
        attach_order::{self, Candidate, PlaceDecision, RebalanceDecision},
        datapath_mode::{self, Endpoint, Mode, ModeDecision},
        lifecycle,
        socket_reap::{self, Action, BoundSocket, Event, PlanDecision, ReapPlan},
    },
    netloom::kernel::types::{Chain, DeviceMode, Node, Placement},
};

thread_local! {
    static CONFIG: RefCell<Option<Config>> = const { RefCell::new(None) };
}

/// What to do in this hook, if it is the one.
fn order(hook: Hook) -> Option<Do> {
    CONFIG.with_borrow(|config| {
        config.as_ref().filter(|config| config.hook == hook).map(|config| config.behaviour)
    })
}

/// Carries it out, unless it is about the answer: then it is for the caller.
fn answer(hook: Hook) -> Option<Do> {
    order(hook).filter(|order| !act(*order))
}

struct Misbehaving;

impl lifecycle::Guest for Misbehaving {
    fn init(config: String) -> Result<(), String> {
        let config: Config = serde_json::from_str(&config).map_err(|error| error.to_string())?;
        CONFIG.set(Some(config));
        match answer(Hook::Init) {
            Some(Do::Fail) => Err("init was told to fail".to_owned()),
            _ => Ok(()),
        }
    }

    fn health() -> Result<(), String> {
        match answer(Hook::Health) {
            Some(Do::Fail) => Err("health was told to fail".to_owned()),
            _ => Ok(()),
        }
    }
}

impl attach_order::Guest for Misbehaving {
    fn place(_node: Node, chain: Chain, _candidate: Candidate) -> PlaceDecision {
        let foreign = chain.entries.iter().find(|entry| entry.owner.is_none());
        match answer(Hook::Place) {
            Some(Do::UnknownEntry) => PlaceDecision::Place(Placement::Before(u32::MAX)),
            Some(Do::ReplaceForeign) => {
                PlaceDecision::Place(Placement::Replace(foreign.map_or(u32::MAX, |entry| entry.id)))
            }
            Some(Do::LongVeto) => PlaceDecision::Veto("no ".repeat(1 << 20)),
            _ => PlaceDecision::Abstain,
        }
    }

    fn rebalance(_node: Node, chain: Chain) -> RebalanceDecision {
        let all = || chain.entries.iter().map(|entry| entry.id);
        let ours = || chain.entries.iter().filter(|entry| entry.owner.is_some()).map(|entry| entry.id);
        RebalanceDecision::Reorder(match answer(Hook::Rebalance) {
            Some(Do::UnknownEntry) => vec![u32::MAX],
            Some(Do::ReplaceForeign) => all().rev().collect(),
            Some(Do::TooFew) => ours().skip(1).collect(),
            Some(Do::TooMany) => ours().chain(ours()).collect(),
            _ => return RebalanceDecision::Keep,
        })
    }
}

impl datapath_mode::Guest for Misbehaving {
    fn choose(_node: Node, _endpoint: Endpoint) -> ModeDecision {
        let (mtu, gso_max_size) = match answer(Hook::Choose) {
            Some(Do::SmallMtu) => (Some(1_400), None),
            Some(Do::MtuZero) => (Some(0), None),
            Some(Do::MtuHuge) => (Some(u32::MAX), None),
            Some(Do::GsoHuge) => (None, Some(u32::MAX)),
            Some(Do::LongVeto) => return ModeDecision::Veto("no ".repeat(1 << 20)),
            _ => return ModeDecision::Abstain,
        };
        ModeDecision::Choose(Mode {
            device: DeviceMode::Veth,
            attachment: None,
            primary_policy: None,
            peer_policy: None,
            scrub: None,
            peer_scrub: None,
            headroom: None,
            tailroom: None,
            mtu,
            gso_max_size,
            gro_max_size: None,
        })
    }
}

impl socket_reap::Guest for Misbehaving {
    fn plan(_node: socket_reap::Node, _event: Event) -> PlanDecision {
        let judged = order(Hook::Judge).is_some().then_some(Action::JudgeRecords);
        let packed = order(Hook::JudgePacked).is_some().then_some(Action::JudgePacked);
        let (action, grace_ms, netns_cookies) = match answer(Hook::Plan) {
            Some(Do::GraceHuge) => (Action::Destroy, u32::MAX, Vec::new()),
            Some(Do::TooMany) => (Action::Destroy, 0, (0..1 << 20).collect()),
            Some(Do::LongVeto) => return PlanDecision::Veto("no ".repeat(1 << 20)),
            _ => match judged.or(packed) {
                Some(action) => (action, 0, Vec::new()),
                None => return PlanDecision::Abstain,
            },
        };
        PlanDecision::Reap(ReapPlan {
            protocols: Vec::new(),
            states: Vec::new(),
            connected_only: true,
            netns_cookies,
            min_age_ns: 0,
            grace_ms,
            action,
        })
    }

    fn judge(_event: Event, sockets: Vec<BoundSocket>) -> Vec<bool> {
        vec![true; wrong_count(Hook::Judge, sockets.len())]
    }

    fn judge_packed(_event: Event, sockets: Vec<u64>) -> Vec<u64> {
        vec![u64::MAX; wrong_count(Hook::JudgePacked, (sockets.len() / 10).div_ceil(64))]
    }
}

fn wrong_count(hook: Hook, right: usize) -> usize {
    match answer(hook) {
        Some(Do::TooFew) => right.saturating_sub(1),
        Some(Do::TooMany) => right + 1,
        _ => right,
    }
}

bindings::export!(Misbehaving with_types_in bindings);
