//! Checks within TLS: the handshake, and what [`health::conversation`](crate::health::conversation) says in it.

use ringway::layer::{Buffers, Layer};
use ringway::tls::{ClientTerms, Conversation as Tls, Failure};
use ringway::{ConnectionId, Operations};

use super::{CheckFailure, ProbeHandler, State};
use crate::endpoint::Endpoint;
use crate::health::conversation::Conversation;
use crate::model::{App, Check, name_of_backend};

/// Begins TLS with `endpoint`, where the checks of `app` are made in it; what to send first goes to `buffers`.
pub(super) fn begin(app: &App, endpoint: &Endpoint, buffers: &mut Buffers) -> Option<Result<Tls, Failure>> {
    let (terms, name) = match (&app.health.check, app.backend_tls.as_deref()) {
        (Check::None | Check::Tcp, _) | (Check::Http(_) | Check::SendExpect(_), None) => return None,
        (Check::Tls | Check::Http(_) | Check::SendExpect(_), Some(tls)) => {
            (tls.terms.clone(), tls.name_of(app, endpoint.name()))
        }
        (Check::Tls, None) => {
            let own = name_of_backend(app, endpoint.name());
            let address = || endpoint.address().inet().map(|address| address.ip().to_string());
            // Whoever answers is good; a name has to be asked for all the same.
            let name = own.or_else(address).unwrap_or_else(|| "localhost".to_owned());
            (ClientTerms::of_anybody(), Some(name))
        }
    };
    buffers.answer.clear();
    let Some(name) = name else { return Some(Err(Failure::without_name())) };
    Some(Tls::connect(&terms, &name, &mut buffers.answer))
}

impl ProbeHandler {
    /// The TLS of the check on `connection`, if it has any.
    pub(super) fn tls_mut(
        &mut self,
        place: u32,
        connection: ConnectionId,
    ) -> Option<(&mut Tls, &mut Buffers)> {
        match &mut self.targets.get_mut(place)?.state {
            State::Checking { connection: own, tls: Some(tls), .. } if *own == connection => {
                Some((tls, &mut self.buffers))
            }
            State::Checking { .. } | State::Sleeping(_) | State::Due => None,
        }
    }

    /// Bytes came for a check within TLS.
    pub(super) fn read_secured(
        &mut self,
        ops: &mut Operations<'_>,
        place: u32,
        connection: ConnectionId,
        bytes: &mut [u8],
    ) {
        let mut at = 0;
        while at < bytes.len() {
            let Some((tls, buffers)) = self.tls_mut(place, connection) else { return };
            if !tls.is_handshaking() {
                break;
            }
            buffers.answer.clear();
            let outcome = tls.handshake(&mut bytes[at..], true, &mut buffers.answer);
            say(ops, connection, buffers.answer.as_slice());
            match outcome {
                Ok(progress) if progress.is_established => {
                    at += progress.taken;
                    self.converse(ops, place, connection, Conversation::handle_connected);
                }
                Ok(progress) if progress.taken == 0 => return,
                Ok(progress) => at += progress.taken,
                Err(failure) => {
                    let reason = format!("the handshake of TLS failed: {failure}");
                    return self.finish(ops, place, connection, Err(CheckFailure::Answer(reason)));
                }
            }
        }
        let Some((tls, buffers)) = self.tls_mut(place, connection) else { return };
        if at == bytes.len() {
            return;
        }
        let Buffers { payload, answer, .. } = buffers;
        answer.clear();
        let heard = tls.receive(&mut bytes[at..], payload, answer);
        let (payload, failure, has_finished) =
            (heard.payload.to_vec(), heard.failure, tls.has_peer_finished());
        say(ops, connection, answer.as_slice());
        if !payload.is_empty() {
            self.converse(ops, place, connection, |conversation| conversation.handle_bytes(&payload));
        }
        if has_finished {
            self.converse(ops, place, connection, Conversation::handle_end);
        }
        if let Some(failure) = failure {
            self.finish(ops, place, connection, Err(CheckFailure::Answer(failure.to_string())));
        }
    }
}

pub(super) fn say(ops: &mut Operations<'_>, connection: ConnectionId, bytes: &[u8]) {
    if !bytes.is_empty() {
        // That it broke is told by another event, and by the timer if not.
        let _ = ops.send(connection, bytes);
    }
}
