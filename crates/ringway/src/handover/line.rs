//! What the two processes say to each other: numbered kinds of message of any length, with descriptors.
//!
//! A channel's message holds at most [`MESSAGE_BYTES_MAX`] bytes and [`DESCRIPTORS_MAX`] descriptors, so a longer one goes
//! in parts. Each part begins with four bytes: the kind, little-endian, and a word that is 1 if more parts follow.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use zeroize::Zeroize as _;

use super::{Channel, DESCRIPTORS_MAX, Interest, MESSAGE_BYTES_MAX, Message, wait};

/// Bytes before those of a part.
const HEAD_BYTES: usize = 4;
/// The longest message.
const BODY_BYTES_MAX: usize = 1 << 30;
/// The most descriptors of one message; a process has fewer.
const BODY_DESCRIPTORS_MAX: usize = 1 << 20;
/// Until it is tried again to send descriptors of which too many are under way.
const CROWDED: Duration = Duration::from_millis(1);
/// Linux's number of ETOOMANYREFS, which `io::ErrorKind` has no name for.
const ETOOMANYREFS: i32 = 109;

/// One end of the conversation. Calls block until their deadline.
///
/// Deadlines are of [`Instant`] and not of the engine's clock: a new process may not ask for the time before it goes on with
/// that of the old one.
#[derive(Debug)]
pub struct Line {
    channel: Channel,
    part: Message,
}

/// A message as it came.
#[derive(Debug, Default)]
pub struct Packet {
    /// What it is, by its number.
    pub kind: u16,
    /// Its bytes.
    pub body: Vec<u8>,
    /// Its descriptors, in the order in which they were sent.
    pub descriptors: Vec<OwnedFd>,
}

/// For waiting until something comes.
impl AsFd for Line {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.channel.as_fd()
    }
}

impl Line {
    /// Speaks on a channel.
    pub fn new(channel: Channel) -> Self {
        Self { channel, part: Message::default() }
    }

    /// Sends a message with copies of the descriptors.
    ///
    /// # Errors
    /// `TimedOut`; `BrokenPipe` or `ConnectionReset` if the other process has hung up.
    pub fn send(
        &mut self,
        kind: u16,
        body: &[u8],
        descriptors: &[BorrowedFd<'_>],
        deadline: Instant,
    ) -> io::Result<()> {
        self.send_by(&mut Vec::new(), kind, body, descriptors, deadline)
    }

    /// Sends a message that nobody else is to know: nothing of it is left here but what the caller has.
    ///
    /// # Errors
    /// As of [`Self::send`].
    pub fn send_secret(&mut self, kind: u16, body: &[u8], deadline: Instant) -> io::Result<()> {
        let mut part = Vec::new();
        let sent = self.send_by(&mut part, kind, body, &[], deadline);
        part.zeroize();
        sent
    }

    /// Overwrites what is left here of messages that came. What was given out is with whoever took it.
    pub fn wipe(&mut self) {
        self.part.bytes.zeroize();
    }

    fn send_by(
        &mut self,
        part: &mut Vec<u8>,
        kind: u16,
        body: &[u8],
        descriptors: &[BorrowedFd<'_>],
        deadline: Instant,
    ) -> io::Result<()> {
        let mut bytes = body.chunks(MESSAGE_BYTES_MAX - HEAD_BYTES);
        let mut descriptors = descriptors.chunks(DESCRIPTORS_MAX);
        // It never grows, and leaves nothing behind.
        part.reserve_exact(HEAD_BYTES + body.len().min(MESSAGE_BYTES_MAX - HEAD_BYTES));
        loop {
            let follows = bytes.len() > 1 || descriptors.len() > 1;
            part.clear();
            part.extend_from_slice(&kind.to_le_bytes());
            part.extend_from_slice(&u16::from(follows).to_le_bytes());
            part.extend_from_slice(bytes.next().unwrap_or_default());
            self.send_part(part, descriptors.next().unwrap_or_default(), deadline)?;
            if !follows {
                return Ok(());
            }
        }
    }

    fn send_part(
        &mut self,
        part: &[u8],
        descriptors: &[BorrowedFd<'_>],
        deadline: Instant,
    ) -> io::Result<()> {
        loop {
            match self.channel.send(part, descriptors) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    self.wait(Interest::Write, deadline)?;
                }
                Err(error) if error.raw_os_error() == Some(ETOOMANYREFS) => {
                    // Nothing tells when the other end has taken some; a word from it would be one of refusal.
                    self.wait(Interest::Read, deadline.min(Instant::now() + CROWDED))?;
                }
                sent => return sent,
            }
        }
    }

    /// Receives a message.
    ///
    /// # Errors
    /// `TimedOut`; `UnexpectedEof` if the other process has hung up; `InvalidData` for what is no message.
    pub fn receive(&mut self, deadline: Instant) -> io::Result<Packet> {
        let mut packet = Packet::default();
        let mut is_first = true;
        loop {
            match self.channel.receive(&mut self.part) {
                Ok(true) => {}
                Ok(false) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    self.wait(Interest::Read, deadline)?;
                    continue;
                }
                Err(error) => return Err(error),
            }
            if !packet.take(&mut self.part, is_first)? {
                return Ok(packet);
            }
            is_first = false;
        }
    }

