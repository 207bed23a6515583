//! The line of those that wait while all backends are full, over several workers.

use std::time::Duration;

use ringway::ConnectionId;
use ringway_proxy::inspection::{Inquiry, Selection, Verb};
use ringway_proxy::model;
use ringway_proxy::session::Ending;
use ringway_proxy::session::tcp::Stage;
use ringway_proxy::worker::WorkerMail;
use tokio::sync::mpsc::unbounded_channel;

use crate::world::{World, app, backend};

const SECOND: Duration = Duration::from_secs(1);

/// An app with a backend that takes so many connections, and a line of so many.
fn queued(max_connections: u32, queue: u32) -> model::App {
    let mut app = app(1);
    app.backends[0].max_connections = Some(max_connections);
    app.limits.queue = Some(queue);
    app
}

fn start(app: &model::App, workers: u32) -> World {
    let mut world = World::with(app, workers, 1_000);
    (0..app.backends.len()).for_each(|index| world.start_backend(index as u8));
    world
}

/// Clients that come one after the other; each says its number.
fn clients(world: &mut World, numbers: std::ops::Range<u8>) -> Vec<ConnectionId> {
    let come = |number: u8| {
        let client = world.client();
        world.arrive();
        world.send(client, &[number]);
        client
    };
    numbers.map(come).collect()
}

/// Who got to backend 0, in order, by what each said.
fn served(world: &mut World) -> Vec<u8> {
    world.arrive();
    world.accepted(0).iter().filter_map(|id| world.seen(*id).received.first().copied()).collect()
}

/// Ends the connection of the client with this number at the backend.
fn finish(world: &mut World, number: u8) {
    let of_number = |world: &World, id: &ConnectionId| world.seen(*id).received == [number];
    let connection = world.accepted(0).into_iter().find(|id| of_number(world, id)).expect("it is served");
    world.reset(connection);
    world.arrive();
}

fn reasons(world: &World) -> Vec<&'static str> {
    world.records().iter().map(|record| record.reason).collect()
}

#[test]
fn clients_wait_and_are_served_in_the_order_in_which_they_came() {
    let mut world = start(&queued(2, 10), 3);
    clients(&mut world, 0..6);
    assert_eq!(served(&mut world), [0, 1]);
    assert_eq!((world.app.queue().waiting(), world.app.active().get()), (4, 6));
    finish(&mut world, 1);
    assert_eq!(served(&mut world), [0, 1, 2]);
    for number in [0, 2, 3, 4] {
        finish(&mut world, number);
    }
    assert_eq!(served(&mut world), [0, 1, 2, 3, 4, 5]);
    finish(&mut world, 5);
    world.assert_nothing_is_open();
    // Two that were served at once, and four that waited longer and longer.
    let waits: Vec<_> = world.records().iter().map(|record| record.queue).collect();
    assert!(waits.iter().filter(|wait| **wait > SECOND).count() == 4, "{waits:?}");
    assert_eq!(reasons(&world), ["reset"; 6]);
}

#[test]
fn newcomer_does_not_overtake_though_there_is_room_for_it() {
    let mut world = start(&queued(1, 10), 1);
    clients(&mut world, 0..2);
    let before = world.accepted(0)[0];
    // The place becomes free, and in the same turn a third client is accepted.
    let third = world.client();
    world.send(third, &[2]);
    world.reset(before);
    assert_eq!(served(&mut world), [0, 1]);
    finish(&mut world, 1);
    assert_eq!(served(&mut world), [0, 1, 2]);
}

#[test]
fn line_is_no_longer_than_its_length_over_all_workers() {
    let mut world = start(&queued(1, 3), 3);
    let all: Vec<_> = (0..9).map(|_| world.client()).collect();
    world.arrive();
    assert_eq!(world.app.queue().waiting(), 3);
    assert_eq!(reasons(&world), ["queue_full"; 5]);
    all.iter().for_each(|client| world.reset(*client));
    world.arrive();
    world.assert_nothing_is_open();
}

