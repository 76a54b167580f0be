//! A reload touches only what it changes: connections of clients, kept connections to endpoints,
//! tunnels and downloads of everything else stay as they are.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Mutex;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::Duration;

use crate::support::gateway::free_port;
use crate::support::manifests::{GATEWAY, service};
use crate::support::raw::Raw;
use crate::support::upstream::{Scripted, read_head};
use crate::support::{Gateway, Upstream};

fn routes(name: &str, host: &str, service: &str) -> String {
    format!(
        "apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {{name: {name}}}\n\
         spec:\n  hosts: [{host}]\n  gateways: [gateway]\n  http:\n  \
         - route: [{{destination: {{host: {service}}}}}]\n"
    )
}

/// One worker, so that a kept connection of a client meets the kept connection to its endpoint.
const ONE_WORKER: &[&str] = &["--workers", "1"];

fn reloads(gateway: &Gateway, change: impl FnOnce()) {
    let generation = gateway.generation();
    change();
    gateway.wait_for_generation(generation + 1);
}

#[track_caller]
fn ask(raw: &mut Raw, host: &str) -> String {
    raw.send(format!("GET / HTTP/1.1\r\nHost: {host}\r\n\r\n"));
    let response = raw.response();
    assert_eq!(response.status, 200, "{}", response.head);
    String::from_utf8(response.body).expect("text")
}

/// Reloads that change something else than the route, the cluster and the endpoint of `a.com`.
fn unrelated_changes(gateway: &Gateway, other: &Upstream) {
    let more = format!(
        "{GATEWAY}  - port: {{number: {}, name: more, protocol: HTTP}}\n    hosts: [\"*\"]\n",
        free_port()
    );
    let another = GATEWAY
        .replace("name: gateway", "name: another")
        .replace("number: 80", &format!("number: {}", free_port()));
    let rule = "apiVersion: networking.istio.io/v1\nkind: DestinationRule\n\
                metadata: {name: other}\nspec:\n  host: other\n  \
                trafficPolicy: {connectionPool: {tcp: {connectTimeout: 3s}}}\n";
    // Clusters are numbered by name: `aaa` comes before all others and moves them.
    let first =
        format!("{}---\n{}", service("aaa", &[other.address]), routes("first", "first.com", "aaa"));
    let changes: [(&str, Option<&str>); 9] = [
        ("b.yaml", Some(&routes("b", "b.com", "other"))),
        ("b.yaml", Some(&routes("b", "b.com", "nobody"))),
        ("gateway.yaml", Some(&more)),
        ("another.yaml", Some(&another)),
        ("first.yaml", Some(&first)),
        ("rule.yaml", Some(rule)),
        ("other.yaml", Some(&service("other", &[]))),
        ("first.yaml", None),
        ("gateway.yaml", Some(GATEWAY)),
    ];
    for (name, text) in changes {
        reloads(gateway, || match text {
            Some(text) => gateway.write(name, text),
            None => gateway.remove(name),
        });
    }
}

fn start(one: SocketAddr, other: &Upstream) -> Gateway {
    Gateway::start_with(
        &[
            ("gateway.yaml", GATEWAY),
            ("a.yaml", &routes("a", "a.com", "one")),
            ("one.yaml", &service("one", &[one])),
            ("other.yaml", &service("other", &[other.address])),
        ],
        ONE_WORKER,
    )
}

#[test]
fn connections_on_both_sides_outlive_reloads_of_other_things() {
    let (one, other) = (Upstream::start("one"), Upstream::start("other"));
    let gateway = start(one.address, &other);
    let mut idle = Raw::connect(gateway.address);
    let mut kept = Raw::connect(gateway.address);
    assert_eq!(ask(&mut idle, "a.com"), "one");
    assert_eq!(ask(&mut kept, "a.com"), "one");
    assert_eq!(one.connections(), 1, "both used the same kept connection");
    unrelated_changes(&gateway, &other);
    assert_eq!(ask(&mut kept, "a.com"), "one");
    assert_eq!(ask(&mut idle, "a.com"), "one");
    assert_eq!(one.connections(), 1, "the endpoint's connection was kept through nine reloads");
    let metrics = gateway.metrics();
    assert_eq!(metrics.sum("ringress_downstream_connections_closed_total", &[]), 0.0);
    assert_eq!(metrics.sum("ringress_upstream_connections_closed_total", &[]), 0.0);
    assert_eq!(metrics.sum("ringress_upstream_connections_opened_total", &[]), 1.0);
}

