//! What has to come of what an established end hears: the RFCs as ours reads them, with the limits that it states, and its choice where
//! two alerts would do, written down in another way than it does it. It knows what every record was sealed from, and opens none.

use std::fmt;
use std::mem;

use super::keys::{Place, Suite, TAG_BYTES};

/// The longest content of a record.
pub(crate) const CONTENT_MAX: usize = 1 << 14;
/// The longest record that is waited for, its head apart.
const SEALED_MAX: usize = CONTENT_MAX + 2_048;
/// The longest one in TLS 1.3 (RFC 8446, section 5.2).
const SEALED_MAX_13: usize = CONTENT_MAX + 256;
const MESSAGE_MAX: usize = 1 << 16;

/// So many things that mean nothing are taken.
const EMPTIES_MAX: usize = 32;
const UPDATES_MAX: usize = 32;
const WARNINGS_MAX: usize = 4;
const RENEGOTIATIONS_MAX: usize = 1;

/// Alerts (RFC 8446, section 6).
const CLOSE_NOTIFY: u8 = 0;
const UNEXPECTED_MESSAGE: u8 = 10;
const BAD_RECORD_MAC: u8 = 20;
const RECORD_OVERFLOW: u8 = 22;
const HANDSHAKE_FAILURE: u8 = 40;
const ILLEGAL_PARAMETER: u8 = 47;
const DECODE_ERROR: u8 = 50;
const PROTOCOL_VERSION: u8 = 70;
const USER_CANCELED: u8 = 90;
const NO_RENEGOTIATION: u8 = 100;

/// What an end heard and said since it was asked last, and what is true of it now.
#[derive(PartialEq, Eq)]
pub(crate) struct Outcome {
    pub(crate) payload: Vec<u8>,
    /// Kinds and contents of records.
    pub(crate) said: Vec<(u8, Vec<u8>)>,
    pub(crate) has_failed: bool,
    pub(crate) has_peer_finished: bool,
    /// No record is incomplete: no memory is held.
    pub(crate) is_at_rest: bool,
}

impl fmt::Debug for Outcome {
    /// Of what is long, the begin.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let begin = |bytes: &[u8]| bytes[..bytes.len().min(8)].to_vec();
        let said = self.said.iter().map(|(kind, content)| (kind, content.len(), begin(content)));
        f.debug_struct("Outcome")
            .field("payload", &(self.payload.len(), begin(&self.payload)))
            .field("said", &Vec::from_iter(said))
            .field("has_failed", &self.has_failed)
            .field("has_peer_finished", &self.has_peer_finished)
            .field("is_at_rest", &self.is_at_rest)
            .finish()
    }
}

/// What a record on the wire was sealed from.
pub(crate) struct Sealed {
    pub(crate) place: Place,
    /// With the kind and the padding of TLS 1.3.
    pub(crate) inner: Vec<u8>,
    /// Nobody changed a byte of it afterwards.
    pub(crate) is_whole: bool,
}

/// Breaks the rules: the other end is told why, or is not, where it said that itself.
type Verdict = Result<(), Option<u8>>;

/// One established end.
pub(crate) struct Rules {
    is_13: bool,
    is_server: bool,
    /// What a record of TLS 1.2 is longer than its content.
    overhead_12: usize,
    opens: Place,
    /// Of a record, what has come of it.
    record: Vec<u8>,
    /// Of a message, its head, and its body if that counts for something.
    message: Vec<u8>,
    /// So many bytes of a message are still to come that count for nothing.
    ignored: usize,
    /// The other end wants the next payload under another key.
    owes_update: bool,
    empties: usize,
    updates: usize,
    warnings: usize,
    renegotiations: usize,
    has_finished: bool,
    has_peer_finished: bool,
    has_failed: bool,
    payload: Vec<u8>,
    said: Vec<(u8, Vec<u8>)>,
}

