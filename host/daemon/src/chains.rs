//! Attachments and chains: any program on any device, where policy places it.

mod migrate;
mod reattach;
mod rebalance;
mod update;
mod watch;

use std::{collections::HashSet, path::Path, sync::Arc};

use anyhow::anyhow;
use netloom_api::{
    Paths,
    types::{AttachAnswer, AttachRequest, Attachment, Done},
};
use netloom_core::{
    model::{AttachmentMode, Candidate, Capabilities, Feature, HookPoint, Owner, ProgramSource},
    plan::{Op, Plan, Relocation, Target},
};
use netloom_kernel::{datapath::Datapath, devices::Devices, netns::Netns, programs};

use crate::{
    config::Config,
    executor::{Executor, read_object},
    failure::Failure,
    inventory::{Inventory, seen::SeenChains},
    locks::{HookGuard, Locks},
    opened::Opened,
    policy::Policy,
    store::Store,
    telemetry::{events::Events, metrics::Metrics},
};

/// Attachments of anybody who asked, and the chains that they are in.
pub(crate) struct Chains {
    config: Arc<Config>,
    capabilities: Capabilities,
    paths: Paths,
    netns: Netns,
    devices: Devices,
    store: Arc<Store>,
    datapath: Arc<Datapath>,
    locks: Arc<Locks>,
    metrics: Arc<Metrics>,
    events: Arc<Events>,
    policy: Arc<Policy>,
    inventory: Arc<Inventory>,
    executor: Arc<Executor>,
    seen: Arc<SeenChains>,
}

impl Chains {
    pub(crate) fn new(
        opened: &Opened,
        policy: &Arc<Policy>,
        inventory: &Arc<Inventory>,
        executor: &Arc<Executor>,
        seen: &Arc<SeenChains>,
    ) -> Self {
        Self {
            config: Arc::clone(&opened.config),
            capabilities: opened.capabilities.clone(),
            paths: opened.paths.clone(),
            netns: opened.netns.clone(),
            devices: opened.devices.clone(),
            store: Arc::clone(&opened.store),
            datapath: Arc::clone(&opened.datapath),
            locks: Arc::clone(&opened.locks),
            metrics: Arc::clone(&opened.metrics),
            events: Arc::clone(&opened.events),
            policy: Arc::clone(policy),
            inventory: Arc::clone(inventory),
            executor: Arc::clone(executor),
            seen: Arc::clone(seen),
        }
    }

    /// Takes a program to another place. Until the turn a failure leaves it where it was.
    pub(crate) async fn relocate(&self, _held: &HookGuard, way: &Relocation) -> Result<(), Failure> {
        self.executor.relocate_on_the_way(way).await
    }

    /// Attaches a program of an ELF file.
    pub(crate) async fn attach(&self, request: AttachRequest) -> Result<AttachAnswer, Failure> {
        if request.owner.as_str() == Owner::DATAPATH {
            return Err(Failure::invalid(anyhow!("{} is the node's own datapath", Owner::DATAPATH))
                .hint("choose another owner"));
        }
        if !request.object.is_absolute() {
            return Err(Failure::invalid(anyhow!("{} is not an absolute path", request.object.display())));
        }
        let programs = self.asked_for(&request)?;
        let mode = request.mode.or_else(|| request.point.and_then(explicit_mode));
        let globals = self.globals(&request.object, request.globals.clone())?;
        let (guard, target) = self.lock_target(&request).await?;
        let mut ops = Vec::new();
        for program in &programs {
            let candidate = Candidate {
                owner: request.owner.clone(),
                name: String::new(),
                tag: String::new(),
                priority: request.priority,
                labels: request.labels.clone(),
                required: request.required,
            };
            ops.push(Op::Attach {
                id: self.executor.attachment_id(&request.owner)?,
                target: target.clone(),
                candidate,
                program: ProgramSource::Object {
                    path: request.object.clone(),
                    program: program.clone(),
                    globals: globals.clone(),
                    // Several programs of an object share its maps, and so does whichever of them is made anew.
                    shared_maps: request.shared_maps || programs.len() > 1,
                },
                mode,
                fixed: None,
            });
        }
        let what = format!("attach {} of {}", request.object.display(), request.owner);
        let mut attached = self.attach_all(&guard, ops, what).await?;
        if attached.is_empty() {
            return Err(anyhow!("nothing was attached").into());
        }
        let attachment = attached.remove(0);
        let chain = self.inventory.present(&attachment.hook).await?;
        Ok(AttachAnswer { decided_by: attachment.decided_by.clone(), attachment, chain, more: attached })
    }

    /// Where a request wants its program, and the lock of that place.
    async fn lock_target(&self, request: &AttachRequest) -> Result<(HookGuard, Target), Failure> {
        loop {
            let (before, _) = self.inventory.hook(&self.target(request).await?).await?;
            let guard = self.lock_hook(&before).await?;
            let target = self.target(request).await?;
            // The name may have become another device's while the lock was waited for.
            if self.inventory.hook(&target).await?.0 == before {
                return Ok((guard, target));
            }
        }
    }

