//! Writing: status lines and the gateway's own replies.

macro_rules! reasons {
    ($($code:literal $reason:literal)*) => {
        /// The reason phrase registered for `code` (RFC 9110 section 15 and the IANA registry);
        /// empty if there is none.
        pub fn status_reason(code: u16) -> &'static str {
            match code { $($code => $reason,)* _ => "" }
        }
    };
}

reasons! {
    100 "Continue" 101 "Switching Protocols" 102 "Processing" 103 "Early Hints"
    200 "OK" 201 "Created" 202 "Accepted" 203 "Non-Authoritative Information" 204 "No Content"
    205 "Reset Content" 206 "Partial Content" 207 "Multi-Status" 208 "Already Reported" 226 "IM Used"
    300 "Multiple Choices" 301 "Moved Permanently" 302 "Found" 303 "See Other" 304 "Not Modified"
    305 "Use Proxy" 307 "Temporary Redirect" 308 "Permanent Redirect"
    400 "Bad Request" 401 "Unauthorized" 402 "Payment Required" 403 "Forbidden" 404 "Not Found"
    405 "Method Not Allowed" 406 "Not Acceptable" 407 "Proxy Authentication Required"
    408 "Request Timeout" 409 "Conflict" 410 "Gone" 411 "Length Required"
    412 "Precondition Failed" 413 "Content Too Large" 414 "URI Too Long"
    415 "Unsupported Media Type" 416 "Range Not Satisfiable" 417 "Expectation Failed"
    421 "Misdirected Request" 422 "Unprocessable Content" 423 "Locked" 424 "Failed Dependency"
    425 "Too Early" 426 "Upgrade Required" 428 "Precondition Required" 429 "Too Many Requests"
    431 "Request Header Fields Too Large" 451 "Unavailable For Legal Reasons"
    500 "Internal Server Error" 501 "Not Implemented" 502 "Bad Gateway" 503 "Service Unavailable"
    504 "Gateway Timeout" 505 "HTTP Version Not Supported" 506 "Variant Also Negotiates"
    507 "Insufficient Storage" 508 "Loop Detected" 511 "Network Authentication Required"
}

/// Write `HTTP/1.1 status reason CRLF`. `status` is 100..=999; `reason` holds no control bytes.
#[inline]
pub fn write_status_line(out: &mut Vec<u8>, status: u16, reason: &[u8]) {
    if status == 200 && reason == b"OK" {
        out.extend_from_slice(b"HTTP/1.1 200 OK\r\n");
        return;
    }
    out.extend_from_slice(b"HTTP/1.1 ");
    out.extend_from_slice(itoa::Buffer::new().format(status).as_bytes());
    out.push(b' ');
    out.extend_from_slice(reason);
    out.extend_from_slice(b"\r\n");
}

/// `name: value` and the line's end.
#[inline]
pub fn write_field(out: &mut Vec<u8>, name: &[u8], value: &[u8]) {
    out.reserve(name.len() + value.len() + 4);
    out.extend_from_slice(name);
    out.extend_from_slice(b": ");
    out.extend_from_slice(value);
    out.extend_from_slice(b"\r\n");
}

/// A whole reply of the gateway: `text/plain` when there is a body. For `HEAD` the body's length is
/// told and the body left out; 1xx, 204 and 304 have neither. `connection` is the value of
/// `Connection`, if it is sent.
pub fn write_local_reply(
    out: &mut Vec<u8>,
    status: u16,
    body: &str,
    is_head: bool,
    connection: Option<&str>,
    date: &[u8],
) {
    write_configured_reply(out, status, None, body.as_bytes(), is_head, connection, date);
}

/// The reply of a route that is configured to answer itself: a redirect (`location`) or a fixed
/// response with a `text/plain` body.
pub fn write_configured_reply(
    out: &mut Vec<u8>,
    status: u16,
    location: Option<&[u8]>,
    body: &[u8],
    is_head: bool,
    connection: Option<&str>,
    date: &[u8],
) {
    write_status_line(out, status, status_reason(status).as_bytes());
    if let Some(location) = location {
        write_field(out, b"location", location);
    }
    let has_body = !matches!(status, 100..=199 | 204 | 304);
    if has_body {
        write_field(out, b"content-length", itoa::Buffer::new().format(body.len()).as_bytes());
        if !body.is_empty() {
            write_field(out, b"content-type", b"text/plain");
        }
    }
    write_end(out, connection, date);
    if has_body && !is_head {
        out.extend_from_slice(body);
    }
}

/// A reply to a gRPC request: HTTP 200 with the status in the head (trailers-only).
pub fn write_grpc_reply(
    out: &mut Vec<u8>,
    grpc_status: u8,
    message: &str,
    connection: Option<&str>,
    date: &[u8],
) {
    write_status_line(out, 200, b"OK");
    write_field(out, b"content-type", b"application/grpc");
    write_field(out, b"grpc-status", itoa::Buffer::new().format(grpc_status).as_bytes());
    if !message.is_empty() {
        write_field(out, b"grpc-message", message.as_bytes());
    }
    write_field(out, b"content-length", b"0");
    write_end(out, connection, date);
}

fn write_end(out: &mut Vec<u8>, connection: Option<&str>, date: &[u8]) {
    write_field(out, b"date", date);
    write_field(out, b"server", b"istio-envoy");
    if let Some(connection) = connection {
        write_field(out, b"connection", connection.as_bytes());
    }
    out.extend_from_slice(b"\r\n");
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reply(status: u16, body: &str, is_head: bool, connection: Option<&str>) -> String {
        let mut out = Vec::new();
        write_local_reply(&mut out, status, body, is_head, connection, b"now");
        String::from_utf8(out).expect("text")
    }

    #[test]
    fn local_replies_are_whole_messages() {
        assert_eq!(
            reply(503, "no healthy upstream", false, Some("close")),
            "HTTP/1.1 503 Service Unavailable\r\ncontent-length: 19\r\n\
             content-type: text/plain\r\ndate: now\r\nserver: istio-envoy\r\n\
             connection: close\r\n\r\nno healthy upstream"
        );
        assert_eq!(
            reply(404, "", false, None),
            "HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\ndate: now\r\n\
             server: istio-envoy\r\n\r\n"
        );
        assert!(reply(403, "denied", true, None).contains("content-length: 6\r\n"));
        assert!(reply(403, "denied", true, None).ends_with("\r\n\r\n"));
        for status in [103, 204, 304] {
            let text = reply(status, "none", false, None);
            assert!(!text.contains("content-") && text.ends_with("\r\n\r\n"), "{text}");
        }
    }

    #[test]
    fn grpc_replies_have_the_status_in_the_head() {
        let mut out = Vec::new();
        write_grpc_reply(&mut out, 14, "gone", None, b"now");
        assert_eq!(
            String::from_utf8(out).expect("text"),
            "HTTP/1.1 200 OK\r\ncontent-type: application/grpc\r\ngrpc-status: 14\r\n\
             grpc-message: gone\r\ncontent-length: 0\r\ndate: now\r\n\
             server: istio-envoy\r\n\r\n"
        );
    }

    #[test]
    fn status_lines() {
        let mut out = Vec::new();
        write_status_line(&mut out, 200, b"OK");
        write_status_line(&mut out, 200, b"Fine");
        write_status_line(&mut out, 299, status_reason(299).as_bytes());
        assert_eq!(out, b"HTTP/1.1 200 OK\r\nHTTP/1.1 200 Fine\r\nHTTP/1.1 299 \r\n");
    }
}
