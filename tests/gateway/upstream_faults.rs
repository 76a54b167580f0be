//! Upstreams that break the rules or die: the client gets 502 or 503 before the first byte of a
//! response, a visible cut after it, and never anything that belongs to another request.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::mpsc::channel;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use crate::support::gateway::wait_until;
use crate::support::raw::{Raw, Response};
use crate::support::upstream::{Scripted, read_head};
use crate::support::{Gateway, Upstream, manifests};

const GET: &str = "GET / HTTP/1.1\r\nHost: hello.com\r\n\r\n";
const POST: &str = "POST / HTTP/1.1\r\nHost: hello.com\r\nContent-Length: 5\r\n\r\nhello";
const OK: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";

/// Close so that the peer gets a reset.
fn reset(stream: TcpStream) {
    let _ = socket2::SockRef::from(&stream).set_linger(Some(Duration::ZERO));
    drop(stream);
}

#[track_caller]
fn get(raw: &mut Raw) -> Response {
    raw.send(GET);
    raw.response()
}

#[test]
fn responses_that_break_the_rules_are_answered_502() {
    let long = "a".repeat(61 * 1024);
    let mut answers: Vec<Vec<u8>> = [
        "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\nhello",
        "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 5\r\n\r\nhello",
        "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello",
        "HTTP/1.1 200 OK\r\nContent-Length: 5, 5\r\n\r\nhello",
        "HTTP/1.1 200 OK\r\nContent-Length: -5\r\n\r\nhello",
        "HTTP/1.1 200 OK\r\nContent-Length: +5\r\n\r\nhello",
        "HTTP/1.1 200 OK\r\nContent-Length: 0x5\r\n\r\nhello",
        "HTTP/1.1 200 OK\r\nContent-Length: \r\n\r\nhello",
        "HTTP/1.1 200 OK\r\nContent-Length: five\r\n\r\nhello",
        "HTTP/1.1 200 OK\r\nContent-Length: 99999999999999999999\r\n\r\nhello",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: identity\r\n\r\nhello",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: xchunked\r\n\r\n0\r\n\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n",
        "HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        "HTTP/1.1 200 OK\r\nX-Folded: a\r\n b\r\nContent-Length: 2\r\n\r\nok",
        "HTTP/1.1 200 OK\r\nX Y: a\r\nContent-Length: 2\r\n\r\nok",
        "HTTP/1.1 200 OK\r\nContent-Length : 2\r\n\r\nok",
        "HTTP/1.1 200 OK\r\nX: a\0b\r\nContent-Length: 2\r\n\r\nok",
        "HTTP/1.1 200 OK\r\nX: a\rb\r\nContent-Length: 2\r\n\r\nok",
        "HTTP/1.1 200 OK\nContent-Length: 2\r\n\r\nok",
        "HTTP/1.1 200 OK\r\nContent-Length: 2\n\r\nok",
        "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\nok",
        "HTTP/1.1 200 OK\nContent-Length: 2\n\nok",
        "garbage\r\n\r\n",
        "\0\0\0\0\0\0\0\0",
        "SSH-2.0-OpenSSH_9.6\r\n",
        "HTTP/2.0 200 OK\r\nContent-Length: 2\r\n\r\nok",
        "HTTP/1.1 20 OK\r\nContent-Length: 2\r\n\r\nok",
        "HTTP/1.1 2000 OK\r\nContent-Length: 2\r\n\r\nok",
        "HTTP/1.1 000 OK\r\nContent-Length: 2\r\n\r\nok",
        "HTTP/1.1  200 OK\r\nContent-Length: 2\r\n\r\nok",
        "http/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok",
        "ok",
        // A switch of protocols that nobody asked for.
        "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n",
        "HTTP/1.1 101 Switching Protocols\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok",
        // It ends within its head.
        "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n",
        "HTTP/1.1 200 OK",
        "H",
    ]
    .map(|text| text.as_bytes().to_vec())
    .into();
    answers.push(format!("HTTP/1.1 200 OK\r\nX: {long}\r\nContent-Length: 2\r\n\r\nok").into());
    answers.push(format!("HTTP/1.1 200 {long}\r\nContent-Length: 2\r\n\r\nok").into());
    answers.push(
        format!("HTTP/1.1 200 OK\r\n{}Content-Length: 2\r\n\r\nok", "X: a\r\n".repeat(101)).into(),
    );
    // Interim responses without end, those that are relayed and one after the other.
    answers.push(format!("{}{GET}", "HTTP/1.1 100 Continue\r\n\r\n".repeat(40)).into());
    let answers = Arc::new(answers);
    let script = Arc::clone(&answers);
    let upstream = Scripted::start(move |_, mut stream| {
        let Some(head) = read_head(&mut stream) else { return };
        let index: usize =
            head.split(['/', ' ']).nth(2).and_then(|text| text.parse().ok()).expect("a number");
        let answer = script.get(index).map_or(OK, Vec::as_slice);
        let _ = stream.write_all(answer);
        let _ = stream.shutdown(Shutdown::Write);
        let _ = stream.read_to_end(&mut Vec::new());
    });
    let gateway = Gateway::before(&[upstream.address], &[]);
    let mut raw = Raw::connect(gateway.address);
    for (index, answer) in answers.iter().enumerate() {
        let shown = String::from_utf8_lossy(&answer[..answer.len().min(100)]).into_owned();
        raw.send(format!("GET /{index} HTTP/1.1\r\nHost: hello.com\r\n\r\n"));
        let mut response = raw.response();
        while response.status == 100 {
            response = raw.response();
        }
        assert_eq!(response.status, 502, "{shown:?}");
        let body = String::from_utf8_lossy(&response.body).into_owned();
        assert!(body.contains("protocol error"), "{shown:?}: {body}");
        // The client did nothing wrong: its connection serves on, over a fresh one.
        assert_eq!(response.header("connection"), None, "{shown:?}");
        raw.send("GET /9999 HTTP/1.1\r\nHost: hello.com\r\n\r\n");
        let response = raw.response();
        assert_eq!(
            (response.status, response.body.as_slice()),
            (200, b"ok".as_slice()),
            "{shown:?}"
        );
        assert_eq!(upstream.connections(), 2 * (index + 1), "{shown:?}");
    }
}

