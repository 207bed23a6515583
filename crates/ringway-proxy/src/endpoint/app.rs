//! An app as all threads see it: its configuration, its endpoints now, its frontends, its count of connections.
//!
//! An app with routes is several: itself, and for each route one without frontends, the route's pool. A pool has a slot, a
//! set of endpoints and a count of its own, so that whatever looks at apps by slot sees it as it sees any app; what
//! concerns the app as a whole, its limits and counters, is that of the app.

use std::borrow::Cow;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use ringway::SocketAddress;
use ringway::tls::{CertificateStore, MadeKey, ServerTerms};

use super::ramp::Ramp;
use super::resolved::Resolved;
use super::roll::Roll;
use super::steering::{Steering, SteeringTable};
use super::terms::TicketOffice;
use super::{Endpoint, EndpointSet, ExactCount, FrontendState, OutlierGate};
use crate::admission::{AppCounts, AppRules, Queue};
use crate::metrics::AppCounters;
use crate::model;
use crate::routing::RouteTable;

/// What stays of an app while its configuration changes. It lives until its last connection has ended, if it is
/// removed before; until then its slot is its own.
#[derive(Debug)]
pub struct AppCore {
    slot: usize,
    name: Arc<str>,
    /// Of a pool: the name of its route, and its app.
    route: Option<(Arc<str>, Arc<AppCore>)>,
    active: ExactCount,
    /// Those of the app, if it is a pool.
    counts: Arc<AppCounts>,
    /// Likewise.
    counters: Arc<AppCounters>,
    roll: Roll,
    steering: SteeringTable,
    outliers: OutlierGate,
    tickets: TicketOffice,
    is_drained: AtomicBool,
}

impl AppCore {
    /// An app that is new in this slot.
    pub fn new(slot: usize, name: &str) -> Self {
        Self::with_route(slot, Arc::from(name), None)
    }

    /// The pool of a route of an app, new in this slot.
    pub fn of_route(slot: usize, route: &str, app: &Arc<Self>) -> Self {
        Self::with_route(slot, Arc::clone(&app.name), Some((Arc::from(route), Arc::clone(app))))
    }

    fn with_route(slot: usize, name: Arc<str>, route: Option<(Arc<str>, Arc<Self>)>) -> Self {
        let parent = route.as_ref().map(|(_, app)| app);
        Self {
            slot,
            name,
            active: ExactCount::new(),
            counts: parent.map(|app| Arc::clone(&app.counts)).unwrap_or_default(),
            counters: parent.map(|app| Arc::clone(&app.counters)).unwrap_or_default(),
            route,
            roll: Roll::default(),
            steering: SteeringTable::default(),
            outliers: OutlierGate::default(),
            tickets: TicketOffice::default(),
            is_drained: AtomicBool::new(false),
        }
    }

    /// Its place in the tables of all threads.
    pub fn slot(&self) -> usize {
        self.slot
    }

    /// Its name; that of its app, if it is a pool.
    pub fn name(&self) -> &Arc<str> {
        &self.name
    }

    /// The name of the route whose pool it is.
    pub fn route(&self) -> Option<&Arc<str>> {
        self.route.as_ref().map(|(route, _)| route)
    }

    /// The app that it is a pool of.
    pub fn parent(&self) -> Option<&Arc<Self>> {
        self.route.as_ref().map(|(_, app)| app)
    }

    /// Connections of clients that are open now, over all workers; of an app those of its pools included.
    pub fn active(&self) -> &ExactCount {
        &self.active
    }

    /// What is counted against the limits of the app.
    pub fn counts(&self) -> &Arc<AppCounts> {
        &self.counts
    }

    /// What the threads counted of the app.
    pub fn counters(&self) -> &AppCounters {
        &self.counters
    }

    /// Its clients that wait for a backend with room.
    pub fn queue(&self) -> &Arc<Queue> {
        &self.roll.changes().queue
    }

    /// Its endpoints, and those that left it while they had connections. An app has none of its pools'.
    pub(crate) fn living_endpoints(&self) -> Vec<Arc<Endpoint>> {
        self.roll.living()
    }

    /// Who leaves out endpoints whose connections fail.
    pub fn outliers(&self) -> &OutlierGate {
        &self.outliers
    }

    /// Whether an operator keeps new connections away from it.
    pub fn is_drained(&self) -> bool {
        self.is_drained.load(Ordering::Acquire)
    }

    /// Keeps new connections away, or lets them come again; workers have to be told. Says whether that is news.
    pub fn set_drained(&self, drained: bool) -> bool {
        self.is_drained.swap(drained, Ordering::AcqRel) != drained
    }
}

