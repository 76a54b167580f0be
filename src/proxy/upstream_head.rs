//! The head that goes upstream, written from the parsed parts of the client's.

use std::net::IpAddr;

use crate::http::{BodyLength, HeaderField, KnownHeader, RequestHead, Scheme};
use crate::http1::encode::write_field;
use crate::http1::{self, ParsedRequest};
use crate::trace::TraceContext;

/// Where in the upstream head things stand.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Written {
    /// The value of `x-forwarded-for`.
    pub forwarded_for: std::ops::Range<usize>,
    /// The value of `x-envoy-attempt-count`.
    pub attempt_count_at: usize,
}

/// What the gateway says about the client.
#[derive(Clone, Copy, Debug)]
pub struct Forwarded<'a> {
    /// Its address, as text.
    pub peer_text: &'a [u8],
    /// Proxies in front of us that are believed.
    pub trusted_proxies: u32,
    /// `x-envoy-decorator-operation`; empty for none.
    pub operation: &'a [u8],
    /// Random, for `x-request-id`.
    pub request_id: u128,
    /// The host that goes upstream instead of the client's.
    pub authority: Option<&'a [u8]>,
    /// The path that goes upstream instead of the client's.
    pub path: Option<&'a [u8]>,
    /// `x-forwarded-client-cert`: what the client's certificate says.
    pub client_certificate: Option<&'a [u8]>,
    /// `x-envoy-expected-rq-timeout-ms`.
    pub expected_timeout_ms: Option<u64>,
    /// The place of the request in a trace; none: what the client said of it passes.
    pub trace: Option<&'a TraceContext>,
}

/// Write the head that goes upstream, from parsed parts: what is end-to-end of the client's fields
/// in their order and case, then what the gateway says (behaviour of Envoy's connection manager for
/// a request from outside).
pub fn write_upstream_head(
    out: &mut Vec<u8>,
    parsed: &ParsedRequest<'_>,
    head: &RequestHead<'_>,
    forwarded: &Forwarded<'_>,
) -> Written {
    let mut has_content_length = false;
    let mut has_host = false;
    let mut forwarded_for_lines = 0usize;
    let authority = forwarded.authority.unwrap_or(head.authority);
    out.clear();
    out.extend_from_slice(head.method);
    out.push(b' ');
    write_target(out, forwarded.path.unwrap_or(head.path), head.query);
    out.extend_from_slice(b" HTTP/1.1\r\n");
    for field in head.headers {
        match field.known {
            KnownHeader::Host => {
                has_host = true;
                write_field(out, field.name, authority);
            }
            KnownHeader::ContentLength => has_content_length = true,
            KnownHeader::TransferEncoding
            | KnownHeader::Connection
            | KnownHeader::KeepAlive
            | KnownHeader::ProxyConnection
            | KnownHeader::ProxyAuthenticate
            | KnownHeader::ProxyAuthorization
            | KnownHeader::Upgrade
            | KnownHeader::HttpSettings
            | KnownHeader::Te => {}
            // What a client from outside must not say to the inside.
            KnownHeader::XRequestId
            | KnownHeader::XForwardedClientCert
            | KnownHeader::XEnvoyPeerMetadata
            | KnownHeader::XEnvoyPeerMetadataId
            | KnownHeader::XEnvoyUpstreamServiceTime
            | KnownHeader::XEnvoyExternalAddress
            | KnownHeader::XEnvoyDecoratorOperation
            | KnownHeader::EnvoyInternal => {}
            KnownHeader::XForwardedFor => forwarded_for_lines += 1,
            // Written below: the scheme of the request, for which a client is asked only if trusted.
            KnownHeader::XForwardedProto => {}
            KnownHeader::Expect if !parsed.expect_continue => {}
            known => {
                if parsed.connection_nominated.contains(field)
                    || known == KnownHeader::Other && http1::is_proxy_field(field.name)
                    || forwarded.trace.is_some_and(|trace| trace.propagation.replaces(field, trace))
                {
                    continue;
                }
                write_field(out, field.name, field.value);
            }
        }
    }
    if !has_host {
        write_field(out, b"host", authority);
    }
    match parsed.body {
        BodyLength::Fixed(length) => write_number(out, b"content-length", length),
        BodyLength::Chunked => out.extend_from_slice(b"transfer-encoding: chunked\r\n"),
        BodyLength::Empty | BodyLength::UntilClose if has_content_length => {
            out.extend_from_slice(b"content-length: 0\r\n");
        }
        BodyLength::Empty | BodyLength::UntilClose => {}
    }
    // With a body on its way the bytes of a tunnel could not be told from it.
    if let Some(protocol) = parsed.upgrade
        && parsed.body == BodyLength::Empty
    {
        out.extend_from_slice(b"connection: upgrade\r\n");
        write_field(out, b"upgrade", protocol);
    }
    if parsed.te_trailers {
        out.extend_from_slice(b"te: trailers\r\n");
    }

    out.extend_from_slice(b"x-forwarded-for: ");
    let forwarded_for_at = out.len();
    if forwarded_for_lines > 0 {
        write_forwarded_for(out, head, forwarded.peer_text);
    } else {
        out.extend_from_slice(forwarded.peer_text);
    }
    let forwarded_for = forwarded_for_at..out.len();
    out.extend_from_slice(b"\r\n");
    write_field(out, b"x-forwarded-proto", head.scheme.as_str().as_bytes());
    if let Some(certificate) = forwarded.client_certificate {
        write_field(out, b"x-forwarded-client-cert", certificate);
    }
    out.extend_from_slice(b"x-envoy-external-address: ");
    out.extend_from_slice(external_address(head, forwarded));
    out.extend_from_slice(b"\r\nx-request-id: ");
    out.extend_from_slice(&format_request_id(forwarded.request_id));
    out.extend_from_slice(b"\r\n");
    if let Some(trace) = forwarded.trace {
        trace.propagation.write(out, trace);
    }
    if !forwarded.operation.is_empty() {
        write_field(out, b"x-envoy-decorator-operation", forwarded.operation);
    }
    if forwarded.path.is_some() {
        out.extend_from_slice(b"x-envoy-original-path: ");
        write_target(out, head.path, head.query);
        out.extend_from_slice(b"\r\n");
    }
    if forwarded.authority.is_some() {
        write_field(out, b"x-envoy-original-host", head.authority);
    }
    if let Some(timeout_ms) = forwarded.expected_timeout_ms {
        write_number(out, b"x-envoy-expected-rq-timeout-ms", timeout_ms);
    }
    out.extend_from_slice(b"x-envoy-attempt-count: ");
    let attempt_count_at = out.len();
    out.extend_from_slice(b"1\r\n\r\n");
    Written { forwarded_for, attempt_count_at }
}