/// What stands behind the end of a response belongs to nobody.
#[test]
fn bytes_behind_a_response_reach_nobody() {
    let answers: [&[u8]; 7] = [
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nokHTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nwrong",
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\nwrong",
        b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\nwrong",
        b"HTTP/1.1 204 No Content\r\nContent-Length: 5\r\n\r\nwrong",
        b"HTTP/1.1 204 No Content\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nwrong",
        b"HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\n\r\nwrong",
    ];
    for answer in answers {
        let shown = String::from_utf8_lossy(answer).into_owned();
        let upstream = Scripted::start(move |index, mut stream| {
            while read_head(&mut stream).is_some() {
                let answer = if index == 0 { answer } else { OK };
                if stream.write_all(answer).is_err() {
                    return;
                }
            }
        });
        let gateway = Gateway::before(&[upstream.address], &[]);
        let mut raw = Raw::connect(gateway.address);
        raw.send(GET);
        let response = raw.response_head();
        assert!(matches!(response.status, 200 | 204 | 304), "{shown}");
        match response.status {
            200 if response.header("transfer-encoding").is_some() => {
                assert_eq!(raw.read_exact(12), b"2\r\nok\r\n0\r\n\r\n");
            }
            200 => {
                let length = response.header("content-length").and_then(|text| text.parse().ok());
                assert!(matches!(
                    raw.read_exact(length.expect("a length")).as_slice(),
                    b"ok" | b""
                ));
            }
            _ => {}
        }
        for _ in 0..2 {
            let response = get(&mut raw);
            assert_eq!(response.status, 200, "{shown}");
            assert_eq!(response.body, b"ok", "{shown}");
        }
        assert_eq!(upstream.connections(), 2, "{shown}");
    }
    // HEAD: a body that must not be there.
    let upstream = Scripted::start(|index, mut stream| {
        while read_head(&mut stream).is_some() {
            let answer: &[u8] = match index {
                0 => b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nwrong",
                _ => OK,
            };
            if stream.write_all(answer).is_err() {
                return;
            }
        }
    });
    let gateway = Gateway::before(&[upstream.address], &[]);
    let mut raw = Raw::connect(gateway.address);
    raw.send("HEAD / HTTP/1.1\r\nHost: hello.com\r\n\r\n");
    assert_eq!(raw.response_head().header("content-length"), Some("5"));
    assert_eq!(get(&mut raw).body, b"ok");
}

