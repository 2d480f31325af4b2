//! Room on legacy tc: where no priority is free between two filters, ours around them are given others.

use std::pin::Pin;

use netloom_core::{
    model::{Chain, Placement},
    plan::{Place, Relocation, Target},
};
use netloom_kernel::{links, netns::Netns};

use super::Executor;
use crate::failure::Failure;

/// Spreading is made of moves, and a move may need room itself.
type Spreading<'a> = Pin<Box<dyn Future<Output = Result<(), Failure>> + Send + 'a>>;

impl Executor {
    /// Makes room for a program at a place of a legacy chain, by moves that no packet notices. `busy` is an
    /// attachment that is on its way, and stays. The chain is to be read anew afterwards.
    pub(crate) fn spread<'a>(
        &'a self,
        chain: &'a Chain,
        netns: &'a Netns,
        placement: Placement,
        busy: Option<&'a str>,
    ) -> Spreading<'a> {
        Box::pin(async move {
            let mut movable = chain.clone();
            for entry in &mut movable.entries {
                entry.attachment = entry.attachment.take().filter(|id| Some(id.as_str()) != busy);
            }
            let moves = links::spread(&movable, netns, placement).map_err(Failure::refused)?;
            for (entry, priority) in moves {
                let Some(id) = movable.entry(entry).and_then(|entry| entry.attachment.clone()) else {
                    continue;
                };
                let target = Target::of(&self.inventory.attachment(&id)?);
                let what = format!("making room at {} by moving {id}", chain.hook);
                let place = Place::Priority(priority);
                let way = Relocation { id, from: target.clone(), to: target, place };
                self.relocate_on_the_way(&way).await.map_err(|failure| failure.context(what))?;
            }
            Ok(())
        })
    }
}
