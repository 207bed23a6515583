//! `[app.health]`: what a check is made of, and the exact words about wrong ones.

use std::path::Path;

use ringway_proxy::config::{self, Format};
use ringway_proxy::model::{Check, Expected, HttpCheck, Preset, SendExpect};

use crate::faults::refused;

fn file(health: &str) -> String {
    format!("[[app]]\nname = 'a'\nlisten = [':80']\nbackends = ['10.0.0.2:80']\n[app.health]\n{health}\n")
}

fn check(health: &str) -> Check {
    let config = config::parse(&file(health), Format::Toml, Path::new("/"), &|_| None);
    config.unwrap_or_else(|errors| panic!("{errors}")).apps.remove(0).health.check
}

#[test]
fn a_request_and_what_its_answer_must_be() {
    let Check::Http(http) = check("check = 'http'") else { panic!("it is HTTP") };
    assert_eq!(*http, HttpCheck::default());
    let Check::Http(http) = check(
        "check = 'http'\nmethod = 'HEAD'\npath = '/ready?x=1'\nhost = 'a.example'\nstatus = [204, '300-302']",
    ) else {
        panic!("it is HTTP")
    };
    assert_eq!((&*http.method, &*http.path, http.host.as_deref()), ("HEAD", "/ready?x=1", Some("a.example")));
    assert_eq!(http.status, [204..=204, 300..=302]);
    let Check::Http(http) = check("check = 'http'\nstatus = '200-299'\nbody = 'ok'") else {
        panic!("it is HTTP")
    };
    assert_eq!((http.status.clone(), &http.body), (vec![200..=299], &Some(Expected::Text("ok".into()))));
}

#[test]
fn bytes_and_what_they_are_answered_with() {
    let of = |check: Check| match check {
        Check::SendExpect(check) => check.as_ref().clone(),
        other => panic!("{other:?}"),
    };
    for (name, preset) in
        [("redis", Preset::Redis), ("postgresql", Preset::PostgreSql), ("smtp", Preset::Smtp)]
    {
        let found = of(check(&format!("check = 'send-expect'\npreset = '{name}'")));
        assert_eq!(found, SendExpect::preset(preset));
    }
    let found = of(check("check = 'send-expect'\nsend = \"PING\\r\\n\"\nexpect_hex = '2b 50 4F4e'"));
    assert_eq!(found.send, b"PING\r\n");
    assert_eq!(found.expect, Expected::Start(vec![b"+PON".to_vec()]));
    let found = of(check("check = 'send-expect'\nexpect_regex = '^220'"));
    assert!(found.send.is_empty() && matches!(&found.expect, Expected::Pattern(p) if p.as_str() == "^220"));
}

#[test]
fn wrong_checks_are_refused_with_what_would_be_right() {
    for (health, expected) in [
        (
            "check = 'htp'",
            "6:9: app[0].health.check: found \"htp\", expected \"none\", \"tcp\", \"tls\", \"http\" or \"send-expect\"; did you mean \"http\"?",
        ),
        ("path = '/'", "6:8: app[0].health.path: path belongs to check = \"http\""),
        (
            "check = 'http'\npreset = 'redis'",
            "7:10: app[0].health.preset: preset belongs to check = \"send-expect\"",
        ),
        (
            "check = 'http'\npath = 'healthz'",
            "7:8: app[0].health.path: found \"healthz\", expected a path such as \"/healthz\"",
        ),
        (
            "check = 'http'\npath = \"/a\\r\\nX: y\"",
            "7:8: app[0].health.path: found \"/a\\r\\nX: y\", expected a path such as \"/healthz\"",
        ),
        (
            "check = 'http'\nhost = 'a b'",
            "7:8: app[0].health.host: found \"a b\", expected a host such as \"www.example.com\"",
        ),
        (
            "check = 'http'\nmethod = 'POST'",
            "7:10: app[0].health.method: found \"POST\", expected \"GET\", \"HEAD\" or \"OPTIONS\"",
        ),
        (
            "check = 'http'\nstatus = [200, 20]",
            "7:16: app[0].health.status[1]: found 20, expected a status such as 200, a range such as \"200-299\", or an array of these",
        ),
        (
            "check = 'http'\nstatus = '299-200'",
            "7:10: app[0].health.status: found \"299-200\", expected a status such as 200, a range such as \"200-299\", or an array of these",
        ),
        (
            "check = 'http'\nbody = 'a'\nbody_regex = 'b'",
            "8:14: app[0].health.body_regex: body is given already, and only one of both counts",
        ),
        (
            "check = 'http'\nmethod = 'HEAD'\nbody = 'a'",
            "8:8: app[0].health.body: the answer to HEAD has no body; take GET",
        ),
        (
            "check = 'http'\nbody_regex = 'a(b'",
            "7:14: app[0].health.body_regex: found \"a(b\", expected a regular expression; unclosed group",
        ),
        (
            "check = 'send-expect'",
            "6:9: app[0].health.check: nothing is expected, so that no answer would be wrong; give a preset, expect, expect_hex or expect_regex",
        ),
        (
            "check = 'send-expect'\npreset = 'mysql'",
            "7:10: app[0].health.preset: found \"mysql\", expected \"redis\", \"postgresql\" or \"smtp\"",
        ),
        (
            "check = 'send-expect'\npreset = 'smtp'\nsend = 'x'",
            "8:8: app[0].health.send: the preset says what is sent and expected",
        ),
        (
            "check = 'send-expect'\nexpect = ''",
            "7:10: app[0].health.expect: found \"\", expected a text of 1 to 1024 bytes",
        ),
        (
            "check = 'send-expect'\nexpect_hex = '2b 5'",
            "7:14: app[0].health.expect_hex: found \"2b 5\", expected 1 to 1024 bytes in hexadecimal such as \"50 49 4e 47\"",
        ),
    ] {
        let errors = refused(&file(health), Format::Toml);
        let found: Vec<String> = errors.faults().iter().map(ToString::to_string).collect();
        assert_eq!(found, [expected], "in:\n{health}");
    }
}
