//! `connectionPool` and `proxyProtocol` of DestinationRules where HTTP/2 is spoken to the upstream: which
//! connections there are, whose they are, and when they end.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use http::Response;
use tokio::io::AsyncReadExt;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;

use crate::support::gateway::wait_until;
use crate::support::http2::{call, connect, request};
use crate::support::manifests::{any_host, policy, service};
use crate::support::raw::Raw;
use crate::support::{Gateway, block_on};

const GET: &str = "GET / HTTP/1.1\r\nHost: a.com\r\n\r\n";

/// An HTTP/2 server whose `/held` are answered as it is allowed to.
struct Server {
    address: SocketAddr,
    seen: Arc<Seen>,
}

/// What it saw.
struct Seen {
    /// Lines of the PROXY protocol, where they are expected.
    headers: Mutex<Vec<String>>,
    opened: AtomicUsize,
    ended: AtomicUsize,
    /// Requests under way.
    active: AtomicUsize,
    /// The most of them at a time.
    active_max: AtomicUsize,
    /// One `/held` may be answered for each permit.
    permits: Semaphore,
}

impl Server {
    fn start(expects_header: bool) -> Server {
        let socket = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
        let address = socket.local_addr().expect("bound");
        socket.set_nonblocking(true).expect("settable");
        let seen = Arc::new(Seen {
            headers: Mutex::default(),
            opened: AtomicUsize::new(0),
            ended: AtomicUsize::new(0),
            active: AtomicUsize::new(0),
            active_max: AtomicUsize::new(0),
            permits: Semaphore::new(0),
        });
        let shared = Arc::clone(&seen);
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .expect("a runtime");
            runtime.block_on(async move {
                let listener = TcpListener::from_std(socket).expect("a listener");
                while let Ok((stream, _)) = listener.accept().await {
                    let seen = Arc::clone(&shared);
                    tokio::spawn(async move {
                        seen.opened.fetch_add(1, Ordering::SeqCst);
                        serve(stream, expects_header, &seen).await;
                        seen.ended.fetch_add(1, Ordering::SeqCst);
                    });
                }
            });
        });
        Server { address, seen }
    }

    fn opened(&self) -> usize {
        self.seen.opened.load(Ordering::SeqCst)
    }

    fn ended(&self) -> usize {
        self.seen.ended.load(Ordering::SeqCst)
    }

    fn active(&self) -> usize {
        self.seen.active.load(Ordering::SeqCst)
    }
}

async fn serve(mut stream: TcpStream, expects_header: bool, seen: &Arc<Seen>) {
    if expects_header {
        let mut line = Vec::new();
        while !line.ends_with(b"\r\n") {
            let Ok(byte) = stream.read_u8().await else { return };
            line.push(byte);
        }
        let line = String::from_utf8_lossy(&line).trim_end().to_owned();
        seen.headers.lock().expect("not poisoned").push(line);
    }
    let Ok(mut connection) = h2::server::handshake(stream).await else { return };
    while let Some(Ok((request, mut respond))) = connection.accept().await {
        let seen = Arc::clone(seen);
        let active = seen.active.fetch_add(1, Ordering::SeqCst) + 1;
        seen.active_max.fetch_max(active, Ordering::SeqCst);
        tokio::spawn(async move {
            if request.uri().path() == "/held" {
                seen.permits.acquire().await.expect("open").forget();
            }
            seen.active.fetch_sub(1, Ordering::SeqCst);
            let sending = respond.send_response(Response::new(()), false);
            let _ = sending.and_then(|mut body| body.send_data(Bytes::from_static(b"ok"), true));
        });
    }
}

/// A gateway of one worker, whose pools are not shared with others.
fn before(server: &Server, rule: &str) -> Gateway {
    let routes = any_host("  - route: [{destination: {host: up}}]\n");
    Gateway::start_with(
        &[
            ("rule.yaml", &policy("up", rule)),
            ("routes.yaml", &routes),
            ("service.yaml", &service("up", &[server.address])),
        ],
        &["--workers", "1"],
    )
}

#[test]
fn every_client_behind_the_proxy_protocol_has_its_own_connection() {
    let server = Server::start(true);
    let rule = "{proxyProtocol: {version: V1}, connectionPool: {http: {h2UpgradePolicy: UPGRADE}}}";
    let gateway = before(&server, rule);
    let mut raws: Vec<Raw> = (0..3).map(|_| Raw::connect(gateway.address)).collect();
    for _ in 0..2 {
        for raw in &mut raws {
            raw.send(GET);
            assert_eq!(raw.response().status, 200);
        }
    }
    let to = gateway.address;
    let line = |from: SocketAddr| {
        format!("PROXY TCP4 {} {} {} {}", from.ip(), to.ip(), from.port(), to.port())
    };
    let expected: Vec<String> = raws.iter().map(|raw| line(raw.local_address())).collect();
    let told = || server.seen.headers.lock().expect("not poisoned").clone();
    assert_eq!(told(), expected, "one each, which the second request used again");
    // Streams of one client share its connection.
    block_on(async {
        let client = connect(gateway.address).await;
        let calls = (0..20).map(|_| call(&client, request("GET", "/"), "", None));
        for answer in futures_util::future::join_all(calls).await {
            assert_eq!(answer.expect("an answer").status, 200);
        }
    });
    assert_eq!(told().len(), 4);
}

