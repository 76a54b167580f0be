use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};

use super::*;
use crate::trace::otlp::tests::span;

/// A collector that answers each request with what `answer` says of its number.
fn collector(answer: fn(usize) -> &'static str) -> Endpoint {
    let socket = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = socket.local_addr().expect("bound");
    thread::spawn(move || {
        let mut number = 0;
        for mut stream in socket.incoming().map_while(Result::ok) {
            while read_request(&mut stream).is_some() {
                let written = stream.write_all(answer(number).as_bytes());
                number += 1;
                if written.is_err() || answer(number - 1).contains("close") {
                    break;
                }
            }
        }
    });
    Endpoint::parse(&format!("http://{address}")).expect("an address")
}

fn read_request(stream: &mut TcpStream) -> Option<()> {
    let mut bytes = Vec::new();
    let mut part = [0; 4096];
    loop {
        let text = String::from_utf8_lossy(&bytes).to_ascii_lowercase();
        if let Some(end) = text.find("\r\n\r\n") {
            assert!(text.starts_with("post /v1/traces http/1.1\r\n"), "{text}");
            assert!(text.contains("content-type: application/x-protobuf\r\n"), "{text}");
            let length = text.split("content-length: ").nth(1)?.lines().next()?;
            let head = bytes.windows(4).position(|four| four == b"\r\n\r\n").unwrap_or(end) + 4;
            if bytes.len() >= head + length.parse::<usize>().ok()? {
                return Some(());
            }
        }
        match stream.read(&mut part) {
            Ok(count) if count > 0 => bytes.extend_from_slice(&part[..count]),
            _ => return None,
        }
    }
}

const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n";
const BUSY: &str = "HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n";
const WRONG: &str = "HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n";
const CLOSE: &str = "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 0\r\n\r\n";

/// Send `batches` of three spans one after the other; exported, dropped, failures.
fn send(endpoint: Endpoint, batches: usize) -> (u64, u64, u64) {
    let stats = Arc::new(ControlStats::default());
    let exporter =
        SpanExporter::start(endpoint, "test".to_owned(), Arc::clone(&stats)).expect("a thread");
    let load = || {
        (
            stats.trace_spans_exported.load(Ordering::Relaxed),
            stats.trace_spans_dropped.load(Ordering::Relaxed),
            stats.trace_export_failures.load(Ordering::Relaxed),
        )
    };
    let mut sink = exporter.sink();
    for batch in 1..=batches as u64 {
        for _ in 0..3 {
            sink.record(span());
        }
        sink.flush();
        let deadline = Instant::now() + Duration::from_secs(30);
        while load().0 + load().1 < 3 * batch && Instant::now() < deadline {
            thread::sleep(Duration::from_millis(10));
        }
    }
    drop(sink);
    assert!(exporter.shutdown(Duration::from_secs(20)), "it ends");
    load()
}

#[test]
fn spans_are_taken_and_counted_on_a_connection_that_is_kept_or_not() {
    assert_eq!(send(collector(|_| OK), 2), (6, 0, 0));
    assert_eq!(send(collector(|_| CLOSE), 2), (6, 0, 0));
}

#[test]
fn a_collector_that_is_busy_is_asked_again() {
    let busy_once = |number| if number == 0 { BUSY } else { OK };
    assert_eq!(send(collector(busy_once), 1), (3, 0, 1));
}

#[test]
fn what_is_refused_is_dropped_and_counted() {
    let once_wrong = |number| if number == 0 { WRONG } else { OK };
    assert_eq!(send(collector(once_wrong), 2), (3, 3, 1));
}

#[test]
fn without_a_collector_spans_are_dropped_and_counted() {
    // Bound, so that nobody else gets the port, and not listening.
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None);
    let socket = socket.expect("a socket");
    socket.bind(&std::net::SocketAddr::from(([127, 0, 0, 1], 0)).into()).expect("a free port");
    let port = socket.local_addr().expect("bound").as_socket().expect("IPv4").port();
    let endpoint = Endpoint::parse(&format!("http://127.0.0.1:{port}")).expect("an address");
    assert_eq!(send(endpoint, 1), (0, 3, 1 + PAUSES.len() as u64));
}

#[test]
fn the_end_sends_what_waits_and_does_not_wait_for_a_silent_collector() {
    for (silent, expected) in [(false, (1, 0)), (true, (0, 1))] {
        let socket = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = socket.local_addr().expect("bound");
        let endpoint = match silent {
            true => Endpoint::parse(&format!("http://{address}")).expect("an address"),
            false => collector(|_| OK),
        };
        let stats = Arc::new(ControlStats::default());
        let exporter =
            SpanExporter::start(endpoint, "test".to_owned(), Arc::clone(&stats)).expect("a thread");
        let mut sink = exporter.sink();
        sink.record(span());
        drop(sink);
        assert!(exporter.shutdown(Duration::from_secs(2)), "it ends in its time");
        let load = |counter: &std::sync::atomic::AtomicU64| counter.load(Ordering::Relaxed);
        assert_eq!((load(&stats.trace_spans_exported), load(&stats.trace_spans_dropped)), expected);
    }
}
