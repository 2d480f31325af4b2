//! The schema of a plugin's configuration, as far as its component carries one.

use jsonschema::{Draft, PatternOptions, ValidationError, Validator, paths::LocationSegment};
use serde_json::{Map, Value};
use wasmparser::{Chunk, Parser, Payload};

use crate::error::Refusal;

/// The custom section of a component that holds the schema: JSON Schema, draft 2020-12.
const SECTION: &str = "netloom:config-schema";
/// Bytes of a schema, at most.
const LONGEST: usize = 64 << 10;
/// Bytes that one regular expression in it may take.
const LARGEST_PATTERN: usize = 256 << 10;
/// Errors shown of one configuration.
const SHOWN: usize = 5;

/// What may stand in a schema that lets an empty table pass: such a table is not held against it, because the first
/// validator of a process costs as much as several plugins' start.
const PASSES_EMPTY: [&str; 9] = [
    "$comment",
    "$schema",
    "additionalProperties",
    "description",
    "examples",
    "patternProperties",
    "properties",
    "propertyNames",
    "title",
];

/// What the configuration of a plugin has to look like, in JSON Schema; none if its component does not say.
///
/// # Errors
/// [`Refusal::Schema`] if what it says cannot be used.
pub fn config_schema(component: &[u8]) -> Result<Option<Value>, Refusal> {
    let schema = of(component)?;
    schema.as_ref().map(validator).transpose()?;
    Ok(schema)
}

/// The schema that a component carries, which wasmtime has accepted.
///
/// # Errors
/// [`Refusal::Schema`] if it cannot be read.
pub(crate) fn of(component: &[u8]) -> Result<Option<Value>, Refusal> {
    section(component).map(read).transpose().map_err(Refusal::Schema)
}

/// Whether a configuration is as its schema says.
///
/// # Errors
/// [`Refusal::Config`], with the way to each wrong value; [`Refusal::Schema`] if the schema is none.
pub(crate) fn check(schema: &Value, config: &Map<String, Value>) -> Result<(), Refusal> {
    if config.is_empty() && passes_empty(schema) {
        return Ok(());
    }
    let config = Value::Object(config.clone());
    let validator = validator(schema)?;
    let errors: Vec<String> =
        validator.iter_errors(&config).take(SHOWN).map(|error| located(&error)).collect();
    if errors.is_empty() { Ok(()) } else { Err(Refusal::Config(errors.join("; "))) }
}

fn passes_empty(schema: &Value) -> bool {
    let passes = |(key, value): (&String, &Value)| {
        PASSES_EMPTY.contains(&key.as_str()) || (key == "type" && value == "object")
    };
    schema.as_object().is_some_and(|schema| schema.iter().all(passes))
}

/// A schema comes with the plugin, and is trusted no more than that: references, with which a few lines can ask for
/// endless work, are refused.
fn read(text: &[u8]) -> Result<Value, String> {
    if text.len() > LONGEST {
        return Err(format!("it has {} bytes, more than {LONGEST}", text.len()));
    }
    let schema = serde_json::from_slice(text).map_err(|error| format!("it is not JSON: {error}"))?;
    match reference(&schema) {
        Some(reference) => Err(format!("it has a `{reference}`: write what it stands for in its place")),
        None => Ok(schema),
    }
}

/// Its patterns take time that is linear in what they are held against.
fn validator(schema: &Value) -> Result<Validator, Refusal> {
    let validator = jsonschema::options()
        .with_draft(Draft::Draft202012)
        .with_pattern_options(PatternOptions::regex().size_limit(LARGEST_PATTERN))
        .should_validate_formats(false)
        .build(schema);
    validator.map_err(|error| Refusal::Schema(located(&error)))
}

/// The component's own section of that name; what is nested in it is passed over unread.
fn section(component: &[u8]) -> Option<&[u8]> {
    let mut parser = Parser::new(0);
    let mut rest = component;
    loop {
        let Ok(Chunk::Parsed { consumed, payload }) = parser.parse(rest, true) else { return None };
        rest = rest.get(consumed..)?;
        match payload {
            Payload::CustomSection(section) if section.name() == SECTION => return Some(section.data()),
            Payload::ModuleSection { unchecked_range, .. }
            | Payload::ComponentSection { unchecked_range, .. } => {
                let nested = usize::try_from(unchecked_range.end - unchecked_range.start).ok()?;
                rest = rest.get(nested..)?;
            }
            Payload::End(_) => return None,
            _ => {}
        }
    }
}

/// A reference anywhere in a schema.
fn reference(schema: &Value) -> Option<&str> {
    match schema {
        Value::Object(keys) => keys.iter().find_map(|(key, value)| match key.as_str() {
            "$ref" | "$dynamicRef" | "$recursiveRef" => Some(key.as_str()),
            _ => reference(value),
        }),
        Value::Array(values) => values.iter().find_map(reference),
        _ => None,
    }
}

