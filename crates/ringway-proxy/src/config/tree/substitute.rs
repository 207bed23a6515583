//! `${VAR}` in strings, filled in from the environment.
//!
//! `${VAR:-default}` takes the default where the variable is not set or empty; `$${` stands for `${`.

use super::source::Source;
use super::{Node, Value, path_of};
use crate::config::fault::{Fault, FaultKind};

/// Looks a variable up.
pub(in crate::config) type Environment<'a> = dyn Fn(&str) -> Option<String> + 'a;

/// Puts the variables into every string below `node`. What cannot be filled in becomes [`Value::Faulty`].
pub(in crate::config) fn substitute(
    node: &mut Node,
    path: &str,
    source: &Source<'_>,
    environment: &Environment<'_>,
    faults: &mut Vec<Fault>,
) {
    match &mut node.value {
        Value::String(text) if text.contains("${") => match expand(text, environment) {
            Ok(expanded) => node.template = Some(std::mem::replace(text, expanded)),
            Err((message, hint)) => {
                let mut fault = source.fault(FaultKind::Variable, node.span.clone(), path, message);
                fault.hint = Some(hint);
                faults.push(fault);
                node.value = Value::Faulty;
            }
        },
        Value::Array(nodes) => {
            for (index, node) in nodes.iter_mut().enumerate() {
                substitute(node, &format!("{path}[{index}]"), source, environment, faults);
            }
        }
        Value::Table(entries) => {
            for entry in entries {
                let path = path_of(path, &entry.key);
                substitute(&mut entry.value, &path, source, environment, faults);
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

/// The text with its variables filled in.
///
/// # Errors
/// The message and the hint of a fault.
fn expand(text: &str, environment: &Environment<'_>) -> Result<String, (String, String)> {
    let mut expanded = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find("${") {
        let (before, from) = rest.split_at(at);
        if let Some(escaped) = before.strip_suffix('$') {
            expanded.push_str(escaped);
            expanded.push_str("${");
            rest = &from[2..];
            continue;
        }
        expanded.push_str(before);
        let Some((inside, after)) = from[2..].split_once('}') else {
            return Err((
                "\"${\" is never closed".to_owned(),
                "write \"$${\" for the two characters themselves".to_owned(),
            ));
        };
        let (name, default) = match inside.split_once(":-") {
            Some((name, default)) => (name, Some(default)),
            None => (inside, None),
        };
        if !is_variable_name(name) {
            return Err((
                format!("{} is not the name of a variable", super::quote(name)),
                "write \"${NAME}\" or \"${NAME:-default}\", with letters, digits and \"_\" in the name"
                    .to_owned(),
            ));
        }
        match (environment(name), default) {
            (Some(value), None) => expanded.push_str(&value),
            (Some(value), Some(_)) if !value.is_empty() => expanded.push_str(&value),
            (_, Some(default)) => expanded.push_str(default),
            (None, None) => {
                return Err((
                    format!("the environment has no variable {name}"),
                    format!("set it, or write \"${{{name}:-default}}\""),
                ));
            }
        }
        rest = after;
    }
    expanded.push_str(rest);
    Ok(expanded)
}

fn is_variable_name(name: &str) -> bool {
    name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
        && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn environment(name: &str) -> Option<String> {
        match name {
            "HOST" => Some("db".to_owned()),
            "EMPTY" => Some(String::new()),
            _ => None,
        }
    }

    #[test]
    fn variables_defaults_and_escapes_are_expanded() {
        for (text, expected) in [
            ("${HOST}:5432", "db:5432"),
            ("${HOST}${HOST}", "dbdb"),
            ("${PORT:-80}", "80"),
            ("${EMPTY:-80}", "80"),
            ("${EMPTY}", ""),
            ("${PORT:-}", ""),
            ("$${HOST}", "${HOST}"),
            ("a$b$", "a$b$"),
            ("$$${HOST}", "$${HOST}"),
            ("${HOST", "error: \"${\" is never closed"),
            ("${}", "error: \"\" is not the name of a variable"),
            ("${1A}", "error: \"1A\" is not the name of a variable"),
            ("${PORT}", "error: the environment has no variable PORT"),
        ] {
            let found = expand(text, &environment).unwrap_or_else(|(message, _)| format!("error: {message}"));
            assert_eq!(found, expected, "{text}");
        }
    }
}
