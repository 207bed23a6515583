//! The record of one socket: 32 bytes, and a slab for what is rare.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use crate::pipe::Pipe;
use crate::{ConnectionId, Token};

/// What a connection is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Phase {
    /// Nobody lives here.
    Free,
    /// A connect is under way.
    Dialling,
    /// Established; the user reads and sends.
    Open,
    /// Joined to its `peer`.
    Relay,
    /// Its relay broke; what was received is still handed on, then a reset.
    Breaking,
    /// Closed by the user; what is queued is still sent.
    Closing,
    /// Its relay is being stopped: a receive in the ring has not ended yet.
    Stopping,
    /// It is being exported: a receive in the ring has not ended yet.
    Exporting,
}

/// The flags of an entry.
pub(crate) mod flag {
    /// The poller knows the descriptor.
    pub(crate) const REGISTERED: u16 = 1 << 0;
    /// The poller tells when it can be written to.
    pub(crate) const WRITE_ARMED: u16 = 1 << 1;
    /// The user wants what arrives.
    pub(crate) const RECEIVING: u16 = 1 << 2;
    /// The user wants to hear when the other end leaves.
    pub(crate) const WATCHED: u16 = 1 << 3;
    /// The other end finished sending, and all of it was taken.
    pub(crate) const READ_ENDED: u16 = 1 << 4;
    /// Sending is to be finished after what is queued.
    pub(crate) const SHUT: u16 = 1 << 5;
    /// FIN was sent.
    pub(crate) const SHUT_DONE: u16 = 1 << 6;
    /// There may be something to read.
    pub(crate) const READABLE: u16 = 1 << 7;
    /// The kernel took no more: wait until it can be written to.
    pub(crate) const BLOCKED: u16 = 1 << 8;
    /// It is the second connection of its relay.
    pub(crate) const SIDE_B: u16 = 1 << 9;
    /// It is on the redo list.
    pub(crate) const QUEUED: u16 = 1 << 10;
    /// FIN or an error is known to follow what can be read.
    pub(crate) const HANGUP: u16 = 1 << 11;
    /// Nothing can be sent to it any more; the error is in its rare record.
    pub(crate) const BROKEN: u16 = 1 << 12;
    /// Its end came before that of its peer.
    pub(crate) const FIRST_END: u16 = 1 << 13;
    /// Its relay may not splice.
    pub(crate) const NO_SPLICE: u16 = 1 << 14;
    /// SO_RCVLOWAT is raised.
    pub(crate) const LOW_WATER: u16 = 1 << 15;
}

/// How a relay reads from a connection; grows with full reads, falls back with short ones.
pub(crate) mod flow {
    /// 64 KiB at a time.
    pub(crate) const SMALL: u8 = 0;
    /// Two full reads in a row went through whole (1 is the first of them): splice, or 256 KiB at a time.
    pub(crate) const BULK: u8 = 2;
}

/// One socket.
pub(crate) struct Entry {
    pub(crate) fd: Option<OwnedFd>,
    pub(crate) generation: u32,
    pub(crate) peer: u32,
    pub(crate) token: Token,
    /// Coarse tick at which bytes last came from it.
    pub(crate) activity: u32,
    /// Low 24 bits: place of the rare record; then three of phase, one once its socket is shared, two of flow, one once an
    /// error was told, and one while it is peeked at.
    rare_and_phase: u32,
    /// Low 48 bits: bytes relayed from it (256 TiB), or how far it was peeked at; high 16: flags.
    bytes_and_flags: u64,
}

const _: () = assert!(size_of::<Entry>() == 32);

/// Another process may hold the socket, in `rare_and_phase`.
const SHARED: u32 = 1 << 27;
/// The poller told of an error, in `rare_and_phase`.
const ERROR_TOLD: u32 = 1 << 30;
/// It is peeked at, in `rare_and_phase`.
const PEEKING: u32 = 1 << 31;
const PEEK_TOLD_MASK: u64 = (1 << 24) - 1;

/// How far a connection is peeked at.
#[derive(Clone, Copy)]
pub(crate) struct Peek {
    pub(crate) bytes_max: usize,
    /// The bytes that were shown last; [`Peek::ALL`] once their end was told too.
    pub(crate) told: usize,
}

impl Peek {
    /// Nothing more can come.
    pub(crate) const ALL: usize = PEEK_TOLD_MASK as usize;
}

const RARE_NONE: u32 = (1 << 24) - 1;
/// In the place of the peer of an open connection, which has none: it stands.
const STANDING: u32 = u32::MAX - 1;
const BYTES_MASK: u64 = (1 << 48) - 1;

impl Default for Entry {
    fn default() -> Self {
        Self {
            fd: None,
            generation: 0,
            peer: u32::MAX,
            token: Token(0),
            activity: 0,
            rare_and_phase: RARE_NONE,
            bytes_and_flags: 0,
        }
    }
}

impl Entry {
    pub(crate) fn phase(&self) -> Phase {
        match (self.rare_and_phase >> 24) & 0x07 {
            0 => Phase::Free,
            1 => Phase::Dialling,
            2 => Phase::Open,
            3 => Phase::Relay,
            4 => Phase::Breaking,
            5 => Phase::Closing,
            6 => Phase::Stopping,
            _ => Phase::Exporting,
        }
    }

