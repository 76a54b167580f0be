//! Requests whose framing is malformed or ambiguous: each is refused, closes its connection, and
//! nothing of it, nor of what was pipelined behind it, becomes a request of the upstream.

use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};

use crate::support::gateway::wait_until;
use crate::support::raw::{Raw, exchange};
use crate::support::{Gateway, Upstream, manifests};

/// What stands behind every refused request, and must never be taken for a request.
const SMUGGLED: &str = "GET /smuggled HTTP/1.1\r\nHost: hello.com\r\n\r\n";

fn hello(arguments: &[&str]) -> (Upstream, Gateway) {
    let upstream = Upstream::start("hello");
    let gateway = Gateway::start_with(
        &[
            ("gateway.yaml", manifests::HELLO),
            ("service.yaml", &manifests::hello_service(&[upstream.address])),
        ],
        arguments,
    );
    (upstream, gateway)
}

/// Send each request with a smuggled one behind it: the answer has one of these statuses, says
/// `connection: close`, nothing follows it, and the upstream has not even been connected to.
#[track_caller]
fn refused<B: AsRef<[u8]>>(statuses: &[u16], requests: &[B]) {
    let (upstream, gateway) = hello(&[]);
    for request in requests {
        let request = request.as_ref();
        let shown = String::from_utf8_lossy(&request[..request.len().min(200)]).into_owned();
        let mut raw = Raw::connect(gateway.address);
        raw.send([request, SMUGGLED.as_bytes()].concat());
        let response = raw.response();
        assert!(statuses.contains(&response.status), "{}: {shown:?}", response.head);
        assert_eq!(response.header("connection"), Some("close"), "{shown:?}");
        assert!(raw.is_closed(), "not closed, or more than one answer: {shown:?}");
        assert_eq!(upstream.connections(), 0, "something went upstream: {shown:?}");
    }
    assert!(exchange(gateway.address, SMUGGLED).starts_with("HTTP/1.1 200 "));
    assert_eq!(upstream.seen().len(), 1, "the gateway serves on");
}

/// A request with these further field lines and a body of five bytes.
fn post(fields: &str) -> String {
    format!("POST /refused HTTP/1.1\r\nHost: hello.com\r\n{fields}\r\n\r\nhello")
}

/// A chunked request with this body.
fn chunked(body: &str) -> String {
    format!("POST /refused HTTP/1.1\r\nHost: hello.com\r\nTransfer-Encoding: chunked\r\n\r\n{body}")
}

#[test]
fn a_length_together_with_a_coding_is_refused() {
    refused(
        &[400],
        &[
            post("Content-Length: 5\r\nTransfer-Encoding: chunked"),
            post("Transfer-Encoding: chunked\r\nContent-Length: 5"),
            post("content-length: 0\r\nX-Between: 1\r\ntransfer-encoding: chunked"),
            post("Content-Length: 5\r\nTransfer-Encoding: CHUNKED"),
        ],
    );
}

#[test]
fn lengths_that_are_not_one_number_are_refused() {
    let mut requests = vec![
        post("Content-Length: 5\r\nContent-Length: 5"),
        post("Content-Length: 5\r\nContent-Length: 6"),
        post("Content-Length: 5\r\nX-Between: 1\r\ncontent-length: 0"),
    ];
    for value in [
        "5, 5",
        "5,5",
        "5, 6",
        ",5",
        "5,",
        "+5",
        "-5",
        "-0",
        "0x5",
        "5h",
        "5 5",
        "",
        " ",
        "five",
        "5.0",
        "1e1",
        "\"5\"",
        "9223372036854775809",
        "18446744073709551616",
        "18446744073709551621",
        "000000000000000000000000005",
        "５",
    ] {
        requests.push(post(&format!("Content-Length: {value}")));
    }
    refused(&[400], &requests);
}

#[test]
fn codings_other_than_one_chunked_are_refused() {
    let mut requests = vec![
        post("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked"),
        post("Transfer-Encoding: chunked\r\nTransfer-Encoding: identity"),
        post("Transfer-Encoding: identity\r\nTransfer-Encoding: chunked"),
        "POST / HTTP/1.0\r\nHost: hello.com\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"
            .to_owned(),
        "POST / HTTP/1.0\r\nHost: hello.com\r\nConnection: keep-alive\r\n\
         Transfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\nhello"
            .to_owned(),
    ];
    for value in [
        "xchunked",
        "chunkedx",
        "chunked, identity",
        "identity, chunked",
        "chunked, chunked",
        "identity",
        "chunked,",
        ",chunked",
        "chunked;a=b",
        "\"chunked\"",
        "'chunked'",
        "chunk ed",
        "chunked\tx",
        "\x0bchunked",
        "\x0cchunked",
        "chunked\x0b",
        "chunked\x00",
        "",
        "chunked, gzip",
        "cow",
        "ｃhunked",
    ] {
        requests.push(post(&format!("Transfer-Encoding: {value}")));
    }
    refused(&[400], &requests);
    refused(&[400, 501], &[post("Transfer-Encoding: gzip, gzip, chunked")]);
    refused(
        &[501],
        &[
            post("Transfer-Encoding: gzip, chunked"),
            post("Transfer-Encoding: gzip\r\nTransfer-Encoding: chunked"),
            post("Transfer-Encoding: gzip"),
            post("Transfer-Encoding: deflate, chunked"),
            post("Transfer-Encoding: compress"),
        ],
    );
}

