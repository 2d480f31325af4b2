//! Plans: the steps that carry a decision out, as data.
//!
//! A plan is a saga with a pivot: until the pivot a failure has everything undone, from then on what is left is finished,
//! if need be later. It is written to the store before its first step and removed after its last. Every step names all
//! it touches, and can be undone without knowing how far it got; so a plan found in the store after a crash is undone
//! or finished by the same code that carries plans out.

mod change;
mod relocation;
mod switch;

use std::{collections::HashSet, net::IpAddr, path::PathBuf};

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use crate::model::{
    Attachment, AttachmentMode, Candidate, EndSettings, Endpoint, EndpointRoute, HookPoint, IfIndex, Name,
    NetkitPolicy, NetnsId, PairSpec, Placement, ProgramId, ProgramSource, Revision,
};

pub use self::{
    change::PairState,
    relocation::{Place, Relocation, RelocationStep},
    switch::{Along, Switch},
};

/// One step.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Op {
    /// Create a device pair, closed in both directions where the kernel can. The node's end gets the index that the
    /// pair names, by which the undoing finds it.
    CreatePair {
        /// A path of the namespace the other end is born in.
        netns: PathBuf,
        /// What that namespace is, should the path become another's.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        netns_id: Option<NetnsId>,
        /// The pair.
        pair: Box<PairSpec>,
    },
    /// Delete a device of ours, and with it its peer. One with another index or alias is not ours and stays, whatever
    /// its name.
    DeleteDevice {
        /// The node's end.
        name: String,
        /// The alias we gave it.
        alias: String,
        /// Its index; none in plans of versions that did not write it down.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        ifindex: Option<IfIndex>,
    },
    /// Both ends of the pair just made are set up, and get their routes and neighbours, which go with the device.
    Wire {
        /// A path of the endpoint's namespace.
        netns: PathBuf,
        /// The endpoint's addresses.
        addresses: Vec<IpNet>,
        /// The routes of its namespace; none if they are the default ones alone.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        routes: Option<Vec<EndpointRoute>>,
    },
    /// Make an endpoint known to the datapath.
    Publish {
        /// The endpoint; its indexes are filled in when the device exists.
        endpoint: Box<Endpoint>,
    },
    /// Take an endpoint out of the datapath.
    Withdraw {
        /// Its number.
        id: u32,
        /// Its addresses.
        addresses: Vec<IpAddr>,
    },
    /// Attach a program where policy places it, and pin its link.
    Attach {
        /// The attachment's id.
        id: String,
        /// Where.
        target: Target,
        /// What, and for whom.
        candidate: Candidate,
        /// Which program.
        program: ProgramSource,
        /// How, if that was asked for.
        #[serde(default)]
        mode: Option<AttachmentMode>,
        /// The place, where somebody has decided it already; none asks policy.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        fixed: Option<FixedPlace>,
    },
    /// Detach a program of ours and remove its pin. A program that is not ours is not touched.
    Detach {
        /// The attachment's id, which names its pin.
        id: String,
        /// Where it is: a legacy tc filter is found there by its pinned program.
        target: Target,
    },
    /// Keep what both stacks send through a pair to a size, whatever its MTU: while its ends differ, the larger one
    /// would send what the smaller one drops.
    HoldRoutes {
        /// The pair.
        pair: PairEnds,
        /// Bytes.
        mtu: u32,
        /// The node's routes through it.
        node: Vec<RouteKey>,
        /// The endpoint's routes through it.
        endpoint: Vec<RouteKey>,
    },
    /// Let the same routes follow the pair's MTU again.
    ReleaseRoutes {
        /// The pair.
        pair: PairEnds,
        /// Bytes: what they were held to.
        mtu: u32,
        /// The node's routes through it.
        node: Vec<RouteKey>,
        /// The endpoint's routes through it.
        endpoint: Vec<RouteKey>,
    },
    /// Set the MTU and the sizes of one end of a pair.
    SetEnd {
        /// The pair.
        pair: PairEnds,
        /// Which end.
        end: End,
        /// What to.
        to: EndSettings,
        /// What it was; none where this is itself an undoing, for which a device that is gone is fine.
        from: Option<EndSettings>,
    },
    /// Set the policies of a netkit pair.
    SetPolicies {
        /// The pair.
        pair: PairEnds,
        /// What to.
        to: Policies,
        /// What they were; none as in [`Op::SetEnd`].
        from: Option<Policies>,
    },
    /// Set the node's end of a pair up or down.
    SetUp {
        /// The pair.
        pair: PairEnds,
        /// What to.
        to: bool,
        /// What it was; none as in [`Op::SetEnd`].
        from: Option<bool>,
    },
    /// Tell the datapath of an endpoint's new MTU: its entries, and its programs, which are replaced in their places.
    Refresh {
        /// The endpoint as it will be.
        endpoint: Box<Endpoint>,
        /// As it was; none as in [`Op::SetEnd`].
        before: Option<Box<Endpoint>>,
    },
    /// Give an attachment another program, in the same place of its chain.
    Update {
        /// The attachment's id.
        id: String,
        /// Where it is.
        target: Target,
        /// Which program.
        program: ProgramSource,
    },
    /// Give it the program back that it had before its update.
    Restore {
        /// The attachment's id.
        id: String,
        /// Where it is.
        target: Target,
    },
    /// Have an endpoint's programs made for the pair just made, before the datapath knows of it.
    Prepare {
        /// The endpoint; its indexes are filled in.
        endpoint: Box<Endpoint>,
    },
    /// Attach next a program that is in the kernel already, with all it has in its maps.
    Reuse {
        /// The program.
        program: ProgramId,
    },
    /// Take an endpoint from one pair to the other. It has no path meanwhile.
    Switch {
        /// From where to where.
        way: Box<Switch>,
        /// Back again; what is gone is fine then.
        back: bool,
    },
    /// One step of taking a program of ours to another place such that every packet meets it exactly once.
    Relocate {
        /// Which.
        step: RelocationStep,
        /// From where to where.
        way: Box<Relocation>,
    },
}

