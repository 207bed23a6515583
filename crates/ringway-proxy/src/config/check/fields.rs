//! Reading a table key by key: types, ranges, choices, and at the end what was not asked for.
//!
//! Each reader reports what is wrong itself and then gives nothing, so that a check reads on and finds every fault.

use std::ops::{Range, RangeInclusive};
use std::path::Path;
use std::time::Duration;

use super::address::AddressError;
use super::document::Document;
use super::value;
use crate::config::fault::{Fault, FaultKind};
use crate::config::keys::{self, Kind};
use crate::config::known::Known;
use crate::config::tree::source::Source;
use crate::config::tree::{Entry, Node, Value, path_of, quote};

/// Collects faults while trees are read.
pub(super) struct Checker<'a> {
    /// The file at hand.
    pub(super) source: &'a Source<'a>,
    /// What relative paths count from.
    base_dir: &'a Path,
    pub(super) faults: Vec<Fault>,
    /// What the tree means depends on other files, too.
    pub(super) reads_files: bool,
    /// What was read of these files before.
    pub(super) known: Option<&'a Known>,
    /// The second, from the beginning of 1970, at which what can be served and is not as it should be is a fault, too.
    pub(super) verified_at: Option<i64>,
    /// How many so far, ranges of ports taken apart.
    pub(super) frontends: usize,
}

/// A value and its key path.
#[derive(Clone)]
pub(super) struct Item<'t> {
    pub(super) node: &'t Node,
    pub(super) key: String,
    key_span: Range<usize>,
}

/// A table that is being read.
pub(super) struct Fields<'t> {
    entries: &'t [Entry],
    span: Range<usize>,
    key: String,
    asked: Vec<&'static str>,
}

impl<'t> Fields<'t> {
    /// The value of a key, if it is there.
    pub(super) fn take(&mut self, name: &'static str) -> Option<Item<'t>> {
        debug_assert!(
            keys::find(&self.path(name)).is_some(),
            "{} is missing in config/keys",
            self.path(name)
        );
        self.asked.push(name);
        let entry = self.entries.iter().find(|entry| entry.key == name)?;
        Some(Item { node: &entry.value, key: self.path(name), key_span: entry.key_span.clone() })
    }

    /// Whether a key is there.
    pub(super) fn has(&self, name: &str) -> bool {
        self.entries.iter().any(|entry| entry.key == name)
    }

    /// The value of a key that must be there.
    pub(super) fn require(
        &mut self,
        name: &'static str,
        expected: &str,
        checker: &mut Checker<'_>,
    ) -> Option<Item<'t>> {
        let item = self.take(name);
        if item.is_none() {
            let key = self.path(name);
            checker.faults.push(checker.source.fault(
                FaultKind::MissingKey,
                self.span.clone(),
                &key,
                expected,
            ));
        }
        item
    }

    /// Reports the keys that nobody asked for.
    pub(super) fn finish(self, checker: &mut Checker<'_>) {
        for entry in self.entries.iter().filter(|entry| !self.asked.contains(&entry.key.as_str())) {
            let key = self.path(&entry.key);
            let span = entry.key_span.clone();
            let mut fault = checker.source.fault(FaultKind::UnknownKey, span, &key, "");
            fault.nearest = nearest(&entry.key, self.asked.iter().copied());
            checker.faults.push(fault);
        }
    }

    fn path(&self, name: &str) -> String {
        path_of(&self.key, name)
    }
}

impl<'t> Item<'t> {
    /// An item for a value that is known to be good, and that no fault can be about.
    pub(super) fn of_no_place(node: &'t Node) -> Self {
        Self { node, key: String::new(), key_span: 0..0 }
    }
}

impl Item<'_> {
    /// The value, where it is a string.
    pub(super) fn as_text(&self) -> Option<&str> {
        match &self.node.value {
            Value::String(text) => Some(text),
            _ => None,
        }
    }
}

