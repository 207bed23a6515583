//! `cargo xtask tidy`: the rules of the workspace that the compiler does not hold.
//!
//! Every rule reports all its faults, so that one run shows everything there is to mend. The same check is a
//! test, so that `cargo test --workspace` cannot pass on an untidy tree.

mod edges;
mod files;
mod layers;
mod links;
mod source;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use files::TextFile;

/// One breach of a rule: where, and what is expected instead.
#[derive(Debug, PartialEq, Eq)]
struct Fault {
    /// File, or package, and the line where there is one.
    place: String,
    /// What is wrong and what to do.
    message: String,
}

impl Fault {
    fn at(file: &TextFile, line: usize, message: impl Into<String>) -> Self {
        Self { place: format!("{}:{line}", file.path), message: message.into() }
    }

    fn whole(file: &TextFile, message: impl Into<String>) -> Self {
        Self { place: file.path.clone(), message: message.into() }
    }
}

/// Checks the workspace and prints every fault; the exit code says whether there was one.
pub(crate) fn run() -> ExitCode {
    let faults = check(&workspace_root());
    for fault in &faults {
        eprintln!("{}: {}", fault.place, fault.message);
    }
    if faults.is_empty() {
        println!("tidy");
        return ExitCode::SUCCESS;
    }
    eprintln!("{} faults", faults.len());
    ExitCode::FAILURE
}

/// The directory of the virtual manifest.
pub(crate) fn workspace_root() -> PathBuf {
    let manifest = Path::new(env!("CARGO_MANIFEST_DIR"));
    manifest.parent().unwrap_or(manifest).to_path_buf()
}

fn check(root: &Path) -> Vec<Fault> {
    let mut faults = Vec::new();
    match edges::workspace_edges(root) {
        Ok(found) => faults.extend(edges::check(&found)),
        Err(reason) => faults.push(Fault { place: "cargo metadata".into(), message: reason }),
    }
    let files = match files::collect(root) {
        Ok(files) => files,
        Err(error) => {
            faults.push(Fault { place: root.display().to_string(), message: error.to_string() });
            return faults;
        }
    };
    for file in &files {
        faults.extend(files::check(file));
        if file.is_rust() {
            faults.extend(source::check(file));
            faults.extend(layers::check(file));
        }
        if file.is_markdown() {
            faults.extend(links::check(file, root));
        }
    }
    faults
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_workspace_is_tidy() {
        let faults = check(&workspace_root());
        let lines: Vec<String> = faults.iter().map(|f| format!("{}: {}", f.place, f.message)).collect();
        assert!(lines.is_empty(), "\n{}", lines.join("\n"));
    }
}
