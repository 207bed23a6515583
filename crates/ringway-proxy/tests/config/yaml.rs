//! YAML: the same schema, with its own ways to be wrong.

use std::fmt::Write;
use std::path::Path;

use ringway_proxy::config::{self, Format};

fn said_about(text: &str) -> Vec<String> {
    match config::parse(text, Format::Yaml, Path::new("/etc/ringway"), &|_| None) {
        Ok(config) => panic!("{text}\nis a good configuration: {config:?}"),
        Err(errors) => errors.faults().iter().map(ToString::to_string).collect(),
    }
}

#[test]
fn wrong_yaml_files_are_refused_with_every_fault() {
    for (text, expected) in FILES {
        assert_eq!(said_about(text), *expected, "in:\n{text}");
    }
}

/// Nine lines that stand for a billion values.
#[test]
fn aliases_of_aliases_are_refused_before_they_are_expanded() {
    let mut text = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n".to_owned();
    for level in 1..9 {
        let aliases = vec![format!("*a{}", level - 1); 10].join(", ");
        writeln!(text, "a{level}: &a{level} [{aliases}]").unwrap();
    }
    let [fault] = &said_about(&text)[..] else { panic!("{:?}", said_about(&text)) };
    assert!(fault.ends_with("not valid YAML: the aliases of this file stand for too much"), "{fault}");
}

#[test]
fn an_alias_stands_for_what_its_anchor_names() {
    let text = "app:\n\
        - { name: a, listen: [':80'], backends: ['b:1'], timeouts: &slow { connect: 9s } }\n\
        - { name: b, listen: [':81'], backends: ['b:1'], timeouts: *slow }\n";
    let config = config::parse(text, Format::Yaml, Path::new("/"), &|_| None).unwrap();
    assert_eq!(config.apps[0].timeouts, config.apps[1].timeouts);
    assert_eq!(config.apps[1].timeouts.connect.as_secs(), 9);
}

const FILES: &[(&str, &[&str])] = &[
    ("", &["1:1: app: missing; expected at least one app, [[app]] in TOML"]),
    ("{---", &["1:5: not valid YAML: while parsing a flow mapping, did not find expected ',' or '}'"]),
    ("app: [", &["1:7: not valid YAML: while parsing a node, did not find expected node content"]),
    ("- 1\n", &["1:1: found an array, expected a table"]),
    (
        "é: 1\nüü: [é, {x: 1}]\n",
        &[
            "1:1: app: missing; expected at least one app, [[app]] in TOML",
            "1:1: \"é\": unknown key",
            "2:1: \"üü\": unknown key",
        ],
    ),
    (
        "app:\n- name: a\n  listen: [':80']\n  balanse: 1\n  backends: ['b:80']\n  timeouts: {idle: 5}\n  health:\n    fall: 0\n",
        &[
            r#"4:3: app[0].balanse: unknown key; did you mean "balance"?"#,
            r#"6:20: app[0].timeouts.idle: found 5, expected a duration such as "250ms", "5s" or "1m30s"; a unit is missing, as in "5s""#,
            "8:11: app[0].health.fall: found 0, expected a whole number from 1 to 1000",
        ],
    ),
    (
        "app:\n  - name:\n    listen: [80, :80, ::1]\n",
        &[
            r#"2:5: app[0].backends: missing; expected an array of addresses, as ["10.0.0.1:5432"]"#,
            "2:9: app[0].name: found null, expected a name of 1 to 64 bytes without control characters",
            "3:14: app[0].listen[0]: found 80, expected an address, or a table with one",
            r#"3:23: app[0].listen[2]: found "::1", expected an address such as "0.0.0.0:443", "[::]:443", ":443" or "unix:/path"; an IPv6 address stands in brackets, as "[::1]:443""#,
        ],
    ),
    (
        "app:\n- name: a\n  name: b\n  listen: [a: 1]\n",
        &[
            r#"2:3: app[0].backends: missing; expected an array of addresses, as ["10.0.0.1:5432"]"#,
            "3:3: app[0].name: this key is given twice; the first is in line 2",
            r#"4:12: app[0].listen[0].address: missing; expected an address such as ":443""#,
            "4:12: app[0].listen[0].a: unknown key",
        ],
    ),
    ("app:\n- &a [*a]\n", &["2:7: not valid YAML: an alias stands inside of what it stands for"]),
    ("app: *b\n", &["1:6: not valid YAML: while parsing node, found unknown anchor"]),
    ("app: !x [1]\n", &["1:6: not valid YAML: tags are not taken"]),
    (
        "app: []\n---\napp: []\n",
        &["2:1: not valid YAML: a configuration is one document, this starts another"],
    ),
    ("? [1]\n: 2\n", &["1:3: not valid YAML: the name of a key is text"]),
    (
        "<<: {a: 1}\n",
        &["1:1: not valid YAML: merge keys are not taken; write an alias as the value of a key"],
    ),
    ("app:\n\t- 1\n", &["2:2: not valid YAML: tabs disallowed within this context (block indentation)"]),
    ("app: 'x\n", &["1:6: not valid YAML: while scanning a quoted scalar, found unexpected end of stream"]),
    (
        "server:\napp:\n- listen: &l [':80']\n  name: a\n  backends: *l\n",
        &[
            "1:7: server: found null, expected a table, [server] in TOML",
            r#"3:15: app[0].backends[0]: found ":80", expected an address such as "10.0.0.1:5432", "db.internal:5432", "[::1]:5432" or "unix:/path""#,
        ],
    ),
    (
        "server:\n  access_log: on\n  workers: 0\n",
        &[
            "1:1: app: missing; expected at least one app, [[app]] in TOML",
            r#"2:15: server.access_log: found "on", expected true or false"#,
            r#"3:12: server.workers: found 0, expected "auto" or a whole number from 1 to 1024"#,
        ],
    ),
];