/// The end of a body that did not come is never made up.
#[test]
fn a_body_that_ends_early_is_a_visible_cut() {
    let answers: [&[u8]; 5] = [
        b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhello",
        b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhel",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n",
    ];
    for answer in answers {
        for by_reset in [false, true] {
            let shown = format!("{} {by_reset}", String::from_utf8_lossy(answer));
            let (sent, wait) = channel();
            let wait = Mutex::new(wait);
            let upstream = Scripted::start(move |_, mut stream| {
                let Some(_) = read_head(&mut stream) else { return };
                let _ = stream.write_all(answer);
                if by_reset {
                    // What was sent before a reset may be lost; let it arrive.
                    let _ = wait.lock().expect("not poisoned").recv();
                    reset(stream);
                }
            });
            let gateway = Gateway::before(&[upstream.address], &[]);
            let mut other = Raw::connect(gateway.address);
            let mut raw = Raw::connect(gateway.address);
            raw.send(GET);
            let mut got = raw.read_until(b"\r\n\r\n");
            let _ = sent.send(());
            got.extend(raw.read_to_end());
            let text = String::from_utf8_lossy(&got).into_owned();
            assert!(!text.ends_with("0\r\n\r\n"), "a clean end of {shown}: {text}");
            assert_eq!(text.matches("HTTP/1.1 ").count(), 1, "{shown}: {text}");
            let (head, body) = text.split_once("\r\n\r\n").expect("a head");
            assert!(head.contains(" 200 "), "{shown}: {text}");
            assert!(body.len() < 100, "{shown}");
            // Others are not concerned.
            other.send("GET / HTTP/1.1\r\nHost: none.com\r\n\r\n");
            assert_eq!(other.response().status, 404);
        }
    }
}

/// A malformed chunk is told where nothing has been sent, and cuts what has.
#[test]
fn a_malformed_chunk_is_502_or_a_cut() {
    for (first, then, status) in [
        ("x\r\nworld\r\n0\r\n\r\n", "", 502),
        ("5\r\nhello\r\nx\r\nworld\r\n0\r\n\r\n", "", 502),
        ("5\nhello\n0\n\n", "", 502),
        ("5\r\nhello\r\n", "x\r\nworld\r\n0\r\n\r\n", 200),
        ("5\r\nhel", "lo\n0\r\n\r\n", 200),
        ("", "world\r\n0\r\n\r\n", 200),
        ("5\r\nhello\r\n", "0\r\nno-colon\r\n\r\n", 200),
    ] {
        let (send, wait) = channel::<()>();
        let wait = Mutex::new(wait);
        let upstream = Scripted::start(move |_, mut stream| {
            let Some(_) = read_head(&mut stream) else { return };
            let head = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";
            let _ = stream.write_all(format!("{head}{first}").as_bytes());
            let _ = wait.lock().expect("not poisoned").recv();
            let _ = stream.write_all(then.as_bytes());
            let _ = stream.read(&mut [0]);
        });
        let gateway = Gateway::before(&[upstream.address], &[]);
        let mut raw = Raw::connect(gateway.address);
        raw.send(GET);
        let response = raw.response_head();
        assert_eq!(response.status, status, "{first:?} {then:?}");
        send.send(()).expect("it waits");
        if status == 200 {
            let rest = String::from_utf8_lossy(&raw.read_to_end()).into_owned();
            assert!(!rest.ends_with("0\r\n\r\n"), "a clean end of {first:?} {then:?}: {rest}");
            assert!(!rest.contains("world"), "{rest}");
        }
    }
}

