//! Response heads from HTTP/1.1 to HTTP/2 and back (RFC 9113 section 8.3.2, RFC 8441).

use http::header::{CONTENT_LENGTH, TRANSFER_ENCODING};
use http::{Response, StatusCode};

use super::fields;
use crate::http::{BodyLength, HeaderField, KnownHeader};
use crate::http1::encode::{status_reason, write_field, write_status_line};
use crate::http1::{ParsedResponse, is_hop_by_hop};

/// The head cannot be written in HTTP/2.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the response head cannot be written in HTTP/2")]
pub(super) struct Untranslatable;

/// The HTTP/2 head of a response that the engine wrote. A 101 becomes the 200 of an extended CONNECT.
pub(super) fn from_http1(parsed: &ParsedResponse<'_>) -> Result<Response<()>, Untranslatable> {
    let head = &parsed.head;
    let switching = head.status == 101;
    let status = if switching { 200 } else { head.status };
    let mut response = Response::new(());
    *response.status_mut() = StatusCode::from_u16(status).map_err(|_| Untranslatable)?;
    // A head that says how a call ended has nothing behind it, and gRPC clients want no length.
    let ends_call = parsed.body == BodyLength::Empty
        && head.headers.iter().any(|field| field.known == KnownHeader::GrpcStatus);
    let is_kept = |field: &HeaderField<'_>| {
        !(is_hop_by_hop(field)
            || field.known == KnownHeader::ContentLength && (ends_call || switching)
            || switching && field.name.eq_ignore_ascii_case(b"sec-websocket-accept"))
    };
    *response.headers_mut() = fields::map(head.headers, 0, is_kept).map_err(|_| Untranslatable)?;
    Ok(response)
}

/// What stands behind a response that arrived, and what of HTTP/1.1 its head must say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Http1Response<'a> {
    /// No DATA follows.
    pub(super) ended: bool,
    /// The request was `HEAD`.
    pub(super) is_head: bool,
    /// The tunnel that was asked for: its protocol, and the proof for a WebSocket client.
    pub(super) tunnel: Option<(&'a [u8], Option<&'a [u8]>)>,
}

/// Write the HTTP/1.1 head of `response`. True: its body is in chunks.
pub(super) fn write_http1(
    response: &Response<()>,
    of: &Http1Response<'_>,
    out: &mut Vec<u8>,
) -> bool {
    let status = response.status().as_u16();
    let switching = of.tunnel.is_some() && response.status().is_success();
    let status = if switching { 101 } else { status };
    write_status_line(out, status, status_reason(status).as_bytes());
    let mut has_length = false;
    for (name, value) in response.headers() {
        if *name == TRANSFER_ENCODING || *name == CONTENT_LENGTH && switching {
            continue;
        }
        has_length |= *name == CONTENT_LENGTH;
        write_field(out, name.as_str().as_bytes(), value.as_bytes());
    }
    let mut chunked = false;
    if let Some((protocol, accept)) = of.tunnel.filter(|_| switching) {
        out.extend_from_slice(b"connection: upgrade\r\n");
        write_field(out, b"upgrade", protocol);
        if let Some(accept) = accept {
            write_field(out, b"sec-websocket-accept", accept);
        }
    } else if status >= 200 && !has_length && !of.is_head && !matches!(status, 204 | 304) {
        if of.ended {
            out.extend_from_slice(b"content-length: 0\r\n");
        } else {
            chunked = true;
            out.extend_from_slice(b"transfer-encoding: chunked\r\n");
        }
    }
    if status >= 200 {
        // A stream serves one request.
        out.extend_from_slice(b"connection: close\r\n");
    }
    out.extend_from_slice(b"\r\n");
    chunked
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http1::{HeaderStorage, parse_response};

    fn from_text(text: &str, is_head: bool) -> Response<()> {
        let mut storage = HeaderStorage::new();
        let parsed = parse_response(text.as_bytes(), &mut storage, is_head);
        from_http1(&parsed.expect("well-formed").expect("complete")).expect("translatable")
    }

    #[test]
    fn text_becomes_a_head() {
        let response = from_text(
            "HTTP/1.1 200 OK\r\nX-Own: 1\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n",
            false,
        );
        assert_eq!(response.headers().len(), 1);
        let call =
            from_text("HTTP/1.1 200 OK\r\ngrpc-status: 5\r\nContent-Length: 0\r\n\r\n", false);
        assert!(!call.headers().contains_key("content-length"));
        let head = from_text("HTTP/1.1 200 OK\r\nContent-Length: 7\r\n\r\n", true);
        assert_eq!(head.headers()["content-length"], "7");
        let switch = from_text(
            "HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\
             Sec-WebSocket-Accept: a\r\n\r\n",
            false,
        );
        assert_eq!((switch.status().as_u16(), switch.headers().len()), (200, 0));
    }

    fn text(response: Response<()>, of: &Http1Response<'_>) -> (String, bool) {
        let mut out = Vec::new();
        let chunked = write_http1(&response, of, &mut out);
        (String::from_utf8(out).expect("text"), chunked)
    }

    #[test]
    fn heads_become_text() {
        let of = Http1Response { ended: false, is_head: false, tunnel: None };
        let (head, chunked) = text(Response::new(()), &of);
        assert!(chunked && head.contains("transfer-encoding: chunked\r\n"), "{head}");
        let (head, chunked) = text(Response::new(()), &Http1Response { ended: true, ..of });
        assert!(!chunked && head.contains("content-length: 0\r\n"), "{head}");
        let (head, chunked) = text(Response::new(()), &Http1Response { is_head: true, ..of });
        assert_eq!(
            (head.as_str(), chunked),
            ("HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n", false)
        );
        let sized = Response::builder().header("content-length", "3").body(()).expect("one");
        assert!(!text(sized, &of).1);
        let interim = Response::builder().status(103).header("link", "a").body(()).expect("one");
        assert_eq!(text(interim, &of).0, "HTTP/1.1 103 Early Hints\r\nlink: a\r\n\r\n");
        let tunnel = Http1Response { tunnel: Some((b"websocket", Some(b"proof"))), ..of };
        assert_eq!(
            text(Response::new(()), &tunnel).0,
            "HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: websocket\r\n\
             sec-websocket-accept: proof\r\n\r\n"
        );
        let refused = Response::builder().status(403).body(()).expect("one");
        assert!(text(refused, &tunnel).0.starts_with("HTTP/1.1 403 "));
    }
}
