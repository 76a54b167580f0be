//! Outlier detection, as the endpoints see it.

use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use http_body_util::Full;
use hyper::Response;

use crate::support::gateway::wait_until;
use crate::support::raw::Raw;
use crate::support::{Gateway, Upstream, manifests};

const GET: &str = "GET / HTTP/1.1\r\nHost: a.com\r\n\r\n";

fn gateway(policy: &str, endpoints: &[SocketAddr]) -> Gateway {
    let routes =
        manifests::any_host("  - route: [{destination: {host: up}}]\n    retries: {attempts: 0}\n");
    Gateway::start(&[
        ("rule.yaml", &manifests::policy("up", policy)),
        ("routes.yaml", &routes),
        ("service.yaml", &manifests::service("up", endpoints)),
    ])
}

/// An upstream that answers 500 while it is told to be bad.
fn moody(name: &str) -> (Upstream, Arc<AtomicBool>) {
    let bad = Arc::new(AtomicBool::new(true));
    let mood = Arc::clone(&bad);
    let upstream = Upstream::start_with(name, move |_| {
        let mut response = Response::new(Full::default());
        if mood.load(Ordering::SeqCst) {
            *response.status_mut() = hyper::StatusCode::INTERNAL_SERVER_ERROR;
        }
        response
    });
    (upstream, bad)
}

/// Send `count` requests, each over a connection of its own; how many were answered with `status`?
fn answered(gateway: &Gateway, count: usize, status: u16) -> usize {
    let ask = |_| {
        let mut raw = Raw::connect(gateway.address);
        raw.send(GET);
        raw.response().status
    };
    (0..count).map(ask).filter(|got| *got == status).count()
}

fn ejections(gateway: &Gateway, change: &str) -> f64 {
    gateway.metrics().sum("ringress_outlier_changes_total", &[("change", change)])
}

#[test]
fn errors_over_all_workers_eject_an_endpoint_until_its_time_is_over() {
    let (bad, mood) = moody("bad");
    let good = Upstream::start("good");
    // Round robin over two workers: each meets every second error.
    let policy = "{loadBalancer: {simple: ROUND_ROBIN}, outlierDetection: {consecutive5xxErrors: 4, \
                  interval: 1s, baseEjectionTime: 1s, maxEjectionPercent: 50}}";
    let gateway = gateway(policy, &[bad.address, good.address]);
    let errors = answered(&gateway, 40, 500);
    // Four, and those that were under way on the other worker: none, one request came after another.
    assert_eq!(errors, 4);
    assert_eq!(ejections(&gateway, "ejected"), 1.0);
    mood.store(false, Ordering::SeqCst);
    let before = bad.seen().len();
    wait_until("the endpoint comes back", || {
        answered(&gateway, 4, 200);
        bad.seen().len() > before
    });
    assert_eq!(ejections(&gateway, "returned"), 1.0);
}

#[test]
fn refused_connections_count_as_errors() {
    let closed = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
    let address = closed.local_addr().expect("bound");
    drop(closed);
    let good = Upstream::start("good");
    let policy = "{loadBalancer: {simple: ROUND_ROBIN}, \
                  outlierDetection: {consecutiveGatewayErrors: 2, consecutive5xxErrors: 0, \
                  maxEjectionPercent: 100}}";
    let gateway = gateway(policy, &[address, good.address]);
    assert_eq!(answered(&gateway, 20, 503), 2);
    assert_eq!(answered(&gateway, 20, 200), 20);
}

#[test]
fn when_all_are_out_there_is_nobody_unless_it_panics() {
    for (panic, status) in [("", 503), (", minHealthPercent: 50", 500)] {
        let (first, _) = moody("first");
        let (second, _) = moody("second");
        let policy = format!(
            "{{outlierDetection: {{consecutive5xxErrors: 1, maxEjectionPercent: 100{panic}}}}}"
        );
        let gateway = gateway(&policy, &[first.address, second.address]);
        wait_until("both are out", || {
            answered(&gateway, 1, 500);
            ejections(&gateway, "ejected") == 2.0
        });
        assert_eq!(answered(&gateway, 10, status), 10, "{panic}");
        if status == 503 {
            gateway.wait_for_metrics("no healthy upstream", |metrics| {
                metrics.sum("istio_requests_total", &[("response_flags", "UH")]) >= 10.0
            });
        }
    }
}

#[test]
fn by_default_a_small_service_is_left_alone() {
    let (bad, _) = moody("bad");
    let good = Upstream::start("good");
    // Istio's default share of 10 %: of two endpoints that is none.
    let policy =
        "{loadBalancer: {simple: ROUND_ROBIN}, outlierDetection: {consecutive5xxErrors: 1}}";
    let gateway = gateway(policy, &[bad.address, good.address]);
    let errors = answered(&gateway, 20, 500);
    assert!((9..=11).contains(&errors), "{errors}");
    assert_eq!(ejections(&gateway, "ejected"), 0.0);
}

#[test]
fn an_endpoint_stays_out_over_a_reload_that_keeps_it() {
    let (bad, _) = moody("bad");
    let good = Upstream::start("good");
    let policy = "{outlierDetection: {consecutive5xxErrors: 1, maxEjectionPercent: 60}}";
    let gateway = gateway(policy, &[bad.address, good.address]);
    wait_until("it is out", || {
        answered(&gateway, 1, 500);
        ejections(&gateway, "ejected") == 1.0
    });
    let third = Upstream::start("third");
    let endpoints = [bad.address, good.address, third.address];
    let generation = gateway.generation();
    gateway.write("service.yaml", &manifests::service("up", &endpoints));
    gateway.wait_for_generation(generation + 1);
    assert_eq!(answered(&gateway, 30, 200), 30);
    assert!(!third.seen().is_empty());
}
