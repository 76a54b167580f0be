//! `connectionPool` limits: what they refuse, what they let wait, and that they count over all workers.

use std::io::Write;
use std::net::{SocketAddr, TcpStream};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use crate::support::gateway::wait_until;
use crate::support::raw::{Raw, exchange};
use crate::support::upstream::{Scripted, read_head};
use crate::support::{Gateway, Upstream, manifests};

const GET: &str = "GET / HTTP/1.1\r\nHost: a.com\r\n\r\n";
const OK: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n";

/// A gateway before one endpoint with this policy, and this `http` block below the destination.
fn gateway(policy: &str, more: &str, endpoint: SocketAddr) -> Gateway {
    start(policy, more, endpoint, &[])
}

/// The same with one worker: a second one may have a connection of its own.
fn gateway_of_one(policy: &str, more: &str, endpoint: SocketAddr) -> Gateway {
    start(policy, more, endpoint, &["--workers", "1"])
}

fn start(policy: &str, more: &str, endpoint: SocketAddr, arguments: &[&str]) -> Gateway {
    let routes =
        manifests::any_host(&format!("  - route: [{{destination: {{host: up}}}}]\n{more}"));
    Gateway::start_with(
        &[
            ("rule.yaml", &manifests::policy("up", policy)),
            ("routes.yaml", &routes),
            ("service.yaml", &manifests::service("up", &[endpoint])),
        ],
        arguments,
    )
}

/// An upstream that answers when it is told to, once for each word.
fn patient() -> (Scripted, Sender<()>, Receiver<()>) {
    let (answer, answers) = channel();
    let (came, comes) = channel();
    let answers = Arc::new(Mutex::new(answers));
    let upstream = Scripted::start(move |_, mut stream: TcpStream| {
        while read_head(&mut stream).is_some() {
            let _ = came.send(());
            if answers.lock().expect("not poisoned").recv().is_err() {
                return;
            }
            let _ = stream.write_all(OK);
        }
    });
    (upstream, answer, comes)
}

fn came(comes: &Receiver<()>) {
    comes.recv_timeout(Duration::from_secs(20)).expect("a request");
}

