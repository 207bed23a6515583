//! Connections on their own: bytes in order, back-pressure, half-close, close and reset.

use std::cell::RefCell;
use std::io::ErrorKind;
use std::rc::Rc;

use ringway_engine::{SendError, Token};

use crate::contract;
use crate::log::Seen;
use crate::rig::{Rig, assert_prefix, assert_same};

contract!(
    bytes_arrive_in_order_both_ways,
    nothing_is_received_until_told_to,
    paused_receive_keeps_everything_for_later,
    floods_that_are_paused_and_peeked_at_arrive_whole,
    what_the_kernel_does_not_take_is_queued_and_then_writable_once,
    writable_does_not_come_unasked,
    shut_ends_one_direction_after_its_bytes,
    nothing_can_be_sent_after_shut_or_close,
    close_hands_on_what_was_queued,
    reset_drops_what_was_queued_and_breaks_the_peer,
    bytes_before_a_reset_are_received,
    close_from_within_an_event_ends_the_stream,
    sending_to_a_closed_peer_fails_later,
    sends_of_one_call_keep_their_order_with_queued_ones,
    an_engine_that_goes_away_takes_its_connections_along,
    nobody_starves_beside_one_that_sends_without_a_pause,
);

fn bytes_arrive_in_order_both_ways(rig: &mut Rig) {
    let (left, right) = (rig.node(), rig.node());
    let (a, b) = rig.pair(left, right);
    rig.ops(left).start_receive(a);
    rig.ops(right).start_receive(b);
    let (there, back) = (rig.payload(100_000), rig.payload(70_001));
    for chunk in there.chunks(9_973) {
        rig.ops(left).send(a, chunk).expect("to send");
        rig.turn();
    }
    for chunk in back.chunks(777) {
        rig.ops(right).send(b, chunk).expect("to send");
    }
    rig.wait_bytes(right, b, there.len());
    rig.wait_bytes(left, a, back.len());
    assert_same(rig.log(right).bytes(b), &there);
    assert_same(rig.log(left).bytes(a), &back);
}

fn nothing_is_received_until_told_to(rig: &mut Rig) {
    let (left, right) = (rig.node(), rig.node());
    let (a, b) = rig.pair(left, right);
    rig.ops(left).send(a, b"early").expect("to send");
    rig.settle();
    assert!(rig.log(right).bytes(b).is_empty());
    rig.ops(right).start_receive(b);
    assert!(rig.log(right).bytes(b).is_empty(), "nothing calls back");
    rig.wait_bytes(right, b, 5);
}

fn paused_receive_keeps_everything_for_later(rig: &mut Rig) {
    let (left, right) = (rig.node(), rig.node());
    let (a, b) = rig.pair(left, right);
    let payload = rig.payload(300_000);
    // Pauses itself in the middle of what one turn could deliver.
    rig.log_mut(right).hook = Some(Box::new(|ops, seen| {
        if let Seen::Received { connection, .. } = seen {
            ops.pause_receive(*connection);
        }
    }));
    rig.ops(left).send(a, &payload).expect("to send");
    rig.ops(left).shut(a);
    let mut before = 0;
    while before < payload.len() {
        rig.ops(right).start_receive(b);
        rig.until("one more piece", |rig| rig.log(right).bytes(b).len() > before);
        before = rig.log(right).bytes(b).len();
        rig.turn();
        rig.turn();
        assert_eq!(rig.log(right).bytes(b).len(), before, "no Received after the pause");
    }
    assert!(!rig.log(right).ended(b));
    rig.ops(right).start_receive(b);
    rig.until("the end", |rig| rig.log(right).ended(b));
    assert_same(rig.log(right).bytes(b), &payload);
}

/// More than the buffers of a ring hold comes at once, so that it is read without them, and each pause falls in there.
fn floods_that_are_paused_and_peeked_at_arrive_whole(rig: &mut Rig) {
    let (left, right) = (rig.node(), rig.node());
    let floods: Vec<_> = (0..3).map(|_| (rig.pair(left, right), rig.bulk())).collect();
    let paused = Rc::new(RefCell::new(Vec::new()));
    let (noted, mut count) = (Rc::clone(&paused), 0);
    rig.log_mut(right).hook = Some(Box::new(move |ops, seen| {
        if let Seen::Received { connection, .. } = seen {
            count += 1;
            if count % 5 == 0 {
                ops.pause_receive(*connection);
                noted.borrow_mut().push(*connection);
            }
        }
    }));
    for ((a, b), payload) in &floods {
        rig.ops(right).start_receive(*b);
        rig.ops(left).send(*a, payload).expect("to send");
        rig.ops(left).shut(*a);
    }
    let (mut round, mut peeked_at) = (0, Vec::new());
    rig.until("the ends of all", |rig| {
        for connection in std::mem::take(&mut peeked_at) {
            rig.ops(right).start_receive(connection);
        }
        for connection in paused.borrow_mut().drain(..) {
            round += 1;
            if round % 3 == 0 {
                rig.ops(right).start_peek(connection, 4096);
                peeked_at.push(connection);
            } else {
                rig.ops(right).start_receive(connection);
            }
        }
        floods.iter().all(|((_, b), _)| rig.log(right).ended(*b))
    });
    assert!(round > 0, "nothing was paused");
    for ((_, b), payload) in &floods {
        assert_same(rig.log(right).bytes(*b), payload);
    }
}

