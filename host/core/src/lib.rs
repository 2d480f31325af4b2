//! Netloom's pure core: what things are ([`model`]), what plugins said ([`answer`]), whether it may be carried
//! out ([`validate`]), where programs go without a plugin ([`ordering`]), and the steps that carry a decision
//! out, with their undo ([`plan`]). [`moves`] brings our own entries of a chain into a wanted order,
//! and [`reserved`] says which addresses no endpoint can have.
//!
//! Nothing here does I/O or knows of wasmtime: every function can be tested with values alone.

pub mod answer;
pub mod grants;
pub mod model;
pub mod moves;
pub mod ordering;
pub mod plan;
pub mod reserved;
pub mod validate;
