//! Well-formed messages of every kind go through whole: pipelined ones, interim responses, old clients,
//! early answers, fields as they came.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::Mutex;
use std::sync::mpsc::channel;
use std::time::Duration;

use http_body_util::Full;
use hyper::Response;
use hyper::body::Bytes;

use crate::support::gateway::wait_until;
use crate::support::manifests::{any_host, service};
use crate::support::raw::{Raw, exchange};
use crate::support::upstream::{Scripted, Seen, read_head};
use crate::support::{Gateway, Upstream, pattern};

const GET: &str = "GET / HTTP/1.1\r\nHost: hello.com\r\n\r\n";

#[test]
fn pipelined_requests_are_answered_in_order() {
    let upstream = Upstream::start_with("echo", |seen: &Seen| {
        let text = format!("{} {}", seen.target, seen.body.len());
        Response::new(Full::new(Bytes::from(text)))
    });
    let gateway = Gateway::before(&[upstream.address], &[]);
    let mut stream = Vec::new();
    let mut expected = Vec::new();
    for index in 0..50 {
        let size = [0, 7, 2000, 40_000][index % 4];
        match index % 3 {
            0 => stream.extend(format!("GET /{index} HTTP/1.1\r\nHost: hello.com\r\n\r\n").bytes()),
            1 => {
                stream.extend(
                    format!(
                        "POST /{index} HTTP/1.1\r\nHost: hello.com\r\nContent-Length: {size}\r\n\r\n"
                    )
                    .bytes(),
                );
                stream.extend(pattern(size));
            }
            _ => {
                stream.extend(
                    format!(
                        "PUT /{index} HTTP/1.1\r\nHost: hello.com\r\n\
                         Transfer-Encoding: chunked\r\n\r\n"
                    )
                    .bytes(),
                );
                for piece in pattern(size).chunks(3000) {
                    stream.extend(format!("{:x}\r\n", piece.len()).bytes());
                    stream.extend(piece);
                    stream.extend(b"\r\n");
                }
                stream.extend(b"0\r\n\r\n");
            }
        }
        expected.push(format!("/{index} {}", if index % 3 == 0 { 0 } else { size }));
    }
    let mut raw = Raw::connect(gateway.address);
    raw.send(stream);
    for text in expected {
        let response = raw.response();
        assert_eq!(response.status, 200);
        assert_eq!(String::from_utf8_lossy(&response.body), text);
    }
    raw.finish_sending();
    assert!(raw.is_closed());
    assert_eq!(upstream.seen().len(), 50);
}

#[test]
fn a_connection_is_kept_until_one_side_ends_it() {
    let upstream = Upstream::start("hello");
    let gateway = Gateway::before(&[upstream.address], &[]);
    let mut raw = Raw::connect(gateway.address);
    for _ in 0..20 {
        raw.send(GET);
        let response = raw.response();
        assert_eq!((response.status, response.header("connection")), (200, None));
    }
    raw.send("GET / HTTP/1.1\r\nHost: hello.com\r\nConnection: Close\r\n\r\n");
    let response = raw.response();
    assert_eq!((response.status, response.header("connection")), (200, Some("close")));
    assert!(raw.is_closed());
    assert_eq!(upstream.connections(), 1, "the upstream's connection was kept too");
    // Also behind an answer of the gateway itself, with its request's body read or not.
    let mut raw = Raw::connect(gateway.address);
    raw.send("POST / HTTP/1.1\r\nHost: none.com\r\nContent-Length: 5\r\n\r\nhello");
    assert_eq!(raw.response().status, 404);
    raw.send(GET);
    assert_eq!(raw.response().status, 200);
    raw.send("POST / HTTP/1.1\r\nHost: none.com\r\nContent-Length: 500000\r\n\r\nhello");
    let response = raw.response();
    assert_eq!((response.status, response.header("connection")), (404, Some("close")));
    assert!(raw.is_closed());
}

