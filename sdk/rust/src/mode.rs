//! Answers with most fields left to the node's configuration.

use crate::types::{DeviceMode, Mode, ModeDecision, PlanDecision, ReapAction, ReapPlan};

impl Mode {
    /// A device pair, and the node's configured value for all else.
    #[must_use]
    pub const fn new(device: DeviceMode) -> Self {
        Self {
            device,
            attachment: None,
            primary_policy: None,
            peer_policy: None,
            scrub: None,
            peer_scrub: None,
            headroom: None,
            tailroom: None,
            mtu: None,
            gso_max_size: None,
            gro_max_size: None,
        }
    }
}

impl From<Mode> for ModeDecision {
    fn from(mode: Mode) -> Self {
        Self::Choose(mode)
    }
}

impl ReapPlan {
    /// Every connected socket bound to the event's backends, of both protocols, in all namespaces, at once.
    #[must_use]
    pub const fn connected(action: ReapAction) -> Self {
        Self {
            protocols: Vec::new(),
            states: Vec::new(),
            connected_only: true,
            netns_cookies: Vec::new(),
            min_age_ns: 0,
            grace_ms: 0,
            action,
        }
    }
}

impl From<ReapPlan> for PlanDecision {
    fn from(plan: ReapPlan) -> Self {
        Self::Reap(plan)
    }
}
