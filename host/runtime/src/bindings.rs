//! The ABI: types and calls generated from `wit/`, their conversion to the model, and one file of glue for each
//! interface the host offers. Nothing here decides anything.

mod config;
pub(crate) mod convert;
mod datapath;
mod devices;
mod files;
mod kv;
mod links;
mod log;
mod metrics;
mod operations;
mod sockets;

use wasmtime::component::{HasSelf, Linker};

pub(crate) use self::generated::exports::netloom::policy as hooks;
use self::generated::netloom::kernel;
use netloom_core::grants::Grants;

use crate::state::State;

// The generated calls use `TypedFunc::new_unchecked` on functions whose types they checked when they were looked
// up: not ours to write otherwise.
#[allow(unsafe_code, missing_docs, unreachable_pub, unused_qualifications, dead_code)]
#[allow(clippy::all, clippy::redundant_clone, clippy::semicolon_if_nothing_returned)]
mod generated {
    wasmtime::component::bindgen!({
        path: ["../../wit/kernel", "../../wit/policy"],
        world: "netloom:policy/all",
        imports: { default: async | trappable },
        exports: { default: async },
        with: {
            "netloom:kernel/devices.device": super::devices::DeviceHandle,
            "netloom:kernel/links.link": super::links::LinkHandle,
            "netloom:kernel/sockets.iterator": super::sockets::Iteration,
            "netloom:kernel/datapath.service": super::datapath::ServiceHandle,
        },
    });
}

/// Links what every plugin may import.
pub(crate) fn link_ambient(linker: &mut Linker<State>) -> wasmtime::Result<()> {
    kernel::log::add_to_linker::<_, HasSelf<_>>(linker, |state| state)?;
    kernel::config::add_to_linker::<_, HasSelf<_>>(linker, |state| state)?;
    kernel::kv::add_to_linker::<_, HasSelf<_>>(linker, |state| state)?;
    kernel::metrics::add_to_linker::<_, HasSelf<_>>(linker, |state| state)
}

/// Links the kernel operations that were granted, and no other.
pub(crate) fn link_granted(linker: &mut Linker<State>, grants: &Grants) -> wasmtime::Result<()> {
    if grants.devices.is_some() {
        kernel::devices::add_to_linker::<_, HasSelf<_>>(linker, |state| state)?;
    }
    if grants.links.is_some() {
        kernel::links::add_to_linker::<_, HasSelf<_>>(linker, |state| state)?;
    }
    if grants.sockets.is_some() {
        kernel::sockets::add_to_linker::<_, HasSelf<_>>(linker, |state| state)?;
    }
    if grants.datapath.is_some() {
        kernel::datapath::add_to_linker::<_, HasSelf<_>>(linker, |state| state)?;
    }
    if grants.files.is_some() {
        kernel::files::add_to_linker::<_, HasSelf<_>>(linker, |state| state)?;
    }
    Ok(())
}
