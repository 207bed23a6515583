//! TLS to backends: from the established connection to the relay, which takes the conversation over.
//!
//! It is a part of the dial: within its time, and a failure sends the session to another backend, as nothing of the client's was
//! sent. The bytes of the backend stay with the kernel as those of clients do.

use ringway::tls::{Conversation, Failure, Progress};
use ringway::{ConnectionId, Operations, PEEK_BYTES_MAX};

use super::Connections;
use super::handshaking::shake;
use crate::endpoint::DialFailure;
use crate::session::tcp::Event;

impl Connections {
    /// Begins TLS on the backend's connection of the session at `place`; an event if that fails at once.
    pub(super) fn secure_backend(
        &mut self,
        ops: &mut Operations<'_>,
        place: u32,
        pool: usize,
    ) -> Option<Event> {
        // It is for whoever accepts the connection, and not within TLS.
        self.send_header(ops, place, pool);
        let entry = self.entries.get(place)?;
        let backend = entry.backend;
        let endpoint = self.endpoints.get(entry.endpoint).expect("what is connected was chosen, and is held");
        let model = self.apps[pool].state.model();
        // A reload may have taken it away just now.
        let Some(tls) = model.backend_tls.as_ref() else { return Some(Event::BackendSecured) };
        let answer = &mut self.buffers.answer;
        answer.clear();
        let begun = match tls.name_of(model, endpoint.name()) {
            Some(name) => Conversation::connect(&tls.terms, &name, answer),
            None => Err(Failure::without_name()),
        };
        match begun {
            Ok(conversation) => {
                // If it is gone, an event on its way says so.
                let _ = ops.send(backend, answer.as_slice());
                self.handshakes.insert_backend(place, Box::new(conversation));
                ops.start_peek(backend, PEEK_BYTES_MAX);
                None
            }
            Err(failure) => Some(self.fail_backend(ops, place, DialFailure::Tls, &failure.to_string())),
        }
    }

    /// Bytes of the backend wait, or its end.
    pub(in crate::worker) fn handle_backend_peek(
        &mut self,
        ops: &mut Operations<'_>,
        place: u32,
        bytes: &[u8],
        ended: bool,
    ) {
        let Some(backend) = self.entries.get(place).map(|entry| entry.backend) else { return };
        let Some(conversation) = self.handshakes.backend_mut(place) else { return };
        let event = match shake(ops, &mut self.buffers, conversation, backend, bytes) {
            Ok(Progress { is_established: true, .. }) => {
                ops.stop_peek(backend);
                Event::BackendSecured
            }
            Ok(Progress { taken: 0, .. }) if ended => {
                self.fail_backend(ops, place, DialFailure::Reset, "it ended within the handshake")
            }
            Ok(_) => return,
            Err(failure) => self.fail_backend(ops, place, DialFailure::Tls, &failure.to_string()),
        };
        self.handle(ops, place, event);
    }

    fn fail_backend(
        &mut self,
        ops: &mut Operations<'_>,
        place: u32,
        failure: DialFailure,
        error: &str,
    ) -> Event {
        self.handshakes.forget_backend(place);
        if let Some(entry) = self.entries.get_mut(place) {
            let backend = std::mem::replace(&mut entry.backend, ConnectionId::NONE);
            ops.stop_peek(backend);
            ops.close(backend);
            if let Some(endpoint) = self.endpoints.get(entry.endpoint) {
                let (backend, address) = (endpoint.name(), endpoint.address());
                tracing::debug!(%backend, %address, error, "handshake of TLS with a backend failed");
            }
        }
        Event::DialFailed(failure)
    }
}
