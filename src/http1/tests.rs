//! Whole heads: every row of the contract for request and response framing.

use super::*;
use crate::http::{BodyLength, Scheme, Version};
use crate::limits::*;

mod properties;

fn request<T>(
    bytes: &[u8],
    read: impl FnOnce(&ParsedRequest<'_>) -> T,
) -> Result<Option<T>, RequestError> {
    let mut storage = HeaderStorage::new();
    parse_request(bytes, &mut storage, Scheme::Http).map(|parsed| parsed.as_ref().map(read))
}

fn accepted<T>(bytes: &[u8], read: impl FnOnce(&ParsedRequest<'_>) -> T) -> T {
    match request(bytes, read) {
        Ok(Some(value)) => value,
        other => panic!("{:?}: {:?}", String::from_utf8_lossy(bytes), other.map(|_| ())),
    }
}

fn response<T>(
    bytes: &[u8],
    request_is_head: bool,
    read: impl FnOnce(&ParsedResponse<'_>) -> T,
) -> Result<Option<T>, ResponseError> {
    let mut storage = HeaderStorage::new();
    parse_response(bytes, &mut storage, request_is_head).map(|parsed| parsed.as_ref().map(read))
}

/// A request whose field lines are `lines`, each with its line end, behind a good `Host`.
fn with(lines: &str) -> Vec<u8> {
    format!("POST /p HTTP/1.1\r\nHost: a.example\r\n{lines}\r\n").into_bytes()
}

/// What must happen: the body length of an accepted head, or the reason for a refusal.
type Row<'a> = (&'a str, Vec<u8>, Result<BodyLength, RequestError>);

fn check(rows: Vec<Row<'_>>) {
    for (what, bytes, expected) in rows {
        let text = String::from_utf8_lossy(&bytes[..bytes.len().min(300)]).into_owned();
        let found = request(&bytes, |parsed| parsed.body);
        assert_eq!(found, expected.map(Some), "{what}: {text:?}");
        if let Err(error) = expected {
            assert!((400..600).contains(&error.status()), "{what}");
        }
    }
}

#[test]
fn request_lengths_and_codings() {
    use BodyLength::*;
    use RequestError::*;
    let length = |value: &str| with(&format!("Content-Length: {value}\r\n"));
    let coding = |value: &str| with(&format!("Transfer-Encoding: {value}\r\n"));
    let mut rows: Vec<Row<'_>> = vec![
        ("no body", with(""), Ok(Empty)),
        ("length 0", length("0"), Ok(Empty)),
        ("length", length("5"), Ok(Fixed(5))),
        ("white space around a length", with("Content-Length:   5 \t \r\n"), Ok(Fixed(5))),
        ("leading zeros", length("0005"), Ok(Fixed(5))),
        ("2^63", length("9223372036854775808"), Ok(Fixed(1 << 63))),
        ("2^63 + 1", length("9223372036854775809"), Err(LengthInvalid)),
        ("20 digits", length("10000000000000000000"), Err(LengthInvalid)),
        ("2^64 + 5", length("18446744073709551621"), Err(LengthInvalid)),
        ("chunked", coding("chunked"), Ok(Chunked)),
        ("case of chunked", with("tRANSFER-eNCODING: CHUNKED\r\n"), Ok(Chunked)),
        ("both", with("Content-Length: 5\r\nTransfer-Encoding: chunked\r\n"), Err(LengthAndCoding)),
        (
            "both, other order",
            with("Transfer-Encoding: chunked\r\nContent-Length: 5\r\n"),
            Err(LengthAndCoding),
        ),
        (
            "both, length 0",
            with("Transfer-Encoding: chunked\r\nContent-Length: 0\r\n"),
            Err(LengthAndCoding),
        ),
        ("two equal", with("Content-Length: 5\r\nContent-Length: 5\r\n"), Err(LengthRepeated)),
        ("two unequal", with("Content-Length: 5\r\nContent-length: 6\r\n"), Err(LengthRepeated)),
        ("two zeros", with("Content-Length: 0\r\nContent-Length: 0\r\n"), Err(LengthRepeated)),
        ("list", length("5, 5"), Err(LengthRepeated)),
        ("list of one", length("5,"), Err(LengthRepeated)),
        (
            "coding twice",
            with("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n"),
            Err(CodingInvalid),
        ),
        (
            "coding twice, identity second",
            with("Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n"),
            Err(CodingInvalid),
        ),
        ("coding behind a tab", with("Transfer-Encoding:\tchunked\r\n"), Err(CodingInvalid)),
        ("tab behind the coding", with("Transfer-Encoding: chunked\t\r\n"), Err(CodingInvalid)),
        ("coding without space", with("Transfer-Encoding:chunked\r\n"), Ok(Chunked)),
        ("control byte before the coding", coding("\x0bchunked"), Err(FieldValue)),
        ("control byte behind the coding", coding("chunked\x0c"), Err(FieldValue)),
        ("gzip, chunked", coding("gzip, chunked"), Err(CodingUnsupported)),
        ("gzip", coding("gzip"), Err(CodingUnsupported)),
        ("deflate", coding("Deflate"), Err(CodingUnsupported)),
        ("chunked, gzip", coding("chunked, gzip"), Err(CodingInvalid)),
        ("x-gzip", coding("x-gzip,chunked"), Err(CodingUnsupported)),
        (
            "coding in 1.0",
            b"POST / HTTP/1.0\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n".to_vec(),
            Err(CodingInHttp10),
        ),
    ];
    for value in ["-5", "+5", "5 5", "0x5", "5a", "", "a", "5.0", "1e3", "\"5\"", "\u{665}"] {
        rows.push(("bad length", length(value), Err(LengthInvalid)));
    }
    for value in [
        "xchunked",
        "chunkedx",
        "chunked, identity",
        "identity",
        "chunked, chunked",
        "",
        ",",
        "chunked,",
        ",chunked",
        "chunked;q=1",
        "\"chunked\"",
        "chunked x",
        "chun ked",
        "c hunked",
        "chunked\u{a0}",
        "trailers",
        "gzip, foo, chunked",
    ] {
        rows.push(("bad coding", coding(value), Err(CodingInvalid)));
    }
    check(rows);
}

#[test]
fn request_lines_and_fields() {
    use BodyLength::Empty;
    use RequestError::*;
    let line = |line: &str| format!("{line}\r\nHost: a\r\n\r\n").into_bytes();
    let mut rows: Vec<Row<'_>> = vec![
        ("plain", line("GET / HTTP/1.1"), Ok(Empty)),
        ("unknown method", line("BREW / HTTP/1.1"), Ok(Empty)),
        ("HTTP/1.0", line("GET / HTTP/1.0"), Ok(Empty)),
        ("HTTP/1.0 without Host", b"GET / HTTP/1.0\r\n\r\n".to_vec(), Ok(Empty)),
        ("two spaces before the target", line("GET  / HTTP/1.1"), Err(RequestLine)),
        ("two spaces before the version", line("GET /  HTTP/1.1"), Err(RequestLine)),
        ("space behind the version", line("GET / HTTP/1.1 "), Err(LineEnd)),
        ("leading space", line(" GET / HTTP/1.1"), Err(RequestLine)),
        ("four words", line("GET / x HTTP/1.1"), Err(RequestLine)),
        ("tab for a space", line("GET\t/ HTTP/1.1"), Err(RequestLine)),
        ("tab before the version", line("GET /\tHTTP/1.1"), Err(RequestLine)),
        ("HTTP/0.9", line("GET /"), Err(RequestLine)),
        ("HTTP/0.9 in words", line("GET / HTTP/0.9"), Err(Version)),
        ("HTTP/1.2", line("GET / HTTP/1.2"), Err(Version)),
        ("HTTP/2.0", line("PRI * HTTP/2.0"), Err(Version)),
        ("HTTP/11", line("GET / HTTP/11.1"), Err(Version)),
        ("HTTP/1.10", line("GET / HTTP/1.10"), Err(LineEnd)),
        ("lower-case version", line("GET / http/1.1"), Err(RequestLine)),
        ("no method", line("/ HTTP/1.1"), Err(RequestLine)),
        ("method with a colon", line("GE:T / HTTP/1.1"), Err(RequestLine)),
        ("NUL in the target", line("GET /\0 HTTP/1.1"), Err(RequestLine)),
        ("CR in the target", line("GET /\r HTTP/1.1"), Err(RequestLine)),
        ("CONNECT", line("CONNECT a:443 HTTP/1.1"), Err(ConnectMethod)),
        ("CONNECT of a path", line("CONNECT / HTTP/1.1"), Err(ConnectMethod)),
        ("asterisk", line("GET * HTTP/1.1"), Err(Target)),
        ("asterisk of OPTIONS", line("OPTIONS * HTTP/1.1"), Ok(Empty)),
        ("authority form", line("GET a:80 HTTP/1.1"), Err(Target)),
        ("no leading slash", line("GET a/b HTTP/1.1"), Err(Target)),
        ("absolute form", line("GET http://b/ HTTP/1.1"), Ok(Empty)),
        ("absolute form of ftp", line("GET ftp://b/ HTTP/1.1"), Err(TargetScheme)),
        ("userinfo in the target", line("GET http://u@b/ HTTP/1.1"), Err(HostInvalid)),
        ("one empty line before", b"\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n".to_vec(), Ok(Empty)),
        (
            "two empty lines before",
            b"\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n".to_vec(),
            Err(LeadingEmptyLines),
        ),
        ("bare LF before", b"\nGET / HTTP/1.1\r\nHost: a\r\n\r\n".to_vec(), Err(LineEnd)),
        (
            "CR LF LF before",
            b"\r\n\nGET / HTTP/1.1\r\nHost: a\r\n\r\n".to_vec(),
            Err(LeadingEmptyLines),
        ),
        ("two CR before", b"\r\rGET / HTTP/1.1\r\nHost: a\r\n\r\n".to_vec(), Err(LineEnd)),
        ("bare LF behind the line", b"GET / HTTP/1.1\nHost: a\r\n\r\n".to_vec(), Err(LineEnd)),
        ("bare LF behind a field", with("A: b\nC: d\r\n"), Err(LineEnd)),
        ("bare LF behind an empty field", with("A:\nC: d\r\n"), Err(LineEnd)),
        ("bare LF behind the last field", with("A: b\n"), Err(LineEnd)),
        ("bare LF ends the head", b"GET / HTTP/1.1\r\nHost: a\r\n\n".to_vec(), Err(LineEnd)),
        ("bare LFs only", b"GET / HTTP/1.1\nHost: a\n\n".to_vec(), Err(LineEnd)),
        ("bare CR in a value", with("A: b\rc\r\n"), Err(FieldValue)),
        ("bare CR as line end", with("A: b\rC: d\r\n"), Err(FieldValue)),
        ("CR CR LF", with("A: b\r\r\n"), Err(FieldValue)),
        ("bare CR at the end", b"GET / HTTP/1.1\r\nHost: a\r\n\rX".to_vec(), Err(LineEnd)),
        ("space before the colon", with("A : b\r\n"), Err(FieldName)),
        ("tab before the colon", with("A\t: b\r\n"), Err(FieldName)),
        ("space before the colon of a length", with("Content-Length : 5\r\n"), Err(FieldName)),
        ("empty name", with(": b\r\n"), Err(FieldName)),
        ("no colon", with("A\r\n"), Err(FieldName)),
        ("folded line", with("A: b\r\n c\r\n"), Err(FieldName)),
        ("folded line with a tab", with("A: b\r\n\tc\r\n"), Err(FieldName)),
        (
            "fold behind the request line",
            b"GET / HTTP/1.1\r\n Host: a\r\n\r\n".to_vec(),
            Err(FieldName),
        ),
        ("folded coding", with("Transfer-Encoding:\r\n chunked\r\n"), Err(FieldName)),
        ("tab and obs-text in a value", with("A: b\tc\u{e9}\r\n"), Ok(Empty)),
        ("underscore in a name", with("A_B: c\r\n"), Ok(Empty)),
        ("empty value", with("A:\r\nB: \r\n"), Ok(Empty)),
        ("no Host", b"GET / HTTP/1.1\r\n\r\n".to_vec(), Err(HostMissing)),
        ("no Host, absolute form", b"GET http://a/ HTTP/1.1\r\n\r\n".to_vec(), Err(HostMissing)),
        ("empty Host", b"GET / HTTP/1.1\r\nHost: \r\n\r\n".to_vec(), Err(HostMissing)),
        ("Host twice", with("Host: b.example\r\n"), Err(HostRepeated)),
        ("Host twice, equal", with("hOST: a.example\r\n"), Err(HostRepeated)),
        (
            "bad Host behind an absolute form",
            b"GET http://a/ HTTP/1.1\r\nHost: u@b\r\n\r\n".to_vec(),
            Err(HostInvalid),
        ),
        ("h2c upgrade", with("Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\n"), Ok(Empty)),
    ];
    for byte in (0u8..32).chain([127]).filter(|byte| !matches!(byte, b'\t' | b'\r' | b'\n')) {
        let mut value = b"GET / HTTP/1.1\r\nHost: a\r\nA: b".to_vec();
        value.extend_from_slice(&[byte, b'c', b'\r', b'\n', b'\r', b'\n']);
        rows.push(("control byte in a value", value, Err(FieldValue)));
    }
    for byte in b" \"(),/;<=>?@[\\]{}\0\x7f\x80\xff" {
        let mut name = b"GET / HTTP/1.1\r\nHost: a\r\nA".to_vec();
        name.extend_from_slice(&[*byte]);
        name.extend_from_slice(b"b: c\r\n\r\n");
        rows.push(("no token in a name", name, Err(FieldName)));
    }
    for host in
        ["u@a", "u:p@a", "a,b", "a, a", "a b", "a/b", "a\\b", "a:b", "a:99999", "[::1", "a?b"]
    {
        let bytes = format!("GET / HTTP/1.1\r\nHost: {host}\r\n\r\n").into_bytes();
        rows.push(("bad Host", bytes, Err(HostInvalid)));
    }
    check(rows);
}