#[test]
fn more_requests_than_allowed_are_refused_at_once() {
    let (upstream, answer, comes) = patient();
    let policy = "{connectionPool: {http: {http2MaxRequests: 2}}}";
    let gateway = gateway(policy, "", upstream.address);
    // Each connection is on some worker: the limit is of the process.
    let mut two: Vec<Raw> = (0..2).map(|_| Raw::connect(gateway.address)).collect();
    for raw in &mut two {
        raw.send(GET);
        came(&comes);
    }
    for _ in 0..8 {
        let refused =
            exchange(gateway.address, "GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
        assert!(refused.starts_with("HTTP/1.1 503 "), "{refused}");
        assert!(refused.contains("x-envoy-overloaded: true\r\n"), "{refused}");
        assert!(refused.ends_with("reset reason: overflow"), "{refused}");
    }
    gateway.wait_for_metrics("refusals", |metrics| {
        let refused = [("response_flags", "UO"), ("response_code", "503")];
        metrics.sum("istio_requests_total", &refused) == 8.0
    });
    for raw in &mut two {
        answer.send(()).expect("it waits");
        assert_eq!(raw.response().status, 200);
    }
    // There is room again.
    let mut raw = Raw::connect(gateway.address);
    raw.send(GET);
    answer.send(()).expect("it waits");
    assert_eq!(raw.response().status, 200);
    assert_eq!(gateway.metrics().sum("ringress_upstream_overflows_total", &[]), 8.0);
}

#[test]
fn requests_wait_for_a_connection_as_many_as_may() {
    let (upstream, answer, comes) = patient();
    let policy = "{connectionPool: {tcp: {maxConnections: 1}, http: {http1MaxPendingRequests: 1}}}";
    let gateway = gateway_of_one(policy, "", upstream.address);
    let mut first = Raw::connect(gateway.address);
    first.send(GET);
    came(&comes);
    let mut second = Raw::connect(gateway.address);
    second.send(GET);
    gateway.wait_for_metrics("a second request", |metrics| {
        metrics.sum("ringress_requests_active", &[]) == 2.0
    });
    let third = exchange(gateway.address, "GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
    assert!(third.starts_with("HTTP/1.1 503 ") && third.contains("overflow"), "{third}");
    answer.send(()).expect("it waits");
    assert_eq!(first.response().status, 200);
    came(&comes);
    answer.send(()).expect("it waits");
    assert_eq!(second.response().status, 200);
    assert_eq!(upstream.connections(), 1, "the one that waited took over the first one's");
}

#[test]
fn a_closed_connection_makes_room_for_who_waits() {
    let (came, comes) = channel();
    let (close, closes) = channel::<()>();
    let closes = Mutex::new(closes);
    let upstream = Scripted::start(move |_, mut stream: TcpStream| {
        if read_head(&mut stream).is_some() {
            let _ = came.send(());
            let _ = closes.lock().expect("not poisoned").recv();
            let _ = stream
                .write_all(b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 0\r\n\r\n");
        }
    });
    let policy = "{connectionPool: {tcp: {maxConnections: 1}}}";
    let gateway = gateway(policy, "", upstream.address);
    let mut raws: Vec<Raw> = (0..6).map(|_| Raw::connect(gateway.address)).collect();
    for raw in &mut raws {
        raw.send(GET);
    }
    for _ in 0..6 {
        comes.recv_timeout(Duration::from_secs(20)).expect("the next one");
        close.send(()).expect("it waits");
    }
    for raw in &mut raws {
        assert_eq!(raw.response().status, 200);
    }
}

#[test]
fn the_timeout_of_a_route_ends_the_wait() {
    let (upstream, answer, comes) = patient();
    let policy = "{connectionPool: {tcp: {maxConnections: 1}}}";
    let gateway = gateway_of_one(policy, "    timeout: 300ms\n", upstream.address);
    let mut first = Raw::connect(gateway.address);
    first.send(GET);
    came(&comes);
    let second =
        exchange(gateway.address, "GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
    assert!(second.starts_with("HTTP/1.1 504 "), "{second}");
    assert_eq!(first.response().status, 504);
    drop(answer);
}

#[test]
fn a_wait_is_not_the_fault_of_the_endpoint() {
    let (upstream, answer, comes) = patient();
    let policy = "{connectionPool: {tcp: {maxConnections: 1}}, \
                  outlierDetection: {consecutive5xxErrors: 1, maxEjectionPercent: 100}}";
    let hurried = "  - match: [{uri: {prefix: /hurried}}]\n    timeout: 200ms\n    \
                   route: [{destination: {host: up}}]\n  - route: [{destination: {host: up}}]\n";
    let gateway = Gateway::start_with(
        &[
            ("rule.yaml", &manifests::policy("up", policy)),
            ("routes.yaml", &manifests::any_host(hurried)),
            ("service.yaml", &manifests::service("up", &[upstream.address])),
        ],
        &["--workers", "1"],
    );
    let mut first = Raw::connect(gateway.address);
    first.send(GET);
    came(&comes);
    let second =
        exchange(gateway.address, "GET /hurried HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
    assert!(second.starts_with("HTTP/1.1 504 "), "{second}");
    answer.send(()).expect("it waits");
    assert_eq!(first.response().status, 200);
    assert_eq!(gateway.metrics().sum("ringress_outlier_changes_total", &[]), 0.0);
}

#[test]
fn retries_have_a_limit_and_a_budget() {
    for (policy, allowed) in [
        ("{connectionPool: {http: {maxRetries: 1}}}", 1),
        ("{retryBudget: {percent: 50, minRetryConcurrency: 2}}", 2),
        // The budget stands in for the limit.
        (
            "{retryBudget: {percent: 1, minRetryConcurrency: 3}, connectionPool: {http: {maxRetries: 1}}}",
            3,
        ),
    ] {
        // It fails every first attempt; both kinds wait for a word of their own.
        let (fail, fails) = channel::<()>();
        let (serve, serves) = channel::<()>();
        let words = Mutex::new(fails);
        let others = Mutex::new(serves);
        let (came, comes) = channel();
        let upstream = Scripted::start(move |_, mut stream: TcpStream| {
            while let Some(head) = read_head(&mut stream) {
                let again = head.to_ascii_lowercase().contains("x-envoy-attempt-count: 2");
                let _ = came.send(again);
                let word = if again { &others } else { &words };
                let _ = word.lock().expect("not poisoned").recv();
                let answer = if again { "200 OK" } else { "503 No" };
                let answer = format!("HTTP/1.1 {answer}\r\nContent-Length: 0\r\n\r\n");
                let _ = stream.write_all(answer.as_bytes());
            }
        });
        let retries = "    retries: {attempts: 1, retryOn: 5xx, backoff: 1ms}\n";
        let gateway = gateway(policy, retries, upstream.address);
        let mut raws: Vec<Raw> = (0..4).map(|_| Raw::connect(gateway.address)).collect();
        for raw in &mut raws {
            raw.send(GET);
            assert_eq!(comes.recv_timeout(Duration::from_secs(20)), Ok(false));
        }
        // All fail: some are tried again, the others get the first answer.
        for _ in 0..4 {
            fail.send(()).expect("it waits");
        }
        for _ in 0..allowed {
            assert_eq!(comes.recv_timeout(Duration::from_secs(20)), Ok(true), "{policy}");
        }
        let refused = "ringress_upstream_retry_overflows_total";
        gateway.wait_for_metrics("refused retries", |metrics| {
            metrics.sum(refused, &[]) == f64::from(4 - allowed)
        });
        for _ in 0..allowed {
            serve.send(()).expect("it waits");
        }
        let statuses: Vec<u16> = raws.iter_mut().map(|raw| raw.response().status).collect();
        let good = statuses.iter().filter(|status| **status == 200).count();
        assert_eq!(good, allowed as usize, "{policy}: {statuses:?}");
        gateway.wait_for_metrics("four requests without a flag", |metrics| {
            metrics.sum("istio_requests_total", &[("response_flags", "-")]) == 4.0
        });
    }
}

#[test]
fn zero_is_no_limit() {
    let upstream = Upstream::start("up");
    let policy = "{connectionPool: {tcp: {maxConnections: 0}, http: {http1MaxPendingRequests: 0, \
                  http2MaxRequests: 0, maxRetries: 0}}}";
    let gateway = gateway(policy, "", upstream.address);
    let mut raws: Vec<Raw> = (0..5).map(|_| Raw::connect(gateway.address)).collect();
    for raw in &mut raws {
        raw.send(GET);
    }
    for raw in &mut raws {
        assert_eq!(raw.response().status, 200);
    }
}

#[test]
fn a_connection_that_is_old_is_not_used_again() {
    let upstream = Upstream::start("up");
    let policy = "{connectionPool: {tcp: {maxConnectionDuration: 1s}}}";
    let gateway = gateway(policy, "", upstream.address);
    let mut raw = Raw::connect(gateway.address);
    raw.send(GET);
    assert_eq!(raw.response().status, 200);
    wait_until("the connection is closed", || {
        gateway.metrics().sum("ringress_upstream_connections_idle", &[]) == 0.0
    });
    raw.send(GET);
    assert_eq!(raw.response().status, 200);
    assert_eq!(upstream.connections(), 2);
}

#[test]
fn the_kernel_is_asked_to_probe() {
    let (came, comes) = channel();
    let upstream = Scripted::start(move |_, mut stream: TcpStream| {
        let _ = came.send(stream.peer_addr().expect("connected").port());
        if read_head(&mut stream).is_some() {
            let _ = stream.write_all(OK);
        }
        let _ = read_head(&mut stream);
    });
    let policy = "{connectionPool: {tcp: {tcpKeepalive: {time: 300s, interval: 5s, probes: 3}}}}";
    let gateway = gateway(policy, "", upstream.address);
    let mut raw = Raw::connect(gateway.address);
    raw.send(GET);
    assert_eq!(raw.response().status, 200);
    let port = comes.recv_timeout(Duration::from_secs(20)).expect("a connection");
    // The timer of a socket: `02` is the one of keep-alive probes (Documentation/networking/proc_net_tcp).
    let sockets = std::fs::read_to_string("/proc/net/tcp").expect("readable");
    let ends = [format!(":{port:04X}"), format!(":{:04X}", upstream.address.port())];
    let line = sockets.lines().find(|line| {
        let mut fields = line.split_whitespace().skip(1);
        ends.iter().all(|end| fields.next().is_some_and(|own| own.ends_with(end)))
    });
    let timer = line.and_then(|line| line.split_whitespace().nth(5)).expect("its socket");
    assert!(timer.starts_with("02:"), "{timer}");
}
