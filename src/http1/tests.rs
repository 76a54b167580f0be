//! Every row of the framing rules, and the properties behind them.

use proptest::prelude::*;

use super::chunked::{write_chunk_head, write_last_chunk};
use super::*;
use crate::http::{BodyLength, Scheme};
use crate::limits::{HEAD_BYTES_MAX, HEADERS_MAX, REQUEST_LINE_BYTES_MAX};

/// Status that a request is refused with, or what was read of it.
fn request(bytes: &[u8]) -> Result<Option<(String, BodyLength, bool)>, u16> {
    let mut storage = HeaderStorage::new();
    match parse_request(bytes, &mut storage, Scheme::Http) {
        Ok(None) => Ok(None),
        Ok(Some(parsed)) => {
            let head = &parsed.head;
            let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
            let query = head.query.map_or(String::new(), |query| format!("?{}", text(query)));
            let line = format!(
                "{} {}{query} {}",
                text(head.method),
                text(head.path),
                text(head.authority)
            );
            Ok(Some((line, parsed.body, parsed.keep_alive)))
        }
        Err(error) => Err(error.status()),
    }
}

#[test]
fn ambiguous_requests_are_refused() {
    let host = "Host: a\r\n";
    let with = |fields: &str| format!("POST / HTTP/1.1\r\n{host}{fields}\r\n");
    let rows: Vec<(String, u16)> = vec![
        (with("Content-Length: 5\r\nTransfer-Encoding: chunked\r\n"), 400),
        (with("Transfer-Encoding: chunked\r\nContent-Length: 5\r\n"), 400),
        (with("Content-Length: 5\r\nContent-Length: 5\r\n"), 400),
        (with("Content-Length: 5, 5\r\n"), 400),
        (with("Content-Length: 5\r\nContent-Length: 6\r\n"), 400),
        (with("Content-Length: +5\r\n"), 400),
        (with("Content-Length: -5\r\n"), 400),
        (with("Content-Length: 5 5\r\n"), 400),
        (with("Content-Length: 0x5\r\n"), 400),
        (with("Content-Length: a\r\n"), 400),
        (with("Content-Length:\r\n"), 400),
        (with("Content-Length: 9223372036854775809\r\n"), 400),
        (with("Content-Length: 99999999999999999999999\r\n"), 400),
        (with("Transfer-Encoding: xchunked\r\n"), 400),
        (with("Transfer-Encoding: chunked, identity\r\n"), 400),
        (with("Transfer-Encoding: identity\r\n"), 400),
        (with("Transfer-Encoding: chunked, chunked\r\n"), 400),
        (with("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n"), 400),
        (with("Transfer-Encoding: \x0bchunked\r\n"), 400),
        (with("Transfer-Encoding: chunked\x0b\r\n"), 400),
        (with("Transfer-Encoding: chunked;q=1\r\n"), 400),
        (with("Transfer-Encoding: \"chunked\"\r\n"), 400),
        (with("Transfer-Encoding:\r\n"), 400),
        (with("Transfer-Encoding: ,chunked\r\n"), 400),
        (with("Transfer-Encoding: gzip, chunked\r\n"), 501),
        (with("Transfer-Encoding: gzip\r\n"), 501),
        ("POST / HTTP/1.0\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n".into(), 400),
        (with("Name : value\r\n"), 400),
        (with("Name\t: value\r\n"), 400),
        (with(": value\r\n"), 400),
        (with("Na me: value\r\n"), 400),
        (with("Na(me: value\r\n"), 400),
        (with("Name\r\n"), 400),
        (with("A: b\r\n folded\r\n"), 400),
        (with("A: b\r\n\tfolded\r\n"), 400),
        (with("A: b\rc\r\n"), 400),
        (with("A: b\n"), 400),
        (with("A: b\0c\r\n"), 400),
        (with("A: b\x01c\r\n"), 400),
        (with("A: b\x7fc\r\n"), 400),
        ("POST / HTTP/1.1\nHost: a\n\n".into(), 400),
        ("POST / HTTP/1.1\nHost: a\r\n\r\n".into(), 400),
        ("POST / HTTP/1.1\r\nHost: a\r\n\n".into(), 400),
        ("POST  / HTTP/1.1\r\nHost: a\r\n\r\n".into(), 400),
        ("POST /  HTTP/1.1\r\nHost: a\r\n\r\n".into(), 400),
        ("POST / HTTP/1.1 \r\nHost: a\r\n\r\n".into(), 400),
        ("POST\t/ HTTP/1.1\r\nHost: a\r\n\r\n".into(), 400),
        (" POST / HTTP/1.1\r\nHost: a\r\n\r\n".into(), 400),
        ("POST /\r\n\r\n".into(), 400),
        ("POST / HTTP/0.9\r\nHost: a\r\n\r\n".into(), 505),
        ("POST / HTTP/2.0\r\nHost: a\r\n\r\n".into(), 505),
        ("POST / HTTP/1.2\r\nHost: a\r\n\r\n".into(), 505),
        ("POST / http/1.1\r\nHost: a\r\n\r\n".into(), 400),
        ("POST / HTTP/1.10\r\nHost: a\r\n\r\n".into(), 400),
        ("PO(ST / HTTP/1.1\r\nHost: a\r\n\r\n".into(), 400),
        ("POST / HTTP/1.1\r\n\r\n".into(), 400),
        ("POST / HTTP/1.1\r\nHost:\r\n\r\n".into(), 400),
        ("POST / HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n".into(), 400),
        ("POST / HTTP/1.1\r\nHost: a,b\r\n\r\n".into(), 400),
        ("POST / HTTP/1.1\r\nHost: u@a\r\n\r\n".into(), 400),
        ("POST / HTTP/1.1\r\nHost: a b\r\n\r\n".into(), 400),
        ("POST / HTTP/1.1\r\nHost: a/b\r\n\r\n".into(), 400),
        ("POST http://a/ HTTP/1.1\r\nHost: u@b\r\n\r\n".into(), 400),
        ("POST http://a/ HTTP/1.1\r\n\r\n".into(), 400),
        ("POST a:80 HTTP/1.1\r\nHost: a\r\n\r\n".into(), 400),
        ("POST * HTTP/1.1\r\nHost: a\r\n\r\n".into(), 400),
        ("CONNECT a:443 HTTP/1.1\r\nHost: a:443\r\n\r\n".into(), 405),
        ("\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n".into(), 400),
        ("\nGET / HTTP/1.1\r\nHost: a\r\n\r\n".into(), 400),
        (format!("GET /{} HTTP/1.1\r\n", "a".repeat(REQUEST_LINE_BYTES_MAX)), 414),
        (format!("GET /{}", "a".repeat(REQUEST_LINE_BYTES_MAX)), 414),
        (with(&format!("A: {}\r\n", "b".repeat(HEAD_BYTES_MAX))), 431),
        (with(&"A: b\r\n".repeat(HEADERS_MAX)), 431),
    ];
    for (bytes, status) in rows {
        let shown: String = bytes.chars().take(120).collect();
        assert_eq!(request(bytes.as_bytes()), Err(status), "{shown:?}");
    }
}

