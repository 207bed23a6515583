//! `[app.health]`: what a check does, how often, and what its results mean.

use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::Duration;

use super::app::{TIMEOUT_MAX, TIMEOUT_MIN};
use super::fields::{Checker, Fields, Item};
use crate::config::tree::{Value, quote};
use crate::model::{
    Check, EjectedUntil, Ejection, Expected, Health, HttpCheck, OnDown, Pattern, Preset, SendExpect,
};

const RISE_FALL_MAX: u32 = 1_000;
const MIN_CONNECTIONS_MAX: u32 = 1_000_000;
const WINDOW_MIN: Duration = Duration::from_millis(100);
const WINDOW_MAX: Duration = Duration::from_secs(3_600);
/// Texts are sent, or looked for, at every check.
const TEXT_BYTES_MAX: usize = 1 << 10;
/// A path with its query; what common servers allow for a first line.
const PATH_BYTES_MAX: usize = 4 << 10;

/// The keys that belong to one kind of check.
const HTTP_KEYS: [&str; 6] = ["method", "path", "host", "status", "body", "body_regex"];
const SEND_EXPECT_KEYS: [&str; 6] = ["preset", "send", "send_hex", "expect", "expect_hex", "expect_regex"];

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    None,
    Tcp,
    Tls,
    Http,
    SendExpect,
}

pub(super) fn health(item: &Item<'_>, checker: &mut Checker<'_>) -> Option<Health> {
    let mut health = Health::default();
    let mut fields = checker.table(item, "a table, [app.health] in TOML")?;
    let check = fields.take("check");
    let words = [
        ("none", Kind::None),
        ("tcp", Kind::Tcp),
        ("tls", Kind::Tls),
        ("http", Kind::Http),
        ("send-expect", Kind::SendExpect),
    ];
    let kind = match &check {
        None => Some(Kind::Tcp),
        Some(item) => checker.choice(item, &words, &[]),
    };
    let http = KeysOf::take(&HTTP_KEYS, &mut fields);
    let send_expect = KeysOf::take(&SEND_EXPECT_KEYS, &mut fields);
    match kind {
        Some(Kind::None) => health.check = Check::None,
        // What was meant by a faulty word decides which keys belong to it.
        Some(Kind::Tcp) | None => {}
        Some(Kind::Tls) => health.check = Check::Tls,
        Some(Kind::Http) => health.check = Check::Http(Arc::new(http_check(&http, checker))),
        Some(Kind::SendExpect) => {
            let item = check.as_ref().unwrap_or(item);
            let found = send_expect_check(item, &send_expect, checker);
            health.check = found.map_or(Check::Tcp, |check| Check::SendExpect(Arc::new(check)));
        }
    }
    if kind.is_some_and(|kind| kind != Kind::Http) {
        http.refuse("http", checker);
    }
    if kind.is_some_and(|kind| kind != Kind::SendExpect) {
        send_expect.refuse("send-expect", checker);
    }
    times(&mut fields, &mut health, checker);
    if let Some(item) = fields.take("rise") {
        health.rise = checker.number(&item, 1..=RISE_FALL_MAX, "").unwrap_or(health.rise);
    }
    if let Some(item) = fields.take("fall") {
        health.fall = checker.number(&item, 1..=RISE_FALL_MAX, "").unwrap_or(health.fall);
    }
    if let Some(item) = fields.take("jitter") {
        health.jitter = checker.share(&item).unwrap_or(health.jitter);
    }
    if let Some(item) = fields.take("on_down") {
        let words = [("keep", OnDown::Keep), ("close", OnDown::Close)];
        health.on_down = checker.choice(&item, &words, &[]).unwrap_or(health.on_down);
        if health.check == Check::None && health.on_down == OnDown::Close {
            checker.conflict(&item, "without checks no backend is ever down", None);
        }
    }
    if let Some(item) = fields.take("panic_threshold") {
        health.panic_threshold = checker.share(&item).unwrap_or(health.panic_threshold);
    }
    if let Some(item) = fields.take("ejection") {
        health.ejection = ejection(&item, &health.check, checker);
    }
    fields.finish(checker);
    Some(health)
}

