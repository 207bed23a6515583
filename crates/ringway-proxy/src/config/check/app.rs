//! `[[app]]`: its frontends, backends, timeouts and checks.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use ringway::{KeepAlive, SocketAddress};

use super::document::Document;
use super::fields::{Checker, Fields, Item};
use super::{
    FRONTENDS_MAX, PlacedApp, address, backend_tls, covers, health, is_same_address, limits, proxy_protocol,
    rebalance, route, value,
};
use crate::config::tree::{Value, quote};
use crate::model::{App, Backend, Balance, Frontend, RemovedBackends, Target, Timeouts};

/// Longest timeout; more was meant in another unit.
pub(super) const TIMEOUT_MAX: Duration = Duration::from_secs(365 * 86_400);
/// The coarsest clock that timeouts go by.
pub(super) const TIMEOUT_MIN: Duration = Duration::from_millis(1);
/// TCP_KEEPIDLE and TCP_KEEPINTVL take at most 32767 seconds (MAX_TCP_KEEPIDLE of the kernel).
const KEEP_ALIVE_MAX: Duration = Duration::from_secs(32_767);
/// TCP_KEEPCNT takes at most this (MAX_TCP_KEEPCNT of the kernel).
const KEEP_ALIVE_COUNT_MAX: u32 = 127;
/// The kernel caps the queue of a listener far below, at `net.core.somaxconn`.
const BACKLOG_MAX: u32 = 1 << 20;
/// Names stand in every line of the access log and in metric labels.
const NAME_BYTES_MAX: usize = 64;
/// A backend that is warm after a day is warm.
const SLOW_START_MAX: Duration = Duration::from_secs(86_400);
const CONNECT_ATTEMPTS_MAX: u32 = 100;

const BACKENDS: &str = "an array of addresses, as [\"10.0.0.1:5432\"]";
const FRONTENDS: &str = "an array of addresses, as [\":443\"]";

pub(super) fn app<'t>(
    item: &Item<'t>,
    document: &'t Document<'t>,
    checker: &mut Checker<'_>,
) -> Option<PlacedApp<'t>> {
    let mut fields = checker.table(item, "a table, [[app]] in TOML")?;
    let mut app = App::new("");
    let name = fields.require("name", "a name that no other app has", checker);
    let name = name.filter(|item| match app_name(item, checker) {
        Some(text) => {
            app.name = text;
            true
        }
        None => false,
    });
    if let Some(item) = fields.take("protocol") {
        checker.choice(&item, &[("tcp", ())], &["udp"]);
    }
    let mut frontends = Vec::new();
    if let Some(item) = fields.require("listen", FRONTENDS, checker) {
        for element in elements(&item, FRONTENDS, checker) {
            if checker.frontends > FRONTENDS_MAX {
                // Reported in the end; a file of ranges must not fill the memory before.
                break;
            }
            let of_element = self::frontends(&element, checker).unwrap_or_default();
            checker.frontends += of_element.len();
            frontends.extend(std::iter::repeat_n(element, of_element.len()));
            app.frontends.extend(of_element);
        }
    }
    if let Some(item) = fields.take("balance") {
        app.balance = balance(&item, checker).unwrap_or(app.balance);
    }
    let routes = fields.take("route");
    let item = match routes {
        // Clients that fit none are refused.
        Some(_) => fields.take("backends"),
        None => fields.require("backends", BACKENDS, checker),
    };
    // Those of routes may be the ones that can.
    let mut can_be_full = true;
    if let Some(item) = item {
        can_be_full = backends(&item, &mut app, checker) || routes.is_some();
    }
    if let Some(item) = fields.take("source") {
        source(&item, &mut app, checker);
    }
    if let Some(item) = fields.take("timeouts") {
        app.timeouts = timeouts(&item, true, checker).unwrap_or(app.timeouts);
    }
    if let Some(item) = fields.take("health") {
        app.health = health::health(&item, checker).unwrap_or(app.health);
    }
    if let Some(item) = fields.take("keep_alive") {
        app.keep_alive = keep_alive(&item, checker);
    }
    if let Some(item) = fields.take("user_timeout") {
        app.user_timeout = checker.duration(&item, TIMEOUT_MIN..=TIMEOUT_MAX_MILLIS, None);
    }
    if let Some(item) = fields.take("connect_attempts") {
        app.connect_attempts = connect_attempts(&item, checker).unwrap_or(app.connect_attempts);
    }
    if let Some(item) = fields.take("removed_backends") {
        app.removed_backends = removed_backends(&item, checker).unwrap_or(app.removed_backends);
    }
    if let Some(item) = fields.take("slow_start") {
        app.slow_start = slow_start(&item, app.balance, checker);
    }
    if let Some(item) = fields.take("rebalance") {
        app.rebalance = rebalance::read(&item, app.balance, checker);
    }
    if let Some(item) = fields.take("limits") {
        app.limits = limits::read(&item, can_be_full, checker).unwrap_or_default();
    }
    if let Some(item) = fields.take("proxy_protocol") {
        app.proxy_protocol = proxy_protocol::read(&item, checker).unwrap_or_default();
    }
    let secured = fields.take("backend_tls");
    if let Some(item) = &secured {
        app.backend_tls = backend_tls::read(item, checker).map(Arc::new);
    }
    if let Some(item) = fields.take("tls") {
        app.tls = route::tls(&item, &app, checker);
    }
    if let Some(item) = routes {
        app.routes = route::routes(&item, &app, checker);
    }
    if let Some(item) = &secured {
        backend_tls::check(item, &app, checker);
    }
    fields.finish(checker);
    Some(PlacedApp { app, document, name, frontends })
}

