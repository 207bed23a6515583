//! What a sink may ask of an engine, and the trait by which a driver answers.

use std::io;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;

#[cfg(doc)]
use super::Event;
use super::{
    ConnectOptions, DatagramBatch, Ends, ExportedConnection, ListenOptions, RelayOptions, RelayProgress,
    SendError, Underway,
};
use crate::listener::Listener;
use crate::{ConnectionId, DatagramSocketId, ListenerId, SocketAddress, Time, TimerId, Token};

/// What the sink may start, for the length of one call.
pub struct Operations<'a> {
    driver: &'a mut dyn DriverOperations,
}

/// The same, as a driver implements it. Each method is documented at [`Operations`].
pub(crate) trait DriverOperations {
    fn now(&self) -> Time;
    fn kind_name(&self) -> &'static str;
    fn set_token(&mut self, connection: ConnectionId, token: Token);
    fn local_address(&self, connection: ConnectionId) -> Option<SocketAddress>;
    fn bind(&mut self, address: &SocketAddress, options: &ListenOptions) -> io::Result<Listener>;
    fn start_accept(&mut self, listener: Listener, token: Token) -> io::Result<ListenerId>;
    fn pause_accept(&mut self, listener: ListenerId);
    fn resume_accept(&mut self, listener: ListenerId);
    fn stop_accept(&mut self, listener: ListenerId);
    fn release_accept(&mut self, listener: ListenerId);
    fn duplicate_listener(&self, listener: ListenerId) -> io::Result<Listener>;
    fn reassign_accept(
        &mut self,
        listener: ListenerId,
        token: Token,
        options: &ListenOptions,
    ) -> io::Result<()>;
    fn connect(&mut self, target: &SocketAddress, options: &ConnectOptions, token: Token) -> ConnectionId;
    fn watch(&mut self, connection: ConnectionId);
    fn unwatch(&mut self, connection: ConnectionId);
    fn start_receive(&mut self, connection: ConnectionId);
    fn pause_receive(&mut self, connection: ConnectionId);
    fn start_peek(&mut self, connection: ConnectionId, bytes_max: usize);
    fn stop_peek(&mut self, connection: ConnectionId);
    fn consume(&mut self, connection: ConnectionId, count: usize) -> usize;
    fn send(&mut self, connection: ConnectionId, bytes: &[u8]) -> Result<usize, SendError>;
    fn queued_bytes(&self, connection: ConnectionId) -> usize;
    fn shut(&mut self, connection: ConnectionId);
    fn close(&mut self, connection: ConnectionId);
    fn reset(&mut self, connection: ConnectionId);
    fn start_relay(&mut self, a: ConnectionId, b: ConnectionId, options: RelayOptions);
    fn relay_progress(&self, connection: ConnectionId) -> RelayProgress;
    fn stop_relay(&mut self, connection: ConnectionId) -> bool;
    fn cut_relay(&mut self, connection: ConnectionId);
    fn ease_relay(&mut self, connection: ConnectionId);
    fn stand(&mut self, connection: ConnectionId);
    fn complete(&mut self, connection: ConnectionId, underway: Underway);
    fn ends(&self, connection: ConnectionId) -> Ends;
    fn abandon(&mut self, connection: ConnectionId);
    fn export(&mut self, connection: ConnectionId);
    fn duplicate(&mut self, connection: ConnectionId) -> io::Result<OwnedFd>;
    fn adopt(&mut self, exported: ExportedConnection, token: Token) -> io::Result<ConnectionId>;
    fn bind_datagram(
        &mut self,
        address: SocketAddr,
        options: &ListenOptions,
        token: Token,
    ) -> io::Result<DatagramSocketId>;
    fn datagram_address(&self, socket: DatagramSocketId) -> Option<SocketAddr>;
    fn send_datagrams(&mut self, socket: DatagramSocketId, batch: &DatagramBatch) -> usize;
    fn close_datagram(&mut self, socket: DatagramSocketId);
    fn set_timer(&mut self, at: Time, token: Token) -> TimerId;
    fn cancel_timer(&mut self, timer: TimerId);
    fn connection_count(&self) -> usize;
    fn pending_bytes(&self) -> usize;
}

