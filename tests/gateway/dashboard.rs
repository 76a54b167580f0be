//! The page for browsers, in a real one: before a gateway with traffic, and before made-up figures for what
//! takes longer than a test.

mod double;
mod everyone;
mod views;

use crate::support::browser::Browser;
use crate::support::manifests::{GATEWAY, service};
use crate::support::raw::Raw;
use crate::support::{Gateway, Upstream};

const VIEWS: [&str; 6] = ["overview", "graph", "latency", "slos", "explain", "problems"];

/// A route that is divided between two subsets, and one that leads nowhere.
const ROUTES: &str = "\
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: hello}
spec:
  hosts: [hello.com]
  gateways: [gateway]
  http:
  - name: broken
    match: [{uri: {prefix: /broken}}]
    route: [{destination: {host: nobody}}]
  - name: main
    route:
    - {destination: {host: hello, subset: v1}, weight: 50}
    - {destination: {host: hello, subset: v2}, weight: 50}
---
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: hello}
spec:
  host: hello
  subsets:
  - {name: v1, labels: {version: v1}}
  - {name: v2, labels: {version: v2}}
";

/// Two upstreams, each a subset of `hello`, and a gateway before them.
fn canary() -> (Gateway, [Upstream; 2]) {
    let upstreams = [Upstream::start("v1"), Upstream::start("v2")];
    let addresses: Vec<_> = upstreams.iter().map(|upstream| upstream.address).collect();
    let mut services = service("hello", &addresses);
    for index in 0..2 {
        let name = format!("  name: hello-{index}\n  namespace: default\n  labels: {{");
        let labelled = format!("{name}version: v{}, ", index + 1);
        services = services.replace(&name, &labelled);
    }
    let routes = format!("{GATEWAY}---\n{ROUTES}");
    let gateway = Gateway::start(&[("routes.yaml", &routes), ("services.yaml", &services)]);
    (gateway, upstreams)
}

fn ask(gateway: &Gateway, path: &str, times: usize) {
    let mut raw = Raw::connect(gateway.address);
    for _ in 0..times {
        raw.send(format!("GET {path} HTTP/1.1\r\nHost: hello.com\r\n\r\n"));
        raw.response();
    }
}

fn page(gateway: &Gateway, view: &str) -> String {
    format!("http://{}/dashboard/#{view}", gateway.admin)
}

/// The browser complained of nothing: no script failed, and nothing was asked for that the policy forbids.
#[track_caller]
fn is_content(browser: &Browser) {
    assert_eq!(browser.complaints(), Vec::<String>::new());
}

/// Text of the first row of a table whose text contains `part`.
fn row(browser: &Browser, view: &str, part: &str) -> String {
    let rows = browser.value(&format!(
        "[...document.querySelectorAll('#view-{view} tbody tr')].map((row) => row.innerText)"
    ));
    let rows: Vec<String> = serde_json::from_value(rows).expect("texts");
    rows.into_iter().find(|row| row.contains(part)).unwrap_or_default()
}

/// The row of the table of curves for a percentile.
fn percentile(browser: &Browser, name: &str) -> String {
    let text = browser.value(&format!(
        "[...document.querySelectorAll('#view-latency tbody tr')]
            .find((row) => row.cells[0].textContent === '{name}\u{a0}%').innerText"
    ));
    text.as_str().expect("a text").to_owned()
}
