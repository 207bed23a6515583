//! Choice, retries, clients that leave, and the end of a worker.

use std::time::Duration;

use ringway::EventHandler;
use ringway_proxy::endpoint::Health;
use ringway_proxy::model;
use ringway_proxy::worker::WorkerMail;

use crate::world::{World, app, backend};

#[test]
fn refused_dial_goes_elsewhere_and_leaves_one_record() {
    let mut model = app(2);
    model.health.check = model::Check::Tcp;
    model.health.interval = Duration::from_secs(1_000);
    let mut world = World::new(&model);
    world.start_backend(0);
    world.start_backend(1);
    // The first checks are good; from then on backend 0 refuses.
    world.pass(Duration::from_secs(200));
    let checked = [world.accepted(0).len(), world.accepted(1).len()];
    assert_eq!(checked, [1, 1]);
    world.network.refuse(&backend(0));
    for _ in 0..2 {
        let client = world.client();
        world.arrive();
        world.close(client);
        let served = *world.accepted(1).last().expect("one was served");
        world.close(served);
        world.arrive();
    }
    let records = world.records();
    assert_eq!(records.len(), 2);
    assert!(records.iter().all(|record| record.backend.as_deref() == Some("backend-1")), "{records:?}");
    let endpoints = world.app.endpoints();
    let (left_out, serving) = (&endpoints.endpoints()[0], &endpoints.endpoints()[1]);
    assert_eq!((left_out.health(), left_out.connect_failures()), (Health::Ejected, 1));
    assert_eq!((serving.health(), serving.total()), (Health::Up, 2));
    world.assert_nothing_is_open();
}

#[test]
fn without_a_backend_the_client_is_closed_at_once() {
    let mut world = World::new(&app(0));
    let client = world.client();
    world.arrive();
    assert_eq!(world.only_end(), "ringway accept no_backend");
    assert!(world.seen(client).ended || world.seen(client).closed.is_some());
    assert!(world.records()[0].backend.is_none());
    world.assert_nothing_is_open();
}

#[test]
fn attempts_are_bounded_and_the_last_failure_is_the_reason() {
    let mut model = app(5);
    model.connect_attempts = 2;
    let mut world = World::new(&model);
    world.client();
    world.arrive();
    assert_eq!(world.only_end(), "backend connect refused");
    let endpoints = world.app.endpoints();
    let dials: u64 = endpoints.endpoints().iter().map(|endpoint| endpoint.connect_failures()).sum();
    assert_eq!(dials, 2);
    world.assert_nothing_is_open();
}

#[test]
fn client_that_leaves_cancels_the_dial() {
    for reset in [true, false] {
        let mut world = World::new(&app(1));
        world.start_backend(0);
        world.network.block(&backend(0));
        let client = world.client();
        world.pass(Duration::from_millis(500));
        match reset {
            true => world.reset(client),
            false => world.close(client),
        }
        world.pass(Duration::from_millis(500));
        assert_eq!(world.only_end(), "client connect left");
        world.assert_nothing_is_open();
        world.network.allow(&backend(0));
        world.pass(Duration::from_secs(60));
        assert!(world.accepted(0).iter().all(|id| world.seen(*id).received.is_empty()));
    }
}

#[test]
fn client_that_sends_and_finishes_while_its_backend_is_dialled_is_served() {
    let mut world = World::new(&app(1));
    world.start_backend(0);
    world.network.block(&backend(0));
    let client = world.client();
    world.pass(Duration::from_millis(200));
    world.send(client, b"request");
    world.shut(client);
    world.pass(Duration::from_secs(2));
    world.network.allow(&backend(0));
    world.pass(Duration::from_secs(2));
    let served = world.accepted(0)[0];
    assert_eq!(world.seen(served).received, b"request");
    world.send(served, b"reply");
    world.close(served);
    world.arrive();
    assert_eq!(world.seen(client).received, b"reply");
    assert_eq!(world.only_end(), "client relay finished");
    assert_eq!(world.records()[0].bytes, [7, 5]);
    world.assert_nothing_is_open();
}

