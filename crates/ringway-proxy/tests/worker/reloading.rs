//! Other configurations while connections are open: what did not change is not touched, what did goes over to the new.

use std::net::SocketAddr;
use std::time::Duration;

use ringway::SocketAddress;
use ringway_proxy::metrics::AppCounter;
use ringway_proxy::model;

use crate::world::{World, app, backend};

fn front(port: u16) -> SocketAddress {
    SocketAddr::from(([10, 1, 0, 1], port)).into()
}

/// An app of this name that listens at the port, with backend `index` alone.
fn named(name: &str, port: u16, index: u8) -> model::App {
    let mut app = app(1);
    app.name = name.into();
    app.frontends = vec![model::Frontend::new(format!("front-{port}"), front(port))];
    app.backends[0] = model::Backend::new(format!("backend-{index}"), model::Target::Address(backend(index)));
    app
}

#[test]
fn connections_go_on_and_new_ones_take_the_new_backends() {
    let mut world = World::with(&named("a", 1000, 0), 2, 1_000);
    world.start_backend(0);
    world.start_backend(1);
    let old = world.client_of(&front(1000));
    world.arrive();
    world.reload(vec![named("a", 1000, 1)]);
    let new = world.client_of(&front(1000));
    world.send(old, b"old");
    world.arrive();
    world.send(new, b"new");
    world.arrive();
    let (first, second) = (world.accepted(0), world.accepted(1));
    assert_eq!((first.len(), second.len()), (1, 1));
    assert_eq!(world.seen(first[0]).received, b"old");
    assert_eq!(world.seen(second[0]).received, b"new");
    for connection in [old, new, first[0], second[0]] {
        world.close(connection);
    }
    world.arrive();
    assert_eq!(world.records().len(), 2);
    assert_eq!(world.app.counters().total(AppCounter::ConnectionsAccepted), 2);
    world.assert_nothing_is_open();
}

#[test]
fn app_that_did_not_change_keeps_its_listeners_and_the_others_come_and_go() {
    let mut world = World::new(&named("a", 1000, 0));
    world.start_backend(0);
    world.start_backend(1);
    let before = world.lineage.current();
    world.reload(vec![named("a", 1000, 0), named("b", 2000, 1)]);
    assert!(std::sync::Arc::ptr_eq(before.app(0).expect("a"), world.lineage.current().app(0).expect("a")));
    let second = world.client_of(&front(2000));
    world.arrive();
    assert_eq!(world.accepted(1).len(), 1);
    world.reload(vec![named("a", 1000, 0)]);
    world.arrive();
    let refused = world.client_of(&front(2000));
    world.send(second, b"still served");
    world.arrive();
    assert_eq!(world.seen(refused).closed, Some("not connected"));
    assert_eq!(world.seen(world.accepted(1)[0]).received, b"still served");
    assert_eq!(world.lineage.living().len(), 2, "b has a connection still");
    world.close(second);
    world.close(world.accepted(1)[0]);
    world.arrive();
    drop(before);
    assert_eq!(world.lineage.living().len(), 1);
    let first = world.client_of(&front(1000));
    world.arrive();
    assert_eq!(world.accepted(0).len(), 1);
    world.close(first);
    world.close(world.accepted(0)[0]);
    world.arrive();
    world.assert_nothing_is_open();
}

#[test]
fn clients_in_the_queue_of_an_address_that_moves_are_served_by_its_new_app() {
    // Two places: both are taken, so the listeners rest and the others wait in the kernel.
    let mut world = World::with(&named("a", 1000, 0), 2, 2);
    world.start_backend(0);
    world.start_backend(1);
    let holders: Vec<_> = (0..2).map(|_| world.client_of(&front(1000))).collect();
    world.arrive();
    let waiting: Vec<_> = (0..20).map(|_| world.client_of(&front(1000))).collect();
    world.arrive();
    world.reload(vec![named("b", 1000, 1)]);
    world.arrive();
    holders.iter().for_each(|client| world.close(*client));
    for connection in world.accepted(0) {
        world.close(connection);
    }
    for served in 0..waiting.len() {
        world.until("the next one is served", |world| {
            world.accepted(1).len() + world.accepted(0).len() > served + 2
        });
        let latest = [world.accepted(0), world.accepted(1)].concat();
        latest.iter().for_each(|connection| world.close(*connection));
        world.arrive();
        let ended: Vec<_> = waiting.iter().copied().filter(|client| world.seen(*client).ended).collect();
        ended.iter().for_each(|client| world.close(*client));
    }
    world.pass(Duration::from_secs(5));
    assert!(waiting.iter().all(|client| world.seen(*client).closed == Some("closed")), "nobody was reset");
    // Those that were accepted before the move, and waited for a place, are the old app's.
    assert!(world.accepted(1).len() >= 16, "{}", world.accepted(1).len());
    assert_eq!(world.records().len(), 22);
    world.assert_nothing_is_open();
}

