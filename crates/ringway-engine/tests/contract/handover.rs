//! Export and adopt: connections move between engines with every byte, and every end, that they own.

use ringway_engine::{ConnectionId, Ends, ExportedConnection, RelayCause, RelayOptions, Token, Underway};

use crate::contract;
use crate::log::Seen;
use crate::rig::{Joined, Node, Rig, assert_same};

contract!(
    exported_connection_goes_on_in_another_engine,
    queued_and_received_bytes_travel_along,
    ends_travel_along,
    dropped_export_closes_the_connection,
    broken_connection_fails_instead_of_leaving,
    relays_move_between_engines_at_random_moments,
    copied_export_is_another_handle_to_the_same_connection,
    dropped_export_says_nothing_while_another_holds_the_socket,
    shared_connection_ends_at_once_although_others_hold_its_socket,
    shared_relay_ends_at_once_although_others_hold_its_sockets,
    nothing_in_an_engine_keeps_a_dropped_export_open,
    corked_bytes_leave_before_their_connection,
    what_was_readable_before_the_move_is_read_after_it,
    relay_whose_ends_stood_goes_on_with_what_they_missed,
    of_two_engines_that_stand_for_a_relay_one_goes_on,
    connection_that_stood_is_received_from,
);

#[track_caller]
fn export(rig: &mut Rig, node: Node, connection: ConnectionId) -> ExportedConnection {
    rig.ops(node).export(connection);
    rig.until("Exported", |rig| rig.log(node).is_dead(connection));
    let exported = |seen: &Seen| matches!(seen, Seen::Exported { connection: c, .. } if *c == connection);
    assert!(rig.log(node).has(exported));
    rig.log_mut(node).exports.pop().expect("what was exported")
}

/// An engine to move to: of the other kind if `other`, and if there is one.
fn second(rig: &mut Rig, other: bool) -> Node {
    let node = if other { rig.other_node() } else { None };
    node.unwrap_or_else(|| rig.node())
}

fn exported_connection_goes_on_in_another_engine(rig: &mut Rig) {
    for other in [false, true] {
        let (from, peer) = (rig.node(), rig.node());
        let to = second(rig, other);
        let (a, b) = rig.pair(from, peer);
        rig.ops(from).start_receive(a);
        rig.ops(peer).start_receive(b);
        rig.ops(peer).send(b, b"before").expect("to send");
        rig.wait_bytes(from, a, 6);
        let exported = export(rig, from, a);
        assert_eq!(rig.ops(from).connection_count(), 0);
        let adopted = rig.ops(to).adopt(exported, Token(50)).expect("to adopt");
        rig.ops(peer).send(b, b"after").expect("to send");
        rig.settle();
        assert!(rig.log(to).bytes(adopted).is_empty(), "nothing is read until told");
        rig.ops(to).start_receive(adopted);
        rig.wait_bytes(to, adopted, 5);
        rig.ops(to).send(adopted, b"answer").expect("to send");
        rig.wait_bytes(peer, b, 6);
        rig.ops(to).close(adopted);
        rig.wait_dead(to, adopted);
        assert!(rig.log(to).has(|seen| *seen == Seen::Closed { connection: adopted, token: Token(50) }));
        rig.until("the end", |rig| rig.log(peer).ended(b));
    }
}

fn queued_and_received_bytes_travel_along(rig: &mut Rig) {
    for other in [false, true] {
        let (from, peer) = (rig.node(), rig.node());
        let to = second(rig, other);
        let (a, b) = rig.pair(from, peer);
        let (there, back) = (rig.bulk(), rig.bulk());
        rig.ops(from).send(a, &there).expect("to send");
        rig.ops(peer).send(b, &back).expect("to send");
        rig.ops(from).start_receive(a);
        rig.wait_bytes(from, a, 1000);
        let exported = export(rig, from, a);
        let before = rig.log(from).bytes(a).to_vec();
        assert!(!exported.queued.is_empty() && !exported.shut);
        assert_eq!(rig.ops(from).pending_bytes(), 0);
        let adopted = rig.ops(to).adopt(exported, Token(50)).expect("to adopt");
        rig.ops(to).shut(adopted);
        rig.ops(to).start_receive(adopted);
        rig.ops(peer).start_receive(b);
        rig.ops(peer).shut(b);
        rig.until("both ends", |rig| rig.log(peer).ended(b) && rig.log(to).ended(adopted));
        assert_same(rig.log(peer).bytes(b), &there);
        assert_same(&[&before, rig.log(to).bytes(adopted)].concat(), &back);
    }
}

