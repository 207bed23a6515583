//! Stream sockets of the simulated network: two windows, two FINs, a latency, and the reset that ends them.

use std::collections::VecDeque;
use std::time::Duration;

use super::world::{MachineId, NetworkEvent, SocketKey, World};
use crate::{SocketAddress, Time};

/// How often a SYN is sent again before a dial fails: `net.ipv4.tcp_syn_retries`.
const SYN_RETRIES: u32 = 6;

/// One end of a connection.
#[derive(Debug)]
pub(super) struct Socket {
    /// Whose it is, and the owner's place for it: nobody's while it waits in a listener's queue or travels between engines;
    /// two engines' at most, where one process follows another.
    owners: Vec<(MachineId, u32)>,
    /// As descriptors: owners, and handles on their way.
    holders: u32,
    pub(super) local: SocketAddress,
    pub(super) remote: SocketAddress,
    pub(super) peer: Option<SocketKey>,
    pub(super) dial: Dial,
    /// What arrived and was not read.
    inbox: VecDeque<u8>,
    /// The peer's FIN arrived; it counts once the inbox is empty.
    fin: bool,
    /// A reset arrived; it counts once the inbox is empty, for writes at once.
    error: Option<i32>,
    /// Bytes that were sent and that the peer has not read.
    unacknowledged: usize,
    /// The most of them.
    window: usize,
    latency: Duration,
    /// When the last thing that was sent arrives: nothing overtakes it.
    last_arrival: Time,
    shut: bool,
    /// Somebody who held it shut it down, in both directions.
    over: bool,
}

/// How a dial stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Dial {
    Pending,
    Failed(i32),
    Established,
}

/// What reading from a socket brings.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Read {
    Bytes(Vec<u8>),
    Ended,
    Failed(i32),
    NothingYet,
}

/// How an engine or a handle lets go of a socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum LetGo {
    /// A plain close: the peer hears of it if nobody else has the socket.
    Silently,
    /// With an end, whoever else has the socket.
    ShutDown,
    /// With a reset, if nobody else has the socket.
    Abruptly,
    /// With a reset, whoever else has the socket.
    Abort,
}

impl LetGo {
    /// The end of a connection that others may hold, or may not.
    pub(super) fn of(reset: bool, shared: bool) -> Self {
        match (reset, shared) {
            (false, false) => Self::Silently,
            (false, true) => Self::ShutDown,
            (true, false) => Self::Abruptly,
            (true, true) => Self::Abort,
        }
    }
}

impl Socket {
    /// Whether the engine owns it.
    pub(super) fn is_of(&self, machine: MachineId) -> bool {
        self.place_at(machine).is_some()
    }

    /// Its place in the engine.
    pub(super) fn place_at(&self, machine: MachineId) -> Option<u32> {
        self.owners.iter().find(|(owner, _)| *owner == machine).map(|(_, place)| *place)
    }
}

/// What can be seen of the other end without reading.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct PeerState {
    pub(super) ended: bool,
    pub(super) reset: bool,
    pub(super) unread: bool,
}

impl World {
    /// A socket that dials `target`. Errors are those that a kernel finds before it sends anything.
    pub(super) fn dial(
        &mut self,
        owner: MachineId,
        place: u32,
        target: &SocketAddress,
        local: SocketAddress,
    ) -> Result<SocketKey, i32> {
        if self.random.chance(self.faults.connect_exhausted) {
            let errors = [libc::EMFILE, libc::ENOBUFS, libc::EADDRNOTAVAIL];
            return Err(errors[self.random.index(errors.len())]);
        }
        let mut socket = self.new_socket(local, target.clone());
        socket.owners.push((owner, place));
        socket.dial = Dial::Pending;
        let key = self.new_key();
        let at = self.now + socket.latency + self.draw_jitter();
        self.sockets.insert(key, socket);
        self.plan(at, NetworkEvent::Syn { from: key, attempt: 0 });
        Ok(key)
    }

