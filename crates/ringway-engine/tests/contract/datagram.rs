//! Datagrams.

use std::net::{Ipv4Addr, SocketAddr};

use ringway_engine::{DatagramBatch, DatagramSocketId, ListenOptions, Token};

use crate::contract;
use crate::rig::{Node, Rig};

contract!(
    datagrams_keep_their_bounds_and_tell_their_sender,
    batch_goes_out_and_comes_in_whole,
    an_answer_goes_back_to_the_sender,
    closed_datagram_socket_is_silent_and_its_address_free,
    empty_datagram_arrives,
);

fn bind(rig: &mut Rig, node: Node, token: Token) -> (DatagramSocketId, SocketAddr) {
    let any: SocketAddr = (Ipv4Addr::LOCALHOST, 0).into();
    let socket = rig.ops(node).bind_datagram(any, &ListenOptions::default(), token).expect("a port");
    let address = rig.ops(node).datagram_address(socket).expect("an address");
    assert_ne!(address.port(), 0);
    (socket, address)
}

fn datagrams_keep_their_bounds_and_tell_their_sender(rig: &mut Rig) {
    let (one, two) = (rig.node(), rig.node());
    let (from, from_address) = bind(rig, one, Token(1));
    let (_, to) = bind(rig, two, Token(2));
    let large = rig.payload(1400);
    for bytes in [&b"small"[..], &large] {
        let mut batch = DatagramBatch::new();
        batch.push(to, bytes);
        assert_eq!(rig.ops(one).send_datagrams(from, &batch), 1);
    }
    rig.until("two datagrams", |rig| rig.log(two).datagrams.len() == 2);
    let mut got = rig.log(two).datagrams.clone();
    got.sort_by_key(|(_, _, bytes)| bytes.len());
    assert_eq!(got[0].2, b"small");
    assert_same_bytes(&got[1].2, &large);
    assert!(got.iter().all(|(peer, ..)| *peer == from_address));
    assert!(got.iter().all(|(_, local, _)| local.is_none_or(|local| local == to.ip())));
}

fn batch_goes_out_and_comes_in_whole(rig: &mut Rig) {
    let (one, two) = (rig.node(), rig.node());
    let (from, _) = bind(rig, one, Token(1));
    let (_, to) = bind(rig, two, Token(2));
    let mut batch = DatagramBatch::new();
    for index in 0..50u8 {
        batch.push(to, &[index; 100]);
    }
    assert_eq!(rig.ops(one).send_datagrams(from, &batch), 50);
    rig.until("fifty datagrams", |rig| rig.log(two).datagrams.len() == 50);
    let mut numbers: Vec<_> = rig.log(two).datagrams.iter().map(|(_, _, bytes)| bytes[0]).collect();
    numbers.sort_unstable();
    assert!(numbers.into_iter().eq(0..50));
}

fn an_answer_goes_back_to_the_sender(rig: &mut Rig) {
    let (one, two) = (rig.node(), rig.node());
    let (from, _) = bind(rig, one, Token(1));
    let (answering, to) = bind(rig, two, Token(2));
    let mut batch = DatagramBatch::new();
    batch.push(to, b"ping");
    rig.ops(one).send_datagrams(from, &batch);
    rig.until("the question", |rig| !rig.log(two).datagrams.is_empty());
    let peer = rig.log(two).datagrams[0].0;
    batch.clear();
    batch.push(peer, b"pong");
    rig.ops(two).send_datagrams(answering, &batch);
    rig.until("the answer", |rig| !rig.log(one).datagrams.is_empty());
    assert_eq!(rig.log(one).datagrams[0].2, b"pong");
    assert_eq!(rig.log(one).datagrams[0].0, to);
}

fn closed_datagram_socket_is_silent_and_its_address_free(rig: &mut Rig) {
    let (one, two) = (rig.node(), rig.node());
    let (from, _) = bind(rig, one, Token(1));
    let (closed, to) = bind(rig, two, Token(2));
    let mut batch = DatagramBatch::new();
    batch.push(to, b"too late");
    rig.ops(one).send_datagrams(from, &batch);
    rig.ops(two).close_datagram(closed);
    rig.settle();
    assert!(rig.log(two).datagrams.is_empty());
    assert_eq!(rig.ops(two).datagram_address(closed), None);
    assert_eq!(rig.ops(two).send_datagrams(closed, &batch), 0);
    let options = ListenOptions { reuse_port: false, ..ListenOptions::default() };
    rig.ops(two).bind_datagram(to, &options, Token(3)).expect("the address is free");
}

fn empty_datagram_arrives(rig: &mut Rig) {
    let (one, two) = (rig.node(), rig.node());
    let (from, _) = bind(rig, one, Token(1));
    let (_, to) = bind(rig, two, Token(2));
    let mut batch = DatagramBatch::new();
    batch.push(to, b"");
    assert_eq!(rig.ops(one).send_datagrams(from, &batch), 1);
    rig.until("a datagram", |rig| !rig.log(two).datagrams.is_empty());
    assert!(rig.log(two).datagrams[0].2.is_empty());
}

#[track_caller]
fn assert_same_bytes(got: &[u8], wanted: &[u8]) {
    crate::rig::assert_same(got, wanted);
}
