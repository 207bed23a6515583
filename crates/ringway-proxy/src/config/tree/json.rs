//! JSON (RFC 8259; comments, trailing commas and the like are refused) into the tree.

use jsonc_parser::ast;
use jsonc_parser::common::Ranged;
use jsonc_parser::{CollectOptions, ParseOptions, parse_to_ast};

use super::source::Source;
use super::{Entry, Node, Value, path_of};
use crate::config::fault::{Fault, FaultKind};

/// The tree, with the faults of its keys.
///
/// # Errors
/// The text is not JSON; the parser stops at the first error.
pub(in crate::config) fn parse(source: &Source<'_>) -> Result<(Node, Vec<Fault>), Box<Fault>> {
    let options = ParseOptions {
        allow_comments: false,
        allow_loose_object_property_names: false,
        allow_trailing_commas: false,
        allow_missing_commas: false,
        allow_single_quoted_strings: false,
        allow_hexadecimal_numbers: false,
        allow_unary_plus_numbers: false,
        allow_bare_decimal_point_numbers: false,
        allow_non_finite_numbers: false,
        allow_extended_string_escapes: false,
    };
    let fault =
        |span, message: &str| source.fault(FaultKind::Syntax, span, "", format!("not valid JSON: {message}"));
    let parsed = parse_to_ast(source.text(), &CollectOptions::default(), &options).map_err(|error| {
        let range = error.range();
        let message = error.kind().to_string();
        let mut characters = message.chars();
        let first = characters.next().map(|c| c.to_ascii_lowercase());
        Box::new(fault(range.start..range.end, &first.into_iter().chain(characters).collect::<String>()))
    })?;
    let value = parsed.value.ok_or_else(|| Box::new(fault(0..0, "the file is empty")))?;
    let mut faults = Vec::new();
    let root = node(source, &value, "", &mut faults);
    Ok((root, faults))
}

fn node(source: &Source<'_>, value: &ast::Value<'_>, path: &str, faults: &mut Vec<Fault>) -> Node {
    let range = value.range();
    let value = match value {
        ast::Value::StringLit(literal) => Value::String(literal.value.clone().into_owned()),
        ast::Value::NumberLit(literal) => number(literal.value),
        ast::Value::BooleanLit(literal) => Value::Boolean(literal.value),
        ast::Value::NullKeyword(_) => Value::Other("null".to_owned()),
        ast::Value::Array(array) => Value::Array(
            array
                .elements
                .iter()
                .enumerate()
                .map(|(index, element)| node(source, element, &format!("{path}[{index}]"), faults))
                .collect(),
        ),
        ast::Value::Object(object) => {
            let mut entries: Vec<Entry> = Vec::with_capacity(object.properties.len());
            let mut seen = std::collections::BTreeSet::new();
            for property in &object.properties {
                let key = property.name.as_str();
                let path = path_of(path, key);
                let key_range = property.name.range();
                let key_span = key_range.start..key_range.end;
                if !seen.insert(key.to_owned()) {
                    faults.push(source.fault(FaultKind::DuplicateKey, key_span, &path, ""));
                    continue;
                }
                let value = node(source, &property.value, &path, faults);
                entries.push(Entry { key: key.to_owned(), key_span, value });
            }
            Value::Table(entries)
        }
    };
    Node::new(range.start..range.end, value)
}

fn number(text: &str) -> Value {
    if let Ok(number) = text.parse() {
        return Value::Integer(number);
    }
    let is_whole = text.bytes().all(|byte| byte.is_ascii_digit() || byte == b'-');
    match text.parse::<f64>() {
        Ok(number) if number.is_finite() && !is_whole => Value::Float(number),
        _ => Value::Other("a number that is out of range".to_owned()),
    }
}
