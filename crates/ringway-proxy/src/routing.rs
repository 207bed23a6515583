//! Which route of an app a client takes: the first whose rule fits. Pure: what is known of a client in, a route out.
//!
//! Rules are looked up by name: in a table of whole names, and in one of what wildcards end in; only those that ask for no
//! name, or for a pattern, are looked at one after the other. What a route would say to a client is found by the same
//! comparison that decides ([`RouteTable::explain`]).

use std::collections::HashMap;
use std::fmt;
use std::net::{IpAddr, SocketAddr};

use crate::admission::AddressList;
use crate::model::{App, Client, NamePattern, Rule};

/// What is known of a client.
#[derive(Clone, Copy)]
pub struct Inquirer<'a> {
    /// What it speaks; `None`: its first bytes were not looked at.
    pub protocol: Option<Client>,
    /// Host that it asks for, in lower case.
    pub name: Option<&'a str>,
    /// What it is called by a certificate that was verified.
    pub client_name: Option<&'a str>,
    /// Whether it offers an application protocol within TLS.
    pub offers: &'a dyn Fn(&[u8]) -> bool,
    /// Path of its request.
    pub path: Option<&'a str>,
    /// Where it comes from; `None`: a Unix socket.
    pub source: Option<IpAddr>,
    /// What it connected to; `None`: a Unix socket.
    pub destination: Option<SocketAddr>,
}

/// The routes of an app, ready to be looked up.
#[derive(Debug, Default)]
pub struct RouteTable {
    routes: Vec<CompiledRule>,
    /// By whole name.
    exact: HashMap<Box<str>, Vec<u32>>,
    /// By what a wildcard ends in.
    below: HashMap<Box<str>, Vec<u32>>,
    /// Labels of the longest of them: names are not taken apart further.
    below_labels_max: usize,
    /// Those that ask for a pattern.
    patterns: Vec<u32>,
    /// Those that ask for no name.
    nameless: Vec<u32>,
    needs_bytes: bool,
    asks_for_destination: bool,
}

#[derive(Debug)]
struct CompiledRule {
    /// Where its app is one of TLS and it names no protocol, it means TLS.
    rule: Rule,
    source: AddressList,
    destination: AddressList,
}

/// Where a client goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decision {
    /// To the pool of the route with this number.
    Route(usize),
    /// To the backends of the app itself.
    Own,
    /// It had to begin with a hello of TLS, and did not: what `tls.unreadable` says.
    Unreadable,
    /// Nowhere: it fits no route, and the app has no backends of its own.
    NoRoute,
}

/// The first part of a rule that does not fit a client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mismatch {
    /// The key, as `server_names`.
    pub key: &'static str,
    /// What was found and what was expected.
    pub reason: String,
}

impl fmt::Display for Mismatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.key, self.reason)
    }
}

/// What of a rule does not fit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Part {
    Protocol,
    ServerNames,
    ClientNames,
    Alpn,
    Paths,
    Source,
    Destination,
    DestinationPorts,
}

impl RouteTable {
    /// The table of an app's routes.
    pub fn new(app: &App) -> Self {
        let mut table = Self { needs_bytes: app.tls.is_some(), ..Self::default() };
        for (index, route) in app.routes.iter().enumerate() {
            // Routes are far fewer than 2^32.
            let index = index as u32;
            let mut rule = route.rule.clone();
            if app.tls.is_some() && rule.protocols.is_any() {
                rule.protocols.add(Client::Tls);
            }
            table.needs_bytes |= rule.needs_bytes();
            table.asks_for_destination |= !(rule.destination.is_empty() && rule.destination_ports.is_empty());
            for name in &rule.server_names {
                match name {
                    NamePattern::Exact(name) => {
                        table.exact.entry(name.as_str().into()).or_default().push(index);
                    }
                    NamePattern::Below(suffix) => {
                        let labels = suffix.split('.').count();
                        table.below_labels_max = table.below_labels_max.max(labels);
                        table.below.entry(suffix.as_str().into()).or_default().push(index);
                    }
                    NamePattern::Pattern { .. } => table.patterns.push(index),
                }
            }
            if rule.server_names.is_empty() {
                table.nameless.push(index);
            }
            table.routes.push(CompiledRule {
                source: AddressList::new(&rule.source),
                destination: AddressList::new(&rule.destination),
                rule,
            });
        }
        table.patterns.dedup();
        table
    }

    /// Whether a client's first bytes have to be looked at.
    pub fn needs_bytes(&self) -> bool {
        self.needs_bytes
    }

    /// Whether it matters what a client connected to.
    pub fn asks_for_destination(&self) -> bool {
        self.asks_for_destination
    }

    /// The first route that fits.
    pub fn find(&self, client: &Inquirer<'_>) -> Option<usize> {
        let mut best = u32::MAX;
        let mut consider = |list: &[u32], is_named: bool| {
            for index in list.iter().take_while(|index| **index < best) {
                if self.routes[*index as usize].mismatch(client, is_named).is_none() {
                    best = *index;
                    return;
                }
            }
        };
        consider(&self.nameless, false);
        if let Some(name) = client.name {
            if let Some(list) = self.exact.get(name) {
                consider(list, true);
            }
            // From the end of the name: the longest of the table have so many labels, and no more are looked for.
            let dots = name.bytes().enumerate().rev().filter(|(_, byte)| *byte == b'.');
            for (dot, _) in dots.take(self.below_labels_max) {
                if let Some(list) = self.below.get(&name[dot + 1..]) {
                    consider(list, true);
                }
            }
            consider(&self.patterns, false);
        }
        (best != u32::MAX).then_some(best as usize)
    }