/// TCP_USER_TIMEOUT is an int of milliseconds: 24 days.
const TIMEOUT_MAX_MILLIS: Duration = Duration::from_secs(24 * 86_400);

/// The backends of an app, or of a route of one: `app` is then the route's pool with the frontends of the app. Says
/// whether they can be full, as far as that is known.
pub(super) fn backends(item: &Item<'_>, app: &mut App, checker: &mut Checker<'_>) -> bool {
    let mut places = Vec::new();
    let all = elements(item, BACKENDS, checker);
    let count = all.len();
    for element in all {
        if let Some((backend, place)) = backend(&element, checker) {
            app.backends.push(backend);
            places.push(place);
        }
    }
    // Faulty backends might be the ones that count.
    let is_whole = app.backends.len() == count;
    if is_whole {
        check_backends_serve(app, item, checker);
    }
    check_backends_differ(app, &places, checker);
    check_no_loop(app, &places, checker);
    !is_whole || app.backends.iter().any(|backend| backend.max_connections.is_some())
}

pub(super) fn balance(item: &Item<'_>, checker: &mut Checker<'_>) -> Option<Balance> {
    let words = [
        ("least-connections", Balance::LeastConnections),
        ("round-robin", Balance::RoundRobin),
        ("random", Balance::Random),
        ("two-choices", Balance::TwoChoices),
        ("source-hash", Balance::SourceHash),
        ("maglev", Balance::Maglev),
    ];
    checker.choice(item, &words, &[])
}

pub(super) fn connect_attempts(item: &Item<'_>, checker: &mut Checker<'_>) -> Option<u32> {
    checker.number(item, 1..=CONNECT_ATTEMPTS_MAX, "")
}

pub(super) fn removed_backends(item: &Item<'_>, checker: &mut Checker<'_>) -> Option<RemovedBackends> {
    match item.as_text() {
        Some("keep") => Some(RemovedBackends::Keep),
        Some("close") => Some(RemovedBackends::Close),
        Some(text) if value::duration(text).is_some() => checker
            .duration(item, TIMEOUT_MIN..=TIMEOUT_MAX, Some("\"close\" closes them at once"))
            .map(RemovedBackends::CloseAfter),
        _ => {
            checker.wrong(item, "\"keep\", \"close\", or a time such as \"30s\" after which they are closed");
            None
        }
    }
}

