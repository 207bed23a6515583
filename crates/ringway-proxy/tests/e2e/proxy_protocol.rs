//! PROXY headers: from clients and proxies, to backends and servers, against HAProxy and nginx too.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};

use ringway_proto::proxy_protocol::v2::Writer;
use ringway_proto::proxy_protocol::{Addresses, parse};
use testkit::backend::{Backend, Behaviour};
use testkit::server::{HaProxy, Nginx};
use testkit::{PATIENCE, Ringway, client, free_address, http, skip};

use crate::support::{Engine, NO_CHECKS, access_line, app, field, start};

on_both_engines!(
    client_of_either_version_is_the_one_that_its_header_names,
    header_in_single_bytes_is_read_and_the_payload_is_whole,
    connection_without_a_good_header_is_closed_and_says_why,
    untrusted_source_is_refused_or_relayed_as_it_is,
    backend_is_sent_a_header_of_the_version_it_wants,
    haproxy_in_front_tells_the_client,
    nginx_behind_learns_the_client,
);

const ACCEPT: &str = "proxy_protocol = { accept = true, trusted = [\"127.0.0.0/8\"] }\n";

fn accepting(engine: Engine, frontend: SocketAddr, backend: &Backend, more: &str) -> Ringway {
    start(engine, &app(frontend, &[backend.address()], &format!("{more}{NO_CHECKS}")))
}

fn is_closed(stream: &mut TcpStream) -> bool {
    match stream.read(&mut [0; 64]) {
        Ok(count) => count == 0,
        Err(error) => error.kind() == ErrorKind::ConnectionReset,
    }
}

/// The line of the connection that came through `proxy`.
fn line_of_proxy(ringway: &Ringway, via: SocketAddr) -> String {
    let wanted = format!(" via={via} ");
    ringway.process().wait_for_line(&wanted, PATIENCE, |line| line.contains(&wanted))
}

fn client_of_either_version_is_the_one_that_its_header_names(engine: Engine) {
    let backend = Backend::start(Behaviour::Echo);
    let frontend = free_address();
    let ringway = accepting(engine, frontend, &backend, ACCEPT);
    let mut binary = Vec::new();
    let addresses = Addresses::between(
        "[2001:db8::7]:5000".parse().expect("an address"),
        "[2001:db8::1]:443".parse().expect("an address"),
    );
    Writer::proxy(&mut binary, &addresses).tlv(0xe0, b"whatever").finish_with_checksum();

    for (header, expected) in [
        (b"PROXY TCP4 192.0.2.7 198.51.100.1 5000 443\r\n".to_vec(), "192.0.2.7:5000"),
        (binary, "[2001:db8::7]:5000"),
    ] {
        let mut stream = client::connect(frontend).expect("it listens");
        let own = stream.local_addr().expect("an address");
        stream.write_all(&[header, b"hello".to_vec()].concat()).expect("it is read");
        let mut answer = [0; 5];
        stream.read_exact(&mut answer).expect("it is echoed");
        assert_eq!(&answer, b"hello");
        drop(stream);
        let line = line_of_proxy(&ringway, own);
        assert_eq!((field(&line, "client"), field(&line, "sent")), (expected, "5"), "{line}");
    }
}

fn header_in_single_bytes_is_read_and_the_payload_is_whole(engine: Engine) {
    let backend = Backend::start(Behaviour::Echo);
    let frontend = free_address();
    let _ringway = accepting(engine, frontend, &backend, ACCEPT);
    let mut stream = client::connect(frontend).expect("it listens");
    stream.set_nodelay(true).expect("it can be set");
    for byte in b"PROXY TCP6 2001:db8::7 2001:db8::1 5000 443\r\nhello" {
        stream.write_all(&[*byte]).expect("it is read");
    }
    let mut answer = [0; 5];
    stream.read_exact(&mut answer).expect("it is echoed");
    assert_eq!(&answer, b"hello");
}

fn connection_without_a_good_header_is_closed_and_says_why(engine: Engine) {
    let backend = Backend::start(Behaviour::Echo);
    let frontend = free_address();
    let more = format!("{ACCEPT}timeouts.handshake = \"300ms\"\n");
    let ringway = accepting(engine, frontend, &backend, &more);
    for (sent, why) in [
        (&b"GET / HTTP/1.1\r\n\r\n"[..], "header_malformed"),
        (b"PROXY TCP4 192.0.2.7 198.51.100.1 05000 443\r\n", "header_malformed"),
        (b"PROXY TCP4 192", "header_timeout"),
        (b"", "header_timeout"),
    ] {
        let mut stream = client::connect(frontend).expect("it listens");
        let own = stream.local_addr().expect("an address");
        stream.write_all(sent).expect("it is taken");
        assert!(is_closed(&mut stream));
        let line = access_line(&ringway, own);
        assert_eq!((field(&line, "why"), field(&line, "in")), (why, "accept"), "{line}");
    }
    assert_eq!(backend.accepted(), 0);
}

