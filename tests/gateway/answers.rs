//! Every answer of the gateway itself has one reason: the same in the response (`--explain-header`), in
//! the access log and in `docs/answers.md`, which is compared with the code elsewhere.

use std::collections::BTreeSet;
use std::io::Write;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;

use crate::support::gateway::free_port;
use crate::support::manifests::{GATEWAY, service};
use crate::support::raw::Raw;
use crate::support::upstream::{Scripted, read_head};
use crate::support::{Gateway, Upstream};

/// A row of the document.
#[derive(Debug)]
struct Row {
    details: String,
    status: String,
    flag: String,
    metric: Option<String>,
}

fn rows() -> Vec<Row> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/answers.md");
    let text = std::fs::read_to_string(path).expect("readable");
    let rows: Vec<Row> = text
        .lines()
        .filter(|line| line.starts_with("| `"))
        .map(|line| {
            let line = line.replace("\\|", "\u{1}");
            let cell = |index: usize| {
                let cell = line.split('|').nth(index + 1).expect("a cell").trim();
                cell.trim_matches('`').replace('\u{1}', "|")
            };
            let metric = Some(cell(3)).filter(|metric| metric != "-");
            Row { details: cell(0), status: cell(1), flag: cell(2), metric }
        })
        .collect();
    assert!(rows.len() > 40, "{}", rows.len());
    rows
}

/// The routes of `answers.com`.
const ROUTES: &str = "\
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: answers}
spec:
  hosts: [answers.com]
  gateways: [gateway]
  http:
  - {name: away, match: [{uri: {prefix: /away}}], redirect: {uri: /there}}
  - {name: fixed, match: [{uri: {prefix: /fixed}}], directResponse: {status: 418, body: {string: tea}}}
  - name: cors
    match: [{uri: {prefix: /cors}}]
    corsPolicy: {allowOrigins: [{exact: 'http://a.com'}]}
    route: [{destination: {host: good}}]
  - name: fault
    match: [{uri: {prefix: /fault}}]
    fault: {abort: {httpStatus: 599, percentage: {value: 100}}}
    route: [{destination: {host: good}}]
  - {match: [{uri: {prefix: /nobody}}], route: [{destination: {host: nobody}}]}
  - {match: [{uri: {prefix: /empty}}], route: [{destination: {host: empty}}]}
  - {match: [{uri: {prefix: /refuses}}], route: [{destination: {host: refuses}}]}
  - {match: [{uri: {prefix: /broken}}], retries: {attempts: 0}, route: [{destination: {host: broken}}]}
  - {match: [{uri: {prefix: /slow}}], timeout: 50ms, route: [{destination: {host: broken}}]}
  - match: [{uri: {prefix: /try}}]
    retries: {attempts: 1, perTryTimeout: 20ms, retryOn: 5xx}
    route: [{destination: {host: broken}}]
  - {match: [{uri: {prefix: /good}}], route: [{destination: {host: good}}]}
";

/// What the upstream `broken` answers to `/broken/NAME`, and the details of what the client gets.
const BROKEN: &[(&str, &str, &str)] = &[
    ("closes", "", "connection_termination"),
    ("status-line", "HTTP/1.1 OK\r\n\r\n", "protocol_error|invalid_status_line"),
    ("line-end", "HTTP/1.1 200 OK\nx: y\r\n\r\n", "protocol_error|invalid_line_end"),
    ("name", "HTTP/1.1 200 OK\r\nx : y\r\n\r\n", "protocol_error|invalid_header_name"),
    ("value", "HTTP/1.1 200 OK\r\nx: \x01\r\n\r\n", "protocol_error|invalid_characters"),
    (
        "both",
        "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
        "protocol_error|content_length_and_chunked",
    ),
    (
        "lengths",
        "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\n",
        "protocol_error|repeated_content_length",
    ),
    (
        "length",
        "HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n",
        "protocol_error|invalid_content_length",
    ),
    (
        "coding",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, gzip\r\n\r\n",
        "protocol_error|invalid_transfer_encoding",
    ),
    (
        "old-coding",
        "HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
        "protocol_error|transfer_encoding_not_allowed",
    ),
    (
        "chunk",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nx\r\n",
        "protocol_error|invalid_chunked_body",
    ),
    ("truncated", "HTTP/1.1 200 OK\r\nx", "protocol_error|truncated_head"),
];

