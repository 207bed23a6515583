//! Sessions whose bytes pass through here on their way: because their app limits its bandwidth, or as their TLS ends here.

use std::collections::hash_map::Entry;

use ringway::layer::Buffers;
use ringway::relay::{Gate, Passage, Step, TransformRelay};
use ringway::{
    ConnectionId, Operations, RelayCause, RelayOptions, RelayProgress, RelayStop, Side, Time, TimerId,
};

use super::Connections;
use crate::admission::Pacer;
use crate::admission::bandwidth::slice;
use crate::endpoint::AppState;
use crate::metrics::{AppBlock, AppCounter};
use crate::session::record::Allowance;
use crate::session::tcp::{Event, Stage};
use crate::worker::outcome_of;
use crate::worker::token::Owner;

/// A session's relay, and what is its own of its limits.
#[derive(Debug)]
pub(super) struct Paced {
    relay: TransformRelay,
    own: OwnPace,
}

/// Of each direction, by the side that sends.
#[derive(Debug, Default)]
pub(in crate::worker) struct OwnPace {
    pacers: [Pacer; 2],
    slices: [Slice; 2],
}

impl OwnPace {
    /// That of a connection that came from another process.
    pub(in crate::worker) fn of(allowance: Option<[Allowance; 2]>) -> Self {
        let own = Self::default();
        let Some(allowance) = allowance else { return own };
        for (pacer, allowance) in own.pacers.iter().zip(&allowance) {
            pacer.go_on(allowance.next.as_nanos());
        }
        let slices = allowance.map(|Allowance { reserved_bytes, due, is_of_app, .. }| Slice {
            bytes: reserved_bytes as usize,
            due,
            is_of_app,
        });
        Self { slices, ..own }
    }

    /// The same, for another process; `None` if nothing is used and nothing is reserved.
    pub(in crate::worker) fn allowance(&self) -> Option<[Allowance; 2]> {
        let of_direction = |index: usize| {
            let slice = &self.slices[index];
            Allowance {
                next: Time::from_nanos(self.pacers[index].next()),
                // A slice is no longer than 64 KiB.
                reserved_bytes: u32::try_from(slice.bytes).unwrap_or(u32::MAX),
                due: slice.due,
                is_of_app: slice.is_of_app,
            }
        };
        let allowance = [of_direction(0), of_direction(1)];
        let is_used = |of: &Allowance| of.next != Time::ZERO || of.reserved_bytes > 0;
        allowance.iter().any(is_used).then_some(allowance)
    }
}

/// Bytes for which time is reserved.
#[derive(Debug, Default)]
struct Slice {
    /// Zero: none are.
    bytes: usize,
    due: Time,
    /// Reserved of the app's bandwidth too; before that, of the connection's alone.
    is_of_app: bool,
}

/// Lets the bytes of a session through as its limits say.
pub(in crate::worker) struct AppGate<'a> {
    own: &'a mut OwnPace,
    app: &'a AppState,
    counters: &'a AppBlock,
}

impl Gate for AppGate<'_> {
    fn pass(&mut self, from: Side, waiting: usize, now: Time) -> Passage {
        let limits = &self.app.model().limits;
        if limits.bandwidth.is_none() && limits.bandwidth_per_connection.is_none() {
            return Passage::Go(waiting);
        }
        let reserve = |pacer: &Pacer, bytes, rate: Option<u64>| {
            rate.map_or(now, |rate| Time::from_nanos(pacer.reserve(now.as_nanos(), bytes, rate)))
        };
        let next = &mut self.own.slices[from.index()];
        if next.bytes == 0 {
            let rates = [limits.bandwidth, limits.bandwidth_per_connection];
            let bytes = rates.into_iter().flatten().map(slice).fold(waiting, usize::min);
            let own = &self.own.pacers[from.index()];
            let due = reserve(own, bytes, limits.bandwidth_per_connection);
            *next = Slice { bytes, due, is_of_app: false };
        }
        // One after the other: what waits for its own time takes none of the others'.
        if next.due <= now && !next.is_of_app {
            let all = &self.app.counts().bandwidth()[from.index()];
            (next.due, next.is_of_app) = (reserve(all, next.bytes, limits.bandwidth), true);
        }
        if next.due > now {
            self.counters.add(AppCounter::BandwidthWaits, 1);
            return Passage::Wait(next.due);
        }
        Passage::Go(std::mem::take(&mut next.bytes))
    }
}

