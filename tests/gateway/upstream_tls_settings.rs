//! The settings of a DestinationRule's TLS one by one, from manifest to handshake: revocation lists, names,
//! the authorities of the system, the certificate of a mesh, connections that hold no HTTP. And what the
//! access log says of a server that is not accepted.

use std::io::{Read, Write};
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

use crate::support::Gateway;
use crate::support::gateway::free_port;
use crate::support::manifests::{any_host, policy, service};
use crate::support::raw::exchange;
use crate::support::tls::{Authority, Pair, TlsUpstream, secret, server_config};
use crate::support::upstream::{Scripted, read_head};

const ROUTE: &str = "  - route: [{destination: {host: backend}}]\n";

/// The manifests of a route to `upstream` with this `tls` block.
fn manifests(upstream: &TlsUpstream, tls: &str, more: &[&str]) -> String {
    let route = any_host(ROUTE);
    let (backend, rule) =
        (service("backend", &[upstream.address]), policy("backend", &format!("{{tls: {tls}}}")));
    let mut all = vec![route.as_str(), &backend, &rule];
    all.extend_from_slice(more);
    all.join("---\n")
}

fn ask(gateway: &Gateway) -> String {
    exchange(gateway.address, "GET / HTTP/1.1\r\nHost: a.com\r\nConnection: close\r\n\r\n")
}

/// The manifests' answer: served, or 503 with these words in the access log.
fn expect(text: &str, refusal: Option<&str>) {
    expect_flagged(text, refusal.map(|words| ("UF", words)));
}

fn expect_flagged(text: &str, refusal: Option<(&str, &str)>) {
    let directory = tempfile::TempDir::new().expect("a directory");
    let log = directory.path().join("access.log");
    let file = log.display().to_string();
    let arguments = ["--access-log", &file, "--access-log-format", "json"];
    let gateway = Gateway::start_with(&[("all.yaml", text)], &arguments);
    let answer = ask(&gateway);
    let Some((expected, words)) = refusal else {
        assert!(answer.starts_with("HTTP/1.1 200") && answer.ends_with("backend"), "{answer}");
        return;
    };
    assert!(answer.starts_with("HTTP/1.1 503"), "{answer}");
    let line = gateway.wait_for_log(&log, |line| line["response_code"] == 503);
    let flags = line["response_flags"].as_str().expect("flags");
    assert!(flags.split(',').any(|flag| flag == expected), "{line}");
    let reason = line["upstream_transport_failure_reason"].as_str().expect("a reason");
    assert!(reason.contains(words), "{reason}");
}

/// Files of one test.
struct Files(tempfile::TempDir);

impl Files {
    fn new() -> Files {
        Files(tempfile::TempDir::new().expect("a directory"))
    }

    fn write(&self, name: &str, text: &str) -> String {
        let path = self.0.path().join(name);
        std::fs::write(&path, text).expect("written");
        path.display().to_string()
    }

    /// A folder as Istio's agent fills it.
    fn mesh(&self, pair: &Pair, root: &Authority) -> &Path {
        self.write("cert-chain.pem", &pair.certificate);
        self.write("key.pem", &pair.key);
        self.write("root-cert.pem", &root.pem());
        self.0.path()
    }
}

#[test]
fn revoked_certificates_of_servers_are_refused() {
    let authority = Authority::new();
    let pair = authority.issue(&["a.com"]);
    let upstream = TlsUpstream::start("backend", &pair, None);
    let files = Files::new();
    let ca = files.write("ca.pem", &authority.pem());
    for (list, refusal) in [
        (authority.revoke(&[&pair]), Some("is revoked")),
        (authority.revoke(&[]), None),
        // It tells nothing about this server: it is not accepted unseen.
        (Authority::new().revoke(&[]), Some("no valid revocation list tells")),
    ] {
        let list = files.write("list.pem", &list);
        let tls = format!("{{mode: SIMPLE, caCertificates: {ca}, caCrl: {list}}}");
        expect(&manifests(&upstream, &tls, &[]), refusal);
    }
}

