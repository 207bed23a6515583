//! What a change of the configuration would do, app by app, and how many live connections each part of it touches.

use std::collections::HashMap;
use std::fmt::Debug;

use serde::{Deserialize, Serialize};

use crate::endpoint::AppState;
use crate::model;
use crate::snapshot::Snapshot;

/// The difference between what runs and another configuration. Fields are only ever added.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Difference {
    /// The apps that are not the same, those of the new configuration first.
    pub apps: Vec<AppChange>,
    /// How many apps are the same.
    pub unchanged: usize,
}

/// What becomes of an app.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// It is new.
    Added,
    /// Some of it is another.
    Changed,
    /// It goes.
    Removed,
}

impl Kind {
    /// The word for it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Added => "added",
            Self::Changed => "changed",
            Self::Removed => "removed",
        }
    }
}

/// An app that is not the same.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AppChange {
    /// Its name.
    pub app: String,
    /// What becomes of it.
    pub kind: Kind,
    /// Its connections of clients that are open.
    pub connections: u32,
    /// How many of them the change touches: the others do not notice it.
    pub touched: u32,
    /// What is different.
    pub details: Vec<Detail>,
}

/// One difference.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Detail {
    /// What: `+ backend 10.0.0.3:80`, `timeouts.idle: 1h -> 30m`.
    pub what: String,
    /// Connections that it touches.
    pub connections: u32,
    /// What happens to them; empty if there are none.
    pub effect: String,
}

impl Difference {
    /// From what runs to `config`.
    pub fn between(before: &Snapshot, config: &model::Config) -> Self {
        let mut old: HashMap<&str, &AppState> = before.apps().map(|app| (&**app.name(), &**app)).collect();
        let mut difference = Self::default();
        for app in &config.apps {
            match old.remove(app.name.as_str()) {
                Some(state) if **state.model() == *app => difference.unchanged += 1,
                Some(state) => difference.apps.push(changed(state, app)),
                None => difference.apps.push(added(app)),
            }
        }
        let gone = before.apps().filter(|app| old.contains_key(&**app.name()));
        difference.apps.extend(gone.map(|app| removed(app)));
        difference
    }

    /// In a few words: `1 app added, 2 changed`.
    pub fn summary(&self) -> String {
        let kinds = [Kind::Added, Kind::Changed, Kind::Removed];
        let counts = kinds.map(|kind| (kind, self.apps.iter().filter(|app| app.kind == kind).count()));
        let named = counts.into_iter().filter(|(_, count)| *count > 0);
        let words: Vec<String> =
            named.map(|(kind, count)| format!("{} {}", plural(count, "app"), kind.as_str())).collect();
        if words.is_empty() { "no app changed".to_owned() } else { words.join(", ") }
    }
}

fn plural(count: usize, noun: &str) -> String {
    format!("{count} {noun}{}", if count == 1 { "" } else { "s" })
}

fn added(app: &model::App) -> AppChange {
    let listen = app.frontends.iter().map(|frontend| format!("+ listen {}", frontend.name));
    let backends = app.backends.iter().map(|backend| format!("+ backend {}", backend.name));
    let routes = app.pools().map(|(route, _)| format!("+ route {route}"));
    let details = listen.chain(backends).chain(routes).map(untouching).collect();
    AppChange { app: app.name.clone(), kind: Kind::Added, connections: 0, touched: 0, details }
}

fn removed(app: &AppState) -> AppChange {
    let listen = app.model().frontends.iter().map(|frontend| format!("- listen {}", frontend.name));
    let connections = app.active().get();
    AppChange {
        app: app.name().to_string(),
        kind: Kind::Removed,
        connections,
        touched: connections,
        details: listen.map(|what| touching(what, connections, &fate(app.model()))).collect(),
    }
}

/// What becomes of connections whose backend is removed.
fn fate(app: &model::App) -> String {
    match app.removed_backends {
        model::RemovedBackends::Keep => "kept until they end".to_owned(),
        model::RemovedBackends::Close => "closed".to_owned(),
        model::RemovedBackends::CloseAfter(time) => format!("closed after {time:?}"),
    }
}

/// A key of which only new connections notice another value.
fn of_new(details: &mut Vec<Detail>, key: &str, old: &dyn Debug, new: &dyn Debug) {
    let (old, new) = (shown(old), shown(new));
    if old != new {
        details.push(untouching(format!("{key}: {old} -> {new}")));
    }
}

