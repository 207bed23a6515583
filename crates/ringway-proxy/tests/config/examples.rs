//! Every configuration that the documentation shows is a good one.

use std::path::{Path, PathBuf};

use ringway_proxy::config::{self, Format};

fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

#[test]
fn every_example_file_is_a_good_configuration() {
    let mut names = Vec::new();
    for entry in std::fs::read_dir(repository().join("examples/configs")).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() || path.extension().is_some_and(|extension| extension == "txt") {
            // Read by others.
            continue;
        }
        if let Err(errors) = config::load(&path) {
            panic!("{}", config::render_faults(&errors));
        }
        names.push(path.file_name().unwrap().to_string_lossy().into_owned());
    }
    let expected = [
        "edge.toml",
        "fragments.toml",
        "full.toml",
        "gateway.yaml",
        "minimal.toml",
        "postgres.toml",
        "redis.toml",
        "seed.json",
        "termination.toml",
    ];
    for name in expected {
        assert!(names.iter().any(|found| found == name), "{name} is gone");
    }
}

/// Whole configurations in the pages: fenced blocks that have an app.
#[test]
fn every_configuration_in_the_documentation_is_a_good_one() {
    let mut blocks = 0;
    let mut directories = vec![repository().join("docs")];
    let mut pages = vec![repository().join("README.md")];
    while let Some(directory) = directories.pop() {
        for entry in std::fs::read_dir(directory).into_iter().flatten() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                directories.push(path);
            } else if path.extension().is_some_and(|extension| extension == "md") {
                pages.push(path);
            }
        }
    }
    for page in pages {
        let Ok(text) = std::fs::read_to_string(&page) else { continue };
        for block in text.split("\n```").collect::<Vec<_>>().chunks(2).filter_map(|chunk| chunk.get(1)) {
            let (language, content) = block.split_once('\n').unwrap_or((block, ""));
            let format = match language {
                "toml" if content.contains("[[app]]") => Format::Toml,
                "yaml" if content.contains("\napp:") || content.starts_with("app:") => Format::Yaml,
                "json" if content.contains("\"Apps\"") || content.contains("\"app\"") => Format::Json,
                _ => continue,
            };
            blocks += 1;
            if let Err(errors) =
                config::parse(content, format, &repository().join("examples/configs"), &|_| None)
            {
                panic!("{}:\n{content}\n{}", page.display(), config::render_faults(&errors));
            }
        }
    }
    assert!(blocks > 0, "no page shows a configuration");
}