fn ejection(item: &Item<'_>, check: &Check, checker: &mut Checker<'_>) -> Option<Ejection> {
    let mut ejection = Ejection::default();
    let mut fields = checker.table(item, "a table, [app.health.ejection] in TOML")?;
    if let Some(item) = fields.take("failure_ratio") {
        ejection.failure_ratio = above_zero(&item, "it would be left out whatever it does", checker)
            .unwrap_or(ejection.failure_ratio);
    }
    if let Some(item) = fields.take("window") {
        ejection.window = checker.duration(&item, WINDOW_MIN..=WINDOW_MAX, None).unwrap_or(ejection.window);
    }
    if let Some(item) = fields.take("min_connections") {
        let number = checker.number(&item, 1..=MIN_CONNECTIONS_MAX, "");
        ejection.min_connections = number.unwrap_or(ejection.min_connections);
    }
    if let Some(item) = fields.take("early_close") {
        ejection.early_close = checker.boolean(&item).unwrap_or(ejection.early_close);
    }
    if let Some(item) = fields.take("time") {
        ejection.time = checker.duration(&item, TIMEOUT_MIN..=TIMEOUT_MAX, None).unwrap_or(ejection.time);
        ejection.max_time = ejection.max_time.max(ejection.time);
    }
    if let Some(item) = fields.take("max_time")
        && let Some(max_time) = checker.duration(&item, TIMEOUT_MIN..=TIMEOUT_MAX, None)
    {
        if max_time < ejection.time {
            checker.conflict(&item, "the first time is longer than the longest", None);
        }
        ejection.max_time = max_time.max(ejection.time);
    }
    if let Some(item) = fields.take("max_share") {
        ejection.max_share =
            above_zero(&item, "nothing would ever be left out", checker).unwrap_or(ejection.max_share);
    }
    if let Some(item) = fields.take("until") {
        let words =
            [("time", EjectedUntil::Time), ("check", EjectedUntil::Check), ("both", EjectedUntil::Both)];
        ejection.until = checker.choice(&item, &words, &[]).unwrap_or(ejection.until);
        if !check.is_active() && ejection.until != EjectedUntil::Time {
            checker.conflict(&item, "without checks none is ever good", Some("take \"time\""));
        }
    }
    fields.finish(checker);
    Some(ejection)
}

/// A share that is no share at all makes no sense, for this reason.
fn above_zero(item: &Item<'_>, why: &str, checker: &mut Checker<'_>) -> Option<f64> {
    let share = checker.share(item)?;
    if share == 0.0 {
        checker.conflict(item, why, None);
    }
    (share > 0.0).then_some(share)
}

fn times(fields: &mut Fields<'_>, health: &mut Health, checker: &mut Checker<'_>) {
    if let Some(item) = fields.take("interval") {
        let interval =
            checker.duration(&item, TIMEOUT_MIN..=TIMEOUT_MAX, Some("check = \"none\" is no checks"));
        health.interval = interval.unwrap_or(health.interval);
        health.timeout = health.timeout.min(health.interval);
    }
    if let Some(item) = fields.take("timeout")
        && let Some(timeout) = checker.duration(&item, TIMEOUT_MIN..=TIMEOUT_MAX, None)
    {
        if timeout > health.interval {
            let message =
                format!("a check of {} is longer than the interval between checks", item.node.describe());
            checker.conflict(&item, message, None);
        }
        health.timeout = timeout.max(Duration::from_millis(1));
    }
}

/// The keys of one kind of check that are there.
struct KeysOf<'t>(Vec<(&'static str, Item<'t>)>);

impl<'t> KeysOf<'t> {
    fn take(names: &'static [&'static str], fields: &mut Fields<'t>) -> Self {
        Self(names.iter().filter_map(|name| Some((*name, fields.take(name)?))).collect())
    }

    fn get(&self, name: &str) -> Option<&Item<'t>> {
        self.0.iter().find(|(key, _)| *key == name).map(|(_, item)| item)
    }

    /// The check is of another kind.
    fn refuse(&self, kind: &str, checker: &mut Checker<'_>) {
        for (name, item) in &self.0 {
            checker.conflict(item, format!("{name} belongs to check = {}", quote(kind)), None);
        }
    }

    /// The one of `names` that is there; others beside it are told so.
    fn one_of(&self, names: &[&'static str], checker: &mut Checker<'_>) -> Option<(&'static str, &Item<'t>)> {
        let mut there = self.0.iter().filter(|(key, _)| names.contains(key));
        let (first, item) = there.next()?;
        for (name, second) in there {
            checker.conflict(second, format!("{first} is given already, and only one of both counts"), None);
            debug_assert!(name != first, "a table has no key twice");
        }
        Some((first, item))
    }
}

fn http_check(keys: &KeysOf<'_>, checker: &mut Checker<'_>) -> HttpCheck {
    let mut check = HttpCheck::default();
    if let Some(item) = keys.get("method") {
        let words = [("GET", "GET"), ("HEAD", "HEAD"), ("OPTIONS", "OPTIONS")];
        check.method = checker.choice(item, &words, &[]).unwrap_or("GET").to_owned();
    }
    if let Some(item) = keys.get("path") {
        let is_path = |text: &str| text.starts_with('/') && text.len() <= PATH_BYTES_MAX && is_visible(text);
        check.path = text(item, "a path such as \"/healthz\"", is_path, checker).unwrap_or(check.path);
    }
    if let Some(item) = keys.get("host") {
        let is_host = |text: &str| !text.is_empty() && text.len() <= TEXT_BYTES_MAX && is_visible(text);
        check.host = text(item, "a host such as \"www.example.com\"", is_host, checker);
    }
    if let Some(item) = keys.get("status") {
        check.status = statuses(item, checker).unwrap_or(check.status);
    }
    if let Some((name, item)) = keys.one_of(&["body", "body_regex"], checker) {
        check.body = match name {
            "body" => bounded(item, checker).map(Expected::Text),
            _ => pattern(item, checker).map(Expected::Pattern),
        };
        if check.method == "HEAD" {
            checker.conflict(item, "the answer to HEAD has no body", Some("take GET"));
        }
    }
    check
}

