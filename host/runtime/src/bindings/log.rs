use std::time::Instant;

use super::kernel::log::{Host, Level};
use crate::{log, state::State};

impl Host for State {
    async fn write(
        &mut self,
        level: Level,
        message: String,
        fields: Vec<(String, String)>,
    ) -> wasmtime::Result<()> {
        self.meter.count_host_call()?;
        let Some(dropped) = self.log.pass(Instant::now()) else { return Ok(()) };
        let plugin = self.plugin.as_str();
        if dropped > 0 {
            tracing::warn!(target: "netloom::plugin", plugin, dropped, "log entries over the plugin's rate were dropped");
        }
        let message = log::clean_message(&message);
        let fields = log::clean_fields(&fields);
        match level {
            Level::Error => tracing::error!(target: "netloom::plugin", plugin, fields, "{message}"),
            Level::Warn => tracing::warn!(target: "netloom::plugin", plugin, fields, "{message}"),
            Level::Info => tracing::info!(target: "netloom::plugin", plugin, fields, "{message}"),
            Level::Debug => tracing::debug!(target: "netloom::plugin", plugin, fields, "{message}"),
            Level::Trace => tracing::trace!(target: "netloom::plugin", plugin, fields, "{message}"),
        }
        Ok(())
    }
}
