//! What is being done, on standard error: standard output belongs to what was asked for.

/// Says what is being done now.
pub(crate) fn step(what: &str) {
    eprintln!("» {what}");
}
