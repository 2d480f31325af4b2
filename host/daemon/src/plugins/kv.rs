//! Plugins' own data, in the daemon's store.

use std::sync::Arc;

use async_trait::async_trait;
use netloom_core::model::Name;
use netloom_runtime::{KvError, KvStore, LISTED_KEYS};

use crate::store::{Changes, KvRecord, Store, StoreError};

/// The store as plugins see it: each has a space of its own.
pub(crate) struct PluginData(pub(crate) Arc<Store>);

/// No plugin's name has a slash, so no plugin can reach into another's space.
fn full_key(plugin: &Name, key: &str) -> String {
    format!("{plugin}/{key}")
}

impl From<StoreError> for KvError {
    fn from(error: StoreError) -> Self {
        Self::Store(error.to_string())
    }
}

impl PluginData {
    /// Commits on a thread that may wait for the disk. Plugins whose changes come together share a write.
    async fn commit<T: Send + 'static>(
        &self,
        changes: impl FnOnce(&Changes) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, KvError> {
        let store = Arc::clone(&self.0);
        let committed = tokio::task::spawn_blocking(move || store.commit(changes)).await;
        Ok(committed.map_err(|error| KvError::Store(error.to_string()))??)
    }
}

#[async_trait]
impl KvStore for PluginData {
    async fn get(&self, plugin: &Name, key: &str) -> Result<Option<Vec<u8>>, KvError> {
        let record = self.0.get::<KvRecord>(&full_key(plugin, key))?;
        Ok(record.map(|KvRecord(value)| value))
    }

    async fn set(&self, plugin: &Name, key: &str, value: Vec<u8>, quota: u64) -> Result<(), KvError> {
        let (space, full) = (full_key(plugin, ""), full_key(plugin, key));
        let wanted = bytes(key.len() + value.len());
        self.commit(move |changes| {
            let sizes = changes.sizes::<KvRecord>(&space).into_iter();
            let others = sizes.filter(|(present, _)| *present != full);
            let used: u64 = others.map(|(present, size)| bytes(present.len() - space.len() + size)).sum();
            if used.saturating_add(wanted) > quota {
                return Ok(Err(KvError::Full { used, quota, wanted }));
            }
            changes.put(&full, &KvRecord(value)).map(Ok)
        })
        .await?
    }

    async fn delete(&self, plugin: &Name, key: &str) -> Result<bool, KvError> {
        let full = full_key(plugin, key);
        self.commit(move |changes| changes.remove::<KvRecord>(&full)).await
    }

    async fn keys(&self, plugin: &Name, prefix: &str) -> Result<Vec<String>, KvError> {
        let space = full_key(plugin, "");
        let keys = self.0.keys::<KvRecord>(&full_key(plugin, prefix), LISTED_KEYS).into_iter();
        Ok(keys.filter_map(|full| Some(full.strip_prefix(&space)?.to_owned())).collect())
    }
}

fn bytes(length: usize) -> u64 {
    u64::try_from(length).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn plugins_have_spaces_of_their_own_and_a_quota() {
        let folder = tempfile::tempdir().unwrap();
        let data = PluginData(Arc::new(Store::open(&folder.path().join("store")).unwrap()));
        let (one, two) = (Name::new("one").unwrap(), Name::new("one-more").unwrap());
        data.set(&one, "seen/a", vec![1], 100).await.unwrap();
        data.set(&two, "seen/b", vec![2], 100).await.unwrap();
        assert_eq!(data.keys(&one, "seen/").await.unwrap(), ["seen/a"]);
        assert_eq!(data.get(&two, "seen/a").await.unwrap(), None);
        assert!(matches!(data.set(&one, "big", vec![0; 100], 100).await, Err(KvError::Full { used: 7, .. })));
        data.set(&one, "seen/a", vec![0; 94], 100).await.unwrap();
        assert!(data.delete(&one, "seen/a").await.unwrap());
        assert!(!data.delete(&one, "seen/a").await.unwrap());
    }
}
