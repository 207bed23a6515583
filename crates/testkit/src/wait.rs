//! Waiting with a deadline for what announces itself by no event.

use std::thread;
use std::time::{Duration, Instant};

/// How long a test waits for something that takes milliseconds on an idle machine.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// Time between two looks.
const LOOK_EVERY: Duration = Duration::from_millis(5);

/// Looks again and again until `look` finds something, and returns it.
///
/// For what tells nobody that it happened: a counter of another process, a file in `/proc`. What can be waited
/// for is waited for instead.
///
/// # Panics
///
/// After `limit`, with `what` was waited for.
pub fn eventually<T>(what: &str, limit: Duration, mut look: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + limit;
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(Instant::now() < deadline, "not within {limit:?}: {what}");
        thread::sleep(LOOK_EVERY);
    }
}
