//! Holds a document against a schema: of JSON Schema (draft 2020-12) just what Ringway's own schema uses.
//!
//! A keyword that is not known here fails the test, so that nothing of the schema goes unchecked.

use regex::Regex;
use serde_json::Value;

/// Where the document breaks the schema, as faults write paths.
pub(super) fn violations(schema: &Value, document: &Value) -> Vec<String> {
    let mut found = Vec::new();
    check(schema, schema, document, "", &mut found);
    found
}

fn holds(root: &Value, schema: &Value, value: &Value) -> bool {
    let mut found = Vec::new();
    check(root, schema, value, "", &mut found);
    found.is_empty()
}

fn check(root: &Value, schema: &Value, value: &Value, path: &str, found: &mut Vec<String>) {
    let Value::Object(rules) = schema else {
        if *schema != Value::Bool(true) {
            found.push(path.to_owned());
        }
        return;
    };
    for (keyword, rule) in rules {
        let is_kept = match keyword.as_str() {
            "$schema" | "$defs" | "title" | "description" | "default" | "additionalProperties" => true,
            "$ref" => {
                let pointer = rule.as_str().and_then(|text| text.strip_prefix('#')).expect("it is local");
                holds(root, root.pointer(pointer).expect("it is defined"), value)
            }
            "type" => match rule.as_str().expect("one type") {
                "object" => value.is_object(),
                "array" => value.is_array(),
                "string" => value.is_string(),
                "boolean" => value.is_boolean(),
                "number" => value.is_number(),
                "integer" => value.is_i64() || value.is_u64(),
                other => panic!("unknown type {other}"),
            },
            "enum" => rule.as_array().expect("a list").contains(value),
            "anyOf" => rule.as_array().expect("a list").iter().any(|one| holds(root, one, value)),
            "minimum" => value.as_f64().is_none_or(|number| Some(number) >= rule.as_f64()),
            "maximum" => value.as_f64().is_none_or(|number| Some(number) <= rule.as_f64()),
            "minItems" => value.as_array().is_none_or(|values| Some(values.len() as u64) >= rule.as_u64()),
            "maxLength" => {
                value.as_str().is_none_or(|text| Some(text.chars().count() as u64) <= rule.as_u64())
            }
            "pattern" => {
                let pattern = Regex::new(rule.as_str().expect("text")).expect("it is a pattern");
                value.as_str().is_none_or(|text| pattern.is_match(text))
            }
            "items" => {
                for (index, element) in value.as_array().into_iter().flatten().enumerate() {
                    check(root, rule, element, &format!("{path}[{index}]"), found);
                }
                true
            }
            "required" => {
                let names = rule.as_array().expect("a list").iter().filter_map(Value::as_str);
                value.as_object().is_none_or(|table| names.into_iter().all(|name| table.contains_key(name)))
            }
            "properties" => {
                for (key, inner) in value.as_object().into_iter().flatten() {
                    let path = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
                    match rule.get(key) {
                        Some(rule) => check(root, rule, inner, &path, found),
                        None if rules.get("additionalProperties") == Some(&Value::Bool(false)) => {
                            found.push(path)
                        }
                        None => {}
                    }
                }
                true
            }
            "dependentSchemas" => {
                for (key, rule) in rule.as_object().expect("a table") {
                    if value.get(key).is_some() {
                        check(root, rule, value, path, found);
                    }
                }
                true
            }
            other => panic!("the schema has got a keyword that is not checked: {other}"),
        };
        if !is_kept {
            found.push(path.to_owned());
        }
    }
}