#[test]
fn field_names_that_are_no_tokens_are_refused() {
    let mut requests = vec![
        "GET / HTTP/1.1\r\nHost : hello.com\r\n\r\n".to_owned(),
        "GET / HTTP/1.1\r\nHost\t: hello.com\r\n\r\n".to_owned(),
    ];
    for line in [
        "Content-Length : 5",
        "Content-Length\t: 5",
        "Transfer-Encoding : chunked",
        ": empty",
        "No Token: 1",
        "no(token): 1",
        "no@token: 1",
        "no\x00token: 1",
        "nö: 1",
        "no\x7f: 1",
        "\x0bContent-Length: 5",
        "no-colon",
    ] {
        requests.push(post(line));
    }
    refused(&[400], &requests);
}

#[test]
fn folded_lines_are_refused() {
    refused(
        &[400],
        &[
            post("X-Folded: a\r\n b"),
            post("X-Folded: a\r\n\tb"),
            post("Content-Length: 5\r\n "),
            post("X-Folded:\r\n Content-Length: 5"),
            post("Transfer-Encoding:\r\n chunked"),
            "GET / HTTP/1.1\r\n Host: hello.com\r\n\r\n".to_owned(),
            "GET / HTTP/1.1\r\n\tHost: hello.com\r\n\r\n".to_owned(),
            " GET / HTTP/1.1\r\nHost: hello.com\r\n\r\n".to_owned(),
        ],
    );
}

#[test]
fn line_ends_other_than_cr_lf_and_control_bytes_are_refused() {
    let mut requests = vec![
        "GET / HTTP/1.1\nHost: hello.com\r\n\r\n".to_owned(),
        "GET / HTTP/1.1\r\nHost: hello.com\n\r\n".to_owned(),
        "GET / HTTP/1.1\r\nHost: hello.com\r\n\n".to_owned(),
        "GET / HTTP/1.1\nHost: hello.com\n\n".to_owned(),
        "GET / HTTP/1.1\r\nHost: hello.com\r\nA: b\nC: d\r\n\r\n".to_owned(),
        "GET / HTTP/1.1\r\nHost: hello.com\r\nA:\nC: d\r\n\r\n".to_owned(),
        "GET / HTTP/1.1\rHost: hello.com\r\r".to_owned(),
        "GET / HTTP/1.1\r\nHost: hello.com\r\nA: b\rC: d\r\n\r\n".to_owned(),
        "GET / HTTP/1.1\r\nHost: hello.com\r\nA: b\r\r\n\r\n".to_owned(),
        "GET / HTTP/1.1\r\nHost: hello.com\r\n\rA: b\r\n\r\n".to_owned(),
        "GET / HTTP/1.1\r\r\nHost: hello.com\r\n\r\n".to_owned(),
        "GET /\r HTTP/1.1\r\nHost: hello.com\r\n\r\n".to_owned(),
        "GET /\0 HTTP/1.1\r\nHost: hello.com\r\n\r\n".to_owned(),
        "GET /\x7f HTTP/1.1\r\nHost: hello.com\r\n\r\n".to_owned(),
        "GET /\x0b HTTP/1.1\r\nHost: hello.com\r\n\r\n".to_owned(),
    ];
    for byte in (0u8..0x20).chain([0x7f]).filter(|byte| !b"\t\n\r".contains(byte)) {
        requests.push(post(&format!("X-Control: a{}b\r\nContent-Length: 5", byte as char)));
    }
    refused(&[400], &requests);
}

