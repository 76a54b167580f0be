//! What an operator sees: access log, metrics, readiness, admin pages.

use std::io::Write;
use std::sync::mpsc::channel;
use std::sync::{Arc, Mutex};

use serde_json::{Value, json};

use crate::support::gateway::wait_until;
use crate::support::manifests::{GATEWAY, HELLO, hello_service, service};
use crate::support::metrics::Metrics;
use crate::support::raw::Raw;
use crate::support::upstream::{Scripted, read_head};
use crate::support::{Gateway, Upstream};

const REQUESTS: &str = "istio_requests_total";

/// A Gateway and [`ROUTES`], in one file.
fn routes() -> String {
    format!("{GATEWAY}---\n{ROUTES}")
}

/// Routes of every outcome: an answer, no route, no cluster, no endpoint.
const ROUTES: &str = "\
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: routes}
spec:
  hosts: [hello.com]
  gateways: [gateway]
  http:
  - match: [{uri: {prefix: /no-cluster}}]
    route: [{destination: {host: nobody}}]
  - match: [{uri: {prefix: /no-endpoint}}]
    route: [{destination: {host: empty}}]
  - name: main
    route: [{destination: {host: hello}}]
---
apiVersion: v1
kind: Service
metadata: {name: empty, namespace: default}
spec: {ports: [{name: http, port: 80}]}
---
apiVersion: v1
kind: Service
metadata: {name: hello, namespace: default}
spec: {ports: [{name: http, port: 80}]}
";

/// An endpoint of `hello` with labels and a Pod.
fn endpoint(upstream: &Upstream) -> String {
    format!(
        "apiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\nmetadata:\n  name: hello-1\n  \
         namespace: default\n  labels: {{kubernetes.io/service-name: hello, app: hello-app, \
         version: v3}}\naddressType: IPv4\nports: [{{name: http, port: {}}}]\nendpoints:\n\
         - addresses: [127.0.0.1]\n  targetRef: {{kind: Pod, name: hello-v3-5d8f8b6f7c-x2k9p}}\n",
        upstream.address.port()
    )
}

fn start(arguments: &[&str]) -> (Gateway, Upstream) {
    let upstream = Upstream::start("hello");
    let endpoint = endpoint(&upstream);
    let files = [("routes.yaml", &*routes()), ("endpoint.yaml", &*endpoint)];
    (Gateway::start_with(&files, arguments), upstream)
}

fn send(raw: &mut Raw, path: &str) -> u16 {
    raw.send(format!("GET {path} HTTP/1.1\r\nHost: hello.com\r\n\r\n"));
    raw.response().status
}

/// Ask for `path` so often, over several connections, so that both workers have their part.
fn ask(gateway: &Gateway, path: &str, times: usize) {
    for _ in 0..times / 5 {
        let mut raw = Raw::connect(gateway.address);
        for _ in 0..5 {
            send(&mut raw, path);
        }
    }
}

#[test]
fn a_json_line_tells_everything() {
    let log = tempfile::NamedTempFile::new().expect("a file");
    let path = log.path().display().to_string();
    let (gateway, upstream) = start(&["--access-log", &path, "--access-log-format", "json"]);
    let mut raw = Raw::connect(gateway.address);
    raw.send(
        "POST /a/b?c=d HTTP/1.1\r\nHost: hello.com:80\r\nUser-Agent: one\r\n\
         X-Forwarded-For: 192.0.2.1\r\nContent-Length: 3\r\n\r\nabc",
    );
    assert_eq!(raw.response().status, 200);
    let line = gateway.wait_for_log(log.path(), |line| line["user_agent"] == "one");
    let seen = upstream.last();
    let client = raw.local_address().to_string();
    let mut expected = json!({
        "route_name": "main",
        "method": "POST",
        "path": "/a/b?c=d",
        "protocol": "HTTP/1.1",
        "response_code": 200,
        "response_flags": "-",
        "response_code_details": "via_upstream",
        "connection_termination_details": null,
        "bytes_received": 3,
        "bytes_sent": 5,
        "x_forwarded_for": "192.0.2.1,127.0.0.1",
        "user_agent": "one",
        "request_id": seen.header("x-request-id").expect("an id"),
        "authority": "hello.com:80",
        "upstream_host": upstream.address.to_string(),
        "upstream_cluster": "outbound|80||hello.default.svc.cluster.local",
        "downstream_local_address": gateway.address.to_string(),
        "downstream_remote_address": client,
        "requested_server_name": null,
        "upstream_transport_failure_reason": null,
    });
    // What the test cannot know is checked for its form.
    for (key, is_good) in [
        (
            "start_time",
            (|value| is_timestamp(value.as_str().unwrap_or_default())) as fn(&Value) -> _,
        ),
        ("duration", Value::is_u64),
        ("upstream_service_time", |value| {
            value.as_str().is_some_and(|text| text.parse::<u64>().is_ok())
        }),
        ("upstream_local_address", |value| {
            value.as_str().is_some_and(|text| text.starts_with("127.0.0.1:"))
        }),
    ] {
        assert!(is_good(&line[key]), "{key}: {line}");
        expected[key] = line[key].clone();
    }
    assert_eq!(line, expected);
    let request_id = seen.header("x-request-id").expect("an id");
    assert_eq!((request_id.len(), request_id.as_bytes()[14]), (36, b'4'), "{request_id}");
}

