//! How many connections the process can carry: what its descriptor limit allows.

use std::io;

use crate::model::Config;

/// What is always open: the standard streams, the runtime of the control plane, look-ups, the admin interface.
const RESERVE_BASE: u64 = 64;
/// Of each worker: its engine and what wakes it.
const RESERVE_WORKER: u64 = 8;
/// Pipes for splicing that a worker gets at most; more of full size an ordinary user is not granted.
const PIPES_MAX: u64 = 64;
/// Checks of backends that are under way at once, at most.
const CHECKS_MAX: u64 = 256;

/// The shares of the descriptor limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Limits {
    /// Descriptors that the process may have.
    pub(super) descriptors: u64,
    /// Connections of clients at once.
    pub(super) connections: u32,
    /// Pipes for splicing in each worker.
    pub(super) pipes: usize,
}

/// The limits for `config` on this many workers, with this many descriptors.
///
/// # Errors
/// When not even one connection fits.
pub(super) fn derive(config: &Config, workers: usize, descriptors: u64) -> io::Result<Limits> {
    let workers = workers as u64;
    let count = |of: fn(&crate::model::App) -> usize| config.apps.iter().map(of).sum::<usize>() as u64;
    let frontends = count(|app| app.frontends.len());
    let backends = count(|app| app.backends.len());
    // At most an eighth of all descriptors, two a pipe.
    let pipes = (descriptors / 16 / workers).clamp(1, PIPES_MAX);
    // A backend may have several addresses, each with a check under way.
    let checks = (2 * backends).min(CHECKS_MAX);
    let reserve = RESERVE_BASE + workers * (RESERVE_WORKER + frontends + 2 * pipes) + checks;
    // A client's connection and the one dialled for it; the demo's backends hold a third in the same process.
    let each = if config.demo { 3 } else { 2 };
    let fitting = descriptors.saturating_sub(reserve) / each;
    let wanted = config.server.max_connections.map_or(u64::MAX, |wanted| wanted as u64);
    let connections = u32::try_from(fitting.min(wanted)).unwrap_or(u32::MAX);
    if connections == 0 {
        return Err(io::Error::other(format!(
            "{descriptors} descriptors (ulimit -n) carry no connection; at least {} are needed",
            reserve + each
        )));
    }
    // The cast cannot cut: 64 at most.
    Ok(Limits { descriptors, connections, pipes: pipes as usize })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config;

    fn config(max_connections: Option<usize>) -> Config {
        let mut config = config::demo();
        config.demo = false;
        config.server.max_connections = max_connections;
        config
    }

    #[test]
    fn each_connection_takes_two_descriptors_of_what_is_not_reserved() {
        let limits = derive(&config(None), 2, 20_000).expect("they fit");
        // 64 + 2 × (8 + 1 frontend + 128 of pipes) + 2 × 2 backends = 342.
        assert_eq!(limits, Limits { descriptors: 20_000, connections: 9829, pipes: 64 });
    }

    #[test]
    fn a_small_limit_leaves_most_to_connections() {
        let limits = derive(&config(None), 4, 1024).expect("they fit");
        assert_eq!(limits.pipes, 16);
        assert!(limits.connections > 380, "{limits:?}");
    }

    #[test]
    fn a_configured_maximum_is_kept_and_never_passes_what_fits() {
        assert_eq!(derive(&config(Some(100)), 2, 20_000).expect("they fit").connections, 100);
        assert_eq!(derive(&config(Some(1_000_000)), 2, 20_000).expect("they fit").connections, 9829);
    }

    #[test]
    fn demo_connections_take_three() {
        let demo = derive(&config::demo(), 2, 20_000).expect("they fit");
        assert_eq!(demo.connections, 6552);
    }

    #[test]
    fn a_limit_that_carries_nothing_is_said() {
        let error = derive(&config(None), 2, 64).expect_err("nothing fits");
        assert!(error.to_string().contains("64 descriptors"), "{error}");
    }
}
