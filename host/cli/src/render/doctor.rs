use netloom_api::types::{Doctor, Feature, Finding};

use netloom_core::model::Support;

use super::{
    Render,
    table::{Column, Tone, table},
    text::count,
};

impl Render for Doctor {
    fn render(&self, wide: bool) -> String {
        // In the order in which features are declared, which groups what belongs together.
        let features: Vec<(Feature, &Support)> = Feature::ALL
            .into_iter()
            .filter_map(|feature| self.capabilities.features.get(&feature).map(|support| (feature, support)))
            .collect();
        let capabilities = table(
            &features,
            wide,
            &[
                Column::new("CAPABILITY", |(feature, _)| feature.to_string()),
                Column::toned(
                    Column::new("AVAILABLE", |(_, s)| if s.available { "yes" } else { "no" }.to_owned()),
                    |(_, s)| match s.available {
                        true => Tone::Good,
                        false => Tone::Poor,
                    },
                ),
                Column::prose("DETAIL", |(_, s)| s.detail.clone()),
            ],
        );
        let mut parts = vec![format!("Kernel {}", self.capabilities.kernel), capabilities, String::new()];
        if self.findings.is_empty() {
            parts.push("Nothing is wrong.".to_owned());
        } else {
            parts.push(count(self.findings.len(), "finding", "findings"));
            parts.push(findings(&self.findings, wide));
        }
        parts.join("\n")
    }
}

fn findings(findings: &[Finding], wide: bool) -> String {
    table(
        findings,
        wide,
        &[
            Column::toned(Column::new("SEVERITY", |f| f.severity.clone()), |f| match f.severity.as_str() {
                "error" => Tone::Bad,
                "warning" => Tone::Poor,
                _ => Tone::Plain,
            }),
            Column::new("SUBJECT", |f| f.subject.clone()),
            Column::prose("FINDING", |f| f.message.clone()),
            Column::prose("HINT", |f| f.hint.clone()),
        ],
    )
}
