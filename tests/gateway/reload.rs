//! Changes of the manifests while the gateway serves.

use std::io::{Read, Write};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::channel;
use std::sync::{Arc, Mutex};

use crate::support::gateway::{free_port, wait_until};
use crate::support::manifests::{GATEWAY, service};
use crate::support::raw::Raw;
use crate::support::upstream::{Scripted, read_head};
use crate::support::{Gateway, Upstream, block_on};

/// A VirtualService of `gateway` that sends `host` to `service`.
fn routes(name: &str, host: &str, service: &str) -> String {
    format!(
        "apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {{name: {name}}}\n\
         spec:\n  hosts: [{host}]\n  gateways: [gateway]\n  http:\n  \
         - route: [{{destination: {{host: {service}}}}}]\n"
    )
}

/// A gateway with a Gateway, two Services and the VirtualServices `files`.
fn start(files: &[(&str, &str)]) -> (Gateway, [Upstream; 2]) {
    let upstreams = [Upstream::start("one"), Upstream::start("two")];
    let services =
        [service("one", &[upstreams[0].address]), service("two", &[upstreams[1].address])];
    let mut all =
        vec![("gateway.yaml", GATEWAY), ("one.yaml", &services[0]), ("two.yaml", &services[1])];
    all.extend(files);
    (Gateway::start(&all), upstreams)
}

/// Status and body of `GET /` on a fresh connection.
fn get(gateway: &Gateway, host: &str) -> (u16, String) {
    get_at(gateway.address, host)
}

fn get_at(address: SocketAddr, host: &str) -> (u16, String) {
    ask(&mut Raw::connect(address), host)
}

/// The same on this connection.
fn ask(raw: &mut Raw, host: &str) -> (u16, String) {
    raw.send(format!("GET / HTTP/1.1\r\nHost: {host}\r\n\r\n"));
    let response = raw.response();
    (response.status, String::from_utf8(response.body).expect("text"))
}

fn ok(body: &str) -> (u16, String) {
    (200, body.to_owned())
}

/// Do something that must bring a new generation, and wait until all workers route by it.
fn reloads(gateway: &Gateway, change: impl FnOnce()) {
    let generation = gateway.generation();
    change();
    gateway.wait_for_generation(generation + 1);
}

/// The state of an object in `/config_dump`, with the codes of its diagnostics.
fn state(gateway: &Gateway, kind: &str, name: &str) -> Option<(String, Vec<String>)> {
    let dump = gateway.json("/config_dump");
    let objects = dump["objects"].as_array().expect("a list");
    let object = objects.iter().find(|object| object["kind"] == kind && object["name"] == name)?;
    let codes = object["diagnostics"].as_array().expect("a list").iter();
    let codes = codes
        .filter(|found| found["severity"] == "error")
        .map(|found| found["code"].as_str().expect("text").to_owned());
    Some((object["state"].as_str().expect("text").to_owned(), codes.collect()))
}

#[test]
fn files_that_change_come_and_go_are_followed() {
    let (gateway, _upstreams) = start(&[("a.yaml", &routes("a", "a.com", "one"))]);
    assert_eq!(get(&gateway, "a.com"), ok("one"));
    reloads(&gateway, || gateway.write("a.yaml", &routes("a", "a.com", "two")));
    assert_eq!(get(&gateway, "a.com"), ok("two"));
    reloads(&gateway, || gateway.write("b.yaml", &routes("b", "b.com", "one")));
    assert_eq!((get(&gateway, "a.com"), get(&gateway, "b.com")), (ok("two"), ok("one")));
    reloads(&gateway, || gateway.remove("a.yaml"));
    assert_eq!(get(&gateway, "a.com").0, 404);
    assert_eq!(get(&gateway, "b.com"), ok("one"));
    reloads(&gateway, || gateway.remove("one.yaml"));
    assert_eq!(get(&gateway, "b.com").0, 503);
}

