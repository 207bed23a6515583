//! Dialling: what succeeds, what fails, and what is called off.

use ringway_engine::{
    ConnectOptions, ConnectionId, KeepAlive, RelayOptions, SocketAddress, SocketOptions, Token,
};
use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use crate::contract;
use crate::log::Seen;
use crate::rig::{Kind, Node, Rig, loopback};

contract!(
    dialled_connection_answers_with_its_token,
    refused_dial_says_so_and_the_id_is_dead,
    missing_unix_socket_fails_the_dial,
    cancelled_dial_answers_with_closed_and_nothing_else,
    silent_target_can_be_given_up,
    dial_leaves_from_the_source_address,
    socket_options_are_taken,
    keep_alive_of_a_dialled_connection_runs_soon,
    keep_alive_goes_with_a_connection_that_is_exported_at_once,
    unknown_congestion_control_fails_the_dial,
    dead_ids_are_ignored,
);

fn dialled_connection_answers_with_its_token(rig: &mut Rig) {
    let (server, client) = (rig.node(), rig.node());
    let (_, address) = rig.listen(server, Token(1));
    let dialled = rig.dial(client, &address, Token(2));
    assert!(!rig.log(client).has(|seen| matches!(seen, Seen::Connected { .. })), "nothing calls back");
    rig.ops(client).set_token(dialled, Token(3));
    rig.wait_connected(client, dialled);
    assert!(rig.log(client).has(|seen| *seen == Seen::Connected { connection: dialled, token: Token(3) }));
}

fn refused_dial_says_so_and_the_id_is_dead(rig: &mut Rig) {
    let node = rig.node();
    let listener = rig.ops(node).bind(&loopback(0), &Default::default()).expect("a port");
    let address = listener.address().clone();
    drop(listener);
    let dialled = rig.dial(node, &address, Token(4));
    rig.wait_dead(node, dialled);
    let error = Some(libc::ECONNREFUSED);
    let failed = Seen::ConnectFailed { connection: dialled, token: Token(4), error };
    assert!(rig.log(node).has(|seen| *seen == failed));
    assert_eq!(rig.ops(node).connection_count(), 0);
}

fn missing_unix_socket_fails_the_dial(rig: &mut Rig) {
    let node = rig.node();
    let dialled = rig.dial(node, &SocketAddress::unix("/nonexistent/socket"), Token(4));
    rig.wait_dead(node, dialled);
    let error = Some(libc::ENOENT);
    let failed = Seen::ConnectFailed { connection: dialled, token: Token(4), error };
    assert!(rig.log(node).has(|seen| *seen == failed));
}

fn cancelled_dial_answers_with_closed_and_nothing_else(rig: &mut Rig) {
    let (server, client) = (rig.node(), rig.node());
    let (_, address) = rig.listen(server, Token(1));
    let dialled = rig.dial(client, &address, Token(2));
    rig.ops(client).close(dialled);
    rig.wait_dead(client, dialled);
    rig.settle();
    assert_eq!(rig.log(client).seen, [Seen::Closed { connection: dialled, token: Token(2) }]);
    assert_eq!(rig.ops(client).connection_count(), 0);
}

fn silent_target_can_be_given_up(rig: &mut Rig) {
    // Only a simulated network has a target of which it is certain that it never answers.
    let Kind::Simulated(network) = rig.kind.clone() else { return };
    let (server, client) = (rig.node(), rig.node());
    let (_, address) = rig.listen(server, Token(1));
    network.block(&address);
    let given_up = rig.dial(client, &address, Token(2));
    let waited_for = rig.dial(client, &address, Token(3));
    let patient = rig.dial(client, &address, Token(4));
    rig.settle();
    assert!(rig.log(client).seen.is_empty());
    rig.ops(client).close(given_up);
    rig.wait_dead(client, given_up);
    network.allow(&address);
    rig.wait_connected(client, waited_for);
    rig.wait_connected(client, patient);
    network.block(&address);
    let never = rig.dial(client, &address, Token(5));
    rig.wait_dead(client, never);
    let error = Some(libc::ETIMEDOUT);
    assert!(rig.log(client).has(|seen| matches!(seen, Seen::ConnectFailed { error: e, .. } if *e == error)));
}

fn dial_leaves_from_the_source_address(rig: &mut Rig) {
    let (server, client) = (rig.node(), rig.node());
    let (_, address) = rig.listen(server, Token(1));
    let source = IpAddr::V4(Ipv4Addr::new(127, 0, 0, 9));
    let options = ConnectOptions { source: Some(source), ..ConnectOptions::default() };
    let dialled = rig.ops(client).connect(&address, &options, Token(2));
    rig.wait_connected(client, dialled);
    rig.until("the connection", |rig| !rig.log(server).accepted().is_empty());
    let from_there = |seen: &Seen| matches!(seen, Seen::Accepted { peer, .. } if peer.inet().is_some_and(|peer| peer.ip() == source));
    assert!(rig.log(server).has(from_there));
}

