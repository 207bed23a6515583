//! Endpoints whose connections fail too often are left out, and come back when they may.

use std::time::Duration;

use ringway_proxy::endpoint::{DownReason, Health};
use ringway_proxy::metrics::AppCounter;
use ringway_proxy::model;

use crate::world::{World, app, backend};

fn ejecting(backends: u8, rules: model::Ejection) -> model::App {
    let mut model = app(backends);
    model.health.ejection = Some(rules);
    model
}

fn rules() -> model::Ejection {
    model::Ejection { min_connections: 4, time: Duration::from_secs(100), ..model::Ejection::default() }
}

fn health(world: &World, index: usize) -> Health {
    world.app.endpoints().endpoints()[index].health()
}

/// A client comes, and its backend ends the connection: `say` something first.
fn serve_one(world: &mut World, backends: u8, say: bool) -> u8 {
    let before: Vec<usize> = (0..backends).map(|index| world.accepted(index).len()).collect();
    let client = world.client();
    world.pass(Duration::from_millis(100));
    let index = (0..backends)
        .find(|index| world.accepted(*index).len() > before[usize::from(*index)])
        .expect("a backend was dialled");
    let served = *world.accepted(index).last().expect("it is there");
    if say {
        world.send(served, b"hello");
    }
    world.close(served);
    world.pass(Duration::from_millis(100));
    world.close(client);
    world.pass(Duration::from_millis(100));
    index
}

#[test]
fn dials_that_fail_leave_an_endpoint_out_without_checks_until_its_time_is_over() {
    let mut world = World::new(&ejecting(2, rules()));
    world.start_backend(0);
    world.start_backend(1);
    world.network.refuse(&backend(0));
    let mut failures = 0;
    while health(&world, 0) == Health::Up {
        assert_eq!(serve_one(&mut world, 2, true), 1);
        failures = world.app.endpoints().endpoints()[0].connect_failures();
    }
    assert_eq!(failures, 4);
    assert_eq!(world.app.counters().total(AppCounter::OutlierEjections), 1);
    let out = world.now();
    for _ in 0..10 {
        assert_eq!(serve_one(&mut world, 2, true), 1);
    }
    assert_eq!(world.app.endpoints().endpoints()[0].connect_failures(), 4, "it is not dialled");
    world.network.allow(&backend(0));
    world.until("its time is over", |world| health(world, 0) == Health::Up);
    let after = world.now().since(out);
    assert!(after >= Duration::from_secs(99) && after <= Duration::from_secs(101), "{after:?}");
    assert!((0..4).any(|_| serve_one(&mut world, 2, true) == 0));
    world.assert_nothing_is_open();
}

#[test]
fn a_backend_that_closes_before_it_says_anything_is_left_out_if_that_counts() {
    for early_close in [true, false] {
        let mut world = World::new(&ejecting(2, model::Ejection { early_close, ..rules() }));
        world.start_backend(0);
        world.start_backend(1);
        for _ in 0..20 {
            // Backend 1 is well and 0 is not.
            let before = world.accepted(0).len();
            let client = world.client();
            world.pass(Duration::from_millis(100));
            let (index, say) = if world.accepted(0).len() > before { (0, false) } else { (1, true) };
            let served = *world.accepted(index).last().expect("it is there");
            if say {
                world.send(served, b"hello");
            }
            world.close(served);
            world.pass(Duration::from_millis(100));
            world.close(client);
            world.pass(Duration::from_millis(100));
        }
        let wanted = if early_close { [Health::Ejected, Health::Up] } else { [Health::Up; 2] };
        assert_eq!([health(&world, 0), health(&world, 1)], wanted);
        assert_eq!(world.accepted(0).len(), if early_close { 4 } else { 10 });
        world.assert_nothing_is_open();
    }
}

#[test]
fn a_client_that_ends_first_is_not_held_against_the_backend() {
    let mut world = World::new(&ejecting(2, model::Ejection { early_close: true, ..rules() }));
    world.start_backend(0);
    world.start_backend(1);
    for _ in 0..20 {
        let client = world.client();
        world.pass(Duration::from_millis(100));
        world.close(client);
        world.pass(Duration::from_millis(100));
        for index in 0..2 {
            if let Some(served) = world.accepted(index).last().copied() {
                world.close(served);
            }
        }
        world.pass(Duration::from_millis(100));
    }
    assert_eq!([health(&world, 0), health(&world, 1)], [Health::Up; 2]);
    world.assert_nothing_is_open();
}

#[test]
fn when_all_fail_only_the_share_is_left_out() {
    let mut world = World::new(&ejecting(3, model::Ejection { early_close: true, ..rules() }));
    (0..3).for_each(|index| world.start_backend(index));
    for _ in 0..60 {
        serve_one(&mut world, 3, false);
    }
    let out = (0..3).filter(|index| health(&world, *index) == Health::Ejected).count();
    assert_eq!(out, 1, "half of three, rounded down");
    assert!(world.app.counters().total(AppCounter::OutliersSpared) > 0);
}

#[test]
fn good_checks_take_it_back_at_once_or_later_or_never_as_told() {
    use model::EjectedUntil::{Both, Check, Time};
    for (until, least, most) in [(Check, 0, 5), (Time, 99, 101), (Both, 99, 105)] {
        let mut model = ejecting(2, model::Ejection { until, early_close: true, ..rules() });
        model.health.check = model::Check::Tcp;
        let mut world = World::new(&model);
        world.start_backend(0);
        world.start_backend(1);
        world.pass(Duration::from_secs(5));
        while health(&world, 0) == Health::Up && health(&world, 1) == Health::Up {
            let client = world.client();
            let before: Vec<_> = (0..2).map(|index| world.accepted(index).len()).collect();
            world.pass(Duration::from_millis(100));
            for index in 0..2 {
                for served in world.accepted(index).split_off(before[usize::from(index)]) {
                    world.close(served);
                }
            }
            world.pass(Duration::from_millis(100));
            world.close(client);
        }
        let endpoints = world.app.endpoints();
        let out = endpoints.endpoints().iter().position(|endpoint| endpoint.health() != Health::Up);
        let endpoint = &endpoints.endpoints()[out.expect("one is out")];
        let (health, since, reason) = endpoint.health_report();
        assert_eq!((health, reason), (Health::Ejected, Some(DownReason::Failures)));
        world.until("it is back", |_| endpoint.health() == Health::Up);
        let after = world.now().since(since).as_secs();
        assert!((least..=most).contains(&after), "{until:?}: after {after} s");
    }
}

#[test]
fn an_endpoint_that_is_out_stays_out_over_a_reload_and_comes_back_in_time() {
    let model = ejecting(2, rules());
    let mut world = World::new(&model);
    world.start_backend(1);
    while health(&world, 0) == Health::Up {
        serve_one(&mut world, 2, true);
    }
    let mut other = model.clone();
    other.connect_attempts = 2;
    world.reload(vec![other]);
    assert_eq!(health(&world, 0), Health::Ejected);
    world.start_backend(0);
    world.until("its time is over", |world| health(world, 0) == Health::Up);
    assert!((0..4).any(|_| serve_one(&mut world, 2, true) == 0));
}
