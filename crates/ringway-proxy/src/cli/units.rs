//! Times and sizes for people.

use std::time::Duration;

/// The two largest units of a time.
pub(super) fn time(seconds: f64) -> String {
    let seconds = Duration::try_from_secs_f64(seconds).unwrap_or_default().as_secs();
    let (days, hours, minutes) = (seconds / 86_400, seconds / 3600 % 24, seconds / 60 % 60);
    match (days, hours, minutes) {
        (0, 0, 0) => format!("{seconds}s"),
        (0, 0, _) => format!("{minutes}m{}s", seconds % 60),
        (0, _, _) => format!("{hours}h{minutes}m"),
        _ => format!("{days}d{hours}h"),
    }
}

/// A size with three digits and its unit.
pub(super) fn bytes(bytes: u64) -> String {
    const UNITS: [&str; 6] = ["KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];
    if bytes < 1024 {
        return format!("{bytes} B");
    }
    // 1023.95 and more would be shown as 1024.0.
    let mut size = bytes as f64 / 1024.0;
    let mut unit = 0;
    while size >= 1023.95 && unit + 1 < UNITS.len() {
        size /= 1024.0;
        unit += 1;
    }
    format!("{size:.1} {}", UNITS[unit])
}

/// A number of things: `1 connection`, `2 connections`.
pub(super) fn count(number: u64, thing: &str) -> String {
    format!("{number} {thing}{}", if number == 1 { "" } else { "s" })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_show_their_two_largest_units() {
        for (seconds, wanted) in
            [(0.0, "0s"), (59.9, "59s"), (61.0, "1m1s"), (7260.0, "2h1m"), (90_000.0, "1d1h")]
        {
            assert_eq!(time(seconds), wanted);
        }
        assert_eq!(time(f64::NAN), "0s");
    }

    #[test]
    fn sizes_have_a_unit() {
        for (size, wanted) in
            [(0, "0 B"), (1023, "1023 B"), (1024, "1.0 KiB"), (1_048_575, "1.0 MiB"), (u64::MAX, "16.0 EiB")]
        {
            assert_eq!(bytes(size), wanted);
        }
        assert_eq!(
            (count(1, "backend"), count(0, "backend")),
            ("1 backend".to_owned(), "0 backends".to_owned())
        );
    }
}
