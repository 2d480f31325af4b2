use std::sync::Arc;

use super::{
    kernel::{files, types as wit},
    operations::Answer,
};
use crate::{
    files::{Directories, FileError},
    state::State,
};

impl From<FileError> for wit::Error {
    fn from(error: FileError) -> Self {
        let text = error.to_string();
        match error {
            FileError::NoDirectory(_) | FileError::ReadOnly(_) => Self::Denied(text),
            FileError::TooLarge(_) => Self::Exhausted(text),
            FileError::Io { source, .. } if source.kind() == std::io::ErrorKind::NotFound => {
                Self::NotFound(text)
            }
            FileError::Io { source, .. } if source.kind() == std::io::ErrorKind::PermissionDenied => {
                Self::Denied(text)
            }
            FileError::Io { .. } => Self::Kernel(text),
        }
    }
}

impl State {
    /// Disks can be slow: off the threads that decide.
    async fn with_files<T: Send + 'static>(
        &mut self,
        operation: &'static str,
        act: impl FnOnce(&Directories) -> Result<T, FileError> + Send + 'static,
    ) -> wasmtime::Result<Answer<T>> {
        self.meter.count_host_call()?;
        let directories = Arc::clone(&self.directories);
        let done = tokio::task::spawn_blocking(move || act(&directories)).await?;
        Ok(done.map_err(|error| match wit::Error::from(error) {
            wit::Error::Denied(why) => self.deny(operation, why),
            other => other,
        }))
    }
}

impl files::Host for State {
    async fn directories(&mut self) -> wasmtime::Result<Vec<String>> {
        self.meter.count_host_call()?;
        Ok(self.directories.names())
    }

    async fn entries(&mut self, directory: String, path: String) -> wasmtime::Result<Answer<Vec<String>>> {
        self.with_files("files.entries", move |files| files.entries(&directory, &path)).await
    }

    async fn read(&mut self, directory: String, path: String) -> wasmtime::Result<Answer<Vec<u8>>> {
        self.with_files("files.read", move |files| files.read(&directory, &path)).await
    }

    async fn write(
        &mut self,
        directory: String,
        path: String,
        contents: Vec<u8>,
    ) -> wasmtime::Result<Answer<()>> {
        self.with_files("files.write", move |files| files.write(&directory, &path, &contents)).await
    }

    async fn remove(&mut self, directory: String, path: String) -> wasmtime::Result<Answer<bool>> {
        self.with_files("files.remove", move |files| files.remove(&directory, &path)).await
    }
}
