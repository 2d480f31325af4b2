//! The hooks, a trait each.

mod attach_order;
mod datapath_mode;
mod lifecycle;
mod socket_reap;

pub use attach_order::AttachOrder;
pub use datapath_mode::DatapathMode;
pub(crate) use lifecycle::configure;
pub use lifecycle::{Lifecycle, NoConfig};
pub use socket_reap::SocketReap;
