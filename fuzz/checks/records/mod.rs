//! Records that are sealed with the right keys and may be wrong inside, and all that may be wrong around them, said to an established
//! end of TLS: what it makes of them is what [`Rules`] say, to the last byte of payload, the alert, and the memory that it holds, however
//! the bytes are cut. What it says opens with the right keys, in their order; after a failure or the end nothing is heard any more.
//!
//! Shared by the fuzz target and by the test that replays its seeds. The first byte says who talks, the next two how what is said is cut,
//! the others what it is.

mod keys;
mod pair;
mod rules;

use std::mem;

use keys::Place;
use pair::{Pair, Setup};
use ringway::layer::{Layer, Scratch};
use ringway::tls::Conversation;
use rules::{Outcome, Rules, Sealed};

/// What is more than this takes time and covers nothing new.
const STEPS_MAX: usize = 100;
const WIRE_BYTES_MAX: usize = 300_000;
const SENT_BYTES_MAX: usize = 100_000;
const PIECES_MAX: usize = 500;
/// So many steps follow when nothing more is heard, to see that it is not.
const STEPS_AFTER_MAX: usize = 4;

/// Holds an established end against the rules.
pub(crate) fn check(bytes: &[u8]) {
    let mut script = Script(bytes);
    let setup = Setup::of(script.byte());
    let sizes = [script.size(), script.size()];
    let acts = Plan::read(script, setup).acts;
    Talk { pair: Pair::of(setup), sizes, has_failed: false }.perform(acts);
}

/// What is left of the input.
struct Script<'a>(&'a [u8]);

impl Script<'_> {
    fn byte(&mut self) -> u8 {
        let Some((byte, rest)) = self.0.split_first() else { return 0 };
        self.0 = rest;
        *byte
    }

    /// Of a piece; zero: as large as they come.
    fn size(&mut self) -> usize {
        match usize::from(self.byte()) {
            0 => usize::MAX,
            size @ ..128 => size,
            size => (size - 127) * 300,
        }
    }

    /// Up to 127 in a byte, or up to 32,767, two records, in two.
    fn length(&mut self) -> usize {
        match self.byte() {
            length @ ..128 => usize::from(length),
            high => usize::from(u16::from_be_bytes([high - 128, self.byte()])),
        }
    }

    fn take(&mut self, count: usize) -> Vec<u8> {
        let (taken, rest) = self.0.split_at(self.0.len().min(count));
        self.0 = rest;
        taken.to_vec()
    }

    /// Bytes of the script if they are few, and a pattern, in which there are no zeros, if they are many.
    fn content(&mut self) -> Vec<u8> {
        match self.length() {
            count @ ..128 => self.take(count),
            count => pattern(count),
        }
    }
}

fn pattern(count: usize) -> Vec<u8> {
    (0..count).map(|at| (at * 31 % 251) as u8 + 1).collect()
}

/// Something that happens, and what is to come of it.
struct Act {
    what: What,
    outcome: Outcome,
}

enum What {
    /// Ours hears them.
    Hear(Vec<Part>),
    /// Ours says payload, if it may.
    Send {
        payload: Vec<u8>,
        may: bool,
    },
    Finish,
}

enum Part {
    Raw(Vec<u8>),
    Sealed {
        place: Place,
        head: [u8; 3],
        inner: Vec<u8>,
        /// A byte that is changed afterwards, and how.
        flip: Option<(usize, u8)>,
    },
}

/// How the next record is wrong around its content.
#[derive(Default)]
struct Twist {
    /// Under a key of later, or of earlier.
    epochs: i8,
    sequences: i8,
    kind: Option<u8>,
    minor: Option<u8>,
    flip: Option<(usize, u8)>,
}

/// All that happens, which is known before it does.
struct Plan {
    acts: Vec<Act>,
    parts: Vec<Part>,
    rules: Rules,
    setup: Setup,
    twist: Twist,
    /// Messages of which no record was made yet.
    messages: Vec<u8>,
    wire_bytes: usize,
    sent_bytes: usize,
}

impl Plan {
    fn read(mut script: Script<'_>, setup: Setup) -> Self {
        let first = setup.first_sequence();
        let mut plan = Self {
            acts: Vec::new(),
            parts: Vec::new(),
            rules: Rules::new(setup.is_server(), setup.is_13(), setup.suite(), first),
            setup,
            twist: Twist::default(),
            messages: Vec::new(),
            wire_bytes: 0,
            sent_bytes: 0,
        };
        let mut after = 0;
        for _ in 0..STEPS_MAX {
            if script.0.is_empty() || after == STEPS_AFTER_MAX {
                break;
            }
            after += usize::from(plan.rules.is_over());
            plan.step(&mut script);
        }
        plan.end_hearing();
        plan
    }

