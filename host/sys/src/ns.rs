//! Network namespaces: setns, identity, cookies.