fn broken() -> Scripted {
    Scripted::start(|_, mut stream| {
        let Some(head) = read_head(&mut stream) else { return };
        let name = head.split([' ', '/']).nth(3).unwrap_or_default();
        let answer = match name {
            "options" => {
                let options = "a,".repeat(40);
                format!("HTTP/1.1 200 OK\r\nConnection: {options}b\r\n\r\n")
            }
            "fields" => format!("HTTP/1.1 200 OK\r\n{}\r\n", "x: y\r\n".repeat(200)),
            "large" => format!("HTTP/1.1 200 OK\r\nx: {}\r\n\r\n", "y".repeat(70_000)),
            "interim" => "HTTP/1.1 103 Early Hints\r\n\r\n".repeat(40),
            "holds" => {
                // Until the gateway gives up.
                while read_head(&mut stream).is_some() {}
                return;
            }
            name => {
                let found = BROKEN.iter().find(|(broken, ..)| *broken == name);
                found.map(|(_, answer, _)| (*answer).to_owned()).unwrap_or_default()
            }
        };
        let _ = stream.write_all(answer.as_bytes());
    })
}

/// A gateway that tells its reasons, its log, and what serves it.
fn start(arguments: &[&str]) -> (Gateway, tempfile::NamedTempFile, (Upstream, Scripted)) {
    let (good, broken) = (Upstream::start("good"), broken());
    let refuses = SocketAddr::from((Ipv4Addr::LOCALHOST, free_port()));
    let log = tempfile::NamedTempFile::new().expect("a file");
    let to = format!("--access-log={}", log.path().display());
    let all = [&["--access-log-format=json", to.as_str()][..], arguments].concat();
    let gateway = Gateway::start_with(
        &[
            ("gateway.yaml", GATEWAY),
            ("routes.yaml", ROUTES),
            ("good.yaml", &service("good", &[good.address])),
            ("broken.yaml", &service("broken", &[broken.address])),
            ("refuses.yaml", &service("refuses", &[refuses])),
            ("empty.yaml", &service("empty", &[])),
        ],
        &all,
    );
    (gateway, log, (good, broken))
}

/// Every reason that a socket can provoke in no time, as bytes of a request.
fn provocations() -> Vec<(String, String)> {
    let get = |path: &str| format!("GET {path} HTTP/1.1\r\nHost: answers.com\r\n\r\n");
    let with = |fields: &str| format!("POST /good HTTP/1.1\r\nHost: answers.com\r\n{fields}\r\n");
    let upstream = |part: &str| format!("upstream_reset_before_response_started{{{part}}}");
    let of_upstream = |name: &str, part: &str| (upstream(part), get(&format!("/broken/{name}")));
    let mut all: Vec<(String, String)> =
        BROKEN.iter().map(|(name, _, part)| of_upstream(name, part)).collect();
    all.extend([
        of_upstream("options", "protocol_error|connection_header_rejected"),
        of_upstream("fields", "protocol_error|too_many_headers"),
        of_upstream("large", "protocol_error|headers_too_large"),
        of_upstream("interim", "protocol_error|interim_responses"),
        (upstream("remote_connection_failure"), get("/refuses")),
    ]);
    let plain = [
        ("http1.invalid_request_line", "nonsense\r\n\r\n".to_owned()),
        ("http1.leading_empty_lines", format!("\r\n\r\n\r\n{}", get("/good"))),
        ("http1.invalid_line_end", "GET / HTTP/1.1\nHost: answers.com\n\n".to_owned()),
        ("http1.invalid_header_name", with("x : y\r\n")),
        ("http1.invalid_characters", with("x: \x01\r\n")),
        ("http1.invalid_url", get("good")),
        ("http1.invalid_scheme", get("ftp://answers.com/")),
        ("missing_host_header", "GET / HTTP/1.1\r\n\r\n".to_owned()),
        ("http1.repeated_host", with("Host: answers.com\r\n")),
        ("http1.invalid_host", "GET / HTTP/1.1\r\nHost: a b\r\n\r\n".to_owned()),
        (
            "http1.content_length_and_chunked_not_allowed",
            with("Content-Length: 1\r\nTransfer-Encoding: chunked\r\n"),
        ),
        ("http1.repeated_content_length", with("Content-Length: 1\r\nContent-Length: 1\r\n")),
        ("http1.invalid_content_length", with("Content-Length: x\r\n")),
        ("http1.invalid_transfer_encoding", with("Transfer-Encoding: chunked, chunked\r\n")),
        (
            "http1.transfer_encoding_not_allowed",
            "POST / HTTP/1.0\r\nHost: answers.com\r\nTransfer-Encoding: chunked\r\n\r\n".to_owned(),
        ),
        (
            "http1.connection_header_rejected",
            with(&format!("Connection: {}b\r\n", "a,".repeat(40))),
        ),
        ("http1.request_line_too_long", get(&format!("/{}", "a".repeat(20_000)))),
        ("http1.headers_too_large", with(&format!("x: {}\r\n", "y".repeat(70_000)))),
        ("http1.too_many_headers", with(&"x: y\r\n".repeat(200))),
        ("http1.unsupported_transfer_encoding", with("Transfer-Encoding: gzip\r\n")),
        ("http1.unsupported_version", "GET / HTTP/2.0\r\nHost: answers.com\r\n\r\n".to_owned()),
        ("http1.invalid_chunked_body", with("Transfer-Encoding: chunked\r\n") + "x\r\n"),
        ("path_normalization_failed", get("/%00")),
        ("route_not_found", get("/nowhere")),
        ("cluster_not_found", get("/nobody")),
        ("no_healthy_upstream", get("/empty")),
        ("response_timeout", get("/slow/holds")),
        ("upstream_per_try_timeout", get("/try/holds")),
        ("fault_filter_abort", get("/fault")),
        ("direct_response", get("/away")),
        ("direct_response", get("/fixed")),
        (
            "cors_response",
            "OPTIONS /cors HTTP/1.1\r\nHost: answers.com\r\nOrigin: http://a.com\r\n\
             Access-Control-Request-Method: PUT\r\n\r\n"
                .to_owned(),
        ),
    ];
    all.extend(plain.map(|(details, request)| (details.to_owned(), request)));
    all
}

