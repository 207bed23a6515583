//! Taking connections out of a worker, and putting them into one.
//!
//! A relay is stopped by the engine in its own time, and so are sockets taken out of it. Until then their session is
//! frozen and has an entry in [`Moves`]; it may still end meanwhile. Those that were asked for together leave together.

use std::collections::HashMap;
use std::mem;
use std::sync::Arc;
use std::time::Duration;

use ringway::{ConnectionId, ExportedConnection, Operations, RelayOptions, RelayStop, Side, Time, TimerId};

use super::{Connections, Entry, OwnPace};
use crate::endpoint::{AppState, Endpoint, EndpointId};
use crate::metrics::WorkerCounter;
use crate::session::tcp::{Event, FrozenPhase, Identity, Session, Stage};
use crate::session::{Ending, EndpointName, Slab};
use crate::worker::endpoint_table::NO_ENDPOINT;
use crate::worker::moving::{Arrivals, Claims, MovedSession, Stayed, Staying, TakeOut, Taken, Which};
use crate::worker::preface::Preface;
use crate::worker::token::Owner;

/// Places that one request for idle connections looks at: some 300 ns each, as for a list.
const PLACES_MAX: u32 = 2_048;

/// The connections of a worker that are leaving.
#[derive(Default)]
pub(super) struct Moves {
    /// By the place of their session.
    leaving: HashMap<u32, Leaving>,
    groups: Slab<Group>,
    /// Where the next look for idle connections begins.
    next_place: u32,
}

/// A frozen session whose connections are not out yet.
struct Leaving {
    group: u32,
    last_activity: Time,
    /// What the relay had handed on; pending bytes are queued at the connections that they are for.
    bytes: [u64; 2],
    pending: [Vec<u8>; 2],
    /// Bytes of `[client, backend]` that were received and may not pass yet.
    held: [Vec<u8>; 2],
    pace: OwnPace,
    has_backend: bool,
    /// Another process has its sockets already: it stands still here instead.
    stays: bool,
    client: Option<ExportedConnection>,
    backend: Option<ExportedConnection>,
    /// It is to be closed as soon as it is somebody's again.
    ending: Option<Ending>,
}

/// Connections that leave together.
struct Group {
    request: TakeOut,
    taken: Taken,
    /// Those that are on their way out.
    awaited: usize,
}

impl Connections {
    /// Takes connections out, to deliver them all at once: when the last is out, or now if none is.
    pub(in crate::worker) fn take_out(&mut self, ops: &mut Operations<'_>, request: TakeOut) {
        let which = request.which;
        let group = self.moves.groups.insert(Group { request, taken: Taken::default(), awaited: 0 });
        match which {
            Which::All => {
                self.moves.leaving.reserve(self.entries.len());
                for place in 0..self.entries.places() {
                    self.freeze(ops, place, group);
                }
            }
            Which::Idle { count_max, silence } => {
                let mut count = 0;
                let places = self.entries.places();
                for _ in 0..places.min(PLACES_MAX) {
                    if count == count_max {
                        break;
                    }
                    let place = self.moves.next_place % places;
                    self.moves.next_place = place + 1;
                    if self.is_idle(ops, place, silence) && self.freeze(ops, place, group) {
                        count += 1;
                    }
                }
            }
        }
        if let Some(group) = self.moves.groups.get_mut(group) {
            group.taken.sessions.reserve_exact(group.awaited);
        }
        self.deliver_if_complete(ops, group);
    }

    fn is_idle(&self, ops: &Operations<'_>, place: u32, silence: Duration) -> bool {
        self.entries.get(place).is_some_and(|entry| {
            matches!(entry.session.stage(), Stage::Relaying | Stage::HalfClosed)
                && !entry.session.is_frozen()
                && ops.now().since(self.relay_progress(ops, place, entry.client).last_activity) >= silence
        })
    }

