//! Two ends of TLS on a wire that anybody may cut, hold up and tamper with: no panic, bounded memory, and at most one alert,
//! after which nothing is said. What arrives is the begin of what was sent; an end is one that was said; what two open ends
//! agreed on is the same; a client that has to show a certificate and has none is not let in. Where nobody tampered all of it
//! arrives.
//!
//! Shared by the fuzz target and by the test that replays its seeds. The first two bytes say who talks, the others what happens.

mod ends;
mod world;

use std::ops::Range;

use ends::{End, Heard};
use world::{Setup, World};

/// What is more than this takes time and covers nothing new.
const STEPS_MAX: usize = 100;
const SENT_BYTES_MAX: usize = 200_000;
const PIECES_MAX: usize = 500;
/// rustls takes 32 on a connection (`TemperCounters`).
const REFRESHES_MAX: usize = 8;
/// Flights of the longest handshake, with one that is tried again, and of what follows it; generously.
const ROUNDS_MAX: usize = 20;

/// Holds two ends against that.
pub(crate) fn check(bytes: &[u8]) {
    let mut script = Script(bytes);
    let setup = Setup::of([script.byte(), script.byte()]);
    let pair = World::get().pair(setup);
    if setup.is_resumed() {
        let mut first = Talk::between(pair.begin(), setup);
        first.conclude();
    }
    let mut talk = Talk::between(pair.begin(), setup);
    for _ in 0..STEPS_MAX {
        if script.0.is_empty() {
            break;
        }
        talk.step(&mut script);
    }
    talk.conclude();
    let is_resumed = talk.ends[0].agreed().is_some_and(|agreed| agreed.is_resumed);
    assert!(is_resumed == setup.is_resumed() || talk.may_fail());
}

/// What is left of the input.
struct Script<'a>(&'a [u8]);

impl Script<'_> {
    fn byte(&mut self) -> u8 {
        let Some((byte, rest)) = self.0.split_first() else { return 0 };
        self.0 = rest;
        *byte
    }

    /// Up to 127, or up to 38,400 in steps of 300: two records and a half.
    fn length(&mut self) -> usize {
        match usize::from(self.byte()) {
            length @ ..128 => length,
            length => (length - 127) * 300,
        }
    }

    /// A place among so many, or behind the last.
    fn place(&mut self, len: usize) -> usize {
        usize::from(u16::from_le_bytes([self.byte(), self.byte()])) % (len + 1)
    }

    /// Some that follow each other of so many.
    fn range(&mut self, len: usize) -> Range<usize> {
        let at = self.place(len);
        at..len.min(at + self.length())
    }

    fn take(&mut self, count: usize) -> Vec<u8> {
        let (taken, rest) = self.0.split_at(self.0.len().min(count));
        self.0 = rest;
        taken.to_vec()
    }
}

/// The client is 0 and the server 1; what has a side is of that which speaks.
struct Talk {
    ends: [End; 2],
    wires: [Vec<u8>; 2],
    sent: [usize; 2],
    heard: [usize; 2],
    has_finished: [bool; 2],
    /// Something of it has been delivered.
    has_begun: [bool; 2],
    refreshes: usize,
    /// Something that it said was changed, lost, or made up.
    tampered: [bool; 2],
    is_old: bool,
    is_unknown: bool,
}

impl Talk {
    fn between((ends, hello): ([End; 2], Vec<u8>), setup: Setup) -> Self {
        Self {
            ends,
            wires: [hello, Vec::new()],
            sent: [0; 2],
            heard: [0; 2],
            has_finished: [false; 2],
            has_begun: [false; 2],
            refreshes: 0,
            tampered: [false; 2],
            is_old: setup.is_old(),
            is_unknown: setup.is_unknown(),
        }
    }

    fn may_fail(&self) -> bool {
        self.is_unknown || self.tampered.contains(&true)
    }

    fn step(&mut self, script: &mut Script<'_>) {
        let code = script.byte();
        let side = usize::from(code & 1);
        match (code >> 1) % 12 {
            0 => self.deliver(side, script.length(), false),
            1 => self.deliver(side, script.length(), true),
            2 => self.deliver_in_pieces(side, script.length()),
            3 => self.say(side, script.length()),
            4 => self.finish(side),
            5 => self.refresh(side),
            // rustls, as cargo-fuzz builds it, asserts that no record is bad once it has said the end itself.
            6..=10 if self.has_finished[1 - side] => {}
            6 => self.flip(side, script),
            7 => {
                let range = script.range(self.wires[side].len());
                self.replace(side, range, Vec::new());
            }
            8 => {
                let range = script.range(self.wires[side].len());
                let (end, again) = (range.end, self.wires[side][range].to_vec());
                self.replace(side, end..end, again);
            }
            9 => {
                let at = script.place(self.wires[side].len());
                let count = usize::from(script.byte()) % 64;
                self.replace(side, at..at, script.take(count));
            }
            10 => self.crumble(side, 1 + usize::from(script.byte())),
            _ => self.settle(),
        }
    }

