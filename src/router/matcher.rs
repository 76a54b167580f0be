//! One compiled `HTTPMatchRequest`. Its port, gateways and source conditions are no part of it: the
//! compiler resolves them, since they do not depend on the request.

use std::borrow::Cow;
use std::fmt;

use super::string_match::StringMatch;
use crate::http::{HeaderField, KnownHeader, RequestHead, first_query_value};

/// The conditions of a route; all must hold. The default has none and matches every request.
#[derive(Clone, Debug, Default)]
pub struct Matcher {
    /// `uri`: the normalised path without query.
    pub uri: Option<StringMatch>,
    /// `ignoreUriCase`: `uri` exact and prefix disregard ASCII case.
    pub ignore_uri_case: bool,
    /// `scheme`: `http` or `https`, case-sensitive.
    pub scheme: Option<StringMatch>,
    /// `method`, case-sensitive.
    pub method: Option<StringMatch>,
    /// `authority`: Host as sent, port included, case-sensitive.
    pub authority: Option<StringMatch>,
    /// `headers`: all must match; an absent header does not.
    pub headers: Vec<HeaderMatch>,
    /// `withoutHeaders`: none may match; the value of an absent header is the empty string, except
    /// for presence.
    pub without_headers: Vec<HeaderMatch>,
    /// `queryParams`: all must match; an absent key does not.
    pub query: Vec<QueryMatch>,
}

/// A condition on the header (or pseudo-header) of one name.
#[derive(Clone, Debug)]
pub struct HeaderMatch {
    name: HeaderName,
    /// None: that it is there.
    value: Option<StringMatch>,
}

/// A condition on the first value of a query key, compared as sent (not percent-decoded).
#[derive(Clone, Debug)]
pub struct QueryMatch {
    name: Box<[u8]>,
    /// None: that it is there.
    value: Option<StringMatch>,
}

#[derive(Clone, Debug)]
enum HeaderName {
    Method,
    Authority,
    Path,
    Scheme,
    Known(KnownHeader),
    /// Lower case. A pseudo-header that HTTP/1 has no counterpart of is here too: it is never
    /// present, since a field name cannot begin with a colon.
    Other(Box<[u8]>),
}

/// The first condition that did not hold, in the manifest's words.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mismatch<'m> {
    /// `uri`
    Uri,
    /// `scheme`
    Scheme,
    /// `method`
    Method,
    /// `authority`
    Authority,
    /// `headers.<name>`
    Header(&'m str),
    /// `withoutHeaders.<name>`
    WithoutHeader(&'m str),
    /// `queryParams.<name>`
    QueryParam(&'m str),
}

impl fmt::Display for Mismatch<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Mismatch::Uri => f.write_str("uri"),
            Mismatch::Scheme => f.write_str("scheme"),
            Mismatch::Method => f.write_str("method"),
            Mismatch::Authority => f.write_str("authority"),
            Mismatch::Header(name) => write!(f, "headers.{name}"),
            Mismatch::WithoutHeader(name) => write!(f, "withoutHeaders.{name}"),
            Mismatch::QueryParam(name) => write!(f, "queryParams.{name}"),
        }
    }
}

impl Matcher {
    /// Whether every condition holds.
    #[inline]
    pub fn applies(&self, head: &RequestHead<'_>) -> bool {
        self.first_mismatch(head).is_none()
    }