/// What a client meets before it is let in. Those that are in already are not asked again.
fn entrance(old: &model::App, new: &model::App, details: &mut Vec<Detail>) {
    let mut of_new = |key: &str, old: &dyn Debug, new: &dyn Debug| of_new(details, key, old, new);
    of_new("timeouts.handshake", &old.timeouts.handshake, &new.timeouts.handshake);
    of_new("timeouts.sniff", &old.timeouts.sniff, &new.timeouts.sniff);
    // All of them are named, here or where pools are compared.
    let model::Limits {
        connections,
        connections_per_source,
        connections_per_second,
        connections_per_second_per_source,
        handshakes,
        handshakes_per_source,
        source_prefix_v6,
        queue: _,
        queue_timeout: _,
        bandwidth: _,
        bandwidth_per_connection: _,
        allow,
        deny,
    } = &old.limits;
    let limits = &new.limits;
    of_new("limits.connections", connections, &limits.connections);
    of_new("limits.connections_per_source", connections_per_source, &limits.connections_per_source);
    of_new("limits.connections_per_second", connections_per_second, &limits.connections_per_second);
    of_new(
        "limits.connections_per_second_per_source",
        connections_per_second_per_source,
        &limits.connections_per_second_per_source,
    );
    of_new("limits.handshakes", handshakes, &limits.handshakes);
    of_new("limits.handshakes_per_source", handshakes_per_source, &limits.handshakes_per_source);
    of_new("limits.source_prefix_v6", source_prefix_v6, &limits.source_prefix_v6);
    // Lists may have a hundred thousand entries.
    for (what, is_changed) in [
        ("limits.allow: another list", *allow != limits.allow),
        ("limits.deny: another list", *deny != limits.deny),
        ("proxy_protocol: new connections go by other rules", old.proxy_protocol != new.proxy_protocol),
    ] {
        if is_changed {
            details.push(untouching(what.to_owned()));
        }
    }
}

/// Connections that are open keep what they began with.
fn tls(old: &model::App, new: &model::App, details: &mut Vec<Detail>) {
    if old.backend_tls != new.backend_tls {
        details.push(untouching("backend_tls: new connections get others".to_owned()));
    }
    let mode = |app: &model::App| match app.tls.as_ref().map(|tls| &tls.termination) {
        None => "none",
        Some(None) => "passthrough",
        Some(Some(_)) => "terminate",
    };
    if mode(old) != mode(new) {
        details.push(untouching(format!("tls.mode: {} -> {}", mode(old), mode(new))));
    }
    let of = |app: &model::App| app.tls.as_ref().and_then(|tls| tls.termination.clone());
    let (Some(old), Some(new)) = (of(old), of(new)) else { return };
    if old.alpn != new.alpn {
        details.push(untouching(format!("tls.alpn: {:?} -> {:?}", old.alpn, new.alpn)));
    }
    if old.min_version != new.min_version {
        let (old, new) = (old.min_version.as_str(), new.min_version.as_str());
        details.push(untouching(format!("tls.min_version: {old} -> {new}")));
    }
    let tickets = |of: &model::Termination| (of.ticket_keys.clone(), of.ticket_lifetime);
    for (what, is_changed) in [
        ("other certificates", old.certificates != new.certificates),
        ("clients have to be others", old.clients != new.clients),
        ("other tickets", tickets(&old) != tickets(&new)),
    ] {
        if is_changed {
            details.push(untouching(what.to_owned()));
        }
    }
}

fn untouching(what: String) -> Detail {
    Detail { what, connections: 0, effect: String::new() }
}

fn touching(what: String, connections: u32, effect: &str) -> Detail {
    let effect = if connections == 0 { String::new() } else { effect.to_owned() };
    Detail { what, connections, effect }
}

fn changed(state: &AppState, new: &model::App) -> AppChange {
    let old = state.model();
    let connections = state.active().get();
    let mut details = Vec::new();
    frontends(old, new, &mut details);
    pool(state, new, &mut details);
    routes(state, new, &mut details);
    entrance(old, new, &mut details);
    tls(old, new, &mut details);
    if details.is_empty() {
        details.push(untouching("other settings".to_owned()));
    }
    let touched = details.iter().map(|detail| detail.connections).fold(0, u32::saturating_add);
    AppChange {
        app: new.name.clone(),
        kind: Kind::Changed,
        connections,
        touched: touched.min(connections),
        details,
    }
}