    /// Delivers so many bytes of what a side said. None of them: the other looks again at what it has.
    fn deliver(&mut self, from: usize, count: usize, is_all: bool) {
        let count = count.min(self.wires[from].len());
        let piece: Vec<u8> = self.wires[from].drain(..count).collect();
        self.has_begun[from] |= count > 0;
        let Heard { payload, answer } = self.ends[1 - from].hear(&piece, is_all);
        self.wires[1 - from].extend(answer);
        assert!(self.may_fail() || !self.ends[1 - from].has_failed(), "it failed for no reason");
        let heard = self.heard[from];
        assert!(heard + payload.len() <= self.sent[from], "more than was said");
        assert!(
            pattern(from, heard).zip(&payload).all(|(said, heard)| said == *heard),
            "it is not what was said"
        );
        self.heard[from] += payload.len();
        if self.ends[1 - from].has_heard_end() {
            assert!(self.has_finished[from], "an end that nobody said");
            assert_eq!(self.heard[from], self.sent[from], "an end before the last byte");
        }
    }

    fn deliver_in_pieces(&mut self, from: usize, size: usize) {
        let len = self.wires[from].len();
        let size = size.max(1).max(len / PIECES_MAX);
        for _ in 0..len.div_ceil(size) {
            self.deliver(from, size, false);
        }
    }

    fn say(&mut self, side: usize, count: usize) {
        let count = count.min(SENT_BYTES_MAX - self.sent[side]);
        if self.ends[side].is_open() && !self.has_finished[side] {
            let payload: Vec<u8> = pattern(side, self.sent[side]).take(count).collect();
            self.wires[side].extend(self.ends[side].say(&payload));
            self.sent[side] += count;
        }
    }

    fn finish(&mut self, side: usize) {
        // As above: what comes may be bad.
        if self.ends[side].is_open() && !self.tampered[1 - side] {
            self.wires[side].extend(self.ends[side].finish());
            self.has_finished[side] = true;
        }
    }

    /// New keys for what a side says, and the wish that the other does the same.
    fn refresh(&mut self, side: usize) {
        let may = !self.is_old && !self.has_finished[side] && self.refreshes < REFRESHES_MAX;
        if may && self.ends[side].is_open() {
            self.refreshes += 1;
            self.wires[side].extend(self.ends[side].refresh());
        }
    }

    fn flip(&mut self, side: usize, script: &mut Script<'_>) {
        let at = script.place(self.wires[side].len());
        let mask = script.byte();
        if let Some(byte) = self.wires[side].get_mut(at) {
            self.tampered[side] |= mask != 0;
            *byte ^= mask;
        }
    }

    fn replace(&mut self, side: usize, range: Range<usize>, bytes: Vec<u8>) {
        self.tampered[side] |= !range.is_empty() || !bytes.is_empty();
        self.wires[side].splice(range, bytes);
    }

    /// Puts what the first record on the wire holds into records of this size. The first that a side says is not sealed, and may
    /// come so.
    fn crumble(&mut self, side: usize, size: usize) {
        let wire = &mut self.wires[side];
        let Some(&[22, major, minor, high, low]) = wire.first_chunk() else { return };
        let end = 5 + usize::from(u16::from_be_bytes([high, low]));
        let Some(message) = wire.get(5..end) else { return };
        let record = |part: &[u8]| [&[22, major, minor, 0, part.len() as u8], part].concat();
        let crumbs: Vec<u8> = message.chunks(size.min(255)).flat_map(record).collect();
        wire.splice(..end, crumbs);
        self.tampered[side] |= self.has_begun[side];
    }

    /// Delivers all that is on its way, and what comes of it.
    fn settle(&mut self) {
        for _ in 0..ROUNDS_MAX {
            for side in [0, 1] {
                if !self.wires[side].is_empty() {
                    self.deliver(side, usize::MAX, false);
                }
            }
        }
        assert!(self.wires.iter().all(Vec::is_empty), "they do not come to an end");
    }

    /// Both say their last, and it arrives if nobody tampered.
    fn conclude(&mut self) {
        self.settle();
        for side in [0, 1] {
            self.say(side, 10);
            self.finish(side);
        }
        self.settle();
        assert!(!(self.is_unknown && self.ends[1].is_open()), "somebody unknown was let in");
        if self.ends.iter().all(End::is_open) {
            let [client, server] = self.ends.each_ref().map(|end| end.agreed().expect("it is open"));
            assert_eq!(client, server);
            assert_eq!(client.is_old, self.is_old);
        }
        if !self.may_fail() {
            for side in [0, 1] {
                assert!(self.ends[1 - side].has_heard_end());
                assert_eq!(self.ends[side].held_bytes(), 0);
            }
        }
    }
}

/// What a side says, from a place on.
fn pattern(side: usize, from: usize) -> impl Iterator<Item = u8> {
    (from..).map(move |at| (at * 31 % 251) as u8 ^ (side as u8) << 7)
}
