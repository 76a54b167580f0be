//! The page before made-up figures: what a gateway under test cannot be brought to within seconds, or
//! would refuse to be configured with.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use http_body_util::Full;
use hyper::Response;
use hyper::body::Bytes;
use serde_json::{Value, json};

use crate::support::Upstream;
use crate::support::upstream::Seen;

/// A route with its figures.
#[derive(Clone)]
pub struct Route {
    pub host: String,
    pub name: String,
    pub service: String,
    pub subset: String,
    /// Per second.
    pub rate: u64,
    /// Share of requests that fail, per thousand.
    pub failing: u64,
    /// Median latency, microseconds.
    pub median: u64,
}

impl Route {
    pub fn new(host: &str, name: &str, service: &str, subset: &str) -> Route {
        let [host, name, service, subset] = [host, name, service, subset].map(str::to_owned);
        Route { host, name, service, subset, rate: 40, failing: 0, median: 1500 }
    }

    fn key(&self) -> String {
        format!("{}|{}|{}", self.host, self.name, self.subset)
    }

    fn stats(&self, seconds: u64) -> Value {
        let requests = self.rate * seconds;
        let errors = requests * self.failing / 1000;
        let few = match requests {
            0..10 => Some("p90"),
            10..100 => Some("p99"),
            100..1000 => Some("p999"),
            _ => None,
        };
        let at = |times: u64| (requests > 0).then_some(self.median * times);
        json!({
            "requests": requests, "rate": self.rate, "errors": errors,
            "error_rate": self.failing as f64 / 1000.0,
            "classes": {"2xx": requests - errors, "5xx": errors},
            "p50": at(1), "p90": at(2), "p99": at(5), "p999": at(9), "max": at(20),
            "too_few_for": few,
        })
    }
}

/// `one` with the fields of `other`.
fn with(mut one: Value, other: Value) -> Value {
    if let (Some(fields), Some(more)) = (one.as_object_mut(), other.as_object()) {
        fields.extend(more.clone());
    }
    one
}

/// What the double tells.
#[derive(Clone, Default)]
pub struct Figures {
    pub routes: Vec<Route>,
    pub slos: Vec<Value>,
    pub findings: Vec<Value>,
}

impl Figures {
    /// A shop in every state that has a colour.
    pub fn shop() -> Figures {
        let mut routes = vec![
            Route::new("shop.example.com", "cart", "cart.shop.svc.cluster.local", ""),
            Route::new("shop.example.com", "checkout", "checkout.shop.svc.cluster.local", "v1"),
            Route::new("shop.example.com", "checkout", "checkout.shop.svc.cluster.local", "v2"),
            Route::new("old.example.com", "redirect", "", ""),
        ];
        (routes[1].failing, routes[2].failing) = (20, 200);
        (routes[2].rate, routes[2].median, routes[3].rate) = (1, 4000, 0);
        let burns = |rate: Option<f64>| {
            let windows = [300, 3600, 21_600, 259_200];
            windows.map(|seconds| json!({"window_s": seconds, "rate": rate})).to_vec()
        };
        let slo = |name: &str, left: Option<f64>, burn: Option<f64>, alert: Option<&str>| {
            json!({
                "name": name, "host": "shop.example.com", "route": null, "kind": "availability",
                "objective": 0.999, "threshold_ms": null, "window_s": 2_592_000,
                "observed_s": 7200, "good": 999, "total": left.map_or(0, |_| 1000),
                "ratio": left.map(|_| 0.999), "budget_remaining": left,
                "burn_rates": burns(burn), "alert": alert,
            })
        };
        let finding = |severity: &str, code: &str| {
            json!({"severity": severity, "code": code, "message": "is wrong; mend it",
                "file": "shop.yaml", "line": 3, "column": 5})
        };
        Figures {
            routes,
            slos: vec![
                slo("calm", Some(0.75), Some(0.5), None),
                slo("burning", Some(-0.2), Some(20.0), Some("page")),
                slo("smouldering", Some(0.1), Some(2.0), Some("ticket")),
                slo("unused", None, None, None),
            ],
            findings: vec![
                finding("error", "RNG0001"),
                finding("warning", "RNG0002"),
                finding("info", "RNG0003"),
            ],
        }
    }

    fn live(&self, window: u64, only: &dyn Fn(&Route) -> bool) -> Value {
        let rows = self.routes.iter().filter(|route| route.rate > 0);
        let total = self.routes.iter().map(|route| route.rate).sum();
        let all = Route { rate: total, ..Route::new("", "", "", "") };
        let mut hosts: Vec<&str> = rows.clone().map(|route| route.host.as_str()).collect();
        hosts.dedup();
        let hosts = hosts.into_iter().map(|host| {
            let of = self.routes.iter().filter(|route| route.host == host);
            let sum = Route { rate: of.map(|route| route.rate).sum(), ..all.clone() };
            with(json!({"host": host}), sum.stats(window))
        });
        let routes = rows.map(|route| {
            let row = json!({
                "host": route.host, "route": route.name, "virtual_service": "shop/front",
                "destination": if route.service.is_empty() { "-" } else { "outbound" },
                "service": route.service, "subset": route.subset, "key": route.key(),
            });
            with(row, route.stats(window))
        });
        let rate: u64 =
            self.routes.iter().filter(|route| only(route)).map(|route| route.rate).sum();
        let now = now_unix_ms();
        let series = (1..=window).rev().map(|ago| {
            json!({"t": now - ago * 1000, "requests": rate, "errors": 0, "p50": 1500, "p99": 7000})
        });
        json!({
            "now_unix_ms": now, "window_s": window, "covered_s": window, "kept_s": 3600,
            "step_s": 1, "uptime_s": 7200, "generation": 3, "total": all.stats(window),
            "hosts": hosts.collect::<Vec<_>>(), "routes": routes.collect::<Vec<_>>(),
            "series": series.collect::<Vec<_>>(),
        })
    }

