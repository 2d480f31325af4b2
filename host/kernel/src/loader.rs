//! Loading objects with aya, and the kernel's types that objects are relocated by. A new loader reads all of them,
//! which takes longer than everything else about an object: there is one, and it is told for each object which to use.

use std::{
    io::ErrorKind,
    path::Path,
    sync::{LazyLock, Mutex, OnceLock, PoisonError},
};

use aya::{Btf, Ebpf, EbpfError, EbpfLoader, programs::ProgramError};
use netloom_sys::bpf;

/// The one loader. Sizes of maps that it was told once stay with it: they are the datapath's, always the same maps.
static LOADER: LazyLock<Mutex<EbpfLoader<'static>>> = LazyLock::new(|| Mutex::new(EbpfLoader::new()));

/// All of the kernel's types, for objects of which nobody knows what they ask for. None if they cannot be read.
pub(crate) fn all_types() -> Option<&'static Btf> {
    static TYPES: OnceLock<Btf> = OnceLock::new();
    TYPES.get().or_else(|| Btf::from_sys_fs().ok().map(|types| TYPES.get_or_init(|| types)))
}

/// Makes an object's maps; those it wants pinned by name are found or pinned in `folder`. Its programs stay outside
/// the kernel until they are loaded one by one. `types` are the kernel's, for an object that is relocated by them.
///
/// Maps of an object of somebody else must not have names of `sizes`; [`load_with`] takes those.
pub(crate) fn load(
    types: Option<&'static Btf>,
    folder: Option<&Path>,
    sizes: impl IntoIterator<Item = (&'static str, u32)>,
    bytes: &[u8],
) -> Result<Ebpf, EbpfError> {
    let mut loader = LOADER.lock().unwrap_or_else(PoisonError::into_inner);
    for (map, size) in sizes {
        loader.map_max_entries(map, size);
    }
    loader.btf(types);
    load_with(&mut loader, folder, bytes)
}

/// As [`load`], with a loader that was told more.
pub(crate) fn load_with(
    loader: &mut EbpfLoader<'_>,
    folder: Option<&Path>,
    bytes: &[u8],
) -> Result<Ebpf, EbpfError> {
    if let Some(folder) = folder {
        loader.default_map_pin_directory(folder);
    }
    loader.load(bytes)
}

/// Loads a program with what aya has for its kind. The kernel gives up with EAGAIN when a signal arrives during
/// verification, and aya asks once more only.
pub(crate) fn load_program(mut load: impl FnMut() -> Result<(), ProgramError>) -> Result<(), ProgramError> {
    let mut attempts = bpf::LOAD_ATTEMPTS;
    loop {
        attempts -= 1;
        match load() {
            Err(ProgramError::LoadError { io_error, .. })
                if io_error.kind() == ErrorKind::WouldBlock && attempts > 0 => {}
            ended => return ended,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io;

    use aya_obj::VerifierLog;

    use super::*;

    fn failed(errno: i32) -> Result<(), ProgramError> {
        let io_error = io::Error::from_raw_os_error(errno);
        Err(ProgramError::LoadError { io_error, verifier_log: VerifierLog::new(String::new()) })
    }

    #[test]
    fn a_load_that_a_signal_ended_is_tried_again_and_any_other_is_not() {
        let loads = |answers: &[i32]| {
            let mut asked = 0;
            let ended = load_program(|| {
                asked += 1;
                answers.get(asked - 1).map_or(Ok(()), |errno| failed(*errno))
            });
            (asked, ended.is_ok())
        };
        assert_eq!(loads(&[libc::EAGAIN, libc::EAGAIN, libc::EAGAIN]), (4, true));
        assert_eq!(loads(&[libc::EAGAIN; 100]), (bpf::LOAD_ATTEMPTS, false));
        assert_eq!(loads(&[libc::EACCES]), (1, false));
    }
}
