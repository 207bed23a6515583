//! TLS of clients that ends here: from the hello to the relay, which takes the conversation over.
//!
//! The hello was read before, by the rules that fail closed. The bytes of the handshake stay with the kernel until a record
//! is whole, and what comes behind it stays there until the relay begins: a client that is slow costs no buffer.

use std::collections::HashMap;
use std::sync::Arc;

use ringway::layer::{Buffers, Layer};
use ringway::tls::{Conversation, Failure, FailureKind, Progress, ServerTerms, name_of_client};
use ringway::{ConnectionId, Operations, PEEK_BYTES_MAX};
use ringway_proto::sniff::SNIFF_BYTES_MAX;

use super::Connections;
use super::routing::Said;
use crate::control::access_log::{Asked, Secured};
use crate::metrics::AppCounter;
use crate::session::CloseReason;
use crate::session::tcp::Event;

// A whole peek is as much as the hello is looked for in.
const _: () = assert!(SNIFF_BYTES_MAX == PEEK_BYTES_MAX);

/// Conversations whose relay has not begun, by the places of their sessions.
#[derive(Debug, Default)]
pub(super) struct Handshakes {
    clients: HashMap<u32, Box<Conversation>>,
    backends: HashMap<u32, Box<Conversation>>,
}

impl Handshakes {
    /// Whether the client of the session at `place` has one.
    pub(super) fn has_client(&self, place: u32) -> bool {
        !self.clients.is_empty() && self.clients.contains_key(&place)
    }

    /// Whether its backend has one.
    pub(super) fn has_backend(&self, place: u32) -> bool {
        !self.backends.is_empty() && self.backends.contains_key(&place)
    }

    /// The one of its backend.
    pub(super) fn backend_mut(&mut self, place: u32) -> Option<&mut Conversation> {
        self.backends.get_mut(&place).map(|conversation| &mut **conversation)
    }

    /// TLS with its backend begins.
    pub(super) fn insert_backend(&mut self, place: u32, conversation: Box<Conversation>) {
        self.backends.insert(place, conversation);
    }

    /// Its backend is gone, or another one.
    pub(super) fn forget_backend(&mut self, place: u32) {
        if !self.backends.is_empty() {
            self.backends.remove(&place);
        }
    }

    /// Takes both of the session at `place`, for its relay or because it ended: of the client and of the backend.
    pub(super) fn take(&mut self, place: u32) -> [Option<Box<dyn Layer>>; 2] {
        [&mut self.clients, &mut self.backends].map(|conversations| {
            if conversations.is_empty() {
                return None;
            }
            conversations.remove(&place).map(|conversation| conversation as Box<dyn Layer>)
        })
    }
}

/// Lets a conversation look at what waits on its connection: takes what it takes, and sends what it answers.
pub(super) fn shake(
    ops: &mut Operations<'_>,
    buffers: &mut Buffers,
    conversation: &mut Conversation,
    connection: ConnectionId,
    bytes: &[u8],
) -> Result<Progress, Failure> {
    let (peeked, answer) = (&mut buffers.payload, &mut buffers.answer);
    peeked.clear();
    peeked.extend(bytes);
    answer.clear();
    let is_all = bytes.len() >= PEEK_BYTES_MAX;
    let outcome = conversation.handshake(peeked.as_mut_slice(), is_all, answer);
    // After a failure nothing is left behind: a socket that is closed with unread bytes resets, and the alert is lost.
    let taken = outcome.as_ref().map_or(bytes.len(), |progress| progress.taken);
    if taken > 0 {
        ops.consume(connection, taken);
    }
    if !answer.is_empty() {
        // If it is gone, an event on its way says so.
        let _ = ops.send(connection, answer.as_slice());
    }
    outcome
}

impl Connections {
    /// What the app of the session at `place` ends TLS by, if it does.
    pub(super) fn terms(&self, place: u32) -> Option<ServerTerms> {
        let frontend = self.entries.get(place)?.session.identity().frontend;
        self.apps[self.routes.app_of(frontend)].state.terms().cloned()
    }

    /// The client at `place` sent a hello that can be read, with which `bytes` begin.
    pub(super) fn begin_handshake(
        &mut self,
        ops: &mut Operations<'_>,
        place: u32,
        asked: Asked,
        terms: &ServerTerms,
        bytes: &[u8],
    ) {
        self.first_bytes.note(place, Arc::new(asked));
        self.handle(ops, place, Event::HandshakeDue);
        match Conversation::accept(terms) {
            Ok(conversation) => {
                self.handshakes.clients.insert(place, Box::new(conversation));
                self.continue_handshake(ops, place, bytes, false);
            }
            Err(failure) => {
                let event = self.fail_handshake(place, &failure);
                self.handle(ops, place, event);
            }
        }
    }

