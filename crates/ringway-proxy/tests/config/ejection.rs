//! `[app.health.ejection]`: its defaults, and the exact words about what makes no sense.

use std::path::Path;
use std::time::Duration;

use ringway_proxy::config::{self, Format};
use ringway_proxy::model::{EjectedUntil, Ejection};

use crate::faults::refused;

fn file(health: &str) -> String {
    format!("[[app]]\nname = 'a'\nlisten = [':80']\nbackends = ['10.0.0.2:80']\n{health}\n")
}

fn ejection(health: &str) -> Option<Ejection> {
    let config = config::parse(&file(health), Format::Toml, Path::new("/"), &|_| None);
    config.unwrap_or_else(|errors| panic!("{errors}")).apps.remove(0).health.ejection
}

#[test]
fn it_is_there_if_its_table_is() {
    assert_eq!(ejection(""), None);
    assert_eq!(ejection("[app.health.ejection]"), Some(Ejection::default()));
    let wanted = Ejection {
        failure_ratio: 0.2,
        window: Duration::from_secs(10),
        min_connections: 5,
        early_close: true,
        time: Duration::from_secs(10),
        max_time: Duration::from_secs(600),
        max_share: 0.25,
        until: EjectedUntil::Both,
    };
    let all = "failure_ratio = 0.2\nwindow = '10s'\nmin_connections = 5\nearly_close = true\ntime = '10s'\n\
               max_time = '10m'\nmax_share = 0.25\nuntil = 'both'";
    assert_eq!(ejection(&format!("[app.health.ejection]\n{all}")), Some(wanted));
    let long = ejection("[app.health.ejection]\ntime = '1h'").expect("it is there");
    assert_eq!(long.max_time, Duration::from_secs(3_600), "the longest is no shorter than the first");
}

#[test]
fn what_makes_no_sense_is_refused_with_the_reason() {
    for (health, expected) in [
        (
            "[app.health.ejection]\nfailure_ratio = 0.0",
            "6:17: app[0].health.ejection.failure_ratio: it would be left out whatever it does",
        ),
        (
            "[app.health.ejection]\nmax_share = 0",
            "6:13: app[0].health.ejection.max_share: nothing would ever be left out",
        ),
        (
            "[app.health.ejection]\nwindow = '10ms'",
            "6:10: app[0].health.ejection.window: found \"10ms\", expected a duration from \"100ms\" to \"1h\"",
        ),
        (
            "[app.health.ejection]\nmin_connections = 0",
            "6:19: app[0].health.ejection.min_connections: found 0, expected a whole number from 1 to 1000000",
        ),
        (
            "[app.health.ejection]\ntime = '1m'\nmax_time = '30s'",
            "7:12: app[0].health.ejection.max_time: the first time is longer than the longest",
        ),
        (
            "[app.health]\ncheck = 'none'\n[app.health.ejection]\nuntil = 'check'",
            "8:9: app[0].health.ejection.until: without checks none is ever good; take \"time\"",
        ),
        (
            "[app.health.ejection]\nuntill = 'time'",
            "6:1: app[0].health.ejection.untill: unknown key; did you mean \"until\"?",
        ),
        (
            "[app.health]\nejection = true",
            "6:12: app[0].health.ejection: found true, expected a table, [app.health.ejection] in TOML",
        ),
    ] {
        let errors = refused(&file(health), Format::Toml);
        let found: Vec<_> = errors.faults().iter().map(ToString::to_string).collect();
        assert_eq!(found, [expected], "in:\n{health}");
    }
}