pub(super) fn slow_start(item: &Item<'_>, balance: Balance, checker: &mut Checker<'_>) -> Option<Duration> {
    let period = checker.duration(item, TIMEOUT_MIN..=SLOW_START_MAX, Some("leave the key out"))?;
    match balance {
        Balance::LeastConnections | Balance::RoundRobin | Balance::Random | Balance::TwoChoices => {
            Some(period)
        }
        Balance::SourceHash | Balance::Maglev => {
            let message = "a backend that is chosen by the client's address gets its clients at once";
            checker.conflict(item, message, Some("leave the key out, or choose another balance"));
            None
        }
    }
}

pub(super) fn app_name(item: &Item<'_>, checker: &mut Checker<'_>) -> Option<String> {
    let expected = "a name of 1 to 64 bytes without control characters";
    let name = checker.text(item, expected)?;
    if name.is_empty() || name.len() > NAME_BYTES_MAX || name.chars().any(char::is_control) {
        checker.wrong(item, expected);
        return None;
    }
    Some(name)
}

/// The elements of an array that must not be empty.
pub(super) fn elements<'t>(item: &Item<'t>, expected: &str, checker: &mut Checker<'_>) -> Vec<Item<'t>> {
    let hint = item.as_text().map(|text| format!("write [{}]", quote(text)));
    let elements = checker.array(item, expected, hint.as_deref());
    if elements.is_empty() && matches!(item.node.value, Value::Array(_)) {
        checker.conflict(item, "this is empty, expected at least one element", None);
    }
    elements
}

/// The frontends of an element: the text of an address, or a table with more about it. A range of ports is one for
/// each.
fn frontends(item: &Item<'_>, checker: &mut Checker<'_>) -> Option<Vec<Frontend>> {
    let expected = "an address, or a table with one";
    let named = |(name, address, dual_stack): (String, SocketAddress, bool)| Frontend {
        dual_stack,
        ..Frontend::new(name, address)
    };
    if !matches!(item.node.value, Value::Table(_)) {
        let all = checker.address(item, expected, address::frontends)?;
        return Some(all.into_iter().map(named).collect());
    }
    let mut fields = checker.table(item, expected)?;
    let place = fields.require("address", "an address such as \":443\"", checker);
    let backlog = fields.take("backlog").and_then(|item| checker.number(&item, 1..=BACKLOG_MAX, ""));
    let freebind = fields.take("freebind");
    let is_freebind = freebind.as_ref().and_then(|item| checker.boolean(item));
    let mode = fields.take("mode");
    let bits = mode.as_ref().and_then(|item| permissions(item, checker));
    fields.finish(checker);
    let place = place?;
    let all = checker.address(&place, "an address such as \":443\"", address::frontends)?;
    let is_unix = all.iter().any(|(_, address, _)| matches!(address, SocketAddress::Unix(_)));
    if let Some(item) = mode.filter(|_| !is_unix) {
        checker.conflict(&item, "only a Unix socket has permission bits", None);
    }
    if let Some(item) = freebind.filter(|_| is_unix) {
        checker.conflict(&item, "a Unix socket has no free bind", None);
    }
    let with_options = |frontend: Frontend| Frontend {
        backlog: backlog.unwrap_or(frontend.backlog),
        freebind: is_freebind.unwrap_or(false),
        mode: bits,
        ..frontend
    };
    Some(all.into_iter().map(named).map(with_options).collect())
}

fn permissions(item: &Item<'_>, checker: &mut Checker<'_>) -> Option<u32> {
    let text = item.as_text().unwrap_or("");
    let is_octal = (3..=4).contains(&text.len()) && text.bytes().all(|byte| matches!(byte, b'0'..=b'7'));
    match u32::from_str_radix(text, 8) {
        Ok(bits) if is_octal && bits <= 0o777 => Some(bits),
        _ => {
            checker.wrong(item, "permission bits in octal between quotes, as \"0660\"");
            None
        }
    }
}

