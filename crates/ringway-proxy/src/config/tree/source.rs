//! The text of a configuration, and where in it a byte stands.

use std::ops::Range;
use std::path::{Path, PathBuf};

use crate::config::fault::{Fault, FaultKind};

/// Text with its name and the starts of its lines.
pub(in crate::config) struct Source<'a> {
    file: Option<&'a Path>,
    text: &'a str,
    line_starts: Vec<usize>,
}

impl<'a> Source<'a> {
    /// A byte order mark is no part of the text.
    pub(in crate::config) fn new(file: Option<&'a Path>, text: &'a str) -> Self {
        let text = text.strip_prefix('\u{feff}').unwrap_or(text);
        let starts = text.bytes().enumerate().filter(|(_, byte)| *byte == b'\n').map(|(at, _)| at + 1);
        Self { file, text, line_starts: std::iter::once(0).chain(starts).collect() }
    }

    /// What faults call the file; `None` for text that came from elsewhere.
    pub(in crate::config) fn file(&self) -> Option<&'a Path> {
        self.file
    }

    /// What faults call another file, by its path from the directory of this one.
    pub(in crate::config) fn beside(&self, path: &Path) -> PathBuf {
        self.file.and_then(Path::parent).unwrap_or(Path::new("")).join(path)
    }

    pub(in crate::config) fn text(&self) -> &'a str {
        self.text
    }

    /// A fault at `span`, to which the caller adds what it knows.
    pub(in crate::config) fn fault(
        &self,
        kind: FaultKind,
        span: Range<usize>,
        key: &str,
        expected: impl Into<String>,
    ) -> Fault {
        let start = self.text.floor_char_boundary(span.start.min(self.text.len()));
        let line = self.line(start);
        let text = self.line_text(line);
        let column = self.text[self.line_starts[line - 1]..start].chars().count() + 1;
        let end = self.text.floor_char_boundary(span.end.clamp(start, self.text.len()));
        let width = self.text[start..end].lines().next().unwrap_or("").chars().count();
        Fault {
            file: self.file.map(PathBuf::from),
            line,
            column,
            key: key.to_owned(),
            kind,
            found: None,
            expected: expected.into(),
            nearest: None,
            hint: None,
            excerpt: is_showable(text).then(|| (text.to_owned(), width)),
        }
    }

    /// A fault about the file as a whole.
    pub(in crate::config) fn whole(&self, kind: FaultKind, message: String) -> Fault {
        let fault = self.fault(kind, 0..0, "", message);
        Fault { line: 0, column: 0, excerpt: None, ..fault }
    }

    /// The number of the line, from 1, in which a byte stands.
    pub(in crate::config) fn line(&self, offset: usize) -> usize {
        self.line_starts.partition_point(|start| *start <= offset)
    }

    fn line_text(&self, line: usize) -> &'a str {
        let end = self.line_starts.get(line).copied().unwrap_or(self.text.len());
        self.text[self.line_starts[line - 1]..end].trim_end_matches(['\n', '\r'])
    }
}

/// Whether a line can be shown on a terminal as it is: short, and without control sequences.
fn is_showable(line: &str) -> bool {
    const BYTES_MAX: usize = 200;
    !line.is_empty() && line.len() <= BYTES_MAX && line.chars().all(|c| c == '\t' || !c.is_control())
}
