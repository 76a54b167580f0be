//! Status lines and the gateway's own replies.

/// The reason phrase of a status code (RFC 9110 section 15), empty for one that has none.
pub fn status_reason(status: u16) -> &'static str {
    match status {
        100 => "Continue",
        101 => "Switching Protocols",
        200 => "OK",
        201 => "Created",
        202 => "Accepted",
        204 => "No Content",
        206 => "Partial Content",
        301 => "Moved Permanently",
        302 => "Found",
        303 => "See Other",
        304 => "Not Modified",
        307 => "Temporary Redirect",
        308 => "Permanent Redirect",
        400 => "Bad Request",
        401 => "Unauthorized",
        403 => "Forbidden",
        404 => "Not Found",
        405 => "Method Not Allowed",
        408 => "Request Timeout",
        413 => "Content Too Large",
        414 => "URI Too Long",
        421 => "Misdirected Request",
        426 => "Upgrade Required",
        429 => "Too Many Requests",
        431 => "Request Header Fields Too Large",
        500 => "Internal Server Error",
        501 => "Not Implemented",
        502 => "Bad Gateway",
        503 => "Service Unavailable",
        504 => "Gateway Timeout",
        505 => "HTTP Version Not Supported",
        _ => "",
    }
}

/// `HTTP/1.1 <status> <reason>`.
#[inline]
pub fn write_status_line(out: &mut Vec<u8>, status: u16, reason: &[u8]) {
    out.extend_from_slice(b"HTTP/1.1 ");
    out.extend_from_slice(itoa::Buffer::new().format(status).as_bytes());
    out.push(b' ');
    out.extend_from_slice(reason);
    out.extend_from_slice(b"\r\n");
}

fn write_field(out: &mut Vec<u8>, name: &str, value: &[u8]) {
    out.extend_from_slice(name.as_bytes());
    out.extend_from_slice(b": ");
    out.extend_from_slice(value);
    out.extend_from_slice(b"\r\n");
}

/// A whole reply of the gateway: `text/plain` when there is a body. For `HEAD` the body's length is
/// told and the body left out. `connection` is the value of `Connection`, if it is sent.
pub fn write_local_reply(
    out: &mut Vec<u8>,
    status: u16,
    body: &str,
    is_head: bool,
    connection: Option<&str>,
    date: &[u8],
) {
    write_status_line(out, status, status_reason(status).as_bytes());
    let length = itoa::Buffer::new().format(body.len()).to_owned();
    write_field(out, "content-length", length.as_bytes());
    if !body.is_empty() {
        write_field(out, "content-type", b"text/plain");
    }
    write_end(out, connection, date);
    if !is_head {
        out.extend_from_slice(body.as_bytes());
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
    write_field(out, "content-type", b"application/grpc");
    write_field(out, "grpc-status", itoa::Buffer::new().format(grpc_status).as_bytes());
    if !message.is_empty() {
        write_field(out, "grpc-message", message.as_bytes());
    }
    write_field(out, "content-length", b"0");
    write_end(out, connection, date);
}

fn write_end(out: &mut Vec<u8>, connection: Option<&str>, date: &[u8]) {
    write_field(out, "date", date);
    write_field(out, "server", b"istio-envoy");
    if let Some(connection) = connection {
        write_field(out, "connection", connection.as_bytes());
    }
    out.extend_from_slice(b"\r\n");
}
