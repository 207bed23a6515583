//! Where a client goes: by what it is, or by its first bytes, which are looked at and stay where they are.

use std::collections::HashMap;
use std::sync::{Arc, Weak};

use ringway::Operations;
use ringway::tls::{CertificateStore, Failure};
use ringway_proto::sniff::{SNIFF_BYTES_MAX, Sniffed, sniff};

use super::Connections;
use super::entry_limits::reason_of;
use crate::admission::HandshakePermit;
use crate::control::access_log::Asked;
use crate::model::{Client, Unreadable};
use crate::routing::{Decision, Inquirer};
use crate::session::CloseReason;
use crate::session::tcp::{Event, Identity, Session};
use crate::worker::loading::{Asker, Order};

const _: () = assert!(SNIFF_BYTES_MAX <= ringway::PEEK_BYTES_MAX);

/// What is known of connections by their first bytes, by the places of their sessions.
#[derive(Debug, Default)]
pub(super) struct FirstBytes {
    /// Of those that have sent some which do not say enough: whether they are of one protocol for sure.
    pending: HashMap<u32, bool>,
    /// Of those that are waited for, where that is limited.
    permits: HashMap<u32, HandshakePermit>,
    /// Of those whose certificates were ordered: from which store.
    fetched: HashMap<u32, Weak<CertificateStore>>,
    asked: HashMap<u32, Arc<Asked>>,
}

impl FirstBytes {
    /// What the client asked for.
    pub(super) fn asked(&self, place: u32) -> Option<&Arc<Asked>> {
        if self.asked.is_empty() { None } else { self.asked.get(&place) }
    }

    /// The client of the session at `place` asked for this, as another worker found out.
    pub(super) fn note(&mut self, place: u32, asked: Arc<Asked>) {
        self.asked.insert(place, asked);
    }

    /// The first bytes of the client at `place` are waited for, as another worker has done.
    pub(super) fn wait_on(&mut self, place: u32, permit: HandshakePermit) {
        self.permits.insert(place, permit);
    }

    /// What counts the client at `place` as one whose first bytes are waited for.
    pub(super) fn take_permit(&mut self, place: u32) -> Option<HandshakePermit> {
        if self.permits.is_empty() { None } else { self.permits.remove(&place) }
    }

    /// Nothing is waited for any more at `place`.
    fn settle(&mut self, place: u32) {
        if !self.pending.is_empty() {
            self.pending.remove(&place);
        }
        if !self.permits.is_empty() {
            self.permits.remove(&place);
        }
        if !self.fetched.is_empty() {
            self.fetched.remove(&place);
        }
    }

    /// The session at `place` ended. Gives what its client asked for.
    pub(super) fn remove(&mut self, place: u32) -> Option<Arc<Asked>> {
        self.settle(place);
        if self.asked.is_empty() { None } else { self.asked.remove(&place) }
    }
}

/// Whether a handshake can begin.
enum Fetch {
    /// No file has to be read for it.
    Ready,
    /// The certificate is being loaded: the hello is looked at again then.
    Ordered,
    /// Too many wait.
    Impossible,
}

/// What a client says of itself with its first bytes.
pub(super) struct Said<'a> {
    pub(super) asked: Asked,
    pub(super) offers: &'a dyn Fn(&[u8]) -> bool,
    pub(super) path: Option<&'a str>,
}

impl Said<'_> {
    fn only(protocol: Client) -> Self {
        Self { asked: Asked::new(protocol), offers: &|_| false, path: None }
    }
}

impl Connections {
    /// Finds the route of the session at `place`, unless it is to be found by its first bytes.
    pub(super) fn route(&mut self, ops: &mut Operations<'_>, place: u32, app: usize) -> Event {
        let state = &self.apps[app].state;
        if !state.routes().needs_bytes() {
            return self.take_route(ops, place, None);
        }
        if state.rules().limit_handshakes() {
            let Some(entry) = self.entries.get(place) else { return Event::Routed };
            let peer = self.peers.address(entry.session.identity().peer);
            let ip = peer.inet().map(|address| address.ip());
            match state.counts().begin_handshake(state.rules(), ip) {
                Ok(permit) => drop(self.first_bytes.permits.insert(place, permit)),
                Err(refusal) => return Event::Refused(reason_of(refusal)),
            }
        }
        Event::RouteDue
    }