#[test]
fn new_directories_are_followed() {
    let (gateway, _upstreams) = start(&[]);
    reloads(&gateway, || gateway.write("deep/er/a.yaml", &routes("a", "a.com", "one")));
    wait_until("the new file is read", || get(&gateway, "a.com") == ok("one"));
    reloads(&gateway, || gateway.write("deep/er/a.yaml", &routes("a", "a.com", "two")));
    wait_until("the changed file is read", || get(&gateway, "a.com") == ok("two"));
}

#[test]
fn endpoints_are_followed() {
    let (gateway, upstreams) = start(&[("a.yaml", &routes("a", "a.com", "one"))]);
    let mut kept = Raw::connect(gateway.address);
    assert_eq!(ask(&mut kept, "a.com"), ok("one"));
    reloads(&gateway, || gateway.write("one.yaml", &service("one", &[upstreams[1].address])));
    assert_eq!(ask(&mut kept, "a.com"), ok("two"));
    reloads(&gateway, || gateway.write("one.yaml", &service("one", &[])));
    assert_eq!(ask(&mut kept, "a.com"), (503, "no healthy upstream".to_owned()));
    reloads(&gateway, || gateway.write("one.yaml", &service("one", &[upstreams[0].address])));
    assert_eq!(ask(&mut kept, "a.com"), ok("one"));
}

/// An object becomes `bad` while another file changes: it keeps its last good version, which
/// `printed` and `code` say, until it is mended.
fn a_bad_version_is_refused_alone(bad: &str, printed: &str, code: &str) {
    let (gateway, _upstreams) = start(&[
        ("a.yaml", &routes("a", "a.com", "one")),
        ("b.yaml", &routes("b", "b.com", "one")),
    ]);
    reloads(&gateway, || gateway.write("a.yaml", bad));
    let line = gateway.wait_for_line(printed);
    assert!(line.contains("ERROR") && line.contains("VirtualService default/a"), "{line}");
    assert!(gateway.log().contains("a.yaml:"), "{}", gateway.log());
    assert_eq!(get(&gateway, "a.com"), ok("one"));
    let kept = Some(("kept_last_good".to_owned(), vec![code.to_owned()]));
    assert_eq!(state(&gateway, "VirtualService", "a"), kept);
    let metrics = gateway.metrics();
    assert_eq!(metrics.sum("ringress_config_objects_refused", &[]), 1.0);
    assert!(metrics.sum("ringress_config_object_refusals_total", &[]) >= 1.0);

    reloads(&gateway, || gateway.write("b.yaml", &routes("b", "b.com", "two")));
    assert_eq!((get(&gateway, "a.com"), get(&gateway, "b.com")), (ok("one"), ok("two")));
    assert_eq!(state(&gateway, "VirtualService", "a"), kept);

    reloads(&gateway, || gateway.write("a.yaml", &routes("a", "a.com", "two")));
    assert_eq!(get(&gateway, "a.com"), ok("two"));
    assert_eq!(state(&gateway, "VirtualService", "a"), Some(("live".to_owned(), vec![])));
    assert_eq!(gateway.metrics().sum("ringress_config_objects_refused", &[]), 0.0);

    reloads(&gateway, || gateway.write("a.yaml", bad));
    reloads(&gateway, || gateway.remove("a.yaml"));
    assert_eq!(get(&gateway, "a.com").0, 404, "what is gone keeps no version");
    assert_eq!(state(&gateway, "VirtualService", "a"), None);
}

#[test]
fn a_wrong_type_is_refused_alone() {
    let bad = routes("a", "a.com", "two").replace("gateways: [gateway]", "gateways: {a: b}");
    a_bad_version_is_refused_alone(&bad, "expected a list", "IST0106");
}

#[test]
fn an_unknown_field_is_refused_alone() {
    let bad = routes("a", "a.com", "two").replace("gateways:", "gatewayz:");
    a_bad_version_is_refused_alone(&bad, "unknown field `gatewayz`", "IST0106");
}