/// What is wrong, with the way to it as an operator writes it: `rules[1].port`.
fn located(error: &ValidationError<'_>) -> String {
    let mut way = String::new();
    for segment in error.instance_path() {
        match segment {
            LocationSegment::Property(name) => {
                if !way.is_empty() {
                    way.push('.');
                }
                way.push_str(&name);
            }
            LocationSegment::Index(index) => way.push_str(&format!("[{index}]")),
        }
    }
    if way.is_empty() { error.to_string() } else { format!("at `{way}`: {error}") }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn schema(document: &Value) -> Result<Value, String> {
        let schema = read(document.to_string().as_bytes())?;
        validator(&schema).map_err(|refusal| refusal.to_string())?;
        Ok(schema)
    }

    fn check(schema: &Value, config: &Value) -> Result<(), Refusal> {
        super::check(schema, config.as_object().unwrap())
    }

    #[test]
    fn wrong_values_are_named_by_the_way_to_them() {
        let schema = schema(&json!({
            "type": "object",
            "properties": {
                "rules": { "type": "array", "items": {
                    "type": "object",
                    "properties": { "port": { "type": "integer", "minimum": 1, "maximum": 65535 } },
                    "required": ["port"],
                } },
                "owner": { "type": "string", "pattern": "^[a-z]+/[a-z]+$" },
            },
            "required": ["owner"],
            "additionalProperties": false,
        }))
        .unwrap();
        let owner = "acme/firewall";
        assert_eq!(check(&schema, &json!({ "owner": owner, "rules": [{ "port": 80 }] })), Ok(()));
        for (config, wanted) in [
            (json!({}), "\"owner\" is a required property"),
            (json!({ "owner": owner, "rulse": [] }), "'rulse' was unexpected"),
            (json!({ "owner": "acme" }), "at `owner`: "),
            (json!({ "owner": owner, "rules": 3 }), "at `rules`: 3 is not of type \"array\""),
            (
                json!({ "owner": owner, "rules": [{ "port": 1 }, { "port": 70000 }] }),
                "at `rules[1].port`: 70000",
            ),
            (json!({ "owner": owner, "rules": [{}] }), "at `rules[0]`: \"port\" is a required property"),
            (json!({ "rules": 3 }), "; "),
        ] {
            let Err(Refusal::Config(error)) = check(&schema, &config) else { panic!("{config} is accepted") };
            assert!(error.contains(wanted), "{config}: {error}");
        }
    }

    #[test]
    fn a_schema_that_could_harm_the_host_is_refused() {
        for (document, wanted) in [
            (json!({ "$ref": "#" }), "has a `$ref`"),
            (
                json!({ "allOf": [{ "not": { "$dynamicRef": "https://example.net/schema" } }] }),
                "`$dynamicRef`",
            ),
            (json!({ "properties": { "a": { "type": "nonsense" } } }), "at `properties.a.type`"),
            (json!({ "pattern": "(" }), "is not a \"regex\""),
            (json!({ "pattern": "((a{1000}){1000}){1000}" }), "is not a \"regex\""),
            (json!({ "description": "x".repeat(LONGEST) }), "more than 65536"),
            (json!(3), "3"),
        ] {
            let error = schema(&document).unwrap_err();
            assert!(error.contains(wanted), "{error}");
        }
        let deep = "[".repeat(10_000);
        assert!(read(deep.as_bytes()).unwrap_err().contains("not JSON"));
        // With a matcher that goes back, this takes longer than the machine lives.
        let slow = schema(&json!({ "properties": { "a": { "pattern": "^(a+)+$" } } })).unwrap();
        assert!(check(&slow, &json!({ "a": format!("{}!", "a".repeat(10_000)) })).is_err());
    }

    #[test]
    fn an_empty_table_is_checked_where_the_schema_may_not_let_it_pass() {
        let config = json!({});
        for document in [
            json!({ "required": ["a"] }),
            json!({ "minProperties": 1 }),
            json!({ "not": {} }),
            json!({ "type": "array" }),
            json!(false),
        ] {
            assert!(check(&schema(&document).unwrap(), &config).is_err(), "{document}");
        }
        let open = json!({ "type": "object", "properties": { "a": false }, "additionalProperties": false });
        assert_eq!(check(&schema(&open).unwrap(), &config), Ok(()));
    }

    #[test]
    fn only_the_components_own_section_counts() {
        let section = |name: &str, text: &str| format!("(@custom \"{name}\" \"{text}\")");
        let of = |text: String| of(&wat::parse_str(text).unwrap());
        let schema = section(SECTION, "{}");
        assert!(
            of(format!("(component {} (core module) {schema})", section("other", "3"))).unwrap().is_some()
        );
        assert!(of(format!("(component (core module {schema}))")).unwrap().is_none());
        assert!(of("(component)".to_owned()).unwrap().is_none());
        assert!(matches!(of(format!("(component {})", section(SECTION, "["))), Err(Refusal::Schema(_))));
    }
}
