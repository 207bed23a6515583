//! A part of a TOML file, checked by itself: some apps of many, where the others are known to be as they were.
//!
//! What a `[[app]]` and all behind it mean does not depend on what stands before it. So text that begins with such a line
//! and ends before another one can be read without the rest, if the rest was read before. Only a configuration without
//! faults is ever read this way: whoever finds anything wrong reads the whole file, and reports by that.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use ringway::SocketAddress;

use super::document::Document;
use super::fields::{Checker, Item};
use super::{PlacedApp, across, apps};
use crate::config::Format;
use crate::config::tree::source::Source;
use crate::config::tree::substitute::Environment;
use crate::config::tree::{Entry, Node, Value};
use crate::model::App;

/// What every app begins with.
pub(in crate::config) const HEADER: &str = "[[app]]";

/// A part of a file, and what is known of the rest.
pub(in crate::config) struct Part<'a> {
    /// The file.
    pub(in crate::config) path: &'a Path,
    /// What relative paths count from.
    pub(in crate::config) base_dir: &'a Path,
    /// The text of the part.
    pub(in crate::config) text: &'a str,
    /// The apps before the part, and those behind it.
    pub(in crate::config) before: &'a [Arc<App>],
    pub(in crate::config) after: &'a [Arc<App>],
    /// Where the admin interface listens.
    pub(in crate::config) admin: Option<&'a SocketAddress>,
}

/// All apps, and where those of the part begin in it; none if there is any fault, or the part has anything but apps.
pub(in crate::config) fn of_part(
    part: &Part<'_>,
    environment: &Environment<'_>,
) -> Option<(Vec<App>, Vec<usize>)> {
    let source = Source::new(Some(part.path), part.text);
    let mut document = Document::parse(source, Format::Toml, part.base_dir.to_path_buf());
    let mut faults = Vec::new();
    document.substitute(environment, &mut faults);
    if !document.syntax.is_empty() {
        return None;
    }
    let mut checker = Checker::new(&document, faults);
    let Value::Table(entries) = &document.root.value else { return None };
    let new = match entries.as_slice() {
        [] => Vec::new(),
        [Entry { key, .. }] if key == "app" => {
            let item = checker.root(&document.root).and_then(|mut fields| fields.take("app"))?;
            apps(&item, &document, &mut checker)
        }
        _ => return None,
    };
    let starts = if new.is_empty() { Vec::new() } else { starts(&document)? };
    if !checker.faults.is_empty() || checker.reads_files || starts.len() != new.len() {
        return None;
    }
    let node = Node::new(0..0, Value::Boolean(true));
    let known = |app: &Arc<App>| PlacedApp {
        app: (**app).clone(),
        document: &document,
        name: Some(Item::of_no_place(&node)),
        frontends: vec![Item::of_no_place(&node); app.frontends.len()],
    };
    let mut all: Vec<PlacedApp<'_>> = part.before.iter().map(known).collect();
    all.extend(new);
    all.extend(part.after.iter().map(known));
    let admin_item = Item::of_no_place(&node);
    across(&all, part.admin.map(|listen| (listen, &admin_item, &document)), &mut checker);
    let is_good = checker.faults.is_empty() && !all.is_empty();
    is_good.then(|| (all.into_iter().map(|app| app.app).collect(), starts))
}

/// Whether a text, of which it is known that it begins with an app or is empty, has nothing but apps.
pub(in crate::config) fn has_only_apps(text: &str) -> bool {
    let document = Document::parse(Source::new(None, text), Format::Toml, PathBuf::new());
    match &document.root.value {
        Value::Table(entries) => document.syntax.is_empty() && entries.iter().all(|entry| entry.key == "app"),
        _ => false,
    }
}

/// Where the line `[[app]]` of each app stands; none if an app is written in another way.
pub(super) fn starts(document: &Document<'_>) -> Option<Vec<usize>> {
    let text = document.source.text();
    let Value::Table(entries) = &document.root.value else { return None };
    let Value::Array(nodes) = &entries.iter().find(|entry| entry.key == "app")?.value.value else {
        return None;
    };
    let mut starts: Vec<usize> = Vec::with_capacity(nodes.len());
    for node in nodes {
        let Value::Table(entries) = &node.value else { return None };
        let first = entries.iter().map(|entry| entry.key_span.start).min()?;
        let start = text.get(..first)?.rfind(HEADER)?;
        // Nothing but comments stands between it and the first key.
        let between = text.get(start + HEADER.len()..first)?;
        let is_between =
            |line: &str| line.trim_start().is_empty() || line.trim_start().starts_with(['#', '[']);
        let is_header = (start == 0 || text.as_bytes()[start - 1] == b'\n')
            && starts.last().is_none_or(|last| *last < start)
            && between.lines().all(is_between);
        if !is_header {
            return None;
        }
        starts.push(start);
    }
    Some(starts)
}
