//! The schema of a configuration as JSON Schema (draft 2020-12), from the table of keys: editors complete with it.
//!
//! What a schema can say, it says; what goes across keys (names that must differ, a check longer than its interval)
//! only `ringway check` finds. Any text with a variable in it passes: its value is not known here.

use serde_json::{Map, Value, json};

use super::keys::{self, Default, Key, Kind};

/// Numbers with units. That each unit comes once, the largest first, is left to the checker.
const DURATION: &str = r"^([0-9]+(\.[0-9]{1,9})?(d|h|m|s|ms|us|ns))+$";
const SIZE: &str = r"^[0-9]+(\.[0-9]{1,9})?(B|kB|KB|MB|GB|KiB|MiB|GiB)$";

/// The table that has keys of an app beside its own.
const ROUTE: &str = "app.route";

/// The schema.
pub fn schema() -> Value {
    let mut root = Map::new();
    root.insert("$schema".to_owned(), json!("https://json-schema.org/draft/2020-12/schema"));
    root.insert("title".to_owned(), json!("Ringway configuration"));
    let definitions = json!({
        "duration": { "type": "string", "pattern": DURATION },
        "size": { "type": "string", "pattern": SIZE },
        "variable": {
            "type": "string",
            "pattern": r"\$\{",
            "description": "Text with variables of the environment: \"${NAME}\" or \"${NAME:-default}\".",
        },
    });
    root.insert("$defs".to_owned(), definitions);
    root.insert("type".to_owned(), json!("object"));
    let mut properties = properties(keys::all(), "");
    properties.append(&mut self::properties(keys::of_the_seed(), ""));
    root.insert("properties".to_owned(), Value::Object(properties));
    root.insert("additionalProperties".to_owned(), json!(false));
    root.insert(
        "anyOf".to_owned(),
        json!([{ "required": ["app"] }, { "required": ["include"] }, { "required": ["Apps"] }]),
    );
    // The seed proxy's file has nothing of Ringway's own.
    let own = keys::children(keys::all(), "");
    let own: Map<String, Value> = own.map(|key| (key.name().to_owned(), json!(false))).collect();
    root.insert("dependentSchemas".to_owned(), json!({ "Apps": { "properties": own } }));
    Value::Object(root)
}

fn properties(keys: impl Iterator<Item = &'static Key>, path: &str) -> Map<String, Value> {
    keys::children(keys, path).map(|key| (key.name().to_owned(), property(key))).collect()
}

fn property(key: &Key) -> Value {
    let mut schema = of_kind(&key.kind, key.path);
    if let Value::Object(schema) = &mut schema {
        schema.insert("description".to_owned(), json!(key.help));
        if let Default::Value(json) = key.default {
            let value = serde_json::from_str(json).expect("a test reads every default of the table");
            schema.insert("default".to_owned(), value);
        }
    }
    schema
}

fn of_kind(kind: &Kind, path: &str) -> Value {
    let variable = || json!({ "$ref": "#/$defs/variable" });
    match kind {
        Kind::Boolean => json!({ "anyOf": [{ "type": "boolean" }, variable()] }),
        Kind::Number { min, max } => {
            json!({ "anyOf": [{ "type": "integer", "minimum": min, "maximum": max }, variable()] })
        }
        Kind::Share => json!({ "anyOf": [{ "type": "number", "minimum": 0, "maximum": 1 }, variable()] }),
        Kind::Duration { .. } => json!({ "anyOf": [{ "$ref": "#/$defs/duration" }, variable()] }),
        Kind::Size { .. } => json!({ "anyOf": [{ "$ref": "#/$defs/size" }, variable()] }),
        Kind::Choice { words, .. } => json!({ "anyOf": [{ "enum": words }, variable()] }),
        Kind::Text { pattern, length_max, .. } => {
            json!({ "anyOf": [{ "type": "string", "pattern": pattern, "maxLength": length_max }, variable()] })
        }
        Kind::Array { of, min } => {
            json!({ "type": "array", "items": of_kind(of, path), "minItems": min })
        }
        Kind::Table => {
            let keys = || keys::all().chain(keys::of_the_seed());
            let mut required: Vec<&str> = keys::children(keys(), path)
                .filter(|key| key.default == Default::Required)
                .map(Key::name)
                .collect();
            let mut properties = properties(keys(), path);
            if path == ROUTE {
                required.push("backends");
                for key in keys::of_routes() {
                    let mut schema = of_kind(&key.kind, key.path);
                    schema["description"] = json!(key.help);
                    if let Some(inner) = schema.get_mut("properties").and_then(Value::as_object_mut) {
                        inner.retain(|name, _| {
                            !keys::NOT_OF_ROUTES.contains(&format!("{}.{name}", key.path).as_str())
                        });
                    }
                    properties.insert(key.name().to_owned(), schema);
                }
            }
            let mut table = json!({
                "type": "object",
                "properties": properties,
                "required": required,
                "additionalProperties": false,
            });
            let one_of = keys::children(keys(), path).find_map(|key| match key.default {
                Default::OneOf(keys) => Some(keys),
                Default::Required | Default::Value(_) | Default::Words(_) => None,
            });
            if let Some(keys) = one_of {
                table["anyOf"] = keys.iter().map(|key| json!({ "required": [key] })).collect();
            }
            table
        }
        Kind::AnyOf(kinds) => {
            json!({ "anyOf": kinds.iter().map(|kind| of_kind(kind, path)).collect::<Vec<_>>() })
        }
    }
}
