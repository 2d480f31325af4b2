//! The bundled attach-order plugin.