    fn new_socket(&mut self, local: SocketAddress, remote: SocketAddress) -> Socket {
        let [low, high] = self.faults.window_bytes.map(|bytes| bytes.max(1) as u64);
        Socket {
            owners: Vec::new(),
            holders: 1,
            local,
            remote,
            peer: None,
            dial: Dial::Established,
            inbox: VecDeque::new(),
            fin: false,
            error: None,
            unacknowledged: 0,
            window: self.random.between(low, high) as usize,
            latency: self.draw_latency(),
            last_arrival: self.now,
            shut: false,
            over: false,
        }
    }

    /// Takes over a socket that was accepted or came by a handle.
    pub(super) fn own(&mut self, key: SocketKey, owner: MachineId, place: u32) {
        if let Some(socket) = self.sockets.get_mut(&key) {
            socket.owners.retain(|(other, _)| *other != owner);
            socket.owners.push((owner, place));
        }
        self.touch(key);
    }

    /// An engine has a socket no more, which a handle has from now on.
    pub(super) fn disown(&mut self, key: SocketKey, owner: MachineId) {
        if let Some(socket) = self.sockets.get_mut(&key) {
            socket.owners.retain(|(other, _)| *other != owner);
            self.machines[owner].sockets.remove(&key);
        }
    }

    /// There is one more handle to a socket.
    pub(super) fn share(&mut self, key: SocketKey) {
        if let Some(socket) = self.sockets.get_mut(&key) {
            socket.holders += 1;
        }
    }

    /// An engine, or else a handle, lets go of a socket.
    pub(super) fn let_go(&mut self, key: SocketKey, owner: Option<MachineId>, how: LetGo) {
        // There may be handles that nobody has heard of yet.
        self.bury();
        if let Some(owner) = owner {
            self.disown(key, owner);
        }
        let Some(socket) = self.sockets.get_mut(&key) else { return };
        socket.holders -= 1;
        let is_last = socket.holders == 0;
        match how {
            LetGo::Silently | LetGo::ShutDown if is_last => self.close(key),
            LetGo::Abruptly | LetGo::Abort if is_last => self.reset(key),
            LetGo::Silently | LetGo::Abruptly => {}
            LetGo::ShutDown => {
                self.shut(key);
                self.end_for_others(key, None);
            }
            LetGo::Abort => {
                self.tell_of_reset(key);
                self.end_for_others(key, Some(libc::ECONNRESET));
            }
        }
    }

    /// Somebody who held a socket has ended it: whoever holds it, too, finds it so.
    fn end_for_others(&mut self, key: SocketKey, error: Option<i32>) {
        if let Some(socket) = self.sockets.get_mut(&key) {
            // What waits can still be read; left unread, it makes a reset of the last close.
            socket.fin |= error.is_none();
            socket.over = true;
            socket.error = socket.error.or(error);
        }
        self.touch(key);
    }

    /// Tells the owners to look at a socket.
    fn touch(&mut self, key: SocketKey) {
        for (owner, _) in self.sockets.get(&key).map_or(&[][..], |socket| &socket.owners) {
            self.machines[*owner].sockets.insert(key);
        }
    }

    pub(super) fn dial_state(&self, key: SocketKey) -> Dial {
        self.sockets.get(&key).map_or(Dial::Failed(libc::ECONNRESET), |socket| socket.dial)
    }

    // --- what the owner does ------------------------------------------------------------------------------

    /// Takes what there is room for and returns how much that was; the error of a broken connection.
    pub(super) fn send(&mut self, key: SocketKey, bytes: &[u8]) -> Result<usize, i32> {
        let room = self.room(key)?;
        let mut len = room.min(bytes.len());
        if len > 1 && self.random.chance(self.faults.short_write) {
            len = self.random.between(1, len as u64) as usize;
            // Nobody reads on account of this: the room that is left must be told of.
            let at = self.now + self.draw_jitter() + Duration::from_micros(10);
            self.plan(at, NetworkEvent::Window { to: key, bytes: 0 });
        }
        if len > 0 {
            let to = self.sockets.get_mut(&key).and_then(|socket| {
                socket.unacknowledged += len;
                socket.peer
            });
            if let Some(to) = to {
                self.plan_arrival(key, NetworkEvent::Data { from: key, to, bytes: bytes[..len].to_vec() });
            }
        }
        Ok(len)
    }