/// A backend, and the place of its address.
fn backend<'t>(item: &Item<'t>, checker: &mut Checker<'_>) -> Option<(Backend, Item<'t>)> {
    let expected = "an address, or a table with one";
    if !matches!(item.node.value, Value::Table(_)) {
        let target = checker.address(item, expected, address::backend)?;
        return Some((Backend::new(item.as_text().unwrap_or(""), target), item.clone()));
    }
    let mut fields = checker.table(item, expected)?;
    let service = fields.take("srv");
    let place = match &service {
        Some(service) => {
            if let Some(address) = fields.take("address") {
                checker.conflict(&address, "a backend is at an address or is a service, and not both", None);
            }
            Some(service.clone())
        }
        None => fields.require("address", "an address such as \"10.0.0.1:5432\"", checker),
    };
    let weight =
        fields.take("weight").and_then(|item| checker.number(&item, 0..=u32::from(Backend::WEIGHT_MAX), ""));
    let backup = fields.take("backup").and_then(|item| checker.boolean(&item));
    let max_connections =
        fields.take("max_connections").and_then(|item| checker.number(&item, 1..=limits::COUNT_MAX, ""));
    fields.finish(checker);
    let place = place?;
    let target = match service {
        Some(_) => checker.address(&place, "the name of a service", address::service)?,
        None => checker.address(&place, "an address such as \"10.0.0.1:5432\"", address::backend)?,
    };
    let backend = Backend::new(place.as_text().unwrap_or(""), target);
    let weight = weight.and_then(|weight| u16::try_from(weight).ok()).unwrap_or(backend.weight);
    Some((Backend { weight, backup: backup.unwrap_or(false), max_connections, ..backend }, place))
}

fn check_backends_serve(app: &App, item: &Item<'_>, checker: &mut Checker<'_>) {
    if app.backends.is_empty() {
        return;
    }
    if app.backends.iter().all(|backend| backend.backup) {
        checker.conflict(item, "there are only backups, expected a backend that is none", None);
    } else if app.backends.iter().all(|backend| backend.weight == 0) {
        checker.conflict(item, "every backend has weight 0, so that none would get a connection", None);
    }
}