fn ends_travel_along(rig: &mut Rig) {
    let (from, peer, to) = (rig.node(), rig.node(), rig.node());
    let (a, b) = rig.pair(from, peer);
    let payload = rig.bulk();
    rig.ops(from).send(a, &payload).expect("to send");
    rig.ops(from).shut(a);
    rig.ops(peer).shut(b);
    rig.ops(from).start_receive(a);
    rig.until("the end", |rig| rig.log(from).ended(a));
    let exported = export(rig, from, a);
    assert!(exported.shut && exported.ended && !exported.queued.is_empty());
    let adopted = rig.ops(to).adopt(exported, Token(50)).expect("to adopt");
    assert!(rig.ops(to).send(adopted, b"x").is_err(), "it was shut");
    rig.ops(peer).start_receive(b);
    rig.until("the other end", |rig| rig.log(peer).ended(b));
    assert_same(rig.log(peer).bytes(b), &payload);
}

fn dropped_export_closes_the_connection(rig: &mut Rig) {
    let (from, peer) = (rig.node(), rig.node());
    let (a, b) = rig.pair(from, peer);
    rig.ops(peer).start_receive(b);
    drop(export(rig, from, a));
    rig.until("the end", |rig| rig.log(peer).ended(b));
}

fn broken_connection_fails_instead_of_leaving(rig: &mut Rig) {
    let (from, peer) = (rig.node(), rig.node());
    let (a, b) = rig.pair(from, peer);
    rig.ops(peer).reset(b);
    rig.wait_dead(peer, b);
    rig.ops(from).start_receive(a);
    rig.wait_dead(from, a);
    rig.ops(from).export(a);
    rig.settle();
    assert!(rig.log(from).exports.is_empty());
}

fn copied_export_is_another_handle_to_the_same_connection(rig: &mut Rig) {
    for other in [false, true] {
        let (from, peer) = (rig.node(), rig.node());
        let to = second(rig, other);

        // Dropped, it leaves the connection to its copy.
        let (a, b) = rig.pair(from, peer);
        rig.ops(peer).start_receive(b);
        let exported = export(rig, from, a);
        let copy = exported.duplicate().expect("descriptors");
        assert!(copy.shared && copy.received.is_empty() && copy.queued.is_empty());
        drop(exported);
        rig.settle();
        let adopted = rig.ops(to).adopt(copy, Token(50)).expect("to adopt");
        rig.ops(to).send(adopted, b"answer").expect("to send");
        rig.wait_bytes(peer, b, 6);
        rig.ops(to).close(adopted);
        rig.until("the end", |rig| rig.log(peer).ended(b));

        // Closed without a word, it does so, too; the last to go ends the connection.
        let (a, b) = rig.pair(from, peer);
        rig.ops(peer).start_receive(b);
        let exported = export(rig, from, a);
        let copy = exported.duplicate().expect("descriptors");
        let again = rig.ops(from).adopt(exported, Token(51)).expect("to adopt");
        rig.ops(from).close(again);
        rig.wait_dead(from, again);
        rig.settle();
        assert!(!rig.log(peer).ended(b) && !rig.log(peer).is_dead(b));
        drop(copy);
        rig.until("the end", |rig| rig.log(peer).ended(b));

        // Ended by one of two who know of each other, it is over for both.
        for reset in [false, true] {
            let (a, b) = rig.pair(from, peer);
            rig.ops(peer).start_receive(b);
            let mut exported = export(rig, from, a);
            let copy = exported.duplicate().expect("descriptors");
            exported.shared = true;
            let [one, two] = [(from, exported), (to, copy)]
                .map(|(node, exported)| rig.ops(node).adopt(exported, Token(52)).expect("to adopt"));
            match reset {
                true => rig.ops(from).reset(one),
                false => rig.ops(from).close(one),
            }
            rig.until("the end", |rig| if reset { rig.log(peer).failed(b) } else { rig.log(peer).ended(b) });
            rig.ops(to).start_receive(two);
            rig.until("its copy's", |rig| rig.log(to).ended(two) || rig.log(to).failed(two));
        }
    }
}

