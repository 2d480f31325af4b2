//! Loading objects with aya, and the kernel's type information that it takes. To read that takes longer than
//! everything else about an object: it is read once, and not again for each.

use std::{
    path::Path,
    sync::{LazyLock, Mutex, OnceLock, PoisonError},
};

use aya::{Btf, BtfError, Ebpf, EbpfError, EbpfLoader};

/// The one loader. Sizes of maps that it was told once stay with it: they are the datapath's, always the same maps.
static LOADER: LazyLock<Mutex<EbpfLoader<'static>>> = LazyLock::new(|| Mutex::new(EbpfLoader::new()));

/// The kernel's type information.
pub(crate) fn kernel_types() -> Result<&'static Btf, BtfError> {
    static TYPES: OnceLock<Btf> = OnceLock::new();
    match TYPES.get() {
        Some(types) => Ok(types),
        None => {
            let types = Btf::from_sys_fs()?;
            Ok(TYPES.get_or_init(|| types))
        }
    }
}

/// Makes an object's maps; those it wants pinned by name are found or pinned in `folder`. Its programs stay outside
/// the kernel until they are loaded one by one.
///
/// Maps of an object of somebody else must not have names of `sizes`; [`load_with`] takes those.
pub(crate) fn load(
    folder: Option<&Path>,
    sizes: impl IntoIterator<Item = (&'static str, u32)>,
    bytes: &[u8],
) -> Result<Ebpf, EbpfError> {
    let mut loader = LOADER.lock().unwrap_or_else(PoisonError::into_inner);
    for (map, size) in sizes {
        loader.map_max_entries(map, size);
    }
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
