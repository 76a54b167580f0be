//! Parsed heads: views into the receive buffer.

use super::{KnownHeader, grpc};

/// HTTP version of a message on the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Version {
    /// HTTP/1.0
    Http10,
    /// HTTP/1.1
    Http11,
    /// HTTP/2
    Http2,
}

impl Version {
    /// The name as Envoy's `%PROTOCOL%` prints it.
    pub fn as_str(self) -> &'static str {
        match self {
            Version::Http10 => "HTTP/1.0",
            Version::Http11 => "HTTP/1.1",
            Version::Http2 => "HTTP/2",
        }
    }
}

/// Scheme of a request, from the connection that it came on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scheme {
    /// Clear text.
    Http,
    /// TLS.
    Https,
}

impl Scheme {
    /// `http` or `https`.
    pub fn as_str(self) -> &'static str {
        match self {
            Scheme::Http => "http",
            Scheme::Https => "https",
        }
    }
}

/// How long a message body is, decided once while parsing (RFC 9112 section 6.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BodyLength {
    /// No body at all.
    Empty,
    /// Exactly this many bytes, more than zero.
    Fixed(u64),
    /// Chunked transfer coding.
    Chunked,
    /// Until the sender closes (responses only).
    UntilClose,
}

/// One header field as received. `name` keeps its case; `value` has no outer white space.
#[derive(Clone, Copy, Debug)]
pub struct HeaderField<'b> {
    /// Field name, token characters only.
    pub name: &'b [u8],
    /// Field value without leading and trailing white space.
    pub value: &'b [u8],
    /// The name as an enum, when the gateway compares it.
    pub known: KnownHeader,
}

/// A request head: what the router and the filters read.
#[derive(Clone, Copy, Debug)]
pub struct RequestHead<'b> {
    /// Method, a token.
    pub method: &'b [u8],
    /// Path of the request target without query and fragment; `*` for `OPTIONS *`.
    pub path: &'b [u8],
    /// Query without the `?`, if there is one.
    pub query: Option<&'b [u8]>,
    /// Host and port as sent (`Host`, or the authority of an absolute-form target).
    pub authority: &'b [u8],
    /// Scheme of the connection.
    pub scheme: Scheme,
    /// Version on the wire.
    pub version: Version,
    /// The fields, in order, `Host` included.
    pub headers: &'b [HeaderField<'b>],
}

impl RequestHead<'_> {
    /// Is it a gRPC request: is its content-type `application/grpc`, `application/grpc+proto`, …?
    #[inline]
    pub fn is_grpc(&self) -> bool {
        let is_content_type = |field: &&HeaderField<'_>| field.known == KnownHeader::ContentType;
        self.headers.iter().rfind(is_content_type).is_some_and(|field| grpc::is_grpc(field.value))
    }
}

/// The first value of `name` in a query; empty for a key without `=`.
pub fn first_query_value<'q>(query: &'q [u8], name: &[u8]) -> Option<&'q [u8]> {
    query.split(|byte| *byte == b'&').find_map(|pair| match memchr::memchr(b'=', pair) {
        Some(equals) => (&pair[..equals] == name).then(|| &pair[equals + 1..]),
        None => (pair == name).then_some(&[][..]),
    })
}

/// A response head from an upstream.
#[derive(Clone, Copy, Debug)]
pub struct ResponseHead<'b> {
    /// Status code, 100..=999.
    pub status: u16,
    /// Reason phrase, possibly empty.
    pub reason: &'b [u8],
    /// Version on the wire.
    pub version: Version,
    /// The fields, in order.
    pub headers: &'b [HeaderField<'b>],
}