/// A copy of a connection's descriptor, as another process would hold it; none in a simulation.
fn copy(rig: &mut Rig, node: Node, connection: ConnectionId) -> Option<ExportedConnection> {
    if rig.is_simulated() {
        let error = rig.ops(node).duplicate(connection).expect_err("nothing to copy");
        assert_eq!(error.kind(), std::io::ErrorKind::Unsupported);
        return None;
    }
    let fd = rig.ops(node).duplicate(connection).expect("a live connection");
    Some(ExportedConnection::from_descriptor(fd).expect("a stream socket"))
}

fn dropped_export_says_nothing_while_another_holds_the_socket(rig: &mut Rig) {
    for other in [false, true] {
        let (from, peer) = (rig.node(), rig.node());
        let to = second(rig, other);
        let (a, b) = rig.pair(from, peer);
        rig.ops(peer).start_receive(b);
        rig.ops(from).start_receive(a);
        let Some(copy) = copy(rig, from, a) else { return };
        rig.ops(peer).send(b, b"unread").expect("to send");
        let exported = export(rig, from, a);
        assert!(exported.shared);
        let received = exported.received.len();
        drop(exported);
        rig.settle();
        assert!(!rig.log(peer).ended(b) && !rig.log(peer).is_dead(b));
        let adopted = rig.ops(to).adopt(copy, Token(50)).expect("to adopt");
        rig.ops(to).start_receive(adopted);
        rig.wait_bytes(to, adopted, 6 - received - rig.log(from).bytes(a).len());
        rig.ops(to).send(adopted, b"answer").expect("to send");
        rig.wait_bytes(peer, b, 6);
        rig.ops(to).close(adopted);
        rig.until("the end", |rig| rig.log(peer).ended(b));
    }
}

fn shared_connection_ends_at_once_although_others_hold_its_socket(rig: &mut Rig) {
    let (node, peer) = (rig.node(), rig.node());
    for reset in [false, true] {
        let (a, b) = rig.pair(node, peer);
        rig.ops(peer).start_receive(b);
        rig.ops(node).start_receive(a);
        let Some(copy) = copy(rig, node, a) else { return };
        rig.ops(node).send(a, b"last").expect("to send");
        match reset {
            true => rig.ops(node).reset(a),
            false => rig.ops(node).close(a),
        }
        rig.wait_dead(node, a);
        rig.until("the end", |rig| match reset {
            true => rig.log(peer).failed(b),
            false => rig.log(peer).ended(b) && rig.log(peer).bytes(b) == b"last",
        });
        assert!(rig.ops(node).duplicate(a).is_err(), "it is dead");
        drop(copy);
    }
}

fn shared_relay_ends_at_once_although_others_hold_its_sockets(rig: &mut Rig) {
    for cut in [false, true] {
        let joined = rig.joined(RelayOptions::default());
        let Some(one) = copy(rig, joined.proxy, joined.a) else { return };
        let other = copy(rig, joined.proxy, joined.b);
        rig.ops(joined.ends).send(joined.client, b"hello").expect("to send");
        rig.wait_bytes(joined.ends, joined.server, 5);
        if cut {
            rig.ops(joined.proxy).cut_relay(joined.a);
            rig.until("both resets", |rig| {
                rig.log(joined.ends).failed(joined.client) && rig.log(joined.ends).failed(joined.server)
            });
        } else {
            rig.ops(joined.ends).shut(joined.client);
            rig.ops(joined.ends).shut(joined.server);
            rig.until("both ends", |rig| {
                rig.log(joined.ends).ended(joined.client) && rig.log(joined.ends).ended(joined.server)
            });
        }
        rig.until("the relay's end", |rig| !rig.log(joined.proxy).relay_ends.is_empty());
        drop((one, other));
    }
}

