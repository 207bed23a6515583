//! The text files of the tree, and the rules that hold for each of them.

use std::fs;
use std::io;
use std::path::Path;

use super::Fault;

/// Directories that hold no source: build output, version control, the fuzzers' finds.
const SKIPPED_DIRECTORIES: &[&str] = &["target", ".git", "corpus", "artifacts", "node_modules"];

/// Past this many lines a file holds two ideas.
const LINES_MAX: usize = 900;

/// A file of the tree, with its path as seen from the root.
#[derive(Debug)]
pub(super) struct TextFile {
    /// With `/` between the parts.
    pub(super) path: String,
    pub(super) text: String,
}

impl TextFile {
    pub(super) fn is_rust(&self) -> bool {
        self.path.ends_with(".rs")
    }

    pub(super) fn is_markdown(&self) -> bool {
        self.path.ends_with(".md")
    }

    /// Lines with their numbers, from 1.
    pub(super) fn lines(&self) -> impl Iterator<Item = (usize, &str)> {
        self.text.lines().enumerate().map(|(index, line)| (index + 1, line))
    }
}

/// Every source, manifest, script and page below `root`, in the order of their names.
pub(super) fn collect(root: &Path) -> io::Result<Vec<TextFile>> {
    let mut files = Vec::new();
    let mut pending = vec![root.to_path_buf()];
    while let Some(directory) = pending.pop() {
        for entry in fs::read_dir(&directory)? {
            let entry = entry?;
            let (path, name) = (entry.path(), entry.file_name());
            let name = name.to_string_lossy();
            if entry.file_type()?.is_dir() {
                if !SKIPPED_DIRECTORIES.contains(&name.as_ref()) {
                    pending.push(path);
                }
            } else if is_checked(&path) {
                let text = fs::read_to_string(&path)?;
                let path = path.strip_prefix(root).unwrap_or(&path).to_string_lossy().replace('\\', "/");
                files.push(TextFile { path, text });
            }
        }
    }
    files.sort_by(|a, b| a.path.cmp(&b.path));
    Ok(files)
}

fn is_checked(path: &Path) -> bool {
    let extension = path.extension().and_then(|extension| extension.to_str());
    matches!(extension, Some("rs" | "md" | "toml" | "sh" | "yml" | "yaml")) || path.ends_with(".ci/run")
}

/// The rules for all text: no tabs, no blanks at the end of a line, one newline at the end, not too long.
pub(super) fn check(file: &TextFile) -> Vec<Fault> {
    let mut faults = Vec::new();
    for (number, line) in file.lines() {
        if line.contains('\t') {
            faults.push(Fault::at(file, number, "a tab: indent with spaces"));
        }
        if line.ends_with([' ', '\t', '\r']) {
            faults.push(Fault::at(file, number, "blanks at the end of the line"));
        }
    }
    if !file.text.is_empty() && !file.text.ends_with('\n') {
        faults.push(Fault::whole(file, "no newline at the end"));
    }
    let count = file.text.lines().count();
    if count > LINES_MAX {
        faults.push(Fault::whole(file, format!("{count} lines: split it, {LINES_MAX} at most")));
    }
    faults
}

#[cfg(test)]
mod tests {
    use super::*;

    fn faults_of(text: &str) -> usize {
        check(&TextFile { path: "a.md".into(), text: text.into() }).len()
    }

    #[test]
    fn blanks_tabs_and_missing_newlines_are_faults() {
        assert_eq!(faults_of("fine\n"), 0);
        assert_eq!(faults_of("blank \n"), 1);
        assert_eq!(faults_of("a\tb\n"), 1);
        assert_eq!(faults_of("no newline"), 1);
    }

    #[test]
    fn a_long_file_is_a_fault() {
        assert_eq!(faults_of(&"x\n".repeat(LINES_MAX)), 0);
        assert_eq!(faults_of(&"x\n".repeat(LINES_MAX + 1)), 1);
    }
}
