//! Which program an upgrade starts, and how: what the process itself was started by, looked up anew.
//!
//! Not `/proc/self/exe`: that is the file that runs, wherever it was moved to, and the one thing that an upgrade is not
//! about. A name without a slash was found on the PATH by whoever started the process, and is found there again.

use std::ffi::{OsStr, OsString};
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

/// How this process was started.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::control) struct Invocation {
    /// The program, as an absolute path; links in it are not followed yet.
    pub(in crate::control) program: PathBuf,
    /// Its arguments, without its own name.
    pub(in crate::control) arguments: Vec<OsString>,
}

impl Invocation {
    /// Of this process, as long as it is in the directory that it was started in.
    pub(in crate::control) fn of_this_process() -> Self {
        let mut arguments = std::env::args_os();
        let name = arguments.next().unwrap_or_else(|| "ringway".into());
        let program = absolute(&name, std::env::var_os("PATH").as_deref());
        Self { program, arguments: arguments.collect() }
    }
}

/// Where `name` leads: itself if it has a slash, else the first executable file of that name on the search path.
fn absolute(name: &OsStr, search: Option<&OsStr>) -> PathBuf {
    let path = Path::new(name);
    let has_slash = name.as_encoded_bytes().contains(&b'/');
    let found = match search.filter(|_| !has_slash) {
        Some(search) => std::env::split_paths(search)
            .map(|directory| directory.join(path))
            .find(|candidate| why_not_executable(candidate).is_none()),
        None => None,
    };
    let found = found.unwrap_or_else(|| path.to_path_buf());
    std::path::absolute(&found).unwrap_or(found)
}

/// Why the file cannot be started, in words; none if it may be.
pub(in crate::control) fn why_not_executable(path: &Path) -> Option<String> {
    match path.metadata() {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Some("there is no such file".to_owned()),
        Err(error) => Some(error.to_string()),
        Ok(metadata) if !metadata.is_file() => Some("it is no file".to_owned()),
        // Whether this user may is for the kernel to say.
        Ok(metadata) if metadata.permissions().mode() & 0o111 == 0 => Some("it is not executable".to_owned()),
        Ok(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bare_name_is_found_as_the_shell_finds_it() {
        let directory = tempfile::tempdir().expect("a directory");
        let (first, second) = (directory.path().join("a"), directory.path().join("b"));
        for path in [&first, &second] {
            std::fs::create_dir(path).expect("it is new");
            std::fs::write(path.join("ringway"), "").expect("it can be written");
        }
        let search = std::env::join_paths([&first, &second]).expect("paths without colons");
        let executable = std::fs::Permissions::from_mode(0o755);
        std::fs::set_permissions(second.join("ringway"), executable).expect("it is ours");
        let found = absolute(OsStr::new("ringway"), Some(&search));
        assert_eq!(found, second.join("ringway"), "the first one is not executable");
        let named = first.join("ringway");
        assert_eq!(absolute(named.as_os_str(), Some(&search)), named, "what is named is not searched for");
        assert!(absolute(OsStr::new("./ringway"), Some(&search)).is_absolute());
    }

    #[test]
    fn what_cannot_be_started_is_told_in_words() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("ringway");
        assert_eq!(why_not_executable(&path).as_deref(), Some("there is no such file"));
        assert_eq!(why_not_executable(directory.path()).as_deref(), Some("it is no file"));
        std::fs::write(&path, "").expect("it can be written");
        assert_eq!(why_not_executable(&path).as_deref(), Some("it is not executable"));
    }
}
