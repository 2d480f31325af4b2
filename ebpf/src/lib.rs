//! Netloom's BPF programs, built and embedded, and the layout of their maps.
//!
//! The C sources are in `src/bpf`: `datapath.bpf.c` (an endpoint's packets), `uplink.bpf.c` (packets from outside),
//! `socklb.bpf.c` (service translation at the socket), `sockets.bpf.c` (iterators that find sockets),
//! `sockdestroy.bpf.c` (iterators that destroy them), `backfill.bpf.c` (iterators that bind
//! sockets from before), `gate.bpf.c` (moving a program without a packet missing it).
//! Each becomes a constant here.
//!
//! - [`bound`]: the maps of bindings
//! - [`compile`](mod@compile): from C to an object, for this crate's own programs and for others'
//! - [`embed`](mod@embed): every program of a folder, as constants of a crate
//! - [`layout`]: the structs that maps hold, as the C header has them

pub mod bound;
pub mod compile;
mod constants;
pub mod embed;
mod kfunc;
pub mod layout;

pub use constants::{NoConstants, datapath_with};
pub use kfunc::{NoCall, calling, socket_destroyer_with};

include!(concat!(env!("OUT_DIR"), "/objects.rs"));
