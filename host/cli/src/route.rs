//! Routes of the API, with the operator's words in them made safe.

use std::fmt::Display;

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

/// What RFC 3986 calls unreserved stays as it is, for the sake of readable logs.
const RESERVED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// A text as a segment of a path or as a value of a query.
pub(crate) fn encoded(text: impl Display) -> String {
    utf8_percent_encode(&text.to_string(), RESERVED).to_string()
}

/// A route with those conditions that are given.
pub(crate) fn with_query<const N: usize>(route: &str, conditions: [(&str, Option<String>); N]) -> String {
    let given: Vec<String> =
        conditions.into_iter().filter_map(|(name, value)| Some(format!("{name}={}", value?))).collect();
    if given.is_empty() { route.to_owned() } else { format!("{route}?{}", given.join("&")) }
}

#[cfg(test)]
mod tests {
    use super::encoded;

    #[test]
    fn what_has_a_meaning_in_a_route_is_encoded() {
        assert_eq!(encoded("10.0.0.1:80"), "10.0.0.1%3A80");
        assert_eq!(encoded("[fd00::1]:80"), "%5Bfd00%3A%3A1%5D%3A80");
        assert_eq!(encoded("../a?b#c"), "..%2Fa%3Fb%23c");
    }
}