fn check_backends_differ(app: &App, places: &[Item<'_>], checker: &mut Checker<'_>) {
    for (index, backend) in app.backends.iter().enumerate() {
        if let Some(first) = app.backends[..index].iter().position(|first| first.target == backend.target) {
            let message = format!("this is the same backend as {}", places[first].key);
            checker.conflict(&places[index], message, Some("to give it more connections, raise its weight"));
        }
    }
}

/// A backend that is one of the app's own frontends would be connected to without end.
pub(super) fn check_no_loop(app: &App, places: &[Item<'_>], checker: &mut Checker<'_>) {
    for (backend, place) in app.backends.iter().zip(places) {
        let Target::Address(address) = &backend.target else { continue };
        let target = Frontend::new("", address.clone());
        let is_loopback = address.inet().is_some_and(|address| address.ip().is_loopback());
        let is_own = |frontend: &&Frontend| {
            is_same_address(frontend, &target) || is_loopback && covers(frontend, &target)
        };
        if let Some(frontend) = app.frontends.iter().find(is_own) {
            let message = format!("the app would connect to itself: it listens on {}", quote(&frontend.name));
            checker.conflict(place, message, None);
        }
    }
}

fn source(item: &Item<'_>, app: &mut App, checker: &mut Checker<'_>) {
    let expected = "a local IP address such as \"10.0.0.8\"";
    for element in checker.array(item, "an array of local IP addresses", None) {
        let Some(text) = checker.text(&element, expected) else { continue };
        let Ok(ip) = text.parse::<IpAddr>() else {
            let has_port = text.parse::<std::net::SocketAddr>().is_ok();
            checker.wrong_with(&element, expected, has_port.then(|| "leave out the port".to_owned()));
            continue;
        };
        if ip.is_unspecified() || ip.is_multicast() {
            checker.wrong(&element, expected);
            continue;
        }
        if app.source.contains(&ip) {
            checker.conflict(&element, format!("{ip} is given twice"), None);
            continue;
        }
        let fits = |backend: &Backend| match &backend.target {
            Target::Host { .. } | Target::Service { .. } => true,
            Target::Address(address) => {
                address.inet().is_some_and(|address| address.is_ipv4() == ip.is_ipv4())
            }
        };
        if !app.backends.is_empty() && !app.backends.iter().any(fits) {
            let family = if ip.is_ipv4() { "IPv4" } else { "IPv6" };
            checker.conflict(
                &element,
                format!("no backend can be reached from {ip}: none is {family}"),
                None,
            );
        }
        app.source.push(ip);
    }
}

/// `is_app`: those are read too that hold before a route is known.
pub(super) fn timeouts(item: &Item<'_>, is_app: bool, checker: &mut Checker<'_>) -> Option<Timeouts> {
    let mut timeouts = Timeouts::default();
    let mut fields = checker.table(item, "a table, [app.timeouts] in TOML")?;
    if let Some(item) = fields.take("connect") {
        timeouts.connect =
            checker.duration(&item, TIMEOUT_MIN..=TIMEOUT_MAX, None).unwrap_or(timeouts.connect);
    }
    timeouts.idle = optional(&mut fields, "idle", timeouts.idle, checker);
    timeouts.half_close = optional(&mut fields, "half_close", timeouts.half_close, checker);
    timeouts.lifetime = optional(&mut fields, "lifetime", timeouts.lifetime, checker);
    for (name, value) in [("handshake", &mut timeouts.handshake), ("sniff", &mut timeouts.sniff)] {
        let item = if is_app { fields.take(name) } else { None };
        if let Some(item) = item {
            *value = checker.duration(&item, TIMEOUT_MIN..=TIMEOUT_MAX, None).unwrap_or(*value);
        }
    }
    fields.finish(checker);
    Some(timeouts)
}

/// A timeout that can be switched off.
fn optional(
    fields: &mut Fields<'_>,
    name: &'static str,
    default: Option<Duration>,
    checker: &mut Checker<'_>,
) -> Option<Duration> {
    let Some(item) = fields.take(name) else { return default };
    if item.as_text() == Some("none") {
        return None;
    }
    checker.duration(&item, TIMEOUT_MIN..=TIMEOUT_MAX, Some("\"none\" is no limit"))
}

fn keep_alive(item: &Item<'_>, checker: &mut Checker<'_>) -> Option<KeepAlive> {
    if item.node.value == Value::Boolean(false) {
        return None;
    }
    let mut keep_alive = App::DEFAULT_KEEP_ALIVE;
    if item.node.value == Value::Boolean(true) {
        return Some(keep_alive);
    }
    let expected = "false, true, or a table such as { idle = \"2m\", interval = \"30s\", count = 4 }";
    let mut fields = checker.table(item, expected)?;
    for (name, value) in [("idle", &mut keep_alive.idle), ("interval", &mut keep_alive.interval)] {
        let Some(item) = fields.take(name) else { continue };
        let Some(duration) = checker.duration(&item, Duration::from_secs(1)..=KEEP_ALIVE_MAX, None) else {
            continue;
        };
        if duration.subsec_nanos() != 0 {
            checker.wrong(&item, "whole seconds: the kernel counts in them");
        }
        *value = duration;
    }
    if let Some(item) = fields.take("count") {
        keep_alive.count = checker.number(&item, 1..=KEEP_ALIVE_COUNT_MAX, "").unwrap_or(keep_alive.count);
    }
    fields.finish(checker);
    Some(keep_alive)
}