    /// Carries out a plan that attaches programs.
    pub(crate) async fn attach_all(
        &self,
        _held: &HookGuard,
        ops: Vec<Op>,
        what: String,
    ) -> Result<Vec<Attachment>, Failure> {
        let plan = Plan::make(what, ops);
        let journal = self.executor.begin(plan).await?;
        let ((attached, replaced), _) = self
            .executor
            .run(journal, |progress, changes| {
                for attachment in &progress.attachments {
                    changes.put(&attachment.id, attachment)?;
                }
                for id in &progress.replaced {
                    changes.remove::<Attachment>(id)?;
                }
                Ok((progress.attachments.clone(), progress.replaced.clone()))
            })
            .await?;
        for id in &replaced {
            self.executor.forget_replaced(id)?;
        }
        Ok(attached)
    }

    /// The programs that a request names; none for an object's only one.
    fn asked_for(&self, request: &AttachRequest) -> Result<Vec<Option<String>>, Failure> {
        if !request.all_programs {
            if request.program.is_none() && !request.more_programs.is_empty() {
                return Err(Failure::invalid(anyhow!("more_programs is given without program")));
            }
            let more = request.more_programs.iter().cloned().map(Some);
            let programs: Vec<_> = std::iter::once(request.program.clone()).chain(more).collect();
            let mut seen = HashSet::new();
            if let Some(Some(twice)) = programs.iter().find(|program| !seen.insert(*program)) {
                return Err(Failure::invalid(anyhow!("program {twice} is named twice")));
            }
            return Ok(programs);
        }
        if request.program.is_some() || !request.more_programs.is_empty() {
            return Err(Failure::invalid(anyhow!("all_programs is given together with programs")));
        }
        let object = request.object.display().to_string();
        let found =
            programs::classifiers(&object, &read_object(&request.object)?).map_err(Failure::refused)?;
        if found.is_empty() {
            return Err(Failure::refused(anyhow!("{object} has no program that attaches to a device")));
        }
        Ok(found.into_iter().map(Some).collect())
    }

    /// Detaches one of ours.
    pub(crate) async fn detach(&self, id: &str) -> Result<Done, Failure> {
        let (guard, attachment) = self.lock_attachment(id).await?;
        if attachment.candidate.owner.as_str() == Owner::DATAPATH {
            return Err(if attachment.endpoint.is_some() {
                Failure::conflict(format!("{id} is an endpoint's datapath"))
                    .hint("delete the endpoint; its datapath goes with it")
            } else {
                Failure::conflict(format!("{id} is the node's datapath"))
                    .hint("set datapath.outside to \"stack\" to do without it")
            });
        }
        let warnings = self.detach_recorded(&guard, &attachment).await?;
        self.remove_unused_maps()?;
        Ok(Done { warnings })
    }

    /// Detaches what a record stands for, and forgets it: what could not be cleaned up.
    pub(crate) async fn detach_recorded(
        &self,
        held: &HookGuard,
        attachment: &Attachment,
    ) -> Result<Vec<String>, Failure> {
        held.check(&attachment.hook)?;
        let plan = Plan::detach(attachment);
        let journal = self.executor.begin(plan).await?;
        Ok(self.executor.run(journal, |_, changes| changes.remove::<Attachment>(&attachment.id)).await?.1)
    }

    /// Where a request wants its program: a device, or an endpoint's device on the node.
    async fn target(&self, request: &AttachRequest) -> Result<Target, Failure> {
        let (netns, device, endpoint) = match &request.endpoint {
            None => (request.netns.clone(), request.device.clone(), None),
            Some(name) => {
                let endpoint = self.inventory.endpoint_record(name)?;
                (None, endpoint.host_interface, Some(name.clone()))
            }
        };
        let point = match (request.point, request.mode) {
            (Some(point), None) => point,
            (Some(point), Some(mode)) if explicit_mode(point).is_none_or(|of_point| of_point == mode) => {
                point
            }
            (Some(point), Some(mode)) => {
                return Err(Failure::invalid(anyhow!(
                    "the hook point {point} is not one of the mode {mode}"
                ))
                .hint("leave one of them out"));
            }
            (None, mode) => {
                let mode = mode.unwrap_or(self.config.attachments.mode);
                self.default_point(netns.as_deref(), &device, mode).await?
            }
        };
        Ok(Target { netns, device, point, endpoint })
    }

    /// What leaves an endpoint on netkit, what arrives elsewhere; by link where the kernel has links.
    pub(crate) async fn default_point(
        &self,
        netns: Option<&Path>,
        device: &str,
        mode: AttachmentMode,
    ) -> Result<HookPoint, Failure> {
        let found = match netns {
            None => self.devices.get(device).await?,
            Some(path) => Devices::open(&Netns::open(path).map_err(Failure::invalid)?)?.get(device).await?,
        };
        let netkit =
            found.and_then(|device| device.mode).is_some_and(netloom_core::model::DeviceMode::is_netkit);
        Ok(match mode {
            AttachmentMode::Auto | AttachmentMode::Tcx if netkit => HookPoint::NetkitPeer,
            AttachmentMode::Tcx => HookPoint::TcxIngress,
            AttachmentMode::Auto if self.capabilities.has(Feature::Tcx) => HookPoint::TcxIngress,
            AttachmentMode::Auto | AttachmentMode::Tc => HookPoint::TcIngress,
        })
    }
}

/// The mode that a hook point stands for: who names one wants the attachment to stay there.
fn explicit_mode(point: HookPoint) -> Option<AttachmentMode> {
    match point {
        HookPoint::TcxIngress | HookPoint::TcxEgress => Some(AttachmentMode::Tcx),
        HookPoint::TcIngress | HookPoint::TcEgress => Some(AttachmentMode::Tc),
        HookPoint::NetkitPrimary | HookPoint::NetkitPeer => None,
    }
}
