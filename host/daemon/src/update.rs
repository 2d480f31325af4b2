//! Another program for an attachment, in the same place of its chain, in one step of the kernel.

use std::time::Instant;

use netloom_api::types::{AttachAnswer, Attachment, UpdateRequest};
use netloom_core::{
    model::{Candidate, Owner, ProgramSource},
    plan::{Plan, Target},
};
use netloom_kernel::{
    links::{self, Link},
    programs::{self, LoadOptions, Program, ProgramError},
};

use crate::{
    executor::{read_object, remove_folder},
    failure::Failure,
    naming,
    node::Node,
};

impl Node {
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
        let journal = self.begin(plan).await?;
        let (updated, _) = self
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
        let chain = self.present(&attachment.hook).await?;
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

    /// The step: both programs are pinned before, so that whoever comes after a crash can tell and undo it.
    pub(crate) async fn update_program(
        &self,
        id: &str,
        target: &Target,
        source: &ProgramSource,
    ) -> Result<Attachment, Failure> {
        let ProgramSource::Object { path, program, globals, shared_maps } = source else {
            return Err(Failure::conflict("a datapath is not updated"));
        };
        let attachment = self.attachment(id)?;
        let owner: &Owner = &attachment.candidate.owner;
        let options = LoadOptions {
            program: program.clone(),
            pin_maps: Some(self.map_folder(id, owner, *shared_maps)),
            globals: globals.clone(),
        };
        let began = Instant::now();
        let new = programs::load_file(path, &options).map_err(Failure::refused)?;
        self.metrics.attach_phase("load", began);
        let began = Instant::now();
        let old = Program::from_id(attachment.program)?;
        let folder = naming::update_folder(&self.paths.bpffs, id);
        match old.pin(&folder.join("old")) {
            // Left by an update that could not remove it at its end.
            Err(ProgramError::PinTaken { path }) => {
                remove_folder(&folder)?;
                old.pin(&path)?;
            }
            pinned => pinned?,
        }
        new.pin(&folder.join("new"))?;
        let pin = naming::pin(&self.paths.bpffs, id);
        if target.point.is_legacy() {
            self.swap(target, &pin, &old, &new).await?;
            links::repin(&folder.join("new"), &pin)?;
        } else {
            Link::update_pinned(&pin, &new, &old)?;
        }
        self.metrics.attach_phase("update", began);
        let candidate = Candidate {
            name: new.name().to_owned(),
            tag: new.tag().to_owned(),
            ..attachment.candidate.clone()
        };
        Ok(Attachment { program: new.id(), candidate, source: source.clone(), ..attachment })
    }

    /// Undoes the step, however far it got.
    pub(crate) async fn restore_program(&self, id: &str, target: &Target) -> Result<(), Failure> {
        let folder = naming::update_folder(&self.paths.bpffs, id);
        let pin = naming::pin(&self.paths.bpffs, id);
        let old = match Program::open_pinned(&folder.join("old")) {
            Ok(old) => old,
            // Nothing was changed yet.
            Err(ProgramError::NoPin { .. }) => return remove_folder(&folder),
            Err(error) => return Err(error.into()),
        };
        // On legacy tc the attachment's pin is the program's, and may be the new one's by now.
        let new = match Program::open_pinned(&folder.join("new")) {
            Err(ProgramError::NoPin { .. }) => Program::open_pinned(&pin),
            other => other,
        };
        match new {
            Ok(new) => self.swap(target, &pin, &new, &old).await?,
            Err(ProgramError::NoPin { .. } | ProgramError::NotAProgram { .. }) => {}
            Err(error) => return Err(error.into()),
        }
        if target.point.is_legacy() {
            links::repin(&folder.join("old"), &pin)?;
        }
        remove_folder(&folder)
    }
}
