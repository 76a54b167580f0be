//! Requests whose framing is malformed or ambiguous: each is refused, closes its connection, and
//! nothing of it, nor of what was pipelined behind it, becomes a request of the upstream.

use crate::support::gateway::wait_until;
use crate::support::hello;
use crate::support::raw::{Raw, exchange};

/// What stands behind every refused request, and must never be taken for a request.
pub const SMUGGLED: &str = "GET /smuggled HTTP/1.1\r\nHost: hello.com\r\n\r\n";

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
    // One byte from the preface of HTTP/2.
    refused(&[400, 505], &["PRI * HTTP/2.0\r\n\r\nSN\r\n\r\n"]);
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
