//! What the datapath counted, as metrics: read from its maps when somebody asks.

use netloom_api::types::Endpoint;
use netloom_kernel::datapath::{EndpointCounters, MapFill, ServiceCounters};

use super::Report;
use crate::{failure::Failure, store::ServiceRecord};

type Field = fn(&EndpointCounters) -> u64;

const COUNTED: [(&str, &str, Field); 4] = [
    ("endpoint_sent_packets", "Packets from an endpoint, without those dropped", |counted| {
        counted.sent_packets
    }),
    ("endpoint_sent_bytes", "Bytes from an endpoint, without those dropped", |counted| counted.sent_bytes),
    ("endpoint_received_packets", "Packets to an endpoint", |counted| counted.received_packets),
    ("endpoint_received_bytes", "Bytes to an endpoint", |counted| counted.received_bytes),
];

const DROPPED: [(&str, Field); 6] = [
    ("spoofed", |counted| counted.dropped_spoofed),
    ("malformed", |counted| counted.dropped_malformed),
    ("unsupported", |counted| counted.dropped_unsupported),
    ("tagged", |counted| counted.dropped_tagged),
    ("link", |counted| counted.dropped_link),
    ("martian", |counted| counted.dropped_martian),
];

type OfService = fn(&ServiceCounters) -> u64;

const CONNECTED: [(&str, &str, OfService); 3] = [
    (
        "service_connects",
        "Connects, and exchanges of unconnected sockets, that went to a backend; of services that are gone where there \
         is no name",
        |counted| counted.connected,
    ),
    ("service_refusals", "Connects and messages to a service without a backend", |counted| counted.refused),
    ("service_unbound", "Connects that no reap will find", |counted| counted.unbound),
];

type OfMap = fn(&MapFill) -> u32;

const FILLS: [(&str, &str, OfMap); 2] = [
    ("map_entries", "What is in a map of the datapath that refuses what does not fit", |fill| fill.entries),
    ("map_size", "How much there can be in it", |fill| fill.size),
];

impl Report {
    /// The lines of `/metrics` on endpoints' packets and on services' connections.
    pub(crate) fn datapath_metrics(&self) -> Result<Vec<String>, Failure> {
        let mut endpoints = Vec::new();
        for (name, endpoint) in self.store.all::<Endpoint>()? {
            endpoints.push((name, self.datapath.counters(endpoint.id)?));
        }
        let mut lines = of_endpoints(&endpoints);
        let mut services = vec![(String::new(), self.datapath.gone_service_counters()?)];
        for (name, record) in self.store.all::<ServiceRecord>()? {
            services.push((name, self.datapath.service_counters(record.id)?.unwrap_or_default()));
        }
        lines.extend(of_services(&services));
        let fills = self.datapath.fill()?;
        for (name, help, of) in FILLS {
            lines.push(format!("# HELP netloom_{name} {help}."));
            lines.push(format!("# TYPE netloom_{name} gauge"));
            lines.extend(
                fills.iter().map(|fill| format!("netloom_{name}{{map=\"{}\"}} {}", fill.map, of(fill))),
            );
        }
        lines.extend(heading("monitor_lost_events", "Events that were listened to and came too fast"));
        lines.push(format!("netloom_monitor_lost_events_total {}", self.datapath.lost_events()?));
        let listeners = self.monitor.listeners();
        lines.push("# HELP netloom_monitor_listeners Who listens to drops and connects.".to_owned());
        lines.push("# TYPE netloom_monitor_listeners gauge".to_owned());
        lines.push(format!("netloom_monitor_listeners {listeners}"));
        Ok(lines)
    }
}

fn of_endpoints(endpoints: &[(String, EndpointCounters)]) -> Vec<String> {
    let mut lines = Vec::new();
    for (metric, help, field) in COUNTED {
        lines.extend(heading(metric, help));
        for (name, counted) in endpoints {
            lines.push(format!("netloom_{metric}_total{{endpoint=\"{name}\"}} {}", field(counted)));
        }
    }
    lines.extend(heading("endpoint_dropped_packets", "Packets from an endpoint that were dropped, and why"));
    for (name, counted) in endpoints {
        for (reason, field) in DROPPED {
            let labels = format!("endpoint=\"{name}\",reason=\"{reason}\"");
            lines.push(format!("netloom_endpoint_dropped_packets_total{{{labels}}} {}", field(counted)));
        }
    }
    lines
}

/// The nameless one is of services that are gone.
fn of_services(services: &[(String, ServiceCounters)]) -> Vec<String> {
    let mut lines = Vec::new();
    for (metric, help, field) in CONNECTED {
        lines.extend(heading(metric, help));
        for (name, counted) in services {
            lines.push(format!("netloom_{metric}_total{{service=\"{name}\"}} {}", field(counted)));
        }
    }
    lines
}

fn heading(name: &str, help: &str) -> [String; 2] {
    [format!("# HELP netloom_{name} {help}."), format!("# TYPE netloom_{name} counter")]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_counter_has_its_endpoint_and_each_drop_its_reason() {
        let counted = EndpointCounters { sent_bytes: 7, dropped_malformed: 3, ..EndpointCounters::default() };
        let lines = of_endpoints(&[("web".into(), counted)]);
        assert!(lines.contains(&"netloom_endpoint_sent_bytes_total{endpoint=\"web\"} 7".to_owned()));
        let dropped = "netloom_endpoint_dropped_packets_total{endpoint=\"web\",reason=\"malformed\"} 3";
        assert!(lines.contains(&dropped.to_owned()), "{lines:?}");
    }
}
