//! Bodies that are kept, so that a request can be sent again or copied.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::channel;
use std::time::Duration;

use http_body_util::Full;
use hyper::Response;

use crate::support::gateway::wait_until;
use crate::support::raw::Raw;
use crate::support::upstream::{Scripted, read_head};
use crate::support::{Gateway, Upstream, manifests, pattern};

/// What is kept behind the first piece, which is 16 KiB at most.
const MIB: usize = 1024 * 1024;

fn gateway(fields: &str, endpoint: SocketAddr, mirror: Option<SocketAddr>) -> Gateway {
    let routes =
        manifests::any_host(&format!("  - route: [{{destination: {{host: up}}}}]\n{fields}"));
    let services = format!(
        "{}---\n{}",
        manifests::service("up", &[endpoint]),
        manifests::service("mirror", &Vec::from_iter(mirror))
    );
    Gateway::start(&[("routes.yaml", &routes), ("services.yaml", &services)])
}

/// A POST with `body`, framed by its length or in chunks. Written by a thread: it is longer than what
/// the sockets hold.
fn post(gateway: &Gateway, body: &[u8], chunked: bool) -> Raw {
    let raw = Raw::connect(gateway.address);
    let mut bytes = b"POST /up HTTP/1.1\r\nHost: a.com\r\n".to_vec();
    if chunked {
        bytes.extend_from_slice(b"Transfer-Encoding: chunked\r\n\r\n");
        for piece in body.chunks(50_000) {
            bytes.extend_from_slice(format!("{:x}\r\n", piece.len()).as_bytes());
            bytes.extend_from_slice(piece);
            bytes.extend_from_slice(b"\r\n");
        }
        bytes.extend_from_slice(b"0\r\n\r\n");
    } else {
        bytes.extend_from_slice(format!("Content-Length: {}\r\n\r\n", body.len()).as_bytes());
        bytes.extend_from_slice(body);
    }
    let mut socket = raw.try_clone();
    std::thread::spawn(move || {
        // The gateway may answer and close before it has all of it.
        let _ = socket.write_all(&bytes);
    });
    raw
}

/// An upstream that answers 503 to the first request and 200 to the others.
fn fails_once() -> Upstream {
    let asked = AtomicUsize::new(0);
    Upstream::start_with("up", move |_| {
        let mut response = Response::new(Full::default());
        if asked.fetch_add(1, Ordering::SeqCst) == 0 {
            *response.status_mut() = hyper::StatusCode::SERVICE_UNAVAILABLE;
        }
        response
    })
}

const RETRIES: &str = "    retries: {attempts: 2, retryOn: '5xx', backoff: 1ms}\n";

#[test]
fn a_body_is_sent_again_whole() {
    for (length, chunked) in [(100, false), (300_000, false), (300_000, true), (MIB, false)] {
        let upstream = fails_once();
        let gateway = gateway(RETRIES, upstream.address, None);
        let body = pattern(length);
        let mut raw = post(&gateway, &body, chunked);
        assert_eq!(raw.response().status, 200, "{length} {chunked}");
        let seen = upstream.seen();
        assert_eq!(seen.len(), 2);
        for (attempt, seen) in seen.iter().enumerate() {
            assert!(seen.body == body, "{length} {chunked}: attempt {attempt}");
        }
        assert_eq!(seen[1].header("x-envoy-attempt-count"), Some("2"));
        // The connection serves another request.
        raw.send("GET / HTTP/1.1\r\nHost: a.com\r\n\r\n");
        assert_eq!(raw.response().status, 200);
    }
}

#[test]
fn a_body_that_is_too_long_or_not_to_be_retried_is_not_kept() {
    for (length, fields) in [
        (MIB + 20_000, RETRIES),
        (300_000, ""),
        (300_000, "    retries: {attempts: 2, retryOn: 'connect-failure'}\n"),
    ] {
        let upstream = fails_once();
        let gateway = gateway(fields, upstream.address, None);
        let mut raw = post(&gateway, &pattern(length), false);
        assert_eq!(raw.response().status, 503, "{length} {fields}");
        assert_eq!(upstream.seen().len(), 1);
    }
}

