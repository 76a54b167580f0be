//! Clients and upstreams that make bad use of HTTP/2: nobody else may suffer from it.

use std::io::{Read, Write};
use std::sync::atomic::Ordering;

use h2::Reason;

use crate::http2::{before_http2, before_http2_with};
use crate::support::gateway::{wait_for_standstill, wait_until};
use crate::support::http2::{Http2Upstream, call, connect, connect_and_drive, request};
use crate::support::raw::Raw;
use crate::support::upstream::{Scripted, read_head};
use crate::support::{Gateway, Upstream, block_on, frames, manifests};

#[test]
fn requests_that_are_reset_while_they_are_delayed_count_and_end() {
    let upstream = Upstream::start("up");
    let delay = "  - fault: {delay: {fixedDelay: 600s, percentage: {value: 100}}}\n    \
                 route: [{destination: {host: up}}]\n";
    let gateway = Gateway::start(&[
        ("routes.yaml", &manifests::any_host(delay)),
        ("service.yaml", &manifests::service("up", &[upstream.address])),
    ]);
    block_on(async {
        let (client, driving) = connect_and_drive(gateway.address).await;
        // Many more than are borne: the gateway may be slow to answer on a busy machine.
        for _ in 0..20_000 {
            let Ok(mut sender) = client.clone().ready().await else { break };
            let request = request("GET", "/").body(()).expect("a request");
            let Ok((_response, mut stream)) = sender.send_request(request, true) else { break };
            tokio::task::yield_now().await;
            stream.send_reset(Reason::CANCEL);
        }
        drop(client);
        let error = driving.await.expect("no panic").expect_err("it was ended");
        assert_eq!(error.reason(), Some(Reason::ENHANCE_YOUR_CALM));
    });
    gateway.wait_for_metrics("no request left", |metrics| {
        metrics.sum("ringress_requests_active", &[]) == 0.0
    });
    assert_eq!(upstream.begun(), 0);
}

#[test]
fn a_request_that_is_reset_waits_for_no_connection() {
    let (came, comes) = std::sync::mpsc::channel();
    let busy = Scripted::start(move |_, mut stream| {
        if read_head(&mut stream).is_some() {
            let _ = came.send(());
            let _ = stream.read(&mut [0]);
        }
    });
    let directory = tempfile::tempdir().expect("a directory");
    let log = directory.path().join("log");
    let file = log.display().to_string();
    let arguments = ["--access-log", &file, "--access-log-format", "json", "--workers", "1"];
    let gateway = Gateway::start_with(
        &[
            ("gateway.yaml", manifests::HELLO),
            ("service.yaml", &manifests::hello_service(&[busy.address])),
            (
                "rule.yaml",
                &manifests::policy("hello", "{connectionPool: {tcp: {maxConnections: 1}}}"),
            ),
        ],
        &arguments,
    );
    block_on(async {
        let mut sender = connect(gateway.address).await.ready().await.expect("open");
        let first = request("GET", "/first").body(()).expect("a request");
        let (_first, _) = sender.send_request(first, true).expect("sent");
        comes.recv().expect("the request");
        let mut sender = sender.ready().await.expect("open");
        let second = request("GET", "/second").body(()).expect("a request");
        let (_second, mut stream) = sender.send_request(second, true).expect("sent");
        tokio::task::block_in_place(|| {
            gateway.wait_for_metrics("both", |metrics| {
                metrics.sum("ringress_requests_active", &[]) == 2.0
            });
        });
        stream.send_reset(Reason::CANCEL);
        let line = tokio::task::block_in_place(|| {
            gateway.wait_for_log(&log, |line| line["path"] == "/second")
        });
        assert_eq!(line["response_flags"], "DC");
        assert_eq!(line["response_code"], 0);
    });
    assert_eq!(busy.connections(), 1);
}

/// One failure ejects every endpoint.
const STRICT: &str = "outlierDetection: {consecutive5xxErrors: 1, \
                      interval: 600s, baseEjectionTime: 600s, maxEjectionPercent: 100}";

fn ejections(gateway: &Gateway) -> f64 {
    gateway.metrics().sum("ringress_outlier_changes_total", &[("change", "ejected")])
}

#[test]
fn odd_targets_harm_no_http2_endpoint() {
    let http2 = Http2Upstream::start();
    let gateway = before_http2_with(&http2, &format!("{{{STRICT}}}"), &[]);
    let mut raw = Raw::connect(gateway.address);
    for target in ["/<script>", "/a?<b>", "/`{a}`", "/a|b^c\"\\", "/a?q=[1]&{b}"] {
        raw.send(format!("GET {target} HTTP/1.1\r\nHost: hello.com\r\n\r\n"));
        assert_eq!(raw.response().status, 200, "{target}");
    }
    assert_eq!(ejections(&gateway), 0.0);
}

