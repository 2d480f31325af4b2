use std::{
    os::fd::AsFd,
    path::{Path, PathBuf},
};

use aya::{Ebpf, programs::Program as AyaProgram, programs::ProgramError};

use super::DatapathError;
use crate::{loader, maps::MapSizes, programs::Program};

/// Loads objects with their maps, which are pinned in a folder or found there.
#[derive(Debug)]
pub(super) struct Loader {
    folder: PathBuf,
    sizes: MapSizes,
}

impl Loader {
    pub(super) fn new(folder: &Path, sizes: MapSizes) -> Self {
        Self { folder: folder.to_owned(), sizes }
    }

    /// Loads an object. Its programs stay outside the kernel until they are loaded one by one.
    pub(super) fn load(&self, object: &'static str, bytes: &[u8]) -> Result<Ebpf, DatapathError> {
        loader::load(None, Some(&self.folder), self.sizes.all(), bytes)
            .map_err(|source| DatapathError::Load { object, source: Box::new(source) })
    }
}

/// Loads one program of an object into the kernel.
pub(super) fn load_program(object: &mut Ebpf, name: &'static str) -> Result<Program, DatapathError> {
    let rejected = |source| DatapathError::Rejected { program: name, source: Box::new(source) };
    let fd = match object.program_mut(name) {
        Some(AyaProgram::SchedClassifier(program)) => {
            loader::load_program(|| program.load()).and_then(|()| program.fd())
        }
        Some(AyaProgram::CgroupSockAddr(program)) => {
            loader::load_program(|| program.load()).and_then(|()| program.fd())
        }
        _ => Err(ProgramError::UnexpectedProgramType),
    };
    let fd = fd.map_err(rejected)?.as_fd().try_clone_to_owned();
    Ok(Program::from_fd(fd.map_err(|source| DatapathError::sys("dup", name, source))?)?)
}
