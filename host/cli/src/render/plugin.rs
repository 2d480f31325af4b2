use netloom_api::types::{
    AnswerDifference, AuditEntry, PluginInspection, PluginVersion, PluginView, ReloadReport,
};
use serde_json::Value;

use super::{
    Render,
    table::{Column, Tone, facts, table},
    text::{bytes, list, millis, one_line, seconds},
};

impl Render for [PluginView] {
    fn render(&self, wide: bool) -> String {
        if self.is_empty() {
            return "No plugins. Load one with `netloom plugin load FILE.wasm`.".to_owned();
        }
        table(
            self,
            wide,
            &[
                Column::new("NAME", |p| p.name.to_string()),
                Column::toned(Column::new("STATE", |p| p.state.clone()), |p| match p.state.as_str() {
                    "active" => Tone::Good,
                    "backoff" => Tone::Poor,
                    _ => Tone::Bad,
                }),
                Column::new("HOOKS", |p| list(&p.hooks)),
                Column::new("ORIGIN", |p| origin(p).to_owned()),
                Column::number("CALLS", |p| p.calls.to_string()),
                Column::toned(Column::number("FAILURES", |p| p.failures.to_string()), |p| match p.failures {
                    0 => Tone::Plain,
                    _ => Tone::Poor,
                }),
                Column::new("DIGEST", |p| short(&p.digest)),
                Column::prose("REASON", |p| p.reason.clone().unwrap_or_default()),
                Column::wide(Column::new("SHA-256", |p| p.digest.clone())),
            ],
        )
    }
}

impl Render for PluginView {
    fn render(&self, _wide: bool) -> String {
        let mut lines = vec![
            ("Name", self.name.to_string()),
            ("State", self.state.clone()),
            ("Hooks", list(&self.hooks)),
            ("Origin", origin(self).to_owned()),
            ("Calls", self.calls.to_string()),
            ("Failures", self.failures.to_string()),
            ("SHA-256", self.digest.clone()),
        ];
        let grants = self.grants.to_string();
        let mut title = "Grants";
        for line in if grants.is_empty() { "none" } else { &grants }.lines() {
            lines.push((title, line.to_owned()));
            title = "";
        }
        lines.extend(configuration(self.config_schema.as_ref()));
        if let Some(trial) = &self.trial {
            lines.push(("Tried out", format!("{} as {}", short(&trial.digest), trial.mode)));
            let counts = format!(
                "{} asked, {} answered otherwise, {} failed",
                trial.asked, trial.differed, trial.failed
            );
            lines.push(("", counts));
            if let Some(last) = &trial.last {
                lines.push(("", difference(last)));
            }
        }
        if let Some(reason) = &self.reason {
            lines.push(("Reason", reason.clone()));
        }
        facts(lines)
    }
}

impl Render for PluginInspection {
    fn render(&self, _wide: bool) -> String {
        let mut lines = vec![
            ("SHA-256", self.digest.clone()),
            ("Size", bytes(self.size)),
            ("Hooks", list(&self.hooks)),
            ("Grants needed", if self.grants.is_empty() { "none".to_owned() } else { list(&self.grants) }),
        ];
        let mut title = "Imports";
        if self.imports.is_empty() {
            lines.push((title, "none".to_owned()));
        }
        for import in &self.imports {
            lines.push((title, import.clone()));
            title = "";
        }
        lines.extend(configuration(self.config_schema.as_ref()));
        facts(lines)
    }
}

/// What a plugin's configuration takes, a line for each key: `grace_ms: integer, 1000 unless given`. The schema comes
/// from the plugin, so that anything may stand in it.
fn configuration(schema: Option<&Value>) -> Vec<(&'static str, String)> {
    let Some(keys) = schema.and_then(|schema| schema.get("properties")).and_then(Value::as_object) else {
        return Vec::new();
    };
    let required = |key: &str| {
        let required = schema.and_then(|schema| schema.get("required")).and_then(Value::as_array);
        required.is_some_and(|required| required.iter().any(|name| name == key))
    };
    let titles = ["Configuration"].into_iter().chain(std::iter::repeat(""));
    let line = |(key, of): (&String, &Value)| {
        let mut line = format!("{}: {}", one_line(key), kind(of));
        match of.get("default") {
            Some(default) => line.push_str(&format!(", {} unless given", one_line(&default.to_string()))),
            None if required(key) => line.push_str(", has to be given"),
            None => {}
        }
        if let Some(description) = of.get("description").and_then(Value::as_str) {
            line.push_str(&format!(". {}", one_line(description)));
        }
        line
    };
    titles.zip(keys.iter().map(line)).collect()
}

