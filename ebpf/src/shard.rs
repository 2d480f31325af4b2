//! Which of the shard maps holds the bindings to a backend; `bpf/shard.h` in Rust.

use std::net::SocketAddr;

use crate::layout::Address;

/// One of the maps over which bindings are spread by their backend.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Shard(u8);

impl Shard {
    /// How many there are.
    pub const COUNT: usize = 16;

    /// The shard of a backend. `protocol` is the IP protocol's number.
    #[must_use]
    pub fn of(backend: SocketAddr, protocol: u8) -> Self {
        const PRIME: u32 = 0x0100_0193;
        let mut hash = 0x811c_9dc5_u32;
        for word in Address::from(backend.ip()).0 {
            hash = (hash ^ word).wrapping_mul(PRIME);
        }
        // The program hashes the port as it is on the wire, read as one number.
        hash = (hash ^ u32::from(backend.port().to_be())).wrapping_mul(PRIME);
        hash = (hash ^ u32::from(protocol)).wrapping_mul(PRIME);
        hash ^= hash >> 16;
        hash ^= hash >> 8;
        hash ^= hash >> 4;
        Self((hash % Self::COUNT as u32) as u8)
    }

    /// Every shard.
    pub fn all() -> impl Iterator<Item = Self> {
        (0..Self::COUNT as u8).map(Self)
    }

    /// Its place among the shards, from 0.
    #[must_use]
    pub const fn index(self) -> usize {
        self.0 as usize
    }

    /// The name of its map.
    #[must_use]
    pub fn map_name(self) -> &'static str {
        const NAMES: [&str; Shard::COUNT] = [
            "nl_bound_0",
            "nl_bound_1",
            "nl_bound_2",
            "nl_bound_3",
            "nl_bound_4",
            "nl_bound_5",
            "nl_bound_6",
            "nl_bound_7",
            "nl_bound_8",
            "nl_bound_9",
            "nl_bound_10",
            "nl_bound_11",
            "nl_bound_12",
            "nl_bound_13",
            "nl_bound_14",
            "nl_bound_15",
        ];
        NAMES.get(self.index()).copied().unwrap_or_default()
    }
}