fn nothing_in_an_engine_keeps_a_dropped_export_open(rig: &mut Rig) {
    // A watch, a wait for room to write, and a receive: each is a request that a ring has under way.
    for case in 0..3 {
        let (node, peer) = (rig.node(), rig.node());
        let (a, b) = rig.pair(node, peer);
        match case {
            0 => rig.ops(node).watch(a),
            1 => {
                let payload = rig.bulk();
                rig.ops(node).send(a, &payload).expect("to send");
            }
            _ => rig.ops(node).start_receive(a),
        }
        for _ in 0..4 {
            rig.turn();
        }
        // Dropped inside of the event: whatever the engine still has to ask of the kernel comes after that.
        let drops = |seen: &Seen| matches!(seen, Seen::Exported { .. });
        rig.ops(node).export(a);
        rig.until("Exported", |rig| {
            let exported = rig.log(node).has(drops);
            rig.log_mut(node).exports.clear();
            exported
        });
        rig.ops(peer).start_receive(b);
        rig.until("the end", |rig| rig.log(peer).ended(b) || rig.log(peer).failed(b));
    }
}

fn corked_bytes_leave_before_their_connection(rig: &mut Rig) {
    let (from, peer, to) = (rig.node(), rig.node(), rig.node());
    let (a, b) = rig.pair(from, peer);
    rig.ops(peer).start_receive(b);
    let mut ops = rig.ops(from);
    ops.send(a, b"one ").expect("to send");
    ops.export(a);
    rig.until("Exported", |rig| !rig.log(from).exports.is_empty());
    let exported = rig.log_mut(from).exports.pop().expect("what was exported");
    let adopted = rig.ops(to).adopt(exported, Token(50)).expect("to adopt");
    rig.ops(to).send(adopted, b"two").expect("to send");
    rig.wait_bytes(peer, b, 7);
    assert_eq!(rig.log(peer).bytes(b), b"one two");
}

fn what_was_readable_before_the_move_is_read_after_it(rig: &mut Rig) {
    for other in [false, true] {
        for ended in [false, true] {
            let (from, peer) = (rig.node(), rig.node());
            let to = second(rig, other);
            let (a, b) = rig.pair(from, peer);
            rig.ops(from).watch(a);
            rig.ops(peer).send(b, b"early").expect("to send");
            if ended {
                rig.ops(peer).shut(b);
            }
            rig.settle();
            let exported = export(rig, from, a);
            let adopted = rig.ops(to).adopt(exported, Token(50)).expect("to adopt");
            rig.ops(to).start_receive(adopted);
            rig.wait_bytes(to, adopted, 5);
            if ended {
                rig.until("the end", |rig| rig.log(to).ended(adopted));
            }
        }
    }
}

/// Stops a relay and has its connections stand; gives the bytes handed on and what is under way at both.
fn stand(rig: &mut Rig, joined: Joined) -> ([u64; 2], [Underway; 2]) {
    assert!(rig.ops(joined.proxy).stop_relay(joined.a));
    rig.until("the stop", |rig| !rig.log(joined.proxy).relay_stops.is_empty());
    let stop = rig.log_mut(joined.proxy).relay_stops.pop().expect("it was just seen");
    let mut ops = rig.ops(joined.proxy);
    ops.stand(joined.a);
    ops.stand(joined.b);
    let ends = [joined.a, joined.b].map(|connection| ops.ends(connection));
    let mut bytes = stop.bytes;
    bytes.iter_mut().zip(&stop.pending).for_each(|(bytes, pending)| *bytes += pending.len() as u64);
    let [for_b, for_a] = stop.pending;
    let under_way = |queued, ends| Underway { received: Vec::new(), queued, ends };
    (bytes, [under_way(for_a, ends[0]), under_way(for_b, ends[1])])
}