    fn step(&mut self, script: &mut Script<'_>) {
        let code = script.byte();
        let (much, has) = (usize::from(code >> 4), |bit: u8| code >> (4 + bit) & 1 == 1);
        match code & 15 {
            0 => self.seal(23, &script.content(), 0),
            1 => {
                let content = script.content();
                self.seal(23, &content, script.length());
            }
            2 => {
                // Among kinds that there are, or any.
                let kind = if has(0) { script.byte() } else { 20 + (code >> 5 & 3) };
                let content = script.content();
                let padding = if has(3) { script.length() } else { 0 };
                self.seal(kind, &content, padding);
            }
            3 => (0..=much).for_each(|_| self.seal(23, &[], 0)),
            4 => self.seal(21, &[1 + (code >> 4 & 1), script.byte()], 0),
            5 => self.seal(22, &[24, 0, 0, 1, code >> 4], 0),
            6 => (0..=much).for_each(|_| self.seal(22, &[24, 0, 0, 1, 0], 0)),
            7 => self.write_message(code >> 4, script),
            8 => {
                let count = script.length();
                self.say_messages(count, 1);
            }
            9 => {
                let count = script.length().max(1);
                self.say_messages(count, 64);
            }
            10 => {
                let bytes = script.content();
                self.say(Part::Raw(bytes));
            }
            11 => {
                let content = script.content();
                let len = if has(3) { script.length() } else { content.len() };
                let head = [20 + (code >> 4 & 3), 3, if has(2) { script.byte() } else { 3 }];
                self.say(Part::Raw([&head[..], &(len as u16).to_be_bytes(), &content].concat()));
            }
            12 => match has(0) {
                true => self.twist.epochs = [1, 2, 3, -1, -2, -3, -4, -5][much / 2],
                false => self.twist.sequences = script.byte() as i8,
            },
            13 => match has(0) {
                true => self.twist.flip = Some((script.length(), script.byte())),
                false => {
                    self.twist.kind = has(1).then(|| script.byte());
                    self.twist.minor = has(2).then(|| script.byte());
                }
            },
            14 => {
                let count = script.length().min(SENT_BYTES_MAX - self.sent_bytes);
                self.send(count);
            }
            _ => self.finish(),
        }
    }

    /// Appends a message to those of which records are made.
    fn write_message(&mut self, code: u8, script: &mut Script<'_>) {
        let kind = match code & 7 {
            0 | 1 => {
                self.messages.extend([24, 0, 0, 1, code & 1]);
                return;
            }
            2 => 4,
            3 => 1,
            4 => 0,
            5 => 24,
            6 => script.byte(),
            _ => {
                self.messages.extend(script.content());
                return;
            }
        };
        let content = script.content();
        // It may be longer than what comes of it here.
        let len = if code & 8 == 0 { content.len() } else { script.length() * 4 };
        self.messages.push(kind);
        self.messages.extend_from_slice(&(len as u32).to_be_bytes()[1..]);
        self.messages.extend(content);
    }

    /// Makes up to `most` records of so many bytes of the messages, zero: of all.
    fn say_messages(&mut self, count: usize, most: usize) {
        for _ in 0..most {
            let count = if count == 0 { self.messages.len() } else { count.min(self.messages.len()) };
            if count == 0 {
                return;
            }
            let part: Vec<u8> = self.messages.drain(..count).collect();
            self.seal(22, &part, 0);
        }
    }

    fn seal(&mut self, kind: u8, content: &[u8], padding: usize) {
        /// What has a length in two bytes, whatever goes around it.
        const INNER_MAX: usize = u16::MAX as usize - 32;
        let twist = mem::take(&mut self.twist);
        let mut inner = content[..content.len().min(INNER_MAX - 1)].to_vec();
        if self.setup.is_13() {
            inner.push(kind);
            inner.resize((inner.len() + padding).min(INNER_MAX), 0);
        }
        let outer = if self.setup.is_13() { 23 } else { kind };
        let head = [twist.kind.unwrap_or(outer), 3, twist.minor.unwrap_or(3)];
        let mut place = self.rules.opens();
        if self.setup.is_13() && twist.epochs != 0 {
            let epoch = place.epoch.saturating_add_signed(isize::from(twist.epochs));
            place = Place { epoch, sequence: 0 };
        }
        place.sequence = place.sequence.wrapping_add_signed(i64::from(twist.sequences));
        self.say(Part::Sealed { place, head, inner, flip: twist.flip });
    }

