//! The key `include` of the main file, and the files that it names.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use super::fields::{Checker, Item};
use crate::config::include::{self, Fragment, Fragments};
use crate::config::tree::Value;

/// All fragments together.
const BYTES_MAX: usize = 64 << 20;

const EXPECTED: &str = "the path of a file, or of several as \"conf.d/*.toml\", or an array of those";

/// The fragments, in the order of their paths.
pub(super) fn fragments(item: &Item<'_>, from: Fragments<'_>, checker: &mut Checker<'_>) -> Vec<Fragment> {
    let elements = match &item.node.value {
        Value::Array(_) => checker.array(item, EXPECTED, None),
        _ => vec![item.clone()],
    };
    let mut found = Found { paths: BTreeSet::new(), fragments: Vec::new(), bytes_left: BYTES_MAX };
    for element in elements {
        let Some(path) = checker.text(&element, EXPECTED) else { continue };
        let directory = Path::new(&path).parent().and_then(Path::to_str);
        if path.is_empty() || directory.is_some_and(include::is_pattern) {
            checker
                .wrong(&element, "a path with \"*\" and \"?\" in its last part only, as \"conf.d/*.toml\"");
            continue;
        }
        match from {
            Fragments::Files => read(&path, &element, &mut found, checker),
            Fragments::Sent(Some(_)) => {}
            Fragments::Sent(None) => {
                let message = "a configuration that is sent includes no files";
                let hint = "put its apps in it, or change the files and have them read by a reload";
                checker.conflict(item, message, Some(hint));
                return Vec::new();
            }
        }
    }
    let mut fragments = match from {
        Fragments::Sent(Some(sent)) => sent.to_vec(),
        Fragments::Files | Fragments::Sent(None) => found.fragments,
    };
    fragments.sort_by(|first, second| first.path.cmp(&second.path));
    fragments
}

/// What has been read so far.
struct Found {
    paths: BTreeSet<PathBuf>,
    fragments: Vec<Fragment>,
    bytes_left: usize,
}

/// Reads the files that `path` stands for, those that have been read already aside.
fn read(path: &str, item: &Item<'_>, found: &mut Found, checker: &mut Checker<'_>) {
    let base_dir = checker.directory_to_read();
    let paths = match include::find(path, base_dir) {
        Ok(paths) => paths,
        Err(error) => return checker.unreadable(item, format!("{path} cannot be searched: {error}")),
    };
    for path in paths {
        if !found.paths.insert(path.clone()) {
            continue;
        }
        let own_name = checker.source.file().and_then(Path::file_name);
        if own_name.is_some_and(|name| base_dir.join(name) == base_dir.join(&path)) {
            checker.conflict(
                item,
                "this is the file itself",
                Some("keep fragments in a directory of their own"),
            );
            continue;
        }
        let bytes = match crate::config::read(&base_dir.join(&path)) {
            Ok(bytes) => bytes,
            Err(error) => {
                checker.unreadable(item, format!("{} cannot be read: {error}", path.display()));
                continue;
            }
        };
        let Some(left) = found.bytes_left.checked_sub(bytes.len()) else {
            return checker.unreadable(item, "the files together have more than 64 MiB".to_owned());
        };
        found.bytes_left = left;
        match crate::config::utf8(bytes, &checker.source.beside(&path)) {
            Ok(text) => found.fragments.push(Fragment { path, text }),
            Err(fault) => checker.faults.push(*fault),
        }
    }
}
