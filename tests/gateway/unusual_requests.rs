//! Requests that are well-formed, however odd: each reaches the upstream as one request, without what
//! concerns one connection only.

use crate::framing::SMUGGLED;
use crate::support::hello;
use crate::support::raw::{Raw, exchange};

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