#[test]
fn malformed_request_lines_are_refused() {
    let mut requests = Vec::new();
    for line in [
        "GET  / HTTP/1.1",
        "GET /  HTTP/1.1",
        "GET / HTTP/1.1 ",
        "GET\t/ HTTP/1.1",
        "GET /\tHTTP/1.1",
        "GET / a HTTP/1.1",
        "GET /",
        "GET / ",
        "GET",
        "/ HTTP/1.1",
        "GET HTTP/1.1",
        "GET / http/1.1",
        "GET / Http/1.1",
        "GET / HTTP 1.1",
        "GET / HTTX/1.1",
        "G(T / HTTP/1.1",
        "GET\x00 / HTTP/1.1",
        "GET * HTTP/1.1",
        "GET hello.com HTTP/1.1",
        "GET hello.com:80 HTTP/1.1",
        "GET a/b HTTP/1.1",
        "GET ?a HTTP/1.1",
        "GET ftp://hello.com/ HTTP/1.1",
        "GET http:///a HTTP/1.1",
        "GET http://user@hello.com/ HTTP/1.1",
        "GET http://hello.com,evil.com/ HTTP/1.1",
    ] {
        requests.push(format!("{line}\r\nHost: hello.com\r\n\r\n"));
    }
    refused(&[400], &requests);
    let versions = ["HTTP/0.9", "HTTP/1.2", "HTTP/2.0", "HTTP/3.0", "HTTP/9.9"];
    // Either answer is right for a version that is none.
    refused(
        &[400, 505],
        &["HTTP/01.1", "HTTP/1", "HTTP/1.1x", "HTTP/1.10", "HTTP/+1.1"]
            .map(|version| format!("GET / {version}\r\nHost: hello.com\r\n\r\n")),
    );
    refused(&[505], &versions.map(|version| format!("GET / {version}\r\nHost: hello.com\r\n\r\n")));
    refused(&[400, 505], &["PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"]);
    refused(
        &[405],
        &[
            "CONNECT hello.com:443 HTTP/1.1\r\nHost: hello.com:443\r\n\r\n",
            "CONNECT / HTTP/1.1\r\nHost: hello.com\r\n\r\n",
        ],
    );
}

#[test]
fn hosts_that_are_missing_repeated_or_no_hosts_are_refused() {
    let mut requests = vec![
        "GET / HTTP/1.1\r\n\r\n".to_owned(),
        "GET / HTTP/1.1\r\nHost: hello.com\r\nHost: hello.com\r\n\r\n".to_owned(),
        "GET / HTTP/1.1\r\nHost: hello.com\r\nA: b\r\nhost: evil.com\r\n\r\n".to_owned(),
        "GET http://hello.com/ HTTP/1.1\r\n\r\n".to_owned(),
        "GET http://hello.com/ HTTP/1.1\r\nHost: a@b\r\n\r\n".to_owned(),
        "GET http://hello.com/ HTTP/1.1\r\nHost: hello.com\r\nHost: hello.com\r\n\r\n".to_owned(),
    ];
    for host in [
        "",
        " ",
        "hello.com, evil.com",
        "hello.com,evil.com",
        "user@hello.com",
        "user:password@hello.com",
        "hello.com evil.com",
        "hello.com/evil",
        "hello.com?evil",
        "hello.com#evil",
        "hello.com\\evil",
        "http://hello.com",
        "hello.com:80:80",
        "hello.com:99999",
        "hello.com:eighty",
        ":80",
        "[::1",
        "<hello.com>",
        "héllo.com",
    ] {
        requests.push(format!("GET / HTTP/1.1\r\nHost: {host}\r\n\r\n"));
    }
    refused(&[400], &requests);
}

#[test]
fn heads_over_a_limit_are_refused() {
    let long = "a".repeat(17 * 1024);
    refused(
        &[414],
        &[
            format!("GET /{long} HTTP/1.1\r\nHost: hello.com\r\n\r\n"),
            format!("GET /?{} HTTP/1.1\r\nHost: hello.com\r\n\r\n", "a".repeat(200_000)),
            format!("{long} / HTTP/1.1\r\nHost: hello.com\r\n\r\n"),
        ],
    );
    let get = "GET / HTTP/1.1\r\nHost: hello.com\r\n";
    refused(
        &[431],
        &[
            format!("{get}X-Long: {}\r\n\r\n", "a".repeat(61 * 1024)),
            format!("{get}X-Longer: {}\r\n\r\n", "a".repeat(500 * 1024)),
            format!("{get}{}: a\r\n\r\n", "a".repeat(61 * 1024)),
            format!("{get}{}\r\n", format!("X-Some: {}\r\n", "a".repeat(1000)).repeat(62)),
            format!("{get}{}\r\n", "X-Many: a\r\n".repeat(100)),
            format!("{get}{}\r\n", "X-Many: a\r\n".repeat(10_000)),
        ],
    );
}

