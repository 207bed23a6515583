//! Timeouts to the moment, and the limit on connections over several workers.

use std::time::Duration;

use ringway_proxy::worker::WorkerMail;

use crate::world::{World, app, backend};

const SECOND: Duration = Duration::from_secs(1);

/// Timers of the contract are late by no more.
const LATE: Duration = Duration::from_millis(10);

#[test]
fn idle_connection_is_cut_when_its_limit_passes_and_not_before() {
    let mut world = World::new(&app(1));
    world.start_backend(0);
    let client = world.client();
    world.arrive();
    // Bytes move the limit along, in either direction.
    for _ in 0..3 {
        world.pass(50 * SECOND);
        world.send(client, b"a");
        world.pass(50 * SECOND);
        let backend = world.accepted(0)[0];
        world.send(backend, b"b");
    }
    assert!(world.records().is_empty());
    let last = world.now();
    world.until("the connection is cut", |world| !world.records().is_empty());
    let silence = world.records()[0].ended.since(last);
    assert!(silence >= 60 * SECOND && silence <= 60 * SECOND + 2 * LATE, "{silence:?}");
    assert_eq!(world.only_end(), "ringway relay idle");
    assert_eq!(world.records()[0].bytes, [3, 3]);
    world.arrive();
    assert!(world.seen(client).closed.is_some() || world.seen(client).ended);
    world.assert_nothing_is_open();
}

#[test]
fn half_closed_connection_has_its_own_limit_from_then_on() {
    let mut world = World::new(&app(1));
    world.start_backend(0);
    let client = world.client();
    world.pass(40 * SECOND);
    let half_closed = world.now();
    world.shut(client);
    world.until("the connection is cut", |world| !world.records().is_empty());
    let silence = world.records()[0].ended.since(half_closed);
    assert!(silence >= 10 * SECOND && silence <= 10 * SECOND + 2 * LATE, "{silence:?}");
    assert_eq!(world.only_end(), "ringway relay half_close");
    world.assert_nothing_is_open();
}

#[test]
fn bytes_after_a_half_close_move_its_limit_along() {
    let mut world = World::new(&app(1));
    world.start_backend(0);
    let client = world.client();
    world.arrive();
    world.shut(client);
    world.arrive();
    let backend = world.accepted(0)[0];
    assert!(world.seen(backend).ended, "the end is passed on");
    for _ in 0..5 {
        world.pass(8 * SECOND);
        world.send(backend, b"late");
    }
    world.close(backend);
    world.arrive();
    assert_eq!(world.only_end(), "client relay finished");
    assert_eq!(world.seen(client).received, b"late".repeat(5));
    world.assert_nothing_is_open();
}

#[test]
fn busy_connection_is_cut_when_it_is_too_old() {
    let mut model = app(1);
    model.timeouts.lifetime = Some(100 * SECOND);
    let mut world = World::new(&model);
    world.start_backend(0);
    let client = world.client();
    world.arrive();
    while world.records().is_empty() {
        world.send(client, b"x");
        world.pass(SECOND);
    }
    let total = world.records()[0].total;
    assert!(total >= 100 * SECOND && total <= 100 * SECOND + LATE, "{total:?}");
    assert_eq!(world.only_end(), "ringway relay lifetime");
    world.assert_nothing_is_open();
}

#[test]
fn dial_that_is_not_answered_goes_elsewhere_after_the_connect_timeout() {
    let mut world = World::new(&app(2));
    world.start_backend(0);
    world.start_backend(1);
    world.network.block(&backend(0));
    world.network.block(&backend(1));
    let client = world.client();
    world.pass(6 * SECOND);
    world.network.allow(&backend(1));
    world.arrive();
    world.send(client, b"hello");
    world.arrive();
    let served = world.accepted(1);
    assert_eq!(world.seen(served[0]).received, b"hello");
    world.close(client);
    world.close(served[0]);
    world.arrive();
    let record = &world.records()[0];
    assert_eq!(record.backend.as_deref(), Some("backend-1"));
    assert!(record.connect.is_some_and(|connect| connect >= 5 * SECOND), "{record:?}");
    world.network.allow(&backend(0));
    world.assert_nothing_is_open();
}

#[test]
fn limit_holds_over_all_workers_and_those_that_wait_are_served_as_others_leave() {
    let mut world = World::with(&app(1), 3, 2);
    world.start_backend(0);
    let clients: Vec<_> = (0..8).map(|_| world.client()).collect();
    world.arrive();
    assert_eq!(world.admission.open(), 2);
    let mut served = 2;
    while served < 8 {
        let open = world.accepted(0)[served - 2];
        world.close(open);
        world.until("another one is served", |world| world.accepted(0).len() > served);
        assert!(world.admission.open() <= 2);
        served += 1;
    }
    for client in clients {
        world.close(client);
    }
    world.arrive();
    for connection in world.accepted(0) {
        world.close(connection);
    }
    world.arrive();
    assert_eq!(world.records().len(), 8);
    assert!(world.records().iter().any(|record| record.queue > Duration::ZERO), "some waited");
    world.assert_nothing_is_open();
}

#[test]
fn client_that_leaves_while_it_waits_gives_up_its_turn() {
    let mut world = World::with(&app(1), 1, 1);
    world.start_backend(0);
    let clients: Vec<_> = (0..2).map(|_| world.client()).collect();
    world.arrive();
    // Whether it was accepted and waits, or is left in the queue: it leaves.
    let last = clients[1];
    world.reset(last);
    world.arrive();
    world.close(clients[0]);
    let served = world.accepted(0)[0];
    world.close(served);
    world.arrive();
    world.pass(SECOND);
    assert_eq!(world.accepted(0).len(), 1, "nobody was dialled for the one that left");
    world.assert_nothing_is_open();
}

#[test]
fn all_limits_off_leaves_a_silent_connection_alone() {
    let mut model = app(1);
    model.timeouts.idle = None;
    model.timeouts.half_close = None;
    let mut world = World::new(&model);
    world.start_backend(0);
    world.client();
    world.pass(100_000 * SECOND);
    assert!(world.records().is_empty());
    world.mail(&WorkerMail::CloseNow);
    world.arrive();
    assert_eq!(world.only_end(), "ringway relay shutdown");
    world.assert_nothing_is_open();
}
