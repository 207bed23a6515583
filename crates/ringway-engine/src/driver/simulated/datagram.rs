//! Datagram sockets of the simulated network: loss, duplication, and arrival in any order.

use std::collections::VecDeque;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use super::listen::candidates;
use super::world::{MachineId, NetworkEvent, SocketKey, World};
use crate::SocketAddress;
use crate::driver::{DatagramBatch, DatagramEntry, ListenOptions};

/// Datagrams that wait at one socket; what comes on top is lost.
const INBOX_MAX: usize = 1024;

#[derive(Debug)]
pub(super) struct DatagramState {
    pub(super) machine: MachineId,
    pub(super) address: SocketAddr,
    reuse_port: bool,
    /// Sender, the address it was sent to, bytes.
    inbox: VecDeque<(SocketAddr, IpAddr, Vec<u8>)>,
}

impl World {
    pub(super) fn bind_datagram(
        &mut self,
        machine: MachineId,
        address: SocketAddr,
        options: &ListenOptions,
    ) -> Result<SocketKey, i32> {
        let port = if address.port() == 0 { self.new_port() } else { address.port() };
        let address = SocketAddr::new(address.ip(), port);
        let reuse_port = options.reuse_port;
        if self.datagrams.values().any(|other| other.address == address && !(other.reuse_port && reuse_port))
        {
            return Err(libc::EADDRINUSE);
        }
        let key = self.new_key();
        self.datagrams.insert(key, DatagramState { machine, address, reuse_port, inbox: VecDeque::new() });
        Ok(key)
    }

    pub(super) fn close_datagram(&mut self, key: SocketKey) {
        if let Some(socket) = self.datagrams.remove(&key) {
            self.machines[socket.machine].datagrams.remove(&key);
        }
    }

    /// Sends one datagram. It leaves; what becomes of it is chance.
    pub(super) fn send_datagram(&mut self, key: SocketKey, to: SocketAddr, bytes: &[u8]) {
        let Some(socket) = self.datagrams.get(&key) else { return };
        let mut from = socket.address;
        if from.ip().is_unspecified() {
            from.set_ip(match to.ip() {
                IpAddr::V4(_) => Ipv4Addr::LOCALHOST.into(),
                IpAddr::V6(_) => Ipv6Addr::LOCALHOST.into(),
            });
        }
        if self.is_blocked(&to.into()) || self.is_blocked(&from.into()) {
            return;
        }
        if self.random.chance(self.faults.lose_datagram) {
            return;
        }
        let copies = 1 + usize::from(self.random.chance(self.faults.duplicate_datagram));
        for _ in 0..copies {
            let at = self.now + self.draw_latency() + self.draw_jitter();
            self.plan(at, NetworkEvent::Datagram { from, to, bytes: bytes.to_vec() });
        }
    }

    pub(super) fn arrive_datagram(&mut self, from: SocketAddr, to: SocketAddr, bytes: Vec<u8>) {
        for candidate in candidates(&SocketAddress::Inet(to)) {
            let group: Vec<_> = self
                .datagrams
                .iter()
                .filter(|(_, socket)| SocketAddress::Inet(socket.address) == candidate)
                .map(|(key, _)| *key)
                .collect();
            if group.is_empty() {
                continue;
            }
            // All datagrams of one flow go to one socket of the group, as a kernel hashes them.
            let key = group[usize::from(from.port()) % group.len()];
            if let Some(socket) = self.datagrams.get_mut(&key) {
                if socket.inbox.len() < INBOX_MAX {
                    socket.inbox.push_back((from, to.ip(), bytes));
                }
                self.machines[socket.machine].datagrams.insert(key);
            }
            return;
        }
    }

    /// Moves what arrived into `batch`, up to its capacity.
    pub(super) fn receive_datagrams(&mut self, key: SocketKey, batch: &mut DatagramBatch) {
        let Some(socket) = self.datagrams.get_mut(&key) else { return };
        let count = socket.inbox.len().min(DatagramBatch::CAPACITY);
        for (peer, local, bytes) in socket.inbox.drain(..count) {
            let start = batch.bytes.len();
            batch.bytes.extend_from_slice(&bytes);
            let len = bytes.len();
            batch.entries.push(DatagramEntry { peer, local: Some(local), start, len, truncated: false });
        }
        if !socket.inbox.is_empty() {
            self.machines[socket.machine].datagrams.insert(key);
        }
    }
}
