//! Very many reloads under load: is anything held that should be gone?

use std::thread;
use std::time::Duration;

use super::footprint::Footprint;
use super::ringway::Ringway;
use super::traffic::{Traffic, Window};

/// What many reloads left.
#[derive(Clone, Debug)]
pub(super) struct ManyReloads {
    pub(super) count: usize,
    pub(super) minutes: f64,
    pub(super) before: Footprint,
    pub(super) after: Footprint,
    /// In milliseconds, each.
    pub(super) took_ms: Vec<f64>,
    pub(super) window: Window,
}

impl ManyReloads {
    /// So many reloads, one in each `interval`; an even number ends with the configuration that it began with.
    pub(super) fn measure(
        ringway: &mut Ringway,
        traffic: &mut Traffic,
        count: usize,
        interval: Duration,
    ) -> Result<Self, String> {
        let count = count.next_multiple_of(2);
        traffic.mark()?;
        let before = Footprint::settled(ringway.proxy().look_again()?);
        let began = std::time::Instant::now();
        let mut took_ms = Vec::with_capacity(count);
        for done in 1..=count {
            let took = ringway.reload()?;
            took_ms.push(took.as_secs_f64() * 1e3);
            thread::sleep(interval.saturating_sub(took));
            if done % 34 == 0 {
                eprintln!("{done} of {count} reloads");
            }
        }
        let minutes = began.elapsed().as_secs_f64() / 60.0;
        let after = Footprint::settled(ringway.proxy().look_again()?);
        let window = traffic.mark()?;
        Ok(Self { count, minutes, before, after, took_ms, window })
    }
}
