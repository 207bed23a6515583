//! Clients in TLS against a server of rustls that ends it.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use loadgen::{Direction, Handshakes, KeyExchange, Mode, Options, Report, TlsReport, run};
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::{NamedGroup, ServerConfig, ServerConnection, StreamOwned};

type Stream = StreamOwned<ServerConnection, TcpStream>;

/// A server for as many connections as come, each with this function; it asks for `group` alone.
fn serve(group: NamedGroup, each: fn(Stream)) -> SocketAddr {
    let made = rcgen::generate_simple_self_signed(["bench.example".to_owned()]).expect("a certificate");
    let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(made.signing_key.serialize_der()));
    let mut provider = rustls::crypto::aws_lc_rs::default_provider();
    provider.kx_groups.retain(|offered| offered.name() == group);
    let mut config = ServerConfig::builder_with_provider(Arc::new(provider))
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_no_client_auth()
        .with_single_cert(vec![made.cert.der().clone()], key)
        .expect("they fit");
    config.ticketer = rustls::crypto::aws_lc_rs::Ticketer::new().expect("keys of tickets");
    let config = Arc::new(config);
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("an address");
    thread::spawn(move || {
        for socket in listener.incoming().map_while(Result::ok) {
            let connection = ServerConnection::new(Arc::clone(&config)).expect("terms");
            thread::spawn(move || each(StreamOwned::new(connection, socket)));
        }
    });
    address
}

/// Sends back what it is sent.
fn echo(mut stream: Stream) {
    let mut bytes = vec![0; 64 << 10];
    while let Ok(count @ 1..) = stream.read(&mut bytes) {
        if stream.write_all(&bytes[..count]).is_err() {
            break;
        }
    }
}

/// Sends without end once it is asked.
fn pour(mut stream: Stream) {
    if stream.read_exact(&mut [0]).is_ok() {
        while stream.write_all(&[7; 100_000]).is_ok() {}
    }
}

fn drain(mut stream: Stream) {
    let mut bytes = vec![0; 64 << 10];
    while let Ok(1..) = stream.read(&mut bytes) {}
}

fn options(mode: Mode, target: SocketAddr) -> Options {
    Options {
        target: Some(target),
        tls: Some(Handshakes::Full),
        connections: 4,
        warmup: Duration::from_millis(200),
        seconds: Duration::from_millis(300),
        ..Options::new(mode)
    }
}

fn without_errors(options: &Options) -> (Report, TlsReport) {
    let report = run(options).expect("the run goes to its end");
    assert_eq!((report.errors, &report.first_error), (0, &None));
    let tls = report.tls.expect("it is in TLS");
    (report, tls)
}

#[test]
fn every_connection_makes_a_handshake_in_full_and_is_given_two_tickets() {
    let target = serve(NamedGroup::X25519, echo);
    let (report, tls) = without_errors(&options(Mode::Connections, target));
    assert!(report.units > 4, "{report}");
    assert!(tls.handshakes.abs_diff(report.units) <= 4, "{tls:?}");
    assert_eq!(tls.resumed, 0);
    // Those of the last ones may be under way.
    assert!(tls.tickets.abs_diff(2 * tls.handshakes) <= 8, "{tls:?}");
}

#[test]
fn connections_go_on_with_sessions_of_earlier_ones() {
    let target = serve(NamedGroup::X25519, echo);
    let resumed = Options { tls: Some(Handshakes::Resumed), ..options(Mode::Connections, target) };
    let (report, tls) = without_errors(&resumed);
    assert!(report.units > 4, "{report}");
    assert_eq!(tls.resumed, tls.handshakes);
}

#[test]
fn a_server_that_wants_another_key_exchange_is_not_given_it() {
    let target = serve(NamedGroup::X25519MLKEM768, echo);
    let hybrid = Options { key_exchange: KeyExchange::X25519MlKem768, ..options(Mode::Connections, target) };
    assert!(without_errors(&hybrid).0.units > 0);
    let plain = Options { setup_patience: Duration::from_millis(300), ..options(Mode::Pingpong, target) };
    let error = run(&plain).expect_err("they have nothing in common").to_string();
    assert!(error.contains("HandshakeFailure"), "{error}");
}

#[test]
fn round_trips_and_idle_connections_are_carried() {
    let target = serve(NamedGroup::X25519, echo);
    let (report, _) = without_errors(&Options { size: 40_000, ..options(Mode::Pingpong, target) });
    assert!(report.units > 0);
    assert_eq!(report.bytes, report.units * 40_000);
    let (report, _) = without_errors(&Options { steps: vec![3, 10], ..options(Mode::Idle, target) });
    assert_eq!(report.connections, 10);
}

#[test]
fn bulk_data_flows_down_and_up() {
    let target = serve(NamedGroup::X25519, pour);
    let (report, _) = without_errors(&options(Mode::Bulk, target));
    assert!(report.bytes > 1_000_000, "{report}");
    // What reaches a server that is not ours is not counted.
    let target = serve(NamedGroup::X25519, drain);
    without_errors(&Options { direction: Direction::Up, ..options(Mode::Bulk, target) });
}

#[test]
fn a_server_without_tls_is_an_error_that_says_so() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let target = listener.local_addr().expect("an address");
    thread::spawn(move || {
        for mut socket in listener.incoming().map_while(Result::ok) {
            let _ = socket.write_all(b"220 smtp.example ready\r\n");
        }
    });
    let plain = Options { setup_patience: Duration::from_millis(300), ..options(Mode::Pingpong, target) };
    let error = run(&plain).expect_err("it speaks no TLS").to_string();
    assert!(error.contains("TLS: "), "{error}");
}

#[test]
fn hellos_are_messages_like_others_to_who_does_not_look_into_them() {
    let options = Options {
        target: None,
        tls: None,
        hello: true,
        backends: vec![([127, 0, 0, 1], 0).into()],
        ..options(Mode::Connections, ([127, 0, 0, 1], 1).into())
    };
    let report = run(&options).expect("the run goes to its end");
    assert_eq!((report.errors, &report.first_error), (0, &None));
    assert!(report.units > 0 && report.bytes / report.units > 150, "{report}");
}
