//! TLS of clients: modes, server names, certificates from Secrets and files, renewal, and what the upstream
//! is told of a client's certificate.

use std::io::{Read, Write};
use std::net::SocketAddr;

use crate::support::gateway::{free_port, wait_until};
use crate::support::manifests::service;
use crate::support::tls::{Authority, connect, get, secret, secret_of, status};
use crate::support::{Gateway, Upstream};

/// A server of port 443.
pub fn server(name: &str, tls: &str, hosts: &str) -> String {
    format!(
        "  - port: {{number: 443, name: {name}, protocol: HTTPS}}\n    tls: {tls}\n    hosts: [{hosts}]\n"
    )
}

pub fn gateway(name: &str, servers: &str) -> String {
    format!(
        "apiVersion: networking.istio.io/v1\nkind: Gateway\nmetadata: {{name: {name}}}\nspec:\n  \
         selector: {{istio: ingressgateway}}\n  servers:\n{servers}"
    )
}

/// Hosts that go to the Service `to`.
pub fn routes(name: &str, hosts: &str, gateways: &str, to: &str) -> String {
    format!(
        "apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {{name: {name}}}\nspec:\n  \
         hosts: [{hosts}]\n  gateways: [{gateways}]\n  http:\n  - route: [{{destination: {{host: {to}}}}}]\n"
    )
}

/// The manifests of `a.com` in TLS before `upstream`, with a certificate of `authority`.
pub fn simple(upstream: &Upstream, authority: &Authority) -> [String; 4] {
    [
        gateway("g", &server("https", "{mode: SIMPLE, credentialName: cert}", "a.com")),
        routes("a", "a.com", "g", "hello"),
        service("hello", &[upstream.address]),
        secret_of("cert", &authority.issue(&["a.com"])),
    ]
}

/// A gateway whose port 443 is at the address that comes with it.
pub fn start(manifests: &[String], arguments: &[&str]) -> (Gateway, SocketAddr) {
    let port = free_port();
    let mapped = format!("--port-map=443={port}");
    let mut all = vec![mapped.as_str()];
    all.extend_from_slice(arguments);
    let text = manifests.join("---\n");
    let gateway = Gateway::start_with(&[("all.yaml", &text)], &all);
    (gateway, SocketAddr::from(([127, 0, 0, 1], port)))
}

#[test]
fn requests_in_tls_are_served() {
    let upstream = Upstream::start("hello");
    let authority = Authority::new();
    let manifests = simple(&upstream, &authority);
    let (gateway, address) = start(&manifests, &["--access-log", "-"]);
    let mut client =
        connect(address, "a.com", &authority.client(None, &["http/1.1"])).expect("TLS");
    assert_eq!(client.conn.alpn_protocol(), Some(&b"http/1.1"[..]));
    for _ in 0..3 {
        let answer = get(&mut client, "a.com", "/x").expect("an answer");
        assert_eq!(status(&answer), 200, "{answer}");
    }
    let seen = upstream.last();
    assert_eq!(seen.header("x-forwarded-proto"), Some("https"));
    assert_eq!(seen.header("x-forwarded-client-cert"), None);
    gateway.wait_for_metrics("a handshake", |metrics| {
        metrics.sum("ringress_downstream_tls_handshakes_total", &[]) == 1.0
    });
    wait_until("the server name in the access log", || gateway.log().contains(" a.com "));
}

#[test]
fn big_bodies_go_both_ways() {
    let upstream = Upstream::echo();
    let authority = Authority::new();
    let manifests = simple(&upstream, &authority);
    let (_gateway, address) = start(&manifests, &[]);
    let mut client = connect(address, "a.com", &authority.client(None, &[])).expect("TLS");
    let body = crate::support::pattern(5 * 1024 * 1024);
    write!(client, "POST / HTTP/1.1\r\nHost: a.com\r\nContent-Length: {}\r\n\r\n", body.len())
        .expect("sent");
    // The echo begins when it has all of it: nothing can block on the other direction.
    client.write_all(&body).expect("sent");
    client.flush().expect("sent");
    let mut read = Vec::new();
    let mut byte = [0];
    while !read.ends_with(b"\r\n\r\n") {
        assert_eq!(client.read(&mut byte).expect("a head"), 1);
        read.push(byte[0]);
    }
    let mut echoed = vec![0; body.len()];
    client.read_exact(&mut echoed).expect("a body");
    assert!(echoed == body, "it came back as it was");
}

