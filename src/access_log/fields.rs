//! What the line needs of the request head, copied while the head is there: the line is written
//! after the last response byte, when the receive buffer has long been used again. The response's head
//! still lies where it was written.

use crate::http::{HeaderField, KnownHeader, RequestHead};

/// Memory that [`RequestFields::clear`] keeps; a longer head's is given back.
const KEPT_BYTES: usize = 2048;

/// A piece of the buffer, or nothing.
#[derive(Clone, Copy, Debug)]
struct Span {
    start: u32,
    end: u32,
}

/// The name of a field that a format or a filter asks for, in lower case.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FieldName(Box<[u8]>);

impl FieldName {
    /// In any case.
    pub fn new(name: &str) -> FieldName {
        FieldName(name.to_ascii_lowercase().into_bytes().into())
    }

    #[inline]
    fn is(&self, name: &[u8]) -> bool {
        name.eq_ignore_ascii_case(&self.0)
    }
}

/// The first field of this name in a response head of HTTP/1.1, whole lines from the status line on; what
/// stands behind the head is not looked at.
pub(super) fn response_field<'h>(head: &'h [u8], name: &FieldName) -> Option<&'h [u8]> {
    let mut rest = &head[memchr::memchr(b'\n', head)? + 1..];
    loop {
        let end = memchr::memchr(b'\n', rest)?;
        let line = rest[..end].trim_ascii();
        if line.is_empty() {
            return None;
        }
        let colon = memchr::memchr(b':', line)?;
        if name.is(&line[..colon]) {
            return Some(line[colon + 1..].trim_ascii());
        }
        rest = &rest[end + 1..];
    }
}

impl Span {
    const NONE: Span = Span { start: u32::MAX, end: u32::MAX };
}

/// The captured fields of one request. It belongs to a request in flight, not to a connection: keep
/// a few per worker and reuse them, then nothing is allocated and idle connections hold none.
#[derive(Debug)]
pub struct RequestFields {
    bytes: Vec<u8>,
    method: Span,
    path: Span,
    authority: Span,
    forwarded_for: Span,
    user_agent: Span,
    request_id: Span,
    trace_id: Span,
    /// What a format or a filter asks for beside those.
    extra: Vec<Span>,
}

impl Default for RequestFields {
    fn default() -> Self {
        RequestFields::new()
    }
}

