//! Service level objectives: measured, shown, exported, and as rules for Prometheus.

use std::process::Command;

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
  - name: empty
    match: [{uri: {prefix: /empty}}]
    route: [{destination: {host: empty}}]
  - name: main
    route: [{destination: {host: hello}}]
---
apiVersion: v1
kind: Service
metadata: {name: empty, namespace: default}
spec: {ports: [{name: http, port: 80}]}
";

fn objective(name: &str, spec: &str) -> String {
    format!(
        "apiVersion: ringress.io/v1alpha1\nkind: ServiceLevelObjective\nmetadata: {{name: {name}}}\n\
         spec: {spec}\n---\n"
    )
}

fn objectives() -> String {
    objective("available", "{host: hello.com, availability: 90, window: 7d}")
        + &objective("main", "{route: default/hello#main, availability: 99.9}")
        + &objective("fast", "{host: hello.com, latency: {threshold: 10m, target: 99}}")
}

fn start(objectives: &str) -> (Gateway, Upstream) {
    let upstream = Upstream::start("hello");
    let service = hello_service(&[upstream.address]);
    let routes = format!("{GATEWAY}---\n{ROUTES}");
    let files = [("routes.yaml", &*routes), ("service.yaml", &*service), ("slo.yaml", objectives)];
    (Gateway::start_with(&files, &["--skip-invalid"]), upstream)
}

fn ask(gateway: &Gateway, path: &str, times: usize) {
    let mut raw = Raw::connect(gateway.address);
    for _ in 0..times {
        raw.send(format!("GET {path} HTTP/1.1\r\nHost: hello.com\r\n\r\n"));
        raw.response();
    }
}

fn slo(gateway: &Gateway, name: &str) -> Value {
    let page = gateway.json("/api/slos");
    let found = page["slos"].as_array().expect("a list").iter().find(|slo| slo["name"] == name);
    found.unwrap_or_else(|| panic!("no {name} in {page:#}")).clone()
}

#[test]
fn objectives_are_measured_shown_and_exported() {
    let (gateway, _upstream) = start(&objectives());
    assert_eq!(slo(&gateway, "available")["ratio"], Value::Null);
    ask(&gateway, "/", 15);
    ask(&gateway, "/empty", 5);
    wait_until("all requests", || slo(&gateway, "available")["total"] == 20);
    let available = slo(&gateway, "available");
    assert_eq!(available["good"], 15);
    assert_eq!((&available["ratio"], &available["window_s"]), (&0.75.into(), &604_800.into()));
    let near = |value: &Value, wanted: f64| {
        assert!((value.as_f64().expect("a number") - wanted).abs() < 1e-6, "{value} {wanted}");
    };
    near(&available["objective"], 0.9);
    near(&available["budget_remaining"], -1.5);
    near(&available["burn_rates"][0]["rate"], 2.5);
    assert_eq!(available["alert"], "ticket");
    let main = slo(&gateway, "main");
    assert_eq!((&main["route"], &main["host"]), (&"default/hello#main".into(), &Value::Null));
    assert_eq!(
        (&main["good"], &main["total"], &main["alert"]),
        (&15.into(), &15.into(), &Value::Null)
    );
    let fast = slo(&gateway, "fast");
    assert_eq!((&fast["kind"], &fast["threshold_ms"]), (&"latency".into(), &600_000.0.into()));
    assert_eq!((&fast["good"], &fast["total"]), (&20.into(), &20.into()));

    let metrics = gateway.metrics();
    let of =
        [("slo", "available"), ("host", "hello.com"), ("route", "-"), ("kind", "availability")];
    assert_eq!(metrics.sum("ringress_slo_good_total", &of), 15.0);
    assert_eq!(metrics.sum("ringress_slo_events_total", &of), 20.0);
    assert!((metrics.sum("ringress_slo_error_budget_remaining", &of) + 1.5).abs() < 1e-6);
    let hour = [("slo", "available"), ("window", "1h")];
    assert!((metrics.sum("ringress_slo_burn_rate", &hour) - 2.5).abs() < 1e-6);

    let admin = gateway.admin.to_string();
    let output = ringress(&["slo", "--admin", &admin]);
    let text = String::from_utf8(output.stdout).expect("text");
    let line = text.lines().find(|line| line.starts_with("available")).expect("a line");
    for part in ["hello.com", "90%", "75.000%", "-150.0%", "2.50", "ticket"] {
        assert!(line.contains(part), "{part} in {line}");
    }
}

