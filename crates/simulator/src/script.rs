//! What one connection of a simulation does, and how the client tells its backend.

use std::time::Duration;

use ringway::Time;
use ringway::simulated::Random;

/// Bytes of the header that a client sends first.
pub(crate) const HEADER: usize = 24;

const MAGIC: u32 = 0x52_49_4e_47;

/// What one connection does from its dial to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Script {
    pub(crate) number: u32,
    /// When the client dials.
    pub(crate) dial_at: Time,
    /// Bytes that the client sends after the header.
    pub(crate) request: u32,
    /// Bytes that the backend sends.
    pub(crate) response: u32,
    /// The backend answers only once it has the whole request.
    pub(crate) in_turn: bool,
    /// The longest pause that the client makes now and then, in sending and in reading.
    pub(crate) pause: Duration,
    pub(crate) client_end: ClientEnd,
    pub(crate) backend_end: BackendEnd,
}

/// How the client ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ClientEnd {
    /// FIN after the request; reads on.
    Finish,
    /// FIN once the whole response is there.
    FinishAfterResponse,
    /// Close once the whole response is there.
    CloseAfterResponse,
    /// RST once so many bytes were sent (and the rest is not).
    Reset(u32),
    /// RST as soon as it is connected.
    Leave,
    /// FIN as soon as it is connected, without a byte.
    FinishAtOnce,
    /// Sends all and then never finishes.
    Stay,
}

/// How the backend ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum BackendEnd {
    /// FIN after the response.
    Finish,
    /// FIN after the response and the client's end.
    FinishAfterClient,
    /// RST once so many bytes were sent.
    Reset(u32),
    /// Never finishes.
    Stay,
}

impl Script {
    pub(crate) fn draw(number: u32, dial_at: Time, random: &mut Random) -> Self {
        let len = |random: &mut Random| match random.index(10) {
            0 => 0,
            1..=6 => random.between(1, 2_000),
            7 | 8 => random.between(2_000, 60_000),
            _ => random.between(60_000, 300_000),
        };
        let (request, response) = (len(random) as u32, len(random) as u32);
        let client_end = match random.index(20) {
            0..=7 => ClientEnd::Finish,
            8..=11 => ClientEnd::FinishAfterResponse,
            12..=13 => ClientEnd::CloseAfterResponse,
            14..=15 => ClientEnd::Reset(random.below(u64::from(request) + 1) as u32),
            16 => ClientEnd::Leave,
            17 => ClientEnd::FinishAtOnce,
            _ => ClientEnd::Stay,
        };
        let backend_end = match random.index(12) {
            0..=6 => BackendEnd::Finish,
            7..=9 => BackendEnd::FinishAfterClient,
            10 => BackendEnd::Reset(random.below(u64::from(response) + 1) as u32),
            _ => BackendEnd::Stay,
        };
        Self {
            number,
            dial_at,
            request,
            response,
            in_turn: random.chance(0.5),
            pause: Duration::from_millis(random.between(0, 200)),
            client_end,
            backend_end,
        }
    }

    /// The same, and both sides finish.
    pub(crate) fn without_harm(self) -> Self {
        let client_end = match self.client_end {
            ClientEnd::Finish | ClientEnd::FinishAfterResponse => self.client_end,
            _ => ClientEnd::Finish,
        };
        Self { client_end, backend_end: BackendEnd::Finish, ..self }
    }

    /// What the backend has to know.
    pub(crate) fn header(&self) -> [u8; HEADER] {
        let (end, at) = match self.backend_end {
            BackendEnd::Finish => (0, 0),
            BackendEnd::FinishAfterClient => (1, 0),
            BackendEnd::Reset(at) => (2, at),
            BackendEnd::Stay => (3, 0),
        };
        let words = [MAGIC, self.number, self.request, self.response, end << 1 | u32::from(self.in_turn), at];
        let mut header = [0; HEADER];
        for (place, word) in header.chunks_exact_mut(4).zip(words) {
            place.copy_from_slice(&word.to_le_bytes());
        }
        header
    }

    /// All that the client would send, header included, from `start` on: at most `len` bytes.
    pub(crate) fn request_bytes(&self, start: u64, len: usize) -> Vec<u8> {
        let total = HEADER as u64 + u64::from(self.request);
        let len = len.min(total.saturating_sub(start) as usize);
        let header = self.header();
        let from_header = header.get(start as usize..).unwrap_or(&[]);
        let mut bytes = from_header[..from_header.len().min(len)].to_vec();
        let at = start + bytes.len() as u64;
        bytes.extend((at..start + len as u64).map(|at| pattern(self.number, 0, at)));
        bytes
    }
}

/// What a backend learns from a header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Order {
    pub(crate) number: u32,
    pub(crate) request: u32,
    pub(crate) response: u32,
    pub(crate) in_turn: bool,
    pub(crate) end: BackendEnd,
}

impl Order {
    /// None if this is no header.
    pub(crate) fn parse(header: &[u8; HEADER]) -> Option<Self> {
        let mut words = [0; HEADER / 4];
        for (word, bytes) in words.iter_mut().zip(header.chunks_exact(4)) {
            *word = u32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]);
        }
        let [magic, number, request, response, flags, at] = words;
        let end = match flags >> 1 {
            0 => BackendEnd::Finish,
            1 => BackendEnd::FinishAfterClient,
            2 => BackendEnd::Reset(at),
            3 => BackendEnd::Stay,
            _ => return None,
        };
        (magic == MAGIC).then_some(Self { number, request, response, in_turn: flags & 1 == 1, end })
    }
}

/// The byte at `offset` of a direction of a connection: 0 is the request, 1 the response.
pub(crate) fn pattern(number: u32, direction: u32, offset: u64) -> u8 {
    let mixed = (offset / 251)
        .wrapping_add(u64::from(number) << 1 | u64::from(direction))
        .wrapping_mul(0x9e37_79b9_7f4a_7c15);
    (mixed >> 32) as u8 ^ (offset % 251) as u8
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_tells_the_backend_what_the_script_says() {
        let mut random = Random::new(3);
        for number in 0..200 {
            let script = Script::draw(number, Time::ZERO, &mut random);
            let order = Order::parse(&script.header()).expect("a header");
            assert_eq!(
                (order.number, order.request, order.response, order.in_turn, order.end),
                (script.number, script.request, script.response, script.in_turn, script.backend_end)
            );
        }
        assert_eq!(Order::parse(&[0; HEADER]), None);
    }

    #[test]
    fn a_request_can_be_made_in_pieces() {
        let script = Script { request: 1000, ..Script::draw(9, Time::ZERO, &mut Random::new(1)) };
        let whole = script.request_bytes(0, usize::MAX);
        assert_eq!(whole.len(), HEADER + 1000);
        let mut pieces = Vec::new();
        while pieces.len() < whole.len() {
            pieces.extend(script.request_bytes(pieces.len() as u64, 7));
        }
        assert_eq!(pieces, whole);
    }
}