/// Path and query.
pub fn write_target(out: &mut Vec<u8>, path: &[u8], query: Option<&[u8]>) {
    out.extend_from_slice(path);
    if let Some(query) = query {
        out.push(b'?');
        out.extend_from_slice(query);
    }
}

/// The value of `x-forwarded-for` that goes upstream: the client's, then its address.
pub fn write_forwarded_for(out: &mut Vec<u8>, head: &RequestHead<'_>, peer_text: &[u8]) {
    for value in forwarded_for_lines_of(head) {
        out.extend_from_slice(value);
        out.push(b',');
    }
    out.extend_from_slice(peer_text);
}

fn forwarded_for_lines_of<'h>(
    head: &'h RequestHead<'_>,
) -> impl DoubleEndedIterator<Item = &'h [u8]> {
    head.headers
        .iter()
        .filter(|field| field.known == KnownHeader::XForwardedFor && !field.value.is_empty())
        .map(|field| field.value)
}

/// The scheme of a request: that of its connection, or with trusted proxies in front what they say
/// (behaviour 7.1). Matches, redirects and the upstream all see this one.
pub fn scheme(head: &RequestHead<'_>, trusted_proxies: u32) -> Scheme {
    if trusted_proxies == 0 {
        return head.scheme;
    }
    let is_proto = |field: &&HeaderField<'_>| field.known == KnownHeader::XForwardedProto;
    match head.headers.iter().rfind(is_proto).map(|field| field.value) {
        Some(b"http") => Scheme::Http,
        Some(b"https") => Scheme::Https,
        _ => head.scheme,
    }
}

/// The address of the client that is trusted: the peer, or with N trusted proxies in front the N-th
/// entry from the right of what they sent (`gatewayTopology.numTrustedProxies`).
pub fn external_address<'a>(head: &'a RequestHead<'_>, forwarded: &Forwarded<'a>) -> &'a [u8] {
    if forwarded.trusted_proxies == 0 {
        return forwarded.peer_text;
    }
    let mut wanted = forwarded.trusted_proxies as usize;
    for line in forwarded_for_lines_of(head).rev() {
        for entry in line.rsplit(|byte| *byte == b',') {
            wanted -= 1;
            if wanted == 0 {
                let entry = entry.trim_ascii();
                let is_address =
                    std::str::from_utf8(entry).is_ok_and(|text| text.parse::<IpAddr>().is_ok());
                return if is_address { entry } else { forwarded.peer_text };
            }
        }
    }
    forwarded.peer_text
}

/// A field with a decimal value.
#[inline]
pub fn write_number(out: &mut Vec<u8>, name: &[u8], value: u64) {
    write_field(out, name, itoa::Buffer::new().format(value).as_bytes());
}