/// Bytes that come on a kept connection while nobody asked for any: a poisoned answer to the next
/// request, were it used.
#[test]
fn unasked_bytes_on_a_kept_connection_close_it() {
    let (poison, poisoned) = channel::<()>();
    let (done, sent) = channel();
    let poisoned = Mutex::new(poisoned);
    let upstream = Scripted::start(move |index, mut stream| {
        while read_head(&mut stream).is_some() {
            let _ = stream.write_all(OK);
            if index == 0 {
                let _ = poisoned.lock().expect("not poisoned").recv();
                let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nwrong");
                let _ = done.send(());
            }
        }
    });
    let gateway = Gateway::before(&[upstream.address], &[]);
    let mut raw = Raw::connect(gateway.address);
    assert_eq!(get(&mut raw).body, b"ok");
    poison.send(()).expect("it waits");
    sent.recv().expect("sent");
    for _ in 0..2 {
        let response = get(&mut raw);
        assert_eq!((response.status, response.body.as_slice()), (200, b"ok".as_slice()));
    }
    assert_eq!(upstream.connections(), 2);
}

/// A kept connection that the upstream closed is noticed before it is used, whatever the method;
/// one that is closed in answer to a request is tried again only where that is safe.
#[test]
fn kept_connections_that_the_upstream_closed() {
    for by_reset in [false, true] {
        for request in [GET, POST] {
            let (close, asked) = channel::<()>();
            let (done, closed) = channel();
            let asked = Mutex::new(asked);
            let upstream = Scripted::start(move |_, mut stream| {
                let Some(head) = read_head(&mut stream) else { return };
                if head.starts_with("POST ") {
                    let _ = stream.read_exact(&mut [0; 5]);
                }
                let _ = stream.write_all(OK);
                let _ = asked.lock().expect("not poisoned").recv();
                if by_reset {
                    reset(stream);
                } else {
                    drop(stream);
                }
                let _ = done.send(());
            });
            let gateway = Gateway::before(&[upstream.address], &[]);
            let mut raw = Raw::connect(gateway.address);
            for round in 0..5 {
                raw.send(request);
                let response = raw.response();
                assert_eq!(response.status, 200, "{by_reset} {request} {round}");
                close.send(()).expect("it waits");
                closed.recv().expect("it closes");
            }
            assert_eq!(upstream.connections(), 5);
        }
    }
}

/// The upstream takes a request on a kept connection and closes without a word: `GET` may be sent
/// again, `POST` may have done something.
#[test]
fn a_request_that_an_upstream_took_is_repeated_only_if_that_is_safe() {
    let (sender, requests) = channel();
    let upstream = Scripted::start(move |index, mut stream| {
        let mut served = 0;
        while let Some(head) = read_head(&mut stream) {
            if head.starts_with("POST ") {
                let _ = stream.read_exact(&mut [0; 5]);
            }
            let _ = sender.send((index, head));
            if served == 1 {
                return;
            }
            served += 1;
            let _ = stream.write_all(OK);
        }
    });
    let gateway = Gateway::before(&[upstream.address], &[]);
    let mut raw = Raw::connect(gateway.address);
    assert_eq!(get(&mut raw).status, 200);
    let response = get(&mut raw);
    assert_eq!((response.status, response.body.as_slice()), (200, b"ok".as_slice()));
    let seen: Vec<(usize, String)> = requests.try_iter().collect();
    assert_eq!(seen.iter().map(|(index, _)| *index).collect::<Vec<_>>(), [0, 0, 1]);
    assert!(seen[1].1.contains("x-envoy-attempt-count: 1\r\n"), "{}", seen[1].1);
    assert!(seen[2].1.contains("x-envoy-attempt-count: 2\r\n"), "{}", seen[2].1);
    // The second connection served one request by now: it dies at the next.
    raw.send(POST);
    let response = raw.response();
    assert_eq!(response.status, 503);
    assert!(String::from_utf8_lossy(&response.body).contains("connection termination"));
    assert_eq!(requests.try_iter().count(), 1, "it was sent once");
    // The client's connection serves on.
    assert_eq!(get(&mut raw).status, 200);
}

