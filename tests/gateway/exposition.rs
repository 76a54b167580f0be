//! The page of metrics as clients get it: both formats, pages in pieces, what the process and its workers
//! use, what is open to clusters, and exact latencies in the formats of HdrHistogram's tools.

use std::io::Write;
use std::process::{Command, Stdio};

use crate::support::Gateway;
use crate::support::gateway::wait_until;
use crate::support::hello;
use crate::support::metrics::Metrics;
use crate::support::raw::{Raw, Response};

fn page(gateway: &Gateway, path: &str, accept: &str) -> Response {
    let mut raw = Raw::connect(gateway.admin);
    raw.send(format!(
        "GET {path} HTTP/1.1\r\nHost: admin\r\nAccept: {accept}\r\nConnection: close\r\n\r\n"
    ));
    raw.response()
}

fn ask(gateway: &Gateway, times: usize) {
    let mut raw = Raw::connect(gateway.address);
    for _ in 0..times {
        raw.send("GET / HTTP/1.1\r\nHost: hello.com\r\n\r\n");
        raw.response();
    }
    gateway.wait_for_metrics("all are counted", |metrics| {
        metrics.sum("istio_requests_total", &[]) >= times as f64
    });
}

#[test]
fn the_format_is_negotiated() {
    let (_upstream, gateway) = hello(&[]);
    ask(&gateway, 10);
    let text = page(&gateway, "/stats/prometheus", "text/plain;version=0.0.4;q=0.5,*/*;q=0.1");
    assert_eq!(text.header("content-type"), Some("text/plain; version=0.0.4; charset=utf-8"));
    let open = page(
        &gateway,
        "/stats/prometheus",
        "application/openmetrics-text;version=1.0.0,text/plain;version=0.0.4;q=0.5",
    );
    let kind = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    assert_eq!(open.header("content-type"), Some(kind));
    let open = String::from_utf8(open.body).expect("text");
    let parsed = openmetrics_parser::openmetrics::parse_openmetrics(&open)
        .unwrap_or_else(|error| panic!("{error:?} in\n{open}"));
    assert!(parsed.families.contains_key("istio_requests"), "counters lose their suffix");
    let text = String::from_utf8(text.body).expect("text");
    assert!(!text.contains("# EOF") && !text.contains("# UNIT"), "{text}");
    let text = Metrics::parse(&text);
    assert!(text.sum("istio_requests_total", &[]) >= 10.0);
}

/// Prometheus's own judge, where it is installed.
#[test]
fn promtool_finds_nothing_to_object_to() {
    let (_upstream, gateway) = hello(&["--envoy-metrics"]);
    ask(&gateway, 10);
    let text = page(&gateway, "/stats/prometheus", "text/plain").body;
    let started = Command::new("promtool")
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn();
    let Ok(mut promtool) = started else {
        eprintln!("promtool is not installed: left out");
        return;
    };
    promtool.stdin.take().expect("a pipe").write_all(&text).expect("it reads");
    let output = promtool.wait_with_output().expect("it ends");
    let said = [output.stdout, output.stderr].concat();
    let said = String::from_utf8_lossy(&said);
    // Names that Istio and Envoy have given are theirs to choose.
    let ours =
        said.lines().filter(|line| !line.starts_with("istio_") && !line.starts_with("envoy_"));
    assert_eq!(ours.collect::<Vec<_>>(), Vec::<&str>::new());
    assert!(matches!(output.status.code(), Some(0 | 3)), "{said}");
}

#[test]
fn workers_clusters_and_the_process_show_what_they_use() {
    let (upstream, gateway) = hello(&["--workers", "2", "--envoy-metrics"]);
    ask(&gateway, 200);
    let cluster = "outbound|80||hello.default.svc.cluster.local";
    gateway.wait_for_metrics("the sweep has looked", |metrics| {
        metrics.sum("ringress_cluster_connections_idle", &[("cluster", cluster)]) >= 1.0
            && metrics.sum("ringress_worker_cpu_seconds_total", &[]) > 0.0
    });
    let metrics = gateway.metrics();
    assert_eq!(metrics.find("ringress_worker_cpu_seconds_total", &[]).len(), 2);
    let busy = metrics.find("ringress_worker_busy_ratio", &[]);
    assert!(busy.len() == 2 && busy.iter().all(|one| (0.0..=1.0).contains(&one.value)), "{busy:?}");
    if gateway.log().contains("on io_uring") {
        wait_until("the rings are read", || {
            let metrics = gateway.metrics();
            let submitted = metrics.find("ringress_worker_io_uring_submissions_total", &[]);
            let completed = metrics.sum("ringress_worker_io_uring_completions_total", &[]);
            // A request takes several operations.
            let each = submitted.len() == 2 && submitted.iter().all(|one| one.value > 0.0);
            each && completed >= 400.0
        });
    }
    let process = metrics.sum("process_resident_memory_bytes", &[]);
    assert!(process > 1e6, "{process}");
    assert!(metrics.sum("process_open_fds", &[]) > 10.0);
    assert!(metrics.sum("process_start_time_seconds", &[]) > 1.7e9);

    let envoy = [("envoy_cluster_name", cluster)];
    assert!(metrics.sum("envoy_cluster_upstream_cx_active", &envoy) >= 1.0);
    assert_eq!(metrics.sum("envoy_cluster_upstream_rq_total", &envoy), 200.0);
    assert_eq!(metrics.sum("envoy_listener_http_downstream_rq", &[]), 200.0);
    assert_eq!(metrics.find("envoy_server_uptime", &[]).len(), 1);
    drop(upstream);
}

