//! Where connections can be sent: endpoints, the sets they form, and the state of an app that all threads share.
//!
//! An [`Endpoint`] is one resolved address of a backend. Counters are exact over all workers; health is written by
//! the prober and by workers whose dials fail, and read by every choice.

mod app;
mod dial;
mod dial_failure;
mod down_reason;
mod ejection;
mod frontend;
mod header;
mod outcomes;
mod passed;
mod ramp;
mod resolved;
mod roll;
mod set;
mod socket_file;
mod steering;
mod terms;
#[cfg(test)]
pub(crate) mod testing;
mod tier;

use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU16, AtomicU32, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Duration;

use ringway::{SocketAddress, Time};

pub use crate::admission::ExactCount;
pub use app::{AppCore, AppState};
pub(crate) use dial::{Sources, socket_options};
pub use dial_failure::DialFailure;
pub use down_reason::DownReason;
pub use ejection::{EjectionReport, OutlierGate};
pub use frontend::{FrontendState, Listening};
pub(crate) use header::{SecuredClient, header_for_check, header_for_client};
pub use outcomes::{Outcome, Tally};
pub use passed::{Assignment, PassedSocket, PassedSockets};
pub(crate) use ramp::FULL;
pub use resolved::{Record, Resolved};
pub use set::EndpointSet;
pub(crate) use socket_file::SocketFile;
pub use steering::{Duty, Steering};
pub use tier::Tier;

use crate::admission::Queue;
use crate::balance::table::bounds::Bounds;
use crate::balance::table::hash_of_address;
use ejection::LastEjection;
use outcomes::Outcomes;
use ramp::Ramp;
use resolved::RecordCell;

/// Names an endpoint within the process; never used twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct EndpointId(u64);

/// One resolved address of a backend. Lives through changes of the configuration that leave it its address.
#[derive(Debug)]
pub struct Endpoint {
    id: EndpointId,
    name: Arc<str>,
    address: SocketAddress,
    // What the configuration says of its backend now; changes with a new set only.
    backend: AtomicUsize,
    weight: AtomicU16,
    backup: AtomicBool,
    /// What the record of a service says of it.
    record: RecordCell,
    /// The most connections at once; `u32::MAX` is no limit.
    connections_max: AtomicU32,
    active: ExactCount,
    total: AtomicU64,
    connect_failures: AtomicU64,
    /// [`Health`], the reason, and since when, in one word: see [`encode_health`].
    health: AtomicU64,
    /// What was wrong with the last bad answer to a check.
    bad_answer: Mutex<Option<Arc<str>>>,
    source_cursor: AtomicU64,
    outcomes: Outcomes,
    last_ejection: LastEjection,
    /// What it is known by in every process: the hash of its address.
    identity: u64,
    ramp: Ramp,
    changes: Arc<Changes>,
    /// Where it has to say that it became less full. Written only when a set is made or goes away.
    seats: RwLock<Vec<Seat>>,
}

/// What all endpoints of an app share: how often anything changed that decides which of them may be chosen, for whoever
/// keeps a list of them, and the line of those that wait for it.
#[derive(Debug, Default)]
pub(crate) struct Changes {
    count: AtomicU64,
    queue: Arc<Queue>,
}

impl Changes {
    pub(crate) fn count(&self) -> u64 {
        self.count.load(Ordering::Acquire)
    }

    fn note(&self) {
        self.count.fetch_add(1, Ordering::AcqRel);
        self.queue.call();
    }
}

/// A place of an endpoint in a group that least-connections keeps a bound of.
#[derive(Debug)]
struct Seat {
    bounds: Arc<Bounds>,
    group: usize,
}

/// Whether an endpoint gets new connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Health {
    /// It does.
    Up,
    /// Active checks failed.
    Down,
    /// A dial failed, and it is left out until the next good check; or too many connections did, and it is for a time.
    Ejected,
}

impl Health {
    /// The word for logs, metrics and the status page.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Up => "up",
            Self::Down => "down",
            Self::Ejected => "ejected",
        }
    }
}