#[test]
fn clear_requests_are_read() {
    let rows: &[(&str, &str, BodyLength, bool)] = &[
        ("GET /a?b=c HTTP/1.1\r\nHost: h:80\r\n\r\n", "GET /a?b=c h:80", BodyLength::Empty, true),
        ("\r\nGET / HTTP/1.1\r\nHost: h\r\n\r\n", "GET / h", BodyLength::Empty, true),
        ("GET / HTTP/1.0\r\n\r\n", "GET / ", BodyLength::Empty, false),
        ("GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n", "GET / ", BodyLength::Empty, true),
        (
            "GET / HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n",
            "GET / h",
            BodyLength::Empty,
            false,
        ),
        (
            "POST / HTTP/1.1\r\nHost:h\r\nContent-Length:   5 \r\n\r\nhello",
            "POST / h",
            BodyLength::Fixed(5),
            true,
        ),
        (
            "POST / HTTP/1.1\r\nhost: h\r\ncontent-length: 0\r\n\r\n",
            "POST / h",
            BodyLength::Empty,
            true,
        ),
        (
            "POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: CHUNKED\r\n\r\n",
            "POST / h",
            BodyLength::Chunked,
            true,
        ),
        (
            "GET http://x.com/a HTTP/1.1\r\nHost: other\r\n\r\n",
            "GET /a x.com",
            BodyLength::Empty,
            true,
        ),
        ("OPTIONS * HTTP/1.1\r\nHost: h\r\n\r\n", "OPTIONS * h", BodyLength::Empty, true),
        ("GET / HTTP/1.1\r\nHost: h\r\nA:\r\nB: \t \r\n\r\n", "GET / h", BodyLength::Empty, true),
    ];
    for (bytes, line, body, keep_alive) in rows {
        let expected = Ok(Some(((*line).to_owned(), *body, *keep_alive)));
        assert_eq!(request(bytes.as_bytes()), expected, "{bytes:?}");
        for cut in 0..bytes.find("\r\n\r\n").expect("a head") + 3 {
            assert_eq!(request(&bytes.as_bytes()[..cut]), Ok(None), "{:?}", &bytes[..cut]);
        }
    }
}

