//! Looking at what arrives without taking it.

use ringway_engine::{ConnectionId, PEEK_BYTES_MAX, RelayOptions, Token};

use crate::contract;
use crate::log::Seen;
use crate::rig::{Node, Rig, assert_same};

contract!(
    peek_shows_all_that_waits_each_time_there_is_more,
    peek_shows_no_more_than_was_asked_for,
    peek_tells_of_the_end_once,
    peek_begun_after_everything_came_tells_all,
    peeked_bytes_are_received_afterwards,
    peeked_bytes_are_relayed_afterwards,
    consumed_bytes_are_seen_by_nobody_again,
    peek_goes_on_behind_what_was_consumed,
    bytes_held_from_a_paused_receive_are_peeked_at_first,
    what_comes_behind_a_flood_is_peeked_at,
    reset_ends_a_peeked_connection_though_bytes_wait,
    stopped_peek_is_silent_and_a_watch_may_follow,
    peeked_connection_can_be_exported_with_its_bytes,
    accepted_connection_knows_the_address_that_was_dialled,
);

fn peeks(rig: &Rig, node: Node, connection: ConnectionId) -> Vec<(Vec<u8>, bool)> {
    let peeked = rig.log(node).seen.iter().filter_map(|seen| match seen {
        Seen::Peeked { connection: c, bytes, ended, .. } if *c == connection => Some((bytes.clone(), *ended)),
        _ => None,
    });
    peeked.collect()
}

fn last_peek(rig: &Rig, node: Node, connection: ConnectionId) -> (Vec<u8>, bool) {
    peeks(rig, node, connection).pop().unwrap_or_default()
}

#[track_caller]
fn wait_peek(rig: &mut Rig, node: Node, connection: ConnectionId, wanted: &[u8]) {
    rig.until("a peek", |rig| last_peek(rig, node, connection).0 == wanted);
}

fn peek_shows_all_that_waits_each_time_there_is_more(rig: &mut Rig) {
    let (one, two) = (rig.node(), rig.node());
    let (a, b) = rig.pair(one, two);
    rig.ops(two).set_token(b, Token(7));
    rig.ops(two).start_peek(b, 100);
    rig.settle();
    assert!(peeks(rig, two, b).is_empty(), "nothing has come");
    rig.ops(one).send(a, b"one").expect("to send");
    wait_peek(rig, two, b, b"one");
    rig.ops(one).send(a, b" two").expect("to send");
    wait_peek(rig, two, b, b"one two");
    rig.settle();
    let peeks = peeks(rig, two, b);
    assert!(peeks.iter().all(|(_, ended)| !ended));
    assert!(peeks.windows(2).all(|pair| pair[0].0.len() < pair[1].0.len()), "only more is news: {peeks:?}");
    assert!(rig.log(two).has(|seen| matches!(seen, Seen::Peeked { token: Token(7), .. })));
    assert!(rig.log(two).bytes(b).is_empty());
}

fn peek_shows_no_more_than_was_asked_for(rig: &mut Rig) {
    let (one, two) = (rig.node(), rig.node());
    let (a, b) = rig.pair(one, two);
    rig.ops(two).start_peek(b, 5);
    rig.ops(one).send(a, b"0123456789").expect("to send");
    wait_peek(rig, two, b, b"01234");
    rig.ops(one).send(a, b"more").expect("to send");
    rig.ops(one).shut(a);
    rig.settle();
    assert_eq!(last_peek(rig, two, b).0, b"01234");

    if rig.is_simulated() {
        // Its windows may be smaller than that.
        return;
    }
    let (a, b) = rig.pair(one, two);
    rig.ops(two).start_peek(b, usize::MAX);
    let bytes = rig.payload(PEEK_BYTES_MAX + 1);
    rig.ops(one).send(a, &bytes).expect("to send");
    rig.until("a full peek", |rig| last_peek(rig, two, b).0.len() == PEEK_BYTES_MAX);
    rig.settle();
    assert_same(&last_peek(rig, two, b).0, &bytes[..PEEK_BYTES_MAX]);
}

fn peek_tells_of_the_end_once(rig: &mut Rig) {
    let (one, two) = (rig.node(), rig.node());
    let (a, b) = rig.pair(one, two);
    rig.ops(two).start_peek(b, 100);
    rig.ops(one).send(a, b"last words").expect("to send");
    wait_peek(rig, two, b, b"last words");
    rig.ops(one).shut(a);
    rig.until("the end", |rig| last_peek(rig, two, b).1);
    rig.settle();
    let ends: Vec<_> = peeks(rig, two, b).into_iter().filter(|(_, ended)| *ended).collect();
    assert_eq!(ends, [(b"last words".to_vec(), true)]);

    let (a, b) = rig.pair(one, two);
    rig.ops(two).start_peek(b, 100);
    rig.ops(one).shut(a);
    rig.until("the end", |rig| last_peek(rig, two, b).1);
    assert_eq!(peeks(rig, two, b), [(Vec::new(), true)]);
}

