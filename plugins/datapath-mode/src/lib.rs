//! The bundled datapath-mode plugin.