#[test]
fn upgrades_and_expectations() {
    let parse = |fields: &str| {
        let bytes = format!("GET / HTTP/1.1\r\nHost: a\r\n{fields}\r\n");
        let mut storage = HeaderStorage::new();
        let parsed = parse_request(bytes.as_bytes(), &mut storage, Scheme::Http)
            .expect("well-formed")
            .expect("complete");
        (
            parsed.upgrade.map(|value| String::from_utf8_lossy(value).into_owned()),
            parsed.expect_continue,
            parsed.te_trailers,
        )
    };
    let websocket = Some("websocket".to_owned());
    assert_eq!(parse("Connection: Upgrade\r\nUpgrade: websocket\r\n").0, websocket);
    assert_eq!(parse("Connection: keep-alive, upgrade\r\nUpgrade: websocket\r\n").0, websocket);
    assert_eq!(parse("Upgrade: websocket\r\n").0, None);
    let h2c = "Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AA\r\n";
    assert_eq!(parse(h2c).0, None);
    assert_eq!(parse("Connection: upgrade\r\nUpgrade: websocket, h2c\r\n").0, None);
    assert!(parse("Expect: 100-Continue\r\n").1);
    assert!(parse("TE: gzip, trailers\r\n").2);
}

/// Body length and reuse of a response, or why it is refused.
fn response(bytes: &[u8], head: bool) -> Result<Option<(u16, BodyLength, bool)>, ResponseError> {
    let mut storage = HeaderStorage::new();
    parse_response(bytes, &mut storage, head)
        .map(|parsed| parsed.map(|parsed| (parsed.head.status, parsed.body, parsed.keep_alive)))
}

#[test]
fn responses_are_framed_by_method_and_status() {
    let rows: &[(&str, bool, BodyLength, bool)] = &[
        ("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n", false, BodyLength::Fixed(5), true),
        ("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n", true, BodyLength::Empty, true),
        ("HTTP/1.1 204 No Content\r\n\r\n", false, BodyLength::Empty, true),
        ("HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\n\r\n", false, BodyLength::Empty, true),
        ("HTTP/1.1 200 OK\r\n\r\n", false, BodyLength::UntilClose, false),
        ("HTTP/1.1 200\r\nContent-Length: 0\r\n\r\n", false, BodyLength::Empty, true),
        ("HTTP/1.1 200 \r\nContent-Length: 0\r\n\r\n", false, BodyLength::Empty, true),
        ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", false, BodyLength::Chunked, true),
        ("HTTP/1.0 200 OK\r\nContent-Length: 5\r\n\r\n", false, BodyLength::Fixed(5), false),
        (
            "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nConnection: close\r\n\r\n",
            false,
            BodyLength::Fixed(5),
            false,
        ),
    ];
    for (bytes, head, body, keep_alive) in rows {
        let got = response(bytes.as_bytes(), *head).expect(bytes).expect(bytes);
        assert_eq!((got.1, got.2), (*body, *keep_alive), "{bytes:?}");
    }
}