#[test]
fn an_invalid_object_is_refused_alone() {
    let bad = routes("a", "a.com", "two")
        .replace("  - route:", "  - match: [{uri: {regex: \"(\"}}]\n    route:");
    a_bad_version_is_refused_alone(&bad, "spec.http[0].match[0].uri", "IST0106");
}

#[test]
fn an_object_that_was_never_good_is_refused_and_its_neighbours_live() {
    let (gateway, _upstreams) = start(&[("a.yaml", &routes("a", "a.com", "one"))]);
    let bad = routes("bad", "bad.com", "one").replace("gateways:", "gatewayz:");
    let both = format!("{bad}---\n{}", routes("good", "good.com", "two"));
    reloads(&gateway, || gateway.write("both.yaml", &both));
    assert_eq!(get(&gateway, "good.com"), ok("two"));
    assert_eq!(get(&gateway, "bad.com").0, 404);
    let (state, _) = state(&gateway, "VirtualService", "bad").expect("it is shown");
    assert_eq!(state, "refused");
}

#[test]
fn a_file_that_is_no_yaml_keeps_all_its_objects() {
    let both = format!("{}---\n{}", routes("a", "a.com", "one"), routes("b", "b.com", "two"));
    let (gateway, _upstreams) = start(&[("both.yaml", &both)]);
    reloads(&gateway, || gateway.write("both.yaml", "hosts: [\n  {"));
    gateway.wait_for_line("not valid YAML");
    assert_eq!((get(&gateway, "a.com"), get(&gateway, "b.com")), (ok("one"), ok("two")));
    for name in ["a", "b"] {
        let (state, _) = state(&gateway, "VirtualService", name).expect("it is shown");
        assert_eq!(state, "kept_last_good", "{name}");
    }
    assert_eq!(gateway.metrics().sum("ringress_config_objects_refused", &[]), 2.0);
    let dump = gateway.json("/config_dump").to_string();
    assert!(dump.contains("not valid YAML"), "{dump}");
    reloads(&gateway, || gateway.write("both.yaml", &routes("a", "a.com", "two")));
    assert_eq!(get(&gateway, "a.com"), ok("two"));
    assert_eq!(get(&gateway, "b.com").0, 404);
}

#[test]
fn a_gateway_that_became_bad_keeps_its_port() {
    let (gateway, _upstreams) = start(&[("a.yaml", &routes("a", "a.com", "one"))]);
    let mut kept = Raw::connect(gateway.address);
    assert_eq!(ask(&mut kept, "a.com"), ok("one"));
    reloads(&gateway, || {
        gateway.write("gateway.yaml", &GATEWAY.replace("number: 80", "number: x"))
    });
    assert_eq!(ask(&mut kept, "a.com"), ok("one"));
    assert_eq!(get(&gateway, "a.com"), ok("one"));
}

#[test]
fn ports_open_and_close() {
    let (gateway, _upstreams) = start(&[("a.yaml", &routes("a", "a.com", "one"))]);
    let address = SocketAddr::from(([127, 0, 0, 1], free_port()));
    let more = format!(
        "{GATEWAY}  - port: {{number: {}, name: more, protocol: HTTP}}\n    hosts: [\"*\"]\n",
        address.port()
    );
    reloads(&gateway, || gateway.write("gateway.yaml", &more));
    let mut kept = Raw::connect(address);
    assert_eq!(ask(&mut kept, "a.com"), ok("one"));
    reloads(&gateway, || gateway.write("gateway.yaml", GATEWAY));
    wait_until("the port is closed", || std::net::TcpStream::connect(address).is_err());
    // The connection was not cut; it has no routes any more.
    assert_eq!(ask(&mut kept, "a.com").0, 404);
    reloads(&gateway, || gateway.write("gateway.yaml", &more));
    assert_eq!(get_at(address, "a.com"), ok("one"));
}

