//! Values as text.

use std::{
    fmt::Display,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use netloom_core::model::Labels;

/// `a=1,b=2`.
pub(super) fn labels(labels: &Labels) -> String {
    list(labels.iter().map(|(key, value)| format!("{key}={value}")))
}

/// `a,b`.
pub(super) fn list<T: Display>(items: impl IntoIterator<Item = T>) -> String {
    items.into_iter().map(|item| item.to_string()).collect::<Vec<_>>().join(",")
}

/// The words of a text, however many lines it has.
pub(super) fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// The value, or nothing.
pub(super) fn or_none<T: Display>(value: Option<T>) -> String {
    value.map(|value| value.to_string()).unwrap_or_default()
}

/// `1 packet`, `2 packets`.
pub(super) fn count(number: usize, one: &str, many: &str) -> String {
    format!("{number} {}", if number == 1 { one } else { many })
}

/// Bytes with a unit of 1,024s: `1.5 KiB`.
pub(super) fn bytes(bytes: u64) -> String {
    let mut unit = "B";
    let mut scale = 1_u64;
    for larger in ["KiB", "MiB", "GiB", "TiB"] {
        if bytes / scale < 1024 {
            break;
        }
        scale *= 1024;
        unit = larger;
    }
    let (whole, tenth) = (bytes / scale, bytes % scale * 10 / scale);
    if scale == 1 || whole >= 100 { format!("{whole} {unit}") } else { format!("{whole}.{tenth} {unit}") }
}

/// The two largest units of a duration: `3m 2s`.
pub(super) fn duration(duration: Duration) -> String {
    let seconds = Duration::from_secs(duration.as_secs());
    let text = humantime::format_duration(seconds).to_string();
    text.split(' ').take(2).collect::<Vec<_>>().join(" ")
}

/// Microseconds in the unit that reads best: `412 µs`, `3.1 ms`, `2.5 s`.
pub(super) fn micros(micros: u64) -> String {
    match micros {
        0..1_000 => format!("{micros} µs"),
        1_000..1_000_000 => format!("{}.{} ms", micros / 1_000, micros % 1_000 / 100),
        _ => format!("{}.{} s", micros / 1_000_000, micros % 1_000_000 / 100_000),
    }
}

/// A moment, to the second.
pub(super) fn seconds(time_ms: u64) -> String {
    at(time_ms).map(|time| humantime::format_rfc3339_seconds(time).to_string()).unwrap_or_default()
}

/// A moment, to the millisecond.
pub(super) fn millis(time_ms: u64) -> String {
    at(time_ms).map(|time| humantime::format_rfc3339_millis(time).to_string()).unwrap_or_default()
}

fn at(time_ms: u64) -> Option<SystemTime> {
    UNIX_EPOCH.checked_add(Duration::from_millis(time_ms))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_scaled() {
        for (number, expected) in [
            (0, "0 B"),
            (1023, "1023 B"),
            (1024, "1.0 KiB"),
            (1536, "1.5 KiB"),
            (500 * 1024, "500 KiB"),
            (1024 * 1024 - 1, "1023 KiB"),
            (3 << 30, "3.0 GiB"),
            (u64::MAX, "16777215 TiB"),
        ] {
            assert_eq!(bytes(number), expected);
        }
    }

    #[test]
    fn durations_show_two_units() {
        for (millis, expected) in [(0, "0s"), (999, "0s"), (62_500, "1m 2s"), (90_061_000, "1day 1h")] {
            assert_eq!(duration(Duration::from_millis(millis)), expected);
        }
        for (number, expected) in [(412, "412 µs"), (3_120, "3.1 ms"), (2_560_000, "2.5 s")] {
            assert_eq!(micros(number), expected);
        }
    }
}