#[test]
fn request_limits() {
    use BodyLength::Empty;
    use RequestError::*;
    let overhead = "GET  HTTP/1.1\r\n".len();
    let target = |bytes: usize| {
        format!("GET /{} HTTP/1.1\r\nHost: a\r\n\r\n", "a".repeat(bytes - 1)).into_bytes()
    };
    let fields = |count: usize| with(&"A: b\r\n".repeat(count - 1));
    let sized = |bytes: usize| {
        let empty = with("A: \r\n").len();
        with(&format!("A: {}\r\n", "b".repeat(bytes - empty)))
    };
    assert_eq!(sized(HEAD_BYTES_MAX).len(), HEAD_BYTES_MAX);
    check(vec![
        ("longest line", target(REQUEST_LINE_BYTES_MAX - overhead), Ok(Empty)),
        ("line too long", target(REQUEST_LINE_BYTES_MAX - overhead + 1), Err(LineTooLong)),
        ("most fields", fields(HEADERS_MAX), Ok(Empty)),
        ("too many fields", fields(HEADERS_MAX + 1), Err(TooManyFields)),
        ("largest head", sized(HEAD_BYTES_MAX), Ok(Empty)),
        ("head too large", sized(HEAD_BYTES_MAX + 1), Err(HeadTooLarge)),
    ]);
    // Also before the end is there.
    let line = target(REQUEST_LINE_BYTES_MAX * 2);
    assert_eq!(request(&line[..REQUEST_LINE_BYTES_MAX], |_| ()), Ok(None));
    assert_eq!(request(&line[..REQUEST_LINE_BYTES_MAX + 1], |_| ()), Err(LineTooLong));
    let head = sized(HEAD_BYTES_MAX * 2);
    assert_eq!(request(&head[..HEAD_BYTES_MAX - 1], |_| ()), Ok(None));
    assert_eq!(request(&head[..HEAD_BYTES_MAX], |_| ()), Err(HeadTooLarge));
    let many = with(&"A: b\r\n".repeat(HEADERS_MAX));
    assert_eq!(request(&many[..many.len() - 2], |_| ()), Err(TooManyFields));
    // Bytes behind the head do not count.
    let mut behind = with("");
    behind.resize(HEAD_BYTES_MAX * 2, b'x');
    assert_eq!(request(&behind, |parsed| parsed.head_bytes), Ok(Some(with("").len())));
    let options = "x-a,".repeat(CONNECTION_OPTIONS_MAX + 1);
    check(vec![(
        "Connection names too much",
        with(&format!("Connection: {options}close\r\n")),
        Err(ConnectionOptions),
    )]);
}