/// Rows that this test does not provoke, and why.
const ELSEWHERE: &[&str] = &[
    // Found by the parser before a request is routed, or after: one of the two names never comes.
    "http1.connect_not_allowed",
    "connect_not_allowed",
    // They need a gateway with other flags: below.
    "low_version",
    "request_header_timeout",
    "request_body_timeout",
    // Nobody is left to read the answer: `upstream_faults`.
    "downstream_remote_disconnect",
    // Several requests at once: `limits`.
    "upstream_reset_before_response_started{overflow}",
    // An endpoint that does not answer at all: `upstream_faults`.
    "upstream_reset_before_response_started{connection_timeout}",
    // A port that takes TLS: `tls`.
    "misdirected_request",
    // What the other version has no words for: `http2_misuse`.
    "upstream_reset_before_response_started{request_not_sendable_in_http2}",
    // An endpoint that speaks HTTP/2: `http2`.
    "upstream_reset_before_response_started{remote_refused_stream_reset}",
];

#[test]
fn every_reason_is_told_alike_everywhere() {
    let (gateway, log, _upstreams) = start(&["--explain-header"]);
    let rows = rows();
    let mut provoked = BTreeSet::new();
    let mut metrics = BTreeSet::new();
    for (number, (details, request)) in provocations().into_iter().enumerate() {
        provoked.insert(details.clone());
        let candidates: Vec<&Row> = rows.iter().filter(|row| row.details == details).collect();
        assert!(!candidates.is_empty(), "{details} is no row");
        let mut raw = Raw::connect(gateway.address);
        let local = raw.local_address().to_string();
        raw.send(&request);
        let response = match details.as_str() {
            // Behind the interim responses that the client gets too.
            part if part.contains("interim") => loop {
                let response = raw.response();
                if response.status >= 200 {
                    break response;
                }
            },
            _ => raw.response(),
        };
        let told = response.header("x-ringress-reason").unwrap_or_else(|| {
            panic!("{number}: {details} is not told: {}", response.head);
        });
        let (first, rest) = told.split_once("; ").unwrap_or((told, ""));
        assert_eq!(first, details, "{}", response.head);
        let line = gateway
            .wait_for_log(log.path(), |line| line["downstream_remote_address"] == local.as_str());
        assert_eq!(line["response_code_details"], details.as_str(), "{line}");
        let flags = line["response_flags"].as_str().expect("text");
        assert!(
            candidates.iter().any(|row| flags.split(',').any(|flag| flag == row.flag)),
            "{details}: {flags}"
        );
        assert!(
            candidates.iter().any(|row| {
                row.status.starts_with("the ") || row.status == response.status.to_string()
            }),
            "{details}: {}",
            response.status
        );
        assert_eq!(line["response_code"], response.status, "{line}");
        let routed = request.contains(" /away") || request.contains(" /fault");
        let named = rest.contains("route=") && rest.ends_with("virtual-service=default/answers");
        assert!(named || !routed, "{told}");
        metrics.extend(candidates.iter().filter_map(|row| row.metric.clone()));
    }
    let missing: BTreeSet<&str> = rows
        .iter()
        .map(|row| row.details.as_str())
        .filter(|row| !provoked.contains(*row))
        .collect();
    assert_eq!(missing, ELSEWHERE.iter().copied().collect());
    let (_, page) = gateway.page("/stats/prometheus");
    for metric in metrics {
        let name = metric.trim_end_matches('}');
        let counts = page.lines().any(|line| line.starts_with(name) && !line.ends_with(" 0"));
        assert!(counts, "{metric} did not grow");
    }
}

