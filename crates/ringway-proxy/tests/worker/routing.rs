//! Routes: by the first bytes of a client, by what it is, and when; whole and untouched, whatever was looked at.

use std::time::Duration;

use ringway::ConnectionId;
use ringway_proto::client_hello::{HelloWriter, records};
use ringway_proxy::model::{
    self, AcceptHeader, Client, NamePattern, Network, Protocols, Route, Rule, RulesOfTls, Unreadable,
};

use crate::world::{World, app, backend};

const SECOND: Duration = Duration::from_secs(1);

/// An app whose own backend is 0, and whose routes have backend 1 and so on.
pub(crate) fn routed(rules: Vec<Rule>) -> model::App {
    let mut app = app(1);
    app.timeouts.handshake = 5 * SECOND;
    app.timeouts.sniff = 2 * SECOND;
    for (index, rule) in (1..).zip(rules) {
        app.routes.push(Route { name: format!("route-{index}"), rule, pool: pool(&app, index).into() });
    }
    app
}

fn pool(app: &model::App, index: u8) -> model::App {
    let target = model::Target::Address(backend(index));
    model::App { backends: vec![model::Backend::new(format!("backend-{index}"), target)], ..app.pool() }
}

pub(crate) fn passthrough(rules: Vec<Rule>) -> model::App {
    let tls = Some(RulesOfTls { unreadable: Unreadable::Refuse, termination: None });
    model::App { tls, backends: Vec::new(), ..routed(rules) }
}

pub(crate) fn named(name: &str) -> Rule {
    let name = match name.strip_prefix("*.") {
        Some(rest) => NamePattern::Below(rest.to_owned()),
        None => NamePattern::Exact(name.to_owned()),
    };
    Rule { server_names: vec![name], ..Rule::default() }
}

pub(crate) fn speaks(clients: &[Client]) -> Rule {
    let mut protocols = Protocols::default();
    clients.iter().for_each(|client| protocols.add(*client));
    Rule { protocols, ..Rule::default() }
}

fn start(app: &model::App, backends: u8) -> World {
    let mut world = World::new(app);
    (0..backends).for_each(|index| world.start_backend(index));
    world
}

pub(crate) fn hello(name: &str) -> Vec<u8> {
    records(&HelloWriter::new().server_name(name).alpn(&["h2"]).message(), 16_384)
}

/// The backend that the bytes of a client went to, which must be all of them.
fn reached(world: &World, backends: u8, sent: &[u8]) -> Option<(u8, ConnectionId)> {
    let mut found = None;
    for index in 0..backends {
        for connection in world.accepted(index) {
            assert_eq!(world.seen(connection).received, sent, "untouched");
            assert!(found.replace((index, connection)).is_none(), "only one is dialled");
        }
    }
    found
}

/// Where a client goes that sends this.
fn goes_to(app: &model::App, backends: u8, sent: &[u8]) -> Option<u8> {
    let mut world = start(app, backends);
    let client = world.client();
    if !sent.is_empty() {
        world.send(client, sent);
    }
    world.pass(3 * SECOND);
    let found = reached(&world, backends, sent).map(|(index, _)| index);
    world.close(client);
    world.arrive();
    found
}

#[test]
fn hello_is_passed_on_whole_to_the_backend_of_its_name() {
    let app = passthrough(vec![named("a.example"), named("*.example")]);
    for (name, expected) in [("a.example", Some(1)), ("b.a.example", Some(2)), ("other.test", None)] {
        assert_eq!(goes_to(&app, 3, &hello(name)), expected, "{name}");
    }
}

#[test]
fn hello_may_come_byte_by_byte_and_nobody_is_dialled_before_its_last() {
    let mut world = start(&passthrough(vec![named("a.example")]), 2);
    let client = world.client();
    let sent = hello("a.example");
    for byte in &sent[..sent.len() - 1] {
        world.send(client, &[*byte]);
        world.pass(Duration::from_millis(10));
    }
    assert!(world.accepted(1).is_empty());
    world.send(client, &sent[sent.len() - 1..]);
    world.arrive();
    let (_, connection) = reached(&world, 2, &sent).expect("it is routed");
    world.send(connection, b"answer");
    world.arrive();
    assert_eq!(world.seen(client).received, b"answer");
    world.close(client);
    world.arrive();
    world.close(connection);
    world.arrive();
    assert_eq!(world.only_end(), "client relay finished");
    let record = &world.records()[0];
    assert_eq!((&*record.app, record.route.as_deref()), ("app", Some("route-1")));
    let asked = record.asked.as_ref().expect("its hello was read");
    assert_eq!((asked.sni(), asked.alpn.as_deref()), (Some("a.example"), Some("h2")));
    assert_eq!(record.bytes, [sent.len() as u64, 6]);
    world.assert_nothing_is_open();
}

