//! What Istio's Grafana dashboards and Kiali ask of Prometheus, asked of our own metrics: every expression is
//! read by a parser of PromQL, and every selector in it must select something, by labels that are there.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::sync::OnceLock;

use promql_parser::label::MatchOp;
use promql_parser::parser::{Expr, LabelModifier, parse};
use regex::Regex;

use crate::support::gateway::free_port;
use crate::support::grpc::{self, GrpcUpstream, client, unary};
use crate::support::manifests::{GATEWAY, service};
use crate::support::metrics::{Metrics, Sample};
use crate::support::raw::Raw;
use crate::support::upstream::Scripted;
use crate::support::{Gateway, Upstream, block_on};

const DASHBOARDS: [(&str, &str); 3] = [
    ("mesh", include_str!("../data/istio-dashboards/istio-mesh-dashboard.gen.json")),
    ("service", include_str!("../data/istio-dashboards/istio-service-dashboard.json")),
    ("workload", include_str!("../data/istio-dashboards/istio-workload-dashboard.json")),
];

const ROUTES: &str = "\
\x20 - port: {number: 3306, name: db, protocol: TCP}
    hosts: [\"*\"]
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: routes}
spec:
  hosts: [hello.com]
  gateways: [gateway]
  http:
  - match: [{uri: {prefix: /empty}}]
    route: [{destination: {host: empty, subset: v9}}]
  - match: [{uri: {prefix: /nobody}}]
    route: [{destination: {host: nobody}}]
  - match: [{uri: {prefix: /test.Echo}}]
    route: [{destination: {host: echo}}]
  - route: [{destination: {host: hello}}]
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: database}
spec:
  hosts: [\"*\"]
  gateways: [gateway]
  tcp:
  - match: [{port: 3306}]
    route: [{destination: {host: database}}]
---
apiVersion: v1
kind: Service
metadata: {name: empty, namespace: default}
spec: {ports: [{name: http, port: 80}]}
---
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: empty}
spec: {host: empty, subsets: [{name: v9, labels: {version: v9}}]}
";

/// The metrics of a gateway that has served requests, calls and connections of every outcome.
fn metrics() -> &'static Metrics {
    static METRICS: OnceLock<Metrics> = OnceLock::new();
    METRICS.get_or_init(|| {
        let (hello, echo) = (Upstream::start("hello"), GrpcUpstream::start());
        let database = Scripted::start(|_, mut stream| {
            let mut text = String::new();
            if stream.read_to_string(&mut text).is_ok() {
                let _ = stream.write_all(b"answer");
            }
        });
        let pod = |name: &str, text: String| {
            let labels = format!("labels: {{app: {name}, version: v1, kubernetes.io/");
            let target =
                format!("127.0.0.1], targetRef: {{kind: Pod, name: {name}-5d8f8b6f7c-x2k9p}}");
            text.replace("labels: {kubernetes.io/", &labels)
                .replace("- addresses: [127.0.0.1]\n", &format!("- {{addresses: [{target}}}\n"))
        };
        let files = [
            ("routes.yaml", format!("{GATEWAY}{ROUTES}")),
            ("hello.yaml", pod("hello", service("hello", &[hello.address]))),
            ("echo.yaml", pod("echo", grpc::service(&[echo.address]).replace("hello", "echo"))),
            // Of no pod: nothing but an address is known.
            ("database.yaml", service("database", &[database.address])),
        ];
        let files = files.each_ref().map(|(name, text)| (*name, text.as_str()));
        let port = free_port();
        let gateway = Gateway::start_with(&files, &[format!("--port-map=3306={port}").as_str()]);
        let mut raw = Raw::connect(gateway.address);
        for (path, host, status) in [
            ("/", "hello.com", 200),
            ("/empty", "hello.com", 503),
            ("/nobody", "hello.com", 503),
            ("/", "other.com", 404),
        ] {
            raw.send(format!("GET {path} HTTP/1.1\r\nHost: {host}\r\n\r\n"));
            assert_eq!(raw.response().status, status, "{host}{path}");
        }
        block_on(async {
            let mut client = client(gateway.address, "http://hello.com").await;
            unary(&mut client, "Talk", "one").await.expect("an answer");
            unary(&mut client, "Fail", "14").await.expect_err("a failure");
        });
        let address = SocketAddr::from(([127, 0, 0, 1], port));
        let mut connection = TcpStream::connect(address).expect("the gateway listens");
        connection.write_all(b"question").expect("open");
        connection.shutdown(Shutdown::Write).expect("open");
        let mut answer = String::new();
        connection.read_to_string(&mut answer).expect("an end");
        assert_eq!(answer, "answer");
        gateway.wait_for_metrics("all are counted", |metrics| {
            metrics.sum("istio_requests_total", &[]) >= 6.0
                && metrics.sum("istio_tcp_connections_closed_total", &[]) >= 1.0
        });
        gateway.metrics()
    })
}