#[test]
fn reasons_that_need_flags_are_told_too() {
    let (gateway, log, _upstreams) = start(&[
        "--explain-header",
        "--http10=reject",
        "--request-head-timeout=100ms",
        "--progress-timeout=100ms",
    ]);
    let rows = rows();
    for (details, request) in [
        ("low_version", "GET /good HTTP/1.0\r\nHost: answers.com\r\n\r\n"),
        ("request_header_timeout", "GET /good HTTP/1.1\r\nHost: answers.com\r\n"),
        (
            "request_body_timeout",
            "POST /broken/holds HTTP/1.1\r\nHost: answers.com\r\nContent-Length: 9\r\n\r\nx",
        ),
    ] {
        let mut raw = Raw::connect(gateway.address);
        let local = raw.local_address().to_string();
        raw.send(request);
        let response = raw.response();
        let told = response.header("x-ringress-reason").unwrap_or_default();
        assert_eq!(told.split(';').next(), Some(details), "{}", response.head);
        let row = rows.iter().find(|row| row.details == details).expect("a row");
        assert_eq!(row.status, response.status.to_string());
        let line = gateway
            .wait_for_log(log.path(), |line| line["downstream_remote_address"] == local.as_str());
        assert_eq!(line["response_code_details"], details);
        assert_eq!(line["response_flags"], row.flag.as_str(), "{line}");
    }
    // `CONNECT` is refused under one of the two names.
    let mut raw = Raw::connect(gateway.address);
    raw.send("CONNECT answers.com:80 HTTP/1.1\r\nHost: answers.com\r\n\r\n");
    let response = raw.response();
    assert_eq!(response.status, 405);
    let told = response.header("x-ringress-reason").unwrap_or_default();
    assert!(told.ends_with("connect_not_allowed"), "{told}");
}

#[test]
fn the_header_names_the_route() {
    let (gateway, ..) = start(&["--explain-header"]);
    for (path, expected) in [
        ("/away", "direct_response; route=away; virtual-service=default/answers"),
        ("/nobody", "cluster_not_found; virtual-service=default/answers"),
        ("/empty", "no_healthy_upstream; virtual-service=default/answers"),
        ("/nowhere", "route_not_found"),
    ] {
        let mut raw = Raw::connect(gateway.address);
        raw.send(format!("GET {path} HTTP/1.1\r\nHost: answers.com\r\n\r\n"));
        let response = raw.response();
        assert_eq!(response.header("x-ringress-reason"), Some(expected), "{path}");
        // The rest of the connection is as ever, and knows nothing of the route before.
        raw.send("GET / HTTP/1.1\r\nHost: other.com\r\n\r\n");
        assert_eq!(raw.response().header("x-ringress-reason"), Some("route_not_found"));
    }
}

#[test]
fn responses_of_upstreams_and_gateways_without_the_flag_have_none() {
    let (gateway, _log, _upstreams) = start(&["--explain-header"]);
    let mut raw = Raw::connect(gateway.address);
    raw.send("GET /good HTTP/1.1\r\nHost: answers.com\r\n\r\n");
    let response = raw.response();
    assert_eq!((response.status, response.header("x-ringress-reason")), (200, None));
    let (quiet, _log, _upstreams) = start(&[]);
    for path in ["/good", "/away", "/nobody", "/nowhere"] {
        let mut raw = Raw::connect(quiet.address);
        raw.send(format!("GET {path} HTTP/1.1\r\nHost: answers.com\r\n\r\n"));
        assert_eq!(raw.response().header("x-ringress-reason"), None, "{path}");
    }
}

/// The record of an answer names a route of the configuration that the request began with, not of
/// the one that came while it waited.
#[test]
fn an_answer_that_waited_for_a_reload_keeps_its_route() {
    let (gateway, log, _upstreams) = start(&["--explain-header"]);
    let delayed = ROUTES.replace(
        "fault: {abort: {httpStatus: 599, percentage: {value: 100}}}",
        "fault: {delay: {fixedDelay: 2s, percentage: {value: 100}}, \
         abort: {httpStatus: 599, percentage: {value: 100}}}",
    );
    let generation = gateway.generation();
    gateway.write("routes.yaml", &delayed);
    gateway.wait_for_generation(generation + 1);
    let mut raw = Raw::connect(gateway.address);
    let local = raw.local_address().to_string();
    raw.send("GET /fault HTTP/1.1\r\nHost: answers.com\r\n\r\n");
    gateway.wait_for_metrics("the request is in flight", |metrics| {
        metrics.sum("ringress_requests_active", &[]) >= 1.0
    });
    gateway.remove("routes.yaml");
    gateway.wait_for_generation(generation + 2);
    let response = raw.response();
    let reason = "fault_filter_abort; route=fault; virtual-service=default/answers";
    assert_eq!((response.status, response.header("x-ringress-reason")), (599, Some(reason)));
    let line = gateway
        .wait_for_log(log.path(), |line| line["downstream_remote_address"] == local.as_str());
    assert_eq!(line["route_name"], "fault", "{line}");
}