#[test]
fn malformed_chunks_are_refused() {
    let mut requests = Vec::new();
    for body in [
        "\r\nhello\r\n0\r\n\r\n",
        "x\r\nhello\r\n0\r\n\r\n",
        "0x5\r\nhello\r\n0\r\n\r\n",
        "+5\r\nhello\r\n0\r\n\r\n",
        "-5\r\nhello\r\n0\r\n\r\n",
        " 5\r\nhello\r\n0\r\n\r\n",
        "5 \r\nhello\r\n0\r\n\r\n",
        "5\t\r\nhello\r\n0\r\n\r\n",
        "5\nhello\r\n0\r\n\r\n",
        "5\rhello\r\n0\r\n\r\n",
        "5\r\r\nhello\r\n0\r\n\r\n",
        "5,5\r\nhello\r\n0\r\n\r\n",
        "5\r\nhello0\r\n\r\n",
        "5\r\nhello\n0\r\n\r\n",
        "5\r\nhello\r0\r\n\r\n",
        "4\r\nhello\r\n0\r\n\r\n",
        "00000000000000005\r\nhello\r\n0\r\n\r\n",
        "10000000000000005\r\nhello\r\n0\r\n\r\n",
        "5;a\nb\r\nhello\r\n0\r\n\r\n",
        "5;a\x00b\r\nhello\r\n0\r\n\r\n",
        "5;a\rb\r\nhello\r\n0\r\n\r\n",
        "0\n\r\n",
        "0\r\n\n",
        "0\r\nno-colon\r\n\r\n",
        "0\r\n: empty\r\n\r\n",
        "0\r\nspace : a\r\n\r\n",
        "0\r\na: b\n\r\n",
        "0\r\na: b\r\n folded\r\n\r\n",
        "0\r\na: \x00\r\n\r\n",
    ] {
        requests.push(chunked(body));
    }
    requests.push(chunked(&format!("5;{}\r\nhello\r\n0\r\n\r\n", "a".repeat(257))));
    refused(&[400], &requests);
}

/// The chunk's first half is upstream already when the second turns out to be malformed: the
/// upstream request is aborted, never completed, and the client is told.
#[test]
fn a_bad_chunk_in_mid_body_aborts_the_upstream_request() {
    let extension = format!("1;{}\r\na\r\n", "e".repeat(250));
    let bodies = [
        "x\r\nhello\r\n0\r\n\r\n".to_owned(),
        "5\nhello\r\n0\r\n\r\n".to_owned(),
        "5\r\nhelloX\r\n0\r\n\r\n".to_owned(),
        "0\r\nno-colon\r\n\r\n".to_owned(),
        "0\r\n\n".to_owned(),
        // Each extension is short enough, together they are too long.
        format!("{}0\r\n\r\n", extension.repeat(66)),
        format!("0\r\nlong: {}\r\n\r\n", "a".repeat(8 * 1024)),
    ];
    let (upstream, gateway) = hello(&[]);
    for body in bodies {
        upstream.forget();
        let begun = upstream.begun();
        let mut raw = Raw::connect(gateway.address);
        raw.send(chunked("5\r\nfirst\r\n"));
        wait_until("the head is upstream", || upstream.begun() > begun);
        raw.send(body.as_bytes());
        raw.send(SMUGGLED);
        let response = raw.response();
        assert_eq!(response.status, 400, "{body:?}");
        assert_eq!(response.header("connection"), Some("close"), "{body:?}");
        assert!(raw.is_closed(), "{body:?}");
        wait_until("the upstream notices", || !upstream.seen().is_empty());
        let seen = upstream.seen();
        assert_eq!(seen.len(), 1, "{body:?}");
        assert!(!seen[0].complete, "the upstream took {body:?} for a complete request");
    }
    assert!(exchange(gateway.address, SMUGGLED).starts_with("HTTP/1.1 200 "));
}