#[test]
fn ambiguous_responses_are_refused() {
    for bytes in [
        "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 5\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: identity\r\n\r\n",
        "HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
        "HTTP/1.1 200 OK\r\nA: b\r\n c\r\n\r\n",
        "HTTP/1.1 200 OK\r\nA : b\r\n\r\n",
        "HTTP/1.1 200 OK\nA: b\n\n",
        "HTTP/1.1 200 OK\r\nA: b\n\r\n",
        "HTTP/1.1 2 OK\r\n\r\n",
        "HTTP/1.1 099 OK\r\n\r\n",
        "HTTP/3.0 200 OK\r\n\r\n",
        "ICY 200 OK\r\n\r\n",
        "\r\nHTTP/1.1 200 OK\r\n\r\n",
        "garbage\r\n\r\n",
    ] {
        assert!(response(bytes.as_bytes(), false).is_err(), "{bytes:?}");
    }
    let long = format!("HTTP/1.1 200 OK\r\nA: {}", "b".repeat(HEAD_BYTES_MAX));
    assert_eq!(response(long.as_bytes(), false), Err(ResponseError::HeadTooLarge));
}

/// Decode in pieces of the given sizes: payload, trailers, and what was left over.
fn decode(body: &[u8], pieces: &[usize]) -> Result<(Vec<u8>, String, usize, bool), ChunkError> {
    let mut decoder = ChunkedDecoder::new();
    let (mut payload, mut at, mut done) = (Vec::new(), 0, false);
    let mut sizes = pieces.iter().copied().chain(std::iter::repeat(body.len().max(1)));
    while at < body.len() && !done {
        let size = sizes.next().unwrap_or(1).max(1).min(body.len() - at);
        let mut buffer = body[at..at + size].to_vec();
        let decoded = decoder.decode(&mut buffer)?;
        payload.extend_from_slice(&buffer[..decoded.payload]);
        at += decoded.consumed;
        done = decoded.done;
    }
    let trailers = String::from_utf8_lossy(decoder.trailers()).into_owned();
    Ok((payload, trailers, body.len() - at, done))
}

#[test]
fn chunked_bodies_are_decoded() {
    let body = b"5\r\nhello\r\n6;ext=\"v\"\r\n world\r\n0\r\nX-Sum: 1\r\nHost: evil\r\n\
        Content-Length: 5\r\nAuthorization: x\r\nx-b:\r\n\r\nGET /";
    let (payload, trailers, left, done) = decode(body, &[]).expect("well-formed");
    assert_eq!(payload, b"hello world");
    assert_eq!(trailers, "X-Sum: 1\r\nx-b: \r\n");
    assert_eq!((left, done), (5, true));
    assert_eq!(decode(b"0\r\n\r\n", &[]), Ok((Vec::new(), String::new(), 0, true)));
    assert!(!decode(b"5\r\nhel", &[]).expect("a part").3);
}

#[test]
fn malformed_chunks_are_refused() {
    for body in [
        "g\r\n",
        "\r\n",
        "0x5\r\nhello\r\n",
        "+5\r\n",
        "-5\r\n",
        " 5\r\n",
        "5 \r\nhello\r\n",
        "5\nhello\r\n",
        "5\r\nhelloX",
        "5\r\nhello\n",
        "5\r\nhello\rX",
        "12345678901234567\r\n",
        "5;a\x01\r\n",
        "5;a\nhello\r\n",
        "0\r\nbad trailer\r\n\r\n",
        "0\r\n: v\r\n\r\n",
        "0\r\na : v\r\n\r\n",
        "0\r\na: v\n\r\n",
        "0\r\n\n",
        "0\r\n a: v\r\n\r\n",
        "5\rX",
    ] {
        assert!(decode(body.as_bytes(), &[]).is_err(), "{body:?}");
        assert!(decode(body.as_bytes(), &[1; 64]).is_err(), "{body:?} byte by byte");
    }
    let extension = format!("5;{}\r\nhello\r\n", "a".repeat(257));
    assert_eq!(decode(extension.as_bytes(), &[]), Err(ChunkError::Extension));
    let many = format!("1;{}\r\na\r\n", "a".repeat(200)).repeat(100);
    assert_eq!(decode(many.as_bytes(), &[]), Err(ChunkError::Extension));
    let trailers = format!("0\r\n{}\r\n", "a: b\r\n".repeat(3000));
    assert_eq!(decode(trailers.as_bytes(), &[]), Err(ChunkError::Trailer));
}

