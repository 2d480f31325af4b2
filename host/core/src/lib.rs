//! Netloom's pure core: what things are ([`model`]), where programs go ([`ordering`]), whether a plugin's
//! answer may be carried out ([`validate`]), and the steps that carry it out with their undo ([`plan`]).
//!
//! Nothing here does I/O or knows of wasmtime: every function can be tested with values alone.

pub mod model;