    pub(crate) fn set_phase(&mut self, phase: Phase) {
        self.rare_and_phase = self.rare_and_phase & !(0x07 << 24) | (phase as u32) << 24;
    }

    /// Whether another process may hold the socket.
    pub(crate) fn is_shared(&self) -> bool {
        self.rare_and_phase & SHARED != 0
    }

    pub(crate) fn set_shared(&mut self, shared: bool) {
        self.rare_and_phase = self.rare_and_phase & !SHARED | if shared { SHARED } else { 0 };
    }

    /// Whether it is kept still until a relay begins.
    pub(crate) fn stands(&self) -> bool {
        self.phase() == Phase::Open && self.peer == STANDING
    }

    pub(crate) fn set_standing(&mut self, stands: bool) {
        self.peer = if stands { STANDING } else { u32::MAX };
    }

    pub(crate) fn flow(&self) -> u8 {
        (self.rare_and_phase >> 28) as u8 & 0x03
    }

    pub(crate) fn set_flow(&mut self, flow: u8) {
        self.rare_and_phase = self.rare_and_phase & !(0x03 << 28) | u32::from(flow & 0x03) << 28;
    }

    /// Whether the poller told of an error, which the socket may still hold.
    pub(crate) fn error_was_told(&self) -> bool {
        self.rare_and_phase & ERROR_TOLD != 0
    }

    pub(crate) fn set_error_told(&mut self, told: bool) {
        self.rare_and_phase = self.rare_and_phase & !ERROR_TOLD | if told { ERROR_TOLD } else { 0 };
    }

    pub(crate) fn is_peeking(&self) -> bool {
        self.rare_and_phase & PEEKING != 0
    }

    pub(crate) fn set_peeking(&mut self, peeking: bool) {
        self.rare_and_phase = self.rare_and_phase & !PEEKING | if peeking { PEEKING } else { 0 };
    }

    /// How far a peek may look, and what it told of last. Only while it is peeked at: a relay counts in the same place.
    pub(crate) fn peek(&self) -> Peek {
        let bytes = self.bytes();
        Peek { bytes_max: (bytes >> 24) as usize, told: (bytes & PEEK_TOLD_MASK) as usize }
    }

    pub(crate) fn set_peek(&mut self, peek: Peek) {
        self.set_bytes((peek.bytes_max as u64) << 24 | (peek.told as u64).min(PEEK_TOLD_MASK));
    }

    pub(crate) fn rare(&self) -> Option<u32> {
        let rare = self.rare_and_phase & RARE_NONE;
        (rare != RARE_NONE).then_some(rare)
    }

    pub(crate) fn set_rare(&mut self, rare: Option<u32>) {
        self.rare_and_phase = self.rare_and_phase & !RARE_NONE | rare.unwrap_or(RARE_NONE);
    }

    pub(crate) fn has(&self, flags: u16) -> bool {
        (self.bytes_and_flags >> 48) as u16 & flags != 0
    }

    pub(crate) fn set(&mut self, flags: u16) {
        self.bytes_and_flags |= u64::from(flags) << 48;
    }

    pub(crate) fn clear(&mut self, flags: u16) {
        self.bytes_and_flags &= !(u64::from(flags) << 48);
    }

    pub(crate) fn clear_all_flags(&mut self) {
        self.bytes_and_flags &= BYTES_MASK;
    }

    pub(crate) fn bytes(&self) -> u64 {
        self.bytes_and_flags & BYTES_MASK
    }

    pub(crate) fn set_bytes(&mut self, bytes: u64) {
        self.bytes_and_flags = self.bytes_and_flags & !BYTES_MASK | bytes.min(BYTES_MASK);
    }

    pub(crate) fn add_bytes(&mut self, bytes: usize) {
        self.set_bytes(self.bytes() + bytes as u64);
    }

    pub(crate) fn fd(&self) -> Option<BorrowedFd<'_>> {
        self.fd.as_ref().map(AsFd::as_fd)
    }

    pub(crate) fn id(&self, index: u32) -> ConnectionId {
        ConnectionId { index, generation: self.generation }
    }
}

/// What few connections have: bytes on their way to it, bytes taken from it and not yet delivered, an error.
#[derive(Default)]
pub(crate) struct Rare {
    /// Bytes for the socket; those before `start` are sent.
    pub(crate) queue: Vec<u8>,
    pub(crate) start: usize,
    /// A pipe that holds `piped` bytes for the socket, after the queue.
    pub(crate) pipe: Option<Pipe>,
    pub(crate) piped: usize,
    /// Bytes at the front of the queue that a relay does not count as its own.
    pub(crate) uncounted: usize,
    /// Bytes taken from the socket and not yet delivered.
    pub(crate) received: Vec<u8>,
    /// What broke it.
    pub(crate) error: Option<io::Error>,
    /// Bytes that could not be delivered to it.
    pub(crate) undelivered: u64,
}

impl Rare {
    pub(crate) fn queued(&self) -> &[u8] {
        &self.queue[self.start..]
    }

    /// Bytes on their way to the socket.
    pub(crate) fn outbound(&self) -> usize {
        self.queue.len() - self.start + self.piped
    }

    /// Whether the record may go.
    pub(crate) fn is_blank(&self) -> bool {
        self.outbound() == 0 && self.received.is_empty() && self.error.is_none() && self.undelivered == 0
    }
}