#[test]
fn the_log_says_why_a_server_is_not_accepted() {
    let (authority, clients) = (Authority::new(), Authority::new());
    let upstream = TlsUpstream::start("backend", &authority.issue(&["a.com"]), None);
    let asking = TlsUpstream::start("backend", &authority.issue(&["a.com"]), Some(&clients));
    let ca = secret("ca", &[("ca.crt", &authority.pem())]);
    let other = secret("ca", &[("ca.crt", &clients.pem())]);
    let tls = "{mode: SIMPLE, credentialName: ca}";
    let names = "{mode: SIMPLE, credentialName: ca, subjectAltNames: [b.com, c.com]}";
    let sni = "{mode: SIMPLE, credentialName: ca, sni: b.com}";
    expect(&manifests(&upstream, tls, &[&ca]), None);
    expect(&manifests(&upstream, names, &[&ca]), Some("none of the names"));
    expect(&manifests(&upstream, sni, &[&ca]), Some("none of the names"));
    expect(&manifests(&upstream, tls, &[&other]), Some("an authority that is not trusted"));
    // It wants a certificate and gets none. In TLS 1.3 it says so when our side has shaken hands.
    let refusal = Some(("UC", "TLS alert certificate_required"));
    expect_flagged(&manifests(&asking, tls, &[&ca]), refusal);
    // In HTTP/2 the same: its streams are told what their connection heard.
    let rule = "{connectionPool: {http: {h2UpgradePolicy: UPGRADE}}, tls: {mode: SIMPLE, credentialName: ca}}";
    let text =
        [any_host(ROUTE), service("backend", &[asking.address]), policy("backend", rule), ca];
    expect_flagged(&text.join("---\n"), refusal);
}

#[test]
fn names_of_a_service_entry_are_asked_for() {
    let authority = Authority::new();
    let upstream = TlsUpstream::start("backend", &authority.issue(&["inner.com"]), None);
    let ca = secret("ca", &[("ca.crt", &authority.pem())]);
    for (names, refusal) in
        [("[inner.com, other.com]", None), ("[other.com]", Some("none of the names"))]
    {
        let entry = format!(
            "apiVersion: networking.istio.io/v1\nkind: ServiceEntry\nmetadata: {{name: entry}}\n\
             spec:\n  hosts: [backend.example.com]\n  subjectAltNames: {names}\n  resolution: STATIC\n  \
             ports: [{{number: 443, name: https, protocol: HTTPS}}]\n  \
             endpoints: [{{address: 127.0.0.1, ports: {{https: {}}}}}]\n",
            upstream.address.port()
        );
        let text = [
            any_host("  - route: [{destination: {host: backend.example.com}}]\n"),
            entry,
            policy("backend.example.com", "{tls: {mode: SIMPLE, credentialName: ca}}"),
            ca.clone(),
        ]
        .join("---\n");
        expect(&text, refusal);
    }
}

#[test]
fn without_an_authority_those_of_the_system_are_asked() {
    let authority = Authority::new();
    let upstream = TlsUpstream::start("backend", &authority.issue(&["a.com"]), None);
    let files = Files::new();
    let system = files.write("system.pem", &authority.pem());
    let strangers = files.write("strangers.pem", &Authority::new().pem());
    for (tls, file, served) in [
        ("{mode: SIMPLE}", &system, true),
        ("{mode: SIMPLE, caCertificates: system}", &system, true),
        ("{mode: SIMPLE}", &strangers, false),
    ] {
        let text = manifests(&upstream, tls, &[]);
        let mut gateway = Gateway::launch(&[("all.yaml", &text)], &[], |command| {
            command.env("SSL_CERT_FILE", file).env_remove("SSL_CERT_DIR");
        });
        gateway.wait_until_ready();
        let answer = ask(&gateway);
        assert_eq!(answer.starts_with("HTTP/1.1 200"), served, "{tls}: {answer}");
    }
}

