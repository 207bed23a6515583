//! Rules for Rust files: a header, small mains, `unsafe` in the engine only, nothing left undone.

use super::Fault;
use super::files::TextFile;

/// The only crate that may hold `unsafe`.
const UNSAFE_CRATE: &str = "crates/ringway-engine/";

/// A `main.rs` holds what the process is made of and no logic.
const MAIN_LINES_MAX: usize = 99;

/// What marks unfinished work. Split, so that this file does not find itself.
const UNDONE: &[&str] = &[concat!("todo", "!("), concat!("unimplemented", "!("), concat!("FIX", "ME")];

/// All rules for one Rust file.
pub(super) fn check(file: &TextFile) -> Vec<Fault> {
    let mut faults = Vec::new();
    if !file.text.starts_with("//!") {
        faults.push(Fault::at(file, 1, "no `//!` header: say what the file is for"));
    }
    if file.path.ends_with("/main.rs") && file.text.lines().count() > MAIN_LINES_MAX {
        faults.push(Fault::whole(file, "a main.rs stays under 100 lines"));
    }
    for (number, line) in file.lines() {
        if let Some(word) = UNDONE.iter().find(|word| line.contains(**word)) {
            faults.push(Fault::at(file, number, format!("{word} is unfinished work")));
        }
    }
    if !file.path.starts_with(UNSAFE_CRATE) {
        faults.extend(check_safe(file));
    }
    faults
}

fn check_safe(file: &TextFile) -> Vec<Fault> {
    let mut faults = Vec::new();
    let is_root = file.path.ends_with("src/lib.rs") || file.path.ends_with("src/main.rs");
    if is_root && !file.text.contains("#![forbid(unsafe_code)]") {
        faults.push(Fault::whole(file, "no `#![forbid(unsafe_code)]`: only ringway-engine goes without"));
    }
    for (number, line) in file.lines() {
        if has_word(code_of(line), "unsafe") {
            faults.push(Fault::at(file, number, "`unsafe` belongs to ringway-engine"));
        }
    }
    faults
}

/// The line without its comment and without string contents: rough, but enough for a search of words.
pub(super) fn code_of(line: &str) -> String {
    let mut code = String::with_capacity(line.len());
    let mut in_string = false;
    let mut characters = line.chars().peekable();
    while let Some(character) = characters.next() {
        match character {
            '\\' if in_string => {
                characters.next();
            }
            // The character literal '"' opens no string.
            '\'' if !in_string && characters.peek() == Some(&'"') => {
                characters.next();
            }
            '"' => in_string = !in_string,
            '/' if !in_string && characters.peek() == Some(&'/') => break,
            _ if in_string => {}
            _ => code.push(character),
        }
    }
    code
}

fn has_word(code: String, word: &str) -> bool {
    code.split(|c: char| !c.is_alphanumeric() && c != '_').any(|part| part == word)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn faults_of(path: &str, text: &str) -> usize {
        check(&TextFile { path: path.into(), text: text.into() }).len()
    }

    #[test]
    fn a_file_without_a_header_is_a_fault() {
        assert_eq!(faults_of("crates/ringway/src/a.rs", "//! What it is.\n"), 0);
        assert_eq!(faults_of("crates/ringway/src/a.rs", "use std::io;\n"), 1);
    }

    #[test]
    fn unsafe_is_a_fault_outside_the_engine_only() {
        let text = "//! A.\nfn f() { unsafe { g() } }\n";
        assert_eq!(faults_of("crates/ringway/src/a.rs", text), 1);
        assert_eq!(faults_of("crates/ringway-engine/src/a.rs", text), 0);
    }

    #[test]
    fn unsafe_in_comments_and_strings_is_no_fault() {
        let text = "//! A.\n// unsafe\nfn f() { g(\"unsafe\"); h('\"'); } // unsafe\n";
        assert_eq!(faults_of("crates/ringway/src/a.rs", text), 0);
    }

    #[test]
    fn crate_roots_must_forbid_unsafe_code() {
        assert_eq!(faults_of("crates/ringway/src/lib.rs", "//! A.\n#![forbid(unsafe_code)]\n"), 0);
        assert_eq!(faults_of("crates/ringway/src/lib.rs", "//! A.\n"), 1);
    }

    #[test]
    fn unfinished_work_is_a_fault() {
        let text = format!("//! A.\nfn f() {{ {}) }}\n", UNDONE[0]);
        assert_eq!(faults_of("crates/ringway/src/a.rs", &text), 1);
    }

    #[test]
    fn a_long_main_is_a_fault() {
        let text = format!("//! A.\n#![forbid(unsafe_code)]\n{}", "\n".repeat(98));
        assert_eq!(faults_of("crates/x/src/main.rs", &text), 1);
    }
}
