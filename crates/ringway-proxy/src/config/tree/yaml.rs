//! YAML (1.2, core schema, one document) into the tree.
//!
//! Anchors and aliases are taken, and what they expand to is bounded: a file of some lines can ask for billions of
//! values. A fault in an aliased value stands where the value is written, with the key path of where it is used.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use saphyr_parser::{Event, Marker, Parser, ScalarStyle, Span, Tag};

use super::source::Source;
use super::{Entry, Node, Value, path_of};
use crate::config::fault::{Fault, FaultKind};

/// Deeper than any configuration, and far from what recursion over the tree bears.
const DEPTH_MAX: usize = 64;
/// Values, and bytes of text in them, that all aliases of a file may stand for. 10,000 apps that share their tables of
/// timeouts and checks need a tenth.
const ALIASED_MAX: usize = 1 << 20;

/// The tree, with the faults of its keys.
///
/// # Errors
/// The text is not YAML, or of a kind that no configuration needs; reading stops at the first such fault.
pub(in crate::config) fn parse(source: &Source<'_>) -> Result<(Node, Vec<Fault>), Box<Fault>> {
    let mut builder = Builder::new(source);
    for event in Parser::new_from_str(source.text()) {
        match event {
            Ok((event, span)) => builder.on_event(event, span)?,
            Err(error) => {
                let at = builder.place(*error.marker());
                return Err(builder.refuse(at..at, error.info()));
            }
        }
    }
    // A file without any value is a table without keys, as it is in TOML.
    let root = builder.root.take().unwrap_or_else(|| Node::new(0..0, Value::Table(Vec::new())));
    Ok((root, builder.faults))
}

struct Builder<'s> {
    source: &'s Source<'s>,
    /// Where each character starts, for text that is not ASCII: the parser counts in characters.
    starts: Option<Vec<u32>>,
    stack: Vec<Open>,
    anchors: BTreeMap<usize, Node>,
    aliased: usize,
    root: Option<Node>,
    documents: usize,
    faults: Vec<Fault>,
}

/// A collection whose end has not come yet.
struct Open {
    span: Range<usize>,
    anchor: usize,
    content: Content,
}

enum Content {
    Sequence(Vec<Node>),
    Mapping { entries: Vec<Entry>, seen: BTreeSet<String>, key: Option<(String, Range<usize>)> },
}

impl<'s> Builder<'s> {
    fn new(source: &'s Source<'s>) -> Self {
        let text = source.text();
        let starts = || text.char_indices().map(|(at, _)| u32::try_from(at).unwrap_or(u32::MAX)).collect();
        Self {
            source,
            starts: (!text.is_ascii()).then(starts),
            stack: Vec::new(),
            anchors: BTreeMap::new(),
            aliased: 0,
            root: None,
            documents: 0,
            faults: Vec::new(),
        }
    }

    fn on_event(&mut self, event: Event<'_>, span: Span) -> Result<(), Box<Fault>> {
        let span = self.place(span.start)..self.place(span.end);
        match event {
            Event::Nothing | Event::StreamStart | Event::StreamEnd | Event::DocumentEnd => {}
            Event::DocumentStart(_) => {
                self.documents += 1;
                if self.documents > 1 {
                    return Err(self.refuse(span, "a configuration is one document, this starts another"));
                }
            }
            Event::Alias(anchor) => {
                let Some(node) = self.anchors.get(&anchor).cloned() else {
                    return Err(self.refuse(span, "an alias stands inside of what it stands for"));
                };
                self.aliased += weight(&node);
                if self.aliased > ALIASED_MAX {
                    return Err(self.refuse(span, "the aliases of this file stand for too much"));
                }
                self.check_depth(depth(&node), &span)?;
                self.add(node, 0)?;
            }
            Event::Scalar(text, style, anchor, tag) => {
                let is_key = matches!(
                    self.stack.last(),
                    Some(Open { content: Content::Mapping { key: None, .. }, .. })
                );
                if is_key {
                    return self.open_key(&text, span);
                }
                let value = self.scalar(&text, style, tag.as_deref(), &span)?;
                self.add(Node::new(span, value), anchor)?;
            }
            Event::SequenceStart(anchor, tag) => {
                self.open(span, anchor, tag.as_deref(), Content::Sequence(Vec::new()))?;
            }
            Event::MappingStart(anchor, tag) => {
                let content = Content::Mapping { entries: Vec::new(), seen: BTreeSet::new(), key: None };
                self.open(span, anchor, tag.as_deref(), content)?;
            }
            Event::SequenceEnd | Event::MappingEnd => {
                let Some(open) = self.stack.pop() else { return Ok(()) };
                // A collection in brackets ends where they do; one by indentation has the place where it starts.
                let end = if open.span.is_empty() { open.span.start } else { span.end };
                let value = match open.content {
                    Content::Sequence(nodes) => Value::Array(nodes),
                    Content::Mapping { entries, .. } => Value::Table(entries),
                };
                self.add(Node::new(open.span.start..end, value), open.anchor)?;
            }
        }
        Ok(())
    }

