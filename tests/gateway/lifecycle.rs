//! The life of the process: start, refuse to start, drain, fail loudly.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::sync::Mutex;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::Duration;

use crate::support::gateway::{free_port, wait_until};
use crate::support::manifests::{HELLO, any_host, hello_service, service};
use crate::support::metrics::Metrics;
use crate::support::raw::Raw;
use crate::support::upstream::{Scripted, read_head};
use crate::support::{Gateway, Upstream};

const GET: &str = "GET / HTTP/1.1\r\nHost: hello.com\r\n\r\n";

/// An upstream that answers only when it is told to, and says when it has a request.
pub struct Held {
    pub upstream: Scripted,
    arrived: Receiver<()>,
    pub release: Sender<()>,
}

impl Held {
    pub fn start() -> Held {
        let (tell, arrived) = channel();
        let (release, released) = channel::<()>();
        let (tell, released) = (Mutex::new(tell), Mutex::new(released));
        let upstream = Scripted::start(move |_, mut stream| {
            while read_head(&mut stream).is_some() {
                let _ = tell.lock().expect("not poisoned").send(());
                // A test that is over releases nobody.
                let _ = released.lock().expect("not poisoned").recv();
                let answer = "HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nheld";
                if stream.write_all(answer.as_bytes()).is_err() {
                    return;
                }
            }
        });
        Held { upstream, arrived, release }
    }

    pub fn wait_for_request(&self) {
        self.arrived.recv_timeout(Duration::from_secs(20)).expect("the request arrives");
    }
}

fn hello(upstream: &Upstream) -> String {
    hello_service(&[upstream.address])
}

/// Connecting fails once the listeners are closed; the kernel may still let a few in before.
fn wait_until_refused(gateway: &Gateway) {
    wait_until_refused_at(gateway.address);
}

pub fn wait_until_refused_at(address: SocketAddr) {
    for _ in 0..2000 {
        match TcpStream::connect(address) {
            Err(_) => return,
            Ok(_) => std::thread::sleep(Duration::from_millis(10)),
        }
    }
    panic!("it still listens");
}

#[test]
fn a_drain_finishes_what_is_in_flight() {
    let held = Held::start();
    let service = hello_service(&[held.upstream.address]);
    let mut gateway = Gateway::start(&[("hello.yaml", HELLO), ("service.yaml", &service)]);
    let mut in_flight = Raw::connect(gateway.address);
    in_flight.send(GET);
    held.wait_for_request();
    gateway.signal(libc::SIGTERM);
    gateway.wait_for_line("draining");
    wait_until_refused(&gateway);
    held.release.send(()).expect("it waits");
    let response = in_flight.response();
    assert_eq!(response.status, 200);
    assert_eq!(response.body, b"held");
    assert_eq!(response.header("connection"), Some("close"));
    assert!(in_flight.is_closed());
    assert_eq!(gateway.wait().code(), Some(0));
    assert!(gateway.log().contains("drained"), "{}", gateway.log());
}

#[test]
fn a_kept_alive_connection_is_told_to_close() {
    let held = Held::start();
    let upstream = Upstream::start("hello");
    let files = [
        (
            "routes.yaml",
            any_host(
                "  - match: [{uri: {prefix: /held}}]\n    route: [{destination: {host: held}}]\n  \
             - route: [{destination: {host: hello}}]\n",
            ),
        ),
        ("held.yaml", service("held", &[held.upstream.address])),
        ("service.yaml", hello(&upstream)),
    ];
    let files: Vec<(&str, &str)> = files.iter().map(|(name, text)| (*name, &**text)).collect();
    let mut gateway = Gateway::start(&files);
    let mut idle = Raw::connect(gateway.address);
    idle.send(GET);
    let response = idle.response();
    assert_eq!((response.status, response.header("connection")), (200, None));
    // One in flight keeps the drain going while the idle one sends another.
    let mut in_flight = Raw::connect(gateway.address);
    in_flight.send("GET /held HTTP/1.1\r\nHost: hello.com\r\n\r\n");
    held.wait_for_request();
    gateway.signal(libc::SIGTERM);
    wait_until_refused(&gateway);
    idle.send(GET);
    let response = idle.response();
    assert_eq!((response.status, response.header("connection")), (200, Some("close")));
    assert!(idle.is_closed());
    held.release.send(()).expect("it waits");
    assert_eq!(in_flight.response().status, 200);
    assert_eq!(gateway.wait().code(), Some(0));
}

