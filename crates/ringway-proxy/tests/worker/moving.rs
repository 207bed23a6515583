//! Connections that go from one worker to another, in whatever they do: nobody notices, and everything is counted once.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use ringway::ConnectionId;
use ringway_proxy::model;
use ringway_proxy::worker::{Arrivals, Parcel, TakeOut, Taken, Which, WorkerMail};

use crate::routing::{hello, named, passthrough, routed, speaks};
use crate::world::{World, app, backend};

const ANY_IDLE: Which = Which::Idle { count_max: 100, silence: Duration::ZERO };

impl World {
    fn two_workers(app: &model::App) -> Self {
        Self::with(app, 2, 1_000)
    }

    /// The worker that has connections, where only one has.
    fn holder(&self) -> usize {
        let counts = self.counts();
        counts.iter().position(|count| *count > 0).unwrap_or_else(|| panic!("nobody holds any: {counts:?}"))
    }

    fn counts(&self) -> Vec<usize> {
        self.workers.iter().map(|worker| worker.handler().connection_count()).collect()
    }

    fn ask(&self, from: usize, to: usize, which: Which) {
        let request = TakeOut::to_worker(which, self.workers[to].mailer(), ());
        self.workers[from].mailer().send(WorkerMail::TakeOut(request));
    }

    /// What one worker has goes to the other.
    fn switch(&mut self, which: Which) {
        let from = self.holder();
        let count = self.counts()[from];
        self.ask(from, 1 - from, which);
        self.settle();
        assert_eq!((self.counts()[from], self.counts()[1 - from]), (0, count));
    }
}

/// A client that is relayed, with its end at the backend.
fn relayed(world: &mut World) -> (ConnectionId, ConnectionId) {
    let client = world.client();
    world.arrive();
    (client, *world.accepted(0).last().expect("it was dialled"))
}

#[test]
fn relayed_connection_goes_on_in_another_worker_and_is_logged_once_as_what_it_always_was() {
    let mut world = World::two_workers(&app(1));
    world.start_backend(0);
    let (client, served) = relayed(&mut world);
    world.send(client, b"one ");
    world.send(served, b"eins ");
    world.arrive();
    let accepted_by = world.holder();
    for _ in 0..5 {
        world.switch(ANY_IDLE);
        world.send(client, b"two ");
        world.send(served, b"zwei ");
        world.arrive();
    }
    assert_eq!(world.app.active().get(), 1);
    assert_eq!(world.app.endpoints().endpoints()[0].active().get(), 1);
    assert_eq!(world.admission.open(), 1);
    world.close(client);
    world.arrive();
    world.close(served);
    world.arrive();
    assert_eq!(world.seen(served).received, b"one two two two two two ");
    assert_eq!(world.seen(client).received, b"eins zwei zwei zwei zwei zwei ");
    assert_eq!(world.only_end(), "client relay finished");
    let record = &world.records()[0];
    assert_eq!((record.bytes, record.connection), ([24, 30], accepted_by as u64));
    assert_eq!(record.worker as usize, 1 - accepted_by, "it ended elsewhere");
    assert!(record.total >= Duration::from_secs(8) && record.connect.is_some(), "{record:?}");
    assert_eq!(world.app.endpoints().endpoints()[0].total(), 1);
    world.assert_nothing_is_open();
}

#[test]
fn half_closed_connection_keeps_which_side_ended_first_and_the_time_that_it_has_left() {
    for client_first in [true, false] {
        let mut world = World::two_workers(&app(1));
        world.start_backend(0);
        let (client, served) = relayed(&mut world);
        let (first, second) = if client_first { (client, served) } else { (served, client) };
        world.shut(first);
        world.arrive();
        world.switch(ANY_IDLE);
        world.send(second, b"answer");
        world.arrive();
        assert_eq!(world.seen(first).received, b"answer");
        world.switch(ANY_IDLE);
        world.shut(second);
        world.arrive();
        let initiator = if client_first { "client" } else { "backend" };
        assert_eq!(world.only_end(), format!("{initiator} relay finished"));
        world.assert_nothing_is_open();
    }
    // The limit of a half-close is ten seconds without a byte, the idle limit sixty.
    for (half_closes, limit, reason) in [(true, 10, "half_close"), (false, 60, "idle")] {
        let mut world = World::two_workers(&app(1));
        world.start_backend(0);
        let (client, served) = relayed(&mut world);
        world.send(served, b"last");
        if half_closes {
            world.shut(client);
        }
        world.pass(Duration::from_secs(limit - 2));
        world.switch(ANY_IDLE);
        assert!(world.records().is_empty());
        world.pass(Duration::from_secs(3));
        assert_eq!(world.only_end(), format!("ringway relay {reason}"));
        world.assert_nothing_is_open();
    }
}

