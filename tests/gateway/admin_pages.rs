//! Envoy's admin paths on a running gateway: what they show, and what they do.

use serde_json::Value;

use crate::support::gateway::wait_until;
use crate::support::manifests::{HELLO, hello_service};
use crate::support::raw::Raw;
use crate::support::{Gateway, Upstream};

fn start(arguments: &[&str]) -> (Gateway, Upstream) {
    let upstream = Upstream::start("hello");
    (Gateway::before(&[upstream.address], arguments), upstream)
}

fn post(gateway: &Gateway, path: &str) -> (u16, String) {
    let mut raw = Raw::connect(gateway.admin);
    raw.send(format!(
        "POST {path} HTTP/1.1\r\nHost: admin\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
    ));
    let response = raw.response();
    (response.status, String::from_utf8(response.body).expect("text"))
}

fn ask(gateway: &Gateway) -> u16 {
    let mut raw = Raw::connect(gateway.address);
    raw.send("GET / HTTP/1.1\r\nHost: hello.com\r\n\r\n");
    raw.response().status
}

#[test]
fn stats_are_lines_that_can_be_filtered() {
    let (gateway, _upstream) = start(&[]);
    assert_eq!(ask(&gateway), 200);
    wait_until("the request is counted", || {
        let (status, text) = gateway.page("/stats?filter=istio_requests_total&usedonly");
        assert_eq!(status, 200, "{text}");
        let lines: Vec<&str> = text.lines().collect();
        lines.len() == 1
            && lines.iter().all(|line| {
                line.starts_with("istio_requests_total{")
                    && line.contains("response_code=\"200\"")
                    && line.ends_with("}: 1")
            })
    });
    let all = gateway.page("/stats").1;
    assert!(all.lines().any(|line| line == "ringress_workers: 2"), "{all}");
    assert!(!all.contains("_bucket{"), "buckets are of /stats/prometheus");
    let used = gateway.page("/stats?usedonly").1;
    assert!(used.lines().count() < all.lines().count());
    assert!(used.lines().all(|line| !line.ends_with(": 0")), "{used}");
    let json = gateway.json("/stats?format=json&filter=^ringress_workers$");
    assert_eq!(json, serde_json::json!({"stats": [{"name": "ringress_workers", "value": 2}]}));
    let prometheus = gateway.page("/stats?format=prometheus").1;
    assert!(prometheus.contains("# TYPE istio_requests_total counter"), "{prometheus}");
}

#[test]
fn memory_is_that_of_the_allocator() {
    let (gateway, _upstream) = start(&[]);
    let page = gateway.json("/memory");
    let bytes = |key: &str| -> u64 {
        let text = page[key].as_str().unwrap_or_else(|| panic!("{key}: {page}"));
        text.parse().unwrap_or_else(|_| panic!("{key}: {page}"))
    };
    let keys = [
        "allocated",
        "heap_size",
        "pageheap_unmapped",
        "pageheap_free",
        "total_thread_cache",
        "total_physical_bytes",
    ];
    assert_eq!(page.as_object().map(serde_json::Map::len), Some(keys.len()));
    assert!(keys.map(bytes).iter().any(|bytes| *bytes > 0), "{page}");
    assert!(bytes("allocated") > 100_000, "{page}");
    assert!(bytes("total_physical_bytes") >= bytes("allocated"), "{page}");
}

#[test]
fn the_process_log_changes_while_it_runs() {
    let (gateway, _upstream) = start(&[]);
    assert_eq!(gateway.page("/logging").1, "active loggers:\n  (all others): info\n");
    let (status, text) = post(&gateway, "/logging?ringress::control=debug");
    assert!(status == 200 && text.contains("  ringress::control: debug\n"), "{text}");
    // What a worker published is told at this level only.
    gateway.write("gateway.yaml", &format!("{HELLO}\n# changed\n"));
    gateway.signal(libc::SIGHUP);
    gateway.wait_for_line("published");
    let (status, text) = post(&gateway, "/logging?level=error");
    assert!(status == 200 && text == "active loggers:\n  (all others): error\n", "{text}");
    let (status, text) = post(&gateway, "/logging?level=loud");
    assert!(status == 400 && text.contains("`loud` is no level"), "{text}");
    assert_eq!(gateway.page("/logging").1, "active loggers:\n  (all others): error\n");
}

#[test]
fn a_mistake_in_rust_log_is_told() {
    let upstream = Upstream::start("hello");
    let service = hello_service(&[upstream.address]);
    let files = [("hello.yaml", HELLO), ("service.yaml", &*service)];
    let mut gateway = Gateway::launch(&files, &[], |command| {
        command.env("RUST_LOG", "ringress=loud");
    });
    gateway.wait_for_line("RUST_LOG cannot be understood");
    gateway.wait_until_ready();
}

#[test]
fn the_process_log_can_be_json() {
    let upstream = Upstream::start("hello");
    let service = hello_service(&[upstream.address]);
    let files = [("hello.yaml", HELLO), ("service.yaml", &*service)];
    let gateway = Gateway::launch(&files, &["--log-format", "json"], |_| {});
    let line = gateway.wait_for_line("ready: ");
    let line: Value = serde_json::from_str(&line).expect("JSON");
    assert_eq!((&line["level"], &line["target"]), (&"INFO".into(), &"ringress::server".into()));
    assert!(line["message"].as_str().is_some_and(|text| text.starts_with("ready: ")), "{line}");
    assert!(line["timestamp"].is_string(), "{line}");
    for line in gateway.log().lines() {
        assert!(serde_json::from_str::<Value>(line).is_ok(), "{line}");
    }
}