#[test]
fn idle_connections_do_not_hold_the_drain() {
    let upstream = Upstream::start("hello");
    let mut gateway = Gateway::start_with(
        &[("hello.yaml", HELLO), ("service.yaml", &hello(&upstream))],
        &["--drain-timeout", "3s"],
    );
    let mut idle = Raw::connect(gateway.address);
    idle.send(GET);
    assert_eq!(idle.response().status, 200);
    let mut silent = Raw::connect(gateway.address);
    gateway.signal(libc::SIGTERM);
    assert!(idle.is_closed() && silent.is_closed());
    assert_eq!(gateway.wait().code(), Some(0));
    assert!(!gateway.log().contains("cut at the deadline"), "{}", gateway.log());
}

#[test]
fn the_drain_timeout_cuts_what_is_left() {
    let held = Held::start();
    let service = hello_service(&[held.upstream.address]);
    let mut gateway = Gateway::start_with(
        &[("hello.yaml", HELLO), ("service.yaml", &service)],
        &["--drain-timeout", "300ms"],
    );
    let mut stuck = Raw::connect(gateway.address);
    stuck.send(GET);
    held.wait_for_request();
    gateway.signal(libc::SIGTERM);
    let status = gateway.wait();
    assert_eq!(status.code(), Some(0), "{}", gateway.log());
    assert!(gateway.log().contains("cut at the deadline"), "{}", gateway.log());
    assert!(stuck.is_closed());
}

#[test]
fn a_second_signal_ends_at_once() {
    let held = Held::start();
    let service = hello_service(&[held.upstream.address]);
    let mut gateway = Gateway::start_with(
        &[("hello.yaml", HELLO), ("service.yaml", &service)],
        &["--drain-timeout", "1h"],
    );
    let mut stuck = Raw::connect(gateway.address);
    stuck.send(GET);
    held.wait_for_request();
    gateway.signal(libc::SIGTERM);
    gateway.wait_for_line("draining");
    gateway.signal(libc::SIGTERM);
    gateway.wait_for_line("asked to stop again");
    assert_eq!(gateway.wait().code(), Some(0));
}

#[test]
fn a_port_in_use_is_named_with_its_gateway() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
    let port = taken.local_addr().expect("bound").port();
    let manifests = HELLO.replace("number: 80", &format!("number: {port}"));
    let mut gateway = Gateway::launch(&[("hello.yaml", &manifests)], &[], |_| {});
    assert_eq!(gateway.wait().code(), Some(1));
    let line = gateway.wait_for_line("cannot listen on");
    assert!(line.contains(&format!("127.0.0.1:{port}")), "{line}");
    assert!(
        line.contains("Gateway default/hello-gateway") && line.contains("hello.yaml"),
        "{line}"
    );
}

#[test]
fn two_gateways_do_not_share_a_port_unnoticed() {
    let upstream = Upstream::start("hello");
    let service = hello(&upstream);
    let files = [("hello.yaml", HELLO), ("service.yaml", &*service)];
    let first = Gateway::start(&files);
    let manifests = HELLO.replace("number: 80", &format!("number: {}", first.address.port()));
    let mut second = Gateway::launch(&[("hello.yaml", &manifests)], &[], |_| {});
    assert_eq!(second.wait().code(), Some(1));
    second.wait_for_line("cannot listen on");
}

const BAD: &str = "\
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: misspelt}
spec:
  hosts: [a.com]
  gatewayz: [gateway]
---
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {name: wrong-type}
spec:
  servers: 5
";

#[test]
fn bad_manifests_are_all_printed_and_nothing_starts() {
    let upstream = Upstream::start("hello");
    let files = [
        ("hello.yaml", HELLO.to_owned()),
        ("service.yaml", hello(&upstream)),
        ("bad.yaml", BAD.to_owned()),
        ("no-yaml.yaml", "{".to_owned()),
    ];
    let files: Vec<(&str, &str)> = files.iter().map(|(name, text)| (*name, &**text)).collect();
    let mut gateway = Gateway::launch(&files, &[], |_| {});
    assert_eq!(gateway.wait().code(), Some(1));
    gateway.wait_for_line("--skip-invalid");
    let log = gateway.log();
    for part in ["gatewayz", "bad.yaml:6", "bad.yaml:12", "no-yaml.yaml:1", "3 error(s)"] {
        assert!(log.contains(part), "{part} is not in:\n{log}");
    }
    assert!(!log.contains("ready: "));

    let gateway = Gateway::start_with(&files, &["--skip-invalid"]);
    let mut raw = Raw::connect(gateway.address);
    raw.send(GET);
    assert_eq!(raw.response().status, 200);
    assert!(gateway.log().contains("gatewayz"));
}

