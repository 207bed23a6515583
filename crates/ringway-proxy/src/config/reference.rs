//! The tables of `docs/reference/configuration.md`, written from the table of keys into the page.
//!
//! The page's own text stays as it is: a table stands between `<!-- keys of app.health -->` and `<!-- end of keys -->`.

use std::fmt::Write;

use super::keys::{self, Default, Key, Kind};

const START: &str = "<!-- keys of ";
const END: &str = "<!-- end of keys -->";
/// Stands for a table's name where the keys of the file's top are listed.
const TOP: &str = "the file";
/// Stands for a table's name where the words of the plan are listed.
const LATER: &str = "later";

/// `page` with all its tables written anew.
///
/// # Errors
/// A table that the page lacks, a name that is no table's, or a start without an end.
pub fn write_reference(page: &str) -> Result<String, String> {
    let mut written = String::with_capacity(page.len());
    let mut names = Vec::new();
    let mut rest = page;
    while let Some((before, from)) = rest.split_once(START) {
        let (name, from) = from.split_once(" -->").ok_or_else(|| format!("`{START}` without its end"))?;
        let (_, after) = from.split_once(END).ok_or_else(|| format!("the keys of {name} have no `{END}`"))?;
        let table = match name {
            LATER => later(),
            TOP => table_of("")?,
            _ => table(name)?,
        };
        // Writing to a string cannot fail.
        let _ = write!(written, "{before}{START}{name} -->\n{table}{END}");
        names.push(name);
        rest = after;
    }
    written.push_str(rest);
    let needed = keys::all().chain(keys::of_the_seed()).map(Key::parent);
    let needed = needed.map(|name| if name.is_empty() { TOP } else { name });
    match needed.chain([LATER]).find(|name| !names.contains(name)) {
        Some(name) => Err(format!("the page has no `{START}{name} -->`")),
        None => Ok(written),
    }
}

fn table(name: &str) -> Result<String, String> {
    let seed: Vec<&Key> = keys::children(keys::of_the_seed(), name).collect();
    if !seed.is_empty() {
        let rows = seed.iter().map(|key| format!("| `{}` | {} |\n", key.name(), key.help));
        return Ok(format!("| Key | Means |\n|---|---|\n{}", rows.collect::<String>()));
    }
    table_of(name)
}

fn table_of(name: &str) -> Result<String, String> {
    let mut text = "| Key | Type | Default | Meaning |\n|---|---|---|---|\n".to_owned();
    let mut keys = keys::children(keys::all(), name).peekable();
    if keys.peek().is_none() {
        return Err(format!("{name} is no table of the configuration"));
    }
    for key in keys {
        let default = match key.default {
            Default::Required => "must be given".to_owned(),
            Default::OneOf(keys) => {
                let keys: Vec<String> = keys.iter().map(|key| format!("`{key}`")).collect();
                format!("{} must be given", keys.join(" or "))
            }
            Default::Value(json) => format!("`{}`", toml_of(json)),
            Default::Words(words) => words.to_owned(),
        };
        let kind = words_of(&key.kind);
        let _ = writeln!(text, "| `{}` | {kind} | {default} | {} |", key.name(), key.help);
    }
    for key in keys::of_routes().filter(|_| name == "app.route") {
        let kind = words_of(&key.kind);
        let default = if key.name() == "backends" { "must be given" } else { "that of the app" };
        let _ = writeln!(text, "| `{}` | {kind} | {default} | As of an app. |", key.name());
    }
    Ok(text)
}

/// A default in TOML, which writes all but tables as JSON does.
fn toml_of(json: &str) -> String {
    if json.starts_with('{') {
        json.replace("\": ", " = ").replace("{ \"", "{ ").replace(", \"", ", ")
    } else {
        json.to_owned()
    }
}

/// What a value may be, in words.
fn words_of(kind: &Kind) -> String {
    match kind {
        Kind::Boolean => "boolean".to_owned(),
        Kind::Number { min, max: u32::MAX } => format!("number from {min}"),
        Kind::Number { min, max } => format!("number {min}–{max}"),
        Kind::Share => "number 0–1".to_owned(),
        Kind::Duration { max, .. } => format!("duration up to `\"{max}\"`"),
        Kind::Size { max } => format!("size up to `\"{max}\"`"),
        Kind::Choice { words, .. } => {
            words.iter().map(|word| format!("`\"{word}\"`")).collect::<Vec<_>>().join(", ")
        }
        Kind::Text { name, .. } => (*name).to_owned(),
        Kind::Array { of: Kind::Table, .. } => "array of tables".to_owned(),
        Kind::Array { of, .. } => format!("array; each: {}", words_of(of)),
        Kind::Table => "table".to_owned(),
        Kind::AnyOf(kinds) => kinds.iter().map(words_of).collect::<Vec<_>>().join(", or "),
    }
}

/// What the plan has and this version refuses.
fn later() -> String {
    let mut text = "| Where | What |\n|---|---|\n".to_owned();
    let mut places: Vec<&str> = Vec::new();
    for key in keys::all() {
        let has_words = |kind: &Kind| matches!(kind, Kind::Choice { later, .. } if !later.is_empty());
        if key.kind.any(&has_words) && !places.contains(&key.parent()) {
            places.push(key.parent());
        }
    }
    for place in places {
        let mut what = Vec::new();
        for key in keys::children(keys::all(), place) {
            if let Kind::Choice { later: [first, rest @ ..], .. } = &key.kind {
                let rest: String = rest.iter().map(|word| format!(", `\"{word}\"`")).collect();
                what.push(format!("`{}` as `\"{first}\"`{rest}", key.name()));
            }
        }
        let place = if place.is_empty() { "Top".to_owned() } else { format!("`{place}`") };
        let _ = writeln!(text, "| {place} | {} |", what.join("; "));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    const PATH: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/reference/configuration.md");

    #[test]
    fn configuration_page_is_current() {
        let found = std::fs::read_to_string(PATH).expect("the page exists");
        let wanted = write_reference(&found).expect("the page has all tables");
        if std::env::var_os("RINGWAY_UPDATE_DOCS").is_some() {
            std::fs::write(PATH, &wanted).expect("the page can be written");
        } else {
            assert!(
                found == wanted,
                "docs/reference/configuration.md is stale: run this test with RINGWAY_UPDATE_DOCS=1"
            );
        }
    }

    #[test]
    fn a_page_without_a_table_of_keys_is_refused() {
        assert!(write_reference("").is_err());
        assert!(write_reference("<!-- keys of nothing --><!-- end of keys -->").is_err());
        assert!(write_reference("<!-- keys of server -->").is_err());
    }

    #[test]
    fn defaults_are_shown_as_toml_writes_them() {
        assert_eq!(toml_of(r#"{ "idle": "2m", "count": 4 }"#), r#"{ idle = "2m", count = 4 }"#);
        assert_eq!(toml_of("\"5s\""), "\"5s\"");
    }
}