    /// Begins to take the connections of the session at `place` out. Says whether it does.
    fn freeze(&mut self, ops: &mut Operations<'_>, place: u32, group: u32) -> bool {
        let Some(entry) = self.entries.get(place).filter(|entry| !entry.session.is_frozen()) else {
            return false;
        };
        if self.ends_tls(place) {
            let number = self.number_of(entry);
            if let Some(group) = self.moves.groups.get_mut(group) {
                group.taken.staying.push(Stayed { number, why: Staying::Tls });
            }
            return false;
        }
        let (client, backend) = (entry.client, entry.backend);
        let has_relay = matches!(entry.session.stage(), Stage::Relaying | Stage::HalfClosed);
        let last_activity = match has_relay {
            true => self.relay_progress(ops, place, client).last_activity,
            false => ops.now(),
        };
        let stopped = if has_relay { self.stop_transformed(ops, place) } else { None };
        // A relay that breaks ends by itself, within seconds.
        let may_leave = match &stopped {
            Some(stop) => stop.is_some(),
            None => !has_relay || ops.stop_relay(client),
        };
        let number = self.entries.get(place).map_or(0, |entry| self.number_of(entry));
        let Some(entry) = self.entries.get_mut(place) else { return false };
        let Some(its_group) = self.moves.groups.get_mut(group) else { return false };
        let stays = has_relay
            && stopped.is_none()
            && its_group.request.which == Which::All
            && self.ahead.was_copied(entry.session.identity().number);
        let was_starved = entry.session.is_starved();
        let Some(actions) = may_leave.then(|| entry.session.freeze()).flatten() else {
            its_group.taken.staying.push(Stayed { number, why: Staying::Ending });
            return false;
        };
        its_group.awaited += 1;
        self.starved -= usize::from(was_starved);
        if !entry.timer.is_none() {
            ops.cancel_timer(mem::replace(&mut entry.timer, TimerId::NONE));
        }
        let app = self.routes.pool_of(entry.session.identity().frontend);
        let is_stopped = stopped.is_some();
        let (bytes, held, pace) = match stopped.flatten() {
            Some((stop, pace)) => (stop.bytes, stop.pending, pace),
            None => Default::default(),
        };
        self.moves.leaving.insert(
            place,
            Leaving {
                group,
                last_activity,
                bytes,
                pending: Default::default(),
                held,
                pace,
                has_backend: has_relay,
                stays,
                client: None,
                backend: None,
                ending: None,
            },
        );
        for action in actions.as_slice() {
            self.perform(ops, place, app, *action);
        }
        // Else when the relay is stopped.
        if is_stopped || !has_relay {
            ops.export(client);
        }
        if is_stopped {
            ops.export(backend);
        }
        true
    }

    /// The relay of a session was stopped.
    pub(in crate::worker) fn handle_stopped(
        &mut self,
        ops: &mut Operations<'_>,
        place: u32,
        stop: RelayStop,
    ) {
        let Some(leaving) = self.moves.leaving.get_mut(&place) else { return };
        if leaving.stays {
            return self.stay(ops, place, stop);
        }
        leaving.bytes = stop.bytes;
        leaving.pending = stop.pending;
        ops.export(stop.a);
        ops.export(stop.b);
    }

    /// The relay of a session was stopped that does not leave, and stands still.
    fn stay(&mut self, ops: &mut Operations<'_>, place: u32, stop: RelayStop) {
        let Some(Leaving { group, last_activity, ending, .. }) = self.moves.leaving.remove(&place) else {
            return;
        };
        let Some(its_group) = self.moves.groups.get_mut(group) else { return };
        let mut held = mem::take(&mut its_group.taken.held);
        its_group.awaited -= 1;
        self.hold(ops, place, stop, last_activity, &mut held);
        if let Some(its_group) = self.moves.groups.get_mut(group) {
            its_group.taken.held = held;
        }
        if let Some(ending) = ending {
            self.close_when_decided(place, ending);
        }
        self.deliver_if_complete(ops, group);
    }

