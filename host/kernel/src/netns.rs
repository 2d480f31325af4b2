//! Network namespaces: identity, entering, finding all of them.
