use netloom_api::types::Service;
use netloom_core::model::{Backend, Weight};
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
        let mut lines = vec![("Name", self.name.to_string()), ("Address", address(self))];
        let mut title = "Backends";
        if self.backends.is_empty() {
            lines.push((title, "none".to_owned()));
        }
        for &backend in &self.backends {
            let weight = self.weight(backend);
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
        facts(lines)
    }
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