#[test]
fn an_unverified_server_still_gets_our_certificate() {
    let clients = Authority::new();
    let upstream = TlsUpstream::start("backend", &Authority::new().issue(&["x"]), Some(&clients));
    let own = clients.issue_client("spiffe://gateway");
    let own = secret("own", &[("tls.crt", &own.certificate), ("tls.key", &own.key)]);
    let tls = "{mode: MUTUAL, credentialName: own, insecureSkipVerify: true}";
    expect(&manifests(&upstream, tls, &[&own]), None);
    assert!(upstream.shaken()[0].client_certificate);
}

#[test]
fn the_authority_can_be_in_a_secret_beside() {
    let (authority, clients) = (Authority::new(), Authority::new());
    let upstream = TlsUpstream::start("backend", &authority.issue(&["a.com"]), Some(&clients));
    let own = clients.issue_client("spiffe://gateway");
    // The one inside is not asked when there is one beside.
    let inside = clients.pem();
    let own =
        secret("own", &[("tls.crt", &own.certificate), ("tls.key", &own.key), ("ca.crt", &inside)]);
    let beside = secret("own-cacert", &[("ca.crt", &authority.pem())]);
    let tls = "{mode: MUTUAL, credentialName: own}";
    expect(&manifests(&upstream, tls, &[&own, &beside]), None);
    expect(&manifests(&upstream, tls, &[&own]), Some("an authority that is not trusted"));
}

#[test]
fn renewed_credentials_are_used_for_the_next_connections() {
    let (old, new) = (Authority::new(), Authority::new());
    let (before, after) = (Authority::new(), Authority::new());
    let upstream = TlsUpstream::start("backend", &new.issue(&["a.com"]), Some(&after));
    let credential = |servers: &Authority, clients: &Authority| {
        let own = clients.issue_client("spiffe://gateway");
        secret(
            "own",
            &[("tls.crt", &own.certificate), ("tls.key", &own.key), ("ca.crt", &servers.pem())],
        )
    };
    let text = manifests(&upstream, "{mode: MUTUAL, credentialName: own}", &[]);
    let first = credential(&old, &before);
    let files = [("all.yaml", text.as_str()), ("secret.yaml", &first)];
    // One worker: its pool is everybody's.
    let gateway = Gateway::start_with(&files, &["--workers", "1"]);
    assert!(ask(&gateway).starts_with("HTTP/1.1 503"), "its server is of another authority");
    gateway.write("secret.yaml", &credential(&new, &before));
    gateway.wait_for_generation(2);
    assert!(ask(&gateway).starts_with("HTTP/1.1 503"), "and so is the certificate that it shows");
    gateway.write("secret.yaml", &credential(&new, &after));
    gateway.wait_for_generation(3);
    for _ in 0..2 {
        let answer = ask(&gateway);
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    }
    assert_eq!(upstream.shaken().len(), 1, "it is kept");
    // Connections that are kept were made with what is no longer good: they serve no more.
    gateway.write("secret.yaml", &credential(&old, &after));
    gateway.wait_for_generation(4);
    let answer = ask(&gateway);
    assert!(answer.starts_with("HTTP/1.1 503"), "{answer}");
}

