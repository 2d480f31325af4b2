//! A backend that is going away is given time, and connections that carried much are not cut: a backup that ran for
//! an hour is worth more than a quick retry.

use netloom_sdk::prelude::*;
use serde::Deserialize;

/// The plugin's configuration.
#[derive(Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Config {
    /// A connection that carried so many MiB, both ways together, is spared.
    spare_from_mib: u64,
    /// Milliseconds that sockets of a terminating backend have to end by themselves.
    grace_ms: u32,
}

impl Default for Config {
    fn default() -> Self {
        Self { spare_from_mib: 64, grace_ms: 30_000 }
    }
}

#[plugin(socket_reap, lifecycle)]
#[derive(Default)]
struct LongTransfers(Config);

impl Lifecycle for LongTransfers {
    type Config = Config;

    fn init(&mut self, config: Config) -> Result<(), String> {
        if config.grace_ms > 3_600_000 {
            return Err("`grace_ms` is more than an hour, the longest that a reap may wait".to_owned());
        }
        self.0 = config;
        Ok(())
    }
}

impl SocketReap for LongTransfers {
    fn plan(&mut self, _node: &Node, event: &ReapEvent) -> PlanDecision {
        let plan = ReapPlan::connected(ReapAction::JudgePacked);
        match event.reason {
            ReapReason::Terminating => ReapPlan { grace_ms: self.0.grace_ms, ..plan }.into(),
            ReapReason::Removed => plan.into(),
            // Whoever asks for it by hand means it.
            ReapReason::Requested => PlanDecision::Abstain,
        }
    }

    fn judge(&mut self, _event: &ReapEvent, socket: &Socket<'_>) -> Verdict {
        let carried = socket.bytes_sent().saturating_add(socket.bytes_received());
        Verdict::spare_if(carried >= self.0.spare_from_mib << 20)
    }
}

#[cfg(test)]
mod tests {
    use netloom_sdk::testing::{self, backend, event, node, socket};

    use super::*;

    #[test]
    fn connections_that_carried_much_are_spared() {
        let mut plugin = LongTransfers::default();
        testing::init(&mut plugin, r#"{ "spare_from_mib": 1 }"#).unwrap();
        let event = event(ReapReason::Removed, [backend("10.0.0.7:443")]);
        let carried = |sent, received| BoundSocket {
            bytes_sent: sent,
            bytes_received: received,
            ..socket("10.1.0.2:40000", "10.0.0.7:443")
        };
        let sockets = [carried(0, 0), carried(1 << 19, 1 << 19), carried(u64::MAX, 1), carried(1 << 19, 0)];
        let wanted = [Verdict::Destroy, Verdict::Spare, Verdict::Spare, Verdict::Destroy];
        assert_eq!(testing::judge(&mut plugin, &event, &sockets), wanted);
    }

    #[test]
    fn what_is_going_has_time_and_an_operator_is_obeyed() {
        let mut plugin = LongTransfers::default();
        let mut plan = |reason| plugin.plan(&node(), &event(reason, [backend("10.0.0.7:443")]));
        let PlanDecision::Reap(terminating) = plan(ReapReason::Terminating) else { panic!("no plan") };
        assert_eq!(terminating.grace_ms, 30_000);
        let PlanDecision::Reap(removed) = plan(ReapReason::Removed) else { panic!("no plan") };
        assert_eq!(removed.grace_ms, 0);
        assert_eq!(plan(ReapReason::Requested), PlanDecision::Abstain);
    }

    #[test]
    fn a_grace_that_no_reap_may_have_is_refused() {
        let error = testing::init(&mut LongTransfers::default(), r#"{ "grace_ms": 3600001 }"#).unwrap_err();
        assert!(error.contains("an hour"), "{error}");
    }
}