#[test]
fn the_most_exact_server_name_wins_and_unknown_ones_are_closed() {
    let (exact, wild) = (Upstream::start("exact"), Upstream::start("wild"));
    let authority = Authority::new();
    let manifests = [
        gateway("wild", &server("wild", "{mode: SIMPLE, credentialName: wild}", "'*.a.com'")),
        gateway("exact", &server("exact", "{mode: SIMPLE, credentialName: exact}", "b.a.com")),
        routes("wild", "'*.a.com'", "wild", "wild"),
        routes("exact", "b.a.com", "exact", "exact"),
        service("wild", &[wild.address]),
        service("exact", &[exact.address]),
        secret_of("wild", &authority.issue(&["*.a.com"])),
        secret_of("exact", &authority.issue(&["b.a.com"])),
    ];
    let (gateway, address) = start(&manifests, &[]);
    let config = authority.client(None, &[]);
    for (name, answered) in [("b.a.com", "exact"), ("c.a.com", "wild"), ("B.A.com", "exact")] {
        let mut client = connect(address, name, &config).expect("TLS");
        let answer = get(&mut client, name, "/").expect("an answer");
        assert!(answer.contains(answered), "{name}: {answer}");
    }
    assert!(connect(address, "d.com", &config).is_err());
    gateway.wait_for_metrics("an unknown name", |metrics| {
        let reason = [("reason", "no_server")];
        metrics.sum("ringress_downstream_tls_failures_total", &reason) == 1.0
    });
}

#[test]
fn a_host_of_another_server_is_misdirected_and_of_none_unknown() {
    let upstream = Upstream::start("hello");
    let authority = Authority::new();
    let manifests = [
        gateway("one", &server("one", "{mode: SIMPLE, credentialName: cert}", "a.com")),
        gateway("two", &server("two", "{mode: SIMPLE, credentialName: cert}", "b.com")),
        routes("a", "a.com", "one", "hello"),
        routes("b", "b.com", "two", "hello"),
        service("hello", &[upstream.address]),
        secret_of("cert", &authority.issue(&["a.com", "b.com"])),
    ];
    let (_gateway, address) = start(&manifests, &[]);
    let mut client = connect(address, "a.com", &authority.client(None, &[])).expect("TLS");
    for (host, expected) in [("a.com", 200), ("b.com", 421), ("c.com", 404), ("a.com:443", 200)] {
        let answer = get(&mut client, host, "/").expect("an answer");
        assert_eq!(status(&answer), expected, "{host}: {answer}");
    }
}

#[test]
fn client_certificates_are_asked_for_and_told() {
    let upstream = Upstream::start("hello");
    let (authority, stranger) = (Authority::new(), Authority::new());
    let pair = authority.issue(&["a.com", "b.com", "c.com"]);
    let with_ca = secret(
        "cert",
        &[("tls.crt", &pair.certificate), ("tls.key", &pair.key), ("ca.crt", &authority.pem())],
    );
    let named = "{mode: MUTUAL, credentialName: cert, subjectAltNames: ['spiffe://mesh/good']}";
    let servers = server("mutual", "{mode: MUTUAL, credentialName: cert}", "a.com")
        + &server("optional", "{mode: OPTIONAL_MUTUAL, credentialName: cert}", "b.com")
        + &server("named", named, "c.com");
    let manifests = [
        gateway("g", &servers),
        routes("all", "a.com, b.com, c.com", "g", "hello"),
        service("hello", &[upstream.address]),
        with_ca,
    ];
    let (gateway, address) = start(&manifests, &[]);
    let good = authority.issue_client("spiffe://mesh/good");
    let other = authority.issue_client("spiffe://mesh/other");
    let untrusted = stranger.issue_client("spiffe://mesh/good");
    // A client of TLS 1.3 learns what the server thinks of its certificate with the first answer.
    let served = |host: &str, pair| {
        let mut client = connect(address, host, &authority.client(pair, &[]))?;
        get(&mut client, host, "/")
    };
    for (host, pair, allowed) in [
        ("a.com", Some(&good), true),
        ("a.com", Some(&untrusted), false),
        ("a.com", None, false),
        ("b.com", Some(&other), true),
        ("b.com", Some(&untrusted), false),
        ("b.com", None, true),
        ("c.com", Some(&good), true),
        ("c.com", Some(&other), false),
    ] {
        let answer = served(host, pair);
        let got = answer.as_ref().is_ok_and(|answer| status(answer) == 200);
        assert_eq!(got, allowed, "{host} {}: {answer:?}", pair.is_some());
        if allowed {
            let seen = upstream.last();
            let told = seen.header("x-forwarded-client-cert");
            assert_eq!(told.is_some(), pair.is_some(), "{host}");
            if let Some(told) = told {
                assert!(
                    told.starts_with("Hash=") && told.contains(";URI=spiffe://mesh/"),
                    "{told}"
                );
                assert!(told.contains(";DNS=client.example.com"), "{told}");
            }
        }
    }
    gateway.wait_for_metrics("refusals", |metrics| {
        let reason = [("reason", "client_certificate")];
        metrics.sum("ringress_downstream_tls_failures_total", &reason) == 4.0
    });
    // What a client says of itself is not passed on.
    let mut client = connect(address, "b.com", &authority.client(None, &[])).expect("TLS");
    write!(client, "GET / HTTP/1.1\r\nHost: b.com\r\nX-Forwarded-Client-Cert: forged\r\n\r\n")
        .expect("sent");
    let mut byte = [0];
    assert_eq!(client.read(&mut byte).expect("an answer"), 1);
    assert_eq!(upstream.last().header("x-forwarded-client-cert"), None);
}