#[test]
fn requests_beyond_what_the_connections_may_carry_wait() {
    let server = Server::start(false);
    let rule = "{connectionPool: {tcp: {maxConnections: 2}, \
                http: {h2UpgradePolicy: UPGRADE, maxConcurrentStreams: 3}}}";
    let gateway = before(&server, rule);
    let held = "GET /held HTTP/1.1\r\nHost: a.com\r\n\r\n";
    let mut raws: Vec<Raw> = (0..10).map(|_| Raw::connect(gateway.address)).collect();
    for raw in &mut raws {
        raw.send(held);
    }
    wait_until("two connections with three requests each", || server.active() == 6);
    gateway.wait_for_metrics("all of them came", |metrics| {
        metrics.sum("ringress_requests_active", &[]) == 10.0
    });
    server.seen.permits.add_permits(raws.len());
    for raw in &mut raws {
        assert_eq!(raw.response().status, 200);
    }
    assert_eq!(server.opened(), 2);
    assert_eq!(server.seen.active_max.load(Ordering::SeqCst), 6);
}

#[test]
fn too_many_that_wait_are_refused() {
    let server = Server::start(false);
    let rule = "{connectionPool: {tcp: {maxConnections: 1}, \
                http: {h2UpgradePolicy: UPGRADE, maxConcurrentStreams: 1, \
                http1MaxPendingRequests: 1}}}";
    let gateway = before(&server, rule);
    let held = "GET /held HTTP/1.1\r\nHost: a.com\r\n\r\n";
    let mut first = Raw::connect(gateway.address);
    first.send(held);
    wait_until("the first", || server.active() == 1);
    let mut others: Vec<Raw> = (0..4).map(|_| Raw::connect(gateway.address)).collect();
    for raw in &mut others {
        raw.send(held);
    }
    gateway.wait_for_metrics("the refusals", |metrics| {
        metrics.sum("istio_requests_total", &[("response_flags", "UO")]) == 3.0
    });
    server.seen.permits.add_permits(2);
    assert_eq!(first.response().status, 200);
    let mut statuses: Vec<u16> = others.iter_mut().map(|raw| raw.response().status).collect();
    statuses.sort_unstable();
    assert_eq!(statuses, [200, 503, 503, 503]);
    assert_eq!(server.opened(), 1);
}

#[test]
fn an_idle_connection_is_closed_after_its_time() {
    for pool in [
        "http: {h2UpgradePolicy: UPGRADE, idleTimeout: 1s}",
        "http: {h2UpgradePolicy: UPGRADE}, tcp: {idleTimeout: 1s}",
    ] {
        let server = Server::start(false);
        let gateway = before(&server, &format!("{{connectionPool: {{{pool}}}}}"));
        let mut raw = Raw::connect(gateway.address);
        raw.send(GET);
        assert_eq!(raw.response().status, 200);
        wait_until("its end", || server.ended() == 1);
        gateway.wait_for_metrics("the end counted", |metrics| {
            metrics.sum("ringress_upstream_connections_closed_total", &[]) == 1.0
        });
        raw.send(GET);
        assert_eq!(raw.response().status, 200);
        assert_eq!(server.opened(), 2, "{pool}");
    }
}

#[test]
fn a_connection_with_a_request_is_not_idle() {
    let server = Server::start(false);
    let pool = "{connectionPool: {http: {h2UpgradePolicy: UPGRADE, idleTimeout: 1s}}}";
    let gateway = before(&server, pool);
    let mut raw = Raw::connect(gateway.address);
    raw.send("GET /held HTTP/1.1\r\nHost: a.com\r\n\r\n");
    wait_until("the request", || server.active() == 1);
    // Another cluster's worth of sweeps: longer than the timeout.
    std::thread::sleep(std::time::Duration::from_millis(2500));
    assert_eq!(server.ended(), 0);
    server.seen.permits.add_permits(1);
    assert_eq!(raw.response().status, 200);
    wait_until("its end, once it is idle", || server.ended() == 1);
}

#[test]
fn an_old_connection_gets_no_further_requests() {
    let server = Server::start(false);
    let pool =
        "{connectionPool: {http: {h2UpgradePolicy: UPGRADE}, tcp: {maxConnectionDuration: 1s}}}";
    let gateway = before(&server, pool);
    let (mut held, mut raw) = (Raw::connect(gateway.address), Raw::connect(gateway.address));
    held.send("GET /held HTTP/1.1\r\nHost: a.com\r\n\r\n");
    wait_until("the request", || server.active() == 1);
    wait_until("another connection", || {
        raw.send(GET);
        assert_eq!(raw.response().status, 200);
        server.opened() == 2
    });
    // What it has is finished.
    server.seen.permits.add_permits(1);
    assert_eq!(held.response().status, 200);
}