/// `2026-11-24T12:00:00.123Z`
fn is_timestamp(text: &str) -> bool {
    let shape: String =
        text.chars().map(|letter| if letter.is_ascii_digit() { '0' } else { letter }).collect();
    shape == "0000-00-00T00:00:00.000Z"
}

#[test]
fn flags_and_details_of_replies_are_in_the_log() {
    let log = tempfile::NamedTempFile::new().expect("a file");
    let path = log.path().display().to_string();
    let (gateway, _upstream) = start(&["--access-log", &path, "--access-log-format", "json"]);
    let mut raw = Raw::connect(gateway.address);
    for (path, host, code, flags, details, cluster) in [
        ("/1", "other.com", 404, "NR", "route_not_found", Value::Null),
        ("/no-cluster", "hello.com", 503, "NC", "cluster_not_found", Value::Null),
        (
            "/no-endpoint",
            "hello.com",
            503,
            "UH",
            "no_healthy_upstream",
            json!("outbound|80||empty.default.svc.cluster.local"),
        ),
    ] {
        raw.send(format!("GET {path} HTTP/1.1\r\nHost: {host}\r\n\r\n"));
        assert_eq!(raw.response().status, code);
        let line = gateway.wait_for_log(log.path(), |line| line["path"] == path);
        assert_eq!(line["response_code"], code, "{line}");
        assert_eq!(line["response_flags"], flags, "{line}");
        assert_eq!(line["response_code_details"], details, "{line}");
        assert_eq!(line["upstream_cluster"], cluster, "{line}");
        assert_eq!(line["upstream_host"], Value::Null, "{line}");
        assert_eq!(line["upstream_service_time"], Value::Null, "{line}");
        assert_eq!(line["authority"], host, "{line}");
    }
    let mut bad = Raw::connect(gateway.address);
    bad.send("GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n");
    assert_eq!(bad.response().status, 400);
    let line = gateway.wait_for_log(log.path(), |line| line["response_code"] == 400);
    assert_eq!(line["response_flags"], "DPE", "{line}");
}

#[test]
fn a_text_line_has_istios_fields_in_istios_order() {
    let log = tempfile::NamedTempFile::new().expect("a file");
    let path = log.path().display().to_string();
    let (gateway, upstream) = start(&["--access-log", &path]);
    let mut raw = Raw::connect(gateway.address);
    raw.send("GET /a?b HTTP/1.1\r\nHost: hello.com\r\nUser-Agent: two words \"x\"\r\n\r\n");
    assert_eq!(raw.response().status, 200);
    let mut text = String::new();
    wait_until("the line is written", || {
        text = std::fs::read_to_string(log.path()).expect("readable");
        text.ends_with('\n')
    });
    let line = text.trim_end();
    let (time, rest) = line
        .strip_prefix('[')
        .and_then(|line| line.split_once("] "))
        .unwrap_or_else(|| panic!("{line}"));
    assert!(is_timestamp(time), "{line}");
    let rest = rest
        .strip_prefix("\"GET /a?b HTTP/1.1\" 200 - via_upstream - \"-\" 0 5 ")
        .unwrap_or_else(|| panic!("{line}"));
    let mut words = rest.splitn(3, ' ');
    for what in ["duration", "service time"] {
        assert!(words.next().is_some_and(|word| word.parse::<u64>().is_ok()), "{what}: {line}");
    }
    let seen = upstream.last();
    let rest = words.next().expect("more");
    let expected_start = format!(
        "\"127.0.0.1\" \"two words \\x22x\\x22\" \"{}\" \"hello.com\" \"{}\" \
         outbound|80||hello.default.svc.cluster.local 127.0.0.1:",
        seen.header("x-request-id").expect("an id"),
        upstream.address
    );
    let rest = rest.strip_prefix(&expected_start).unwrap_or_else(|| panic!("{line}"));
    let expected_end = format!(" {} {} - main", gateway.address, raw.local_address());
    let port = rest.strip_suffix(&expected_end).unwrap_or_else(|| panic!("{line}"));
    assert!(port.parse::<u16>().is_ok(), "{line}");
}