impl<'a> Checker<'a> {
    /// Begins with a file whose faults so far are `faults`.
    pub(super) fn new(document: &'a Document<'a>, faults: Vec<Fault>) -> Self {
        Self {
            source: &document.source,
            base_dir: &document.base_dir,
            faults,
            reads_files: false,
            known: None,
            verified_at: None,
            frontends: 0,
        }
    }

    /// Where a file that the tree names is, which is going to be read: the tree alone does not tell what is meant.
    pub(super) fn directory_to_read(&mut self) -> &'a Path {
        self.reads_files = true;
        self.base_dir
    }

    /// Goes on with another file.
    pub(super) fn turn_to(&mut self, document: &'a Document<'a>) {
        self.source = &document.source;
        self.base_dir = &document.base_dir;
    }
}

impl Checker<'_> {
    /// A value of the wrong type, form or range.
    pub(super) fn wrong(&mut self, item: &Item<'_>, expected: impl Into<String>) {
        self.wrong_with(item, expected, None);
    }

    /// The same, with advice.
    pub(super) fn wrong_with(&mut self, item: &Item<'_>, expected: impl Into<String>, hint: Option<String>) {
        self.report(FaultKind::WrongValue, item, expected, None, hint);
    }

    /// A value that does not go with another one.
    pub(super) fn conflict(&mut self, item: &Item<'_>, message: impl Into<String>, hint: Option<&str>) {
        self.report(FaultKind::Conflict, item, message, None, hint.map(str::to_owned));
    }

    /// Something that is named cannot be read.
    pub(super) fn unreadable(&mut self, item: &Item<'_>, message: String) {
        self.report(FaultKind::Unreadable, item, message, None, None);
    }

    /// A key that does not go where it stands.
    pub(super) fn misplaced(&mut self, item: &Item<'_>, message: String) {
        let fault = self.source.fault(FaultKind::Conflict, item.key_span.clone(), &item.key, message);
        self.faults.push(fault);
    }

    /// The place of a value in a file, as a fault of the file at hand names it.
    pub(super) fn place(&self, item: &Item<'_>, document: &Document<'_>) -> String {
        match document.source.file() {
            Some(file) if Some(file) != self.source.file() => {
                format!("{} in {}:{}", item.key, file.display(), document.source.line(item.node.span.start))
            }
            _ => item.key.clone(),
        }
    }

    /// A value of the plan that this version does not have.
    pub(super) fn not_yet(&mut self, item: &Item<'_>) {
        self.report(FaultKind::NotSupportedYet, item, "", None, None);
    }

    fn report(
        &mut self,
        kind: FaultKind,
        item: &Item<'_>,
        expected: impl Into<String>,
        nearest: Option<String>,
        hint: Option<String>,
    ) {
        if item.node.value == Value::Faulty {
            return;
        }
        let found = item.node.describe();
        let fault = self.source.fault(kind, item.node.span.clone(), &item.key, expected);
        self.faults.push(Fault { found: Some(found), nearest, hint, ..fault });
    }

    /// The tree's root.
    pub(super) fn root<'t>(&mut self, node: &'t Node) -> Option<Fields<'t>> {
        let item = Item { node, key: String::new(), key_span: 0..0 };
        self.table(&item, "a table")
    }

    pub(super) fn table<'t>(&mut self, item: &Item<'t>, expected: &str) -> Option<Fields<'t>> {
        match &item.node.value {
            Value::Table(entries) => {
                // A table made of dotted keys or headers has the place of its first part; of its key, that is.
                let span = if item.node.span.is_empty() { &item.key_span } else { &item.node.span };
                Some(Fields { entries, span: span.clone(), key: item.key.clone(), asked: Vec::new() })
            }
            _ => {
                self.wrong(item, expected);
                None
            }
        }
    }

    /// The elements of an array; none where it is something else.
    pub(super) fn array<'t>(&mut self, item: &Item<'t>, expected: &str, hint: Option<&str>) -> Vec<Item<'t>> {
        match &item.node.value {
            Value::Array(nodes) => nodes
                .iter()
                .enumerate()
                .map(|(index, node)| Item {
                    node,
                    key: format!("{}[{index}]", item.key),
                    key_span: node.span.clone(),
                })
                .collect(),
            _ => {
                self.wrong_with(item, expected, hint.map(str::to_owned));
                Vec::new()
            }
        }
    }

    pub(super) fn text(&mut self, item: &Item<'_>, expected: &str) -> Option<String> {
        match &item.node.value {
            Value::String(text) => Some(text.clone()),
            _ => {
                self.wrong(item, expected);
                None
            }
        }
    }

    pub(super) fn boolean(&mut self, item: &Item<'_>) -> Option<bool> {
        let is_kind = |kind: &Kind| matches!(kind, Kind::Boolean);
        debug_assert!(keys::agrees(&item.key, is_kind), "config/keys takes {} for something else", item.key);
        match (&item.node.value, item.node.template.is_some()) {
            (Value::Boolean(value), _) => Some(*value),
            // Variables are strings: the key's type decides what they are taken for.
            (Value::String(text), true) if text == "true" => Some(true),
            (Value::String(text), true) if text == "false" => Some(false),
            _ => {
                self.wrong(item, "true or false");
                None
            }
        }
    }

    /// A whole number within `range`.
    pub(super) fn number(
        &mut self,
        item: &Item<'_>,
        range: RangeInclusive<u32>,
        or_else: &str,
    ) -> Option<u32> {
        let is_kind = |kind: &Kind| matches!(kind, Kind::Number { min, max } if (*min, *max) == (*range.start(), *range.end()));
        debug_assert!(keys::agrees(&item.key, is_kind), "config/keys has other limits of {}", item.key);
        let found = integer(item.node).and_then(|number| u32::try_from(number).ok());
        match found {
            Some(number) if range.contains(&number) => Some(number),
            _ => {
                let (first, last) = (range.start(), range.end());
                self.wrong(item, format!("{or_else}a whole number from {first} to {last}"));
                None
            }
        }
    }

    /// A number from 0 to 1.
    pub(super) fn share(&mut self, item: &Item<'_>) -> Option<f64> {
        let is_kind = |kind: &Kind| matches!(kind, Kind::Share);
        debug_assert!(keys::agrees(&item.key, is_kind), "config/keys takes {} for something else", item.key);
        let found = match &item.node.value {
            Value::Float(number) => Some(*number),
            Value::Integer(0) => Some(0.0),
            Value::Integer(1) => Some(1.0),
            Value::String(text) if item.node.template.is_some() => text.parse().ok(),
            _ => None,
        };
        match found {
            Some(number) if (0.0..=1.0).contains(&number) => Some(number),
            _ => {
                self.wrong(item, "a number from 0 to 1");
                None
            }
        }
    }

    /// A duration within `range`; `hint` is for zero.
    pub(super) fn duration(
        &mut self,
        item: &Item<'_>,
        range: RangeInclusive<Duration>,
        zero_hint: Option<&str>,
    ) -> Option<Duration> {
        let limits = || [range.start(), range.end()].map(|limit| Some(*limit));
        let is_kind = |kind: &Kind| matches!(kind, Kind::Duration { min, max } if [value::duration(min), value::duration(max)] == limits());
        debug_assert!(keys::agrees(&item.key, is_kind), "config/keys has other limits of {}", item.key);
        match item.as_text().and_then(value::duration) {
            Some(duration) if range.contains(&duration) => Some(duration),
            Some(duration) => {
                let (first, last) =
                    (value::duration_text(*range.start()), value::duration_text(*range.end()));
                let hint = zero_hint.filter(|_| duration.is_zero()).map(str::to_owned);
                self.wrong_with(item, format!("a duration from \"{first}\" to \"{last}\""), hint);
                None
            }
            None => {
                let hint =
                    bare_number(item.node).map(|number| format!("a unit is missing, as in \"{number}s\""));
                self.wrong_with(item, "a duration such as \"250ms\", \"5s\" or \"1m30s\"", hint);
                None
            }
        }
    }

    /// A size in bytes, from 1 to `max`.
    pub(super) fn size(&mut self, item: &Item<'_>, max: u64) -> Option<u64> {
        let is_kind =
            |kind: &Kind| matches!(kind, Kind::Size { max: limit } if value::size(limit) == Some(max));
        debug_assert!(keys::agrees(&item.key, is_kind), "config/keys has another limit of {}", item.key);
        let found = item.as_text().and_then(value::size);
        match found {
            Some(bytes) if (1..=max).contains(&bytes) => Some(bytes),
            _ => {
                let hint =
                    bare_number(item.node).map(|number| format!("a unit is missing, as in \"{number}B\""));
                let most = max >> 30;
                let expected = format!("a size such as \"64KiB\" or \"1MiB\", at most \"{most}GiB\"");
                self.wrong_with(item, expected, hint);
                None
            }
        }
    }

    /// One of some words. `later` are words of the plan that this version does not have.
    pub(super) fn choice<T: Copy>(
        &mut self,
        item: &Item<'_>,
        words: &[(&'static str, T)],
        later: &[&'static str],
    ) -> Option<T> {
        let is_kind = |kind: &Kind| {
            matches!(kind, Kind::Choice { words: known, later: planned }
                if known.iter().eq(words.iter().map(|(word, _)| word)) && *planned == later)
        };
        debug_assert!(keys::agrees(&item.key, is_kind), "config/keys has other words for {}", item.key);
        let text = item.as_text();
        if let Some((_, chosen)) = words.iter().find(|(word, _)| Some(*word) == text) {
            return Some(*chosen);
        }
        if text.is_some_and(|text| later.contains(&text)) {
            self.not_yet(item);
            return None;
        }
        let names: Vec<&'static str> = words.iter().map(|(word, _)| *word).collect();
        let near = text.and_then(|text| nearest(text, names.iter().chain(later).copied()));
        let quoted: Vec<String> = names.iter().map(|name| quote(name)).collect();
        self.report(FaultKind::WrongValue, item, list(&quoted), near, None);
        None
    }

    /// An address, by one of the functions of `address`.
    pub(super) fn address<T>(
        &mut self,
        item: &Item<'_>,
        expected: &str,
        parse: impl Fn(&str, &Path) -> Result<T, AddressError>,
    ) -> Option<T> {
        let text = self.text(item, expected)?;
        match parse(&text, self.base_dir) {
            Ok(address) => Some(address),
            Err(AddressError::NotSupportedYet) => {
                self.not_yet(item);
                None
            }
            Err(AddressError::Malformed { expected, hint }) => {
                self.wrong_with(item, expected, hint);
                None
            }
        }
    }
}

/// A whole number, also one that a variable gave.
fn integer(node: &Node) -> Option<i64> {
    match &node.value {
        Value::Integer(number) => Some(*number),
        Value::String(text) if node.template.is_some() => text.parse().ok(),
        _ => None,
    }
}

/// A number where one with a unit is asked for, between quotes or not.
fn bare_number(node: &Node) -> Option<u64> {
    match &node.value {
        Value::Integer(number) => u64::try_from(*number).ok(),
        Value::String(text) => text.parse().ok(),
        _ => None,
    }
}

/// "a", "a or b", "a, b or c".
fn list(words: &[String]) -> String {
    match words {
        [] => String::new(),
        [only] => only.clone(),
        [first @ .., last] => format!("{} or {last}", first.join(", ")),
    }
}

/// The name that is nearest to what was written, if any is near.
pub(in crate::config) fn nearest<'n>(written: &str, names: impl Iterator<Item = &'n str>) -> Option<String> {
    let plain = |text: &str| text.to_ascii_lowercase().replace('-', "_");
    let written = plain(written);
    // Names are short: what is far longer is near to none, and comparing it would be slow.
    if written.len() > 40 {
        return None;
    }
    names
        .map(|name| (strsim::damerau_levenshtein(&written, &plain(name)), name))
        .filter(|(distance, name)| *distance <= (name.len() / 3).max(1))
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, name)| name.to_owned())
}
