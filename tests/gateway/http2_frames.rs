//! HTTP/2 with frames written by hand: what no client of a library would send.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use crate::support::raw::Raw;
use crate::support::{Gateway, Upstream, frames, hello};

/// Frames that came until the connection ended or `wanted` is among them: type, stream, payload.
fn read_frames(
    stream: &mut TcpStream,
    wanted: impl Fn(u8, u32) -> bool,
) -> Vec<(u8, u32, Vec<u8>)> {
    let mut frames = Vec::new();
    let mut header = [0; 9];
    while stream.read_exact(&mut header).is_ok() {
        let length = u32::from_be_bytes([0, header[0], header[1], header[2]]) as usize;
        let number = u32::from_be_bytes([header[5], header[6], header[7], header[8]]);
        let mut payload = vec![0; length];
        if stream.read_exact(&mut payload).is_err() {
            break;
        }
        frames.push((header[3], number, payload));
        if wanted(header[3], number) {
            break;
        }
    }
    frames
}

fn open(gateway: &Gateway) -> TcpStream {
    let mut stream = TcpStream::connect(gateway.address).expect("it listens");
    stream.set_read_timeout(Some(Duration::from_secs(20))).expect("settable");
    stream.write_all(&frames::hello()).expect("sent");
    stream
}

const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const GOAWAY: u8 = 7;

#[test]
fn malformed_requests_reach_no_upstream() {
    let (upstream, gateway) = hello(&[]);
    let get =
        [(":method", "GET"), (":scheme", "http"), (":path", "/"), (":authority", "hello.com")];
    let with = |more: &[(&'static str, &'static str)]| [&get[..], more].concat();
    let without =
        |name: &str| get.iter().copied().filter(|(other, _)| *other != name).collect::<Vec<_>>();
    let changed = |name: &str, value: &'static str| {
        let change = |(other, old): &(&'static str, &'static str)| {
            (*other, if *other == name { value } else { *old })
        };
        get.iter().map(change).collect::<Vec<_>>()
    };
    let cases = [
        without(":method"),
        without(":scheme"),
        without(":path"),
        without(":authority"),
        with(&[(":path", "/again")]),
        with(&[("x", "1"), (":authority", "again.com")]),
        with(&[(":status", "200")]),
        with(&[(":unknown", "1")]),
        with(&[("X-Upper", "1")]),
        with(&[("connection", "close")]),
        with(&[("transfer-encoding", "chunked")]),
        with(&[("upgrade", "h2c")]),
        with(&[("te", "gzip")]),
        with(&[("http2-settings", "AAAA")]),
        with(&[("host", "other.com")]),
        with(&[("content-length", "5")]),
        with(&[("content-length", "-1")]),
        with(&[("x", "a\r\nevil: 1")]),
        with(&[("x", "a\0b")]),
        with(&[("x y", "1")]),
        changed(":path", "no-slash"),
        changed(":path", "/a b"),
        changed(":path", "/ HTTP/1.1\r\nevil: 1"),
        changed(":path", ""),
        changed(":authority", "user@hello.com"),
        changed(":authority", "hello.com\r\nevil: 1"),
        changed(":method", "GET /evil HTTP/1.1\r\n"),
        with(&[(":protocol", "websocket")]),
    ];
    for case in &cases {
        let mut stream = open(&gateway);
        let headers = frames::frame(HEADERS, 5, 1, &frames::block(case));
        stream.write_all(&headers).expect("sent");
        let seen = read_frames(&mut stream, |kind, number| {
            number == 1 && matches!(kind, HEADERS | RST_STREAM) || kind == GOAWAY
        });
        let (kind, _, payload) = seen.last().expect("an answer");
        match *kind {
            // 400 is in the static table.
            HEADERS => assert_eq!(payload[0], 0x8c, "{case:?}"),
            // PROTOCOL_ERROR.
            RST_STREAM => assert_eq!(payload[..4], [0, 0, 0, 1], "{case:?}"),
            GOAWAY => assert_ne!(payload[4..8], [0; 4], "{case:?}"),
            _ => panic!("no answer to {case:?}"),
        }
    }
    // More or less DATA than the length says.
    for data in ["four", "sixsix"] {
        let mut stream = open(&gateway);
        let post = [&changed(":method", "POST")[..], &[("content-length", "5")]].concat();
        stream.write_all(&frames::frame(HEADERS, 4, 1, &frames::block(&post))).expect("sent");
        stream.write_all(&frames::frame(0, 1, 1, data.as_bytes())).expect("sent");
        let seen = read_frames(&mut stream, |kind, number| {
            number == 1 && kind == RST_STREAM || kind == GOAWAY
        });
        assert!(seen.iter().any(|(kind, ..)| matches!(*kind, RST_STREAM | GOAWAY)), "{data}");
    }
    assert!(upstream.seen().iter().all(|seen| !seen.complete), "{:?}", upstream.seen());
    let mut raw = Raw::connect(gateway.address);
    raw.send("GET / HTTP/1.1\r\nHost: hello.com\r\n\r\n");
    assert_eq!(raw.response().status, 200);
}

#[test]
fn an_idle_connection_is_told_goodbye() {
    let upstream = Upstream::start("hello");
    let gateway = Gateway::before(&[upstream.address], &["--idle-timeout", "300ms"]);
    let mut stream = open(&gateway);
    let get =
        [(":method", "GET"), (":scheme", "http"), (":path", "/"), (":authority", "hello.com")];
    stream.write_all(&frames::frame(HEADERS, 5, 1, &frames::block(&get))).expect("sent");
    let seen = read_frames(&mut stream, |_, _| false);
    assert!(seen.iter().any(|(kind, number, _)| (*kind, *number) == (HEADERS, 1)), "{seen:?}");
    let (kind, _, payload) = seen.last().expect("frames");
    // The last stream that was served, and NO_ERROR.
    assert_eq!((*kind, &payload[..8]), (GOAWAY, &[0, 0, 0, 1, 0, 0, 0, 0][..]));
    gateway.wait_for_metrics("an idle timeout", |metrics| {
        let name = "ringress_downstream_connection_errors_total";
        metrics.sum(name, &[("kind", "idle_timeout")]) == 1.0
    });
}