#[test]
fn interim_responses_are_relayed_to_clients_that_know_them() {
    let upstream = Scripted::answering(
        "HTTP/1.1 102 Processing\r\n\r\n\
         HTTP/1.1 103 Early Hints\r\nLink: </style.css>; rel=preload\r\nConnection: x\r\nX: 1\r\n\r\n\
         HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok",
        false,
    );
    let gateway = Gateway::before(&[upstream.address], &[]);
    let mut raw = Raw::connect(gateway.address);
    for _ in 0..2 {
        raw.send(GET);
        assert_eq!(raw.response_head().status, 102);
        let hints = raw.response_head();
        assert_eq!(hints.status, 103);
        assert_eq!(hints.header("link"), Some("</style.css>; rel=preload"));
        assert_eq!(hints.header("x"), None);
        assert_eq!(hints.header("content-length"), None);
        let response = raw.response();
        assert_eq!((response.status, response.body.as_slice()), (200, b"ok".as_slice()));
    }
    let text = exchange(gateway.address, "GET / HTTP/1.0\r\nHost: hello.com\r\n\r\n");
    assert!(text.starts_with("HTTP/1.1 200 "), "{text}");
    assert_eq!(text.matches("HTTP/1.1 ").count(), 1, "{text}");
}

#[test]
fn a_client_that_waits_for_100_continue_gets_it() {
    let upstream = Upstream::echo();
    let gateway = Gateway::before(&[upstream.address], &[]);
    let mut raw = Raw::connect(gateway.address);
    for (framing, body) in
        [("Content-Length: 5", "hello"), ("Transfer-Encoding: chunked", "5\r\nhello\r\n0\r\n\r\n")]
    {
        raw.send(format!(
            "POST / HTTP/1.1\r\nHost: hello.com\r\nExpect: 100-Continue\r\n{framing}\r\n\r\n"
        ));
        assert_eq!(raw.response_head().status, 100);
        raw.send(body);
        let response = raw.response();
        assert_eq!((response.status, response.body.as_slice()), (200, b"hello".as_slice()));
        assert!(upstream.last().header("expect").is_some());
    }
    // A client that does not wait is served as well.
    raw.send(
        "POST / HTTP/1.1\r\nHost: hello.com\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n\
         hello",
    );
    let mut response = raw.response_head();
    if response.status == 100 {
        response = raw.response();
        assert_eq!(response.body, b"hello");
    }
    assert_eq!(response.status, 200);
    // An HTTP/1.0 client knows no 100, whatever it asks for.
    let text = exchange(
        gateway.address,
        "POST / HTTP/1.0\r\nHost: hello.com\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n\
         hello",
    );
    assert!(text.starts_with("HTTP/1.1 200 ") && text.ends_with("hello"), "{text}");
    assert_eq!(upstream.last().header("expect"), None);
}

/// The upstream refuses the body that the client offers: the client gets the refusal and need not
/// send it; what it sends all the same is no request.
#[test]
fn an_upstream_that_refuses_the_expected_body() {
    let upstream = Scripted::answering("HTTP/1.1 417 No\r\nContent-Length: 3\r\n\r\nno!", false);
    let gateway = Gateway::before(&[upstream.address], &[]);
    let mut raw = Raw::connect(gateway.address);
    raw.send(
        "POST / HTTP/1.1\r\nHost: hello.com\r\nExpect: 100-continue\r\nContent-Length: 40\r\n\r\n",
    );
    let response = raw.response();
    assert_eq!((response.status, response.body.as_slice()), (417, b"no!".as_slice()));
    assert_eq!(response.header("connection"), Some("close"));
    raw.send(GET);
    assert!(raw.is_closed(), "the body was taken for a request");
}