impl Connections {
    /// Whether the bytes of the session at `place` pass through here.
    pub(in crate::worker) fn is_paced(&self, place: u32) -> bool {
        !self.paced.is_empty() && self.paced.contains_key(&place)
    }

    /// Joins the two connections of the session at `place`, which has come here.
    pub(super) fn join_again(
        &mut self,
        ops: &mut Operations<'_>,
        place: u32,
        app: usize,
        [client, backend]: [ConnectionId; 2],
        options: RelayOptions,
        own: OwnPace,
    ) {
        if self.apps[app].is_paced() {
            let token = Owner::Session(place).token();
            let relay = TransformRelay::start(ops, [client, backend], token, options.bytes);
            let relay = relay.with_last_activity(options.last_activity.unwrap_or(ops.now()));
            self.paced.insert(place, Paced { relay, own });
        } else {
            ops.start_relay(client, backend, options);
        }
    }

    /// Takes the relay of the session at `place` apart, if its bytes are counted; the stop is none if it is about to
    /// end.
    pub(super) fn stop_paced(
        &mut self,
        ops: &mut Operations<'_>,
        place: u32,
    ) -> Option<Option<(RelayStop, OwnPace)>> {
        let Some(stop) = self.paced.get_mut(&place)?.relay.stop(ops) else { return Some(None) };
        self.paced.remove(&place).map(|paced| Some((stop, paced.own)))
    }

    /// Joins the two connections of the session at `place`.
    pub(super) fn join(
        &mut self,
        ops: &mut Operations<'_>,
        place: u32,
        app: usize,
        client: ConnectionId,
        backend: ConnectionId,
    ) {
        let layers = self.handshakes.take(place);
        if layers.iter().any(Option::is_some) || self.apps[app].is_paced() {
            let token = Owner::Session(place).token();
            let relay = TransformRelay::start(ops, [client, backend], token, [0, 0]);
            let relay = relay.with_layers(layers);
            self.paced.insert(place, Paced { relay, own: OwnPace::default() });
        } else {
            ops.start_relay(client, backend, RelayOptions::default());
        }
    }

    /// How far the relay of the session at `place` has come.
    pub(super) fn relay_progress(
        &self,
        ops: &Operations<'_>,
        place: u32,
        client: ConnectionId,
    ) -> RelayProgress {
        let paced = if self.paced.is_empty() { None } else { self.paced.get(&place) };
        paced.map_or_else(|| ops.relay_progress(client), |paced| paced.relay.progress(ops))
    }

    /// Whether TLS of the session at `place` ends here, so that it cannot go elsewhere.
    pub(super) fn ends_tls(&self, place: u32) -> bool {
        self.handshakes.has_client(place)
            || self.paced.get(&place).is_some_and(|paced| paced.relay.has_layers())
    }

    /// Something happened to a connection of the session at `place`. `false`: its bytes do not pass through here.
    pub(in crate::worker) fn handle_paced(
        &mut self,
        ops: &mut Operations<'_>,
        place: u32,
        event: impl FnOnce(&mut TransformRelay, &mut Operations<'_>, &mut AppGate<'_>, &mut Buffers) -> Step,
    ) -> bool {
        let step = self.with_paced(place, |relay, gate, buffers| event(relay, ops, gate, buffers));
        let Some(step) = step else { return false };
        self.take_step(ops, place, step);
        true
    }

