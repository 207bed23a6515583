//! Everything in a simulated network, and the queue of what is still to happen.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use super::datagram::DatagramState;
use super::listen::ListenerState;
use super::stream::{LetGo, Socket};
use super::{Dropped, Handle, Notice, Notices, Random, SimulatedFaults};
use crate::mailbox::Waker;
use crate::{SocketAddress, Time};

/// Names a socket of any kind in the whole world; never used again.
pub(super) type SocketKey = u64;

/// The place of an engine in [`World::machines`].
pub(super) type MachineId = usize;

#[derive(Debug)]
pub(super) struct World {
    pub(super) now: Time,
    pub(super) random: Random,
    pub(super) faults: SimulatedFaults,
    pub(super) sockets: BTreeMap<SocketKey, Socket>,
    pub(super) listeners: BTreeMap<SocketKey, ListenerState>,
    pub(super) datagrams: BTreeMap<SocketKey, DatagramState>,
    pub(super) machines: Vec<Machine>,
    /// By moment, and in the order in which they were planned within one.
    events: BTreeMap<(Time, u64), NetworkEvent>,
    /// What waits for an address to be allowed again, in order.
    held: Vec<NetworkEvent>,
    barred: BTreeMap<SocketAddress, Bar>,
    last_key: SocketKey,
    last_port: u16,
    notices: Notices,
}

/// What one engine has to look at in its next turn.
#[derive(Debug, Default)]
pub(super) struct Machine {
    /// Gone when the engine is.
    pub(super) waker: Option<Waker>,
    /// Connection sockets on which something happened.
    pub(super) sockets: BTreeSet<SocketKey>,
    /// Listeners with something in the queue, or that may try again.
    pub(super) listeners: BTreeSet<SocketKey>,
    pub(super) datagrams: BTreeSet<SocketKey>,
    /// Places of timers that came due, in order.
    pub(super) timers: VecDeque<u32>,
    /// The engine itself has work left over.
    pub(super) busy: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Bar {
    Blocked,
    Refused,
}

#[derive(Debug)]
pub(super) enum NetworkEvent {
    /// A dial reaches its target, for the `attempt`th time.
    Syn {
        from: SocketKey,
        attempt: u32,
    },
    /// The answer to it.
    Dialled {
        to: SocketKey,
        error: Option<i32>,
    },
    Data {
        from: SocketKey,
        to: SocketKey,
        bytes: Vec<u8>,
    },
    Fin {
        from: SocketKey,
        to: SocketKey,
    },
    Reset {
        to: SocketKey,
    },
    /// The peer has read so many bytes.
    Window {
        to: SocketKey,
        bytes: usize,
    },
    Datagram {
        from: SocketAddr,
        to: SocketAddr,
        bytes: Vec<u8>,
    },
    Timer {
        machine: MachineId,
        timer: u32,
    },
    /// A listener that found no descriptor may try again.
    AcceptAgain {
        machine: MachineId,
        listener: SocketKey,
    },
}

impl World {
    pub(super) fn new(seed: u64, faults: SimulatedFaults) -> Self {
        Self {
            now: Time::ZERO,
            random: Random::new(seed),
            faults,
            sockets: BTreeMap::new(),
            listeners: BTreeMap::new(),
            datagrams: BTreeMap::new(),
            machines: Vec::new(),
            events: BTreeMap::new(),
            held: Vec::new(),
            barred: BTreeMap::new(),
            last_key: 0,
            last_port: 20_000,
            notices: Notices::default(),
        }
    }

    pub(super) fn add_machine(&mut self, waker: Waker) -> MachineId {
        self.machines.push(Machine { waker: Some(waker), ..Machine::default() });
        self.machines.len() - 1
    }

    /// An engine is gone, as if its process had been killed: the kernel closes its sockets.
    pub(super) fn remove_machine(&mut self, machine: MachineId) {
        self.machines[machine] = Machine::default();
        let sockets: Vec<_> =
            self.sockets.iter().filter(|(_, socket)| socket.is_of(machine)).map(|(key, _)| *key).collect();
        for socket in sockets {
            self.let_go(socket, Some(machine), LetGo::Silently);
        }
        self.datagrams.retain(|_, socket| socket.machine != machine);
        self.events
            .retain(|_, event| !matches!(event, NetworkEvent::Timer { machine: m, .. } if *m == machine));
        for listener in self.listeners.values_mut() {
            listener.acceptors.remove(&machine);
        }
    }

    pub(super) fn new_key(&mut self) -> SocketKey {
        self.last_key += 1;
        self.last_key
    }

    /// A port that was not given out before (until they have all been).
    pub(super) fn new_port(&mut self) -> u16 {
        self.last_port = self.last_port.checked_add(1).unwrap_or(20_001);
        self.last_port
    }

    pub(super) fn handle(&self, dropped: Dropped) -> Handle {
        Handle { dropped: Some(dropped), notices: Arc::clone(&self.notices) }
    }

    pub(super) fn owns(&self, handle: &Handle) -> bool {
        Arc::ptr_eq(&self.notices, &handle.notices)
    }

    /// Takes note of what happened to handles since the last call: closes the sockets whose last one was dropped.
    pub(super) fn bury(&mut self) {
        let notices = std::mem::take(&mut *lock(&self.notices));
        for notice in notices {
            match notice {
                Notice::Dropped(Dropped::Listener(key)) => self.close_listener(key),
                Notice::Dropped(Dropped::Socket(key)) => self.let_go(key, None, LetGo::Silently),
                Notice::Copied(key) => self.share(key),
            }
        }
    }

