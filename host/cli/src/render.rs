//! Answers as text for people: one file a noun.

mod attachment;
mod chain;
mod decision;
mod device;
mod doctor;
mod endpoint;
mod event;
mod monitor;
mod orphan;
mod plugin;
mod reap;
mod service;
mod socket;
mod status;
mod store;
mod table;
mod text;
mod trace;

pub(crate) use self::service::WeightedBackend;
use netloom_api::types::Done;

/// An answer that people can read.
pub(crate) trait Render {
    /// The text; with every column if it is to be wide.
    fn render(&self, wide: bool) -> String;
}

impl Render for Done {
    fn render(&self, _wide: bool) -> String {
        "Done.".to_owned()
    }
}