#[test]
fn who_waits_too_long_is_closed_and_the_log_says_how_long_it_waited() {
    let mut model = queued(1, 10);
    model.limits.queue_timeout = 5 * SECOND;
    let mut world = start(&model, 1);
    clients(&mut world, 0..2);
    let began = world.now();
    world.until("it is closed", |world| !world.records().is_empty());
    assert_eq!(world.only_end(), "ringway accept queue_timeout");
    let record = &world.records()[0];
    assert!(record.ended.since(began) <= 5 * SECOND, "{:?}", record.ended.since(began));
    assert!(record.queue >= 5 * SECOND && record.queue <= 5 * SECOND + Duration::from_millis(10));
    assert_eq!((world.app.queue().waiting(), record.backend.as_deref()), (0, None));
}

#[test]
fn who_leaves_is_forgotten_and_its_turn_goes_to_the_next() {
    let mut world = start(&queued(1, 10), 2);
    let all = clients(&mut world, 0..4);
    world.reset(all[1]);
    // It finished sending, and may want the answer.
    world.shut(all[2]);
    world.arrive();
    assert_eq!((world.only_end(), world.app.queue().waiting()), ("client accept left_queue".to_owned(), 2));
    finish(&mut world, 0);
    assert_eq!(served(&mut world), [0, 2]);
}

#[test]
fn one_that_is_called_and_has_left_hands_its_turn_on() {
    let mut world = start(&queued(1, 10), 1);
    let all = clients(&mut world, 0..3);
    // Its reset and the place that becomes free arrive together.
    world.reset(all[1]);
    let first = world.accepted(0)[0];
    world.reset(first);
    assert_eq!(served(&mut world), [0, 2]);
    assert_eq!(world.app.queue().waiting(), 0);
}

#[test]
fn room_that_a_reload_makes_is_filled_from_the_line() {
    let model = queued(1, 10);
    let mut world = start(&model, 3);
    clients(&mut world, 0..6);
    assert_eq!(served(&mut world), [0]);
    let mut more = model.clone();
    more.backends[0].max_connections = Some(4);
    world.reload(vec![more.clone()]);
    // At once, and from several workers: in no order among themselves.
    let mut first = served(&mut world);
    first.sort_unstable();
    assert_eq!(first, [0, 1, 2, 3]);
    // A shorter line holds whom it holds, and takes nobody.
    more.limits.queue = Some(1);
    world.reload(vec![more.clone()]);
    clients(&mut world, 6..7);
    world.arrive();
    assert_eq!((world.app.queue().waiting(), world.only_end().as_str()), (2, "ringway accept queue_full"));
    // And so does none.
    more.limits.queue = None;
    world.reload(vec![more]);
    clients(&mut world, 7..8);
    world.arrive();
    assert_eq!(reasons(&world), ["queue_full", "backends_full"]);
    finish(&mut world, 0);
    finish(&mut world, 1);
    assert_eq!(served(&mut world)[4..], [4, 5]);
}

#[test]
fn time_in_the_line_is_that_of_the_latest_configuration() {
    let mut model = queued(1, 10);
    model.limits.queue_timeout = 5 * SECOND;
    let mut world = start(&model, 1);
    clients(&mut world, 0..2);
    model.limits.queue_timeout = 30 * SECOND;
    world.reload(vec![model]);
    world.pass(20 * SECOND);
    assert_eq!(world.app.queue().waiting(), 1);
    world.pass(11 * SECOND);
    assert_eq!(world.only_end(), "ringway accept queue_timeout");
}

