//! `connectionPool` of DestinationRules, as an upstream sees its connections.

use std::io::{Read, Write};
use std::net::SocketAddr;
use std::sync::mpsc::channel;
use std::time::Duration;

use crate::support::raw::Raw;
use crate::support::upstream::{Scripted, read_head};
use crate::support::{Gateway, Upstream, manifests};

const GET: &str = "GET / HTTP/1.1\r\nHost: a.com\r\n\r\n";

/// A gateway before one endpoint with this `connectionPool`.
fn gateway(pool: &str, endpoint: SocketAddr) -> Gateway {
    let rule = format!(
        "apiVersion: networking.istio.io/v1\nkind: DestinationRule\nmetadata: {{name: up}}\n\
         spec:\n  host: up\n  trafficPolicy:\n    connectionPool: {pool}\n"
    );
    let routes = manifests::any_host("  - route: [{destination: {host: up}}]\n");
    let service = manifests::service("up", &[endpoint]);
    Gateway::start(&[("rule.yaml", &rule), ("routes.yaml", &routes), ("service.yaml", &service)])
}

#[test]
fn a_connection_serves_as_many_requests_as_it_may() {
    for (pool, connections) in [
        ("{http: {maxRequestsPerConnection: 1}}", 6),
        ("{http: {maxRequestsPerConnection: 2}}", 3),
        ("{http: {maxRequestsPerConnection: 0}}", 1),
    ] {
        let upstream = Upstream::start("up");
        let gateway = gateway(pool, upstream.address);
        // One client connection is on one worker, which has a pool of its own.
        let mut raw = Raw::connect(gateway.address);
        for _ in 0..6 {
            raw.send(GET);
            assert_eq!(raw.response().status, 200);
        }
        assert_eq!(upstream.connections(), connections, "{pool}");
    }
}

#[test]
fn an_idle_connection_is_closed_after_its_time() {
    for pool in ["{http: {idleTimeout: 1s}}", "{tcp: {idleTimeout: 1s}}"] {
        let (ended, ends) = channel();
        let upstream = Scripted::start(move |_, mut stream| {
            if read_head(&mut stream).is_some() {
                let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
                let _ = ended.send(stream.read(&mut [0]).unwrap_or(0));
            }
        });
        let gateway = gateway(pool, upstream.address);
        let mut raw = Raw::connect(gateway.address);
        raw.send(GET);
        assert_eq!(raw.response().status, 200);
        assert_eq!(ends.recv_timeout(Duration::from_secs(20)), Ok(0), "{pool}");
        // The client's own connection is not touched by it.
        raw.send(GET);
        assert_eq!(raw.response().status, 200);
    }
}