#[test]
fn request_parts() {
    let bytes =
        b"\r\nPUT /a/b?c=d#e HTTP/1.1\r\nHost: h:80\r\nX-Aaa:  b c \r\nExpect: 100-Continue\r\n\
        TE: gzip;q=0.5, Trailers\r\nConnection: TE\r\nContent-Length: 3\r\n\r\nxyzGET";
    accepted(bytes, |parsed| {
        let head = &parsed.head;
        assert_eq!(head.method, b"PUT");
        assert_eq!(head.path, b"/a/b");
        assert_eq!(head.query, Some(&b"c=d"[..]));
        assert_eq!(head.authority, b"h:80");
        assert_eq!(head.version, Version::Http11);
        assert_eq!(head.scheme, Scheme::Http);
        assert_eq!(head.headers.len(), 6);
        assert_eq!((head.headers[1].name, head.headers[1].value), (&b"X-Aaa"[..], &b"b c"[..]));
        assert_eq!(&bytes[parsed.head_bytes..], b"xyzGET");
        assert_eq!(parsed.body, BodyLength::Fixed(3));
        assert!(parsed.keep_alive && parsed.expect_continue && parsed.te_trailers);
        assert_eq!(parsed.upgrade, None);
        assert!(parsed.connection_nominated.is_empty());
    });
    let absolute = b"GET http://real:8080?q HTTP/1.1\r\nHost: other\r\n\r\n";
    accepted(absolute, |parsed| {
        assert_eq!(parsed.head.authority, b"real:8080");
        assert_eq!(parsed.head.path, b"/");
        assert_eq!(parsed.head.query, Some(&b"q"[..]));
    });
    accepted(b"GET / HTTP/1.0\r\n\r\n", |parsed| {
        assert_eq!(parsed.head.authority, b"");
        assert_eq!(parsed.head.version, Version::Http10);
    });
    let expect = |version: &str| {
        let bytes = format!("GET / HTTP/{version}\r\nHost: a\r\nExpect: 100-continue\r\n\r\n");
        accepted(bytes.as_bytes(), |parsed| parsed.expect_continue)
    };
    assert!(expect("1.1") && !expect("1.0"));
}