#[test]
fn connections_in_clear_text_are_not_used_where_tls_is_asked_for() {
    // It takes both, as a server in the middle of a move does.
    let authority = Authority::new();
    let config = Arc::new(server_config(&authority.issue(&["a.com"]), None));
    let upstream = Scripted::start(move |_, mut socket| {
        let mut first = [0];
        let Ok(1) = socket.peek(&mut first) else { return };
        let answer = |name: &str| format!("HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\n{name}");
        if first[0] != 22 {
            while read_head(&mut socket).is_some() {
                let _ = socket.write_all(answer("clear").as_bytes());
            }
            return;
        }
        let connection = rustls::ServerConnection::new(Arc::clone(&config)).expect("a server");
        let mut stream = rustls::StreamOwned::new(connection, socket);
        let mut head = Vec::new();
        let mut byte = [0];
        while let Ok(1) = stream.read(&mut byte) {
            head.push(byte[0]);
            if head.ends_with(b"\r\n\r\n") {
                head.clear();
                let _ = stream.write_all(answer("a TLS").as_bytes());
                let _ = stream.flush();
            }
        }
    });
    let rest = [any_host(ROUTE), service("backend", &[upstream.address])].join("---\n");
    let secret = secret("ca", &[("ca.crt", &authority.pem())]);
    let rule = |tls: &str| policy("backend", &format!("{{tls: {tls}}}"));
    let files = [
        ("all.yaml", rest.as_str()),
        ("ca.yaml", &secret),
        ("rule.yaml", &rule("{mode: DISABLE}")),
    ];
    let gateway = Gateway::start_with(&files, &["--workers", "1"]);
    for _ in 0..2 {
        assert!(ask(&gateway).ends_with("clear"));
    }
    assert_eq!(upstream.connections(), 1, "it is kept");
    gateway.write("rule.yaml", &rule("{mode: SIMPLE, credentialName: ca, sni: a.com}"));
    gateway.wait_for_generation(2);
    for _ in 0..2 {
        let answer = ask(&gateway);
        assert!(answer.ends_with("a TLS"), "{answer}");
    }
    // And back.
    gateway.write("rule.yaml", &rule("{mode: DISABLE}"));
    gateway.wait_for_generation(3);
    assert!(ask(&gateway).ends_with("clear"));
    assert_eq!(upstream.connections(), 3);
}

/// A server that is a sidecar: its certificate has no DNS name.
fn sidecar(mesh: &Authority) -> TlsUpstream {
    let uri = "spiffe://cluster.local/ns/default/sa/backend";
    let pair = mesh.issue_with(&[], |params| {
        let uri = rcgen::SanType::URI(uri.try_into().expect("ascii"));
        params.subject_alt_names.push(uri);
    });
    TlsUpstream::start("backend", &pair, Some(mesh))
}

#[test]
fn sidecars_are_called_as_the_mesh_does() {
    let mesh = Authority::new();
    let upstream = sidecar(&mesh);
    let files = Files::new();
    let own = mesh.issue_client("spiffe://cluster.local/ns/istio-system/sa/gateway");
    let folder = files.mesh(&own, &mesh).display().to_string();
    let option = ["--mesh-certificates", &folder];
    let good = "spiffe://cluster.local/ns/default/sa/backend";
    for (names, served) in [
        (String::new(), true),
        (format!(", subjectAltNames: ['{good}']"), true),
        (", subjectAltNames: ['spiffe://cluster.local/ns/default/sa/other']".to_owned(), false),
    ] {
        let text = manifests(&upstream, &format!("{{mode: ISTIO_MUTUAL{names}}}"), &[]);
        let gateway = Gateway::start_with(&[("all.yaml", &text)], &option);
        let answer = ask(&gateway);
        assert_eq!(answer.starts_with("HTTP/1.1 200"), served, "{names}: {answer}");
    }
    let shaken = &upstream.shaken()[0];
    assert!(shaken.client_certificate);
    let name = "outbound_.80_._.backend.default.svc.cluster.local";
    assert_eq!(shaken.server_name.as_deref(), Some(name));
    // A sidecar that takes clear text too knows its mesh by these names.
    assert_eq!(shaken.offered, ["istio-http/1.1", "istio", "http/1.1"]);
    let rule = "{connectionPool: {http: {h2UpgradePolicy: UPGRADE}}, tls: {mode: ISTIO_MUTUAL}}";
    let text = [any_host(ROUTE), service("backend", &[upstream.address]), policy("backend", rule)];
    let gateway = Gateway::start_with(&[("all.yaml", &text.join("---\n"))], &option);
    // This one speaks no HTTP/2: what counts is what it was offered.
    ask(&gateway);
    assert_eq!(upstream.shaken().last().expect("one").offered, ["istio-h2", "istio", "h2"]);
    // A server of another mesh.
    let text = manifests(&sidecar(&Authority::new()), "{mode: ISTIO_MUTUAL}", &[]);
    let gateway = Gateway::start_with(&[("all.yaml", &text)], &option);
    assert!(ask(&gateway).starts_with("HTTP/1.1 503"));
}

