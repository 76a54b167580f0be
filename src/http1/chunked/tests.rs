//! Chunked bodies: rows of the contract, and round trips at any split.

use proptest::prelude::*;

use super::*;

/// Payload, trailers, bytes behind the body, whether it is complete.
type Body = (Vec<u8>, Vec<u8>, Vec<u8>, bool);

/// Payload, trailers and rest of `bytes`, presented in pieces of `sizes` (repeated).
fn decode(bytes: &[u8], sizes: &[usize]) -> Result<Body, ChunkError> {
    let mut decoder = ChunkedDecoder::new();
    let mut payload = Vec::new();
    let mut rest = bytes;
    for size in sizes.iter().cycle() {
        let (piece, later) = rest.split_at((*size).min(rest.len()));
        let mut buffer = piece.to_vec();
        let decoded = decoder.decode(&mut buffer)?;
        assert!(decoded.payload <= decoded.consumed && decoded.consumed <= buffer.len());
        assert_eq!(buffer[decoded.consumed..], piece[decoded.consumed..], "rest is untouched");
        assert!(decoded.done || decoded.consumed == buffer.len());
        assert_eq!(decoded.done, decoder.is_done());
        payload.extend_from_slice(&buffer[..decoded.payload]);
        if decoded.done {
            let left = [&buffer[decoded.consumed..], later].concat();
            return Ok((payload, decoder.trailers().to_vec(), left, true));
        }
        rest = later;
        if rest.is_empty() {
            break;
        }
    }
    Ok((payload, decoder.trailers().to_vec(), Vec::new(), false))
}

/// The outcome must be the same in one piece and byte by byte.
fn outcome(bytes: &[u8]) -> Result<Body, ChunkError> {
    let whole = decode(bytes, &[usize::MAX]);
    assert_eq!(decode(bytes, &[1]), whole, "{:?}", String::from_utf8_lossy(bytes));
    whole
}

#[test]
fn accepted_bodies() {
    for (bytes, payload, trailers, rest) in [
        ("0\r\n\r\n", "", "", ""),
        ("0000\r\n\r\nGET", "", "", "GET"),
        ("5\r\nhello\r\n0\r\n\r\n", "hello", "", ""),
        ("5\r\nhello\r\n6\r\n world\r\n0\r\n\r\nx", "hello world", "", "x"),
        ("0000000000000005\r\nhello\r\n0\r\n\r\n", "hello", "", ""),
        ("00A\r\n0123456789\r\n0\r\n\r\n", "0123456789", "", ""),
        ("a\r\n\r\n\r\n\r\n\r\n\r\n\r\n0\r\n\r\n", "\r\n\r\n\r\n\r\n\r\n", "", ""),
        ("5;a\r\nhello\r\n0;b=c\r\n\r\n", "hello", "", ""),
        ("5;a=\"b;c\";d=e\r\nhello\r\n0; x\r\n\r\n", "hello", "", ""),
        (
            "0\r\nX-Sum: 1\r\ngrpc-status:0 \t\r\n\r\nrest",
            "",
            "X-Sum: 1\r\ngrpc-status: 0\r\n",
            "rest",
        ),
        ("0\r\nX-Empty:\r\nX-Tab:\t a b\t\r\n\r\n", "", "X-Empty: \r\nX-Tab: a b\r\n", ""),
        ("0\r\nContent-Length: 5\r\nA: b\r\nHost: c\r\n\r\n", "", "A: b\r\n", ""),
    ] {
        let expected = (
            payload.as_bytes().to_vec(),
            trailers.as_bytes().to_vec(),
            rest.as_bytes().to_vec(),
            true,
        );
        assert_eq!(outcome(bytes.as_bytes()), Ok(expected), "{bytes:?}");
    }
}