macro_rules! fields {
    ($($(#[$doc:meta])* $name:ident;)*) => {
        $(
            $(#[$doc])*
            #[inline]
            pub fn $name(&self) -> Option<&[u8]> {
                self.bytes.get(self.$name.start as usize..self.$name.end as usize)
            }
        )*
    };
}

impl RequestFields {
    /// Nothing captured: every field shows as missing.
    pub fn new() -> RequestFields {
        RequestFields {
            bytes: Vec::new(),
            method: Span::NONE,
            path: Span::NONE,
            authority: Span::NONE,
            forwarded_for: Span::NONE,
            user_agent: Span::NONE,
            request_id: Span::NONE,
            trace_id: Span::NONE,
            extra: Vec::new(),
        }
    }

    /// Copy the fields of `head`, before anything is rewritten (the path is the original one, with
    /// its query). `forwarded_for` and `request_id`, when given, are shown in the place of the
    /// client's: the values that go to the upstream, as Envoy logs them.
    pub fn capture(
        &mut self,
        head: &RequestHead<'_>,
        forwarded_for: Option<&[u8]>,
        request_id: Option<&[u8]>,
    ) {
        self.clear();
        self.method = self.push(head.method);
        self.path = self.push(head.path);
        if let Some(query) = head.query {
            self.bytes.push(b'?');
            self.bytes.extend_from_slice(query);
            self.path.end = self.bytes.len() as u32;
        }
        if !head.authority.is_empty() {
            self.authority = self.push(head.authority);
        }
        if let Some(value) = forwarded_for {
            self.set_forwarded_for(value);
        } else {
            self.capture_forwarded_for(head);
        }
        self.user_agent = self.first(head, KnownHeader::UserAgent);
        self.request_id = match request_id {
            Some(value) => self.push(value),
            None => self.first(head, KnownHeader::XRequestId),
        };
    }

    /// Show this trace id, hexadecimal.
    pub fn set_trace_id(&mut self, value: &[u8]) {
        self.trace_id = self.push(value);
    }

    /// Show the trace id that the client sent, in `traceparent`, or else in B3's headers.
    pub fn capture_trace_id(&mut self, head: &RequestHead<'_>) {
        let value = |name: &str| {
            let named = |field: &&HeaderField<'_>| field.name.eq_ignore_ascii_case(name.as_bytes());
            head.headers.iter().find(named).map(|field| field.value)
        };
        let is_id =
            |id: &&[u8]| matches!(id.len(), 16 | 32) && id.iter().all(u8::is_ascii_hexdigit);
        let of_w3c = value("traceparent").and_then(|value| value.get(3..35)).filter(is_id);
        let of_b3 = || value("x-b3-traceid").filter(is_id);
        let of_single_b3 =
            || value("b3").and_then(|value| value.split(|byte| *byte == b'-').next()).filter(is_id);
        if let Some(id) = of_w3c.or_else(of_b3).or_else(of_single_b3) {
            self.set_trace_id(id);
        }
    }

    /// Copy the first field of each of these names, behind those that were copied so before.
    pub fn capture_first(&mut self, head: &RequestHead<'_>, names: &[FieldName]) {
        for name in names {
            let found = head.headers.iter().find(|field| name.is(field.name));
            let span = found.map_or(Span::NONE, |field| self.push(field.value));
            self.extra.push(span);
        }
    }

    /// The same, but all fields of a name, with commas between them.
    pub fn capture_joined(&mut self, head: &RequestHead<'_>, names: &[FieldName]) {
        for name in names {
            let mut span = Span::NONE;
            for field in head.headers.iter().filter(|field| name.is(field.name)) {
                self.join(&mut span, field.value);
            }
            self.extra.push(span);
        }
    }

    /// The field with this number among those that [`RequestFields::capture_first`] and
    /// [`RequestFields::capture_joined`] copied.
    #[inline]
    pub fn extra(&self, index: usize) -> Option<&[u8]> {
        let span = self.extra.get(index)?;
        self.bytes.get(span.start as usize..span.end as usize)
    }

    /// Show this `x-forwarded-for`.
    pub fn set_forwarded_for(&mut self, value: &[u8]) {
        self.forwarded_for = self.push(value);
    }

    /// Show this `x-request-id`.
    pub fn set_request_id(&mut self, value: &[u8]) {
        self.request_id = self.push(value);
    }

    /// Forget everything.
    pub fn clear(&mut self) {
        let mut bytes = std::mem::take(&mut self.bytes);
        bytes.clear();
        if bytes.capacity() > KEPT_BYTES {
            bytes = Vec::new();
        }
        let mut extra = std::mem::take(&mut self.extra);
        extra.clear();
        *self = RequestFields { bytes, extra, ..RequestFields::new() };
    }

    fields! {
        /// `%REQ(:METHOD)%`
        method;
        /// `%REQ(X-ENVOY-ORIGINAL-PATH?:PATH)%`
        path;
        /// `%REQ(:AUTHORITY)%`
        authority;
        /// `%REQ(X-FORWARDED-FOR)%`
        forwarded_for;
        /// `%REQ(USER-AGENT)%`
        user_agent;
        /// `%REQ(X-REQUEST-ID)%`
        request_id;
        /// `%TRACE_ID%`
        trace_id;
    }

    fn push(&mut self, value: &[u8]) -> Span {
        let start = self.bytes.len() as u32;
        self.bytes.extend_from_slice(value);
        Span { start, end: self.bytes.len() as u32 }
    }

    fn first(&mut self, head: &RequestHead<'_>, name: KnownHeader) -> Span {
        match head.headers.iter().find(|field| field.known == name) {
            Some(field) => self.push(field.value),
            None => Span::NONE,
        }
    }

    /// Several lines of a list header mean the same as one with commas (RFC 9110 section 5.3).
    fn capture_forwarded_for(&mut self, head: &RequestHead<'_>) {
        let mut span = Span::NONE;
        let lines = head.headers.iter().filter(|field| field.known == KnownHeader::XForwardedFor);
        for field in lines {
            self.join(&mut span, field.value);
        }
        self.forwarded_for = span;
    }

    /// Add a value to those at the end of the buffer.
    fn join(&mut self, span: &mut Span, value: &[u8]) {
        if span.start == Span::NONE.start {
            *span = self.push(value);
        } else {
            self.bytes.push(b',');
            self.bytes.extend_from_slice(value);
            span.end = self.bytes.len() as u32;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::{Scheme, Version};

    fn field<'a>(name: &'a str, value: &'a str) -> HeaderField<'a> {
        let known = KnownHeader::from_name(name.as_bytes());
        HeaderField { name: name.as_bytes(), value: value.as_bytes(), known }
    }

    fn head<'a>(query: Option<&'a [u8]>, headers: &'a [HeaderField<'a>]) -> RequestHead<'a> {
        RequestHead {
            method: b"GET",
            path: b"/a",
            query,
            authority: b"hello.com:80",
            scheme: Scheme::Http,
            version: Version::Http11,
            headers,
        }
    }

    #[test]
    fn captures_what_the_client_sent() {
        let headers = [
            field("Host", "hello.com:80"),
            field("X-Forwarded-For", "10.0.0.1"),
            field("User-Agent", "curl"),
            field("x-forwarded-for", "10.0.0.2"),
            field("User-Agent", "second"),
        ];
        let mut fields = RequestFields::new();
        fields.capture(&head(Some(b"q=1"), &headers), None, None);
        assert_eq!(fields.method(), Some(&b"GET"[..]));
        assert_eq!(fields.path(), Some(&b"/a?q=1"[..]));
        assert_eq!(fields.authority(), Some(&b"hello.com:80"[..]));
        assert_eq!(fields.forwarded_for(), Some(&b"10.0.0.1,10.0.0.2"[..]));
        assert_eq!(fields.user_agent(), Some(&b"curl"[..]));
        assert_eq!(fields.request_id(), None);
    }

    #[test]
    fn other_fields_are_captured_by_name() {
        let headers = [field("X-A", "1"), field("x-b", "2"), field("x-a", "3")];
        let names = [FieldName::new("x-A"), FieldName::new("x-none")];
        let mut fields = RequestFields::new();
        let head = head(None, &headers);
        fields.capture(&head, None, None);
        fields.capture_first(&head, &names);
        fields.capture_joined(&head, &names);
        let extra: Vec<_> = (0..5).map(|index| fields.extra(index)).collect();
        assert_eq!(extra, [Some(&b"1"[..]), None, Some(&b"1,3"[..]), None, None]);
        fields.capture(&head, None, None);
        assert_eq!(fields.extra(0), None, "forgotten with the rest");
    }

    #[test]
    fn a_trace_id_is_taken_from_the_headers_that_carry_it() {
        const ID: &str = "0af7651916cd43dd8448eb211c80319c";
        let parent = format!("00-{ID}-b7ad6b7169203331-01");
        let single = format!("{ID}-b7ad6b7169203331-1");
        for (name, value, expected) in [
            ("traceparent", &*parent, Some(ID)),
            ("X-B3-TraceId", ID, Some(ID)),
            ("b3", &*single, Some(ID)),
            ("b3", "0", None),
            ("traceparent", "00-x", None),
            ("x-b3-traceid", "\u{7f}", None),
        ] {
            let mut fields = RequestFields::new();
            fields.capture_trace_id(&head(None, &[field(name, value)]));
            assert_eq!(fields.trace_id(), expected.map(str::as_bytes), "{name}: {value}");
        }
    }

    #[test]
    fn fields_of_a_response_are_found_in_its_head() {
        let head = b"HTTP/1.1 200 OK\r\nX-A:  1 \r\nx-b: 2\r\nX-A: 3\r\n\r\nx-c: 4\r\n";
        let find = |name| response_field(head, &FieldName::new(name));
        assert_eq!(find("x-a"), Some(&b"1"[..]));
        assert_eq!(find("X-B"), Some(&b"2"[..]));
        assert_eq!(find("x-c"), None, "of the body");
        for broken in [&b""[..], b"HTTP/1.1 200 OK", b"HTTP/1.1 200 OK\r\nx-a 1"] {
            assert_eq!(response_field(broken, &FieldName::new("x-a")), None);
        }
    }

    #[test]
    fn values_of_the_gateway_replace_the_clients() {
        let headers = [field("x-request-id", "client"), field("x-forwarded-for", "1.1.1.1")];
        let mut fields = RequestFields::new();
        fields.capture(&head(None, &headers), Some(b"1.1.1.1,2.2.2.2"), Some(b"ours"));
        assert_eq!(fields.path(), Some(&b"/a"[..]));
        assert_eq!(fields.forwarded_for(), Some(&b"1.1.1.1,2.2.2.2"[..]));
        assert_eq!(fields.request_id(), Some(&b"ours"[..]));
        fields.set_request_id(b"later");
        assert_eq!(fields.request_id(), Some(&b"later"[..]));
    }

    #[test]
    fn clearing_forgets_and_gives_large_memory_back() {
        let long = "x".repeat(3 * KEPT_BYTES);
        let mut fields = RequestFields::new();
        let headers = [field("user-agent", &long)];
        fields.capture(&head(None, &headers), None, None);
        assert_eq!(fields.user_agent().map(<[u8]>::len), Some(long.len()));
        fields.clear();
        assert_eq!((fields.method(), fields.user_agent()), (None, None));
        assert!(fields.bytes.capacity() <= KEPT_BYTES);
        fields.capture(&head(None, &[]), None, None);
        let capacity = fields.bytes.capacity();
        fields.clear();
        assert_eq!(fields.bytes.capacity(), capacity);
    }
}
