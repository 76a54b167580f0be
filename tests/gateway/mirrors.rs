//! Copies of requests: what the mirror gets, and that the request does not care.

use std::sync::atomic::Ordering;
use std::time::Duration;

use crate::support::gateway::wait_until;
use crate::support::http2::{Http2Upstream, call, connect, request};
use crate::support::raw::Raw;
use crate::support::upstream::{Scripted, read_head};
use crate::support::{Gateway, Upstream, block_on, manifests};

const CHUNKED: &str = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nbody\r\n0\r\n\r\n";
const GET: &str = "GET /a?b HTTP/1.1\r\nHost: a.com\r\n\r\n";

/// A gateway whose only rule has these fields, before `up` and two mirrors.
fn gateway(fields: &str, mirror: std::net::SocketAddr, other: &Upstream) -> (Gateway, Upstream) {
    let upstream = Upstream::start("up");
    let routes =
        manifests::any_host(&format!("  - {fields}\n    route: [{{destination: {{host: up}}}}]\n"));
    let services = [("up", upstream.address), ("mirror", mirror), ("other", other.address)]
        .map(|(name, address)| manifests::service(name, &[address]))
        .join("---\n");
    let gateway = Gateway::start(&[("routes.yaml", &routes), ("services.yaml", &services)]);
    (gateway, upstream)
}

#[track_caller]
fn ask(gateway: &Gateway, request: &str, times: usize) {
    let mut raw = Raw::connect(gateway.address);
    for _ in 0..times {
        raw.send(request);
        let response = raw.response();
        assert_eq!((response.status, response.header("x-upstream")), (200, Some("up")));
    }
}

/// Ask for one request after the other, each when the connections of the copy before it are idle again.
fn ask_one_by_one(gateway: &Gateway, request: &str, times: usize) {
    let mut raw = Raw::connect(gateway.address);
    for number in 1..=times {
        raw.send(request);
        assert_eq!(raw.response().status, 200);
        gateway.wait_for_metrics("an idle connection each", |metrics| {
            let sent = [("outcome", "sent")];
            metrics.sum("ringress_mirrored_requests_total", &sent) == number as f64
                && metrics.sum("ringress_upstream_connections_active", &[]) == 0.0
                && metrics.sum("ringress_upstream_connections_idle", &[]) == 2.0
        });
    }
}

#[test]
fn the_mirror_gets_the_request_as_the_service_does() {
    const POST: &str = "POST /a HTTP/1.1\r\nHost: a.com\r\nContent-Length: 5\r\n\r\nhello";
    let (mirror, other) = (Upstream::start("mirror"), Upstream::start("other"));
    let fields = "mirror: {host: mirror}\n    rewrite: {uri: /x/, authority: inner}\n    \
                  headers: {request: {set: {x-set: \"1\"}}}";
    let (gateway, upstream) = gateway(fields, mirror.address, &other);
    ask_one_by_one(&gateway, POST, 3);
    assert_eq!(mirror.seen().len(), 3);
    let (copy, original) = (mirror.last(), upstream.last());
    assert_eq!(
        (copy.method, copy.target, copy.body),
        (original.method, original.target, original.body)
    );
    for name in ["host", "x-set", "x-forwarded-for", "x-envoy-original-path"] {
        let value = |headers: &[(String, String)]| {
            headers.iter().find(|(field, _)| field.eq_ignore_ascii_case(name)).cloned()
        };
        assert_eq!(value(&copy.headers), value(&original.headers), "{name}");
    }
    // Its connection is kept for the next copy.
    assert_eq!(mirror.connections(), 1);
    assert_eq!(other.seen().len(), 0);
}

#[test]
fn a_mirror_is_asked_in_the_version_of_the_client() {
    let policy = "{connectionPool: {http: {useClientProtocol: true}}}";
    let (http1, http2) = (Upstream::start("mirror"), Http2Upstream::start());
    for (mirror, by_http2) in [(http1.address, false), (http2.address, true)] {
        let other = Upstream::start("other");
        let (gateway, _upstream) = gateway("mirror: {host: mirror}", mirror, &other);
        let generation = gateway.generation();
        gateway.write("rule.yaml", &manifests::policy("mirror", policy));
        gateway.wait_for_generation(generation + 1);
        if by_http2 {
            block_on(async {
                let client = connect(gateway.address).await;
                let answer = call(&client, request("GET", "/"), "", None).await;
                assert_eq!(answer.expect("an answer").status, 200);
            });
        } else {
            ask(&gateway, GET, 1);
        }
        wait_until("the copy", || match by_http2 {
            true => http2.counts.requests.load(Ordering::SeqCst) == 1,
            false => http1.seen().len() == 1,
        });
    }
}

#[test]
fn several_mirrors_and_shares() {
    let (mirror, other) = (Upstream::start("mirror"), Upstream::start("other"));
    let fields = "mirrors: [{destination: {host: mirror}, percentage: {value: 50}}, \
                  {destination: {host: other}}, {destination: {host: nobody}}]";
    let (gateway, _upstream) = gateway(fields, mirror.address, &other);
    ask(&gateway, GET, 200);
    wait_until("all copies", || other.seen().len() == 200);
    // Six standard deviations to either side.
    wait_until("half of the copies", || mirror.seen().len() >= 58);
    assert!(mirror.seen().len() <= 142, "{}", mirror.seen().len());
}

#[test]
fn a_share_of_nothing_is_nothing() {
    for fields in [
        "mirror: {host: mirror}\n    mirrorPercentage: {value: 0}",
        "mirror: {host: mirror}\n    mirrorPercent: 0",
        "mirror: {host: mirror}\n    mirrorPercentage: {value: 0}\n    mirrorPercent: 100",
    ] {
        let (mirror, other) = (Upstream::start("mirror"), Upstream::start("other"));
        let (gateway, _upstream) = gateway(fields, mirror.address, &other);
        ask(&gateway, GET, 20);
        std::thread::sleep(Duration::from_millis(100));
        assert_eq!(mirror.seen().len(), 0, "{fields}");
    }
}

#[test]
fn a_mirror_that_hangs_dies_or_talks_nonsense_harms_nothing() {
    let closed = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
    let refusing = closed.local_addr().expect("bound");
    drop(closed);
    let hanging = Scripted::start(|_, mut stream| while read_head(&mut stream).is_some() {});
    let closing = Scripted::start(|_, mut stream| drop(read_head(&mut stream)));
    let nonsense = Scripted::answering("HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n", false);
    let cut = Scripted::answering("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\npart", true);
    let chunked = Scripted::answering(CHUNKED, false);
    for address in
        [refusing, hanging.address, closing.address, nonsense.address, cut.address, chunked.address]
    {
        let other = Upstream::start("other");
        let (gateway, upstream) = gateway("mirror: {host: mirror}", address, &other);
        ask(&gateway, GET, 30);
        assert_eq!(upstream.seen().len(), 30);
    }
}

#[test]
fn an_answer_is_read_to_its_end_whatever_its_length() {
    for answer in [
        CHUNKED,
        "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 404 Not Found\r\nContent-Length: 4\r\n\r\nnone",
        "HTTP/1.1 204 No Content\r\n\r\n",
    ] {
        let (mirror, other) = (Scripted::answering(answer, false), Upstream::start("other"));
        let (gateway, _upstream) = gateway("mirror: {host: mirror}", mirror.address, &other);
        ask_one_by_one(&gateway, GET, 3);
        assert_eq!(mirror.connections(), 1, "{answer}");
    }
}
