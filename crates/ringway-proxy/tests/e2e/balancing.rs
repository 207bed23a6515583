//! Methods of balancing, slow start and the panic threshold, seen from clients.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use testkit::backend::{Backend, Behaviour};
use testkit::{client, free_address};

use crate::support::{Engine, NO_CHECKS, QUICK_CHECKS, app, start, status, wait_health};

on_both_engines!(
    every_method_spreads_clients_and_passes_over_a_backend_that_is_down,
    a_client_keeps_its_backend_and_loses_it_only_with_the_backend,
    a_backend_that_came_up_starts_slowly,
    below_the_panic_threshold_all_backends_are_used,
);

const METHODS: [&str; 6] =
    ["least-connections", "round-robin", "random", "two-choices", "source-hash", "maglev"];

fn named(name: &str) -> Backend {
    Backend::start(Behaviour::Named(name.into()))
}

/// Which backend a client at `ip` gets.
fn visit(ip: IpAddr, frontend: SocketAddr) -> String {
    let mut stream = client::connect_from(ip, frontend).expect("the frontend listens");
    client::read_line(&mut stream).expect("a backend answers")
}

fn client_ip(n: u8) -> IpAddr {
    Ipv4Addr::new(127, 0, 9, n).into()
}

/// How many of 40 clients get each backend.
fn visits(frontend: SocketAddr) -> BTreeMap<String, usize> {
    let mut visits = BTreeMap::new();
    for n in 1..=40 {
        *visits.entry(visit(client_ip(n), frontend)).or_insert(0) += 1;
    }
    visits
}

fn every_method_spreads_clients_and_passes_over_a_backend_that_is_down(engine: Engine) {
    for method in METHODS {
        let (one, two, three) = (named("one"), named("two"), named("three"));
        let frontend = free_address();
        let more = format!("balance = \"{method}\"\n{QUICK_CHECKS}");
        let backends = [one.address(), two.address(), three.address()];
        let ringway = start(engine, &app(frontend, &backends, &more));

        // Each of three has a third; that one gets none of 40 by chance happens once in ten million.
        assert_eq!(visits(frontend).len(), 3, "{method}");
        let killed = two.address();
        two.kill();
        wait_health(&ringway, killed, "down");
        let visits = visits(frontend);
        assert!(visits.len() == 2 && !visits.contains_key("two"), "{method}: {visits:?}");
    }
}

fn a_client_keeps_its_backend_and_loses_it_only_with_the_backend(engine: Engine) {
    for method in ["source-hash", "maglev"] {
        let backends: Vec<_> = ["a", "b", "c", "d"].map(named).into();
        let addresses: Vec<_> = backends.iter().map(Backend::address).collect();
        let frontend = free_address();
        let more = format!("balance = \"{method}\"\n{QUICK_CHECKS}");
        let ringway = start(engine, &app(frontend, &addresses, &more));
        let choices = || -> Vec<String> { (1..=40).map(|n| visit(client_ip(n), frontend)).collect() };

        let before = choices();
        assert_eq!(before, choices(), "{method}");
        let mut backends = backends.into_iter();
        backends.next().expect("there are four").kill();
        wait_health(&ringway, addresses[0], "down");
        for (before, after) in before.iter().zip(choices()) {
            assert!(*before == after || before == "a", "{method}: {before} is up, and {after} was chosen");
        }
    }
}

fn a_backend_that_came_up_starts_slowly(engine: Engine) {
    let (old, new) = (named("old"), named("new"));
    let address = new.address();
    let frontend = free_address();
    let more = format!("balance = \"round-robin\"\nslow_start = \"1h\"\n{QUICK_CHECKS}");
    let ringway = start(engine, &app(frontend, &[old.address(), address], &more));
    assert_eq!(visits(frontend)["new"], 20, "what is there at the start has its whole share");

    new.kill();
    wait_health(&ringway, address, "down");
    let _new = Backend::start_at(address, Behaviour::Named("new".into()));
    wait_health(&ringway, address, "up");

    let share = visits(frontend).get("new").copied().unwrap_or(0);
    assert!(share < 10, "{share} of 40 in the first moments of an hour");
}

fn below_the_panic_threshold_all_backends_are_used(engine: Engine) {
    let (one, two) = (named("one"), named("two"));
    let nobody = [free_address(), free_address()];
    let frontend = free_address();
    let more = format!("{QUICK_CHECKS}panic_threshold = 0.6\n");
    let backends = [one.address(), two.address(), nobody[0], nobody[1]];
    let ringway = start(engine, &app(frontend, &backends, &more));
    nobody.into_iter().for_each(|address| wait_health(&ringway, address, "down"));

    assert_eq!(ringway.metric("ringway_app_panic", "") as usize, 1);
    assert_eq!(status(&ringway)["apps"][0]["panic"], true);
    let visits = visits(frontend);
    assert_eq!(visits.values().sum::<usize>(), 40, "a dial that fails goes on to another backend");
    assert!(ringway.metric("ringway_panic_choices_total", "") >= 40.0);
    assert!(ringway.metric("ringway_connect_failures_total", "") >= 1.0);
}

#[test]
fn without_checks_backends_are_chosen_at_random_all_the_same() {
    let (one, two) = (named("one"), named("two"));
    let frontend = free_address();
    let more = format!("balance = \"random\"\n{NO_CHECKS}");
    let _ringway = start(Engine::Epoll, &app(frontend, &[one.address(), two.address()], &more));
    assert_eq!(visits(frontend).len(), 2);
}
