//! Connections that are routed as a whole: a Gateway server of the protocol TCP and `tcp` routes.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use crate::support::Gateway;
use crate::support::gateway::free_port;
use crate::support::manifests::{policy, service};
use crate::support::upstream::Scripted;

/// Only keeps a hang from blocking the suite.
const PATIENCE: Duration = Duration::from_secs(30);

/// A Gateway with a TCP server on port 3306 and this `tcp` block (indented by two).
fn routes(protocol: &str, tcp: &str) -> String {
    format!(
        "apiVersion: networking.istio.io/v1\nkind: Gateway\nmetadata: {{name: gateway}}\nspec:\n  \
         selector: {{istio: ingressgateway}}\n  servers:\n  \
         - port: {{number: 3306, name: db, protocol: {protocol}}}\n    hosts: [\"*\"]\n---\n\
         apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {{name: routes}}\n\
         spec:\n  hosts: [\"*\"]\n  gateways: [gateway]\n  tcp:\n{tcp}"
    )
}

/// To one Service.
fn to(host: &str) -> String {
    routes(
        "TCP",
        &format!("  - route: [{{destination: {{host: {host}, port: {{number: 80}}}}}}]\n"),
    )
}

/// A gateway and where its TCP port is.
fn start(manifests: &[(&str, &str)], arguments: &[&str]) -> (Gateway, SocketAddr) {
    let port = free_port();
    let map = format!("--port-map=3306={port}");
    let arguments: Vec<&str> = arguments.iter().copied().chain([map.as_str()]).collect();
    let gateway = Gateway::start_with(manifests, &arguments);
    (gateway, SocketAddr::from(([127, 0, 0, 1], port)))
}

fn connect(address: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(address).expect("the gateway listens");
    stream.set_read_timeout(Some(PATIENCE)).expect("settable");
    stream
}

/// Send all of `text`, end, and read to the end.
fn ask(address: SocketAddr, text: &str) -> String {
    let mut stream = connect(address);
    stream.write_all(text.as_bytes()).expect("open");
    stream.shutdown(Shutdown::Write).expect("open");
    read_all(&mut stream)
}

fn read_all(stream: &mut TcpStream) -> String {
    let mut text = String::new();
    stream.read_to_string(&mut text).expect("an end, not a reset");
    text
}

/// An upstream that reads to the end and answers with its name and what it read.
fn named(name: &'static str) -> Scripted {
    Scripted::start(move |_, mut stream| {
        let mut text = String::new();
        if stream.read_to_string(&mut text).is_ok() {
            let _ = stream.write_all(format!("{name}:{text}").as_bytes());
        }
    })
}

/// An upstream that sends back what comes, piece by piece.
fn echo() -> Scripted {
    Scripted::start(|_, mut stream| {
        let mut bytes = [0; 4096];
        while let Ok(count @ 1..) = stream.read(&mut bytes) {
            if stream.write_all(&bytes[..count]).is_err() {
                return;
            }
        }
    })
}

/// An address on which nobody listens.
fn nobody() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    listener.local_addr().expect("bound")
}

#[test]
fn bytes_go_both_ways_and_an_end_of_sending_is_passed_on() {
    for protocol in ["TCP", "MONGO"] {
        let upstream = named("db");
        let tcp = "  - route: [{destination: {host: db, port: {number: 80}}}]\n";
        let (_gateway, address) = start(
            &[
                ("routes.yaml", &routes(protocol, tcp)),
                ("service.yaml", &service("db", &[upstream.address])),
            ],
            &[],
        );
        // The upstream answers after it has seen the end: only a half-close lets it.
        let text = "x".repeat(3_000_000);
        assert!(ask(address, &text) == format!("db:{text}"), "{protocol}");
    }
}

#[test]
fn destinations_share_connections_by_weight() {
    let (one, two) = (named("one"), named("two"));
    let manifest = routes(
        "TCP",
        "  - route:\n    - {destination: {host: one, port: {number: 80}}, weight: 25}\n    \
         - {destination: {host: two, port: {number: 80}}, weight: 75}\n",
    );
    let (_gateway, address) = start(
        &[
            ("routes.yaml", &manifest),
            ("one.yaml", &service("one", &[one.address])),
            ("two.yaml", &service("two", &[two.address])),
        ],
        &[],
    );
    let of_two = (0..200).filter(|_| ask(address, "x") == "two:x").count();
    assert!((110..190).contains(&of_two), "three of four: {of_two}");
}

#[test]
fn one_client_goes_to_one_endpoint_by_its_address() {
    let upstreams = [named("a"), named("b"), named("c"), named("d")];
    let addresses: Vec<SocketAddr> = upstreams.iter().map(|upstream| upstream.address).collect();
    let sticky = "{loadBalancer: {consistentHash: {useSourceIp: true}}}";
    let (_gateway, address) = start(
        &[
            ("routes.yaml", &to("db")),
            ("rule.yaml", &policy("db", sticky)),
            ("service.yaml", &service("db", &addresses)),
        ],
        &[],
    );
    let first = ask(address, "x");
    assert!((0..20).all(|_| ask(address, "x") == first));
}

#[test]
fn a_quiet_connection_is_closed_on_both_sides() {
    let ended = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&ended);
    let upstream = Scripted::start(move |_, mut stream| {
        let _ = stream.read_to_end(&mut Vec::new());
        count.fetch_add(1, Ordering::SeqCst);
    });
    let (gateway, address) = start(
        &[
            ("routes.yaml", &to("db")),
            ("rule.yaml", &policy("db", "{connectionPool: {tcp: {idleTimeout: 1s}}}")),
            ("service.yaml", &service("db", &[upstream.address])),
        ],
        &[],
    );
    let mut stream = connect(address);
    stream.write_all(b"x").expect("open");
    assert_eq!(read_all(&mut stream), "");
    gateway.wait_for_metrics("the idle connection counted", |metrics| {
        let kind = [("kind", "idle_timeout")];
        metrics.sum("ringress_downstream_connection_errors_total", &kind) == 1.0
    });
    crate::support::gateway::wait_until("the upstream's end", || ended.load(Ordering::SeqCst) == 1);
}