#[test]
fn quit_drains_and_ends() {
    let (mut gateway, _upstream) = start(&[]);
    assert_eq!(gateway.page("/quitquitquit").0, 405);
    assert_eq!(ask(&gateway), 200);
    let (status, text) = post(&gateway, "/quitquitquit");
    assert!(status == 200 && text.starts_with("draining"), "{text}");
    gateway.wait_for_line("drained");
    assert_eq!(gateway.wait().code(), Some(0));
}

#[test]
fn drained_listeners_take_nobody_but_serve_on() {
    let (gateway, _upstream) = start(&[]);
    let mut open = Raw::connect(gateway.address);
    let mut asks = || {
        open.send("GET / HTTP/1.1\r\nHost: hello.com\r\n\r\n");
        open.response().status
    };
    assert_eq!(asks(), 200);
    let (status, text) = post(&gateway, "/drain_listeners");
    assert_eq!(status, 200, "{text}");
    wait_until("nobody listens", || std::net::TcpStream::connect(gateway.address).is_err());
    assert_eq!(asks(), 200, "connections that are open stay");
    wait_until("it says so", || gateway.page("/healthz/ready").0 == 503);
    // A reload opens nothing, and routes what is open.
    let other = HELLO.replace("hello.com", "other.com");
    gateway.write("gateway.yaml", &other);
    gateway.wait_for_generation(2);
    assert_eq!(asks(), 404, "by the new routes");
    assert!(std::net::TcpStream::connect(gateway.address).is_err());
}

#[test]
fn a_graceful_drain_asks_clients_to_leave_first() {
    let (gateway, _upstream) = start(&[]);
    let (status, text) = post(&gateway, "/drain_listeners?graceful&skip_exit");
    assert_eq!(status, 200, "{text}");
    wait_until("clients are asked to leave", || {
        let mut raw = Raw::connect(gateway.address);
        raw.send("GET / HTTP/1.1\r\nHost: hello.com\r\n\r\n");
        let response = raw.response();
        assert_eq!(response.status, 200);
        response.header("connection").is_some_and(|value| value == "close")
    });
}

#[test]
fn certificates_in_use_are_shown_without_their_keys() {
    use crate::support::manifests::service;
    use crate::support::tls::{Authority, secret};
    use crate::tls::{gateway, routes, server};

    let upstream = Upstream::start("hello");
    let authority = Authority::new();
    let pair = authority.issue(&["a.com"]);
    let root = authority.pem();
    let files =
        [("tls.crt", &*pair.certificate), ("tls.key", &*pair.key), ("ca.crt", root.as_str())];
    let manifests = [
        gateway("g", &server("https", "{mode: MUTUAL, credentialName: cert}", "a.com")),
        routes("a", "a.com", "g", "hello"),
        service("hello", &[upstream.address]),
        secret("cert", &files),
    ];
    let (gateway, _) = crate::tls::start(&manifests, &[]);
    let page = gateway.json("/certs");
    let used = page["certificates"].as_array().expect("a list");
    assert_eq!(used.len(), 1, "{page}");
    assert!(used[0]["name"].as_str().is_some_and(|name| name.contains("https.443")), "{page}");
    assert_eq!(used[0]["ca_cert"].as_array().map(Vec::len), Some(1), "{page}");
    let leaf = &used[0]["cert_chain"][0];
    assert_eq!(leaf["subject_alt_names"], serde_json::json!([{"dns": "a.com"}]));
    assert_eq!(leaf["path"], "<inline>");
    for key in ["serial_number", "days_until_expiration", "valid_from", "expiration_time"] {
        assert!(leaf[key].as_str().is_some_and(|text| !text.is_empty()), "{key}: {leaf}");
    }
    let key = pair.key.lines().nth(1).expect("a line of it");
    assert!(!page.to_string().contains(key), "a key is shown");
}

#[test]
fn a_browser_gets_no_page_under_a_name_that_leads_here() {
    let (gateway, _upstream) = start(&[]);
    let status = |path: &str, host: &str, agent: &str| {
        let mut raw = Raw::connect(gateway.admin);
        raw.send(format!(
            "GET {path} HTTP/1.1\r\nHost: {host}\r\nUser-Agent: {agent}\r\nConnection: close\r\n\r\n"
        ));
        raw.response().status
    };
    let browser = "Mozilla/5.0 (X11; Linux x86_64) Chrome/156.0";
    for path in ["/config_dump", "/certs", "/api/live", "/stats", "/dashboard/"] {
        assert_eq!(status(path, "evil.example:15000", browser), 403, "{path}");
        assert_eq!(status(path, "evil.example:15000", "curl/8.5.0"), 200, "{path}");
        assert_eq!(status(path, "127.0.0.1:15000", browser), 200, "{path}");
        assert_eq!(status(path, "localhost:15000", browser), 200, "{path}");
    }
    // A foreign page's picture would hold a tap open.
    assert_eq!(status("/tap", "127.0.0.1:15000", browser), 403);
}