#[test]
fn http_1_0_clients_are_served() {
    let upstream = Upstream::start("hello");
    let gateway = Gateway::before(&[upstream.address], &[]);
    let text = exchange(gateway.address, "GET / HTTP/1.0\r\nHost: hello.com\r\n\r\n");
    assert!(text.starts_with("HTTP/1.1 200 ") && text.ends_with("hello"), "{text}");
    assert!(text.contains("connection: close\r\n"), "{text}");
    let mut raw = Raw::connect(gateway.address);
    for _ in 0..3 {
        raw.send("GET / HTTP/1.0\r\nHost: hello.com\r\nConnection: keep-alive\r\n\r\n");
        let response = raw.response();
        assert_eq!(response.status, 200);
        assert_eq!(response.header("connection"), Some("keep-alive"));
    }
    raw.send("GET / HTTP/1.0\r\nHost: hello.com\r\n\r\n");
    assert_eq!(raw.response().header("connection"), Some("close"));
    assert!(raw.is_closed());

    let rejecting = Gateway::before(&[upstream.address], &["--http10", "reject"]);
    let mut raw = Raw::connect(rejecting.address);
    raw.send("GET / HTTP/1.0\r\nHost: hello.com\r\nConnection: keep-alive\r\n\r\n");
    let response = raw.response();
    assert_eq!((response.status, response.header("connection")), (426, Some("close")));
    assert!(raw.is_closed());
    assert_eq!(exchange(rejecting.address, GET).matches(" 200 OK").count(), 1);
}

/// A body that ends with its connection, or whose length an old client could not know otherwise, is
/// framed for the client that there is.
#[test]
fn an_answer_before_the_end_of_the_request_reaches_the_client() {
    let upstream = Scripted::answering(
        "HTTP/1.1 413 Content Too Large\r\nContent-Length: 3\r\n\r\nno!",
        false,
    );
    let gateway = Gateway::before(&[upstream.address], &[]);
    for framing in ["Content-Length: 10000000", "Transfer-Encoding: chunked"] {
        let mut raw = Raw::connect(gateway.address);
        raw.send(format!("POST / HTTP/1.1\r\nHost: hello.com\r\n{framing}\r\n\r\n"));
        let response = raw.response();
        assert_eq!((response.status, response.body.as_slice()), (413, b"no!".as_slice()));
        assert_eq!(response.header("connection"), Some("close"));
        raw.send(GET);
        assert!(raw.is_closed());
    }
    // A client in the middle of sending gets it as well.
    let mut raw = Raw::connect(gateway.address);
    raw.send("POST / HTTP/1.1\r\nHost: hello.com\r\nContent-Length: 600000\r\n\r\n");
    raw.send(pattern(500_000));
    assert_eq!(raw.response().status, 413);
    assert!(raw.is_closed());
}

#[test]
fn a_client_that_has_finished_sending_gets_its_response() {
    let (release, released) = channel::<()>();
    let released = Mutex::new(released);
    let upstream = Scripted::start(move |_, mut stream| {
        let Some(_) = read_head(&mut stream) else { return };
        let _ = released.lock().expect("not poisoned").recv();
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nlate");
        let _ = stream.read(&mut [0]);
    });
    let gateway = Gateway::before(&[upstream.address], &[]);
    let mut raw = Raw::connect(gateway.address);
    raw.send(GET);
    raw.finish_sending();
    wait_until("the request is upstream", || upstream.connections() == 1);
    // Long enough for the gateway to look for clients that are gone.
    std::thread::sleep(Duration::from_millis(1200));
    release.send(()).expect("it waits");
    let response = raw.response();
    assert_eq!((response.status, response.body.as_slice()), (200, b"late".as_slice()));
    assert!(raw.is_closed());
}

