//! Request heads from HTTP/2 to HTTP/1.1 and back (RFC 9113 section 8.3, RFC 8441).

use bytes::Bytes;
use data_encoding::BASE64;
use h2::ext::Protocol;
use http::header::{CONTENT_LENGTH, COOKIE, HOST, TE};
use http::request::Parts;
use http::uri::{self, Authority, PathAndQuery, Scheme};
use http::{HeaderName, HeaderValue, Method, Request, Uri};

use super::fields;
use crate::http::{HeaderField, KnownHeader};
use crate::http1::encode::write_field;
use crate::http1::{ParsedRequest, is_hop_by_hop};

/// A request that breaks RFC 9113 section 8: its stream is reset with PROTOCOL_ERROR.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Malformed {
    #[error("`:path` is missing or does not begin with a slash")]
    Path,
    #[error("`:authority` and `host` name different hosts, or there are several")]
    Host,
    #[error("`te` says something else than `trailers`")]
    Te,
    #[error("`content-length` does not fit the body, or is there twice")]
    ContentLength,
    #[error("a field concerns one connection only")]
    ConnectionField,
    #[error("`:protocol` is no token")]
    Protocol,
}

/// What a request head came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Http1Request {
    /// Are the bytes behind it chunks?
    pub(super) chunked: bool,
    /// Does it ask for a tunnel?
    pub(super) tunnel: bool,
    /// Is it `HEAD`?
    pub(super) is_head: bool,
}

/// Write the HTTP/1.1 head of `parts`. `ended`: no DATA follows. `key`: of a WebSocket handshake, which
/// HTTP/2 does not have. The head is not yet checked as one of HTTP/1.1: the engine does that.
pub(super) fn write_http1(
    parts: &Parts,
    ended: bool,
    key: [u8; 16],
    out: &mut Vec<u8>,
) -> Result<Http1Request, Malformed> {
    let protocol = parts.extensions.get::<Protocol>();
    let is_connect = parts.method == Method::CONNECT;
    let authority = authority(parts)?;
    match protocol {
        Some(protocol) if !is_token(protocol.as_ref()) => return Err(Malformed::Protocol),
        Some(_) => out.extend_from_slice(b"GET"),
        None => out.extend_from_slice(parts.method.as_str().as_bytes()),
    }
    out.push(b' ');
    if is_connect && protocol.is_none() {
        out.extend_from_slice(authority.unwrap_or_default());
    } else {
        let path = parts.uri.path_and_query().ok_or(Malformed::Path)?.as_str();
        let is_asterisk = path == "*" && parts.method == Method::OPTIONS;
        if !path.starts_with('/') && !is_asterisk {
            return Err(Malformed::Path);
        }
        out.extend_from_slice(path.as_bytes());
    }
    out.extend_from_slice(b" HTTP/1.1\r\n");
    if let Some(authority) = authority {
        write_field(out, b"host", authority);
    }
    let mut has_length = false;
    let mut cookies = 0;
    for (name, value) in &parts.headers {
        let value = value.as_bytes();
        if *name == HOST {
            continue;
        } else if *name == COOKIE {
            cookies += 1;
            continue;
        } else if *name == CONTENT_LENGTH {
            let is_none = value.iter().all(|byte| *byte == b'0');
            if has_length || ended && !is_none || protocol.is_some() {
                return Err(Malformed::ContentLength);
            }
            has_length = true;
        } else if *name == TE {
            if !value.eq_ignore_ascii_case(b"trailers") {
                return Err(Malformed::Te);
            }
        } else if is_of_connection(name) {
            return Err(Malformed::ConnectionField);
        }
        write_field(out, name.as_str().as_bytes(), value);
    }
    if cookies > 0 {
        // They may have been sent apart to be compressed (RFC 9113 section 8.2.3).
        out.extend_from_slice(b"cookie: ");
        for (index, crumb) in parts.headers.get_all(COOKIE).iter().enumerate() {
            out.extend_from_slice(if index > 0 { b"; " } else { b"" });
            out.extend_from_slice(crumb.as_bytes());
        }
        out.extend_from_slice(b"\r\n");
    }
    let mut chunked = false;
    if let Some(protocol) = protocol {
        out.extend_from_slice(b"connection: upgrade\r\n");
        write_field(out, b"upgrade", protocol.as_ref());
        if protocol.as_str().eq_ignore_ascii_case("websocket") {
            write_field(out, b"sec-websocket-key", BASE64.encode(&key).as_bytes());
        }
    } else if !has_length && !ended && !is_connect {
        chunked = true;
        out.extend_from_slice(b"transfer-encoding: chunked\r\n");
    }
    out.extend_from_slice(b"\r\n");
    let is_head = parts.method == Method::HEAD;
    Ok(Http1Request { chunked, tunnel: protocol.is_some(), is_head })
}

