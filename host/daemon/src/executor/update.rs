//! The step that gives an attachment another program in its place.

use std::time::Instant;

use netloom_core::{
    model::{Attachment, Candidate, Owner, ProgramSource},
    plan::Target,
};
use netloom_kernel::{
    links::{self, Link},
    programs::{self, LoadOptions, Program, ProgramError},
};

use super::{Executor, remove_folder};
use crate::{failure::Failure, naming};

impl Executor {
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
        let attachment = self.inventory.attachment(id)?;
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
