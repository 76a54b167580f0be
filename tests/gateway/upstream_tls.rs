//! TLS to upstreams, as DestinationRules ask for it.

use crate::support::Gateway;
use crate::support::gateway::wait_until;
use crate::support::manifests::{any_host, policy, service};
use crate::support::raw::{Raw, exchange};
use crate::support::tls::{Authority, Shaken, TlsUpstream, secret};

const ROUTE: &str = "  - route: [{destination: {host: backend}}]\n";

fn ask(gateway: &Gateway, host: &str) -> String {
    exchange(
        gateway.address,
        format!("GET / HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n"),
    )
}

/// A gateway before `upstream`, whose DestinationRule has this `tls` block.
fn start(upstream: &TlsUpstream, tls: &str, more: &[&str]) -> Gateway {
    let mut text = [any_host(ROUTE), service("backend", &[upstream.address])].join("---\n");
    text += "---\n";
    text += &policy("backend", &format!("{{tls: {tls}}}"));
    for more in more {
        text += "---\n";
        text += more;
    }
    Gateway::start(&[("all.yaml", &text)])
}

#[test]
fn servers_are_verified_by_the_host_that_is_asked_for() {
    let authority = Authority::new();
    let upstream = TlsUpstream::start("backend", &authority.issue(&["a.com", "b.com"]), None);
    let ca = secret("ca", &[("ca.crt", &authority.pem())]);
    let gateway = start(&upstream, "{mode: SIMPLE, credentialName: ca}", &[&ca]);
    for host in ["a.com", "b.com:80", "A.com"] {
        let answer = ask(&gateway, host);
        assert!(answer.starts_with("HTTP/1.1 200") && answer.ends_with("backend"), "{answer}");
    }
    let names: Vec<_> = upstream.shaken().into_iter().map(|shaken| shaken.server_name).collect();
    for name in ["a.com", "b.com"] {
        assert!(names.contains(&Some(name.to_owned())), "{names:?}");
    }
    assert!(upstream.shaken().iter().all(|shaken| shaken.protocol.as_deref() == Some("http/1.1")));
    let answer = ask(&gateway, "c.com");
    assert!(answer.starts_with("HTTP/1.1 503"), "its name is not in the certificate: {answer}");
    gateway.wait_for_metrics("a failed connection", |metrics| {
        metrics.sum("istio_requests_total", &[("response_flags", "UF,URX")])
            + metrics.sum("istio_requests_total", &[("response_flags", "URX,UF")])
            >= 1.0
    });
}

#[test]
fn connections_are_kept_for_the_host_that_they_were_made_for() {
    let authority = Authority::new();
    let upstream = TlsUpstream::start("backend", &authority.issue(&["a.com", "b.com"]), None);
    let ca = secret("ca", &[("ca.crt", &authority.pem())]);
    let text = [
        any_host(ROUTE),
        service("backend", &[upstream.address]),
        policy("backend", "{tls: {mode: SIMPLE, credentialName: ca}}"),
        ca,
    ]
    .join("---\n");
    let gateway = Gateway::start_with(&[("all.yaml", &text)], &["--workers", "1"]);
    let mut raw = Raw::connect(gateway.address);
    for host in ["a.com", "b.com", "a.com", "b.com", "a.com"] {
        raw.send(format!("GET / HTTP/1.1\r\nHost: {host}\r\n\r\n"));
        assert_eq!(raw.response().status, 200, "{host}");
    }
    let shaken = upstream.shaken();
    assert_eq!(shaken.len(), 2, "one for each host: {shaken:?}");
}

#[test]
fn the_name_and_the_names_to_accept_can_be_given() {
    let authority = Authority::new();
    let upstream = TlsUpstream::start("backend", &authority.issue(&["inner.com"]), None);
    let ca = secret("ca", &[("ca.crt", &authority.pem())]);
    for (tls, served) in [
        ("{mode: SIMPLE, credentialName: ca, sni: inner.com}", true),
        ("{mode: SIMPLE, credentialName: ca, sni: other.com}", false),
        ("{mode: SIMPLE, credentialName: ca, sni: x.com, subjectAltNames: [inner.com]}", true),
        ("{mode: SIMPLE, credentialName: ca, sni: inner.com, subjectAltNames: [y.com]}", false),
        ("{mode: SIMPLE, sni: inner.com}", false),
        ("{mode: SIMPLE, sni: inner.com, insecureSkipVerify: true}", true),
        ("{mode: DISABLE}", false),
    ] {
        let gateway = start(&upstream, tls, &[&ca]);
        let answer = ask(&gateway, "a.com");
        assert_eq!(answer.starts_with("HTTP/1.1 200"), served, "{tls}: {answer}");
    }
}