#[test]
fn hello_of_a_byte_a_second_is_cut_when_its_time_is_over() {
    let mut world = start(&passthrough(vec![named("a.example")]), 2);
    let client = world.client();
    let begin = world.now();
    for byte in &hello("a.example")[..20] {
        if world.records().is_empty() {
            world.send(client, &[*byte]);
            world.arrive();
        }
    }
    assert_eq!(world.only_end(), "ringway accept hello_timeout");
    let waited = world.records()[0].ended.since(begin);
    assert!(waited >= 5 * SECOND && waited < 6 * SECOND, "{waited:?}");
    assert!(world.accepted(1).is_empty());
    world.assert_nothing_is_open();
}

#[test]
fn only_so_many_clients_are_waited_for_at_once() {
    for per_source in [false, true] {
        let mut app = passthrough(vec![named("a.example")]);
        let limit =
            if per_source { &mut app.limits.handshakes_per_source } else { &mut app.limits.handshakes };
        *limit = Some(2);
        let mut world = start(&app, 2);
        let clients = [world.client(), world.client(), world.client()];
        world.arrive();
        let reason = if per_source { "limit_source_handshakes" } else { "limit_handshakes" };
        assert_eq!(world.only_end(), format!("ringway accept {reason}"));
        world.send(clients[0], &hello("a.example"));
        world.arrive();
        assert_eq!(world.accepted(1).len(), 1);
        assert_eq!(world.app.counts().handshakes().get(), u32::from(world.seen(clients[1]).closed.is_none()));
        let late = world.client();
        world.send(late, &hello("a.example"));
        world.arrive();
        assert_eq!(world.accepted(1).len(), 2, "one that said where it goes is waited for no more");
        world.pass(6 * SECOND);
        assert_eq!(world.app.counts().handshakes().get(), 0);
    }
}

#[test]
fn what_is_no_hello_follows_the_rule_and_never_a_route_or_the_backends_of_the_app() {
    let mut tls_only = passthrough(vec![named("a.example"), Rule::default()]);
    tls_only.backends = app(1).backends;
    let ip = records(&HelloWriter::new().server_name("192.0.2.1").message(), 16_384);
    let twice =
        records(&HelloWriter::new().server_name("a.example").server_name("b.example").message(), 16_384);
    for sent in [
        b"GET / HTTP/1.1\r\nHost: a.example\r\n\r\n",
        &b"SSH-2.0-x\r\n"[..],
        &ip,
        &twice,
        &[0x80, 46, 1, 3, 1],
    ] {
        assert_eq!(goes_to(&tls_only, 3, sent), None, "{sent:?}");
        let mut world = start(&tls_only, 3);
        let client = world.client();
        world.send(client, sent);
        world.arrive();
        assert_eq!(world.only_end(), "ringway accept hello_unreadable", "{sent:?}");
    }
    let elsewhere = pool(&tls_only, 3);
    tls_only.tls = Some(RulesOfTls { unreadable: Unreadable::Pool(elsewhere.into()), termination: None });
    assert_eq!(goes_to(&tls_only, 4, &ip), Some(3));
    assert_eq!(goes_to(&tls_only, 4, b"SSH-2.0-x\r\n"), Some(3));
    assert_eq!(
        goes_to(&tls_only, 4, &hello("other.test")),
        Some(2),
        "the route that asks for nothing means TLS"
    );
}

#[test]
fn one_port_serves_several_protocols() {
    let mut chat = speaks(&[Client::WebSocket]);
    chat.paths = vec![model::PathPattern::Prefix("/chat/".to_owned())];
    let host = Rule { protocols: speaks(&[Client::Http1]).protocols, ..named("web.example") };
    let app = routed(vec![
        speaks(&[Client::Tls]),
        speaks(&[Client::Ssh]),
        speaks(&[Client::PostgreSql]),
        chat,
        host,
        speaks(&[Client::Http2]),
    ]);
    let upgrade =
        b"GET /chat/1 HTTP/1.1\r\nHost: web.example\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n";
    for (sent, expected) in [
        (&hello("a.example")[..], 1),
        (b"SSH-2.0-OpenSSH_9.6\r\n", 2),
        (&[0, 0, 0, 8, 0x04, 0xd2, 0x16, 0x2f], 3),
        (upgrade, 4),
        (b"GET / HTTP/1.1\r\nHost: WEB.example:80\r\n\r\n", 5),
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 6),
        (b"GET / HTTP/1.1\r\nHost: other.example\r\n\r\n", 0),
        (b"\x05\x01\x00", 0),
        (b"", 0),
        // It might have become a request, and did not in time.
        (b"GET", 0),
    ] {
        assert_eq!(goes_to(&app, 7, sent), Some(expected), "{:?}", sent.escape_ascii().to_string());
    }
}

