use super::*;
use crate::admin::report::{
    ObjectReport, ObjectState, SnapshotReport, StatusReport, VirtualHostReport,
};
use crate::admin::{AdminConfig, ReadinessFlag, ServerInfo, StatusCell};
use crate::ids::{ClusterId, HistogramSlot, MetricSlot, WorkerId};
use crate::metrics::{
    Format, HistogramKey, LabelTable, MetricLabels, MetricsShard, SourceLabels, StatsOptions,
    StatsThread,
};
use crate::snapshot::{
    Cluster, Destination, Endpoint, Forward, Listener, LoadBalancerPolicy, Route, RouteAction,
    RouteNames, Snapshot,
};
use crate::stream_info::StreamInfo;
use serde_json::Value;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::oneshot;

struct Server {
    state: AdminState,
    stats: Option<StatsThread>,
    labels: crate::metrics::SharedLabels,
    addresses: Vec<(AdminRole, SocketAddr)>,
    stop: oneshot::Sender<()>,
    task: tokio::task::JoinHandle<Result<(), AdminError>>,
}

impl Server {
    fn start() -> Server {
        let labels = LabelTable::shared();
        let stats = StatsThread::start(StatsOptions {
            labels: Arc::clone(&labels),
            source: SourceLabels::default(),
            control: Arc::default(),
            version: "1.2.3".to_owned(),
            interval: Duration::from_secs(60),
        })
        .unwrap();
        let state = AdminState {
            status: Arc::new(StatusCell::default()),
            snapshot: Arc::default(),
            clusters: Arc::default(),
            explain: Arc::default(),
            stats: stats.handle(),
            readiness: Arc::new(ReadinessFlag::default()),
            info: Arc::new(ServerInfo {
                version: "1.2.3".to_owned(),
                started: Instant::now(),
                workers: 2,
                io_driver: "io_uring".to_owned(),
                envoy_metrics: false,
                labels: vec![("istio".to_owned(), "ingressgateway".to_owned())],
            }),
            controls: Arc::default(),
        };
        let any = Some(0);
        let listeners = AdminConfig {
            admin_port: any,
            stats_port: any,
            prometheus_port: any,
            health_port: any,
            ..AdminConfig::default()
        }
        .listen()
        .unwrap();
        let addresses = listeners.addresses();
        let (stop, stopped) = oneshot::channel();
        let task = tokio::spawn(serve(listeners, state.clone(), async {
            let _ = stopped.await;
        }));
        Server { state, stats: Some(stats), labels, addresses, stop, task }
    }

    async fn get(&self, role: AdminRole, path: &str) -> (u16, String, String) {
        let (_, address) = self.addresses.iter().find(|(other, _)| *other == role).unwrap();
        let answer = reqwest::get(format!("http://{address}{path}")).await.unwrap();
        let content_type = answer.headers()["content-type"].to_str().unwrap().to_owned();
        (answer.status().as_u16(), content_type, answer.text().await.unwrap())
    }

    async fn json(&self, path: &str) -> Value {
        let (status, content_type, text) = self.get(AdminRole::Admin, path).await;
        assert_eq!((status, content_type.as_str()), (200, "application/json"), "{text}");
        serde_json::from_str(&text).unwrap()
    }

    async fn stop(mut self) {
        self.stop.send(()).unwrap();
        self.task.await.unwrap().unwrap();
        if let Some(stats) = self.stats.take() {
            stats.shutdown();
        }
    }
}

