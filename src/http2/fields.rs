//! Fields of HTTP/1.1 as those of HTTP/2: names that the gateway knows are not looked up again, and the
//! values of one head lie in one piece of memory.

use std::sync::LazyLock;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue};

use crate::http::{HeaderField, KnownHeader, known_header};

/// Values of a head lie in one piece of memory while they are no more than this. The encoder remembers
/// single fields of many heads: each of them keeps all of its piece.
const SHARED_VALUES_BYTES_MAX: usize = 1024;

/// The field cannot be written in HTTP/2.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct InvalidField;

/// The names that the gateway knows, by [`KnownHeader`].
static NAMES: LazyLock<Vec<Option<HeaderName>>> = LazyLock::new(|| {
    let mut names = Vec::new();
    for (name, known) in known_header::NAMES {
        let index = *known as usize;
        names.resize(names.len().max(index + 1), None);
        names[index] = Some(HeaderName::from_static(name));
    }
    names
});

/// The name of a field.
pub(super) fn name(known: KnownHeader, name: &[u8]) -> Result<HeaderName, InvalidField> {
    match NAMES.get(known as usize) {
        Some(Some(name)) => Ok(name.clone()),
        _ => HeaderName::from_bytes(name).map_err(|_| InvalidField),
    }
}

/// Is the value another one with every message? Such fields are sent as they are: among the fields that
/// the encoder remembers they would take the place of those that come again, and be searched in vain.
fn is_unique(known: KnownHeader, name: &[u8]) -> bool {
    match known {
        KnownHeader::XRequestId => true,
        KnownHeader::Other => [&b"traceparent"[..], b"x-b3-traceid", b"x-b3-spanid", b"b3"]
            .iter()
            .any(|unique| name.eq_ignore_ascii_case(unique)),
        _ => false,
    }
}

/// Those of `fields` that are kept as a map, with room for `more`.
///
/// # Errors
/// A name or a value that cannot be written in HTTP/2.
pub(super) fn map(
    fields: &[HeaderField<'_>],
    more: usize,
    is_kept: impl Fn(&HeaderField<'_>) -> bool,
) -> Result<HeaderMap, InvalidField> {
    let bytes = fields.iter().map(|field| field.value.len()).sum();
    let mut shared = None;
    if bytes <= SHARED_VALUES_BYTES_MAX {
        let mut values = Vec::with_capacity(bytes);
        for field in fields {
            values.extend_from_slice(field.value);
        }
        shared = Some(Bytes::from(values));
    }
    let mut map = HeaderMap::try_with_capacity(fields.len() + more).map_err(|_| InvalidField)?;
    for field in fields {
        let value = shared.as_mut().map(|values| values.split_to(field.value.len()));
        if !is_kept(field) {
            continue;
        }
        let value = match value {
            Some(value) => HeaderValue::from_maybe_shared(value),
            None => HeaderValue::from_bytes(field.value),
        };
        let mut value = value.map_err(|_| InvalidField)?;
        value.set_sensitive(is_unique(field.known, field.name));
        let name = name(field.known, field.name)?;
        map.try_append(name, value).map_err(|_| InvalidField)?;
    }
    Ok(map)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_known_name_is_itself() {
        for (text, known) in known_header::NAMES {
            assert_eq!(name(*known, b"").expect("known").as_str(), *text);
        }
        assert_eq!(name(KnownHeader::Other, b"X-Own").expect("a token"), "x-own");
        assert_eq!(name(KnownHeader::EnvoyInternal, b"x-envoy-a").expect("one"), "x-envoy-a");
        assert_eq!(name(KnownHeader::Other, b"x own"), Err(InvalidField));
    }

    #[test]
    fn long_heads_are_not_kept_for_the_sake_of_a_short_value() {
        let long = "l".repeat(SHARED_VALUES_BYTES_MAX);
        let fields = [
            HeaderField { name: b"a", value: b"1", known: KnownHeader::Other },
            HeaderField { name: b"b", value: long.as_bytes(), known: KnownHeader::Other },
        ];
        let distance = |map: &HeaderMap| {
            let start = |name: &str| map[name].as_bytes().as_ptr() as usize;
            start("b").wrapping_sub(start("a"))
        };
        let short = [fields[0], HeaderField { value: b"2", ..fields[1] }];
        assert_eq!(distance(&map(&short, 0, |_| true).expect("valid")), 1);
        let apart = map(&fields, 0, |_| true).expect("valid");
        assert_ne!(distance(&apart), 1);
        assert_eq!(apart["b"].as_bytes(), long.as_bytes());
    }

    #[test]
    fn fields_keep_their_order_and_values() {
        let field = |name: &'static str, value: &'static str| HeaderField {
            name: name.as_bytes(),
            value: value.as_bytes(),
            known: KnownHeader::from_name(name.as_bytes()),
        };
        let fields = [
            field("X-Request-Id", "4d"),
            field("x", ""),
            field("left-out", "3"),
            field("a", "1"),
            field("A", "2"),
            field("server", "istio-envoy"),
        ];
        let map = map(&fields, 1, |field| field.name != b"left-out").expect("valid");
        let written: Vec<_> = map
            .iter()
            .map(|(name, value)| (name.as_str(), value.to_str().expect("text")))
            .collect();
        let wanted =
            [("x-request-id", "4d"), ("x", ""), ("a", "1"), ("a", "2"), ("server", "istio-envoy")];
        assert_eq!(written, wanted);
        assert!(map["x-request-id"].is_sensitive() && !map["server"].is_sensitive());
        assert_eq!(super::map(&[field("a", "\n")], 0, |_| true).err(), Some(InvalidField));
    }
}
