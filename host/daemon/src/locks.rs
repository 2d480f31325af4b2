//! Who waits for whom: one change at a time in a namespace, one at a time in the services, and numbers and
//! addresses given out one endpoint at a time.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex as StdMutex, PoisonError},
    time::Duration,
};

use netloom_core::model::NetnsId;
use tokio::sync::{Mutex, MutexGuard, OwnedMutexGuard};

/// How long a plugin waits for a lock: well within the deadline of its call.
const SOON: Duration = Duration::from_millis(10);

#[derive(Default)]
pub(crate) struct Locks {
    netns: StdMutex<HashMap<NetnsId, Arc<Mutex<()>>>>,
    admission: Mutex<()>,
    services: Mutex<()>,
    plugins: Mutex<()>,
}

impl Locks {
    pub(crate) async fn netns(&self, netns: NetnsId) -> OwnedMutexGuard<()> {
        let lock = {
            let mut locks = self.netns.lock().unwrap_or_else(PoisonError::into_inner);
            // Namespaces come and go; a lock that nobody holds or waits for is not needed.
            locks.retain(|id, lock| *id == netns || Arc::strong_count(lock) > 1);
            Arc::clone(locks.entry(netns).or_default())
        };
        lock.lock_owned().await
    }

    /// The same for a plugin, which may ask while a decision is waited for by whoever holds the lock: it does not
    /// wait long.
    pub(crate) async fn netns_soon(&self, netns: NetnsId) -> Option<OwnedMutexGuard<()>> {
        tokio::time::timeout(SOON, self.netns(netns)).await.ok()
    }

    pub(crate) async fn admission(&self) -> MutexGuard<'_, ()> {
        self.admission.lock().await
    }

    pub(crate) async fn services(&self) -> MutexGuard<'_, ()> {
        self.services.lock().await
    }

    pub(crate) async fn plugins(&self) -> MutexGuard<'_, ()> {
        self.plugins.lock().await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BLUE: NetnsId = NetnsId { device: 4, inode: 1 };
    const RED: NetnsId = NetnsId { device: 4, inode: 2 };

    #[tokio::test]
    async fn one_at_a_time_in_a_namespace_but_not_across() {
        let locks = Locks::default();
        let blue = locks.netns(BLUE).await;
        let _red = locks.netns(RED).await;
        let second = locks.netns_soon(BLUE).await;
        assert!(second.is_none(), "two changes in one namespace at once");
        drop(blue);
        let _again = locks.netns(BLUE).await;
    }

    #[tokio::test]
    async fn locks_of_namespaces_that_are_gone_are_forgotten() {
        let locks = Locks::default();
        for inode in 0..100 {
            drop(locks.netns(NetnsId { device: 4, inode }).await);
        }
        assert!(locks.netns.lock().unwrap().len() <= 2);
    }
}
