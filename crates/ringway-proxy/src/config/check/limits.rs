//! `[app.limits]`: who may come, how many, and how fast.

use std::time::Duration;

use super::app::TIMEOUT_MIN;
use super::fields::{Checker, Fields, Item};
use super::network;
use crate::config::tree::Value;
use crate::model::{Limits, Network, NetworkError};

/// The largest of numbers is kept for "no limit".
pub(super) const COUNT_MAX: u32 = u32::MAX - 1;
/// A nanosecond is the finest that rates are counted in; a thousand for each keeps them exact to a thousandth.
const RATE_MAX: u32 = 1_000_000;
/// More is no list that somebody keeps, and would take long to read.
const FILE_BYTES_MAX: u64 = 64 << 20;

/// A thousand GiB a second: no machine carries more.
const BANDWIDTH_MAX: u64 = 1_000 << 30;
/// An hour in a queue is a connection that nobody waits for any more.
const QUEUE_TIMEOUT_MAX: Duration = Duration::from_secs(3_600);

const NETWORK: &str =
    "a network such as \"10.0.0.0/8\", an IP address, or a table as { file = \"networks.txt\" }";

/// Reads them. `can_be_full`: a backend has a maximum.
pub(super) fn read(item: &Item<'_>, can_be_full: bool, checker: &mut Checker<'_>) -> Option<Limits> {
    let mut limits = Limits::default();
    let mut fields = checker.table(item, "a table, [app.limits] in TOML")?;
    for (name, value, max) in [
        ("connections", &mut limits.connections, COUNT_MAX),
        ("connections_per_source", &mut limits.connections_per_source, COUNT_MAX),
        ("handshakes", &mut limits.handshakes, COUNT_MAX),
        ("handshakes_per_source", &mut limits.handshakes_per_source, COUNT_MAX),
        ("connections_per_second", &mut limits.connections_per_second, RATE_MAX),
        ("connections_per_second_per_source", &mut limits.connections_per_second_per_source, RATE_MAX),
    ] {
        *value = fields.take(name).and_then(|item| checker.number(&item, 1..=max, ""));
    }
    if let Some(item) = fields.take("source_prefix_v6") {
        let prefix = checker.number(&item, 1..=128, "").and_then(|prefix| u8::try_from(prefix).ok());
        limits.source_prefix_v6 = prefix.unwrap_or(limits.source_prefix_v6);
    }
    for (name, value) in [
        ("bandwidth", &mut limits.bandwidth),
        ("bandwidth_per_connection", &mut limits.bandwidth_per_connection),
    ] {
        *value = fields.take(name).and_then(|item| checker.size(&item, BANDWIDTH_MAX));
    }
    read_queue(&mut fields, can_be_full, &mut limits, checker);
    if let Some(item) = fields.take("allow") {
        let networks = networks(&item, checker);
        if matches!(&item.node.value, Value::Array(elements) if elements.is_empty()) {
            checker.conflict(&item, "this is empty: nobody could come", None);
        }
        limits.allow = Some(networks);
    }
    if let Some(item) = fields.take("deny") {
        limits.deny = networks(&item, checker);
    }
    fields.finish(checker);
    Some(limits)
}

fn read_queue(fields: &mut Fields<'_>, can_be_full: bool, limits: &mut Limits, checker: &mut Checker<'_>) {
    let queue = fields.take("queue");
    if let Some(item) = &queue {
        limits.queue = checker.number(item, 1..=COUNT_MAX, "");
        if limits.queue.is_some() && !can_be_full {
            checker.conflict(item, "nobody would ever wait: no backend has max_connections", None);
        }
    }
    if let Some(item) = fields.take("queue_timeout") {
        let timeout = checker.duration(&item, TIMEOUT_MIN..=QUEUE_TIMEOUT_MAX, None);
        limits.queue_timeout = timeout.unwrap_or(limits.queue_timeout);
        if queue.is_none() {
            checker.conflict(&item, "nobody would ever wait: there is no queue", None);
        }
    }
}

fn networks(item: &Item<'_>, checker: &mut Checker<'_>) -> Vec<Network> {
    let mut networks = Vec::new();
    for element in checker.array(item, "an array of networks, as [\"10.0.0.0/8\"]", None) {
        if !matches!(element.node.value, Value::Table(_)) {
            networks.extend(network::read(&element, NETWORK, checker));
            continue;
        }
        let Some(mut fields) = checker.table(&element, NETWORK) else { continue };
        let file = fields.require("file", "the path of a file of networks, one a line", checker);
        fields.finish(checker);
        if let Some(file) = file {
            read_file(&file, &mut networks, checker);
        }
    }
    networks
}

/// Reads the networks of a file; the first line that is none is the fault.
fn read_file(item: &Item<'_>, networks: &mut Vec<Network>, checker: &mut Checker<'_>) {
    let Some(path) = checker.text(item, "the path of a file") else { return };
    let path = checker.directory_to_read().join(path);
    let text = match std::fs::metadata(&path) {
        Ok(metadata) if metadata.len() > FILE_BYTES_MAX => {
            return checker.conflict(item, "the file is larger than 64 MiB", None);
        }
        Ok(_) => std::fs::read_to_string(&path),
        Err(error) => Err(error),
    };
    let text = match text {
        Ok(text) => text,
        Err(error) => return checker.conflict(item, format!("the file cannot be read: {error}"), None),
    };
    for (index, line) in text.lines().enumerate() {
        let entry = line.split_once('#').map_or(line, |(entry, _)| entry).trim();
        if entry.is_empty() {
            continue;
        }
        let wrong = match Network::parse(entry) {
            Ok(network) => {
                networks.push(network);
                continue;
            }
            Err(NetworkError::Malformed) => "is no network and no IP address".to_owned(),
            Err(NetworkError::HostBits(meant)) => {
                format!("has bits behind its prefix; the network is {meant}")
            }
        };
        // A file may be binary: a little of the line is enough to find it by.
        let shown: String = entry.chars().take(60).collect();
        return checker.conflict(item, format!("line {} of the file: {shown:?} {wrong}", index + 1), None);
    }
}
