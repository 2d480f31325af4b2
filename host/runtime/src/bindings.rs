//! The ABI: types and calls generated from `wit/`, their conversion to the model, and one file of glue for each
//! interface the host offers. Nothing here decides anything.

mod config;
pub(crate) mod convert;
mod kv;
mod log;
mod metrics;

use wasmtime::component::{HasSelf, Linker};

pub(crate) use self::generated::exports::netloom::policy as hooks;
use self::generated::netloom::kernel;
use crate::{grants::Grant, state::State};

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
    });
}

/// Links what every plugin may import.
pub(crate) fn link_ambient(linker: &mut Linker<State>) -> wasmtime::Result<()> {
    kernel::log::add_to_linker::<_, HasSelf<_>>(linker, |state| state)?;
    kernel::config::add_to_linker::<_, HasSelf<_>>(linker, |state| state)?;
    kernel::kv::add_to_linker::<_, HasSelf<_>>(linker, |state| state)?;
    kernel::metrics::add_to_linker::<_, HasSelf<_>>(linker, |state| state)
}

/// The kernel operations this host can link.
pub(crate) const OPERATIONS: &[Grant] = &[];
