//! What must hold of bytes that another process says in an upgrade, whatever they are: no panic, no memory without bound, and
//! what is understood is said again as it was.
//!
//! Shared by the fuzz target and by the test that replays its seeds. The first byte says what the others are.

use std::sync::Arc;
use std::time::{Duration, Instant};

use ringway::handover::{Channel, Line};
use ringway::tls::TicketKeys;
use ringway::{SocketAddress, Time};
use ringway_proxy::control::upgrade::{
    AllowanceRecord, Counters, State, Tickets, allowances_of, outliers_of, restore_allowances,
};
use ringway_proxy::endpoint::AppState;
use ringway_proxy::metrics::Metrics;
use ringway_proxy::model;
use ringway_proxy::session::record::{self, EndState, RecordParts, SessionRecord};
use ringway_proxy::session::{CloseReason, progress};
use ringway_proxy::snapshot::Lineage;

const HOUR: Duration = Duration::from_secs(3_600);

/// Takes the bytes for what the first of them says.
pub(crate) fn check(bytes: &[u8]) {
    let Some((kind, bytes)) = bytes.split_first() else { return };
    match kind % 7 {
        0 => check_records(bytes),
        1 => check_line(bytes),
        2 => check_state(bytes),
        3 => check_counters(bytes),
        4 => check_allowances(bytes),
        5 => check_tickets(bytes),
        _ => check_progress(bytes),
    }
}

/// Records of connections, one behind the other.
fn check_records(bytes: &[u8]) {
    let mut rest = bytes;
    while let Some((found, following)) = record::read(rest) {
        assert!(following.len() < rest.len(), "it stands still");
        let length = rest.len() - following.len();
        rest = following;
        let Ok(found) = found else { continue };
        let phase = found.facts.session.phase;
        for version in record::VERSIONS.iter().copied().filter(|version| record::has_phase(*version, phase)) {
            let again = written(version, &found);
            let (read, nothing) = record::read(&again).expect("a whole record");
            let read = read.expect("one that was written here");
            assert!(nothing.is_empty());
            let is_newest = Some(&version) == record::VERSIONS.last();
            // An earlier version says less.
            let expected = SessionRecord {
                allowance: found.allowance.filter(|_| is_newest || read.allowance.is_some()),
                ..found.clone()
            };
            assert_eq!(read, expected);
        }
        let held = found.client.received.len() + found.client.queued.len();
        assert!(held <= length, "more than came");
    }
}

fn written(version: u16, found: &SessionRecord) -> Vec<u8> {
    let parts = RecordParts {
        facts: &found.facts,
        routed: &found.routed,
        client: found.client.lend(),
        backend: found.backend.as_ref().map(EndState::lend),
        allowance: found.allowance,
    };
    let mut bytes = Vec::new();
    record::write(version, parts, &mut bytes);
    bytes
}

/// Parts of messages: a length each, and so many bytes.
fn check_line(bytes: &[u8]) {
    /// More are not taken before they are received.
    const PARTS_MAX: usize = 8;
    let Ok((here, there)) = Channel::pair() else { return };
    let mut rest = bytes;
    let mut parts = 0;
    while let Some((length, following)) = rest.split_first()
        && parts < PARTS_MAX
    {
        let (part, following) = following.split_at(following.len().min(usize::from(*length)));
        rest = following;
        if !part.is_empty() {
            here.send(part, &[]).expect("there is room");
            parts += 1;
        }
    }
    drop(here);
    let mut line = Line::new(there);
    // It ends with the first that is none, or with the channel.
    let mut messages = 0;
    while let Ok(packet) = line.receive(Instant::now() + Duration::from_secs(10)) {
        assert!(packet.descriptors.is_empty() && packet.body.len() <= bytes.len());
        messages += 1;
    }
    assert!(messages <= parts);
}