fn is_visible(text: &str) -> bool {
    text.bytes().all(|byte| byte.is_ascii_graphic())
}

/// One status or range, or several.
fn statuses(item: &Item<'_>, checker: &mut Checker<'_>) -> Option<Vec<RangeInclusive<u16>>> {
    let expected = "a status such as 200, a range such as \"200-299\", or an array of these";
    if !matches!(item.node.value, Value::Array(_)) {
        return status(item, expected, checker).map(|range| vec![range]);
    }
    let elements = super::app::elements(item, expected, checker);
    elements.iter().map(|element| status(element, expected, checker)).collect()
}

fn status(item: &Item<'_>, expected: &str, checker: &mut Checker<'_>) -> Option<RangeInclusive<u16>> {
    let is_status = |number: &u16| (100..=599).contains(number);
    let parse = |text: &str| text.trim().parse().ok().filter(is_status);
    let range = match &item.node.value {
        Value::Integer(number) => u16::try_from(*number).ok().filter(is_status).map(|number| number..=number),
        Value::String(text) => {
            let (first, last) = text.split_once('-').unwrap_or((text, text));
            parse(first).zip(parse(last)).map(|(first, last)| first..=last)
        }
        _ => None,
    };
    let range = range.filter(|range| range.start() <= range.end());
    if range.is_none() {
        checker.wrong(item, expected);
    }
    range
}

fn send_expect_check(check: &Item<'_>, keys: &KeysOf<'_>, checker: &mut Checker<'_>) -> Option<SendExpect> {
    const EXPECTS: [&str; 3] = ["expect", "expect_hex", "expect_regex"];
    if let Some(item) = keys.get("preset") {
        for name in ["send", "send_hex"].iter().chain(&EXPECTS) {
            if let Some(item) = keys.get(name) {
                checker.conflict(item, "the preset says what is sent and expected", None);
            }
        }
        let words = [("redis", Preset::Redis), ("postgresql", Preset::PostgreSql), ("smtp", Preset::Smtp)];
        return checker.choice(item, &words, &[]).map(SendExpect::preset);
    }
    let send = match keys.one_of(&["send", "send_hex"], checker) {
        None => Some(Vec::new()),
        Some(("send", item)) => bounded(item, checker).map(String::into_bytes),
        Some((_, item)) => hex(item, checker),
    };
    let Some((name, item)) = keys.one_of(&EXPECTS, checker) else {
        let message = "nothing is expected, so that no answer would be wrong";
        checker.conflict(check, message, Some("give a preset, expect, expect_hex or expect_regex"));
        return None;
    };
    let expect = match name {
        "expect" => bounded(item, checker).map(|text| Expected::Start(vec![text.into_bytes()])),
        "expect_hex" => hex(item, checker).map(|bytes| Expected::Start(vec![bytes])),
        _ => pattern(item, checker).map(Expected::Pattern),
    };
    Some(SendExpect { send: send?, expect: expect?, goodbye: Vec::new() })
}

fn text(
    item: &Item<'_>,
    expected: &str,
    is_good: impl Fn(&str) -> bool,
    checker: &mut Checker<'_>,
) -> Option<String> {
    let text = checker.text(item, expected)?;
    if !is_good(&text) {
        checker.wrong(item, expected);
        return None;
    }
    Some(text)
}

fn bounded(item: &Item<'_>, checker: &mut Checker<'_>) -> Option<String> {
    text(item, "a text of 1 to 1024 bytes", |text| (1..=TEXT_BYTES_MAX).contains(&text.len()), checker)
}

fn hex(item: &Item<'_>, checker: &mut Checker<'_>) -> Option<Vec<u8>> {
    let expected = "1 to 1024 bytes in hexadecimal such as \"50 49 4e 47\"";
    let digits: Vec<u8> =
        checker.text(item, expected)?.bytes().filter(|byte| !byte.is_ascii_whitespace()).collect();
    let byte = |pair: &[u8]| match *pair {
        [high, low] => {
            let digit = |byte: u8| char::from(byte).to_digit(16);
            u8::try_from(digit(high)? * 16 + digit(low)?).ok()
        }
        _ => None,
    };
    let bytes: Option<Vec<u8>> = digits.chunks(2).map(byte).collect();
    let bytes = bytes.filter(|bytes| (1..=TEXT_BYTES_MAX).contains(&bytes.len()));
    if bytes.is_none() {
        checker.wrong(item, expected);
    }
    bytes
}

fn pattern(item: &Item<'_>, checker: &mut Checker<'_>) -> Option<Pattern> {
    let text = bounded(item, checker)?;
    match Pattern::new(&text) {
        Ok(pattern) => Some(pattern),
        Err(error) => {
            checker.wrong_with(item, "a regular expression", Some(error));
            None
        }
    }
}
