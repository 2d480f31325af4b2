//! Programs of owners that nobody has listed are not attached, wherever they would go. It decides no order: load it
//! anywhere, as any plugin may veto.

use netloom_sdk::prelude::*;
use serde::Deserialize;

/// The plugin's configuration.
#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Config {
    /// Owners, or with a `/` at the end all owners below.
    allow: Vec<String>,
}

#[plugin(attach_order, lifecycle)]
#[derive(Default)]
struct ChainGuard(Config);

impl Lifecycle for ChainGuard {
    type Config = Config;

    fn init(&mut self, config: Config) -> Result<(), String> {
        if config.allow.is_empty() {
            return Err(
                "`allow` is empty, and nothing could be attached: name owners, such as \"acme/\"".to_owned()
            );
        }
        self.0 = config;
        Ok(())
    }
}

impl AttachOrder for ChainGuard {
    fn place(&mut self, _node: &Node, _chain: &Chain, candidate: &Candidate) -> PlaceDecision {
        let owner = candidate.owner.as_str();
        let listed = |allowed: &String| match allowed.ends_with('/') {
            true => owner.starts_with(allowed.as_str()),
            false => owner == allowed,
        };
        // Without its datapath an endpoint has no network.
        if owner == "netloom/datapath" || self.0.allow.iter().any(listed) {
            return PlaceDecision::Abstain;
        }
        PlaceDecision::Veto(format!("{owner} is no listed owner"))
    }
}

#[cfg(test)]
mod tests {
    use netloom_sdk::testing::{self, candidate, chain, node};

    use super::*;

    #[test]
    fn only_listed_owners_and_the_datapath_are_attached() {
        let mut guard = ChainGuard::default();
        testing::init(&mut guard, r#"{ "allow": ["acme/", "monitoring"] }"#).unwrap();
        for (owner, allowed) in [
            ("acme/flows", true),
            ("acmeother/flows", false),
            ("monitoring", true),
            ("monitoring/extra", false),
            ("netloom/datapath", true),
        ] {
            let decision = guard.place(&node(), &chain([]), &candidate(owner));
            assert_eq!(decision == PlaceDecision::Abstain, allowed, "{owner}: {decision:?}");
        }
    }

    #[test]
    fn a_list_that_forbids_everything_is_refused() {
        let error = testing::init(&mut ChainGuard::default(), r#"{ "allow": [] }"#).unwrap_err();
        assert!(error.contains("acme/"), "{error}");
    }
}
