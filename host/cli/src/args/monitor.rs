use clap::Args;
use netloom_api::types::{MonitorKind, MonitorQuery};
use netloom_core::model::Name;

/// `netloom monitor`
#[derive(Debug, Args)]
#[command(after_help = "\
With --output json each event is one line of JSON.

Examples:
  netloom monitor --drops --endpoint web
  netloom monitor --reason spoofed --output json
  netloom monitor --connects --service shop --count 10")]
pub(crate) struct MonitorArgs {
    /// Only of this endpoint: its packets, and connects of its processes
    #[arg(long, value_name = "NAME")]
    endpoint: Option<Name>,
    /// Only connects to this service
    #[arg(long, value_name = "NAME", conflicts_with_all = ["drops", "reason"])]
    service: Option<Name>,
    /// Only dropped packets
    #[arg(long, conflicts_with = "connects")]
    drops: bool,
    /// Only connects and messages to services
    #[arg(long)]
    connects: bool,
    /// Only drops for this reason, such as spoofed
    #[arg(long, value_name = "REASON", conflicts_with = "connects")]
    reason: Option<String>,
    /// End after so many events
    #[arg(long, value_name = "N")]
    pub(crate) count: Option<usize>,
}

impl MonitorArgs {
    /// As the API takes it.
    pub(crate) fn query(&self) -> MonitorQuery {
        let kind = match (self.drops, self.connects) {
            (true, _) => Some(MonitorKind::Drop),
            (_, true) => Some(MonitorKind::Connect),
            _ => None,
        };
        MonitorQuery {
            endpoint: self.endpoint.clone(),
            service: self.service.clone(),
            kind,
            reason: self.reason.clone(),
        }
    }
}
