use std::time::Instant;

use super::kernel::metrics::Host;
use crate::{metrics::MetricError, state::State};

impl State {
    /// WIT gives the plugin no answer, so a refused metric goes to the log, at the plugin's log rate.
    fn note_refused(&self, outcome: Result<(), MetricError>) {
        let Err(error) = outcome else { return };
        if self.log.pass(Instant::now()).is_some() {
            let plugin = self.plugin.as_str();
            tracing::warn!(target: "netloom::plugin", plugin, "a metric was not taken: {error}");
        }
    }
}

impl Host for State {
    async fn counter_add(&mut self, name: String, value: u64) -> wasmtime::Result<()> {
        self.meter.count_host_call()?;
        self.note_refused(self.metrics.counter_add(&self.plugin, &name, value));
        Ok(())
    }

    async fn gauge_set(&mut self, name: String, value: f64) -> wasmtime::Result<()> {
        self.meter.count_host_call()?;
        self.note_refused(self.metrics.gauge_set(&self.plugin, &name, value));
        Ok(())
    }
}