#[test]
fn requests_are_counted_exactly_with_istios_labels() {
    let (gateway, _upstream) = start(&[]);
    ask(&gateway, "/", 200);
    ask(&gateway, "/no-cluster", 20);
    ask(&gateway, "/no-endpoint", 30);
    let mut stranger = Raw::connect(gateway.address);
    for _ in 0..10 {
        stranger.send("GET / HTTP/1.1\r\nHost: other.com\r\n\r\n");
        assert_eq!(stranger.response().status, 404);
    }
    gateway.wait_for_metrics("all are counted", |metrics| metrics.sum(REQUESTS, &[]) >= 260.0);
    let metrics = gateway.metrics();
    for (code, flags, service, count) in [
        ("200", "-", "hello.default.svc.cluster.local", 200.0),
        ("503", "NC", "unknown", 20.0),
        ("503", "UH", "empty.default.svc.cluster.local", 30.0),
        ("404", "NR", "unknown", 10.0),
    ] {
        let labels =
            [("response_code", code), ("response_flags", flags), ("destination_service", service)];
        assert_eq!(metrics.sum(REQUESTS, &labels), count, "{labels:?}");
    }
    assert_eq!(metrics.sum(REQUESTS, &[]), 260.0);

    let served = metrics.find(REQUESTS, &[("response_code", "200")]);
    let [served] = served[..] else { panic!("one series for one outcome: {served:?}") };
    for (label, value) in [
        ("reporter", "source"),
        ("source_workload", "istio-ingressgateway"),
        ("source_workload_namespace", "istio-system"),
        ("destination_workload", "hello-v3"),
        ("destination_workload_namespace", "default"),
        ("destination_app", "hello-app"),
        ("destination_version", "v3"),
        ("destination_service", "hello.default.svc.cluster.local"),
        ("destination_service_name", "hello"),
        ("destination_service_namespace", "default"),
        ("destination_canonical_service", "hello-app"),
        ("destination_canonical_revision", "v3"),
        ("destination_principal", "unknown"),
        ("request_protocol", "http"),
        ("response_code", "200"),
        ("response_flags", "-"),
        ("connection_security_policy", "unknown"),
    ] {
        assert_eq!(served.labels.get(label).map(String::as_str), Some(value), "{label}");
    }

    for histogram in
        ["istio_request_duration_milliseconds", "istio_request_bytes", "istio_response_bytes"]
    {
        let ok = [("response_code", "200")];
        assert_eq!(metrics.sum(&format!("{histogram}_count"), &ok), 200.0, "{histogram}");
        let all = [("response_code", "200"), ("le", "+Inf")];
        assert_eq!(metrics.sum(&format!("{histogram}_bucket"), &all), 200.0, "{histogram}");
        let buckets = metrics.find(&format!("{histogram}_bucket"), &ok);
        assert_eq!(buckets.len(), 20, "19 of Istio's and +Inf");
        assert!(buckets.is_sorted_by_key(|bucket| bucket.value), "{buckets:?}");
    }
}

#[test]
fn scrapes_lose_nothing() {
    const THREADS: usize = 4;
    const EACH: usize = 250;
    let (gateway, _upstream) = start(&[]);
    let address = gateway.address;
    let threads: Vec<_> = (0..THREADS)
        .map(|_| {
            std::thread::spawn(move || {
                for _ in 0..EACH / 50 {
                    let mut raw = Raw::connect(address);
                    for _ in 0..50 {
                        assert_eq!(send(&mut raw, "/"), 200);
                    }
                }
            })
        })
        .collect();
    let mut last = 0.0;
    let mut scrape = || {
        let metrics = gateway.metrics();
        let count = metrics.sum(REQUESTS, &[]);
        assert!(count >= last, "{count} after {last}");
        assert_eq!(metrics.sum("istio_request_duration_milliseconds_count", &[]), count);
        last = count;
        count
    };
    while !threads.iter().all(|thread| thread.is_finished()) {
        scrape();
    }
    for thread in threads {
        thread.join().expect("no client failed");
    }
    wait_until("all are counted", || scrape() >= (THREADS * EACH) as f64);
    for _ in 0..3 {
        assert_eq!(scrape(), (THREADS * EACH) as f64);
    }
    let metrics = gateway.metrics();
    assert_eq!(metrics.sum("ringress_downstream_connections_accepted_total", &[]), 20.0);
}