/// A TCP route on port 3306 to `backend`, whose port has this name, and this `tls` block.
fn bytes(upstream: SocketAddr, port_name: &str, tls: &str) -> String {
    let backend = service("backend", &[upstream])
        .replace("name: http, port: 80", &format!("name: {port_name}, port: 80"))
        .replace("- {name: http,", &format!("- {{name: {port_name},"));
    [
        "apiVersion: networking.istio.io/v1\nkind: Gateway\nmetadata: {name: gateway}\nspec:\n  \
         selector: {istio: ingressgateway}\n  servers:\n  \
         - {port: {number: 3306, name: db, protocol: TCP}, hosts: ['*']}\n",
        "apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {name: routes}\n\
         spec:\n  hosts: ['*']\n  gateways: [gateway]\n  tcp:\n  - route: [{destination: \
         {host: backend, port: {number: 80}}}]\n",
        &backend,
        &policy("backend", &format!("{{tls: {tls}}}")),
    ]
    .join("---\n")
}

#[test]
fn tls_around_bytes_promises_no_http() {
    let authority = Authority::new();
    let files = Files::new();
    let ca = files.write("ca.pem", &authority.pem());
    let own = authority.issue_client("spiffe://cluster.local/ns/istio-system/sa/gateway");
    let folder = files.mesh(&own, &authority).display().to_string();
    let simple = format!("{{mode: SIMPLE, caCertificates: {ca}, sni: a.com}}");
    for (port_name, tls, offered) in [
        ("tcp", simple.as_str(), &[][..]),
        // Whatever the port is said to speak, a `tcp` route passes bytes on.
        ("grpc", &simple, &[]),
        ("tcp", "{mode: ISTIO_MUTUAL}", &["istio"]),
    ] {
        let upstream = TlsUpstream::start("backend", &authority.issue(&["a.com"]), None);
        let port = free_port();
        let map = format!("--port-map=3306={port}");
        let gateway = Gateway::start_with(
            &[("all.yaml", &bytes(upstream.address, port_name, tls))],
            &[&map, "--mesh-certificates", &folder],
        );
        let address = SocketAddr::from(([127, 0, 0, 1], port));
        let answer = exchange(address, "GET / HTTP/1.1\r\nHost: a.com\r\n\r\n");
        assert!(answer.ends_with("backend"), "{port_name} {tls}: {answer}\n{}", gateway.log());
        assert_eq!(upstream.shaken()[0].offered, offered, "{port_name} {tls}");
    }
}

#[test]
fn a_server_that_ends_its_side_in_tls_is_heard() {
    // A connection of bytes whose server speaks first, and ends in order.
    let authority = Authority::new();
    let pair = authority.issue(&["a.com"]);
    let config = Arc::new(server_config(&pair, None));
    let upstream = Scripted::start(move |_, socket| {
        let connection = rustls::ServerConnection::new(Arc::clone(&config)).expect("a server");
        let mut stream = rustls::StreamOwned::new(connection, socket);
        if stream.write_all(b"welcome").is_ok() {
            stream.conn.send_close_notify();
            let _ = stream.flush();
            let _ = stream.read_to_end(&mut Vec::new());
        }
    });
    let files = Files::new();
    let ca = files.write("ca.pem", &authority.pem());
    let text = bytes(
        upstream.address,
        "tcp",
        &format!("{{mode: SIMPLE, caCertificates: {ca}, sni: a.com}}"),
    );
    let port = free_port();
    let map = format!("--port-map=3306={port}");
    let _gateway = Gateway::start_with(&[("all.yaml", &text)], &[&map]);
    let mut client = std::net::TcpStream::connect(("127.0.0.1", port)).expect("it listens");
    client.set_read_timeout(Some(std::time::Duration::from_secs(20))).expect("settable");
    let mut read = String::new();
    client.read_to_string(&mut read).expect("an orderly end");
    assert_eq!(read, "welcome");
}
