//! Taking an endpoint from one device mode to another while it lives.
//!
//! A device's kind cannot change, so a second pair is made beside the first, under another name, with its programs
//! attached. Then the endpoint's interface is switched over: the only time without a path. The first pair goes when
//! the record has the second.

use super::{Endpoints, hook_points};
use crate::{executor::gone, failure::Failure, naming};
use netloom_api::types::{
    AttachmentMode, AttachmentMoved, EndpointMigrated, EndpointMigration, EndpointView,
};
use netloom_core::{
    answer::RawMode,
    model::{Attachment, Endpoint, Feature, HookPoint, IfIndex, Name, Owner, PairSpec},
    plan::{Along, Op, Plan, Switch, Target},
    validate::{self, ModeDefaults},
};

impl Endpoints {
    /// Takes an endpoint to a pair of another mode, or leaves it as it is.
    pub(crate) async fn migrate(
        &self,
        name: &Name,
        request: EndpointMigration,
    ) -> Result<EndpointMigrated, Failure> {
        let (_endpoint, _) = self.lock(name).await?;
        let _node = self.locks.netns(self.netns.id()).await;
        // What is attached to its device may have changed while the node was waited for.
        let before = self.inventory.endpoint_record(name)?;
        let host_ifindex = self.devices.free_index().await?;
        let after = Endpoint { host_ifindex, ..self.migrated(&before, request)? };
        let context = format!("endpoint {name} stays on {}", before.mode.device);

        let alias = naming::alias(&self.instance, name);
        let inside = self.executor.inside(&before).await?.ok_or_else(|| gone(&before))?;
        let (host, peer) =
            self.executor.ends(&before, &alias, &inside).await?.ok_or_else(|| gone(&before))?;
        let way = Switch {
            endpoint_routes: inside.routes_through(peer.ifindex).await?,
            node_routes: self.devices.routes_through(host.ifindex).await?,
            before: before.clone(),
            after: after.clone(),
            alias: alias.clone(),
        };
        let pair = PairSpec {
            // Its own until the endpoint is switched over, which brings the addresses.
            peer_name: after.host_interface.clone(),
            addresses: Vec::new(),
            ..self.pair(&after)
        };
        let left = self.attachments_on(&before, peer.ifindex)?;
        let (moved, along) = self.along(&before, &after, &left)?;
        let plan = Plan::switch(way, pair, self.programs(&after), along, &left);
        let journal = self.executor.begin(plan).await?;
        let done = self.executor.run(journal, |progress, changes| {
            let endpoint = progress.on_pair(&after);
            for attachment in &progress.attachments {
                let mut attachment = attachment.clone();
                if attachment.netns.is_some() {
                    attachment.hook.device.clone_from(&endpoint.spec.interface);
                }
                changes.put(&attachment.id, &attachment)?;
            }
            for attachment in &left {
                changes.remove::<Attachment>(&attachment.id)?;
            }
            changes.put(name.as_str(), &endpoint)?;
            Ok((endpoint, progress.gap.unwrap_or_default()))
        });
        let ((endpoint, gap), warnings) = done.await.map_err(|failure| failure.context(context))?;
        tracing::info!(endpoint = %name, from = %before.mode.device, to = %endpoint.mode.device, ?gap, "migrated");
        let endpoint: EndpointView = self.view(endpoint).await?;
        let gap_us = u64::try_from(gap.as_micros()).unwrap_or(u64::MAX);
        Ok(EndpointMigrated { from: before.mode.device, gap_us, attachments: moved, endpoint, warnings })
    }

