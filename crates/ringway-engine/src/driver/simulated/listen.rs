//! Listening sockets of the simulated network: groups at one address, queues, and accepting from them.

use std::collections::{BTreeSet, VecDeque};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use super::world::{MachineId, NetworkEvent, SocketKey, World};
use super::{Dropped, SimulatedListener};
use crate::SocketAddress;
use crate::driver::ListenOptions;

/// How long a listener rests when descriptors or memory ran out.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

#[derive(Debug)]
pub(super) struct ListenerState {
    pub(super) address: SocketAddress,
    reuse_port: bool,
    v6_only: bool,
    backlog: usize,
    queue: VecDeque<SocketKey>,
    /// Engines that accept from it; several share a Unix listener.
    pub(super) acceptors: BTreeSet<MachineId>,
    /// New connections go elsewhere, or are refused.
    turned_away: bool,
}

impl World {
    /// A new listening socket; the port is chosen if it is 0.
    pub(super) fn listen(
        &mut self,
        address: &SocketAddress,
        options: &ListenOptions,
    ) -> Result<(SimulatedListener, SocketAddress), i32> {
        self.bury();
        let address = match address {
            SocketAddress::Inet(inet) if inet.port() == 0 => {
                SocketAddress::Inet(SocketAddr::new(inet.ip(), self.new_port()))
            }
            SocketAddress::Unix(None) => return Err(libc::EINVAL),
            SocketAddress::Inet(_) | SocketAddress::Unix(Some(_)) => address.clone(),
        };
        let reuse_port = options.reuse_port && address.inet().is_some();
        if self.listeners.values().any(|other| other.address == address && !(other.reuse_port && reuse_port))
        {
            return Err(libc::EADDRINUSE);
        }
        let key = self.new_key();
        self.listeners.insert(
            key,
            ListenerState {
                address: address.clone(),
                reuse_port,
                v6_only: options.v6_only,
                backlog: options.backlog.max(1) as usize,
                queue: VecDeque::new(),
                acceptors: BTreeSet::new(),
                turned_away: false,
            },
        );
        Ok((SimulatedListener { inner: Arc::new(self.handle(Dropped::Listener(key))) }, address))
    }

    /// Closes a listener; what waits in its queue is reset.
    pub(super) fn close_listener(&mut self, key: SocketKey) {
        if let Some(listener) = self.listeners.remove(&key) {
            for waiting in listener.queue {
                self.reset(waiting);
            }
        }
        for machine in &mut self.machines {
            machine.listeners.remove(&key);
        }
    }

    pub(super) fn start_accept(&mut self, key: SocketKey, machine: MachineId) {
        if let Some(listener) = self.listeners.get_mut(&key) {
            listener.acceptors.insert(machine);
            listener.turned_away = false;
            self.machines[machine].listeners.insert(key);
        }
    }

    /// The queue of a listener gets another length.
    pub(super) fn change_listener(&mut self, key: SocketKey, options: &ListenOptions) {
        if let Some(listener) = self.listeners.get_mut(&key) {
            listener.backlog = options.backlog.max(1) as usize;
        }
    }

    /// This engine will accept no more than what waits. The last one turns new connections away.
    pub(super) fn stop_accept(&mut self, key: SocketKey, machine: MachineId) {
        if let Some(listener) = self.listeners.get_mut(&key) {
            listener.acceptors.remove(&machine);
            listener.turned_away = listener.acceptors.is_empty();
        }
    }

    /// This engine accepts no more, and leaves what waits to whoever else holds the socket.
    pub(super) fn release(&mut self, key: SocketKey, machine: MachineId) {
        if let Some(listener) = self.listeners.get_mut(&key) {
            listener.acceptors.remove(&machine);
        }
    }

    /// Whether other engines go on accepting from this very queue.
    pub(super) fn is_shared(&self, key: SocketKey) -> bool {
        self.listeners.get(&key).is_some_and(|listener| !listener.acceptors.is_empty())
    }

    pub(super) fn is_queue_empty(&self, key: SocketKey) -> bool {
        self.listeners.get(&key).is_none_or(|listener| listener.queue.is_empty())
    }

    /// The next connection that waits, and its peer. An error means that the listener should rest.
    pub(super) fn accept(
        &mut self,
        key: SocketKey,
        owner: MachineId,
        place: u32,
    ) -> Result<Option<(SocketKey, SocketAddress)>, i32> {
        let Some(listener) = self.listeners.get_mut(&key) else { return Ok(None) };
        if listener.queue.is_empty() {
            return Ok(None);
        }
        if self.random.chance(self.faults.accept_exhausted) {
            let errors = [libc::EMFILE, libc::ENFILE, libc::ENOBUFS, libc::ENOMEM];
            let error = errors[self.random.index(errors.len())];
            let at = self.now + ACCEPT_PAUSE;
            self.plan(at, NetworkEvent::AcceptAgain { machine: owner, listener: key });
            return Err(error);
        }
        let Some(socket) = listener.queue.pop_front() else { return Ok(None) };
        self.own(socket, owner, place);
        let peer =
            self.sockets.get(&socket).map_or(SocketAddress::Unix(None), |socket| socket.remote.clone());
        Ok(Some((socket, peer)))
    }

    /// Puts a new connection into the queue of a listener.
    pub(super) fn enqueue(&mut self, key: SocketKey, socket: SocketKey) {
        if let Some(listener) = self.listeners.get_mut(&key) {
            listener.queue.push_back(socket);
            for machine in listener.acceptors.clone() {
                self.machines[machine].listeners.insert(key);
            }
        }
    }

    /// Which listener a dial to `address` lands on: one of those there by chance, none (the SYN is dropped)
    /// if its queue is full, an error if there is no listener.
    pub(super) fn listener_for(&mut self, address: &SocketAddress) -> Result<Option<SocketKey>, i32> {
        let refused = match address {
            SocketAddress::Unix(_) => libc::ENOENT,
            SocketAddress::Inet(_) => libc::ECONNREFUSED,
        };
        for candidate in candidates(address) {
            let dual_stack_only = candidate != *address && is_v6(&candidate) && !is_v6(address);
            let group: Vec<_> = self
                .listeners
                .iter()
                .filter(|(_, listener)| listener.address == candidate && !listener.turned_away)
                .filter(|(_, listener)| !dual_stack_only || !listener.v6_only)
                .map(|(key, _)| *key)
                .collect();
            if !group.is_empty() {
                let key = group[self.random.index(group.len())];
                let is_full =
                    self.listeners.get(&key).is_none_or(|listener| listener.queue.len() >= listener.backlog);
                return Ok((!is_full).then_some(key));
            }
        }
        Err(refused)
    }
}

/// Addresses whose listeners serve a dial to `address`, the most special first.
pub(super) fn candidates(address: &SocketAddress) -> Vec<SocketAddress> {
    let mut all = vec![address.clone()];
    if let SocketAddress::Inet(inet) = address {
        if inet.is_ipv4() {
            all.push(SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), inet.port()).into());
        }
        all.push(SocketAddr::new(IpAddr::V6(Ipv6Addr::UNSPECIFIED), inet.port()).into());
    }
    all
}

fn is_v6(address: &SocketAddress) -> bool {
    address.inet().is_some_and(|inet| inet.is_ipv6())
}
