//! `include`: which files hold more apps, and what is in them.
//!
//! A pattern has its wildcards in the last part of its path, so that all it can match is in one directory: whoever looks
//! after a process can tell what changes it. Files whose names begin with a dot are what editors leave behind.

use std::io::{Error, ErrorKind, Result};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

/// As many as there can be frontends, and each app needs one.
const FILES_MAX: usize = 1 << 16;

/// A file that the main one includes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Fragment {
    /// Its path, from the directory of the main file unless it begins with `/`.
    pub path: PathBuf,
    /// What is in it.
    pub text: String,
}

/// Where the fragments of a configuration come from.
#[derive(Clone, Copy, Debug)]
pub(super) enum Fragments<'a> {
    /// From the files that `include` names.
    Files,
    /// They were sent along with the main file; `None`: nothing was.
    Sent(Option<&'a [Fragment]>),
}

/// Whether the path stands for all files that match it.
pub(super) fn is_pattern(path: &str) -> bool {
    path.contains(['*', '?'])
}

/// The files that `path` stands for, sorted; as in [`Fragment::path`].
///
/// # Errors
/// The directory cannot be read, or there are too many. That there is no such directory is none: nothing matches.
pub(super) fn find(path: &str, base_dir: &Path) -> Result<Vec<PathBuf>> {
    let path = Path::new(path);
    let (Some(directory), Some(pattern)) = (path.parent(), path.file_name().and_then(|name| name.to_str()))
    else {
        return Ok(vec![path.to_path_buf()]);
    };
    if !is_pattern(pattern) {
        return Ok(vec![path.to_path_buf()]);
    }
    let entries = match std::fs::read_dir(base_dir.join(directory)) {
        Ok(entries) => entries,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    let mut found = Vec::new();
    for entry in entries {
        let entry = entry?;
        let name = entry.file_name();
        let text = name.to_string_lossy();
        // Besides directories, what is no file may be a pipe, which would be waited for.
        if text.starts_with('.') || !matches(pattern, &text) || !is_file(&entry.path()) {
            continue;
        }
        if found.len() == FILES_MAX {
            return Err(Error::other(format!("there are more than {FILES_MAX} files")));
        }
        found.push(directory.join(name));
    }
    found.sort();
    Ok(found)
}

/// Whether it is a file, also by a link. A link to nothing counts: to read it is the fault.
fn is_file(path: &Path) -> bool {
    path.metadata().map_or(true, |metadata| metadata.is_file())
}

/// Whether the name is what the pattern says: `*` is any text, `?` any character.
fn matches(pattern: &str, name: &str) -> bool {
    let (pattern, name): (Vec<char>, Vec<char>) = (pattern.chars().collect(), name.chars().collect());
    let (mut at, mut read) = (0, 0);
    // Behind the last `*`, and where in the name its text ends for now.
    let mut retry: Option<(usize, usize)> = None;
    while read < name.len() {
        match pattern.get(at) {
            Some('*') => {
                at += 1;
                retry = Some((at, read));
            }
            Some(wanted) if *wanted == '?' || *wanted == name[read] => {
                at += 1;
                read += 1;
            }
            _ => {
                let Some((behind, end)) = retry else { return false };
                retry = Some((behind, end + 1));
                (at, read) = (behind, end + 1);
            }
        }
    }
    pattern[at..].iter().all(|rest| *rest == '*')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stars_and_question_marks_stand_for_text_and_characters() {
        for (pattern, name, expected) in [
            ("*.toml", "a.toml", true),
            ("*.toml", ".toml", true),
            ("*.toml", "a.toml.old", false),
            ("*.toml", "a.toml.toml", true),
            ("a*b*c", "axxbxbc", true),
            ("a*b*c", "axxbxb", false),
            ("?.yaml", "ü.yaml", true),
            ("?.yaml", "ab.yaml", false),
            ("**", "", true),
            ("", "a", false),
            ("a", "ab", false),
        ] {
            assert_eq!(matches(pattern, name), expected, "{pattern} {name}");
        }
    }
}