#[test]
fn what_waits_in_a_relay_travels_along() {
    for bandwidth in [None, Some(500_000)] {
        let mut model = app(1);
        model.limits.bandwidth_per_connection = bandwidth;
        let mut world = World::two_workers(&model);
        world.start_backend(0);
        let (client, served) = relayed(&mut world);
        let begin = world.now();
        let there: Vec<u8> = (0..3_000_000_u32).map(|n| (n % 251) as u8).collect();
        let back: Vec<u8> = (0..2_000_000_u32).map(|n| (n % 241) as u8).collect();
        for (part, other) in there.chunks(300_000).zip(back.chunks(200_000)) {
            world.send(client, part);
            world.send(served, other);
            // In the middle of it.
            world.pass(Duration::from_millis(1));
            let from = world.holder();
            world.ask(from, 1 - from, ANY_IDLE);
        }
        world.shut(client);
        world.shut(served);
        world.until("the end", |world| !world.records().is_empty());
        world.arrive();
        assert!(world.seen(served).received == there && world.seen(client).received == back);
        assert_eq!(world.records()[0].bytes, [3_000_000, 2_000_000]);
        let took = world.now().since(begin);
        assert!(bandwidth.is_none() || took > Duration::from_secs(5), "{took:?}");
        world.assert_nothing_is_open();
    }
}

#[test]
fn bandwidth_that_begins_or_ends_while_a_connection_moves_loses_nothing() {
    let mut world = World::two_workers(&app(1));
    world.start_backend(0);
    let (client, served) = relayed(&mut world);
    let mut limited = app(1);
    limited.limits.bandwidth = Some(200_000);
    let payload: Vec<u8> = (0..600_000_u32).map(|n| (n % 251) as u8).collect();
    for (round, part) in payload.chunks(100_000).enumerate() {
        world.send(client, part);
        world.pass(Duration::from_millis(5));
        let from = world.holder();
        world.ask(from, 1 - from, ANY_IDLE);
        world.reload(vec![if round % 2 == 0 { limited.clone() } else { app(1) }]);
    }
    world.shut(client);
    world.pass(Duration::from_secs(8));
    assert!(world.seen(served).received == payload);
    world.close(served);
    world.arrive();
    assert_eq!(world.only_end(), "client relay finished");
    assert_eq!(world.records()[0].bytes, [600_000, 0]);
    world.assert_nothing_is_open();
}

#[test]
fn connection_that_is_dialled_is_dialled_again_and_its_place_is_taken_once() {
    let mut model = app(1);
    model.backends[0].max_connections = Some(1);
    model.limits.connections_per_source = Some(1);
    let mut world = World::two_workers(&model);
    world.start_backend(0);
    world.network.block(&backend(0));
    let client = world.client();
    world.send(client, b"hello");
    world.pass(Duration::from_secs(2));
    world.switch(Which::All);
    assert_eq!(world.app.endpoints().endpoints()[0].active().get(), 1, "one dial, not two");
    world.network.allow(&backend(0));
    world.pass(Duration::from_secs(2));
    let served = *world.accepted(0).last().expect("it was dialled");
    assert_eq!(world.seen(served).received, b"hello");
    assert_eq!((world.app.counts().open().get(), world.app.counts().sources().len()), (1, 1));
    world.switch(Which::All);
    world.close(client);
    world.close(served);
    world.arrive();
    let record = &world.records()[0];
    assert!(record.connect.is_some_and(|connect| connect > Duration::from_secs(2)), "{record:?}");
    assert!(record.queue < Duration::from_secs(1), "the first dial was at once: {record:?}");
    assert!(world.app.counts().sources().is_empty());
    world.assert_nothing_is_open();
}