/// Goes on with a relay whose connections stand.
fn go_on(rig: &mut Rig, node: Node, (a, b): (ConnectionId, ConnectionId), stood: ([u64; 2], [Underway; 2])) {
    let (bytes, [at_a, at_b]) = stood;
    let mut ops = rig.ops(node);
    ops.complete(a, at_a);
    ops.complete(b, at_b);
    ops.start_relay(a, b, RelayOptions { bytes, a_is_ready: false, ..RelayOptions::default() });
}

fn relay_whose_ends_stood_goes_on_with_what_they_missed(rig: &mut Rig) {
    for eased in [false, true] {
        for case in 0..5 {
            let joined = rig.joined(RelayOptions::default());
            rig.ops(joined.ends).send(joined.client, b"before ").expect("to send");
            rig.wait_bytes(joined.ends, joined.server, 7);
            if case == 4 {
                // A reset that comes after an end is told by nothing but the poller.
                rig.ops(joined.ends).shut(joined.client);
                rig.until("the end", |rig| rig.log(joined.ends).ended(joined.server));
            }
            if eased {
                rig.ops(joined.proxy).ease_relay(joined.a);
                rig.settle();
                rig.ops(joined.ends).send(joined.server, b"eased").expect("to send");
                rig.wait_bytes(joined.ends, joined.client, 5);
            }
            let (bytes, mut under_way) = stand(rig, joined);
            let said = rig.log(joined.proxy).seen.len();
            if case != 4 {
                rig.ops(joined.ends).send(joined.client, b"missed").expect("to send");
            }
            match case {
                1 => rig.ops(joined.ends).shut(joined.client),
                2 => rig.ops(joined.ends).reset(joined.server),
                3 => under_way[0].queued.extend_from_slice(b"for the client"),
                4 => rig.ops(joined.ends).reset(joined.client),
                _ => {}
            }
            rig.settle();
            assert_eq!(rig.log(joined.proxy).seen.len(), said, "they say nothing");
            go_on(rig, joined.proxy, (joined.a, joined.b), (bytes, under_way));
            if case == 2 || case == 4 {
                rig.until("the relay's end", |rig| !rig.log(joined.proxy).relay_ends.is_empty());
                let end = rig.log_mut(joined.proxy).relay_ends.pop().expect("it was just seen");
                assert!(matches!(end.cause, RelayCause::Reset), "{:?}", end.cause);
                continue;
            }
            rig.wait_bytes(joined.ends, joined.server, 13);
            assert_eq!(rig.log(joined.ends).bytes(joined.server), b"before missed");
            if case == 1 {
                rig.until("the end", |rig| rig.log(joined.ends).ended(joined.server));
            }
            if case == 3 {
                let before = if eased { 5 } else { 0 };
                rig.wait_bytes(joined.ends, joined.client, before + 14);
            }
            rig.ops(joined.ends).send(joined.server, b"answer").expect("to send");
            rig.until("the answer", |rig| rig.log(joined.ends).bytes(joined.client).ends_with(b"answer"));
        }
    }
}

