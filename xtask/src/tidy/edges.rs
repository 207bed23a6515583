//! Which crate may import which: read from `cargo metadata`, held against one table.

use std::path::Path;
use std::process::Command;

use serde::Deserialize;

use super::Fault;

/// Imports run strictly downward. A crate that is not named here may import nothing of the workspace.
const ALLOWED: &[(&str, &[&str])] = &[
    ("ringway", &["ringway-engine", "ringway-proto"]),
    ("ringway-proxy", &["ringway", "ringway-proto", "loadgen"]),
    ("loadgen", &["ringway"]),
    ("simulator", &["ringway-proxy", "ringway"]),
    ("xtask", &["loadgen"]),
];

/// Tests of any crate may import this one, and nothing else may.
const TESTS_ONLY: &str = "testkit";

/// One dependency inside the workspace.
#[derive(Debug)]
pub(super) struct Edge {
    from: String,
    to: String,
    /// A dev-dependency.
    is_dev: bool,
}

#[derive(Deserialize)]
struct Metadata {
    packages: Vec<Package>,
}

#[derive(Deserialize)]
struct Package {
    name: String,
    dependencies: Vec<Dependency>,
}

#[derive(Deserialize)]
struct Dependency {
    name: String,
    kind: Option<String>,
    /// Present for dependencies by path, which are those of the workspace.
    path: Option<String>,
}

/// All dependencies between packages of the workspace.
pub(super) fn workspace_edges(root: &Path) -> Result<Vec<Edge>, String> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let output = Command::new(cargo)
        .args(["metadata", "--no-deps", "--format-version", "1"])
        .current_dir(root)
        .output()
        .map_err(|error| error.to_string())?;
    if !output.status.success() {
        return Err(String::from_utf8_lossy(&output.stderr).into_owned());
    }
    let metadata: Metadata = serde_json::from_slice(&output.stdout).map_err(|error| error.to_string())?;
    Ok(edges_of(metadata))
}

fn edges_of(metadata: Metadata) -> Vec<Edge> {
    let mut edges = Vec::new();
    for package in metadata.packages {
        for dependency in package.dependencies.into_iter().filter(|dependency| dependency.path.is_some()) {
            edges.push(Edge {
                from: package.name.clone(),
                to: dependency.name,
                is_dev: dependency.kind.as_deref() == Some("dev"),
            });
        }
    }
    edges
}

/// Every edge that the table does not know.
pub(super) fn check(edges: &[Edge]) -> Vec<Fault> {
    edges.iter().filter(|edge| !is_allowed(edge)).map(fault).collect()
}

fn is_allowed(edge: &Edge) -> bool {
    if edge.to == TESTS_ONLY {
        return edge.is_dev;
    }
    ALLOWED.iter().any(|(from, to)| *from == edge.from && to.contains(&edge.to.as_str()))
}

fn fault(edge: &Edge) -> Fault {
    let message = if edge.to == TESTS_ONLY {
        format!("{TESTS_ONLY} may only be a dev-dependency")
    } else {
        format!("may not import {}: imports run downward only", edge.to)
    };
    Fault { place: edge.from.clone(), message }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn edge(from: &str, to: &str, is_dev: bool) -> Edge {
        Edge { from: from.into(), to: to.into(), is_dev }
    }

    #[test]
    fn downward_edges_pass() {
        let edges = [
            edge("ringway-proxy", "ringway", false),
            edge("ringway", "ringway-engine", false),
            edge("ringway-engine", "testkit", true),
        ];
        assert_eq!(check(&edges), []);
    }

    #[test]
    fn upward_and_sideways_edges_are_faults() {
        let edges = [
            edge("ringway-engine", "ringway", false),
            edge("ringway-engine", "ringway-proto", false),
            edge("ringway-proxy", "testkit", false),
            edge("testkit", "ringway", false),
        ];
        assert_eq!(check(&edges).len(), edges.len());
    }

    #[test]
    fn only_dependencies_by_path_count() {
        let text = r#"{"packages":[{"name":"a","dependencies":[
            {"name":"libc","kind":null,"path":null},
            {"name":"testkit","kind":"dev","path":"/x/testkit"}]}]}"#;
        let edges = edges_of(serde_json::from_str(text).expect("the sample is JSON"));
        assert_eq!(edges.len(), 1);
        assert!(edges[0].is_dev && edges[0].to == "testkit");
    }
}