impl fmt::Display for Health {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl Endpoint {
    fn new(
        backend: usize,
        name: Arc<str>,
        address: SocketAddress,
        (weight, backup): (u16, bool),
        ramp: Ramp,
        changes: Arc<Changes>,
    ) -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        Self {
            id: EndpointId(NEXT.fetch_add(1, Ordering::Relaxed)),
            name,
            identity: hash_of_address(&address.to_string()),
            address,
            backend: AtomicUsize::new(backend),
            weight: AtomicU16::new(weight),
            backup: AtomicBool::new(backup),
            record: RecordCell::default(),
            connections_max: AtomicU32::new(u32::MAX),
            active: ExactCount::new(),
            total: AtomicU64::new(0),
            connect_failures: AtomicU64::new(0),
            health: AtomicU64::new(encode_health(Health::Up, None, Time::ZERO)),
            bad_answer: Mutex::default(),
            source_cursor: AtomicU64::new(0),
            outcomes: Outcomes::default(),
            last_ejection: LastEjection::default(),
            ramp,
            changes,
            seats: RwLock::default(),
        }
    }

    /// Takes over what the configuration, and the record of a service, say of it from now on; says whether that makes its
    /// weight or rank another one.
    fn set_backend(&self, backend: usize, (weight, backup): (u16, bool), record: Option<Record>) -> bool {
        self.backend.store(backend, Ordering::Relaxed);
        self.record.set(record);
        let had_weight = self.weight.swap(weight, Ordering::Relaxed);
        let was_backup = self.backup.swap(backup, Ordering::Relaxed);
        (had_weight, was_backup) != (weight, backup)
    }

    /// It may have so many connections from now on; those that are open stay.
    fn limit(&self, connections_max: Option<u32>) {
        self.connections_max.store(connections_max.unwrap_or(u32::MAX), Ordering::Relaxed);
    }

    /// The most connections at once; `u32::MAX`: no limit.
    pub fn connections_max(&self) -> u32 {
        self.connections_max.load(Ordering::Relaxed)
    }

    /// Whether it has as many connections as it may.
    pub fn is_full(&self) -> bool {
        self.active.get() >= self.connections_max()
    }

    /// Its name within the process.
    pub fn id(&self) -> EndpointId {
        self.id
    }

    /// Place of its backend in the app's configuration.
    pub fn backend(&self) -> usize {
        self.backend.load(Ordering::Relaxed)
    }

    /// Its backend as written in the configuration.
    pub fn name(&self) -> &Arc<str> {
        &self.name
    }

    /// Where to connect to.
    pub fn address(&self) -> &SocketAddress {
        &self.address
    }

    /// Share relative to the others; 0: no new connections.
    pub fn weight(&self) -> u16 {
        self.weight.load(Ordering::Relaxed)
    }

    /// Used only while no other endpoint is available.
    pub fn is_backup(&self) -> bool {
        self.backup.load(Ordering::Relaxed)
    }

    /// Connections open to it or being opened, over all workers. Taken by a choice, given back by [`Self::release`].
    pub fn active(&self) -> &ExactCount {
        &self.active
    }

    /// Takes one connection away, which the caller had added, and calls the next of those that wait for room.
    pub fn release(&self) {
        self.active.release();
        // The lock also orders this after whoever gave it a seat: one of both sees the other.
        for seat in self.seats.read().unwrap_or_else(PoisonError::into_inner).iter() {
            seat.bounds.lower(seat.group, tier::fullness(self));
        }
        self.changes.queue.call();
    }

    fn sit_down(&self, seat: Seat) {
        self.seats.write().unwrap_or_else(PoisonError::into_inner).push(seat);
    }

    fn stand_up(&self, bounds: &Arc<Bounds>) {
        let mut seats = self.seats.write().unwrap_or_else(PoisonError::into_inner);
        seats.retain(|seat| !Arc::ptr_eq(&seat.bounds, bounds));
    }

    /// What it is known by in every process: the hash of its address.
    pub(crate) fn identity(&self) -> u64 {
        self.identity
    }