/// A random number as a version 4 UUID (RFC 9562 section 5.4).
pub fn format_request_id(random: u128) -> [u8; 36] {
    const HEX: &[u8; 16] = b"0123456789abcdef";
    let mut bytes = random.to_be_bytes();
    bytes[6] = bytes[6] & 0x0f | 0x40;
    bytes[8] = bytes[8] & 0x3f | 0x80;
    let mut text = [b'-'; 36];
    let mut at = 0;
    for (index, byte) in bytes.iter().enumerate() {
        if matches!(index, 4 | 6 | 8 | 10) {
            at += 1;
        }
        text[at] = HEX[usize::from(byte >> 4)];
        text[at + 1] = HEX[usize::from(byte & 15)];
        at += 2;
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http1::HeaderStorage;

    #[test]
    fn request_ids_are_version_4_uuids() {
        for random in [0, u128::MAX, 0x0123_4567_89ab_cdef_0123_4567_89ab_cdef] {
            let text = String::from_utf8(format_request_id(random).to_vec()).expect("ascii");
            assert_eq!(text.len(), 36);
            let dashes: Vec<usize> = text.match_indices('-').map(|(at, _)| at).collect();
            assert_eq!(dashes, [8, 13, 18, 23]);
            assert_eq!(text.as_bytes()[14], b'4');
            assert!(matches!(text.as_bytes()[19], b'8' | b'9' | b'a' | b'b'));
        }
        assert_eq!(&format_request_id(0), b"00000000-0000-4000-8000-000000000000");
    }

    fn upstream_head(request: &str, trusted_proxies: u32) -> String {
        let mut storage = HeaderStorage::new();
        let parsed = http1::parse_request(request.as_bytes(), &mut storage, Scheme::Http)
            .expect("well-formed")
            .expect("complete");
        let forwarded = Forwarded {
            peer_text: b"10.1.2.3",
            client_certificate: None,
            trusted_proxies,
            operation: b"hello.default.svc.cluster.local:80/*",
            request_id: 0,
            authority: None,
            path: None,
            expected_timeout_ms: None,
            trace: None,
        };
        let mut out = Vec::new();
        let head = RequestHead { scheme: scheme(&parsed.head, trusted_proxies), ..parsed.head };
        let written = write_upstream_head(&mut out, &parsed, &head, &forwarded);
        assert_eq!(out[written.attempt_count_at], b'1');
        assert!(out[written.forwarded_for].ends_with(b"10.1.2.3"));
        String::from_utf8(out).expect("ascii")
    }

    #[test]
    fn the_upstream_head_has_the_clients_fields_and_ours() {
        let head = upstream_head(
            "GET /a?b=c HTTP/1.1\r\nHost: hello.com\r\nAccept: */*\r\nConnection: keep-alive, x-drop\r\n\
             X-Drop: 1\r\nProxy: evil\r\nProxy-Features: a\r\nX-Envoy-Retry-On: 5xx\r\nX-Request-Id: forged\r\nTE: trailers\r\n\
             x-forwarded-for: 1.2.3.4\r\nx-forwarded-proto: https\r\n\r\n",
            0,
        );
        assert_eq!(
            head,
            "GET /a?b=c HTTP/1.1\r\nHost: hello.com\r\nAccept: */*\r\nte: trailers\r\n\
             x-forwarded-for: 1.2.3.4,10.1.2.3\r\nx-forwarded-proto: http\r\n\
             x-envoy-external-address: 10.1.2.3\r\n\
             x-request-id: 00000000-0000-4000-8000-000000000000\r\n\
             x-envoy-decorator-operation: hello.default.svc.cluster.local:80/*\r\n\
             x-envoy-attempt-count: 1\r\n\r\n"
        );
    }

    #[test]
    fn trusted_proxies_are_counted_from_the_right() {
        let request = "GET / HTTP/1.1\r\nHost: a\r\n\
             X-Forwarded-For: 56.5.6.7, 72.9.5.6, 98.1.2.3\r\nX-Forwarded-Proto: https\r\n\r\n";
        let head = upstream_head(request, 2);
        assert!(head.contains("x-envoy-external-address: 72.9.5.6\r\n"), "{head}");
        assert!(
            head.contains("x-forwarded-for: 56.5.6.7, 72.9.5.6, 98.1.2.3,10.1.2.3\r\n"),
            "{head}"
        );
        assert!(head.contains("x-forwarded-proto: https\r\n"), "{head}");
        let head = upstream_head(request, 9);
        assert!(head.contains("x-envoy-external-address: 10.1.2.3\r\n"), "{head}");
    }

    #[test]
    fn one_framing_field_decided_by_us() {
        let head = upstream_head("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n", 0);
        assert_eq!(head.matches("content-length: 0\r\n").count(), 1, "{head}");
        let head = upstream_head("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\n", 0);
        assert_eq!(head.matches("content-length: 5\r\n").count(), 1, "{head}");
        let head =
            upstream_head("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: Chunked\r\n\r\n", 0);
        assert_eq!(head.matches("transfer-encoding: chunked\r\n").count(), 1, "{head}");
        assert!(!head.contains("Chunked"), "{head}");
    }

    #[test]
    fn upgrades_are_passed_on() {
        let head = upstream_head(
            "GET /chat HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
             Sec-WebSocket-Version: 13\r\n\r\n",
            0,
        );
        assert!(head.contains("connection: upgrade\r\nupgrade: websocket\r\n"), "{head}");
        assert!(head.contains("Sec-WebSocket-Version: 13\r\n"), "{head}");
    }
}
