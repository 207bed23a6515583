//! Connections between processes: taking a place among those of this one, and leaving it to another.
//!
//! In the process that they come from connections stay counted until it is decided whose they are. Where they arrive they
//! are counted before that, so that a limit is not passed by who comes right after the decision.

use std::collections::HashMap;
use std::sync::Arc;

use ringway::{ExportedConnection, SocketAddress};

use super::connections::OwnPace;
use super::moving::{Claims, MovedSession};
use crate::admission::Admission;
use crate::control::access_log::Asked;
use crate::endpoint::{AppState, Endpoint, FrontendState};
use crate::model::Client;
use crate::session::SessionFacts;
use crate::session::record::{Allowance, AskedFor, Routed};
use crate::session::tcp::{FrozenPhase, FrozenSession};
use crate::snapshot::Snapshot;

/// Where connections of another process find their places.
pub struct Homes {
    apps: HashMap<Arc<str>, Home>,
    admission: Arc<Admission>,
}

struct Home {
    app: Arc<AppState>,
    frontends: HashMap<Arc<str>, Arc<FrontendState>>,
    /// By route, backend and address.
    endpoints: HashMap<EndpointKey, Arc<Endpoint>>,
}

type EndpointKey = (Option<Arc<str>>, Arc<str>, SocketAddress);

impl Homes {
    /// The places of a process.
    pub fn new(snapshot: &Snapshot, admission: Arc<Admission>) -> Self {
        let home = |app: &Arc<AppState>| {
            let frontends = app.frontends().iter();
            let mut endpoints = HashMap::new();
            for pool in app.with_pools() {
                for endpoint in pool.endpoints().endpoints() {
                    let key =
                        (pool.route().cloned(), Arc::clone(endpoint.name()), endpoint.address().clone());
                    endpoints.insert(key, Arc::clone(endpoint));
                }
            }
            Home {
                app: Arc::clone(app),
                frontends: frontends.map(|it| (Arc::clone(it.name()), Arc::clone(it))).collect(),
                endpoints,
            }
        };
        Self { apps: snapshot.apps().map(|app| (Arc::clone(app.name()), home(app))).collect(), admission }
    }
}

impl MovedSession {
    /// A connection that another process had: it is counted here from now on.
    ///
    /// # Errors
    /// Why this process cannot carry it on; then its sockets are closed here, and nothing is counted.
    pub fn arrive(
        facts: SessionFacts,
        routed: &Routed,
        allowance: Option<[Allowance; 2]>,
        (client, backend): (ExportedConnection, Option<ExportedConnection>),
        homes: &mut Homes,
    ) -> Result<Self, &'static str> {
        let home = homes.apps.get_mut(&facts.app).ok_or("no app of its name")?;
        let frontend = home.frontends.get(&facts.frontend).cloned().ok_or("no frontend of its name")?;
        let app = Arc::clone(&home.app);
        let pool = match &routed.route {
            None => Arc::clone(&app),
            Some(route) => {
                let named = app.pools().iter().find(|pool| pool.route() == Some(route));
                Arc::clone(named.ok_or("no route of its name")?)
            }
        };
        let endpoint = facts.endpoint.as_ref().map(|name| {
            let key = (routed.route.clone(), Arc::clone(&name.backend), name.address.clone());
            let departed = || pool.departed(&name.backend, &name.address);
            Arc::clone(home.endpoints.entry(key).or_insert_with(departed))
        });
        let frozen = &facts.session;
        if frozen.phase.is_admitted() {
            homes.admission.admit_anyway();
        }
        app.active().acquire();
        if routed.route.is_some() {
            pool.active().acquire();
        }
        if frozen.has_entered {
            app.counts().open().acquire();
        }
        if let Some(endpoint) = endpoint.as_ref().filter(|_| frozen.phase.holds_endpoint()) {
            endpoint.active().acquire();
        }
        let ip = facts.client.inet().map(|client| client.ip()).filter(|_| facts.has_permit);
        let permit = ip.map(|ip| app.counts().rejoin(app.rules(), ip));
        let awaits_route = matches!(frozen.phase, FrozenPhase::AwaitingRoute { .. });
        let handshake = (awaits_route && app.rules().limit_handshakes()).then(|| {
            app.counts().rejoin_handshake(app.rules(), facts.client.inet().map(|client| client.ip()))
        });
        let asked = routed.asked.as_ref().map(|asked| {
            let protocol = Client::ALL.into_iter().find(|client| client.as_str() == &*asked.protocol);
            Arc::new(Asked {
                name: asked.name.as_deref().map(Into::into),
                alpn: asked.alpn.as_deref().map(Into::into),
                ..Asked::new(protocol.unwrap_or(Client::Other))
            })
        });
        let pace = OwnPace::of(allowance);
        let claims = Claims { app, pool, asked, frontend, endpoint, permit, handshake, seat: None, pace };
        Ok(Self { facts, client, backend, claims })
    }

    /// Another process has it: it is counted here no more, and its sockets are let go of without a word.
    pub fn let_go(self, admission: &Admission) {
        let Self { facts, claims, client, backend } = self;
        if facts.session.phase.is_admitted() {
            admission.release();
        }
        claims.let_go(&facts.session);
        drop((client, backend));
    }

    /// Where a route led it, and by what.
    pub fn routed(&self) -> Routed {
        routed(&self.claims.pool, self.claims.asked.as_ref())
    }

    /// What it has used of its bandwidth; `None` if it has none of its own.
    pub fn allowance(&self) -> Option<[Allowance; 2]> {
        self.claims.pace.allowance()
    }

    /// Another process may hold copies of its sockets from now on: wherever it goes on, its end is told by a shutdown.
    pub fn share(&mut self) {
        self.client.shared = true;
        if let Some(backend) = &mut self.backend {
            backend.shared = true;
        }
    }
}

impl Claims {
    /// Gives back what is counted of a connection that another process has; all but its place below the limit.
    pub(super) fn let_go(self, frozen: &FrozenSession) {
        self.app.active().release();
        if self.pool.route().is_some() {
            self.pool.active().release();
        }
        if frozen.has_entered {
            self.app.counts().open().release();
        }
        if let Some(endpoint) = self.endpoint.as_ref().filter(|_| frozen.phase.holds_endpoint()) {
            endpoint.release();
        }
    }
}

/// Where a route led a connection whose backends are those of `pool`, and what its client asked for.
pub(super) fn routed(pool: &AppState, asked: Option<&Arc<Asked>>) -> Routed {
    let asked = asked.map(|asked| AskedFor {
        protocol: asked.protocol.as_str().into(),
        name: asked.name.as_deref().map(Arc::from),
        alpn: asked.alpn.as_deref().map(Arc::from),
    });
    Routed { route: pool.route().cloned(), asked }
}
