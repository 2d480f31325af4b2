use serde_json::Value;

/// A plugin's configuration: the operator's table as a JSON object.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Settings {
    root: Value,
    text: String,
}

impl Settings {
    pub(crate) fn new(table: serde_json::Map<String, Value>) -> Self {
        let root = Value::Object(table);
        Self { text: root.to_string(), root }
    }

    /// The whole as JSON.
    pub(crate) fn document(&self) -> &str {
        &self.text
    }

    /// One value by its dotted path, as JSON; a number steps into an array.
    pub(crate) fn get(&self, path: &str) -> Option<String> {
        let mut value = &self.root;
        for step in path.split('.') {
            value = match value {
                Value::Object(table) => table.get(step)?,
                Value::Array(items) => items.get(step.parse::<usize>().ok()?)?,
                _ => return None,
            };
        }
        Some(value.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_found_by_dotted_paths() {
        let Value::Object(table) = serde_json::json!({"a": {"b": [1, {"c": "x"}]}, "d": null}) else {
            unreachable!()
        };
        let settings = Settings::new(table);
        assert_eq!(settings.get("a.b.1.c").as_deref(), Some("\"x\""));
        assert_eq!(settings.get("a.b").as_deref(), Some(r#"[1,{"c":"x"}]"#));
        assert_eq!(settings.get("d").as_deref(), Some("null"));
        assert_eq!(settings.get("a.x"), None);
        assert_eq!(settings.get("a.b.9"), None);
        assert_eq!(settings.get(""), None);
        assert_eq!(Settings::new(serde_json::Map::new()).document(), "{}");
    }
}
