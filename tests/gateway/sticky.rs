//! Consistent hashing: requests with one key go to one endpoint, whichever worker takes them.

use std::collections::BTreeSet;

use crate::support::raw::{Raw, Response};
use crate::support::{Gateway, Upstream, manifests};

/// A gateway before five upstreams that are picked among by this `consistentHash`.
fn gateway(hash: &str) -> (Gateway, Vec<Upstream>) {
    let upstreams: Vec<Upstream> =
        (0..5).map(|number| Upstream::start(&format!("up-{number}"))).collect();
    let addresses: Vec<_> = upstreams.iter().map(|upstream| upstream.address).collect();
    let rule = format!(
        "apiVersion: networking.istio.io/v1\nkind: DestinationRule\nmetadata: {{name: up}}\n\
         spec:\n  host: up\n  trafficPolicy:\n    loadBalancer:\n      consistentHash: {hash}\n"
    );
    let routes = manifests::any_host("  - route: [{destination: {host: up}}]\n");
    let service = manifests::service("up", &addresses);
    let files =
        [("rule.yaml", rule.as_str()), ("routes.yaml", &routes), ("service.yaml", &service)];
    (Gateway::start_with(&files, &[]), upstreams)
}

/// Ask on a connection of its own.
fn ask(gateway: &Gateway, path: &str, fields: &str) -> Response {
    let mut raw = Raw::connect(gateway.address);
    raw.send(format!("GET {path} HTTP/1.1\r\nHost: a.com\r\n{fields}\r\n"));
    raw.response()
}

fn upstream(response: &Response) -> String {
    response.header("x-upstream").expect("an upstream answered").to_owned()
}

/// The upstreams that twelve requests reach.
fn reached(gateway: &Gateway, path: &str, fields: &str) -> BTreeSet<String> {
    (0..12).map(|_| upstream(&ask(gateway, path, fields))).collect()
}

/// Each key sticks to one upstream, and thirty keys reach several.
#[track_caller]
fn keys_stick(gateway: &Gateway, request: impl Fn(usize) -> (String, String)) {
    let mut all = BTreeSet::new();
    for key in 0..30 {
        let (path, fields) = request(key);
        let first = upstream(&ask(gateway, &path, &fields));
        if key < 3 {
            assert_eq!(reached(gateway, &path, &fields), BTreeSet::from([first.clone()]), "{key}");
        }
        all.insert(first);
    }
    assert!(all.len() >= 3, "{all:?}");
}

#[test]
fn a_header_sticks_on_ring_and_maglev() {
    for hash in [
        "{httpHeaderName: X-User}",
        "{httpHeaderName: x-user, ringHash: {minimumRingSize: 64}}",
        "{httpHeaderName: x-user, maglev: {tableSize: 251}}",
        "{httpHeaderName: x-user, maglev: {}}",
    ] {
        let (gateway, _upstreams) = gateway(hash);
        keys_stick(&gateway, |key| ("/".to_owned(), format!("x-USER: {key}\r\n")));
        // Without the key a request goes anywhere.
        assert!(reached(&gateway, "/", "").len() > 1, "{hash}");
    }
}

#[test]
fn the_order_of_values_does_not_matter() {
    let (gateway, _upstreams) = gateway("{httpHeaderName: x-user}");
    for key in 0..5 {
        let one = reached(&gateway, "/", &format!("x-user: a\r\nx-user: {key}\r\n"));
        let other = reached(&gateway, "/", &format!("x-user: {key}\r\nx-user: a\r\n"));
        assert_eq!(one, other);
    }
}

#[test]
fn a_query_parameter_and_the_clients_address_stick() {
    let (by_query, _upstreams) = gateway("{httpQueryParameterName: user}");
    keys_stick(&by_query, |key| (format!("/?a=b&user={key}&user=x"), String::new()));
    assert!(reached(&by_query, "/?users=1", "").len() > 1);
    let (by_address, _upstreams) = gateway("{useSourceIp: true}");
    assert_eq!(reached(&by_address, "/", "").len(), 1);
}

#[test]
fn a_cookie_is_given_and_sticks() {
    let hash = "{httpCookie: {name: user, ttl: 60s, path: /p, attributes: [{name: SameSite, value: Lax}]}}";
    let (gateway, _upstreams) = gateway(hash);
    let mut all = BTreeSet::new();
    for _ in 0..20 {
        let first = ask(&gateway, "/", "Cookie: other=1\r\n");
        let cookie = first.header("set-cookie").expect("a cookie");
        let (pair, attributes) = cookie.split_once("; ").expect("attributes");
        assert_eq!(attributes, "Max-Age=60; Path=/p; SameSite=Lax; HttpOnly");
        let with = format!("Cookie: other=1; {pair}\r\n");
        let again = ask(&gateway, "/", &with);
        assert_eq!(upstream(&again), upstream(&first));
        assert_eq!(again.header("set-cookie"), None);
        all.insert(upstream(&first));
    }
    assert!(all.len() >= 3, "{all:?}");
}

#[test]
fn a_cookie_without_a_ttl_is_not_given() {
    let (gateway, _upstreams) = gateway("{httpCookie: {name: user}}");
    assert_eq!(ask(&gateway, "/", "").header("set-cookie"), None);
    assert!(reached(&gateway, "/", "").len() > 1);
    keys_stick(&gateway, |key| ("/".to_owned(), format!("Cookie: a=b; user={key}\r\n")));
}
