//! One end: a conversation of ours, or a connection of rustls that is used the ordinary way.

use std::io::{Read, Write};
use std::mem;

use ringway::layer::{Layer, Scratch};
use ringway::tls::Conversation;
use rustls::{Connection, HandshakeKind, ProtocolVersion};

pub(crate) enum End {
    Ours(Ours),
    Theirs(Theirs),
}

/// What an end makes of bytes.
#[derive(Default)]
pub(crate) struct Heard {
    pub(crate) payload: Vec<u8>,
    /// What it says to them.
    pub(crate) answer: Vec<u8>,
}

#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Agreed {
    pub(crate) is_old: bool,
    pub(crate) is_resumed: bool,
    alpn: Option<Vec<u8>>,
}

impl End {
    pub(crate) fn hear(&mut self, bytes: &[u8], is_all: bool) -> Heard {
        match self {
            Self::Ours(end) => end.hear(bytes, is_all),
            Self::Theirs(end) => end.hear(bytes),
        }
    }

    /// How payload is said.
    pub(crate) fn say(&mut self, payload: &[u8]) -> Vec<u8> {
        match self {
            Self::Ours(end) => {
                let mut wire = Scratch::default();
                end.conversation.send(payload, &mut wire).expect("it is open");
                well_formed(&wire)
            }
            Self::Theirs(end) => {
                end.connection.writer().write_all(payload).expect("memory");
                end.said()
            }
        }
    }

    pub(crate) fn finish(&mut self) -> Vec<u8> {
        match self {
            Self::Ours(end) => {
                let mut wire = Scratch::default();
                end.conversation.finish(&mut wire);
                well_formed(&wire)
            }
            Self::Theirs(end) => {
                end.connection.send_close_notify();
                end.said()
            }
        }
    }

    /// Those of ours never do.
    pub(crate) fn refresh(&mut self) -> Vec<u8> {
        match self {
            Self::Ours(_) => Vec::new(),
            Self::Theirs(end) => {
                end.connection.refresh_traffic_keys().expect("it is open, and of TLS 1.3");
                end.said()
            }
        }
    }

    /// Payload may be said.
    pub(crate) fn is_open(&self) -> bool {
        match self {
            Self::Ours(end) => end.is_open && !end.has_failed,
            Self::Theirs(end) => !end.connection.is_handshaking() && !end.has_failed,
        }
    }

    pub(crate) fn has_failed(&self) -> bool {
        match self {
            Self::Ours(end) => end.has_failed,
            Self::Theirs(end) => end.has_failed,
        }
    }

    /// The other side said that no more comes.
    pub(crate) fn has_heard_end(&self) -> bool {
        self.is_open()
            && match self {
                Self::Ours(end) => end.conversation.has_peer_finished(),
                Self::Theirs(end) => end.has_heard_end,
            }
    }

    pub(crate) fn held_bytes(&self) -> usize {
        match self {
            Self::Ours(end) => end.conversation.held_bytes(),
            Self::Theirs(_) => 0,
        }
    }

    pub(crate) fn agreed(&self) -> Option<Agreed> {
        match self {
            Self::Ours(end) => end.conversation.agreed().map(|agreed| Agreed {
                is_old: agreed.version == "1.2",
                is_resumed: agreed.is_resumed,
                alpn: agreed.alpn.map(Vec::from),
            }),
            Self::Theirs(end) => Some(Agreed {
                is_old: end.connection.protocol_version()? == ProtocolVersion::TLSv1_2,
                is_resumed: end.connection.handshake_kind()? == HandshakeKind::Resumed,
                alpn: end.connection.alpn_protocol().map(Vec::from),
            }),
        }
    }
}

/// Used as a worker does: what the handshake does not take is given again, with more behind it.
pub(crate) struct Ours {
    conversation: Conversation,
    waiting: Vec<u8>,
    is_open: bool,
    has_failed: bool,
}

impl Ours {
    pub(crate) fn new(conversation: Conversation) -> Self {
        Self { conversation, waiting: Vec::new(), is_open: false, has_failed: false }
    }