/// What kind of value a schema describes: `integer`, `array of string`, `"soft" or "hard"`.
fn kind(of: &Value) -> String {
    if let Some(values) = of.get("enum").and_then(Value::as_array) {
        return one_line(&values.iter().map(Value::to_string).collect::<Vec<_>>().join(" or "));
    }
    match of.get("type") {
        Some(Value::String(name)) if name == "array" => match of.get("items") {
            Some(items) => format!("array of {}", kind(items)),
            None => "array".to_owned(),
        },
        Some(Value::String(name)) => one_line(name),
        Some(Value::Array(names)) => {
            one_line(&names.iter().filter_map(Value::as_str).collect::<Vec<_>>().join(" or "))
        }
        _ => "any value".to_owned(),
    }
}

impl Render for ReloadReport {
    fn render(&self, _wide: bool) -> String {
        let outcome = match self.outcome.as_str() {
            "serving" => "serves from now on",
            "trial" => "is tried out",
            _ => "would serve (dry run: nothing was changed)",
        };
        let mut text = format!("{} of {} {outcome}.\n", short(&self.digest), self.plugin.name);
        match (self.compared, self.differences.len()) {
            (0, _) => text.push_str("The node as it is has no question for it."),
            (asked, 0) => {
                text.push_str(&format!("It answers {asked} questions about the node as it is alike."));
            }
            (asked, other) => {
                text.push_str(&format!(
                    "Of {asked} questions about the node as it is, it answers {other} otherwise:"
                ));
            }
        }
        for each in &self.differences {
            text.push_str(&format!("\n  {}", difference(each)));
        }
        text
    }
}

fn difference(difference: &AnswerDifference) -> String {
    format!("{}: {} → {}", difference.subject, difference.serving, difference.tried)
}

impl Render for [PluginVersion] {
    fn render(&self, wide: bool) -> String {
        if self.is_empty() {
            return "No versions are kept: it is not loaded at run time.".to_owned();
        }
        table(
            self,
            wide,
            &[
                Column::new("DIGEST", |v| short(&v.digest)),
                Column::new("LOADED", |v| seconds(v.loaded_ms)),
                Column::new("SERVES", |v| if v.serving { "yes".to_owned() } else { String::new() }),
                Column::new("FILE", |v| v.path.display().to_string()),
                Column::wide(Column::new("SHA-256", |v| v.digest.clone())),
            ],
        )
    }
}

impl Render for [AuditEntry] {
    fn render(&self, wide: bool) -> String {
        if self.is_empty() {
            return "No plugin has touched the node.".to_owned();
        }
        table(
            self,
            wide,
            &[
                Column::number("NO", |e| e.sequence.to_string()),
                Column::new("TIME", |e| seconds(e.time_ms)),
                Column::new("PLUGIN", |e| e.plugin.to_string()),
                Column::new("OPERATION", |e| e.operation.clone()),
                Column::toned(Column::new("OUTCOME", |e| e.outcome.clone()), |e| match e.outcome.as_str() {
                    "done" => Tone::Good,
                    "failed" => Tone::Poor,
                    _ => Tone::Bad,
                }),
                Column::prose("OBJECT", |e| e.object.clone()),
                Column::prose("WHY", |e| e.error.clone().unwrap_or_default()),
                Column::wide(Column::new("EXACT TIME", |e| millis(e.time_ms))),
            ],
        )
    }
}

fn origin(plugin: &PluginView) -> &'static str {
    if plugin.bundled { "bundled" } else { "loaded" }
}

/// Enough of a digest to tell plugins apart.
fn short(digest: &str) -> String {
    digest.chars().take(12).collect()
}