fn untrusted_source_is_refused_or_relayed_as_it_is(engine: Engine) {
    let backend = Backend::start(Behaviour::Echo);
    let header = b"PROXY TCP4 192.0.2.7 198.51.100.1 5000 443\r\n";
    let connect = |accept: &str| {
        let frontend = free_address();
        let more = format!("proxy_protocol = {{ accept = {accept}, trusted = [\"10.0.0.0/8\"] }}\n");
        let ringway = accepting(engine, frontend, &backend, &more);
        let mut stream = client::connect(frontend).expect("it listens");
        let own = stream.local_addr().expect("an address");
        stream.write_all(header).expect("it is taken");
        (ringway, stream, own)
    };

    let (ringway, mut stream, own) = connect("true");
    assert!(is_closed(&mut stream));
    assert_eq!(field(&access_line(&ringway, own), "why"), "untrusted");
    assert_eq!(backend.accepted(), 0);

    let (ringway, mut stream, own) = connect("\"optional\"");
    let mut answer = vec![0; header.len()];
    stream.read_exact(&mut answer).expect("it is echoed");
    assert_eq!(answer, header);
    drop(stream);
    let line = access_line(&ringway, own);
    assert!(!line.contains(" via="), "{line}");
}

fn backend_is_sent_a_header_of_the_version_it_wants(engine: Engine) {
    for version in ["v1", "v2"] {
        let backend = Backend::start(Behaviour::Echo);
        let frontend = free_address();
        let more = format!("proxy_protocol = {{ send = \"{version}\" }}\n");
        let ringway = accepting(engine, frontend, &backend, &more);
        let mut stream = client::connect(frontend).expect("it listens");
        let own = stream.local_addr().expect("an address");
        stream.write_all(b"hello").expect("it is taken");
        let mut echoed = Vec::new();
        let (header_length, destination, source) = loop {
            let mut chunk = [0; 256];
            let count = stream.read(&mut chunk).expect("it is echoed");
            assert_ne!(count, 0);
            echoed.extend_from_slice(&chunk[..count]);
            if let Some((header, length)) = parse(&echoed).expect("a header")
                && echoed.len() == length + 5
            {
                break (length, header.destination(), header.source());
            }
        };
        assert_eq!((source, destination), (Some(own), Some(frontend)));
        assert_eq!(&echoed[header_length..], b"hello");
        drop(stream);
        assert_eq!(field(&access_line(&ringway, own), "sent"), "5", "the header is not payload");
    }
}

fn haproxy_in_front_tells_the_client(engine: Engine) {
    for word in ["send-proxy", "send-proxy-v2"] {
        let backend = Backend::start(Behaviour::Named("a".to_owned()));
        let frontend = free_address();
        let ringway = accepting(engine, frontend, &backend, ACCEPT);
        let haproxy = match HaProxy::start(frontend, word) {
            Ok(haproxy) => haproxy,
            Err(reason) => skip!("{reason}"),
        };
        let mut stream = client::connect(haproxy.address()).expect("it listens");
        let own = stream.local_addr().expect("an address");
        assert_eq!(client::read_line(&mut stream).expect("the backend speaks first"), "a");
        drop(stream);
        let line = access_line(&ringway, own);
        assert_ne!(field(&line, "via"), own.to_string(), "{line}");
    }
}

fn nginx_behind_learns_the_client(engine: Engine) {
    let nginx = match Nginx::start("proxy_protocol", "$proxy_protocol_addr:$proxy_protocol_port") {
        Ok(nginx) => nginx,
        Err(reason) => skip!("{reason}"),
    };
    for version in ["v1", "v2"] {
        let frontend = free_address();
        let more = format!("proxy_protocol = {{ send = \"{version}\" }}\n");
        // The checks are told of in a way that nginx takes, too.
        let _ringway = start(engine, &app(frontend, &[nginx.address()], &more));
        let mut stream = client::connect(frontend).expect("it listens");
        let own = stream.local_addr().expect("an address");
        let response = http::get_on(&mut stream, "/").expect("nginx answers");
        assert_eq!(response.body.trim(), own.to_string());
    }
}
