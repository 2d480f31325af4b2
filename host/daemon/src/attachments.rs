//! Attachments and chains: any program on any device, where policy places it.

use std::path::Path;

use anyhow::anyhow;
use netloom_api::types::{AttachAnswer, AttachRequest, Attachment, Chain, Done};
use netloom_core::{
    model::{AttachmentMode, Candidate, Feature, HookPoint, Name, Owner, ProgramSource},
    plan::{Op, Plan, Target},
};
use netloom_kernel::{
    devices::Devices,
    links::{self, LinkError},
    netns::Netns,
};

use crate::{failure::Failure, naming, node::Node};

impl Node {
    /// Every attachment.
    pub(crate) fn attachments(&self) -> Result<Vec<Attachment>, Failure> {
        Ok(self.store.all::<Attachment>()?.into_iter().map(|(_, attachment)| attachment).collect())
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
        let target = self.target(&request).await?;
        let (hook, _) = self.hook(&target).await?;
        let _guard = self.locks.netns(hook.netns).await;
        let number = self.store.commit(|changes| changes.next("attachment"))?;
        let id = naming::attachment(&request.owner, number);
        let candidate = Candidate {
            owner: request.owner,
            name: String::new(),
            tag: String::new(),
            priority: request.priority,
            labels: request.labels,
            required: request.required,
        };
        let program = ProgramSource::Object { path: request.object, program: request.program };
        let what = format!("attach {id}");
        let plan = Plan::attach(Op::Attach { id: id.clone(), target, candidate, program }, what);
        let journal = self.begin(&plan)?;
        let (attachment, replaced) = self
            .execute(plan, journal, |progress, changes| {
                for attachment in &progress.attachments {
                    changes.put(&attachment.id, attachment)?;
                }
                for id in &progress.replaced {
                    changes.remove::<Attachment>(id)?;
                }
                Ok((progress.attachments.first().cloned(), progress.replaced.clone()))
            })
            .await?;
        for id in &replaced {
            self.forget_replaced(id)?;
        }
        let attachment = attachment.ok_or_else(|| anyhow!("nothing was attached"))?;
        let chain = self.chain_of(&attachment)?;
        Ok(AttachAnswer { decided_by: attachment.decided_by.clone(), attachment, chain })
    }

    /// Detaches one of ours.
    pub(crate) async fn detach(&self, id: &str) -> Result<Done, Failure> {
        let attachment = self.store.get::<Attachment>(id)?.ok_or_else(|| {
            Failure::not_found(format!("there is no attachment {id}")).hint("see `netloom attachments`")
        })?;
        if attachment.candidate.owner.as_str() == Owner::DATAPATH {
            return Err(Failure::conflict(format!("{id} is an endpoint's datapath"))
                .hint("delete the endpoint; its datapath goes with it"));
        }
        let _guard = self.locks.netns(attachment.hook.netns).await;
        let warnings = self.detach_recorded(&attachment).await?;
        Ok(Done { warnings })
    }

    /// Detaches what a record stands for, and forgets it: what could not be cleaned up.
    pub(crate) async fn detach_recorded(&self, attachment: &Attachment) -> Result<Vec<String>, Failure> {
        let plan = Plan::detach(attachment);
        let journal = self.begin(&plan)?;
        self.finish(plan, journal, |changes| changes.remove::<Attachment>(&attachment.id)).await
    }

    /// The chains of a device: each hook that the device has and that has a program.
    pub(crate) async fn chains(
        &self,
        device: Option<&str>,
        netns: Option<&Path>,
        endpoint: Option<&Name>,
    ) -> Result<Vec<Chain>, Failure> {
        let device = match (device, endpoint) {
            (Some(device), None) => device.to_owned(),
            (None, Some(endpoint)) => self.endpoint(endpoint).await?.endpoint.host_interface,
            _ => return Err(Failure::invalid(anyhow!("name either a device or an endpoint"))),
        };
        let target =
            |point| Target { netns: netns.map(Into::into), device: device.clone(), point, endpoint: None };
        let mut chains = Vec::new();
        for point in HookPoint::ALL {
            let (hook, netns) = self.hook(&target(point)).await?;
            match links::query(&hook, &netns) {
                Ok(chain) if !chain.entries.is_empty() => chains.push(self.annotated(chain)?),
                Ok(_)
                | Err(
                    LinkError::NotNetkit { .. } | LinkError::ViaPeer { .. } | LinkError::Unsupported { .. },
                ) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(chains)
    }

    fn chain_of(&self, attachment: &Attachment) -> Result<Chain, Failure> {
        let netns = attachment.netns.as_deref().map_or_else(|| Ok(self.netns.clone()), Netns::open)?;
        Ok(self.annotated(links::query(&attachment.hook, &netns)?)?)
    }

    /// Where a request wants its program: a device, or an endpoint's device on the node.
    async fn target(&self, request: &AttachRequest) -> Result<Target, Failure> {
        let (netns, device, endpoint) = match &request.endpoint {
            None => (request.netns.clone(), request.device.clone(), None),
            Some(name) => {
                let endpoint = self.endpoint(name).await?.endpoint;
                (None, endpoint.host_interface, Some(name.clone()))
            }
        };
        let point = match request.point {
            Some(point) => point,
            None => self.default_point(netns.as_deref(), &device).await?,
        };
        Ok(Target { netns, device, point, endpoint })
    }

    /// What leaves an endpoint on netkit, what arrives elsewhere; by link where the kernel has links.
    async fn default_point(&self, netns: Option<&Path>, device: &str) -> Result<HookPoint, Failure> {
        let found = match netns {
            None => self.devices.get(device).await?,
            Some(path) => Devices::open(&Netns::open(path).map_err(Failure::invalid)?)?.get(device).await?,
        };
        let netkit =
            found.and_then(|device| device.mode).is_some_and(netloom_core::model::DeviceMode::is_netkit);
        Ok(match self.config.attachments.mode {
            AttachmentMode::Auto | AttachmentMode::Tcx if netkit => HookPoint::NetkitPeer,
            AttachmentMode::Tcx => HookPoint::TcxIngress,
            AttachmentMode::Auto if self.capabilities.has(Feature::Tcx) => HookPoint::TcxIngress,
            AttachmentMode::Auto | AttachmentMode::Tc => HookPoint::TcIngress,
        })
    }
}
