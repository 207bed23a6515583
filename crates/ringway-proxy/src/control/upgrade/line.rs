//! What the two processes say to each other: numbered kinds of message of any length, with descriptors.
//!
//! A channel's message holds at most [`MESSAGE_BYTES_MAX`] bytes and [`DESCRIPTORS_MAX`] descriptors, so a longer one goes
//! in parts. Each part begins with four bytes: the kind, little-endian, and a word that is 1 if more parts follow.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use ringway::handover::{Channel, DESCRIPTORS_MAX, Interest, MESSAGE_BYTES_MAX, Message, wait};

/// Bytes before those of a part.
const HEAD: usize = 4;
/// The longest message: configurations of 64 MiB, escaped as JSON.
const BODY_BYTES_MAX: usize = 256 << 20;
/// The most descriptors of one message: a process has no more than its limit, and half of them are of one kind.
const BODY_DESCRIPTORS_MAX: usize = 1 << 20;
/// Until it is tried again to send descriptors of which too many are under way.
const CROWDED: Duration = Duration::from_millis(1);

/// One end of the conversation. Calls block until their deadline.
#[derive(Debug)]
pub(super) struct Line {
    channel: Channel,
    part: Message,
}

/// A message as it came.
#[derive(Debug, Default)]
pub(super) struct Packet {
    /// What it is, by its number.
    pub(super) kind: u16,
    pub(super) body: Vec<u8>,
    pub(super) descriptors: Vec<OwnedFd>,
}

impl Line {
    pub(super) fn new(channel: Channel) -> Self {
        Self { channel, part: Message::default() }
    }

    /// Sends a message with copies of the descriptors.
    ///
    /// # Errors
    /// `TimedOut`; `BrokenPipe` or `ConnectionReset` if the other process is gone.
    pub(super) fn send(
        &mut self,
        kind: u16,
        body: &[u8],
        descriptors: &[BorrowedFd<'_>],
        deadline: Instant,
    ) -> io::Result<()> {
        let mut bytes = body.chunks(MESSAGE_BYTES_MAX - HEAD);
        let mut descriptors = descriptors.chunks(DESCRIPTORS_MAX);
        let mut part = Vec::with_capacity(HEAD + body.len().min(MESSAGE_BYTES_MAX - HEAD));
        loop {
            part.clear();
            part.extend_from_slice(&kind.to_le_bytes());
            let follows = bytes.len() > 1 || descriptors.len() > 1;
            part.extend_from_slice(&u16::from(follows).to_le_bytes());
            part.extend_from_slice(bytes.next().unwrap_or_default());
            self.send_part(&part, descriptors.next().unwrap_or_default(), deadline)?;
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
                // ETOOMANYREFS has no kind of its own.
                Err(error) if is_crowded(&error) && Instant::now() < deadline => std::thread::sleep(CROWDED),
                sent => return sent,
            }
        }
    }

    /// Receives a message.
    ///
    /// # Errors
    /// `TimedOut`; `UnexpectedEof` if the other process is gone; `InvalidData` for what is no message.
    pub(super) fn receive(&mut self, deadline: Instant) -> io::Result<Packet> {
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
            let more = packet.take(&mut self.part, is_first)?;
            if !more {
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
        let Some((head, body)) = part.bytes.split_at_checked(HEAD) else {
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

fn is_crowded(error: &io::Error) -> bool {
    error.raw_os_error() == Some(rustix::io::Errno::TOOMANYREFS.raw_os_error())
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
