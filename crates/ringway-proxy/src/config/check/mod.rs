//! From trees to a [`Config`]: every key read, every fault found.
//!
//! `server` and `app` read one section each, `fragments` finds the files that are included; what concerns several
//! sections or files is checked here at the end.

mod address;
mod app;
mod backend_tls;
mod document;
mod fields;
mod files;
mod fragments;
mod health;
mod limits;
mod network;
mod part;
mod proxy_protocol;
mod rebalance;
mod route;
mod seed;
mod server;
mod tls;
mod value;

use std::collections::hash_map::Entry;
use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use ringway::SocketAddress;

use super::Format;
use super::fault::{ConfigErrors, Fault, FaultKind};
use super::include::{Fragment, Fragments};
use super::known::Known;
use super::tree::source::Source;
use super::tree::substitute::Environment;
use super::tree::{Node, Value};
use crate::model::{Admin, App, Config, Frontend, Server};
use document::Document;
use fields::{Checker, Item};

pub(super) use fields::nearest;
pub(super) use files::files;
pub(super) use part::{HEADER as APP, Part, has_only_apps, of_part};
pub(super) use value::{duration, log_level};

/// What a file says.
pub(super) struct Checked {
    pub(super) config: Config,
    /// The files that it includes, if it does include any.
    pub(super) fragments: Option<Vec<Fragment>>,
    /// Where each app begins, if the file can be [taken apart](part).
    pub(super) starts: Option<Vec<usize>>,
}

/// What a configuration means depends on where and when it is read, too.
pub(super) struct Context<'a> {
    /// What relative paths count from.
    pub(super) base_dir: &'a Path,
    /// Looks variables up.
    pub(super) environment: &'a Environment<'a>,
    /// What was read of the files that it names.
    pub(super) known: &'a Known,
    /// What could be served and yet is not as it should be at this second, counted from the beginning of 1970, is a fault,
    /// too.
    pub(super) verified_at: Option<i64>,
}

/// The configuration that a file describes with those that it includes.
///
/// # Errors
/// Every fault.
pub(super) fn check(
    source: Source<'_>,
    format: Format,
    from: Fragments<'_>,
    context: &Context<'_>,
) -> Result<Checked, ConfigErrors> {
    let Context { base_dir, environment, known, verified_at } = *context;
    let mut main = Document::parse(source, format, base_dir.to_path_buf());
    let mut faults = Vec::new();
    main.substitute(environment, &mut faults);
    let mut checker = Checker::new(&main, faults);
    checker.known = Some(known);
    checker.verified_at = verified_at;
    if is_seed(&main.root) {
        let config = seed::check(&main, &mut checker);
        let faults = believable(&[&main], checker.faults);
        if faults.is_empty() {
            return Ok(Checked { config, fragments: None, starts: None });
        }
        return Err(ConfigErrors::new(faults));
    }
    let include = checker.root(&main.root).and_then(|mut fields| fields.take("include"));
    let fragments = include.map(|item| fragments::fragments(&item, from, &mut checker));
    let names: Vec<PathBuf> =
        fragments.iter().flatten().map(|fragment| main.source.beside(&fragment.path)).collect();
    let mut included = Vec::new();
    for (fragment, name) in fragments.iter().flatten().zip(&names) {
        let mut document = Document::of_fragment(fragment, name, base_dir);
        document.substitute(environment, &mut checker.faults);
        included.push(document);
    }
    let config = configuration(&main, &included, &mut checker);
    let can_be_taken_apart = format == Format::Toml && fragments.is_none() && !checker.reads_files;
    let documents: Vec<&Document<'_>> = std::iter::once(&main).chain(&included).collect();
    let faults = believable(&documents, checker.faults);
    if !faults.is_empty() {
        return Err(ConfigErrors::new(faults));
    }
    let starts = if can_be_taken_apart { part::starts(&main) } else { None };
    Ok(Checked { config, fragments, starts })
}

/// The faults that are no mere consequence of a broken file, file by file.
fn believable(documents: &[&Document<'_>], faults: Vec<Fault>) -> Vec<Fault> {
    let places: BTreeMap<Option<&Path>, usize> =
        documents.iter().enumerate().map(|(index, document)| (document.source.file(), index)).collect();
    let is_one_broken = documents.iter().any(|document| document.is_broken());
    // A file that was not text has no document.
    let place = |fault: &Fault| places.get(&fault.file.as_deref()).copied();
    let is_believable = |fault: &Fault| {
        // What another one seems to conflict with may stand in the broken file.
        !(is_one_broken && fault.kind == FaultKind::Conflict)
            && place(fault).is_none_or(|index| documents[index].vouches_for(fault))
    };
    let syntax = documents.iter().flat_map(|document| document.syntax.iter().cloned());
    let mut faults: Vec<Fault> = syntax.chain(faults.into_iter().filter(is_believable)).collect();
    faults.sort_by_key(|fault| place(fault).unwrap_or(documents.len()));
    faults
}

/// Whether this is the seed proxy's file.
fn is_seed(root: &Node) -> bool {
    matches!(&root.value, Value::Table(entries) if entries.iter().any(|entry| entry.key == "Apps"))
}

fn configuration<'t>(
    main: &'t Document<'t>,
    included: &'t [Document<'t>],
    checker: &mut Checker<'t>,
) -> Config {
    let mut config = Config { server: Server::default(), admin: None, apps: Vec::new(), demo: false };
    let Some(mut fields) = checker.root(&main.root) else { return config };
    if let Some(item) = fields.take("server") {
        config.server = server::server(&item, checker);
    }
    let admin = fields.take("admin").and_then(|item| server::admin(&item, checker));
    let include = fields.take("include");
    let item = if include.is_some() {
        fields.take("app")
    } else {
        fields.require("app", "at least one app, [[app]] in TOML", checker)
    };
    let mut apps = item.map(|item| self::apps(&item, main, checker)).unwrap_or_default();
    fields.finish(checker);
    for document in included {
        checker.turn_to(document);
        apps.extend(fragment(document, main, checker));
    }
    checker.turn_to(main);
    if let Some(item) = include.filter(|_| apps.is_empty() && checker.faults.is_empty()) {
        checker.conflict(&item, "there is no app, neither here nor in an included file", None);
    }
    across(&apps, admin.as_ref().map(|(listen, item)| (listen, item, main)), checker);
    config.admin = admin.map(|(listen, _)| Admin { listen });
    config.apps = apps.into_iter().map(|app| app.app).collect();
    config
}

