//! `[[app.route]]` and `[app.tls]`: who goes where, and what becomes of those that cannot be read.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use std::sync::Arc;

use ringway_proto::host_name::{HostName, HostNameError};

use super::fields::{Checker, Item};
use super::{address, app, health, network, tls};
use crate::config::tree::{Value, quote};
use crate::model::{
    App, Backend, Balance, Client, NamePattern, Network, PathPattern, Pattern, Protocols, Route, Rule,
    RulesOfTls, Unreadable,
};

const NAMES: &str = "an array of host names, as [\"www.example.com\", \"*.example.com\"]";
const NAME: &str =
    "a host name such as \"www.example.com\" or \"*.example.com\", or \"~\" and a regular expression";
const CLIENTS: &str = "an array of names, as [\"alice\"]";
const CLIENT: &str = "a name such as \"alice\", or \"~\" and a regular expression";
const NETWORKS: &str = "an array of networks, as [\"10.0.0.0/8\"]";
const NETWORK: &str = "a network such as \"10.0.0.0/8\", or an IP address";
const PATH: &str = "a path such as \"/chat\" or \"/chat/*\"";
const PORT: &str = "a port such as 443, or a range such as \"8000-8010\"";
/// As much of what a route asks for is made into a name: room for a number is left in the 64 bytes of a name.
const MADE_NAME_BYTES_MAX: usize = 56;

pub(super) fn tls(item: &Item<'_>, app: &App, checker: &mut Checker<'_>) -> Option<RulesOfTls> {
    let mut fields = checker.table(item, "a table, [app.tls] in TOML")?;
    let mode = fields.require("mode", "\"terminate\" or \"passthrough\"", checker);
    let modes = [("terminate", true), ("passthrough", false)];
    let is_ended = mode.as_ref().and_then(|item| checker.choice(item, &modes, &[]));
    let unreadable = fields.take("unreadable").and_then(|item| unreadable(&item, app, checker));
    let termination = match is_ended {
        Some(false) => {
            tls::refuse(&mut fields, checker);
            None
        }
        // Where the mode is not understood, what else is there has faults of its own still.
        Some(true) | None => {
            let demanded_by = mode.as_ref().filter(|_| is_ended.is_some());
            tls::termination(&app.name, demanded_by, &mut fields, checker).map(Arc::new)
        }
    };
    fields.finish(checker);
    // Without it TLS would be passed on.
    if is_ended? && termination.is_none() {
        return None;
    }
    Some(RulesOfTls { unreadable: unreadable.unwrap_or(Unreadable::Refuse), termination })
}

fn unreadable(item: &Item<'_>, app: &App, checker: &mut Checker<'_>) -> Option<Unreadable> {
    if item.as_text() == Some("refuse") {
        return Some(Unreadable::Refuse);
    }
    let expected = "\"refuse\", or the address of a backend such as \"10.0.0.1:443\"";
    let target = checker.address(item, expected, address::backend)?;
    let mut pool = App { frontends: app.frontends.clone(), ..app.pool() };
    pool.backends.push(Backend::new(item.as_text().unwrap_or(""), target));
    app::check_no_loop(&pool, std::slice::from_ref(item), checker);
    pool.frontends.clear();
    Some(Unreadable::Pool(Arc::new(pool)))
}

pub(super) fn routes(item: &Item<'_>, app: &App, checker: &mut Checker<'_>) -> Vec<Route> {
    let items = checker.array(item, "an array of tables, [[app.route]] in TOML", None);
    if items.is_empty() && matches!(item.node.value, Value::Array(_)) {
        checker.conflict(item, "this is empty, expected at least one route", None);
    }
    let mut names: BTreeMap<String, String> = BTreeMap::new();
    let mut routes: Vec<Route> = Vec::new();
    let mut greedy: Option<String> = None;
    for item in &items {
        let Some((written, rule, pool)) = route(item, app, checker) else { continue };
        if let Some(first) = &greedy {
            let message =
                format!("{first} asks for nothing and takes every client, so that this one gets none");
            checker.conflict(item, message, Some("move the route that takes the rest to the end"));
        }
        if rule == Rule::default() {
            greedy.get_or_insert_with(|| item.key.clone());
        }
        let name = match written {
            Some((name, place)) => {
                let reserved = (name == Unreadable::NAME).then_some("clients that cannot be read");
                if let Some(first) = names.get(&name).map(String::as_str).or(reserved) {
                    checker.conflict(&place, format!("{} is the name of {first} too", quote(&name)), None);
                }
                name
            }
            None => made_name(&rule, &names),
        };
        names.insert(name.clone(), item.key.clone());
        routes.push(Route { name, rule, pool: Arc::new(pool) });
    }
    routes
}

