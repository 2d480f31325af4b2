//! Namespaces by what they are, whatever a path leads to by now.

use std::path::Path;

use netloom_core::model::NetnsId;
use netloom_kernel::netns::{self, Netns};

use crate::failure::Failure;

/// A namespace by its identity: through the path it was named by, or any other way there is to it.
pub(crate) async fn namespace(path: &Path, id: NetnsId) -> Result<Option<Netns>, Failure> {
    if let Ok(netns) = Netns::open(path)
        && netns.id() == id
    {
        return Ok(Some(netns));
    }
    let found = tokio::task::spawn_blocking(netns::all).await??;
    Ok(found.into_iter().map(|found| found.netns).find(|netns| netns.id() == id))
}