#[test]
fn connections_beyond_the_limit_are_closed_and_counted() {
    let upstream = echo();
    let (gateway, address) = start(
        &[
            ("routes.yaml", &to("db")),
            ("rule.yaml", &policy("db", "{connectionPool: {tcp: {maxConnections: 2}}}")),
            ("service.yaml", &service("db", &[upstream.address])),
        ],
        &[],
    );
    let mut held: Vec<TcpStream> = (0..2).map(|_| connect(address)).collect();
    for stream in &mut held {
        stream.write_all(b"x").expect("open");
        stream.read_exact(&mut [0]).expect("it is passed on");
    }
    assert_eq!(read_all(&mut connect(address)), "");
    let flags = [("response_flags", "UO")];
    gateway.wait_for_metrics("the overflow counted", |metrics| {
        metrics.sum("istio_tcp_connections_closed_total", &flags) == 1.0
    });
    drop(held);
    gateway.wait_for_metrics("room again", |metrics| {
        metrics.sum("istio_tcp_connections_closed_total", &[("response_flags", "-")]) == 2.0
    });
    assert_eq!(ask(address, "again"), "again");
}

#[test]
fn a_connection_that_cannot_be_passed_on_is_closed_and_says_why() {
    let log = tempfile::tempdir().expect("a directory");
    let path = log.path().join("access.log");
    let file = path.display().to_string();
    for (endpoints, flags, reason) in [
        (vec![], "UH", None),
        (vec![nobody()], "UF,URX", Some("delayed_connect_error:_Connection_refused")),
    ] {
        let (gateway, address) = start(
            &[("routes.yaml", &to("db")), ("service.yaml", &service("db", &endpoints))],
            &["--access-log", &file, "--access-log-format", "json"],
        );
        assert_eq!(read_all(&mut connect(address)), "");
        let line = gateway.wait_for_log(&path, |line| line["response_flags"] == flags);
        assert_eq!(line["upstream_transport_failure_reason"].as_str(), reason);
        assert_eq!(line["response_code"], 0);
        gateway.wait_for_metrics("the refusal counted", |metrics| {
            let labels = [("response_flags", flags), ("request_protocol", "tcp")];
            metrics.sum("istio_tcp_connections_opened_total", &labels) == 1.0
                && metrics.sum("istio_tcp_connections_closed_total", &labels) == 1.0
        });
    }
}

#[test]
fn bytes_are_counted_while_a_connection_lasts_and_it_is_logged_at_its_end() {
    let upstream = echo();
    let log = tempfile::tempdir().expect("a directory");
    let path = log.path().join("access.log");
    let file = path.display().to_string();
    let (gateway, address) = start(
        &[("routes.yaml", &to("db")), ("service.yaml", &service("db", &[upstream.address]))],
        &["--access-log", &file, "--access-log-format", "json"],
    );
    let mut stream = connect(address);
    stream.write_all(b"hello").expect("open");
    stream.read_exact(&mut [0; 5]).expect("an echo");
    let labels = [
        ("request_protocol", "tcp"),
        ("response_flags", "-"),
        ("destination_service", "db.default.svc.cluster.local"),
    ];
    gateway.wait_for_metrics("bytes of an open connection", |metrics| {
        let sum = |name| metrics.sum(name, &labels);
        sum("istio_tcp_received_bytes_total") == 5.0
            && sum("istio_tcp_sent_bytes_total") == 5.0
            && sum("istio_tcp_connections_opened_total") == 1.0
            && sum("istio_tcp_connections_closed_total") == 0.0
    });
    let from = stream.local_addr().expect("connected").to_string();
    drop(stream);
    let line = gateway.wait_for_log(&path, |line| line["downstream_remote_address"] == *from);
    for missing in ["method", "path", "protocol", "authority", "requested_server_name"] {
        assert!(line[missing].is_null(), "{missing}: {line}");
    }
    assert_eq!((&line["bytes_received"], &line["bytes_sent"]), (&5.into(), &5.into()));
    assert_eq!((&line["response_code"], &line["response_flags"]), (&0.into(), &"-".into()));
    assert_eq!(line["upstream_host"], upstream.address.to_string());
    assert_eq!(line["upstream_cluster"], "outbound|80||db.default.svc.cluster.local");
    gateway.wait_for_metrics("the end counted", |metrics| {
        metrics.sum("istio_tcp_connections_closed_total", &labels) == 1.0
    });
}

#[test]
fn the_proxy_protocol_is_asked_for_where_the_option_says() {
    let upstream = echo();
    let (gateway, address) = start(
        &[("routes.yaml", &to("db")), ("service.yaml", &service("db", &[upstream.address]))],
        &["--proxy-protocol=3306"],
    );
    assert_eq!(ask(address, "PROXY TCP4 10.1.2.3 10.0.0.1 5000 80\r\nhello"), "hello");
    let mut refused = connect(address);
    refused.write_all(b"hello, I am nobody's\r\n").expect("open");
    // Closed with bytes unread: an end or a reset.
    assert_eq!(refused.read(&mut [0; 8]).unwrap_or(0), 0);
    gateway.wait_for_metrics("the refusal counted", |metrics| {
        let kind = [("kind", "proxy_protocol")];
        metrics.sum("ringress_downstream_connection_errors_total", &kind) == 1.0
    });
}
