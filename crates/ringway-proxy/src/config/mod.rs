//! The configuration: from a file, TOML, YAML or JSON, to [`model::Config`](crate::model::Config).
//!
//! Text → `tree` (values that know their place; variables filled in) → `check` (types, ranges, and what does not go
//! together). Every fault is reported at once, as a [`Fault`]; a faulty configuration gives no `Config` at all.

mod baseline;
mod check;
mod fault;
mod include;
mod keys;
mod known;
mod reference;
mod schema;
mod tree;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::Duration;

pub use baseline::{Baseline, Outline};
pub use fault::{ConfigErrors, Fault, FaultKind, render_faults};
pub use include::Fragment;
pub use known::{Known, Listings};
pub use reference::write_reference;
pub use schema::schema;
use serde::{Deserialize, Serialize};

use crate::model::{Config, LogLevel};
use check::Context;
use include::Fragments;
use tree::source::Source;

/// The largest file that is read.
const FILE_BYTES_MAX: u64 = 16 << 20;

const UNKNOWN_FORMAT: &str = "the language goes by the extension: .toml, .yaml, .yml or .json";

/// The language of a configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Format {
    /// TOML 1.1.
    Toml,
    /// YAML 1.2.
    Yaml,
    /// JSON, in Ringway's schema or the seed proxy's.
    Json,
}

/// A configuration and the files that it is from.
#[derive(Clone, Debug, PartialEq)]
pub struct Loaded {
    /// What the files say.
    pub config: Config,
    /// The main file, as it was named.
    pub path: PathBuf,
    /// Its language.
    pub format: Format,
    /// Its text.
    pub text: String,
    /// The files that it includes; `None` where it has no `include`.
    pub fragments: Option<Vec<Fragment>>,
    /// Where each app begins in the text, if this can be taken apart.
    starts: Option<Vec<usize>>,
}

/// Reads and checks a file and what it includes; the language goes by the extension, variables come from the process's
/// environment.
///
/// # Errors
/// Every fault of the files.
pub fn load(path: &Path) -> Result<Loaded, ConfigErrors> {
    load_at(path, None, &Known::default())
}

/// As [`load`], and looks at all that the configuration names: certificates that hold no longer at `now` (in seconds since the
/// beginning of 1970) or not yet, or that no client would get, and every key are faults that a start would not stop at.
///
/// # Errors
/// Every fault of the files.
pub fn verify(path: &Path, now: i64) -> Result<Loaded, ConfigErrors> {
    load_at(path, Some(now), &Known::default())
}

fn load_at(path: &Path, verified_at: Option<i64>, known: &Known) -> Result<Loaded, ConfigErrors> {
    let refuse = |message: String| {
        ConfigErrors::new(vec![Source::new(Some(path), "").whole(FaultKind::Unreadable, message)])
    };
    let format = format_of(path).ok_or_else(|| refuse(UNKNOWN_FORMAT.to_owned()))?;
    let bytes = read(path).map_err(|error| refuse(format!("cannot be read: {error}")))?;
    let text = utf8(bytes, path).map_err(|fault| ConfigErrors::new(vec![*fault]))?;
    let source = Source::new(Some(path), &text);
    let context = Context { base_dir: &directory_of(path), environment: &environment, known, verified_at };
    let checked = check::check(source, format, Fragments::Files, &context)?;
    let check::Checked { config, fragments, starts } = checked;
    Ok(Loaded { config, path: path.to_path_buf(), format, text, fragments, starts })
}

/// As [`load`], of a file that was read before: of what did not change since, nothing is read again. `known`: what was read of the
/// files that it names.
///
/// # Errors
/// Every fault of the files.
pub fn load_again(path: &Path, baseline: Option<&Baseline>, known: &Known) -> Result<Loaded, ConfigErrors> {
    let unchanged = baseline.and_then(|baseline| {
        // Whatever is wrong is found, and told of, where all is read.
        let text = String::from_utf8(read(path).ok()?).ok()?;
        let (config, starts) = baseline.read(&text, path, &directory_of(path), &environment)?;
        Some(Loaded {
            config,
            path: path.to_path_buf(),
            format: Format::Toml,
            text,
            fragments: None,
            starts: Some(starts),
        })
    });
    unchanged.map_or_else(|| load_at(path, None, known), Ok)
}

/// The files that a configuration is made of; all paths are absolute.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Files {
    /// Those that it is read from, and those that it names, whether they are there or not.
    pub files: BTreeSet<PathBuf>,
    /// Where more of them may appear.
    pub directories: BTreeSet<PathBuf>,
    /// Of those directories the ones with certificates, and what is in them.
    pub certificates: Listings,
}

/// The files that the configuration at `path` is made of now, as far as they can be read.
pub fn files(path: &Path) -> Files {
    check::files(path, &environment)
}

