//! Connections of which two processes have the sockets: copied ahead in the one that serves, expected in the one that is to
//! follow.
//!
//! Copies and the facts of a relay cross while its bytes flow. When the worker comes to rest, such a relay stops where it is
//! and says how far it has come, which is all that is left to cross; it goes on there, or is let go of. In the other
//! process its session is frozen and its connections stand ready until it goes on, or is dropped because it ended before.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::io;

use ringway::{ConnectionId, Operations, RelayOptions, RelayStop, Time, Underway};

use super::moving::{name_of, names_of};
use super::{Connections, Entry, OwnPace};
use crate::session::progress::{self, Progress};
use crate::session::record::{self, End, RecordParts};
use crate::session::tcp::{Event, FrozenSession};
use crate::session::{Ending, SessionFacts};
use crate::worker::arrival::routed;
use crate::worker::mail::{CopiedAhead, CopyAhead, LetGo, MESSAGE_BYTES, MESSAGE_DESCRIPTORS};
use crate::worker::moving::{Arrivals, Held};

/// Connections of one piece, two descriptors each: as many as one message carries. Some 3 µs each on epoll and 5 on io_uring,
/// where receives are cancelled for it: clients of this worker wait for half a millisecond.
const COPIED_MAX: u64 = MESSAGE_DESCRIPTORS as u64 / 2;
/// Places that one piece looks at.
const PLACES_MAX: u32 = 2_048;
/// Connections that are let go of in one piece: at 3 to 5 µs each, a millisecond.
const LET_GO_MAX: usize = 256;

/// The connections of a worker of which another process has the sockets, too.
#[derive(Default)]
pub(super) struct Ahead {
    /// Numbers, in this worker, of those that were copied.
    copied: HashSet<u32>,
    /// By the places of their sessions, in whose order they go on or are let go of.
    held: BTreeMap<u32, HeldRelay>,
    /// Those of the other process, by their numbers in it: the places of their sessions.
    expected: HashMap<u64, u32>,
}

/// A relay that stands still.
struct HeldRelay {
    bytes: [u64; 2],
    last_activity: Time,
    /// For `[client, backend]`.
    pending: [Vec<u8>; 2],
    /// It is to be closed as soon as it is decided whose it is.
    ending: Option<Ending>,
}

impl Ahead {
    /// Whether the session of this number stays where it is when all others leave.
    pub(super) fn was_copied(&self, number: u32) -> bool {
        !self.copied.is_empty() && self.copied.contains(&number)
    }
}

impl Connections {
    /// Copies the sockets and the facts of some relays, which go on.
    pub(in crate::worker) fn copy_ahead(&mut self, ops: &mut Operations<'_>, request: &CopyAhead) {
        if request.from == 0 {
            self.ahead.copied = HashSet::new();
        }
        let mut piece = CopiedAhead::new(request.worker);
        let end = self.entries.places();
        let mut place = request.from;
        while place < end && piece.count < COPIED_MAX && place - request.from < PLACES_MAX {
            if self.copy_one(ops, place, request.version, &mut piece).is_err() {
                // No descriptors are left, or it is a simulation: the rest crosses as a whole.
                place = end;
                break;
            }
            place += 1;
        }
        piece.next = (place < end).then_some(place);
        // Whoever asked may have given up.
        let _ = request.reply.send(piece);
    }

    fn copy_one(
        &mut self,
        ops: &mut Operations<'_>,
        place: u32,
        version: u16,
        piece: &mut CopiedAhead,
    ) -> io::Result<()> {
        let Some(entry) = self.entries.get(place) else { return Ok(()) };
        let Some(session) = entry.session.as_if_frozen() else { return Ok(()) };
        if self.is_transformed(place) || self.ends_tls(place) {
            return Ok(());
        }
        let (client, backend) = (entry.client, entry.backend);
        let copies = match (ops.duplicate(client), ops.duplicate(backend)) {
            (Ok(client), Ok(backend)) => [client, backend],
            // One of the two is about to end.
            (Err(error), _) | (_, Err(error)) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            (Err(error), _) | (_, Err(error)) => return Err(error),
        };
        ops.ease_relay(client);
        let progress = ops.relay_progress(client);
        let facts = self.facts_of(place, entry, session, progress.bytes, progress.last_activity);
        let pool = &self.apps[self.routes.pool_of(entry.session.identity().frontend)].state;
        let routed = routed(pool, self.first_bytes.asked(place));
        let at_rest = End { received: &[], queued: &[], ended: false, shut: false };
        let parts = RecordParts {
            facts: &facts,
            routed: &routed,
            client: at_rest,
            backend: Some(at_rest),
            allowance: None,
        };
        record::write(version, parts, &mut piece.records);
        piece.descriptors.extend(copies);
        piece.count += 1;
        self.ahead.copied.insert(entry.session.identity().number);
        Ok(())
    }

