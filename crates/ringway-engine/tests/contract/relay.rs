//! Relays: both directions at once, half-close, back-pressure, resets, and their accounts.

use std::time::Duration;

use ringway_engine::{EngineConfig, RelayCause, RelayOptions, Side, Token};

use crate::contract;
use crate::log::Seen;
use crate::rig::{Joined, Rig, assert_prefix, assert_same};

contract!(
    relay_moves_both_directions_at_once,
    relay_moves_bulk_in_both_directions_and_counts_it,
    a_flow_goes_over_to_bulk_and_back_again_and_again,
    what_stays_below_the_mark_of_bulk_arrives,
    a_reader_that_stops_under_a_raised_mark_gets_all,
    reset_after_the_end_of_bulk_is_noticed,
    bulk_that_rests_is_stopped_and_goes_on,
    bulk_without_splice_arrives_as_well,
    half_close_of_a_lets_b_go_on,
    half_close_of_b_lets_a_go_on,
    relay_hands_on_what_came_before_it,
    a_reader_that_stops_stops_its_sender_and_resumes,
    relay_over_budget_still_moves,
    a_reader_that_stops_resumes_though_nothing_may_be_queued_for_it,
    reset_hands_on_what_came_before_it,
    reset_while_the_other_side_sends_ends_the_relay,
    reset_of_b_names_b,
    cut_resets_both_sides_that_had_not_ended,
    cut_spares_a_side_that_was_told_everything,
    stopped_relay_owes_nothing_and_goes_on_when_started_again,
    half_close_is_remembered_over_a_stop,
    end_is_told_to_whoever_receives_after_a_stop,
    side_that_ended_first_is_remembered_over_a_stop,
    end_that_came_before_the_relay_waits_for_what_is_queued,
    progress_tells_bytes_and_half_closes,
    silence_is_counted_on_over_a_stop,
    end_of_stream_seen_before_the_relay_is_passed_on,
    many_relays_live_side_by_side,
);

fn has_ended(rig: &mut Rig, joined: Joined) -> bool {
    rig.log(joined.proxy).relay_ends.iter().any(|end| end.a == joined.a)
}

#[track_caller]
fn wait_end(rig: &mut Rig, joined: Joined) {
    rig.until("the relay's end", |rig| has_ended(rig, joined));
}

/// Sends in both directions, finishes both, and checks everything.
#[track_caller]
fn exchange(rig: &mut Rig, joined: Joined, there: &[u8], back: &[u8]) {
    rig.ops(joined.ends).send(joined.client, there).expect("to send");
    rig.ops(joined.ends).send(joined.server, back).expect("to send");
    rig.ops(joined.ends).shut(joined.client);
    rig.ops(joined.ends).shut(joined.server);
    rig.until("both ends", |rig| {
        rig.log(joined.ends).ended(joined.client) && rig.log(joined.ends).ended(joined.server)
    });
    assert_same(rig.log(joined.ends).bytes(joined.server), there);
    assert_same(rig.log(joined.ends).bytes(joined.client), back);
    wait_end(rig, joined);
}

fn relay_moves_both_directions_at_once(rig: &mut Rig) {
    let joined = rig.joined(RelayOptions::default());
    let (there, back) = (rig.payload(200_000), rig.payload(150_000));
    exchange(rig, joined, &there, &back);
    let end = &rig.log(joined.proxy).relay_ends[0];
    assert_eq!((end.a, end.b, end.token), (joined.a, joined.b, Token(10)));
    assert_eq!(end.bytes, [there.len() as u64, back.len() as u64]);
    assert_eq!(end.undelivered, [0, 0]);
    assert!(matches!(end.cause, RelayCause::Finished), "{:?}", end.cause);
    assert_eq!(rig.ops(joined.proxy).connection_count(), 0);
    assert_eq!(rig.ops(joined.proxy).pending_bytes(), 0);
}

fn relay_moves_bulk_in_both_directions_and_counts_it(rig: &mut Rig) {
    // Enough for a real driver to go over to splicing.
    let len = if rig.is_simulated() { 500_000 } else { 40 << 20 };
    let joined = rig.joined(RelayOptions::default());
    let (there, back) = (rig.payload(len), rig.payload(len / 2 + 1));
    exchange(rig, joined, &there, &back);
    assert_eq!(rig.log(joined.proxy).relay_ends[0].bytes, [there.len() as u64, back.len() as u64]);
    assert_eq!(rig.ops(joined.proxy).pending_bytes(), 0);
}

