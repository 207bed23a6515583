//! Faults of a configuration: where, which key, what was found, what was expected, and the nearest valid name.
//!
//! A fault is data; its `Display` is one line in the manner of a compiler, and [`render_faults`] adds the line of
//! the file that it is about.

use std::fmt;
use std::path::PathBuf;

/// Why a configuration is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FaultKind {
    /// The file cannot be read.
    Unreadable,
    /// The text is not in the language that it should be in.
    Syntax,
    /// A key is given twice.
    DuplicateKey,
    /// No such key.
    UnknownKey,
    /// A key or a value of the plan that this version does not have.
    NotSupportedYet,
    /// A key that must be there is not.
    MissingKey,
    /// A value of the wrong type, form or range.
    WrongValue,
    /// A value that is right by itself and does not go with another one.
    Conflict,
    /// `${VAR}` with nothing in the environment, or a malformed one.
    Variable,
}

/// One fault.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// The file; `None` for text that came from elsewhere.
    pub file: Option<PathBuf>,
    /// Line, from 1; 0 where the fault is about the file as a whole.
    pub line: usize,
    /// Column in characters, from 1.
    pub column: usize,
    /// The key path, as `app[2].timeouts.idle`; empty where there is none.
    pub key: String,
    /// What sort of fault it is.
    pub kind: FaultKind,
    /// The value found, as it is written.
    pub found: Option<String>,
    /// What would be right there; for faults without `found`, what is wrong.
    pub expected: String,
    /// The valid name that is nearest to what was written.
    pub nearest: Option<String>,
    /// What to do about it, where that is not obvious.
    pub hint: Option<String>,
    /// The line of the file and the number of characters that the fault covers.
    pub(super) excerpt: Option<(String, usize)>,
}

impl Fault {
    fn problem(&self) -> String {
        let expected = &self.expected;
        match (self.kind, &self.found) {
            (FaultKind::UnknownKey, _) => "unknown key".to_owned(),
            (FaultKind::DuplicateKey, _) => "this key is given twice".to_owned(),
            (FaultKind::NotSupportedYet, None) if expected.is_empty() => "not supported yet".to_owned(),
            (FaultKind::NotSupportedYet, None) => expected.clone(),
            (FaultKind::NotSupportedYet, Some(found)) => format!("{found} is not supported yet"),
            (FaultKind::MissingKey, _) => format!("missing; expected {expected}"),
            (FaultKind::WrongValue, Some(found)) => format!("found {found}, expected {expected}"),
            (FaultKind::WrongValue, None)
            | (FaultKind::Unreadable | FaultKind::Syntax | FaultKind::Conflict | FaultKind::Variable, _) => {
                expected.clone()
            }
        }
    }

    fn write_place(&self, f: &mut impl fmt::Write) -> fmt::Result {
        if let Some(file) = &self.file {
            write!(f, "{}:", file.display())?;
        }
        if self.line > 0 {
            write!(f, "{}:{}:", self.line, self.column)?;
        }
        if self.file.is_some() || self.line > 0 {
            f.write_char(' ')?;
        }
        Ok(())
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.write_place(f)?;
        if !self.key.is_empty() {
            write!(f, "{}: ", self.key)?;
        }
        f.write_str(&self.problem())?;
        if let Some(nearest) = &self.nearest {
            write!(f, "; did you mean \"{nearest}\"?")?;
        }
        if let Some(hint) = &self.hint {
            write!(f, "; {hint}")?;
        }
        Ok(())
    }
}

/// Every fault of a configuration, file by file, in the order of the file; never empty.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigErrors {
    faults: Vec<Fault>,
}

impl ConfigErrors {
    /// `faults` are those of one file after the other.
    ///
    /// # Panics
    /// When there is no fault.
    pub(super) fn new(mut faults: Vec<Fault>) -> Self {
        assert!(!faults.is_empty(), "a configuration is refused for a reason");
        for of_a_file in faults.chunk_by_mut(|first, second| first.file == second.file) {
            of_a_file.sort_by_key(|fault| (fault.line, fault.column));
        }
        faults.dedup();
        Self { faults }
    }

    /// The faults, at least one.
    pub fn faults(&self) -> &[Fault] {
        &self.faults
    }
}

impl fmt::Display for ConfigErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, fault) in self.faults.iter().enumerate() {
            if index > 0 {
                f.write_str("\n")?;
            }
            fault.fmt(f)?;
        }
        Ok(())
    }
}

impl std::error::Error for ConfigErrors {}

/// The faults as text for a terminal: each with the line of the file it is about, then a line that sums up.
pub fn render_faults(errors: &ConfigErrors) -> String {
    use fmt::Write;

    let mut text = String::new();
    for fault in &errors.faults {
        // Writing to a String cannot fail.
        let _ = writeln!(text, "{fault}");
        if let Some((line, width)) = &fault.excerpt {
            let number = fault.line.to_string();
            let gutter = " ".repeat(number.len());
            let before: String =
                line.chars().take(fault.column - 1).map(|c| if c == '\t' { '\t' } else { ' ' }).collect();
            let _ = writeln!(text, " {number} | {line}\n {gutter} | {before}{}", "^".repeat((*width).max(1)));
        }
    }
    let count = errors.faults.len();
    let _ = writeln!(text, "{count} {}, nothing was changed", if count == 1 { "fault" } else { "faults" });
    text
}
