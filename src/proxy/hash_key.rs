//! What of a request a consistent hash is made of.

use super::upstream_head::{Forwarded, external_address};
use crate::http::{KnownHeader, RequestHead, first_query_value};
use crate::snapshot::consistent_hash::hash;
use crate::snapshot::{HashCookie, HashKey};

/// The hash of a request; none when it lacks the key.
pub fn of_request(key: &HashKey, head: &RequestHead<'_>, forwarded: &Forwarded<'_>) -> Option<u64> {
    match key {
        HashKey::Header(name) => {
            let named = head
                .headers
                .iter()
                .filter(|field| field.name.eq_ignore_ascii_case(name.as_bytes()));
            // A sum does not depend on the order of the values.
            named.map(|field| hash(field.value)).reduce(u64::wrapping_add)
        }
        HashKey::Cookie(cookie) => cookie_value(cookie, head).map(hash),
        HashKey::SourceAddress => Some(hash(external_address(head, forwarded))),
        HashKey::QueryParameter(name) => first_query_value(head.query?, name.as_bytes()).map(hash),
    }
}

/// The value of a cookie, without the quotes around it; none when it is absent or empty.
fn cookie_value<'h>(cookie: &HashCookie, head: &RequestHead<'h>) -> Option<&'h [u8]> {
    let lines = head.headers.iter().filter(|field| field.known == KnownHeader::Cookie);
    let mut pairs = lines.flat_map(|field| field.value.split(|byte| *byte == b';'));
    let value = pairs.find_map(|pair| {
        let pair = pair.trim_ascii();
        pair.strip_prefix(cookie.name.as_bytes())?.strip_prefix(b"=")
    })?;
    let bare = value.strip_prefix(b"\"").and_then(|value| value.strip_suffix(b"\""));
    Some(bare.unwrap_or(value)).filter(|value| !value.is_empty())
}