/// Both ends of a pair of ours, as a step finds them again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PairEnds {
    /// The node's end.
    pub host: IfIndex,
    /// The alias we gave it: another device with its index is not ours, and stays.
    pub alias: String,
    /// A path of the other end's namespace.
    pub netns: PathBuf,
    /// What that namespace is, should the path have become another's.
    pub netns_id: NetnsId,
    /// The other end, in that namespace.
    pub peer: IfIndex,
}

/// One end of a pair.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum End {
    /// The node's.
    Host,
    /// The endpoint's.
    Peer,
}

/// A netkit pair's policies.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Policies {
    /// Towards the endpoint.
    pub primary: NetkitPolicy,
    /// From the endpoint.
    pub peer: NetkitPolicy,
}

/// A route through a known device, by what tells it from others.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RouteKey {
    /// Where to.
    pub destination: IpNet,
    /// Its metric: lower goes first.
    pub priority: u32,
}

/// A place in a chain as it was in one snapshot.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FixedPlace {
    /// The place, by the names of the snapshot.
    pub placement: Placement,
    /// The snapshot's revision.
    pub revision: Revision,
    /// The plugin that decided it.
    pub by: Name,
}

/// Where a program is to be attached.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Target {
    /// A path of the device's namespace; the daemon's own if none.
    pub netns: Option<PathBuf>,
    /// The device's name.
    pub device: String,
    /// The place on it.
    pub point: HookPoint,
    /// The endpoint whose datapath it is, if it is one.
    pub endpoint: Option<Name>,
}

impl Target {
    /// Where a recorded attachment is.
    #[must_use]
    pub fn of(attachment: &Attachment) -> Self {
        Self {
            netns: attachment.netns.clone(),
            device: attachment.hook.device.clone(),
            point: attachment.hook.point,
            endpoint: attachment.endpoint.clone(),
        }
    }
}