impl Rules {
    /// `first`: the number of the first record that it opens.
    pub(crate) fn new(is_server: bool, is_13: bool, suite: Suite, first: u64) -> Self {
        Self {
            is_13,
            is_server,
            overhead_12: suite.explicit_bytes_12() + TAG_BYTES,
            opens: Place { epoch: 0, sequence: first },
            record: Vec::new(),
            message: Vec::new(),
            ignored: 0,
            owes_update: false,
            empties: 0,
            updates: 0,
            warnings: 0,
            renegotiations: 0,
            has_finished: false,
            has_peer_finished: false,
            has_failed: false,
            payload: Vec::new(),
            said: Vec::new(),
        }
    }

    /// Where a record has to be sealed to be opened next.
    pub(crate) fn opens(&self) -> Place {
        self.opens
    }

    /// Nothing more is heard.
    pub(crate) fn is_over(&self) -> bool {
        self.has_failed || self.has_peer_finished
    }

    pub(crate) fn outcome(&mut self) -> Outcome {
        Outcome {
            payload: mem::take(&mut self.payload),
            said: mem::take(&mut self.said),
            has_failed: self.has_failed,
            has_peer_finished: self.has_peer_finished,
            is_at_rest: self.record.is_empty(),
        }
    }

    /// It says payload; whether it may.
    pub(crate) fn send(&mut self, payload: &[u8]) -> bool {
        let may = !self.has_failed && !self.has_finished;
        if may {
            if !payload.is_empty() && mem::take(&mut self.owes_update) {
                self.say(22, vec![24, 0, 0, 1, 0]);
            }
            self.said.extend(payload.chunks(CONTENT_MAX).map(|part| (23, part.to_vec())));
        }
        may
    }

    /// It says that no more comes.
    pub(crate) fn finish(&mut self) {
        if !self.has_failed && !mem::replace(&mut self.has_finished, true) {
            self.said.push((21, vec![1, CLOSE_NOTIFY]));
        }
    }

    /// Bytes come. If they are a record that was sealed, with what it was sealed from; of those bytes only the head is looked at.
    pub(crate) fn hear(&mut self, bytes: &[u8], sealed: Option<Sealed>) {
        // Behind a part of another record it is a part of that one.
        let mut sealed = sealed.filter(|_| self.record.is_empty());
        self.record.extend_from_slice(bytes);
        while !self.is_over() {
            let verdict = match self.next_len() {
                Ok(None) => break,
                Ok(Some(len)) => {
                    let record: Vec<u8> = self.record.drain(..len).collect();
                    self.open(&record, sealed.take())
                }
                Err(alert) => Err(Some(alert)),
            };
            if let Err(alert) = verdict {
                self.has_failed = true;
                if let Some(alert) = alert {
                    self.say(21, [2, alert].into());
                }
            }
        }
        if self.is_over() {
            self.record.clear();
            self.message.clear();
            self.ignored = 0;
        }
    }

    /// How long the next record is, if it is whole.
    fn next_len(&self) -> Result<Option<usize>, u8> {
        if self.record.first().is_some_and(|kind| !(20..=23).contains(kind)) {
            return Err(UNEXPECTED_MESSAGE);
        }
        let Some(&[kind, major, minor, high, low]) = self.record.first_chunk() else { return Ok(None) };
        let len = usize::from(u16::from_be_bytes([high, low]));
        let is_known = major == 3 && (self.is_13 || minor == 3);
        let end = 5 + len;
        match () {
            _ if len <= SEALED_MAX && self.record.len() < end => Ok(None),
            _ if !is_known => Err(PROTOCOL_VERSION),
            _ if len > SEALED_MAX => Err(RECORD_OVERFLOW),
            _ if self.is_13 && kind != 23 => Err(UNEXPECTED_MESSAGE),
            _ if self.is_13 && len > SEALED_MAX_13 => Err(RECORD_OVERFLOW),
            _ if !self.is_13 && len > CONTENT_MAX + self.overhead_12 => Err(RECORD_OVERFLOW),
            _ => Ok(Some(end)),
        }
    }