#[test]
fn clients_that_wait_for_room_keep_their_order_though_they_move() {
    let mut model = app(1);
    model.backends[0].max_connections = Some(1);
    model.limits.queue = Some(10);
    model.limits.queue_timeout = Duration::from_secs(300);
    let mut world = World::two_workers(&model);
    world.start_backend(0);
    let (holder, served) = relayed(&mut world);
    let waiting: Vec<ConnectionId> = (0..4_u8)
        .map(|index| {
            let client = world.client();
            world.send(client, &[index]);
            world.arrive();
            client
        })
        .collect();
    for (from, to) in [(0, 1), (1, 0), (0, 1)] {
        world.ask(from, to, Which::All);
        world.settle();
        assert_eq!((world.counts()[from], world.app.queue().waiting()), (0, 4));
    }
    world.close(holder);
    // Its call and a move meet.
    world.close(served);
    world.ask(1, 0, Which::All);
    world.arrive();
    for (index, client) in (0..).zip(waiting) {
        let served = *world.accepted(0).last().expect("it was its turn");
        assert_eq!(world.seen(served).received, [index]);
        assert_eq!(world.app.endpoints().endpoints()[0].active().get(), 1);
        let from = world.holder();
        world.ask(from, 1 - from, Which::All);
        world.close(client);
        world.close(served);
        world.arrive();
    }
    assert_eq!((world.app.queue().waiting(), world.records().len()), (0, 5));
    world.assert_nothing_is_open();
}

#[test]
fn header_is_peeked_at_again_and_the_address_in_it_travels() {
    let mut model = app(1);
    model.proxy_protocol.accept = model::AcceptHeader::Required;
    model.proxy_protocol.trusted = vec![model::Network::parse("0.0.0.0/0").expect("a network")];
    let mut world = World::two_workers(&model);
    world.start_backend(0);
    let client = world.client();
    world.send(client, b"PROXY TCP4 192.0.2.7 198.51.100.1 ");
    world.arrive();
    world.switch(Which::All);
    world.send(client, b"5000 443\r\nhello");
    world.arrive();
    world.switch(Which::All);
    let served = *world.accepted(0).last().expect("it was dialled");
    assert_eq!(world.seen(served).received, b"hello");
    world.close(client);
    world.close(served);
    world.arrive();
    let record = &world.records()[0];
    assert_eq!(record.client.to_string(), "192.0.2.7:5000");
    assert!(record.via.is_some(), "{record:?}");
    world.assert_nothing_is_open();
}

#[test]
fn route_is_looked_for_again_and_who_is_waited_for_stays_counted() {
    let mut model = passthrough(vec![named("a.example")]);
    model.limits.handshakes = Some(1);
    model.limits.handshakes_per_source = Some(1);
    let mut world = World::two_workers(&model);
    world.start_backend(1);
    let client = world.client();
    let hello = hello("a.example");
    for (begin, end) in [(0, 3), (3, 40), (40, hello.len() - 1)] {
        world.send(client, &hello[begin..end]);
        world.pass(Duration::from_millis(500));
        world.switch(Which::All);
        assert_eq!(world.app.counts().handshakes().get(), 1);
    }
    let late = world.client();
    world.arrive();
    assert_eq!(world.only_end(), "ringway accept limit_source_handshakes");
    assert!(world.seen(late).ended && world.accepted(1).is_empty());
    world.send(client, &hello[hello.len() - 1..]);
    world.arrive();
    assert_eq!(world.app.counts().handshakes().get(), 0);
    world.switch(Which::All);
    let served = *world.accepted(1).last().expect("its route is known");
    assert_eq!(world.seen(served).received, hello);
    world.close(client);
    world.close(served);
    world.arrive();
    let record = &world.records()[1];
    assert_eq!((record.route.as_deref(), record.reason), (Some("route-1"), "finished"));
    assert_eq!(record.asked.as_ref().and_then(|asked| asked.sni()), Some("a.example"));
    world.assert_nothing_is_open();
}

