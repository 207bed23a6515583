//! The order of modules inside `ringway-proxy`: a module uses `crate::` paths of lower layers only.

use super::Fault;
use super::files::TextFile;
use super::source::code_of;

const PROXY_SOURCE: &str = "crates/ringway-proxy/src/";

/// Layer of each module, by the longest prefix that fits. Higher may use lower; equals may not use each other.
const LAYERS: &[(&str, u8)] = &[
    ("main", 90),
    ("cli", 80),
    ("control", 70),
    ("demo", 60),
    ("worker", 50),
    ("prober", 50),
    ("inspection", 45),
    ("session", 40),
    ("admission", 18),
    ("routing", 19),
    ("balance", 30),
    ("health", 30),
    ("evening_out", 30),
    ("plan", 27),
    ("snapshot", 25),
    ("endpoint", 20),
    // What is looked up is kept in the sets of endpoints.
    ("balance::table", 15),
    ("config", 20),
    // The queue of log records is a leaf that workers fill; only its writer belongs to the control plane.
    ("control::access_log", 15),
    ("metrics", 10),
    ("model", 0),
];

/// Every use of a module that does not lie below the file's own.
pub(super) fn check(file: &TextFile) -> Vec<Fault> {
    let Some(path) = file.path.strip_prefix(PROXY_SOURCE).and_then(|path| path.strip_suffix(".rs")) else {
        return Vec::new();
    };
    let own = path.trim_end_matches("/mod").replace('/', "::");
    if own == "lib" {
        return Vec::new();
    }
    let Some((own_module, own_layer)) = layer_of(&own) else {
        return vec![Fault::whole(file, "a module without a layer: name it in xtask/src/tidy/layers.rs")];
    };
    let mut faults = Vec::new();
    for (line, used) in crate_paths(file) {
        let Some((module, layer)) = layer_of(&used) else {
            continue;
        };
        let is_own = module == own_module || module.starts_with(&format!("{own_module}::"));
        if !is_own && layer >= own_layer {
            let message = format!("`{own_module}` may not use `{module}`: it does not lie below");
            faults.push(Fault::at(file, line, message));
        }
    }
    faults
}

/// The entry of the longest prefix of `path` that the table knows.
fn layer_of(path: &str) -> Option<(&'static str, u8)> {
    LAYERS
        .iter()
        .filter(|(module, _)| path.strip_prefix(module).is_some_and(|r| r.is_empty() || r.starts_with("::")))
        .max_by_key(|(module, _)| module.len())
        .copied()
}

/// Every path after `crate::`, groups taken apart one level deep, with the line where it starts.
fn crate_paths(file: &TextFile) -> Vec<(usize, String)> {
    let mut code = String::with_capacity(file.text.len());
    for (_, line) in file.lines() {
        code.push_str(&code_of(line));
        code.push('\n');
    }
    let mut paths = Vec::new();
    let mut from = 0;
    while let Some(found) = code[from..].find("crate::") {
        let start = from + found;
        from = start + "crate::".len();
        let before = code[..start].chars().next_back();
        if before.is_some_and(|c| c.is_alphanumeric() || c == '_' || c == '$') {
            continue;
        }
        let line = code[..start].matches('\n').count() + 1;
        paths.extend(leading_paths(&code[from..]).into_iter().map(|path| (line, path)));
    }
    paths
}

/// The paths at the start of `code`: one, or those of a `{…}` group.
fn leading_paths(code: &str) -> Vec<String> {
    let Some(group) = code.strip_prefix('{') else {
        return vec![leading_path(code)];
    };
    let mut paths = Vec::new();
    let (mut depth, mut start) = (0, 0);
    for (index, character) in group.char_indices() {
        match character {
            '{' => depth += 1,
            '}' if depth > 0 => depth -= 1,
            ',' | '}' if depth == 0 => {
                paths.push(leading_path(group[start..index].trim_start()));
                start = index + 1;
                if character == '}' {
                    break;
                }
            }
            _ => {}
        }
    }
    paths
}

fn leading_path(code: &str) -> String {
    let end = code.find(|c: char| !c.is_alphanumeric() && c != '_' && c != ':').unwrap_or(code.len());
    code[..end].trim_end_matches(':').to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn faults_of(module: &str, text: &str) -> Vec<Fault> {
        check(&TextFile { path: format!("{PROXY_SOURCE}{module}.rs"), text: text.into() })
    }

    #[test]
    fn a_module_uses_what_lies_below_it() {
        assert_eq!(faults_of("session/mod", "use crate::balance::Pick;\nuse crate::model::App;\n"), []);
        assert_eq!(faults_of("worker/mod", "use crate::control::access_log::AccessRecord;\n"), []);
    }

    #[test]
    fn a_use_upward_or_sideways_is_a_fault() {
        assert_eq!(faults_of("session/mod", "use crate::worker::Mail;\n").len(), 1);
        assert_eq!(faults_of("balance/mod", "fn f() { crate::health::g() }\n").len(), 1);
        assert_eq!(faults_of("config/mod", "use crate::{model::App, control::{Boot, Exit}};\n").len(), 1);
    }

    #[test]
    fn a_module_may_use_itself_and_its_parts() {
        assert_eq!(faults_of("control/admin", "use crate::control::{access_log, boot};\n"), []);
    }

    #[test]
    fn an_unknown_module_must_be_given_a_layer() {
        assert_eq!(faults_of("brand_new", "").len(), 1);
    }

    #[test]
    fn groups_are_taken_apart() {
        assert_eq!(leading_paths("{a::b, c::{d, e}, f}; x"), ["a::b", "c", "f"]);
        assert_eq!(leading_paths("a::b; x"), ["a::b"]);
    }
}