#[test]
fn refused_bodies() {
    use ChunkError::*;
    for (bytes, error) in [
        ("\r\n", Size),
        ("g\r\n", Size),
        ("0x5\r\nhello\r\n", Size),
        ("-1\r\n", Size),
        ("+5\r\nhello\r\n", Size),
        (" 5\r\nhello\r\n", Size),
        ("5 \r\nhello\r\n", Size),
        ("5\t\r\nhello\r\n", Size),
        ("5 ;a\r\nhello\r\n", Size),
        ("5\0\r\nhello\r\n", Size),
        ("5_0\r\n", Size),
        (";a\r\n", Size),
        ("\n5\r\n", Size),
        ("00000000000000005\r\nhello\r\n", Size),
        ("fffffffffffffffff\r\n", Size),
        ("5\nhello\r\n", LineEnd),
        ("5\rhello\r\n", LineEnd),
        ("5\r\rhello\r\n", LineEnd),
        ("5\r\nhello0\r\n\r\n", LineEnd),
        ("5\r\nhello\n0\r\n\r\n", LineEnd),
        ("5\r\nhello\rx", LineEnd),
        ("5\r\nhello!\r\n0\r\n\r\n", LineEnd),
        ("5;\r\nhello\r\n", Extension),
        ("5; \r\nhello\r\n", Extension),
        ("5;a \r\nhello\r\n", Extension),
        ("5;a\nhello\r\n", Extension),
        ("5;a\x01\r\nhello\r\n", Extension),
        ("5;;a\r\nhello\r\n", Extension),
        ("5;=a\r\nhello\r\n", Extension),
        ("5;a=\"\n\"\r\nhello\r\n", Extension),
        ("0\n\r\n", LineEnd),
        ("0\r\n\n", LineEnd),
        ("0\r\n\rx", LineEnd),
        ("0\r\nA: b\n\r\n", LineEnd),
        ("0\r\nA: b\rC", LineEnd),
        ("0\r\nA: \0\r\n\r\n", Trailer),
        ("0\r\nA\r\n\r\n", Trailer),
        ("0\r\nA : b\r\n\r\n", Trailer),
        ("0\r\n: b\r\n\r\n", Trailer),
        ("0\r\nA: b\r\n c\r\n\r\n", Trailer),
        ("0\r\nGET / HTTP/1.1\r\n\r\n", Trailer),
    ] {
        assert_eq!(outcome(bytes.as_bytes()), Err(error), "{bytes:?}");
        assert_eq!(error.status(), 400);
    }
}

#[test]
fn a_huge_chunk_is_counted_not_trusted() {
    let (payload, _, _, done) = outcome(b"ffffffffffffffff\r\nabc").expect("an open chunk");
    assert_eq!((payload.as_slice(), done), (&b"abc"[..], false));
}

#[test]
fn incomplete_bodies_are_never_done() {
    let body = b"5;a=b\r\nhello\r\n0\r\nA: b\r\n\r\n";
    for end in 0..body.len() {
        let (_, trailers, _, done) = outcome(&body[..end]).expect("a good prefix");
        assert!(!done && trailers.is_empty());
    }
}

#[test]
fn extensions_are_bounded() {
    let chunk = |bytes: usize| format!("1;{}\r\nx\r\n", "a".repeat(bytes - 1));
    let most = chunk(CHUNK_EXTENSION_BYTES_MAX);
    assert!(outcome(most.as_bytes()).is_ok());
    let over = chunk(CHUNK_EXTENSION_BYTES_MAX + 1);
    assert_eq!(outcome(over.as_bytes()), Err(ChunkError::ExtensionTooLong));
    let chunks = BODY_EXTENSION_BYTES_MAX / CHUNK_EXTENSION_BYTES_MAX;
    assert!(outcome(most.repeat(chunks).as_bytes()).is_ok());
    let over = most.repeat(chunks) + "1;a\r\nx\r\n";
    assert_eq!(outcome(over.as_bytes()), Err(ChunkError::ExtensionTooLong));
}

#[test]
fn trailers_are_bounded_also_when_dropped() {
    let bytes = |value: usize| format!("0\r\nA: {}\r\n\r\n", "b".repeat(value));
    let most = TRAILER_BYTES_MAX - "A: ".len();
    assert!(outcome(bytes(most).as_bytes()).is_ok_and(|found| found.3));
    assert_eq!(outcome(bytes(most + 1).as_bytes()), Err(ChunkError::TrailersTooLarge));
    let many =
        |name: &str, count: usize| format!("0\r\n{}\r\n", format!("{name}: a\r\n").repeat(count));
    assert!(outcome(many("a", HEADERS_MAX).as_bytes()).is_ok_and(|found| found.3));
    for name in ["a", "host"] {
        let over = many(name, HEADERS_MAX + 1);
        assert_eq!(outcome(over.as_bytes()), Err(ChunkError::TrailersTooLarge));
    }
    let dropped = format!("0\r\n{}", format!("host: {}\r\n", "a".repeat(1000)).repeat(10));
    assert_eq!(outcome(dropped.as_bytes()), Err(ChunkError::TrailersTooLarge));
    assert_eq!(ChunkError::TrailersTooLarge.status(), 431);
}