#[cfg(debug_assertions)]
#[test]
fn a_worker_that_panics_takes_the_process_down_loudly() {
    const REQUESTS: usize = 16;
    let held = Held::start();
    let service = hello_service(&[held.upstream.address]);
    let mut gateway =
        Gateway::launch(&[("hello.yaml", HELLO), ("service.yaml", &service)], &[], |command| {
            command.env("RINGRESS_TEST_PANIC", "1");
        });
    gateway.wait_until_ready();
    // Enough that both workers have some.
    let mut in_flight: Vec<Raw> = (0..REQUESTS)
        .map(|_| {
            let mut raw = Raw::connect(gateway.address);
            raw.send(GET);
            held.wait_for_request();
            raw
        })
        .collect();
    gateway.signal(libc::SIGHUP);
    gateway.wait_for_line("a worker panicked");
    for _ in 0..REQUESTS {
        held.release.send(()).expect("it waits");
    }
    assert_eq!(gateway.wait().code(), Some(1), "{}", gateway.log());
    let log = gateway.log();
    assert!(log.contains("worker 0 panicked: asked to panic"), "{log}");
    assert!(log.contains("please report it"), "{log}");
    let finished = in_flight
        .iter_mut()
        .filter_map(|raw| String::from_utf8(raw.read_to_end()).ok())
        .filter(|answer| answer.starts_with("HTTP/1.1 200 OK") && answer.ends_with("held"))
        .count();
    assert!(finished > 0, "the other worker's requests are finished first:\n{log}");
}

#[test]
fn accepting_pauses_without_descriptors_and_recovers() {
    let upstream = Upstream::start("hello");
    let mut gateway = Gateway::launch(
        &[("hello.yaml", HELLO), ("service.yaml", &hello(&upstream))],
        &[],
        |command| {
            let limit = libc::rlimit { rlim_cur: 64, rlim_max: 64 };
            // SAFETY: between fork and exec only this system call is made.
            unsafe {
                command.pre_exec(move || match libc::setrlimit(libc::RLIMIT_NOFILE, &limit) {
                    0 => Ok(()),
                    _ => Err(std::io::Error::last_os_error()),
                });
            }
        },
    );
    gateway.wait_until_ready();
    // There before the flood: a later one would not be accepted either.
    let mut admin = Raw::connect(gateway.admin);
    let mut pauses = || {
        admin.send("GET /stats/prometheus HTTP/1.1\r\nHost: admin\r\n\r\n");
        let text = String::from_utf8(admin.response().body).expect("text");
        Metrics::parse(&text).sum("ringress_accept_pauses_total", &[])
    };
    assert_eq!(pauses(), 0.0);
    // More than it can have: the rest waits in the backlog, and nobody is refused.
    let flood: Vec<TcpStream> = (0..100)
        .map(|_| TcpStream::connect(gateway.address).expect("the backlog takes it"))
        .collect();
    let mut waiting = Raw::connect(gateway.address);
    waiting.send(GET);
    wait_until("accepting pauses", || pauses() > 0.0);
    drop(flood);
    assert_eq!(waiting.response().status, 200);
    let mut later = Raw::connect(gateway.address);
    later.send(GET);
    assert_eq!(later.response().status, 200);
}

/// What every driver must serve: plain, chunked, upgraded.
fn serves_the_basics(gateway: &Gateway) {
    let mut raw = Raw::connect(gateway.address);
    for _ in 0..5 {
        raw.send(GET);
        let response = raw.response();
        assert_eq!((response.status, response.body), (200, b"echo:".to_vec()));
    }
    raw.send(
        "POST / HTTP/1.1\r\nHost: hello.com\r\nTransfer-Encoding: chunked\r\n\r\n\
         5\r\nabcde\r\n3\r\nfgh\r\n0\r\n\r\n",
    );
    let response = raw.response();
    assert_eq!((response.status, response.body), (200, b"echo:abcdefgh".to_vec()));
    raw.send("GET /none HTTP/1.1\r\nHost: other.com\r\n\r\n");
    assert_eq!(raw.response().status, 404);
}

fn serves_a_tunnel(gateway: &Gateway) {
    let mut raw = Raw::connect(gateway.address);
    raw.send(
        "GET /chat HTTP/1.1\r\nHost: hello.com\r\nConnection: upgrade\r\nUpgrade: echo\r\n\r\n",
    );
    let response = raw.response_head();
    assert_eq!(response.status, 101, "{}", response.head);
    for text in ["one", "two"] {
        raw.send(text);
        assert_eq!(raw.read_exact(text.len()), text.as_bytes());
    }
}

fn echo() -> Upstream {
    Upstream::start_with("hello", |seen| {
        let body = [b"echo:", &seen.body[..]].concat();
        hyper::Response::new(http_body_util::Full::new(body.into()))
    })
}

/// Answers an upgrade and then sends back what comes.
fn echo_tunnel() -> Scripted {
    Scripted::start(|_, mut stream| {
        if read_head(&mut stream).is_none() {
            return;
        }
        let switching =
            "HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: echo\r\n\r\n";
        if stream.write_all(switching.as_bytes()).is_err() {
            return;
        }
        let mut bytes = [0; 1024];
        while let Ok(count) = stream.read(&mut bytes) {
            if count == 0 || stream.write_all(&bytes[..count]).is_err() {
                return;
            }
        }
    })
}

