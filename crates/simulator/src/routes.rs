//! Routes of the apps of a simulation, and where a client has to go by them.
//!
//! Who goes where is decided here anew, rule by rule and in words of what a client means to say, without the proxy's tables
//! and readers.

use std::sync::Arc;
use std::time::Duration;

use ringway::SocketAddress;
use ringway::simulated::Random;
use ringway_proxy::control::access_log::Asked;
use ringway_proxy::model::{
    self, Client, NamePattern, Protocols, Route, Rule, RulesOfTls, Target, Termination, Unreadable,
};

use crate::opening::{Opening, Says};
use crate::tls;

/// Where a client goes.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Goes {
    /// To the backends of this route, or to those of the app itself.
    To { route: Option<String>, backends: Vec<Target> },
    /// It is closed for this reason.
    Refused(&'static str),
    /// Nowhere, for it has not said enough.
    Nowhere,
}

/// What the access log calls the route of those that cannot be read.
pub(crate) const UNREADABLE: &str = "unreadable";

/// Gives an app routes, each with backends of its own, the machines of which `machine` sets up.
pub(crate) fn add(app: &mut model::App, random: &mut Random, mut machine: impl FnMut() -> SocketAddress) {
    let handshake = random.between(800, 4_000);
    app.timeouts.handshake = Duration::from_millis(handshake);
    app.timeouts.sniff = Duration::from_millis(random.between(400, handshake));
    app.limits.handshakes = random.chance(0.3).then(|| random.between(1, 10) as u32);
    app.limits.handshakes_per_source = random.chance(0.2).then_some(1);
    let is_tls = random.chance(0.5);
    let mut rules = rules();
    let mut last = None;
    let mut pool = |random: &mut Random, name: &str| {
        let (own, second) = (machine(), random.chance(0.5).then(&mut machine));
        let shared = last.replace(own.clone()).filter(|_| random.chance(0.3));
        let mut backends: Vec<model::Backend> = [Some(own), second, shared]
            .into_iter()
            .flatten()
            .enumerate()
            .map(|(place, address)| model::Backend::new(format!("{name}{place}"), Target::Address(address)))
            .collect();
        backends[0].max_connections = random.chance(0.15).then(|| random.between(1, 6) as u32);
        Arc::new(model::App { backends, ..app.pool() })
    };
    let mut routes = Vec::new();
    for _ in 0..random.between(2, 4) {
        let (name, rule) = rules.swap_remove(random.index(rules.len()));
        routes.push(Route { name: name.to_owned(), rule, pool: pool(random, name) });
    }
    let unreadable = match random.chance(0.4) {
        true => Unreadable::Pool(pool(random, "tarpit")),
        false => Unreadable::Refuse,
    };
    app.routes = routes;
    if is_tls {
        app.tls = Some(RulesOfTls { unreadable, termination: None });
    }
    if random.chance(0.2) {
        app.backends.clear();
    }
}

/// Another order, or one less.
pub(crate) fn vary(routes: &mut Vec<Route>, random: &mut Random) {
    if routes.len() < 2 {
        return;
    }
    match random.index(3) {
        0 => routes.reverse(),
        1 => drop(routes.remove(random.index(routes.len()))),
        // The rules of two change places.
        _ => {
            let (first, rest) = routes.split_first_mut().expect("there are two");
            std::mem::swap(&mut first.rule, &mut rest[0].rule);
        }
    }
}

fn rules() -> Vec<(&'static str, Rule)> {
    let exact = |name: &str| vec![NamePattern::Exact(name.to_owned())];
    let speaks = |clients: &[Client]| {
        let mut protocols = Protocols::default();
        clients.iter().for_each(|client| protocols.add(*client));
        protocols
    };
    let named = |server_names| Rule { server_names, ..Rule::default() };
    let of = |clients: &[Client]| Rule { protocols: speaks(clients), ..Rule::default() };
    vec![
        ("a", named(exact("a.test"))),
        ("www", named(exact("www.b.test"))),
        ("below", named(vec![NamePattern::Below("b.test".to_owned())])),
        ("h2", Rule { alpn: vec!["h2".to_owned()], ..Rule::default() }),
        ("a-h2", Rule { alpn: vec!["h2".to_owned()], ..named(exact("a.test")) }),
        ("http", of(&[Client::Http1])),
        ("tls-or-ssh", of(&[Client::Tls, Client::Ssh])),
        ("silent", of(&[Client::Silent])),
        ("other", of(&[Client::Other])),
    ]
}