#[test]
fn request_keep_alive() {
    for (version, lines, expected) in [
        ("1.1", "", true),
        ("1.1", "Connection: close\r\n", false),
        ("1.1", "Connection: Keep-Alive\r\n", true),
        ("1.1", "Connection: keep-alive, Close\r\n", false),
        ("1.1", "Connection: keep-alive\r\nConnection: close\r\n", false),
        ("1.0", "", false),
        ("1.0", "Connection: keep-alive\r\n", true),
        ("1.0", "Connection: keep-alive, close\r\n", false),
        ("1.0", "Proxy-Connection: keep-alive\r\n", false),
    ] {
        let bytes = format!("GET / HTTP/{version}\r\nHost: a\r\n{lines}\r\n");
        let found = accepted(bytes.as_bytes(), |parsed| parsed.keep_alive);
        assert_eq!(found, expected, "{bytes:?}");
    }
}

#[test]
fn request_upgrades() {
    let upgrade = |version: &str, lines: &str| {
        let bytes = format!("GET / HTTP/{version}\r\nHost: a\r\n{lines}\r\n");
        accepted(bytes.as_bytes(), |parsed| parsed.upgrade.map(<[u8]>::to_vec))
    };
    let websocket = "Connection: keep-alive, Upgrade\r\nUpgrade: websocket\r\n";
    assert_eq!(upgrade("1.1", websocket).as_deref(), Some(&b"websocket"[..]));
    assert_eq!(upgrade("1.0", websocket), None);
    for lines in [
        "Upgrade: websocket\r\n",
        "Connection: Upgrade\r\n",
        "Connection: Upgrade\r\nUpgrade:\r\n",
        "Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABk\r\n",
        "Connection: Upgrade\r\nUpgrade: websocket, H2C\r\n",
        "Connection: Upgrade\r\nUpgrade: h2c\r\nUpgrade: websocket\r\n",
        "Connection: Upgrade\r\nUpgrade: websocket\r\nUpgrade: websocket\r\n",
    ] {
        assert_eq!(upgrade("1.1", lines), None, "{lines:?}");
    }
}