fn with_driver(
    arguments: &[&str],
    change: impl FnOnce(&mut std::process::Command),
) -> (Gateway, Upstream, Scripted) {
    let (upstream, tunnel) = (echo(), echo_tunnel());
    let routes = any_host(
        "  - match: [{uri: {prefix: /chat}}]\n    route: [{destination: {host: chat}}]\n  \
         - match: [{authority: {exact: hello.com}}]\n    route: [{destination: {host: hello}}]\n",
    );
    let files = [
        ("routes.yaml", routes),
        ("service.yaml", hello(&upstream)),
        ("chat.yaml", service("chat", &[tunnel.address])),
    ];
    let files: Vec<(&str, &str)> = files.iter().map(|(name, text)| (*name, &**text)).collect();
    let mut gateway = Gateway::launch(&files, arguments, change);
    gateway.wait_until_ready();
    (gateway, upstream, tunnel)
}

#[test]
fn epoll_serves_the_same() {
    let (mut gateway, _upstream, _tunnel) = with_driver(&["--driver", "epoll"], |_| {});
    assert!(gateway.log().contains("on epoll"), "{}", gateway.log());
    assert!(!gateway.log().contains("io_uring is not available"), "it was asked for");
    serves_the_basics(&gateway);
    serves_a_tunnel(&gateway);
    gateway.signal(libc::SIGTERM);
    assert_eq!(gateway.wait().code(), Some(0));
}

#[test]
fn without_io_uring_it_says_so_once_and_serves() {
    let (mut gateway, _upstream, _tunnel) = with_driver(&["--driver", "auto"], |command| {
        command.env("MONOIO_FORCE_LEGACY_DRIVER", "1");
    });
    serves_the_basics(&gateway);
    serves_a_tunnel(&gateway);
    assert_eq!(gateway.log().matches("io_uring is not available").count(), 1);
    gateway.signal(libc::SIGTERM);
    assert_eq!(gateway.wait().code(), Some(0));
}

#[test]
fn io_uring_or_nothing_is_an_error_without_it() {
    let mut gateway =
        Gateway::launch(&[("hello.yaml", HELLO)], &["--driver", "io_uring"], |command| {
            command.env("MONOIO_FORCE_LEGACY_DRIVER", "1");
        });
    assert_eq!(gateway.wait().code(), Some(1));
    gateway.wait_for_line("io_uring is refused here");
}

#[test]
fn the_access_log_is_opened_again_when_asked() {
    let upstream = Upstream::start("hello");
    let directory = tempfile::TempDir::new().expect("a directory");
    let (log, moved) = (directory.path().join("access.log"), directory.path().join("access.log.1"));
    let gateway = Gateway::start_with(
        &[("hello.yaml", HELLO), ("service.yaml", &hello(&upstream))],
        &["--access-log", &log.display().to_string(), "--access-log-format", "json"],
    );
    let ask = |path: &str, file: &Path| {
        let mut raw = Raw::connect(gateway.address);
        raw.send(format!("GET {path} HTTP/1.1\r\nHost: hello.com\r\n\r\n"));
        assert_eq!(raw.response().status, 200);
        gateway.wait_for_log(file, |line| line["path"] == path);
    };
    ask("/before", &log);
    std::fs::rename(&log, &moved).expect("renamed");
    ask("/between", &moved);
    gateway.signal(libc::SIGUSR1);
    wait_until("a new log file", || log.exists());
    ask("/after", &log);
    let old = std::fs::read_to_string(&moved).expect("there");
    assert_eq!(old.lines().count(), 2, "{old}");
}

#[test]
fn sighup_reads_the_manifests_again() {
    let upstream = Upstream::start("hello");
    let gateway = Gateway::start_with(
        &[("hello.yaml", HELLO), ("service.yaml", &hello(&upstream))],
        &["--no-watch"],
    );
    let status = || {
        let mut raw = Raw::connect(gateway.address);
        raw.send("GET / HTTP/1.1\r\nHost: new.com\r\n\r\n");
        raw.response().status
    };
    assert_eq!(status(), 404);
    gateway.write("hello.yaml", &HELLO.replace("hello.com", "new.com"));
    gateway.signal(libc::SIGHUP);
    gateway.wait_for_generation(2);
    assert_eq!(status(), 200);
}

#[test]
fn a_port_of_ours_is_free_again_after_the_end() {
    let port = free_port();
    let manifests = HELLO.replace("number: 80", &format!("number: {port}"));
    for _ in 0..2 {
        let mut gateway = Gateway::start(&[("hello.yaml", &manifests)]);
        gateway.signal(libc::SIGINT);
        assert_eq!(gateway.wait().code(), Some(0), "{}", gateway.log());
    }
}