    /// The first condition that does not hold, `uri` before all others.
    #[inline]
    pub fn first_mismatch(&self, head: &RequestHead<'_>) -> Option<Mismatch<'_>> {
        if self.uri_applies(head.path) {
            self.first_other_mismatch(head)
        } else {
            Some(Mismatch::Uri)
        }
    }

    /// Whether `uri` matches `path`; true without one.
    #[inline]
    pub fn uri_applies(&self, path: &[u8]) -> bool {
        match &self.uri {
            None => true,
            Some(uri) if self.ignore_uri_case => uri.is_match_ignore_case(path),
            Some(uri) => uri.is_match(path),
        }
    }

    /// The first condition besides `uri` that does not hold.
    pub fn first_other_mismatch(&self, head: &RequestHead<'_>) -> Option<Mismatch<'_>> {
        let holds = |condition: &Option<StringMatch>, value: &[u8]| {
            condition.as_ref().is_none_or(|condition| condition.is_match(value))
        };
        if !holds(&self.method, head.method) {
            return Some(Mismatch::Method);
        }
        if !holds(&self.scheme, head.scheme.as_str().as_bytes()) {
            return Some(Mismatch::Scheme);
        }
        if !holds(&self.authority, head.authority) {
            return Some(Mismatch::Authority);
        }
        for condition in &self.headers {
            if !condition.matches(head) {
                return Some(Mismatch::Header(condition.name()));
            }
        }
        for condition in &self.without_headers {
            if !condition.matches_without(head) {
                return Some(Mismatch::WithoutHeader(condition.name()));
            }
        }
        for condition in &self.query {
            if !condition.matches(head.query) {
                return Some(Mismatch::QueryParam(condition.name()));
            }
        }
        None
    }

    /// Whether there is no condition besides `uri`.
    pub fn is_path_only(&self) -> bool {
        self.scheme.is_none()
            && self.method.is_none()
            && self.authority.is_none()
            && self.headers.is_empty()
            && self.without_headers.is_empty()
            && self.query.is_empty()
    }

    /// Whether Istio moves the route behind those that are none: no `uri`, prefix `/` (or empty) or regex
    /// `.*`,
    /// and no other condition.
    pub fn is_catch_all(&self) -> bool {
        let any_uri = match &self.uri {
            None => true,
            Some(StringMatch::Exact(_)) => false,
            Some(StringMatch::Prefix(prefix)) => matches!(&**prefix, b"/" | b""),
            Some(StringMatch::Regex(regex)) => regex.pattern() == ".*",
        };
        any_uri && self.is_path_only()
    }
}

impl HeaderMatch {
    /// A condition on header `name`, whatever its case; without a value, that it is there.
    ///
    /// `:method`, `:authority`, `:path` (with query)
    /// and `:scheme` stand for the request line, and `host` for `:authority`.
    pub fn new(name: &str, value: Option<StringMatch>) -> HeaderMatch {
        let lower = name.to_ascii_lowercase();
        let name = match lower.as_str() {
            ":method" => HeaderName::Method,
            ":authority" | "host" => HeaderName::Authority,
            ":path" => HeaderName::Path,
            ":scheme" => HeaderName::Scheme,
            _ => match KnownHeader::from_name(lower.as_bytes()) {
                KnownHeader::Other | KnownHeader::EnvoyInternal => {
                    HeaderName::Other(lower.into_bytes().into())
                }
                known => HeaderName::Known(known),
            },
        };
        HeaderMatch { name, value }
    }

    /// The name in lower case (`:authority` for `host`).
    pub fn name(&self) -> &str {
        match &self.name {
            HeaderName::Method => ":method",
            HeaderName::Authority => ":authority",
            HeaderName::Path => ":path",
            HeaderName::Scheme => ":scheme",
            HeaderName::Known(known) => known.as_str(),
            HeaderName::Other(name) => std::str::from_utf8(name).unwrap_or_default(),
        }
    }

    /// `headers`: the header is there, and its value is as wanted.
    #[inline]
    fn matches(&self, head: &RequestHead<'_>) -> bool {
        match &self.value {
            None => self.is_present(head),
            Some(wanted) => self.value(head).is_some_and(|value| wanted.is_match(&value)),
        }
    }

    /// `withoutHeaders`: not present, or the value (empty when absent) is not the unwanted one.
    #[inline]
    fn matches_without(&self, head: &RequestHead<'_>) -> bool {
        match &self.value {
            None => !self.is_present(head),
            Some(unwanted) => !unwanted.is_match(&self.value(head).unwrap_or_default()),
        }
    }

    fn is_present(&self, head: &RequestHead<'_>) -> bool {
        match &self.name {
            HeaderName::Method | HeaderName::Path | HeaderName::Scheme => true,
            HeaderName::Authority => !head.authority.is_empty(),
            HeaderName::Known(_) | HeaderName::Other(_) => {
                head.headers.iter().any(|field| self.is_name_of(field))
            }
        }
    }

    #[inline]
    fn is_name_of(&self, field: &HeaderField<'_>) -> bool {
        match &self.name {
            HeaderName::Known(known) => field.known == *known,
            HeaderName::Other(name) => field.name.eq_ignore_ascii_case(name),
            _ => false,
        }
    }

    /// The value; several of one name are joined with commas. Allocates only then, and for a `:path`
    /// with query.
    fn value<'h>(&self, head: &RequestHead<'h>) -> Option<Cow<'h, [u8]>> {
        match &self.name {
            HeaderName::Method => Some(head.method.into()),
            HeaderName::Authority => {
                (!head.authority.is_empty()).then_some(Cow::Borrowed(head.authority))
            }
            HeaderName::Scheme => Some(head.scheme.as_str().as_bytes().into()),
            HeaderName::Path => Some(match head.query {
                None => head.path.into(),
                Some(query) => [head.path, b"?", query].concat().into(),
            }),
            HeaderName::Known(_) | HeaderName::Other(_) => {
                let mut fields = head.headers.iter().filter(|field| self.is_name_of(field));
                let mut value = Cow::Borrowed(fields.next()?.value);
                for further in fields {
                    let joined = value.to_mut();
                    joined.push(b',');
                    joined.extend_from_slice(further.value);
                }
                Some(value)
            }
        }
    }
}

impl QueryMatch {
    /// A condition on the query key `name`, compared as sent, case-sensitive; without a value, that
    /// it is there.
    pub fn new(name: &str, value: Option<StringMatch>) -> QueryMatch {
        QueryMatch { name: name.as_bytes().into(), value }
    }

    /// The key.
    pub fn name(&self) -> &str {
        std::str::from_utf8(&self.name).unwrap_or_default()
    }

    #[inline]
    fn matches(&self, query: Option<&[u8]>) -> bool {
        let Some(value) = query.and_then(|query| first_query_value(query, &self.name)) else {
            return false;
        };
        match &self.value {
            None => true,
            Some(wanted) => wanted.is_match(value),
        }
    }
}

#[cfg(test)]
mod tests;
