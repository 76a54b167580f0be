//! `/api/live`, `/api/curve`, `/api/graph`: the traffic of the last seconds. And `ringress top --once`.

use serde_json::Value;

use crate::support::gateway::{ringress, wait_until};
use crate::support::manifests::{GATEWAY, hello_service};
use crate::support::raw::Raw;
use crate::support::{Gateway, Upstream};

const ROUTES: &str = "\
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: hello, namespace: default}
spec:
  hosts: [hello.com]
  gateways: [gateway]
  http:
  - name: moved
    match: [{uri: {prefix: /old}}]
    redirect: {uri: /hello}
  - name: empty
    match: [{uri: {prefix: /empty}}]
    route: [{destination: {host: empty}}]
  - name: main
    match: [{uri: {prefix: /hello}}]
    route: [{destination: {host: hello}}]
  - name: idle
    match: [{uri: {prefix: /idle}}]
    directResponse: {status: 200}
---
apiVersion: v1
kind: Service
metadata: {name: empty, namespace: default}
spec: {ports: [{name: http, port: 80}]}
";

const SERVICE: &str = "hello.default.svc.cluster.local";

fn start() -> (Gateway, Upstream) {
    let upstream = Upstream::start("hello");
    let service = hello_service(&[upstream.address]);
    let routes = format!("{GATEWAY}---\n{ROUTES}");
    (Gateway::start(&[("routes.yaml", &routes), ("service.yaml", &service)]), upstream)
}

fn ask(gateway: &Gateway, host: &str, path: &str, times: usize) {
    let mut raw = Raw::connect(gateway.address);
    for _ in 0..times {
        raw.send(format!("GET {path} HTTP/1.1\r\nHost: {host}\r\n\r\n"));
        raw.response();
    }
}

/// 20 answers, 5 redirects, 3 without route, 2 without endpoint, 1 without host; then the page with all.
fn with_traffic() -> (Gateway, Upstream, Value) {
    let (gateway, upstream) = start();
    ask(&gateway, "hello.com", "/hello", 20);
    ask(&gateway, "hello.com", "/old", 5);
    ask(&gateway, "hello.com", "/nothing", 3);
    ask(&gateway, "hello.com", "/empty", 2);
    ask(&gateway, "other.com", "/", 1);
    let mut page = Value::Null;
    wait_until("all requests", || {
        page = gateway.json("/api/live?window=600");
        page["total"]["requests"] == 31
    });
    (gateway, upstream, page)
}

fn rows<'p>(page: &'p Value, list: &str, name: &str, is: &str) -> Vec<&'p Value> {
    let rows = page[list].as_array().expect("a list").iter();
    rows.filter(|row| row[name] == is).collect()
}

#[test]
fn every_request_is_in_the_row_that_it_belongs_to() {
    let (gateway, _upstream, page) = with_traffic();
    let host = rows(&page, "hosts", "host", "hello.com")[0];
    assert_eq!((&host["requests"], &host["errors"]), (&30.into(), &2.into()));
    assert_eq!(
        host["classes"],
        serde_json::json!({"1xx": 0, "2xx": 20, "3xx": 5, "4xx": 3, "5xx": 2, "none": 0})
    );
    assert_eq!(host["too_few_for"], "p99");
    let main = rows(&page, "routes", "route", "main")[0];
    assert_eq!(main["requests"], 20);
    assert_eq!(main["virtual_service"], "default/hello");
    assert_eq!(main["destination"], format!("outbound|80||{SERVICE}"));
    assert_eq!((&main["service"], &main["subset"]), (&SERVICE.into(), &"".into()));
    assert!(main["p50"].as_u64() <= main["max"].as_u64() && main["max"].is_u64());
    let moved = rows(&page, "routes", "route", "moved")[0];
    assert_eq!((&moved["requests"], &moved["destination"]), (&5.into(), &"-".into()));
    let unknown = rows(&page, "routes", "route", "unknown");
    let hosts: Vec<_> = unknown.iter().map(|row| (&row["host"], &row["requests"])).collect();
    assert!(hosts.contains(&(&"hello.com".into(), &3.into())), "{hosts:?}");
    assert!(hosts.contains(&(&"unknown".into(), &1.into())), "{hosts:?}");
    let sum = |page: &Value, what: &str| -> u64 {
        page["series"]
            .as_array()
            .expect("a list")
            .iter()
            .map(|p| p[what].as_u64().expect("a number"))
            .sum()
    };
    assert_eq!((sum(&page, "requests"), sum(&page, "errors")), (31, 2));
    let key = main["key"].as_str().expect("a key");
    let of_route = gateway.json(&format!("/api/live?window=600&key={key}"));
    assert_eq!(sum(&of_route, "requests"), 20);
    assert_eq!(of_route["total"]["requests"], 31);
    let of_host = gateway.json("/api/live?window=600&host=hello.com");
    assert_eq!(sum(&of_host, "requests"), 30);
}

