//! Bytes a second: to the byte and to the moment, and everything else as without a limit.

use std::time::Duration;

use ringway::{ConnectionId, Time};
use ringway_proxy::inspection::{Inquiry, Selection, Verb};
use ringway_proxy::model;
use ringway_proxy::session::Ending;
use ringway_proxy::worker::WorkerMail;
use tokio::sync::mpsc::unbounded_channel;

use crate::world::{World, app};

const SECOND: Duration = Duration::from_secs(1);
const KIB: usize = 1 << 10;

/// What one slice holds at these rates.
fn slice(rate: u64) -> u64 {
    rate / 64
}

fn per_connection(rate: u64) -> model::App {
    let mut app = app(1);
    app.limits.bandwidth_per_connection = Some(rate);
    app
}

fn of_all(rate: u64) -> model::App {
    let mut app = app(1);
    app.limits.bandwidth = Some(rate);
    app
}

fn start(app: &model::App, workers: u32) -> World {
    let mut world = World::with(app, workers, 1_000);
    world.start_backend(0);
    world
}

/// So many clients, with their connections at the backend, in the same order.
fn pairs(world: &mut World, count: usize) -> Vec<(ConnectionId, ConnectionId)> {
    (0..count)
        .map(|_| {
            let client = world.client();
            world.arrive();
            (client, *world.accepted(0).last().expect("it is served"))
        })
        .collect()
}

fn pattern(len: usize, seed: usize) -> Vec<u8> {
    (0..len).map(|at| ((at * 31 + at / 251 + seed) % 251) as u8).collect()
}

/// Bytes that these have received.
fn received(world: &World, connections: &[ConnectionId]) -> u64 {
    connections.iter().map(|connection| world.seen(*connection).received.len() as u64).sum()
}

/// Lets time pass until these have received so much; asserts that it was never more than the rate allows, nor late.
fn assert_paced(
    world: &mut World,
    begin: Time,
    connections: &[ConnectionId],
    total: u64,
    rate: u64,
    workers: u64,
) {
    let most = |elapsed: Duration| {
        ((elapsed + Duration::from_millis(100)).as_secs_f64() * rate as f64) as u64 + workers * slice(rate)
    };
    loop {
        let (elapsed, bytes) = (world.now().since(begin), received(world, connections));
        assert!(bytes <= most(elapsed), "{bytes} bytes after {elapsed:?}, {rate} a second");
        if bytes == total {
            break;
        }
        let expected = Duration::from_secs_f64(total as f64 / rate as f64);
        assert!(elapsed <= expected + SECOND, "{bytes} of {total} bytes after {elapsed:?}, {rate} a second");
        world.pass(Duration::from_millis(20));
    }
}

#[test]
fn bytes_of_a_connection_come_whole_and_at_its_rate_in_both_directions() {
    let rate = 64 * KIB as u64;
    let mut world = start(&per_connection(rate), 1);
    let (client, backend) = pairs(&mut world, 1)[0];
    let (request, response) = (pattern(512 * KIB, 1), pattern(512 * KIB, 2));
    let begin = world.now();
    world.send(client, &request);
    world.send(backend, &response);
    assert_paced(&mut world, begin, &[backend], request.len() as u64, rate, 1);
    assert_paced(&mut world, begin, &[client], response.len() as u64, rate, 1);
    assert!(world.now().since(begin) >= 7 * SECOND, "{:?}", world.now().since(begin));
    assert!(world.seen(backend).received == request && world.seen(client).received == response);
    world.shut(client);
    world.arrive();
    assert!(world.seen(backend).ended);
    world.close(backend);
    world.arrive();
    assert_eq!(world.only_end(), "client relay finished");
    assert_eq!(world.records()[0].bytes, [512 * KIB as u64; 2]);
    world.assert_nothing_is_open();
}

