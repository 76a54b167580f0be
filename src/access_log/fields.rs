//! What the line needs of the request head, copied while the head is there: the line is written
//! after the last response byte, when the receive buffer has long been used again.

use crate::http::{KnownHeader, RequestHead};

/// Memory that [`RequestFields::clear`] keeps; a longer head's is given back.
const KEPT_BYTES: usize = 2048;

/// A piece of the buffer, or nothing.
#[derive(Clone, Copy, Debug)]
struct Span {
    start: u32,
    end: u32,
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
        *self = RequestFields { bytes, ..RequestFields::new() };
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
        let lines = head.headers.iter().filter(|field| field.known == KnownHeader::XForwardedFor);
        for field in lines {
            if self.forwarded_for.start == Span::NONE.start {
                self.forwarded_for = self.push(field.value);
            } else {
                self.bytes.push(b',');
                self.bytes.extend_from_slice(field.value);
                self.forwarded_for.end = self.bytes.len() as u32;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::{HeaderField, Scheme, Version};

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