#[test]
fn a_renewed_certificate_is_live_and_a_bad_one_changes_nothing() {
    let upstream = Upstream::start("hello");
    let (old, new) = (Authority::new(), Authority::new());
    let rest = [
        gateway("g", &server("https", "{mode: SIMPLE, credentialName: cert}", "a.com")),
        routes("a", "a.com", "g", "hello"),
        service("hello", &[upstream.address]),
    ]
    .join("---\n");
    let port = free_port();
    let first = secret_of("cert", &old.issue(&["a.com"]));
    let gateway = Gateway::start_with(
        &[("all.yaml", &rest), ("secret.yaml", &first)],
        &[&format!("--port-map=443={port}")],
    );
    let address = SocketAddr::from(([127, 0, 0, 1], port));
    let mut kept = connect(address, "a.com", &old.client(None, &[])).expect("TLS");
    assert_eq!(status(&get(&mut kept, "a.com", "/").expect("an answer")), 200);
    // A key that is another's: what is in force stays, and the log says so.
    let mixed = secret(
        "cert",
        &[("tls.crt", &new.issue(&["a.com"]).certificate), ("tls.key", &new.issue(&["a.com"]).key)],
    );
    gateway.write("secret.yaml", &mixed);
    wait_until("the log tells of the bad Secret", || gateway.log().contains("does not belong"));
    assert!(connect(address, "a.com", &old.client(None, &[])).is_ok(), "the old one is served");
    gateway.write("secret.yaml", &secret_of("cert", &new.issue(&["a.com"])));
    wait_until("the new certificate", || connect(address, "a.com", &new.client(None, &[])).is_ok());
    assert!(connect(address, "a.com", &old.client(None, &[])).is_err(), "the old one is gone");
    assert_eq!(status(&get(&mut kept, "a.com", "/").expect("the connection stayed")), 200);
}

#[test]
fn a_server_that_is_renamed_goes_on_with_its_connections() {
    let (one, two) = (Upstream::start("one"), Upstream::start("two"));
    let authority = Authority::new();
    let pair = authority.issue(&["a.com", "b.com"]);
    let credential = secret(
        "cert",
        &[("tls.crt", &pair.certificate), ("tls.key", &pair.key), ("ca.crt", &authority.pem())],
    );
    let text = |name: &str, mode: &str, hosts: &str, to: &Upstream| {
        let servers = server(name, &format!("{{mode: {mode}, credentialName: cert}}"), hosts)
            + &server("other", "{mode: SIMPLE, credentialName: cert}", "c.com");
        [
            gateway(name, &servers),
            routes("all", hosts, name, "hello"),
            service("hello", &[to.address]),
            credential.clone(),
        ]
        .join("---\n")
    };
    let (gateway, address) = start(&[text("first", "SIMPLE", "a.com, b.com", &one)], &[]);
    let mut client = connect(address, "a.com", &authority.client(None, &[])).expect("TLS");
    let mut answer = |said: &str| {
        let answer = get(&mut client, "a.com", "/").expect("the connection stayed");
        assert_eq!(status(&answer), 200, "{answer}");
        assert!(answer.ends_with(said), "{answer}");
    };
    answer("one");
    for (name, hosts, to, said) in
        [("second", "b.com, a.com", &two, "two"), ("third", "a.com, b.com", &one, "one")]
    {
        let generation = gateway.generation();
        gateway.write("all.yaml", &text(name, "SIMPLE", hosts, to));
        gateway.wait_for_generation(generation + 1);
        answer(said);
    }
    // One that asks for certificates is another server: who came without must come again.
    let generation = gateway.generation();
    gateway.write("all.yaml", &text("fourth", "MUTUAL", "a.com, b.com", &one));
    gateway.wait_for_generation(generation + 1);
    let refused = get(&mut client, "a.com", "/").expect("the connection stayed");
    assert_eq!(status(&refused), 421, "{refused}");
}

