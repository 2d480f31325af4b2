use super::kernel::config::Host;
use crate::state::State;

impl Host for State {
    async fn document(&mut self) -> wasmtime::Result<String> {
        self.meter.count_host_call()?;
        Ok(self.settings.document().to_owned())
    }

    async fn get(&mut self, path: String) -> wasmtime::Result<Option<String>> {
        self.meter.count_host_call()?;
        Ok(self.settings.get(&path))
    }
}