/// The name if it is written, with its place, what the route asks for, and its pool.
type Parts<'t> = (Option<(String, Item<'t>)>, Rule, App);

fn route<'t>(item: &Item<'t>, app: &App, checker: &mut Checker<'_>) -> Option<Parts<'t>> {
    let mut fields = checker.table(item, "a table, [[app.route]] in TOML")?;
    let name = fields.take("name");
    let name = name.and_then(|item| app::app_name(&item, checker).map(|name| (name, item)));
    let mut rule = Rule::default();
    if let Some(item) = fields.take("protocols") {
        for element in app::elements(&item, "an array of protocols, as [\"tls\"]", checker) {
            let words = Client::ALL.map(|client| (client.as_str(), client));
            if let Some(client) = checker.choice(&element, &words, &[]) {
                rule.protocols.add(client);
            }
        }
    }
    if let Some(item) = fields.take("server_names") {
        let all = app::elements(&item, NAMES, checker);
        rule.server_names = all.iter().filter_map(|element| name_pattern(element, checker)).collect();
    }
    if let Some(item) = fields.take("client_names") {
        let all = app::elements(&item, CLIENTS, checker);
        rule.client_names = all.iter().filter_map(|element| client_name(element, checker)).collect();
        let termination = app.tls.as_ref().and_then(|tls| tls.termination.as_ref());
        // What is said of TLS may be faulty.
        let is_known = app.tls.is_some() || checker.faults.is_empty();
        if is_known && termination.is_none_or(|termination| termination.clients.is_none()) {
            let message = "nobody is asked for a certificate: there is no tls.client_ca";
            checker.conflict(&item, message, None);
        }
        needs(&item, rule.protocols, &[Client::Tls], checker);
    }
    if let Some(item) = fields.take("alpn") {
        rule.alpn = tls::protocols(&item, checker);
        needs(&item, rule.protocols, &[Client::Tls], checker);
    }
    if let Some(item) = fields.take("paths") {
        let all = app::elements(&item, "an array of paths, as [\"/chat\"]", checker);
        rule.paths = all.iter().filter_map(|element| path(element, checker)).collect();
        needs(&item, rule.protocols, &[Client::Http1, Client::WebSocket], checker);
    }
    for (name, value) in [("source", &mut rule.source), ("destination", &mut rule.destination)] {
        if let Some(item) = fields.take(name) {
            *value = networks(&item, checker);
        }
    }
    if let Some(item) = fields.take("destination_ports") {
        let all = app::elements(&item, "an array of ports, as [443]", checker);
        rule.destination_ports = all.iter().filter_map(|element| ports(element, checker)).collect();
    }
    let mut pool = App { frontends: app.frontends.clone(), ..app.pool() };
    if let Some(item) = fields.require("backends", "an array of addresses, as [\"10.0.0.1:443\"]", checker) {
        app::backends(&item, &mut pool, checker);
    }
    pool.frontends.clear();
    if let Some(item) = fields.take("balance") {
        pool.balance = app::balance(&item, checker).unwrap_or(pool.balance);
    }
    if let Some(item) = fields.take("slow_start") {
        pool.slow_start = app::slow_start(&item, pool.balance, checker);
    } else if matches!(pool.balance, Balance::SourceHash | Balance::Maglev) {
        // That of the app means nothing to it.
        pool.slow_start = None;
    }
    if matches!(pool.balance, Balance::SourceHash | Balance::Maglev) {
        pool.rebalance = None;
    }
    if let Some(item) = fields.take("connect_attempts") {
        pool.connect_attempts = app::connect_attempts(&item, checker).unwrap_or(pool.connect_attempts);
    }
    if let Some(item) = fields.take("removed_backends") {
        pool.removed_backends = app::removed_backends(&item, checker).unwrap_or(pool.removed_backends);
    }
    if let Some(item) = fields.take("timeouts") {
        pool.timeouts = app::timeouts(&item, false, checker).unwrap_or(pool.timeouts);
    }
    if let Some(item) = fields.take("health") {
        pool.health = health::health(&item, checker).unwrap_or(pool.health);
    }
    fields.finish(checker);
    Some((name, rule, pool))
}

/// What only some protocols have goes with no others.
fn needs(item: &Item<'_>, protocols: Protocols, any_of: &[Client], checker: &mut Checker<'_>) {
    if !protocols.is_any() && !any_of.iter().any(|client| protocols.contains(*client)) {
        let message = format!("none of the route's protocols has this; {} does", any_of[0].as_str());
        checker.conflict(item, message, None);
    }
}

/// What a client is called: as it is written, or by a regular expression.
fn client_name(item: &Item<'_>, checker: &mut Checker<'_>) -> Option<NamePattern> {
    let text = checker.text(item, CLIENT)?;
    if text.is_empty() {
        checker.wrong(item, CLIENT);
        return None;
    }
    match text.strip_prefix('~') {
        Some(pattern) => pattern_of_names(item, pattern, checker),
        None => Some(NamePattern::Exact(text)),
    }
}

