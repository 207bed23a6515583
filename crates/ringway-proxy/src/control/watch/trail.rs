//! Where something has to happen for a path to mean another file: the names to watch, directory by directory.
//!
//! Not only the file itself may be replaced. Each symbolic link on the way to it may be made to lead elsewhere, which is how
//! Kubernetes changes a mounted ConfigMap; and what is not there yet may appear.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::{OsStr, OsString};
use std::fs;
use std::path::{Component, Path, PathBuf};

/// As many as the kernel follows (ELOOP, path_resolution(7)).
const LINKS_MAX: usize = 40;

/// The directories to watch, without links in their paths, and the names in them that matter.
#[derive(Clone, Debug, Default)]
pub(super) struct Places {
    names: BTreeMap<PathBuf, Names>,
    /// The directory of the file that was added last, and where it leads to: the next one may be beside it, as a hundred thousand
    /// certificates are.
    last: Option<(PathBuf, Option<PathBuf>)>,
}

/// Which names in a directory matter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Names {
    All,
    These(BTreeSet<OsString>),
}

impl Names {
    pub(super) fn has(&self, name: &OsStr) -> bool {
        match self {
            Self::All => true,
            Self::These(names) => names.contains(name),
        }
    }

    /// Those of both.
    pub(super) fn and(self, other: Self) -> Self {
        match (self, other) {
            (Self::These(mut names), Self::These(others)) => {
                names.extend(others);
                Self::These(names)
            }
            (Self::All, _) | (_, Self::All) => Self::All,
        }
    }
}

impl Places {
    /// Adds what can make the file at this absolute path another one.
    pub(super) fn add_file(&mut self, path: &Path) {
        let (Some(directory), Some(name)) = (path.parent(), path.file_name()) else {
            return drop(self.follow(path, true));
        };
        let known = self.last.take().filter(|(known, _)| known == directory);
        let (_, leads_to) = known.unwrap_or_else(|| (directory.to_path_buf(), self.follow(directory, false)));
        // If it leads nowhere, what has to happen for it to do so is watched already.
        if let Some(at) = &leads_to {
            match fs::symlink_metadata(at.join(name)) {
                Ok(metadata) if metadata.is_symlink() => drop(self.follow(path, true)),
                Ok(_) | Err(_) => self.add_name(at, name.to_owned()),
            }
        }
        self.last = Some((directory.to_path_buf(), leads_to));
    }

