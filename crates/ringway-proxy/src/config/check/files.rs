//! Which files a configuration is made of, for whoever waits for one of them to change.
//!
//! Faults do not matter here: what can be read of a broken file names its files, too.

use std::path::Path;

use ringway::tls::CertificateFiles;

use super::document::Document;
use crate::config::include::{self, Fragment};
use crate::config::tree::source::Source;
use crate::config::tree::substitute::Environment;
use crate::config::tree::{Node, Value};
use crate::config::{Files, directory_of, format_of, keys, read};

/// The files that the configuration at `path` is made of now.
pub(in crate::config) fn files(path: &Path, environment: &Environment<'_>) -> Files {
    let base_dir = directory_of(path);
    let mut files = Files::default();
    files.files.insert(std::path::absolute(path).unwrap_or_else(|_| path.to_path_buf()));
    let Some((text, format)) = text_of(path).zip(format_of(path)) else { return files };
    let mut main = Document::parse(Source::new(Some(path), &text), format, base_dir.clone());
    main.substitute(environment, &mut Vec::new());
    collect(&main.root, "", &base_dir, &mut files);
    let mut patterns = Vec::new();
    if let Value::Table(entries) = &main.root.value {
        entries.iter().filter(|entry| entry.key == "include").for_each(|e| texts(&e.value, &mut patterns));
    }
    for pattern in patterns {
        let path = Path::new(&pattern);
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        if include::is_pattern(name) {
            files.directories.insert(base_dir.join(path.parent().unwrap_or(Path::new(""))));
        }
        for found in include::find(&pattern, &base_dir).unwrap_or_default() {
            let path = base_dir.join(&found);
            let is_new = files.files.insert(path.clone());
            let Some(text) = text_of(&path).filter(|_| is_new) else { continue };
            let fragment = Fragment { path: found, text };
            let mut document = Document::of_fragment(&fragment, &path, &base_dir);
            document.substitute(environment, &mut Vec::new());
            collect(&document.root, "", path.parent().unwrap_or(&base_dir), &mut files);
        }
    }
    files
}

fn text_of(path: &Path) -> Option<String> {
    String::from_utf8(read(path).ok()?).ok()
}

/// Takes in the files that keys below `node` name.
fn collect(node: &Node, key: &str, base_dir: &Path, files: &mut Files) {
    match &node.value {
        Value::String(text) if keys::is_file(key) => drop(files.files.insert(base_dir.join(text))),
        Value::String(text) if keys::is_directory(key) => {
            let directory = base_dir.join(text);
            if files.certificates.contains_key(&directory) {
                return;
            }
            files.directories.insert(directory.clone());
            if let Ok(found) = ringway::tls::certificates_in(&directory) {
                // Those of certbot and Kubernetes are in directories of their own.
                files.files.extend(found.iter().flat_map(CertificateFiles::paths).map(Path::to_path_buf));
                files.certificates.insert(directory, found);
            }
        }
        Value::Array(nodes) => nodes.iter().for_each(|node| collect(node, key, base_dir, files)),
        Value::Table(entries) => {
            for entry in entries {
                let key = if key.is_empty() { entry.key.clone() } else { format!("{key}.{}", entry.key) };
                collect(&entry.value, &key, base_dir, files);
            }
        }
        Value::String(_)
        | Value::Integer(_)
        | Value::Float(_)
        | Value::Boolean(_)
        | Value::Other(_)
        | Value::Faulty => {}
    }
}

fn texts(node: &Node, found: &mut Vec<String>) {
    match &node.value {
        Value::String(text) => found.push(text.clone()),
        Value::Array(nodes) => nodes.iter().for_each(|node| texts(node, found)),
        Value::Integer(_)
        | Value::Float(_)
        | Value::Boolean(_)
        | Value::Table(_)
        | Value::Other(_)
        | Value::Faulty => {}
    }
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;

    fn names(files: impl IntoIterator<Item = PathBuf>, base: &Path) -> Vec<String> {
        let relative = |path: PathBuf| path.strip_prefix(base).expect("below").display().to_string();
        files.into_iter().map(relative).collect()
    }

    #[test]
    fn fragments_and_lists_belong_to_a_configuration_and_a_broken_one_names_those_it_can() {
        let directory = tempfile::tempdir().expect("a directory");
        let base = directory.path();
        let write = |name: &str, text: &str| std::fs::write(base.join(name), text).expect("it is written");
        std::fs::create_dir_all(base.join("conf.d/lists")).expect("it is made");
        write(
            "main.toml",
            "include = ['conf.d/*.toml', 'one.yaml']\n[[app]]\nname = 'a'\n[app.limits]\ndeny = ['10.0.0.0/8', { file = '${LIST}' }]\n",
        );
        write(
            "conf.d/b.toml",
            "[[app]]\nname = 'b'\n[app.limits]\nallow = [{ file = 'lists/b' }]\n[app.health]\npath = '/health'\n",
        );
        write("conf.d/c.toml", "[[app]\n");
        let environment = |name: &str| (name == "LIST").then(|| "networks.txt".to_owned());
        let found = files(&base.join("main.toml"), &environment);
        assert_eq!(
            names(found.files, base),
            ["conf.d/b.toml", "conf.d/c.toml", "conf.d/lists/b", "main.toml", "networks.txt", "one.yaml"]
        );
        assert_eq!(names(found.directories, base), ["conf.d"]);

        write("main.toml", "include = 'conf.d/*.toml'\n[[app]\nname = \n");
        let found = files(&base.join("main.toml"), &environment);
        assert_eq!(names(found.directories, base), ["conf.d"], "what stands before the fault");
        let found = files(&base.join("gone.toml"), &environment);
        assert_eq!(names(found.files, base), ["gone.toml"]);
    }
}
