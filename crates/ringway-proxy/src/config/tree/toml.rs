//! TOML into the tree, with every syntax error and not just the first.

use std::ops::Range;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::source::Source;
use super::{Entry, Node, Value, path_of};
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
    let root = Node::new(0..0, table_value(table.get_ref()));
    let mut syntax: Vec<Fault> = Vec::new();
    let mut duplicates = Vec::new();
    let mut sound_until = usize::MAX;
    for error in &errors {
        let span = error.span().unwrap_or(0..0);
        if error.message() == "duplicate key" {
            duplicates.push(span);
            continue;
        }
        let message = if !error.message().starts_with("string values must be quoted") {
            sound_until = sound_until.min(span.start);
            error.message()
        } else if span.is_empty() {
            sound_until = sound_until.min(span.start);
            "a value is missing"
        } else {
            // The parser goes on behind this one with exactly what was meant.
            "a string must be quoted"
        };
        let line = source.line(span.start);
        // One error often causes more in its line, which would say nothing new.
        if syntax.iter().all(|fault| fault.line != line) {
            syntax.push(source.fault(FaultKind::Syntax, span, "", format!("not valid TOML: {message}")));
        }
    }
    let broken_line = if sound_until == usize::MAX { usize::MAX } else { source.line(sound_until) };
    let mut faults: Vec<Fault> = duplicates
        .into_iter()
        .filter(|span| source.line(span.start) < broken_line)
        .map(|span| duplicate(source, &root, span))
        .collect();
    faults.append(&mut syntax);
    Parsed { root, faults, sound_until }
}

/// The fault of a key that is given again at `span`.
///
/// The parser keeps one of the two and does not tell where: it is the last key of that name up to here, as hardly
/// anything but an inline table can stand between them.
fn duplicate(source: &Source<'_>, root: &Node, span: Range<usize>) -> Fault {
    let name = source.text().get(span.clone()).unwrap_or("").trim_matches(['"', '\'']);
    let mut first = None;
    find_last(root, "", name, span.start, &mut first);
    match first {
        Some((start, path)) => {
            let hint = (start < span.start).then(|| format!("the first is in line {}", source.line(start)));
            Fault { hint, ..source.fault(FaultKind::DuplicateKey, span, &path, "") }
        }
        None => source.fault(FaultKind::DuplicateKey, span, &path_of("", name), ""),
    }
}

/// Sets `found` to the place and path of the last key `name` that starts up to byte `until`.
fn find_last(node: &Node, path: &str, name: &str, until: usize, found: &mut Option<(usize, String)>) {
    match &node.value {
        Value::Array(nodes) => {
            for (index, node) in nodes.iter().enumerate() {
                find_last(node, &format!("{path}[{index}]"), name, until, found);
            }
        }
        Value::Table(entries) => {
            for entry in entries {
                let path = path_of(path, &entry.key);
                let start = entry.key_span.start;
                let is_later = found.as_ref().is_none_or(|(last, _)| *last < start);
                if entry.key == name && start <= until && is_later {
                    *found = Some((start, path.clone()));
                }
                find_last(&entry.value, &path, name, until, found);
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
