//! Loading objects with aya, and the kernel's types that objects are relocated by. A new loader reads all of them,
//! which takes longer than everything else about an object: there is one, and it is told for each object which to use.

use std::{
    path::Path,
    sync::{LazyLock, Mutex, OnceLock, PoisonError},
};

use aya::{Btf, Ebpf, EbpfError, EbpfLoader};

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
