//! Taking a program of ours to another place of its chain, or to another kind of hook, such that every packet meets
//! it exactly once: the steps of a [`Relocation`], each of which can be repeated after a crash.

use netloom_core::{
    model::{Attachment, Chain, EntryId, Hook, Placement, ProgramId},
    moves::Beside,
    plan::{Place, Plan, Relocation, RelocationStep, Target},
};
use netloom_kernel::{
    links::{self, Attached, Gates, Link, LinkError},
    netns::Netns,
    programs::Program,
};

use super::{Executor, kind};
use crate::{failure::Failure, naming};

impl Executor {
    /// The same for a step of a plan, whose hook is locked by whoever carries the plan out.
    pub(crate) async fn relocate_on_the_way(&self, way: &Relocation) -> Result<(), Failure> {
        let journal = self.begin(Plan::relocate(way)).await?;
        self.metrics.moves.inc();
        let left = self.run_past_turn(journal).await?;
        if left.is_empty() {
            return Ok(());
        }
        Err(Failure::conflict(format!("{} runs in its new place, but {}", way.id, left.join("; "))))
    }

    /// Carries out one step.
    pub(crate) async fn relocation_step(
        &self,
        step: RelocationStep,
        way: &Relocation,
    ) -> Result<(), Failure> {
        if step == RelocationStep::Gate {
            return self.gate(way).await;
        }
        let folder = naming::move_folder(&self.paths.bpffs, &way.id);
        let Some(gates) = Gates::open(&folder)? else {
            // Nothing of it is left, or it never got that far.
            return Ok(Gates::remove(&folder)?);
        };
        match step {
            RelocationStep::Gate => Ok(()),
            RelocationStep::Stand => self.stand(way, &gates).await,
            RelocationStep::Turn => self.turn(way, &gates).await,
            RelocationStep::Leave => self.take_away(&way.from, &self.pin_of(way), gates.old()).await,
            RelocationStep::Settle => self.settle(way, &gates).await,
            RelocationStep::Clear => {
                self.take_away(way.turns_at(), &gates.turn_pin(), gates.turn()).await?;
                links::unpin(&gates.turn_pin())?;
                Ok(Gates::remove(&folder)?)
            }
            RelocationStep::Unstand => {
                self.take_away(&way.to, &gates.next_pin(), gates.new_gate()).await?;
                Ok(links::unpin(&gates.next_pin())?)
            }
            RelocationStep::Ungate => {
                self.swap(&way.from, &self.pin_of(way), gates.old(), gates.program()).await?;
                Ok(Gates::remove(&folder)?)
            }
        }
    }

    /// The old gate takes the program's place.
    async fn gate(&self, way: &Relocation) -> Result<(), Failure> {
        let attachment = self.inventory.attachment(&way.id)?;
        let program = Program::from_id(attachment.program)?;
        let gates = Gates::make(&naming::move_folder(&self.paths.bpffs, &way.id), program)
            .map_err(Failure::refused)?;
        self.swap(&way.from, &self.pin_of(way), gates.program(), gates.old()).await
    }

    /// The new gate goes to its place, closed.
    async fn stand(&self, way: &Relocation, gates: &Gates) -> Result<(), Failure> {
        let (hook, netns) = self.inventory.hook(&way.to).await?;
        let attachment = self.inventory.attachment(&way.id)?;
        let mut attempts = self.config.attachments.attempts;
        loop {
            let chain = self.inventory.annotated(links::query(&hook, &netns)?)?;
            let gate = gates.new_gate();
            let (placement, stands) = match &way.place {
                Place::Priority(priority) => (None, links::attach_filter(&chain, &netns, gate, *priority)),
                place => {
                    let placement = match place {
                        Place::Beside(beside) => beside_entry(&chain, beside)?,
                        _ => self.policy.place(&chain, &attachment.candidate).await?.answer,
                    };
                    if matches!(placement, Placement::Replace(_)) {
                        return Err(Failure::refused(anyhow::anyhow!(
                            "policy wants {} to replace another program there, and it is only moved",
                            way.id
                        ))
                        .hint("detach the other one first"));
                    }
                    (Some(placement), links::attach(&chain, &netns, gate, placement))
                }
            };
            match (stands, placement) {
                (Ok(Attached::Link(link)), _) => return Ok(link.pin(&gates.next_pin())?),
                (Ok(Attached::Filter { .. }), _) => return Ok(()),
                (Err(LinkError::Stale { .. } | LinkError::AnchorGone { .. }), _) if attempts > 1 => {
                    attempts -= 1;
                    self.metrics.stale_retries.inc();
                }
                (Err(LinkError::NoPriority { .. }), Some(placement)) if attempts > 1 => {
                    attempts -= 1;
                    self.spread(&chain, &netns, placement, Some(&way.id)).await?;
                }
                (Err(error), _) => return Err(Failure::refused(error)),
            }
        }
    }

    /// Packets that come from here on take the new place.
    async fn turn(&self, way: &Relocation, gates: &Gates) -> Result<(), Failure> {
        if self.is_turned(way).await {
            return Ok(());
        }
        let (hook, netns) = self.inventory.hook(way.turns_at()).await?;
        let mut attempts = self.config.attachments.attempts;
        loop {
            let chain = links::query(&hook, &netns)?;
            match links::attach(&chain, &netns, gates.turn(), Placement::Head) {
                Ok(Attached::Link(link)) => link.pin(&gates.turn_pin())?,
                Ok(Attached::Filter { .. }) => {}
                Err(LinkError::Stale { .. }) if attempts > 1 => {
                    attempts -= 1;
                    continue;
                }
                Err(error) => return Err(Failure::refused(error)),
            }
            links::wait_for_packets();
            return Ok(());
        }
    }

