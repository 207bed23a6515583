//! What a change of the configuration leaves untouched, and what becomes of slots.

use std::net::SocketAddr;

use super::*;

fn address(port: u16) -> SocketAddress {
    SocketAddr::from(([127, 0, 0, 1], port)).into()
}

/// An app that listens at these ports, with a backend at each of those.
fn app(name: &str, ports: &[u16], backends: &[u16]) -> model::App {
    let frontend = |port: &u16| model::Frontend::new(format!("127.0.0.1:{port}"), address(*port));
    let backend =
        |port: &u16| model::Backend::new(format!("b{port}"), model::Target::Address(address(*port)));
    model::App {
        frontends: ports.iter().map(frontend).collect(),
        backends: backends.iter().map(backend).collect(),
        ..model::App::new(name)
    }
}

fn config(apps: Vec<model::App>) -> model::Config {
    model::Config { server: model::Server::default(), admin: None, apps, demo: false }
}

fn named<'a>(snapshot: &'a Snapshot, name: &str) -> &'a Arc<AppState> {
    snapshot.apps().find(|app| &**app.name() == name).expect("it is there")
}

#[test]
fn app_that_did_not_change_is_the_same_state_wherever_it_stands() {
    let lineage = Lineage::of_apps(vec![app("a", &[1], &[9]), app("b", &[2], &[9])]);
    let before = lineage.current();
    let after = lineage.advance(config(vec![app("b", &[2], &[9]), app("a", &[1], &[8])]), Origin::Admin);
    assert_eq!((before.version(), after.version()), (1, 2));
    assert!(Arc::ptr_eq(named(&before, "b"), named(&after, "b")));
    let changed: Vec<_> = after.changes_since(Some(&before)).map(|change| change.slot).collect();
    assert_eq!(changed, [named(&before, "a").slot()]);
    assert!(Arc::ptr_eq(named(&before, "a").core(), named(&after, "a").core()));
    assert_eq!(after.apps().map(|app| app.name().to_string()).collect::<Vec<_>>(), ["b", "a"]);
}

#[test]
fn changed_app_keeps_its_frontends_and_the_endpoints_of_its_backends() {
    let lineage = Lineage::of_apps(vec![app("a", &[1, 2], &[8, 9])]);
    let before = lineage.current();
    let mut changed = app("a", &[2, 3], &[9, 7]);
    changed.backends[0].weight = 5;
    let after = lineage.advance(config(vec![changed]), Origin::Admin);
    let (old, new) = (named(&before, "a"), named(&after, "a"));
    assert!(Arc::ptr_eq(&old.frontends()[1], &new.frontends()[0]));
    let (old_set, new_set) = (old.endpoints(), new.endpoints());
    let kept = &new_set.endpoints()[0];
    assert!(Arc::ptr_eq(&old_set.endpoints()[1], kept));
    assert_eq!((kept.weight(), kept.backend()), (5, 0));
    assert_eq!(new_set.endpoints()[1].address(), &address(7));
}

#[test]
fn unchanged_backends_are_the_same_set() {
    let lineage = Lineage::of_apps(vec![app("a", &[1], &[8])]);
    let before = lineage.current();
    let mut changed = app("a", &[1], &[8]);
    changed.connect_attempts = 1;
    let after = lineage.advance(config(vec![changed]), Origin::Signal);
    assert!(Arc::ptr_eq(&named(&before, "a").endpoints(), &named(&after, "a").endpoints()));
    assert!(Arc::ptr_eq(&named(&before, "a").frontends()[0], &named(&after, "a").frontends()[0]));
}

#[test]
fn address_that_moves_to_another_app_takes_its_socket_along() {
    let lineage = Lineage::of_apps(vec![app("a", &[1], &[9]), app("b", &[2], &[9])]);
    let before = lineage.current();
    let after = lineage.advance(config(vec![app("a", &[2], &[9]), app("c", &[1], &[9])]), Origin::Admin);
    let front = |snapshot: &Snapshot, name| Arc::clone(&named(snapshot, name).frontends()[0]);
    assert_eq!(front(&after, "a").socket_id(), front(&before, "b").socket_id());
    assert_eq!(front(&after, "c").socket_id(), front(&before, "a").socket_id());
}

#[test]
fn same_port_zero_twice_stays_two_frontends() {
    let lineage = Lineage::of_apps(vec![app("a", &[0, 0], &[9])]);
    let before = lineage.current();
    let after = lineage.advance(config(vec![app("a", &[0, 0], &[8])]), Origin::Admin);
    for (old, new) in named(&before, "a").frontends().iter().zip(named(&after, "a").frontends()) {
        assert!(Arc::ptr_eq(old, new));
    }
}

#[test]
fn slot_of_a_removed_app_is_free_once_nobody_holds_it() {
    let lineage = Lineage::of_apps(vec![app("a", &[1], &[9]), app("b", &[2], &[9])]);
    let held = Arc::clone(named(&lineage.current(), "a"));
    let slot = held.slot();
    lineage.advance(config(vec![app("b", &[2], &[9])]), Origin::Admin);
    let next = lineage.advance(config(vec![app("b", &[2], &[9]), app("c", &[1], &[9])]), Origin::Admin);
    assert_ne!(named(&next, "c").slot(), slot, "connections of a may be open still");
    let back = lineage.advance(config(vec![app("b", &[2], &[9]), app("a", &[1], &[9])]), Origin::Admin);
    assert!(Arc::ptr_eq(named(&back, "a").core(), held.core()), "it is the same app again");
    drop((held, next, back));
    lineage.advance(config(vec![app("b", &[2], &[9])]), Origin::Admin);
    let last = lineage.advance(config(vec![app("b", &[2], &[9]), app("d", &[1], &[9])]), Origin::Admin);
    assert_eq!(named(&last, "d").slot(), slot);
    assert_eq!(lineage.living().len(), 2);
}
