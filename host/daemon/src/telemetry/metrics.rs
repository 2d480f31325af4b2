//! Metrics, exported as OpenMetrics text.

use std::time::Instant;

use netloom_api::types::PoolView;
use netloom_kernel::{datapath::DatapathError, netns::IndexStatus};
use prometheus_client::{
    encoding::{EncodeLabelSet, text::encode},
    metrics::{counter::Counter, family::Family, gauge::Gauge, histogram::Histogram},
    registry::{Registry, Unit},
};

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(crate) struct Decided {
    pub(crate) hook: &'static str,
    pub(crate) by: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(crate) struct OfPlugin {
    pub(crate) plugin: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(crate) struct OfFate {
    pub(crate) fate: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(crate) struct OfReason {
    pub(crate) reason: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(crate) struct OfPhase {
    pub(crate) phase: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(crate) struct OfPlace {
    pub(crate) place: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfPool {
    pool: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfMap {
    map: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(crate) struct OfWhat {
    pub(crate) what: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(crate) struct OfOperation {
    pub(crate) plugin: String,
    pub(crate) operation: &'static str,
    pub(crate) outcome: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(crate) struct OfKind {
    pub(crate) kind: &'static str,
}

/// Every metric of the daemon.
pub(crate) struct Metrics {
    registry: Registry,
    pub(crate) decisions: Family<Decided, Counter>,
    pub(crate) plugin_failures: Family<OfPlugin, Counter>,
    pub(crate) plugin_operations: Family<OfOperation, Counter>,
    pub(crate) reaped_sockets: Family<OfFate, Counter>,
    pub(crate) reap_failures: Family<OfReason, Counter>,
    pub(crate) judged_sockets: Counter,
    pub(crate) reap_changes: Counter,
    pub(crate) reap_seconds: Histogram,
    pub(crate) reap_phase_seconds: Family<OfPhase, Histogram, fn() -> Histogram>,
    pub(crate) attach_phase_seconds: Family<OfPhase, Histogram, fn() -> Histogram>,
    pub(crate) commit_seconds: Histogram,
    pub(crate) stale_retries: Counter,
    full_maps: Family<OfMap, Counter>,
    pub(crate) undone_plans: Counter,
    pub(crate) unfinished_plans: Gauge,
    pub(crate) moves: Counter,
    pub(crate) events: Family<OfKind, Counter>,
    pub(crate) mended: Family<OfWhat, Counter>,
    pub(crate) unmended: Gauge,
    pub(crate) shadowed: Gauge,
    pub(crate) objects: Family<OfWhat, Gauge>,
    pub(crate) namespaces: Family<OfPlace, Gauge>,
    pub(crate) namespace_walks: Counter,
    pool_addresses: Family<OfPool, Gauge>,
    pool_size: Family<OfPool, Gauge>,
    store_writable: Gauge,
    store_failures: Counter,
    store_commits: Counter,
    store_writes: Counter,
}

impl Metrics {
    pub(crate) fn new() -> Self {
        let mut registry = Registry::with_prefix("netloom");
        let decisions = Family::default();
        let plugin_failures = Family::default();
        let plugin_operations = Family::default();
        let reaped_sockets = Family::default();
        let reap_failures = Family::default();
        let judged_sockets = Counter::default();
        let reap_changes = Counter::default();
        let reap_seconds = durations();
        let reap_phase_seconds = Family::new_with_constructor(durations as fn() -> Histogram);
        let attach_phase_seconds = Family::new_with_constructor(durations as fn() -> Histogram);
        let commit_seconds = durations();
        let stale_retries = Counter::default();
        let full_maps = Family::default();
        let undone_plans = Counter::default();
        let unfinished_plans = Gauge::default();
        let moves = Counter::default();
        let events = Family::default();
        let mended = Family::default();
        let unmended = Gauge::default();
        let shadowed = Gauge::default();
        let objects = Family::default();
        let namespaces = Family::default();
        let namespace_walks = Counter::default();
        let pool_addresses = Family::default();
        let pool_size = Family::default();
        let store_writable = Gauge::default();
        let store_failures = Counter::default();
        let store_commits = Counter::default();
        let store_writes = Counter::default();
        registry.register("decisions", "Policy decisions, by hook and by who decided", decisions.clone());
        registry.register("plugin_failures", "Traps, timeouts and bad answers", plugin_failures.clone());
        registry.register(
            "plugin_operations",
            "Kernel operations of plugins: done, failed, or denied as no grant covers them",
            plugin_operations.clone(),
        );
        registry.register(
            "reaped_sockets",
            "Sockets found by reaps, by what became of them",
            reaped_sockets.clone(),
        );
        registry.register(
            "reap_failures",
            "Sockets that were to be destroyed and live on, by why",
            reap_failures.clone(),
        );
        registry.register(
            "judged_sockets",
            "Sockets that a plugin judged one by one",
            judged_sockets.clone(),
        );
        registry.register(
            "reap_changes",
            "Changes of backends that were reaped for; those that come together share a reap",
            reap_changes.clone(),
        );
        registry.register_with_unit(
            "reap",
            "From the event to the last socket verified gone",
            Unit::Seconds,
            reap_seconds.clone(),
        );
        registry.register_with_unit(
            "reap_phase",
            "What each pass of a reap takes to find, to judge and to destroy; a reap looks once more when it is through",
            Unit::Seconds,
            reap_phase_seconds.clone(),
        );
        registry.register_with_unit(
            "attach_phase",
            "What it takes to load a program, to read its chain, to decide on its place, to attach it (the kernel's, \
             which waits until it is through with the chain as it was), to pin it, or to update it",
            Unit::Seconds,
            attach_phase_seconds.clone(),
        );
        registry.register_with_unit(
            "commit",
            "What it takes to write a plan or its outcome to the disk",
            Unit::Seconds,
            commit_seconds.clone(),
        );
        registry.register(
            "stale_retries",
            "Decisions made anew as the chain had changed",
            stale_retries.clone(),
        );
        registry.register("map_full", "Changes refused as a map of the datapath was full", full_maps.clone());
        registry.register(
            "undone_plans",
            "Plans undone after a step failed or a crash",
            undone_plans.clone(),
        );
        registry.register(
            "unfinished_plans",
            "Plans of which a part can be neither undone nor finished yet; it is tried again",
            unfinished_plans.clone(),
        );
        registry.register(
            "moves",
            "Programs taken to another place of a chain or another kind of hook",
            moves.clone(),
        );
        registry.register("events", "What happened on the node without a request, by kind", events.clone());
        registry.register(
            "mended",
            "What endpoints need, that somebody changed or removed and that was made as it was",
            mended.clone(),
        );
        registry.register(
            "unmended",
            "The same that is not as it was: somebody else has its place, or changes it again and again",
            unmended.clone(),
        );
        registry.register("shadowed", "Programs and filters that no packet reaches", shadowed.clone());
        registry.register("objects", "Endpoints, attachments, services and plugins", objects.clone());
        registry.register(
            "namespaces",
            "Network namespaces that are known, by the kind of place where they were found",
            namespaces.clone(),
        );
        registry.register(
            "namespace_walks",
            "Walks through all places of the node for a namespace that was not known",
            namespace_walks.clone(),
        );
        registry.register(
            "pool_addresses",
            "Addresses of each pool that endpoints have, or are being given or losing",
            pool_addresses.clone(),
        );
        registry.register("pool_size", "Addresses that each pool has to give", pool_size.clone());
        registry.register(
            "store_writable",
            "1 if records can be written; 0 if the disk refuses, and so every change is refused",
            store_writable.clone(),
        );
        registry.register("store_failures", "How often the disk began to refuse", store_failures.clone());
        registry.register("store_commits", "Changes of records", store_commits.clone());
        registry.register(
            "store_writes",
            "Writes that they took; those that come together share one",
            store_writes.clone(),
        );
        Self {
            registry,
            decisions,
            plugin_failures,
            plugin_operations,
            reaped_sockets,
            reap_failures,
            judged_sockets,
            reap_changes,
            reap_seconds,
            reap_phase_seconds,
            attach_phase_seconds,
            commit_seconds,
            stale_retries,
            full_maps,
            undone_plans,
            unfinished_plans,
            moves,
            events,
            mended,
            unmended,
            shadowed,
            objects,
            namespaces,
            namespace_walks,
            pool_addresses,
            pool_size,
            store_writable,
            store_failures,
            store_commits,
            store_writes,
        }
    }

    /// Counts what the datapath refused because a map was full.
    pub(crate) fn refused<T>(&self, result: Result<T, DatapathError>) -> Result<T, DatapathError> {
        result.inspect_err(|error| {
            if let DatapathError::Full { map, .. } = error {
                self.full_maps.get_or_create(&OfMap { map }).inc();
            }
        })
    }

    pub(crate) fn set_objects(&self, what: &'static str, count: usize) {
        self.objects.get_or_create(&OfWhat { what }).set(i64::try_from(count).unwrap_or(i64::MAX));
    }

    pub(crate) fn set_namespaces(&self, index: &IndexStatus) {
        // A kind of place that the last namespace has left is told as none.
        self.namespaces.clear();
        for (place, count) in &index.known {
            let count = i64::try_from(*count).unwrap_or(i64::MAX);
            self.namespaces.get_or_create(&OfPlace { place }).set(count);
        }
        self.namespace_walks.inc_by(index.walks.saturating_sub(self.namespace_walks.get()));
    }

    /// How much of each pool is given.
    pub(crate) fn set_pools(&self, pools: &[PoolView]) {
        for pool in pools {
            let of_pool = OfPool { pool: pool.prefix.to_string() };
            let used = i64::try_from(pool.used).unwrap_or(i64::MAX);
            self.pool_addresses.get_or_create(&of_pool).set(used);
            self.pool_size.get_or_create(&of_pool).set(i64::try_from(pool.size).unwrap_or(i64::MAX));
        }
    }

    /// Whether records can be written; how often the disk began to refuse; changes, and the writes that they took.
    pub(crate) fn set_store(&self, writable: bool, failures: u64, commits: u64, writes: u64) {
        self.store_writable.set(i64::from(writable));
        let counters =
            [(&self.store_failures, failures), (&self.store_commits, commits), (&self.store_writes, writes)];
        for (counter, total) in counters {
            counter.inc_by(total.saturating_sub(counter.get()));
        }
    }

    /// Counts how long a phase of attaching took, which began then.
    pub(crate) fn attach_phase(&self, phase: &'static str, began: Instant) {
        self.attach_phase_seconds.get_or_create(&OfPhase { phase }).observe(began.elapsed().as_secs_f64());
    }

    /// The text of `/metrics`.
    pub(crate) fn text(&self) -> Result<String, std::fmt::Error> {
        let mut text = String::new();
        encode(&mut text, &self.registry)?;
        Ok(text)
    }
}

/// Half a millisecond to ten seconds.
fn durations() -> Histogram {
    Histogram::new([0.0005, 0.001, 0.002, 0.005, 0.01, 0.05, 0.1, 0.5, 1.0, 10.0])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_text_has_every_metric_with_its_help() {
        let metrics = Metrics::new();
        metrics.set_objects("endpoints", 2);
        metrics.decisions.get_or_create(&Decided { hook: "attach-order", by: "attach-order".into() }).inc();
        let text = metrics.text().unwrap();
        assert!(text.contains("netloom_objects{what=\"endpoints\"} 2"), "{text}");
        assert!(
            text.contains("netloom_decisions_total{hook=\"attach-order\",by=\"attach-order\"} 1"),
            "{text}"
        );
    }
}
