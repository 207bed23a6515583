//! A configuration as a tree of values that know their place in the text: what TOML, YAML and JSON have in common.

pub(super) mod json;
pub(super) mod source;
pub(super) mod substitute;
pub(super) mod toml;
pub(super) mod yaml;

use std::ops::Range;

/// A value and the bytes of the text that it stands in.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Node {
    pub(super) span: Range<usize>,
    pub(super) value: Value,
    /// The text before variables were put in, where there were any.
    pub(super) template: Option<String>,
}

/// What a value is.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Value {
    String(String),
    Integer(i64),
    Float(f64),
    Boolean(bool),
    Array(Vec<Node>),
    Table(Vec<Entry>),
    /// What no key takes: null, a date, a number beyond all ranges. Holds the words for it.
    Other(String),
    /// A fault was reported for this value: whoever reads it stays silent.
    Faulty,
}

/// A key of a table and its value.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Entry {
    pub(super) key: String,
    pub(super) key_span: Range<usize>,
    pub(super) value: Node,
}

impl Node {
    pub(super) fn new(span: Range<usize>, value: Value) -> Self {
        Self { span, value, template: None }
    }

    /// The value in the words of a fault.
    pub(super) fn describe(&self) -> String {
        let described = match &self.value {
            Value::String(text) => quote(text),
            Value::Integer(number) => number.to_string(),
            Value::Float(number) => number.to_string(),
            Value::Boolean(value) => value.to_string(),
            Value::Array(_) => "an array".to_owned(),
            Value::Table(_) => "a table".to_owned(),
            Value::Other(words) => words.clone(),
            Value::Faulty => "a faulty value".to_owned(),
        };
        match &self.template {
            Some(template) => format!("{described} (from {})", quote(template)),
            None => described,
        }
    }
}

/// The path of a key: bare where TOML writes it bare, else between quotes.
pub(super) fn path_of(table: &str, key: &str) -> String {
    let is_bare = (1..=60).contains(&key.len())
        && key.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-'));
    let key = if is_bare { key.to_owned() } else { quote(key) };
    if table.is_empty() { key } else { format!("{table}.{key}") }
}

/// A string between quotes, short and safe for a terminal.
pub(super) fn quote(text: &str) -> String {
    const CHARACTERS_MAX: usize = 60;
    if text.chars().count() > CHARACTERS_MAX {
        let start: String = text.chars().take(CHARACTERS_MAX).collect();
        format!("{start:?}…")
    } else {
        format!("{text:?}")
    }
}