fn a_flow_goes_over_to_bulk_and_back_again_and_again(rig: &mut Rig) {
    let joined = rig.joined(RelayOptions::default());
    bulk_and_small_in_turn(rig, joined);
}

#[track_caller]
fn bulk_and_small_in_turn(rig: &mut Rig, joined: Joined) {
    let mut sent = Vec::new();
    for _ in 0..4 {
        // Many small pieces, each of which comes to rest before the next: what is read by hand becomes small again.
        for len in std::iter::once(rig.bulk().len() / 4).chain(std::iter::repeat_n(100, 10)) {
            let payload = rig.payload(len);
            rig.ops(joined.ends).send(joined.client, &payload).expect("to send");
            sent.extend_from_slice(&payload);
            rig.wait_bytes(joined.ends, joined.server, sent.len());
        }
    }
    assert_same(rig.log(joined.ends).bytes(joined.server), &sent);
    assert_eq!(rig.ops(joined.proxy).relay_progress(joined.a).bytes, [sent.len() as u64, 0]);
    assert_eq!(rig.ops(joined.proxy).pending_bytes(), 0);
}

/// A relay whose engine raises SO_RCVLOWAT of bulk; nobody receives yet.
fn joined_with_mark(rig: &mut Rig) -> Joined {
    let config = EngineConfig { bulk_low_water: Some(256 << 10), ..Default::default() };
    let (ends, proxy) = (rig.node(), rig.node_with(config));
    let (client, a) = rig.pair(ends, proxy);
    let (b, server) = rig.pair(proxy, ends);
    rig.ops(proxy).start_relay(a, b, RelayOptions::default());
    Joined { ends, proxy, client, a, b, server }
}

fn what_stays_below_the_mark_of_bulk_arrives(rig: &mut Rig) {
    let joined = joined_with_mark(rig);
    rig.ops(joined.ends).start_receive(joined.server);
    bulk_and_small_in_turn(rig, joined);
}

fn a_reader_that_stops_under_a_raised_mark_gets_all(rig: &mut Rig) {
    let joined = joined_with_mark(rig);
    let payload = rig.bulk();
    rig.ops(joined.ends).send(joined.client, &payload).expect("to send");
    let mut moved = [u64::MAX; 2];
    loop {
        rig.settle();
        let now = rig.ops(joined.proxy).relay_progress(joined.a).bytes;
        if std::mem::replace(&mut moved, now) == now {
            break;
        }
    }
    rig.ops(joined.ends).start_receive(joined.server);
    rig.wait_bytes(joined.ends, joined.server, payload.len());
    assert_same(rig.log(joined.ends).bytes(joined.server), &payload);
}

fn reset_after_the_end_of_bulk_is_noticed(rig: &mut Rig) {
    let joined = rig.joined(RelayOptions::default());
    let payload = rig.bulk();
    rig.ops(joined.ends).send(joined.client, &payload).expect("to send");
    rig.ops(joined.ends).shut(joined.client);
    rig.until("the end to be passed on", |rig| rig.log(joined.ends).ended(joined.server));
    assert_same(rig.log(joined.ends).bytes(joined.server), &payload);
    rig.ops(joined.ends).reset(joined.client);
    wait_end(rig, joined);
    let end = &rig.log(joined.proxy).relay_ends[0];
    assert!(matches!(end.cause, RelayCause::Reset), "{:?}", end.cause);
    assert_eq!(end.side, Side::A);
}

fn bulk_that_rests_is_stopped_and_goes_on(rig: &mut Rig) {
    let joined = rig.joined(RelayOptions::default());
    let mut sent = Vec::new();
    for _ in 0..4 {
        let payload = rig.bulk();
        rig.ops(joined.ends).send(joined.client, &payload).expect("to send");
        sent.extend_from_slice(&payload);
        rig.wait_bytes(joined.ends, joined.server, sent.len());
        // Nothing is left to be read: the engine waits for more, and is told not to.
        rig.ops(joined.proxy).stop_relay(joined.a);
        rig.until("the stop", |rig| !rig.log(joined.proxy).relay_stops.is_empty());
        go_on(rig, joined);
    }
    assert_same(rig.log(joined.ends).bytes(joined.server), &sent);
}

