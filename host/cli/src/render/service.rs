use netloom_api::types::{Service, ServiceView, ServicesApplied};
use netloom_core::model::{Backend, Choice, Weight};
use serde::Serialize;

use super::{
    Render,
    table::{Column, facts, table},
    text::list,
};

impl Render for [Service] {
    fn render(&self, wide: bool) -> String {
        if self.is_empty() {
            return "No services. Add one with `netloom service add NAME VIP:PORT/PROTO --backend IP:PORT`."
                .to_owned();
        }
        table::<Service>(
            self,
            wide,
            &[
                Column::new("NAME", |s| s.name.to_string()),
                Column::new("ADDRESS", address),
                Column::number("BACKENDS", |s| s.backends.len().to_string()),
                Column::wide(Column::new("BACKEND ADDRESSES", |s| list(&s.backends))),
            ],
        )
    }
}

impl Render for Service {
    fn render(&self, _wide: bool) -> String {
        facts(lines(self))
    }
}

impl Render for ServiceView {
    fn render(&self, _wide: bool) -> String {
        let mut lines = lines(&self.service);
        lines.push(("Connects", self.connected.to_string()));
        lines.push(("Refused", self.refused.to_string()));
        if self.unbound > 0 {
            lines.push(("Unbound", format!("{}: no reap will find them", self.unbound)));
        }
        facts(lines)
    }
}

/// So many names of services are shown.
const SHOWN: usize = 10;

impl Render for ServicesApplied {
    fn render(&self, wide: bool) -> String {
        let mut parts = Vec::new();
        let words = if self.dry_run {
            ["Would add", "Would change", "Would remove"]
        } else {
            ["Added", "Changed", "Removed"]
        };
        for (word, names) in words.into_iter().zip([&self.added, &self.changed, &self.removed]) {
            if !names.is_empty() {
                let shown = list(names.iter().take(SHOWN));
                let more = names.len().saturating_sub(SHOWN);
                let more = if more > 0 { format!(" and {more} more") } else { String::new() };
                parts.push(format!("{word} {}: {shown}{more}.", names.len()));
            }
        }
        if self.unchanged > 0 {
            parts.push(format!("{} stay as they are.", self.unchanged));
        }
        if parts.is_empty() {
            parts.push("There was nothing to do.".to_owned());
        }
        if !self.reap.sockets.is_empty() || self.reap.reason.is_some() {
            parts.push(self.reap.render(wide));
        }
        parts.join("\n")
    }
}

fn lines(service: &Service) -> Vec<(&'static str, String)> {
    let mut lines = vec![("Name", service.name.to_string()), ("Address", address(service))];
    if service.choice != Choice::default() {
        lines.push(("Choice", service.choice.to_string()));
    }
    if service.affinity_seconds > 0 {
        lines.push(("Affinity", format!("{} s", service.affinity_seconds)));
    }
    let mut title = "Backends";
    if service.backends.is_empty() {
        lines.push((title, "none".to_owned()));
    }
    for &backend in &service.backends {
        let weight = service.weight(backend);
        lines.push((
            title,
            match weight {
                Weight::NONE => format!("{backend}, no new connections"),
                _ if weight == Weight::default() => backend.to_string(),
                _ => format!("{backend}, weight {weight}"),
            },
        ));
        title = "";
    }
    lines
}

/// A backend as it is listed.
#[derive(Serialize)]
pub(crate) struct WeightedBackend {
    #[serde(flatten)]
    pub(crate) backend: Backend,
    pub(crate) weight: Weight,
}

impl Render for [WeightedBackend] {
    fn render(&self, wide: bool) -> String {
        if self.is_empty() {
            return "No backends. Add one with `netloom backend add SERVICE IP:PORT`.".to_owned();
        }
        table(
            self,
            wide,
            &[
                Column::new("SERVICE", |b: &WeightedBackend| b.backend.service.to_string()),
                Column::new("BACKEND", |b| b.backend.address.to_string()),
                Column::new("PROTOCOL", |b| b.backend.protocol.to_string()),
                Column::number("WEIGHT", |b| b.weight.to_string()),
            ],
        )
    }
}

fn address(service: &Service) -> String {
    format!("{}/{}", service.vip, service.protocol)
}
