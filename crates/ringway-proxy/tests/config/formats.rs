//! The same configuration in all three languages: same meaning, same faults.

use std::collections::BTreeSet;
use std::fmt::Write;
use std::path::Path;

use ringway_proxy::config::{self, FaultKind, Format};
use toml::de::{DeTable, DeValue};

use super::faults::{KEYS_OF_AN_APP, TOML_FILES, refused};

/// Each of the wrong files in TOML, written in the other two.
#[test]
fn a_fault_has_the_same_words_in_every_language() {
    let app = "[[app]]\nname = 'a'\nlisten = [':80']\nbackends = ['10.0.0.2:80']\n";
    let of_an_app = KEYS_OF_AN_APP.iter().map(|(keys, _)| format!("{app}{keys}\n"));
    let files = TOML_FILES.iter().map(|(text, _)| (*text).to_owned());
    let mut compared = 0;
    for text in of_an_app.chain(files) {
        let errors = refused(&text, Format::Toml);
        let is_of_toml = |kind| matches!(kind, FaultKind::Syntax | FaultKind::DuplicateKey);
        // Dates are TOML's own.
        if text.contains("1979") || errors.faults().iter().any(|fault| is_of_toml(fault.kind)) {
            continue;
        }
        let expected = words(&text, Format::Toml);
        let table = DeTable::parse(&text).expect("only TOML without syntax faults comes here");
        let (mut json, mut yaml) = (String::new(), String::new());
        write_json(&DeValue::Table(table.get_ref().clone()), &mut json);
        write_yaml(&DeValue::Table(table.get_ref().clone()), 0, &mut yaml);
        assert_eq!(words(&json, Format::Json), expected, "in:\n{json}");
        assert_eq!(words(&yaml, Format::Yaml), expected, "in:\n{yaml}");
        compared += 1;
    }
    assert!(compared > 40, "only {compared} files could be compared");
}

#[test]
fn the_full_example_means_the_same_in_every_language() {
    let text = include_str!("../../../../examples/configs/full.toml");
    let table = DeTable::parse(text).unwrap();
    let (mut json, mut yaml) = (String::new(), String::new());
    write_json(&DeValue::Table(table.get_ref().clone()), &mut json);
    write_yaml(&DeValue::Table(table.get_ref().clone()), 0, &mut yaml);
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples/configs");
    let read = |text: &str, format| config::parse(text, format, &directory, &|_| None).unwrap();
    assert_eq!(read(&json, Format::Json), read(text, Format::Toml));
    assert_eq!(read(&yaml, Format::Yaml), read(text, Format::Toml));
}

/// What is said about a file, without the places.
fn words(text: &str, format: Format) -> BTreeSet<String> {
    let faults = refused(text, format).faults().to_vec();
    let without_place = |fault: String| fault.splitn(3, ':').nth(2).unwrap_or_default().to_owned();
    faults.into_iter().map(|fault| without_place(fault.to_string())).collect()
}

fn write_json(value: &DeValue<'_>, out: &mut String) {
    match value {
        DeValue::Array(values) => {
            out.push('[');
            for (index, value) in values.iter().enumerate() {
                out.push_str(if index > 0 { ", " } else { "" });
                write_json(value.get_ref(), out);
            }
            out.push(']');
        }
        DeValue::Table(table) => {
            out.push('{');
            for (index, (key, value)) in table.iter().enumerate() {
                let comma = if index > 0 { ", " } else { "" };
                write!(out, "{comma}{:?}: ", key.get_ref()).unwrap();
                write_json(value.get_ref(), out);
            }
            out.push('}');
        }
        DeValue::String(text) => write!(out, "{}", serde_json::Value::from(text.as_ref())).unwrap(),
        DeValue::Integer(integer) => out.push_str(integer.as_str()),
        DeValue::Float(float) => out.push_str(float.as_str()),
        DeValue::Boolean(value) => write!(out, "{value}").unwrap(),
        DeValue::Datetime(_) => panic!("the other two languages have no dates"),
    }
}

/// In block style as people write it; what has nothing in it as JSON.
fn write_yaml(value: &DeValue<'_>, depth: usize, out: &mut String) {
    let indent = "  ".repeat(depth);
    match value {
        DeValue::Array(values) if !values.is_empty() => {
            for value in values.iter() {
                write!(out, "\n{indent}-").unwrap();
                write_yaml(value.get_ref(), depth + 1, out);
            }
        }
        DeValue::Table(table) if !table.is_empty() => {
            for (key, value) in table.iter() {
                write!(out, "\n{indent}{}:", key.get_ref()).unwrap();
                write_yaml(value.get_ref(), depth + 1, out);
            }
        }
        DeValue::Array(_)
        | DeValue::Table(_)
        | DeValue::String(_)
        | DeValue::Integer(_)
        | DeValue::Float(_)
        | DeValue::Boolean(_)
        | DeValue::Datetime(_) => {
            out.push(' ');
            write_json(value, out);
        }
    }
}