/// Where a client goes that says this, `opening` in the way of that one: one place, or several if chance decides what is heard.
/// `before`: what the app was since the client came. A handshake goes on by the terms that it began with, and where it leads is
/// asked once it is over.
pub(crate) fn destinations(
    app: &model::App,
    before: &[&model::App],
    says: Says,
    opening: &Opening,
) -> Vec<Goes> {
    if app.tls.is_none() && app.routes.is_empty() {
        return vec![own(app)];
    }
    match says {
        Says::Tls { name, alpn, is_old } => {
            let can_agree = opening.tls.is_some_and(|manner| !manner.spoils);
            let shaken = |termination| match tls::agreed(termination, alpn, is_old).filter(|_| can_agree) {
                // What was not agreed on is not spoken.
                Some(agreed) => decide(app, Client::Tls, name, agreed),
                None => Goes::Refused("handshake_failed"),
            };
            let mut goes: Vec<Goes> = before.iter().filter_map(|app| terms(app)).map(shaken).collect();
            match terms(app) {
                Some(termination) => goes.push(shaken(termination)),
                None => goes.push(decide(app, Client::Tls, name, alpn)),
            }
            if terms(app).is_some() && opening.says_little() {
                goes.push(decide(app, Client::Other, None, &[]));
            }
            goes
        }
        Says::Http { name } => vec![decide(app, Client::Http1, Some(name), &[])],
        Says::Ssh => vec![decide(app, Client::Ssh, None, &[])],
        Says::Other => vec![decide(app, Client::Other, None, &[])],
        Says::Nothing | Says::Late => {
            vec![decide(app, Client::Silent, None, &[]), decide(app, Client::Other, None, &[])]
        }
        Says::Broken => vec![unreadable(app)],
        Says::Part => vec![Goes::Nowhere],
    }
}

/// By what an app ends TLS, if it does.
fn terms(app: &model::App) -> Option<&Termination> {
    app.tls.as_ref()?.termination.as_deref()
}

/// Whether a client that says nothing goes somewhere before the time for hellos is over.
pub(crate) fn serves_silence(app: &model::App) -> bool {
    let model::Timeouts { sniff, handshake, .. } = app.timeouts;
    let is_meant = |route: &Option<String>| route.as_deref() != Some(UNREADABLE);
    let goes = decide(app, Client::Silent, None, &[]);
    sniff < handshake && matches!(goes, Goes::To { route, .. } if is_meant(&route))
}

/// What the access log may say that such a client asked for.
pub(crate) fn is_asked(asked: &Asked, says: Says, opening: &Opening) -> bool {
    let (name, alpn) = (asked.name.as_deref(), asked.alpn.as_deref());
    match says {
        Says::Tls { name: own, alpn: offered, .. } => {
            let offered = (!offered.is_empty()).then(|| offered.join(","));
            let is_whole = asked.protocol == Client::Tls && name == own && alpn == offered.as_deref();
            is_whole || opening.says_little() && asked.protocol == Client::Other
        }
        Says::Http { name: own } => asked.protocol == Client::Http1 && name == Some(own) && alpn.is_none(),
        Says::Ssh => asked.protocol == Client::Ssh,
        Says::Other => asked.protocol == Client::Other,
        Says::Nothing | Says::Late => matches!(asked.protocol, Client::Silent | Client::Other),
        Says::Broken | Says::Part => false,
    }
}

fn decide(app: &model::App, protocol: Client, name: Option<&str>, alpn: &[&str]) -> Goes {
    let fits = |rule: &Rule| {
        let speaks = match (rule.protocols.is_any(), app.tls.is_some()) {
            (true, true) => protocol == Client::Tls,
            (true, false) => true,
            (false, _) => rule.protocols.iter().any(|one| one == protocol),
        };
        let is_named = |pattern: &NamePattern| match (pattern, name) {
            (NamePattern::Exact(own), Some(name)) => own == name,
            (NamePattern::Below(own), Some(name)) => name.ends_with(&format!(".{own}")),
            (NamePattern::Pattern { .. }, _) | (_, None) => false,
        };
        speaks
            && (rule.server_names.is_empty() || rule.server_names.iter().any(is_named))
            && (rule.alpn.is_empty() || rule.alpn.iter().any(|own| alpn.contains(&own.as_str())))
    };
    match app.routes.iter().find(|route| fits(&route.rule)) {
        Some(route) => to(Some(&route.name), &route.pool),
        None if app.tls.is_some() && protocol != Client::Tls => unreadable(app),
        None if app.backends.is_empty() => Goes::Refused("no_route"),
        None => own(app),
    }
}

fn unreadable(app: &model::App) -> Goes {
    match app.tls.as_ref().map(|tls| &tls.unreadable) {
        Some(Unreadable::Pool(pool)) => to(Some(UNREADABLE), pool),
        Some(Unreadable::Refuse) | None => Goes::Refused("hello_unreadable"),
    }
}

fn own(app: &model::App) -> Goes {
    to(None, app)
}

fn to(route: Option<&str>, pool: &model::App) -> Goes {
    let backends = pool.backends.iter().map(|backend| backend.target.clone()).collect();
    Goes::To { route: route.map(str::to_owned), backends }
}