    /// Whether packets take the new place.
    pub(crate) async fn is_turned(&self, way: &Relocation) -> bool {
        let Ok(Some(gates)) = Gates::open(&naming::move_folder(&self.paths.bpffs, &way.id)) else {
            return false;
        };
        if !way.turns_at().point.is_legacy() {
            return Link::open_pinned(&gates.turn_pin()).is_ok();
        }
        let Ok((hook, netns)) = self.inventory.hook(way.turns_at()).await else { return false };
        links::query(&hook, &netns).is_ok_and(|chain| find(&chain, gates.turn().id()).is_some())
    }

    /// The program takes the new gate's place, its pin the attachment's, and the record follows.
    async fn settle(&self, way: &Relocation, gates: &Gates) -> Result<(), Failure> {
        self.swap(&way.to, &gates.next_pin(), gates.new_gate(), gates.program()).await?;
        let pin = self.pin_of(way);
        let next = if way.to.point.is_legacy() { gates.program_pin() } else { gates.next_pin() };
        if way.to.point.is_legacy() {
            // The gates' own pin of the program stays until they go: they are found by it.
            if Program::open_pinned(&pin).map_or(true, |pinned| pinned.id() != gates.program().id()) {
                let spare = next.with_file_name("settled");
                links::unpin(&spare)?;
                gates.program().pin(&spare)?;
                links::repin(&spare, &pin)?;
            }
        } else {
            links::repin(&next, &pin)?;
        }
        let (link, filter) = if way.to.point.is_legacy() {
            let (hook, netns) = self.inventory.hook(&way.to).await?;
            let chain = links::query(&hook, &netns)?;
            (None, find(&chain, gates.program().id()).and_then(|attached| attached.filter()))
        } else {
            (Some(Link::open_pinned(&pin)?.id()), None)
        };
        let (hook, _) = self.inventory.hook(&way.to).await?;
        let moved =
            Attachment { kind: kind(hook.point), hook, link, filter, ..self.inventory.attachment(&way.id)? };
        Ok(self.store.commit(|changes| changes.put(&way.id, &moved))?)
    }

    /// Gives the link under a pin, or the filter of a program, another program; if it runs another, nothing.
    pub(crate) async fn swap(
        &self,
        target: &Target,
        pin: &std::path::Path,
        present: &Program,
        wanted: &Program,
    ) -> Result<(), Failure> {
        if !target.point.is_legacy() {
            return match Link::update_pinned(pin, wanted, present) {
                Err(
                    LinkError::NoPin { .. }
                    // Pinned there is the program itself: the link has gone, or is yet to come.
                    | LinkError::NotALink { .. }
                    | LinkError::LinkRunsAnother { .. }
                    | LinkError::LinkWithoutDevice { .. },
                ) => Ok(()),
                swapped => Ok(swapped?),
            };
        }
        let Some((hook, netns)) = self.legacy_hook(target).await? else { return Ok(()) };
        if let Some(attached) = find(&links::query(&hook, &netns)?, present.id()) {
            attached.update(&hook, &netns, wanted, present.id())?;
        }
        Ok(())
    }

    /// Takes a gate or the turn out of its chain, if it is there.
    async fn take_away(
        &self,
        target: &Target,
        pin: &std::path::Path,
        program: &Program,
    ) -> Result<(), Failure> {
        if !target.point.is_legacy() {
            return match Link::open_pinned(pin) {
                Ok(link) if link.info()?.program == program.id() => Ok(link.detach()?),
                Ok(_) | Err(LinkError::NoPin { .. } | LinkError::NotALink { .. }) => Ok(()),
                Err(error) => Err(error.into()),
            };
        }
        let Some((hook, netns)) = self.legacy_hook(target).await? else { return Ok(()) };
        if let Some(attached) = find(&links::query(&hook, &netns)?, program.id()) {
            attached.detach(&hook, &netns, program.id())?;
        }
        Ok(())
    }

    /// None if the device is gone, and its filters with it.
    async fn legacy_hook(&self, target: &Target) -> Result<Option<(Hook, Netns)>, Failure> {
        match self.inventory.hook(target).await {
            Ok(found) => Ok(Some(found)),
            Err(failure) if failure.is_not_found() => Ok(None),
            Err(failure) => Err(failure),
        }
    }

    fn pin_of(&self, way: &Relocation) -> std::path::PathBuf {
        naming::pin(&self.paths.bpffs, &way.id)
    }
}

fn find(chain: &Chain, program: ProgramId) -> Option<Attached> {
    let entry = chain.entries.iter().find(|entry| entry.program == program)?;
    entry.filter.map(|(priority, handle)| Attached::Filter { priority, handle })
}

fn beside_entry(chain: &Chain, beside: &Beside) -> Result<Placement, Failure> {
    let entry = |id: &String| {
        let at = chain.entries.iter().position(|entry| entry.attachment.as_ref() == Some(id));
        at.and_then(|at| u32::try_from(at).ok()).map(EntryId).ok_or_else(|| {
            Failure::conflict(format!("{id} is no longer in the chain at {}", chain.hook))
                .hint("see `netloom chain show`, and try again")
        })
    };
    Ok(match beside {
        Beside::Before(id) => Placement::Before(entry(id)?),
        Beside::After(id) => Placement::After(entry(id)?),
    })
}
