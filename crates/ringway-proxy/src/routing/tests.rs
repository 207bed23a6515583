//! The first that fits, what must fit, and that what is explained is what is done.

use std::sync::Arc;

use proptest::prelude::*;

use super::*;
use crate::model::{Network, PathPattern, Pattern, Protocols, Route};

fn nothing(_: &[u8]) -> bool {
    false
}

fn anybody() -> Inquirer<'static> {
    Inquirer {
        protocol: None,
        name: None,
        client_name: None,
        offers: &nothing,
        path: None,
        source: None,
        destination: None,
    }
}

fn asks_for(name: &str) -> Inquirer<'_> {
    Inquirer { protocol: Some(Client::Tls), name: Some(name), ..anybody() }
}

fn app(rules: Vec<Rule>) -> App {
    let pool = Arc::new(App::new("app"));
    let route =
        |(index, rule): (usize, Rule)| Route { name: index.to_string(), rule, pool: Arc::clone(&pool) };
    App { routes: rules.into_iter().enumerate().map(route).collect(), ..App::new("app") }
}

fn table(rules: Vec<Rule>) -> RouteTable {
    RouteTable::new(&app(rules))
}

fn named(names: &[NamePattern]) -> Rule {
    Rule { server_names: names.to_vec(), ..Rule::default() }
}

fn exact(name: &str) -> NamePattern {
    NamePattern::Exact(name.to_owned())
}

fn below(name: &str) -> NamePattern {
    NamePattern::Below(name.to_owned())
}

fn pattern(text: &str) -> NamePattern {
    let pattern = Pattern::new(&format!(r"\A(?:{text})\z")).expect("a pattern");
    NamePattern::Pattern { text: text.to_owned(), pattern }
}

#[test]
fn the_first_that_fits_is_taken_whatever_kind_of_name_it_has() {
    let table = table(vec![
        named(&[below("b.example.com"), exact("a.example.com")]),
        named(&[pattern("x[0-9]+\\.example\\.com")]),
        named(&[below("example.com")]),
        named(&[exact("late.example.com")]),
        Rule::default(),
    ]);
    for (name, route) in [
        ("a.example.com", 0),
        ("c.b.example.com", 0),
        ("d.c.b.example.com", 0),
        ("x12.example.com", 1),
        ("late.example.com", 2),
        ("example.com", 4),
        ("x12.example.com.evil.test", 4),
        ("evil-x12.example.com", 2),
    ] {
        assert_eq!(table.find(&asks_for(name)), Some(route), "{name}");
    }
    assert_eq!(table.find(&anybody()), Some(4));
}

#[test]
fn everything_that_a_rule_says_must_fit() {
    let network = |text: &str| Network::parse(text).expect("a network");
    let mut protocols = Protocols::default();
    protocols.add(Client::Tls);
    let rule = Rule {
        protocols,
        server_names: vec![exact("a")],
        client_names: vec![exact("alice"), exact("bob")],
        alpn: vec!["h2".into(), "h3".into()],
        paths: Vec::new(),
        source: vec![network("10.0.0.0/8")],
        destination: vec![network("192.0.2.0/24")],
        destination_ports: vec![80..=80, 8000..=8010],
    };
    let table = table(vec![rule]);
    let offers = |name: &[u8]| name == b"h3";
    let fits = Inquirer {
        offers: &offers,
        client_name: Some("bob"),
        source: "10.1.2.3".parse().ok(),
        destination: "192.0.2.7:8003".parse().ok(),
        ..asks_for("a")
    };
    assert_eq!(table.find(&fits), Some(0));
    for (key, client) in [
        ("protocols", Inquirer { protocol: Some(Client::Http1), ..fits }),
        ("server_names", Inquirer { name: Some("b"), ..fits }),
        ("server_names", Inquirer { name: None, ..fits }),
        ("client_names", Inquirer { client_name: Some("mallory"), ..fits }),
        ("client_names", Inquirer { client_name: None, ..fits }),
        ("alpn", Inquirer { offers: &nothing, ..fits }),
        ("source", Inquirer { source: "11.1.2.3".parse().ok(), ..fits }),
        ("source", Inquirer { source: None, ..fits }),
        ("destination", Inquirer { destination: "192.0.3.7:8003".parse().ok(), ..fits }),
        ("destination_ports", Inquirer { destination: "192.0.2.7:8011".parse().ok(), ..fits }),
    ] {
        assert_eq!(table.find(&client), None, "{key}");
        let reason = table.explain(&client).remove(0).expect("it does not fit");
        assert_eq!(reason.key, key, "{reason}");
    }
    let client = Inquirer { destination: "192.0.2.7:8011".parse().ok(), ..fits };
    let reason = table.explain(&client).remove(0).expect("it does not fit").to_string();
    assert_eq!(reason, "destination_ports: 8011 is none of 80, 8000-8010");
}