#[test]
fn reset_of_either_side_is_named_and_counted_once() {
    for of_client in [true, false] {
        let mut world = World::new(&app(1));
        world.start_backend(0);
        let client = world.client();
        world.arrive();
        let served = world.accepted(0)[0];
        world.reset(if of_client { client } else { served });
        world.arrive();
        let by = if of_client { "client" } else { "backend" };
        assert_eq!(world.only_end(), format!("{by} relay reset"));
        let other = if of_client { served } else { client };
        assert_eq!(world.seen(other).closed, Some("reset"));
        world.assert_nothing_is_open();
    }
}

#[test]
fn drained_worker_ends_when_its_last_connection_does() {
    let mut world = World::with(&app(1), 2, 1_000);
    world.start_backend(0);
    let client = world.client();
    world.arrive();
    world.mail(&WorkerMail::Drain);
    world.pass(Duration::from_secs(5));
    let finished =
        |world: &World| world.workers.iter().filter(|worker| worker.handler().is_finished()).count();
    assert_eq!(finished(&world), 1, "the other one has a connection still");
    world.send(client, b"still served");
    world.arrive();
    let served = world.accepted(0)[0];
    assert_eq!(world.seen(served).received, b"still served");
    world.close(client);
    world.close(served);
    world.arrive();
    assert_eq!(finished(&world), 2);
    assert!(world.workers.iter().all(|worker| worker.handler().summary().cut == 0));
    world.assert_nothing_is_open();
}

#[test]
fn worker_that_closes_now_cuts_connections_in_every_phase_and_says_how_many() {
    let mut world = World::with(&app(2), 1, 3);
    world.start_backend(0);
    world.start_backend(1);
    world.client();
    world.arrive();
    world.network.block(&backend(1));
    // Round robin: the second is being dialled for, the third is relayed, the fourth waits in the listener's queue.
    for _ in 0..3 {
        world.client();
        world.pass(Duration::from_millis(100));
    }
    world.mail(&WorkerMail::CloseNow);
    world.arrive();
    let handler = world.workers[0].handler();
    assert!(handler.is_finished());
    let phases: Vec<_> = world.records().iter().map(|record| (record.reason, record.phase)).collect();
    assert_eq!(handler.summary().cut as usize, phases.len());
    assert!(phases.iter().all(|(reason, _)| *reason == "shutdown"), "{phases:?}");
    assert_eq!(phases.iter().filter(|(_, phase)| *phase == "relay").count(), 2, "{phases:?}");
    assert_eq!(phases.iter().filter(|(_, phase)| *phase == "connect").count(), 1, "{phases:?}");
    assert_eq!(phases.iter().filter(|(_, phase)| *phase == "accept").count(), 1, "{phases:?}");
    world.assert_nothing_is_open();
}

#[test]
fn connection_to_an_address_that_is_gone_from_the_set_lives_on() {
    let mut world = World::new(&app(1));
    world.start_backend(0);
    world.start_backend(1);
    let client = world.client();
    world.arrive();
    let before = world.app.endpoints();
    world.app.resolve(&[vec![backend(1)]]).expect("another address");
    world.mail(&WorkerMail::Endpoints { app: 0 });
    let second = world.client();
    world.arrive();
    world.send(client, b"old");
    world.send(second, b"new");
    world.arrive();
    let (old, new) = (world.accepted(0), world.accepted(1));
    assert_eq!((old.len(), new.len()), (1, 1));
    assert_eq!(world.seen(old[0]).received, b"old");
    assert_eq!(world.seen(new[0]).received, b"new");
    assert_eq!(before.endpoints()[0].active().get(), 1);
    for connection in [client, second, old[0], new[0]] {
        world.close(connection);
    }
    world.arrive();
    assert_eq!(before.endpoints()[0].active().get(), 0);
    let mut endpoints: Vec<_> = world.records().into_iter().map(|record| record.endpoint).collect();
    endpoints.sort();
    assert_eq!(endpoints, [Some(backend(0)), Some(backend(1))]);
    world.assert_nothing_is_open();
}