/// Variants that are well-formed, however odd: each reaches the upstream as exactly one request
/// with one framing field.
#[test]
fn odd_but_well_formed_requests_are_one_request() {
    let (upstream, gateway) = hello(&[]);
    let accepted: &[(&str, &str, &[u8])] = &[
        ("POST /a HTTP/1.1\r\nHost: hello.com\r\nContent-Length: 5\r\n\r\nhello", "/a", b"hello"),
        ("POST /a HTTP/1.1\r\nHOST:hello.com\r\ncONTENT-lENGTH:5\r\n\r\nhello", "/a", b"hello"),
        (
            "POST /a HTTP/1.1\r\nHost: \t hello.com \t\r\nContent-Length: \t5\t \r\n\r\nhello",
            "/a",
            b"hello",
        ),
        ("POST /a HTTP/1.1\r\nHost: hello.com\r\nContent-Length: 005\r\n\r\nhello", "/a", b"hello"),
        (
            "POST /a HTTP/1.1\r\nHost: hello.com\r\nTransfer-Encoding: cHuNkEd\r\n\r\n\
             5\r\nhello\r\n0\r\n\r\n",
            "/a",
            b"hello",
        ),
        (
            "POST /a HTTP/1.1\r\nHost: hello.com\r\nTransfer-Encoding: chunked\r\n\r\n\
             0000000000000001\r\nh\r\nA;x=y\r\n0123456789\r\n000\r\n\r\n",
            "/a",
            b"h0123456789",
        ),
        (
            "POST /a HTTP/1.1\r\nHost: hello.com\r\nTransfer-Encoding: chunked\r\n\r\n\
             5;name=\"quoted; value\";b\r\nhello\r\n0;last\r\n\r\n",
            "/a",
            b"hello",
        ),
        ("\r\nGET /a HTTP/1.1\r\nHost: hello.com\r\n\r\n", "/a", b""),
        ("GET /a HTTP/1.1\r\nHost: hello.com\r\nContent-Length: 0\r\n\r\n", "/a", b""),
        ("GET /a HTTP/1.1\r\nHost: hello.com\r\nContent-Length: 5\r\n\r\nhello", "/a", b"hello"),
        ("DELETE /a HTTP/1.1\r\nHost: hello.com\r\nContent-Length: 5\r\n\r\nhello", "/a", b"hello"),
        (
            "HEAD /a HTTP/1.1\r\nHost: hello.com\r\nTransfer-Encoding: chunked\r\n\r\n\
             5\r\nhello\r\n0\r\n\r\n",
            "/a",
            b"hello",
        ),
        ("GET /a HTTP/1.1\r\nHost: HELLO.com:80\r\nX-Empty:\r\n\r\n", "/a", b""),
        ("GET /a?b=c%20d&e HTTP/1.1\r\nHost: hello.com\r\n\r\n", "/a?b=c%20d&e", b""),
        ("GET http://hello.com/a?b HTTP/1.1\r\nHost: hello.com\r\n\r\n", "/a?b", b""),
        ("GET http://hello.com HTTP/1.1\r\nHost: hello.com\r\n\r\n", "/", b""),
        ("GET HTTP://hello.com/ HTTP/1.1\r\nHost: elsewhere.com\r\n\r\n", "/", b""),
        ("OPTIONS * HTTP/1.1\r\nHost: hello.com\r\n\r\n", "*", b""),
        ("BREW /a HTTP/1.1\r\nHost: hello.com\r\n\r\n", "/a", b""),
        ("POST /a HTTP/1.0\r\nHost: hello.com\r\nContent-Length: 5\r\n\r\nhello", "/a", b"hello"),
    ];
    for (request, target, body) in accepted {
        upstream.forget();
        let text = exchange(gateway.address, request);
        assert!(text.starts_with("HTTP/1.1 200 "), "{request:?}: {text}");
        let seen = upstream.seen();
        assert_eq!(seen.len(), 1, "{request:?}");
        let seen = &seen[0];
        assert!(seen.complete, "{request:?}");
        assert_eq!((seen.target.as_str(), seen.body.as_slice()), (*target, *body), "{request:?}");
        let hosts: Vec<&str> = values(&seen.headers, "host");
        assert_eq!(hosts.len(), 1, "{request:?}");
        assert!(hosts[0].to_ascii_lowercase().starts_with("hello.com"), "{request:?}: {hosts:?}");
        let framing = values(&seen.headers, "content-length").len()
            + values(&seen.headers, "transfer-encoding").len();
        assert!(framing <= 1, "{request:?}: {:?}", seen.headers);
    }
}

fn values<'a>(headers: &'a [(String, String)], name: &str) -> Vec<&'a str> {
    headers
        .iter()
        .filter(|(field, _)| field.eq_ignore_ascii_case(name))
        .map(|(_, value)| value.as_str())
        .collect()
}

#[test]
fn connection_takes_away_only_fields_for_one_hop() {
    let (upstream, gateway) = hello(&[]);
    let text = exchange(
        gateway.address,
        "POST /a HTTP/1.1\r\nHost: hello.com\r\nContent-Length: 5\r\nAuthorization: Basic eA==\r\n\
         X-Forwarded-For: 1.2.3.4\r\nX-Forwarded-Host: a\r\nCookie: a=b\r\nX-Hop: 1\r\n\
         X-Other-Hop: 2\r\nX-Stays: 3\r\nKeep-Alive: timeout=5\r\nProxy-Connection: keep-alive\r\n\
         Proxy-Authorization: Basic eA==\r\nTE: gzip, trailers\r\n\
         Connection: close, content-length, host, authorization, x-forwarded-for\r\n\
         Connection: X-HOP, transfer-encoding, x-forwarded-host, cookie, x-request-id\r\n\
         Connection: x-other-hop, te\r\n\r\nhello",
    );
    assert!(text.starts_with("HTTP/1.1 200 "), "{text}");
    let seen = upstream.last();
    assert_eq!(seen.body, b"hello");
    for (name, value) in [
        ("host", "hello.com"),
        ("content-length", "5"),
        ("authorization", "Basic eA=="),
        ("x-forwarded-for", "1.2.3.4,127.0.0.1"),
        ("x-forwarded-host", "a"),
        ("cookie", "a=b"),
        ("x-stays", "3"),
        ("te", "trailers"),
    ] {
        assert_eq!(values(&seen.headers, name), [value], "{name}: {:?}", seen.headers);
    }
    assert!(seen.header("x-request-id").is_some());
    for name in [
        "connection",
        "x-hop",
        "x-other-hop",
        "keep-alive",
        "proxy-connection",
        "proxy-authorization",
        "transfer-encoding",
    ] {
        assert_eq!(seen.header(name), None, "{name}");
    }
}

