//! What runs beside the requests for as long as the daemon does.

use std::sync::{Mutex, PoisonError};

use tokio::task::JoinSet;

/// Tasks that nobody waits for. They are ended before the runtime is: one that went on until then would find what it
/// waits for cancelled, and call that a failure.
#[derive(Default)]
pub(crate) struct Background(Mutex<JoinSet<()>>);

impl Background {
    /// Runs a task.
    pub(crate) fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        let mut tasks = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        // Those that are over are let go of.
        while tasks.try_join_next().is_some() {}
        tasks.spawn(task);
    }

    /// Ends all of them where they wait: a crash may end them there as well, and the next start goes on.
    pub(crate) async fn end(&self) {
        let mut tasks = std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner));
        tasks.shutdown().await;
    }
}

#[cfg(test)]
mod tests {
    use std::{sync::Arc, time::Duration};

    use super::*;

    #[tokio::test]
    async fn what_waits_is_ended_without_another_word() {
        let background = Background::default();
        let held = Arc::new(());
        for wait in [0, 3600] {
            let held = Arc::clone(&held);
            background.spawn(async move {
                tokio::time::sleep(Duration::from_secs(wait)).await;
                drop(held);
            });
        }
        background.end().await;
        assert_eq!(Arc::strong_count(&held), 1);
    }
}