#[test]
fn hello_has_the_time_that_was_left_and_a_client_that_spoke_is_not_taken_for_silent() {
    let mut world = World::two_workers(&passthrough(vec![named("a.example")]));
    let begin = world.now();
    world.client();
    for _ in 0..4 {
        world.arrive();
        world.switch(Which::All);
    }
    world.pass(Duration::from_secs(2));
    assert_eq!(world.only_end(), "ringway accept hello_timeout");
    let waited = world.records()[0].ended.since(begin);
    assert!(waited >= Duration::from_secs(5) && waited < Duration::from_secs(6), "{waited:?}");
    world.assert_nothing_is_open();

    for speaks_first in [true, false] {
        let model = routed(vec![named("a.example"), speaks(&[model::Client::Silent])]);
        let mut world = World::two_workers(&model);
        (1..3).for_each(|index| world.start_backend(index));
        let client = world.client();
        if speaks_first {
            world.send(client, b"GET / HTTP/1.1\r\nHo");
        }
        // Just before it would be decided that it is silent.
        world.pass(Duration::from_millis(1_990));
        world.switch(Which::All);
        world.pass(Duration::from_millis(2_500));
        if speaks_first {
            world.send(client, b"st: a.example\r\n\r\n");
            world.arrive();
        }
        let reached = [1, 2].map(|index| world.accepted(index).len());
        assert_eq!(reached, if speaks_first { [1, 0] } else { [0, 1] });
        world.close(client);
        world.mail(&WorkerMail::CloseNow);
        world.arrive();
        world.assert_nothing_is_open();
    }
}

#[test]
fn client_that_leaves_while_its_route_is_awaited_and_it_moves_is_logged_once() {
    for pause in 0..30_u64 {
        let mut world = World::two_workers(&passthrough(vec![named("a.example")]));
        world.start_backend(1);
        let client = world.client();
        world.send(client, &hello("a.example")[..30]);
        world.arrive();
        world.reset(client);
        world.pass(Duration::from_micros(pause * 17));
        for (from, to) in [(0, 1), (1, 0)] {
            world.ask(from, to, Which::All);
        }
        world.arrive();
        assert_eq!(world.only_end(), "client accept left_hello");
        assert_eq!(world.app.counts().handshakes().get(), 0);
        world.assert_nothing_is_open();
    }
}

#[test]
fn limited_connection_of_which_both_sides_have_finished_moves_with_what_is_not_taken_yet() {
    let mut model = app(1);
    model.limits.bandwidth_per_connection = Some(100_000_000);
    let mut world = World::two_workers(&model);
    world.start_backend(0);
    let (client, served) = relayed(&mut world);
    world.hold(client);
    // More than the client's window takes, and less than the relay reads in one go behind that.
    let payload: Vec<u8> = (0..300_000_u32).map(|n| (n % 251) as u8).collect();
    world.send(served, &payload);
    world.shut(client);
    world.arrive();
    world.shut(served);
    world.arrive();
    for _ in 0..3 {
        world.switch(Which::All);
        world.pass(Duration::from_millis(100));
    }
    assert!(world.records().is_empty(), "the client has not taken all");
    world.read_on(client);
    world.arrive();
    assert!(world.seen(client).received == payload && world.seen(client).ended);
    assert!(world.only_end().ends_with("relay finished"), "who was first is not known any more");
    assert_eq!(world.records()[0].bytes, [0, 300_000]);
    world.assert_nothing_is_open();
}

#[test]
fn connection_that_waits_below_the_limit_waits_elsewhere() {
    let mut world = World::with(&app(1), 2, 1);
    world.start_backend(0);
    let (first, served) = relayed(&mut world);
    world.client();
    world.arrive();
    assert_eq!((world.admission.open(), world.admission.waiting()), (1, 1));
    for (from, to) in [(0, 1), (1, 0)] {
        world.ask(from, to, Which::All);
        world.settle();
        assert_eq!((world.admission.open(), world.admission.waiting()), (1, 1));
        assert_eq!(world.counts()[to], 2);
    }
    world.close(first);
    world.close(served);
    world.arrive();
    assert_eq!(world.accepted(0).len(), 2, "it was its turn");
    assert_eq!((world.admission.open(), world.admission.waiting()), (1, 0));
    world.mail(&WorkerMail::CloseNow);
    world.arrive();
    world.assert_nothing_is_open();
}