#[test]
fn an_upgrade_to_h2c_is_neither_honoured_nor_forwarded() {
    let (upstream, gateway) = hello(&[]);
    for upgrade in ["h2c", "H2C", "websocket, h2c", "h2c-14"] {
        let text = exchange(
            gateway.address,
            format!(
                "GET /a HTTP/1.1\r\nHost: hello.com\r\nConnection: Upgrade, HTTP2-Settings\r\n\
                 Upgrade: {upgrade}\r\nHTTP2-Settings: AAMAAABkAARAAAAAAAIAAAAA\r\n\r\n"
            ),
        );
        assert!(text.starts_with("HTTP/1.1 200 "), "{text}");
        let seen = upstream.last();
        for name in ["connection", "upgrade", "http2-settings"] {
            assert_eq!(seen.header(name), None, "{upgrade}: {name}");
        }
    }
    // An upgrade that Connection does not name is none.
    exchange(gateway.address, "GET /a HTTP/1.1\r\nHost: hello.com\r\nUpgrade: websocket\r\n\r\n");
    assert_eq!(upstream.last().header("upgrade"), None);
}

/// What is pipelined behind a request that asks for an upgrade or for `100 Continue` waits until
/// that one is answered, and is then one request.
#[test]
fn pipelined_bytes_wait_behind_upgrade_and_expect() {
    let (upstream, gateway) = hello(&[]);
    for fields in [
        "Connection: Upgrade\r\nUpgrade: websocket",
        "Connection: Upgrade\r\nUpgrade: h2c",
        "Expect: 100-continue",
    ] {
        upstream.forget();
        let text = exchange(
            gateway.address,
            format!("GET /first HTTP/1.1\r\nHost: hello.com\r\n{fields}\r\n\r\n{SMUGGLED}"),
        );
        assert_eq!(text.matches("HTTP/1.1 200 ").count(), 2, "{fields}: {text}");
        let targets: Vec<String> = upstream.seen().into_iter().map(|seen| seen.target).collect();
        assert_eq!(targets, ["/first", "/smuggled"], "{fields}");
    }
    // What belongs to a body is not a request, whether or not the client waits for 100.
    upstream.forget();
    let text = exchange(
        gateway.address,
        format!(
            "POST /first HTTP/1.1\r\nHost: hello.com\r\nExpect: 100-continue\r\n\
             Content-Length: {}\r\n\r\n{SMUGGLED}",
            SMUGGLED.len()
        ),
    );
    assert_eq!(text.matches("HTTP/1.1 200 ").count(), 1, "{text}");
    assert_eq!(upstream.seen().len(), 1);
    assert_eq!(upstream.last().body, SMUGGLED.as_bytes());
}

#[test]
fn trailers_that_frame_route_or_authenticate_are_dropped() {
    let (upstream, gateway) = hello(&[]);
    let text = exchange(
        gateway.address,
        "POST /a HTTP/1.1\r\nHost: hello.com\r\nTrailer: x-checksum\r\n\
         Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\nX-Checksum: 1\r\n\
         Content-Length: 3\r\nTransfer-Encoding: chunked\r\nHost: evil.com\r\n\
         Authorization: Basic eA==\r\nConnection: close\r\nX-Forwarded-For: 6.6.6.6\r\n\
         Cookie: a=b\r\nTE: gzip\r\nContent-Type: text/evil\r\n\r\n",
    );
    assert!(text.starts_with("HTTP/1.1 200 "), "{text}");
    let seen = upstream.last();
    assert_eq!(seen.trailers, [("x-checksum".to_owned(), "1".to_owned())]);
    assert_eq!(values(&seen.headers, "host"), ["hello.com"]);
    assert_eq!(values(&seen.headers, "x-forwarded-for"), ["127.0.0.1"]);
}

#[test]
fn a_head_may_come_in_pieces() {
    let (upstream, gateway) = hello(&[]);
    let request = "\r\nPOST /pieces HTTP/1.1\r\nHost: hello.com\r\nX-Long: 0123456789\r\n\
                   Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\nX-End: 1\r\n\r\n";
    for size in [1, 2, 7] {
        upstream.forget();
        let mut raw = Raw::connect(gateway.address);
        for piece in request.as_bytes().chunks(size) {
            raw.send(piece);
            // Only makes it likelier that pieces arrive one by one.
            std::thread::sleep(std::time::Duration::from_millis(1));
        }
        assert_eq!(raw.response().status, 200);
        assert_eq!(upstream.seen().len(), 1);
        assert_eq!(upstream.last().body, b"hello");
    }
    // Refused as soon as the fault is seen, in whatever pieces it came.
    let mut raw = Raw::connect(gateway.address);
    for piece in "GET / HTTP/1.1\r\nHost: hello.com\r\nBad Name: 1\r\n\r\n".as_bytes().chunks(3) {
        raw.send(piece);
        std::thread::sleep(std::time::Duration::from_millis(1));
    }
    assert_eq!(raw.response().status, 400);
    assert!(raw.is_closed());
}