    /// All that the session at `place` is, apart from its sockets.
    pub(super) fn facts_of(
        &self,
        place: u32,
        entry: &Entry,
        session: FrozenSession,
        bytes: [u64; 2],
        last_activity: Time,
    ) -> SessionFacts {
        let identity = entry.session.identity();
        let pool = &self.apps[self.routes.pool_of(identity.frontend)].state;
        SessionFacts {
            number: self.number_of(entry),
            app: self.apps[self.routes.app_of(identity.frontend)].state.name().clone(),
            frontend: self.routes.frontend(identity.frontend).name().clone(),
            client: self.peers.address(identity.peer),
            carried: self.prefaces.carried(place).cloned(),
            endpoint: self.endpoints.get(entry.endpoint).map(|endpoint| name_of(endpoint)),
            tried: self.tried.get(&place).map_or_else(Vec::new, |tried| names_of(tried, pool)),
            has_permit: self.permits.contains_key(&place),
            session,
            bytes,
            last_activity,
        }
    }

    /// The relay of a session stopped whose sockets were copied: it stands still from now on.
    pub(super) fn hold(
        &mut self,
        ops: &mut Operations<'_>,
        place: u32,
        stop: RelayStop,
        last_activity: Time,
        held: &mut Held,
    ) {
        let Some(entry) = self.entries.get(place) else { return };
        let RelayStop { a, b, mut bytes, pending, .. } = stop;
        bytes.iter_mut().zip(&pending).for_each(|(bytes, pending)| *bytes += pending.len() as u64);
        let [for_backend, for_client] = pending;
        let mut end = |connection: ConnectionId, queued: &[u8]| {
            ops.stand(connection);
            Underway { received: Vec::new(), queued: queued.to_vec(), ends: ops.ends(connection) }
        };
        let (client, backend) = (end(a, &for_client), end(b, &for_backend));
        let half_closed = entry.session.is_half_closed();
        let number = self.number_of(entry);
        let progress = Progress { number, half_closed, bytes, last_activity, client, backend };
        if held.records.last().is_none_or(|records| records.len() >= MESSAGE_BYTES) {
            held.records.push(Vec::with_capacity(MESSAGE_BYTES + (1 << 10)));
        }
        if let Some(records) = held.records.last_mut() {
            progress::write(&progress, records);
        }
        held.half_closed += u64::from(half_closed);
        held.relaying += u64::from(!half_closed);
        let pending = [for_client, for_backend];
        self.ahead.held.insert(place, HeldRelay { bytes, last_activity, pending, ending: None });
    }

    /// Notes that a session is to be closed which stands still; says whether it does.
    pub(super) fn close_when_decided(&mut self, place: u32, ending: Ending) -> bool {
        if self.ahead.held.is_empty() {
            return false;
        }
        let Some(held) = self.ahead.held.get_mut(&place) else { return false };
        held.ending.get_or_insert(ending);
        true
    }

    /// Nobody follows this process: those that stand still go on.
    pub(in crate::worker) fn resume_held(&mut self, ops: &mut Operations<'_>) {
        self.ahead.copied = HashSet::new();
        while let Some((place, held)) = self.ahead.held.pop_first() {
            self.resume_one(ops, place, held);
        }
    }

    fn resume_one(&mut self, ops: &mut Operations<'_>, place: u32, held: HeldRelay) {
        let HeldRelay { bytes, last_activity, pending, ending } = held;
        // What has ended, the engine knows.
        let queued = pending.map(|queued| Underway { queued, ..Underway::default() });
        self.go_on(ops, place, queued, (bytes, last_activity));
        if let Some(ending) = ending {
            self.handle(ops, place, Event::Close(ending));
        }
    }

    /// Ends those that stand still, of which nobody knows how far they went: no stream must look complete.
    pub(in crate::worker) fn cut_held(&mut self, ops: &mut Operations<'_>) {
        while let Some((place, held)) = self.ahead.held.pop_first() {
            self.resume_one(ops, place, held);
            self.handle(ops, place, Event::Close(Ending::Shutdown));
        }
    }

