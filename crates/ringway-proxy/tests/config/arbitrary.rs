//! No text makes the reader panic, and every fault points into the text.

use std::path::Path;

use proptest::prelude::*;
use ringway_proxy::config::{self, Format};

const FULL: &str = include_str!("../../../../examples/configs/full.toml");
const SEED: &str = include_str!("../../../../examples/configs/seed.json");
const YAML: &str = include_str!("../../../../examples/configs/gateway.yaml");
const JSON: &str = r#"{"server": {"workers": 2}, "app": [{"name": "${A:-a}", "listen": [":80"],
    "backends": [{"address": "b:1", "weight": 3}], "health": {"jitter": 0.5}}]}"#;

fn read(text: &str) -> Result<(), TestCaseError> {
    for format in [Format::Toml, Format::Yaml, Format::Json] {
        if let Err(errors) = config::parse(text, format, Path::new("/"), &|_| None) {
            prop_assert!(!errors.faults().is_empty());
            for fault in errors.faults() {
                prop_assert!(fault.line >= 1 && fault.line <= text.matches('\n').count() + 1, "{fault}");
                let line = text.split('\n').nth(fault.line - 1).unwrap_or("");
                prop_assert!(fault.column >= 1 && fault.column <= line.chars().count() + 1, "{fault}");
            }
            prop_assert!(config::render_faults(&errors).contains("nothing was changed"));
        }
    }
    Ok(())
}

/// A good file with some of it cut out, doubled or replaced.
fn damaged() -> impl Strategy<Value = String> {
    let edit = (any::<prop::sample::Index>(), 0..40_usize, "[ -~\n\"'\\[\\]{}=,$é&*-]{0,12}");
    (prop::sample::select(vec![FULL, SEED, JSON, YAML]), prop::collection::vec(edit, 1..5)).prop_map(
        |(text, edits)| {
            let mut characters: Vec<char> = text.chars().collect();
            for (at, length, inserted) in edits {
                let start = at.index(characters.len() + 1);
                let end = characters.len().min(start + length);
                characters.splice(start..end, inserted.chars());
            }
            characters.into_iter().collect()
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn arbitrary_text_never_panics(text in any::<String>()) {
        read(&text)?;
    }

    #[test]
    fn text_of_the_right_characters_never_panics(text in "[\\[\\]{}=\",.:${}\\-a-c0-9 \n]{0,80}") {
        read(&text)?;
    }

    #[test]
    fn a_damaged_file_never_panics(text in damaged()) {
        read(&text)?;
    }
}

#[test]
fn deep_nesting_is_refused_and_not_followed() {
    for text in [
        "[".repeat(100_000),
        format!("a={}", "[".repeat(100_000)),
        "{\"a\":".repeat(100_000),
        "- ".repeat(100_000),
        (0..500).map(|depth| format!("{}a:\n", " ".repeat(depth))).collect(),
        "a.".repeat(100_000),
    ] {
        assert!(read(&text).is_ok());
    }
}