    // --- time -------------------------------------------------------------------------------------------

    /// Plans an event; returns its place, by which it can be taken back.
    pub(super) fn plan(&mut self, at: Time, event: NetworkEvent) -> (Time, u64) {
        let place = (at.max(self.now), self.new_key());
        self.events.insert(place, event);
        place
    }

    pub(super) fn take_back(&mut self, place: (Time, u64)) {
        self.events.remove(&place);
    }

    pub(super) fn next_event(&self) -> Option<Time> {
        self.events.first_key_value().map(|((at, _), _)| *at)
    }

    /// Sets the clock and lets everything happen that is due by then.
    pub(super) fn move_to(&mut self, to: Time) {
        self.now = self.now.max(to);
        while let Some(entry) = self.events.first_entry() {
            if entry.key().0 > self.now {
                break;
            }
            let event = entry.remove();
            self.happen(event);
        }
    }

    pub(super) fn has_work(&self) -> bool {
        self.machines.iter().any(|machine| {
            let Some(waker) = &machine.waker else { return false };
            machine.busy
                || waker.is_notified()
                || !machine.sockets.is_empty()
                || !machine.listeners.is_empty()
                || !machine.datagrams.is_empty()
                || !machine.timers.is_empty()
        })
    }

    pub(super) fn socket_count(&self) -> usize {
        self.sockets.len() + self.listeners.len() + self.datagrams.len()
    }

    fn happen(&mut self, event: NetworkEvent) {
        if self.is_held(&event) {
            self.held.push(event);
            return;
        }
        match event {
            NetworkEvent::Syn { from, attempt } => self.arrive_syn(from, attempt),
            NetworkEvent::Dialled { to, error } => self.arrive_answer(to, error),
            NetworkEvent::Data { from, to, bytes } => self.arrive_data(from, to, &bytes),
            NetworkEvent::Fin { from, to } => self.arrive_fin(from, to),
            NetworkEvent::Reset { to } => self.arrive_reset(to),
            NetworkEvent::Window { to, bytes } => self.arrive_window(to, bytes),
            NetworkEvent::Datagram { from, to, bytes } => self.arrive_datagram(from, to, bytes),
            NetworkEvent::Timer { machine, timer } => self.machines[machine].timers.push_back(timer),
            NetworkEvent::AcceptAgain { machine, listener } => {
                if self.machines[machine].waker.is_some() {
                    self.machines[machine].listeners.insert(listener);
                }
            }
        }
    }

    // --- addresses that die -------------------------------------------------------------------------------

    pub(super) fn block(&mut self, address: &SocketAddress) {
        self.barred.insert(address.clone(), Bar::Blocked);
    }

    pub(super) fn refuse(&mut self, address: &SocketAddress) {
        self.barred.insert(address.clone(), Bar::Refused);
    }

    pub(super) fn allow(&mut self, address: &SocketAddress) {
        self.barred.remove(address);
        for event in std::mem::take(&mut self.held) {
            self.plan(self.now, event);
        }
    }

    pub(super) fn is_blocked(&self, address: &SocketAddress) -> bool {
        self.barred.get(address) == Some(&Bar::Blocked)
    }

    pub(super) fn is_refused(&self, address: &SocketAddress) -> bool {
        self.barred.get(address) == Some(&Bar::Refused)
    }

    pub(super) fn cut(&mut self, address: &SocketAddress) {
        let sockets: Vec<_> = self
            .sockets
            .iter()
            .filter(|(_, socket)| socket.local == *address || socket.remote == *address)
            .map(|(key, _)| *key)
            .collect();
        for socket in sockets {
            self.arrive_reset(socket);
        }
    }

    fn is_held(&self, event: &NetworkEvent) -> bool {
        let to = match event {
            // The dialler's own kernel gives up; nothing travels.
            NetworkEvent::Dialled { error: Some(libc::ETIMEDOUT), .. } => return false,
            NetworkEvent::Dialled { to, .. }
            | NetworkEvent::Data { to, .. }
            | NetworkEvent::Fin { to, .. }
            | NetworkEvent::Reset { to }
            | NetworkEvent::Window { to, .. } => to,
            NetworkEvent::Datagram { .. }
            | NetworkEvent::Syn { .. }
            | NetworkEvent::Timer { .. }
            | NetworkEvent::AcceptAgain { .. } => return false,
        };
        !self.barred.is_empty()
            && self
                .sockets
                .get(to)
                .is_some_and(|socket| self.is_blocked(&socket.local) || self.is_blocked(&socket.remote))
    }

    // --- chances ----------------------------------------------------------------------------------------

    /// A latency for a new connection.
    pub(super) fn draw_latency(&mut self) -> Duration {
        let [low, high] = self.faults.latency.map(|latency| latency.as_nanos() as u64);
        Duration::from_nanos(self.random.between(low, high))
    }

    /// By how much one segment is later than its connection's latency.
    pub(super) fn draw_jitter(&mut self) -> Duration {
        let most = self.faults.jitter.as_nanos() as u64;
        if most == 0 { Duration::ZERO } else { Duration::from_nanos(self.random.below(most)) }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
