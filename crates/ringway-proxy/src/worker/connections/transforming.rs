//! Sessions whose bytes pass through here on their way: because their app limits its bandwidth, or as their TLS ends here.

use std::collections::hash_map::Entry;

use ringway::layer::Buffers;
use ringway::relay::{Step, TransformRelay};
use ringway::{ConnectionId, Operations, RelayCause, RelayOptions, RelayProgress, RelayStop, TimerId};

use super::Connections;
use super::pacing::{AppGate, OwnPace};
use crate::session::tcp::{Event, Stage};
use crate::worker::outcome_of;
use crate::worker::token::Owner;

/// A session's relay, and what is its own of its limits.
#[derive(Debug)]
pub(super) struct Transformed {
    relay: TransformRelay,
    own: OwnPace,
}

impl Connections {
    /// Whether the bytes of the session at `place` pass through here.
    pub(in crate::worker) fn is_transformed(&self, place: u32) -> bool {
        !self.transformed.is_empty() && self.transformed.contains_key(&place)
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
            self.transformed.insert(place, Transformed { relay, own });
        } else {
            ops.start_relay(client, backend, options);
        }
    }

    /// Takes the relay of the session at `place` apart, if its bytes are counted; the stop is none if it is about to
    /// end.
    pub(super) fn stop_transformed(
        &mut self,
        ops: &mut Operations<'_>,
        place: u32,
    ) -> Option<Option<(RelayStop, OwnPace)>> {
        let Some(stop) = self.transformed.get_mut(&place)?.relay.stop(ops) else { return Some(None) };
        self.transformed.remove(&place).map(|transformed| Some((stop, transformed.own)))
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
            self.transformed.insert(place, Transformed { relay, own: OwnPace::default() });
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
        let transformed = if self.transformed.is_empty() { None } else { self.transformed.get(&place) };
        transformed.map_or_else(|| ops.relay_progress(client), |transformed| transformed.relay.progress(ops))
    }

    /// Whether TLS of the session at `place` ends here, so that it cannot go elsewhere.
    pub(super) fn ends_tls(&self, place: u32) -> bool {
        self.handshakes.has_client(place)
            || self.transformed.get(&place).is_some_and(|transformed| transformed.relay.has_layers())
    }

    /// Something happened to a connection of the session at `place`. `false`: its bytes do not pass through here.
    pub(in crate::worker) fn handle_transformed(
        &mut self,
        ops: &mut Operations<'_>,
        place: u32,
        event: impl FnOnce(&mut TransformRelay, &mut Operations<'_>, &mut AppGate<'_>, &mut Buffers) -> Step,
    ) -> bool {
        let step = self.with_transformed(place, |relay, gate, buffers| event(relay, ops, gate, buffers));
        let Some(step) = step else { return false };
        self.take_step(ops, place, step);
        true
    }

    /// A timer of the session at `place` fired that is not the session's own.
    pub(super) fn handle_transformed_timer(&mut self, ops: &mut Operations<'_>, place: u32, timer: TimerId) {
        let step = self
            .with_transformed(place, |relay, gate, buffers| relay.on_timer(ops, timer, gate, buffers))
            .flatten();
        if let Some(step) = step {
            self.take_step(ops, place, step);
        }
    }

    /// Cuts the relay of the session at `place`; the event that says so, and its bytes.
    pub(super) fn cut_transformed(
        &mut self,
        ops: &mut Operations<'_>,
        place: u32,
    ) -> (Option<Event>, [u64; 2]) {
        let Some(mut transformed) = self.transformed.remove(&place) else { return (None, [0, 0]) };
        let end = transformed.relay.cut(ops);
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
            match self.transformed.entry(place) {
                Entry::Vacant(_) if is_paced => {
                    // One that cannot be stopped is about to end.
                    let _ = ops.stop_relay(entry.client);
                }
                Entry::Occupied(mut transformed) if !is_paced => {
                    if transformed.get_mut().relay.release(ops) {
                        transformed.remove();
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
            self.transformed.insert(place, Transformed { relay, own });
        }
        self.take_step(ops, place, step);
    }

    fn with_transformed<R>(
        &mut self,
        place: u32,
        act: impl FnOnce(&mut TransformRelay, &mut AppGate<'_>, &mut Buffers) -> R,
    ) -> Option<R> {
        let Transformed { relay, own } = self.transformed.get_mut(&place)?;
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
            self.transformed.remove(&place);
            self.handle_end(ops, place, outcome_of(&end), end.bytes);
        }
    }
}
