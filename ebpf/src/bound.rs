//! The maps of bindings, as `bpf/bound.h` has them: each backend has a socket storage of its own.

/// The array of storages, by the backend's number.
pub const STORAGES: &str = "nl_bound";

/// The number of each backend.
pub const NUMBERS: &str = "nl_bound_slots";

/// What storages are made after.
pub const KIND: &str = "nl_bound_kind";