#[test]
fn upgrades_that_an_endpoint_cannot_take_do_not_harm_it() {
    // Its settings do not allow extended CONNECT.
    let plain = Scripted::start(|_, mut stream| {
        let _ = stream.write_all(&frames::frame(4, 0, 0, b""));
        let mut rest = Vec::new();
        let _ = stream.read_to_end(&mut rest);
    });
    let policy = format!("{{connectionPool: {{http: {{h2UpgradePolicy: UPGRADE}}}}, {STRICT}}}");
    let gateway = Gateway::start_with(
        &[
            ("gateway.yaml", manifests::HELLO),
            ("service.yaml", &manifests::hello_service(&[plain.address])),
            ("rule.yaml", &manifests::policy("hello", &policy)),
        ],
        &["--explain-header"],
    );
    for _ in 0..2 {
        let mut raw = Raw::connect(gateway.address);
        raw.send(
            "GET /chat HTTP/1.1\r\nHost: hello.com\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
             Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n",
        );
        let response = raw.response();
        assert_eq!(response.status, 503);
        let told = response.header("x-ringress-reason").expect("a reason");
        let reason = "upstream_reset_before_response_started{request_not_sendable_in_http2}";
        assert!(told.starts_with(reason), "{told}");
    }
    assert_eq!(ejections(&gateway), 0.0);
    assert_eq!(gateway.metrics().sum("ringress_upstream_retries_total", &[]), 0.0);
}

#[test]
fn a_connection_that_gets_no_more_requests_keeps_its_place() {
    let http2 = Http2Upstream::start();
    let policy =
        "{connectionPool: {tcp: {maxConnections: 1}, http: {maxRequestsPerConnection: 1}}}";
    let gateway = before_http2_with(&http2, policy, &["--workers", "1"]);
    block_on(async {
        let client = connect(gateway.address).await;
        let begin = |path: &str| {
            let (mut client, request) = (client.clone(), request("GET", path));
            client.send_request(request.body(()).expect("a request"), true).expect("sent")
        };
        let (_hanging, mut first) = begin("/hang");
        wait_until("the first", || http2.counts.requests.load(Ordering::SeqCst) == 1);
        let (second, _) = begin("/");
        let second = tokio::spawn(second);
        tokio::task::block_in_place(|| {
            gateway.wait_for_metrics("both", |metrics| {
                metrics.sum("ringress_requests_active", &[]) == 2.0
            });
            wait_for_standstill(&http2.counts.requests);
        });
        assert_eq!(http2.counts.connections.load(Ordering::SeqCst), 1);
        first.send_reset(Reason::CANCEL);
        let response = second.await.expect("no panic").expect("an answer");
        assert_eq!(response.status(), 200);
    });
    assert_eq!(http2.counts.connections.load(Ordering::SeqCst), 2);
}

#[test]
fn streams_that_nobody_reads_hold_little() {
    const STREAMS: usize = 50;
    let http2 = Http2Upstream::start();
    let gateway = before_http2_with(&http2, "", &["--workers", "1"]);
    block_on(async {
        let client = connect(gateway.address).await;
        let mut held = Vec::new();
        for _ in 0..STREAMS {
            let mut sender = client.clone().ready().await.expect("open");
            let endless = request("GET", "/endless").body(()).expect("a request");
            let (response, _) = sender.send_request(endless, true).expect("sent");
            held.push(response.await.expect("a head"));
        }
        let sent = tokio::task::block_in_place(|| wait_for_standstill(&http2.counts.sent));
        // The window of the endpoint's stream, and one buffer.
        assert!(sent < STREAMS * 96 * 1024, "{sent}");
    });
}

#[test]
fn connections_to_a_port_that_is_no_more_are_told_goodbye() {
    let http2 = Http2Upstream::start();
    let gateway = before_http2(&http2);
    block_on(async {
        let (client, driving) = connect_and_drive(gateway.address).await;
        let answer = call(&client, request("GET", "/"), "", None).await.expect("an answer");
        assert_eq!(answer.status, 200);
        let generation = gateway.generation();
        gateway.remove("gateway.yaml");
        tokio::task::block_in_place(|| gateway.wait_for_generation(generation + 1));
        let answer = call(&client, request("GET", "/"), "", None).await.expect("an answer");
        assert_eq!(answer.status, 404);
        // It takes no further streams, though its client would.
        while client.clone().ready().await.is_ok() {
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
        drop(client);
        driving.await.expect("no panic").expect("an orderly end");
    });
    gateway.wait_for_metrics("no connection left", |metrics| {
        metrics.sum("ringress_downstream_connections_active", &[]) == 0.0
    });
}

#[test]
fn an_endpoint_that_went_silent_gets_no_more_on_that_connection() {
    let mute = Scripted::start(|_, mut stream| {
        let _ = stream.write_all(&frames::frame(4, 0, 0, b""));
        let mut rest = Vec::new();
        let _ = stream.read_to_end(&mut rest);
    });
    let routes = "  - route: [{destination: {host: mute}}]\n    timeout: 200ms\n";
    let policy = "{connectionPool: {http: {h2UpgradePolicy: UPGRADE}}}";
    let gateway = Gateway::start_with(
        &[
            ("routes.yaml", &manifests::any_host(routes)),
            ("service.yaml", &manifests::service("mute", &[mute.address])),
            ("rule.yaml", &manifests::policy("mute", policy)),
        ],
        &["--workers", "1"],
    );
    let mut raw = Raw::connect(gateway.address);
    // The settings may have come after the first request.
    for _ in 0..3 {
        raw.send("GET / HTTP/1.1\r\nHost: hello.com\r\n\r\n");
        assert_eq!(raw.response().status, 504);
    }
    assert!(mute.connections() >= 2, "{}", mute.connections());
}