    fn open(
        &mut self,
        span: Range<usize>,
        anchor: usize,
        tag: Option<&Tag>,
        content: Content,
    ) -> Result<(), Box<Fault>> {
        if let Some(Open { content: Content::Mapping { key: None, .. }, .. }) = self.stack.last() {
            return Err(self.refuse(span, "the name of a key is text"));
        }
        if tag.is_some_and(|tag| !is_core(tag, &["map", "seq"])) {
            return Err(self.refuse(span, "tags are not taken"));
        }
        self.check_depth(1, &span)?;
        let in_brackets = self.source.text()[span.start..].starts_with(['[', '{']);
        let span = if in_brackets { span } else { span.start..span.start };
        self.stack.push(Open { span, anchor, content });
        Ok(())
    }

    fn open_key(&mut self, text: &str, span: Range<usize>) -> Result<(), Box<Fault>> {
        if text == "<<" {
            return Err(self.refuse(span, "merge keys are not taken; write an alias as the value of a key"));
        }
        if let Some(Open { content: Content::Mapping { key, .. }, .. }) = self.stack.last_mut() {
            *key = Some((text.to_owned(), span));
        }
        Ok(())
    }

    /// Puts a complete value where it belongs.
    fn add(&mut self, node: Node, anchor: usize) -> Result<(), Box<Fault>> {
        if anchor != 0 {
            self.anchors.insert(anchor, node.clone());
        }
        let path = self.path();
        match self.stack.last_mut().map(|open| &mut open.content) {
            None => self.root = Some(node),
            Some(Content::Sequence(nodes)) => nodes.push(node),
            Some(Content::Mapping { entries, seen, key }) => match key.take() {
                Some((key, key_span)) if seen.insert(key.clone()) => {
                    entries.push(Entry { key, key_span, value: node });
                }
                Some((key, key_span)) => {
                    let first = entries.iter().find(|entry| entry.key == key);
                    let hint = first.map(|entry| {
                        format!("the first is in line {}", self.source.line(entry.key_span.start))
                    });
                    let path = path_of(&path, &key);
                    let fault = self.source.fault(FaultKind::DuplicateKey, key_span, &path, "");
                    self.faults.push(Fault { hint, ..fault });
                }
                None => return Err(self.refuse(node.span, "the name of a key is text")),
            },
        }
        Ok(())
    }

    /// The path of the collection that is open, for faults.
    fn path(&self) -> String {
        let mut path = String::new();
        for open in &self.stack[..self.stack.len().saturating_sub(1)] {
            match &open.content {
                Content::Sequence(nodes) => path = format!("{path}[{}]", nodes.len()),
                Content::Mapping { key: Some((key, _)), .. } => path = path_of(&path, key),
                Content::Mapping { key: None, .. } => {}
            }
        }
        path
    }

    fn scalar(
        &self,
        text: &str,
        style: ScalarStyle,
        tag: Option<&Tag>,
        span: &Range<usize>,
    ) -> Result<Value, Box<Fault>> {
        match tag {
            Some(tag) if is_core(tag, &["str"]) => Ok(Value::String(text.to_owned())),
            Some(tag) if is_core(tag, &["int", "float", "bool", "null"]) => Ok(plain(text)),
            // "!" alone makes text of what it stands before.
            Some(tag) if tag.handle.is_empty() && tag.suffix == "!" => Ok(Value::String(text.to_owned())),
            Some(_) => Err(self.refuse(span.clone(), "tags are not taken")),
            None if style == ScalarStyle::Plain => Ok(plain(text)),
            None => Ok(Value::String(text.to_owned())),
        }
    }

    fn check_depth(&self, more: usize, span: &Range<usize>) -> Result<(), Box<Fault>> {
        if self.stack.len() + more > DEPTH_MAX {
            return Err(self.refuse(span.clone(), "this is nested too deeply"));
        }
        Ok(())
    }

    fn refuse(&self, span: Range<usize>, message: &str) -> Box<Fault> {
        Box::new(self.source.fault(FaultKind::Syntax, span, "", format!("not valid YAML: {message}")))
    }