#[test]
fn client_that_waits_for_the_server_is_served_after_so_long_and_not_before() {
    let app = routed(vec![speaks(&[Client::Ssh]), speaks(&[Client::Silent])]);
    let mut world = start(&app, 3);
    let client = world.client();
    world.pass(Duration::from_millis(1_900));
    assert!(world.accepted(2).is_empty());
    world.pass(Duration::from_millis(200));
    let connection = world.accepted(2)[0];
    world.send(connection, b"220 ready\r\n");
    world.arrive();
    assert_eq!(world.seen(client).received, b"220 ready\r\n");
    world.close(client);
    world.close(connection);
    world.arrive();
    let asked = world.records()[0].asked.clone().expect("it was waited for");
    assert_eq!(asked.protocol, Client::Silent);
    world.assert_nothing_is_open();
}

#[test]
fn request_that_has_begun_is_waited_for_longer_than_silence() {
    let mut world = start(&routed(vec![named("a.example")]), 2);
    let client = world.client();
    world.send(client, b"GET / HTTP/1.1\r\nHo");
    world.pass(3 * SECOND);
    assert!(world.accepted(0).is_empty(), "who dawdles is not sent elsewhere");
    world.send(client, b"st: a.example\r\n\r\n");
    world.arrive();
    assert_eq!(world.accepted(1).len(), 1);
}

#[test]
fn client_that_ends_before_it_said_enough_goes_nowhere() {
    let hello = hello("a.example");
    for sent in [&b""[..], &hello[..30]] {
        let mut world = start(&routed(vec![named("a.example")]), 2);
        let client = world.client();
        if !sent.is_empty() {
            world.send(client, sent);
        }
        world.shut(client);
        world.arrive();
        assert_eq!(world.only_end(), "client accept left_hello");
        world.assert_nothing_is_open();
    }
}

#[test]
fn what_a_client_is_routes_it_without_a_byte_of_it() {
    let source =
        |text: &str| Rule { source: vec![Network::parse(text).expect("a network")], ..Rule::default() };
    let app = routed(vec![source("10.0.0.0/8"), source("127.0.0.0/8")]);
    let mut world = start(&app, 3);
    world.client();
    world.pass(Duration::from_millis(500));
    assert_eq!(world.accepted(2).len(), 1);
}

#[test]
fn destination_of_a_proxy_header_counts_and_the_hello_may_follow_in_the_same_bytes() {
    let destination = |text: &str, port: u16| Rule {
        destination: vec![Network::parse(text).expect("a network")],
        destination_ports: vec![port..=port],
        ..named("a.example")
    };
    let mut app =
        passthrough(vec![destination("198.51.100.0/24", 8443), destination("198.51.100.0/24", 443)]);
    app.proxy_protocol.accept = AcceptHeader::Required;
    app.proxy_protocol.trusted = vec![Network::parse("127.0.0.0/8").expect("a network")];
    let mut world = start(&app, 3);
    let client = world.client();
    let sent = hello("a.example");
    world.send(client, &[&b"PROXY TCP4 192.0.2.1 198.51.100.7 5000 443\r\n"[..], &sent].concat());
    world.arrive();
    let connection = world.accepted(2)[0];
    assert_eq!(world.seen(connection).received, sent);
}

#[test]
fn connections_go_on_by_the_route_that_they_took_when_it_is_removed() {
    let app = passthrough(vec![named("a.example"), named("b.example")]);
    let mut world = start(&app, 3);
    let client = world.client();
    world.send(client, &hello("a.example"));
    world.arrive();
    let connection = world.accepted(1)[0];
    let mut without = app.clone();
    without.routes.remove(0);
    world.reload(vec![without]);
    world.send(connection, b"still here");
    world.arrive();
    assert_eq!(world.seen(client).received, b"still here");
    let late = world.client();
    world.send(late, &hello("a.example"));
    world.arrive();
    assert_eq!(world.only_end(), "ringway accept no_route");
    world.reload(vec![app]);
    let again = world.client();
    world.send(again, &hello("a.example"));
    world.arrive();
    assert_eq!(world.accepted(1).len(), 2);
    for connection in [client, again, connection, world.accepted(1)[1]] {
        world.close(connection);
        world.arrive();
    }
    assert_eq!(world.records().len(), 3);
    world.assert_nothing_is_open();
    assert!(world.lineage.living_pools().iter().all(|pool| pool.active().get() == 0));
}

#[test]
fn client_that_is_waited_for_while_its_app_goes_is_served_by_what_it_came_to() {
    let app = passthrough(vec![named("a.example")]);
    let mut world = start(&app, 2);
    let client = world.client();
    world.arrive();
    world.reload(vec![model::App { name: "other".into(), ..crate::world::app(1) }]);
    let sent = hello("a.example");
    world.send(client, &sent);
    world.arrive();
    let connection = world.accepted(1)[0];
    assert_eq!(world.seen(connection).received, sent);
    world.close(client);
    world.close(connection);
    world.arrive();
    assert_eq!(world.records().len(), 1);
    world.assert_nothing_is_open();
    assert!(world.app.pools().iter().all(|pool| pool.active().get() == 0));
}
