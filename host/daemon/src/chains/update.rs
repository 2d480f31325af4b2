//! Another program for an attachment, in the same place of its chain, in one step of the kernel.

use netloom_api::types::{AttachAnswer, UpdateRequest};
use netloom_core::{model::ProgramSource, plan::Plan};
use netloom_kernel::programs;

use super::Chains;
use crate::{
    executor::{read_object, remove_folder},
    failure::Failure,
    naming,
};

impl Chains {
    /// Gives an attachment another program. Its place, owner, priority, labels and maps pinned by name stay.
    pub(crate) async fn update(&self, id: &str, request: UpdateRequest) -> Result<AttachAnswer, Failure> {
        let UpdateRequest { object: path, program, globals } = request;
        if !path.is_absolute() {
            return Err(Failure::invalid(anyhow::anyhow!("{} is not an absolute path", path.display())));
        }
        let (_guard, attachment) = self.lock_attachment(id).await?;
        let ProgramSource::Object { shared_maps, .. } = attachment.source else {
            return Err(Failure::conflict(format!(
                "{id} is an endpoint's datapath, which is netloomd's own"
            ))
            .hint("a newer netloomd brings a newer one"));
        };
        let globals = self.globals(&path, globals)?;
        let source = ProgramSource::Object { path, program, globals, shared_maps };
        let plan = Plan::update(&attachment, source);
        let journal = self.executor.begin(plan).await?;
        let (updated, _) = self
            .executor
            .run(journal, |progress, changes| {
                for updated in &progress.attachments {
                    changes.put(&updated.id, updated)?;
                }
                Ok(progress.attachments.first().cloned())
            })
            .await
            .map_err(|failure| failure.context(format!("{id} was not updated")))?;
        remove_folder(&naming::update_folder(&self.paths.bpffs, id))?;
        let attachment = updated.ok_or_else(|| Failure::conflict("nothing was updated"))?;
        let chain = self.inventory.present(&attachment.hook).await?;
        Ok(AttachAnswer { decided_by: attachment.decided_by.clone(), attachment, chain, more: Vec::new() })
    }

    /// The bytes of global variables, as a request writes them.
    pub(crate) fn globals(
        &self,
        path: &std::path::Path,
        written: std::collections::BTreeMap<String, String>,
    ) -> Result<std::collections::BTreeMap<String, Vec<u8>>, Failure> {
        if written.is_empty() {
            return Ok(std::collections::BTreeMap::new());
        }
        let bytes = read_object(path)?;
        let object = path.display().to_string();
        let globals = written.into_iter().map(|(name, text)| {
            let value = programs::global(&object, &bytes, &name, &text)?;
            Ok((name, value))
        });
        globals.collect::<Result<_, programs::LoadError>>().map_err(Failure::refused)
    }
}