/// Reads `first` bytes of the first request's body, then does `then`; takes all of the second one.
fn impatient(
    first: usize,
    then: impl Fn(&mut TcpStream) + Send + Sync + 'static,
) -> (Scripted, std::sync::mpsc::Receiver<Vec<u8>>) {
    let (came, comes) = channel();
    let upstream = Scripted::start(move |number, mut stream: TcpStream| {
        let Some(head) = read_head(&mut stream) else { return };
        if number == 0 {
            let _ = stream.read_exact(&mut vec![0; first]);
            then(&mut stream);
            return;
        }
        let length = head.lines().find_map(|line| {
            line.to_ascii_lowercase().strip_prefix("content-length: ")?.trim().parse().ok()
        });
        let mut body = vec![0; length.unwrap_or(0)];
        if stream.read_exact(&mut body).is_ok() {
            let _ = came.send(body);
            let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
        }
        let _ = read_head(&mut stream);
    });
    (upstream, comes)
}

#[test]
fn what_comes_after_an_early_failure_is_kept_too() {
    let answer = |stream: &mut TcpStream| {
        let _ =
            stream.write_all(b"HTTP/1.1 503 No\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
        // It takes nothing more, and does not close until the gateway does.
        let _ = stream.read(&mut [0; 1]);
        std::thread::sleep(Duration::from_millis(300));
    };
    let body = pattern(900_000);
    let reset = "    retries: {attempts: 2, retryOn: reset, backoff: 1ms}\n";
    for (fields, answers) in [(RETRIES, true), (reset, false)] {
        let (upstream, comes) = impatient(30_000, move |stream| {
            if answers {
                answer(stream);
            }
        });
        let gateway = gateway(fields, upstream.address, None);
        let mut raw = post(&gateway, &body, false);
        assert_eq!(raw.response().status, 200, "{fields}");
        let got = comes.recv_timeout(Duration::from_secs(20)).expect("a whole body");
        assert!(got == body, "{fields}");
    }
}

#[test]
fn a_client_that_leaves_while_its_body_is_kept_ends_the_request() {
    let (upstream, _comes) = impatient(1000, |_| {});
    let retries = "    retries: {attempts: 2, retryOn: reset, backoff: 1ms}\n";
    let gateway = gateway(retries, upstream.address, None);
    let mut raw = Raw::connect(gateway.address);
    raw.send("POST / HTTP/1.1\r\nHost: a.com\r\nContent-Length: 100000\r\n\r\n");
    raw.send(pattern(20_000));
    wait_until("the first attempt is over", || upstream.connections() == 1);
    drop(raw);
    wait_until("the request is over", || {
        gateway.metrics().sum("ringress_requests_active", &[]) == 0.0
    });
    assert_eq!(upstream.connections(), 1, "nothing is sent again for nobody");
}

#[test]
fn a_mirror_gets_the_body_however_it_comes() {
    for (length, chunked, copied) in
        [(300_000, false, true), (300_000, true, true), (MIB + 20_000, false, false)]
    {
        let (upstream, mirror) = (Upstream::start("up"), Upstream::start("mirror"));
        let fields = "    mirrors: [{destination: {host: mirror}}]\n";
        let gateway = gateway(fields, upstream.address, Some(mirror.address));
        let body = pattern(length);
        let mut raw = post(&gateway, &body, chunked);
        assert_eq!(raw.response().status, 200);
        let outcome = if copied { "sent" } else { "dropped" };
        gateway.wait_for_metrics("the copy", |metrics| {
            metrics.sum("ringress_mirrored_requests_total", &[("outcome", outcome)]) == 1.0
        });
        if copied {
            wait_until("the mirror has it", || !mirror.seen().is_empty());
            assert!(mirror.last().body == body && upstream.last().body == body);
        }
    }
}