/// From when on a plan is finished instead of undone.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Pivot {
    /// The commit of what the steps before it made, or of what is no longer there.
    Commit,
    /// A step that shows in the kernel whether it was done.
    Step(Box<Op>),
    /// It is behind.
    Passed,
}

/// Steps in order, and what they are for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Plan {
    /// For people: `add endpoint web`.
    pub what: String,
    /// Undone, last first, if one of them or the pivot fails.
    pub before: Vec<Op>,
    /// From when on it is finished.
    pub pivot: Pivot,
    /// What cannot fail for good: a step that fails is tried again until it does not.
    pub after: Vec<Op>,
}

/// Something that at most one plan is about at a time.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Subject {
    /// An attachment, by its id.
    Attachment(String),
    /// A device of the node, by its name.
    Device(String),
    /// A device of the node, by its index.
    Index(IfIndex),
    /// An endpoint, by its number.
    Endpoint(u32),
}

impl Op {
    /// The step that detaches a recorded attachment.
    #[must_use]
    pub fn detach(attachment: &Attachment) -> Self {
        Self::Detach { id: attachment.id.clone(), target: Target::of(attachment) }
    }

    /// The step that deletes an endpoint's pair.
    #[must_use]
    pub fn delete_pair(endpoint: &Endpoint, alias: String) -> Self {
        let name = endpoint.host_interface.clone();
        Self::DeleteDevice { name, alias, ifindex: Some(endpoint.host_ifindex) }
    }

    /// The device whose chains it changes.
    #[must_use]
    pub fn device(&self) -> Option<&str> {
        match self {
            Self::Attach { target, .. }
            | Self::Detach { target, .. }
            | Self::Update { target, .. }
            | Self::Restore { target, .. } => Some(&target.device),
            Self::Relocate { way, .. } => Some(&way.to.device),
            Self::DeleteDevice { name, .. } => Some(name),
            Self::Refresh { endpoint, .. } => Some(&endpoint.host_interface),
            _ => None,
        }
    }

    /// What it is about.
    #[must_use]
    pub fn subjects(&self) -> Vec<Subject> {
        match self {
            Self::CreatePair { pair, .. } => vec![Subject::Device(pair.host_name.clone())],
            Self::DeleteDevice { name, ifindex, .. } => {
                let index = ifindex.map(Subject::Index);
                index.into_iter().chain([Subject::Device(name.clone())]).collect()
            }
            Self::Attach { id, .. }
            | Self::Detach { id, .. }
            | Self::Update { id, .. }
            | Self::Restore { id, .. } => vec![Subject::Attachment(id.clone())],
            Self::Relocate { way, .. } => vec![Subject::Attachment(way.id.clone())],
            Self::HoldRoutes { pair, .. }
            | Self::ReleaseRoutes { pair, .. }
            | Self::SetEnd { pair, .. }
            | Self::SetPolicies { pair, .. }
            | Self::SetUp { pair, .. } => vec![Subject::Index(pair.host)],
            Self::Publish { endpoint } | Self::Prepare { endpoint } | Self::Refresh { endpoint, .. } => {
                vec![Subject::Endpoint(endpoint.id)]
            }
            Self::Withdraw { id, .. } => vec![Subject::Endpoint(*id)],
            Self::Switch { way, .. } => vec![Subject::Endpoint(way.before.id)],
            Self::Wire { .. } | Self::Reuse { .. } => Vec::new(),
        }
    }

    /// Whether the steps behind it would do harm if it failed.
    #[must_use]
    pub const fn is_barrier(&self) -> bool {
        matches!(self, Self::Relocate { .. } | Self::Switch { .. })
    }