fn bulk_without_splice_arrives_as_well(rig: &mut Rig) {
    let joined = rig.joined(RelayOptions { splice: false, a_is_ready: false, ..RelayOptions::default() });
    let (there, back) = (rig.bulk(), rig.payload(10));
    exchange(rig, joined, &there, &back);
}

fn half_close_lets_the_other_go_on(rig: &mut Rig, direction: usize) {
    let joined = rig.joined(RelayOptions::default());
    let (first, second) = (rig.payload(70_000), rig.payload(90_000));
    rig.ops(joined.ends).send(joined.from(direction), &first).expect("to send");
    rig.ops(joined.ends).shut(joined.from(direction));
    rig.until("the end of one direction", |rig| rig.log(joined.ends).ended(joined.to(direction)));
    assert_same(rig.log(joined.ends).bytes(joined.to(direction)), &first);
    let from = [joined.a, joined.b][direction];
    rig.until("RelayHalfClosed", |rig| {
        rig.log(joined.proxy).has(|seen| *seen == Seen::HalfClosed { from, token: Token(10) })
    });
    rig.settle();
    assert!(!has_ended(rig, joined));
    for chunk in second.chunks(10_000) {
        rig.ops(joined.ends).send(joined.to(direction), chunk).expect("to send");
        rig.turn();
    }
    rig.wait_bytes(joined.ends, joined.from(direction), second.len());
    assert_same(rig.log(joined.ends).bytes(joined.from(direction)), &second);
    rig.ops(joined.ends).shut(joined.to(direction));
    wait_end(rig, joined);
    let end = &rig.log(joined.proxy).relay_ends[0];
    assert!(matches!(end.cause, RelayCause::Finished));
    assert_eq!(end.side, [Side::A, Side::B][direction], "the one that finished first");
}

fn half_close_of_a_lets_b_go_on(rig: &mut Rig) {
    half_close_lets_the_other_go_on(rig, 0);
}

fn half_close_of_b_lets_a_go_on(rig: &mut Rig) {
    half_close_lets_the_other_go_on(rig, 1);
}

fn relay_hands_on_what_came_before_it(rig: &mut Rig) {
    let joined = rig.unjoined();
    rig.ops(joined.ends).send(joined.client, b"early bird, ").expect("to send");
    rig.ops(joined.proxy).send(joined.b, b"preface: ").expect("to send");
    rig.settle();
    rig.ops(joined.proxy).start_relay(joined.a, joined.b, RelayOptions::default());
    rig.ops(joined.ends).send(joined.client, b"late riser").expect("to send");
    rig.ops(joined.ends).shut(joined.client);
    rig.until("the end", |rig| rig.log(joined.ends).ended(joined.server));
    assert_eq!(rig.log(joined.ends).bytes(joined.server), b"preface: early bird, late riser");
}

fn a_reader_that_stops_stops_its_sender_and_resumes(rig: &mut Rig) {
    let joined = rig.joined(RelayOptions::default());
    let payload = rig.payload(if rig.is_simulated() { 2_000_000 } else { 48 << 20 });
    rig.ops(joined.ends).pause_receive(joined.server);
    rig.ops(joined.ends).send(joined.client, &payload).expect("to send");
    rig.ops(joined.ends).shut(joined.client);
    let mut moved = u64::MAX;
    loop {
        rig.settle();
        let now = rig.ops(joined.proxy).relay_progress(joined.a).bytes[0];
        if std::mem::replace(&mut moved, now) == now {
            break;
        }
    }
    assert!(rig.ops(joined.ends).queued_bytes(joined.client) > 0, "the sender was not stopped");
    assert!(rig.ops(joined.proxy).pending_bytes() <= 4 << 20, "the relay holds too much");
    // The other direction is not concerned.
    rig.ops(joined.ends).send(joined.server, b"wait a moment").expect("to send");
    rig.wait_bytes(joined.ends, joined.client, 13);
    rig.ops(joined.ends).start_receive(joined.server);
    rig.until("the end", |rig| rig.log(joined.ends).ended(joined.server));
    assert_same(rig.log(joined.ends).bytes(joined.server), &payload);
}

fn relay_over_budget_still_moves(rig: &mut Rig) {
    let (ends, proxy) =
        (rig.node(), rig.node_with(EngineConfig { pending_bytes_max: 1, ..Default::default() }));
    let (client, a) = rig.pair(ends, proxy);
    let (b, server) = rig.pair(proxy, ends);
    rig.ops(ends).start_receive(client);
    rig.ops(ends).start_receive(server);
    rig.ops(proxy).start_relay(a, b, RelayOptions::default());
    let joined = Joined { ends, proxy, client, a, b, server };
    let (there, back) = (rig.bulk(), rig.bulk());
    exchange(rig, joined, &there, &back);
}