/// A selector of an expression, with the labels that what is around it groups by.
#[derive(Debug)]
struct Selector {
    name: String,
    matchers: Vec<(MatchOp, String, String)>,
    grouped_by: BTreeSet<String>,
}

impl Selector {
    fn selects(&self, sample: &Sample) -> bool {
        let fits = |(op, label, wanted): &(MatchOp, String, String)| {
            let value = sample.labels.get(label).map_or("", String::as_str);
            let matches = |pattern: &str| {
                Regex::new(&format!("^(?:{pattern})$")).expect("a pattern").is_match(value)
            };
            match op {
                // A variable of the dashboard stands for one value of those that there are.
                MatchOp::Equal if wanted == ANY => !value.is_empty(),
                MatchOp::Equal => value == wanted,
                MatchOp::NotEqual => value != wanted,
                MatchOp::Re(_) => matches(wanted),
                MatchOp::NotRe(_) => !matches(wanted),
            }
        };
        sample.name == self.name && self.matchers.iter().all(fits)
    }

    fn labels(&self) -> BTreeSet<&str> {
        let of_matchers = self.matchers.iter().map(|(_, label, _)| label.as_str());
        of_matchers.chain(self.grouped_by.iter().map(String::as_str)).collect()
    }

    fn wants(&self, label: &str, value: &str) -> bool {
        self.matchers.iter().any(|(op, own, wanted)| {
            own == label && wanted == value && matches!(op, MatchOp::Equal | MatchOp::Re(_))
        })
    }
}

/// What variables of dashboards become.
const ANY: &str = ".*";

fn selectors(expression: &str) -> Vec<Selector> {
    let text =
        Regex::new(r"\$__(rate_)?interval").expect("a pattern").replace_all(expression, "5m");
    let text = text.replace("$qrep", "source|destination");
    let text = Regex::new(r"\$\w+").expect("a pattern").replace_all(&text, ANY).into_owned();
    let parsed = parse(&text).unwrap_or_else(|error| panic!("{error}: {text}"));
    let mut found = Vec::new();
    collect(&parsed, &mut Vec::new(), &mut found);
    assert!(!found.is_empty() || expression.starts_with("vector"), "no selector: {expression}");
    found
}