/// A client that is gone altogether ends the work that was done for it.
#[test]
fn a_client_that_is_gone_ends_its_upstream_request() {
    let (sender, ended) = channel();
    let upstream = Scripted::start(move |_, mut stream| {
        let Some(_) = read_head(&mut stream) else { return };
        let mut rest = Vec::new();
        let _ = stream.read_to_end(&mut rest);
        let _ = sender.send(rest);
    });
    let gateway = Gateway::before(&[upstream.address], &[]);
    let stream = TcpStream::connect(gateway.address).expect("it listens");
    (&stream).write_all(GET.as_bytes()).expect("sent");
    wait_until("the request is upstream", || upstream.connections() == 1);
    // A reset, which tells the gateway that nobody reads any more.
    let socket = socket2::SockRef::from(&stream);
    socket.set_linger(Some(Duration::ZERO)).expect("settable");
    drop(stream);
    assert!(
        ended.recv_timeout(Duration::from_secs(20)).expect("the upstream is let go").is_empty()
    );
}

#[test]
fn fields_keep_their_order_their_case_and_their_number() {
    let (sender, heads) = channel();
    let upstream = Scripted::start(move |_, mut stream| {
        while let Some(head) = read_head(&mut stream) {
            let _ = sender.send(head);
            let _ = stream.write_all(
                b"HTTP/1.1 200 Very Well\r\nX-First: 1\r\nSet-Cookie: a=1; Path=/\r\n\
                  x-SECOND: 2\r\nSet-Cookie: b=2, c\r\nDate: Sun, 06 Nov 1994 08:49:37 GMT\r\n\
                  set-cookie: d=3\r\nX-Empty:\r\nServer: apache\r\nX-Latin: caf\xe9\r\n\
                  Connection: X-Hop, keep-alive\r\nX-Hop: 1\r\nKeep-Alive: timeout=5\r\n\
                  Proxy-Connection: keep-alive\r\nContent-Length: 2\r\n\r\nok",
            );
        }
    });
    let gateway = Gateway::before(&[upstream.address], &[]);
    let mut raw = Raw::connect(gateway.address);
    raw.send(
        "GET / HTTP/1.1\r\nX-First: 1\r\nhOST: hello.com\r\nCookie: a=1\r\nx-SECOND:   2  3  \r\n\
         Cookie: b=2\r\nX-Empty:\r\nAccept: a\r\nAccept: b\r\n\r\n",
    );
    let bytes = raw.read_until(b"\r\n\r\nok");
    let head = String::from_utf8_lossy(&bytes).into_owned();
    let lines: Vec<&str> = head.lines().collect();
    assert_eq!(lines[0], "HTTP/1.1 200 Very Well");
    assert_eq!(
        lines[1..9],
        [
            "X-First: 1",
            "Set-Cookie: a=1; Path=/",
            "x-SECOND: 2",
            "Set-Cookie: b=2, c",
            "Date: Sun, 06 Nov 1994 08:49:37 GMT",
            "set-cookie: d=3",
            "X-Empty: ",
            "X-Latin: caf\u{fffd}",
        ]
    );
    assert!(bytes.windows(13).any(|part| part == b"X-Latin: caf\xe9"), "its bytes are kept");
    let lower = head.to_ascii_lowercase();
    for line in ["content-length: 2", "server: istio-envoy"] {
        assert_eq!(lower.lines().filter(|other| *other == line).count(), 1, "{head}");
    }
    for name in ["x-hop:", "keep-alive:", "proxy-connection:", "connection:"] {
        assert!(!lower.lines().any(|line| line.starts_with(name)), "{name} {head}");
    }
    assert_eq!(lower.matches("\ndate:").count(), 1);
    let head = heads.recv().expect("a head");
    let lines: Vec<&str> = head.lines().collect();
    assert_eq!(
        lines[..9],
        [
            "GET / HTTP/1.1",
            "X-First: 1",
            "hOST: hello.com",
            "Cookie: a=1",
            "x-SECOND: 2  3",
            "Cookie: b=2",
            "X-Empty: ",
            "Accept: a",
            "Accept: b",
        ]
    );
}

