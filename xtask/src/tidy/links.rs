//! Relative links in Markdown lead somewhere: to a file that exists and, with `#…`, to a heading in it.

use std::fs;
use std::path::Path;

use super::Fault;
use super::files::TextFile;

/// Every relative link of the page that leads nowhere.
pub(super) fn check(file: &TextFile, root: &Path) -> Vec<Fault> {
    let mut faults = Vec::new();
    for (line, target) in links(&file.text) {
        if target.contains("://") || target.starts_with("mailto:") {
            continue;
        }
        let (page, anchor) = target.split_once('#').unwrap_or((target, ""));
        let full = root.join(&file.path);
        let full = if page.is_empty() { full } else { full.with_file_name("").join(page) };
        if !full.exists() {
            faults.push(Fault::at(file, line, format!("`{target}` does not exist")));
        } else if !anchor.is_empty() && page_lacks(&full, anchor) {
            faults.push(Fault::at(file, line, format!("`{target}`: no such heading")));
        }
    }
    faults
}

fn page_lacks(page: &Path, anchor: &str) -> bool {
    page.extension().is_some_and(|extension| extension == "md")
        && !fs::read_to_string(page).is_ok_and(|text| text_lines(&text).any(|(_, l)| is_heading(l, anchor)))
}

fn is_heading(line: &str, anchor: &str) -> bool {
    line.starts_with('#') && slug(line.trim_start_matches('#').trim()) == anchor
}

/// The anchor that a heading gets: lower case, blanks to hyphens, other marks dropped.
fn slug(heading: &str) -> String {
    heading
        .to_lowercase()
        .chars()
        .filter_map(|c| match c {
            ' ' => Some('-'),
            c if c.is_alphanumeric() || c == '-' || c == '_' => Some(c),
            _ => None,
        })
        .collect()
}

/// Lines outside fenced code, with their numbers.
fn text_lines(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let mut in_fence = false;
    text.lines().enumerate().filter_map(move |(index, line)| {
        let is_fence = line.trim_start().starts_with("```");
        in_fence ^= is_fence;
        (!in_fence && !is_fence).then_some((index + 1, line))
    })
}

/// The targets of all inline links, with their lines.
fn links(text: &str) -> Vec<(usize, &str)> {
    let mut found = Vec::new();
    for (number, line) in text_lines(text) {
        for part in line.split("](").skip(1) {
            if let Some((target, _)) = part.split_once(')') {
                found.push((number, target));
            }
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_in_fences_are_not_links() {
        let text = "[a](b.md) and [c](d.md#e)\n```\n[f](g.md)\n```\n[h](i)\n";
        assert_eq!(links(text), [(1, "b.md"), (1, "d.md#e"), (5, "i")]);
    }

    #[test]
    fn headings_become_anchors() {
        assert_eq!(slug("The life of a connection"), "the-life-of-a-connection");
        assert_eq!(slug("`ringway run`: it starts"), "ringway-run-it-starts");
    }

    #[test]
    fn a_link_to_nowhere_is_a_fault() {
        let file =
            TextFile { path: "xtask/page.md".into(), text: "[a](Cargo.toml) [b](missing.md)\n".into() };
        assert_eq!(check(&file, &super::super::workspace_root()).len(), 1);
    }
}
