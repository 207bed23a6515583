//! TLS of clients that ends here: from the hello to the relay, which takes the conversation over.
//!
//! The hello was read before, by the rules that fail closed. The bytes of the handshake stay with the kernel until a record
//! is whole, and what comes behind it stays there until the relay begins: a client that is slow costs no buffer.

use std::collections::HashMap;
use std::sync::Arc;

use ringway::Operations;
use ringway::layer::Layer;
use ringway::tls::{Conversation, Failure, FailureKind, Progress, ServerTerms, name_of_client};
use ringway_proto::sniff::SNIFF_BYTES_MAX;

use super::Connections;
use super::routing::Said;
use crate::control::access_log::{Asked, Secured};
use crate::metrics::AppCounter;
use crate::session::CloseReason;
use crate::session::tcp::Event;

/// Conversations whose relay has not begun, by the places of their sessions.
#[derive(Debug, Default)]
pub(super) struct Handshakes {
    open: HashMap<u32, Box<Conversation>>,
}

impl Handshakes {
    /// Whether the session at `place` has one.
    pub(super) fn has(&self, place: u32) -> bool {
        !self.open.is_empty() && self.open.contains_key(&place)
    }

    /// Takes the one of the session at `place`, for its relay or because it ended.
    pub(super) fn take(&mut self, place: u32) -> Option<Box<dyn Layer>> {
        if self.open.is_empty() {
            return None;
        }
        self.open.remove(&place).map(|conversation| conversation as Box<dyn Layer>)
    }
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
                self.handshakes.open.insert(place, Box::new(conversation));
                self.continue_handshake(ops, place, bytes, false);
            }
            Err(failure) => {
                let event = self.fail_handshake(place, &failure);
                self.handle(ops, place, event);
            }
        }
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
        let Some(conversation) = self.handshakes.open.get_mut(&place) else { return };
        let (peeked, answer) = (&mut self.buffers.payload, &mut self.buffers.answer);
        peeked.clear();
        peeked.extend(bytes);
        answer.clear();
        let is_all = bytes.len() >= SNIFF_BYTES_MAX;
        let outcome = conversation.handshake(peeked.as_mut_slice(), is_all, answer);
        // After a failure nothing is left behind: a socket that is closed with unread bytes resets, and the alert is lost.
        let taken = outcome.as_ref().map_or(bytes.len(), |progress| progress.taken);
        if taken > 0 {
            ops.consume(client, taken);
        }
        if !answer.is_empty() {
            // If it is gone, an event on its way says so.
            let _ = ops.send(client, answer.as_slice());
        }
        let event = match outcome {
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
        let conversation = self.handshakes.open.get(&place);
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
                FailureKind::NothingInCommon => AppCounter::HandshakesOfNothingInCommon,
                FailureKind::NoProtocol => AppCounter::HandshakesWithoutProtocol,
                FailureKind::PeerCertificate => AppCounter::HandshakesOfBadCertificates,
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