#[test]
fn a_large_head_within_the_limits_is_served() {
    let (upstream, gateway) = hello(&[]);
    let fields: String =
        (0..55).map(|index| format!("X-{index}: {}\r\n", "a".repeat(1000))).collect();
    let text = exchange(
        gateway.address,
        format!("GET /large HTTP/1.1\r\nHost: hello.com\r\n{fields}\r\n{SMUGGLED}"),
    );
    assert_eq!(text.matches("HTTP/1.1 200 ").count(), 2, "{text}");
    let seen = upstream.seen();
    assert_eq!(seen[0].headers.iter().filter(|(_, value)| value.len() == 1000).count(), 55);
    assert_eq!(seen[1].target, "/smuggled");
}

#[test]
fn a_slow_head_is_answered_408() {
    let (upstream, gateway) = hello(&["--request-head-timeout", "300ms"]);
    for start in ["G", "\r\n", "GET / HTTP/1.1\r\nHost: hello.com\r\n"] {
        let mut raw = Raw::connect(gateway.address);
        raw.send(start);
        let response = raw.response();
        assert_eq!(response.status, 408, "{start:?}");
        assert_eq!(response.header("connection"), Some("close"));
        assert!(raw.is_closed());
    }
    // A connection that says nothing at all is idle, not slow; and another one is not disturbed.
    let mut idle = Raw::connect(gateway.address);
    let mut slow = Raw::connect(gateway.address);
    slow.send("GET /slow");
    assert_eq!(slow.response().status, 408);
    idle.send("GET / HTTP/1.1\r\nHost: hello.com\r\n\r\n");
    assert_eq!(idle.response().status, 200);
    assert_eq!(upstream.seen().len(), 1);
}

#[test]
fn a_stalled_body_is_answered_408_and_never_completed() {
    let (upstream, gateway) = hello(&["--progress-timeout", "300ms"]);
    for request in [
        "POST / HTTP/1.1\r\nHost: hello.com\r\nContent-Length: 5\r\n\r\nhel".to_owned(),
        "POST / HTTP/1.1\r\nHost: hello.com\r\nContent-Length: 5\r\n\r\n".to_owned(),
        chunked("5\r\nhello\r\n"),
        chunked("5\r\nhel"),
        chunked(""),
    ] {
        upstream.forget();
        let mut raw = Raw::connect(gateway.address);
        raw.send(&request);
        let response = raw.response();
        assert_eq!(response.status, 408, "{request:?}");
        assert_eq!(response.header("connection"), Some("close"));
        assert!(raw.is_closed());
        wait_until("the upstream notices", || !upstream.seen().is_empty());
        assert!(upstream.seen().iter().all(|seen| !seen.complete), "{request:?}");
    }
}

/// A body that ends early leaves the upstream with an aborted request, not a short one.
#[test]
fn a_body_that_is_cut_is_never_completed() {
    let (upstream, gateway) = hello(&[]);
    for request in [
        "POST / HTTP/1.1\r\nHost: hello.com\r\nContent-Length: 5\r\n\r\nhel".to_owned(),
        chunked("5\r\nhello\r\n"),
        chunked("5\r\nhello\r\n0\r\n"),
        chunked("5\r\nhello\r\n0\r\nx: y\r\n"),
    ] {
        upstream.forget();
        let text = exchange(gateway.address, &request);
        assert!(!text.contains(" 200 "), "{request:?}: {text}");
        wait_until("the upstream notices", || !upstream.seen().is_empty());
        assert!(upstream.seen().iter().all(|seen| !seen.complete), "{request:?}");
    }
    // A cut head is nothing.
    upstream.forget();
    assert_eq!(exchange(gateway.address, "GET / HTTP/1.1\r\nHost: hello.com\r\n"), "");
    assert!(upstream.seen().is_empty());
}

