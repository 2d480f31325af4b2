//! From legacy tc to tcx and back, while packets flow.

use std::sync::Arc;

use netloom_api::types::{Attachment, AttachmentKind, AttachmentMode, Endpoint, MigrateRequest};
use netloom_core::{
    model::{Feature, Name, Owner},
    plan::{Place, Relocation, Target},
};
use serde::{Deserialize, Serialize};

use super::Chains;
use crate::{failure::Failure, locks::HookGuard, store::Record};

/// How this node attached programs when it last brought them in line with its configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Followed(AttachmentMode);
impl Record for Followed {
    const TABLE: &'static str = "followed";
}

const KEY: &str = "attachments.mode";

impl Chains {
    /// Takes an attachment to tcx or legacy tc, and keeps it there whatever the configuration says; `auto` makes it
    /// follow the kernel again. An endpoint's datapath goes as a whole.
    pub(crate) async fn migrate(
        &self,
        id: &str,
        request: MigrateRequest,
    ) -> Result<Vec<Attachment>, Failure> {
        let (guard, attachment) = self.lock_attachment(id).await?;
        let mut moved = Vec::new();
        for attachment in self.together_with(&attachment)? {
            moved.push(self.migrate_locked(&guard, &attachment, request.to).await?);
            let record = Attachment { mode: Some(request.to), ..self.inventory.attachment(&attachment.id)? };
            self.store.commit(|changes| changes.put(&record.id, &record))?;
        }
        if let Some(endpoint) = attachment.endpoint.as_ref().filter(|_| is_datapath(&attachment)) {
            self.note_kind(endpoint)?;
        }
        drop(guard);
        moved.iter().map(|id| self.inventory.attachment(id)).collect()
    }

    /// Brings every attachment in line with the configuration, if that changed since the last time.
    async fn follow_mode(&self) -> Result<usize, Failure> {
        let wish = Followed(self.config.attachments.mode);
        match self.store.get::<Followed>(KEY)? {
            Some(followed) if followed == wish => return Ok(0),
            // The first start: whatever is there was attached by this configuration.
            None if self.inventory.attachments()?.is_empty() => {
                self.store.commit(|changes| changes.put(KEY, &wish))?;
                return Ok(0);
            }
            _ => {}
        }
        // Until all of it is over it follows neither: whoever stops now, and takes the change back, wants it brought in
        // line once more.
        self.store.commit(|changes| changes.remove::<Followed>(KEY).map(drop))?;
        let mut moved = 0;
        let mut left = Vec::new();
        for attachment in self.inventory.attachments()? {
            let before = attachment.hook.point;
            match self.follow(&attachment, wish.0).await {
                Ok(()) => {
                    moved += usize::from(self.inventory.attachment(&attachment.id)?.hook.point != before);
                }
                // Its owner took it away meanwhile.
                Err(failure) if failure.is_not_found() => {}
                Err(failure) => {
                    tracing::error!(attachment = attachment.id, %failure, "does not follow attachments.mode");
                    left.push(attachment.id);
                }
            }
        }
        if left.is_empty() {
            self.store.commit(|changes| changes.put(KEY, &wish))?;
        }
        Ok(moved)
    }

    /// The same beside the requests.
    pub(crate) async fn follow_configuration(self: Arc<Self>) {
        match self.follow_mode().await {
            Ok(0) => {}
            Ok(moved) => {
                let mode = self.config.attachments.mode;
                tracing::info!(moved, %mode, "attachments follow the configuration");
            }
            Err(failure) => tracing::error!(%failure, "attachments do not follow the configuration"),
        }
    }

    async fn follow(&self, attachment: &Attachment, wish: AttachmentMode) -> Result<(), Failure> {
        let (guard, attachment) = self.lock_attachment(&attachment.id).await?;
        if attachment.mode.is_some() {
            return Ok(());
        }
        let Some(name) = attachment.endpoint.as_ref().filter(|_| is_datapath(&attachment)) else {
            return self.migrate_locked(&guard, &attachment, wish).await.map(drop);
        };
        // An endpoint's kind is policy's to choose; the configuration only fills what policy leaves open.
        let Some(endpoint) = self.store.get::<Endpoint>(name.as_str())? else { return Ok(()) };
        let Endpoint { spec, netns, addresses, mode, .. } = &endpoint;
        let decided = self.policy.choose_mode(spec, *netns, addresses, mode.mtu).await?;
        let wish = match decided.answer.attachment {
            AttachmentKind::Tc => AttachmentMode::Tc,
            AttachmentKind::Tcx => AttachmentMode::Tcx,
            AttachmentKind::Netkit => AttachmentMode::Auto,
        };
        if !endpoint.mode.device.is_netkit() {
            self.migrate_locked(&guard, &attachment, wish).await?;
            self.note_kind(name)?;
        }
        Ok(())
    }

    /// Takes one attachment to the hook point it should be at: its id.
    async fn migrate_locked(
        &self,
        held: &HookGuard,
        attachment: &Attachment,
        wish: AttachmentMode,
    ) -> Result<String, Failure> {
        let from = Target::of(attachment);
        let legacy = match wish {
            AttachmentMode::Tc => true,
            AttachmentMode::Tcx => false,
            AttachmentMode::Auto => !self.capabilities.has(Feature::Tcx),
        };
        let point = match (from.point.on(legacy), wish) {
            (Some(point), _) => point,
            (None, AttachmentMode::Tc) => {
                return Err(Failure::refused(anyhow::anyhow!(
                    "{} stays at {}: only a netkit program sees what a netkit device carries",
                    attachment.id,
                    from.point
                ))
                .hint("an endpoint on veth can use legacy tc"));
            }
            (None, _) => from.point,
        };
        if !legacy && !point.is_netkit() && !self.capabilities.has(Feature::Tcx) {
            return Err(Failure::refused(anyhow::anyhow!(
                "this kernel has no tcx, so {} stays on legacy tc",
                attachment.id
            ))
            .hint("see `netloom doctor`"));
        }
        if point != from.point {
            let to = Target { point, ..from.clone() };
            let id = attachment.id.clone();
            self.relocate(held, &Relocation { id, from, to, place: Place::Decided }).await?;
        }
        Ok(attachment.id.clone())
    }

    /// An attachment and those that must be of its kind.
    fn together_with(&self, attachment: &Attachment) -> Result<Vec<Attachment>, Failure> {
        if !is_datapath(attachment) {
            return Ok(vec![attachment.clone()]);
        }
        let mut all = self.inventory.attachments()?;
        all.retain(|other| is_datapath(other) && other.endpoint == attachment.endpoint);
        Ok(all)
    }

    /// An endpoint's record says how its datapath is attached.
    fn note_kind(&self, name: &Name) -> Result<(), Failure> {
        let mut attachments = self.inventory.attachments()?;
        attachments.retain(|other| is_datapath(other) && other.endpoint.as_ref() == Some(name));
        let (Some(attachment), Some(mut endpoint)) =
            (attachments.first(), self.store.get::<Endpoint>(name.as_str())?)
        else {
            return Ok(());
        };
        endpoint.mode.attachment = attachment.kind;
        Ok(self.store.commit(|changes| changes.put(name.as_str(), &endpoint))?)
    }
}

fn is_datapath(attachment: &Attachment) -> bool {
    attachment.candidate.owner.as_str() == Owner::DATAPATH
}
