//! What a worker keeps for each app: how to choose, how to dial, how long things may take, what it counts.

use std::sync::Arc;

use ringway::{ConnectOptions, SocketOptions, Time};

use super::endpoint_table::EndpointTable;
use super::preface::PrefaceRule;
use crate::balance::{Balancer, Random, Request};
use crate::endpoint::{AppState, Endpoint, EndpointId, EndpointSet, Sources, socket_options};
use crate::metrics::AppBlock;
use crate::model::Ejection;
use crate::session::tcp::{Event, Limits};

/// An app in one worker.
#[derive(Debug)]
pub(super) struct WorkerApp {
    pub(super) state: Arc<AppState>,
    pub(super) limits: Limits,
    pub(super) counters: Arc<AppBlock>,
    /// Routes that lead to it.
    pub(super) routes: u32,
    /// It is gone from the configuration, and goes from here with its last route.
    pub(super) is_retired: bool,
    pub(super) preface: PrefaceRule,
    /// When endpoints are left out for their failures.
    pub(super) ejection: Option<Ejection>,
    balancer: Balancer,
    /// Places in the worker's table, in the order of the balancer's set.
    places: Vec<u32>,
    sources: Sources,
    /// For each dial; only the source address changes.
    options: ConnectOptions,
}

impl WorkerApp {
    pub(super) fn new(
        state: Arc<AppState>,
        counters: Arc<AppBlock>,
        congestion: Option<String>,
        random: Random,
        table: &mut EndpointTable,
    ) -> Self {
        let model = state.model();
        let set = state.endpoints();
        Self {
            limits: Limits::of(model),
            counters,
            routes: 0,
            is_retired: false,
            preface: PrefaceRule::new(&model.proxy_protocol),
            ejection: model.health.ejection,
            places: table.adopt(&set, &[]),
            balancer: Balancer::new(model.balance, set, random),
            sources: Sources::new(&model.source),
            options: ConnectOptions { source: None, socket: socket_options(model, congestion) },
            state,
        }
    }

    /// Options of the sockets on both sides.
    pub(super) fn socket_options(&self) -> &SocketOptions {
        &self.options.socket
    }

    /// Goes on by another configuration. Connections that are open keep their endpoints; their limits are the new ones
    /// from the next time on that they are looked at.
    pub(super) fn change(&mut self, state: Arc<AppState>, table: &mut EndpointTable) {
        let model = state.model();
        let congestion = self.options.socket.congestion.take();
        self.limits = Limits::of(model);
        self.preface = PrefaceRule::new(&model.proxy_protocol);
        self.ejection = model.health.ejection;
        self.sources = Sources::new(&model.source);
        self.options = ConnectOptions { source: None, socket: socket_options(model, congestion) };
        self.is_retired = false;
        self.state = state;
        // Another balance is another set.
        self.refresh(table);
    }

    /// Whether its bytes have to be counted on their way.
    pub(super) fn is_paced(&self) -> bool {
        let limits = &self.state.model().limits;
        limits.bandwidth.is_some() || limits.bandwidth_per_connection.is_some()
    }

    /// Takes in a new set of endpoints, if there is one, in which those that wait may find room.
    pub(super) fn refresh(&mut self, table: &mut EndpointTable) {
        let set = self.state.endpoints();
        if Arc::ptr_eq(&set, self.balancer.set()) {
            return;
        }
        self.places = table.adopt(&set, &self.places);
        self.balancer.adopt(self.state.model().balance, set);
        self.state.queue().call();
    }

    /// Lets its endpoints go: the app leaves this worker.
    pub(super) fn leave(self, table: &mut EndpointTable) {
        self.places.iter().for_each(|place| table.let_go(*place));
    }

    /// What a client that asks for an endpoint for the first time is told while others wait for one: nobody overtakes.
    pub(super) fn answer_of_the_line(&mut self, now: Time) -> Option<Event> {
        if self.state.queue().waiting() == 0 {
            return None;
        }
        Some(if self.balancer.is_open(now) { Event::AllFull } else { Event::NoneAvailable })
    }

    /// Whether a client that has tried none would get an endpoint now.
    pub(super) fn has_room(&mut self, now: Time) -> bool {
        self.balancer.has_room(now)
    }

    /// Whether there was nothing to choose only because all that would do have as many connections as they may.
    pub(super) fn only_lacks_room(&self, tried: &[EndpointId]) -> bool {
        self.balancer.only_lacks_room(tried)
    }

    /// The endpoints it chooses among.
    pub(super) fn endpoints(&self) -> &EndpointSet {
        self.balancer.set()
    }

    /// Chooses an endpoint that was not tried, reserves it, and gives its place in the worker's table.
    pub(super) fn choose(&mut self, request: &Request<'_>) -> Option<u32> {
        self.balancer.choose(request).map(|index| self.places[index])
    }

    /// Whether the last choice did not ask for health, as too few endpoints are healthy.
    pub(super) fn is_panicking(&self) -> bool {
        self.balancer.is_panicking()
    }

    /// From how many local addresses `endpoint` can be dialled, the system's choice counted as one.
    pub(super) fn source_count(&self, endpoint: &Endpoint) -> u8 {
        u8::try_from(self.sources.count(endpoint.address())).unwrap_or(u8::MAX)
    }

    /// How to dial `endpoint` this time.
    pub(super) fn connect_options(&mut self, endpoint: &Endpoint) -> &ConnectOptions {
        self.options.source = self.sources.next(endpoint);
        &self.options
    }
}