#[test]
fn certificates_in_files_are_followed() {
    let upstream = Upstream::start("hello");
    let (old, new) = (Authority::new(), Authority::new());
    let directory = tempfile::TempDir::new().expect("a directory");
    let (chain, key) = (directory.path().join("chain.pem"), directory.path().join("key.pem"));
    let write = |authority: &Authority| {
        let pair = authority.issue(&["a.com"]);
        std::fs::write(&chain, pair.certificate).expect("written");
        std::fs::write(&key, pair.key).expect("written");
    };
    write(&old);
    let tls = format!(
        "{{mode: SIMPLE, serverCertificate: {}, privateKey: {}}}",
        chain.display(),
        key.display()
    );
    let manifests = [
        gateway("g", &server("https", &tls, "a.com")),
        routes("a", "a.com", "g", "hello"),
        service("hello", &[upstream.address]),
    ];
    let (_gateway, address) = start(&manifests, &[]);
    let mut kept = connect(address, "a.com", &old.client(None, &[])).expect("TLS");
    write(&new);
    wait_until("the new certificate", || connect(address, "a.com", &new.client(None, &[])).is_ok());
    // One that is gone keeps what was read.
    std::fs::remove_file(&chain).expect("removed");
    std::thread::sleep(std::time::Duration::from_millis(500));
    assert!(connect(address, "a.com", &new.client(None, &[])).is_ok());
    assert_eq!(status(&get(&mut kept, "a.com", "/").expect("the connection stayed")), 200);
}

#[test]
fn a_server_without_its_secret_heals_when_it_comes() {
    let upstream = Upstream::start("hello");
    let authority = Authority::new();
    let servers = server("one", "{mode: SIMPLE, credentialName: there}", "a.com")
        + &server("two", "{mode: SIMPLE, credentialName: missing}", "b.com");
    let manifests = [
        gateway("g", &servers),
        routes("all", "a.com, b.com", "g", "hello"),
        service("hello", &[upstream.address]),
        secret_of("there", &authority.issue(&["a.com"])),
    ];
    let (gateway, address) = start(&manifests, &[]);
    let config = authority.client(None, &[]);
    assert!(connect(address, "b.com", &config).is_err());
    assert!(connect(address, "a.com", &config).is_ok(), "the other server is not touched");
    gateway.wait_for_metrics("the missing certificate", |metrics| {
        let reason = [("reason", "no_server_certificate")];
        metrics.sum("ringress_downstream_tls_failures_total", &reason) == 1.0
    });
    gateway.write("missing.yaml", &secret_of("missing", &authority.issue(&["b.com"])));
    wait_until("the other server", || connect(address, "b.com", &config).is_ok());
}

#[test]
fn sessions_are_resumed_on_any_worker_but_not_at_another_server() {
    let upstream = Upstream::start("hello");
    let authority = Authority::new();
    let servers = server("one", "{mode: SIMPLE, credentialName: cert}", "a.com")
        + &server("two", "{mode: SIMPLE, credentialName: cert}", "b.com");
    let manifests = [
        gateway("g", &servers),
        routes("all", "a.com, b.com", "g", "hello"),
        service("hello", &[upstream.address]),
        secret_of("cert", &authority.issue(&["a.com", "b.com"])),
    ];
    let (gateway, address) = start(&manifests, &[]);
    let config = authority.client(None, &[]);
    // Which worker gets a connection is the kernel's choice: of twelve, each has some.
    for _ in 0..12 {
        let mut client = connect(address, "a.com", &config).expect("TLS");
        assert_eq!(status(&get(&mut client, "a.com", "/").expect("an answer")), 200);
    }
    gateway.wait_for_metrics("resumed sessions", |metrics| {
        metrics.sum("ringress_downstream_tls_handshakes_total", &[]) == 12.0
            && metrics.sum("ringress_downstream_tls_resumptions_total", &[]) == 11.0
    });
}