fn a_reader_that_stops_resumes_though_nothing_may_be_queued_for_it(rig: &mut Rig) {
    let (ends, proxy) =
        (rig.node(), rig.node_with(EngineConfig { pending_bytes_max: 0, ..Default::default() }));
    let (client, a) = rig.pair(ends, proxy);
    let (b, server) = rig.pair(proxy, ends);
    rig.ops(proxy).start_relay(a, b, RelayOptions { splice: false, ..RelayOptions::default() });
    let payload = rig.payload(if rig.is_simulated() { 2_000_000 } else { 24 << 20 });
    // Those that were accepted and those that were dialled: the engine knows different things of them.
    for (sender, reader) in [(client, server), (server, client)] {
        rig.ops(ends).send(sender, &payload).expect("to send");
        rig.ops(ends).shut(sender);
        let mut moved = [u64::MAX; 2];
        loop {
            rig.settle();
            let now = rig.ops(proxy).relay_progress(a).bytes;
            if std::mem::replace(&mut moved, now) == now {
                break;
            }
        }
        assert!(rig.ops(ends).queued_bytes(sender) > 0, "the sender was not stopped");
        rig.ops(ends).start_receive(reader);
        rig.until("the end", |rig| rig.log(ends).ended(reader));
        assert_same(rig.log(ends).bytes(reader), &payload);
    }
}

fn reset_hands_on_what_came_before_it(rig: &mut Rig) {
    let joined = rig.joined(RelayOptions::default());
    rig.ops(joined.ends).send(joined.client, b"last words").expect("to send");
    rig.until("them to leave", |rig| rig.ops(joined.ends).queued_bytes(joined.client) == 0);
    rig.ops(joined.ends).reset(joined.client);
    wait_end(rig, joined);
    rig.wait_dead(joined.ends, joined.server);
    assert_eq!(rig.log(joined.ends).bytes(joined.server), b"last words");
    assert!(rig.log(joined.ends).failed(joined.server), "the other side is reset");
    assert!(!rig.log(joined.ends).ended(joined.server), "a cut stream must not look complete");
    let end = &rig.log(joined.proxy).relay_ends[0];
    assert!(matches!(end.cause, RelayCause::Reset), "{:?}", end.cause);
    assert_eq!((end.side, end.bytes), (Side::A, [10, 0]));
}

fn reset_while_the_other_side_sends_ends_the_relay(rig: &mut Rig) {
    let joined = rig.joined(RelayOptions::default());
    let payload = rig.bulk();
    rig.ops(joined.ends).pause_receive(joined.client);
    rig.ops(joined.ends).send(joined.server, &payload).expect("to send");
    rig.until("some bytes to move", |rig| rig.ops(joined.proxy).relay_progress(joined.a).bytes[1] > 0);
    rig.ops(joined.ends).reset(joined.client);
    wait_end(rig, joined);
    rig.wait_dead(joined.ends, joined.server);
    assert!(rig.log(joined.ends).failed(joined.server));
    let end = &rig.log(joined.proxy).relay_ends[0];
    assert!(matches!(end.cause, RelayCause::Reset), "{:?}", end.cause);
    assert_eq!(end.side, Side::A);
    assert!(end.bytes[1] + end.undelivered[1] <= payload.len() as u64);
    assert_eq!(rig.ops(joined.proxy).pending_bytes(), 0);
}

fn reset_of_b_names_b(rig: &mut Rig) {
    let joined = rig.joined(RelayOptions::default());
    rig.ops(joined.ends).send(joined.server, b"bye").expect("to send");
    rig.wait_bytes(joined.ends, joined.client, 3);
    rig.ops(joined.ends).reset(joined.server);
    wait_end(rig, joined);
    rig.wait_dead(joined.ends, joined.client);
    assert!(rig.log(joined.ends).failed(joined.client));
    let end = &rig.log(joined.proxy).relay_ends[0];
    assert!(matches!(end.cause, RelayCause::Reset), "{:?}", end.cause);
    assert_eq!((end.side, end.bytes), (Side::B, [0, 3]));
}

