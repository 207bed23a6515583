//! Active checks: when a backend is left out and taken back, and how many are checked at once.

use std::time::Duration;

use ringway::SocketAddress;
use ringway_proxy::endpoint::{DialFailure, Health};
use ringway_proxy::model;
use ringway_proxy::prober::ProbeMail;

use crate::world::{World, app, backend};

fn checked(backends: u8) -> model::App {
    let mut model = app(backends);
    model.health.check = model::Check::Tcp;
    model
}

fn health(world: &World, index: usize) -> Health {
    world.app.endpoints().endpoints()[index].health()
}

#[test]
fn backend_that_dies_is_left_out_after_so_many_checks_and_taken_back_after_so_many() {
    let mut world = World::new(&checked(1));
    world.start_backend(0);
    world.pass(Duration::from_secs(20));
    assert_eq!(health(&world, 0), Health::Up);

    world.network.refuse(&backend(0));
    let died = world.now();
    world.until("it is left out", |world| health(world, 0) == Health::Down);
    let after = world.now().since(died);
    // Three checks, each an interval apart, moved by a tenth at most.
    assert!(after >= Duration::from_millis(3_600) && after <= Duration::from_millis(6_700), "{after:?}");
    let endpoints = world.app.endpoints();
    assert_eq!(endpoints.endpoints()[0].health_report().2, Some(DialFailure::Refused.into()));

    world.network.allow(&backend(0));
    let revived = world.now();
    world.until("it is taken back", |world| health(world, 0) == Health::Up);
    let after = world.now().since(revived);
    assert!(after >= Duration::from_millis(1_800) && after <= Duration::from_millis(4_500), "{after:?}");
}

#[test]
fn backend_that_does_not_answer_is_left_out_for_its_silence() {
    let mut world = World::new(&checked(1));
    world.start_backend(0);
    world.pass(Duration::from_secs(5));
    world.network.block(&backend(0));
    world.until("it is left out", |world| health(world, 0) == Health::Down);
    let endpoints = world.app.endpoints();
    assert_eq!(endpoints.endpoints()[0].health_report().2, Some(DialFailure::TimedOut.into()));
    world.network.allow(&backend(0));
    world.until("it is taken back", |world| health(world, 0) == Health::Up);
}

#[test]
fn backend_that_is_down_at_start_is_left_out_by_its_first_check() {
    let mut world = World::new(&checked(2));
    world.start_backend(0);
    world.pass(Duration::from_millis(500));
    assert_eq!([health(&world, 0), health(&world, 1)], [Health::Up, Health::Down]);
}

#[test]
fn ejected_backend_is_taken_back_by_the_next_good_check() {
    let mut world = World::new(&checked(1));
    world.start_backend(0);
    world.pass(Duration::from_secs(5));
    world.app.endpoints().endpoints()[0].eject(DialFailure::Refused, world.now());
    world.pass(Duration::from_millis(2_300));
    assert_eq!(health(&world, 0), Health::Up);
}

#[test]
fn checks_at_once_are_bounded_and_all_get_their_turn() {
    let mut model = checked(1);
    // All are due at once, and none is answered.
    model.health.jitter = 0.0;
    let mut world = World::new(&model);
    let addresses: Vec<SocketAddress> = (0..600u16)
        .map(|n| std::net::SocketAddr::from(([10, 2, (n >> 8) as u8, n as u8], 80)).into())
        .collect();
    addresses.iter().for_each(|address| world.network.block(address));
    world.app.resolve(&[addresses]).expect("new addresses");
    world.prober.mailer().send(ProbeMail::Endpoints { app: 0 });
    world.settle();
    let mut most = 0;
    for _ in 0..400 {
        world.pass(Duration::from_millis(10));
        most = most.max(world.prober.parts().1.connection_count());
    }
    // What was closed in this turn may still be in the table.
    assert!((200..=512).contains(&most), "{most} at once");
    assert_eq!(world.prober.handler().target_count(), 600);
    for endpoint in world.app.endpoints().endpoints() {
        assert_eq!(endpoint.health(), Health::Down, "{}", endpoint.address());
    }
}

#[test]
fn addresses_that_are_gone_are_checked_no_more() {
    let mut world = World::new(&checked(1));
    world.start_backend(0);
    world.start_backend(1);
    world.pass(Duration::from_secs(5));
    world.app.resolve(&[vec![backend(1)]]).expect("another address");
    world.prober.mailer().send(ProbeMail::Endpoints { app: 0 });
    world.pass(Duration::from_secs(1));
    let before = world.accepted(0).len();
    world.pass(Duration::from_secs(30));
    assert_eq!(world.accepted(0).len(), before);
    assert!(world.accepted(1).len() >= 10);
    assert_eq!(world.prober.handler().target_count(), 1);
}