    fn graph(&self, window: u64) -> Value {
        let total = Route {
            rate: self.routes.iter().map(|route| route.rate).sum(),
            ..Route::new("", "", "", "")
        };
        let gateway = json!({"id": "gateway", "kind": "gateway", "label": "gateway"});
        let mut nodes = vec![with(gateway, total.stats(window))];
        let mut edges = Vec::new();
        let mut add = |from: &str, kind: &str, id: String, label: &str, route: &Route| {
            if !nodes.iter().any(|node| node["id"] == id) {
                let node = json!({"id": id, "kind": kind, "label": label});
                let more = match kind {
                    "endpoint" => json!({"healthy": true, "ejected": route.failing > 100}),
                    _ => route.stats(window),
                };
                nodes.push(with(node, more));
            }
            let rate = (kind != "endpoint").then_some(route.rate);
            edges.push(json!({"from": from, "to": id, "rate": rate,
                "error_rate": rate.map(|_| route.failing as f64 / 1000.0), "p99": null}));
            id
        };
        for route in &self.routes {
            let id = format!("host:{}", route.host);
            let mut last = add("gateway", "host", id, &route.host, route);
            let id = format!("route:{}|shop/front|{}", route.host, route.name);
            last = add(&last, "route", id, &route.name, route);
            if route.service.is_empty() {
                continue;
            }
            let id = format!("service:{}", route.service);
            last = add(&last, "service", id, &route.service, route);
            if !route.subset.is_empty() {
                let id = format!("subset:{}|{}", route.service, route.subset);
                last = add(&last, "subset", id, &route.subset, route);
            }
            let id = format!("endpoint:{}{}", route.service, route.subset);
            add(&last, "endpoint", id, "10.0.0.1:8080", route);
        }
        json!({"nodes": nodes, "edges": edges, "left_out_routes": 0, "left_out_endpoints": 0})
    }

    /// A curve; what was more than ten minutes ago was twice as fast.
    fn curve(&self, key: &str, window: u64, until: u64) -> Option<Value> {
        let route = self.routes.iter().find(|route| route.key() == key)?;
        let is_old = until + 600_000 < now_unix_ms();
        let median = if is_old { route.median / 2 } else { route.median };
        let points = [(0.0, 1), (0.5, 2), (0.75, 3), (0.9, 4), (0.99, 10), (0.999, 18), (1.0, 40)];
        let points = points.map(|(quantile, times)| json!([quantile, median * times / 2]));
        Some(json!({"key": key, "from_unix_ms": until - window * 1000, "until_unix_ms": until,
            "count": route.rate * window, "points": points}))
    }

    fn configuration(&self) -> Value {
        let object = json!({
            "kind": "VirtualService", "namespace": "shop", "name": "front", "file": "shop.yaml",
            "line": 1, "state": "kept_last_good", "diagnostics": self.findings,
        });
        json!({"generation": 3, "objects": [object], "diagnostics": []})
    }

    fn answer(&self, target: &str) -> Option<(&'static str, Vec<u8>)> {
        let url = url::Url::parse("http://double").ok()?.join(target).ok()?;
        let asked = |name: &str| {
            url.query_pairs().find(|(key, _)| key == name).map(|(_, value)| value.into_owned())
        };
        let window = asked("window").and_then(|text| text.parse().ok()).unwrap_or(60);
        let value = match url.path() {
            "/api/live" => self.live(window, &|route| {
                asked("key").is_none_or(|key| key == route.key())
                    && asked("host").is_none_or(|host| host == route.host)
            }),
            "/api/graph" => self.graph(window),
            "/api/curve" => {
                let until = asked("until").and_then(|text| text.parse().ok());
                self.curve(&asked("key")?, window, until.unwrap_or_else(now_unix_ms))?
            }
            "/api/slos" => {
                json!({"slos": self.slos, "errors": ["slos.yaml:2:3: not an objective"]})
            }
            "/config_dump" => self.configuration(),
            path => return file(path.strip_prefix("/dashboard/")?),
        };
        Some(("application/json", value.to_string().into_bytes()))
    }
}

fn file(name: &str) -> Option<(&'static str, Vec<u8>)> {
    let name = if name.is_empty() { "index.html" } else { name };
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("src/admin/dashboard");
    let kind = match name.rsplit('.').next()? {
        "html" => "text/html; charset=utf-8",
        "css" => "text/css",
        "svg" => "image/svg+xml",
        _ => "text/javascript",
    };
    Some((kind, std::fs::read(folder.join(name)).ok()?))
}

fn now_unix_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970");
    since.as_millis() as u64
}

/// A server of the page that tells made-up figures.
pub struct Double {
    server: Upstream,
    /// Questions for live figures so far.
    pub asked: Arc<AtomicUsize>,
}

impl Double {
    pub fn start(figures: Figures) -> Double {
        let asked = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&asked);
        let server = Upstream::start_with("double", move |seen: &Seen| {
            if seen.target.starts_with("/api/live") {
                count.fetch_add(1, Ordering::SeqCst);
            }
            let response =
                Response::builder().header("content-security-policy", "default-src 'self'");
            let response = match figures.answer(&seen.target) {
                Some((kind, bytes)) => {
                    response.header("content-type", kind).body(Full::new(Bytes::from(bytes)))
                }
                None => response.status(404).body(Full::new(Bytes::from_static(b"not there\n"))),
            };
            response.expect("a response")
        });
        Double { server, asked }
    }

    /// Address of a view.
    pub fn url(&self, view: &str) -> String {
        format!("http://{}/dashboard/#{view}", self.server.address)
    }
}
