//! PROXY headers from clients and to backends, to the moment.

use std::time::Duration;

use ringway::SocketAddress;
use ringway_proto::proxy_protocol::v2::Writer;
use ringway_proto::proxy_protocol::{Addresses, Command, parse};
use ringway_proxy::model::{self, AcceptHeader, Network, SendHeader};

use crate::world::{World, app};

const SECOND: Duration = Duration::from_secs(1);
const LINE: &[u8] = b"PROXY TCP4 192.0.2.1 198.51.100.7 5000 443\r\n";

fn accepting(accept: AcceptHeader) -> model::App {
    let mut app = app(1);
    app.proxy_protocol.accept = accept;
    app.proxy_protocol.trusted = vec![Network::parse("127.0.0.0/8").expect("a network")];
    app.timeouts.handshake = 3 * SECOND;
    app
}

fn start(app: &model::App) -> World {
    let mut world = World::new(app);
    world.start_backend(0);
    world
}

fn inet(text: &str) -> SocketAddress {
    SocketAddress::Inet(text.parse().expect("an address"))
}

#[test]
fn client_is_the_one_that_its_header_names_and_only_what_follows_is_relayed() {
    let mut world = start(&accepting(AcceptHeader::Required));
    let client = world.client();
    world.send(client, LINE);
    world.send(client, b"hello");
    world.arrive();
    let backend = world.accepted(0)[0];
    assert_eq!(world.seen(backend).received, b"hello");
    world.close(client);
    world.arrive();
    world.close(backend);
    world.arrive();
    assert_eq!(world.only_end(), "client relay finished");
    let record = &world.records()[0];
    assert_eq!(record.client, inet("192.0.2.1:5000"));
    let via = record.via.as_ref().and_then(SocketAddress::inet).expect("the proxy");
    assert!(via.ip().is_loopback());
    assert_eq!(record.bytes, [5, 0], "the header is not payload");
    world.assert_nothing_is_open();
}

#[test]
fn header_may_come_byte_by_byte_and_nobody_is_dialled_before_its_last() {
    let mut world = start(&accepting(AcceptHeader::Required));
    let client = world.client();
    for byte in &LINE[..LINE.len() - 1] {
        world.send(client, &[*byte]);
        world.pass(Duration::from_millis(10));
    }
    assert!(world.accepted(0).is_empty());
    world.send(client, b"\n");
    world.arrive();
    assert_eq!(world.accepted(0).len(), 1);
}

#[test]
fn header_that_does_not_come_in_time_ends_the_connection() {
    for sent in [&b""[..], &LINE[..20]] {
        let mut world = start(&accepting(AcceptHeader::Required));
        let start = world.now();
        let client = world.client();
        world.send(client, sent);
        world.until("it is refused", |world| !world.records().is_empty());
        let waited = world.records()[0].ended.since(start);
        assert!(waited >= 3 * SECOND && waited < 4 * SECOND, "{waited:?}");
        assert_eq!(world.only_end(), "ringway accept header_timeout");
        assert!(world.accepted(0).is_empty());
        world.assert_nothing_is_open();
    }
}

#[test]
fn what_is_no_header_is_refused_where_one_is_required() {
    for bytes in [&b"GET / HTTP/1.1\r\n"[..], b"PROXY TCP4 1.2.3.4 5.6.7.8 1 99999\r\n"] {
        let mut world = start(&accepting(AcceptHeader::Required));
        let client = world.client();
        world.send(client, bytes);
        world.arrive();
        assert_eq!(world.only_end(), "ringway accept header_malformed");
        assert!(world.accepted(0).is_empty());
        world.assert_nothing_is_open();
    }
}

#[test]
fn client_that_leaves_before_its_header_is_complete_is_noticed() {
    let mut world = start(&accepting(AcceptHeader::Required));
    let client = world.client();
    world.send(client, &LINE[..10]);
    world.arrive();
    world.shut(client);
    world.arrive();
    assert_eq!(world.only_end(), "client accept left_header");

    let mut world = start(&accepting(AcceptHeader::Required));
    let client = world.client();
    world.send(client, &LINE[..10]);
    world.arrive();
    world.reset(client);
    world.arrive();
    assert_eq!(world.only_end(), "client accept left_header");
    world.assert_nothing_is_open();
}