#[test]
fn objectives_follow_their_files() {
    let (gateway, _upstream) = start(&objectives());
    ask(&gateway, "/", 4);
    wait_until("all requests", || slo(&gateway, "available")["total"] == 4);
    let changed = objective("available", "{host: hello.com, availability: 90, window: 7d}")
        + &objective("other", "{host: nobody.com, availability: 99}");
    gateway.write("slo.yaml", &changed);
    wait_until("the new objective", || {
        let page = gateway.json("/api/slos");
        let names: Vec<_> = page["slos"]
            .as_array()
            .expect("a list")
            .iter()
            .map(|slo| slo["name"].clone())
            .collect();
        names == ["available", "other"]
    });
    assert_eq!(slo(&gateway, "available")["total"], 4, "what did not change goes on");
    let errors = gateway.json("/api/slos")["errors"].clone();
    let error = errors[0].as_str().expect("an error");
    assert!(error.contains("slo.yaml:") && error.contains("nobody.com"), "{error}");
}

#[test]
fn what_cannot_be_measured_is_a_finding() {
    let directory = tempfile::TempDir::new().expect("a directory");
    let write = |name: &str, text: &str| {
        std::fs::write(directory.path().join(name), text).expect("written");
    };
    write("routes.yaml", &format!("{GATEWAY}---\n{ROUTES}"));
    write(
        "slo.yaml",
        &[
            objective("both", "{host: hello.com, route: main, availability: 99}"),
            objective("none", "{host: hello.com}"),
            objective("all", "{host: hello.com, availability: 100}"),
            objective("long", "{host: hello.com, availability: 99, window: 90d}"),
            objective("slow", "{host: hello.com, latency: {target: 99}}"),
            objective("word", "{host: hello.com, availability: 99, windows: 3d}"),
            objective("lost", "{route: default/hello#mian, availability: 99}"),
        ]
        .concat(),
    );
    let path = directory.path().display().to_string();
    let output = ringress(&["check", &path, "--output", "json"]);
    assert_eq!(output.status.code(), Some(1));
    let found: Vec<Value> = serde_json::from_slice(&output.stdout).expect("a JSON array");
    let of = |name: &str| -> Vec<&str> {
        let object = format!("ServiceLevelObjective default/{name}");
        let own = found.iter().filter(|found| found["resource"] == object);
        own.filter_map(|found| found["code"].as_str()).collect()
    };
    for name in ["both", "none", "all", "long", "slow"] {
        assert_eq!(of(name), ["RNG0401"], "{name}: {found:#?}");
    }
    assert_eq!(of("word"), ["IST0106"]);
    assert_eq!(of("lost"), ["RNG0402"]);
}

#[test]
fn prometheus_takes_the_rules() {
    let directory = tempfile::TempDir::new().expect("a directory");
    let manifests = directory.path().join("manifests.yaml");
    std::fs::write(&manifests, format!("{GATEWAY}---\n{ROUTES}---\n{}", objectives()))
        .expect("written");
    let output = ringress(&["slo", "rules", "--config", &manifests.display().to_string()]);
    assert!(output.status.success(), "{output:?}");
    let text = String::from_utf8(output.stdout).expect("text");
    let parsed: Value = serde_saphyr::from_str(&text).expect("YAML");
    let alerts = parsed["groups"][1]["rules"].as_array().expect("alerts");
    assert_eq!(alerts.len(), 6, "a page and a ticket for each of three");
    assert!(
        alerts
            .iter()
            .all(|alert| alert["expr"].is_string() && alert["labels"]["severity"].is_string())
    );
    let rules = directory.path().join("rules.yml");
    std::fs::write(&rules, &text).expect("written");
    match Command::new("promtool").args(["check", "rules"]).arg(&rules).output() {
        Ok(checked) => {
            let said = String::from_utf8_lossy(&checked.stdout).into_owned();
            assert!(checked.status.success(), "{said}{}", String::from_utf8_lossy(&checked.stderr));
            assert!(said.contains("13 rules found"), "{said}");
        }
        Err(error) => eprintln!("promtool is not here ({error}): the rules were only parsed"),
    }
    let (gateway, _upstream) = start(&objectives());
    assert_eq!(gateway.page("/api/slos/rules"), (200, text));
}
