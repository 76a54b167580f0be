//! A compiled HTTPMatchRequest: all of its conditions must hold. What Istio resolves before the
//! request (port, gateways, source labels) never gets here.

use super::string_match::StringMatch;
use crate::http::{HeaderField, RequestHead};

/// Conditions on a request; empty ones hold for all.
#[derive(Clone, Debug, Default)]
pub struct Matcher {
    /// On the path, without query.
    pub uri: Option<StringMatch>,
    /// Compare `uri` without regard to case (exact and prefix only).
    pub ignore_uri_case: bool,
    /// On the scheme, `http` or `https`.
    pub scheme: Option<StringMatch>,
    /// On the method, case-sensitive.
    pub method: Option<StringMatch>,
    /// On host and port as sent, case-sensitive.
    pub authority: Option<StringMatch>,
    /// On fields that must match.
    pub headers: Vec<HeaderMatch>,
    /// On fields that must not match.
    pub without_headers: Vec<HeaderMatch>,
    /// On query parameters.
    pub query: Vec<QueryMatch>,
}

/// A condition on a field.
#[derive(Clone, Debug)]
pub struct HeaderMatch {
    name: Name,
    /// None: the field is there.
    value: Option<StringMatch>,
}

#[derive(Clone, Debug)]
enum Name {
    Field(Box<[u8]>),
    Method,
    Authority,
    Path,
    Scheme,
}

/// A condition on the first value of a query parameter.
#[derive(Clone, Debug)]
pub struct QueryMatch {
    name: Box<[u8]>,
    /// None: the parameter is there.
    value: Option<StringMatch>,
}

impl HeaderMatch {
    /// On the field `name` in any case, or the pseudo-header of that name. Without a value: the
    /// field is there.
    pub fn new(name: &str, value: Option<StringMatch>) -> HeaderMatch {
        let name = match name {
            ":method" => Name::Method,
            ":authority" => Name::Authority,
            ":path" => Name::Path,
            ":scheme" => Name::Scheme,
            other => Name::Field(other.to_ascii_lowercase().into_bytes().into()),
        };
        HeaderMatch { name, value }
    }

    /// The name in lower case.
    pub fn name(&self) -> &[u8] {
        match &self.name {
            Name::Field(name) => name,
            Name::Method => b":method",
            Name::Authority => b":authority",
            Name::Path => b":path",
            Name::Scheme => b":scheme",
        }
    }

    fn applies(&self, head: &RequestHead<'_>) -> bool {
        with_value(&self.name, head, |value| match (&self.value, value) {
            (Some(condition), Some(value)) => condition.is_match(value),
            (Some(_), None) => false,
            (None, value) => value.is_some(),
        })
    }

    /// Is the request excluded by it? A missing field counts as an empty value (Envoy's
    /// `treat_missing_header_as_empty`), so that `regex: .*` excludes every request.
    fn excludes(&self, head: &RequestHead<'_>) -> bool {
        with_value(&self.name, head, |value| match &self.value {
            Some(condition) => condition.is_match(value.unwrap_or_default()),
            None => value.is_some(),
        })
    }
}

/// Call `check` with the value of a field; several of one name are joined with commas first.
fn with_value<T>(name: &Name, head: &RequestHead<'_>, check: impl FnOnce(Option<&[u8]>) -> T) -> T {
    let name = match name {
        Name::Method => return check(Some(head.method)),
        Name::Authority => return check(Some(head.authority)),
        Name::Scheme => return check(Some(head.scheme.as_str().as_bytes())),
        Name::Path => {
            return match head.query {
                None => check(Some(head.path)),
                Some(query) => check(Some(&[head.path, b"?", query].concat())),
            };
        }
        Name::Field(name) => name,
    };
    let named = |field: &&HeaderField<'_>| field.name.eq_ignore_ascii_case(name);
    let mut fields = head.headers.iter().filter(named);
    match (fields.next(), fields.next()) {
        (None, _) => check(None),
        (Some(only), None) => check(Some(only.value)),
        (Some(_), Some(_)) => {
            let values: Vec<&[u8]> =
                head.headers.iter().filter(named).map(|field| field.value).collect();
            check(Some(&values.join(&b',')))
        }
    }
}

impl QueryMatch {
    /// On the parameter `name`. Without a value: it is there.
    pub fn new(name: &str, value: Option<StringMatch>) -> QueryMatch {
        QueryMatch { name: name.as_bytes().into(), value }
    }

    /// The value is compared as sent, not decoded (as Envoy does).
    fn applies(&self, query: Option<&[u8]>) -> bool {
        let found = query.into_iter().flat_map(|query| query.split(|byte| *byte == b'&')).find_map(
            |pair| match memchr::memchr(b'=', pair) {
                Some(at) => (pair[..at] == *self.name).then(|| &pair[at + 1..]),
                None => (*pair == *self.name).then_some(&pair[pair.len()..]),
            },
        );
        match (&self.value, found) {
            (_, None) => false,
            (None, Some(_)) => true,
            (Some(condition), Some(value)) => condition.is_match(value),
        }
    }
}

impl Matcher {
    /// Do all conditions hold?
    pub fn applies(&self, head: &RequestHead<'_>) -> bool {
        self.uri_applies(head.path) && self.rest_applies(head)
    }

    /// Does the condition on the path hold?
    #[inline]
    pub fn uri_applies(&self, path: &[u8]) -> bool {
        match &self.uri {
            None => true,
            Some(uri) if self.ignore_uri_case => uri.is_match_ignore_case(path),
            Some(uri) => uri.is_match(path),
        }
    }

    fn rest_applies(&self, head: &RequestHead<'_>) -> bool {
        let holds = |condition: &Option<StringMatch>, text: &[u8]| {
            condition.as_ref().is_none_or(|condition| condition.is_match(text))
        };
        holds(&self.method, head.method)
            && holds(&self.scheme, head.scheme.as_str().as_bytes())
            && holds(&self.authority, head.authority)
            && self.headers.iter().all(|condition| condition.applies(head))
            && !self.without_headers.iter().any(|condition| condition.excludes(head))
            && self.query.iter().all(|condition| condition.applies(head.query))
    }

    /// Has it no condition besides that on the path?
    pub fn is_path_only(&self) -> bool {
        self.scheme.is_none()
            && self.method.is_none()
            && self.authority.is_none()
            && self.headers.is_empty()
            && self.without_headers.is_empty()
            && self.query.is_empty()
    }

    /// Does it apply to every request, so that Istio moves it to the end of its virtual host
    /// (behaviour 3.2.4)?
    pub fn is_catch_all(&self) -> bool {
        let any_path = match &self.uri {
            None => true,
            Some(StringMatch::Prefix(prefix)) => matches!(&**prefix, b"/" | b""),
            Some(StringMatch::Regex(regex)) => regex.as_str() == "^(?:.*)$",
            Some(StringMatch::Exact(_)) => false,
        };
        any_path && self.is_path_only()
    }
}