#[test]
fn a_new_port_that_is_taken_is_reported_and_the_rest_goes_in() {
    let (gateway, _upstreams) = start(&[("a.yaml", &routes("a", "a.com", "one"))]);
    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
    let port = taken.local_addr().expect("bound").port();
    let more = format!(
        "{GATEWAY}  - port: {{number: {port}, name: more, protocol: HTTP}}\n    hosts: [\"*\"]\n"
    );
    reloads(&gateway, || {
        gateway.write("gateway.yaml", &more);
        gateway.write("b.yaml", &routes("b", "b.com", "two"));
    });
    let line = gateway.wait_for_line("cannot listen on");
    assert!(line.contains(&port.to_string()) && line.contains("default/gateway"), "{line}");
    wait_until("the rest is in force", || get(&gateway, "b.com") == ok("two"));
    assert_eq!(get(&gateway, "a.com"), ok("one"));
    drop(taken);
    reloads(&gateway, || gateway.signal(libc::SIGHUP));
    assert_eq!(get_at(([127, 0, 0, 1], port).into(), "a.com"), ok("one"));
}

#[test]
fn open_connections_survive_and_are_routed_anew() {
    let (gateway, _upstreams) = start(&[("a.yaml", &routes("a", "a.com", "one"))]);
    let mut kept = Raw::connect(gateway.address);
    assert_eq!(ask(&mut kept, "a.com"), ok("one"));
    for service in ["two", "one", "two"] {
        reloads(&gateway, || gateway.write("a.yaml", &routes("a", "a.com", service)));
        assert_eq!(ask(&mut kept, "a.com"), ok(service));
    }
}

#[test]
fn connections_of_a_port_that_comes_back_are_routed_again() {
    let (gateway, _upstreams) = start(&[("a.yaml", &routes("a", "a.com", "one"))]);
    let mut idle = Raw::connect(gateway.address);
    assert_eq!(ask(&mut idle, "a.com"), ok("one"));
    // The Gateway goes, with it the port; the connection stays.
    reloads(&gateway, || gateway.remove("gateway.yaml"));
    reloads(&gateway, || gateway.write("gateway.yaml", GATEWAY));
    assert_eq!(ask(&mut idle, "a.com"), ok("one"));
    assert_eq!(get(&gateway, "a.com"), ok("one"));
}

#[test]
fn a_file_written_as_it_was_changes_nothing() {
    let (gateway, _upstreams) = start(&[("a.yaml", &routes("a", "a.com", "one"))]);
    let before = gateway.generation();
    gateway.write("a.yaml", &routes("a", "a.com", "one"));
    gateway.write("note", "no manifest");
    // What comes after it is seen, so it was seen too.
    reloads(&gateway, || gateway.write("b.yaml", &routes("b", "b.com", "two")));
    assert_eq!(gateway.generation(), before + 1);
}

#[test]
fn a_tunnel_survives() {
    let echo = Scripted::start(|_, mut stream| {
        if read_head(&mut stream).is_none() {
            return;
        }
        let head =
            "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n";
        let mut bytes = [0; 1024];
        let mut count = 0;
        let mut outcome = stream.write_all(head.as_bytes());
        while outcome.is_ok() {
            outcome = stream.write_all(&bytes[..count]);
            match stream.read(&mut bytes) {
                Ok(read) if read > 0 => count = read,
                _ => return,
            }
        }
    });
    let (gateway, _upstreams) = start(&[
        ("echo.yaml", &service("echo", &[echo.address])),
        ("a.yaml", &routes("a", "a.com", "echo")),
    ]);
    let mut tunnel = Raw::connect(gateway.address);
    tunnel.send("GET / HTTP/1.1\r\nHost: a.com\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n");
    assert_eq!(tunnel.response_head().status, 101);
    tunnel.send("before");
    assert_eq!(tunnel.read_exact(6), b"before");
    // Its route goes, then its cluster.
    reloads(&gateway, || gateway.write("a.yaml", &routes("a", "a.com", "one")));
    reloads(&gateway, || gateway.remove("echo.yaml"));
    assert_eq!(get(&gateway, "a.com"), ok("one"));
    tunnel.send("after");
    assert_eq!(tunnel.read_exact(5), b"after");
}

