//! Builds a plugin crate into a component.
