//! Durations, sizes and log levels, from how people write them.

use std::time::Duration;

use crate::model::LogLevel;

/// `"5s"`, `"250ms"`, `"1m30s"`, `"1.5h"`: numbers with units, the largest first, each unit once.
pub(in crate::config) fn duration(text: &str) -> Option<Duration> {
    /// Units and their length in nanoseconds.
    const UNITS: [(&str, u64); 7] = [
        ("d", 86_400_000_000_000),
        ("h", 3_600_000_000_000),
        ("m", 60_000_000_000),
        ("s", 1_000_000_000),
        ("ms", 1_000_000),
        ("us", 1_000),
        ("ns", 1),
    ];
    let mut rest = text;
    let mut total: u64 = 0;
    let mut units_left = &UNITS[..];
    while !rest.is_empty() || total == 0 && units_left.len() == UNITS.len() {
        let (number, after) = split_while(rest, |c| c.is_ascii_digit() || c == '.');
        let (unit, after) = split_while(after, |c| c.is_ascii_alphabetic());
        let index = units_left.iter().position(|(name, _)| *name == unit)?;
        total = total.checked_add(scaled(number, units_left[index].1)?)?;
        units_left = &units_left[index + 1..];
        rest = after;
    }
    Some(Duration::from_nanos(total))
}

/// `"64KiB"`, `"1MiB"`, `"10kB"`, `"512B"`, `"1.5MiB"`: a number with a unit, in bytes.
pub(in crate::config) fn size(text: &str) -> Option<u64> {
    let (number, unit) = split_while(text, |c| c.is_ascii_digit() || c == '.');
    let bytes = match unit {
        "B" => 1,
        "kB" | "KB" => 1_000,
        "MB" => 1_000_000,
        "GB" => 1_000_000_000,
        "KiB" => 1 << 10,
        "MiB" => 1 << 20,
        "GiB" => 1 << 30,
        _ => return None,
    };
    scaled(number, bytes)
}

/// A log level by name, or by the number that the seed proxy gave it.
pub(in crate::config) fn log_level(text: &str) -> Option<LogLevel> {
    match text {
        "trace" => Some(LogLevel::Trace),
        "debug" => Some(LogLevel::Debug),
        "info" => Some(LogLevel::Info),
        "warn" => Some(LogLevel::Warn),
        "error" => Some(LogLevel::Error),
        "off" => Some(LogLevel::Off),
        _ => numbered_log_level(text.parse().ok()?),
    }
}

/// The seed proxy's numbers: debug, info, warn, error, fatal, panic, no level, disabled.
///
/// Ringway has no level above error, so the three between error and disabled are error: whoever asked for
/// fatal faults alone does not lose them.
pub(in crate::config) fn numbered_log_level(number: i64) -> Option<LogLevel> {
    match number {
        0 => Some(LogLevel::Debug),
        1 => Some(LogLevel::Info),
        2 => Some(LogLevel::Warn),
        3..=6 => Some(LogLevel::Error),
        7 => Some(LogLevel::Off),
        _ => None,
    }
}

/// A duration as the file would write it.
pub(in crate::config) fn duration_text(duration: Duration) -> String {
    let (seconds, nanos) = (duration.as_secs(), duration.subsec_nanos());
    match (seconds, nanos) {
        (0, 0) => "0s".to_owned(),
        (s, 0) if s % 86_400 == 0 => format!("{}d", s / 86_400),
        (s, 0) if s % 3_600 == 0 => format!("{}h", s / 3_600),
        (s, 0) if s % 60 == 0 => format!("{}m", s / 60),
        (s, 0) => format!("{s}s"),
        (_, n) if n % 1_000_000 == 0 => format!("{}ms", duration.as_millis()),
        (_, n) if n % 1_000 == 0 => format!("{}us", duration.as_micros()),
        _ => format!("{}ns", duration.as_nanos()),
    }
}

fn split_while(text: &str, belongs: impl Fn(char) -> bool) -> (&str, &str) {
    text.split_at(text.find(|c| !belongs(c)).unwrap_or(text.len()))
}

/// A decimal number times `unit`, exactly; `None` where the product is no whole number or too large.
fn scaled(number: &str, unit: u64) -> Option<u64> {
    let (whole, fraction) = match number.split_once('.') {
        Some((whole, fraction)) if !fraction.is_empty() => (whole, fraction),
        Some(_) => return None,
        None => (number, ""),
    };
    let whole = whole.parse::<u64>().ok()?.checked_mul(unit)?;
    if fraction.is_empty() {
        return Some(whole);
    }
    let digits = fraction.len();
    if digits > 9 {
        return None;
    }
    let divisor = 10_u128.pow(u32::try_from(digits).ok()?);
    let product = fraction.parse::<u128>().ok()? * u128::from(unit);
    if product % divisor != 0 {
        return None;
    }
    whole.checked_add(u64::try_from(product / divisor).ok()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_numbers_with_units_in_falling_order() {
        for (text, millis) in [
            ("0s", Some(0)),
            ("5s", Some(5_000)),
            ("250ms", Some(250)),
            ("1h", Some(3_600_000)),
            ("1m30s", Some(90_000)),
            ("1d2h3m4s5ms", Some(93_784_005)),
            ("1.5s", Some(1_500)),
            ("", None),
            ("5", None),
            ("s", None),
            ("5 s", None),
            ("-5s", None),
            ("1.s", None),
            (".5s", None),
            ("1.2.3s", None),
            ("1s1m", None),
            ("1s1s", None),
            ("5sec", None),
            ("99999999999999999999s", None),
            ("1000000d", None),
            ("1.0000000001s", None),
        ] {
            assert_eq!(duration(text), millis.map(Duration::from_millis), "{text:?}");
        }
    }

    #[test]
    fn a_duration_is_written_as_it_can_be_read() {
        for text in ["0s", "1d", "3h", "5m", "90s", "250ms", "1500ms", "20us", "7ns"] {
            assert_eq!(duration_text(duration(text).unwrap()), text);
        }
    }

    #[test]
    fn sizes_tell_binary_from_decimal_units() {
        for (text, bytes) in [
            ("512B", Some(512)),
            ("64KiB", Some(65_536)),
            ("1.5MiB", Some(1_572_864)),
            ("10kB", Some(10_000)),
            ("2GiB", Some(2_147_483_648)),
            ("64", None),
            ("KiB", None),
            ("64k", None),
            ("0.1B", None),
            ("99999999999999GiB", None),
        ] {
            assert_eq!(size(text), bytes, "{text:?}");
        }
    }

    #[test]
    fn log_levels_go_by_name_and_by_the_numbers_of_the_seed_proxy() {
        for (text, level) in [
            ("trace", Some(LogLevel::Trace)),
            ("info", Some(LogLevel::Info)),
            ("0", Some(LogLevel::Debug)),
            ("1", Some(LogLevel::Info)),
            ("2", Some(LogLevel::Warn)),
            ("3", Some(LogLevel::Error)),
            ("6", Some(LogLevel::Error)),
            ("7", Some(LogLevel::Off)),
            ("8", None),
            ("-1", None),
            ("INFO", None),
        ] {
            assert_eq!(log_level(text), level, "{text:?}");
        }
    }
}