#[test]
fn a_curve_holds_all_requests_of_its_route() {
    let (gateway, _upstream, page) = with_traffic();
    let main = rows(&page, "routes", "route", "main")[0];
    let key = main["key"].as_str().expect("a key");
    let curve = gateway.json(&format!("/api/curve?window=600&key={key}"));
    assert_eq!(curve["count"], 20);
    let points = curve["points"].as_array().expect("points");
    let last = points.last().expect("a point");
    assert_eq!((&last[0], &last[1]), (&1.0.into(), &main["max"]));
    let before = curve["from_unix_ms"].as_u64().expect("a time") - 1;
    let empty = gateway.json(&format!("/api/curve?window=600&key={key}&until={before}"));
    assert_eq!(empty["count"], 0);
    assert_eq!(gateway.page("/api/curve?key=nothing").0, 404);
    assert_eq!(gateway.page("/api/curve?window=many").0, 400);
}

#[test]
fn the_graph_leads_from_the_gateway_to_the_endpoints() {
    let (gateway, upstream, _) = with_traffic();
    let graph = gateway.json("/api/graph?window=600");
    let node = |id: &str| {
        let found = rows(&graph, "nodes", "id", id);
        found.first().copied().unwrap_or_else(|| panic!("no {id} in {graph:#}")).clone()
    };
    assert_eq!(node("gateway")["requests"], 31);
    assert_eq!(node("host:hello.com")["errors"], 2);
    assert_eq!(node("route:hello.com|default/hello|main")["requests"], 20);
    assert_eq!(node("route:hello.com|default/hello|idle")["requests"], 0);
    assert_eq!(node(&format!("service:{SERVICE}"))["requests"], 20);
    let endpoint = node(&format!("endpoint:{SERVICE}|{}", upstream.address));
    assert_eq!((&endpoint["healthy"], &endpoint["ejected"]), (&true.into(), &false.into()));
    let ids: Vec<&Value> =
        graph["nodes"].as_array().expect("nodes").iter().map(|node| &node["id"]).collect();
    for edge in graph["edges"].as_array().expect("edges") {
        assert!(ids.contains(&&edge["from"]) && ids.contains(&&edge["to"]), "{edge}");
    }
}

#[test]
fn top_prints_the_same_once() {
    let (gateway, _upstream, _) = with_traffic();
    let admin = gateway.admin.to_string();
    let top = |arguments: &[&str]| {
        let fixed = ["top", "--once", "--window", "600", "--admin", &admin];
        let output = ringress(&[&fixed[..], arguments].concat());
        assert!(output.status.success(), "{output:?}");
        String::from_utf8(output.stdout).expect("text")
    };
    let routes = top(&[]);
    let lines: Vec<Vec<&str>> =
        routes.lines().map(|line| line.split_whitespace().collect()).collect();
    assert_eq!(
        lines[0],
        ["HOST", "ROUTE", "DESTINATION", "RATE", "ERRORS", "P50", "P90", "P99", "P99.9"]
    );
    assert_eq!(lines[1][..3], ["hello.com", "main", "hello.default"]);
    assert_eq!(lines.len(), 6);
    assert_eq!(
        top(&["--sort", "errors"]).lines().nth(1).map(|line| line.contains("empty")),
        Some(true)
    );
    let hosts = top(&["--by", "hosts", "--filter", "hello"]);
    assert_eq!(hosts.lines().count(), 2);
    assert!(hosts.lines().nth(1).is_some_and(|line| line.starts_with("hello.com ")));
}

#[test]
fn top_says_what_is_wrong() {
    let nobody = ringress(&["top", "--once", "--admin", "127.0.0.1:1"]);
    assert_eq!(nobody.status.code(), Some(1));
    let text = String::from_utf8_lossy(&nobody.stderr).into_owned();
    assert!(text.contains("127.0.0.1:1"), "{text}");
    let pipe = ringress(&["top", "--admin", "127.0.0.1:1"]);
    assert!(String::from_utf8_lossy(&pipe.stderr).contains("--once"));
}