#[test]
fn a_head_that_is_not_completed_ends_its_connection() {
    let (upstream, gateway) = hello(&["--request-head-timeout", "300ms"]);
    let get =
        [(":method", "GET"), (":scheme", "http"), (":path", "/"), (":authority", "hello.com")];
    let block = frames::block(&get);
    let whole = frames::frame(HEADERS, 5, 1, &block);
    // Without the frame that ends it, and without its last byte.
    for part in [&frames::frame(HEADERS, 1, 1, &block)[..], &whole[..whole.len() - 1]] {
        let mut stream = open(&gateway);
        stream.write_all(part).expect("sent");
        let seen = read_frames(&mut stream, |_, _| false);
        let (kind, _, payload) = seen.last().expect("frames");
        // No stream was served.
        assert_eq!((*kind, &payload[..4]), (GOAWAY, &[0; 4][..]), "{seen:?}");
    }
    gateway.wait_for_metrics("two slow heads", |metrics| {
        let name = "ringress_downstream_connection_errors_total";
        metrics.sum(name, &[("kind", "head_timeout")]) == 2.0
    });
    assert_eq!(upstream.begun(), 0);
}

#[test]
fn floods_end_their_connection() {
    let (_upstream, gateway) = hello(&[]);
    let request = frames::block(&[
        (":method", "GET"),
        (":scheme", "http"),
        (":path", "/"),
        (":authority", "hello.com"),
    ]);
    let ping = frames::frame(6, 0, 0, &[0; 8]).repeat(40_000);
    let settings = frames::frame(4, 0, 0, &[]).repeat(40_000);
    let priority = frames::frame(2, 0, 1, &[0, 0, 0, 3, 1]).repeat(40_000);
    let mut empty_data = frames::frame(HEADERS, 4, 1, &request);
    empty_data.extend(frames::frame(0, 0, 1, &[]).repeat(40_000));
    let mut continuations = frames::frame(HEADERS, 1, 1, &request);
    continuations.extend(frames::frame(9, 0, 1, &[]).repeat(40_000));
    let mut resets = Vec::new();
    for number in 0..20_000 {
        resets.extend(frames::frame(HEADERS, 5, number * 2 + 1, &request));
        resets.extend(frames::frame(RST_STREAM, 0, number * 2 + 1, &[0, 0, 0, 8]));
    }
    for (name, flood) in [
        ("ping", ping),
        ("settings", settings),
        ("priority", priority),
        ("empty data", empty_data),
        ("continuations", continuations),
        ("resets", resets),
    ] {
        let mut stream = open(&gateway);
        let mut writing = stream.try_clone().expect("a descriptor");
        let writer = std::thread::spawn(move || {
            // It is cut off in the middle.
            let _ = writing.write_all(&flood);
        });
        let seen = read_frames(&mut stream, |kind, _| kind == GOAWAY);
        let last = seen.last();
        assert!(last.is_some_and(|(kind, ..)| *kind == GOAWAY), "{name}: {:?}", last);
        let reason = last.map(|(_, _, payload)| payload[7]);
        // ENHANCE_YOUR_CALM, or PROTOCOL_ERROR.
        assert!(matches!(reason, Some(11 | 1)), "{name}: {reason:?}");
        drop(stream);
        writer.join().expect("no panic");
    }
    let floods = gateway
        .metrics()
        .sum("ringress_downstream_connection_errors_total", &[("kind", "http2_flood")]);
    assert!(floods >= 3.0, "{floods}");
    let mut raw = Raw::connect(gateway.address);
    raw.send("GET / HTTP/1.1\r\nHost: hello.com\r\n\r\n");
    assert_eq!(raw.response().status, 200);
}

#[test]
fn data_behind_a_refused_tunnel_is_no_request() {
    // It does not switch protocols.
    let (upstream, gateway) = hello(&["--workers", "1"]);
    let connect = frames::block(&[
        (":method", "CONNECT"),
        (":protocol", "websocket"),
        (":scheme", "http"),
        (":path", "/chat"),
        (":authority", "hello.com"),
    ]);
    let mut bytes = frames::hello();
    bytes.extend(frames::frame(HEADERS, 4, 1, &connect));
    let smuggled = b"GET /smuggled HTTP/1.1\r\nHost: hello.com\r\n\r\n";
    bytes.extend(frames::frame(0, 0, 1, smuggled));
    let mut stream = TcpStream::connect(gateway.address).expect("it listens");
    stream.set_read_timeout(Some(Duration::from_secs(20))).expect("settable");
    stream.write_all(&bytes).expect("sent");
    // All of the answer, then the gateway wants no more.
    let seen = read_frames(&mut stream, |kind, number| (kind, number) == (RST_STREAM, 1));
    assert!(seen.iter().any(|(kind, number, _)| (*kind, *number) == (HEADERS, 1)), "{seen:?}");
    let mut raw = Raw::connect(gateway.address);
    for _ in 0..2 {
        raw.send("GET / HTTP/1.1\r\nHost: hello.com\r\n\r\n");
        assert_eq!(raw.response().status, 200);
    }
    let targets: Vec<_> = upstream.seen().into_iter().map(|seen| seen.target).collect();
    assert_eq!(targets, ["/chat", "/", "/"]);
}
