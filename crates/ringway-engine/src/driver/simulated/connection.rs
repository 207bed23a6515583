//! The driver's record of one connection, and the table of them.

use super::stream::Dial;
use super::world::SocketKey;
use crate::{ConnectionId, Token};

/// One connection of one engine.
#[derive(Debug)]
pub(super) struct Connection {
    pub(super) token: Token,
    pub(super) socket: Socket,
    pub(super) phase: Phase,
    /// Told to end, and how.
    pub(super) ending: Option<Ending>,
    /// Bytes taken from the network and not delivered.
    pub(super) received: Vec<u8>,
    /// All that the other end sent is in `received` or was delivered.
    pub(super) ended: bool,
    /// The user knows.
    pub(super) told_ended: bool,
    pub(super) receiving: bool,
    pub(super) watched: bool,
    /// It is kept still until a relay begins.
    pub(super) stands: bool,
    /// How far it is peeked at, and what was told last; all once the end was.
    pub(super) peek: Option<(usize, usize)>,
    /// Bytes sent by the user that the network did not take.
    pub(super) queue: Vec<u8>,
    /// Some had to wait, so `Writable` is owed.
    pub(super) owes_writable: bool,
    /// The user finished sending.
    pub(super) shut: bool,
    /// … and the FIN has left.
    pub(super) shut_done: bool,
    /// A send found the connection broken.
    pub(super) broken: Option<i32>,
    /// Another engine may hold the socket.
    pub(super) shared: bool,
}

/// What a connection is connected to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Socket {
    Open(SocketKey),
    /// The dial failed before a packet left.
    Failed(i32),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    Dialling,
    Open,
    /// In the relay of that place.
    Relayed(usize),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ending {
    Close,
    Reset,
    Export,
}

impl Connection {
    pub(super) fn new(socket: Socket, phase: Phase, token: Token) -> Self {
        Self {
            token,
            socket,
            phase,
            ending: None,
            received: Vec::new(),
            ended: false,
            told_ended: false,
            receiving: false,
            watched: false,
            stands: false,
            peek: None,
            queue: Vec::new(),
            owes_writable: false,
            shut: false,
            shut_done: false,
            broken: None,
            shared: false,
        }
    }

    /// The socket's name in the world; none if there never was one.
    pub(super) fn key(&self) -> SocketKey {
        match self.socket {
            Socket::Open(key) => key,
            Socket::Failed(_) => 0,
        }
    }

    /// How the dial stands, given what the network says of it.
    pub(super) fn dial(&self, network: impl FnOnce(SocketKey) -> Dial) -> Dial {
        match self.socket {
            Socket::Open(key) => network(key),
            Socket::Failed(error) => Dial::Failed(error),
        }
    }

    pub(super) fn pending_bytes(&self) -> usize {
        self.queue.len() + self.received.len()
    }
}

/// Connections by place; a place that is used again has a new generation.
#[derive(Debug, Default)]
pub(super) struct Connections {
    slots: Vec<Slot>,
    free: Vec<u32>,
}

#[derive(Debug)]
struct Slot {
    generation: u32,
    connection: Option<Connection>,
}

impl Connections {
    /// The place that the next `insert` will fill.
    pub(super) fn next_place(&self) -> u32 {
        self.free.last().copied().unwrap_or(self.slots.len() as u32)
    }

    pub(super) fn insert(&mut self, connection: Connection) -> ConnectionId {
        let index = match self.free.pop() {
            Some(index) => index,
            None => {
                self.slots.push(Slot { generation: 0, connection: None });
                (self.slots.len() - 1) as u32
            }
        };
        let slot = &mut self.slots[index as usize];
        slot.connection = Some(connection);
        ConnectionId { index, generation: slot.generation }
    }

    pub(super) fn remove(&mut self, id: ConnectionId) -> Option<Connection> {
        self.get(id)?;
        let slot = &mut self.slots[id.index as usize];
        slot.generation = slot.generation.wrapping_add(1);
        self.free.push(id.index);
        slot.connection.take()
    }

    pub(super) fn get(&self, id: ConnectionId) -> Option<&Connection> {
        let slot = self.slots.get(id.index as usize)?;
        slot.connection.as_ref().filter(|_| slot.generation == id.generation)
    }

    pub(super) fn get_mut(&mut self, id: ConnectionId) -> Option<&mut Connection> {
        let slot = self.slots.get_mut(id.index as usize)?;
        slot.connection.as_mut().filter(|_| slot.generation == id.generation)
    }

    /// Who lives at `place`.
    pub(super) fn id_at(&self, place: u32) -> Option<ConnectionId> {
        let slot = self.slots.get(place as usize)?;
        slot.connection.as_ref()?;
        Some(ConnectionId { index: place, generation: slot.generation })
    }

    pub(super) fn len(&self) -> usize {
        self.slots.len() - self.free.len()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Connection> {
        self.slots.iter().filter_map(|slot| slot.connection.as_ref())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_of_an_earlier_tenant_names_nobody() {
        let mut table = Connections::default();
        let one = table.insert(Connection::new(Socket::Open(1), Phase::Open, Token(1)));
        assert!(table.remove(one).is_some());
        assert_eq!(table.next_place(), one.index);
        let two = table.insert(Connection::new(Socket::Open(2), Phase::Open, Token(2)));
        assert_eq!(one.index, two.index);
        assert!(table.get(one).is_none() && table.get(two).is_some());
        assert!(table.remove(one).is_none());
        assert_eq!(table.len(), 1);
    }
}