fn collect(expression: &Expr, groups: &mut Vec<String>, found: &mut Vec<Selector>) {
    let mut vector = |selector: &promql_parser::parser::VectorSelector, groups: &[String]| {
        assert!(selector.matchers.or_matchers.is_empty(), "no dashboard has these: {selector:?}");
        let matchers = selector.matchers.matchers.iter();
        found.push(Selector {
            name: selector.name.clone().expect("every selector has a name"),
            matchers: matchers
                .map(|one| (one.op.clone(), one.name.clone(), one.value.clone()))
                .collect(),
            grouped_by: groups.iter().cloned().collect(),
        });
    };
    match expression {
        Expr::VectorSelector(selector) => vector(selector, groups),
        Expr::MatrixSelector(selector) => vector(&selector.vs, groups),
        Expr::Aggregate(aggregate) => {
            let before = groups.len();
            if let Some(LabelModifier::Include(labels)) = &aggregate.modifier {
                groups.extend(labels.labels.iter().cloned());
            }
            collect(&aggregate.expr, groups, found);
            groups.truncate(before);
        }
        Expr::Unary(unary) => collect(&unary.expr, groups, found),
        Expr::Binary(binary) => {
            collect(&binary.lhs, groups, found);
            collect(&binary.rhs, groups, found);
        }
        Expr::Paren(paren) => collect(&paren.expr, groups, found),
        Expr::Subquery(subquery) => collect(&subquery.expr, groups, found),
        Expr::Call(call) => {
            call.args.args.iter().for_each(|argument| collect(argument, groups, found))
        }
        Expr::NumberLiteral(_) | Expr::StringLiteral(_) => {}
        Expr::Extension(extension) => panic!("the parser makes none: {extension:?}"),
    }
}

/// A reason, and which selectors it is the reason of.
type Excuse = (&'static str, fn(&Selector) -> bool);

/// Why a selector selects nothing of ours, by the part of it that says so.
const OF_OTHERS: [Excuse; 4] = [
    ("reporter=destination: what sidecars of the destinations report", |selector| {
        selector.wants("reporter", "destination")
    }),
    ("mutual_tls: a reporter at the source does not know the policy, in Istio too", |selector| {
        selector.wants("connection_security_policy", "mutual_tls")
    }),
    (
        "destination_principal: needs mutual TLS to the endpoint, which this gateway has not",
        |selector| selector.wants("destination_principal", "spiffe.*"),
    ),
    ("a name of Istio before 1.5, which panels try beside today's", |selector| {
        selector.name == "istio_request_duration_seconds_bucket"
    }),
];

/// Check the selectors of `expression`; returns which of [`OF_OTHERS`] were used.
fn check(from: &str, expression: &str) -> BTreeSet<&'static str> {
    let mut used = BTreeSet::new();
    for selector in selectors(expression) {
        if let Some((reason, _)) = OF_OTHERS.iter().find(|(_, is_it)| is_it(&selector)) {
            used.insert(*reason);
            continue;
        }
        let named = metrics().find(&selector.name, &[]);
        assert!(!named.is_empty(), "{from}: {} is not served: {expression}", selector.name);
        for label in selector.labels() {
            // Kiali leaves out what has the label `app` of ztunnel: one that scrapers put on pods.
            let is_there = named.iter().any(|sample| sample.labels.contains_key(label));
            assert!(
                is_there || (from == "kiali" && label == "app"),
                "{from}: {} has no label {label}: {expression}",
                selector.name
            );
        }
        assert!(
            named.iter().any(|sample| selector.selects(sample)),
            "{from}: {selector:?} selects none of {named:?}"
        );
    }
    used
}

/// The expressions of a dashboard: of its panels and of its variables.
fn expressions(value: &serde_json::Value, found: &mut BTreeSet<String>) {
    match value {
        serde_json::Value::Object(object) => {
            for (key, value) in object {
                match (key.as_str(), value.as_str()) {
                    ("expr", Some(expression)) => {
                        found.insert(expression.to_owned());
                    }
                    ("query", Some(query)) => {
                        let inner = query.strip_prefix("query_result(");
                        found.extend(inner.and_then(|q| q.strip_suffix(')')).map(str::to_owned));
                    }
                    _ => expressions(value, found),
                }
            }
        }
        serde_json::Value::Array(values) => {
            values.iter().for_each(|value| expressions(value, found))
        }
        _ => {}
    }
}

