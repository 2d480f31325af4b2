//! A platform team's own policy: one owner's programs run first, and the sockets of some ports outlive their
//! backend. For everything else the next plugin decides.

use netloom_sdk::prelude::*;
use serde::Deserialize;

/// The plugin's configuration.
#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Config {
    /// The owner whose programs run first, in front of observers too.
    first: Option<String>,
    /// Sockets with one of these ports at either end are spared.
    spare_ports: FastSet<u16>,
}

#[plugin(attach_order, socket_reap, lifecycle)]
#[derive(Default)]
struct CustomPolicy {
    config: Config,
}

impl Lifecycle for CustomPolicy {
    type Config = Config;

    fn init(&mut self, config: Config) -> Result<(), String> {
        if config.first.as_deref() == Some("netloom/datapath") {
            return Err("`first` is the datapath, behind whose verdict nothing runs: name another".to_owned());
        }
        if config.spare_ports.contains(&0) {
            return Err("`spare_ports` has port 0, which no socket has: leave it out".to_owned());
        }
        self.config = config;
        Ok(())
    }
}

impl AttachOrder for CustomPolicy {
    fn place(&mut self, _node: &Node, chain: &Chain, candidate: &Candidate) -> PlaceDecision {
        if self.config.first.as_ref() != Some(&candidate.owner) {
            return PlaceDecision::Abstain;
        }
        info!("in front of {} programs", chain.entries.len(); owner = candidate.owner);
        Placement::Head.into()
    }
}

impl SocketReap for CustomPolicy {
    fn plan(&mut self, _node: &Node, event: &ReapEvent) -> PlanDecision {
        match event.reason {
            ReapReason::Terminating => PlanDecision::Abstain,
            ReapReason::Removed | ReapReason::Requested => {
                ReapPlan::connected(ReapAction::JudgePacked).into()
            }
        }
    }

    fn judge(&mut self, _event: &ReapEvent, socket: &Socket<'_>) -> Verdict {
        let ports = [socket.local_port(), socket.remote_port()];
        Verdict::spare_if(ports.iter().any(|port| self.config.spare_ports.contains(port)))
    }
}

#[cfg(test)]
mod tests {
    use netloom_sdk::testing::{self, backend, candidate, chain, entry, event, node, socket};

    use super::*;

    fn plugin(config: &str) -> Result<CustomPolicy, String> {
        let mut plugin = CustomPolicy::default();
        testing::init(&mut plugin, config)?;
        Ok(plugin)
    }

    #[test]
    fn the_owner_named_goes_first_and_the_others_are_no_concern() {
        let mut plugin = plugin(r#"{ "first": "acme/firewall" }"#).unwrap();
        let chain = chain([entry("acme/flows").with_label("role", "observer"), entry("netloom/datapath")]);
        let cases = [("acme/firewall", Placement::Head.into()), ("acme/other", PlaceDecision::Abstain)];
        for (owner, wanted) in cases {
            assert_eq!(plugin.place(&node(), &chain, &candidate(owner)), wanted, "{owner}");
        }
    }

    #[test]
    fn without_configuration_it_has_no_opinion_on_order() {
        let decision = plugin("{}").unwrap().place(&node(), &chain([]), &candidate("acme/firewall"));
        assert_eq!(decision, PlaceDecision::Abstain);
    }

    #[test]
    fn a_socket_with_a_spared_port_at_either_end_lives() {
        let mut plugin = plugin(r#"{ "spare_ports": [5432, 40001] }"#).unwrap();
        let event = event(ReapReason::Removed, [backend("10.0.0.7:443"), backend("10.0.0.8:5432")]);
        let sockets = [
            socket("10.1.0.2:40000", "10.0.0.7:443"),
            socket("10.1.0.2:40001", "10.0.0.7:443"),
            socket("[fd00::2]:40002", "[fd00::8]:5432"),
        ];
        let wanted = [Verdict::Destroy, Verdict::Spare, Verdict::Spare];
        assert_eq!(testing::judge(&mut plugin, &event, &sockets), wanted);
    }

    #[test]
    fn it_judges_what_is_gone_and_leaves_what_is_going() {
        let cases = [
            (ReapReason::Removed, ReapPlan::connected(ReapAction::JudgePacked).into()),
            (ReapReason::Requested, ReapPlan::connected(ReapAction::JudgePacked).into()),
            (ReapReason::Terminating, PlanDecision::Abstain),
        ];
        for (reason, wanted) in cases {
            let event = event(reason, [backend("10.0.0.7:443")]);
            assert_eq!(plugin("{}").unwrap().plan(&node(), &event), wanted, "{reason:?}");
        }
    }

    #[test]
    fn a_wrong_configuration_is_refused_in_words() {
        let cases = [
            (r#"{ "frist": "acme/firewall" }"#, "unknown field `frist`"),
            (r#"{ "first": "netloom/datapath" }"#, "name another"),
            (r#"{ "spare_ports": [70000] }"#, "expected u16"),
            (r#"{ "spare_ports": [0] }"#, "port 0"),
        ];
        for (config, wanted) in cases {
            let Err(error) = plugin(config) else { panic!("{config} is refused") };
            assert!(error.contains(wanted), "{config}: {error}");
        }
    }
}
