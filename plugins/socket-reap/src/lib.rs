//! The bundled socket-reap plugin.
