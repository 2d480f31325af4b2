use std::{
    collections::{BTreeMap, btree_map::Entry},
    sync::{Mutex, PoisonError},
};

use netloom_core::model::Name;

/// Metric names of one plugin, at most.
pub(crate) const NAMES: usize = 64;
const NAME_BYTES: usize = 64;

/// The value of a plugin's metric.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Metric {
    /// Only grows.
    Counter(u64),
    /// Goes up and down.
    Gauge(f64),
}

/// Why a metric was not taken.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum MetricError {
    #[error("{0:?} is not a metric name: use 1 to {NAME_BYTES} of a-z, 0-9 and '_', the first a letter")]
    Name(String),
    #[error("it already has {NAMES} metrics")]
    Full,
    #[error("{0:?} is both a counter and a gauge")]
    Kind(String),
    #[error("{0:?} is set to a value that is not a number")]
    NotANumber(String),
}

/// The metrics of every plugin, for the daemon to export.
#[derive(Debug, Default)]
pub struct PluginMetrics {
    plugins: Mutex<BTreeMap<Name, BTreeMap<String, Metric>>>,
}

impl PluginMetrics {
    /// Every metric as it is now: plugin, name, value.
    #[must_use]
    pub fn snapshot(&self) -> Vec<(Name, String, Metric)> {
        let plugins = self.plugins.lock().unwrap_or_else(PoisonError::into_inner);
        let each = plugins.iter().flat_map(|(plugin, metrics)| {
            metrics.iter().map(|(name, metric)| (plugin.clone(), name.clone(), *metric))
        });
        each.collect()
    }

    /// Drops the metrics of a plugin that is gone.
    pub fn forget(&self, plugin: &Name) {
        self.plugins.lock().unwrap_or_else(PoisonError::into_inner).remove(plugin);
    }

    pub(crate) fn counter_add(&self, plugin: &Name, name: &str, value: u64) -> Result<(), MetricError> {
        self.update(plugin, name, Metric::Counter(0), |metric| match metric {
            Metric::Counter(count) => {
                *count = count.saturating_add(value);
                Ok(())
            }
            Metric::Gauge(_) => Err(MetricError::Kind(name.to_owned())),
        })
    }

    pub(crate) fn gauge_set(&self, plugin: &Name, name: &str, value: f64) -> Result<(), MetricError> {
        if !value.is_finite() {
            return Err(MetricError::NotANumber(name.to_owned()));
        }
        self.update(plugin, name, Metric::Gauge(value), |metric| match metric {
            Metric::Gauge(present) => {
                *present = value;
                Ok(())
            }
            Metric::Counter(_) => Err(MetricError::Kind(name.to_owned())),
        })
    }

    fn update(
        &self,
        plugin: &Name,
        name: &str,
        first: Metric,
        f: impl FnOnce(&mut Metric) -> Result<(), MetricError>,
    ) -> Result<(), MetricError> {
        let ok = (1..=NAME_BYTES).contains(&name.len())
            && name.starts_with(|c: char| c.is_ascii_lowercase())
            && name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_');
        if !ok {
            return Err(MetricError::Name(name.chars().take(NAME_BYTES).collect()));
        }
        let mut plugins = self.plugins.lock().unwrap_or_else(PoisonError::into_inner);
        let metrics = plugins.entry(plugin.clone()).or_default();
        let full = metrics.len() >= NAMES;
        match metrics.entry(name.to_owned()) {
            Entry::Occupied(mut entry) => f(entry.get_mut()),
            Entry::Vacant(_) if full => Err(MetricError::Full),
            Entry::Vacant(entry) => f(entry.insert(first)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plugin_has_at_most_64_names() {
        let (metrics, plugin) = (PluginMetrics::default(), Name::new("p").unwrap());
        for n in 0..NAMES {
            metrics.counter_add(&plugin, &format!("m{n}"), 1).unwrap();
        }
        assert_eq!(metrics.counter_add(&plugin, "one_more", 1), Err(MetricError::Full));
        metrics.counter_add(&plugin, "m0", 2).unwrap();
        assert_eq!(metrics.snapshot().first().unwrap().2, Metric::Counter(3));
        metrics.forget(&plugin);
        assert!(metrics.snapshot().is_empty());
    }

    #[test]
    fn nonsense_is_refused() {
        let (metrics, plugin) = (PluginMetrics::default(), Name::new("p").unwrap());
        assert!(matches!(metrics.counter_add(&plugin, "Bad name", 1), Err(MetricError::Name(_))));
        assert!(matches!(metrics.gauge_set(&plugin, "g", f64::NAN), Err(MetricError::NotANumber(_))));
        metrics.gauge_set(&plugin, "g", 1.5).unwrap();
        assert!(matches!(metrics.counter_add(&plugin, "g", 1), Err(MetricError::Kind(_))));
        assert_eq!(metrics.snapshot(), [(plugin, "g".to_owned(), Metric::Gauge(1.5))]);
    }
}
