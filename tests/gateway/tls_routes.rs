//! TLS that holds no requests of ours: passed through by server name, named by a cluster, or ended here
//! before a `tcp` route.

use std::io::{Read, Write};
use std::net::SocketAddr;

use crate::support::manifests::service;
use crate::support::raw::Raw;
use crate::support::tls::{Authority, TlsUpstream, connect, get, secret_of, status};
use crate::support::upstream::Scripted;
use crate::tls::{gateway, routes, server, start};

fn tls_server(name: &str, tls: &str, hosts: &str) -> String {
    server(name, tls, hosts).replace("protocol: HTTPS", "protocol: TLS")
}

fn virtual_service(name: &str, spec: &str) -> String {
    format!(
        "apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {{name: {name}}}\n\
         spec: {spec}\n"
    )
}

#[test]
fn tls_is_passed_through_by_server_name() {
    let (one, two) = (Authority::new(), Authority::new());
    let first = TlsUpstream::start("first", &one.issue(&["a.com"]), None);
    let second = TlsUpstream::start("second", &two.issue(&["x.b.com"]), None);
    let manifests = [
        gateway("g", &tls_server("tls", "{mode: PASSTHROUGH}", "'*'")),
        virtual_service(
            "routes",
            "{hosts: ['*'], gateways: [g], tls: [\
             {match: [{sniHosts: [a.com]}], route: [{destination: {host: first}}]}, \
             {match: [{sniHosts: ['*.b.com']}], route: [{destination: {host: second}}]}]}",
        ),
        service("first", &[first.address]),
        service("second", &[second.address]),
    ];
    let (gateway, address) = start(&manifests, &[]);
    // The client sees the certificates of the servers behind: nothing was opened on the way.
    for (name, authority, answered) in [("a.com", &one, "first"), ("x.b.com", &two, "second")] {
        let mut client = connect(address, name, &authority.client(None, &[])).expect("TLS");
        for _ in 0..2 {
            let answer = get(&mut client, name, "/").expect("an answer");
            assert!(answer.ends_with(answered), "{answer}");
        }
    }
    assert_eq!(first.shaken()[0].server_name.as_deref(), Some("a.com"));
    assert!(connect(address, "c.com", &one.client(None, &[])).is_err(), "nobody has this name");
    gateway.wait_for_metrics("both connections", |metrics| {
        metrics.sum("istio_tcp_connections_closed_total", &[]) == 2.0
            && metrics.sum("istio_tcp_received_bytes_total", &[]) > 100.0
    });
}

#[test]
fn passed_through_and_ended_share_a_port() {
    let authority = Authority::new();
    let passed = TlsUpstream::start("passed", &authority.issue(&["b.com"]), None);
    let upstream = crate::support::Upstream::start("ended");
    let servers = server("ended", "{mode: SIMPLE, credentialName: cert}", "a.com")
        + &tls_server("passed", "{mode: PASSTHROUGH}", "b.com");
    let manifests = [
        gateway("g", &servers),
        routes("a", "a.com", "g", "ended"),
        virtual_service(
            "b",
            "{hosts: [b.com], gateways: [g], tls: [{match: [{sniHosts: [b.com]}], \
             route: [{destination: {host: passed}}]}]}",
        ),
        service("ended", &[upstream.address]),
        service("passed", &[passed.address]),
        secret_of("cert", &authority.issue(&["a.com"])),
    ];
    let (_gateway, address) = start(&manifests, &[]);
    let config = authority.client(None, &[]);
    for (name, answered) in [("a.com", "ended"), ("b.com", "passed")] {
        let mut client = connect(address, name, &config).expect("TLS");
        let answer = get(&mut client, name, "/").expect("an answer");
        assert_eq!(status(&answer), 200);
        assert!(answer.contains(answered), "{name}: {answer}");
    }
}

/// A server whose TLS ends here, and what is in it goes on to an upstream as bytes.
fn bytes_in_tls(upstream: SocketAddr, authority: &Authority) -> [String; 4] {
    [
        gateway("g", &tls_server("tls", "{mode: SIMPLE, credentialName: cert}", "a.com")),
        virtual_service(
            "bytes",
            "{hosts: [a.com], gateways: [g], tcp: [{route: [{destination: {host: echo}}]}]}",
        ),
        service("echo", &[upstream]),
        secret_of("cert", &authority.issue(&["a.com"])),
    ]
}