    /// A timer of the session at `place` fired that is not the session's own.
    pub(super) fn handle_paced_timer(&mut self, ops: &mut Operations<'_>, place: u32, timer: TimerId) {
        let step = self
            .with_paced(place, |relay, gate, buffers| relay.on_timer(ops, timer, gate, buffers))
            .flatten();
        if let Some(step) = step {
            self.take_step(ops, place, step);
        }
    }

    /// Cuts the relay of the session at `place`; the event that says so, and its bytes.
    pub(super) fn cut_paced(&mut self, ops: &mut Operations<'_>, place: u32) -> (Option<Event>, [u64; 2]) {
        let Some(mut paced) = self.paced.remove(&place) else { return (None, [0, 0]) };
        let end = paced.relay.cut(ops);
        (Some(Event::RelayEnded(outcome_of(&end))), end.bytes)
    }

    /// The bytes of an app are counted from now on, or not any more: those of its open connections, too.
    pub(super) fn change_relays(&mut self, ops: &mut Operations<'_>, app: usize) {
        let is_paced = self.apps[app].is_paced();
        for place in 0..self.entries.places() {
            let Some(entry) = self.entries.get(place) else { continue };
            let is_relayed = matches!(entry.session.stage(), Stage::Relaying | Stage::HalfClosed);
            if !is_relayed || self.routes.pool_of(entry.session.identity().frontend) != app {
                continue;
            }
            match self.paced.entry(place) {
                Entry::Vacant(_) if is_paced => {
                    // One that cannot be stopped is about to end.
                    let _ = ops.stop_relay(entry.client);
                }
                Entry::Occupied(mut paced) if !is_paced => {
                    if paced.get_mut().relay.release(ops) {
                        paced.remove();
                    }
                }
                Entry::Vacant(_) | Entry::Occupied(_) => {}
            }
        }
    }

    /// The relay of the session at `place` was stopped, so that its bytes are counted from now on.
    pub(in crate::worker) fn handle_relay_stopped(
        &mut self,
        ops: &mut Operations<'_>,
        place: u32,
        stop: RelayStop,
    ) {
        let Some(entry) = self.entries.get(place) else { return };
        if entry.session.is_frozen() {
            return self.handle_stopped(ops, place, stop);
        }
        let app = &self.apps[self.routes.pool_of(entry.session.identity().frontend)];
        let is_closing = entry.session.stage() == Stage::Closing;
        let mut own = OwnPace::default();
        let mut gate = AppGate { own: &mut own, app: &app.state, counters: &app.counters };
        let (mut relay, mut step) = TransformRelay::resume(ops, stop, &mut gate, &mut self.buffers);
        if step.end.is_none() && is_closing {
            // It was told to end just before.
            step.end = Some(relay.cut(ops));
        }
        // Another reload may have come meanwhile.
        let is_released = step.end.is_none() && !app.is_paced() && relay.release(ops);
        if step.end.is_none() && !is_released {
            self.paced.insert(place, Paced { relay, own });
        }
        self.take_step(ops, place, step);
    }

    fn with_paced<R>(
        &mut self,
        place: u32,
        act: impl FnOnce(&mut TransformRelay, &mut AppGate<'_>, &mut Buffers) -> R,
    ) -> Option<R> {
        let Paced { relay, own } = self.paced.get_mut(&place)?;
        let app = &self.apps[self.routes.pool_of(self.entries.get(place)?.session.identity().frontend)];
        let mut gate = AppGate { own, app: &app.state, counters: &app.counters };
        Some(act(relay, &mut gate, &mut self.buffers))
    }

    fn take_step(&mut self, ops: &mut Operations<'_>, place: u32, step: Step) {
        if step.half_closed.is_some() {
            self.handle(ops, place, Event::HalfClosed);
        }
        if let Some(end) = step.end {
            if let RelayCause::Failed(error) = &end.cause {
                tracing::debug!(place, side = ?end.side, %error, "relay failed");
            }
            self.paced.remove(&place);
            self.handle_end(ops, place, outcome_of(&end), end.bytes);
        }
    }
}