    /// How much can be sent at once.
    pub(super) fn room(&self, key: SocketKey) -> Result<usize, i32> {
        let socket = self.sockets.get(&key).ok_or(libc::EPIPE)?;
        match socket.error {
            Some(error) => Err(error),
            None if socket.shut => Err(libc::EPIPE),
            None => Ok(socket.window.saturating_sub(socket.unacknowledged)),
        }
    }

    /// Takes at most `len` bytes of what arrived.
    pub(super) fn receive(&mut self, key: SocketKey, len: usize) -> Read {
        let short = self.random.chance(self.faults.short_read);
        let Some(socket) = self.sockets.get_mut(&key) else { return Read::Failed(libc::ECONNRESET) };
        if socket.inbox.is_empty() {
            return match (socket.fin, socket.error) {
                (true, _) => Read::Ended,
                (false, Some(error)) => Read::Failed(error),
                (false, None) => Read::NothingYet,
            };
        }
        let mut len = len.min(socket.inbox.len());
        if short {
            len = self.random.between(1, len as u64) as usize;
        }
        let mut bytes = Vec::with_capacity(len);
        let (front, back) = socket.inbox.as_slices();
        bytes.extend_from_slice(&front[..len.min(front.len())]);
        bytes.extend_from_slice(&back[..len - bytes.len()]);
        socket.inbox.drain(..len);
        let (peer, at) = (socket.peer, self.now + socket.latency);
        if let Some(peer) = peer {
            self.plan(at, NetworkEvent::Window { to: peer, bytes: len });
        }
        Read::Bytes(bytes)
    }

    /// The first bytes of what arrived, which stay; at most `len`.
    pub(super) fn peek(&self, key: SocketKey, len: usize) -> Vec<u8> {
        self.sockets
            .get(&key)
            .map_or_else(Vec::new, |socket| socket.inbox.iter().take(len).copied().collect())
    }

    pub(super) fn local_address(&self, key: SocketKey) -> Option<SocketAddress> {
        self.sockets.get(&key).map(|socket| socket.local.clone())
    }

    pub(super) fn peer_state(&self, key: SocketKey) -> PeerState {
        match self.sockets.get(&key) {
            Some(socket) => PeerState {
                ended: socket.fin,
                reset: socket.error.is_some(),
                unread: !socket.inbox.is_empty(),
            },
            None => PeerState { ended: true, reset: true, unread: false },
        }
    }

    /// Finishes sending.
    pub(super) fn shut(&mut self, key: SocketKey) {
        let Some(socket) = self.sockets.get_mut(&key) else { return };
        if !std::mem::replace(&mut socket.shut, true)
            && socket.error.is_none()
            && let Some(to) = socket.peer
        {
            self.plan_arrival(key, NetworkEvent::Fin { from: key, to });
        }
    }

    /// Closes as a kernel does: FIN, or RST if something was left unread.
    pub(super) fn close(&mut self, key: SocketKey) {
        if self.sockets.get(&key).is_some_and(|socket| !socket.inbox.is_empty()) {
            return self.reset(key);
        }
        self.shut(key);
        self.forget(key);
    }

    pub(super) fn reset(&mut self, key: SocketKey) {
        self.tell_of_reset(key);
        self.forget(key);
    }

    fn tell_of_reset(&mut self, key: SocketKey) {
        if let Some(socket) = self.sockets.get(&key)
            && let (Some(to), None) = (socket.peer, socket.error)
        {
            self.plan_arrival(key, NetworkEvent::Reset { to });
        }
    }

    fn forget(&mut self, key: SocketKey) {
        if let Some(socket) = self.sockets.remove(&key) {
            for (owner, _) in socket.owners {
                self.machines[owner].sockets.remove(&key);
            }
        }
    }

    /// Plans something for the moment at which it reaches the peer of `from`, after all that was sent before.
    fn plan_arrival(&mut self, from: SocketKey, event: NetworkEvent) {
        let jitter = self.draw_jitter();
        let Some(socket) = self.sockets.get_mut(&from) else { return };
        socket.last_arrival = socket.last_arrival.max(self.now + socket.latency + jitter);
        let at = socket.last_arrival;
        self.plan(at, event);
    }

    // --- what arrives -------------------------------------------------------------------------------------

