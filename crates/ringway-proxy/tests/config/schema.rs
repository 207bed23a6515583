//! The schema that editors complete with says what the checker says, as far as a schema can.

use std::collections::BTreeMap;
use std::path::Path;

use ringway_proxy::config::{self, Fault, FaultKind, Format};
use saphyr_parser::{Event, Parser, ScalarStyle};
use serde_json::{Map, Value, json};
use toml::de::{DeTable, DeValue};

use super::faults::{KEYS_OF_AN_APP, TOML_FILES, refused};
use super::validator::violations;

#[test]
fn every_example_file_keeps_to_the_schema() {
    let schema = config::schema();
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples/configs");
    let mut files = 0;
    let fragments = std::fs::read_dir(directory.join("conf.d")).unwrap();
    for entry in std::fs::read_dir(directory).unwrap().chain(fragments) {
        let path = entry.unwrap().path();
        if path.is_dir() {
            continue;
        }
        let text = std::fs::read_to_string(&path).unwrap();
        let document = match path.extension().and_then(|extension| extension.to_str()) {
            Some("toml") => of_toml(&text),
            Some("json") => serde_json::from_str(&text).unwrap(),
            Some("yaml") => of_yaml(&text),
            // A list that a configuration names.
            _ => continue,
        };
        assert_eq!(violations(&schema, &document), [""; 0], "{}", path.display());
        files += 1;
    }
    assert!(files > 5);
}

/// An unknown key, one that is missing and a value of the wrong type or words are violations; what goes across keys, the
/// range of a duration and the like no schema can say.
#[test]
fn what_the_checker_refuses_is_a_violation_of_the_schema_where_one_can_say_it() {
    let schema = config::schema();
    let app = "[[app]]\nname = 'a'\nlisten = [':80']\nbackends = ['10.0.0.2:80']\n";
    let of_an_app = KEYS_OF_AN_APP.iter().map(|(keys, _)| format!("{app}{keys}\n"));
    let files = TOML_FILES.iter().map(|(text, _)| (*text).to_owned());
    let mut held = 0;
    for text in of_an_app.chain(files) {
        let errors = refused(&text, Format::Toml);
        if text.contains("1979") || errors.faults().iter().any(|fault| fault.kind == FaultKind::Syntax) {
            continue;
        }
        let found = violations(&schema, &of_toml_with_duplicates(&text));
        for fault in errors.faults().iter().filter(|fault| can_be_said(fault)) {
            // A violation in an array of addresses or tables is reported for the element.
            let is_found = found.iter().any(|path| fault.key.starts_with(path.as_str()));
            assert!(is_found, "no violation for {fault}\nfound: {found:?}\nin:\n{text}");
            held += 1;
        }
    }
    assert!(held > 60, "only {held} faults were held against the schema");
}

fn can_be_said(fault: &Fault) -> bool {
    match fault.kind {
        FaultKind::UnknownKey | FaultKind::MissingKey | FaultKind::NotSupportedYet => true,
        FaultKind::WrongValue => {
            // Of text a schema knows its words, and not the meaning of all else: ranges of what has a unit, which
            // address it is, networks, variables.
            let is_text = fault.found.as_ref().is_some_and(|found| found.starts_with('"'));
            !is_text || fault.expected.starts_with('"')
        }
        FaultKind::Unreadable
        | FaultKind::Syntax
        | FaultKind::DuplicateKey
        | FaultKind::Conflict
        | FaultKind::Variable => false,
    }
}

#[test]
fn variables_pass_wherever_a_value_may_come_from_one() {
    let document = json!({
        "server": { "workers": "${WORKERS:-2}", "access_log": "${LOG}", "drain_timeout": "${DRAIN}" },
        "app": [{ "name": "${NAME}", "listen": [":${PORT}"], "backends": [{ "address": "${A}", "weight": "${W}" }] }],
    });
    assert_eq!(violations(&config::schema(), &document), [""; 0]);
}

