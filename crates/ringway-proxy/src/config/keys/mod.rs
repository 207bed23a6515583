//! The one table of keys: the type, default and meaning of everything that a configuration may say.
//!
//! `check` reads no key that is not here, with the same limits and words (asserted in builds with assertions, so that
//! the first test that reads such a key fails); `ringway schema` and the tables of the configuration reference are
//! written from here. A new key is a row here, its field in `model`, its check, and its place in
//! `examples/configs/full.toml`.

mod app;
mod seed;
mod server;

use std::borrow::Cow;

/// A key.
#[derive(Debug)]
pub(super) struct Key {
    /// Its tables and its name, without numbers of elements, as `app.health.interval`.
    pub(super) path: &'static str,
    pub(super) kind: Kind,
    pub(super) default: Default,
    /// In Markdown, without links: it stands in pages and in the hints of editors.
    pub(super) help: &'static str,
}

/// What a value may be.
#[derive(Debug)]
pub(super) enum Kind {
    /// true or false.
    Boolean,
    /// A whole number.
    Number {
        min: u32,
        max: u32,
    },
    /// A number from 0 to 1.
    Share,
    /// Text with units; the limits as a file writes them.
    Duration {
        min: &'static str,
        max: &'static str,
    },
    /// Text with a unit; the limit as a file writes it.
    Size {
        max: &'static str,
    },
    /// One of some words, and those that are still to come.
    Choice {
        words: &'static [&'static str],
        later: &'static [&'static str],
    },
    /// Any other text: what the reference calls it, and its pattern.
    Text {
        name: &'static str,
        pattern: &'static str,
        length_max: u32,
    },
    Array {
        of: &'static Kind,
        min: u32,
    },
    /// A table; its keys have this key's path before theirs.
    Table,
    /// One of several.
    AnyOf(&'static [Kind]),
}

/// What holds where a key is not written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Default {
    /// The key must be there.
    Required,
    /// One of these keys must be there, of which this is one.
    OneOf(&'static [&'static str]),
    /// The value, in JSON.
    Value(&'static str),
    /// What no value says: "the system's", or nothing.
    Words(&'static str),
}

/// A key.
const fn key(path: &'static str, kind: Kind, default: Default, help: &'static str) -> Key {
    Key { path, kind, default, help }
}

/// A key that must be there.
const fn required(path: &'static str, kind: Kind, help: &'static str) -> Key {
    key(path, kind, Default::Required, help)
}

/// A table that may be left out.
const fn table(path: &'static str, help: &'static str) -> Key {
    key(path, Kind::Table, Default::Words(""), help)
}

const fn number(min: u32, max: u32) -> Kind {
    Kind::Number { min, max }
}

const fn duration(min: &'static str, max: &'static str) -> Kind {
    Kind::Duration { min, max }
}

const fn words(words: &'static [&'static str]) -> Kind {
    Kind::Choice { words, later: &[] }
}

const fn text(name: &'static str, pattern: &'static str) -> Kind {
    Kind::Text { name, pattern, length_max: 4_096 }
}

/// What the path of a file that belongs to the configuration is called: those are watched.
const FILE_NAME: &str = "path of a file";

/// What the path of a directory of certificates is called: what is in it is watched.
const DIRECTORY_NAME: &str = "path of a directory";

/// A default, in JSON.
const fn value(json: &'static str) -> Default {
    Default::Value(json)
}

/// The keys of Ringway's own schema, a table before what is in it.
pub(super) fn all() -> impl Iterator<Item = &'static Key> {
    server::KEYS.iter().chain(app::KEYS)
}

/// The keys of the seed proxy's file.
pub(super) fn of_the_seed() -> impl Iterator<Item = &'static Key> {
    seed::KEYS.iter()
}

/// The keys directly in the table `path`; `""` is the top of the file.
pub(super) fn children(
    keys: impl Iterator<Item = &'static Key>,
    path: &str,
) -> impl Iterator<Item = &'static Key> {
    keys.filter(move |key| key.parent() == path)
}

/// Keys of an app that a route may have for itself.
const OF_ROUTES: [&str; 7] =
    ["backends", "balance", "slow_start", "connect_attempts", "removed_backends", "timeouts", "health"];

/// Keys in those tables that hold before a route is known.
pub(super) const NOT_OF_ROUTES: [&str; 2] = ["app.timeouts.handshake", "app.timeouts.sniff"];

/// The keys of an app that a route may have for itself, in their order; what it leaves out is that of the app. Their paths
/// are those of the app.
pub(super) fn of_routes() -> impl Iterator<Item = &'static Key> {
    children(all(), "app").filter(|key| OF_ROUTES.contains(&key.name()))
}

/// The key that `path`, as faults write it (`app[2].health.interval`), is an instance of.
pub(super) fn find(path: &str) -> Option<&'static Key> {
    let path = without_indexes(path);
    let find = |path: &str| all().chain(of_the_seed()).find(|key| key.path == path);
    find(&path).or_else(|| {
        let rest = path.strip_prefix("app.route.")?;
        let first = rest.split('.').next()?;
        OF_ROUTES.contains(&first).then(|| find(&format!("app.{rest}")))?
    })
}

/// Whether the value of this key is the path of a file that belongs to the configuration.
pub(super) fn is_file(path: &str) -> bool {
    let is_path = |kind: &Kind| matches!(kind, Kind::Text { name: FILE_NAME, .. });
    find(path).is_some_and(|key| key.kind.any(&is_path))
}

/// Whether the value of this key is the path of a directory of certificates.
pub(super) fn is_directory(path: &str) -> bool {
    let is_path = |kind: &Kind| matches!(kind, Kind::Text { name: DIRECTORY_NAME, .. });
    find(path).is_some_and(|key| key.kind.any(&is_path))
}

/// Whether the table has `path` with a kind of which `agrees` holds, in an array or among others, too.
pub(super) fn agrees(path: &str, agrees: impl Fn(&Kind) -> bool) -> bool {
    find(path).is_some_and(|key| key.kind.any(&agrees))
}

impl Key {
    /// The path of the table that the key is in.
    pub(super) fn parent(&self) -> &'static str {
        self.path.rsplit_once('.').map_or("", |(parent, _)| parent)
    }

    /// The name alone.
    pub(super) fn name(&self) -> &'static str {
        self.path.rsplit_once('.').map_or(self.path, |(_, name)| name)
    }
}

impl Kind {
    /// Whether `holds` of this or of one of those it is made of.
    pub(super) fn any(&self, holds: &impl Fn(&Kind) -> bool) -> bool {
        holds(self)
            || match self {
                Kind::Array { of, .. } => of.any(holds),
                Kind::AnyOf(kinds) => kinds.iter().any(|kind| kind.any(holds)),
                Kind::Boolean
                | Kind::Number { .. }
                | Kind::Share
                | Kind::Duration { .. }
                | Kind::Size { .. }
                | Kind::Choice { .. }
                | Kind::Text { .. }
                | Kind::Table => false,
            }
    }
}

fn without_indexes(path: &str) -> Cow<'_, str> {
    if !path.contains('[') {
        return Cow::Borrowed(path);
    }
    let mut plain = String::with_capacity(path.len());
    for part in path.split('[') {
        match part.split_once(']') {
            Some((index, rest)) if index.bytes().all(|byte| byte.is_ascii_digit()) => plain.push_str(rest),
            _ => plain.push_str(part),
        }
    }
    Cow::Owned(plain)
}

#[cfg(test)]
mod tests;