/// What is different of an app's own backends and of how it treats connections, or of those of one of its pools.
fn pool(state: &AppState, new: &model::App, details: &mut Vec<Detail>) {
    let old = state.model();
    let connections = state.active().get();
    backends(state, new, details);
    of_new(details, "balance", &old.balance, &new.balance);
    of_new(details, "source", &old.source, &new.source);
    of_new(details, "timeouts.connect", &old.timeouts.connect, &new.timeouts.connect);
    of_new(details, "connect_attempts", &old.connect_attempts, &new.connect_attempts);
    of_new(details, "removed_backends", &old.removed_backends, &new.removed_backends);
    of_new(details, "slow_start", &old.slow_start, &new.slow_start);
    of_new(details, "limits.queue", &old.limits.queue, &new.limits.queue);
    of_new(details, "limits.queue_timeout", &old.limits.queue_timeout, &new.limits.queue_timeout);
    let mut of_all = |key: &str, old: &dyn Debug, new: &dyn Debug| {
        let (old, new) = (shown(old), shown(new));
        if old != new {
            details.push(touching(format!("{key}: {old} -> {new}"), connections, "get the new limit"));
        }
    };
    let (old_limits, new_limits) = (&old.limits, &new.limits);
    of_all("limits.bandwidth", &old_limits.bandwidth, &new_limits.bandwidth);
    of_all(
        "limits.bandwidth_per_connection",
        &old_limits.bandwidth_per_connection,
        &new_limits.bandwidth_per_connection,
    );
    of_all("timeouts.idle", &old.timeouts.idle, &new.timeouts.idle);
    of_all("timeouts.half_close", &old.timeouts.half_close, &new.timeouts.half_close);
    of_all("timeouts.lifetime", &old.timeouts.lifetime, &new.timeouts.lifetime);
    if old.health != new.health {
        details.push(untouching("health: backends are checked in another way".to_owned()));
    }
    if old.rebalance != new.rebalance {
        details.push(untouching("rebalance: connections spread in another way".to_owned()));
    }
    if (old.keep_alive, old.user_timeout) != (new.keep_alive, new.user_timeout) {
        details.push(untouching("keep_alive, user_timeout: new connections get others".to_owned()));
    }
}

/// Routes that come and go, and what is different of those that stay. Who took one goes on by it.
fn routes(state: &AppState, new: &model::App, details: &mut Vec<Detail>) {
    let old = state.model();
    let mut before: HashMap<&str, &AppState> = HashMap::new();
    for pool in state.pools() {
        before.insert(pool.route().map_or("", |route| route), pool);
    }
    let after: HashMap<&str, &model::App> = new.pools().map(|(route, pool)| (route, &**pool)).collect();
    for pool_before in state.pools() {
        let route = pool_before.route().map_or("", |route| route);
        let Some(pool_after) = after.get(route) else {
            let connections = pool_before.active().get();
            details.push(touching(format!("- route {route}"), connections, &fate(pool_before.model())));
            continue;
        };
        let mut of_route = Vec::new();
        pool(pool_before, pool_after, &mut of_route);
        for detail in &mut of_route {
            detail.what = format!("route {route}: {}", detail.what);
        }
        details.append(&mut of_route);
    }
    for (route, _) in new.pools().filter(|(route, _)| !before.contains_key(route)) {
        details.push(untouching(format!("+ route {route}")));
    }
    let rules = |app: &model::App| -> Vec<(String, model::Rule)> {
        let both = |route: &model::Route| (route.name.clone(), route.rule.clone());
        app.routes.iter().filter(|route| before.contains_key(&*route.name)).map(both).collect()
    };
    let kept = |rules: Vec<(String, model::Rule)>| -> Vec<(String, model::Rule)> {
        rules.into_iter().filter(|(route, _)| after.contains_key(&**route)).collect()
    };
    if kept(rules(old)) != kept(rules(new)) {
        details.push(untouching("routes: new clients are told apart in another way".to_owned()));
    }
}

fn frontends(old: &model::App, new: &model::App, details: &mut Vec<Detail>) {
    let named = |app: &model::App, name: &str| app.frontends.iter().any(|frontend| frontend.name == name);
    for frontend in &old.frontends {
        match new.frontends.iter().find(|other| other.name == frontend.name) {
            None => details.push(untouching(format!("- listen {}", frontend.name))),
            Some(other) if other != frontend => {
                details.push(untouching(format!("listen {}: its options", frontend.name)));
            }
            Some(_) => {}
        }
    }
    for frontend in new.frontends.iter().filter(|frontend| !named(old, &frontend.name)) {
        details.push(untouching(format!("+ listen {}", frontend.name)));
    }
}

