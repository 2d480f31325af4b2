//! Device pairs that packets go through: finding both ends again, and the steps that change them.

use std::time::Duration;

use netloom_core::{
    model::{Attachment, Device, EndSettings, Endpoint, IfIndex, ProgramSource},
    plan::{End, Op, PairEnds, PairState, Policies, RouteKey},
};
use netloom_kernel::{
    datapath::EndpointConfig,
    devices::Devices,
    links::{self, Attached, Link},
    programs::Program,
};

use super::Executor;
use crate::{failure::Failure, inventory::namespaces::namespace, naming};

/// Longest time that a packet which was routed before its route was held takes to its device. A packet takes
/// microseconds; this is for one whose thread was preempted in between.
const DRAIN_TIME: Duration = Duration::from_millis(20);

impl Executor {
    /// A pair as it is. A device that is gone is an error which says so.
    pub(crate) async fn pair_state(
        &self,
        ends: PairEnds,
        endpoint: Option<(Box<Endpoint>, Box<Endpoint>)>,
    ) -> Result<PairState, Failure> {
        let host = self.host_end(&ends).await?.ok_or_else(|| {
            Failure::not_found(format!("the device of \"{}\" is gone from the node", ends.alias))
        })?;
        let peers = namespace(&ends.netns, ends.netns_id).await?.ok_or_else(|| {
            Failure::not_found(format!(
                "the namespace of \"{}\" ({}) is gone",
                ends.alias,
                ends.netns.display()
            ))
        })?;
        let peers = Devices::open(&peers)?;
        let peer = peer_end(&peers, &ends).await?.ok_or_else(|| {
            Failure::not_found(format!(
                "the other end of {} is no longer in {}",
                host.name,
                ends.netns.display()
            ))
            .hint("was it moved to another namespace?")
        })?;
        Ok(PairState {
            node_routes: self.devices.routes_to_hold(ends.host).await?,
            endpoint_routes: peers.routes_to_hold(ends.peer).await?,
            ends,
            host,
            peer,
            endpoint,
        })
    }

    /// The node's end, if it is still there and ours.
    async fn host_end(&self, ends: &PairEnds) -> Result<Option<Device>, Failure> {
        let device = self.devices.by_index(ends.host).await?;
        Ok(device.filter(|device| device.alias.as_deref() == Some(&ends.alias)))
    }

    /// Carries out a step that changes a pair.
    pub(crate) async fn apply_to_pair(&self, op: &Op) -> Result<(), Failure> {
        match op {
            Op::HoldRoutes { pair, mtu, node, endpoint } => {
                self.hold(pair, Some(*mtu), node, endpoint).await?;
                tokio::time::sleep(DRAIN_TIME).await;
                Ok(())
            }
            Op::ReleaseRoutes { pair, node, endpoint, .. } => self.hold(pair, None, node, endpoint).await,
            Op::SetEnd { pair, end, to, from } => self.set_end(pair, *end, to, from.is_none()).await,
            Op::SetPolicies { pair, to, from } => self.set_policies(pair, *to, from.is_none()).await,
            Op::SetUp { pair, to, from } => self.set_up(pair, *to, from.is_none()).await,
            Op::Refresh { endpoint, before } => self.refresh(endpoint, before.is_none()).await,
            _ => Err(Failure::conflict("this step changes no pair")),
        }
    }

    async fn hold(
        &self,
        pair: &PairEnds,
        mtu: Option<u32>,
        node: &[RouteKey],
        endpoint: &[RouteKey],
    ) -> Result<(), Failure> {
        if self.host_end(pair).await?.is_some() {
            set_routes(&self.devices, pair.host, node, mtu).await?;
        }
        if let Some(peers) = namespace(&pair.netns, pair.netns_id).await? {
            let peers = Devices::open(&peers)?;
            if peer_end(&peers, pair).await?.is_some() {
                set_routes(&peers, pair.peer, endpoint, mtu).await?;
            }
        }
        Ok(())
    }