fn cut_resets_both_sides_that_had_not_ended(rig: &mut Rig) {
    let joined = rig.joined(RelayOptions::default());
    let payload = rig.bulk();
    rig.ops(joined.ends).send(joined.client, &payload).expect("to send");
    rig.wait_bytes(joined.ends, joined.server, 1000);
    rig.ops(joined.proxy).cut_relay(joined.b);
    wait_end(rig, joined);
    rig.wait_dead(joined.ends, joined.server);
    rig.wait_dead(joined.ends, joined.client);
    assert!(rig.log(joined.ends).failed(joined.server) && rig.log(joined.ends).failed(joined.client));
    assert_prefix(rig.log(joined.ends).bytes(joined.server), &payload);
    let end = &rig.log(joined.proxy).relay_ends[0];
    assert!(matches!(end.cause, RelayCause::Cut), "{:?}", end.cause);
    assert_eq!(rig.ops(joined.proxy).connection_count(), 0);
}

fn cut_spares_a_side_that_was_told_everything(rig: &mut Rig) {
    let joined = rig.joined(RelayOptions::default());
    rig.ops(joined.ends).send(joined.client, b"all of it").expect("to send");
    rig.ops(joined.ends).shut(joined.client);
    rig.until("the end to be passed on", |rig| rig.log(joined.ends).ended(joined.server));
    rig.ops(joined.proxy).cut_relay(joined.a);
    wait_end(rig, joined);
    rig.settle();
    assert!(!rig.log(joined.ends).failed(joined.server), "it owed nothing");
    assert_eq!(rig.log(joined.ends).bytes(joined.server), b"all of it");
    rig.wait_dead(joined.ends, joined.client);
    assert!(rig.log(joined.ends).failed(joined.client));
}

/// Starts a relay again after a stop, as the contract says.
fn go_on(rig: &mut Rig, joined: Joined) {
    let stop = rig.log_mut(joined.proxy).relay_stops.pop().expect("a stop");
    assert_eq!((stop.a, stop.b), (joined.a, joined.b));
    let mut ops = rig.ops(joined.proxy);
    let mut bytes = stop.bytes;
    for (direction, to) in [joined.b, joined.a].into_iter().enumerate() {
        if !stop.pending[direction].is_empty() {
            ops.send(to, &stop.pending[direction]).expect("to send");
            bytes[direction] += stop.pending[direction].len() as u64;
        }
    }
    ops.start_relay(joined.a, joined.b, RelayOptions { bytes, ..RelayOptions::default() });
}

fn stopped_relay_owes_nothing_and_goes_on_when_started_again(rig: &mut Rig) {
    let joined = rig.joined(RelayOptions::default());
    let (there, back) = (rig.bulk(), rig.bulk());
    rig.ops(joined.ends).send(joined.client, &there).expect("to send");
    rig.ops(joined.ends).send(joined.server, &back).expect("to send");
    for _ in 0..10 {
        for _ in 0..rig.random.below(20) {
            rig.turn();
        }
        rig.ops(joined.proxy).stop_relay(joined.a);
        rig.until("the stop", |rig| !rig.log(joined.proxy).relay_stops.is_empty());
        if rig.random.chance(0.3) {
            // Nothing is read from either meanwhile.
            let before = rig.log(joined.proxy).seen.len();
            rig.settle();
            let quiet =
                rig.log(joined.proxy).seen[before..].iter().all(|seen| matches!(seen, Seen::Writable { .. }));
            assert!(quiet && rig.log(joined.proxy).bytes(joined.a).is_empty());
        }
        go_on(rig, joined);
    }
    rig.ops(joined.ends).shut(joined.client);
    rig.ops(joined.ends).shut(joined.server);
    wait_end(rig, joined);
    rig.until("both ends", |rig| {
        rig.log(joined.ends).ended(joined.client) && rig.log(joined.ends).ended(joined.server)
    });
    assert_same(rig.log(joined.ends).bytes(joined.server), &there);
    assert_same(rig.log(joined.ends).bytes(joined.client), &back);
    let end = &rig.log(joined.proxy).relay_ends[0];
    assert_eq!(end.bytes, [there.len() as u64, back.len() as u64]);
    assert!(matches!(end.cause, RelayCause::Finished));
}

