//! Who does not read slows down who sends: the gateway holds a bounded part of a body.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::channel;
use std::sync::{Arc, Mutex};

use crate::support::gateway::wait_for_standstill;
use crate::support::raw::Raw;
use crate::support::upstream::{Scripted, read_head};
use crate::support::{Gateway, pattern};

/// While a client does not read, the upstream is not read either: the gateway holds a bounded part.
#[test]
fn a_slow_reader_slows_the_upstream_down() {
    const TOTAL: usize = 96 * 1024 * 1024;
    let written = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&written);
    let upstream = Scripted::start(move |_, mut stream| {
        let Some(head) = read_head(&mut stream) else { return };
        let chunked = head.starts_with("GET /chunked ");
        let framing = match chunked {
            true => "Transfer-Encoding: chunked".to_owned(),
            false => format!("Content-Length: {TOTAL}"),
        };
        let _ = stream.write_all(format!("HTTP/1.1 200 OK\r\n{framing}\r\n\r\n").as_bytes());
        let piece = pattern(64 * 1024);
        for _ in 0..TOTAL / piece.len() {
            let sent = if chunked {
                let framed = [b"10000\r\n", piece.as_slice(), b"\r\n"].concat();
                stream.write_all(&framed)
            } else {
                stream.write_all(&piece)
            };
            if sent.is_err() {
                return;
            }
            count.fetch_add(piece.len(), Ordering::SeqCst);
        }
        if chunked {
            let _ = stream.write_all(b"0\r\n\r\n");
        }
    });
    let gateway = Gateway::before(&[upstream.address], &[]);
    for target in ["/fixed", "/chunked"] {
        written.store(0, Ordering::SeqCst);
        let resident = resident_kib(gateway.process_id());
        let mut raw = Raw::connect(gateway.address);
        raw.send(format!("GET {target} HTTP/1.1\r\nHost: hello.com\r\n\r\n"));
        // Nobody reads; the upstream must come to a stop, far from the end.
        let last = wait_for_standstill(&written);
        assert!(last < TOTAL / 2, "{target}: {last} bytes were taken for nobody");
        let grown = resident_kib(gateway.process_id()).saturating_sub(resident);
        assert!(grown < 8 * 1024, "{target}: {grown} KiB for one slow reader");
        let response = raw.response();
        assert_eq!(response.body.len(), TOTAL, "{target}");
        let piece = pattern(64 * 1024);
        assert!(response.body.chunks(piece.len()).all(|part| part == piece), "{target}");
    }
}

/// The same the other way: an upstream that does not read slows the client down.
#[test]
fn a_slow_upstream_slows_the_client_down() {
    const TOTAL: usize = 96 * 1024 * 1024;
    let (release, released) = channel::<()>();
    let released = Mutex::new(released);
    let upstream = Scripted::start(move |_, mut stream| {
        let Some(_) = read_head(&mut stream) else { return };
        let _ = released.lock().expect("not poisoned").recv();
        let mut left = TOTAL;
        let mut part = vec![0; 256 * 1024];
        while left > 0 {
            match stream.read(&mut part) {
                Ok(count) if count > 0 => left = left.saturating_sub(count),
                _ => return,
            }
        }
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
        let _ = stream.read(&mut part);
    });
    let gateway = Gateway::before(&[upstream.address], &[]);
    let resident = resident_kib(gateway.process_id());
    let mut stream = TcpStream::connect(gateway.address).expect("it listens");
    let written = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&written);
    let client = std::thread::spawn(move || {
        let head = format!("POST / HTTP/1.1\r\nHost: hello.com\r\nContent-Length: {TOTAL}\r\n\r\n");
        stream.write_all(head.as_bytes()).expect("sent");
        let piece = pattern(64 * 1024);
        for _ in 0..TOTAL / piece.len() {
            stream.write_all(&piece).expect("sent");
            count.fetch_add(piece.len(), Ordering::SeqCst);
        }
        let _ = stream.shutdown(Shutdown::Write);
        let mut answer = String::new();
        stream.read_to_string(&mut answer).expect("text");
        answer
    });
    let last = wait_for_standstill(&written);
    assert!(last < TOTAL / 2, "{last} bytes were taken for nobody");
    let grown = resident_kib(gateway.process_id()).saturating_sub(resident);
    assert!(grown < 8 * 1024, "{grown} KiB for one slow upstream");
    release.send(()).expect("it waits");
    let answer = client.join().expect("the client ends");
    assert!(answer.starts_with("HTTP/1.1 200 ") && answer.ends_with("ok"), "{answer}");
}

fn resident_kib(process_id: u32) -> usize {
    let status = std::fs::read_to_string(format!("/proc/{process_id}/status")).expect("it runs");
    status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))
        .and_then(|value| value.trim().trim_end_matches(" kB").parse().ok())
        .expect("its resident memory")
}
