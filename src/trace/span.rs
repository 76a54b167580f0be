//! The record of a sampled request as the exporter gets it.

use std::net::SocketAddr;

use crate::stream_info::StreamInfo;

use super::context::TraceContext;

/// Bytes of a text of a span; what is longer is cut (Envoy's limit for paths).
pub const TEXT_BYTES_MAX: usize = 256;

/// One request. What the head said is filled in when the request comes, the rest when it ends.
#[derive(Clone, Debug)]
pub struct Span {
    /// Its place in the trace.
    pub context: TraceContext,
    /// Method.
    pub method: Box<str>,
    /// Scheme, host and path, without the query.
    pub url: Box<str>,
    /// `user-agent`; empty for none.
    pub user_agent: Box<str>,
    /// Name and value of custom attributes.
    pub tags: Vec<(Box<str>, Box<str>)>,
    /// `x-request-id` that goes upstream; empty when none does.
    pub request_id: Box<str>,
    /// What the route calls the operation; empty without a route.
    pub operation: Box<str>,
    /// Name of the route; empty for none.
    pub route: Box<str>,
    /// Name of the cluster; empty for none.
    pub cluster: Box<str>,
    /// Address of the client's connection.
    pub peer: Option<SocketAddr>,
    /// Times, sizes, status and the like.
    pub info: StreamInfo,
}

/// Text of a field, cut to [`TEXT_BYTES_MAX`], with what is no UTF-8 replaced.
pub fn bounded_text(bytes: &[u8]) -> Box<str> {
    let text = String::from_utf8_lossy(&bytes[..bytes.len().min(TEXT_BYTES_MAX)]);
    // A replacement is longer than what it replaces.
    let mut end = text.len().min(TEXT_BYTES_MAX);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text[..end].into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_bounded_and_well_formed() {
        assert_eq!(&*bounded_text(b"/a"), "/a");
        assert_eq!(&*bounded_text(b"a\xffb"), "a\u{fffd}b");
        for bytes in [vec![b'x'; 1000], vec![0xff; 1000], "ä".repeat(500).into_bytes()] {
            let text = bounded_text(&bytes);
            assert!(text.len() <= TEXT_BYTES_MAX && text.len() > TEXT_BYTES_MAX - 4);
        }
    }
}
