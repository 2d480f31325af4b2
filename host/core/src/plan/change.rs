//! Changing a pair while packets go through it.

use super::{End, Op, PairEnds, Plan, Policies, RouteKey};
use crate::model::{Device, EndSettings, Endpoint, PairChange, Segmentation};

/// A pair as it is, and what is to become of it.
#[derive(Clone, Debug)]
pub struct PairState {
    /// Where its ends are.
    pub ends: PairEnds,
    /// The node's end.
    pub host: Device,
    /// The other end.
    pub peer: Device,
    /// The node's routes through it.
    pub node_routes: Vec<RouteKey>,
    /// The endpoint's routes through it.
    pub endpoint_routes: Vec<RouteKey>,
    /// The endpoint whose pair it is, before and after; none if it is no endpoint's.
    pub endpoint: Option<(Box<Endpoint>, Box<Endpoint>)>,
}

impl Plan {
    /// Change both ends of a pair. No packet is lost in between, whatever its size: both stacks send no more than the
    /// smaller MTU until both ends have the new one, and nobody who passes by the stacks sends more than either end
    /// takes.
    #[must_use]
    pub fn change_pair(what: String, pair: &PairState, change: &PairChange) -> Self {
        let end = |end, device: &Device| {
            let (to, from) = (change.end(), before(change, device));
            (to != EndSettings::default() && to != from).then(|| Op::SetEnd {
                pair: pair.ends.clone(),
                end,
                to,
                from: Some(from),
            })
        };
        let mut ops: Vec<Op> =
            [end(End::Host, &pair.host), end(End::Peer, &pair.peer)].into_iter().flatten().collect();
        if let Some(mtu) = change.mtu
            && (mtu != pair.host.mtu || mtu != pair.peer.mtu)
        {
            let held = mtu.min(pair.host.mtu).min(pair.peer.mtu);
            let (ends, node, endpoint) =
                (pair.ends.clone(), pair.node_routes.clone(), pair.endpoint_routes.clone());
            let refresh = pair
                .endpoint
                .clone()
                .map(|(before, after)| Op::Refresh { endpoint: after, before: Some(before) });
            // The datapath counts on what fits: it hears of less before it is so, of more after.
            if held == mtu {
                ops.splice(0..0, refresh);
            } else {
                ops.extend(refresh);
            }
            ops.insert(
                0,
                Op::HoldRoutes {
                    pair: ends.clone(),
                    mtu: held,
                    node: node.clone(),
                    endpoint: endpoint.clone(),
                },
            );
            ops.push(Op::ReleaseRoutes { pair: ends, mtu: held, node, endpoint });
        }
        if let (Some(primary), Some(peer)) = (pair.host.policy, pair.host.peer_policy) {
            let from = Policies { primary, peer };
            let to = Policies {
                primary: change.primary_policy.unwrap_or(primary),
                peer: change.peer_policy.unwrap_or(peer),
            };
            if to != from {
                ops.push(Op::SetPolicies { pair: pair.ends.clone(), to, from: Some(from) });
            }
        }
        if let Some(to) = change.up.filter(|up| *up != pair.host.up) {
            ops.push(Op::SetUp { pair: pair.ends.clone(), to, from: Some(pair.host.up) });
        }
        Self::make(what, ops)
    }
}