    /// The steps that undo this one, whether it was carried out, half carried out, or never begun.
    #[must_use]
    pub fn undo(&self) -> Option<Self> {
        match self {
            Self::CreatePair { pair, .. } => Some(Self::DeleteDevice {
                name: pair.host_name.clone(),
                alias: pair.alias.clone(),
                ifindex: pair.host_ifindex,
            }),
            Self::Publish { endpoint } => Some(Self::Withdraw {
                id: endpoint.id,
                addresses: endpoint.addresses.iter().map(IpNet::addr).collect(),
            }),
            Self::Attach { id, target, .. } => Some(Self::Detach { id: id.clone(), target: target.clone() }),
            Self::HoldRoutes { pair, mtu, node, endpoint } => Some(Self::ReleaseRoutes {
                pair: pair.clone(),
                mtu: *mtu,
                node: node.clone(),
                endpoint: endpoint.clone(),
            }),
            Self::ReleaseRoutes { pair, mtu, node, endpoint } => Some(Self::HoldRoutes {
                pair: pair.clone(),
                mtu: *mtu,
                node: node.clone(),
                endpoint: endpoint.clone(),
            }),
            Self::SetEnd { pair, end, from, .. } => {
                from.map(|from| Self::SetEnd { pair: pair.clone(), end: *end, to: from, from: None })
            }
            Self::SetPolicies { pair, from, .. } => {
                from.map(|from| Self::SetPolicies { pair: pair.clone(), to: from, from: None })
            }
            Self::SetUp { pair, from, .. } => {
                from.map(|from| Self::SetUp { pair: pair.clone(), to: from, from: None })
            }
            Self::Refresh { before, .. } => {
                before.clone().map(|before| Self::Refresh { endpoint: before, before: None })
            }
            Self::Update { id, target, .. } => Some(Self::Restore { id: id.clone(), target: target.clone() }),
            Self::Relocate { step: RelocationStep::Gate, way } => {
                Some(Self::Relocate { step: RelocationStep::Ungate, way: way.clone() })
            }
            Self::Relocate { step: RelocationStep::Stand, way } => {
                Some(Self::Relocate { step: RelocationStep::Unstand, way: way.clone() })
            }
            Self::Switch { way, back: false } => Some(Self::Switch { way: way.clone(), back: true }),
            Self::Switch { back: true, .. }
            | Self::Prepare { .. }
            | Self::Reuse { .. }
            | Self::Wire { .. }
            | Self::DeleteDevice { .. }
            | Self::Withdraw { .. }
            | Self::Detach { .. }
            | Self::Restore { .. }
            | Self::Relocate { .. } => None,
        }
    }
}

impl Plan {
    /// Steps that are all done or all undone.
    #[must_use]
    pub const fn make(what: String, steps: Vec<Op>) -> Self {
        Self { what, before: steps, pivot: Pivot::Commit, after: Vec::new() }
    }

    /// Steps that take away what has no record any more once they begin.
    #[must_use]
    pub const fn remove(what: String, steps: Vec<Op>) -> Self {
        Self { what, before: Vec::new(), pivot: Pivot::Commit, after: steps }
    }

    /// What is left of a plan whose pivot is behind, or of the undoing of one.
    #[must_use]
    pub const fn rest(what: String, steps: Vec<Op>) -> Self {
        Self { what, before: Vec::new(), pivot: Pivot::Passed, after: steps }
    }

    /// Every step.
    pub fn steps(&self) -> impl Iterator<Item = &Op> {
        self.up_to_pivot().chain(&self.after)
    }

    /// The steps before the pivot, and the pivot if it is one.
    pub fn up_to_pivot(&self) -> impl Iterator<Item = &Op> {
        let pivot = match &self.pivot {
            Pivot::Step(op) => Some(&**op),
            Pivot::Commit | Pivot::Passed => None,
        };
        self.before.iter().chain(pivot)
    }

    /// What it is about.
    #[must_use]
    pub fn subjects(&self) -> HashSet<Subject> {
        self.steps().flat_map(Op::subjects).collect()
    }

    /// Whether it only takes away.
    #[must_use]
    pub const fn only_removes(&self) -> bool {
        self.before.is_empty() && matches!(self.pivot, Pivot::Commit)
    }

    /// The steps that undo this one's first `done` steps and the one that failed after them, last first.
    #[must_use]
    pub fn undo(&self, done: usize) -> Vec<Op> {
        self.before.iter().take(done.saturating_add(1)).rev().filter_map(Op::undo).collect()
    }

