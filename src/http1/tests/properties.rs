//! Properties of whole heads: any bytes, any split, one reading.

use proptest::prelude::*;
use proptest::strategy::ValueTree;

use super::*;
use crate::http::{KnownHeader, RequestHead};

fn write_field(out: &mut Vec<u8>, name: &[u8], value: &[u8]) {
    out.extend_from_slice(&[name, b": ", value, b"\r\n"].concat());
}

/// One head as it would be forwarded: from parts, with one `Host` and one framing field.
fn forward(parsed: &ParsedRequest<'_>) -> Vec<u8> {
    let RequestHead { method, path, query, authority, headers, .. } = parsed.head;
    let mut out = method.to_vec();
    out.push(b' ');
    out.extend_from_slice(path);
    if let Some(query) = query {
        out.push(b'?');
        out.extend_from_slice(query);
    }
    out.extend_from_slice(b" HTTP/1.1\r\n");
    write_field(&mut out, b"host", authority);
    for field in headers {
        let own = matches!(field.known, KnownHeader::ContentLength | KnownHeader::Host);
        if !own && !is_hop_by_hop(field) && !parsed.connection_nominated.contains(field) {
            write_field(&mut out, field.name, field.value);
        }
    }
    match parsed.body {
        BodyLength::Fixed(length) => {
            write_field(&mut out, b"content-length", length.to_string().as_bytes());
        }
        BodyLength::Chunked => write_field(&mut out, b"transfer-encoding", b"chunked"),
        BodyLength::Empty | BodyLength::UntilClose => {}
    }
    out.extend_from_slice(b"\r\n");
    out
}

/// What a careless server makes of a head: lines end at LF or CR, names are trimmed, folded lines
/// are joined, unknown white space is skipped, every field that looks like framing counts.
#[derive(Debug, PartialEq)]
struct LaxHead {
    head_bytes: usize,
    hosts: usize,
    lengths: Vec<String>,
    chunked: bool,
}

fn lax_head(bytes: &[u8]) -> Option<LaxHead> {
    let mut head = LaxHead { head_bytes: 0, hosts: 0, lengths: Vec::new(), chunked: false };
    let mut lines: Vec<String> = Vec::new();
    loop {
        let rest = &bytes[head.head_bytes..];
        let end = rest.iter().position(|byte| matches!(byte, b'\n' | b'\r'))?;
        let skip = if rest[end..].starts_with(b"\r\n") { 2 } else { 1 };
        let line = String::from_utf8_lossy(&rest[..end]).into_owned();
        head.head_bytes += end + skip;
        if line.trim().is_empty() {
            if lines.is_empty() {
                continue;
            }
            break;
        }
        match lines.last_mut() {
            Some(last) if line.starts_with([' ', '\t']) => last.push_str(&line),
            _ => lines.push(line),
        }
    }
    for line in &lines[1..] {
        let (name, value) = line.split_once(':').unwrap_or((line, ""));
        let name: String = name.chars().filter(char::is_ascii_graphic).collect();
        match name.to_ascii_lowercase().replace('_', "-").as_str() {
            "host" => head.hosts += 1,
            "content-length" => head.lengths.push(value.trim().to_owned()),
            "transfer-encoding" => head.chunked |= value.to_ascii_lowercase().contains("chunked"),
            _ => {}
        }
    }
    Some(head)
}

/// Heads that are mostly right, with the odd things that smuggling is made of.
fn odd_head() -> impl Strategy<Value = Vec<u8>> {
    let pick =
        |options: &'static [&'static str]| prop::sample::select(options).prop_map(str::to_owned);
    let first = prop_oneof![
        8 => pick(&["GET / HTTP/1.1", "POST /a?b#c HTTP/1.1", "GET http://h:1/x HTTP/1.1"]),
        1 => pick(&["GET / HTTP/1.0", "OPTIONS * HTTP/1.1", "GET  / HTTP/1.1", "G /\tHTTP/1.1",
            "CONNECT a:1 HTTP/1.1", "GET /\u{e9} HTTP/1.1", "", "GET http://u@h HTTP/1.1"]),
    ];
    let field = prop_oneof![
        12 => pick(&["Accept: */*", "Content-Length: 5", "Transfer-Encoding: chunked", "A: b",
            "Cookie: a=b; c", "Connection: x-a, close", "X-A: \tc d ", "Expect: 100-continue",
            "Connection: content-length, host, transfer-encoding", "TE: trailers", "A:",
            "Connection: upgrade", "Upgrade: websocket", "Proxy-Foo: a", "X: Host: b"]),
        2 => pick(&["Content-Length: 5, 5", "Content-Length: +5", "Transfer-Encoding: xchunked",
            "Transfer-Encoding:\tchunked", "Content-Length : 5", " folded", "Host: b", "a\rb: c",
            "A: b\rContent-Length: 9", "A: b\nTransfer-Encoding: chunked", "\u{b}A: b", "A: \0",
            "Upgrade: h2c", ": a", "Transfer-Encoding: gzip, chunked", "Content-Length: "]),
        1 => proptest::string::string_regex("[ -~\\t]{0,20}").expect("regex"),
    ];
    let end =
        || prop_oneof![30 => Just("\r\n"), 1 => Just("\n"), 1 => Just("\r"), 1 => Just("\r\r\n")];
    (
        prop_oneof![10 => Just(""), 1 => Just("\r\n"), 1 => Just("\n")],
        (first, end()),
        prop_oneof![9 => Just("Host: a.example:80\r\n"), 1 => Just(""), 1 => Just("Host: a,b\r\n")],
        prop::collection::vec((field, end()), 0..6),
        end(),
    )
        .prop_map(|(before, first, host, fields, end)| {
            let mut head = format!("{before}{}{}{host}", first.0, first.1);
            for (field, end) in fields {
                head.push_str(&field);
                head.push_str(end);
            }
            head.push_str(end);
            head.into_bytes()
        })
}