/// The apps of an included file.
fn fragment<'t>(
    document: &'t Document<'t>,
    main: &Document<'_>,
    checker: &mut Checker<'t>,
) -> Vec<PlacedApp<'t>> {
    let Some(mut fields) = checker.root(&document.root) else { return Vec::new() };
    let home = main.source.file().map_or("the main file".to_owned(), |file| file.display().to_string());
    for name in ["server", "admin"] {
        if let Some(item) = fields.take(name) {
            checker.misplaced(&item, format!("an included file has apps only; this belongs in {home}"));
        }
    }
    if let Some(item) = fields.take("include") {
        checker.misplaced(&item, format!("an included file includes no others; this belongs in {home}"));
    }
    let apps = fields.take("app").map(|item| self::apps(&item, document, checker));
    fields.finish(checker);
    apps.unwrap_or_default()
}

fn apps<'t>(item: &Item<'t>, document: &'t Document<'t>, checker: &mut Checker<'_>) -> Vec<PlacedApp<'t>> {
    let items = checker.array(item, "an array of tables, [[app]] in TOML", None);
    if items.is_empty() && matches!(item.node.value, Value::Array(_)) {
        checker.wrong(item, "at least one app");
    }
    items.iter().filter_map(|item| app::app(item, document, checker)).collect()
}

/// An app with the places of what is compared with other apps.
struct PlacedApp<'t> {
    app: App,
    document: &'t Document<'t>,
    name: Option<Item<'t>>,
    /// One for each frontend.
    frontends: Vec<Item<'t>>,
}

/// As many as the number by which a session names its frontend can tell apart.
const FRONTENDS_MAX: usize = 1 << 16;

/// What has to be different in all apps: names and listening addresses.
fn across<'t>(
    apps: &[PlacedApp<'t>],
    admin: Option<(&SocketAddress, &Item<'t>, &'t Document<'t>)>,
    checker: &mut Checker<'t>,
) {
    let mut names: BTreeMap<&str, (&Item<'t>, &Document<'t>)> = BTreeMap::new();
    for app in apps {
        let Some(name) = &app.name else { continue };
        match names.get(app.app.name.as_str()) {
            Some((first, document)) => {
                checker.turn_to(app.document);
                let first = checker.place(first, document);
                checker.conflict(name, format!("{} is the name of {first} too", name.node.describe()), None);
            }
            None => drop(names.insert(&app.app.name, (name, app.document))),
        }
    }
    let frontends: Vec<(&Frontend, &Item<'t>, &'t Document<'t>)> = apps
        .iter()
        .flat_map(|app| {
            let placed = app.app.frontends.iter().zip(&app.frontends);
            placed.map(|(frontend, item)| (frontend, item, app.document))
        })
        .collect();
    if let Some((_, item, document)) = frontends.get(FRONTENDS_MAX) {
        checker.turn_to(document);
        return checker.conflict(item, format!("there are more than {FRONTENDS_MAX} frontends"), None);
    }
    // Addresses that differ collide only where both are all addresses of a port: of these there are few.
    let mut specific: HashMap<&SocketAddress, (&Item<'t>, &Document<'t>)> = HashMap::new();
    let mut unspecified: HashMap<u16, Vec<(&Frontend, &Item<'t>, &Document<'t>)>> = HashMap::new();
    for (later, item, document) in &frontends {
        let all_of = later.address.inet().filter(|address| address.ip().is_unspecified());
        let first = match all_of {
            Some(address) => {
                let others = unspecified.entry(address.port()).or_default();
                let first = others.iter().find(|(first, ..)| is_same_address(first, later));
                let first = first.map(|(_, item, document)| (*item, *document));
                let is_like =
                    |other: &Frontend| other.address == later.address && other.dual_stack == later.dual_stack;
                if address.port() != 0 && !others.iter().any(|(other, ..)| is_like(other)) {
                    others.push((later, item, document));
                }
                first
            }
            // Port 0 is another port each time.
            None if later.address.inet().is_some_and(|address| address.port() == 0) => None,
            None => match specific.entry(&later.address) {
                Entry::Occupied(first) => Some(*first.get()),
                Entry::Vacant(place) => {
                    place.insert((item, document));
                    None
                }
            },
        };
        if let Some((first, of)) = first {
            checker.turn_to(document);
            checker.conflict(item, format!("{} listens here already", checker.place(first, of)), None);
        }
    }
    if let Some((listen, item, document)) = admin {
        let admin = Frontend::new("admin", listen.clone());
        if let Some((_, first, of)) = frontends
            .iter()
            .find(|(frontend, ..)| is_same_address(frontend, &admin) || covers(frontend, &admin))
        {
            checker.turn_to(document);
            checker.conflict(item, format!("{} listens here already", checker.place(first, of)), None);
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
