//! What plugins write into the daemon's log: cut, cleaned and rate-limited.

use std::{
    sync::{Mutex, PoisonError},
    time::Instant,
};

const MESSAGE_BYTES: usize = 4_096;
const FIELDS: usize = 16;
const KEY_BYTES: usize = 64;
const VALUE_BYTES: usize = 1_024;

/// Lets a plugin's log entries through at its rate, all its instances together.
#[derive(Debug)]
pub(crate) struct LogGate {
    rate: f64,
    bucket: Mutex<Bucket>,
}

#[derive(Debug)]
struct Bucket {
    tokens: f64,
    filled: Instant,
    dropped: u64,
}

impl LogGate {
    pub(crate) fn new(rate: u32, now: Instant) -> Self {
        let rate = f64::from(rate);
        Self { rate, bucket: Mutex::new(Bucket { tokens: 2.0 * rate, filled: now, dropped: 0 }) }
    }

    /// Whether an entry passes; if so, how many were dropped since the last that did.
    pub(crate) fn pass(&self, now: Instant) -> Option<u64> {
        let mut bucket = self.bucket.lock().unwrap_or_else(PoisonError::into_inner);
        let gained = now.saturating_duration_since(bucket.filled).as_secs_f64() * self.rate;
        bucket.tokens = (bucket.tokens + gained).min(2.0 * self.rate);
        bucket.filled = now;
        if bucket.tokens < 1.0 {
            bucket.dropped += 1;
            return None;
        }
        bucket.tokens -= 1.0;
        Some(std::mem::take(&mut bucket.dropped))
    }
}

/// A message as it may stand in the log: cut, and without control characters that a terminal would obey.
pub(crate) fn clean_message(text: &str) -> String {
    clean(text, MESSAGE_BYTES)
}

/// A reason a plugin gives, as it may be shown.
pub(crate) fn clean_reason(text: &str) -> String {
    clean(text, VALUE_BYTES)
}

/// Fields in one text: `key=value key="with space"`.
pub(crate) fn clean_fields(fields: &[(String, String)]) -> String {
    let mut line = String::new();
    for (key, value) in fields.iter().take(FIELDS) {
        if !line.is_empty() {
            line.push(' ');
        }
        line.push_str(&clean(key, KEY_BYTES));
        line.push('=');
        let value = clean(value, VALUE_BYTES);
        if value.is_empty() || value.contains([' ', '"', '=']) {
            line.push('"');
            line.push_str(&value.replace('"', "\\\""));
            line.push('"');
        } else {
            line.push_str(&value);
        }
    }
    line
}

fn clean(text: &str, most: usize) -> String {
    let cut = text.get(..text.floor_char_boundary(most)).unwrap_or_default();
    let mut clean = String::with_capacity(cut.len());
    for c in cut.chars() {
        if c.is_control() { clean.extend(c.escape_default()) } else { clean.push(c) }
    }
    if cut.len() < text.len() {
        clean.push('…');
    }
    clean
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_flood_is_dropped_and_counted() {
        let start = Instant::now();
        let gate = LogGate::new(10, start);
        let passed = (0..1_000).filter(|_| gate.pass(start).is_some()).count();
        assert_eq!(passed, 20, "the rate and as much again in a burst");
        assert_eq!(gate.pass(start + Duration::from_millis(100)), Some(980));
        assert_eq!(gate.pass(start + Duration::from_millis(200)), Some(0));
    }

    #[test]
    fn messages_are_cut_between_characters() {
        let long = "ä".repeat(4_096);
        let cut = clean_message(&long);
        assert_eq!(cut.chars().filter(|c| *c == 'ä').count(), 2_048);
        assert!(cut.ends_with('…'));
    }

    #[test]
    fn what_a_terminal_would_obey_is_escaped() {
        assert_eq!(clean_message("a\u{1b}[31mb\nc"), "a\\u{1b}[31mb\\nc");
    }

    #[test]
    fn fields_read_as_one_line() {
        let fields: Vec<_> = (0..20).map(|n| (format!("k{n}"), "v".to_owned())).collect();
        assert_eq!(clean_fields(&fields).split(' ').count(), 16);
        let fields = [("owner".to_owned(), "a b".to_owned()), ("empty".to_owned(), String::new())];
        assert_eq!(clean_fields(&fields), r#"owner="a b" empty="""#);
    }
}
