//! Every configuration that the documentation shows is a good one.

use std::path::{Path, PathBuf};

use ringway_proxy::config;

fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

#[test]
fn every_example_file_is_a_good_configuration() {
    let mut names = Vec::new();
    for entry in std::fs::read_dir(repository().join("examples/configs")).unwrap() {
        let path = entry.unwrap().path();
        if let Err(errors) = config::load(&path) {
            panic!("{}", config::render_faults(&errors));
        }
        names.push(path.file_name().unwrap().to_string_lossy().into_owned());
    }
    for name in ["full.toml", "minimal.toml", "postgres.toml", "redis.toml", "seed.json"] {
        assert!(names.iter().any(|found| found == name), "{name} is gone");
    }
}
