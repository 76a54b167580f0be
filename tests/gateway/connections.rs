//! Where connections go whose bytes are not HTTP: `tls` and `tcp` routes, as `explain` tells them. Nothing
//! listens for them yet.

use serde_json::Value;
use tempfile::TempDir;

use crate::support::gateway::ringress;
use crate::support::manifests;

const GATEWAYS: &str = "\
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {name: gateway}
spec:
  selector: {istio: ingressgateway}
  servers:
  - port: {number: 443, name: tls, protocol: TLS}
    tls: {mode: PASSTHROUGH}
    hosts: ['*.example.com', other.org]
  - port: {number: 8443, name: https, protocol: HTTPS}
    tls: {mode: PASSTHROUGH}
    hosts: ['*.example.com']
  - port: {number: 3306, name: mysql, protocol: TCP}
    hosts: ['*']
---
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {name: second}
spec:
  selector: {istio: ingressgateway}
  servers:
  - port: {number: 3306, name: mysql, protocol: TCP}
    hosts: ['*']
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: a-names}
spec:
  hosts: ['*.example.com']
  gateways: [gateway]
  tls:
  - match: [{sniHosts: ['*.example.com']}]
    route: [{destination: {host: wild}}]
  - match: [{port: 8443, sniHosts: [a.example.com]}, {sniHosts: [b.example.com]}]
    route:
    - {destination: {host: one}, weight: 30}
    - {destination: {host: two}, weight: 70}
    - {destination: {host: wild}, weight: 0}
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: b-late}
spec:
  hosts: [b.example.com]
  gateways: [gateway]
  tls:
  - match: [{sniHosts: [b.example.com]}]
    route: [{destination: {host: wild}}]
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: c-elsewhere}
spec:
  hosts: [c.example.com]
  gateways: [gateway]
  tls:
  - match: [{gateways: [second], sniHosts: [c.example.com]}]
    route: [{destination: {host: two}}]
  - match: [{port: 8443, sniHosts: [c.example.com]}]
    route: [{destination: {host: one}, weight: 30}, {destination: {host: two}, weight: 0}]
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: d-bytes}
spec:
  hosts: [db.example.com]
  gateways: [gateway, second]
  tcp:
  - match: [{port: 5432}]
    route: [{destination: {host: two}}]
  - match: [{port: 3306}]
    route: [{destination: {host: one}}]
  - route: [{destination: {host: wild}}]
";

fn directory() -> TempDir {
    let directory = TempDir::new().expect("a directory");
    let endpoint = ["127.0.0.1:9".parse().expect("an address")];
    let services = ["wild", "one", "two"].map(|name| manifests::service(name, &endpoint));
    let text = format!("{GATEWAYS}---\n{}", services.join("---\n"));
    std::fs::write(directory.path().join("all.yaml"), text).expect("written");
    directory
}

fn explain(directory: &TempDir, connection: &str) -> Result<Value, String> {
    let path = directory.path().to_str().expect("text");
    let output = ringress(&["explain", path, connection, "--output", "json"]);
    if output.status.success() {
        Ok(serde_json::from_slice(&output.stdout).expect("JSON"))
    } else {
        Err(String::from_utf8_lossy(&output.stderr).into_owned())
    }
}

/// The rule that a connection takes, and its destinations with their shares.
fn taken(answer: &Value) -> (String, Vec<(String, f64)>) {
    let routes = answer["routes"].as_array().expect("a list").iter();
    let rule = routes
        .filter(|route| route["mismatch"].is_null())
        .map(|route| format!("{} {}", route["virtualService"], route["name"]).replace('"', ""))
        .collect();
    let destinations = answer["destinations"].as_array().expect("a list").iter();
    let share = |destination: &Value| {
        let cluster = destination["cluster"].as_str().expect("a cluster");
        let host = cluster.rsplit('|').next().and_then(|host| host.split('.').next());
        let percent = destination["percent"].as_f64().expect("a number");
        (host.unwrap_or_default().to_owned(), percent)
    };
    (rule, destinations.map(share).collect())
}

#[test]
fn connections_go_where_their_name_or_port_says() {
    let directory = directory();
    let one = |host: &str| vec![(host.to_owned(), 100.0)];
    let shared = || vec![("one".to_owned(), 30.0), ("two".to_owned(), 70.0)];
    for (connection, rule, destinations) in [
        ("tls://x.example.com:443", "default/a-names spec.tls[0].match[0]", one("wild")),
        ("tls://A.example.com", "default/a-names spec.tls[0].match[0]", one("wild")),
        ("tls://a.example.com:8443", "default/a-names spec.tls[1].match[0]", shared()),
        // Of two rules for one name the first VirtualService's counts.
        ("tls://b.example.com:443", "default/a-names spec.tls[1].match[1]", shared()),
        ("tls://c.example.com:443", "default/a-names spec.tls[0].match[0]", one("wild")),
        // One of several that has a weight gets all.
        ("tls://c.example.com:8443", "default/c-elsewhere spec.tls[1].match[0]", one("one")),
        ("tls://other.org:443", "", vec![]),
        ("tcp://:3306", "default/d-bytes spec.tcp[1]", one("one")),
    ] {
        let answer = explain(&directory, connection).expect("a port");
        assert_eq!(taken(&answer), (rule.to_owned(), destinations), "{connection}");
        assert!(answer["notServed"].is_string());
    }
    // The first Gateway of a TCP port has it.
    let answer = explain(&directory, "tcp://:3306").expect("a port");
    assert_eq!(answer["routes"].as_array().map(Vec::len), Some(1));
    for connection in ["tcp://:443", "tls://a.example.com:3306", "tcp://:x"] {
        assert!(explain(&directory, connection).is_err(), "{connection}");
    }
}

#[test]
fn a_name_that_is_taken_and_what_is_not_served_are_told() {
    let directory = directory();
    let path = directory.path().to_str().expect("text");
    let text = ringress(&["explain", path, "tls://b.example.com:443"]);
    let text = String::from_utf8_lossy(&text.stdout).into_owned();
    for line in ["not served yet", "default/b-late", "default/a-names: matches", "(70%)"] {
        assert!(text.contains(line), "{line}:\n{text}");
    }
    let found = ringress(&["check", path, "--output", "json"]);
    let found: Vec<Value> = serde_json::from_slice(&found.stdout).expect("JSON");
    let taken = found.iter().find(|found| found["code"] == "RNG0207").expect("a finding");
    assert_eq!(taken["field"], "spec.tls[0].match[0].sniHosts");
    assert!(taken["resource"].as_str().is_some_and(|name| name.contains("b-late")));
    let listeners = ringress(&["check", path]);
    let summary = String::from_utf8_lossy(&listeners.stdout).into_owned();
    assert!(summary.contains("0 listener(s)"), "nothing listens: {summary}");
}