fn end_is_told_to_whoever_receives_after_a_stop(rig: &mut Rig) {
    let joined = rig.unjoined();
    rig.ops(joined.proxy).start_receive(joined.a);
    rig.ops(joined.ends).shut(joined.client);
    rig.until("the end", |rig| rig.log(joined.proxy).ended(joined.a));
    rig.ops(joined.proxy).start_relay(joined.a, joined.b, RelayOptions::default());
    rig.until("the end to be passed on", |rig| {
        rig.ops(joined.proxy).relay_progress(joined.a).half_closed == [true, false]
    });
    rig.ops(joined.proxy).stop_relay(joined.a);
    rig.until("the stop", |rig| !rig.log(joined.proxy).relay_stops.is_empty());
    for id in [joined.a, joined.b] {
        rig.ops(joined.proxy).start_receive(id);
    }
    let ends = |rig: &Rig, id| {
        rig.log(joined.proxy)
            .count(|seen| matches!(seen, Seen::Ended { connection, .. } if *connection == id))
    };
    rig.until("the end again", |rig| ends(rig, joined.a) == 2);
    rig.settle();
    assert_eq!([ends(rig, joined.a), ends(rig, joined.b)], [2, 0]);
}

fn half_close_is_remembered_over_a_stop(rig: &mut Rig) {
    let joined = rig.joined(RelayOptions::default());
    rig.ops(joined.ends).send(joined.client, b"question").expect("to send");
    rig.ops(joined.ends).shut(joined.client);
    rig.until("the end to be passed on", |rig| rig.log(joined.ends).ended(joined.server));
    rig.ops(joined.proxy).stop_relay(joined.b);
    rig.until("the stop", |rig| !rig.log(joined.proxy).relay_stops.is_empty());
    go_on(rig, joined);
    rig.ops(joined.ends).send(joined.server, b"answer").expect("to send");
    rig.ops(joined.ends).shut(joined.server);
    wait_end(rig, joined);
    rig.until("the end", |rig| rig.log(joined.ends).ended(joined.client));
    assert_eq!(rig.log(joined.ends).bytes(joined.client), b"answer");
    let end = &rig.log(joined.proxy).relay_ends[0];
    assert!(matches!(end.cause, RelayCause::Finished), "{:?}", end.cause);
    assert_eq!(end.bytes, [8, 6]);
}

fn side_that_ended_first_is_remembered_over_a_stop(rig: &mut Rig) {
    for (first, side) in [(0, Side::A), (1, Side::B)] {
        let joined = rig.joined(RelayOptions::default());
        let (from, to) = (joined.from(first), joined.to(first));
        rig.ops(joined.ends).shut(from);
        rig.until("the end to be passed on", |rig| rig.log(joined.ends).ended(to));
        assert!(rig.ops(joined.proxy).stop_relay(joined.a));
        rig.until("the stop", |rig| !rig.log(joined.proxy).relay_stops.is_empty());
        go_on(rig, joined);
        rig.ops(joined.ends).shut(to);
        wait_end(rig, joined);
        let end = rig.log_mut(joined.proxy).relay_ends.pop().expect("an end");
        assert!(matches!(end.cause, RelayCause::Finished), "{:?}", end.cause);
        assert_eq!(end.side, side);
        assert!(!rig.ops(joined.proxy).stop_relay(joined.a), "there is none any more");
    }
}

fn end_that_came_before_the_relay_waits_for_what_is_queued(rig: &mut Rig) {
    let joined = rig.unjoined();
    let payload = rig.bulk();
    rig.ops(joined.ends).pause_receive(joined.server);
    rig.ops(joined.proxy).send(joined.b, &payload).expect("to send");
    assert!(rig.ops(joined.proxy).queued_bytes(joined.b) > 0, "more than the kernel takes");
    rig.ops(joined.ends).shut(joined.client);
    rig.ops(joined.proxy).start_receive(joined.a);
    rig.until("the client's end", |rig| rig.log(joined.proxy).ended(joined.a));
    rig.ops(joined.proxy).start_relay(joined.a, joined.b, RelayOptions::default());
    rig.settle();
    rig.ops(joined.ends).start_receive(joined.server);
    rig.until("the end to be passed on", |rig| rig.log(joined.ends).ended(joined.server));
    assert_same(rig.log(joined.ends).bytes(joined.server), &payload);
    rig.ops(joined.ends).shut(joined.server);
    wait_end(rig, joined);
}