    /// Where a client of `app`, whose table this is, goes.
    pub fn decide(&self, app: &App, client: &Inquirer<'_>) -> Decision {
        if let Some(route) = self.find(client) {
            return Decision::Route(route);
        }
        let is_tls = client.protocol.is_none_or(|protocol| protocol == Client::Tls);
        match (app.tls.is_some() && !is_tls, app.backends.is_empty()) {
            (true, _) => Decision::Unreadable,
            (false, true) => Decision::NoRoute,
            (false, false) => Decision::Own,
        }
    }

    /// What keeps a client from each of the routes, in their order; `None`: it fits.
    pub fn explain(&self, client: &Inquirer<'_>) -> Vec<Option<Mismatch>> {
        let mismatch =
            |route: &CompiledRule| route.mismatch(client, false).map(|part| route.words(part, client));
        self.routes.iter().map(mismatch).collect()
    }
}

impl CompiledRule {
    /// The first part that does not fit. `is_named`: the name was found to fit, in a table.
    fn mismatch(&self, client: &Inquirer<'_>, is_named: bool) -> Option<Part> {
        let rule = &self.rule;
        let has_name = |name: &str| rule.server_names.iter().any(|own| own.matches(name));
        let in_list = |list: &AddressList, ip: Option<IpAddr>| ip.is_some_and(|ip| list.contains(ip));
        let ip = client.destination.map(|address| address.ip());
        let port = client.destination.map(|address| address.port());
        let parts = [
            (
                Part::Protocol,
                rule.protocols.is_any() || client.protocol.is_some_and(|one| rule.protocols.contains(one)),
            ),
            (Part::Source, rule.source.is_empty() || in_list(&self.source, client.source)),
            (Part::Destination, rule.destination.is_empty() || in_list(&self.destination, ip)),
            (
                Part::DestinationPorts,
                rule.destination_ports.is_empty()
                    || port
                        .is_some_and(|port| rule.destination_ports.iter().any(|range| range.contains(&port))),
            ),
        ];
        if let Some((part, _)) = parts.into_iter().find(|(_, fits)| !fits) {
            return Some(part);
        }
        // The dearer ones last.
        if !is_named && !rule.server_names.is_empty() && !client.name.is_some_and(has_name) {
            return Some(Part::ServerNames);
        }
        let is_called = |name: &str| rule.client_names.iter().any(|own| own.matches(name));
        if !rule.client_names.is_empty() && !client.client_name.is_some_and(is_called) {
            return Some(Part::ClientNames);
        }
        if !rule.alpn.is_empty() && !rule.alpn.iter().any(|name| (client.offers)(name.as_bytes())) {
            return Some(Part::Alpn);
        }
        let has_path = |path: &str| rule.paths.iter().any(|own| own.matches(path));
        if !rule.paths.is_empty() && !client.path.is_some_and(has_path) {
            return Some(Part::Paths);
        }
        None
    }

    fn words(&self, part: Part, client: &Inquirer<'_>) -> Mismatch {
        let rule = &self.rule;
        let none = || "nothing".to_owned();
        let text = |found: Option<&str>| found.map_or_else(none, str::to_owned);
        let (key, found, expected) = match part {
            Part::Protocol => {
                let found = client.protocol.map(Client::as_str);
                ("protocols", text(found), list(rule.protocols.iter().map(Client::as_str)))
            }
            Part::ServerNames => ("server_names", text(client.name), list(&rule.server_names)),
            Part::ClientNames => ("client_names", text(client.client_name), list(&rule.client_names)),
            Part::Alpn => ("alpn", "what is offered".to_owned(), list(&rule.alpn)),
            Part::Paths => ("paths", text(client.path), list(&rule.paths)),
            Part::Source => {
                let found = client.source.map_or_else(none, |ip| ip.to_canonical().to_string());
                ("source", found, list(&rule.source))
            }
            Part::Destination => {
                let found = client.destination.map_or_else(none, |address| address.ip().to_string());
                ("destination", found, list(&rule.destination))
            }
            Part::DestinationPorts => {
                let found = client.destination.map_or_else(none, |address| address.port().to_string());
                let ports = rule.destination_ports.iter().map(|range| match range.start() == range.end() {
                    true => range.start().to_string(),
                    false => format!("{}-{}", range.start(), range.end()),
                });
                ("destination_ports", found, list(ports))
            }
        };
        Mismatch { key, reason: format!("{found} is none of {expected}") }
    }
}

/// A few of them, and how many more there are.
fn list<T: fmt::Display>(items: impl IntoIterator<Item = T>) -> String {
    const SHOWN_MAX: usize = 4;
    let all: Vec<String> = items.into_iter().map(|item| item.to_string()).collect();
    let mut text = all[..all.len().min(SHOWN_MAX)].join(", ");
    if all.len() > SHOWN_MAX {
        text.push_str(&format!(" and {} more", all.len() - SHOWN_MAX));
    }
    text
}

#[cfg(test)]
mod tests;