    /// The byte at which a place of the parser is.
    fn place(&self, marker: Marker) -> usize {
        let end = self.source.text().len();
        match &self.starts {
            Some(starts) => starts.get(marker.index()).map_or(end, |at| *at as usize),
            None => marker.index().min(end),
        }
    }
}

fn is_core(tag: &Tag, suffixes: &[&str]) -> bool {
    tag.is_yaml_core_schema() && suffixes.contains(&tag.suffix.as_str())
}

/// How much of memory a value takes: itself and those in it, and their text.
fn weight(node: &Node) -> usize {
    1 + match &node.value {
        Value::String(text) => text.len(),
        Value::Array(nodes) => nodes.iter().map(weight).sum(),
        Value::Table(entries) => entries.iter().map(|entry| entry.key.len() + weight(&entry.value)).sum(),
        Value::Integer(_) | Value::Float(_) | Value::Boolean(_) | Value::Other(_) | Value::Faulty => 0,
    }
}

fn depth(node: &Node) -> usize {
    match &node.value {
        Value::Array(nodes) => 1 + nodes.iter().map(depth).max().unwrap_or(0),
        Value::Table(entries) => 1 + entries.iter().map(|entry| depth(&entry.value)).max().unwrap_or(0),
        Value::String(_)
        | Value::Integer(_)
        | Value::Float(_)
        | Value::Boolean(_)
        | Value::Other(_)
        | Value::Faulty => 0,
    }
}

/// What a scalar without quotes is, by the core schema (YAML 1.2.2, section 10.3.2).
fn plain(text: &str) -> Value {
    let out_of_range = || Value::Other("a number that is out of range".to_owned());
    let digits = text.strip_prefix(['+', '-']).unwrap_or(text);
    match text {
        "" | "~" | "null" | "Null" | "NULL" => return Value::Other("null".to_owned()),
        "true" | "True" | "TRUE" => return Value::Boolean(true),
        "false" | "False" | "FALSE" => return Value::Boolean(false),
        _ => {}
    }
    for (prefix, radix) in [("0x", 16), ("0o", 8)] {
        if let Some(digits) = text.strip_prefix(prefix)
            && !digits.is_empty()
            && digits.chars().all(|digit| digit.is_digit(radix))
        {
            return i64::from_str_radix(digits, radix).map_or_else(|_| out_of_range(), Value::Integer);
        }
    }
    if !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return text.parse().map_or_else(|_| out_of_range(), Value::Integer);
    }
    if matches!(digits, ".inf" | ".Inf" | ".INF") || matches!(text, ".nan" | ".NaN" | ".NAN") {
        return out_of_range();
    }
    let is_float = digits.starts_with(|c: char| c.is_ascii_digit() || c == '.')
        && digits.bytes().any(|byte| byte.is_ascii_digit())
        && digits
            .bytes()
            .all(|byte| byte.is_ascii_digit() || matches!(byte, b'.' | b'e' | b'E' | b'+' | b'-'));
    match text.parse::<f64>() {
        Ok(number) if is_float && number.is_finite() => Value::Float(number),
        Ok(_) if is_float => out_of_range(),
        _ => Value::String(text.to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scalars_without_quotes_are_what_the_core_schema_says() {
        for (text, expected) in [
            ("", Value::Other("null".to_owned())),
            ("~", Value::Other("null".to_owned())),
            ("true", Value::Boolean(true)),
            ("yes", Value::String("yes".to_owned())),
            ("on", Value::String("on".to_owned())),
            ("12", Value::Integer(12)),
            ("-12", Value::Integer(-12)),
            ("0o17", Value::Integer(15)),
            ("0x1F", Value::Integer(31)),
            ("010", Value::Integer(10)),
            ("0.5", Value::Float(0.5)),
            (".5", Value::Float(0.5)),
            ("1e3", Value::Float(1_000.0)),
            ("99999999999999999999", Value::Other("a number that is out of range".to_owned())),
            ("1e999", Value::Other("a number that is out of range".to_owned())),
            ("5s", Value::String("5s".to_owned())),
            ("10.0.0.1:80", Value::String("10.0.0.1:80".to_owned())),
            (":80", Value::String(":80".to_owned())),
            ("22:22", Value::String("22:22".to_owned())),
            ("infinity", Value::String("infinity".to_owned())),
            (".", Value::String(".".to_owned())),
        ] {
            assert_eq!(plain(text), expected, "{text:?}");
        }
    }
}
