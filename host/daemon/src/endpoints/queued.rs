//! Deletions that were asked for while netloomd was away.

use std::{sync::Arc, time::Duration};

use netloom_core::model::Endpoint;

use super::Endpoints;

/// Between two looks for them: one may be written by who found no netloomd just before there was one.
const LOOK_EVERY: Duration = Duration::from_secs(5);

impl Endpoints {
    /// Carries out the deletions that are waiting: what became of them, in words.
    pub(crate) async fn delete_queued(&self) -> Vec<String> {
        let queued = self.deletions.all().unwrap_or_else(|error| {
            tracing::warn!(%error, "deletions that were asked for while netloomd was away cannot be read");
            Vec::new()
        });
        let mut done = Vec::new();
        for deletion in queued {
            let name = &deletion.endpoint;
            let labels = |endpoint: &Endpoint| {
                deletion.labels.iter().all(|(key, value)| endpoint.spec.labels.get(key) == Some(value))
            };
            let there =
                self.store.get::<Endpoint>(name.as_str()).ok().flatten().is_some_and(|it| labels(&it));
            if there {
                match self.delete(name, Some(deletion.asked())).await {
                    Ok(_) => {
                        tracing::info!(endpoint = %name, "deleted, as was asked for while netloomd was away");
                        done.push(format!(
                            "endpoint {name}: its deletion was asked for meanwhile, and carried out"
                        ));
                    }
                    // It was added later than its deletion was asked for, or is gone.
                    Err(failure) if failure.is_not_found() => {}
                    Err(failure) => {
                        tracing::warn!(endpoint = %name, %failure, "it is not deleted, and tried again");
                        continue;
                    }
                }
            }
            if let Err(error) = self.deletions.remove(name) {
                tracing::warn!(endpoint = %name, %error, "a deletion that is carried out cannot be taken off the list");
            }
        }
        done
    }

    /// Does so now and then, for as long as the daemon runs.
    pub(crate) async fn watch_queued(self: Arc<Self>) {
        loop {
            tokio::time::sleep(LOOK_EVERY).await;
            self.delete_queued().await;
        }
    }
}