fn report() -> StatusReport {
    let snapshot = Snapshot {
        generation: 7,
        listeners: vec![Listener {
            address: "0.0.0.0:8080".parse().unwrap(),
            name: "http.80".to_owned(),
            numbers: vec![80],
            serves: crate::snapshot::Serves::Requests { route_table: 0, grpc_web: false },
            gateways: vec!["default/hello-gateway".to_owned()],
        }],
        routes: vec![Route {
            action: RouteAction::Forward(Forward::Several {
                destinations: [Some(ClusterId(0)), None, Some(ClusterId(9))]
                    .map(|cluster| Destination {
                        cluster,
                        weight: 1,
                        histogram_slot: HistogramSlot::UNROUTED,
                    })
                    .into(),
                total_weight: 3,
            }),
            operation: "".into(),
            policy: None,
            names: Box::new(RouteNames {
                route: "main".to_owned(),
                virtual_service: "default/frontend".to_owned(),
                ..RouteNames::default()
            }),
        }],
        clusters: vec![Cluster {
            name: "outbound|80||hello".to_owned(),
            connect_timeout: Duration::from_secs(10),
            load_balancer: LoadBalancerPolicy::RoundRobin,
            endpoints: vec![Endpoint {
                address: "10.0.0.9:80".parse().unwrap(),
                weight: 2,
                healthy: false,
                group: 0,
                metric_slot: MetricSlot::UNKNOWN,
            }],
            ..Cluster::default()
        }],
        ..Snapshot::default()
    };
    let hosts = vec![VirtualHostReport {
        listener: "http.80".to_owned(),
        domains: vec!["hello.com".to_owned()],
        routes: vec![0],
    }];
    StatusReport {
        generation: 7,
        objects: vec![ObjectReport {
            kind: "VirtualService".to_owned(),
            namespace: "default".to_owned(),
            name: "frontend".to_owned(),
            file: "hello.yaml".to_owned(),
            line: 12,
            state: ObjectState::KeptLastGood,
            diagnostics: Vec::new(),
        }],
        snapshot: SnapshotReport::of(&snapshot, hosts),
        ..StatusReport::default()
    }
}

#[tokio::test]
async fn readiness_tells_why_not() {
    let server = Server::start();
    for role in [AdminRole::Health, AdminRole::Stats, AdminRole::Admin] {
        server.state.readiness.set(Readiness::Starting);
        let (status, _, text) = server.get(role, "/healthz/ready").await;
        assert!(status == 503 && text.starts_with("not started"), "{text}");
        server.state.readiness.set(Readiness::Ready);
        let (status, _, text) = server.get(role, "/healthz/ready").await;
        assert_eq!((status, text.trim()), (200, "ready"));
        server.state.readiness.set(Readiness::Draining);
        let (status, _, text) = server.get(role, "/healthz/ready").await;
        assert!(status == 503 && text.starts_with("draining"), "{text}");
    }
    server.stop().await;
}

#[tokio::test]
async fn each_port_serves_its_pages_only() {
    let server = Server::start();
    server.state.readiness.set(Readiness::Ready);
    let (_, _, index) = server.get(AdminRole::Admin, "/").await;
    for (path, shows) in PAGES {
        let (status, _, text) = server.get(AdminRole::Admin, path).await;
        // No process log is of this server.
        let expected = if *path == "/logging" { 501 } else { 200 };
        assert_eq!(status, expected, "{path}: {text}");
        assert!(index.contains(path) && index.contains(shows), "{path}");
    }
    let (status, _, text) = server.get(AdminRole::Admin, "/config-dump").await;
    assert!(status == 404 && text.contains("/config_dump"), "{text}");
    for (role, pages) in [
        (AdminRole::Stats, &["/healthz/ready", "/stats/prometheus"][..]),
        (AdminRole::Prometheus, &["/stats/prometheus"]),
        (AdminRole::Health, &["/healthz/ready"]),
    ] {
        let (_, address) = server.addresses.iter().find(|(other, _)| *other == role).unwrap();
        for (path, _) in PAGES {
            let answer = reqwest::get(format!("http://{address}{path}")).await.unwrap();
            let expected = if pages.contains(path) { 200 } else { 404 };
            assert_eq!(answer.status().as_u16(), expected, "{role:?} {path}");
        }
    }
    server.stop().await;
}

#[tokio::test]
async fn configuration_pages_show_what_was_published() {
    let server = Server::start();
    assert_eq!(server.json("/config_dump").await["generation"], 0);
    server.state.status.publish(report());
    let dump = server.json("/config_dump").await;
    assert_eq!(dump["generation"], 7);
    assert_eq!(dump["objects"][0]["state"], "kept_last_good");
    assert_eq!(dump["objects"][0]["line"], 12);
    assert_eq!(dump["snapshot"]["virtual_hosts"][0]["domains"][0], "hello.com");
    let destinations = &dump["snapshot"]["routes"][0]["destinations"];
    assert_eq!(destinations[0]["cluster"], "outbound|80||hello");
    assert!(destinations[1]["cluster"].is_null() && destinations[2]["cluster"].is_null());
    let clusters = server.json("/config_dump?resource=clusters").await;
    assert_eq!(clusters[0]["load_balancer"], "ROUND_ROBIN");
    assert_eq!(clusters[0]["connect_timeout_ms"], 10_000);
    assert_eq!(clusters[0]["endpoints"][0]["address"], "10.0.0.9:80");
    assert_eq!(clusters[0]["endpoints"][0]["healthy"], false);
    let listeners = server.json("/config_dump?resource=listeners").await;
    assert_eq!(listeners[0]["gateways"][0], "default/hello-gateway");
    let info = server.json("/server_info").await;
    assert_eq!((&info["state"], &info["generation"]), (&"INITIALIZING".into(), &7.into()));
    assert_eq!(info["labels"]["istio"], "ingressgateway");
    server.stop().await;
}

