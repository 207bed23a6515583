//! Limits of an app, over several workers, to the connection and to the moment.

use std::time::Duration;

use ringway::ConnectionId;
use ringway_proxy::model::{self, AcceptHeader, Network};

use crate::world::{World, app};

const SECOND: Duration = Duration::from_secs(1);

fn limited(limits: model::Limits) -> model::App {
    let mut app = app(1);
    app.limits = limits;
    app
}

/// Several workers, with a backend.
fn start(app: &model::App) -> World {
    let mut world = World::with(app, 3, 1_000);
    world.start_backend(0);
    world
}

fn clients(world: &mut World, count: usize) -> Vec<ConnectionId> {
    let clients: Vec<_> = (0..count).map(|_| world.client()).collect();
    world.arrive();
    clients
}

fn reasons(world: &World) -> Vec<&'static str> {
    world.records().iter().map(|record| record.reason).collect()
}

#[test]
fn app_has_no_more_connections_than_its_limit_and_takes_the_next_when_one_ends() {
    let mut world = start(&limited(model::Limits { connections: Some(3), ..model::Limits::default() }));
    let first = clients(&mut world, 5);
    assert_eq!(world.accepted(0).len(), 3);
    assert_eq!(reasons(&world), ["limit_connections"; 2]);
    let ended =
        first.iter().filter(|client| world.seen(**client).closed.is_some() || world.seen(**client).ended);
    let open: Vec<_> = first
        .iter()
        .copied()
        .filter(|client| world.seen(*client).closed.is_none() && !world.seen(*client).ended)
        .collect();
    assert_eq!((ended.count(), open.len()), (2, 3));
    world.reset(open[0]);
    world.arrive();
    clients(&mut world, 2);
    assert_eq!(world.accepted(0).len(), 4);
    for client in open {
        world.reset(client);
    }
}

#[test]
fn one_source_has_no_more_connections_than_its_limit_and_its_entry_goes_with_the_last() {
    let mut world =
        start(&limited(model::Limits { connections_per_source: Some(2), ..model::Limits::default() }));
    let first = clients(&mut world, 4);
    assert_eq!(world.accepted(0).len(), 2);
    assert_eq!(reasons(&world), ["limit_source"; 2]);
    assert_eq!(world.app.counts().sources().len(), 1);
    for client in first {
        world.reset(client);
    }
    world.arrive();
    assert!(world.app.counts().sources().is_empty());
    world.assert_nothing_is_open();
}

#[test]
fn source_is_the_one_that_a_proxy_names() {
    let mut model = limited(model::Limits { connections_per_source: Some(1), ..model::Limits::default() });
    model.proxy_protocol.accept = AcceptHeader::Required;
    model.proxy_protocol.trusted = vec![Network::parse("127.0.0.0/8").expect("a network")];
    let mut world = start(&model);
    for source in ["192.0.2.1", "192.0.2.2", "192.0.2.1"] {
        let client = world.client();
        world.send(client, format!("PROXY TCP4 {source} 198.51.100.1 5000 443\r\n").as_bytes());
        world.arrive();
    }
    assert_eq!(world.accepted(0).len(), 2);
    assert_eq!(reasons(&world), ["limit_source"]);
    assert_eq!(world.records()[0].client.to_string(), "192.0.2.1:5000");
}

#[test]
fn no_more_come_in_a_second_than_the_rate_says_after_a_bucket_of_them() {
    let mut world =
        start(&limited(model::Limits { connections_per_second: Some(10), ..model::Limits::default() }));
    clients(&mut world, 15);
    assert_eq!(world.accepted(0).len(), 10);
    assert_eq!(reasons(&world), ["limit_rate"; 5]);
    // A tenth of a second each.
    world.pass(5 * SECOND);
    clients(&mut world, 15);
    assert_eq!(world.accepted(0).len(), 20, "what was not used does not add up beyond one second");
}

#[test]
fn source_that_comes_too_often_is_refused_for_itself() {
    let mut world = start(&limited(model::Limits {
        connections_per_second_per_source: Some(2),
        ..model::Limits::default()
    }));
    clients(&mut world, 5);
    assert_eq!(world.accepted(0).len(), 2);
    assert_eq!(reasons(&world), ["limit_source_rate"; 3]);
}

#[test]
fn denied_clients_are_closed_before_a_backend_is_dialled() {
    let mut world = start(&limited(model::Limits {
        deny: vec![Network::parse("127.0.0.0/8").expect("a network")],
        ..model::Limits::default()
    }));
    clients(&mut world, 1);
    assert_eq!(world.only_end(), "ringway accept denied");
    assert!(world.accepted(0).is_empty());
    world.assert_nothing_is_open();
}

#[test]
fn full_backend_is_passed_over_and_with_all_full_the_client_is_refused() {
    for balance in [
        model::Balance::LeastConnections,
        model::Balance::RoundRobin,
        model::Balance::Random,
        model::Balance::TwoChoices,
        model::Balance::SourceHash,
        model::Balance::Maglev,
    ] {
        let mut model = app(3);
        model.balance = balance;
        model.backends[0].max_connections = Some(1);
        model.backends[1].max_connections = Some(2);
        // A backup stands in for what is down only.
        model.backends[2].backup = true;
        let mut world = World::with(&model, 3, 1_000);
        (0..3).for_each(|index| world.start_backend(index));
        let first = clients(&mut world, 5);
        let accepted = [0, 1, 2].map(|index| world.accepted(index).len());
        assert_eq!(accepted, [1, 2, 0], "{balance:?}");
        assert_eq!(reasons(&world), ["backends_full"; 2], "{balance:?}");
        for client in first {
            world.reset(client);
        }
        world.arrive();
        clients(&mut world, 3);
        assert_eq!(world.records().len(), 5, "{balance:?}: there is room again");
    }
}

#[test]
fn limit_that_a_reload_brings_counts_the_connections_that_are_open() {
    let mut model = app(1);
    let mut world = start(&model);
    let address = world.app.frontends()[0].listening().address.expect("it listens");
    let first: Vec<_> = (0..2).map(|_| world.client_of(&address)).collect();
    world.arrive();
    model.limits.connections = Some(2);
    world.reload(vec![model]);
    world.client_of(&address);
    world.arrive();
    assert_eq!(reasons(&world), ["limit_connections"]);
    for client in first {
        world.reset(client);
    }
    world.arrive();
    world.client_of(&address);
    world.arrive();
    assert_eq!(world.accepted(0).len(), 3, "there is room again");
}
