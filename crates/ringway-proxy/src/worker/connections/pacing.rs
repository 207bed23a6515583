//! How fast the bytes of a session may go: what is its own of its limits, and what is its app's.

use ringway::relay::{Gate, Passage};
use ringway::{Side, Time};

use crate::admission::Pacer;
use crate::admission::bandwidth::slice;
use crate::endpoint::AppState;
use crate::metrics::{AppBlock, AppCounter};
use crate::session::record::Allowance;

/// Of each direction, by the side that sends.
#[derive(Debug, Default)]
pub(in crate::worker) struct OwnPace {
    pacers: [Pacer; 2],
    slices: [Slice; 2],
}

impl OwnPace {
    /// That of a connection that came from another process.
    pub(in crate::worker) fn of(allowance: Option<[Allowance; 2]>) -> Self {
        let own = Self::default();
        let Some(allowance) = allowance else { return own };
        for (pacer, allowance) in own.pacers.iter().zip(&allowance) {
            pacer.go_on(allowance.next.as_nanos());
        }
        let slices = allowance.map(|Allowance { reserved_bytes, due, is_of_app, .. }| Slice {
            bytes: reserved_bytes as usize,
            due,
            is_of_app,
        });
        Self { slices, ..own }
    }

    /// The same, for another process; `None` if nothing is used and nothing is reserved.
    pub(in crate::worker) fn allowance(&self) -> Option<[Allowance; 2]> {
        let of_direction = |index: usize| {
            let slice = &self.slices[index];
            Allowance {
                next: Time::from_nanos(self.pacers[index].next()),
                // A slice is no longer than 64 KiB.
                reserved_bytes: u32::try_from(slice.bytes).unwrap_or(u32::MAX),
                due: slice.due,
                is_of_app: slice.is_of_app,
            }
        };
        let allowance = [of_direction(0), of_direction(1)];
        let is_used = |of: &Allowance| of.next != Time::ZERO || of.reserved_bytes > 0;
        allowance.iter().any(is_used).then_some(allowance)
    }
}

/// Bytes for which time is reserved.
#[derive(Debug, Default)]
struct Slice {
    /// Zero: none are.
    bytes: usize,
    due: Time,
    /// Reserved of the app's bandwidth too; before that, of the connection's alone.
    is_of_app: bool,
}

/// Lets the bytes of a session through as its limits say.
pub(in crate::worker) struct AppGate<'a> {
    pub(super) own: &'a mut OwnPace,
    pub(super) app: &'a AppState,
    pub(super) counters: &'a AppBlock,
}

impl Gate for AppGate<'_> {
    fn pass(&mut self, from: Side, waiting: usize, now: Time) -> Passage {
        let limits = &self.app.model().limits;
        if limits.bandwidth.is_none() && limits.bandwidth_per_connection.is_none() {
            return Passage::Go(waiting);
        }
        let reserve = |pacer: &Pacer, bytes, rate: Option<u64>| {
            rate.map_or(now, |rate| Time::from_nanos(pacer.reserve(now.as_nanos(), bytes, rate)))
        };
        let next = &mut self.own.slices[from.index()];
        if next.bytes == 0 {
            let rates = [limits.bandwidth, limits.bandwidth_per_connection];
            let bytes = rates.into_iter().flatten().map(slice).fold(waiting, usize::min);
            let own = &self.own.pacers[from.index()];
            let due = reserve(own, bytes, limits.bandwidth_per_connection);
            *next = Slice { bytes, due, is_of_app: false };
        }
        // One after the other: what waits for its own time takes none of the others'.
        if next.due <= now && !next.is_of_app {
            let all = &self.app.counts().bandwidth()[from.index()];
            (next.due, next.is_of_app) = (reserve(all, next.bytes, limits.bandwidth), true);
        }
        if next.due > now {
            self.counters.add(AppCounter::BandwidthWaits, 1);
            return Passage::Wait(next.due);
        }
        Passage::Go(std::mem::take(&mut next.bytes))
    }
}