/// What the control plane and all workers share about an app with one configuration. A changed one gets a new state
/// for the same [`AppCore`], which shares what did not change.
#[derive(Debug)]
pub struct AppState {
    core: Arc<AppCore>,
    model: Arc<model::App>,
    rules: AppRules,
    routes: RouteTable,
    /// By what it ends TLS.
    terms: Option<ServerTerms>,
    frontends: Vec<Arc<FrontendState>>,
    /// In the order of [`model::App::pools`].
    pools: Vec<Arc<AppState>>,
    endpoints: Mutex<Arc<EndpointSet>>,
}

impl AppState {
    /// The state of a new app in this slot, with an endpoint for each backend that has a fixed address. Host names get
    /// theirs by [`Self::resolve`].
    pub fn new(slot: usize, model: &model::App) -> Self {
        let frontends = model.frontends.iter().cloned().map(FrontendState::new).map(Arc::new).collect();
        let core = Arc::new(AppCore::new(slot, &model.name));
        Self::with(core, Arc::new(model.clone()), frontends, Vec::new(), None)
    }

    /// The state of an app with these frontends and pools, in the order of the configuration. `before`: its state until
    /// now, whose endpoints are kept where a backend of the same name has the same address.
    pub fn with(
        core: Arc<AppCore>,
        model: Arc<model::App>,
        frontends: Vec<Arc<FrontendState>>,
        pools: Vec<Arc<Self>>,
        before: Option<&Self>,
    ) -> Self {
        let set = match before {
            Some(before) if EndpointSet::is_alike(&before.model, &model) => before.endpoints(),
            Some(before) => {
                let set = before.endpoints();
                let addresses = addresses_after(before, &set, &model);
                let model = core.steering.apply(&model);
                Arc::new(EndpointSet::new(&model, &addresses, Some(&set), &core.roll))
            }
            // Its connections may be of an earlier time, and what was said of it then.
            None => {
                let model = core.steering.apply(&model);
                Arc::new(EndpointSet::new(&model, &fixed_addresses(&model), None, &core.roll))
            }
        };
        let rules = AppRules::new(&model.limits);
        let routes = RouteTable::new(&model);
        let termination = model.tls.as_ref().and_then(|tls| tls.termination.as_deref());
        let terms = termination.map(|termination| core.tickets.terms(&core.name, termination));
        Self { core, rules, routes, terms, model, frontends, pools, endpoints: Mutex::new(set) }
    }

    /// What stays of it while its configuration changes.
    pub fn core(&self) -> &Arc<AppCore> {
        &self.core
    }

    /// Its place in the tables of all threads.
    pub fn slot(&self) -> usize {
        self.core.slot
    }

    /// Its name.
    pub fn name(&self) -> &Arc<str> {
        &self.core.name
    }

    /// Its configuration.
    pub fn model(&self) -> &Arc<model::App> {
        &self.model
    }

    /// Whom it lets in.
    pub fn rules(&self) -> &AppRules {
        &self.rules
    }

    /// What is counted against the limits of the app.
    pub fn counts(&self) -> &Arc<AppCounts> {
        self.core.counts()
    }

    /// Which of its clients takes which of its routes.
    pub fn routes(&self) -> &RouteTable {
        &self.routes
    }

    /// By what it ends TLS, if it does.
    pub fn terms(&self) -> Option<&ServerTerms> {
        self.terms.as_ref()
    }

    /// The keys of its clients' tickets that were made and not given, the one that seals first.
    pub fn ticket_keys(&self) -> Vec<MadeKey> {
        self.terms.as_ref().map(|_| self.core.tickets.made()).unwrap_or_default()
    }

    /// Goes on with the keys that seal its clients' tickets in another process.
    pub fn go_on_with_ticket_keys(&self, made: &[MadeKey]) {
        self.core.tickets.go_on_with(made);
    }

    /// The certificates that it ends TLS with, if it does.
    pub fn certificates(&self) -> Option<&Arc<CertificateStore>> {
        let termination = self.model.tls.as_ref()?.termination.as_ref()?;
        Some(&termination.certificates)
    }

    /// The pools of its routes, in the order of the configuration.
    pub fn pools(&self) -> &[Arc<Self>] {
        &self.pools
    }

    /// Itself, for the backends of its own, and its pools.
    pub fn with_pools(self: &Arc<Self>) -> impl Iterator<Item = &Arc<Self>> {
        std::iter::once(self).chain(&self.pools)
    }

    /// The name of the route whose pool it is.
    pub fn route(&self) -> Option<&Arc<str>> {
        self.core.route()
    }

    /// Its clients that wait for a backend with room.
    pub fn queue(&self) -> &Arc<Queue> {
        self.core.queue()
    }