    /// Bytes of a client wait that may say where it goes, or its end.
    pub(super) fn read_first_bytes(
        &mut self,
        ops: &mut Operations<'_>,
        place: u32,
        bytes: &[u8],
        ended: bool,
    ) {
        let event = match sniff(bytes) {
            Sniffed::More { .. } if ended && bytes.is_empty() => {
                Event::ClientLeft { reset: false, unread: false }
            }
            Sniffed::More { is_bound: true } if ended => Event::ClientLeft { reset: false, unread: true },
            Sniffed::More { is_bound: false } if ended => {
                self.take_route(ops, place, Some(&Said::only(Client::Other)))
            }
            Sniffed::More { is_bound } => {
                if !bytes.is_empty() {
                    self.first_bytes.pending.insert(place, is_bound);
                }
                return;
            }
            Sniffed::Tls(hello) => {
                let offers = |name: &[u8]| hello.alpn().any(|protocol| protocol.as_bytes() == name);
                let alpn: Vec<String> = hello.alpn().map(|protocol| protocol.to_string()).collect();
                let asked = Asked {
                    name: hello.server_name().map(|name| name.as_str().into()),
                    alpn: (!alpn.is_empty()).then(|| alpn.join(",").into()),
                    ..Asked::new(Client::Tls)
                };
                if let Some(terms) = self.terms(place) {
                    match self.fetch_certificate(ops, place, &asked) {
                        Fetch::Ready => {}
                        Fetch::Ordered => return,
                        Fetch::Impossible => {
                            return self.refuse_handshake(ops, place, &Failure::overloaded());
                        }
                    }
                    return self.begin_handshake(ops, place, asked, &terms, bytes);
                }
                self.take_route(ops, place, Some(&Said { asked, offers: &offers, path: None }))
            }
            Sniffed::Http1(request) => {
                let protocol = if request.is_websocket { Client::WebSocket } else { Client::Http1 };
                let name = request.host.as_ref().map(|name| name.as_str().into());
                let asked = Asked { name, ..Asked::new(protocol) };
                let said = Said { asked, offers: &|_| false, path: Some(request.path) };
                self.take_route(ops, place, Some(&said))
            }
            Sniffed::Http2 => self.take_route(ops, place, Some(&Said::only(Client::Http2))),
            Sniffed::Ssh => self.take_route(ops, place, Some(&Said::only(Client::Ssh))),
            Sniffed::PostgreSql => self.take_route(ops, place, Some(&Said::only(Client::PostgreSql))),
            Sniffed::Other => self.take_route(ops, place, Some(&Said::only(Client::Other))),
            Sniffed::Unreadable(error) => self.follow_rule_of_unreadable(place, &error.to_string()),
        };
        if let Some(entry) = self.entries.get(place) {
            ops.stop_peek(entry.client);
        }
        self.handle(ops, place, event);
    }

    /// Has the certificate that the client at `place` asks for loaded if it is not, elsewhere.
    fn fetch_certificate(&mut self, ops: &mut Operations<'_>, place: u32, asked: &Asked) -> Fetch {
        let Some(entry) = self.entries.get(place) else { return Fetch::Ready };
        let Identity { frontend, number, .. } = *entry.session.identity();
        let Some(certificates) = self.apps[self.routes.app_of(frontend)].state.certificates() else {
            return Fetch::Ready;
        };
        if certificates.is_ready(asked.sni()) {
            return Fetch::Ready;
        }
        let store = Arc::downgrade(certificates);
        // A reload may have come meanwhile, with another store.
        if let Some(before) = self.first_bytes.fetched.insert(place, Weak::clone(&store))
            && before.ptr_eq(&store)
        {
            // It could not be loaded: the handshake finds none, and tells of it.
            return Fetch::Ready;
        }
        // If it waits in vain, this is what for.
        self.first_bytes.note(place, Arc::new(asked.clone()));
        let order = Order {
            certificates: Arc::clone(certificates),
            host: asked.sni().map(Box::from),
            mailer: self.mailer.clone(),
            client: Asker { place, number },
        };
        // That it leaves is heard of all the same.
        ops.stop_peek(entry.client);
        ops.watch(entry.client);
        // It has spoken.
        self.first_bytes.pending.insert(place, true);
        if self.loader.order(order) { Fetch::Ordered } else { Fetch::Impossible }
    }