#[test]
fn counts_survive_reloads() {
    let (gateway, _upstream) = start(&[]);
    ask(&gateway, "/", 50);
    gateway.write("routes.yaml", &routes().replace("name: main", "name: renamed"));
    gateway.wait_for_generation(2);
    ask(&gateway, "/", 50);
    gateway.wait_for_metrics("all are counted", |metrics| metrics.sum(REQUESTS, &[]) >= 100.0);
    assert_eq!(gateway.metrics().sum(REQUESTS, &[("response_code", "200")]), 100.0);
}

#[test]
fn latencies_are_shown_by_route() {
    let (gateway, _upstream) = start(&[]);
    ask(&gateway, "/", 100);
    gateway.wait_for_metrics("all are counted", |metrics| metrics.sum(REQUESTS, &[]) >= 100.0);
    let page = gateway.json("/stats/histograms");
    assert_eq!(page["unit"], "microseconds");
    let shown = page["histograms"].as_array().expect("a list");
    let main = shown.iter().find(|shown| shown["route"] == "main").expect("the route");
    assert_eq!(main["count"], 100, "{main}");
    assert_eq!(main["virtual_service"], "default/routes");
    assert_eq!(main["destination"], "outbound|80||hello.default.svc.cluster.local");
    let number = |key: &str| main[key].as_f64().unwrap_or_else(|| panic!("{key}: {main}"));
    let order = ["min", "p50", "p90", "p99", "p99.9", "p99.99", "max"];
    assert!(order.map(number).is_sorted(), "{main}");
    assert!(number("min") > 0.0);
    // A match may say what its statistics are called.
    let match_ = "match: [{uri: {prefix: /}, statPrefix: front}]\n    name: main";
    gateway.write("routes.yaml", &routes().replace("name: main", match_));
    gateway.wait_for_generation(2);
    ask(&gateway, "/", 10);
    wait_until("the prefix is shown", || {
        let page = gateway.json("/stats/histograms");
        let mut shown = page["histograms"].as_array().expect("a list").iter();
        shown.any(|shown| shown["route"] == "front" && shown["count"] == 10)
    });
}

#[test]
fn readiness_ends_with_the_drain() {
    let (tell, arrived) = channel();
    let (release, released) = channel::<()>();
    let (tell, released) = (Mutex::new(tell), Arc::new(Mutex::new(released)));
    let held = Scripted::start(move |_, mut stream| {
        if read_head(&mut stream).is_some() {
            let _ = tell.lock().expect("not poisoned").send(());
            let _ = released.lock().expect("not poisoned").recv();
            let _ = stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n");
        }
    });
    let service = hello_service(&[held.address]);
    let mut gateway = Gateway::start(&[("hello.yaml", HELLO), ("service.yaml", &service)]);
    for path in ["/healthz/ready", "/ready"] {
        assert_eq!(gateway.page(path).0, 200);
    }
    assert_eq!(gateway.json("/server_info")["state"], "LIVE");
    let mut raw = Raw::connect(gateway.address);
    raw.send("GET / HTTP/1.1\r\nHost: hello.com\r\n\r\n");
    arrived.recv().expect("the request arrives");
    gateway.signal(libc::SIGTERM);
    gateway.wait_for_line("draining");
    wait_until("it is not ready any more", || gateway.page("/healthz/ready").0 == 503);
    assert!(gateway.page("/healthz/ready").1.starts_with("draining"));
    assert_eq!(gateway.json("/server_info")["state"], "DRAINING");
    release.send(()).expect("it waits");
    assert_eq!(raw.response().status, 200);
    assert_eq!(gateway.wait().code(), Some(0));
}