#[tokio::test]
async fn statistics_pages_show_what_workers_counted() {
    let mut server = Server::start();
    let labels = MetricLabels::of_service("hello.default.svc.cluster.local", "hello");
    let key = HistogramKey {
        route: "main".to_owned(),
        virtual_service: "default/frontend".to_owned(),
        virtual_host: "hello.com".to_owned(),
        destination: "outbound|80||hello".to_owned(),
    };
    let mut info = StreamInfo::new(Instant::now(), 0);
    {
        let mut table = server.labels.write().unwrap();
        info.metric_slot = table.metric_slot(&labels);
        info.histogram_slot = table.histogram_slot(&key);
    }
    info.response_code = 200;
    let mut shard = MetricsShard::new(WorkerId(0));
    for duration_us in 1..=100 {
        info.duration_us = duration_us;
        shard.record_request(&info);
    }
    server.state.stats.deposit(shard);

    for role in [AdminRole::Admin, AdminRole::Stats, AdminRole::Prometheus] {
        let (status, content_type, text) = server.get(role, "/stats/prometheus").await;
        assert_eq!((status, content_type.as_str()), (200, Format::Prometheus.content_type()));
        let line = text.lines().find(|line| line.starts_with("istio_requests_total{")).unwrap();
        assert!(line.contains("destination_service=\"hello.default.svc.cluster.local\""));
        assert!(line.ends_with(" 100"), "{line}");
    }
    let page = server.json("/stats/histograms").await;
    let histogram = &page["histograms"][0];
    assert_eq!(histogram["destination"], "outbound|80||hello");
    for (field, value) in [
        ("count", 100),
        ("min", 1),
        ("p50", 50),
        ("p90", 90),
        ("p99", 99),
        ("p99.99", 100),
        ("max", 100),
    ] {
        assert_eq!(histogram[field], value, "{field}");
    }
    assert_eq!(histogram["mean"], 50.5);

    server.stats.take().unwrap().shutdown();
    for path in ["/stats/prometheus", "/stats/histograms"] {
        assert_eq!(server.get(AdminRole::Admin, path).await.0, 503);
    }
    server.stop().await;
}

#[tokio::test]
async fn shutdown_does_not_wait_for_a_silent_client() {
    let server = Server::start();
    let (_, address) = server.addresses[0];
    let silent = tokio::net::TcpStream::connect(address).await.unwrap();
    // A page that was served proves that the connection before it was accepted too.
    assert_eq!(server.get(AdminRole::Admin, "/").await.0, 200);
    server.stop().await;
    drop(silent);
}