    /// The endpoint as it will be.
    fn migrated(&self, before: &Endpoint, request: EndpointMigration) -> Result<Endpoint, Failure> {
        let name = &before.spec.name;
        let (device, present) = (request.mode, &before.mode);
        let mut spec = before.spec.clone();
        spec.mac = request.mac.or(spec.mac);
        if let Some(mac) = spec.mac.filter(|_| !device.has_mac()) {
            return Err(Failure::invalid(anyhow::anyhow!(
                "endpoint {name} asks for the hardware address {mac}, and {device} has none"
            ))
            .hint("use netkit-l2"));
        }
        if device.is_netkit() && !self.capabilities.has(Feature::Netkit) {
            return Err(Failure::refused(anyhow::anyhow!(
                "endpoint {name} stays on {}: this kernel has no netkit",
                present.device
            ))
            .hint("netkit needs Linux 6.7 with CONFIG_NETKIT: see `netloom doctor`"));
        }
        let mac = device
            .has_mac()
            .then(|| spec.mac.or(before.mac).unwrap_or_else(|| naming::mac(&self.instance, name, false)));
        if (device, mac) == (present.device, before.mac) {
            return Err(Failure::conflict(format!("endpoint {name} is on {device} already"))
                .hint("see `netloom endpoint show`"));
        }
        // A netkit pair's settings mean something on another one alone.
        let netkit = device.is_netkit() && present.device.is_netkit();
        let raw = RawMode {
            device,
            attachment: None,
            primary_policy: Some(present.primary_policy).filter(|_| netkit),
            peer_policy: Some(present.peer_policy).filter(|_| netkit),
            scrub: present.scrub.filter(|_| netkit),
            peer_scrub: present.peer_scrub.filter(|_| netkit),
            headroom: present.headroom.filter(|_| netkit),
            tailroom: present.tailroom.filter(|_| netkit),
            mtu: Some(present.mtu),
            gso_max_size: present.segmentation.gso_max_size,
            gro_max_size: present.segmentation.gro_max_size,
        };
        let defaults = ModeDefaults { attachment: self.config.attachments.mode, mtu: present.mtu };
        let ipv6 = before.addresses.iter().any(|address| address.addr().is_ipv6());
        let mut mode = validate::mode(&raw, &spec, ipv6, &self.capabilities, &defaults).map_err(|error| {
            Failure::refused(anyhow::anyhow!("endpoint {name} cannot be on {device}: {error}"))
        })?;
        mode.segmentation = present.segmentation;
        Ok(Endpoint {
            host_interface: naming::next_host_interface(&self.instance, name, &before.host_interface),
            host_ifindex: IfIndex(0),
            peer_ifindex: IfIndex(0),
            mac,
            host_mac: device.has_mac().then(|| naming::mac(&self.instance, name, true)),
            attachments: naming::next_endpoint_attachments(name, &before.attachments),
            mode,
            decided_by: "operator".to_owned(),
            spec,
            ..before.clone()
        })
    }

    /// What is attached to either end of an endpoint's pair.
    fn attachments_on(&self, endpoint: &Endpoint, peer: IfIndex) -> Result<Vec<Attachment>, Failure> {
        let mut all = self.inventory.attachments_of(endpoint)?;
        all.extend(
            self.inventory.attachments()?.into_iter().filter(|attachment| {
                attachment.hook.netns == endpoint.netns && attachment.hook.ifindex == peer
            }),
        );
        Ok(all)
    }

    /// The attachments of others, under new ids: the old ones are in use until the end.
    fn along(
        &self,
        before: &Endpoint,
        after: &Endpoint,
        left: &[Attachment],
    ) -> Result<(Vec<AttachmentMoved>, Vec<Along>), Failure> {
        let (mut moved, mut along) = (Vec::new(), Vec::new());
        let others = left.iter().filter(|attachment| attachment.candidate.owner.as_str() != Owner::DATAPATH);
        for attachment in others {
            let id = self.executor.attachment_id(&attachment.candidate.owner)?;
            let point = match attachment.hook.netns == before.netns {
                true => attachment.hook.point,
                false => counterpart(attachment, after),
            };
            moved.push(AttachmentMoved { was: attachment.id.clone(), id: id.clone() });
            along.push(Along {
                program: attachment.program,
                attach: Op::Attach {
                    id,
                    target: Target {
                        netns: attachment.netns.clone(),
                        device: after.host_interface.clone(),
                        point,
                        endpoint: attachment.endpoint.clone(),
                    },
                    candidate: attachment.candidate.clone(),
                    program: attachment.source.clone(),
                    mode: attachment.mode.filter(|_| !point.is_netkit()),
                    fixed: None,
                },
            });
        }
        Ok((moved, along))
    }
}

/// The place on the node's end where a program sees the same packets as before.
fn counterpart(attachment: &Attachment, after: &Endpoint) -> HookPoint {
    let (from, to) = hook_points(after.mode.device, after.mode.attachment);
    let point = match attachment.hook.point {
        HookPoint::NetkitPeer | HookPoint::TcxIngress | HookPoint::TcIngress => from,
        HookPoint::NetkitPrimary | HookPoint::TcxEgress | HookPoint::TcEgress => to,
    };
    match attachment.mode {
        Some(AttachmentMode::Tc) => point.on(true).unwrap_or(point),
        _ => point,
    }
}