fn of_two_engines_that_stand_for_a_relay_one_goes_on(rig: &mut Rig) {
    for other in [false, true] {
        for ends_before in [false, true] {
            let joined = rig.joined(RelayOptions::default());
            let to = second(rig, other);
            let Some(one) = copy(rig, joined.proxy, joined.a) else { return };
            let Some(two) = copy(rig, joined.proxy, joined.b) else { return };
            let [a, b] = [one, two].map(|copy| rig.ops(to).adopt(copy, Token(60)).expect("to adopt"));
            rig.ops(to).stand(a);
            rig.ops(to).stand(b);
            rig.ops(joined.proxy).ease_relay(joined.a);
            for _ in 0..3 {
                let (there, back) = (
                    rig.log(joined.ends).bytes(joined.server).len(),
                    rig.log(joined.ends).bytes(joined.client).len(),
                );
                rig.ops(joined.ends).send(joined.client, b"to and ").expect("to send");
                rig.wait_bytes(joined.ends, joined.server, there + 7);
                rig.ops(joined.ends).send(joined.server, b"fro").expect("to send");
                rig.wait_bytes(joined.ends, joined.client, back + 3);
            }
            if ends_before {
                rig.ops(joined.ends).shut(joined.client);
                rig.until("the end", |rig| rig.log(joined.ends).ended(joined.server));
            }
            let (bytes, under_way) = stand(rig, joined);
            assert_eq!(under_way[0].ends, Ends { ended: ends_before, shut: false });
            assert_eq!(under_way[1].ends, Ends { ended: false, shut: ends_before });
            if !ends_before {
                rig.ops(joined.ends).send(joined.client, b"and on").expect("to send");
            }
            rig.settle();
            assert!(rig.log(to).seen.is_empty(), "it is not its turn: {:?}", rig.log(to).seen);
            rig.ops(joined.proxy).abandon(joined.a);
            rig.ops(joined.proxy).abandon(joined.b);
            assert_eq!(rig.ops(joined.proxy).connection_count(), 0);
            rig.settle();
            go_on(rig, to, (a, b), (bytes, under_way));
            if !ends_before {
                rig.wait_bytes(joined.ends, joined.server, 27);
                rig.ops(joined.ends).shut(joined.client);
                rig.until("the end", |rig| rig.log(joined.ends).ended(joined.server));
            }
            rig.ops(joined.ends).send(joined.server, b" at last").expect("to send");
            rig.ops(joined.ends).shut(joined.server);
            rig.until("the other end", |rig| rig.log(joined.ends).ended(joined.client));
            assert!(rig.log(joined.ends).bytes(joined.client).ends_with(b"fro at last"));
            rig.until("the relay's end", |rig| !rig.log(to).relay_ends.is_empty());
            let end = rig.log_mut(to).relay_ends.pop().expect("it was just seen");
            assert!(matches!(end.cause, RelayCause::Finished), "{:?}", end.cause);
            assert_eq!(end.bytes, [if ends_before { 21 } else { 27 }, 17]);
        }
    }
}

fn connection_that_stood_is_received_from(rig: &mut Rig) {
    for peeked in [false, true] {
        let (node, peer) = (rig.node(), rig.node());
        let (a, b) = rig.pair(node, peer);
        rig.ops(node).stand(a);
        for _ in 0..4 {
            rig.turn();
        }
        if peeked {
            rig.ops(node).start_peek(a, 100);
            rig.ops(peer).send(b, b"first").expect("to send");
            rig.until("what waits", |rig| rig.log(node).has(|seen| matches!(seen, Seen::Peeked { .. })));
        }
        rig.ops(node).start_receive(a);
        rig.ops(peer).send(b, b"one").expect("to send");
        let before = if peeked { 5 } else { 0 };
        rig.wait_bytes(node, a, before + 3);
        rig.ops(peer).send(b, b"two").expect("to send");
        rig.wait_bytes(node, a, before + 6);
    }
}

/// Stops the relay, moves both connections to `to`, and starts it again there.
fn move_relay(rig: &mut Rig, joined: Joined, to: Node) -> Joined {
    rig.ops(joined.proxy).stop_relay(joined.a);
    rig.until("the stop", |rig| {
        !rig.log(joined.proxy).relay_stops.is_empty() || !rig.log(joined.proxy).relay_ends.is_empty()
    });
    let Some(stop) = rig.log_mut(joined.proxy).relay_stops.pop() else { return joined };
    let exported = [export(rig, joined.proxy, joined.a), export(rig, joined.proxy, joined.b)];
    let [a, b] = exported.map(|exported| rig.ops(to).adopt(exported, Token(60)).expect("to adopt"));
    let mut bytes = stop.bytes;
    for (direction, target) in [b, a].into_iter().enumerate() {
        let pending = &stop.pending[direction];
        if !pending.is_empty() {
            rig.ops(to).send(target, pending).expect("to send");
            bytes[direction] += pending.len() as u64;
        }
    }
    rig.ops(to).start_relay(a, b, RelayOptions { bytes, ..RelayOptions::default() });
    Joined { proxy: to, a, b, ..joined }
}