#[tokio::test]
async fn clusters_and_listeners_are_shown_in_envoys_words() {
    let server = Server::start();
    server.state.status.publish(report());
    let (status, content_type, text) = server.get(AdminRole::Admin, "/clusters").await;
    assert_eq!((status, content_type.as_str()), (200, "text/plain; charset=utf-8"));
    let name = "outbound|80||hello";
    let expected = format!(
        "{name}::observability_name::{name}\n\
         {name}::default_priority::max_connections::4294967295\n\
         {name}::default_priority::max_pending_requests::4294967295\n\
         {name}::default_priority::max_requests::4294967295\n\
         {name}::default_priority::max_retries::4294967295\n\
         {name}::added_via_api::true\n\
         {name}::10.0.0.9:80::hostname::hello\n\
         {name}::10.0.0.9:80::health_flags::/failed_eds_health\n\
         {name}::10.0.0.9:80::weight::2\n"
    );
    assert_eq!(text, expected);
    let clusters = server.json("/clusters?format=json").await;
    let expected = serde_json::json!({"cluster_statuses": [{
        "name": name, "observability_name": name, "added_via_api": true,
        "load_balancer": "ROUND_ROBIN", "connect_timeout_ms": 10_000,
        "circuit_breakers": {"thresholds": [{
            "priority": "DEFAULT", "max_connections": 4_294_967_295u32,
            "max_pending_requests": 4_294_967_295u32, "max_requests": 4_294_967_295u32,
            "max_retries": 4_294_967_295u32,
        }]},
        "host_statuses": [{
            "address": {"socket_address": {"address": "10.0.0.9", "port_value": 80}},
            "weight": 2, "health_status": {"eds_health_status": "UNHEALTHY"},
        }],
    }]});
    assert_eq!(clusters, expected);
    let (_, _, text) = server.get(AdminRole::Admin, "/listeners").await;
    assert_eq!(text, "http.80::0.0.0.0:8080\n");
    let listeners = server.json("/listeners?format=json").await;
    let expected = serde_json::json!({"listener_statuses": [{
        "name": "http.80",
        "local_address": {"socket_address": {"address": "0.0.0.0", "port_value": 8080}},
        "gateways": ["default/hello-gateway"],
    }]});
    assert_eq!(listeners, expected);
    for (path, told) in [
        ("/config_dump?mask=a", "mask"),
        ("/config_dump?resource=secrets", "secrets"),
        ("/clusters?format=xml", "xml"),
        ("/listeners?filter=a", "filter"),
        ("/stats?filter=(", "filter"),
        ("/stats?format=prometheus&usedonly", "usedonly"),
        ("/tap?status=9xx", "9xx"),
    ] {
        let (status, _, text) = server.get(AdminRole::Admin, path).await;
        assert!(status == 400 && text.contains(told), "{path}: {status} {text}");
    }
    server.stop().await;
}

#[tokio::test]
async fn pages_that_act_want_a_post_of_this_site() {
    let server = Server::start();
    server.state.readiness.set(Readiness::Ready);
    let (_, address) = server.addresses.iter().find(|(role, _)| *role == AdminRole::Admin).unwrap();
    let client = reqwest::Client::new();
    for (method, path, _) in ACTIONS.iter().filter(|(method, _, _)| *method == "POST") {
        let (status, _, text) = server.get(AdminRole::Admin, path).await;
        assert!(status == 405 && text.contains("POST"), "{method} {path}: {status} {text}");
        let foreign = client
            .post(format!("http://{address}{path}"))
            .header("origin", "http://evil.example")
            .send();
        assert_eq!(foreign.await.unwrap().status().as_u16(), 403, "{path}");
    }
    let foreign =
        client.get(format!("http://{address}/tap")).header("sec-fetch-site", "cross-site").send();
    assert_eq!(foreign.await.unwrap().status().as_u16(), 403);
    assert!(!server.state.controls.failed(), "nothing of that had an effect");
    let post = async |path: &str| {
        let sent = client.post(format!("http://{address}{path}")).send().await.unwrap();
        (sent.status().as_u16(), sent.text().await.unwrap())
    };
    assert_eq!(post("/healthcheck/fail").await.0, 200);
    let (status, _, text) = server.get(AdminRole::Health, "/healthz/ready").await;
    assert!(status == 503 && text.contains("/healthcheck/ok"), "{text}");
    assert_eq!(server.json("/server_info").await["state"], "DRAINING");
    assert_eq!(post("/healthcheck/ok").await.0, 200);
    assert_eq!(server.get(AdminRole::Health, "/healthz/ready").await.0, 200);
    let (status, text) = post("/reset_counters").await;
    assert!(status == 501 && text.contains("not supported"), "{text}");
    // This server has no control loop.
    assert_eq!(post("/quitquitquit").await.0, 503);
    let (status, text) = post("/drain_listeners?inboundonly").await;
    assert!(status == 400 && text.contains("inboundonly"), "{text}");
    server.stop().await;
}

#[test]
fn every_page_is_described() {
    let text = include_str!("../../../docs/admin.md");
    let paths = PAGES.iter().map(|(path, _)| path).chain(ACTIONS.iter().map(|(_, path, _)| path));
    for path in paths {
        assert!(text.contains(&format!("`{path}`")), "docs/admin.md does not describe {path}");
    }
}
