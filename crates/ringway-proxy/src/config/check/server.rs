//! `[server]` and `[admin]`.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use ringway::SocketAddress;

use super::address;
use super::fields::{Checker, Item};
use super::value;
use crate::config::tree::Value;
use crate::model::{EngineChoice, LogFormat, LogLevel, Server};

/// Beyond that a key was meant in another unit.
const WORKERS_MAX: u32 = 1_024;
/// The drain of a deployment takes no longer.
const DRAIN_TIMEOUT_MAX: Duration = Duration::from_secs(7 * 86_400);
/// A worker that polls for longer than this takes a processor for nothing.
const SPIN_MAX: Duration = Duration::from_millis(10);
/// TCP_CA_NAME_MAX of the kernel is 16, the last byte zero.
const CONGESTION_BYTES_MAX: usize = 15;
/// LOGIN_NAME_MAX of Linux.
const ACCOUNT_BYTES_MAX: usize = 256;
/// SO_RCVLOWAT is an int; more than this was meant in another unit.
const BULK_LOW_WATER_MAX: u32 = 1 << 30;

/// PATH_MAX of the kernel is 4,096, the last byte zero.
const BINARY_BYTES_MAX: usize = 4_095;

/// No answer comes back in less.
const RESOLVE_TIMEOUT_MIN: Duration = Duration::from_millis(10);
/// Whoever waits longer waits for nothing.
const RESOLVE_TIMEOUT_MAX: Duration = Duration::from_secs(60);

pub(super) fn server(item: &Item<'_>, checker: &mut Checker<'_>) -> Server {
    let mut server = Server::default();
    let Some(mut fields) = checker.table(item, "a table, [server] in TOML") else { return server };
    if let Some(item) = fields.take("workers") {
        server.workers = auto_or_number(&item, WORKERS_MAX, checker);
    }
    if let Some(item) = fields.take("engine") {
        let words = [
            ("auto", EngineChoice::Auto),
            ("io_uring", EngineChoice::IoUring),
            ("epoll", EngineChoice::Epoll),
        ];
        server.engine = checker.choice(&item, &words, &[]).unwrap_or(server.engine);
    }
    if let Some(item) = fields.take("log_level") {
        server.log_level = log_level(&item, checker).unwrap_or(server.log_level);
    }
    if let Some(item) = fields.take("log_format") {
        let words = [("human", LogFormat::Human), ("json", LogFormat::Json)];
        server.log_format = checker.choice(&item, &words, &[]).unwrap_or(server.log_format);
    }
    if let Some(item) = fields.take("drain_timeout") {
        let range = Duration::ZERO..=DRAIN_TIMEOUT_MAX;
        server.drain_timeout = checker.duration(&item, range, None).unwrap_or(server.drain_timeout);
    }
    if let Some(item) = fields.take("watch") {
        server.watch = checker.boolean(&item).unwrap_or(server.watch);
    }
    if let Some(item) = fields.take("access_log") {
        server.access_log = checker.boolean(&item).unwrap_or(server.access_log);
    }
    if let Some(item) = fields.take("max_connections") {
        server.max_connections = auto_or_number(&item, u32::MAX, checker);
    }
    if let Some(item) = fields.take("spin") {
        server.spin = checker.duration(&item, Duration::ZERO..=SPIN_MAX, None).unwrap_or(server.spin);
    }
    if let Some(item) = fields.take("congestion") {
        server.congestion = congestion(&item, checker);
    }
    if let Some(item) = fields.take("bulk_low_water") {
        server.bulk_low_water = checker.size(&item, BULK_LOW_WATER_MAX.into()).map(|bytes| bytes as u32);
    }
    if let Some(item) = fields.take("even_workers") {
        server.even_workers = checker.boolean(&item).unwrap_or(server.even_workers);
    }
    if let Some(item) = fields.take("resolvers") {
        server.resolvers = resolvers(&item, checker);
    }
    if let Some(item) = fields.take("resolve_timeout") {
        let range = RESOLVE_TIMEOUT_MIN..=RESOLVE_TIMEOUT_MAX;
        server.resolve_timeout = checker.duration(&item, range, None).unwrap_or(server.resolve_timeout);
    }
    if let Some(item) = fields.take("user") {
        server.user = account(&item, "a user's name or number, as \"ringway\"", checker);
    }
    if let Some(item) = fields.take("group") {
        server.group = account(&item, "a group's name or number, as \"ringway\"", checker);
        if !fields.has("user") {
            checker.conflict(&item, "a group is only given to a user that is named", Some("add server.user"));
        }
    }
    if let Some(item) = fields.take("binary") {
        server.binary = binary(&item, checker);
    }
    fields.finish(checker);
    server
}

