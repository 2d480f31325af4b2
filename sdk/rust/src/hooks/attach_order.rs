use crate::types::{Candidate, Chain, Node, PlaceDecision, RebalanceDecision};

/// Chain ordering: where programs go on a hook.
///
/// If it fails, the chain stays as it is and the program goes where the configuration says.
///
/// ```
/// use netloom_sdk::{prelude::*, testing};
///
/// /// A program goes just in front of the datapath, and nothing goes where an intrusion detector runs alone.
/// #[plugin(attach_order)]
/// #[derive(Default)]
/// struct BeforeDatapath;
///
/// impl AttachOrder for BeforeDatapath {
///     fn place(&mut self, _node: &Node, chain: &Chain, _candidate: &Candidate) -> PlaceDecision {
///         if chain.ours().any(|entry| entry.label("exclusive") == Some("true")) {
///             return PlaceDecision::Veto("an exclusive program is attached".to_owned());
///         }
///         match chain.ours().find(|entry| entry.owner.as_deref() == Some("netloom/datapath")) {
///             Some(datapath) => Placement::Before(datapath.id).into(),
///             None => PlaceDecision::Abstain,
///         }
///     }
/// }
///
/// let chain = testing::chain([testing::foreign("other"), testing::entry("netloom/datapath")]);
/// let decision = BeforeDatapath.place(&testing::node(), &chain, &testing::candidate("acme/firewall"));
/// assert_eq!(decision, PlaceDecision::Place(Placement::Before(1)));
/// ```
pub trait AttachOrder {
    /// Where in this chain does this program go?
    ///
    /// Called for each attachment, and once more each time the chain changed between the decision and the
    /// kernel's answer: the ids of entries are good for this call alone.
    fn place(&mut self, node: &Node, chain: &Chain, candidate: &Candidate) -> PlaceDecision;

    /// In which order should Netloom's own entries of this chain run? The answer holds each of them once;
    /// foreign entries stay where they are. Unless implemented: keep the order.
    fn rebalance(&mut self, node: &Node, chain: &Chain) -> RebalanceDecision {
        let _ = (node, chain);
        RebalanceDecision::Keep
    }
}
