//! A plugin that puts one owner first and spares one port's sockets.
