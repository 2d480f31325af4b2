//! A first plugin: programs that only look go in front of everything, so that no verdict hides a packet.

use netloom_sdk::prelude::*;

#[plugin(attach_order)]
#[derive(Default)]
struct ObserverFirst;

impl AttachOrder for ObserverFirst {
    fn place(&mut self, _node: &Node, chain: &Chain, candidate: &Candidate) -> PlaceDecision {
        if candidate.label("role") != Some("observer") {
            return PlaceDecision::Abstain;
        }
        info!("{} goes in front of {} programs", candidate.owner, chain.entries.len());
        Placement::Head.into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use netloom_sdk::testing::{candidate, chain, foreign, node};

    #[test]
    fn only_observers_go_in_front() {
        let chain = chain([foreign("other_tool")]);
        let observer = candidate("acme/flows").with_label("role", "observer");
        assert_eq!(ObserverFirst.place(&node(), &chain, &observer), Placement::Head.into());
        assert_eq!(ObserverFirst.place(&node(), &chain, &candidate("acme/fw")), PlaceDecision::Abstain);
    }
}