    fn wait(&self, interest: Interest, deadline: Instant) -> io::Result<()> {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(io::ErrorKind::TimedOut.into());
        }
        wait([(self.channel.as_fd(), interest)], Some(left)).map(drop)
    }
}

impl Packet {
    /// Takes a part in; says whether more follow.
    fn take(&mut self, part: &mut Message, is_first: bool) -> io::Result<bool> {
        let invalid = |why| Err(io::Error::new(io::ErrorKind::InvalidData, why));
        let Some((head, body)) = part.bytes.split_at_checked(HEAD_BYTES) else {
            return invalid("a part without a head");
        };
        let kind = u16::from_le_bytes([head[0], head[1]]);
        let follows = u16::from_le_bytes([head[2], head[3]]);
        if follows > 1 || (!is_first && kind != self.kind) {
            return invalid("a part that belongs to no message");
        }
        if self.body.len() + body.len() > BODY_BYTES_MAX
            || self.descriptors.len() + part.descriptors.len() > BODY_DESCRIPTORS_MAX
        {
            return invalid("a message that is too long");
        }
        if follows == 1 && body.is_empty() && part.descriptors.is_empty() {
            return invalid("an empty part");
        }
        self.kind = kind;
        self.body.extend_from_slice(body);
        self.descriptors.append(&mut part.descriptors);
        Ok(follows == 1)
    }
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::thread;

    use proptest::prelude::*;

    use super::*;

    fn soon() -> Instant {
        Instant::now() + Duration::from_secs(10)
    }

    fn lines() -> (Line, Line) {
        let (one, other) = Channel::pair().expect("descriptors");
        (Line::new(one), Line::new(other))
    }

    #[test]
    fn messages_of_any_length_arrive_with_their_descriptors() {
        let file = File::open("/dev/null").expect("a file");
        for (length, descriptors) in [(0, 0), (1, 1), (MESSAGE_BYTES_MAX, 0), (3 << 20, 254), (10, 600)] {
            let (mut one, mut other) = lines();
            let body: Vec<u8> = (0..length).map(|index| (index % 251) as u8).collect();
            let sent = body.clone();
            let files = vec![file.as_fd(); descriptors];
            let received = thread::scope(|scope| {
                let receiver = scope.spawn(move || other.receive(soon()).expect("a message"));
                one.send(7, &sent, &files, soon()).expect("it is received");
                receiver.join().expect("no panic")
            });
            assert_eq!((received.kind, received.descriptors.len()), (7, descriptors));
            assert!(received.body == body);
        }
    }

    #[test]
    fn a_secret_arrives_and_what_was_kept_of_it_is_wiped() {
        let (mut one, mut other) = lines();
        for length in [1, MESSAGE_BYTES_MAX] {
            let body = vec![7; length];
            one.send_secret(3, &body, soon()).expect("it is received");
            let received = other.receive(soon()).expect("a message");
            assert!(received.kind == 3 && received.body == body);
            assert!(!other.part.bytes.is_empty());
            other.wipe();
            assert!(other.part.bytes.is_empty());
        }
    }

    #[test]
    fn silence_and_an_end_are_told_apart() {
        let (mut one, other) = lines();
        let error = one.receive(Instant::now()).expect_err("nobody said anything");
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        drop(other);
        assert_eq!(one.receive(soon()).expect_err("it is gone").kind(), io::ErrorKind::UnexpectedEof);
    }

    proptest! {
        #[test]
        fn nothing_that_comes_makes_it_panic(
            parts in prop::collection::vec(prop::collection::vec(any::<u8>(), 1..12), 1..6)
        ) {
            let (one, other) = Channel::pair().expect("descriptors");
            for part in &parts {
                one.send(part, &[]).expect("there is room");
            }
            drop(one);
            let mut line = Line::new(other);
            for _ in 0..=parts.len() {
                if line.receive(soon()).is_err() {
                    break;
                }
            }
        }
    }
}