#[test]
fn an_upstream_that_closes_without_an_answer_is_503() {
    for by_reset in [false, true] {
        let upstream = Scripted::start(move |_, mut stream| {
            let Some(_) = read_head(&mut stream) else { return };
            if by_reset {
                reset(stream);
            }
        });
        let directory = tempfile::TempDir::new().expect("a directory");
        let log = directory.path().join("access.log");
        let gateway =
            Gateway::before(&[upstream.address], &["--access-log", log.to_str().expect("UTF-8")]);
        let mut raw = Raw::connect(gateway.address);
        for request in [GET, POST] {
            raw.send(request);
            let response = raw.response();
            assert_eq!(response.status, 503, "{by_reset} {request}");
            assert_eq!(response.header("connection"), None);
        }
        // A fresh connection that fails is not retried.
        assert_eq!(upstream.connections(), 2);
        for method in ["GET", "POST"] {
            logged(&log, &format!("\"{method} / HTTP/1.1\" 503 UC "));
        }
    }
}

/// Wait until the access log has a line with this in it.
#[track_caller]
fn logged(file: &std::path::Path, text: &str) {
    wait_until("the line is logged", || {
        std::fs::read_to_string(file).is_ok_and(|log| log.contains(text))
    });
}

/// An address that nobody listens on: bound, so that nobody else gets it, but refusing.
fn refusing() -> (socket2::Socket, SocketAddr) {
    let socket =
        socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).expect("a socket");
    socket.bind(&SocketAddr::from((Ipv4Addr::LOCALHOST, 0)).into()).expect("a free port");
    let address = socket.local_addr().expect("bound").as_socket().expect("an IP address");
    (socket, address)
}

#[test]
fn a_refused_connection_is_retried_elsewhere() {
    let good = Upstream::start("good");
    let (_held, bad) = refusing();
    let gateway = Gateway::before(&[bad, good.address], &[]);
    for _ in 0..20 {
        let mut raw = Raw::connect(gateway.address);
        for request in [GET, POST] {
            raw.send(request);
            let response = raw.response();
            assert_eq!((response.status, response.body.as_slice()), (200, b"good".as_slice()));
        }
    }
    assert_eq!(good.seen().len(), 40);
    assert!(good.seen().iter().all(|seen| seen.method == "GET" || seen.body == b"hello"));
}

#[test]
fn endpoints_that_all_refuse_are_503() {
    let directory = tempfile::TempDir::new().expect("a directory");
    for count in [1, 2, 5] {
        let log = directory.path().join(format!("{count}.log"));
        let held: Vec<_> = (0..count).map(|_| refusing()).collect();
        let addresses: Vec<SocketAddr> = held.iter().map(|(_, address)| *address).collect();
        let gateway = Gateway::before(&addresses, &["--access-log", log.to_str().expect("UTF-8")]);
        let mut raw = Raw::connect(gateway.address);
        for request in [GET, POST] {
            raw.send(request);
            let response = raw.response();
            assert_eq!(response.status, 503, "{count} {request}");
            assert!(
                String::from_utf8_lossy(&response.body).contains("connection failure"),
                "{count}: {}",
                String::from_utf8_lossy(&response.body)
            );
        }
        logged(&log, "\"GET / HTTP/1.1\" 503 UF,URX ");
    }
}

