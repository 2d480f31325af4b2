use super::kernel::{kv::Host, types::Error};
use crate::{
    kv::{KvError, check_key, check_value},
    state::State,
};

impl From<KvError> for Error {
    fn from(error: KvError) -> Self {
        let text = error.to_string();
        match error {
            KvError::Invalid(_) => Self::Invalid(text),
            KvError::Full { .. } => Self::Exhausted(text),
            KvError::Store(_) => Self::Kernel(text),
        }
    }
}

impl State {
    async fn kv_get(&self, key: &str) -> Result<Option<Vec<u8>>, KvError> {
        check_key(key)?;
        self.kv.get(&self.plugin, key).await
    }

    async fn kv_set(&self, key: &str, value: Vec<u8>) -> Result<(), KvError> {
        check_key(key)?;
        check_value(&value)?;
        self.kv.set(&self.plugin, key, value, self.kv_quota).await
    }

    async fn kv_delete(&self, key: &str) -> Result<bool, KvError> {
        check_key(key)?;
        self.kv.delete(&self.plugin, key).await
    }
}

impl Host for State {
    async fn get(&mut self, key: String) -> wasmtime::Result<Result<Option<Vec<u8>>, Error>> {
        self.meter.count_host_call()?;
        Ok(self.kv_get(&key).await.map_err(Error::from))
    }

    async fn set(&mut self, key: String, value: Vec<u8>) -> wasmtime::Result<Result<(), Error>> {
        self.meter.count_host_call()?;
        Ok(self.kv_set(&key, value).await.map_err(Error::from))
    }

    async fn delete(&mut self, key: String) -> wasmtime::Result<Result<bool, Error>> {
        self.meter.count_host_call()?;
        Ok(self.kv_delete(&key).await.map_err(Error::from))
    }

    async fn keys(&mut self, prefix: String) -> wasmtime::Result<Result<Vec<String>, Error>> {
        self.meter.count_host_call()?;
        Ok(self.kv.keys(&self.plugin, &prefix).await.map_err(Error::from))
    }
}