    pub(super) fn arrive_syn(&mut self, from: SocketKey, attempt: u32) {
        let Some(dialler) = self.sockets.get(&from) else { return };
        let (local, remote, latency) = (dialler.local.clone(), dialler.remote.clone(), dialler.latency);
        let answer = self.now + latency + self.draw_jitter();
        if self.is_refused(&remote) || self.random.chance(self.faults.refuse) {
            self.plan(answer, NetworkEvent::Dialled { to: from, error: Some(libc::ECONNREFUSED) });
            return;
        }
        let lost =
            self.is_blocked(&remote) || self.is_blocked(&local) || self.random.chance(self.faults.lose_syn);
        let listener = match lost {
            true => Ok(None),
            false => self.listener_for(&remote),
        };
        match listener {
            Err(error) => {
                self.plan(answer, NetworkEvent::Dialled { to: from, error: Some(error) });
            }
            Ok(None) if attempt == SYN_RETRIES => {
                let error = Some(libc::ETIMEDOUT);
                self.plan(self.now + syn_pause(attempt), NetworkEvent::Dialled { to: from, error });
            }
            Ok(None) => {
                let at = self.now + syn_pause(attempt);
                self.plan(at, NetworkEvent::Syn { from, attempt: attempt + 1 });
            }
            Ok(Some(listener)) => {
                let mut socket = self.new_socket(remote, local);
                socket.latency = latency;
                socket.peer = Some(from);
                // Nothing that is sent to the dialler may overtake the answer.
                socket.last_arrival = answer;
                let key = self.new_key();
                self.sockets.insert(key, socket);
                if let Some(dialler) = self.sockets.get_mut(&from) {
                    dialler.peer = Some(key);
                }
                self.enqueue(listener, key);
                self.plan(answer, NetworkEvent::Dialled { to: from, error: None });
            }
        }
    }

    pub(super) fn arrive_answer(&mut self, to: SocketKey, error: Option<i32>) {
        if let Some(socket) = self.sockets.get_mut(&to)
            && socket.dial == Dial::Pending
        {
            socket.dial = error.map_or(Dial::Established, Dial::Failed);
            self.touch(to);
        }
    }

    pub(super) fn arrive_data(&mut self, from: SocketKey, to: SocketKey, bytes: &[u8]) {
        if self.random.chance(self.faults.reset) {
            self.arrive_reset(from);
            self.arrive_reset(to);
            return;
        }
        match self.sockets.get_mut(&to) {
            Some(socket) if socket.error.is_none() && !socket.over => {
                socket.inbox.extend(bytes);
                self.touch(to);
            }
            Some(socket) if !socket.over => {}
            Some(_) | None => self.answer_with_reset(from),
        }
    }

    pub(super) fn arrive_fin(&mut self, from: SocketKey, to: SocketKey) {
        match self.sockets.get_mut(&to) {
            Some(socket) if socket.error.is_none() => {
                socket.fin = true;
                self.touch(to);
            }
            Some(_) => {}
            // Both ends are closed, one after the other: nobody is surprised.
            None => {
                let _ = from;
            }
        }
    }

    /// A closed end got something: its sender is told.
    fn answer_with_reset(&mut self, from: SocketKey) {
        if let Some(sender) = self.sockets.get(&from) {
            let at = self.now + sender.latency;
            self.plan(at, NetworkEvent::Reset { to: from });
        }
    }

    pub(super) fn arrive_reset(&mut self, to: SocketKey) {
        if let Some(socket) = self.sockets.get_mut(&to) {
            match socket.dial {
                Dial::Pending => socket.dial = Dial::Failed(libc::ECONNREFUSED),
                Dial::Failed(_) => {}
                Dial::Established => {
                    socket.error.get_or_insert(libc::ECONNRESET);
                }
            }
            self.touch(to);
        }
    }

    pub(super) fn arrive_window(&mut self, to: SocketKey, bytes: usize) {
        if let Some(socket) = self.sockets.get_mut(&to) {
            socket.unacknowledged = socket.unacknowledged.saturating_sub(bytes);
            self.touch(to);
        }
    }
}

/// How long a kernel waits before the next SYN.
fn syn_pause(attempt: u32) -> Duration {
    Duration::from_secs(1 << attempt.min(SYN_RETRIES))
}