fn progress_tells_bytes_and_half_closes(rig: &mut Rig) {
    let joined = rig.joined(RelayOptions { bytes: [1000, 0], ..RelayOptions::default() });
    rig.ops(joined.ends).send(joined.client, b"12345").expect("to send");
    rig.wait_bytes(joined.ends, joined.server, 5);
    for id in [joined.a, joined.b] {
        let progress = rig.ops(joined.proxy).relay_progress(id);
        assert_eq!((progress.bytes, progress.half_closed), ([1005, 0], [false, false]));
        let now = rig.ops(joined.proxy).now();
        assert!(now.since(progress.last_activity) < Duration::from_secs(5));
    }
    rig.ops(joined.ends).shut(joined.server);
    rig.until("the half-close", |rig| {
        rig.ops(joined.proxy).relay_progress(joined.a).half_closed == [false, true]
    });
    rig.ops(joined.ends).shut(joined.client);
    wait_end(rig, joined);
    assert_eq!(rig.ops(joined.proxy).relay_progress(joined.a), Default::default());
}

fn silence_is_counted_on_over_a_stop(rig: &mut Rig) {
    let joined = rig.joined(RelayOptions::default());
    rig.settle();
    let since = rig.ops(joined.proxy).relay_progress(joined.a).last_activity;
    rig.ops(joined.proxy).stop_relay(joined.a);
    rig.until("the stop", |rig| !rig.log(joined.proxy).relay_stops.is_empty());
    rig.log_mut(joined.proxy).relay_stops.clear();
    let options = RelayOptions { last_activity: Some(since), ..RelayOptions::default() };
    rig.ops(joined.proxy).start_relay(joined.a, joined.b, options);
    rig.settle();
    for id in [joined.a, joined.b] {
        assert_eq!(rig.ops(joined.proxy).relay_progress(id).last_activity, since);
    }
    rig.ops(joined.ends).send(joined.client, b"x").expect("to send");
    rig.wait_bytes(joined.ends, joined.server, 1);
    assert!(rig.ops(joined.proxy).relay_progress(joined.a).last_activity > since);
}

fn end_of_stream_seen_before_the_relay_is_passed_on(rig: &mut Rig) {
    let joined = rig.unjoined();
    rig.ops(joined.proxy).start_receive(joined.a);
    rig.ops(joined.ends).send(joined.client, b"head").expect("to send");
    rig.ops(joined.ends).shut(joined.client);
    rig.until("the end", |rig| rig.log(joined.proxy).ended(joined.a));
    assert_eq!(rig.log(joined.proxy).bytes(joined.a), b"head");
    rig.ops(joined.proxy).send(joined.b, b"head").expect("to send");
    rig.ops(joined.proxy).start_relay(joined.a, joined.b, RelayOptions::default());
    rig.until("the end passed on", |rig| rig.log(joined.ends).ended(joined.server));
    assert_eq!(rig.log(joined.ends).bytes(joined.server), b"head");
    rig.ops(joined.ends).send(joined.server, b"reply").expect("to send");
    rig.ops(joined.ends).shut(joined.server);
    wait_end(rig, joined);
    rig.until("the other end", |rig| rig.log(joined.ends).ended(joined.client));
    assert_eq!(rig.log(joined.ends).bytes(joined.client), b"reply");
}

fn many_relays_live_side_by_side(rig: &mut Rig) {
    let (ends, proxy) = (rig.node(), rig.node());
    let mut all = Vec::new();
    for _ in 0..20 {
        let (client, a) = rig.pair(ends, proxy);
        let (b, server) = rig.pair(proxy, ends);
        rig.ops(ends).start_receive(client);
        rig.ops(ends).start_receive(server);
        rig.ops(proxy).start_relay(a, b, RelayOptions::default());
        let payload = rig.payload(30_000);
        all.push((Joined { ends, proxy, client, a, b, server }, payload));
    }
    for (joined, payload) in &all {
        rig.ops(ends).send(joined.client, payload).expect("to send");
        rig.ops(ends).send(joined.server, &payload[..10_000]).expect("to send");
        rig.ops(ends).shut(joined.client);
        rig.ops(ends).shut(joined.server);
    }
    for (joined, payload) in &all {
        wait_end(rig, *joined);
        rig.wait_bytes(ends, joined.server, payload.len());
        rig.wait_bytes(ends, joined.client, 10_000);
        assert_same(rig.log(ends).bytes(joined.server), payload);
        assert_same(rig.log(ends).bytes(joined.client), &payload[..10_000]);
    }
    assert_eq!(rig.ops(proxy).connection_count(), 0);
}