#[test]
fn tls_that_ends_here_goes_on_as_bytes() {
    let upstream = Scripted::start(|_, mut stream| {
        let mut bytes = [0; 64];
        while let Ok(count) = stream.read(&mut bytes) {
            if count == 0 || stream.write_all(&bytes[..count]).is_err() {
                break;
            }
        }
    });
    let authority = Authority::new();
    let (_gateway, address) = start(&bytes_in_tls(upstream.address, &authority), &[]);
    let mut client = connect(address, "a.com", &authority.client(None, &[])).expect("TLS");
    assert_eq!(client.conn.alpn_protocol(), None, "it is not HTTP");
    for text in ["neither HTTP", "nor anything else"] {
        client.write_all(text.as_bytes()).expect("sent");
        let mut back = vec![0; text.len()];
        client.read_exact(&mut back).expect("an echo");
        assert_eq!(back, text.as_bytes());
    }
}

#[test]
fn an_end_without_a_word_of_tls_is_passed_on_as_an_end() {
    // It tells what it got before the end, or that the connection was reset.
    let upstream = Scripted::start(|_, mut stream| {
        let mut received = Vec::new();
        let outcome = stream.read_to_end(&mut received);
        let text = String::from_utf8_lossy(&received).into_owned();
        // The client may be gone.
        let _ = stream.write_all(format!("{text} {}", outcome.is_ok()).as_bytes());
    });
    let authority = Authority::new();
    let (_gateway, address) = start(&bytes_in_tls(upstream.address, &authority), &[]);
    let mut client = connect(address, "a.com", &authority.client(None, &[])).expect("TLS");
    client.write_all(b"goodbye").expect("sent");
    client.flush().expect("sent");
    // The socket ends; no close_notify was sent.
    client.sock.shutdown(std::net::Shutdown::Write).expect("open");
    let mut answer = String::new();
    client.read_to_string(&mut answer).expect("an orderly end");
    assert_eq!(answer, "goodbye true");
}

#[test]
fn sidecars_name_the_cluster() {
    let authority = Authority::new();
    let name = "outbound_.80_._.hello.default.svc.cluster.local";
    let meshed = TlsUpstream::start("meshed", &authority.issue(&[name]), None);
    let manifests = [
        gateway("g", &tls_server("tls", "{mode: AUTO_PASSTHROUGH}", "'*.local'")),
        service("hello", &[meshed.address]),
    ];
    let (_gateway, address) = start(&manifests, &[]);
    let mut client = connect(address, name, &authority.client(None, &["istio"])).expect("TLS");
    assert!(get(&mut client, "hello", "/").expect("an answer").ends_with("meshed"));
    assert!(connect(address, name, &authority.client(None, &["http/1.1"])).is_err(), "no sidecar");
    let unknown = "outbound_.81_._.hello.default.svc.cluster.local";
    assert!(connect(address, unknown, &authority.client(None, &["istio"])).is_err());
}

#[test]
fn a_client_without_a_server_name_is_served_by_a_star_only() {
    let authority = Authority::new();
    let upstream = crate::support::Upstream::start("any");
    let all = [
        gateway("g", &server("https", "{mode: SIMPLE, credentialName: cert}", "'*'")),
        routes("all", "'*'", "g", "any"),
        service("any", &[upstream.address]),
        secret_of("cert", &authority.issue(&["127.0.0.1"])),
    ];
    let (_gateway, address) = start(&all, &[]);
    // The name of an address is not sent.
    let mut client = connect(address, "127.0.0.1", &authority.client(None, &[])).expect("TLS");
    assert_eq!(status(&get(&mut client, "any.com", "/").expect("an answer")), 200);
    let named = [
        gateway("g", &server("https", "{mode: SIMPLE, credentialName: cert}", "a.com")),
        routes("all", "a.com", "g", "any"),
        service("any", &[upstream.address]),
        secret_of("cert", &authority.issue(&["127.0.0.1", "a.com"])),
    ];
    let (_gateway, address) = start(&named, &[]);
    assert!(connect(address, "127.0.0.1", &authority.client(None, &[])).is_err());
}

#[test]
fn a_slow_hello_is_read_whole() {
    let authority = Authority::new();
    let upstream = TlsUpstream::start("slow", &authority.issue(&["a.com"]), None);
    let manifests = [
        gateway("g", &tls_server("tls", "{mode: PASSTHROUGH}", "'*'")),
        virtual_service(
            "routes",
            "{hosts: ['*'], gateways: [g], tls: [{match: [{sniHosts: [a.com]}], \
             route: [{destination: {host: slow}}]}]}",
        ),
        service("slow", &[upstream.address]),
    ];
    let (_gateway, address) = start(&manifests, &[]);
    let config = authority.client(None, &[]);
    let name = rustls::pki_types::ServerName::try_from("a.com").expect("a name");
    let mut client = rustls::ClientConnection::new(config, name).expect("a client");
    let mut hello = Vec::new();
    client.write_tls(&mut hello).expect("a hello");
    let mut raw = Raw::connect(address);
    for piece in hello.chunks(7) {
        raw.send(piece);
        std::thread::sleep(std::time::Duration::from_millis(1));
    }
    // A handshake record of the server behind.
    assert_eq!(raw.read_exact(1), [22]);
}
