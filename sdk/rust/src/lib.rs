//! Write Netloom plugins in Rust.
//!
//! A plugin is a type with one trait for each hook it serves, and one attribute:
//!
//! ```
//! use netloom_sdk::prelude::*;
//!
//! /// Programs that only look go in front of all others.
//! #[plugin(attach_order)]
//! #[derive(Default)]
//! struct ObserversFirst;
//!
//! impl AttachOrder for ObserversFirst {
//!     fn place(&mut self, _node: &Node, _chain: &Chain, candidate: &Candidate) -> PlaceDecision {
//!         match candidate.label("role") {
//!             Some("observer") => Placement::Head.into(),
//!             _ => PlaceDecision::Abstain,
//!         }
//!     }
//! }
//!
//! // It is ordinary Rust, and tested as such: no Wasm, no root.
//! use netloom_sdk::testing;
//! let observer = testing::candidate("acme/flows").with_label("role", "observer");
//! let decision = ObserversFirst.place(&testing::node(), &testing::chain([]), &observer);
//! assert_eq!(decision, PlaceDecision::Place(Placement::Head));
//! ```
//!
//! The crate is a `cdylib`, and `netloom-plugin-build` turns it into a component. The hooks:
//!
//! | attribute | trait | decides |
//! |---|---|---|
//! | `attach_order` | [`AttachOrder`] | where in a chain a program goes |
//! | `datapath_mode` | [`DatapathMode`] | which device and datapath an endpoint gets |
//! | `socket_reap` | [`SocketReap`] | which sockets are cut when a backend is gone |
//! | `lifecycle` | [`Lifecycle`] | takes the configuration, reports health |
//!
//! # State
//!
//! The host creates the plugin with `Default`, calls [`Lifecycle::init`] if the plugin has it, and then calls
//! hooks one at a time. What the hooks leave in `self` is there at the next call, but the host may throw an
//! instance away at any time (after a trap, a timeout, a reload, or to have several side by side) and begin
//! with a new one: treat `self` as a cache. What has to outlive the instance goes into [`host::kv`].
//!
//! A panic is a trap: its message is logged, the host uses the hook's fallback, and throws the instance away.

#[doc(hidden)]
pub mod bindings;

mod address;
mod chain;
mod hooks;
mod instance;
pub mod log;
mod mode;
mod socket;
pub mod testing;

pub use hooks::{AttachOrder, DatapathMode, Lifecycle, NoConfig, SocketReap};
/// Makes a type the plugin of its crate: `#[plugin(attach_order, lifecycle)]` exports these two hooks, for each of
/// which the type implements the trait of that name. The host makes it with `Default`.
///
/// The hooks are `attach_order`, `datapath_mode`, `socket_reap` and `lifecycle`. A crate has one plugin.
///
/// What is named has to be there:
///
/// ```compile_fail,E0277
/// use netloom_sdk::prelude::*;
///
/// #[plugin(attach_order)] // the trait `AttachOrder` is not implemented for `Undecided`
/// #[derive(Default)]
/// struct Undecided;
/// ```
///
/// Outside of Wasm the attribute only checks this, so that `cargo test` sees a type like any other.
pub use netloom_sdk_macros::plugin;
pub use socket::{Batch, Socket, Verdict, Verdicts};

/// A map with a fast hasher: for keys the kernel makes, such as cookies, ports and addresses.
///
/// Judging hundreds of thousands of sockets spends most of its time in the hasher, and the standard library's
/// costs five times as much in Wasm. It buys resistance against keys chosen to collide, which this one lacks.
pub type FastMap<K, V> = rustc_hash::FxHashMap<K, V>;

/// A set with the fast hasher of [`FastMap`].
pub type FastSet<K> = rustc_hash::FxHashSet<K>;

/// The snapshots, questions and answers, as `wit/` defines them.
pub mod types {
    pub use crate::bindings::ambient::netloom::kernel::types::*;
    pub use crate::bindings::attach_order::exports::netloom::policy::attach_order::{
        Candidate, PlaceDecision, RebalanceDecision,
    };
    pub use crate::bindings::datapath_mode::exports::netloom::policy::datapath_mode::{Mode, ModeDecision};
    pub use crate::bindings::socket_reap::exports::netloom::policy::socket_reap::{
        Action as ReapAction, Event as ReapEvent, PlanDecision, ReapPlan, Reason as ReapReason,
    };
}

/// What the host offers: calls out of the sandbox. They work inside a component, and panic outside.
///
/// The first three need no grant. Each of the others does, and a component that calls one imports it: the
/// operator sees that before the plugin runs.
pub mod host {
    pub use crate::bindings::ambient::netloom::kernel::{config, kv, metrics};
    pub use crate::bindings::operations::netloom::kernel::{datapath, devices, files, links, sockets};
}

/// Everything a plugin usually needs.
pub mod prelude {
    pub use crate::{
        AttachOrder, Batch, DatapathMode, FastMap, FastSet, Lifecycle, NoConfig, Socket, SocketReap, Verdict,
        Verdicts, debug, error, info, plugin, trace, types::*, warn,
    };
}

#[doc(hidden)]
pub mod __private {
    pub use crate::bindings::attach_order::{self, export as export_attach_order};
    pub use crate::bindings::datapath_mode::{self, export as export_datapath_mode};
    pub use crate::bindings::lifecycle::{self, export as export_lifecycle};
    pub use crate::bindings::socket_reap::{self, export as export_socket_reap};
    pub use crate::instance::{Exported, Instance, create};
}