fn what_the_kernel_does_not_take_is_queued_and_then_writable_once(rig: &mut Rig) {
    let (left, right) = (rig.node(), rig.node());
    let (a, b) = rig.pair(left, right);
    let payload = rig.bulk();
    let mut queued = 0;
    for chunk in payload.chunks(100_000) {
        queued = rig.ops(left).send(a, chunk).expect("to send");
    }
    assert!(queued > 0, "all of it fits into the kernel");
    assert_eq!(rig.ops(left).queued_bytes(a), queued);
    assert!(rig.ops(left).pending_bytes() >= queued);
    rig.settle();
    assert_eq!(rig.log(left).writable(a), 0);
    rig.ops(right).start_receive(b);
    rig.until("Writable", |rig| rig.log(left).writable(a) == 1);
    rig.wait_bytes(right, b, payload.len());
    assert_same(rig.log(right).bytes(b), &payload);
    rig.settle();
    assert_eq!(rig.log(left).writable(a), 1);
    assert_eq!(rig.ops(left).pending_bytes(), 0);
}

fn writable_does_not_come_unasked(rig: &mut Rig) {
    let (left, right) = (rig.node(), rig.node());
    let (a, b) = rig.pair(left, right);
    rig.ops(right).start_receive(b);
    if rig.ops(left).send(a, b"x").expect("to send") == 0 {
        rig.wait_bytes(right, b, 1);
        rig.settle();
        assert_eq!(rig.log(left).writable(a), 0);
    }
}

fn shut_ends_one_direction_after_its_bytes(rig: &mut Rig) {
    let (left, right) = (rig.node(), rig.node());
    let (a, b) = rig.pair(left, right);
    rig.ops(left).start_receive(a);
    rig.ops(right).start_receive(b);
    let payload = rig.bulk();
    rig.ops(left).send(a, &payload).expect("to send");
    rig.ops(left).shut(a);
    rig.until("the end", |rig| rig.log(right).ended(b));
    assert_same(rig.log(right).bytes(b), &payload);
    rig.ops(right).send(b, b"answer after the end").expect("the other direction goes on");
    rig.wait_bytes(left, a, 20);
    rig.ops(right).close(b);
    rig.until("the other end", |rig| rig.log(left).ended(a));
    rig.ops(left).close(a);
    rig.wait_dead(left, a);
    assert!(rig.log(left).closed(a) && rig.log(right).closed(b));
}

fn nothing_can_be_sent_after_shut_or_close(rig: &mut Rig) {
    let (left, right) = (rig.node(), rig.node());
    let (a, b) = rig.pair(left, right);
    rig.ops(left).shut(a);
    assert_eq!(rig.ops(left).send(a, b"x"), Err(SendError::Closed));
    rig.ops(right).close(b);
    assert_eq!(rig.ops(right).send(b, b"x"), Err(SendError::Closed));
    rig.wait_dead(right, b);
}

fn close_hands_on_what_was_queued(rig: &mut Rig) {
    let (left, right) = (rig.node(), rig.node());
    let (a, b) = rig.pair(left, right);
    let payload = rig.bulk();
    assert!(rig.ops(left).send(a, &payload).expect("to send") > 0);
    rig.ops(left).close(a);
    rig.settle();
    assert!(!rig.log(left).is_dead(a), "it waits for its queue");
    rig.ops(right).start_receive(b);
    rig.until("the end", |rig| rig.log(right).ended(b));
    assert_same(rig.log(right).bytes(b), &payload);
    rig.wait_dead(left, a);
    assert!(rig.log(left).closed(a));
    assert_eq!(rig.log(left).writable(a), 0);
}

fn reset_drops_what_was_queued_and_breaks_the_peer(rig: &mut Rig) {
    let (left, right) = (rig.node(), rig.node());
    let (a, b) = rig.pair(left, right);
    let payload = rig.bulk();
    rig.ops(left).send(a, &payload).expect("to send");
    rig.ops(left).reset(a);
    rig.wait_dead(left, a);
    assert!(rig.log(left).closed(a));
    assert_eq!(rig.ops(left).pending_bytes(), 0);
    rig.ops(right).start_receive(b);
    rig.wait_dead(right, b);
    let failed = |seen: &Seen| matches!(seen, Seen::Failed { error: ErrorKind::ConnectionReset, .. });
    assert!(rig.log(right).has(failed));
    assert!(!rig.log(right).ended(b), "a cut stream must not look complete");
    assert_prefix(rig.log(right).bytes(b), &payload);
}