fn backends(state: &AppState, new: &model::App, details: &mut Vec<Detail>) {
    let old = state.model();
    if old.backends == new.backends {
        return;
    }
    let mut open: HashMap<&str, u32> = HashMap::new();
    let set = state.endpoints();
    for endpoint in set.endpoints() {
        *open.entry(endpoint.name()).or_default() += endpoint.active().get();
    }
    let by_name = |app: &'_ model::App| -> HashMap<String, model::Backend> {
        app.backends.iter().map(|backend| (backend.name.clone(), backend.clone())).collect()
    };
    let (before, after) = (by_name(old), by_name(new));
    for backend in &old.backends {
        let connections = open.get(backend.name.as_str()).copied().unwrap_or(0);
        let Some(now) = after.get(&backend.name) else {
            let what = format!("- backend {}", backend.name);
            details.push(touching(what, connections, &fate(new)));
            continue;
        };
        if now.weight != backend.weight {
            let what = format!("backend {}: weight {} -> {}", backend.name, backend.weight, now.weight);
            details.push(untouching(what));
        }
        if now.max_connections != backend.max_connections {
            let (old, new) = (shown(&backend.max_connections), shown(&now.max_connections));
            details.push(untouching(format!("backend {}: max_connections {old} -> {new}", backend.name)));
        }
        if now.backup != backend.backup {
            let what = format!("backend {}: backup {} -> {}", backend.name, backend.backup, now.backup);
            details.push(untouching(what));
        }
    }
    for backend in new.backends.iter().filter(|backend| !before.contains_key(&backend.name)) {
        details.push(untouching(format!("+ backend {}", backend.name)));
    }
}