    /// A connection of the session at `place` is out of the engine.
    pub(in crate::worker) fn handle_exported(
        &mut self,
        ops: &mut Operations<'_>,
        place: u32,
        side: Side,
        exported: ExportedConnection,
    ) {
        let Some(leaving) = self.moves.leaving.get_mut(&place) else { return };
        match side {
            Side::A => leaving.client = Some(exported),
            Side::B => leaving.backend = Some(exported),
        }
        if leaving.client.is_none() || leaving.has_backend && leaving.backend.is_none() {
            return;
        }
        let Some(mut leaving) = self.moves.leaving.remove(&place) else { return };
        let (group, ending) = (leaving.group, leaving.ending.take());
        let Some(moved) = self.depart(place, leaving) else { return };
        let Some(its_group) = self.moves.groups.get_mut(group) else { return };
        its_group.awaited -= 1;
        match ending {
            None => its_group.taken.sessions.push(moved),
            Some(ending) => {
                let place = self.put_in(ops, moved);
                self.handle(ops, place, Event::Close(ending));
            }
        }
        self.deliver_if_complete(ops, group);
    }

    /// The session at `place` ended before it was out. What is out of it ends abruptly: it was cut.
    pub(super) fn leave_no_more(&mut self, ops: &mut Operations<'_>, place: u32) {
        if self.moves.leaving.is_empty() {
            return;
        }
        let Some(leaving) = self.moves.leaving.remove(&place) else { return };
        for exported in [leaving.client, leaving.backend].into_iter().flatten() {
            reset(ops, exported);
        }
        if let Some(group) = self.moves.groups.get_mut(leaving.group) {
            group.awaited -= 1;
        }
        self.deliver_if_complete(ops, leaving.group);
    }

    /// A session that is on its way out is to be closed; says whether it is.
    pub(super) fn close_when_out(&mut self, place: u32, ending: Ending) -> bool {
        match self.moves.leaving.get_mut(&place) {
            Some(leaving) => {
                leaving.ending.get_or_insert(ending);
                true
            }
            None => false,
        }
    }

    fn deliver_if_complete(&mut self, ops: &mut Operations<'_>, group: u32) {
        if self.moves.groups.get(group).is_none_or(|group| group.awaited > 0) {
            return;
        }
        let Some(Group { request, taken, .. }) = self.moves.groups.remove(group) else { return };
        if let Err(unwanted) = (request.deliver)(taken) {
            for moved in unwanted.sessions {
                self.put_in(ops, moved);
            }
            self.resume_held(ops);
        }
    }

    /// Takes the session at `place` out of all tables of this worker; what all workers count of it stays counted.
    fn depart(&mut self, place: u32, leaving: Leaving) -> Option<MovedSession> {
        let entry = self.entries.remove(place)?;
        let session = entry.session.frozen().expect("what leaves is frozen");
        if !session.phase.is_admitted() {
            self.line.forget();
        }
        let Leaving { mut bytes, pending, held, pace, last_activity, client, mut backend, .. } = leaving;
        let mut client = client?;
        let [for_backend, for_client] = pending;
        for (held, from) in held.into_iter().zip([Some(&mut client), backend.as_mut()]) {
            if let Some(from) = from.filter(|_| !held.is_empty()) {
                from.received.splice(..0, held);
            }
        }
        for (direction, (pending, to)) in
            [(for_backend, backend.as_mut()), (for_client, Some(&mut client))].into_iter().enumerate()
        {
            if let Some(to) = to.filter(|_| !pending.is_empty()) {
                bytes[direction] += pending.len() as u64;
                append(&mut to.queued, pending);
            }
        }
        let facts = self.facts_of(place, &entry, session, bytes, last_activity);
        let claims = self.take_claims(place, &entry, pace);
        Some(MovedSession { facts, client, backend, claims })
    }

    /// Takes what is known of a session out of all tables, once it is out of that of the sessions.
    pub(super) fn take_claims(&mut self, place: u32, entry: &Entry, pace: OwnPace) -> Claims {
        let Identity { peer, frontend, number } = *entry.session.identity();
        let claims = Claims {
            app: Arc::clone(&self.apps[self.routes.app_of(frontend)].state),
            pool: Arc::clone(&self.apps[self.routes.pool_of(frontend)].state),
            handshake: self.first_bytes.take_permit(place),
            asked: self.first_bytes.remove(place),
            frontend: Arc::clone(self.routes.frontend(frontend)),
            endpoint: self.endpoints.get(entry.endpoint).cloned(),
            permit: self.permits.remove(&place),
            seat: self.seats.remove(&place),
            pace,
        };
        self.endpoints.let_go(entry.endpoint);
        self.tried.remove(&place);
        self.numbers.remove(&number);
        self.peers.take(peer);
        self.prefaces.remove(place);
        self.let_go_of_route(frontend);
        self.note_count();
        claims
    }