#[test]
fn a_cluster_that_changes_keeps_the_connections_of_endpoints_that_stay() {
    let (one, other) = (Upstream::start("one"), Upstream::start("other"));
    let gateway = start(one.address, &other);
    let mut kept = Raw::connect(gateway.address);
    assert_eq!(ask(&mut kept, "a.com"), "one");
    // An endpoint comes, a policy comes, the route changes: the first endpoint is what it was.
    reloads(&gateway, || {
        gateway.write("one.yaml", &service("one", &[one.address, other.address]));
    });
    reloads(&gateway, || {
        let rule = "apiVersion: networking.istio.io/v1\nkind: DestinationRule\n\
                    metadata: {name: one}\nspec:\n  host: one\n  \
                    trafficPolicy: {loadBalancer: {simple: ROUND_ROBIN}}\n";
        gateway.write("rule.yaml", rule);
    });
    reloads(&gateway, || {
        let timed = routes("a", "a.com", "one").replace("- route", "- timeout: 9s\n    route");
        gateway.write("a.yaml", &timed);
    });
    let served: Vec<String> = (0..6).map(|_| ask(&mut kept, "a.com")).collect();
    for name in ["one", "other"] {
        assert_eq!(served.iter().filter(|by| *by == name).count(), 3, "in turn: {served:?}");
    }
    assert_eq!((one.connections(), other.connections()), (1, 1));
}

/// An upstream that answers only when told, and tells when its connections end.
struct Held {
    upstream: Scripted,
    arrived: Receiver<()>,
    release: Sender<()>,
    ended: Receiver<()>,
}

const PATIENCE: Duration = Duration::from_secs(20);

impl Held {
    fn start() -> Held {
        let (tell, arrived) = channel();
        let (release, released) = channel::<()>();
        let (over, ended) = channel();
        let parts = Mutex::new((tell, released, over));
        let upstream = Scripted::start(move |_, mut stream| {
            while read_head(&mut stream).is_some() {
                // A test that failed releases nobody.
                let parts = parts.lock().expect("not poisoned");
                let _ = parts.0.send(());
                let _ = parts.1.recv();
                if stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nheld").is_err() {
                    return;
                }
            }
            let _ = parts.lock().expect("not poisoned").2.send(());
        });
        Held { upstream, arrived, release, ended }
    }

    fn wait_for_request(&self) {
        self.arrived.recv_timeout(PATIENCE).expect("the request arrives");
    }

    fn wait_for_the_end(&self) {
        self.ended.recv_timeout(PATIENCE).expect("the connection ends");
    }
}

#[test]
fn idle_connections_to_an_endpoint_that_goes_are_closed() {
    let (held, other) = (Held::start(), Upstream::start("other"));
    let gateway = start(held.upstream.address, &other);
    let mut kept = Raw::connect(gateway.address);
    held.release.send(()).expect("it is there");
    assert_eq!(ask(&mut kept, "a.com"), "held");
    gateway.wait_for_metrics("one idle connection", |metrics| {
        metrics.sum("ringress_upstream_connections_idle", &[]) == 1.0
    });
    reloads(&gateway, || gateway.write("one.yaml", &service("one", &[other.address])));
    held.wait_for_the_end();
    assert_eq!(gateway.metrics().sum("ringress_upstream_connections_idle", &[]), 0.0);
    // The client notices nothing but the other answer.
    assert_eq!(ask(&mut kept, "a.com"), "other");
}

#[test]
fn requests_in_flight_to_an_endpoint_that_goes_are_finished() {
    let (held, other) = (Held::start(), Upstream::start("other"));
    let gateway = start(held.upstream.address, &other);
    let mut waiting = Raw::connect(gateway.address);
    waiting.send("GET / HTTP/1.1\r\nHost: a.com\r\n\r\n");
    held.wait_for_request();
    reloads(&gateway, || gateway.write("one.yaml", &service("one", &[other.address])));
    let mut new = Raw::connect(gateway.address);
    assert_eq!(ask(&mut new, "a.com"), "other");
    // And its route and host go too.
    reloads(&gateway, || gateway.remove("a.yaml"));
    held.release.send(()).expect("it is there");
    let response = waiting.response();
    assert_eq!((response.status, response.body), (200, b"held".to_vec()));
    // Its connection is not kept for an endpoint that is no more; the client's is.
    held.wait_for_the_end();
    waiting.send("GET / HTTP/1.1\r\nHost: a.com\r\n\r\n");
    assert_eq!(waiting.response().status, 404);
}