#[test]
fn connection_that_is_killed_on_its_way_out_ends_with_that_reason() {
    let mut world = World::two_workers(&app(1));
    world.start_backend(0);
    let (client, _) = relayed(&mut world);
    let from = world.holder();
    world.ask(from, 1 - from, ANY_IDLE);
    // Both in the same batch of mail.
    world.mail(&WorkerMail::CloseNow);
    world.arrive();
    assert_eq!(world.only_end(), "ringway relay shutdown");
    assert!(world.seen(client).closed.is_some());
    world.assert_nothing_is_open();
}

#[test]
fn connection_for_a_worker_that_has_ended_goes_on_where_it_was() {
    let mut world = World::two_workers(&app(1));
    world.start_backend(0);
    let (client, served) = relayed(&mut world);
    let from = world.holder();
    world.workers[1 - from].mailer().send(WorkerMail::Drain);
    world.settle();
    world.arrive();
    assert!(world.workers[1 - from].end(), "it has nothing left");
    world.ask(from, 1 - from, ANY_IDLE);
    world.settle();
    assert_eq!(world.counts()[from], 1);
    world.send(client, b"still");
    world.arrive();
    assert_eq!(world.seen(served).received, b"still");
    world.close(client);
    world.close(served);
    world.arrive();
    assert_eq!(world.only_end(), "client relay finished");
    world.assert_nothing_is_open();
}

#[test]
fn worker_with_mail_does_not_end_and_carries_on_what_is_in_it() {
    let mut world = World::two_workers(&app(1));
    world.start_backend(0);
    let (client, served) = relayed(&mut world);
    let from = world.holder();
    let taken: Arc<Mutex<Option<Taken>>> = Arc::default();
    let shelf = Arc::clone(&taken);
    let request = TakeOut::new(Which::All, move |taken| {
        *shelf.lock().expect("no panic before") = Some(taken);
        Ok(())
    });
    world.workers[from].mailer().send(WorkerMail::TakeOut(request));
    world.settle();
    let taken = taken.lock().expect("no panic before").take().expect("an answer");
    assert_eq!((taken.sessions.len(), taken.staying.len(), world.counts()[from]), (1, 0, 0));
    let facts = taken.sessions[0].facts().clone();
    assert_eq!((&*facts.app, facts.bytes), ("app", [0, 0]));
    assert!(taken.sessions[0].backend().is_some());
    let heir = 1 - from;
    world.workers[heir].mailer().send(WorkerMail::Drain);
    world.arrive();
    assert!(world.workers[heir].handler().connection_count() == 0);
    world.workers[heir].mailer().send(WorkerMail::PutIn(Parcel::new(Arrivals::new(taken.sessions, ()))));
    assert!(!world.workers[heir].end(), "it has mail");
    world.settle();
    assert_eq!(world.counts()[heir], 1);
    world.send(client, b"hello");
    world.arrive();
    assert_eq!(world.seen(served).received, b"hello");
    world.close(client);
    world.close(served);
    world.arrive();
    assert!(world.workers[heir].end());
    assert_eq!(world.only_end(), "client relay finished");
    world.assert_nothing_is_open();
}