#[test]
fn the_seed_proxys_file_and_ringways_own_do_not_mix() {
    let seed = json!({ "Apps": [{ "Name": "a", "Ports": [80], "Targets": ["b:1"] }], "server": {} });
    assert_eq!(violations(&config::schema(), &seed), ["server"]);
}

#[test]
fn an_editor_finds_description_default_and_words_of_a_key() {
    let schema = config::schema();
    let balance = &schema["properties"]["app"]["items"]["properties"]["balance"];
    assert!(balance["description"].as_str().is_some_and(|text| text.contains("fewest open connections")));
    assert_eq!(balance["default"], "least-connections");
    assert!(
        balance["anyOf"][0]["enum"].as_array().is_some_and(|words| words.contains(&json!("round-robin")))
    );
}

/// By the same parser's events as the checker, and by nothing else of it.
fn of_yaml(text: &str) -> Value {
    let mut events = Parser::new_from_str(text).map(|event| event.expect("it is YAML").0);
    let mut anchors = BTreeMap::new();
    loop {
        match events.next().expect("it has a document") {
            Event::StreamStart | Event::DocumentStart(_) => {}
            first => return yaml_value(first, &mut events, &mut anchors).expect("it has a value"),
        }
    }
}

/// None at the end of a collection.
fn yaml_value<'t>(
    event: Event<'t>,
    events: &mut impl Iterator<Item = Event<'t>>,
    anchors: &mut BTreeMap<usize, Value>,
) -> Option<Value> {
    let (anchor, value) = match event {
        Event::Alias(anchor) => return Some(anchors[&anchor].clone()),
        // Of what the examples write without quotes, only numbers and switches are no text.
        Event::Scalar(text, ScalarStyle::Plain, anchor, _) => {
            (anchor, serde_json::from_str(&text).unwrap_or_else(|_| json!(text)))
        }
        Event::Scalar(text, _, anchor, _) => (anchor, json!(text)),
        Event::SequenceStart(anchor, _) => {
            let mut values = Vec::new();
            while let Some(value) = events.next().and_then(|event| yaml_value(event, events, anchors)) {
                values.push(value);
            }
            (anchor, Value::Array(values))
        }
        Event::MappingStart(anchor, _) => {
            let mut table = Map::new();
            while let Some(key) = events.next().and_then(|event| yaml_value(event, events, anchors)) {
                let value = events.next().and_then(|event| yaml_value(event, events, anchors));
                table.insert(key.as_str().expect("text").to_owned(), value.expect("a value"));
            }
            (anchor, Value::Object(table))
        }
        _ => return None,
    };
    anchors.insert(anchor, value.clone());
    Some(value)
}

fn of_toml(text: &str) -> Value {
    value(&DeValue::Table(DeTable::parse(text).expect("it is TOML").get_ref().clone()))
}

/// As the checker reads it: on over a key that is given twice.
fn of_toml_with_duplicates(text: &str) -> Value {
    value(&DeValue::Table(DeTable::parse_recoverable(text).0.get_ref().clone()))
}

fn value(toml: &DeValue<'_>) -> Value {
    match toml {
        DeValue::String(text) => json!(text.as_ref()),
        DeValue::Integer(integer) => {
            i64::from_str_radix(integer.as_str(), integer.radix()).map_or(json!(1e300), |n| json!(n))
        }
        DeValue::Float(float) => json!(float.as_str().parse::<f64>().unwrap_or_default()),
        DeValue::Boolean(value) => json!(value),
        DeValue::Datetime(_) => json!(null),
        DeValue::Array(values) => values.iter().map(|element| value(element.get_ref())).collect(),
        DeValue::Table(table) => Value::Object(
            table
                .iter()
                .map(|(key, inner)| (key.get_ref().to_string(), value(inner.get_ref())))
                .collect::<Map<_, _>>(),
        ),
    }
}
