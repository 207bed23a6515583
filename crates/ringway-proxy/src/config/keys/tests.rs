//! The table against the checker, the model and the example that shows every key.

use std::collections::BTreeSet;
use std::path::Path;

use serde_json::{Value as Json, json};

use super::*;
use crate::config::tree::source::Source;
use crate::config::tree::{Node, Value, toml};
use crate::config::{FaultKind, Format, parse};

#[test]
fn a_path_is_found_whatever_elements_it_goes_through() {
    assert_eq!(without_indexes("app[12].backends[0].weight"), "app.backends.weight");
    assert_eq!(find("app[12].health.interval").map(|key| key.name()), Some("interval"));
    assert!(find("app.health.intervall").is_none());
}

#[test]
fn every_key_is_there_once_and_its_table_stands_before_it() {
    let all: Vec<&Key> = all().chain(of_the_seed()).collect();
    for (index, key) in all.iter().enumerate() {
        assert!(all[..index].iter().all(|other| other.path != key.path), "{} is there twice", key.path);
        let parent = key.parent();
        let is_table = |other: &Key| other.kind.any(&|kind| matches!(kind, Kind::Table));
        let has_table = all[..index].iter().any(|other| other.path == parent && is_table(other));
        assert!(parent.is_empty() || has_table, "{} stands before its table", key.path);
        assert!(!key.help.is_empty(), "{} has no help", key.path);
        assert!(!key.help.contains(['\n', '|']), "{}: the help is one cell of a table", key.path);
    }
}

/// What is written there was read, as the example is a good configuration: so every key of the table is read.
#[test]
fn the_full_example_shows_every_key_and_the_program_reads_it() {
    let text = include_str!("../../../../../examples/configs/full.toml");
    let config = parse(
        text,
        Format::Toml,
        &Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples/configs"),
        &|_| None,
    );
    assert!(config.is_ok(), "{}", config.unwrap_err());
    let mut shown = BTreeSet::new();
    collect(&toml::parse(&Source::new(None, text)).root, "", &mut shown);
    for key in all() {
        assert!(shown.contains(key.path), "examples/configs/full.toml does not show {}", key.path);
    }
}

fn collect(node: &Node, path: &str, shown: &mut BTreeSet<String>) {
    match &node.value {
        Value::Array(nodes) => nodes.iter().for_each(|node| collect(node, path, shown)),
        Value::Table(entries) => {
            for entry in entries {
                let path = if path.is_empty() { entry.key.clone() } else { format!("{path}.{}", entry.key) };
                collect(&entry.value, &path, shown);
                shown.insert(path);
            }
        }
        Value::String(_)
        | Value::Integer(_)
        | Value::Float(_)
        | Value::Boolean(_)
        | Value::Other(_)
        | Value::Faulty => {}
    }
}

#[test]
fn a_key_that_is_not_written_has_the_default_of_the_table() {
    let read = |document: &Json| parse(&document.to_string(), Format::Json, Path::new("/"), &|_| None);
    let mut compared = 0;
    for key in all() {
        let Default::Value(default) = key.default else { continue };
        let default: Json = serde_json::from_str(default).expect(key.path);
        let left_out = document_with(key.path, None);
        let written = document_with(key.path, Some(default));
        match (read(&left_out), read(&written)) {
            (Ok(left_out), Ok(written)) => {
                assert_eq!(left_out, written, "{}: the default is another one", key.path);
                compared += 1;
            }
            (left_out, written) => {
                // Some keys have a meaning only beside others.
                let faults = [left_out.err(), written.err()].into_iter().flatten();
                for fault in faults.flat_map(|errors| errors.faults().to_vec()) {
                    let is_by_others = matches!(fault.kind, FaultKind::Conflict | FaultKind::MissingKey);
                    assert!(is_by_others, "{}: {fault}", key.path);
                }
            }
        }
    }
    assert!(compared > 20, "only {compared} defaults could be compared");
}

/// A small configuration with the tables of `path`, and the value there.
fn document_with(path: &str, value: Option<Json>) -> Json {
    let mut document = json!({
        "app": [{
            "name": "a",
            "listen": [{ "address": "127.0.0.1:80" }],
            "backends": [{ "address": "10.0.0.1:80" }],
        }],
    });
    let (parents, name) = match path.rsplit_once('.') {
        Some((parents, name)) => (parents.split('.').collect(), name),
        None => (Vec::new(), path),
    };
    let mut table = &mut document;
    for parent in parents {
        let inner = &mut table[parent];
        if inner.is_null() {
            *inner = json!({});
        }
        table = if inner.is_array() { &mut inner[0] } else { inner };
    }
    if let Some(value) = value {
        table[name] = value;
    }
    document
}