fn pattern_of_names(item: &Item<'_>, pattern: &str, checker: &mut Checker<'_>) -> Option<NamePattern> {
    match Pattern::new(&format!(r"\A(?:{pattern})\z")) {
        Ok(compiled) => Some(NamePattern::Pattern { text: pattern.to_owned(), pattern: compiled }),
        Err(error) => {
            checker.wrong(item, format!("a regular expression after \"~\": {error}"));
            None
        }
    }
}

fn name_pattern(item: &Item<'_>, checker: &mut Checker<'_>) -> Option<NamePattern> {
    let text = checker.text(item, NAME)?;
    if let Some(pattern) = text.strip_prefix('~') {
        return pattern_of_names(item, pattern, checker);
    }
    let (name, is_below) = match text.strip_prefix("*.") {
        Some(rest) => (rest, true),
        None => (text.as_str(), false),
    };
    let hint = match HostName::new(name.as_bytes()) {
        Ok(name) if is_below => return Some(NamePattern::Below(name.to_string())),
        Ok(name) => return Some(NamePattern::Exact(name.to_string())),
        Err(HostNameError::IpLiteral) => Some("clients ask for no IP address: name it in `destination`"),
        Err(_) if !name.is_ascii() => Some("write the name as DNS has it, as \"xn--bcher-kva.example\""),
        Err(_) if name.contains('*') => {
            Some("a wildcard is the whole first label; for others write \"~\" and a regular expression")
        }
        Err(_) if name.contains(':') => Some("leave out the port, and name it in `destination_ports`"),
        Err(_) => None,
    };
    checker.wrong_with(item, NAME, hint.map(str::to_owned));
    None
}

fn path(item: &Item<'_>, checker: &mut Checker<'_>) -> Option<PathPattern> {
    let text = checker.text(item, PATH)?;
    let (start, is_prefix) = match text.strip_suffix('*') {
        Some(start) => (start, true),
        None => (text.as_str(), false),
    };
    if !start.starts_with('/') || !start.bytes().all(|byte| byte.is_ascii_graphic()) {
        checker.wrong(item, PATH);
        return None;
    }
    if start.contains(['?', '*']) {
        checker.wrong_with(
            item,
            PATH,
            Some("a query is not looked at, and `*` stands at the end".to_owned()),
        );
        return None;
    }
    let start = start.to_owned();
    Some(if is_prefix { PathPattern::Prefix(start) } else { PathPattern::Exact(start) })
}

fn networks(item: &Item<'_>, checker: &mut Checker<'_>) -> Vec<Network> {
    let all = app::elements(item, NETWORKS, checker);
    all.iter().filter_map(|element| network::read(element, NETWORK, checker)).collect()
}

fn ports(item: &Item<'_>, checker: &mut Checker<'_>) -> Option<RangeInclusive<u16>> {
    let Some((first, last)) = item.as_text().and_then(|text| text.split_once('-')) else {
        let port = checker.number(item, 1..=65_535, "a range such as \"8000-8010\", or ")?;
        let port = u16::try_from(port).ok()?;
        return Some(port..=port);
    };
    match (first.parse::<u16>(), last.parse::<u16>()) {
        (Ok(first), Ok(last)) if 0 < first && first <= last => Some(first..=last),
        _ => {
            checker.wrong(item, PORT);
            None
        }
    }
}

/// A name for a route that has none, which stays as long as it asks for the same.
fn made_name(rule: &Rule, taken: &BTreeMap<String, String>) -> String {
    let words = rule
        .server_names
        .iter()
        .map(ToString::to_string)
        .chain(rule.client_names.iter().map(ToString::to_string))
        .chain(rule.alpn.iter().cloned())
        .chain(rule.protocols.iter().map(|client| client.as_str().to_owned()))
        .chain(rule.paths.iter().map(ToString::to_string))
        .chain(rule.source.iter().map(ToString::to_string))
        .chain(rule.destination.iter().map(ToString::to_string))
        .chain(rule.destination_ports.iter().map(|range| format!(":{}", range.start())));
    let mut name = words.take(2).collect::<Vec<_>>().join(" ");
    name.retain(|character| !character.is_control());
    while name.len() > MADE_NAME_BYTES_MAX {
        name.pop();
    }
    if name.is_empty() {
        name.push_str("rest");
    }
    let mut numbered = name.clone();
    let mut number = 2_u32;
    while taken.contains_key(&numbered) || numbered == Unreadable::NAME {
        numbered = format!("{name} {number}");
        number += 1;
    }
    numbered
}
