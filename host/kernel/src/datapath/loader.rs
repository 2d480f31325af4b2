use std::{
    fmt,
    os::fd::AsFd,
    path::Path,
    sync::{Mutex, PoisonError},
};

use aya::{Ebpf, EbpfLoader, programs::Program as AyaProgram, programs::ProgramError};

use super::{DatapathError, MapSizes};
use crate::programs::Program;

/// Loads objects with their maps, which are pinned in a folder or found there. One for all objects: making one reads
/// the kernel's whole type information, which takes longer than everything else about an endpoint.
pub(super) struct Loader(Mutex<EbpfLoader<'static>>);

impl Loader {
    pub(super) fn new(folder: &Path, sizes: MapSizes) -> Self {
        let mut loader = EbpfLoader::new();
        loader.default_map_pin_directory(folder);
        for (map, size) in sizes.all() {
            loader.map_max_entries(map, size);
        }
        Self(Mutex::new(loader))
    }

    /// Loads an object. Its programs stay outside the kernel until they are loaded one by one.
    pub(super) fn load(&self, object: &'static str, bytes: &[u8]) -> Result<Ebpf, DatapathError> {
        let mut loader = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        loader.load(bytes).map_err(|source| DatapathError::Load { object, source: Box::new(source) })
    }
}

impl fmt::Debug for Loader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Loader")
    }
}

/// Loads one program of an object into the kernel.
pub(super) fn load_program(object: &mut Ebpf, name: &'static str) -> Result<Program, DatapathError> {
    let rejected = |source| DatapathError::Rejected { program: name, source: Box::new(source) };
    let fd = match object.program_mut(name) {
        Some(AyaProgram::SchedClassifier(program)) => program.load().and_then(|()| program.fd()),
        Some(AyaProgram::CgroupSockAddr(program)) => program.load().and_then(|()| program.fd()),
        _ => Err(ProgramError::UnexpectedProgramType),
    };
    let fd = fd.map_err(rejected)?.as_fd().try_clone_to_owned();
    Ok(Program::from_fd(fd.map_err(|source| DatapathError::sys("dup", name, source))?)?)
}