#[test]
fn pages_show_what_is_served() {
    let (gateway, upstream) = start(&[]);
    let info = gateway.json("/server_info");
    assert_eq!(info["version"], env!("CARGO_PKG_VERSION"));
    assert_eq!((&info["workers"], &info["generation"]), (&json!(2), &json!(1)));
    assert_eq!(info["pid"], gateway.process_id());
    assert_eq!(info["labels"], json!({"istio": "ingressgateway"}));
    assert!(info["io_driver"].is_string());

    let listeners = gateway.json("/config_dump?resource=listeners");
    assert_eq!(listeners[0]["address"], gateway.address.to_string());
    let asked_by = listeners[0]["gateways"][0].as_str().expect("text");
    assert!(
        asked_by.contains("default/gateway") && asked_by.contains("routes.yaml:"),
        "{asked_by}"
    );

    let clusters = gateway.json("/config_dump?resource=clusters");
    let clusters = clusters.as_array().expect("a list");
    let named =
        |name: &str| clusters.iter().find(|cluster| cluster["name"] == name).expect("the cluster");
    let hello = named("outbound|80||hello.default.svc.cluster.local");
    assert_eq!(hello["load_balancer"], "LEAST_REQUEST");
    let endpoint = json!([{"address": upstream.address.to_string(), "weight": 1, "healthy": true}]);
    assert_eq!(hello["endpoints"], endpoint);
    assert_eq!(named("outbound|80||empty.default.svc.cluster.local")["endpoints"], json!([]));

    let dump = gateway.json("/config_dump");
    assert_eq!(dump["generation"], 1);
    let objects = dump["objects"].as_array().expect("a list");
    assert_eq!(objects.len(), 5);
    for object in objects {
        assert_eq!(object["state"], "live", "{object}");
        assert!(object["file"].as_str().is_some_and(|file| file.ends_with(".yaml")), "{object}");
        assert!(object["line"].as_u64().is_some_and(|line| line > 0), "{object}");
    }
    assert_eq!(dump["snapshot"]["routes"].as_array().map(Vec::len), Some(3));
    assert_eq!(dump["snapshot"]["virtual_hosts"][0]["domains"], json!(["hello.com"]));

    let (status, index) = gateway.page("/");
    assert_eq!(status, 200);
    let pages = index.lines().filter_map(|line| line.split_whitespace().next());
    for path in pages.filter(|path| path.starts_with('/')) {
        assert_eq!(gateway.page(path).0, 200, "{path}");
    }
    assert_eq!(gateway.page("/nonsense").0, 404);
}

#[test]
fn secrets_are_not_shown() {
    let secret = "apiVersion: v1\nkind: Secret\nmetadata: {name: s}\ntype: kubernetes.io/tls\n\
                  stringData: {tls.key: very-private, tls.crt: public}\n";
    let upstream = Upstream::start("hello");
    let service = service("hello", &[upstream.address]);
    let gateway = Gateway::start(&[
        ("hello.yaml", HELLO),
        ("service.yaml", &service),
        ("secret.yaml", secret),
    ]);
    let (status, dump) = gateway.page("/config_dump");
    assert_eq!(status, 200);
    assert!(!dump.contains("very-private"), "{dump}");
    assert!(!gateway.log().contains("very-private"));
}

#[test]
fn istios_ports_serve_metrics_and_readiness() {
    use crate::support::gateway::free_port;
    let ports = [free_port(), free_port(), free_port(), free_port()];
    let upstream = Upstream::start("hello");
    let service = hello_service(&[upstream.address]);
    let directory = tempfile::TempDir::new().expect("a directory");
    std::fs::write(directory.path().join("hello.yaml"), HELLO).expect("written");
    std::fs::write(directory.path().join("service.yaml"), service).expect("written");
    let arguments = ["--admin-port", "--stats-port", "--prometheus-port", "--health-port"];
    let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_ringress"));
    command.arg("run").arg("--config").arg(directory.path()).arg("--bind=127.0.0.1");
    command.arg(format!("--port-map=80={}", free_port())).stderr(std::process::Stdio::null());
    for (argument, port) in arguments.iter().zip(ports) {
        command.arg(format!("{argument}={port}"));
    }
    let mut child = command.spawn().expect("the binary starts");
    let page = |port: u16, path: &str| {
        let mut raw = Raw::connect(([127, 0, 0, 1], port).into());
        raw.send(format!("GET {path} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"));
        raw.response()
    };
    let [admin, stats, prometheus, health] = ports;
    wait_until("its ports are open", || {
        ports.iter().all(|port| std::net::TcpStream::connect(("127.0.0.1", *port)).is_ok())
    });
    wait_until("it is ready", || page(health, "/healthz/ready").status == 200);
    assert_eq!(page(stats, "/healthz/ready").status, 200);
    for port in [admin, stats, prometheus] {
        let text = String::from_utf8(page(port, "/stats/prometheus").body).expect("text");
        assert_eq!(Metrics::parse(&text).sum("istio_build", &[("component", "proxy")]), 1.0);
    }
    assert_eq!(page(prometheus, "/config_dump").status, 404);
    assert_eq!(page(stats, "/config_dump").status, 404);
    assert_eq!(page(health, "/stats/prometheus").status, 404);
    child.kill().expect("our child");
    child.wait().expect("our child");
}
