//! Sockets in every namespace: finding the bound ones, destroying them.
