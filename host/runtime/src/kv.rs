use std::{
    collections::{BTreeMap, HashMap},
    sync::{Mutex, PoisonError},
};

use async_trait::async_trait;
use netloom_core::model::Name;

/// Bytes of a key, at most.
pub const KEY_BYTES: usize = 256;
/// Bytes of a value, at most.
pub const VALUE_BYTES: usize = 64 << 10;
/// Keys in one listing, at most.
pub const LISTED_KEYS: usize = 1_000;

/// Why a plugin's store did not do what was asked.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KvError {
    /// A key or value is out of bounds.
    #[error("{0}")]
    Invalid(String),
    /// The plugin's quota is used up.
    #[error("the plugin's store is full: {used} of {quota} bytes are used, {wanted} more are wanted")]
    Full {
        /// Bytes in use.
        used: u64,
        /// Bytes there may be.
        quota: u64,
        /// Bytes asked for.
        wanted: u64,
    },
    /// The store itself failed.
    #[error("the store failed: {0}")]
    Store(String),
}

/// Where plugins keep their data: a namespace of its own for each plugin's name.
///
/// Keys and values are checked before they come here. A value counts with its key's bytes against the quota.
#[async_trait]
pub trait KvStore: Send + Sync {
    /// The value of a key.
    ///
    /// # Errors
    /// [`KvError::Store`] if the store fails.
    async fn get(&self, plugin: &Name, key: &str) -> Result<Option<Vec<u8>>, KvError>;

    /// Writes a value, unless the plugin would then use more than `quota` bytes.
    ///
    /// # Errors
    /// [`KvError::Full`] beyond the quota, [`KvError::Store`] if the store fails.
    async fn set(&self, plugin: &Name, key: &str, value: Vec<u8>, quota: u64) -> Result<(), KvError>;

    /// Removes a key; true if it was there.
    ///
    /// # Errors
    /// [`KvError::Store`] if the store fails.
    async fn delete(&self, plugin: &Name, key: &str) -> Result<bool, KvError>;

    /// The keys that start with `prefix`, sorted, at most [`LISTED_KEYS`].
    ///
    /// # Errors
    /// [`KvError::Store`] if the store fails.
    async fn keys(&self, plugin: &Name, prefix: &str) -> Result<Vec<String>, KvError>;
}

/// A store that lasts as long as the process.
#[derive(Debug, Default)]
pub struct MemoryKv {
    plugins: Mutex<HashMap<Name, BTreeMap<String, Vec<u8>>>>,
}

impl MemoryKv {
    fn with<T>(&self, plugin: &Name, f: impl FnOnce(&mut BTreeMap<String, Vec<u8>>) -> T) -> T {
        let mut plugins = self.plugins.lock().unwrap_or_else(PoisonError::into_inner);
        f(plugins.entry(plugin.clone()).or_default())
    }
}

#[async_trait]
impl KvStore for MemoryKv {
    async fn get(&self, plugin: &Name, key: &str) -> Result<Option<Vec<u8>>, KvError> {
        Ok(self.with(plugin, |table| table.get(key).cloned()))
    }

    async fn set(&self, plugin: &Name, key: &str, value: Vec<u8>, quota: u64) -> Result<(), KvError> {
        self.with(plugin, |table| {
            let size = |key: &str, value: &[u8]| (key.len() + value.len()) as u64;
            let used = table.iter().filter(|(k, _)| *k != key).map(|(k, v)| size(k, v)).sum();
            let wanted = size(key, &value);
            if wanted > quota.saturating_sub(used) {
                return Err(KvError::Full { used, quota, wanted });
            }
            table.insert(key.to_owned(), value);
            Ok(())
        })
    }

    async fn delete(&self, plugin: &Name, key: &str) -> Result<bool, KvError> {
        Ok(self.with(plugin, |table| table.remove(key).is_some()))
    }

    async fn keys(&self, plugin: &Name, prefix: &str) -> Result<Vec<String>, KvError> {
        Ok(self.with(plugin, |table| {
            let from = table.range(prefix.to_owned()..).map(|(key, _)| key);
            from.take_while(|key| key.starts_with(prefix)).take(LISTED_KEYS).cloned().collect()
        }))
    }
}

pub(crate) fn check_key(key: &str) -> Result<(), KvError> {
    if (1..=KEY_BYTES).contains(&key.len()) {
        Ok(())
    } else {
        Err(KvError::Invalid(format!("a key has 1 to {KEY_BYTES} bytes, this one has {}", key.len())))
    }
}

pub(crate) fn check_value(value: &[u8]) -> Result<(), KvError> {
    if value.len() <= VALUE_BYTES {
        Ok(())
    } else {
        Err(KvError::Invalid(format!(
            "a value has at most {VALUE_BYTES} bytes, this one has {}",
            value.len()
        )))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> Name {
        Name::new(text).unwrap()
    }

    #[tokio::test]
    async fn plugins_do_not_see_each_other() {
        let (kv, a, b) = (MemoryKv::default(), name("a"), name("b"));
        kv.set(&a, "x", b"1".to_vec(), 100).await.unwrap();
        assert_eq!(kv.get(&b, "x").await.unwrap(), None);
        assert!(!kv.delete(&b, "x").await.unwrap());
        assert_eq!(kv.get(&a, "x").await.unwrap().as_deref(), Some(b"1".as_slice()));
    }

    #[tokio::test]
    async fn the_quota_counts_keys_and_values_and_frees_what_is_replaced() {
        let (kv, a) = (MemoryKv::default(), name("a"));
        kv.set(&a, "k", vec![0; 9], 10).await.unwrap();
        kv.set(&a, "k", vec![1; 9], 10).await.unwrap();
        let full = kv.set(&a, "l", vec![], 10).await.unwrap_err();
        assert_eq!(full, KvError::Full { used: 10, quota: 10, wanted: 1 });
        assert!(kv.delete(&a, "k").await.unwrap());
        kv.set(&a, "l", vec![], 10).await.unwrap();
    }

    #[tokio::test]
    async fn keys_are_listed_by_prefix_in_order() {
        let (kv, a) = (MemoryKv::default(), name("a"));
        for key in ["b/2", "a/1", "b/1", "c"] {
            kv.set(&a, key, vec![], 100).await.unwrap();
        }
        assert_eq!(kv.keys(&a, "b/").await.unwrap(), ["b/1", "b/2"]);
    }
}