/// The language of a file, by its extension.
pub fn format_of(path: &Path) -> Option<Format> {
    match path.extension()?.to_str()? {
        "toml" => Some(Format::Toml),
        "json" => Some(Format::Json),
        "yaml" | "yml" => Some(Format::Yaml),
        _ => None,
    }
}

/// Checks a text in the place of the file at `path`: relative paths count from its directory, variables come from the
/// process's environment. `name`: what faults call the text; `fragments`: what it includes, as nothing else is read; `known`:
/// what was read of the files that it names.
///
/// # Errors
/// Every fault of the text and the fragments.
pub fn load_text(
    text: &str,
    format: Format,
    name: Option<&Path>,
    path: &Path,
    fragments: Option<&[Fragment]>,
    known: &Known,
) -> Result<Config, ConfigErrors> {
    let source = Source::new(name, text);
    let context =
        Context { base_dir: &directory_of(path), environment: &environment, known, verified_at: None };
    let checked = check::check(source, format, Fragments::Sent(fragments), &context);
    checked.map(|checked| checked.config)
}

/// Checks a text. Relative paths count from `base_dir`, and what it includes is read there; `environment` looks variables
/// up.
///
/// ```
/// use ringway_proxy::config::{self, Format};
///
/// let text = r#"
///     [[app]]
///     name = "web"
///     listen = [":8080"]
///     backends = ["10.0.0.1:80", "10.0.0.2:80"]
/// "#;
/// let config = config::parse(text, Format::Toml, "/etc/ringway".as_ref(), &|_| None)?;
/// assert_eq!(config.apps[0].backends.len(), 2);
/// # Ok::<(), config::ConfigErrors>(())
/// ```
///
/// # Errors
/// Every fault of the text and of what it includes.
pub fn parse(
    text: &str,
    format: Format,
    base_dir: &Path,
    environment: &dyn Fn(&str) -> Option<String>,
) -> Result<Config, ConfigErrors> {
    let context = Context { base_dir, environment, known: &Known::default(), verified_at: None };
    let checked = check::check(Source::new(None, text), format, Fragments::Files, &context);
    checked.map(|checked| checked.config)
}

/// The embedded demo configuration: one app whose backends `demo-1` and `demo-2` run inside the process.
///
/// Those two are host names that resolve nowhere: the process that starts the demo backends puts their addresses in
/// their place. [`Config::demo`] is set.
pub fn demo() -> Config {
    let config = parse(DEMO, Format::Toml, Path::new("/"), &|_| None);
    Config { demo: true, ..config.expect("the embedded configuration is a constant, and a test reads it") }
}

/// The text of [`demo`], to print.
pub const DEMO: &str = include_str!("demo.toml");

/// The file that is read when none is named: `ringway.toml` or else `config.json` in `directory`, if there is one.
pub fn find(directory: &Path) -> Option<PathBuf> {
    ["ringway.toml", "config.json"].map(|name| directory.join(name)).into_iter().find(|path| path.exists())
}

/// A log level from its name, or from its number 0 to 7 in the seed proxy; `None` for anything else.
///
/// The seed's numbers are debug, info, warn, error, fatal, panic, "no level" and disabled. Ringway has nothing above
/// error: 3 to 6 are all [`LogLevel::Error`], 7 is [`LogLevel::Off`].
pub fn log_level(text: &str) -> Option<LogLevel> {
    check::log_level(text)
}

/// A length of time as a configuration writes it: `"5s"`, `"1m30s"`; `None` for anything else.
pub fn duration(text: &str) -> Option<Duration> {
    check::duration(text)
}

/// The name among `names` that `written` was probably meant to be.
pub fn nearest_name(written: &str, names: &[&str]) -> Option<String> {
    check::nearest(written, names.iter().copied())
}

fn environment(name: &str) -> Option<String> {
    std::env::var(name).ok()
}

/// The directory that relative paths in the file count from.
fn directory_of(path: &Path) -> PathBuf {
    let path = std::path::absolute(path).ok();
    path.and_then(|path| path.parent().map(Path::to_path_buf)).unwrap_or_else(|| PathBuf::from("/"))
}

/// The text that a file is; `name` is what a fault calls it.
fn utf8(bytes: Vec<u8>, name: &Path) -> Result<String, Box<Fault>> {
    String::from_utf8(bytes).map_err(|error| {
        let at = error.utf8_error().valid_up_to();
        let valid = String::from_utf8_lossy(&error.as_bytes()[..at]);
        let source = Source::new(Some(name), &valid);
        Box::new(source.fault(FaultKind::Syntax, at..at, "", "not UTF-8 from here on"))
    })
}

fn read(path: &Path) -> std::io::Result<Vec<u8>> {
    use std::io::{Error, ErrorKind, Read};

    let mut bytes = Vec::new();
    std::fs::File::open(path)?.take(FILE_BYTES_MAX + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > FILE_BYTES_MAX {
        return Err(Error::new(ErrorKind::FileTooLarge, "it has more than 16 MiB"));
    }
    Ok(bytes)
}
