//! The bundled socket-reap plugin.
//!
//! When a backend is removed, or an operator asks, every connected socket bound to it is destroyed, TCP and UDP.
//! A backend that is terminating keeps its connections, unless configured otherwise: they end by themselves, or
//! when it is removed.

use netloom_sdk::prelude::*;
use serde::Deserialize;

/// The most the host waits: an hour, in milliseconds.
const MAX_GRACE_MS: u32 = 3_600_000;

/// The plugin's configuration.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Config {
    /// Reap when a backend begins to terminate, instead of when it is gone.
    terminating: bool,
    /// Wait so long before a reap that no operator asked for, in milliseconds; at most an hour.
    grace_ms: u32,
}

#[plugin(socket_reap, lifecycle)]
#[derive(Default)]
struct ReapConnected {
    config: Config,
}

impl SocketReap for ReapConnected {
    fn plan(&mut self, _node: &Node, event: &ReapEvent) -> PlanDecision {
        let grace_ms = match event.reason {
            ReapReason::Terminating if !self.config.terminating => return PlanDecision::Abstain,
            ReapReason::Removed | ReapReason::Terminating => self.config.grace_ms,
            ReapReason::Requested => 0,
        };
        ReapPlan { grace_ms, ..ReapPlan::connected(ReapAction::Destroy) }.into()
    }
}

impl Lifecycle for ReapConnected {
    type Config = Config;

    fn init(&mut self, config: Config) -> Result<(), String> {
        if config.grace_ms > MAX_GRACE_MS {
            return Err(format!("`grace_ms` is {}, more than an hour ({MAX_GRACE_MS})", config.grace_ms));
        }
        self.config = config;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use netloom_sdk::testing::{self, backend, event, node};

    use super::*;

    fn plan(config: &str, reason: ReapReason) -> PlanDecision {
        let mut plugin = ReapConnected::default();
        testing::init(&mut plugin, config).unwrap();
        plugin.plan(&node(), &event(reason, [backend("10.0.0.7:443")]))
    }

    #[test]
    fn the_plan_follows_the_reason_and_the_configuration() {
        let reap =
            |grace_ms| PlanDecision::Reap(ReapPlan { grace_ms, ..ReapPlan::connected(ReapAction::Destroy) });
        let cases = [
            ("{}", ReapReason::Removed, reap(0)),
            ("{}", ReapReason::Requested, reap(0)),
            ("{}", ReapReason::Terminating, PlanDecision::Abstain),
            (r#"{ "terminating": true }"#, ReapReason::Terminating, reap(0)),
            (r#"{ "grace_ms": 500 }"#, ReapReason::Removed, reap(500)),
            (r#"{ "grace_ms": 500 }"#, ReapReason::Requested, reap(0)),
            (r#"{ "grace_ms": 500, "terminating": true }"#, ReapReason::Terminating, reap(500)),
        ];
        for (config, reason, wanted) in cases {
            assert_eq!(plan(config, reason), wanted, "{config} {reason:?}");
        }
    }

    #[test]
    fn unconnected_sockets_are_never_reaped() {
        for reason in [ReapReason::Removed, ReapReason::Requested, ReapReason::Terminating] {
            let PlanDecision::Reap(plan) = plan(r#"{ "terminating": true }"#, reason) else {
                panic!("{reason:?} has a plan");
            };
            assert!(plan.connected_only);
            assert_eq!((plan.protocols, plan.states), (vec![], vec![]), "both protocols, connected states");
        }
    }

    #[test]
    fn a_wrong_configuration_is_refused_in_words() {
        let cases = [
            (r#"{ "grace": 5 }"#, "unknown field `grace`, expected `terminating` or `grace_ms`"),
            (r#"{ "grace_ms": -1 }"#, "expected u32"),
            (r#"{ "grace_ms": 3600001 }"#, "more than an hour"),
        ];
        for (config, wanted) in cases {
            let error = testing::init(&mut ReapConnected::default(), config).unwrap_err();
            assert!(error.contains(wanted), "{config}: {error}");
        }
    }
}