/// A value as a reader of the configuration knows it.
fn shown(value: &dyn Debug) -> String {
    let text = format!("{value:?}");
    let text = text.strip_prefix("Some(").and_then(|text| text.strip_suffix(')')).unwrap_or(&text);
    let mut words = String::new();
    for (index, character) in text.char_indices() {
        if character.is_ascii_uppercase() {
            if index > 0 && !words.ends_with(['[', ' ', '(']) {
                words.push('-');
            }
            words.push(character.to_ascii_lowercase());
        } else {
            words.push(character);
        }
    }
    words
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use testkit::certificates::Authority;

    use super::*;
    use crate::config::{self, Format};
    use crate::endpoint::testing::app_of_hosts;
    use crate::snapshot::Lineage;

    fn lines(change: &AppChange) -> Vec<String> {
        change.details.iter().map(|detail| format!("{} {}", detail.what, detail.connections)).collect()
    }

    #[test]
    fn routes_that_come_go_and_change_are_named_with_their_connections() {
        let route = |name: &str, port: u16, alpn: &str| {
            let address = std::net::SocketAddr::from(([127, 0, 0, 1], port)).into();
            let backend = model::Backend::new(format!("b:{port}"), model::Target::Address(address));
            let pool = model::App { backends: vec![backend], ..model::App::new("app") };
            let rule = model::Rule { alpn: vec![alpn.to_owned()], ..model::Rule::default() };
            model::Route { name: name.to_owned(), rule, pool: pool.into() }
        };
        let routes = vec![route("kept", 80, "h2"), route("gone", 81, "h3"), route("changed", 82, "h4")];
        let lineage = Lineage::of_apps(vec![model::App { routes, ..app_of_hosts(&[(1, false)]) }]);
        let before = lineage.current();
        let pools = before.app(0).expect("there is one").pools();
        assert_eq!(pools.iter().map(|pool| pool.slot()).collect::<Vec<_>>(), [1, 2, 3]);
        for pool in pools {
            pool.active().acquire();
            pool.endpoints().endpoints()[0].active().acquire();
        }
        let mut config = before.config();
        config.apps[0].routes =
            vec![route("kept", 80, "h2"), route("changed", 83, "h5"), route("new", 84, "h2")];
        let difference = Difference::between(&before, &config);
        assert_eq!(
            lines(&difference.apps[0]),
            [
                "- route gone 1",
                "route changed: - backend b:82 1",
                "route changed: + backend b:83 0",
                "+ route new 0",
                "routes: new clients are told apart in another way 0",
            ]
        );
        let after = lineage.advance(config, crate::snapshot::Origin::Put);
        let slots: Vec<usize> = after.changes_since(Some(&before)).map(|change| change.slot).collect();
        assert!(!slots.contains(&1), "a pool that is the same is not touched: {slots:?}");
        assert_eq!(lineage.living().len(), 1);
    }

    #[test]
    fn what_changes_of_tls_is_named_key_by_key() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("www.pem");
        let put = || {
            let issued = Authority::new("ours").issue(&["www.example.com"]);
            std::fs::write(&path, issued.chain + &issued.key).expect("it is written");
        };
        put();
        let text = |keys: &str| {
            format!(
                "[[app]]\nname = 'a'\nlisten = ['127.0.0.1:0']\nbackends = ['127.0.0.1:1']\n{keys}\n\
                 [app.tls]\nmode = 'terminate'\ncertificates = [{{ chain = 'www.pem' }}]\n"
            )
        };
        let read = |text: &str| {
            let config = config::parse(text, Format::Toml, directory.path(), &|_| None);
            config.unwrap_or_else(|errors| panic!("{}", config::render_faults(&errors)))
        };
        let before = Lineage::new(read(&text(""))).current();
        let told = |text: &str| {
            let difference = Difference::between(&before, &read(text));
            difference.apps.iter().flat_map(lines).collect::<Vec<String>>()
        };
        assert_eq!(told(&text("")), [""; 0]);
        let both = format!("{}alpn = ['h2', 'http/1.1']\nmin_version = '1.3'\n", text(""));
        assert_eq!(told(&both), [r#"tls.alpn: [] -> ["h2", "http/1.1"] 0"#, "tls.min_version: 1.2 -> 1.3 0"]);
        let passed_on = text("").replace("terminate", "passthrough").replace("certificates", "# ");
        assert_eq!(told(&passed_on), ["tls.mode: terminate -> passthrough 0"]);
        let secured = text("backend_tls = { verify = false }");
        assert_eq!(told(&secured), ["backend_tls: new connections get others 0"]);
        put();
        assert_eq!(told(&text("")), ["other certificates 0"]);
    }

    #[test]
    fn what_changes_of_how_clients_are_let_in_and_backends_treated_is_named() {
        let lineage = Lineage::of_apps(vec![app_of_hosts(&[(1, false)])]);
        let before = lineage.current();
        let told = |change: &dyn Fn(&mut model::App)| {
            let mut config = before.config();
            change(&mut config.apps[0]);
            let difference = Difference::between(&before, &config);
            difference.apps.iter().flat_map(lines).collect::<Vec<String>>()
        };
        let seconds = Duration::from_secs;
        assert_eq!(
            told(&|app| {
                app.limits.connections = Some(7);
                app.limits.handshakes_per_source = Some(3);
                app.limits.deny = vec![model::Network::parse("10.0.0.0/8").expect("a network")];
                app.timeouts.handshake = seconds(7);
                app.proxy_protocol.trusts_unix = true;
            }),
            [
                "timeouts.handshake: 5s -> 7s 0",
                "limits.connections: none -> 7 0",
                "limits.handshakes_per_source: none -> 3 0",
                "limits.deny: another list 0",
                "proxy_protocol: new connections go by other rules 0",
            ]
        );
        assert_eq!(
            told(&|app| {
                app.backends[0].max_connections = Some(9);
                app.removed_backends = model::RemovedBackends::CloseAfter(seconds(30));
                app.slow_start = Some(seconds(20));
            }),
            [
                "backend b0:80: max_connections none -> 9 0",
                "removed_backends: keep -> close-after(30s) 0",
                "slow_start: none -> 20s 0",
            ]
        );
    }

    #[test]
    fn every_difference_is_named_with_the_connections_that_it_touches() {
        let mut app = app_of_hosts(&[(1, false), (1, false)]);
        for (index, backend) in app.backends.iter_mut().enumerate() {
            let address = std::net::SocketAddr::from(([127, 0, 0, 1], 80 + index as u16));
            backend.target = model::Target::Address(address.into());
        }
        let mut other = app.clone();
        other.name = "other".to_owned();
        let lineage = Lineage::of_apps(vec![app.clone(), other]);
        let before = lineage.current();
        let state = before.app(0).expect("there is one");
        for _ in 0..3 {
            state.active().acquire();
            state.endpoints().endpoints()[0].active().acquire();
        }
        let mut config = before.config();
        config.apps[1].name = "new".to_owned();
        config.apps[0].backends.remove(0);
        config.apps[0].backends[0].weight = 7;
        config.apps[0].balance = model::Balance::RoundRobin;
        config.apps[0].timeouts.lifetime = Some(Duration::from_secs(60));
        let difference = Difference::between(&before, &config);
        assert_eq!(difference.summary(), "1 app added, 1 app changed, 1 app removed");
        let [changed, added, removed] = &difference.apps[..] else { panic!("{difference:?}") };
        assert_eq!((changed.connections, changed.touched), (3, 3));
        assert_eq!(
            lines(changed),
            [
                "- backend b0:80 3",
                "backend b1:80: weight 1 -> 7 0",
                "balance: least-connections -> round-robin 0",
                "timeouts.lifetime: none -> 60s 3",
            ]
        );
        assert_eq!((added.kind, removed.kind), (Kind::Added, Kind::Removed));
        assert_eq!(Difference::between(&before, &before.config()).unchanged, 2);
    }
}
