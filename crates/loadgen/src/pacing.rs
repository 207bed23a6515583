//! Round trips by the clock, with replies that are checked: a steady load in which a gap shows.
//!
//! A closed loop runs as fast as the proxy lets it and slows down with it. Here each client has its turn once in a
//! period, and the backends send back what they got, which is different for each client and each round.

use std::ops::Range;
use std::time::Duration;

use ringway::Time;

/// How often turns are given.
pub(crate) const TURN_INTERVAL: Duration = Duration::from_millis(2);

/// Whose turn it is, and who dials anew after it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Pacing {
    period: Duration,
    /// Each so-many-th client closes and dials again after a round trip; none if 0.
    churn: usize,
    began: Time,
    turns: u64,
}

impl Pacing {
    pub(crate) fn new(period: Duration, churn: usize) -> Self {
        Self { period, churn, began: Time::ZERO, turns: 0 }
    }

    /// The first turn is now.
    pub(crate) fn start(&mut self, now: Time) {
        (self.began, self.turns) = (now, 0);
    }

    /// The numbers of the turns that have become due among so many clients.
    pub(crate) fn due(&mut self, now: Time, clients: usize) -> Range<u64> {
        let clients = clients as u64;
        let nanos = now.since(self.began).as_nanos() * u128::from(clients);
        let due = u64::try_from(nanos / self.period.as_nanos().max(1)).unwrap_or(u64::MAX);
        // After a stall each client has one turn, not all that it missed.
        let first = self.turns.max(due.saturating_sub(clients));
        self.turns = due.max(first);
        first..self.turns
    }

    pub(crate) fn is_churned(&self, place: usize) -> bool {
        self.churn != 0 && place % self.churn == self.churn - 1
    }
}

/// Where in a payload of `most` bytes the request of this client and round begins.
pub(crate) fn request_offset(place: usize, round: u32, size: usize, most: usize) -> usize {
    let mixed = mix(((place as u64) << 32) | u64::from(round));
    // As few as 256 Ki offsets: the remainder fits.
    (mixed % (most - size + 1) as u64) as usize
}

/// Bytes in which no two places look alike.
pub(crate) fn noise(count: usize) -> Vec<u8> {
    (0..count as u64).map(|place| mix(place).to_le_bytes()[0]).collect()
}

/// `SplitMix64` (Steele, Lea and Flood, 2014).
fn mix(number: u64) -> u64 {
    let mut mixed = number.wrapping_add(0x9e37_79b9_7f4a_7c15);
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_client_has_one_turn_in_a_period() {
        let mut pacing = Pacing::new(Duration::from_secs(1), 0);
        pacing.start(Time::ZERO);
        assert_eq!(pacing.due(Time::ZERO + Duration::from_millis(500), 10), 0..5);
        assert_eq!(pacing.due(Time::ZERO + Duration::from_millis(500), 10), 5..5);
        assert_eq!(pacing.due(Time::ZERO + Duration::from_millis(1000), 10), 5..10);
    }

    #[test]
    fn turns_that_were_missed_in_a_stall_are_not_made_up_for() {
        let mut pacing = Pacing::new(Duration::from_secs(1), 0);
        pacing.start(Time::ZERO);
        assert_eq!(pacing.due(Time::ZERO + Duration::from_secs(60), 10), 590..600);
    }

    #[test]
    fn every_tenth_client_dials_again() {
        let churned =
            |churn| (0..30).filter(move |&place| Pacing::new(Duration::ZERO, churn).is_churned(place));
        assert_eq!(churned(10).collect::<Vec<_>>(), [9, 19, 29]);
        assert_eq!(churned(0).count(), 0);
    }

    #[test]
    fn requests_of_neighbours_and_of_the_next_round_differ() {
        let payload = noise(4096);
        let request = |place, round| {
            let offset = request_offset(place, round, 64, payload.len());
            &payload[offset..offset + 64]
        };
        assert_ne!(request(1, 0), request(2, 0));
        assert_ne!(request(1, 0), request(1, 1));
        assert_eq!(request(1, 1), request(1, 1));
    }
}