    async fn set_end(
        &self,
        pair: &PairEnds,
        end: End,
        to: &EndSettings,
        undoing: bool,
    ) -> Result<(), Failure> {
        let (devices, found) = match end {
            End::Host => (Some(self.devices.clone()), self.host_end(pair).await?),
            End::Peer => match namespace(&pair.netns, pair.netns_id).await? {
                Some(netns) => {
                    let peers = Devices::open(&netns)?;
                    let found = peer_end(&peers, pair).await?;
                    (Some(peers), found)
                }
                None => (None, None),
            },
        };
        match (devices, found) {
            (Some(devices), Some(device)) => {
                devices.set(device.ifindex, to).await?;
                Ok(())
            }
            _ if undoing => Ok(()),
            _ => Err(gone_meanwhile(pair)),
        }
    }

    async fn set_policies(&self, pair: &PairEnds, to: Policies, undoing: bool) -> Result<(), Failure> {
        match self.host_end(pair).await? {
            Some(host) => {
                self.devices.set_policies(host.ifindex, to.primary, to.peer).await?;
                Ok(())
            }
            None if undoing => Ok(()),
            None => Err(gone_meanwhile(pair)),
        }
    }

    async fn set_up(&self, pair: &PairEnds, up: bool, undoing: bool) -> Result<(), Failure> {
        match self.host_end(pair).await? {
            Some(host) => Ok(self.devices.set_up(host.ifindex, up).await?),
            None if undoing => Ok(()),
            None => Err(gone_meanwhile(pair)),
        }
    }

    /// Brings an endpoint's entries and programs in the datapath up to date. Each program is replaced in its place:
    /// no packet misses both.
    async fn refresh(&self, endpoint: &Endpoint, undoing: bool) -> Result<(), Failure> {
        let present = self.devices.by_index(endpoint.host_ifindex).await?;
        if undoing && present.is_none_or(|device| device.name != endpoint.host_interface) {
            return Ok(());
        }
        let config = EndpointConfig::from(endpoint);
        self.metrics.refused(self.datapath.set_endpoint(&config))?;
        let programs = self.datapath.endpoint_programs(&config)?;
        for id in &endpoint.attachments {
            let Some(attachment) = self.store.get::<Attachment>(id)? else { continue };
            let program = match attachment.source {
                ProgramSource::FromEndpoint => &programs.from_endpoint,
                ProgramSource::ToEndpoint => &programs.to_endpoint,
                ProgramSource::FromUplink | ProgramSource::Object { .. } => continue,
            };
            self.replace_program(attachment, program)?;
        }
        Ok(())
    }

    fn replace_program(&self, mut attachment: Attachment, program: &Program) -> Result<(), Failure> {
        let pin = naming::pin(&self.paths.bpffs, &attachment.id);
        match attachment.filter {
            None => {
                let link = Link::open_pinned(&pin)?;
                let old = link.info()?.program;
                link.update(program, old)?;
            }
            Some((priority, handle)) => {
                // The pin tells which filter is ours, so there is one for each program until the new one runs.
                let next = naming::next_pin(&pin);
                links::unpin(&next)?;
                program.pin(&next)?;
                let filter = Attached::Filter { priority, handle };
                let chain = links::query(&attachment.hook, &self.netns)?;
                let old = chain.entries.iter().find(|entry| entry.filter == Some((priority, handle)));
                let old = old.map_or(attachment.program, |entry| entry.program);
                filter.update(&attachment.hook, &self.netns, program, old)?;
                std::fs::rename(&next, &pin)?;
            }
        }
        attachment.program = program.id();
        attachment.candidate.tag = program.tag().to_owned();
        self.store.commit(|changes| changes.put(&attachment.id, &attachment))?;
        Ok(())
    }
}

fn gone_meanwhile(pair: &PairEnds) -> Failure {
    Failure::not_found(format!("the device of \"{}\" went away meanwhile", pair.alias))
}

async fn set_routes(
    devices: &Devices,
    device: IfIndex,
    routes: &[RouteKey],
    mtu: Option<u32>,
) -> Result<(), Failure> {
    match mtu {
        Some(mtu) => devices.hold_routes(device, routes, mtu).await?,
        None => devices.release_routes(device, routes).await?,
    }
    Ok(())
}

/// The other end, if it is still there and the pair's.
async fn peer_end(peers: &Devices, ends: &PairEnds) -> Result<Option<Device>, Failure> {
    let device = peers.by_index(ends.peer).await?;
    Ok(device.filter(|device| device.peer_ifindex == Some(ends.host)))
}