    /// Another process has those that stand still, but for those that are to be kept, which go on here. A piece at a time.
    pub(in crate::worker) fn let_go_held(&mut self, ops: &mut Operations<'_>, request: &LetGo) {
        if !request.keep.is_empty() {
            let number = |place: u32| self.entries.get(place).map(|entry| self.number_of(entry));
            let is_kept = |place: &u32| number(*place).is_some_and(|number| request.keep.contains(&number));
            let kept: Vec<u32> = self.ahead.held.keys().copied().filter(is_kept).collect();
            for place in kept {
                if let Some(held) = self.ahead.held.remove(&place) {
                    self.resume_one(ops, place, held);
                }
            }
        }
        self.let_go_of_first(ops, LET_GO_MAX);
        // Whoever asked may have given up.
        let _ = request.reply.send((request.worker, self.ahead.held.len()));
    }

    /// Another process goes on, and whoever had this one let go of some did not stay to the end.
    pub(in crate::worker) fn let_go_of_rest(&mut self, ops: &mut Operations<'_>) {
        self.ahead.copied = HashSet::new();
        self.let_go_of_first(ops, usize::MAX);
    }

    fn let_go_of_first(&mut self, ops: &mut Operations<'_>, count_max: usize) {
        for _ in 0..count_max {
            let Some((place, _)) = self.ahead.held.pop_first() else { return };
            self.withdraw(ops, place);
        }
    }

    /// Another process carries the connection at `place` on, or knows best how it ended.
    fn withdraw(&mut self, ops: &mut Operations<'_>, place: u32) {
        let Some(entry) = self.entries.remove(place) else { return };
        ops.abandon(entry.client);
        ops.abandon(entry.backend);
        let Some(session) = entry.session.frozen() else { return };
        self.take_claims(place, &entry, OwnPace::default()).let_go(&session);
        self.line.release();
    }

    /// Takes in connections that another process still serves: they stand ready, and nothing is read or sent.
    pub(in crate::worker) fn expect_all(&mut self, ops: &mut Operations<'_>, arrivals: Arrivals) {
        self.ahead.expected.reserve(arrivals.sessions.len());
        for moved in arrivals.sessions {
            let number = moved.facts.number;
            let (place, _) = self.seat(ops, moved);
            if let Some(entry) = self.entries.get(place) {
                ops.stand(entry.client);
                ops.stand(entry.backend);
                self.ahead.expected.insert(number, place);
            }
        }
    }

    /// Carries on those that are expected and of which it was said how far they have come.
    pub(in crate::worker) fn go_on_expected(&mut self, ops: &mut Operations<'_>, progress: Vec<Progress>) {
        for Progress { number, half_closed, bytes, last_activity, client, backend } in progress {
            let Some(place) = self.ahead.expected.remove(&number) else { continue };
            if half_closed {
                self.handle(ops, place, Event::HalfClosed);
            }
            self.go_on(ops, place, [client, backend], (bytes, last_activity));
        }
    }

    /// Nothing more will be said of those that are expected. Either they ended where they were (`have_ended`); or nobody can
    /// say how far they went: then they are cut, and no stream looks complete.
    pub(in crate::worker) fn drop_expected(&mut self, ops: &mut Operations<'_>, have_ended: bool) {
        let mut places: Vec<u32> = std::mem::take(&mut self.ahead.expected).into_values().collect();
        places.sort_unstable();
        for place in places {
            if have_ended {
                self.withdraw(ops, place);
            } else {
                self.go_on(ops, place, Default::default(), ([0, 0], ops.now()));
                self.handle(ops, place, Event::Close(Ending::Shutdown));
            }
        }
    }

    /// Begins again with a relay whose connections stand.
    fn go_on(
        &mut self,
        ops: &mut Operations<'_>,
        place: u32,
        [at_client, at_backend]: [Underway; 2],
        (bytes, last_activity): ([u64; 2], Time),
    ) {
        let Some(entry) = self.entries.get(place) else { return };
        ops.complete(entry.client, at_client);
        ops.complete(entry.backend, at_backend);
        // What arrived was noticed while they stood.
        let options = RelayOptions {
            bytes,
            last_activity: Some(last_activity),
            a_is_ready: false,
            ..RelayOptions::default()
        };
        self.wake_up(ops, place, options, OwnPace::default());
    }
}