fn peek_begun_after_everything_came_tells_all(rig: &mut Rig) {
    let (one, two) = (rig.node(), rig.node());
    let (a, b) = rig.pair(one, two);
    rig.ops(one).send(a, b"early").expect("to send");
    rig.ops(one).shut(a);
    rig.settle();
    rig.ops(two).start_peek(b, 100);
    rig.until("all of it", |rig| last_peek(rig, two, b) == (b"early".to_vec(), true));
}

fn peeked_bytes_are_received_afterwards(rig: &mut Rig) {
    let (one, two) = (rig.node(), rig.node());
    let (a, b) = rig.pair(one, two);
    rig.ops(two).start_peek(b, 100);
    rig.ops(one).send(a, b"request").expect("to send");
    wait_peek(rig, two, b, b"request");
    rig.ops(two).start_receive(b);
    rig.wait_bytes(two, b, 7);
    let before = peeks(rig, two, b).len();
    rig.ops(one).send(a, b" and more").expect("to send");
    rig.wait_bytes(two, b, 16);
    rig.ops(one).shut(a);
    rig.until("the end", |rig| rig.log(two).ended(b));
    assert_eq!(rig.log(two).bytes(b), b"request and more");
    assert_eq!(peeks(rig, two, b).len(), before, "receiving ends the peek");
}

fn peeked_bytes_are_relayed_afterwards(rig: &mut Rig) {
    let joined = rig.unjoined();
    rig.ops(joined.proxy).start_peek(joined.a, 100);
    rig.ops(joined.ends).send(joined.client, b"header|payload").expect("to send");
    wait_peek(rig, joined.proxy, joined.a, b"header|payload");
    assert_eq!(rig.ops(joined.proxy).consume(joined.a, 7), 7);
    rig.ops(joined.proxy).start_relay(joined.a, joined.b, RelayOptions::default());
    rig.wait_bytes(joined.ends, joined.server, 7);
    rig.ops(joined.ends).send(joined.server, b"answer").expect("to send");
    rig.wait_bytes(joined.ends, joined.client, 6);
    rig.ops(joined.ends).shut(joined.client);
    rig.ops(joined.ends).shut(joined.server);
    rig.until("the relay's end", |rig| !rig.log(joined.proxy).relay_ends.is_empty());
    assert_eq!(rig.log(joined.ends).bytes(joined.server), b"payload");
    assert_eq!(rig.log(joined.proxy).relay_ends[0].bytes, [7, 6], "what was consumed is not relayed");
}

fn consumed_bytes_are_seen_by_nobody_again(rig: &mut Rig) {
    let (one, two) = (rig.node(), rig.node());
    let (a, b) = rig.pair(one, two);
    let bytes = rig.payload(1_000);
    rig.ops(two).start_peek(b, PEEK_BYTES_MAX);
    rig.ops(one).send(a, &bytes).expect("to send");
    wait_peek(rig, two, b, &bytes);
    rig.ops(two).stop_peek(b);
    assert_eq!(rig.ops(two).consume(b, 900), 900);
    rig.ops(one).shut(a);
    rig.ops(two).start_receive(b);
    rig.until("the end", |rig| rig.log(two).ended(b));
    assert_same(rig.log(two).bytes(b), &bytes[900..]);
    assert_eq!(rig.ops(two).consume(b, 1), 0, "nothing is there");
}

fn peek_goes_on_behind_what_was_consumed(rig: &mut Rig) {
    let (one, two) = (rig.node(), rig.node());
    let (a, b) = rig.pair(one, two);
    rig.ops(two).start_peek(b, 100);
    rig.ops(one).send(a, b"onetwo").expect("to send");
    wait_peek(rig, two, b, b"onetwo");
    rig.ops(two).consume(b, 3);
    wait_peek(rig, two, b, b"two");
    rig.ops(two).consume(b, 3);
    rig.ops(one).send(a, b"three").expect("to send");
    wait_peek(rig, two, b, b"three");
    rig.ops(one).shut(a);
    rig.until("the end", |rig| last_peek(rig, two, b) == (b"three".to_vec(), true));
}