    /// There can be no handshake with the client at `place`.
    pub(super) fn refuse_handshake(&mut self, ops: &mut Operations<'_>, place: u32, failure: &Failure) {
        let event = self.fail_handshake(place, failure);
        self.handle(ops, place, event);
    }

    /// Bytes of the client wait, or its end.
    pub(super) fn continue_handshake(
        &mut self,
        ops: &mut Operations<'_>,
        place: u32,
        bytes: &[u8],
        ended: bool,
    ) {
        let Some(client) = self.entries.get(place).map(|entry| entry.client) else { return };
        let Some(conversation) = self.handshakes.clients.get_mut(&place) else { return };
        let event = match shake(ops, &mut self.buffers, conversation, client, bytes) {
            Ok(Progress { is_established: true, .. }) => {
                ops.stop_peek(client);
                self.complete_handshake(ops, place)
            }
            Ok(Progress { taken: 0, .. }) if ended => {
                Event::ClientLeft { reset: false, unread: !bytes.is_empty() }
            }
            Ok(_) => return,
            Err(failure) => {
                ops.stop_peek(client);
                self.fail_handshake(place, &failure)
            }
        };
        self.handle(ops, place, event);
    }

    /// Finds the route of a client whose handshake is over.
    fn complete_handshake(&mut self, ops: &mut Operations<'_>, place: u32) -> Event {
        let conversation = self.handshakes.clients.get(&place);
        let agreed = conversation.and_then(|conversation| conversation.agreed());
        // Whoever showed one was held against the app's authorities.
        let shown = conversation.and_then(|conversation| conversation.peer_certificate());
        let client = shown.map(|shown| name_of_client(shown).unwrap_or_default().into());
        let (Some(agreed), Some(asked)) = (agreed, self.first_bytes.asked(place)) else {
            return Event::Routed;
        };
        let kind = match agreed.is_resumed {
            true => AppCounter::HandshakesResumed,
            false => AppCounter::HandshakesFull,
        };
        let secured = Secured::Agreed {
            version: agreed.version,
            cipher: agreed.cipher,
            alpn: agreed.alpn.as_deref().map(|alpn| String::from_utf8_lossy(alpn).into()),
            is_resumed: agreed.is_resumed,
            client,
        };
        let asked = Asked { secured: Some(secured), ..Asked::clone(asked) };
        self.count_handshake(place, kind);
        // What was offered and not agreed on is not spoken.
        let offers = |protocol: &[u8]| agreed.alpn.as_deref() == Some(protocol);
        self.take_route(ops, place, Some(&Said { asked, offers: &offers, path: None }))
    }

    fn fail_handshake(&mut self, place: u32, failure: &Failure) -> Event {
        let kind = failure.kind();
        self.count_handshake(
            place,
            match kind {
                FailureKind::PeerAlert => AppCounter::HandshakesFailedByAlert,
                FailureKind::NoCertificate => AppCounter::HandshakesWithoutCertificate,
                FailureKind::Overloaded => AppCounter::HandshakesOverloaded,
                FailureKind::NothingInCommon => AppCounter::HandshakesOfNothingInCommon,
                FailureKind::NoProtocol => AppCounter::HandshakesWithoutProtocol,
                FailureKind::PeerCertificateMissing => AppCounter::HandshakesOfMissingCertificates,
                FailureKind::PeerCertificateRevoked => AppCounter::HandshakesOfRevokedCertificates,
                FailureKind::PeerCertificateExpired => AppCounter::HandshakesOfExpiredCertificates,
                FailureKind::PeerCertificateUntrusted => AppCounter::HandshakesOfUntrustedCertificates,
                FailureKind::PeerCertificateUnlisted => AppCounter::HandshakesOfUnlistedCertificates,
                // A client is asked for no name.
                FailureKind::PeerCertificateMisnamed | FailureKind::PeerCertificate => {
                    AppCounter::HandshakesOfBadCertificates
                }
                FailureKind::Protocol => AppCounter::HandshakesAgainstTheRules,
            },
        );
        if let Some(entry) = self.entries.get(place)
            && let Some(asked) = self.first_bytes.asked(place)
        {
            let identity = entry.session.identity();
            let app = self.apps[self.routes.app_of(identity.frontend)].state.name();
            let peer = self.peers.address(identity.peer);
            let (sni, alpn) = (asked.sni().unwrap_or(""), asked.alpn.as_deref().unwrap_or(""));
            let reason = kind.as_str();
            tracing::debug!(%app, %peer, sni, alpn, reason, error = %failure, "handshake of TLS failed");
            let asked = Asked { secured: Some(Secured::Failed(reason)), ..Asked::clone(asked) };
            self.first_bytes.note(place, Arc::new(asked));
        }
        Event::Refused(CloseReason::HandshakeFailed)
    }

    fn count_handshake(&self, place: u32, counter: AppCounter) {
        if let Some(entry) = self.entries.get(place) {
            self.apps[self.routes.app_of(entry.session.identity().frontend)].counters.add(counter, 1);
        }
    }
}