#[test]
fn nobody_but_trusted_sources_gets_in_where_a_header_is_required() {
    let mut model = accepting(AcceptHeader::Required);
    model.proxy_protocol.trusted = vec![Network::parse("10.0.0.0/8").expect("a network")];
    let mut world = start(&model);
    let client = world.client();
    world.send(client, LINE);
    world.arrive();
    assert_eq!(world.only_end(), "ringway accept untrusted");
    assert!(world.accepted(0).is_empty());
    world.assert_nothing_is_open();
}

#[test]
fn where_it_is_optional_the_header_of_others_is_payload() {
    let mut model = accepting(AcceptHeader::Optional);
    model.proxy_protocol.trusted = vec![Network::parse("10.0.0.0/8").expect("a network")];
    let mut world = start(&model);
    let client = world.client();
    world.send(client, LINE);
    world.arrive();
    assert_eq!(world.seen(world.accepted(0)[0]).received, LINE);
    world.reset(client);
    world.arrive();
    assert_eq!(world.records()[0].via, None);
    assert!(world.records()[0].client.inet().is_some_and(|client| client.ip().is_loopback()));
}

#[test]
fn where_it_is_optional_a_trusted_source_may_do_without_or_say_nothing() {
    let mut world = start(&accepting(AcceptHeader::Optional));
    let client = world.client();
    world.send(client, b"EHLO");
    world.arrive();
    assert_eq!(world.seen(world.accepted(0)[0]).received, b"EHLO");

    world.client();
    world.pass(2 * SECOND);
    assert_eq!(world.accepted(0).len(), 1, "a header may still come");
    world.pass(2 * SECOND);
    assert_eq!(world.accepted(0).len(), 2, "the backend may have to speak first");

    let client = world.client();
    world.send(client, b"PROX");
    world.pass(4 * SECOND);
    assert_eq!(world.only_end(), "ringway accept header_timeout");
}

#[test]
fn local_connection_of_the_proxy_itself_keeps_its_own_address() {
    let mut world = start(&accepting(AcceptHeader::Required));
    let client = world.client();
    let mut header = Vec::new();
    Writer::local(&mut header).finish();
    world.send(client, &header);
    world.send(client, b"check");
    world.arrive();
    assert_eq!(world.seen(world.accepted(0)[0]).received, b"check");
    world.reset(client);
    world.arrive();
    let record = &world.records()[0];
    assert!(record.via.is_none() && record.client.inet().is_some_and(|client| client.ip().is_loopback()));
}

#[test]
fn backend_is_told_of_the_client_before_the_first_byte() {
    for send in [SendHeader::V1, SendHeader::V2] {
        let mut model = app(1);
        model.proxy_protocol.send = send;
        let mut world = start(&model);
        let client = world.client();
        world.send(client, b"hello");
        world.arrive();
        let backend = world.accepted(0)[0];
        let received = &world.seen(backend).received;
        let (header, length) = parse(received).expect("well-formed").expect("complete");
        assert_eq!(header.command, Command::Proxy);
        assert_eq!(&received[length..], b"hello");
        let destination = world.app.frontends()[0].listening().address.expect("it listens");
        assert_eq!(header.destination().map(SocketAddress::Inet), Some(destination));
        let source = header.source().expect("an address");
        world.reset(client);
        world.arrive();
        assert_eq!(world.records()[0].client, SocketAddress::Inet(source));
        assert_eq!(world.records()[0].bytes, [5, 0], "the header is not payload");
    }
}

#[test]
fn carried_addresses_are_handed_on_to_the_backend() {
    let mut model = accepting(AcceptHeader::Required);
    model.proxy_protocol.send = SendHeader::V2;
    let mut world = start(&model);
    let client = world.client();
    world.send(client, LINE);
    world.arrive();
    let received = &world.seen(world.accepted(0)[0]).received;
    let (header, _) = parse(received).expect("well-formed").expect("complete");
    let expected =
        Addresses::between("192.0.2.1:5000".parse().expect("ip"), "198.51.100.7:443".parse().expect("ip"));
    assert_eq!(header.addresses, expected);
}

#[test]
fn backend_is_told_that_a_check_is_no_client() {
    for (send, command) in [(SendHeader::V1, Command::Proxy), (SendHeader::V2, Command::Local)] {
        let mut model = app(1);
        model.proxy_protocol.send = send;
        model.health.check = model::Check::Tcp;
        let mut world = start(&model);
        world.pass(5 * SECOND);
        let received = &world.seen(world.accepted(0)[0]).received;
        let (header, length) = parse(received).expect("well-formed").expect("complete");
        assert_eq!((header.command, length), (command, received.len()));
        assert_eq!(header.source().is_some(), send == SendHeader::V1);
    }
}