    fn say(&mut self, part: Part) {
        let (bytes, sealed) = match &part {
            Part::Raw(bytes) => (bytes.clone(), None),
            Part::Sealed { place, head, inner, flip } => {
                let explicit = if self.setup.is_13() { 0 } else { self.setup.suite().explicit_bytes_12() };
                let len = explicit + inner.len() + keys::TAG_BYTES;
                let mut bytes = [&head[..], &(len as u16).to_be_bytes(), &vec![0; len]].concat();
                let is_whole = !change(&mut bytes, *flip);
                (bytes, Some(Sealed { place: *place, inner: inner.clone(), is_whole }))
            }
        };
        if self.wire_bytes + bytes.len() <= WIRE_BYTES_MAX {
            self.wire_bytes += bytes.len();
            self.rules.hear(&bytes, sealed);
            self.parts.push(part);
        }
    }

    fn send(&mut self, count: usize) {
        self.end_hearing();
        self.sent_bytes += count;
        let payload = pattern(count);
        let may = self.rules.send(&payload);
        self.acts.push(Act { what: What::Send { payload, may }, outcome: self.rules.outcome() });
    }

    fn finish(&mut self) {
        self.end_hearing();
        self.rules.finish();
        self.acts.push(Act { what: What::Finish, outcome: self.rules.outcome() });
    }

    fn end_hearing(&mut self) {
        let parts = mem::take(&mut self.parts);
        self.acts.push(Act { what: What::Hear(parts), outcome: self.rules.outcome() });
    }
}

/// Changes a byte of a record; whether it is another one.
fn change(record: &mut [u8], flip: Option<(usize, u8)>) -> bool {
    let Some((at, mask)) = flip else { return false };
    let at = at % record.len();
    record[at] ^= mask;
    mask != 0
}

struct Talk {
    pair: Pair,
    /// How long the pieces are that ours hears, in turn.
    sizes: [usize; 2],
    has_failed: bool,
}

impl Talk {
    fn perform(mut self, acts: Vec<Act>) {
        for Act { what, outcome } in acts {
            let mut wire = Scratch::default();
            let payload = match what {
                What::Hear(parts) => self.hear(parts, &mut wire),
                What::Send { payload, may } => {
                    assert_eq!(self.pair.ours.send(&payload, &mut wire).is_ok(), may);
                    Vec::new()
                }
                What::Finish => {
                    self.pair.ours.finish(&mut wire);
                    Vec::new()
                }
            };
            let done = Outcome {
                payload,
                said: self.pair.open(wire.as_slice()),
                has_failed: self.has_failed,
                has_peer_finished: self.pair.ours.has_peer_finished(),
                is_at_rest: self.pair.ours.held_bytes() == 0,
            };
            assert!(done == outcome, "{done:?} instead of {outcome:?}");
        }
        // It is no handshake either.
        let mut answer = Scratch::default();
        let again = self.pair.ours.handshake(&mut [22, 3, 3, 0, 1, 1], true, &mut answer);
        assert_eq!(again.is_err(), self.has_failed);
        assert!(again.is_err() || again.is_ok_and(|progress| progress.taken == 0));
        assert!(answer.is_empty());
    }

    /// Gives the payload.
    fn hear(&mut self, parts: Vec<Part>, answer: &mut Scratch) -> Vec<u8> {
        let bytes: Vec<u8> = parts.into_iter().flat_map(|part| self.bytes_of(part)).collect();
        let mut payload = Vec::new();
        let (mut rest, mut turn) = (&bytes[..], 0);
        while !rest.is_empty() {
            let size = self.sizes[turn % 2].max(bytes.len() / PIECES_MAX).min(rest.len());
            let (piece, following) = rest.split_at(size);
            (rest, turn) = (following, turn + 1);
            let (mut piece, mut room) = (piece.to_vec(), Scratch::default());
            let heard = self.pair.ours.receive(&mut piece, &mut room, answer);
            payload.extend_from_slice(heard.payload);
            let fails = heard.failure.is_some();
            assert!(!(fails && self.has_failed), "it fails twice");
            self.has_failed |= fails;
            assert!(self.pair.ours.held_bytes() <= Conversation::HELD_BYTES_MAX);
        }
        payload
    }

    fn bytes_of(&mut self, part: Part) -> Vec<u8> {
        match part {
            Part::Raw(bytes) => bytes,
            Part::Sealed { place, head, inner, flip } => {
                let mut record = self.pair.sealing.seal(place, head, &inner);
                change(&mut record, flip);
                record
            }
        }
    }
}
