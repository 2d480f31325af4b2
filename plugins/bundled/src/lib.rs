//! The bundled plugins, built and embedded.