/// A process with one app.
fn lineage() -> Lineage {
    let backend = |name: &str, target| model::Backend {
        name: name.to_owned(),
        target,
        weight: 1,
        backup: false,
        max_connections: None,
    };
    let mut app = model::App::new("app");
    app.backends = vec![
        backend("one", model::Target::Address(address(1))),
        backend("two", model::Target::Host { name: "two.test".to_owned(), port: 2 }),
    ];
    Lineage::of_apps(vec![app])
}

fn address(port: u16) -> SocketAddress {
    std::net::SocketAddr::from(([127, 0, 0, 1], port)).into()
}

/// Health, and what operators said.
fn check_state(bytes: &[u8]) {
    let Ok(state) = serde_json::from_slice::<State>(bytes) else { return };
    let (lineage, again) = (lineage(), lineage());
    state.restore(&lineage.current());
    let said = serde_json::to_vec(&State::of(&lineage.current())).expect("plain data");
    let state: State = serde_json::from_slice(&said).expect("what was said here");
    state.restore(&again.current());
    assert_eq!(State::of(&again.current()), State::of(&lineage.current()));
    // Whoever goes on from it does so at some moment.
    for now in [Time::ZERO, Time::from_nanos(1 << 40)] {
        for app in lineage.current().apps() {
            use_it(app, now);
        }
    }
    outliers_of(&lineage.current());
}

fn use_it(app: &Arc<AppState>, now: Time) {
    for endpoint in app.endpoints().endpoints() {
        endpoint.tally(Duration::from_secs(8), now);
        endpoint.health_report();
        endpoint.readmit_outlier(now);
    }
}

fn check_counters(bytes: &[u8]) {
    let Ok(counters) = serde_json::from_slice::<Counters>(bytes) else { return };
    let (lineage, metrics) = (lineage(), Metrics::new(1, CloseReason::LABELS));
    lineage.current().apps().for_each(|app| drop(app.resolve(&[vec![address(1)], vec![address(2)]])));
    counters.add_to(&metrics, &lineage);
    let counted = Counters::of(&metrics, &lineage.current());
    let nothing = counted.since(&counted);
    nothing.add_to(&metrics, &lineage);
    assert_eq!(Counters::of(&metrics, &lineage.current()), counted);
}

fn check_allowances(bytes: &[u8]) {
    let Ok(allowances) = serde_json::from_slice::<Vec<AllowanceRecord>>(bytes) else { return };
    let lineage = lineage();
    restore_allowances(&allowances, &lineage.current());
    for now in [Time::ZERO, Time::from_nanos(1 << 40)] {
        allowances_of(&lineage.current(), now);
        for app in lineage.current().apps() {
            for pacer in app.counts().bandwidth() {
                pacer.reserve(now.as_nanos(), 64 << 10, 1_000_000);
            }
        }
    }
}

/// Keys of session tickets.
fn check_tickets(bytes: &[u8]) {
    let Ok(tickets) = serde_json::from_slice::<Tickets>(bytes) else { return };
    let said = serde_json::to_vec(&tickets).expect("plain data");
    assert_eq!(serde_json::from_slice::<Tickets>(&said).expect("what was said here"), tickets);
    tickets.restore(&lineage().current());
    for (_, made) in tickets.apps() {
        let (keys, again) = (TicketKeys::random(HOUR), TicketKeys::random(HOUR));
        keys.go_on_with(made);
        assert!(keys.made().len() <= made.len().min(4), "more than came, or are of use");
        again.go_on_with(&keys.made());
        assert_eq!(again.made(), keys.made());
    }
}

/// How far connections have come, one behind the other.
fn check_progress(bytes: &[u8]) {
    let Some(found) = progress::read_all(bytes) else { return };
    let ends = found.iter().flat_map(|found| [&found.client, &found.backend]);
    let held: usize = ends.map(|end| end.received.len() + end.queued.len()).sum();
    assert!(held <= bytes.len(), "more than came");
    let mut again = Vec::new();
    found.iter().for_each(|found| progress::write(found, &mut again));
    assert_eq!(progress::read_all(&again), Some(found));
}