#[test]
fn what_was_not_used_is_kept_for_a_tenth_of_a_second_only() {
    let rate = 1_000 * KIB as u64;
    let mut world = start(&per_connection(rate), 1);
    let (client, backend) = pairs(&mut world, 1)[0];
    world.pass(30 * SECOND);
    let begin = world.now();
    world.send(client, &pattern(400 * KIB, 0));
    world.pass(Duration::from_millis(30));
    let at_once = received(&world, &[backend]);
    assert!(at_once >= 100 * KIB as u64, "{at_once}");
    assert_paced(&mut world, begin, &[backend], 400 * KIB as u64, rate, 1);
}

#[test]
fn bandwidth_of_an_app_is_shared_by_all_its_connections_over_all_workers() {
    let rate = 256 * KIB as u64;
    let mut world = start(&of_all(rate), 3);
    let pairs = pairs(&mut world, 6);
    let begin = world.now();
    for (seed, (client, _)) in pairs.iter().enumerate() {
        world.send(*client, &pattern(256 * KIB, seed));
    }
    let backends: Vec<_> = pairs.iter().map(|(_, backend)| *backend).collect();
    world.pass(3 * SECOND);
    // Halfway through all have got their share; the first took what was kept before it came, too.
    let shares: Vec<u64> = backends.iter().map(|backend| received(&world, &[*backend])).collect();
    assert!(shares.iter().all(|share| (112 * KIB as u64..164 * KIB as u64).contains(share)), "{shares:?}");
    assert_paced(&mut world, begin, &backends, 6 * 256 * KIB as u64, rate, 3);
    for (seed, backend) in backends.iter().enumerate() {
        assert!(world.seen(*backend).received == pattern(256 * KIB, seed));
    }
}

#[test]
fn end_is_passed_on_after_the_last_byte_that_had_to_wait() {
    let mut world = start(&per_connection(64 * KIB as u64), 1);
    let (client, backend) = pairs(&mut world, 1)[0];
    world.send(client, &pattern(128 * KIB, 0));
    world.shut(client);
    world.pass(SECOND);
    assert!(!world.seen(backend).ended);
    world.pass(2 * SECOND);
    assert!(world.seen(backend).ended && world.seen(backend).received == pattern(128 * KIB, 0));
    // And the other direction goes on.
    world.send(backend, b"answer");
    world.arrive();
    assert_eq!(world.seen(client).received, b"answer");
    world.close(backend);
    world.arrive();
    assert_eq!(world.only_end(), "client relay finished");
    assert_eq!(world.records()[0].bytes, [128 * KIB as u64, 6]);
    world.assert_nothing_is_open();
}

#[test]
fn reset_is_passed_on_whoever_it_comes_from_and_however_much_waits() {
    for from_client in [true, false] {
        let mut world = start(&per_connection(64 * KIB as u64), 1);
        let (client, backend) = pairs(&mut world, 1)[0];
        world.send(client, &pattern(256 * KIB, 0));
        world.send(backend, &pattern(256 * KIB, 0));
        world.pass(SECOND);
        let (breaks, other) = if from_client { (client, backend) } else { (backend, client) };
        world.reset(breaks);
        world.until("it is passed on", |world| world.seen(other).closed.is_some());
        assert_eq!(world.seen(other).closed, Some("reset"));
        let by = if from_client { "client" } else { "backend" };
        assert_eq!(world.only_end(), format!("{by} relay reset"));
        assert!(pattern(256 * KIB, 0).starts_with(&world.seen(other).received));
        world.assert_nothing_is_open();
    }
}

#[test]
fn killed_connection_is_cut_and_its_bytes_are_those_that_went_on() {
    let mut world = start(&per_connection(64 * KIB as u64), 1);
    let (client, backend) = pairs(&mut world, 1)[0];
    world.send(client, &pattern(256 * KIB, 0));
    world.pass(SECOND);
    let (reply, mut answers) = unbounded_channel();
    let selection = std::sync::Arc::new(Selection::default());
    let ask = |world: &mut World, verb| {
        let selection = std::sync::Arc::clone(&selection);
        world.mail(&WorkerMail::Inspect(Inquiry { selection, verb, from: 0, reply: reply.clone() }));
    };
    ask(&mut world, Verb::List { rows_max: 1 });
    let row = answers.try_recv().expect("it answers").rows.remove(0);
    let went_on = received(&world, &[backend]);
    assert_eq!(row.bytes, [went_on, 0]);
    ask(&mut world, Verb::Close(Ending::Killed));
    world.arrive();
    assert_eq!(world.only_end(), "ringway relay killed");
    assert_eq!(world.records()[0].bytes, [went_on, 0]);
    assert_eq!(world.seen(backend).closed, Some("reset"), "what is not complete does not look so");
    world.assert_nothing_is_open();
}