#[test]
fn connection_that_another_process_may_have_carried_on_is_reset_in_whatever_it_was() {
    for (phase, stage) in [("dialling", "connect"), ("awaiting a header", "accept"), ("relayed", "relay")] {
        let mut model = app(1);
        if phase == "awaiting a header" {
            model.proxy_protocol.accept = model::AcceptHeader::Required;
            model.proxy_protocol.trusted = vec![model::Network::parse("0.0.0.0/0").expect("a network")];
        }
        let mut world = World::two_workers(&model);
        world.start_backend(0);
        if phase == "dialling" {
            world.network.block(&backend(0));
        }
        let client = world.client();
        world.arrive();
        let from = world.holder();
        let taken: Arc<Mutex<Option<Taken>>> = Arc::default();
        let shelf = Arc::clone(&taken);
        let request = TakeOut::new(Which::All, move |taken| {
            *shelf.lock().expect("no panic before") = Some(taken);
            Ok(())
        });
        world.workers[from].mailer().send(WorkerMail::TakeOut(request));
        world.settle();
        let taken = taken.lock().expect("no panic before").take().expect("an answer");
        let arrivals = Arrivals::new(taken.sessions, ());
        world.workers[from].mailer().send(WorkerMail::Cut(Parcel::new(arrivals)));
        world.settle();
        world.network.allow(&backend(0));
        world.arrive();
        assert_eq!(world.seen(client).closed, Some("reset"), "{phase}");
        assert_eq!(world.only_end(), format!("ringway {stage} shutdown"));
        world.assert_nothing_is_open();
    }
}

#[test]
fn reset_in_the_middle_of_a_move_is_handed_on_and_logged_once() {
    for seed in 0..40_u64 {
        let mut world = World::two_workers(&app(1));
        world.start_backend(0);
        let (client, served) = relayed(&mut world);
        world.send(served, &vec![7; 100_000]);
        let from = world.holder();
        let victim = if seed % 2 == 0 { client } else { served };
        if seed % 3 == 0 {
            world.ask(from, 1 - from, ANY_IDLE);
            world.reset(victim);
        } else {
            world.reset(victim);
            world.pass(Duration::from_micros(seed * 17));
            world.ask(from, 1 - from, ANY_IDLE);
        }
        world.pass(Duration::from_secs(20));
        let initiator = if seed % 2 == 0 { "client" } else { "backend" };
        assert_eq!(world.only_end(), format!("{initiator} relay reset"), "{seed}");
        world.assert_nothing_is_open();
    }
}

#[test]
fn app_that_one_worker_has_forgotten_lives_there_again_while_a_connection_of_it_does() {
    let mut world = World::two_workers(&app(1));
    world.start_backend(0);
    let (client, served) = relayed(&mut world);
    let mut other = app(1);
    other.name = "other".into();
    other.frontends[0].address = std::net::SocketAddr::from(([10, 1, 0, 2], 0)).into();
    world.reload(vec![other]);
    world.switch(ANY_IDLE);
    world.switch(ANY_IDLE);
    world.send(client, b"hello");
    world.arrive();
    assert_eq!(world.seen(served).received, b"hello");
    world.close(client);
    world.close(served);
    world.arrive();
    assert_eq!(&*world.records()[0].app, "app");
    assert_eq!(&*world.records()[0].frontend, "front");
    world.assert_nothing_is_open();
    assert_eq!(Arc::strong_count(&world.app), 1, "no worker holds it any more");
}

#[test]
fn only_idle_connections_are_meant_and_no_more_than_asked_for() {
    let mut world = World::two_workers(&app(1));
    world.start_backend(0);
    let mut clients = Vec::new();
    for _ in 0..12 {
        clients.push(world.client());
        world.arrive();
    }
    // All to one.
    world.ask(0, 1, Which::All);
    world.settle();
    let ask = |world: &mut World, count_max, silence| {
        world.ask(1, 0, Which::Idle { count_max, silence: Duration::from_secs(silence) });
        world.settle();
        world.counts()
    };
    for client in &clients {
        world.send(*client, b"x");
    }
    world.arrive();
    assert_eq!(ask(&mut world, 100, 30), [0, 12], "all were busy a second ago");
    assert_eq!(ask(&mut world, 3, 0), [3, 9]);
    assert_eq!(ask(&mut world, 3, 0), [6, 6]);
    world.mail(&WorkerMail::CloseNow);
    world.arrive();
    assert_eq!(world.records().len(), 12);
    let mut numbers: Vec<u64> = world.records().iter().map(|record| record.connection).collect();
    numbers.sort_unstable();
    numbers.dedup();
    assert_eq!(numbers.len(), 12, "each keeps its own");
    world.assert_nothing_is_open();
}