fn bytes_held_from_a_paused_receive_are_peeked_at_first(rig: &mut Rig) {
    let (one, two) = (rig.node(), rig.node());
    let (a, b) = rig.pair(one, two);
    rig.ops(two).start_receive(b);
    rig.turn();
    rig.ops(one).send(a, b"early ").expect("to send");
    // Where a receive completes by itself, these are taken from the kernel before anybody hears of them.
    rig.ops(two).pause_receive(b);
    rig.ops(two).start_peek(b, 100);
    rig.ops(one).send(a, b"late").expect("to send");
    wait_peek(rig, two, b, b"early late");
    assert_eq!(rig.ops(two).consume(b, 3), 3);
    wait_peek(rig, two, b, b"ly late");
    rig.ops(two).start_receive(b);
    rig.wait_bytes(two, b, 7);
    assert_eq!(rig.log(two).bytes(b), b"ly late");
}

/// A ring reads a flood without its buffers, until nothing is left: the peek begins within the last of it, and is not ended
/// with that.
fn what_comes_behind_a_flood_is_peeked_at(rig: &mut Rig) {
    let (one, two) = (rig.node(), rig.node());
    let (a, b) = rig.pair(one, two);
    let flood = rig.payload(if rig.is_simulated() { 200_000 } else { 4 << 20 });
    for round in 1..=10 {
        let mut left = flood.len();
        rig.log_mut(two).hook = Some(Box::new(move |ops, seen| {
            if let Seen::Received { connection, count, .. } = seen {
                left -= count;
                if left == 0 {
                    ops.pause_receive(*connection);
                    ops.start_peek(*connection, 100);
                }
            }
        }));
        rig.ops(one).send(a, &flood).expect("to send");
        rig.ops(two).start_receive(b);
        rig.wait_bytes(two, b, round * flood.len());
        rig.settle();
        let behind = format!("behind {round}");
        rig.ops(one).send(a, behind.as_bytes()).expect("to send");
        wait_peek(rig, two, b, behind.as_bytes());
        assert_eq!(rig.ops(two).consume(b, behind.len()), behind.len());
    }
}

fn reset_ends_a_peeked_connection_though_bytes_wait(rig: &mut Rig) {
    let (one, two) = (rig.node(), rig.node());
    let (a, b) = rig.pair(one, two);
    rig.ops(two).start_peek(b, 100);
    rig.ops(one).send(a, b"half a head").expect("to send");
    wait_peek(rig, two, b, b"half a head");
    rig.ops(one).reset(a);
    rig.wait_dead(two, b);
    assert!(rig.log(two).failed(b));
}

fn stopped_peek_is_silent_and_a_watch_may_follow(rig: &mut Rig) {
    let (one, two) = (rig.node(), rig.node());
    let (a, b) = rig.pair(one, two);
    rig.ops(two).start_peek(b, 100);
    rig.ops(one).send(a, b"one").expect("to send");
    wait_peek(rig, two, b, b"one");
    rig.ops(two).stop_peek(b);
    let before = peeks(rig, two, b).len();
    rig.ops(one).send(a, b"two").expect("to send");
    rig.settle();
    assert_eq!(peeks(rig, two, b).len(), before);
    rig.ops(two).watch(b);
    rig.ops(one).shut(a);
    rig.until("PeerLeft", |rig| rig.log(two).has(|seen| matches!(seen, Seen::PeerLeft { unread: true, .. })));
    rig.ops(two).start_peek(b, 100);
    rig.until("all of it", |rig| last_peek(rig, two, b) == (b"onetwo".to_vec(), true));
}

fn peeked_connection_can_be_exported_with_its_bytes(rig: &mut Rig) {
    let (one, two) = (rig.node(), rig.node());
    let (a, b) = rig.pair(one, two);
    rig.ops(two).start_peek(b, 100);
    rig.ops(one).send(a, b"header|rest").expect("to send");
    wait_peek(rig, two, b, b"header|rest");
    rig.ops(two).consume(b, 7);
    rig.ops(two).export(b);
    rig.wait_dead(two, b);
    let exported = rig.log_mut(two).exports.pop().expect("it was exported");
    let b = rig.ops(one).adopt(exported, Token(5)).expect("of the same world");
    rig.ops(one).start_peek(b, 100);
    wait_peek(rig, one, b, b"rest");
    rig.ops(one).start_receive(b);
    rig.wait_bytes(one, b, 4);
}

fn accepted_connection_knows_the_address_that_was_dialled(rig: &mut Rig) {
    let (one, two) = (rig.node(), rig.node());
    let (_, address) = rig.listen(two, Token(1));
    let a = rig.dial(one, &address, Token(2));
    rig.wait_connected(one, a);
    rig.until("the accept", |rig| !rig.log(two).accepted().is_empty());
    let b = rig.log(two).accepted()[0];
    assert_eq!(rig.ops(two).local_address(b), Some(address));
    rig.ops(two).close(b);
    rig.wait_dead(two, b);
    assert_eq!(rig.ops(two).local_address(b), None);
}