#[test]
fn removed_frontend_is_accepted_empty_by_its_last_configuration() {
    let mut world = World::with(&named("a", 1000, 0), 1, 1);
    world.start_backend(0);
    let holder = world.client_of(&front(1000));
    world.arrive();
    let waiting: Vec<_> = (0..10).map(|_| world.client_of(&front(1000))).collect();
    world.arrive();
    world.reload(vec![named("b", 2000, 0)]);
    world.close(holder);
    for _ in 0..=waiting.len() {
        world.accepted(0).iter().for_each(|connection| world.close(*connection));
        world.arrive();
        let ended: Vec<_> = waiting.iter().copied().filter(|client| world.seen(*client).ended).collect();
        ended.iter().for_each(|client| world.close(*client));
        world.arrive();
    }
    assert!(waiting.iter().all(|client| world.seen(*client).closed == Some("closed")), "nobody was reset");
    assert_eq!(world.accepted(0).len(), 11);
    let late = world.client_of(&front(1000));
    world.arrive();
    assert_eq!(world.seen(late).closed, Some("not connected"));
    world.assert_nothing_is_open();
}

#[test]
fn another_balance_and_other_limits_hold_from_now_on() {
    let mut model = app(2);
    model.balance = model::Balance::RoundRobin;
    let mut world = World::new(&model);
    world.start_backend(0);
    world.start_backend(1);
    let address = world.app.frontends()[0].listening().address.expect("it listens");
    model.balance = model::Balance::LeastConnections;
    model.timeouts.idle = Some(Duration::from_secs(5));
    model.backends[1].weight = 0;
    world.reload(vec![model]);
    assert_eq!(world.app.frontends()[0].listening().address, Some(address), "the port is the same");
    for _ in 0..4 {
        world.client();
    }
    world.arrive();
    assert_eq!((world.accepted(0).len(), world.accepted(1).len()), (4, 0));
    world.pass(Duration::from_secs(7));
    let reasons: Vec<_> = world.records().iter().map(|record| record.reason).collect();
    assert_eq!(reasons, ["idle"; 4]);
    world.assert_nothing_is_open();
}

#[test]
fn checks_begin_change_and_end_with_the_configuration() {
    let mut world = World::new(&named("a", 1000, 0));
    world.start_backend(0);
    world.pass(Duration::from_secs(10));
    assert_eq!(world.accepted(0).len(), 0);
    let mut checked = named("a", 1000, 0);
    checked.health.check = model::Check::Tcp;
    world.reload(vec![checked.clone()]);
    world.pass(Duration::from_secs(10));
    assert!(world.accepted(0).len() >= 4);
    world.network.refuse(&backend(0));
    world.pass(Duration::from_secs(10));
    assert!(!world.app.endpoints().endpoints()[0].is_available());
    world.reload(vec![named("a", 1000, 0)]);
    assert!(world.app.endpoints().endpoints()[0].is_available(), "nobody would ever take it back");
    assert_eq!(world.prober.handler().target_count(), 0);
    world.reload(vec![checked]);
    assert_eq!(world.prober.handler().target_count(), 1);
    world.reload(vec![named("b", 1000, 0)]);
    assert_eq!(world.prober.handler().target_count(), 0);
}

#[test]
fn two_hundred_reloads_leave_nothing_behind() {
    let mut world = World::with(&named("a", 1000, 0), 2, 1_000);
    world.start_backend(0);
    world.start_backend(1);
    for round in 0..200u16 {
        let client = world.client_of(&front(1000 + (round % 2) * 1000));
        world.pass(Duration::from_millis(300));
        let port = 1000 + ((round + 1) % 2) * 1000;
        world.reload(vec![named(if round % 3 == 0 { "a" } else { "b" }, port, (round % 2) as u8)]);
        world.close(client);
        for connection in [world.accepted(0), world.accepted(1)].concat() {
            world.close(connection);
        }
        world.arrive();
    }
    assert_eq!(world.records().len(), 200);
    // The world itself holds the first state of "a".
    assert!(world.lineage.living().iter().all(|app| app.slot() < 2), "slots are used again");
    world.assert_nothing_is_open();
}