#[test]
fn the_gateway_says_who_asks_and_who_answers() {
    let (sender, heads) = channel();
    let upstream = Scripted::start(move |_, mut stream| {
        while let Some(head) = read_head(&mut stream) {
            let _ = sender.send(head);
            let _ = stream.write_all(
                b"HTTP/1.1 200 OK\r\nServer: apache\r\nX-Envoy-Upstream-Service-Time: 99999\r\n\
                  Content-Length: 2\r\n\r\nok",
            );
        }
    });
    let gateway = Gateway::before(&[upstream.address], &[]);
    let mut raw = Raw::connect(gateway.address);
    let mut ids = Vec::new();
    for forged in [
        "",
        "X-Forwarded-For: 9.9.9.9\r\nX-Forwarded-Proto: https\r\n\
                        X-Request-Id: forged\r\nX-Envoy-External-Address: 9.9.9.9\r\n\
                        X-Envoy-Retry-On: 5xx\r\nX-Envoy-Attempt-Count: 7\r\n\
                        X-Envoy-Decorator-Operation: forged\r\n",
    ] {
        raw.send(format!("GET / HTTP/1.1\r\nHost: hello.com\r\n{forged}\r\n"));
        let response = raw.response();
        assert_eq!(response.header("server"), Some("istio-envoy"));
        let time: u64 = response
            .header("x-envoy-upstream-service-time")
            .and_then(|text| text.parse().ok())
            .expect("a number");
        assert_ne!(time, 99_999);
        for name in ["server", "x-envoy-upstream-service-time", "date", "content-length"] {
            let field = format!("\n{name}:");
            assert_eq!(response.head.to_ascii_lowercase().matches(&field).count(), 1, "{name}");
        }
        let date = response.header("date").expect("a date");
        assert!(date.ends_with(" GMT") && date.len() == 29, "{date}");
        let head = heads.recv().expect("a head");
        let values = |name: &str| -> Vec<String> {
            head.lines()
                .filter_map(|line| line.split_once(": "))
                .filter(|(field, _)| field.eq_ignore_ascii_case(name))
                .map(|(_, value)| value.to_owned())
                .collect()
        };
        let forwarded_for = if forged.is_empty() { "127.0.0.1" } else { "9.9.9.9,127.0.0.1" };
        for (name, value) in [
            ("x-forwarded-for", forwarded_for),
            ("x-forwarded-proto", "http"),
            ("x-envoy-external-address", "127.0.0.1"),
            ("x-envoy-attempt-count", "1"),
            ("x-envoy-decorator-operation", "hello.default.svc.cluster.local:80/*"),
        ] {
            assert_eq!(values(name), [value], "{name}: {head}");
        }
        assert!(values("x-envoy-retry-on").is_empty(), "{head}");
        let [id] = &values("x-request-id")[..] else { panic!("one request id: {head}") };
        assert_eq!(id.len(), 36, "{id}");
        ids.push(id.clone());
    }
    assert_ne!(ids[0], ids[1]);
}

#[test]
fn variables_of_the_machine_and_the_clock() {
    let upstream = Upstream::start("backend");
    let rules = any_host(
        "  - route: [{destination: {host: backend}}]\n    headers:\n      request: {set: {x-at: \
         '%START_TIME(%s.%3f)%', x-host: '%HOSTNAME%'}}\n      response: {set: {x-took: \
         '%DURATION%', x-host: '%HOSTNAME%'}}\n",
    );
    let gateway = Gateway::start(&[
        ("rules.yaml", &rules),
        ("backend.yaml", &service("backend", &[upstream.address])),
    ]);
    let mut raw = Raw::connect(gateway.address);
    raw.send("GET / HTTP/1.1\r\nHost: a.com\r\n\r\n");
    let response = raw.response();
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname").expect("readable");
    assert_eq!(response.header("x-host"), Some(name.trim()));
    assert!(response.header("x-took").is_some_and(|text| text.parse::<u64>().is_ok()));
    let seen = upstream.last();
    assert_eq!(seen.header("x-host"), Some(name.trim()));
    let at: f64 = seen.header("x-at").and_then(|text| text.parse().ok()).expect("a number");
    // A time of this century: the test asserts no more of it.
    assert!(at > 1.7e9, "{at}");
}