/// All that a parse says, as text that can be compared.
fn said_of_request(bytes: &[u8]) -> Result<Option<String>, RequestError> {
    request(bytes, |parsed| format!("{parsed:?}"))
}

fn any_head() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        4 => odd_head(),
        1 => prop::collection::vec(any::<u8>(), 0..200),
        1 => (odd_head(), any::<prop::sample::Index>(), any::<u8>()).prop_map(|(mut head, at, byte)| {
            let at = at.index(head.len());
            head[at] = byte;
            head
        }),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1024))]

    #[test]
    fn any_bytes_are_read_without_panic(bytes in any_head(), is_head: bool) {
        let _ = said_of_request(&bytes);
        let _ = response(&bytes, is_head, |parsed| format!("{parsed:?}"));
        let mut status = b"HTTP/1.1 200 OK\r\n".to_vec();
        status.extend_from_slice(&bytes);
        let _ = response(&status, is_head, |parsed| format!("{parsed:?}"));
    }

    /// A prefix is incomplete, or says what the whole says; the scanner never holds a parse back
    /// that would find a complete head.
    #[test]
    fn splitting_changes_nothing(bytes in any_head()) {
        let whole = said_of_request(&bytes);
        let mut scanner = HeadScanner::new();
        for end in 0..bytes.len() {
            let ready = scanner.may_be_complete(&bytes[..end]);
            match said_of_request(&bytes[..end]) {
                Ok(None) => {}
                Ok(found) => {
                    prop_assert!(ready);
                    prop_assert_eq!(&Ok(found), &whole);
                }
                error => prop_assert_eq!(&error, &whole),
            }
        }
        if matches!(whole, Ok(Some(_))) {
            prop_assert!(scanner.may_be_complete(&bytes));
        }
    }

    /// What is accepted and forwarded has one reading: ours again, and a careless parser's.
    #[test]
    fn forwarded_heads_have_one_reading(bytes in any_head()) {
        let read = request(&bytes, |parsed| {
            (forward(parsed), parsed.body, parsed.head.authority.to_vec(), parsed.head_bytes)
        });
        let Ok(Some((sent, body, authority, head_bytes))) = read else {
            return Ok(());
        };
        prop_assert!(head_bytes <= bytes.len());
        if authority.is_empty() {
            // HTTP/1.0 without Host: the gateway refuses it one level up.
            return Ok(());
        }
        let again = request(&sent, |parsed| {
            (forward(parsed), parsed.body, parsed.head.authority.to_vec(), parsed.head_bytes)
        });
        prop_assert_eq!(again, Ok(Some((sent.clone(), body, authority, sent.len()))));
        let expected = LaxHead {
            head_bytes: sent.len(),
            hosts: 1,
            lengths: match body {
                BodyLength::Fixed(length) => vec![length.to_string()],
                _ => Vec::new(),
            },
            chunked: body == BodyLength::Chunked,
        };
        prop_assert_eq!(lax_head(&sent), Some(expected));
    }
}

/// The generator above must not be so odd that nothing is accepted.
#[test]
fn odd_heads_are_often_accepted() {
    let mut runner = proptest::test_runner::TestRunner::deterministic();
    let accepted = (0..500)
        .filter(|_| {
            let head = odd_head().new_tree(&mut runner).expect("a head").current();
            matches!(request(&head, |_| ()), Ok(Some(())))
        })
        .count();
    assert!(accepted > 50, "{accepted} of 500");
}