#[test]
fn backend_that_comes_into_service_takes_those_that_wait() {
    let mut model = queued(1, 10);
    model.backends.push(model::Backend { name: "other".into(), weight: 0, ..model.backends[0].clone() });
    model.backends[1].target = model::Target::Address(backend(1));
    model.backends[1].max_connections = Some(2);
    let mut world = start(&model, 3);
    clients(&mut world, 0..5);
    assert_eq!((world.accepted(1).len(), world.app.queue().waiting()), (0, 4));
    let steering = ringway_proxy::endpoint::Steering { weight: Some(1), ..Default::default() };
    world.app.steer("other", steering).expect("it changes something");
    world.mail(&WorkerMail::Endpoints { app: 0 });
    world.arrive();
    assert_eq!((world.accepted(1).len(), world.app.queue().waiting()), (2, 2));
}

#[test]
fn who_waits_outlasts_a_backend_that_is_down_for_a_moment_and_newcomers_are_refused() {
    let mut model = queued(1, 10);
    model.limits.queue_timeout = 600 * SECOND;
    model.health.check = model::Check::Tcp;
    let mut world = start(&model, 1);
    clients(&mut world, 0..2);
    world.network.refuse(&backend(0));
    world.until("it is down", |world| !world.app.endpoints().endpoints()[0].is_available());
    let late = world.client();
    world.arrive();
    assert_eq!(world.only_end(), "ringway accept no_backend");
    assert!(world.seen(late).ended || world.seen(late).closed.is_some());
    let first = world.accepted(0)[0];
    world.reset(first);
    world.arrive();
    assert_eq!(world.app.queue().waiting(), 1, "it was called in vain");
    world.network.allow(&backend(0));
    world.until("it is served", |world| world.app.queue().waiting() == 0);
    world.arrive();
    let last = *world.accepted(0).last().expect("it was dialled");
    assert_eq!(world.seen(last).received, [1]);
}

#[test]
fn operators_see_who_waits_and_can_end_it() {
    let mut world = start(&queued(1, 10), 1);
    clients(&mut world, 0..3);
    let (reply, mut answers) = unbounded_channel();
    let selection = std::sync::Arc::new(Selection::default());
    let ask = |world: &mut World, verb| {
        let selection = std::sync::Arc::clone(&selection);
        world.mail(&WorkerMail::Inspect(Inquiry { selection, verb, from: 0, reply: reply.clone() }));
    };
    ask(&mut world, Verb::List { rows_max: 9 });
    let stages: Vec<_> = answers.try_recv().expect("it answers").rows.iter().map(|row| row.stage).collect();
    assert_eq!(stages, [Stage::Relaying, Stage::Queued, Stage::Queued]);
    ask(&mut world, Verb::Close(Ending::Killed));
    world.arrive();
    let mut ends = reasons(&world);
    ends.sort_unstable();
    assert_eq!(ends, ["killed"; 3]);
    world.assert_nothing_is_open();
}

#[test]
fn places_of_connections_that_are_cut_go_to_nobody() {
    let mut world = start(&queued(1, 10), 2);
    clients(&mut world, 0..3);
    assert_eq!(served(&mut world), [0]);
    // As if the worker of the first were told to cut before the others.
    world.admission.end();
    finish(&mut world, 0);
    assert_eq!(served(&mut world), [0]);
    world.mail(&WorkerMail::CloseNow);
    world.settle();
    assert_eq!(served(&mut world), [0]);
    assert_eq!(reasons(&world)[1..], ["shutdown", "shutdown"]);
    world.assert_nothing_is_open();
}

#[test]
fn end_of_the_process_ends_the_line() {
    let mut world = start(&queued(1, 10), 2);
    clients(&mut world, 0..3);
    world.mail(&WorkerMail::Drain);
    world.arrive();
    assert_eq!(world.app.queue().waiting(), 2, "they may be served yet");
    finish(&mut world, 0);
    assert_eq!(served(&mut world), [0, 1]);
    world.mail(&WorkerMail::CloseNow);
    world.arrive();
    let ends = reasons(&world);
    assert_eq!((ends[0], ends[1..].iter().filter(|end| **end == "shutdown").count()), ("reset", 2));
    world.assert_nothing_is_open();
}