#[test]
fn our_certificate_is_shown_where_it_is_asked_for() {
    let authority = Authority::new();
    let clients = Authority::new();
    let upstream = TlsUpstream::start("backend", &authority.issue(&["a.com"]), Some(&clients));
    let own = clients.issue_client("spiffe://cluster.local/ns/istio-system/sa/gateway");
    let with = secret(
        "own",
        &[("tls.crt", &own.certificate), ("tls.key", &own.key), ("ca.crt", &authority.pem())],
    );
    let gateway = start(&upstream, "{mode: MUTUAL, credentialName: own}", &[&with]);
    assert!(ask(&gateway, "a.com").starts_with("HTTP/1.1 200"));
    assert!(upstream.shaken()[0].client_certificate);
    let ca = secret("ca", &[("ca.crt", &authority.pem())]);
    let gateway = start(&upstream, "{mode: SIMPLE, credentialName: ca}", &[&ca]);
    assert!(ask(&gateway, "a.com").starts_with("HTTP/1.1 503"), "without it there is no service");
}

#[test]
fn files_name_the_authorities_and_our_certificate() {
    let authority = Authority::new();
    let upstream = TlsUpstream::start("backend", &authority.issue(&["a.com"]), Some(&authority));
    let own = authority.issue_client("spiffe://own");
    let directory = tempfile::TempDir::new().expect("a directory");
    let file = |name: &str, text: &str| {
        let path = directory.path().join(name);
        std::fs::write(&path, text).expect("written");
        path.display().to_string()
    };
    let tls = format!(
        "{{mode: MUTUAL, caCertificates: {}, clientCertificate: {}, privateKey: {}}}",
        file("ca.pem", &authority.pem()),
        file("own.pem", &own.certificate),
        file("own.key", &own.key),
    );
    let gateway = start(&upstream, &tls, &[]);
    let answer = ask(&gateway, "a.com");
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
}

#[test]
fn sessions_are_resumed() {
    let authority = Authority::new();
    let upstream = TlsUpstream::start("backend", &authority.issue(&["a.com"]), None);
    let text = [
        any_host(ROUTE),
        service("backend", &[upstream.address]),
        policy(
            "backend",
            "{connectionPool: {http: {maxRequestsPerConnection: 1}}, \
             tls: {mode: SIMPLE, credentialName: ca}}",
        ),
        secret("ca", &[("ca.crt", &authority.pem())]),
    ]
    .join("---\n");
    let gateway = Gateway::start_with(&[("all.yaml", &text)], &["--workers", "1"]);
    for _ in 0..4 {
        assert!(ask(&gateway, "a.com").starts_with("HTTP/1.1 200"));
    }
    let resumed: Vec<bool> =
        upstream.shaken().iter().map(|shaken: &Shaken| shaken.resumed).collect();
    assert_eq!(resumed, [false, true, true, true]);
}

#[test]
fn a_server_that_never_answers_the_handshake_is_given_up() {
    let silent = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = silent.local_addr().expect("bound");
    let text = [
        any_host("  - retries: {attempts: 0}\n    route: [{destination: {host: backend}}]\n"),
        service("backend", &[address]),
        policy(
            "backend",
            "{connectionPool: {tcp: {connectTimeout: 200ms}}, \
             tls: {mode: SIMPLE, insecureSkipVerify: true, sni: a.com}}",
        ),
    ]
    .join("---\n");
    let gateway = Gateway::start(&[("all.yaml", &text)]);
    let answer = ask(&gateway, "a.com");
    assert!(answer.starts_with("HTTP/1.1 503"), "{answer}");
    wait_until("the timeout is counted", || {
        let kind = [("kind", "timeout")];
        gateway.metrics().sum("ringress_upstream_connect_failures_total", &kind) == 1.0
    });
}