#[test]
fn only_rules_of_bytes_need_bytes() {
    assert!(
        !table(vec![Rule { source: vec![Network::parse("10.0.0.0/8").expect("one")], ..Rule::default() }])
            .needs_bytes()
    );
    assert!(table(vec![named(&[exact("a")])]).needs_bytes());
}

#[test]
fn in_an_app_of_tls_a_rule_means_tls_unless_it_names_a_protocol() {
    let mut ssh = Protocols::default();
    ssh.add(Client::Ssh);
    let rules = vec![Rule::default(), Rule { protocols: ssh, ..Rule::default() }];
    let tls =
        Some(crate::model::RulesOfTls { unreadable: crate::model::Unreadable::Refuse, termination: None });
    let table = RouteTable::new(&App { tls, ..app(rules) });
    let speaks = |client| Inquirer { protocol: Some(client), ..anybody() };
    assert_eq!(table.find(&speaks(Client::Tls)), Some(0));
    assert_eq!(table.find(&speaks(Client::Ssh)), Some(1));
    assert_eq!(table.find(&speaks(Client::Http1)), None);
}

fn any_name() -> impl Strategy<Value = String> {
    prop::collection::vec("[ab]", 1..5).prop_map(|labels| labels.join("."))
}

fn any_pattern() -> impl Strategy<Value = NamePattern> {
    prop_oneof![
        any_name().prop_map(NamePattern::Exact),
        any_name().prop_map(NamePattern::Below),
        prop::sample::select(vec!["a.*", "[ab]\\.b", ".*"]).prop_map(pattern),
    ]
}

fn any_rule() -> impl Strategy<Value = Rule> {
    let networks = prop::collection::vec(prop::sample::select(vec!["10.0.0.0/8", "10.1.0.0/16"]), 0..2);
    let paths = prop::collection::vec(prop::sample::select(vec!["/a", "/b*"]), 0..2);
    let protocols = prop::collection::vec(prop::sample::select(Client::ALL.to_vec()), 0..2);
    let names = prop::collection::vec(any_pattern(), 0..3);
    let alpn = prop::collection::vec("[ab]", 0..2);
    let clients = prop::collection::vec(prop::sample::select(vec!["a", "b"]), 0..2);
    let all = (names, networks, paths, protocols, alpn, clients);
    all.prop_map(|(server_names, networks, paths, protocols, alpn, clients)| {
        let mut named = Protocols::default();
        protocols.into_iter().for_each(|client| named.add(client));
        let path = |text: &str| match text.strip_suffix('*') {
            Some(start) => PathPattern::Prefix(start.to_owned()),
            None => PathPattern::Exact(text.to_owned()),
        };
        Rule {
            protocols: named,
            server_names,
            client_names: clients.iter().map(|name| exact(name)).collect(),
            alpn,
            paths: paths.into_iter().map(path).collect(),
            source: networks.into_iter().map(|text| Network::parse(text).expect("one")).collect(),
            destination: Vec::new(),
            destination_ports: Vec::new(),
        }
    })
}

proptest! {
    #[test]
    fn explanation_is_what_is_done_and_the_look_up_is_the_first_of_all(
        rules in prop::collection::vec(any_rule(), 0..30),
        name in prop::option::of(any_name()),
        offered in prop::collection::vec("[abc]", 0..2),
        client_name in prop::option::of(prop::sample::select(vec!["", "a", "b"])),
        path in prop::option::of(prop::sample::select(vec!["/a", "/b", "/bc", "/"])),
        protocol in prop::option::of(prop::sample::select(Client::ALL.to_vec())),
        source in prop::option::of(prop::sample::select(vec!["10.1.2.3", "10.2.2.3", "::1"])),
    ) {
        let table = table(rules);
        let offers = |name: &[u8]| offered.iter().any(|one| one.as_bytes() == name);
        let client = Inquirer {
            protocol,
            name: name.as_deref(),
            client_name,
            offers: &offers,
            path,
            source: source.map(|text| text.parse().expect("an address")),
            destination: None,
        };
        let explained = table.explain(&client);
        let first = explained.iter().position(Option::is_none);
        prop_assert_eq!(table.find(&client), first);
        let decided = table.decide(&App::new("app"), &client);
        prop_assert_eq!(decided, first.map_or(Decision::NoRoute, Decision::Route));
    }
}