    /// Its weight in 256ths, less during its slow start; zero only if its weight is.
    pub(crate) fn effective_weight(&self, slow_start: Option<Duration>, now: Time) -> u32 {
        let part = slow_start.map_or(FULL, |slow_start| self.ramp.part(slow_start, now));
        u32::from(self.weight()) * part
    }

    /// Connections that were established to it since the process started.
    pub fn total(&self) -> u64 {
        self.total.load(Ordering::Relaxed)
    }

    /// Dials to it that failed.
    pub fn connect_failures(&self) -> u64 {
        self.connect_failures.load(Ordering::Relaxed)
    }

    /// Counts an established connection.
    pub fn count_connected(&self) {
        self.total.fetch_add(1, Ordering::Relaxed);
    }

    /// Counts a failed dial.
    pub fn count_connect_failure(&self) {
        self.connect_failures.fetch_add(1, Ordering::Relaxed);
    }

    /// Counts on from what another process had counted: established connections, and failed dials.
    pub(crate) fn add_counts(&self, total: u64, connect_failures: u64) {
        self.total.fetch_add(total, Ordering::Relaxed);
        self.connect_failures.fetch_add(connect_failures, Ordering::Relaxed);
    }

    /// Whether it may get a new connection.
    pub fn is_available(&self) -> bool {
        self.weight() > 0 && self.health() == Health::Up
    }

    /// Its health.
    pub fn health(&self) -> Health {
        decode_health(self.health.load(Ordering::Acquire)).0
    }

    /// Its health, since when it holds, and why, unless it is up.
    pub fn health_report(&self) -> (Health, Time, Option<DownReason>) {
        decode_health(self.health.load(Ordering::Acquire))
    }

