//! What lost its place in a chain is attached anew, and what runs on maps of before on those of now; what is left of
//! moves and updates goes.

use std::collections::HashSet;

use netloom_api::types::Adoption;
use netloom_core::{
    model::{Attachment, Candidate, Endpoint, Owner, ProgramSource},
    plan::{Op, Plan},
};
use netloom_kernel::{
    links::{self, Link},
    programs::Program,
};

use super::Chains;
use crate::{
    executor::{Progress, remove_folder},
    failure::Failure,
    inventory::presence::Presence,
    locks::HookGuard,
    naming,
};

impl Chains {
    pub(crate) async fn adopt(&self, adoption: &mut Adoption) -> Result<(), Failure> {
        for (key, attachment) in self.store.all::<Attachment>()? {
            let why = match self.take_over(&attachment).await {
                Ok(now) => {
                    if now != attachment {
                        self.store.commit(|changes| changes.put(&key, &now))?;
                    }
                    adoption.attachments += 1;
                    continue;
                }
                Err(failure) => failure.to_string(),
            };
            let (guard, attachment) = self.lock_attachment(&key).await?;
            match self.reattach(&guard, &attachment).await {
                Ok(anew) => {
                    self.store.commit(|changes| changes.put(&key, &anew))?;
                    tracing::warn!(attachment = key, why, "attached anew");
                    adoption.reattached += 1;
                }
                Err(failure) => {
                    links::unpin(&naming::pin(&self.paths.bpffs, &key)).ok();
                    self.store.commit(|changes| changes.remove::<Attachment>(&key))?;
                    adoption.dropped.push(format!("attachment {key}: {why}; {failure}"));
                }
            }
        }
        Ok(())
    }

    /// An attachment as it is from now on, if its program has not lost its place: on the maps of now, and where its device
    /// went meanwhile.
    async fn take_over(&self, attachment: &Attachment) -> Result<Attachment, Failure> {
        let present = match self.inventory.presence(attachment).await? {
            Presence::InPlace => attachment.clone(),
            Presence::Moved(hook, netns) => Attachment { hook, netns, ..attachment.clone() },
            Presence::Lost(loss) => return Err(Failure::not_found(loss)),
        };
        let pin = naming::pin(&self.paths.bpffs, &attachment.id);
        let program = if attachment.hook.point.is_legacy() {
            Program::open_pinned(&pin)?
        } else {
            Program::from_id(Link::open_pinned(&pin)?.info()?.program)?
        };
        if !self.is_outdated(attachment, &program) {
            return Ok(present);
        }
        let renewed = self.renew(&present, &program).await?;
        tracing::info!(attachment = attachment.id, "runs on the maps of this version and configuration");
        Ok(renewed)
    }

    /// An endpoint's program whose maps were made anew, or lost their pins, knows nothing of the others.
    fn is_outdated(&self, attachment: &Attachment, program: &Program) -> bool {
        attachment.candidate.owner.as_str() == Owner::DATAPATH && !self.datapath.runs_on_these_maps(program)
    }

    /// Has an attachment run its program on the maps of now: no packet meets the endpoint without one.
    async fn renew(&self, attachment: &Attachment, present: &Program) -> Result<Attachment, Failure> {
        let Op::Detach { id, target } = Op::detach(attachment) else {
            return Err(Failure::conflict("its record is bad"));
        };
        let mut progress = Progress::default();
        if let Some(endpoint) = &attachment.endpoint {
            progress.endpoint = self.store.get::<Endpoint>(endpoint.as_str())?;
        }
        let owner = &attachment.candidate.owner;
        let program = self.executor.program(&id, owner, &attachment.source, &target, &mut progress)?;
        let pin = naming::pin(&self.paths.bpffs, &id);
        self.executor.swap(&target, &pin, present, &program).await?;
        if target.point.is_legacy() {
            let fresh = naming::update_folder(&self.paths.bpffs, &id).join("new");
            program.pin(&fresh)?;
            links::repin(&fresh, &pin)?;
            remove_folder(&naming::update_folder(&self.paths.bpffs, &id))?;
        }
        let candidate = Candidate { tag: program.tag().to_owned(), ..attachment.candidate.clone() };
        Ok(Attachment { program: program.id(), candidate, ..attachment.clone() })
    }

    pub(crate) async fn reattach(
        &self,
        held: &HookGuard,
        attachment: &Attachment,
    ) -> Result<Attachment, Failure> {
        held.check(&attachment.hook)?;
        let pin = naming::pin(&self.paths.bpffs, &attachment.id);
        // What has lost its place may still hold its program, with what it has in its maps.
        let present = Program::from_id(attachment.program).ok().filter(|program| {
            program.tag() == attachment.candidate.tag
                && matches!(attachment.source, ProgramSource::Object { .. })
        });
        if pin.exists() {
            links::unpin(&pin)?;
        }
        let Op::Detach { id, target } = Op::detach(attachment) else {
            return Err(Failure::conflict("its record is bad"));
        };
        let mut progress = Progress::with(present);
        if let Some(endpoint) = &attachment.endpoint {
            progress.endpoint = self.store.get::<Endpoint>(endpoint.as_str())?;
        }
        let anew = self
            .executor
            .attach_program(&id, &target, &attachment.candidate, &attachment.source, &mut progress)
            .await?;
        Ok(Attachment { mode: attachment.mode, ..anew })
    }

    /// Pins of moves and updates that are over, and shared maps of owners who have no attachment any more.
    pub(crate) fn remove_leftovers(&self) -> Result<(), Failure> {
        if self.store.all::<Plan>()?.is_empty() {
            for folder in [naming::moves_folder(&self.paths.bpffs), naming::updates_folder(&self.paths.bpffs)]
            {
                remove_folder(&folder)?;
            }
        }
        self.remove_unused_maps()
    }

    /// The shared maps of owners who have no attachment any more.
    pub(crate) fn remove_unused_maps(&self) -> Result<(), Failure> {
        let used: HashSet<_> = self
            .inventory
            .attachments()?
            .iter()
            .map(|attachment| naming::shared_map_folder(&self.paths.bpffs, &attachment.candidate.owner))
            .collect();
        for folder in naming::entries(&naming::shared_maps_folder(&self.paths.bpffs))? {
            if !used.contains(&folder) {
                remove_folder(&folder)?;
            }
        }
        Ok(())
    }
}