    /// Carries a connection on here; gives the place of its session.
    pub(in crate::worker) fn put_in(&mut self, ops: &mut Operations<'_>, moved: MovedSession) -> u32 {
        let (bytes, last_activity) = (moved.facts.bytes, Some(moved.facts.last_activity));
        let (place, pace) = self.seat(ops, moved);
        if let Some(pace) = pace {
            let options = RelayOptions { bytes, last_activity, ..RelayOptions::default() };
            self.wake_up(ops, place, options, pace);
        }
        place
    }

    /// Gives a connection its place here, where it stays frozen. Without its pace it has ended right there.
    pub(super) fn seat(&mut self, ops: &mut Operations<'_>, moved: MovedSession) -> (u32, Option<OwnPace>) {
        let MovedSession { facts, client, backend, claims } = moved;
        self.apps.ensure(&claims.app, &mut self.endpoints);
        let app = claims.app.slot();
        let frontend = match self.routes.find(&claims.frontend) {
            Some(route) => {
                self.routes.hold(route);
                route
            }
            // Held by this session alone.
            None => self.open_route(app, &claims.frontend),
        };
        let pool = claims.pool.slot();
        let frontend = if pool == app { frontend } else { self.branch_off(frontend, &claims.pool) };
        let number = self.next_number;
        self.next_number = number.wrapping_add(1);
        self.numbers.insert(number, facts.number);
        let identity = Identity { peer: self.peers.store(facts.client), frontend, number };
        let endpoint = claims.endpoint.as_ref().map_or(NO_ENDPOINT, |it| self.endpoints.hold_endpoint(it));
        let place = self.entries.insert(Entry {
            session: Session::of(facts.session, identity),
            client: ConnectionId::NONE,
            backend: ConnectionId::NONE,
            timer: TimerId::NONE,
            endpoint,
        });
        self.note_count();
        if let Some(asked) = claims.asked {
            self.first_bytes.note(place, asked);
        }
        if let Some(permit) = claims.permit {
            self.permits.insert(place, permit);
        }
        if let Some(permit) = claims.handshake {
            self.first_bytes.wait_on(place, permit);
        }
        if let Some(mut seat) = claims.seat {
            seat.move_to(&self.bell, place);
            self.seats.insert(place, seat);
        }
        if let Some(carried) = facts.carried {
            self.prefaces.set(place, Preface::Carried(carried));
        } else if facts.session.phase == FrozenPhase::AwaitingPreface {
            self.prefaces.set(place, Preface::Awaited { has_bytes: false });
        }
        let tried = ids_of(&facts.tried, &claims.pool);
        if !tried.is_empty() {
            self.tried.insert(place, tried);
        }
        if !facts.session.phase.is_admitted() {
            self.line.push((place, number));
        }
        let token = Owner::Session(place).token();
        let adopted =
            (ops.adopt(client, token), backend.map(|backend| ops.adopt(backend, token)).transpose());
        let (client, backend) = match adopted {
            (Ok(client), Ok(backend)) => (client, backend.unwrap_or(ConnectionId::NONE)),
            (client, backend) => {
                // From another kind of world, which whoever brought it here should have known.
                for id in client.ok().into_iter().chain(backend.ok().flatten()) {
                    ops.reset(id);
                }
                self.handle(ops, place, Event::ClientLost { reset: false });
                return (place, None);
            }
        };
        if let Some(entry) = self.entries.get_mut(place) {
            (entry.client, entry.backend) = (client, backend);
        }
        (place, Some(claims.pace))
    }