    /// Its frontends, in the order of the configuration.
    pub fn frontends(&self) -> &[Arc<FrontendState>] {
        &self.frontends
    }

    /// Its frontends that accept connections: none if an operator drains it.
    pub fn open_frontends(&self) -> &[Arc<FrontendState>] {
        if self.core.is_drained() { &[] } else { &self.frontends }
    }

    /// Connections of clients that are open now, over all workers.
    pub fn active(&self) -> &ExactCount {
        &self.core.active
    }

    /// What the threads counted of it.
    pub fn counters(&self) -> &AppCounters {
        self.core.counters()
    }

    /// The endpoints now. Workers hold their own reference and hear by mail that there is a new set.
    pub fn endpoints(&self) -> Arc<EndpointSet> {
        Arc::clone(&self.endpoints.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// As [`Self::resolve_records`], of addresses that go by the configuration alone.
    ///
    /// # Panics
    /// If there is not one list for each backend.
    pub fn resolve(&self, resolved: &[Vec<SocketAddress>]) -> Option<Arc<EndpointSet>> {
        let list = |addresses: &Vec<SocketAddress>| addresses.iter().cloned().map(Into::into).collect();
        self.resolve_records(&resolved.iter().map(list).collect::<Vec<_>>())
    }

    /// Takes in new addresses, one list a backend in the order of the configuration, and gives the new set, of which
    /// the workers and the prober are to be told; `None` if nothing changed. An address that stays keeps its endpoint,
    /// with its counts and health.
    ///
    /// # Panics
    /// If there is not one list for each backend.
    pub fn resolve_records(&self, resolved: &[Vec<Resolved>]) -> Option<Arc<EndpointSet>> {
        let mut endpoints = self.endpoints.lock().unwrap_or_else(PoisonError::into_inner);
        *endpoints = Arc::new(endpoints.with_addresses(&self.steered(), resolved, &self.core.roll)?);
        Some(Arc::clone(&endpoints))
    }

    /// An endpoint that is in no set any more, and has connections of another process.
    pub(crate) fn departed(&self, name: &Arc<str>, address: &SocketAddress) -> Arc<Endpoint> {
        let changes = Arc::clone(self.core.roll.changes());
        let (name, address) = (Arc::clone(name), address.clone());
        let endpoint = Arc::new(Endpoint::new(0, name, address, (0, false), Ramp::full(), changes));
        self.core.roll.add(&endpoint);
        endpoint
    }

    /// What an operator said of a backend.
    pub fn steering(&self, backend: &model::Backend) -> Steering {
        self.core.steering.of(backend)
    }

    /// Does what an operator says of the backends with this name, and gives the new set, to be told of as that of
    /// [`Self::resolve`]; `None` if nothing changes.
    pub fn steer(&self, name: &str, steering: Steering) -> Option<Arc<EndpointSet>> {
        let mut endpoints = self.endpoints.lock().unwrap_or_else(PoisonError::into_inner);
        let named = self.model.backends.iter().filter(|backend| backend.name == name);
        // All of them, so no `any`.
        if named.filter(|backend| self.core.steering.set(backend, steering)).count() == 0 {
            return None;
        }
        *endpoints = Arc::new(endpoints.reweighed(&self.steered()));
        Some(Arc::clone(&endpoints))
    }

    /// The configuration with what operators said in the place of what is written.
    fn steered(&self) -> Cow<'_, model::App> {
        self.core.steering.apply(&self.model)
    }
}

fn fixed_addresses(model: &model::App) -> Vec<Vec<Resolved>> {
    let addresses = |backend: &model::Backend| match &backend.target {
        model::Target::Address(address) => vec![address.clone().into()],
        model::Target::Host { .. } | model::Target::Service { .. } => Vec::new(),
    };
    model.backends.iter().map(addresses).collect()
}

/// The addresses that the backends of `model` have if names mean what they meant for `before`.
fn addresses_after(before: &AppState, set: &EndpointSet, model: &model::App) -> Vec<Vec<Resolved>> {
    let mut addresses = fixed_addresses(model);
    for (backend, addresses) in model.backends.iter().zip(&mut addresses) {
        if let model::Target::Address(_) = backend.target {
            continue;
        }
        let Some(same) = before.model.backends.iter().position(|other| other.target == backend.target) else {
            continue;
        };
        let known = set.endpoints().iter().filter(|endpoint| endpoint.backend() == same);
        let resolved = |endpoint: &Arc<Endpoint>| Resolved {
            address: endpoint.address().clone(),
            record: endpoint.record.get(),
        };
        *addresses = known.map(resolved).collect();
    }
    addresses
}