/// The host that a request is for: `:authority`, else `host`.
fn authority(parts: &Parts) -> Result<Option<&[u8]>, Malformed> {
    let mut hosts = parts.headers.get_all(HOST).iter().map(HeaderValue::as_bytes);
    let host = hosts.next();
    if hosts.next().is_some() {
        return Err(Malformed::Host);
    }
    match (parts.uri.authority().map(|authority| authority.as_str().as_bytes()), host) {
        (Some(authority), Some(host)) if !authority.eq_ignore_ascii_case(host) => {
            Err(Malformed::Host)
        }
        (Some(authority), _) => Ok(Some(authority)),
        (None, host) => Ok(host),
    }
}

/// Fields that HTTP/2 does not have (RFC 9113 section 8.2.2). `h2` refuses most of them itself.
fn is_of_connection(name: &HeaderName) -> bool {
    matches!(
        name.as_str(),
        "connection"
            | "keep-alive"
            | "proxy-connection"
            | "transfer-encoding"
            | "upgrade"
            | "http2-settings"
    )
}

fn is_token(text: &[u8]) -> bool {
    !text.is_empty()
        && text.iter().all(|byte| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(byte))
}

/// Why a request cannot be sent over HTTP/2.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Untranslatable {
    #[error("the method is none of HTTP/2")]
    Method,
    #[error("the target or the host cannot be written as `:path` and `:authority`")]
    Target,
    #[error("a field cannot be written in HTTP/2")]
    Field,
}

/// Append a path or a query. Bytes that no URI has (RFC 3986 section 2) but HTTP/1 clients send all the
/// same become `%XX`, which means the same: a request must not fail on its way for them.
fn push_escaped(out: &mut Vec<u8>, text: &[u8]) {
    let is_plain = |byte: &u8| !matches!(byte, b'<' | b'>' | b'`' | b'#' | ..=b' ' | 0x7f..);
    if text.iter().all(is_plain) {
        return out.extend_from_slice(text);
    }
    for byte in text {
        match byte {
            b'<' | b'>' | b'`' | b'#' | ..=b' ' | 0x7f.. => {
                let digit = |value: u8| b"0123456789ABCDEF"[usize::from(value)];
                out.extend_from_slice(&[b'%', digit(byte >> 4), digit(byte & 15)]);
            }
            byte => out.push(*byte),
        }
    }
}

/// The HTTP/2 head of a request that the engine wrote. An upgrade becomes an extended CONNECT.
pub(super) fn from_http1(parsed: &ParsedRequest<'_>) -> Result<Request<()>, Untranslatable> {
    let head = &parsed.head;
    // The scheme is the client's, as Envoy sends it.
    let is_proto = |field: &&HeaderField<'_>| field.known == KnownHeader::XForwardedProto;
    let is_https = head.headers.iter().find(is_proto).is_some_and(|field| field.value == b"https");
    let scheme = if is_https { Scheme::HTTPS } else { Scheme::HTTP };
    let method = match parsed.upgrade {
        Some(_) => Method::CONNECT,
        None => Method::from_bytes(head.method).map_err(|_| Untranslatable::Method)?,
    };
    let mut request = Request::new(());
    *request.method_mut() = method;
    *request.version_mut() = http::Version::HTTP_2;
    let tunnel = parsed.upgrade.is_some();
    let is_kept =
        |field: &HeaderField<'_>| !(is_left_out(field) || tunnel && is_of_handshake(field.name));
    let mut target = Vec::with_capacity(head.path.len() + 1 + head.query.map_or(0, <[u8]>::len));
    push_escaped(&mut target, head.path);
    if let Some(query) = head.query {
        target.push(b'?');
        push_escaped(&mut target, query);
    }
    // Apart from each other: the encoder remembers the host.
    let authority = Bytes::copy_from_slice(head.authority);
    *request.uri_mut() =
        uri(scheme, authority, target.into()).map_err(|_| Untranslatable::Target)?;
    let mut headers = fields::map(head.headers, 1, is_kept).map_err(|_| Untranslatable::Field)?;
    if parsed.te_trailers {
        headers.insert(TE, HeaderValue::from_static("trailers"));
    }
    *request.headers_mut() = headers;
    if let Some(protocol) = parsed.upgrade {
        let protocol = std::str::from_utf8(protocol).map_err(|_| Untranslatable::Field)?;
        request.extensions_mut().insert(Protocol::from(protocol));
    }
    Ok(request)
}

/// The parts of the target as the crate wants them.
fn uri(scheme: Scheme, authority: Bytes, path_and_query: Bytes) -> Result<Uri, http::Error> {
    let mut parts = uri::Parts::default();
    parts.scheme = Some(scheme);
    parts.authority = Some(Authority::from_maybe_shared(authority)?);
    parts.path_and_query = Some(PathAndQuery::from_maybe_shared(path_and_query)?);
    Ok(Uri::from_parts(parts)?)
}

/// `Sec-WebSocket-Key` has no meaning in HTTP/2 (RFC 8441 section 5).
fn is_of_handshake(name: &[u8]) -> bool {
    name.eq_ignore_ascii_case(b"sec-websocket-key")
}