    /// The session at `place` thaws, and goes on with its connections as they are in the engine.
    pub(super) fn wake_up(
        &mut self,
        ops: &mut Operations<'_>,
        place: u32,
        options: RelayOptions,
        pace: OwnPace,
    ) {
        let Some(entry) = self.entries.get(place) else { return };
        let Some(phase) = entry.session.frozen().map(|frozen| frozen.phase) else { return };
        let (ends, frontend) = ([entry.client, entry.backend], entry.session.identity().frontend);
        let (app, pool) = (self.routes.app_of(frontend), self.routes.pool_of(frontend));
        if phase.has_backend() {
            self.join_again(ops, place, pool, ends, options, pace);
        }
        let Some(entry) = self.entries.get_mut(place) else { return };
        let last_activity = options.last_activity.unwrap_or(ops.now());
        let actions = entry.session.thaw(last_activity, &self.apps[pool].limits, ops.now());
        self.starved += usize::from(entry.session.is_starved());
        let was_admitted = phase.is_admitted();
        if let Some(event) = self.act(ops, place, (app, pool), &actions, was_admitted, &mut [0, 0]) {
            self.handle(ops, place, event);
        }
        if self.is_closing {
            self.handle(ops, place, Event::Close(Ending::Shutdown));
        }
    }

    /// The route of the same frontend to a pool, for a session that holds `trunk` and lets it go for that.
    fn branch_off(&mut self, trunk: u32, pool: &Arc<AppState>) -> u32 {
        self.apps.ensure(pool, &mut self.endpoints);
        let (branch, is_new) = self.routes.branch(trunk, pool.slot());
        if is_new {
            self.apps[pool.slot()].routes += 1;
        }
        self.let_go_of_route(trunk);
        branch
    }

    /// Ends what came, of which nobody knows how far it went: no stream must look complete.
    pub(in crate::worker) fn cut_all(&mut self, ops: &mut Operations<'_>, arrivals: Arrivals) {
        for moved in arrivals.sessions {
            // Whatever it was about to do here, its bytes may flow by now.
            let has_relay = moved.facts.session.phase.has_backend();
            let place = self.put_in(ops, moved);
            if let Some(entry) = self.entries.get(place).filter(|_| !has_relay) {
                ops.reset(entry.client);
            }
            self.handle(ops, place, Event::Close(Ending::Shutdown));
        }
    }

    /// Carries on what came from another worker.
    pub(in crate::worker) fn put_all_in(&mut self, ops: &mut Operations<'_>, arrivals: Arrivals) {
        self.metrics.add_worker(WorkerCounter::ConnectionsMoved, arrivals.sessions.len() as u64);
        for moved in arrivals.sessions {
            self.put_in(ops, moved);
        }
    }
}

/// Ends a connection that is out of its engine, so that its stream does not look complete.
pub(in crate::worker) fn reset(ops: &mut Operations<'_>, exported: ExportedConnection) {
    // It came out of this engine. No session knows it by this name, so none hears that it is closed.
    if let Ok(id) = ops.adopt(exported, Owner::Session(0).token()) {
        ops.reset(id);
    }
}

/// Most have nothing queued: then nothing is copied.
fn append(queued: &mut Vec<u8>, pending: Vec<u8>) {
    if queued.is_empty() {
        *queued = pending;
    } else {
        queued.extend_from_slice(&pending);
    }
}

pub(super) fn name_of(endpoint: &Endpoint) -> EndpointName {
    EndpointName { backend: Arc::clone(endpoint.name()), address: endpoint.address().clone() }
}

/// The names of endpoints; of those that the app has no more nobody will ask.
pub(super) fn names_of(ids: &[EndpointId], app: &AppState) -> Vec<EndpointName> {
    if ids.is_empty() {
        return Vec::new();
    }
    let set = app.endpoints();
    let named = set.endpoints().iter().filter(|endpoint| ids.contains(&endpoint.id()));
    named.map(|endpoint| name_of(endpoint)).collect()
}

fn ids_of(names: &[EndpointName], app: &AppState) -> Vec<EndpointId> {
    if names.is_empty() {
        return Vec::new();
    }
    let set = app.endpoints();
    let is_named = |endpoint: &Endpoint| {
        names.iter().any(|name| name.backend == *endpoint.name() && name.address == *endpoint.address())
    };
    set.endpoints().iter().filter(|endpoint| is_named(endpoint)).map(|endpoint| endpoint.id()).collect()
}