#[test]
fn connection_whose_bytes_wait_is_not_idle_and_a_silent_one_is() {
    let mut model = per_connection(64);
    model.timeouts.idle = Some(3 * SECOND);
    let mut world = start(&model, 1);
    let (client, backend) = pairs(&mut world, 1)[0];
    world.send(client, &pattern(KIB, 0));
    world.pass(15 * SECOND);
    assert!(world.records().is_empty());
    let last = world.now();
    world.until("it is cut", |world| !world.records().is_empty());
    assert_eq!(world.only_end(), "ringway relay idle");
    let silence = world.records()[0].ended.since(last);
    assert!(silence >= 3 * SECOND && silence <= 5 * SECOND, "{silence:?}");
    assert!(world.seen(backend).received == pattern(KIB, 0));
    world.assert_nothing_is_open();
}

#[test]
fn reload_sets_changes_and_removes_the_limit_of_open_connections() {
    let mut world = start(&app(1), 2);
    let pairs = pairs(&mut world, 3);
    // One of them is half closed already, and all have moved bytes.
    for (client, backend) in &pairs {
        world.send(*client, &pattern(64 * KIB, 0));
        world.send(*backend, b"hello");
    }
    world.shut(pairs[2].0);
    world.arrive();
    assert!(world.seen(pairs[2].1).ended);

    let rate = 64 * KIB as u64;
    world.reload(vec![per_connection(rate)]);
    let begin = world.now();
    let before = received(&world, &[pairs[0].1]);
    world.send(pairs[0].0, &pattern(256 * KIB, 64 * KIB * 31 + 64 * KIB / 251));
    world.send(pairs[2].1, b" world");
    world.pass(2 * SECOND);
    let now = received(&world, &[pairs[0].1]) - before;
    let most = rate * 21 / 10 + slice(rate);
    assert!(now <= most && now >= rate * 19 / 10, "{now} after {:?}", world.now().since(begin));
    assert_eq!(world.seen(pairs[2].0).received, b"hello world");

    // Another rate, and then none.
    world.reload(vec![per_connection(2 * rate)]);
    world.pass(Duration::from_millis(500));
    let faster = received(&world, &[pairs[0].1]) - before - now;
    assert!(faster >= rate * 8 / 10 && faster <= rate * 12 / 10, "{faster}");
    world.reload(vec![app(1)]);
    world.pass(Duration::from_millis(100));
    assert_eq!(received(&world, &[pairs[0].1]), 320 * KIB as u64, "the rest came at once");

    for (client, backend) in &pairs {
        world.close(*client);
        world.close(*backend);
    }
    world.arrive();
    let mut ends: Vec<_> = world.records().iter().map(|record| (record.reason, record.bytes)).collect();
    ends.sort_unstable();
    assert_eq!(
        ends,
        [
            ("finished", [64 * KIB as u64, 5]),
            ("finished", [64 * KIB as u64, 11]),
            ("finished", [320 * KIB as u64, 5])
        ]
    );
    world.assert_nothing_is_open();
}

#[test]
fn drain_and_end_of_the_process_reach_connections_whose_bytes_wait() {
    let mut world = start(&per_connection(16 * KIB as u64), 1);
    let (client, backend) = pairs(&mut world, 1)[0];
    world.send(client, &pattern(256 * KIB, 0));
    world.mail(&WorkerMail::Drain);
    world.pass(5 * SECOND);
    assert!(world.records().is_empty());
    world.mail(&WorkerMail::CloseNow);
    world.arrive();
    assert_eq!(world.only_end(), "ringway relay shutdown");
    assert_eq!(world.records()[0].bytes[0], received(&world, &[backend]));
    world.assert_nothing_is_open();
}