    /// The certificate that a client waits for is loaded, or cannot be.
    pub(in crate::worker) fn handle_loaded(&mut self, ops: &mut Operations<'_>, client: Asker) {
        let is_meant =
            |session: &Session| session.identity().number == client.number && session.awaits_route();
        if let Some(entry) = self.entries.get(client.place).filter(|entry| is_meant(&entry.session)) {
            ops.start_peek(entry.client, SNIFF_BYTES_MAX);
        }
    }

    /// The client at `place` had time to speak first.
    pub(super) fn end_silence(&mut self, ops: &mut Operations<'_>, place: u32) -> Event {
        let protocol = match self.first_bytes.pending.get(&place) {
            Some(true) => return Event::RoutePending,
            Some(false) => Client::Other,
            None => Client::Silent,
        };
        let event = self.take_route(ops, place, Some(&Said::only(protocol)));
        if let Some(entry) = self.entries.get(place) {
            ops.stop_peek(entry.client);
        }
        event
    }

    /// Sends the session at `place` on by the first route that fits. `said`: what its first bytes say, where they were
    /// looked at.
    pub(super) fn take_route(
        &mut self,
        ops: &mut Operations<'_>,
        place: u32,
        said: Option<&Said<'_>>,
    ) -> Event {
        let Some(entry) = self.entries.get(place) else { return Event::Routed };
        let identity = entry.session.identity();
        let state = Arc::clone(&self.apps[self.routes.app_of(identity.frontend)].state);
        let destination = match state.routes().asks_for_destination() {
            true => self.prefaces.destination(place).or_else(|| ops.local_address(entry.client)),
            false => None,
        };
        let client = Inquirer {
            protocol: said.map(|said| said.asked.protocol),
            name: said.and_then(|said| said.asked.name.as_deref()),
            client_name: said.and_then(|said| said.asked.verified_client()),
            offers: said.map_or(&|_| false, |said| said.offers),
            path: said.and_then(|said| said.path),
            source: self.peers.address(identity.peer).inet().map(|address| address.ip()),
            destination: destination.and_then(|address| address.inet()),
        };
        let decision = state.routes().decide(state.model(), &client);
        self.first_bytes.settle(place);
        if let Some(said) = said {
            self.first_bytes.asked.insert(place, Arc::new(said.asked.clone()));
        }
        match decision {
            Decision::Route(route) => self.enter_pool(place, route),
            Decision::Own => {}
            Decision::Unreadable => return self.follow_rule_of_unreadable(place, "no hello of TLS"),
            Decision::NoRoute => return Event::Refused(CloseReason::NoRoute),
        }
        Event::Routed
    }

    /// The first bytes of the client at `place` cannot be read as what they have to be.
    fn follow_rule_of_unreadable(&mut self, place: u32, error: &str) -> Event {
        self.first_bytes.settle(place);
        let Some(entry) = self.entries.get(place) else { return Event::Routed };
        let identity = entry.session.identity();
        let state = &self.apps[self.routes.app_of(identity.frontend)].state;
        let peer = self.peers.address(identity.peer);
        tracing::debug!(app = %state.name(), %peer, error, "first bytes cannot be read");
        match state.model().tls.as_ref().map(|tls| &tls.unreadable) {
            Some(Unreadable::Pool(_)) => {
                // It stands behind those of the routes.
                let pool = state.model().routes.len();
                self.enter_pool(place, pool);
                Event::Routed
            }
            Some(Unreadable::Refuse) | None => Event::Refused(CloseReason::HelloUnreadable),
        }
    }

    /// The session at `place` goes to a pool of its app, by its number.
    fn enter_pool(&mut self, place: u32, pool: usize) {
        let Some(entry) = self.entries.get_mut(place) else { return };
        let trunk = entry.session.identity().frontend;
        let Some(pool) = self.apps[self.routes.app_of(trunk)].state.pools().get(pool).cloned() else {
            return;
        };
        self.apps.ensure(&pool, &mut self.endpoints);
        let (branch, is_new) = self.routes.branch(trunk, pool.slot());
        self.apps[pool.slot()].routes += u32::from(is_new);
        entry.session.set_frontend(branch);
        pool.active().acquire();
        self.let_go_of_route(trunk);
    }
}