fn socket_options_are_taken(rig: &mut Rig) {
    let (server, client) = (rig.node(), rig.node());
    let (_, address) = rig.listen(server, Token(1));
    let second = Duration::from_secs(1);
    let socket = SocketOptions {
        nodelay: false,
        keep_alive: Some(KeepAlive { idle: second, interval: second, count: 3 }),
        user_timeout: Some(Duration::from_millis(1500)),
        congestion: Some("reno".to_owned()),
    };
    let options = ConnectOptions { source: None, socket };
    let dialled = rig.ops(client).connect(&address, &options, Token(2));
    rig.wait_connected(client, dialled);
}

/// Whether the kernel runs a keep-alive timer for the connection from `peer`'s address, by its own table.
fn keep_alive_runs(peer: &SocketAddress) -> bool {
    let port = peer.inet().expect("a TCP address").port();
    let table = std::fs::read_to_string("/proc/net/tcp").expect("the kernel's table");
    // Columns: number, local address, remote address, state, queues, timer ("02": keep-alive) and when.
    table.lines().any(|line| {
        let columns: Vec<&str> = line.split_whitespace().collect();
        columns.get(1).is_some_and(|local| local.ends_with(&format!(":{port:04X}")))
            && columns.get(5).is_some_and(|timer| timer.starts_with("02:"))
    })
}

/// Dials with keep-alive on; returns the connection and the address that it has.
fn dial_with_keep_alive(rig: &mut Rig, client: Node, server: Node) -> (ConnectionId, SocketAddress) {
    let (_, address) = rig.listen(server, Token(1));
    let hour = Duration::from_secs(3600);
    let keep_alive = Some(KeepAlive { idle: hour, interval: hour, count: 3 });
    let socket = SocketOptions { keep_alive, ..SocketOptions::default() };
    let dialled = rig.ops(client).connect(&address, &ConnectOptions { source: None, socket }, Token(2));
    rig.wait_connected(client, dialled);
    rig.until("the connection", |rig| !rig.log(server).accepted().is_empty());
    let peer = rig.log(server).seen.iter().find_map(|seen| match seen {
        Seen::Accepted { peer, .. } => Some(peer.clone()),
        _ => None,
    });
    (dialled, peer.expect("it was accepted"))
}

fn keep_alive_of_a_dialled_connection_runs_soon(rig: &mut Rig) {
    if rig.is_simulated() {
        return;
    }
    let (server, client) = (rig.node(), rig.node());
    let (_, peer) = dial_with_keep_alive(rig, client, server);
    rig.until("keep-alive", |_| keep_alive_runs(&peer));
}

fn keep_alive_goes_with_a_connection_that_is_exported_at_once(rig: &mut Rig) {
    if rig.is_simulated() {
        return;
    }
    let (server, client) = (rig.node(), rig.node());
    let (dialled, peer) = dial_with_keep_alive(rig, client, server);
    rig.ops(client).export(dialled);
    rig.until("the export", |rig| !rig.log(client).exports.is_empty());
    assert!(keep_alive_runs(&peer));
}

fn unknown_congestion_control_fails_the_dial(rig: &mut Rig) {
    if rig.is_simulated() {
        return;
    }
    let (server, client) = (rig.node(), rig.node());
    let (_, address) = rig.listen(server, Token(1));
    let socket = SocketOptions { congestion: Some("no-such-thing".to_owned()), ..SocketOptions::default() };
    let dialled = rig.ops(client).connect(&address, &ConnectOptions { source: None, socket }, Token(2));
    rig.wait_dead(client, dialled);
    assert!(rig.log(client).has(|seen| matches!(seen, Seen::ConnectFailed { .. })));
}

fn dead_ids_are_ignored(rig: &mut Rig) {
    let node = rig.node();
    let (one, other) = rig.pair(node, node);
    rig.ops(node).close(one);
    rig.wait_dead(node, one);
    let (tenant, _) = rig.pair(node, node);
    rig.log_mut(node).seen.clear();
    for dead in [one, ConnectionId::NONE] {
        let mut ops = rig.ops(node);
        ops.set_token(dead, Token(1));
        ops.start_receive(dead);
        ops.pause_receive(dead);
        ops.watch(dead);
        ops.unwatch(dead);
        assert!(ops.send(dead, b"x").is_err());
        assert_eq!(ops.queued_bytes(dead), 0);
        ops.shut(dead);
        ops.start_relay(dead, other, RelayOptions::default());
        ops.stop_relay(dead);
        ops.cut_relay(dead);
        assert_eq!(ops.relay_progress(dead), Default::default());
        ops.export(dead);
        ops.close(dead);
        ops.reset(dead);
    }
    rig.settle();
    assert_eq!(rig.log(node).seen, []);
    assert!(!rig.log(node).is_dead(tenant));
}