    /// Attach an endpoint: its devices, which stay down, then what the datapath knows of it, its programs, and its
    /// wiring, which sets the devices up. The order matters: nothing leaves the endpoint before its program is there,
    /// whatever address it is sent to.
    #[must_use]
    pub fn add_endpoint(endpoint: &Endpoint, pair: PairSpec, programs: Vec<Op>) -> Self {
        let netns = endpoint.spec.netns.clone();
        let wire = Op::Wire {
            netns: netns.clone(),
            addresses: endpoint.addresses.clone(),
            routes: endpoint.routes.clone(),
        };
        let mut steps = vec![
            Op::CreatePair { netns, netns_id: Some(endpoint.netns), pair: Box::new(pair) },
            Op::Publish { endpoint: Box::new(endpoint.clone()) },
        ];
        steps.extend(programs);
        steps.push(wire);
        Self::make(format!("add endpoint {}", endpoint.spec.name), steps)
    }

    /// Take an endpoint away: out of the datapath first, so that nothing is sent to a device that is going.
    #[must_use]
    pub fn delete_endpoint(endpoint: &Endpoint, attachments: &[Attachment], alias: String) -> Self {
        let mut steps = vec![Op::Withdraw {
            id: endpoint.id,
            addresses: endpoint.addresses.iter().map(IpNet::addr).collect(),
        }];
        steps.extend(attachments.iter().map(Op::detach));
        steps.push(Op::delete_pair(endpoint, alias));
        Self::remove(format!("delete endpoint {}", endpoint.spec.name), steps)
    }

    /// Create a pair that is no endpoint's.
    #[must_use]
    pub fn create_device(netns: PathBuf, netns_id: NetnsId, pair: PairSpec) -> Self {
        let what = format!("create device {}", pair.host_name);
        Self::make(what, vec![Op::CreatePair { netns, netns_id: Some(netns_id), pair: Box::new(pair) }])
    }

    /// Delete a pair that is no endpoint's, with what is attached to it.
    #[must_use]
    pub fn delete_device(name: &str, alias: &str, ifindex: IfIndex, attachments: &[Attachment]) -> Self {
        let mut steps: Vec<Op> = attachments.iter().map(Op::detach).collect();
        steps.push(Op::DeleteDevice {
            name: name.to_owned(),
            alias: alias.to_owned(),
            ifindex: Some(ifindex),
        });
        Self::remove(format!("delete device {name}"), steps)
    }

    /// Give an attachment another program.
    #[must_use]
    pub fn update(attachment: &Attachment, program: ProgramSource) -> Self {
        let step = Op::Update { id: attachment.id.clone(), target: Target::of(attachment), program };
        Self::make(format!("update {}", attachment.id), vec![step])
    }

    /// Detach one program.
    #[must_use]
    pub fn detach(attachment: &Attachment) -> Self {
        Self::remove(format!("detach {}", attachment.id), vec![Op::detach(attachment)])
    }