#[test]
fn response_rows() {
    use BodyLength::*;
    use ResponseError::*;
    let ok = |lines: &str| format!("HTTP/1.1 200 OK\r\n{lines}\r\n").into_bytes();
    let line = |line: &str| format!("{line}\r\nContent-Length: 3\r\n\r\n").into_bytes();
    let both = "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n";
    // (what, bytes, request is HEAD, (body, keep alive) or reason)
    type Row<'a> = (&'a str, Vec<u8>, bool, Result<(BodyLength, bool), ResponseError>);
    let sized = |bytes: usize| ok(&format!("A: {}\r\n", "b".repeat(bytes - ok("A: \r\n").len())));
    let rows: Vec<Row<'_>> = vec![
        ("length", ok("Content-Length: 5\r\n"), false, Ok((Fixed(5), true))),
        ("length 0", ok("Content-Length: 0\r\n"), false, Ok((Empty, true))),
        ("chunked", ok("Transfer-Encoding: Chunked\r\n"), false, Ok((Chunked, true))),
        ("until close", ok(""), false, Ok((UntilClose, false))),
        ("until close, 1.0", b"HTTP/1.0 200 OK\r\n\r\n".to_vec(), false, Ok((UntilClose, false))),
        ("close", ok("Content-Length: 5\r\nConnection: close\r\n"), false, Ok((Fixed(5), false))),
        ("1.0", line("HTTP/1.0 200 OK"), false, Ok((Fixed(3), false))),
        (
            "1.0 kept alive",
            b"HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nContent-Length: 3\r\n\r\n".to_vec(),
            false,
            Ok((Fixed(3), true)),
        ),
        ("HEAD with length", ok("Content-Length: 5\r\n"), true, Ok((Empty, true))),
        ("HEAD with coding", ok("Transfer-Encoding: chunked\r\n"), true, Ok((Empty, true))),
        ("HEAD without", ok(""), true, Ok((Empty, true))),
        ("304 with length", line("HTTP/1.1 304 Not Modified"), false, Ok((Empty, true))),
        ("204 with length", line("HTTP/1.1 204 No Content"), false, Ok((Empty, false))),
        ("204", b"HTTP/1.1 204 No Content\r\n\r\n".to_vec(), false, Ok((Empty, true))),
        ("100", b"HTTP/1.1 100 Continue\r\n\r\n".to_vec(), false, Ok((Empty, true))),
        ("no reason", line("HTTP/1.1 200 "), false, Ok((Fixed(3), true))),
        ("no reason, no space", line("HTTP/1.1 200"), false, Ok((Fixed(3), true))),
        ("odd status", line("HTTP/1.1 999 x y"), false, Ok((Fixed(3), true))),
        ("CL and TE", ok(both), false, Err(LengthAndCoding)),
        ("CL and TE of HEAD", ok(both), true, Err(LengthAndCoding)),
        (
            "two lengths",
            ok("Content-Length: 5\r\nContent-Length: 5\r\n"),
            false,
            Err(LengthRepeated),
        ),
        ("length list", ok("Content-Length: 5, 5\r\n"), false, Err(LengthRepeated)),
        ("bad length", ok("Content-Length: -1\r\n"), false, Err(LengthInvalid)),
        ("bad length of HEAD", ok("Content-Length: x\r\n"), true, Err(LengthInvalid)),
        ("gzip, chunked", ok("Transfer-Encoding: gzip, chunked\r\n"), false, Err(CodingInvalid)),
        ("identity", ok("Transfer-Encoding: identity\r\n"), false, Err(CodingInvalid)),
        (
            "coding in 1.0",
            b"HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n".to_vec(),
            false,
            Err(CodingInHttp10),
        ),
        ("folded line", ok("A: b\r\n c\r\n"), false, Err(FieldName)),
        ("space before the colon", ok("A : b\r\n"), false, Err(FieldName)),
        ("bare CR", ok("A: b\rc\r\n"), false, Err(FieldValue)),
        ("NUL", ok("A: \0\r\n"), false, Err(FieldValue)),
        ("bare LF behind a field", ok("A: b\nC: d\r\n"), false, Err(LineEnd)),
        ("bare LF behind the line", b"HTTP/1.1 200 OK\nA: b\r\n\r\n".to_vec(), false, Err(LineEnd)),
        ("bare LF at the end", b"HTTP/1.1 200 OK\r\nA: b\r\n\n".to_vec(), false, Err(LineEnd)),
        ("no fields, bare LF", b"HTTP/1.1 200 OK\n\r\n".to_vec(), false, Err(LineEnd)),
        ("leading empty line", b"\r\nHTTP/1.1 200 OK\r\n\r\n".to_vec(), false, Err(StatusLine)),
        ("HTTP/2", line("HTTP/2.0 200 OK"), false, Err(StatusLine)),
        ("lower case", line("http/1.1 200 OK"), false, Err(StatusLine)),
        ("two spaces", line("HTTP/1.1  200 OK"), false, Err(StatusLine)),
        ("status 099", line("HTTP/1.1 099 OK"), false, Err(StatusLine)),
        ("two digits", line("HTTP/1.1 20 OK"), false, Err(StatusLine)),
        ("four digits", line("HTTP/1.1 2000 OK"), false, Err(StatusLine)),
        ("control byte in the reason", line("HTTP/1.1 200 O\x01K"), false, Err(StatusLine)),
        ("ICY", line("ICY 200 OK"), false, Err(StatusLine)),
        ("no head at all", b"<html>".to_vec(), false, Err(StatusLine)),
        ("most fields", ok(&"A: b\r\n".repeat(HEADERS_MAX)), true, Ok((Empty, true))),
        ("too many fields", ok(&"A: b\r\n".repeat(HEADERS_MAX + 1)), false, Err(TooManyFields)),
        ("largest head", sized(HEAD_BYTES_MAX), true, Ok((Empty, true))),
        ("head too large", sized(HEAD_BYTES_MAX + 1), false, Err(HeadTooLarge)),
    ];
    for (what, bytes, request_is_head, expected) in rows {
        let text = String::from_utf8_lossy(&bytes[..bytes.len().min(300)]).into_owned();
        let found = response(&bytes, request_is_head, |p| {
            assert_eq!(p.head_bytes, bytes.len());
            (p.body, p.keep_alive)
        });
        assert_eq!(found, expected.map(Some), "{what}: {text:?}");
    }
    assert!(ResponseError::ALL.iter().all(|error| error.status() == 502));
}

