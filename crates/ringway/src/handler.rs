//! The trait that a program implements: one call for each thing that happens.

use std::io;

use ringway_engine::{
    ConnectionId, DatagramBatch, DatagramSocketId, ExportedConnection, Listener, ListenerId, Operations,
    RelayEnd, RelayStop, SocketAddress, TimerId, Token,
};

use crate::CloseReason;

/// Handles the events of one worker. Calls come one at a time; none may block.
///
/// State of connections lives in the handler, usually in a slab whose place is the connection's [`Token`].
/// Every method but [`on_accept`](Self::on_accept) and [`on_read`](Self::on_read) may be left out.
#[expect(unused_variables, reason = "the default methods ignore what they are told")]
pub trait EventHandler {
    /// What other threads may send to this handler.
    type Mail: Send + 'static;

    /// The worker starts to turn; listen and dial from here.
    fn on_start(&mut self, ops: &mut Operations<'_>) {}

    /// A listener accepted a connection. Its token is the listener's until `set_token`; nothing is read yet.
    fn on_accept(
        &mut self,
        ops: &mut Operations<'_>,
        listener: ListenerId,
        token: Token,
        connection: ConnectionId,
        peer: SocketAddress,
    );

    /// A dialled connection is established.
    fn on_connect(&mut self, ops: &mut Operations<'_>, connection: ConnectionId, token: Token) {}

    /// A dial failed; the id is dead.
    fn on_connect_failed(
        &mut self,
        ops: &mut Operations<'_>,
        connection: ConnectionId,
        token: Token,
        error: io::Error,
    ) {
    }

    /// Bytes arrived; they are lent for this call.
    fn on_read(&mut self, ops: &mut Operations<'_>, connection: ConnectionId, token: Token, bytes: &mut [u8]);

    /// More bytes than before wait on a connection that is peeked at, or (`ended`) no more will come. They are lent, and
    /// stay where they are.
    fn on_peek(
        &mut self,
        ops: &mut Operations<'_>,
        connection: ConnectionId,
        token: Token,
        bytes: &[u8],
        ended: bool,
    ) {
    }

    /// The other end finished sending. The default closes the connection.
    fn on_end(&mut self, ops: &mut Operations<'_>, connection: ConnectionId, token: Token) {
        ops.close(connection);
    }

    /// Everything that was queued has left.
    fn on_write(&mut self, ops: &mut Operations<'_>, connection: ConnectionId, token: Token) {}

    /// The connection is gone.
    fn on_close(
        &mut self,
        ops: &mut Operations<'_>,
        connection: ConnectionId,
        token: Token,
        reason: CloseReason,
    ) {
    }

    /// A watched connection's other end left (`reset`) or finished sending; `unread`: bytes wait.
    fn on_peer_left(
        &mut self,
        ops: &mut Operations<'_>,
        connection: ConnectionId,
        token: Token,
        reset: bool,
        unread: bool,
    ) {
    }

    /// One direction of a relay ended and the end was passed on.
    fn on_relay_half_closed(&mut self, ops: &mut Operations<'_>, from: ConnectionId, token: Token) {}

    /// A relay is over, both its connections are gone.
    fn on_relay_ended(&mut self, ops: &mut Operations<'_>, end: RelayEnd) {}

    /// A relay was stopped as told.
    fn on_relay_stopped(&mut self, ops: &mut Operations<'_>, stop: RelayStop) {}

    /// A connection left the engine as told.
    fn on_exported(
        &mut self,
        ops: &mut Operations<'_>,
        connection: ConnectionId,
        token: Token,
        exported: ExportedConnection,
    ) {
    }

    /// Datagrams arrived.
    fn on_datagrams(
        &mut self,
        ops: &mut Operations<'_>,
        socket: DatagramSocketId,
        token: Token,
        batch: &mut DatagramBatch,
    ) {
    }

    /// A timer came due.
    fn on_timer(&mut self, ops: &mut Operations<'_>, timer: TimerId, token: Token) {}

    /// Another thread sent something.
    fn on_mail(&mut self, ops: &mut Operations<'_>, mail: Self::Mail) {}

    /// A listener rests because descriptors or memory ran out.
    fn on_accept_paused(
        &mut self,
        ops: &mut Operations<'_>,
        listener: ListenerId,
        token: Token,
        error: io::Error,
    ) {
    }

    /// A listener that rested accepts again.
    fn on_accept_resumed(&mut self, ops: &mut Operations<'_>, listener: ListenerId, token: Token) {}

    /// A listener that was stopped has handed out what waited, and is closed.
    fn on_listener_closed(&mut self, ops: &mut Operations<'_>, listener: ListenerId, token: Token) {}

    /// A listener left the engine as told, with its queue.
    fn on_listener_released(
        &mut self,
        ops: &mut Operations<'_>,
        listener: ListenerId,
        token: Token,
        released: Listener,
    ) {
    }

    /// Asked after each turn: the worker's run ends when this says so.
    fn is_finished(&self) -> bool {
        false
    }
}
