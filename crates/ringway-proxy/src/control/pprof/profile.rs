//! A profile as tools read it: `profile.proto` of <https://github.com/google/pprof>, gzipped.

use std::collections::HashMap;
use std::io::{self, Write};
use std::time::SystemTime;

use flate2::Compression;
use flate2::write::GzEncoder;

use super::stacks::{Frame, Stacks};

/// The bytes of the profile.
///
/// # Errors
/// Never in practice: it is written to memory.
pub(super) fn gzipped(stacks: &Stacks) -> io::Result<Vec<u8>> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(&encode(stacks))?;
    encoder.finish()
}

/// The message `Profile`; numbers are those of its fields.
fn encode(stacks: &Stacks) -> Vec<u8> {
    let mut strings = Strings::default();
    let period = u64::try_from(stacks.period.as_nanos()).unwrap_or(u64::MAX);
    let mut profile = Message::default();
    profile.message(1, &value_type(&mut strings, "samples", "count"));
    profile.message(1, &value_type(&mut strings, "cpu", "nanoseconds"));
    // A location is a call; its function has the same number, as a frame is the place in the source already.
    let mut locations: HashMap<&Frame, u64> = HashMap::new();
    let thread = strings.index("thread");
    for stack in &stacks.stacks {
        let next = |known: &HashMap<&Frame, u64>| known.len() as u64 + 1;
        let ids: Vec<u64> = stack
            .frames
            .iter()
            .map(|frame| {
                let id = next(&locations);
                *locations.entry(frame).or_insert(id)
            })
            .collect();
        let mut label = Message::default();
        label.number(1, thread);
        label.number(2, strings.index(&stack.thread));
        let mut sample = Message::default();
        sample.packed(1, &ids);
        sample.packed(2, &[stack.count, stack.count * period]);
        sample.message(3, &label);
        profile.message(2, &sample);
    }
    for (frame, id) in &locations {
        let mut line = Message::default();
        line.number(1, *id);
        line.number(2, frame.line.into());
        let mut location = Message::default();
        location.number(1, *id);
        location.message(4, &line);
        profile.message(4, &location);
        let mut function = Message::default();
        function.number(1, *id);
        function.number(2, strings.index(&frame.function));
        function.number(3, strings.index(&frame.function));
        function.number(4, strings.index(&frame.file));
        profile.message(5, &function);
    }
    let started = stacks.started.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    profile.number(9, u64::try_from(started.as_nanos()).unwrap_or(u64::MAX));
    profile.number(10, u64::try_from(stacks.duration.as_nanos()).unwrap_or(u64::MAX));
    profile.message(11, &value_type(&mut strings, "cpu", "nanoseconds"));
    profile.number(12, period);
    for text in &strings.all {
        profile.bytes(6, text.as_bytes());
    }
    profile.0
}

fn value_type(strings: &mut Strings, name: &str, unit: &str) -> Message {
    let mut message = Message::default();
    message.number(1, strings.index(name));
    message.number(2, strings.index(unit));
    message
}

/// The table of strings; the first is empty, as the format wants it.
struct Strings {
    all: Vec<String>,
    known: HashMap<String, u64>,
}

impl Default for Strings {
    fn default() -> Self {
        Self { all: vec![String::new()], known: HashMap::from([(String::new(), 0)]) }
    }
}

impl Strings {
    fn index(&mut self, text: &str) -> u64 {
        if let Some(index) = self.known.get(text) {
            return *index;
        }
        let index = self.all.len() as u64;
        self.all.push(text.to_owned());
        self.known.insert(text.to_owned(), index);
        index
    }
}

/// A message in the encoding of Protocol Buffers.
#[derive(Default)]
struct Message(Vec<u8>);

impl Message {
    fn varint(&mut self, mut number: u64) {
        while number >= 0x80 {
            // The mask makes it fit.
            self.0.push((number & 0x7f) as u8 | 0x80);
            number >>= 7;
        }
        self.0.push(number as u8);
    }

    fn number(&mut self, field: u64, number: u64) {
        self.varint(field << 3);
        self.varint(number);
    }

    fn bytes(&mut self, field: u64, bytes: &[u8]) {
        self.varint(field << 3 | 2);
        self.varint(bytes.len() as u64);
        self.0.extend_from_slice(bytes);
    }

    fn message(&mut self, field: u64, message: &Self) {
        self.bytes(field, &message.0);
    }

    fn packed(&mut self, field: u64, numbers: &[u64]) {
        let mut inner = Self::default();
        numbers.iter().for_each(|number| inner.varint(*number));
        self.message(field, &inner);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_and_bytes_are_encoded_as_the_format_says() {
        let mut message = Message::default();
        // The examples of the encoding's own documentation.
        message.number(1, 150);
        message.bytes(2, b"testing");
        assert_eq!(message.0, b"\x08\x96\x01\x12\x07testing");
        let mut packed = Message::default();
        packed.packed(6, &[3, 270, 86_942]);
        assert_eq!(packed.0, b"\x32\x06\x03\x8e\x02\x9e\xa7\x05");
    }
}
