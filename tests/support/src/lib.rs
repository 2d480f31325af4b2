//! Namespaces, traffic and daemons for tests, in words.
