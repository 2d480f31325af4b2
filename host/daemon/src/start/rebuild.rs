//! Endpoints whose records were lost: made again from what the kernel shows, if that proves that they are ours.
//!
//! The alias of a device names the endpoint, and proves nothing. What does is that the links (on legacy tc: the
//! programs) that are pinned in our folder under this name run on this very device, and that the datapath's map has
//! addresses for it. What cannot be read from the kernel (labels, runtime class, what was asked for as opposed to what
//! was given) is lost.

use anyhow::anyhow;
use ipnet::IpNet;
use netloom_api::types::{Adoption, EndpointRoute};
use netloom_core::model::{
    Attachment, Candidate, Device, Endpoint, EndpointMode, EndpointSpec, Hook, HookPoint, Name, NetkitPolicy,
    ProgramSource,
};
use netloom_kernel::{
    links::{self, Link},
    programs::Program,
};

use super::Start;
use crate::{executor::kind, failure::Failure, naming, orphans::Orphan};

/// What decided about an endpoint whose record was made again.
const REBUILT: &str = "rebuilt";

impl Start {
    /// Makes the records of endpoints again that have none.
    pub(crate) async fn rebuild_endpoints(&self, adoption: &mut Adoption) -> Result<(), Failure> {
        for orphan in self.orphans.find().await? {
            let Orphan::Device(device) = orphan else { continue };
            let alias = device.alias.as_deref().unwrap_or_default();
            let Some(name) = naming::endpoint_of(&self.instance, alias) else { continue };
            if self.store.get::<Endpoint>(name.as_str())?.is_some() {
                continue;
            }
            match self.rebuilt(&name, &device).await {
                Ok((endpoint, attachments)) => {
                    self.store.commit(|changes| {
                        for attachment in &attachments {
                            changes.put(&attachment.id, attachment)?;
                        }
                        changes.put(name.as_str(), &endpoint)
                    })?;
                    tracing::warn!(endpoint = %name, "its record was lost, and is made again from the kernel's state");
                    adoption.recovered.push(format!(
                        "endpoint {name}: its record was lost, and made again without labels and runtime class"
                    ));
                }
                Err(failure) => {
                    tracing::warn!(endpoint = %name, device = device.name, %failure, "its record cannot be made again");
                }
            }
        }
        Ok(())
    }

    async fn rebuilt(&self, name: &Name, device: &Device) -> Result<(Endpoint, Vec<Attachment>), Failure> {
        let mode = device.mode.ok_or_else(|| anyhow!("{} is no pair", device.name))?;
        let peer = self.devices.peer(device).await?;
        let peer = peer.ok_or_else(|| anyhow!("its other end is not to be found"))?;
        let netns = peer.names.first().ok_or_else(|| anyhow!("nothing leads to its namespace"))?;

        let mut entries = self.datapath.addresses()?;
        entries.retain(|entry| entry.host_ifindex == device.ifindex);
        let id = entries.first().map(|entry| entry.id);
        let id = id.ok_or_else(|| anyhow!("the datapath knows no address of it"))?;
        if entries.iter().any(|entry| entry.id != id) {
            return Err(Failure::conflict("the datapath knows it under several numbers"));
        }

        let first = naming::next_endpoint_attachments(name, &[]);
        let second = naming::next_endpoint_attachments(name, &first);
        let there = |ids: &Vec<String>| ids.iter().all(|id| naming::pin(&self.paths.bpffs, id).exists());
        let ids = [first, second].into_iter().find(there);
        let ids = ids.ok_or_else(|| anyhow!("its programs are not pinned"))?;
        let sources = [ProgramSource::FromEndpoint, ProgramSource::ToEndpoint];
        let mut attachments = Vec::new();
        for (id, source) in ids.iter().zip(sources) {
            attachments.push(self.found_on(device, &peer.device, name, id, source)?);
        }
        let kind = attachments.first().map(|attachment| attachment.kind);
        let kind = kind.ok_or_else(|| anyhow!("it has no programs"))?;

        let addresses: Vec<IpNet> = entries.iter().map(|entry| IpNet::from(entry.address)).collect();
        let mut routes = peer.devices.routes_by(peer.device.ifindex).await?;
        routes.retain(|route| route.destination.prefix_len() == 0);
        let routes: Vec<EndpointRoute> = routes
            .into_iter()
            .map(|route| EndpointRoute { destination: route.destination, metric: route.metric })
            .collect();
        let endpoint = Endpoint {
            routes: Some(routes).filter(|routes| *routes != EndpointRoute::defaults(&addresses)),
            spec: EndpointSpec {
                interface: peer.device.name.clone(),
                labels: self.endpoints.found_labels(peer.devices.netns().cookie()?)?,
                ..EndpointSpec::plain(name.clone(), netns.clone())
            },
            id,
            netns: peer.device.netns,
            netns_cookie: peer.devices.netns().cookie()?,
            mode: EndpointMode {
                primary_policy: device.policy.unwrap_or(NetkitPolicy::Forward),
                peer_policy: device.peer_policy.unwrap_or(NetkitPolicy::Blackhole),
                mtu: device.mtu,
                ..EndpointMode::plain(mode, kind)
            },
            decided_by: REBUILT.to_owned(),
            addresses,
            host_interface: device.name.clone(),
            host_ifindex: device.ifindex,
            peer_ifindex: peer.device.ifindex,
            mac: peer.device.mac,
            host_mac: device.mac,
            attachments: ids,
        };
        Ok((endpoint, attachments))
    }

    /// The record of a pinned program that runs on this device.
    fn found_on(
        &self,
        device: &Device,
        peer: &Device,
        endpoint: &Name,
        id: &str,
        source: ProgramSource,
    ) -> Result<Attachment, Failure> {
        let pin = naming::pin(&self.paths.bpffs, id);
        let hook = |point| Hook {
            netns: self.netns.id(),
            device: device.name.clone(),
            ifindex: device.ifindex,
            point,
        };
        let elsewhere = || anyhow!("{} does not run on {}", pin.display(), device.name);
        let (hook, program, link, filter) = if let Ok(link) = Link::open_pinned(&pin) {
            let info = link.info()?;
            let end = if info.point == HookPoint::NetkitPeer { peer.ifindex } else { device.ifindex };
            if info.ifindex != Some(end) {
                return Err(elsewhere().into());
            }
            (hook(info.point), Program::from_id(info.program)?, Some(info.id), None)
        } else {
            let program = Program::open_pinned(&pin)?;
            let mut found = None;
            for point in [HookPoint::TcIngress, HookPoint::TcEgress] {
                let chain = links::query(&hook(point), &self.netns)?;
                let entry = chain.entries.into_iter().find(|entry| entry.program == program.id());
                found = found.or(entry.map(|entry| (point, entry.filter)));
            }
            let (point, filter) = found.ok_or_else(elsewhere)?;
            (hook(point), program, None, filter)
        };
        let candidate = Candidate {
            name: program.name().to_owned(),
            tag: program.tag().to_owned(),
            ..Candidate::datapath(true)
        };
        Ok(Attachment {
            id: id.to_owned(),
            kind: kind(hook.point),
            mode: None,
            netns: None,
            hook,
            candidate,
            program: program.id(),
            link,
            filter,
            endpoint: Some(endpoint.clone()),
            decided_by: REBUILT.to_owned(),
            source,
        })
    }
}