    fn hear(&mut self, bytes: &[u8], is_all: bool) -> Heard {
        if self.has_failed {
            return Heard::default();
        }
        let mut answer = Scratch::default();
        let mut payload = Vec::new();
        self.waiting.extend_from_slice(bytes);
        if !self.is_open {
            let mut peeked = self.waiting.clone();
            match self.conversation.handshake(&mut peeked, is_all, &mut answer) {
                Ok(progress) => {
                    assert!(progress.taken <= peeked.len());
                    assert!(!is_all || progress.taken > 0 || peeked.is_empty(), "it stands still");
                    assert_eq!(progress.is_established, !self.conversation.is_handshaking());
                    self.waiting.drain(..progress.taken);
                    self.is_open = progress.is_established;
                }
                Err(_) => self.has_failed = true,
            }
        }
        if self.is_open {
            let mut bytes = mem::take(&mut self.waiting);
            let mut scratch = Scratch::default();
            let heard = self.conversation.receive(&mut bytes, &mut scratch, &mut answer);
            payload.extend_from_slice(heard.payload);
            self.has_failed = heard.failure.is_some();
        }
        let answer = well_formed(&answer);
        assert!(alerts(&answer) <= usize::from(self.has_failed), "{answer:?}");
        assert!(self.conversation.held_bytes() <= Conversation::HELD_BYTES_MAX);
        if self.has_failed {
            self.stay_silent();
        }
        Heard { payload, answer }
    }

    /// After a failure nothing is taken in or said, whatever is asked for.
    fn stay_silent(&mut self) {
        let (mut payload, mut answer) = (Scratch::default(), Scratch::default());
        assert_eq!(self.conversation.held_bytes(), 0);
        assert!(self.conversation.handshake(&mut [22, 3, 3, 0, 1, 1], true, &mut answer).is_err());
        let mut record = [23, 3, 3, 0, 1, 0];
        let heard = self.conversation.receive(&mut record, &mut payload, &mut answer);
        assert!(heard.payload.is_empty() && heard.failure.is_none());
        assert!(self.conversation.send(b"more", &mut answer).is_err());
        self.conversation.finish(&mut answer);
        assert!(answer.is_empty());
        assert_eq!(self.conversation.held_bytes(), 0);
    }
}

pub(crate) struct Theirs {
    connection: Box<Connection>,
    has_heard_end: bool,
    has_failed: bool,
}

impl Theirs {
    pub(crate) fn new(connection: impl Into<Connection>) -> Self {
        let mut connection = Box::new(connection.into());
        connection.set_buffer_limit(None);
        Self { connection, has_heard_end: false, has_failed: false }
    }

    fn hear(&mut self, mut bytes: &[u8]) -> Heard {
        let mut payload = Vec::new();
        while !bytes.is_empty() && !self.has_failed {
            // None, once it heard the end.
            if self.connection.read_tls(&mut bytes).expect("there is room") == 0 {
                break;
            }
            match self.connection.process_new_packets() {
                Ok(state) => self.has_heard_end = state.peer_has_closed(),
                Err(_) => self.has_failed = true,
            }
            // It ends in "would block" where the stream does not end.
            let _ = self.connection.reader().read_to_end(&mut payload);
        }
        Heard { payload, answer: self.said() }
    }

    pub(crate) fn said(&mut self) -> Vec<u8> {
        let mut said = Vec::new();
        while self.connection.wants_write() {
            self.connection.write_tls(&mut said).expect("memory");
        }
        said
    }
}

/// What was said, which is whole records.
fn well_formed(wire: &Scratch) -> Vec<u8> {
    let said = wire.as_slice().to_vec();
    assert!(records(&said).all(|(_, len)| (1..=(1 << 14) + 256).contains(&len)));
    said
}

/// Kinds and lengths of records.
fn records(mut wire: &[u8]) -> impl Iterator<Item = (u8, usize)> {
    std::iter::from_fn(move || {
        if wire.is_empty() {
            return None;
        }
        let (head, rest) = wire.split_first_chunk::<5>().expect("a whole head");
        let len = usize::from(u16::from_be_bytes([head[3], head[4]]));
        wire = rest.get(len..).expect("a whole record");
        Some((head[0], len))
    })
}

/// How many alerts are among what is no payload: as such, or as long as a sealed one of TLS 1.3, which nothing else is.
fn alerts(wire: &[u8]) -> usize {
    records(wire).filter(|(kind, len)| *kind == 21 || (*kind, *len) == (23, 2 + 1 + 16)).count()
}
