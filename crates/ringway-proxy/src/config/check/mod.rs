//! From a tree to a [`Config`]: every key read, every fault found.
//!
//! `server` and `app` read one section each; what concerns several sections is checked here at the end.

mod address;
mod app;
mod fields;
mod health;
mod limits;
mod network;
mod proxy_protocol;
mod seed;
mod server;
mod value;

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::Path;

use ringway::SocketAddress;

use super::Format;
use super::fault::{ConfigErrors, FaultKind};
use super::tree::source::Source;
use super::tree::substitute::{Environment, substitute};
use super::tree::{Node, Value, json, toml, yaml};
use crate::model::{Admin, App, Config, Frontend, Server};
use fields::{Checker, Item};

pub(super) use fields::nearest;
pub(super) use value::{duration, log_level};

/// Names of the plan, at the top of the file, that this version does not have.
const LATER: [&str; 1] = ["include"];

/// The configuration that a text describes.
///
/// # Errors
/// Every fault.
pub(super) fn check(
    source: &Source<'_>,
    format: Format,
    base_dir: &Path,
    environment: &Environment<'_>,
) -> Result<Config, ConfigErrors> {
    let (mut root, mut faults, sound_until) = match format {
        Format::Toml => {
            let parsed = toml::parse(source);
            (parsed.root, parsed.faults, parsed.sound_until)
        }
        Format::Yaml => {
            let (root, faults) = yaml::parse(source).map_err(|fault| ConfigErrors::new(vec![*fault]))?;
            (root, faults, usize::MAX)
        }
        Format::Json => {
            let (root, faults) = json::parse(source).map_err(|fault| ConfigErrors::new(vec![*fault]))?;
            (root, faults, usize::MAX)
        }
    };
    let syntax_faults = faults.len();
    substitute(&mut root, "", source, environment, &mut faults);
    let mut checker = Checker { source, base_dir, faults, frontends: 0 };
    let config =
        if is_seed(&root) { seed::check(&root, &mut checker) } else { document(&root, &mut checker) };
    let mut faults = checker.faults;
    if sound_until != usize::MAX {
        // Behind a broken line the tree may not be what was meant, and what is missing may stand there.
        let line = source.line(sound_until);
        let mut index = 0;
        faults.retain(|fault| {
            index += 1;
            let sound =
                fault.line < line && fault.kind != FaultKind::MissingKey && fault.kind != FaultKind::Conflict;
            index <= syntax_faults || sound
        });
    }
    if faults.is_empty() { Ok(config) } else { Err(ConfigErrors::new(faults)) }
}

/// Whether this is the seed proxy's file.
fn is_seed(root: &Node) -> bool {
    matches!(&root.value, Value::Table(entries) if entries.iter().any(|entry| entry.key == "Apps"))
}

fn document(root: &Node, checker: &mut Checker<'_>) -> Config {
    let mut config = Config { server: Server::default(), admin: None, apps: Vec::new(), demo: false };
    let Some(mut fields) = checker.root(root) else { return config };
    if let Some(item) = fields.take("server") {
        config.server = server::server(&item, checker);
    }
    let admin = fields.take("admin").and_then(|item| server::admin(&item, checker));
    let mut apps = Vec::new();
    let expected = "an array of tables, [[app]] in TOML";
    if let Some(item) = fields.require("app", "at least one app, [[app]] in TOML", checker) {
        let items = checker.array(&item, expected, None);
        if items.is_empty() && matches!(item.node.value, Value::Array(_)) {
            checker.wrong(&item, "at least one app");
        }
        for item in items {
            apps.extend(app::app(&item, checker));
        }
    }
    fields.finish(&LATER, checker);
    across(&apps, admin.as_ref(), checker);
    config.admin = admin.map(|(listen, _)| Admin { listen });
    config.apps = apps.into_iter().map(|app| app.app).collect();
    config
}

/// An app with the places of what is compared with other apps.
struct PlacedApp<'t> {
    app: App,
    name: Option<Item<'t>>,
    /// One for each frontend.
    frontends: Vec<Item<'t>>,
}

/// As many as the number by which a session names its frontend can tell apart.
const FRONTENDS_MAX: usize = 1 << 16;

/// What has to be different in all apps: names and listening addresses.
fn across<'t>(apps: &[PlacedApp<'t>], admin: Option<&(SocketAddress, Item<'t>)>, checker: &mut Checker<'_>) {
    let mut names: BTreeMap<&str, &Item<'t>> = BTreeMap::new();
    for app in apps {
        let Some(name) = &app.name else { continue };
        match names.get(app.app.name.as_str()) {
            Some(first) => {
                let message = format!("{} is the name of {} too", name.node.describe(), first.key);
                checker.conflict(name, message, None);
            }
            None => drop(names.insert(&app.app.name, name)),
        }
    }
    let frontends: Vec<(&Frontend, &Item<'t>)> =
        apps.iter().flat_map(|app| app.app.frontends.iter().zip(&app.frontends)).collect();
    if let Some((_, item)) = frontends.get(FRONTENDS_MAX) {
        return checker.conflict(item, format!("there are more than {FRONTENDS_MAX} frontends"), None);
    }
    // Only what has the same port, or no port, can be the same address.
    let mut by_port: BTreeMap<Option<u16>, Vec<(&Frontend, &Item<'t>)>> = BTreeMap::new();
    for (later, item) in &frontends {
        let port = later.address.inet().map(|address| address.port());
        let others = by_port.entry(port).or_default();
        if let Some((_, first)) = others.iter().find(|(first, _)| is_same_address(first, later)) {
            checker.conflict(item, format!("{} listens here already", first.key), None);
        }
        // Port 0 is another port each time: nothing is compared with it.
        if port != Some(0) {
            others.push((later, item));
        }
    }
    if let Some((listen, item)) = admin {
        let admin = Frontend::new("admin", listen.clone());
        if let Some((_, first)) = frontends
            .iter()
            .find(|(frontend, _)| is_same_address(frontend, &admin) || covers(frontend, &admin))
        {
            checker.conflict(item, format!("{} listens here already", first.key), None);
        }
    }
}

/// Whether two frontends would take each other's connections.
///
/// A specific address beside an unspecified one is fine: the kernel prefers the specific one.
fn is_same_address(a: &Frontend, b: &Frontend) -> bool {
    match (&a.address, &b.address) {
        // Port 0 is another port each time.
        (SocketAddress::Inet(first), SocketAddress::Inet(second)) if first.port() == second.port() => {
            let dual_over = |dual: &Frontend, ip: IpAddr| dual.dual_stack && ip.is_unspecified();
            first.port() != 0 && (first == second || dual_over(a, second.ip()) || dual_over(b, first.ip()))
        }
        (SocketAddress::Unix(first), SocketAddress::Unix(second)) => first == second,
        _ => false,
    }
}

/// Whether `wide` takes every connection to `narrow`'s address unless that has a socket of its own.
fn covers(wide: &Frontend, narrow: &Frontend) -> bool {
    match (wide.address.inet(), narrow.address.inet()) {
        (Some(wide_addr), Some(narrow)) => {
            wide_addr.port() != 0
                && wide_addr.port() == narrow.port()
                && wide_addr.ip().is_unspecified()
                && (wide.dual_stack || wide_addr.is_ipv4() == narrow.is_ipv4())
        }
        _ => false,
    }
}
