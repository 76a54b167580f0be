//! Locality: who is near comes first, who fails is stood in for, and shares are kept.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use http_body_util::Full;
use hyper::Response;

use crate::support::gateway::wait_until;
use crate::support::raw::Raw;
use crate::support::{Gateway, Upstream, manifests};

const GET: &str = "GET / HTTP/1.1\r\nHost: a.com\r\n\r\n";

/// A ServiceEntry with these endpoints and their localities.
fn entry(endpoints: &[(&str, SocketAddr)]) -> String {
    let mut text = "apiVersion: networking.istio.io/v1\nkind: ServiceEntry\nmetadata: {name: up}\n\
                    spec:\n  hosts: [up.example]\n  resolution: STATIC\n  \
                    ports: [{number: 80, name: http, protocol: HTTP}]\n  endpoints:\n"
        .to_owned();
    for (locality, endpoint) in endpoints {
        text.push_str(&format!(
            "  - {{address: {}, ports: {{http: {}}}, locality: {locality}}}\n",
            endpoint.ip(),
            endpoint.port()
        ));
    }
    text
}

/// A gateway in `eu/west/a` before them.
fn gateway(policy: &str, retries: &str, endpoints: &[(&str, SocketAddr)]) -> Gateway {
    let rule = format!(
        "apiVersion: networking.istio.io/v1\nkind: DestinationRule\nmetadata: {{name: up}}\n\
         spec:\n  host: up.example\n  trafficPolicy: {policy}\n"
    );
    let routes = manifests::any_host(&format!(
        "  - route: [{{destination: {{host: up.example}}}}]\n    retries: {retries}\n"
    ));
    Gateway::start_with(
        &[("rule.yaml", &rule), ("routes.yaml", &routes), ("entry.yaml", &entry(endpoints))],
        &["--locality", "eu/west/a"],
    )
}

fn ask(gateway: &Gateway, count: usize) -> Vec<u16> {
    let mut raw = Raw::connect(gateway.address);
    let mut statuses = Vec::new();
    for _ in 0..count {
        raw.send(GET);
        statuses.push(raw.response().status);
    }
    statuses
}

#[test]
fn the_near_serve_until_they_fail() {
    let bad = Arc::new(AtomicBool::new(false));
    let mood = Arc::clone(&bad);
    let near = Upstream::start_with("near", move |_| {
        let mut response = Response::new(Full::default());
        if mood.load(Ordering::SeqCst) {
            *response.status_mut() = hyper::StatusCode::SERVICE_UNAVAILABLE;
        }
        response
    });
    let (region, far) = (Upstream::start("region"), Upstream::start("far"));
    let policy = "{outlierDetection: {consecutive5xxErrors: 1, maxEjectionPercent: 100}}";
    let endpoints =
        [("us/east/a", far.address), ("eu/west/a", near.address), ("eu/east/a", region.address)];
    let gateway = gateway(policy, "{attempts: 0}", &endpoints);
    assert!(ask(&gateway, 30).iter().all(|status| *status == 200));
    assert_eq!([near.seen().len(), region.seen().len(), far.seen().len()], [30, 0, 0]);
    bad.store(true, Ordering::SeqCst);
    wait_until("the nearest is out", || ask(&gateway, 1) == [200]);
    ask(&gateway, 30);
    assert!(region.seen().len() >= 30);
    assert_eq!(far.seen().len(), 0, "the region comes before others");
}

#[test]
fn without_outlier_detection_all_serve() {
    let (near, far) = (Upstream::start("near"), Upstream::start("far"));
    let endpoints = [("us/east/a", far.address), ("eu/west/a", near.address)];
    let gateway = gateway("{loadBalancer: {simple: ROUND_ROBIN}}", "{attempts: 0}", &endpoints);
    ask(&gateway, 20);
    assert_eq!([near.seen().len(), far.seen().len()], [10, 10]);
}

#[test]
fn the_load_is_shared_out_as_told() {
    let ups = [Upstream::start("a"), Upstream::start("b"), Upstream::start("c")];
    let policy = "{loadBalancer: {localityLbSetting: {distribute: [{from: 'eu/west/*', \
                  to: {'eu/west/*': 80, 'us/*': 20}}]}}}";
    let endpoints = [
        ("eu/west/b", ups[0].address),
        ("us/east/a", ups[1].address),
        ("asia/x/y", ups[2].address),
    ];
    let gateway = gateway(policy, "{attempts: 0}", &endpoints);
    ask(&gateway, 600);
    let seen: Vec<usize> = ups.iter().map(|upstream| upstream.seen().len()).collect();
    assert_eq!(seen[2], 0, "a locality that is not named gets nothing");
    assert!((420..=540).contains(&seen[0]), "{seen:?}");
}

#[test]
fn a_retry_goes_to_another_locality_when_it_may() {
    let near: Vec<Upstream> = ["one", "two"]
        .map(|name| {
            Upstream::start_with(name, |_| {
                let mut response = Response::new(Full::default());
                *response.status_mut() = hyper::StatusCode::SERVICE_UNAVAILABLE;
                response
            })
        })
        .into();
    let far = Upstream::start("far");
    // Nothing is ejected: of three endpoints 10 % are none. The near ones keep all of the load.
    let endpoints = [
        ("eu/west/a", near[0].address),
        ("eu/west/a", near[1].address),
        ("us/east/a", far.address),
    ];
    for (remote, status) in [("true", 200), ("false", 503)] {
        let retries = format!("{{attempts: 1, retryOn: 5xx, retryRemoteLocalities: {remote}}}");
        let gateway = gateway("{outlierDetection: {}}", &retries, &endpoints);
        assert!(ask(&gateway, 10).iter().all(|got| *got == status), "{remote}");
    }
}
