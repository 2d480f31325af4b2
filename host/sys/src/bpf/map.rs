//! Maps of maps: making storages like one that is there, and putting them into an array.

use std::{
    io,
    os::fd::{AsRawFd, BorrowedFd, OwnedFd},
};

use super::{address, address_mut, attr, call, call_fd, object::describe, raw};

/// Makes so many maps of the type, sizes, flags and BTF types of another, empty and without a name in a filesystem.
///
/// # Errors
/// EPERM: CAP_BPF is missing. ENOMEM. EINVAL: the other one needs more than its description says.
pub fn maps_like(other: BorrowedFd<'_>, count: u32) -> io::Result<Vec<OwnedFd>> {
    let mut info = attr::RawMapInfo::default();
    describe(other, &mut info)?;
    let btf = match info.btf {
        0 => None,
        id => Some(call_fd(&mut attr::BtfById { id, next: 0, open_flags: 0 })?),
    };
    let create = |_| {
        call_fd(&mut attr::MapCreate {
            kind: info.kind,
            key_size: info.key_size,
            value_size: info.value_size,
            max_entries: info.max_entries,
            flags: info.flags,
            inner: 0,
            numa_node: 0,
            name: info.name,
            ifindex: 0,
            btf: btf.as_ref().map_or(0, |btf| btf.as_raw_fd().cast_unsigned()),
            btf_key: info.btf_key,
            btf_value: info.btf_value,
            vmlinux_value: 0,
        })
    };
    (0..count).map(create).collect()
}

/// Opens a map by its id.
///
/// # Errors
/// ENOENT: there is no such map.
pub fn map_by_id(id: u32) -> io::Result<OwnedFd> {
    call_fd(&mut attr::MapById { id, next: 0, open_flags: 0 })
}

/// The id of the map at an index of an array of maps.
///
/// # Errors
/// EINVAL: not an array of maps.
pub fn map_at(array: BorrowedFd<'_>, index: u32) -> io::Result<Option<u32>> {
    let mut id = 0u32;
    let mut lookup = attr::MapLookup(attr::MapElement {
        map: raw(array),
        reserved: 0,
        key: address(&index),
        value: address_mut(&mut id),
        flags: 0,
    });
    match call(&mut lookup) {
        Ok(_) => Ok(Some(id)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// Puts maps at `first` and the indexes after it. The kernel waits some milliseconds after each call (for programs
/// that still see what was there), so that one call for many is much faster than many.
///
/// # Errors
/// EINVAL: not an array of maps, or a map of another type than it takes. E2BIG: beyond its end.
pub fn set_maps(array: BorrowedFd<'_>, first: u32, maps: &[OwnedFd]) -> io::Result<()> {
    let indexes: Vec<u32> = (first..).take(maps.len()).collect();
    let fds: Vec<u32> = maps.iter().map(|map| map.as_raw_fd().cast_unsigned()).collect();
    let mut batch = attr::MapUpdateBatch {
        from: 0,
        to: 0,
        keys: indexes.as_ptr() as u64,
        values: fds.as_ptr() as u64,
        count: maps.len() as u32,
        map: raw(array),
        element_flags: 0,
        flags: 0,
    };
    match call(&mut batch) {
        Ok(_) => Ok(()),
        // ENOTSUPP, which is for the kernel's own use and has no name outside: no batches for this type of map.
        Err(error) if matches!(error.raw_os_error(), Some(libc::EINVAL | libc::EOPNOTSUPP | 524)) => {
            indexes.iter().zip(&fds).try_for_each(|(index, fd)| {
                call(&mut attr::MapUpdate(attr::MapElement {
                    map: raw(array),
                    reserved: 0,
                    key: address(index),
                    value: address(fd),
                    flags: 0,
                }))
                .map(drop)
            })
        }
        Err(error) => Err(error),
    }
}
