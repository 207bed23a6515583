//! Watching a connection that is not read from.

use ringway_engine::Token;

use crate::contract;
use crate::log::Seen;
use crate::rig::Rig;

contract!(
    watch_tells_that_the_peer_finished,
    watch_tells_that_the_peer_left_bytes_behind,
    watch_tells_of_a_reset,
    watch_tells_of_a_reset_behind_bytes,
    watch_set_after_the_peer_left_tells_too,
    watch_is_silent_while_the_peer_stays,
    unwatch_ends_a_watch,
    bytes_behind_a_watch_are_received_afterwards,
);

fn left(seen: &Seen) -> bool {
    matches!(seen, Seen::PeerLeft { .. })
}

fn watch_tells_that_the_peer_finished(rig: &mut Rig) {
    let (one, two) = (rig.node(), rig.node());
    let (a, b) = rig.pair(one, two);
    rig.ops(two).watch(b);
    rig.ops(one).shut(a);
    rig.until("PeerLeft", |rig| rig.log(two).has(left));
    let wanted = Seen::PeerLeft { connection: b, token: Token(900), reset: false, unread: false };
    assert!(rig.log(two).has(|seen| *seen == wanted));
    rig.settle();
    assert_eq!(rig.log(two).count(left), 1, "at most once a watch");
    rig.ops(two).send(b, b"still here").expect("it can be sent to");
    rig.ops(one).start_receive(a);
    rig.wait_bytes(one, a, 10);
}

fn watch_tells_that_the_peer_left_bytes_behind(rig: &mut Rig) {
    let (one, two) = (rig.node(), rig.node());
    let (a, b) = rig.pair(one, two);
    rig.ops(one).send(a, b"farewell").expect("to send");
    rig.settle();
    rig.ops(two).watch(b);
    rig.settle();
    assert!(!rig.log(two).has(left), "bytes alone are no leaving");
    rig.ops(one).shut(a);
    rig.until("PeerLeft", |rig| rig.log(two).has(left));
    let wanted = Seen::PeerLeft { connection: b, token: Token(900), reset: false, unread: true };
    assert!(rig.log(two).has(|seen| *seen == wanted));
}

fn watch_tells_of_a_reset(rig: &mut Rig) {
    let (one, two) = (rig.node(), rig.node());
    let (a, b) = rig.pair(one, two);
    rig.ops(two).watch(b);
    rig.turn();
    rig.ops(one).reset(a);
    rig.until("PeerLeft", |rig| rig.log(two).has(left));
    assert!(rig.log(two).has(|seen| matches!(seen, Seen::PeerLeft { reset: true, .. })));
    assert!(!rig.log(two).is_dead(b), "it waits to be closed");
    rig.ops(two).close(b);
    rig.wait_dead(two, b);
}

fn watch_tells_of_a_reset_behind_bytes(rig: &mut Rig) {
    let (one, two) = (rig.node(), rig.node());
    let (a, b) = rig.pair(one, two);
    rig.ops(two).watch(b);
    rig.ops(one).send(a, b"farewell").expect("to send");
    rig.settle();
    rig.ops(one).reset(a);
    rig.until("PeerLeft", |rig| rig.log(two).has(left));
    let wanted = Seen::PeerLeft { connection: b, token: Token(900), reset: true, unread: true };
    assert!(rig.log(two).has(|seen| *seen == wanted));
    rig.ops(two).close(b);
    rig.wait_dead(two, b);
}

fn watch_set_after_the_peer_left_tells_too(rig: &mut Rig) {
    let (one, two) = (rig.node(), rig.node());
    let (a, b) = rig.pair(one, two);
    rig.ops(one).shut(a);
    rig.settle();
    rig.ops(two).watch(b);
    assert!(!rig.log(two).has(left), "nothing calls back");
    rig.until("PeerLeft", |rig| rig.log(two).has(left));
}

fn watch_is_silent_while_the_peer_stays(rig: &mut Rig) {
    let (one, two) = (rig.node(), rig.node());
    let (a, b) = rig.pair(one, two);
    rig.ops(two).watch(b);
    for _ in 0..3 {
        rig.ops(one).send(a, b"chatter").expect("to send");
        rig.turn();
    }
    rig.settle();
    assert!(!rig.log(two).has(left));
    assert!(rig.log(two).bytes(b).is_empty());
}

fn unwatch_ends_a_watch(rig: &mut Rig) {
    let (one, two) = (rig.node(), rig.node());
    let (a, b) = rig.pair(one, two);
    rig.ops(two).watch(b);
    rig.turn();
    rig.ops(two).unwatch(b);
    rig.ops(one).shut(a);
    rig.settle();
    assert!(!rig.log(two).has(left));
}

fn bytes_behind_a_watch_are_received_afterwards(rig: &mut Rig) {
    let (one, two) = (rig.node(), rig.node());
    let (a, b) = rig.pair(one, two);
    rig.ops(two).watch(b);
    rig.ops(one).send(a, b"request").expect("to send");
    rig.settle();
    rig.ops(two).start_receive(b);
    rig.wait_bytes(two, b, 7);
    rig.ops(one).shut(a);
    rig.until("the end", |rig| rig.log(two).ended(b));
    assert!(!rig.log(two).has(left), "receiving ends the watch");
}