/// Fields of HTTP/1.1 that stand elsewhere in HTTP/2, or nowhere.
fn is_left_out(field: &HeaderField<'_>) -> bool {
    field.known == KnownHeader::Host || is_hop_by_hop(field)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http1::{HeaderStorage, parse_request};

    fn request(method: &str, uri: &str, fields: &[(&str, &str)]) -> Parts {
        let mut builder = Request::builder().method(method).uri(uri);
        for (name, value) in fields {
            builder = builder.header(*name, *value);
        }
        builder.body(()).expect("a request").into_parts().0
    }

    fn text(parts: &Parts, ended: bool) -> Result<String, Malformed> {
        let mut out = Vec::new();
        write_http1(parts, ended, [0; 16], &mut out)?;
        Ok(String::from_utf8(out).expect("text"))
    }

    #[test]
    fn heads_become_text() {
        let fields = [("cookie", "a=1"), ("x", "1"), ("cookie", "b=2"), ("te", "trailers")];
        let get = request("GET", "http://hello.com/a?b", &fields);
        assert_eq!(
            text(&get, true).expect("well-formed"),
            "GET /a?b HTTP/1.1\r\nhost: hello.com\r\nx: 1\r\nte: trailers\r\ncookie: a=1; b=2\r\n\r\n"
        );
        let post = request("POST", "http://hello.com/", &[]);
        assert_eq!(
            text(&post, false).expect("well-formed"),
            "POST / HTTP/1.1\r\nhost: hello.com\r\ntransfer-encoding: chunked\r\n\r\n"
        );
        let sized = request("POST", "http://hello.com/", &[("content-length", "5")]);
        assert!(!text(&sized, false).expect("well-formed").contains("chunked"));
        let mut tunnel = request("CONNECT", "http://hello.com/chat", &[]);
        tunnel.extensions.insert(Protocol::from_static("websocket"));
        assert_eq!(
            text(&tunnel, false).expect("well-formed"),
            "GET /chat HTTP/1.1\r\nhost: hello.com\r\nconnection: upgrade\r\nupgrade: websocket\r\n\
             sec-websocket-key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"
        );
    }

    #[test]
    fn what_is_malformed_does_not() {
        let hello = "http://hello.com/";
        for (fields, wanted) in [
            (&[("host", "other.com")][..], Malformed::Host),
            (&[("te", "gzip")], Malformed::Te),
            (&[("content-length", "5")], Malformed::ContentLength),
            (&[("content-length", "0"), ("content-length", "0")], Malformed::ContentLength),
            (&[("connection", "close")], Malformed::ConnectionField),
            (&[("transfer-encoding", "chunked")], Malformed::ConnectionField),
            (&[("http2-settings", "AA")], Malformed::ConnectionField),
        ] {
            assert_eq!(text(&request("GET", hello, fields), true), Err(wanted), "{fields:?}");
        }
        assert_eq!(text(&request("GET", "*", &[("host", "a")]), true), Err(Malformed::Path));
        assert!(text(&request("OPTIONS", "*", &[("host", "a")]), true).is_ok());
        let mut tunnel = request("CONNECT", hello, &[]);
        tunnel.extensions.insert(Protocol::from("web socket"));
        assert_eq!(text(&tunnel, false), Err(Malformed::Protocol));
    }

    fn from_text(text: &str) -> Request<()> {
        let mut storage = HeaderStorage::new();
        let parsed = parse_request(text.as_bytes(), &mut storage, crate::http::Scheme::Http);
        from_http1(&parsed.expect("well-formed").expect("complete")).expect("translatable")
    }

    #[test]
    fn text_becomes_a_head() {
        let request = from_text(
            "POST /a?b HTTP/1.1\r\nHost: hello.com\r\nX-Own: 1\r\nx-forwarded-proto: https\r\n\
             te: trailers\r\ntransfer-encoding: chunked\r\n\r\n",
        );
        assert_eq!(request.method(), "POST");
        assert_eq!(request.uri(), "https://hello.com/a?b");
        let names: Vec<_> = request.headers().keys().map(|name| name.as_str()).collect();
        assert_eq!(names, ["x-own", "x-forwarded-proto", "te"]);
        let odd = from_text("GET /<a>`{b}|\"\\^?c=<`>&{d}?[e] HTTP/1.1\r\nHost: hello.com\r\n\r\n");
        let target = odd.uri().path_and_query().map(http::uri::PathAndQuery::as_str);
        assert_eq!(target, Some("/%3Ca%3E%60{b}|\"\\^?c=%3C%60%3E&{d}?[e]"));
        let tunnel = from_text(
            "GET /chat HTTP/1.1\r\nHost: hello.com\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\
             Sec-WebSocket-Key: a\r\nSec-WebSocket-Version: 13\r\n\r\n",
        );
        assert_eq!(tunnel.method(), "CONNECT");
        let protocol = tunnel.extensions().get::<Protocol>().map(Protocol::as_str);
        assert_eq!(protocol, Some("websocket"));
        assert_eq!(tunnel.headers().len(), 1);
    }
}
