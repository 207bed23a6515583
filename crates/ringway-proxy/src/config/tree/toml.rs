//! TOML into the tree, with every syntax error and not just the first.

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::source::Source;
use super::{Entry, Node, Value};
use crate::config::fault::{Fault, FaultKind};

/// What was read of a text, and what is wrong with it.
pub(in crate::config) struct Parsed {
    pub(in crate::config) root: Node,
    pub(in crate::config) faults: Vec<Fault>,
    /// From here on the tree may not be what was meant; nothing but its syntax should be reported.
    pub(in crate::config) sound_until: usize,
}

pub(in crate::config) fn parse(source: &Source<'_>) -> Parsed {
    let (table, errors) = DeTable::parse_recoverable(source.text());
    let mut faults: Vec<Fault> = Vec::new();
    let mut sound_until = usize::MAX;
    for error in &errors {
        let span = error.span().unwrap_or(0..0);
        // The parser goes on behind these two with exactly what was meant.
        let harmless = if error.message() == "duplicate key" {
            let key = source.text().get(span.clone()).unwrap_or("");
            faults.push(source.fault(FaultKind::DuplicateKey, span.clone(), key, ""));
            continue;
        } else {
            error.message().starts_with("string values must be quoted") && !span.is_empty()
        };
        if !harmless {
            sound_until = sound_until.min(span.start);
        }
        let line = source.line(span.start);
        // One error often causes more in its line, which would say nothing new.
        if faults.iter().any(|fault| fault.kind == FaultKind::Syntax && fault.line == line) {
            continue;
        }
        let message = if harmless { "a string must be quoted" } else { error.message() };
        faults.push(source.fault(FaultKind::Syntax, span, "", format!("not valid TOML: {message}")));
    }
    Parsed { root: Node::new(0..0, table_value(table.get_ref())), faults, sound_until }
}

fn node(value: &Spanned<DeValue<'_>>) -> Node {
    let span = value.span();
    let value = match value.get_ref() {
        DeValue::String(text) => Value::String(text.clone().into_owned()),
        DeValue::Integer(integer) => match i64::from_str_radix(integer.as_str(), integer.radix()) {
            Ok(number) => Value::Integer(number),
            Err(_) => Value::Other("a number that is out of range".to_owned()),
        },
        DeValue::Float(float) => match float.as_str().parse() {
            Ok(number) => Value::Float(number),
            Err(_) => Value::Other("a number that is out of range".to_owned()),
        },
        DeValue::Boolean(value) => Value::Boolean(*value),
        DeValue::Datetime(_) => Value::Other("a date or time".to_owned()),
        DeValue::Array(values) => Value::Array(values.iter().map(node).collect()),
        DeValue::Table(table) => table_value(table),
    };
    Node::new(span, value)
}

fn table_value(table: &DeTable<'_>) -> Value {
    let mut entries: Vec<Entry> = table
        .iter()
        .map(|(key, value)| Entry {
            key: key.get_ref().clone().into_owned(),
            key_span: key.span(),
            value: node(value),
        })
        .collect();
    entries.sort_by_key(|entry| entry.key_span.start);
    Value::Table(entries)
}