#[test]
fn trailers_that_must_not_go_on() {
    for name in [
        "Transfer-Encoding",
        "content-length",
        "Trailer",
        "Host",
        "Authorization",
        "Cookie",
        "Set-Cookie",
        "Connection",
        "keep-alive",
        "TE",
        "upgrade",
        "Proxy-Authorization",
        "proxy",
        "proxy-foo",
        "X-Forwarded-For",
        "x-forwarded-anything",
        "Forwarded",
        "Content-Encoding",
        "content-type",
        "Expect",
        "Range",
        "if-match",
        "Cache-Control",
        "WWW-Authenticate",
        "x-envoy-retry-on",
        "x-request-id",
        "Max-Forwards",
        "X-Real-IP",
    ] {
        let body = format!("0\r\n{name}: a\r\n\r\n");
        assert_eq!(outcome(body.as_bytes()).map(|found| found.1), Ok(Vec::new()), "{name}");
    }
    for name in ["grpc-status", "grpc-message", "Server-Timing", "Digest", "x-checksum", "ETag"] {
        let body = format!("0\r\n{name}: a\r\n\r\n");
        let expected = format!("{name}: a\r\n").into_bytes();
        assert_eq!(outcome(body.as_bytes()).map(|found| found.1), Ok(expected), "{name}");
    }
}

fn chunk_head(payload_bytes: usize) -> String {
    let mut out = [0; CHUNK_HEAD_BYTES_MAX];
    let start = write_chunk_head(&mut out, payload_bytes);
    String::from_utf8(out[start..].to_vec()).expect("ASCII")
}

#[test]
fn chunk_heads() {
    for (payload_bytes, expected) in [
        (1, "1\r\n"),
        (15, "f\r\n"),
        (16, "10\r\n"),
        (0x1234, "1234\r\n"),
        (usize::MAX, "ffffffffffffffff\r\n"),
    ] {
        assert_eq!(chunk_head(payload_bytes), expected);
    }
}

#[test]
fn last_chunks() {
    let mut out = Vec::new();
    write_last_chunk(&mut out, b"");
    assert_eq!(out, b"0\r\n\r\n");
    out.clear();
    write_last_chunk(&mut out, b"a: b\r\n");
    assert_eq!(out, b"0\r\na: b\r\n\r\n");
}

proptest! {
    #[test]
    fn encoded_bodies_come_back(
        chunks in prop::collection::vec(prop::collection::vec(any::<u8>(), 1..80), 0..8),
        sizes in prop::collection::vec(1usize..40, 1..10),
        trailers in prop::sample::select(vec!["", "a: b\r\n", "a: b\r\nc: d e\r\n"]),
        rest in prop::collection::vec(any::<u8>(), 0..20),
    ) {
        let mut bytes = Vec::new();
        for chunk in &chunks {
            let mut head = [0; CHUNK_HEAD_BYTES_MAX];
            let start = write_chunk_head(&mut head, chunk.len());
            bytes.extend_from_slice(&head[start..]);
            bytes.extend_from_slice(chunk);
            bytes.extend_from_slice(b"\r\n");
        }
        write_last_chunk(&mut bytes, trailers.as_bytes());
        bytes.extend_from_slice(&rest);
        let expected = (chunks.concat(), trailers.as_bytes().to_vec(), rest, true);
        prop_assert_eq!(decode(&bytes, &sizes), Ok(expected));
    }

    #[test]
    fn any_bytes_are_decoded_alike_at_any_split(
        bytes in prop::collection::vec(
            prop_oneof![Just(b'\r'), Just(b'\n'), Just(b'0'), Just(b'3'), Just(b';'), Just(b':'),
                Just(b' '), any::<u8>()],
            0..60,
        ),
        sizes in prop::collection::vec(1usize..10, 1..6),
    ) {
        prop_assert_eq!(decode(&bytes, &sizes), outcome(&bytes));
    }
}
