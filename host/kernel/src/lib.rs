//! Safe, typed kernel operations, one module a concern. Everything above this crate speaks the words of
//! [`netloom_core::model`] and never sees a raw fd, attribute or index without its type.

pub mod bindings;
pub mod capabilities;
pub mod datapath;
pub mod devices;
mod kernel_types;
pub mod links;
mod loader;
mod maps;
pub mod mounts;
mod netlink;
pub mod netns;
pub mod programs;
pub mod sockets;
pub mod stack;