#[test]
fn response_parts() {
    let bytes =
        b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\nx";
    let read = response(bytes, false, |parsed| {
        assert_eq!(parsed.head.status, 101);
        assert_eq!(parsed.head.reason, b"Switching Protocols");
        assert_eq!(parsed.body, BodyLength::Empty);
        assert_eq!(parsed.upgrade, Some(&b"websocket"[..]));
        assert_eq!(parsed.head_bytes, bytes.len() - 1);
    });
    assert_eq!(read, Ok(Some(())));
    let bytes =
        b"HTTP/1.1 426 Upgrade Required\r\nConnection: upgrade, x-hop\r\nUpgrade: websocket\r\n\
        X-Hop: a\r\nSet-Cookie: a\r\nSet-Cookie: b\r\n\r\n";
    let read = response(bytes, false, |parsed| {
        assert_eq!(parsed.upgrade, None);
        let gone: Vec<bool> = parsed
            .head
            .headers
            .iter()
            .map(|field| is_hop_by_hop(field) || parsed.connection_nominated.contains(field))
            .collect();
        assert_eq!(gone, [true, true, true, false, false]);
    });
    assert_eq!(read, Ok(Some(())));
}

#[test]
fn details_are_distinct_words() {
    let request = RequestError::ALL.iter().map(|error| error.details());
    let response = ResponseError::ALL.iter().map(|error| error.details());
    let mut words: Vec<&str> = request.chain(response).collect();
    assert!(words.iter().all(|word| !word.is_empty() && !word.contains(' ')));
    words.sort_unstable();
    words.dedup();
    assert_eq!(words.len(), RequestError::ALL.len() + ResponseError::ALL.len());
}