#[test]
fn every_panel_of_istios_dashboards_is_served() {
    let mut used = BTreeSet::new();
    for (name, text) in DASHBOARDS {
        let dashboard = serde_json::from_str(text).expect("JSON");
        let mut found = BTreeSet::new();
        expressions(&dashboard, &mut found);
        assert!(found.len() >= 12, "{name}: {found:?}");
        for expression in &found {
            used.extend(check(name, expression));
        }
    }
    let reasons: BTreeSet<&str> = OF_OTHERS.iter().map(|(reason, _)| *reason).collect();
    assert_eq!(used, reasons, "an excuse that no panel needs");
}

const EDGE: &str = "source_cluster,source_workload_namespace,source_workload,source_canonical_service,\
    source_canonical_revision,destination_cluster,destination_service_namespace,destination_service,\
    destination_service_name,destination_workload_namespace,destination_workload,\
    destination_canonical_service,destination_canonical_revision";

/// Kiali's queries for the namespaces of this gateway and of its services.
fn kiali_queries() -> Vec<String> {
    let to_nowhere = r#"reporter="source",source_workload_namespace!="default",destination_workload_namespace="unknown",destination_workload="unknown",destination_service=~"^.+\\.default\\..+$""#;
    let into = r#"reporter="source",source_workload_namespace!="default",destination_workload_namespace="default""#;
    let incoming = r#"reporter="destination",destination_workload_namespace="default""#;
    let outgoing = r#"reporter="source",source_workload_namespace="istio-system""#;
    let http = format!("{EDGE},request_protocol,response_code,grpc_response_status,response_flags");
    let tcp = format!("{EDGE},response_flags");
    let mut queries = Vec::new();
    for matchers in [to_nowhere, into, incoming, outgoing] {
        queries.push(format!("sum(rate(istio_requests_total{{{matchers}}}[60s])) by ({http}) > 0"));
    }
    for metric in ["istio_tcp_received_bytes_total", "istio_tcp_sent_bytes_total"] {
        for matchers in [to_nowhere, incoming, outgoing] {
            let matchers = format!("app!=\"ztunnel\",{matchers}");
            queries.push(format!("sum(rate({metric}{{{matchers}}}[60s])) by ({tcp}) > 0"));
        }
    }
    for metric in ["istio_request_messages_total", "istio_response_messages_total"] {
        for matchers in [into, outgoing] {
            queries.push(format!("sum(rate({metric}{{{matchers}}}[60s])) by ({EDGE}) > 0"));
        }
    }
    let duration = "istio_request_duration_milliseconds";
    for matchers in [r#"reporter="destination",destination_service_namespace="default""#, outgoing]
    {
        queries.push(format!(
            "sum(rate({duration}_sum{{{matchers}}}[60s])) by ({EDGE},request_protocol) / \
             sum(rate({duration}_count{{{matchers}}}[60s])) by ({EDGE},request_protocol) > 0"
        ));
        queries.push(format!(
            "histogram_quantile(0.95, sum(rate({duration}_bucket{{{matchers}}}[60s])) by \
             (le,{EDGE},request_protocol)) > 0"
        ));
    }
    queries.push(format!("sum(rate(istio_request_bytes_sum{{{outgoing}}}[60s])) by ({EDGE}) > 0"));
    queries.push(format!("sum(rate(istio_response_bytes_sum{{{incoming}}}[60s])) by ({EDGE}) > 0"));
    queries.push(format!(
        "sum(rate(istio_requests_total{{{incoming}}}[60s])) by \
         ({EDGE},source_principal,destination_principal,connection_security_policy) > 0"
    ));
    let health = r#"destination_service_namespace="default",source_workload_namespace!="default",destination_cluster="Kubernetes""#;
    for more in [
        "",
        r#",destination_service_name="hello""#,
        r#",destination_workload="hello""#,
        r#",destination_canonical_service="hello""#,
        r#",response_code=~"^2\\d\\d$""#,
        r#",grpc_response_status=~"^[1-9]$|^1[0-6]$""#,
    ] {
        queries.push(format!("rate(istio_requests_total{{{health}{more}}}[60s]) > 0"));
    }
    queries.push(format!(
        "rate(istio_requests_total{{{outgoing},response_code=~\"^0$|^[4-5]\\\\d\\\\d$\"}}[60s]) > 0"
    ));
    queries
}

#[test]
fn every_query_of_kiali_is_served() {
    let mut used = BTreeSet::new();
    for query in kiali_queries() {
        used.extend(check("kiali", &query));
    }
    assert_eq!(used.len(), 1, "only what sidecars report is not served: {used:?}");
}

/// Kiali skips a series for any of these.
#[test]
fn kiali_drops_none_of_our_series() {
    let mut seen = BTreeMap::new();
    for sample in metrics().all().iter().filter(|sample| sample.name.starts_with("istio_")) {
        if sample.name == "istio_build" {
            continue;
        }
        *seen.entry(sample.name.as_str()).or_insert(0) += 1;
        let label = |name: &str| sample.labels.get(name).map_or("", String::as_str);
        for needed in EDGE.split(',') {
            assert!(!label(needed).is_empty(), "{needed} is missing: {sample:?}");
        }
        let is_messages = sample.name.ends_with("_messages_total");
        let is_tcp = sample.name.starts_with("istio_tcp_");
        assert_eq!(label("response_flags").is_empty(), is_messages, "{sample:?}");
        assert_eq!(label("response_code").is_empty(), is_messages || is_tcp, "{sample:?}");
        assert_eq!(label("request_protocol").is_empty(), is_messages, "{sample:?}");
        let is_grpc = label("request_protocol") == "grpc";
        assert_eq!(!label("grpc_response_status").is_empty(), is_grpc, "{sample:?}");
        assert_eq!(label("source_cluster"), "Kubernetes", "bad source telemetry: {sample:?}");
        if label("destination_service_namespace") != "unknown" {
            assert_ne!(label("destination_cluster"), "unknown", "bad dest telemetry: {sample:?}");
        }
        let service = label("destination_service");
        let is_address = service.parse::<std::net::Ipv4Addr>().is_ok();
        assert!(!is_address || label("destination_workload") != "unknown", "{sample:?}");
        assert!(!sample.labels.values().any(String::is_empty), "{sample:?}");
    }
    for (name, at_least) in [
        ("istio_requests_total", 6),
        ("istio_response_bytes_bucket", 120),
        ("istio_request_messages_total", 1),
        ("istio_tcp_connections_opened_total", 1),
    ] {
        assert!(seen.get(name).is_some_and(|count| *count >= at_least), "{name}: {seen:?}");
    }
}

#[test]
fn destinations_have_the_labels_of_what_is_known_of_them() {
    let find = |name: &str, service: &str| -> &'static Sample {
        let found = metrics().find(name, &[("destination_service_name", service)]);
        found.first().copied().unwrap_or_else(|| panic!("{service} has no series"))
    };
    let requests = "istio_requests_total";
    for (sample, expected) in [
        // A pod.
        (find(requests, "hello"), ["hello", "default", "v1", "default", "Kubernetes", "v1"]),
        // An address of no pod.
        (
            find("istio_tcp_sent_bytes_total", "database"),
            ["unknown", "unknown", "unknown", "default", "Kubernetes", "latest"],
        ),
        // No endpoint: the subset says the version.
        (find(requests, "empty"), ["unknown", "unknown", "v9", "unknown", "unknown", "latest"]),
        // No route, or no service.
        (
            find(requests, "unknown"),
            ["unknown", "unknown", "unknown", "unknown", "unknown", "latest"],
        ),
    ] {
        let shown = [
            "destination_workload",
            "destination_workload_namespace",
            "destination_version",
            "destination_service_namespace",
            "destination_cluster",
            "destination_canonical_revision",
        ]
        .map(|label| sample.labels[label].as_str());
        assert_eq!(shown, expected, "{sample:?}");
    }
}