/// Stops the relay, has both connections stand for some turns, and starts it again.
fn pause_relay(rig: &mut Rig, joined: Joined) -> Joined {
    rig.ops(joined.proxy).stop_relay(joined.a);
    rig.until("the stop", |rig| {
        !rig.log(joined.proxy).relay_stops.is_empty() || !rig.log(joined.proxy).relay_ends.is_empty()
    });
    let Some(stop) = rig.log_mut(joined.proxy).relay_stops.pop() else { return joined };
    let mut ops = rig.ops(joined.proxy);
    ops.stand(joined.a);
    ops.stand(joined.b);
    for _ in 0..rig.random.below(4) {
        rig.turn();
    }
    let mut bytes = stop.bytes;
    bytes.iter_mut().zip(&stop.pending).for_each(|(bytes, pending)| *bytes += pending.len() as u64);
    let [for_b, for_a] = stop.pending;
    let under_way = |queued| Underway { queued, ..Underway::default() };
    go_on(rig, joined.proxy, (joined.a, joined.b), (bytes, [under_way(for_a), under_way(for_b)]));
    joined
}

fn relays_move_between_engines_at_random_moments(rig: &mut Rig) {
    let rounds = if rig.is_simulated() { 1 } else { 8 };
    for _ in 0..rounds {
        let mut joined = rig.joined(RelayOptions::default());
        let nodes = [joined.proxy, second(rig, false), second(rig, true)];
        let len = rig.random.between(0, if rig.is_simulated() { 600_000 } else { 16 << 20 }) as usize;
        let payloads = [rig.payload(len), rig.payload(len / 3)];
        let mut sent = [0, 0];
        let mut moves = 0;
        while sent != payloads.each_ref().map(Vec::len) || moves < 6 {
            let direction = rig.random.index(2);
            let from = joined.from(direction);
            let rest = &payloads[direction][sent[direction]..];
            let most = (payloads[direction].len() as u64 / 4).max(1);
            let chunk = &rest[..rest.len().min(rig.random.between(1, most) as usize)];
            if !chunk.is_empty() {
                rig.ops(joined.ends).send(from, chunk).expect("to send");
                sent[direction] += chunk.len();
                if sent[direction] == payloads[direction].len() {
                    rig.ops(joined.ends).shut(from);
                }
            }
            match rig.random.index(3) {
                0 => rig.ops(joined.ends).pause_receive(joined.to(direction)),
                1 => rig.ops(joined.ends).start_receive(joined.to(direction)),
                _ => {}
            }
            for _ in 0..rig.random.below(8) {
                rig.turn();
            }
            if rig.random.chance(0.2) {
                rig.ops(joined.proxy).ease_relay(joined.b);
            }
            if moves < 6 && rig.random.chance(0.5) && rig.log(joined.proxy).relay_ends.is_empty() {
                let to = nodes[rig.random.index(nodes.len())];
                joined = if to == joined.proxy && rig.random.chance(0.5) {
                    pause_relay(rig, joined)
                } else {
                    move_relay(rig, joined, to)
                };
                moves += 1;
            } else {
                moves += usize::from(sent == payloads.each_ref().map(Vec::len));
            }
        }
        for direction in 0..2 {
            let (from, to) = (joined.from(direction), joined.to(direction));
            if payloads[direction].is_empty() {
                rig.ops(joined.ends).shut(from);
            }
            rig.ops(joined.ends).start_receive(to);
        }
        rig.until("the relay's end", |rig| !rig.log(joined.proxy).relay_ends.is_empty());
        for direction in 0..2 {
            let to = joined.to(direction);
            rig.until("the end of a direction", |rig| rig.log(joined.ends).ended(to));
            assert_same(rig.log(joined.ends).bytes(to), &payloads[direction]);
        }
        let end = rig.log_mut(joined.proxy).relay_ends.pop().expect("an end");
        assert!(matches!(end.cause, RelayCause::Finished), "{:?}", end.cause);
        assert_eq!(end.bytes, payloads.each_ref().map(|payload| payload.len() as u64));
        for node in nodes {
            assert_eq!(rig.ops(node).connection_count(), 0);
            assert_eq!(rig.ops(node).pending_bytes(), 0);
        }
    }
}
