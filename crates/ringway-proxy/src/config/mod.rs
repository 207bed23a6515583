//! The configuration: from a file, TOML, YAML or JSON, to [`model::Config`](crate::model::Config).
//!
//! Text → `tree` (values that know their place; variables filled in) → `check` (types, ranges, and what does not go
//! together). Every fault is reported at once, as a [`Fault`]; a faulty configuration gives no `Config` at all.

mod check;
mod fault;
mod keys;
mod reference;
mod schema;
mod tree;

use std::path::{Path, PathBuf};
use std::time::Duration;

pub use fault::{ConfigErrors, Fault, FaultKind, render_faults};
pub use reference::write_reference;
pub use schema::schema;

use crate::model::{Config, LogLevel};
use tree::source::Source;

/// The largest file that is read.
const FILE_BYTES_MAX: u64 = 16 << 20;

/// The language of a configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// TOML 1.1.
    Toml,
    /// YAML 1.2.
    Yaml,
    /// JSON, in Ringway's schema or the seed proxy's.
    Json,
}

/// A configuration and the file that it is from.
#[derive(Clone, Debug, PartialEq)]
pub struct Loaded {
    /// What the file says.
    pub config: Config,
    /// The file, as it was named.
    pub path: PathBuf,
    /// Its language.
    pub format: Format,
}

/// Reads and checks a file; the language goes by its extension, variables come from the process's environment.
///
/// # Errors
/// Every fault of the file.
pub fn load(path: &Path) -> Result<Loaded, ConfigErrors> {
    let refuse =
        |kind, message: String| ConfigErrors::new(vec![Source::new(Some(path), "").whole(kind, message)]);
    let Some(format) = format_of(path) else {
        return Err(refuse(
            FaultKind::Unreadable,
            "the language goes by the extension: .toml, .yaml, .yml or .json".to_owned(),
        ));
    };
    let bytes =
        read(path).map_err(|error| refuse(FaultKind::Unreadable, format!("cannot be read: {error}")))?;
    let text = std::str::from_utf8(&bytes).map_err(|error| {
        let at = error.valid_up_to();
        let valid = String::from_utf8_lossy(&bytes[..at]);
        let source = Source::new(Some(path), &valid);
        ConfigErrors::new(vec![source.fault(FaultKind::Syntax, at..at, "", "not UTF-8 from here on")])
    })?;
    let config = load_text(text, format, Some(path), path)?;
    Ok(Loaded { config, path: path.to_path_buf(), format })
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
/// process's environment. `name`: what faults call the text.
///
/// # Errors
/// Every fault of the text.
pub fn load_text(
    text: &str,
    format: Format,
    name: Option<&Path>,
    path: &Path,
) -> Result<Config, ConfigErrors> {
    let base_dir = std::path::absolute(path)
        .ok()
        .and_then(|path| path.parent().map(Path::to_path_buf))
        .unwrap_or_else(|| PathBuf::from("/"));
    let environment = |name: &str| std::env::var(name).ok();
    check::check(&Source::new(name, text), format, &base_dir, &environment)
}

/// Checks a text. Relative paths count from `base_dir`; `environment` looks variables up.
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
/// Every fault of the text.
pub fn parse(
    text: &str,
    format: Format,
    base_dir: &Path,
    environment: &dyn Fn(&str) -> Option<String>,
) -> Result<Config, ConfigErrors> {
    check::check(&Source::new(None, text), format, base_dir, environment)
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

fn read(path: &Path) -> std::io::Result<Vec<u8>> {
    use std::io::{Error, ErrorKind, Read};

    let mut bytes = Vec::new();
    std::fs::File::open(path)?.take(FILE_BYTES_MAX + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > FILE_BYTES_MAX {
        return Err(Error::new(ErrorKind::FileTooLarge, "it has more than 16 MiB"));
    }
    Ok(bytes)
}