    /// What was wrong with the last bad answer to a check, in words.
    pub fn bad_answer(&self) -> Option<Arc<str>> {
        self.bad_answer.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Keeps what was wrong with an answer to a check.
    pub fn note_bad_answer(&self, what: &str) {
        let mut kept = self.bad_answer.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.as_deref() != Some(what) {
            *kept = Some(what.into());
        }
    }

    /// Why it is not up, in words.
    pub fn reason(&self) -> Option<String> {
        let reason = self.health_report().2?;
        let details = match reason {
            DownReason::Dial(_) => None,
            DownReason::Answer => self.bad_answer().map(|answer| answer.to_string()),
            DownReason::Failures => {
                let Tally { failed, connections } = self.last_ejection().tally;
                Some(format!("{failed} of {connections} connections failed"))
            }
        };
        Some(details.unwrap_or_else(|| reason.as_str().to_owned()))
    }

    /// Another reason for an endpoint that is down, and was already.
    pub fn restate_reason(&self, reason: DownReason) {
        let word = self.health.load(Ordering::Acquire);
        let (health, since, before) = decode_health(word);
        if health == Health::Down && before != Some(reason) {
            let new = encode_health(health, Some(reason), since);
            // Whoever changed it meanwhile knows better.
            let _ = self.health.compare_exchange(word, new, Ordering::AcqRel, Ordering::Relaxed);
        }
    }

    /// Sets the health if that changes it; says what it was before, if it did. Of several threads only one is told.
    pub fn set_health(&self, health: Health, reason: Option<DownReason>, now: Time) -> Option<Health> {
        self.change_health(health, reason, now, |before, _| before != health)
    }

    /// Goes on with the health that it has in another process with the same clock, which knows best since when and why.
    pub(crate) fn go_on_with_health(&self, health: Health, reason: Option<DownReason>, since: Time) {
        if self.health_report() != (health, since, reason) {
            self.change_health(health, reason, since, |_, _| true);
        }
    }

    /// Leaves the endpoint out after a failed dial, if it is up; says whether that changed anything.
    pub fn eject(&self, reason: DialFailure, now: Time) -> bool {
        let is_up = |before, _| before == Health::Up;
        self.change_health(Health::Ejected, Some(reason.into()), now, is_up).is_some()
    }

    fn change_health(
        &self,
        health: Health,
        reason: Option<DownReason>,
        now: Time,
        may: impl Fn(Health, Option<DownReason>) -> bool,
    ) -> Option<Health> {
        let mut word = self.health.load(Ordering::Acquire);
        loop {
            let (before, _, reason_before) = decode_health(word);
            if !may(before, reason_before) {
                return None;
            }
            let new = encode_health(health, reason, now);
            match self.health.compare_exchange_weak(word, new, Ordering::AcqRel, Ordering::Acquire) {
                Ok(_) => {
                    if health == Health::Up {
                        self.ramp.begin(now);
                    }
                    self.changes.note();
                    return Some(before);
                }
                // Another thread changed it; each turn of the loop means that one got on.
                Err(other) => word = other,
            }
        }
    }

    /// The next number for taking source addresses in turn.
    pub fn next_source(&self) -> u64 {
        self.source_cursor.fetch_add(1, Ordering::Relaxed)
    }
}

/// Low bits of the health word that are not time: moments are kept to 64 ns.
const STATE_BITS: u64 = 63;

/// The health in two bits, the reason in four, the moment in the rest.
fn encode_health(health: Health, reason: Option<DownReason>, since: Time) -> u64 {
    let health = match health {
        Health::Up => 0,
        Health::Down => 1,
        Health::Ejected => 2,
    };
    let reason = reason.map_or(0, DownReason::encode);
    (since.as_nanos() & !STATE_BITS) | reason << 2 | health
}

fn decode_health(word: u64) -> (Health, Time, Option<DownReason>) {
    let health = match word & 3 {
        0 => Health::Up,
        1 => Health::Down,
        _ => Health::Ejected,
    };
    let reason = DownReason::decode((word & STATE_BITS) >> 2);
    (health, Time::from_nanos(word & !STATE_BITS), reason)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn endpoint() -> Endpoint {
        let address = std::net::SocketAddr::from(([127, 0, 0, 1], 1)).into();
        Endpoint::new(0, Arc::from("a"), address, (1, false), Ramp::full(), Arc::default())
    }

    #[test]
    fn failed_dial_ejects_an_endpoint_once_and_only_if_it_is_up() {
        let endpoint = endpoint();
        let now = Time::from_nanos(6_400);
        assert!(endpoint.is_available());
        assert!(endpoint.eject(DialFailure::Refused, now));
        assert!(!endpoint.eject(DialFailure::TimedOut, now));
        assert_eq!(endpoint.health_report(), (Health::Ejected, now, Some(DialFailure::Refused.into())));
        assert!(!endpoint.is_available());

        assert_eq!(
            endpoint.set_health(Health::Down, Some(DialFailure::TimedOut.into()), now),
            Some(Health::Ejected)
        );
        assert!(!endpoint.eject(DialFailure::Refused, now), "an endpoint that is down is not ejected");
    }

    #[test]
    fn health_that_does_not_change_keeps_its_moment() {
        let endpoint = endpoint();
        assert_eq!(endpoint.set_health(Health::Up, None, Time::from_nanos(400)), None);
        assert_eq!(endpoint.health_report(), (Health::Up, Time::ZERO, None));
    }

    #[test]
    fn every_reason_is_kept_as_its_own() {
        let failures = DialFailure::ALL.map(DownReason::Dial);
        for reason in failures.into_iter().chain([DownReason::Answer, DownReason::Failures]) {
            let endpoint = endpoint();
            endpoint.set_health(Health::Down, Some(reason), Time::ZERO);
            assert_eq!(endpoint.health_report().2, Some(reason));
        }
    }

    #[test]
    fn what_was_wrong_with_an_answer_is_the_reason_while_it_is() {
        let endpoint = endpoint();
        let since = Time::from_nanos(640);
        endpoint.set_health(Health::Down, Some(DialFailure::Refused.into()), since);
        endpoint.note_bad_answer("expected status 200, got 503");
        assert_eq!(endpoint.reason().as_deref(), Some("refused"));
        endpoint.restate_reason(DownReason::Answer);
        assert_eq!(endpoint.reason().as_deref(), Some("expected status 200, got 503"));
        assert_eq!(endpoint.health_report().1, since, "it was down all the time");
        endpoint.set_health(Health::Up, None, since);
        endpoint.restate_reason(DownReason::Answer);
        assert_eq!(endpoint.reason(), None);
    }
}