fn bytes_before_a_reset_are_received(rig: &mut Rig) {
    let (left, right) = (rig.node(), rig.node());
    let (a, b) = rig.pair(left, right);
    rig.ops(right).start_receive(b);
    rig.ops(left).send(a, b"one").expect("to send");
    rig.wait_bytes(right, b, 3);
    rig.ops(left).send(a, b"two").expect("to send");
    rig.until("the queue to empty", |rig| rig.ops(left).queued_bytes(a) == 0);
    rig.ops(left).reset(a);
    rig.wait_dead(right, b);
    assert_eq!(rig.log(right).bytes(b), b"onetwo");
}

fn close_from_within_an_event_ends_the_stream(rig: &mut Rig) {
    let (left, right) = (rig.node(), rig.node());
    let (a, b) = rig.pair(left, right);
    rig.log_mut(right).hook = Some(Box::new(|ops, seen| {
        if let Seen::Received { connection, .. } = seen {
            ops.close(*connection);
        }
    }));
    rig.ops(right).start_receive(b);
    rig.ops(left).start_receive(a);
    rig.ops(left).send(a, b"x").expect("to send");
    rig.wait_dead(right, b);
    assert_eq!(rig.log(right).seen.last(), Some(&Seen::Closed { connection: b, token: Token(900) }));
    rig.until("the end", |rig| rig.log(left).ended(a));
}

fn sending_to_a_closed_peer_fails_later(rig: &mut Rig) {
    let (left, right) = (rig.node(), rig.node());
    let (a, b) = rig.pair(left, right);
    rig.ops(right).close(b);
    rig.wait_dead(right, b);
    rig.ops(left).start_receive(a);
    rig.until("the end", |rig| rig.log(left).ended(a));
    rig.until("the break", |rig| {
        if !rig.log(left).is_dead(a) {
            // Errors come as events, so a send is never refused before one.
            rig.ops(left).send(a, b"is anybody there").expect("to send");
        }
        rig.log(left).is_dead(a)
    });
    assert!(rig.log(left).failed(a));
}

fn sends_of_one_call_keep_their_order_with_queued_ones(rig: &mut Rig) {
    let (left, right) = (rig.node(), rig.node());
    let (a, b) = rig.pair(left, right);
    let payload = rig.bulk();
    // More than any socket buffer takes while nobody reads: from here on something is queued.
    let (first, mut rest) = payload.split_at(payload.len() * 3 / 4);
    let mut queue_was_used = rig.ops(left).send(a, first).expect("to send") > 0;
    // Small and large ones, while the other end reads now and then.
    while !rest.is_empty() {
        let most = if rig.random.chance(0.3) { 1 << 20 } else { 2000 };
        let len = rig.random.between(1, most).min(rest.len() as u64) as usize;
        let (chunk, after) = rest.split_at(len);
        queue_was_used |= rig.ops(left).send(a, chunk).expect("to send") > 0;
        rest = after;
        match rig.random.index(3) {
            0 => rig.ops(right).start_receive(b),
            1 => rig.ops(right).pause_receive(b),
            _ => {}
        }
        if rig.random.chance(0.2) {
            rig.turn();
        }
    }
    rig.ops(left).close(a);
    rig.ops(right).start_receive(b);
    rig.until("the end", |rig| rig.log(right).ended(b));
    assert!(queue_was_used);
    assert_same(rig.log(right).bytes(b), &payload);
}

fn an_engine_that_goes_away_takes_its_connections_along(rig: &mut Rig) {
    let (left, right) = (rig.node(), rig.node());
    let (a, _) = rig.pair(left, right);
    rig.ops(left).start_receive(a);
    rig.drop_last_node();
    rig.until("the end, clean or not", |rig| rig.log(left).ended(a) || rig.log(left).is_dead(a));
}

fn nobody_starves_beside_one_that_sends_without_a_pause(rig: &mut Rig) {
    let (left, right) = (rig.node(), rig.node());
    let (greedy, heard) = rig.pair(left, right);
    let (quiet, quietly_heard) = rig.pair(left, right);
    for connection in [heard, quietly_heard] {
        rig.ops(right).start_receive(connection);
    }
    let payload = rig.bulk();
    let go_on = |rig: &mut Rig| {
        if rig.ops(left).queued_bytes(greedy) < payload.len() / 2 {
            rig.ops(left).send(greedy, &payload).expect("to send");
        }
    };
    // Until the kernel has learned to keep more of it than a turn takes.
    rig.until("a lot", |rig| {
        go_on(rig);
        rig.log(right).bytes(heard).len() >= 3 * payload.len()
    });
    for words in 1..=5 {
        rig.ops(left).send(quiet, b"w").expect("to send");
        let mut turns = 0;
        rig.until("a word", |rig| {
            go_on(rig);
            turns += 1;
            assert!(turns <= 100, "nobody listens");
            rig.log(right).bytes(quietly_heard).len() == words
        });
    }
}
