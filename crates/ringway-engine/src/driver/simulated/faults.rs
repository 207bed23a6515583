//! What goes wrong in a simulated network, and how often.

use std::time::Duration;

/// Chances and sizes of a simulated network. Probabilities are 0 (never) to 1 (always).
///
/// [`SimulatedFaults::none`] is a perfect network; [`SimulatedFaults::rough`] has a bit of everything.
#[derive(Clone, Debug, PartialEq)]
pub struct SimulatedFaults {
    /// Least and most latency of a connection, drawn once for each; connections overtake each other by it.
    pub latency: [Duration; 2],
    /// The most by which a single segment or datagram is late on top of it. Streams stay in order.
    pub jitter: Duration,
    /// Least and most bytes that one direction of a connection holds unread, drawn once for each.
    pub window_bytes: [usize; 2],
    /// Chance that a read brings less than there is.
    pub short_read: f64,
    /// Chance that a write takes less than there is room for.
    pub short_write: f64,
    /// Chance, for each segment, that the network resets its connection for both ends instead of delivering it.
    pub reset: f64,
    /// Chance that a dial is refused.
    pub refuse: f64,
    /// Chance that a SYN is lost; it is sent again after 1, 2, 4 … seconds, as kernels do.
    pub lose_syn: f64,
    /// Chance that a dial finds no descriptor, memory or local port.
    pub connect_exhausted: f64,
    /// Chance that an accept finds no descriptor or memory.
    pub accept_exhausted: f64,
    /// Chance that a datagram is lost.
    pub lose_datagram: f64,
    /// Chance that a datagram arrives twice.
    pub duplicate_datagram: f64,
    /// The most by which a timer is late. The contract allows 8 ms.
    pub timer_late: Duration,
}

impl SimulatedFaults {
    /// A perfect network: 100 µs of latency, nothing lost or cut.
    pub const fn none() -> Self {
        Self {
            latency: [Duration::from_micros(100), Duration::from_micros(100)],
            jitter: Duration::ZERO,
            window_bytes: [256 << 10, 256 << 10],
            short_read: 0.0,
            short_write: 0.0,
            reset: 0.0,
            refuse: 0.0,
            lose_syn: 0.0,
            connect_exhausted: 0.0,
            accept_exhausted: 0.0,
            lose_datagram: 0.0,
            duplicate_datagram: 0.0,
            timer_late: Duration::ZERO,
        }
    }

    /// A bit of everything.
    pub const fn rough() -> Self {
        Self {
            latency: [Duration::from_micros(20), Duration::from_millis(30)],
            jitter: Duration::from_millis(5),
            window_bytes: [1 << 10, 128 << 10],
            short_read: 0.3,
            short_write: 0.2,
            reset: 0.002,
            refuse: 0.02,
            lose_syn: 0.01,
            connect_exhausted: 0.01,
            accept_exhausted: 0.02,
            lose_datagram: 0.05,
            duplicate_datagram: 0.02,
            timer_late: Duration::from_millis(8),
        }
    }

    /// Streams as ragged as in [`Self::rough`], but nothing breaks: every byte must arrive.
    pub const fn ragged() -> Self {
        let mut faults = Self::rough();
        faults.reset = 0.0;
        faults.refuse = 0.0;
        faults.lose_syn = 0.0;
        faults.connect_exhausted = 0.0;
        faults.accept_exhausted = 0.0;
        faults.lose_datagram = 0.0;
        faults.duplicate_datagram = 0.0;
        faults
    }
}

impl Default for SimulatedFaults {
    fn default() -> Self {
        Self::none()
    }
}