impl<'a> Operations<'a> {
    pub(crate) fn new(driver: &'a mut dyn DriverOperations) -> Self {
        Self { driver }
    }

    /// The moment this turn began to deliver. Reads no clock.
    pub fn now(&self) -> Time {
        self.driver.now()
    }

    /// `"epoll"`, `"io_uring"` or `"simulated"`.
    pub fn kind_name(&self) -> &'static str {
        self.driver.kind_name()
    }

    /// Attaches a number to a connection; its later events carry it.
    pub fn set_token(&mut self, connection: ConnectionId, token: Token) {
        self.driver.set_token(connection, token);
    }

    /// This end's address; for an accepted connection, the one that its client dialled. A system call.
    pub fn local_address(&self, connection: ConnectionId) -> Option<SocketAddress> {
        self.driver.local_address(connection)
    }

    /// Makes a listening socket. Connections queue from now on; they are accepted after [`Self::start_accept`].
    ///
    /// # Errors
    /// What `bind` and `listen` say: EADDRINUSE (wait and try again), EADDRNOTAVAIL, EACCES.
    pub fn bind(&mut self, address: &SocketAddress, options: &ListenOptions) -> io::Result<Listener> {
        self.driver.bind(address, options)
    }

    /// Accepts from a listening socket until told otherwise.
    ///
    /// # Errors
    /// When the system refuses to watch the socket (out of memory).
    pub fn start_accept(&mut self, listener: Listener, token: Token) -> io::Result<ListenerId> {
        self.driver.start_accept(listener, token)
    }

    /// Leaves new connections in the kernel's queue.
    /// `Accepted` events of this turn that are already under way may still come.
    pub fn pause_accept(&mut self, listener: ListenerId) {
        self.driver.pause_accept(listener);
    }

    /// Accepts again.
    pub fn resume_accept(&mut self, listener: ListenerId) {
        self.driver.resume_accept(listener);
    }

    /// Turns new connections away, accepts what waits, closes the socket, and says [`Event::ListenerClosed`].
    pub fn stop_accept(&mut self, listener: ListenerId) {
        self.driver.stop_accept(listener);
    }

    /// Takes a listener out of the engine as it is, with what waits in its queue. Answers with
    /// [`Event::ListenerReleased`]; accepted connections may be told of until then, and none later. Does nothing to a
    /// listener that was told to stop.
    pub fn release_accept(&mut self, listener: ListenerId) {
        self.driver.release_accept(listener);
    }

    /// A second handle to the queue of a listener that accepts, for another process to hold.
    ///
    /// # Errors
    /// EMFILE when out of descriptors; `NotFound` if there is no such listener.
    pub fn duplicate_listener(&self, listener: ListenerId) -> io::Result<Listener> {
        self.driver.duplicate_listener(listener)
    }

    /// Goes on accepting from the same queue, under another token and with other options: what is accepted later
    /// inherits those of the socket, and the queue gets its new length. What can only be chosen when a socket is bound
    /// (its address, `reuse_port`, `freebind`, `v6_only`) stays. Events under way carry the new token already.
    ///
    /// # Errors
    /// What the system says to an option. The listener has its new token all the same, and goes on.
    pub fn reassign_accept(
        &mut self,
        listener: ListenerId,
        token: Token,
        options: &ListenOptions,
    ) -> io::Result<()> {
        self.driver.reassign_accept(listener, token, options)
    }

    /// Dials. Answers with [`Event::Connected`] or [`Event::ConnectFailed`], whatever goes wrong; `close` cancels.
    pub fn connect(
        &mut self,
        target: &SocketAddress,
        options: &ConnectOptions,
        token: Token,
    ) -> ConnectionId {
        self.driver.connect(target, options, token)
    }

    /// Tells with [`Event::PeerLeft`] when the other end of a connection that is not read from leaves.
    pub fn watch(&mut self, connection: ConnectionId) {
        self.driver.watch(connection);
    }

    /// Ends a watch. `start_receive`, `start_peek` and `start_relay` end it too.
    pub fn unwatch(&mut self, connection: ConnectionId) {
        self.driver.unwatch(connection);
    }

    /// Delivers what arrives, as [`Event::Received`] … [`Event::Ended`], until paused.
    pub fn start_receive(&mut self, connection: ConnectionId) {
        self.driver.start_receive(connection);
    }

    /// Stops delivering. What the driver has already taken from the kernel is kept and delivered after the
    /// next `start_receive` (or relayed, or exported): no `Received` comes after this call.
    pub fn pause_receive(&mut self, connection: ConnectionId) {
        self.driver.pause_receive(connection);
    }

    /// Looks at what arrives without taking it: [`Event::Peeked`] each time that more waits than before, at most the
    /// first `bytes_max` bytes ([`PEEK_BYTES_MAX`](crate::PEEK_BYTES_MAX) at the most). The bytes stay with the kernel,
    /// so a peek owns no memory. It ends a watch; `start_receive`, `start_relay`, `export` and `stop_peek` end it.
    pub fn start_peek(&mut self, connection: ConnectionId, bytes_max: usize) {
        self.driver.start_peek(connection, bytes_max);
    }

    /// Ends a peek. No `Peeked` comes after this call.
    pub fn stop_peek(&mut self, connection: ConnectionId) {
        self.driver.stop_peek(connection);
    }

    /// Takes the first `count` bytes of what was peeked at, for good: nobody will see them again. Says how many it
    /// took; fewer than asked for if fewer were there, none while a receive or a relay runs. A peek that goes on
    /// begins anew with what follows.
    pub fn consume(&mut self, connection: ConnectionId, count: usize) -> usize {
        self.driver.consume(connection, count)
    }

    /// Sends, or queues what the kernel does not take. Returns the bytes now queued on the connection.
    ///
    /// Never bounded by itself: the caller watches the returned number and pauses its source, until
    /// [`Event::Writable`].
    ///
    /// # Errors
    /// [`SendError::Closed`] if nothing can be sent any more. A break found while sending is a later `Failed`.
    pub fn send(&mut self, connection: ConnectionId, bytes: &[u8]) -> Result<usize, SendError> {
        self.driver.send(connection, bytes)
    }

    /// Bytes sent and not yet handed to the kernel.
    pub fn queued_bytes(&self, connection: ConnectionId) -> usize {
        self.driver.queued_bytes(connection)
    }

    /// Finishes sending: FIN after everything queued. Receiving goes on.
    pub fn shut(&mut self, connection: ConnectionId) {
        self.driver.shut(connection);
    }

    /// Closes after everything queued has been handed to the kernel; stops receiving at once. On a dialling
    /// connection it cancels the dial. Answers with [`Event::Closed`] (or `Failed`, if it broke meanwhile).
    pub fn close(&mut self, connection: ConnectionId) {
        self.driver.close(connection);
    }

    /// Drops everything queued and closes with RST. Answers with [`Event::Closed`].
    pub fn reset(&mut self, connection: ConnectionId) {
        self.driver.reset(connection);
    }

    /// Joins two established connections: what one sends, the other gets, with half-close and back-pressure.
    ///
    /// Bytes queued or received earlier on either go first. Ends with [`Event::RelayEnded`]. Steady state costs
    /// the sink nothing; the token of both connections stays, events carry that of `a`.
    pub fn start_relay(&mut self, a: ConnectionId, b: ConnectionId, options: RelayOptions) {
        self.driver.start_relay(a, b, options);
    }

    /// How far the relay that this connection takes part in has come.
    pub fn relay_progress(&self, connection: ConnectionId) -> RelayProgress {
        self.driver.relay_progress(connection)
    }

    /// Takes a relay apart. Answers with [`Event::RelayStopped`], or `RelayEnded` if it ended first. `false`: there is
    /// none that could be stopped; one that is breaking ends by itself, within seconds.
    pub fn stop_relay(&mut self, connection: ConnectionId) -> bool {
        self.driver.stop_relay(connection)
    }

    /// Ends a relay now. A side that was owed bytes, or had not been told the end of its stream, is reset:
    /// a cut stream must not look complete. Answers with [`Event::RelayEnded`].
    pub fn cut_relay(&mut self, connection: ConnectionId) {
        self.driver.cut_relay(connection);
    }

    /// Has the relay of a connection read in a way that can be stopped at once, for a while: in a ring the receives that
    /// a stop would have to wait for end now, while bytes flow. Costs some system calls, and a little more for each of the
    /// next few messages; where little comes, the relay falls back by itself.
    pub fn ease_relay(&mut self, connection: ConnectionId) {
        self.driver.ease_relay(connection);
    }

    /// Keeps an open connection still until a relay begins with it: nothing is read, sent or told. What arrives
    /// meanwhile is noticed, so that the relay need not ask for it: by that a process stands ready for a socket that another
    /// one still uses. Only `start_relay`, `complete`, `close`, `reset`, `export` and
    /// `abandon` are of use then.
    pub fn stand(&mut self, connection: ConnectionId) {
        self.driver.stand(connection);
    }

    /// Adds to what is under way at an open connection, as if it had been adopted with that: what is queued is sent from
    /// now on, also by one that stands.
    pub fn complete(&mut self, connection: ConnectionId, underway: Underway) {
        self.driver.complete(connection, underway);
    }

    /// Which directions of a connection have come to their end; of a relayed one, as far as the relay knows.
    pub fn ends(&self, connection: ConnectionId) -> Ends {
        self.driver.ends(connection)
    }

    /// Lets go of an open connection that another process has a copy of: its other end hears nothing of it, and neither
    /// does the sink. The id is dead. Without a copy elsewhere it is as if what was exported were dropped.
    pub fn abandon(&mut self, connection: ConnectionId) {
        self.driver.abandon(connection);
    }

    /// Takes a connection (not in a relay, not dialling) out of the engine. Answers with [`Event::Exported`].
    pub fn export(&mut self, connection: ConnectionId) {
        self.driver.export(connection);
    }

    /// A second descriptor of the socket of a connection that goes on here, for another process to hold until it gets
    /// the rest. From now on the connection counts as shared: it ends by shutting the socket down, since closing it would
    /// tell its other end nothing while copies are left. Two system calls' worth of time, a microsecond.
    ///
    /// # Errors
    /// EMFILE when out of descriptors; `NotFound` for a dead or dialling connection; `Unsupported` in a simulation.
    pub fn duplicate(&mut self, connection: ConnectionId) -> io::Result<OwnedFd> {
        self.driver.duplicate(connection)
    }

    /// Takes over a connection that was exported by another engine. Nothing is read from it until told.
    ///
    /// # Errors
    /// When it comes from another kind of world: a simulated one in a real engine, or the reverse.
    pub fn adopt(&mut self, exported: ExportedConnection, token: Token) -> io::Result<ConnectionId> {
        self.driver.adopt(exported, token)
    }

    /// Binds a UDP socket and delivers its datagrams as [`Event::Datagrams`].
    ///
    /// # Errors
    /// What `bind` says.
    pub fn bind_datagram(
        &mut self,
        address: SocketAddr,
        options: &ListenOptions,
        token: Token,
    ) -> io::Result<DatagramSocketId> {
        self.driver.bind_datagram(address, options, token)
    }

    /// The address a UDP socket is bound to.
    pub fn datagram_address(&self, socket: DatagramSocketId) -> Option<SocketAddr> {
        self.driver.datagram_address(socket)
    }

    /// Sends datagrams in one system call where possible. Returns how many the kernel took; like the network
    /// itself, a full socket buffer loses the rest.
    pub fn send_datagrams(&mut self, socket: DatagramSocketId, batch: &DatagramBatch) -> usize {
        self.driver.send_datagrams(socket, batch)
    }

    /// Closes a UDP socket. It says nothing more.
    pub fn close_datagram(&mut self, socket: DatagramSocketId) {
        self.driver.close_datagram(socket);
    }

    /// Fires once at `at` or up to 8 ms later.
    pub fn set_timer(&mut self, at: Time, token: Token) -> TimerId {
        self.driver.set_timer(at, token)
    }

    /// Forgets a timer that has not fired.
    pub fn cancel_timer(&mut self, timer: TimerId) {
        self.driver.cancel_timer(timer);
    }

    /// Connections in the engine's table.
    pub fn connection_count(&self) -> usize {
        self.driver.connection_count()
    }

    /// Bytes that all connections together hold queued, pipes included.
    pub fn pending_bytes(&self) -> usize {
        self.driver.pending_bytes()
    }
}
