//! Reading and writing one element of a table, or all of them.

use aya::maps::{HashMap, MapData, MapError};

use super::DatapathError;
use crate::maps::MapSizes;

pub(super) type Table<const K: usize, const V: usize> = HashMap<MapData, [u8; K], [u8; V]>;

/// Keys and values.
pub(super) type Entries<const K: usize, const V: usize> = Vec<([u8; K], [u8; V])>;

/// Reads one element, none if there is none.
pub(super) fn get<const K: usize, const V: usize>(
    table: &Table<K, V>,
    name: &'static str,
    key: &[u8; K],
) -> Result<Option<[u8; V]>, DatapathError> {
    match table.get(key, 0) {
        Ok(value) => Ok(Some(value)),
        Err(MapError::KeyNotFound) => Ok(None),
        Err(source) => Err(DatapathError::Map { action: "read", map: name, source }),
    }
}

/// Writes one element.
pub(super) fn put<const K: usize, const V: usize>(
    table: &mut Table<K, V>,
    name: &'static str,
    sizes: MapSizes,
    key: [u8; K],
    value: [u8; V],
) -> Result<(), DatapathError> {
    table.insert(key, value, 0).map_err(|source| match source {
        MapError::SyscallError(error) if error.io_error.raw_os_error() == Some(libc::E2BIG) => {
            full(name, sizes)
        }
        source => DatapathError::Map { action: "write", map: name, source },
    })
}

/// Removes one element, if it is there.
pub(super) fn delete<const K: usize, const V: usize>(
    table: &mut Table<K, V>,
    name: &'static str,
    key: &[u8; K],
) -> Result<(), DatapathError> {
    match table.remove(key) {
        Ok(()) | Err(MapError::KeyNotFound) => Ok(()),
        Err(MapError::SyscallError(error)) if error.io_error.raw_os_error() == Some(libc::ENOENT) => Ok(()),
        Err(source) => Err(DatapathError::Map { action: "remove from", map: name, source }),
    }
}

/// Everything in a table.
pub(super) fn all<const K: usize, const V: usize>(
    table: &Table<K, V>,
    name: &'static str,
) -> Result<Entries<K, V>, DatapathError> {
    let entries = table.iter().collect::<Result<_, _>>();
    entries.map_err(|source| DatapathError::Map { action: "read", map: name, source })
}

/// The error of a map without room.
pub(super) fn full(map: &'static str, sizes: MapSizes) -> DatapathError {
    let (size, key) = sizes.of(map).unwrap_or((0, "datapath"));
    DatapathError::Full { map, size, key }
}