#[test]
fn local_replies_are_whole_messages() {
    let mut out = Vec::new();
    encode::write_local_reply(&mut out, 503, "no healthy upstream", false, Some("close"), b"now");
    let text = String::from_utf8(out.clone()).expect("text");
    assert!(text.starts_with("HTTP/1.1 503 Service Unavailable\r\ncontent-length: 19\r\n"));
    assert!(text.ends_with("connection: close\r\n\r\nno healthy upstream"));
    let read = response(&out, false).expect("well-formed").expect("complete");
    assert_eq!(read, (503, BodyLength::Fixed(19), false));
}

/// What a lax parser sees: lines ended by LF, names trimmed, the last framing field wins.
fn lax_framing(head: &[u8]) -> (usize, Option<u64>, bool) {
    let text = String::from_utf8_lossy(head);
    let mut requests = 0;
    let (mut length, mut chunked) = (None, false);
    for line in text.split('\n').map(|line| line.trim_end_matches('\r')) {
        if line.contains(" HTTP/1.") && !line.contains(": ") {
            requests += 1;
        }
        let Some((name, value)) = line.split_once(':') else { continue };
        match name.trim().to_ascii_lowercase().as_str() {
            "content-length" => length = value.trim().parse().ok(),
            "transfer-encoding" => chunked |= value.to_ascii_lowercase().contains("chunked"),
            _ => {}
        }
    }
    (requests, length, chunked)
}

proptest! {
    #[test]
    fn any_bytes_are_survived(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        let _ = request(&bytes);
        let _ = response(&bytes, false);
        let mut scanner = HeadScanner::new();
        for end in 0..bytes.len() { scanner.may_be_complete(&bytes[..end]); }
        let _ = decode(&bytes, &[3, 1, 7]);
    }

    /// Text that is nearly a request finds more than noise does.
    #[test]
    fn what_is_accepted_has_one_reading(
        parts in proptest::collection::vec(prop_oneof![
            Just("GET / HTTP/1.1\r\n"), Just("Host: a\r\n"), Just("\r\n"), Just("\n"), Just("\r"),
            Just(" "), Just("Content-Length: 5\r\n"), Just("content-length:7\r\n"), Just("\t"),
            Just("Transfer-Encoding: chunked\r\n"), Just("Transfer-Encoding : chunked\r\n"),
            Just("A: b\r\n"), Just(":"), Just(","), Just("\0"), Just("x"), Just("Host: b\r\n"),
        ], 1..12),
    ) {
        let bytes = format!("GET / HTTP/1.1\r\nHost: a\r\n{}\r\n\r\n", parts.concat());
        let mut storage = HeaderStorage::new();
        if let Ok(Some(parsed)) = parse_request(bytes.as_bytes(), &mut storage, Scheme::Http) {
            let head = &bytes.as_bytes()[..parsed.head_bytes];
            let (requests, length, chunked) = lax_framing(head);
            prop_assert_eq!(requests, 1);
            match parsed.body {
                BodyLength::Empty => prop_assert!(!chunked && length.unwrap_or(0) == 0),
                BodyLength::Fixed(n) => prop_assert!(!chunked && length == Some(n)),
                BodyLength::Chunked => prop_assert!(chunked && length.is_none()),
                BodyLength::UntilClose => prop_assert!(false),
            }
        }
    }

    #[test]
    fn chunks_survive_any_cut(
        chunks in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 1..40), 0..6),
        pieces in proptest::collection::vec(1usize..20, 0..40),
        trailer in any::<bool>(),
    ) {
        let mut body = Vec::new();
        for chunk in &chunks {
            let mut line = [0; 18];
            let from = write_chunk_head(&mut line, chunk.len());
            body.extend_from_slice(&line[from..]);
            body.extend_from_slice(chunk);
            body.extend_from_slice(b"\r\n");
        }
        write_last_chunk(&mut body, if trailer { b"x-t: 1\r\n" } else { b"" });
        body.extend_from_slice(b"next");
        let (payload, trailers, left, done) = decode(&body, &pieces).expect("well-formed");
        prop_assert_eq!(payload, chunks.concat());
        prop_assert_eq!(trailers, if trailer { "x-t: 1\r\n" } else { "" });
        prop_assert_eq!((left, done), (4, true));
    }
}
