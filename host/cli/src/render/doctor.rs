use netloom_api::types::{Doctor, Finding};

use super::{
    Render,
    table::{Column, Tone, table},
    text::count,
};

impl Render for Doctor {
    fn render(&self, wide: bool) -> String {
        let capabilities = table(
            &self.node.capabilities,
            wide,
            &[
                Column::new("CAPABILITY", |c| c.feature.to_string()),
                Column::toned(
                    Column::new("AVAILABLE", |c| if c.available { "yes" } else { "no" }.to_owned()),
                    |c| match c.available {
                        true => Tone::Good,
                        false => Tone::Poor,
                    },
                ),
                Column::prose("SEEN", |c| c.detail.clone()),
                Column::prose("GOOD FOR", |c| c.purpose.clone()),
                Column::prose("BROUGHT BY", |c| c.brought_by.clone()),
            ],
        );
        let mut parts = vec![format!("Kernel {}", self.node.kernel), capabilities, String::new()];
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