    /// The programs it attaches out of an object, which are loaded together.
    #[must_use]
    pub fn programs(&self) -> Vec<String> {
        let named = |op: &Op| match op {
            Op::Attach { program: ProgramSource::Object { program: Some(name), .. }, .. } => {
                Some(name.clone())
            }
            _ => None,
        };
        self.before.iter().filter_map(named).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{
        AttachmentKind, DeviceMode, EndpointMode, EndpointSpec, Hook, IfIndex, LinkId, NetkitPolicy,
        NetnsCookie, NetnsId, ProgramId,
    };

    fn endpoint() -> Endpoint {
        Endpoint {
            spec: EndpointSpec::plain(Name::new("web").unwrap(), "/run/netns/web"),
            id: 7,
            netns: NetnsId { device: 4, inode: 1 },
            netns_cookie: NetnsCookie(1),
            mode: EndpointMode::plain(DeviceMode::Veth, AttachmentKind::Tcx),
            decided_by: "datapath-mode".into(),
            addresses: vec!["10.0.0.2/32".parse().unwrap()],
            host_interface: "nl7".into(),
            host_ifindex: IfIndex(3),
            peer_ifindex: IfIndex(2),
            mac: None,
            host_mac: None,
            attachments: vec!["web-from".into(), "web-to".into()],
            routes: None,
        }
    }

    fn pair() -> PairSpec {
        PairSpec {
            addresses: vec!["10.0.0.2/32".parse().unwrap()],
            peer_policy: NetkitPolicy::Blackhole,
            alias: "netloom web".into(),
            host_ifindex: Some(IfIndex(77)),
            ..PairSpec::plain(DeviceMode::Veth, "nl7", "eth0")
        }
    }

    fn target() -> Target {
        Target { netns: None, device: "nl7".into(), point: HookPoint::TcxIngress, endpoint: None }
    }

    fn recorded(id: &str) -> Attachment {
        Attachment {
            id: id.into(),
            hook: Hook {
                netns: NetnsId { device: 4, inode: 1 },
                device: "nl7".into(),
                ifindex: IfIndex(3),
                point: HookPoint::TcxIngress,
            },
            netns: None,
            kind: AttachmentKind::Tcx,
            mode: None,
            candidate: candidate(),
            program: ProgramId(1),
            link: Some(LinkId(1)),
            filter: None,
            endpoint: None,
            decided_by: "attach-order".into(),
            source: ProgramSource::FromEndpoint,
        }
    }

    fn candidate() -> Candidate {
        Candidate::datapath(true)
    }

    fn attach(id: &str) -> Op {
        Op::Attach {
            id: id.into(),
            target: Target {
                netns: None,
                device: "nl7".into(),
                point: HookPoint::TcxIngress,
                endpoint: None,
            },
            candidate: candidate(),
            program: ProgramSource::FromEndpoint,
            mode: None,
            fixed: None,
        }
    }

    #[test]
    fn undoing_at_any_step_undoes_the_step_itself_and_all_before_it_in_reverse() {
        let plan = Plan::add_endpoint(&endpoint(), pair(), vec![attach("web-from"), attach("web-to")]);
        let device =
            Op::DeleteDevice { name: "nl7".into(), alias: "netloom web".into(), ifindex: Some(IfIndex(77)) };
        let withdraw = Op::Withdraw { id: 7, addresses: vec!["10.0.0.2".parse().unwrap()] };
        let detach = |id: &str| Op::Detach { id: id.into(), target: target() };

        assert_eq!(plan.undo(0), std::slice::from_ref(&device));
        assert_eq!(plan.undo(1), [withdraw.clone(), device.clone()]);
        assert_eq!(plan.undo(2), [detach("web-from"), withdraw.clone(), device.clone()]);
        let all = [detach("web-to"), detach("web-from"), withdraw, device];
        assert_eq!(plan.undo(4), all);
        assert_eq!(plan.undo(usize::MAX), all);
    }

    #[test]
    fn deleting_an_endpoint_is_finished_after_a_crash_and_takes_everything() {
        let attachments = [recorded("web-from"), recorded("web-to")];
        let plan = Plan::delete_endpoint(&endpoint(), &attachments, "netloom web".into());
        assert!(plan.only_removes());
        assert_eq!(plan.after.len(), 4);
        assert!(matches!(plan.after.last(), Some(Op::DeleteDevice { ifindex: Some(IfIndex(3)), .. })));
        assert!(plan.undo(usize::MAX).is_empty());
    }

    #[test]
    fn a_plan_survives_the_store() {
        let plan = Plan::add_endpoint(&endpoint(), pair(), vec![attach("web-from")]);
        let text = serde_json::to_string(&plan).unwrap();
        assert_eq!(serde_json::from_str::<Plan>(&text).unwrap(), plan);
    }

    #[test]
    fn a_plan_of_before_indexes_were_written_down_is_read() {
        let op: Op =
            serde_json::from_str(r#"{"delete-device":{"name":"nl7","alias":"netloom web"}}"#).unwrap();
        assert_eq!(op, Op::DeleteDevice { name: "nl7".into(), alias: "netloom web".into(), ifindex: None });
    }
}