pub(super) fn admin<'t>(item: &Item<'t>, checker: &mut Checker<'_>) -> Option<(SocketAddress, Item<'t>)> {
    let mut fields = checker.table(item, "a table, [admin] in TOML")?;
    let expected = "an address such as \"127.0.0.1:9900\" or \"unix:/path\"";
    let item = fields.require("listen", expected, checker);
    fields.finish(checker);
    let item = item?;
    let listen = checker.address(&item, expected, address::admin)?;
    Some((listen, item))
}

fn account(item: &Item<'_>, expected: &str, checker: &mut Checker<'_>) -> Option<String> {
    let name = checker.text(item, expected)?;
    let mut bytes = name.bytes();
    let is_name = bytes.next().is_some_and(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
        && bytes.all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'.'))
        && name.len() <= ACCOUNT_BYTES_MAX;
    if !is_name {
        checker.wrong(item, expected);
        return None;
    }
    Some(name)
}

fn auto_or_number(item: &Item<'_>, max: u32, checker: &mut Checker<'_>) -> Option<usize> {
    if item.as_text() == Some("auto") {
        return None;
    }
    let number = checker.number(item, 1..=max, "\"auto\" or ")?;
    usize::try_from(number).ok()
}

fn log_level(item: &Item<'_>, checker: &mut Checker<'_>) -> Option<LogLevel> {
    let level = match &item.node.value {
        Value::Integer(number) => value::numbered_log_level(*number),
        Value::String(text) => value::log_level(text),
        _ => None,
    };
    if level.is_some() {
        return level;
    }
    match &item.node.value {
        Value::String(_) => {
            let words = [
                ("trace", LogLevel::Trace),
                ("debug", LogLevel::Debug),
                ("info", LogLevel::Info),
                ("warn", LogLevel::Warn),
                ("error", LogLevel::Error),
                ("off", LogLevel::Off),
            ];
            checker.choice(item, &words, &[])
        }
        _ => {
            checker
                .wrong(item, "the name of a level, as \"info\", or a number from 0 (debug) to 7 (disabled)");
            None
        }
    }
}

fn resolvers(item: &Item<'_>, checker: &mut Checker<'_>) -> Vec<SocketAddr> {
    let expected = "the IP address of a name server with its port, as \"10.0.0.2:53\"";
    let mut resolvers = Vec::new();
    for element in checker.array(item, "an array of name servers, as [\"10.0.0.2:53\"]", None) {
        let Some(text) = checker.text(&element, expected) else { continue };
        match text.parse::<SocketAddr>() {
            Ok(address) if address.port() != 0 && !address.ip().is_unspecified() => resolvers.push(address),
            _ => {
                let is_bare = text.parse::<IpAddr>().is_ok();
                checker.wrong_with(&element, expected, is_bare.then(|| "the port is missing".to_owned()));
            }
        }
    }
    resolvers
}

fn binary(item: &Item<'_>, checker: &mut Checker<'_>) -> Option<PathBuf> {
    let expected = "an absolute path, as \"/usr/local/bin/ringway\"";
    let path = checker.text(item, expected)?;
    if !path.starts_with('/') || path.len() > BINARY_BYTES_MAX || path.contains('\0') {
        checker.wrong(item, expected);
        return None;
    }
    Some(path.into())
}

fn congestion(item: &Item<'_>, checker: &mut Checker<'_>) -> Option<String> {
    let expected = "the name of a congestion control, as \"reno\" or \"cubic\"";
    let name = checker.text(item, expected)?;
    let is_name = (1..=CONGESTION_BYTES_MAX).contains(&name.len())
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-'));
    if !is_name {
        checker.wrong(item, expected);
        return None;
    }
    Some(name)
}