/// What a device has of the things that a change is about. The kernel lets the sizes of IPv4 follow the others.
fn before(change: &PairChange, device: &Device) -> EndSettings {
    let now = device.segmentation();
    let asked = change.end().segmentation;
    let gso = asked.gso_max_size.is_some();
    let gro = asked.gro_max_size.is_some();
    EndSettings {
        mtu: change.mtu.map(|_| device.mtu),
        segmentation: Segmentation {
            gso_max_size: now.gso_max_size.filter(|_| gso),
            gro_max_size: now.gro_max_size.filter(|_| gro),
            gso_ipv4_max_size: now.gso_ipv4_max_size.filter(|_| gso || asked.gso_ipv4_max_size.is_some()),
            gro_ipv4_max_size: now.gro_ipv4_max_size.filter(|_| gro || asked.gro_ipv4_max_size.is_some()),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{IfIndex, NetkitPolicy, NetnsId};

    fn state(mtu: u32) -> PairState {
        let route = |text: &str| RouteKey { destination: text.parse().unwrap(), priority: 0 };
        let device = Device {
            mtu,
            gso_max_size: 65_536,
            gro_max_size: 65_536,
            gso_ipv4_max_size: Some(65_536),
            gro_ipv4_max_size: Some(65_536),
            policy: Some(NetkitPolicy::Forward),
            peer_policy: Some(NetkitPolicy::Blackhole),
            ..Device::default()
        };
        PairState {
            ends: PairEnds {
                host: IfIndex(3),
                alias: "netloom: endpoint web".into(),
                netns: "/run/netns/web".into(),
                netns_id: NetnsId { device: 4, inode: 1 },
                peer: IfIndex(2),
            },
            host: device.clone(),
            peer: device,
            node_routes: vec![route("10.0.0.2/32")],
            endpoint_routes: vec![route("0.0.0.0/0")],
            endpoint: None,
        }
    }

    fn plan(from: u32, change: &PairChange) -> Plan {
        Plan::change_pair("change endpoint web".into(), &state(from), change)
    }

    fn held(ops: &[Op]) -> Vec<(usize, u32)> {
        let held = |op: &Op| match op {
            Op::HoldRoutes { mtu, .. } | Op::ReleaseRoutes { mtu, .. } => Some(*mtu),
            _ => None,
        };
        ops.iter().enumerate().filter_map(|(index, op)| Some((index, held(op)?))).collect()
    }

    #[test]
    fn routes_are_held_to_the_smaller_mtu_around_both_ends() {
        for (from, to) in [(1_500, 9_000), (9_000, 1_500)] {
            let plan = plan(from, &PairChange { mtu: Some(to), ..PairChange::default() });
            assert_eq!(held(&plan.before), [(0, 1_500), (3, 1_500)], "{:?}", plan.before);
            assert!(matches!(plan.before[1], Op::SetEnd { end: End::Host, .. }));
            assert!(matches!(plan.before[2], Op::SetEnd { end: End::Peer, .. }));
        }
    }

    #[test]
    fn undoing_goes_back_the_same_way() {
        let plan = plan(1_500, &PairChange { mtu: Some(9_000), ..PairChange::default() });
        let undo = plan.undo(usize::MAX);
        assert_eq!(held(&undo), [(0, 1_500), (3, 1_500)]);
        assert!(matches!(undo[0], Op::HoldRoutes { .. }) && matches!(undo[3], Op::ReleaseRoutes { .. }));
        for op in &undo[1..3] {
            assert!(matches!(op, Op::SetEnd { to: EndSettings { mtu: Some(1_500), .. }, from: None, .. }));
        }
        assert!(undo.iter().filter_map(Op::undo).all(|op| !matches!(op, Op::SetEnd { .. })));
    }

    #[test]
    fn what_the_kernel_changes_along_is_put_back_too() {
        let plan = plan(1_500, &PairChange { gso_max_size: Some(30_000), ..PairChange::default() });
        let Some(Op::SetEnd { to, from: Some(from), .. }) = plan.before.first() else { panic!("{plan:?}") };
        assert_eq!(to.segmentation.gso_ipv4_max_size, None);
        assert_eq!(from.segmentation.gso_ipv4_max_size, Some(65_536));
        assert_eq!((from.mtu, from.segmentation.gro_max_size), (None, None));
        assert!(held(&plan.before).is_empty(), "no MTU changes");
    }

    #[test]
    fn what_is_so_already_needs_no_step() {
        let change = PairChange {
            mtu: Some(1_500),
            primary_policy: Some(NetkitPolicy::Forward),
            ..PairChange::default()
        };
        assert_eq!(plan(1_500, &change).before, []);
        let change = PairChange { peer_policy: Some(NetkitPolicy::Forward), ..PairChange::default() };
        let plan = plan(1_500, &change);
        let to = Policies { primary: NetkitPolicy::Forward, peer: NetkitPolicy::Forward };
        assert!(matches!(&plan.before[..], [Op::SetPolicies { to: found, .. }] if *found == to));
    }
}