/// Requests that mutations start from, together one pipelined stream.
const STREAM: &str = "GET /1 HTTP/1.1\r\nHost: hello.com\r\nAccept: */*\r\n\r\n\
    POST /2 HTTP/1.1\r\nHost: hello.com\r\nContent-Length: 42\r\n\r\n\
    GET /in-body HTTP/1.1\r\nHost: hello.com\r\n\r\n\
    POST /3 HTTP/1.1\r\nHost: hello.com\r\nTransfer-Encoding: chunked\r\n\r\n\
    5\r\nhello\r\n1c;x=y\r\nGET /c HTTP/1.1\r\nHost: a\r\n\r\n\r\n0\r\nX-T: 1\r\n\r\n\
    PUT /4 HTTP/1.1\r\nHost: hello.com\r\nConnection: x-a\r\nX-A: b\r\nContent-Length: 0\r\n\r\n\
    GET http://hello.com/5 HTTP/1.1\r\nHost: hello.com\r\n\r\n";

/// One change of the stream.
#[derive(Clone, Debug)]
enum Mutation {
    Replace(usize, u8),
    Insert(usize, &'static str),
    Remove(usize, usize),
    Repeat(usize, usize),
}

impl Mutation {
    fn apply(&self, stream: &mut Vec<u8>) {
        let at = |position: usize| position % stream.len().max(1);
        match self {
            Mutation::Replace(position, byte) => {
                let position = at(*position);
                if let Some(old) = stream.get_mut(position) {
                    *old = *byte;
                }
            }
            Mutation::Insert(position, text) => {
                let position = at(*position);
                stream.splice(position..position, text.bytes());
            }
            Mutation::Remove(position, length) => {
                let position = at(*position);
                let end = (position + length).min(stream.len());
                stream.drain(position..end);
            }
            Mutation::Repeat(position, length) => {
                let position = at(*position);
                let end = (position + length).min(stream.len());
                let part = stream[position..end].to_vec();
                stream.splice(position..position, part);
            }
        }
    }
}

fn mutation() -> impl Strategy<Value = Mutation> {
    let place = 0..STREAM.len();
    let pieces = prop::sample::select(vec![
        "\r\n",
        "\n",
        "\r",
        "\0",
        " ",
        "\t",
        ":",
        ",",
        ";",
        "0",
        "5",
        "\r\n\r\n",
        "\r\nContent-Length: 5",
        "\r\nContent-Length: 0",
        "\r\nTransfer-Encoding: chunked",
        "\r\nTransfer-Encoding: identity",
        "\r\nTransfer-Encoding:\x0bchunked",
        "\r\nConnection: close, content-length",
        "\r\n folded",
        "\r\nHost: evil.com",
        "0\r\n\r\n",
        "\r\nExpect: 100-continue",
        "\r\nConnection: upgrade\r\nUpgrade: websocket",
    ]);
    prop_oneof![
        (place.clone(), any::<u8>()).prop_map(|(at, byte)| Mutation::Replace(at, byte)),
        (place.clone(), pieces).prop_map(|(at, text)| Mutation::Insert(at, text)),
        (place.clone(), 1..40usize).prop_map(|(at, length)| Mutation::Remove(at, length)),
        (place, 1..60usize).prop_map(|(at, length)| Mutation::Repeat(at, length)),
    ]
}

/// However a stream is damaged: the requests that the upstream took for complete are those, in
/// order, whose answers the client got.
#[test]
fn the_upstream_sees_the_requests_that_the_client_got_answers_to() {
    let upstream = Upstream::start_with("hello", |seen| {
        let mut response = hyper::Response::new(Default::default());
        if let Ok(value) = seen.target.parse() {
            response.headers_mut().insert("x-target", value);
        }
        response
    });
    let gateway = Gateway::start(&[
        ("gateway.yaml", manifests::HELLO),
        ("service.yaml", &manifests::hello_service(&[upstream.address])),
    ]);
    let mut runner =
        TestRunner::new(Config { cases: 400, failure_persistence: None, ..Config::default() });
    let strategy = (prop::collection::vec(mutation(), 0..4), 1..STREAM.len());
    runner
        .run(&strategy, |(mutations, split)| {
            let mut stream = STREAM.as_bytes().to_vec();
            for mutation in &mutations {
                mutation.apply(&mut stream);
            }
            upstream.forget();
            let mut raw = Raw::connect(gateway.address);
            let (first, rest) = stream.split_at(split.min(stream.len()));
            raw.send(first);
            raw.send(rest);
            raw.finish_sending();
            let bytes = raw.read_to_end();
            let answered: Vec<String> = String::from_utf8_lossy(&bytes)
                .lines()
                .filter_map(|line| line.strip_prefix("x-target: ").map(str::to_owned))
                .collect();
            let complete: Vec<String> = upstream
                .seen()
                .into_iter()
                .filter(|seen| seen.complete)
                .map(|seen| seen.target)
                .collect();
            prop_assert_eq!(&complete, &answered, "{:?}", String::from_utf8_lossy(&stream));
            if mutations.is_empty() {
                prop_assert_eq!(complete, ["/1", "/2", "/3", "/4", "/5"]);
            }
            Ok(())
        })
        .unwrap_or_else(|failure| panic!("{failure}"));
}