    fn open(&mut self, record: &[u8], sealed: Option<Sealed>) -> Verdict {
        let Some(Sealed { inner, .. }) =
            sealed.filter(|sealed| sealed.is_whole && sealed.place == self.opens)
        else {
            return Err(Some(BAD_RECORD_MAC));
        };
        self.opens.sequence += 1;
        if !self.is_13 {
            return self.take(record[0], &inner);
        }
        if inner.len() > CONTENT_MAX + 1 {
            return Err(Some(RECORD_OVERFLOW));
        }
        let padding = inner.iter().rev().take_while(|byte| **byte == 0).count();
        match inner[..inner.len() - padding].split_last() {
            None => Err(Some(UNEXPECTED_MESSAGE)),
            Some((kind, content)) => self.take(*kind, content),
        }
    }

    fn take(&mut self, kind: u8, content: &[u8]) -> Verdict {
        match (kind, content) {
            (21 | 23, _) if self.ignored > 0 || !self.message.is_empty() => Err(Some(UNEXPECTED_MESSAGE)),
            (23, []) => count(&mut self.empties, EMPTIES_MAX, UNEXPECTED_MESSAGE),
            (23, payload) => {
                (self.empties, self.updates) = (0, 0);
                self.payload.extend_from_slice(payload);
                Ok(())
            }
            (21, &[level, description]) => self.take_alert(level, description),
            (21, [_, ..]) => Err(Some(DECODE_ERROR)),
            (22, [_, ..]) => self.take_messages(content),
            _ => Err(Some(UNEXPECTED_MESSAGE)),
        }
    }

    fn take_alert(&mut self, level: u8, description: u8) -> Verdict {
        match (level, description) {
            (1 | 2, CLOSE_NOTIFY) => {
                self.has_peer_finished = true;
                Ok(())
            }
            (1, _) => {
                count(&mut self.warnings, WARNINGS_MAX, UNEXPECTED_MESSAGE)?;
                let is_harmless = !self.is_13 || description == USER_CANCELED;
                if is_harmless { Ok(()) } else { Err(Some(DECODE_ERROR)) }
            }
            (2, _) => Err(None),
            _ => Err(Some(ILLEGAL_PARAMETER)),
        }
    }

    fn take_messages(&mut self, mut content: &[u8]) -> Verdict {
        while let [next, ..] = content {
            if self.ignored > 0 {
                self.ignored -= 1;
                content = &content[1..];
                continue;
            }
            self.message.push(*next);
            content = &content[1..];
            match self.message[..] {
                [kind] => match (self.is_13, self.is_server, kind) {
                    (true, _, 24) | (true, false, 4) | (false, true, 1) | (false, false, 0) => {}
                    _ => return Err(Some(UNEXPECTED_MESSAGE)),
                },
                [kind, high, middle, low] => {
                    let len = u32::from_be_bytes([0, high, middle, low]) as usize;
                    let is_good = match kind {
                        24 => len == 1,
                        0 => len == 0,
                        _ => len <= MESSAGE_MAX,
                    };
                    if !is_good {
                        return Err(Some(DECODE_ERROR));
                    }
                    if kind != 24 {
                        self.message.clear();
                        self.ignored = len;
                    }
                    if kind < 4 {
                        count(&mut self.renegotiations, RENEGOTIATIONS_MAX, HANDSHAKE_FAILURE)?;
                        self.say(21, vec![1, NO_RENEGOTIATION]);
                    }
                }
                [_, _, _, _, asked] => {
                    self.message.clear();
                    self.update(asked, content.is_empty())?;
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// RFC 8446, section 4.6.3.
    fn update(&mut self, asked: u8, is_last: bool) -> Verdict {
        match asked {
            0 | 1 if !is_last => return Err(Some(UNEXPECTED_MESSAGE)),
            0 | 1 => {}
            _ => return Err(Some(ILLEGAL_PARAMETER)),
        }
        count(&mut self.updates, UPDATES_MAX, UNEXPECTED_MESSAGE)?;
        self.opens = self.opens.after_update();
        self.owes_update |= asked == 1;
        Ok(())
    }

    /// Nobody says anything behind the end of what he says.
    fn say(&mut self, kind: u8, content: Vec<u8>) {
        if !self.has_finished {
            self.said.push((kind, content));
        }
    }
}

fn count(counted: &mut usize, most: usize, alert: u8) -> Verdict {
    *counted += 1;
    if *counted > most { Err(Some(alert)) } else { Ok(()) }
}