#[test]
fn what_is_no_tls_is_closed() {
    let upstream = Upstream::start("hello");
    let authority = Authority::new();
    let manifests = simple(&upstream, &authority);
    let (gateway, address) = start(&manifests, &[]);
    let mut raw = crate::support::raw::Raw::connect(address);
    raw.send("GET / HTTP/1.1\r\nHost: a.com\r\n\r\n");
    assert!(raw.is_closed());
    gateway.wait_for_metrics("no TLS", |metrics| {
        metrics.sum("ringress_downstream_tls_failures_total", &[("reason", "not_tls")]) == 1.0
    });
}

#[test]
fn a_server_that_is_to_ask_for_certificates_never_goes_on_without() {
    let upstream = Upstream::start("hello");
    let authority = Authority::new();
    let rest = [
        routes("a", "a.com", "g", "hello"),
        service("hello", &[upstream.address]),
        secret_of("cert", &authority.issue(&["a.com"])),
    ]
    .join("---\n");
    let of = |mode: &str| {
        gateway("g", &server("https", &format!("{{mode: {mode}, credentialName: cert}}"), "a.com"))
    };
    let port = free_port();
    let gateway = Gateway::start_with(
        &[("all.yaml", &rest), ("gateway.yaml", &of("SIMPLE"))],
        &[&format!("--port-map=443={port}")],
    );
    let address = SocketAddr::from(([127, 0, 0, 1], port));
    let config = authority.client(None, &[]);
    assert!(connect(address, "a.com", &config).is_ok());
    // There is no CA to check clients with.
    gateway.write("gateway.yaml", &of("MUTUAL"));
    gateway.wait_for_generation(2);
    assert!(connect(address, "a.com", &config).is_err());
    gateway.write("gateway.yaml", &of("SIMPLE"));
    gateway.wait_for_generation(3);
    assert!(connect(address, "a.com", &config).is_ok());
    // The same demand without its Secret is met by what was read.
    gateway.write(
        "all.yaml",
        &[routes("a", "a.com", "g", "hello"), service("hello", &[upstream.address])].join("---\n"),
    );
    gateway.wait_for_generation(4);
    assert!(connect(address, "a.com", &config).is_ok());
    wait_until("it is told", || gateway.log().contains("the last good certificate is served"));
}

#[test]
fn a_wildcard_server_does_not_open_the_door_of_a_stricter_one() {
    let (public, secret_one) = (Upstream::start("public"), Upstream::start("secret"));
    let authority = Authority::new();
    let pair = authority.issue(&["*.a.com"]);
    let with_ca = secret(
        "strict",
        &[("tls.crt", &pair.certificate), ("tls.key", &pair.key), ("ca.crt", &authority.pem())],
    );
    let manifests = [
        gateway("wide", &server("wide", "{mode: SIMPLE, credentialName: wide}", "'*.a.com'")),
        gateway(
            "strict",
            &server("strict", "{mode: MUTUAL, credentialName: strict}", "admin.a.com"),
        ),
        routes("public", "'*.a.com'", "wide", "public"),
        routes("admin", "admin.a.com", "wide, strict", "secret"),
        service("public", &[public.address]),
        service("secret", &[secret_one.address]),
        secret_of("wide", &pair),
        with_ca,
    ];
    let (_gateway, address) = start(&manifests, &[]);
    let mut client = connect(address, "www.a.com", &authority.client(None, &[])).expect("TLS");
    for (host, expected) in [("www.a.com", 200), ("admin.a.com", 421), ("Admin.A.com:443", 421)] {
        let answer = get(&mut client, host, "/").expect("an answer");
        assert_eq!(status(&answer), expected, "{host}: {answer}");
    }
    assert_eq!(secret_one.seen().len(), 0);
    let own = authority.issue_client("spiffe://mesh/admin");
    let config = authority.client(Some(&own), &[]);
    let mut client = connect(address, "admin.a.com", &config).expect("TLS");
    assert_eq!(status(&get(&mut client, "admin.a.com", "/").expect("an answer")), 200);
    // And the other way round.
    assert_eq!(status(&get(&mut client, "www.a.com", "/").expect("an answer")), 421);
}
