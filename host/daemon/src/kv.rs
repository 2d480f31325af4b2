//! Plugins' own data, in the daemon's store.

use std::sync::Arc;

use async_trait::async_trait;
use netloom_core::model::Name;
use netloom_runtime::{KvError, KvStore, LISTED_KEYS};

use crate::store::{KvRecord, Store, StoreError};

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
    /// The keys and the sizes of a plugin's values.
    fn entries(&self, plugin: &Name) -> Result<Vec<(String, u64)>, KvError> {
        let space = full_key(plugin, "");
        let records = self.0.all::<KvRecord>()?;
        let own = records.into_iter().filter_map(|(full, KvRecord(value))| {
            let key = full.strip_prefix(&space)?.to_owned();
            let bytes = u64::try_from(key.len() + value.len()).unwrap_or(u64::MAX);
            Some((key, bytes))
        });
        Ok(own.collect())
    }
}

#[async_trait]
impl KvStore for PluginData {
    async fn get(&self, plugin: &Name, key: &str) -> Result<Option<Vec<u8>>, KvError> {
        let record = self.0.get::<KvRecord>(&full_key(plugin, key))?;
        Ok(record.map(|KvRecord(value)| value))
    }

    async fn set(&self, plugin: &Name, key: &str, value: Vec<u8>, quota: u64) -> Result<(), KvError> {
        let others = self.entries(plugin)?.into_iter().filter(|(present, _)| present != key);
        let used: u64 = others.map(|(_, bytes)| bytes).sum();
        let wanted = u64::try_from(key.len() + value.len()).unwrap_or(u64::MAX);
        if used.saturating_add(wanted) > quota {
            return Err(KvError::Full { used, quota, wanted });
        }
        self.0.commit(|changes| changes.put(&full_key(plugin, key), &KvRecord(value))).map_err(KvError::from)
    }

    async fn delete(&self, plugin: &Name, key: &str) -> Result<bool, KvError> {
        self.0.commit(|changes| changes.remove::<KvRecord>(&full_key(plugin, key))).map_err(KvError::from)
    }

    async fn keys(&self, plugin: &Name, prefix: &str) -> Result<Vec<String>, KvError> {
        let keys = self.entries(plugin)?.into_iter().map(|(key, _)| key);
        Ok(keys.filter(|key| key.starts_with(prefix)).take(LISTED_KEYS).collect())
    }
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