/// A listener whose queue of connections is full answers no further one, as a host that is down.
#[test]
fn a_connection_that_is_not_answered_in_time_is_503() {
    let socket =
        socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).expect("a socket");
    socket.bind(&SocketAddr::from((Ipv4Addr::LOCALHOST, 0)).into()).expect("a free port");
    socket.listen(0).expect("it listens");
    let listener = TcpListener::from(socket);
    let address = listener.local_addr().expect("bound");
    let mut queued = Vec::new();
    while let Ok(stream) = TcpStream::connect_timeout(&address, Duration::from_millis(300)) {
        queued.push(stream);
        assert!(queued.len() < 100, "the queue never fills");
    }
    let directory = tempfile::TempDir::new().expect("a directory");
    let log = directory.path().join("access.log");
    let gateway = Gateway::start_with(
        &[
            ("gateway.yaml", manifests::HELLO),
            ("service.yaml", &manifests::hello_service(&[address])),
            (
                "rule.yaml",
                "apiVersion: networking.istio.io/v1\nkind: DestinationRule\n\
                 metadata: {name: hello}\nspec:\n  host: hello.default.svc.cluster.local\n  \
                 trafficPolicy:\n    connectionPool:\n      tcp: {connectTimeout: 200ms}\n",
            ),
        ],
        &["--access-log", log.to_str().expect("UTF-8")],
    );
    let mut raw = Raw::connect(gateway.address);
    let response = get(&mut raw);
    assert_eq!(response.status, 503);
    let body = String::from_utf8_lossy(&response.body).into_owned();
    assert!(body.contains("connection timeout"), "{body}");
    logged(&log, "\"GET / HTTP/1.1\" 503 UF,URX ");
    // Another endpoint takes over where there is one.
    let good = Upstream::start("good");
    drop(raw);
    gateway.write("service.yaml", &manifests::hello_service(&[address, good.address]));
    wait_until("the other endpoint is used", || {
        let mut raw = Raw::connect(gateway.address);
        (0..4).all(|_| get(&mut raw).status == 200)
    });
}

/// One endpoint that breaks the rules does not concern those who talk to another.
#[test]
fn other_connections_are_untouched() {
    let bad = Scripted::answering("garbage\r\n\r\n", false);
    let good = Upstream::start("good");
    let gateway = Gateway::start(&[
        (
            "routes.yaml",
            &manifests::any_host(
                "  - match: [{uri: {prefix: /bad}}]\n    route: [{destination: {host: bad, port: {number: 80}}}]\n  \
                 - route: [{destination: {host: good, port: {number: 80}}}]\n",
            ),
        ),
        ("bad.yaml", &manifests::service("bad", &[bad.address])),
        ("good.yaml", &manifests::service("good", &[good.address])),
    ]);
    let address = gateway.address;
    let stop = Arc::new(std::sync::atomic::AtomicBool::new(false));
    let stopped = Arc::clone(&stop);
    let victim = std::thread::spawn(move || {
        let mut raw = Raw::connect(address);
        let mut count = 0;
        while !stopped.load(std::sync::atomic::Ordering::SeqCst) {
            let response = get(&mut raw);
            assert_eq!((response.status, response.body.as_slice()), (200, b"good".as_slice()));
            count += 1;
        }
        count
    });
    for _ in 0..50 {
        let mut raw = Raw::connect(address);
        raw.send("GET /bad HTTP/1.1\r\nHost: hello.com\r\n\r\n");
        assert_eq!(raw.response().status, 502);
        raw.send("GET / HTTP/1.1\r\nHost: hello.com\r\n\r\n");
        assert_eq!(raw.response().status, 200);
    }
    stop.store(true, std::sync::atomic::Ordering::SeqCst);
    assert!(victim.join().expect("no failure") > 0);
}
