//! One file of a configuration as a tree, and which of its faults can be believed.

use std::path::{Path, PathBuf};

use crate::config::fault::{Fault, FaultKind};
use crate::config::include::Fragment;
use crate::config::tree::source::Source;
use crate::config::tree::substitute::{Environment, substitute};
use crate::config::tree::{Node, Value, json, toml, yaml};
use crate::config::{Format, UNKNOWN_FORMAT, format_of};

/// A file that has been parsed.
pub(super) struct Document<'a> {
    pub(super) source: Source<'a>,
    pub(super) root: Node,
    /// What relative paths count from.
    pub(super) base_dir: PathBuf,
    /// Faults of its language. They are always believed.
    pub(super) syntax: Vec<Fault>,
    /// The line from which on the tree may not be what was meant.
    broken_line: Option<usize>,
}

impl<'a> Document<'a> {
    /// What cannot be read at all is an empty table with a fault.
    pub(super) fn parse(source: Source<'a>, format: Format, base_dir: PathBuf) -> Self {
        let parsed = match format {
            Format::Toml => {
                let parsed = toml::parse(&source);
                let is_broken = parsed.sound_until != usize::MAX;
                let broken_line = is_broken.then(|| source.line(parsed.sound_until));
                Ok((parsed.root, parsed.faults, broken_line))
            }
            Format::Yaml => yaml::parse(&source).map(|(root, faults)| (root, faults, None)),
            Format::Json => json::parse(&source).map(|(root, faults)| (root, faults, None)),
        };
        match parsed {
            Ok((root, syntax, broken_line)) => Self { source, root, base_dir, syntax, broken_line },
            Err(fault) => Self::unreadable(source, base_dir, *fault),
        }
    }

    /// What the main file includes. `name` is what faults call it, `base_dir` that of the main file.
    pub(super) fn of_fragment(fragment: &'a Fragment, name: &'a Path, base_dir: &Path) -> Self {
        let source = Source::new(Some(name), &fragment.text);
        let path = base_dir.join(&fragment.path);
        let base_dir = path.parent().unwrap_or(base_dir).to_path_buf();
        match format_of(&path) {
            Some(format) => Self::parse(source, format, base_dir),
            None => {
                let fault = source.whole(FaultKind::Unreadable, UNKNOWN_FORMAT.to_owned());
                Self::unreadable(source, base_dir, fault)
            }
        }
    }

    fn unreadable(source: Source<'a>, base_dir: PathBuf, fault: Fault) -> Self {
        let root = Node::new(0..0, Value::Table(Vec::new()));
        Self { source, root, base_dir, syntax: vec![fault], broken_line: Some(0) }
    }

    /// Puts the variables in.
    pub(super) fn substitute(&mut self, environment: &Environment<'_>, faults: &mut Vec<Fault>) {
        substitute(&mut self.root, "", &self.source, environment, faults);
    }

    /// Whether the tree may not be all that was meant.
    pub(super) fn is_broken(&self) -> bool {
        self.broken_line.is_some()
    }

    /// Whether a fault of this file's tree is one of what was meant: it stands before what is broken, and nothing that
    /// stands behind that can make it none.
    pub(super) fn vouches_for(&self, fault: &Fault) -> bool {
        match self.broken_line {
            Some(line) => fault.line < line && fault.kind != FaultKind::MissingKey,
            None => true,
        }
    }
}