#[test]
fn without_a_ring_nothing_is_said_of_one() {
    let (_upstream, gateway) = hello(&["--driver", "epoll"]);
    ask(&gateway, 10);
    gateway.wait_for_metrics("the threads are read", |metrics| {
        metrics.sum("ringress_worker_cpu_seconds_total", &[]) > 0.0
    });
    let metrics = gateway.metrics();
    assert!(metrics.find("ringress_worker_io_uring_submissions_total", &[]).is_empty());
    assert!(metrics.find("envoy_server_uptime", &[]).is_empty(), "nobody asked for these");
}

#[test]
fn the_gateway_is_named_by_its_labels_and_options() {
    let (_upstream, gateway) = hello(&[
        "--labels",
        "istio=ingressgateway,app=edge,version=v7,service.istio.io/canonical-name=front",
        "--workload",
        "edge-gateway",
        "--cluster-id",
        "east",
    ]);
    ask(&gateway, 1);
    let metrics = gateway.metrics();
    let requests = metrics.find("istio_requests_total", &[]);
    for (label, value) in [
        ("source_workload", "edge-gateway"),
        ("source_workload_namespace", "istio-system"),
        ("source_app", "edge"),
        ("source_version", "v7"),
        ("source_canonical_service", "front"),
        ("source_canonical_revision", "v7"),
        ("source_cluster", "east"),
        ("source_principal", "unknown"),
    ] {
        assert_eq!(requests[0].labels.get(label).map(String::as_str), Some(value), "{label}");
    }
}

#[test]
fn latencies_come_in_the_formats_of_hdrhistogram() {
    let (_upstream, gateway) = hello(&[]);
    ask(&gateway, 50);
    let host = "hello.default.svc.cluster.local";
    let (status, hgrm) = gateway.page(&format!("/stats/histograms?format=hgrm&destination={host}"));
    assert_eq!(status, 200, "{hgrm}");
    assert!(
        hgrm.starts_with("       Value     Percentile TotalCount 1/(1-Percentile)\n"),
        "{hgrm}"
    );
    assert!(hgrm.contains("Total count    =           50]"), "{hgrm}");
    let (status, hlog) = gateway.page("/stats/histograms?format=hlog&merge=true");
    assert_eq!(status, 200, "{hlog}");
    let rows: Vec<&str> = hlog.lines().filter(|line| line.starts_with("Tag=")).collect();
    assert!(rows.len() == 1 && rows[0].starts_with("Tag=latency,0.000,"), "{hlog}");
    // The same of a window, once its second is over; before the process started there was nothing.
    let counts = |page: &serde_json::Value| -> u64 {
        let shown = page["histograms"].as_array().expect("a list");
        shown.iter().map(|one| one["count"].as_u64().expect("a number")).sum()
    };
    let all = counts(&gateway.json("/stats/histograms"));
    assert!(all > 0);
    wait_until("the history holds them", || {
        counts(&gateway.json("/stats/histograms?window=60")) == all
    });
    assert_eq!(counts(&gateway.json("/stats/histograms?window=60&until=1")), 0);
    let (status, hlog) = gateway.page("/stats/histograms?format=hlog&merge=true&window=60");
    assert!(status == 200 && hlog.lines().last().is_some_and(|line| line.starts_with("Tag=")));
    let none = gateway.json("/stats/histograms?route=none");
    assert_eq!(none["histograms"], serde_json::json!([]));
    assert_eq!(gateway.page("/stats/histograms?format=xml").0, 400);
}