/// Echo what comes after an upgrade.
fn echo() -> Scripted {
    Scripted::start(|_, mut stream: TcpStream| {
        if read_head(&mut stream).is_none() {
            return;
        }
        let head =
            "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n";
        let mut bytes = [0; 1024];
        let mut outcome = stream.write_all(head.as_bytes());
        while outcome.is_ok() {
            match stream.read(&mut bytes) {
                Ok(count) if count > 0 => outcome = stream.write_all(&bytes[..count]),
                _ => return,
            }
        }
    })
}

#[test]
fn a_tunnel_goes_on_through_reloads_of_other_things() {
    let (echo, other) = (echo(), Upstream::start("other"));
    let gateway = start(echo.address, &other);
    let mut tunnel = Raw::connect(gateway.address);
    tunnel.send("GET / HTTP/1.1\r\nHost: a.com\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n");
    assert_eq!(tunnel.response_head().status, 101);
    tunnel.send("before");
    assert_eq!(tunnel.read_exact(6), b"before");
    unrelated_changes(&gateway, &other);
    tunnel.send("after");
    assert_eq!(tunnel.read_exact(5), b"after");
    assert_eq!(gateway.metrics().sum("ringress_tunnels_active", &[]), 1.0);
}

#[test]
fn up_and_downloads_go_on_through_reloads_of_other_things() {
    const PART: usize = 100_000;
    let (release, released) = channel::<()>();
    let released = Mutex::new(released);
    let slow = Scripted::start(move |_, mut stream| {
        if read_head(&mut stream).is_none() {
            return;
        }
        // The upload first, to its end; then the download in two parts.
        let mut upload = vec![0; 2 * PART];
        if stream.read_exact(&mut upload).is_err() || upload.iter().any(|byte| *byte != b'u') {
            return;
        }
        let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", 2 * PART);
        let part = vec![b'd'; PART];
        let _ = stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(&part));
        let _ = released.lock().expect("not poisoned").recv();
        let _ = stream.write_all(&part);
    });
    let other = Upstream::start("other");
    let gateway = start(slow.address, &other);
    let mut client = Raw::connect(gateway.address);
    let length = 2 * PART;
    client.send(format!("POST / HTTP/1.1\r\nHost: a.com\r\nContent-Length: {length}\r\n\r\n"));
    client.send(vec![b'u'; PART]);
    unrelated_changes(&gateway, &other);
    client.send(vec![b'u'; PART]);
    assert_eq!(client.response_head().status, 200);
    assert_eq!(client.read_exact(PART), vec![b'd'; PART]);
    reloads(&gateway, || gateway.write("c.yaml", &routes("c", "c.com", "other")));
    release.send(()).expect("it waits");
    assert_eq!(client.read_exact(PART), vec![b'd'; PART]);
}

#[test]
fn a_listener_that_comes_or_goes_leaves_the_others_alone() {
    let (one, other) = (Upstream::start("one"), Upstream::start("other"));
    let gateway = start(one.address, &other);
    let second = SocketAddr::from(([127, 0, 0, 1], free_port()));
    let more = format!(
        "{GATEWAY}  - port: {{number: {}, name: more, protocol: HTTP}}\n    hosts: [\"*\"]\n",
        second.port()
    );
    let mut on_first = Raw::connect(gateway.address);
    assert_eq!(ask(&mut on_first, "a.com"), "one");
    reloads(&gateway, || gateway.write("gateway.yaml", &more));
    assert_eq!(ask(&mut on_first, "a.com"), "one");
    let mut on_second = Raw::connect(second);
    assert_eq!(ask(&mut on_second, "a.com"), "one");
    // The first one goes: the second, and what is connected to either, stays.
    let only_second = GATEWAY.replace("number: 80", &format!("number: {}", second.port()));
    reloads(&gateway, || gateway.write("gateway.yaml", &only_second));
    assert_eq!(ask(&mut on_second, "a.com"), "one");
    reloads(&gateway, || gateway.write("gateway.yaml", &more));
    assert_eq!(ask(&mut on_first, "a.com"), "one");
    assert_eq!(ask(&mut on_second, "a.com"), "one");
    assert_eq!(ask(&mut Raw::connect(gateway.address), "a.com"), "one");
    let metrics = gateway.metrics();
    assert_eq!(metrics.sum("ringress_upstream_connections_opened_total", &[]), 1.0);
}