    /// Adds what can change the entries of the directory at this absolute path.
    pub(super) fn add_directory(&mut self, path: &Path) {
        if let Some(directory) = self.follow(path, true) {
            self.names.insert(directory, Names::All);
        }
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (&Path, &Names)> {
        self.names.iter().map(|(path, names)| (path.as_path(), names))
    }

    /// Where the path leads to, if it does. Adds the links on the way, and what is at its end if it `is_watched`.
    fn follow(&mut self, path: &Path, is_watched: bool) -> Option<PathBuf> {
        let mut at = PathBuf::from("/");
        let mut rest = Vec::new();
        push(path, &mut rest);
        let mut links = 0;
        while let Some(name) = rest.pop() {
            if name == ".." {
                at.pop();
                continue;
            }
            let next = at.join(&name);
            let is_link = match fs::symlink_metadata(&next) {
                Ok(metadata) => metadata.is_symlink(),
                Err(_) => {
                    self.add_name(&at, name);
                    return None;
                }
            };
            if is_link {
                links += 1;
                self.add_name(&at, name);
                let target = fs::read_link(&next).ok().filter(|_| links <= LINKS_MAX)?;
                if target.is_absolute() {
                    at = PathBuf::from("/");
                }
                push(&target, &mut rest);
                continue;
            }
            if rest.is_empty() && is_watched {
                self.add_name(&at, name);
            }
            at = next;
        }
        Some(at)
    }

    fn add_name(&mut self, directory: &Path, name: OsString) {
        match self.names.get_mut(directory) {
            Some(Names::All) => {}
            Some(Names::These(names)) => drop(names.insert(name)),
            None => drop(self.names.insert(directory.to_path_buf(), Names::These(BTreeSet::from([name])))),
        }
    }
}

/// Puts the parts of a path on the stack, the first one on top.
fn push(path: &Path, rest: &mut Vec<OsString>) {
    let part = |component| match component {
        Component::Normal(name) => Some(name.to_owned()),
        Component::ParentDir => Some(OsString::from("..")),
        Component::RootDir | Component::CurDir | Component::Prefix(_) => None,
    };
    rest.extend(path.components().rev().filter_map(part));
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    /// `directory: names`, from the temporary directory on.
    fn shown(places: &Places, base: &Path) -> Vec<String> {
        let line = |(path, names): (&Path, &Names)| {
            let path = path.strip_prefix(base).expect("below").display().to_string();
            let names = match names {
                Names::All => "*".to_owned(),
                Names::These(names) => {
                    names.iter().map(|name| name.to_string_lossy()).collect::<Vec<_>>().join(" ")
                }
            };
            format!("{path}: {names}")
        };
        places.iter().map(line).collect()
    }

    fn base() -> (tempfile::TempDir, PathBuf) {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().canonicalize().expect("it is there");
        (directory, path)
    }

    #[test]
    fn each_link_on_the_way_is_watched_and_so_is_the_file() {
        let (_directory, base) = base();
        fs::create_dir_all(base.join("mount/..v1")).expect("it is made");
        fs::write(base.join("mount/..v1/a.toml"), "").expect("it is written");
        symlink("..v1", base.join("mount/..data")).expect("it is made");
        symlink("..data/a.toml", base.join("mount/a.toml")).expect("it is made");
        symlink(base.join("mount"), base.join("etc")).expect("it is made");
        let mut places = Places::default();
        places.add_file(&base.join("etc/a.toml"));
        assert_eq!(shown(&places, &base), [": etc", "mount: ..data a.toml", "mount/..v1: a.toml"]);
    }

    #[test]
    fn what_is_not_there_is_waited_for_where_its_path_ends() {
        let (_directory, base) = base();
        let mut places = Places::default();
        places.add_file(&base.join("a/b/c.toml"));
        assert_eq!(shown(&places, &base), [": a"]);
        fs::create_dir_all(base.join("a/b")).expect("it is made");
        let mut places = Places::default();
        places.add_file(&base.join("a/b/c.toml"));
        places.add_file(&base.join("a/b/../d.toml"));
        assert_eq!(shown(&places, &base), ["a: d.toml", "a/b: c.toml"]);
        places.add_directory(&base.join("a/b"));
        assert_eq!(shown(&places, &base), ["a: b d.toml", "a/b: *"]);
    }

    #[test]
    fn many_files_are_watched_as_each_of_them_alone() {
        let (_directory, base) = base();
        fs::create_dir_all(base.join("a/b")).expect("it is made");
        fs::create_dir_all(base.join("elsewhere")).expect("it is made");
        for name in ["a/1", "a/2", "a/b/1", "elsewhere/1"] {
            fs::write(base.join(name), "").expect("it is written");
        }
        symlink("../elsewhere/1", base.join("a/3")).expect("it is made");
        symlink("../elsewhere/2", base.join("a/4")).expect("it is made");
        symlink("a", base.join("link")).expect("it is made");
        let files = [
            "a/1", "a/2", "a/3", "a/4", "a/5", "link/1", "link/3", "link/b/1", "link/b/2", "none/1",
            "none/2", "a/1/x", "a/1/y", "a/2", "a/b/../1", "a/b/../2", "a/b/..", "loop/1", "loop/2",
        ];
        symlink("loop", base.join("loop")).expect("it is made");
        let mut together = Places::default();
        let mut alone = BTreeMap::new();
        for file in files {
            together.add_file(&base.join(file));
            let mut one = Places::default();
            one.follow(&base.join(file), true);
            for (directory, names) in one.names {
                let before: Option<Names> = alone.remove(&directory);
                alone.insert(directory, before.map_or(names.clone(), |before| before.and(names)));
            }
        }
        let alone = Places { names: alone, last: None };
        assert_eq!(shown(&together, &base), shown(&alone, &base));
    }

    #[test]
    fn links_that_lead_to_themselves_end() {
        let (_directory, base) = base();
        symlink("b", base.join("a")).expect("it is made");
        symlink("a", base.join("b")).expect("it is made");
        let mut places = Places::default();
        places.add_file(&base.join("a"));
        assert_eq!(shown(&places, &base), [": a b"]);
    }
}