#[test]
fn a_download_survives() {
    const PART: usize = 100_000;
    let (release, released) = channel::<()>();
    let released = Mutex::new(released);
    let slow = Scripted::start(move |_, mut stream| {
        if read_head(&mut stream).is_none() {
            return;
        }
        let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", 2 * PART);
        let part = vec![b'x'; PART];
        let _ = stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(&part));
        let _ = released.lock().expect("not poisoned").recv();
        let _ = stream.write_all(&part);
    });
    let (gateway, _upstreams) = start(&[
        ("slow.yaml", &service("slow", &[slow.address])),
        ("a.yaml", &routes("a", "a.com", "slow")),
    ]);
    let mut download = Raw::connect(gateway.address);
    download.send("GET / HTTP/1.1\r\nHost: a.com\r\n\r\n");
    assert_eq!(download.response_head().status, 200);
    assert_eq!(download.read_exact(PART).len(), PART);
    reloads(&gateway, || gateway.write("a.yaml", &routes("a", "a.com", "one")));
    reloads(&gateway, || gateway.remove("slow.yaml"));
    assert_eq!(get(&gateway, "a.com"), ok("one"));
    release.send(()).expect("it waits");
    assert_eq!(download.read_exact(PART), vec![b'x'; PART]);
    // And its connection serves on, by the new routes.
    assert_eq!(ask(&mut download, "a.com"), ok("one"));
}

#[test]
fn thirty_reloads_under_load_fail_no_request() {
    const CLIENTS: usize = 4;
    let (gateway, _upstreams) = start(&[("a.yaml", &routes("a", "a.com", "one"))]);
    let stop = Arc::new(AtomicBool::new(false));
    let served = Arc::new(AtomicUsize::new(0));
    let url = gateway.url("/");
    let failures = Arc::new(Mutex::new(Vec::<String>::new()));
    let clients: Vec<_> = (0..CLIENTS)
        .map(|_| {
            let (stop, served, url, failures) =
                (Arc::clone(&stop), Arc::clone(&served), url.clone(), Arc::clone(&failures));
            std::thread::spawn(move || {
                block_on(async {
                    let client = reqwest::Client::builder().build().expect("a client");
                    while !stop.load(Ordering::Relaxed) {
                        let answer = client.get(&url).header("host", "a.com").send().await;
                        let outcome = match answer {
                            Ok(answer) if answer.status() == 200 => answer.text().await,
                            Ok(answer) => Ok(format!("status {}", answer.status())),
                            Err(error) => Err(error),
                        };
                        match outcome.as_deref() {
                            Ok("one" | "two") => {
                                served.fetch_add(1, Ordering::Relaxed);
                            }
                            other => {
                                let failure = format!("{other:?}");
                                failures.lock().expect("not poisoned").push(failure);
                                return;
                            }
                        }
                    }
                });
            })
        })
        .collect();
    for round in 0..30 {
        let seen = served.load(Ordering::Relaxed);
        let service = if round % 2 == 0 { "two" } else { "one" };
        reloads(&gateway, || {
            // Routes, hosts and a bad neighbour change in turn.
            gateway.write("a.yaml", &routes("a", "a.com", service));
            match round % 3 {
                0 => gateway.write("b.yaml", &routes("b", "b.com", service)),
                1 => gateway.write("b.yaml", "{"),
                _ => gateway.remove("b.yaml"),
            }
        });
        wait_until("requests go on", || {
            served.load(Ordering::Relaxed) > seen + CLIENTS
                || !failures.lock().expect("not poisoned").is_empty()
        });
    }
    stop.store(true, Ordering::Relaxed);
    for client in clients {
        client.join().expect("no client panicked");
    }
    let failures = failures.lock().expect("not poisoned");
    assert!(failures.is_empty(), "requests failed: {failures:?}");
}
