//! What a Gateway server asks of the certificates of its clients, from manifest to handshake: authorities and
//! where they come from, revocation lists, pins, none at all, the certificate of a mesh; and what becomes of
//! connections when it asks something else.

use std::io::{ErrorKind, Read};
use std::net::SocketAddr;
use std::sync::Arc;

use rustls::{AlertDescription, ClientConfig};

use crate::support::manifests::service;
use crate::support::tls::{
    Authority, Connection, Pair, connect, get, secret, secret_of, sha256, status,
};
use crate::support::{Gateway, Upstream, block_on};
use crate::tls::{gateway, routes, server, start};

/// `a.com` with this `tls` block before `upstream`, and more manifests.
pub fn started(upstream: &Upstream, tls: &str, more: &[String]) -> (Gateway, SocketAddr) {
    let mut manifests = vec![
        gateway("g", &server("https", tls, "a.com")),
        routes("a", "a.com", "g", "hello"),
        service("hello", &[upstream.address]),
    ];
    manifests.extend_from_slice(more);
    start(&manifests, &[])
}

/// A Secret with a pair and the authority of the clients, and more values.
fn mutual_secret(pair: &Pair, authority: &Authority, more: &[(&str, &str)]) -> String {
    let authority = authority.pem();
    let mut values: Vec<(&str, &str)> =
        vec![("tls.crt", &pair.certificate), ("tls.key", &pair.key), ("ca.crt", &authority)];
    values.extend_from_slice(more);
    secret("cert", &values)
}

/// Shake hands and ask: a client of TLS 1.3 learns what the server thinks of its certificate with the
/// first answer.
pub fn ask(address: SocketAddr, config: &Arc<ClientConfig>) -> std::io::Result<u16> {
    let mut client = connect(address, "a.com", config)?;
    Ok(status(&get(&mut client, "a.com", "/")?))
}

/// The alert that a client was refused with; none: the connection was closed without one.
pub fn alert(address: SocketAddr, config: &Arc<ClientConfig>) -> Option<AlertDescription> {
    let error = ask(address, config).expect_err("refused");
    match error.get_ref().and_then(|error| error.downcast_ref::<rustls::Error>()) {
        Some(rustls::Error::AlertReceived(alert)) => Some(*alert),
        Some(other) => panic!("the client itself gave up: {other}"),
        None => {
            assert_ne!(error.kind(), ErrorKind::WouldBlock, "it was not closed");
            None
        }
    }
}

pub fn wait_for_failures(gateway: &Gateway, reason: &str, count: f64) {
    gateway.wait_for_metrics(&format!("{count} failures: {reason}"), |metrics| {
        let reason = [("reason", reason)];
        metrics.sum("ringress_downstream_tls_failures_total", &reason) == count
    });
}

#[test]
fn revoked_certificates_of_clients_are_refused() {
    let upstream = Upstream::start("hello");
    let (authority, other) = (Authority::new(), Authority::new());
    let pair = authority.issue(&["a.com"]);
    let (good, revoked) =
        (authority.issue_client("spiffe://one"), authority.issue_client("spiffe://two"));
    let directory = tempfile::TempDir::new().expect("a directory");
    let file = |name: &str, text: &str| {
        let path = directory.path().join(name);
        std::fs::write(&path, text).expect("written");
        path.display().to_string()
    };
    let list = authority.revoke(&[&revoked]);
    let files = format!(
        "{{mode: MUTUAL, serverCertificate: {}, privateKey: {}, caCertificates: {}, caCrl: {}}}",
        file("chain.pem", &pair.certificate),
        file("key.pem", &pair.key),
        file("ca.pem", &authority.pem()),
        file("list.pem", &list),
    );
    let credential = "{mode: MUTUAL, credentialName: cert}".to_owned();
    let optional = "{mode: OPTIONAL_MUTUAL, credentialName: cert}".to_owned();
    let with_list = mutual_secret(&pair, &authority, &[("ca.crl", &list)]);
    for (tls, more) in [
        (files, vec![]),
        (credential.clone(), vec![with_list.clone()]),
        (optional, vec![with_list]),
    ] {
        let (gateway, address) = started(&upstream, &tls, &more);
        let served = ask(address, &authority.client(Some(&good), &[]));
        assert_eq!(served.expect("served"), 200, "{tls}");
        let refused = alert(address, &authority.client(Some(&revoked), &[]));
        assert_eq!(refused, Some(AlertDescription::CertificateRevoked), "{tls}");
        wait_for_failures(&gateway, "client_certificate", 1.0);
    }
    // The list of another authority tells nothing about these clients: none is accepted unseen.
    let unrelated = mutual_secret(&pair, &authority, &[("ca.crl", &other.revoke(&[&revoked]))]);
    let (_gateway, address) = started(&upstream, &credential, &[unrelated]);
    let refused = alert(address, &authority.client(Some(&good), &[]));
    assert_eq!(refused, Some(AlertDescription::UnknownCA));
    // A list that revokes nobody.
    let nobody = mutual_secret(&pair, &authority, &[("ca.crl", &authority.revoke(&[]))]);
    let (_gateway, address) = started(&upstream, &credential, &[nobody]);
    assert_eq!(ask(address, &authority.client(Some(&revoked), &[])).expect("served"), 200);
}

#[test]
fn the_authority_of_clients_is_found_in_every_form_of_secret() {
    let upstream = Upstream::start("hello");
    let (authority, other) = (Authority::new(), Authority::new());
    let pair = authority.issue(&["a.com"]);
    let (own, wrong) = (authority.pem(), other.pem());
    let client = authority.issue_client("spiffe://one");
    let revoked = authority.revoke(&[&client]);
    let (certificate, key) = (pair.certificate.as_str(), pair.key.as_str());
    let plain = [("tls.crt", certificate), ("tls.key", key)];
    let generic = [("cert", certificate), ("key", key)];
    let with =
        |values: &[(&str, &str)], more: &[(&str, &str)]| secret("cert", &[values, more].concat());
    let named = "credentialName: cert";
    let apart = "credentialName: cert, caCertCredentialName: ca";
    for (name, fields, secrets, served) in [
        ("kubectl's", named, vec![with(&plain, &[("ca.crt", &own)])], true),
        ("generic", named, vec![with(&generic, &[("cacert", &own)])], true),
        (
            "generic, revoked",
            named,
            vec![with(&generic, &[("cacert", &own), ("crl", &revoked)])],
            false,
        ),
        (
            "beside",
            named,
            vec![with(&plain, &[("ca.crt", &wrong)]), secret("cert-cacert", &[("cacert", &own)])],
            true,
        ),
        (
            "beside, of others",
            named,
            vec![with(&plain, &[("ca.crt", &own)]), secret("cert-cacert", &[("ca.crt", &wrong)])],
            false,
        ),
        (
            "by its own name",
            apart,
            vec![with(&plain, &[("ca.crt", &wrong)]), secret("ca", &[("ca.crt", &own)])],
            true,
        ),
        (
            "by its own name, revoked",
            apart,
            vec![with(&plain, &[]), secret("ca", &[("ca.crt", &own), ("ca.crl", &revoked)])],
            false,
        ),
        ("missing", apart, vec![with(&plain, &[("ca.crt", &own)])], false),
    ] {
        let (_gateway, address) =
            started(&upstream, &format!("{{mode: MUTUAL, {fields}}}"), &secrets);
        let outcome = ask(address, &authority.client(Some(&client), &[]));
        assert_eq!(outcome.is_ok(), served, "{name}: {outcome:?}");
    }
}

#[test]
fn a_renewed_revocation_list_is_live() {
    let upstream = Upstream::start("hello");
    let authority = Authority::new();
    let pair = authority.issue(&["a.com"]);
    let client = authority.issue_client("spiffe://one");
    let config = authority.client(Some(&client), &[]);
    let (gateway, address) = started(&upstream, "{mode: MUTUAL, credentialName: cert}", &[]);
    gateway.write("secret.yaml", &mutual_secret(&pair, &authority, &[]));
    crate::support::gateway::wait_until("the Secret", || ask(address, &config).is_ok());
    let revoked = authority.revoke(&[&client]);
    gateway.write("secret.yaml", &mutual_secret(&pair, &authority, &[("ca.crl", &revoked)]));
    // The sessions of before are not resumed either: the client's configuration keeps its tickets.
    crate::support::gateway::wait_until("the list", || ask(address, &config).is_err());
    assert_eq!(alert(address, &config), Some(AlertDescription::CertificateRevoked));
}

#[test]
fn a_connection_that_was_let_in_under_laxer_rules_is_not_served_under_stricter_ones() {
    let upstream = Upstream::start("hello");
    let authority = Authority::new();
    let pair = authority.issue(&["a.com"]);
    let secret = mutual_secret(&pair, &authority, &[]);
    let of = |tls: &str| {
        gateway("g", &server("https", &format!("{{{tls}, credentialName: cert}}"), "a.com"))
    };
    let rest = [routes("a", "a.com", "g", "hello"), service("hello", &[upstream.address])];
    let rest = rest.join("---\n");
    let files = [
        ("rest.yaml", rest.as_str()),
        ("secret.yaml", &secret),
        ("gateway.yaml", &of("mode: SIMPLE")),
    ];
    let port = crate::support::gateway::free_port();
    let gateway = Gateway::start_with(&files, &[&format!("--port-map=443={port}")]);
    let address = SocketAddr::from(([127, 0, 0, 1], port));
    let own = authority.issue_client("spiffe://one");
    let (without, with) = (authority.client(None, &[]), authority.client(Some(&own), &[]));
    let open = |config| {
        let mut client = connect(address, "a.com", config).expect("TLS");
        assert_eq!(status(&get(&mut client, "a.com", "/").expect("an answer")), 200);
        client
    };
    let sent_away = |client: &mut Connection| {
        let answer = get(client, "a.com", "/").expect("an answer");
        assert!(status(&answer) == 421 && answer.contains("connection: close\r\n"), "{answer}");
        assert_eq!(client.read(&mut [0]).expect("an orderly end"), 0);
    };
    let mut generation = 1;
    let mut change = |tls: &str| {
        gateway.write("gateway.yaml", &of(tls));
        generation += 1;
        gateway.wait_for_generation(generation);
    };
    let mut lax = open(&without);
    change("mode: SIMPLE, minProtocolVersion: TLSV1_3");
    assert_eq!(status(&get(&mut lax, "a.com", "/").expect("an answer")), 200, "nothing is asked");
    change("mode: MUTUAL");
    sent_away(&mut lax);
    assert!(ask(address, &without).is_err());
    let mut mutual = open(&with);
    // Other names than before, and fewer.
    change("mode: MUTUAL, subjectAltNames: ['spiffe://two']");
    sent_away(&mut mutual);
    assert!(ask(address, &with).is_err());
    // Who was let in under stricter rules stays.
    change("mode: MUTUAL, subjectAltNames: ['spiffe://one']");
    let mut strict = open(&with);
    change("mode: SIMPLE");
    assert_eq!(status(&get(&mut strict, "a.com", "/").expect("an answer")), 200);
    let mut lax = open(&without);
    change("mode: MUTUAL, subjectAltNames: ['spiffe://one']");
    assert_eq!(status(&get(&mut strict, "a.com", "/").expect("an answer")), 200);
    sent_away(&mut lax);
}

#[test]
fn an_http2_connection_of_laxer_rules_is_ended_too() {
    let upstream = Upstream::start("hello");
    let authority = Authority::new();
    let secret = mutual_secret(&authority.issue(&["a.com"]), &authority, &[]);
    let of = |mode: &str| {
        gateway("g", &server("https", &format!("{{mode: {mode}, credentialName: cert}}"), "a.com"))
    };
    let rest = [routes("a", "a.com", "g", "hello"), service("hello", &[upstream.address])];
    let rest = rest.join("---\n");
    let files =
        [("rest.yaml", rest.as_str()), ("secret.yaml", &secret), ("gateway.yaml", &of("SIMPLE"))];
    let port = crate::support::gateway::free_port();
    let gateway = Gateway::start_with(&files, &[&format!("--port-map=443={port}")]);
    block_on(async {
        let socket = tokio::net::TcpStream::connect(("127.0.0.1", port)).await.expect("connected");
        let connector = tokio_rustls::TlsConnector::from(authority.client(None, &["h2"]));
        let name = rustls::pki_types::ServerName::try_from("a.com").expect("a name");
        let stream = connector.connect(name, socket).await.expect("TLS");
        let (sender, connection) = h2::client::handshake(stream).await.expect("HTTP/2");
        let connection = tokio::spawn(connection);
        let ask = async || {
            let mut sender = sender.clone().ready().await.expect("open");
            let request = http::Request::get("https://a.com/").body(()).expect("a request");
            let (response, _) = sender.send_request(request, true).expect("sent");
            response.await.expect("an answer").status().as_u16()
        };
        assert_eq!(ask().await, 200);
        tokio::task::block_in_place(|| {
            gateway.write("gateway.yaml", &of("MUTUAL"));
            gateway.wait_for_generation(2);
        });
        assert_eq!(ask().await, 421);
        // It takes no further streams, and says so.
        connection.await.expect("driven").expect("an orderly end");
    });
    assert_eq!(upstream.seen().len(), 1);
}

#[test]
fn only_pinned_clients_are_served() {
    let upstream = Upstream::start("hello");
    let authority = Authority::new();
    let pair = authority.issue(&["a.com"]);
    let secret = mutual_secret(&pair, &authority, &[]);
    let (one, two) =
        (authority.issue_client("spiffe://one"), authority.issue_client("spiffe://two"));
    let other = authority.issue_client("spiffe://one");
    let key = |pair: &Pair| data_encoding::BASE64.encode(&sha256(&pair.public_key));
    let plain = |pair: &Pair| data_encoding::HEXLOWER.encode(&sha256(&pair.der()));
    let colons = |pair: &Pair| {
        let bytes = sha256(&pair.der());
        let bytes: Vec<String> = bytes.iter().map(|byte| format!("{byte:02X}")).collect();
        bytes.join(":")
    };
    for (pins, pinned) in [
        (format!("verifyCertificateSpki: ['{}']", key(&one)), vec![&one]),
        (format!("verifyCertificateHash: ['{}']", plain(&one)), vec![&one]),
        (
            format!("verifyCertificateHash: ['{}', '{}']", colons(&one), plain(&two)),
            vec![&one, &two],
        ),
        // One of either list is enough.
        (
            format!(
                "verifyCertificateSpki: ['{}'], verifyCertificateHash: ['{}']",
                key(&one),
                plain(&two)
            ),
            vec![&one, &two],
        ),
    ] {
        let tls = format!("{{mode: MUTUAL, credentialName: cert, {pins}}}");
        let (gateway, address) = started(&upstream, &tls, std::slice::from_ref(&secret));
        for pair in &pinned {
            let config = authority.client(Some(pair), &[]);
            assert_eq!(ask(address, &config).expect("served"), 200, "{tls}");
        }
        assert!(alert(address, &authority.client(Some(&other), &[])).is_some(), "{tls}");
        assert!(alert(address, &authority.client(None, &[])).is_some(), "{tls}");
        wait_for_failures(&gateway, "client_certificate", 2.0);
    }
    // A pin does not make good what the authority did not sign.
    let stranger = Authority::new().issue_client("spiffe://one");
    let tls = format!(
        "{{mode: MUTUAL, credentialName: cert, verifyCertificateSpki: ['{}']}}",
        key(&stranger)
    );
    let (_gateway, address) = started(&upstream, &tls, &[secret]);
    let refused = alert(address, &authority.client(Some(&stranger), &[]));
    assert_eq!(refused, Some(AlertDescription::UnknownCA));
}

#[test]
fn unverified_certificates_are_asked_for_all_the_same() {
    let upstream = Upstream::start("hello");
    let authority = Authority::new();
    let cert = secret_of("cert", &authority.issue(&["a.com"]));
    let stranger = Authority::new().issue_client("spiffe://stranger");
    for (mode, without) in [("MUTUAL", false), ("OPTIONAL_MUTUAL", true)] {
        let tls = format!("{{mode: {mode}, credentialName: cert, insecureSkipVerify: true}}");
        let (_gateway, address) = started(&upstream, &tls, std::slice::from_ref(&cert));
        let served = ask(address, &authority.client(Some(&stranger), &[]));
        assert_eq!(served.expect("served"), 200, "{mode}");
        let told = upstream.last();
        let told = told.header("x-forwarded-client-cert").expect("told");
        assert!(told.contains(";URI=spiffe://stranger"), "{told}");
        let config = authority.client(None, &[]);
        assert_eq!(ask(address, &config).is_ok(), without, "{mode} without a certificate");
    }
}

#[test]
fn the_certificate_of_a_mesh_is_shown_to_sidecars_alone() {
    let upstream = Upstream::start("hello");
    let (mesh, other) = (Authority::new(), Authority::new());
    let directory = tempfile::TempDir::new().expect("a directory");
    let write = |name: &str, text: &str| {
        std::fs::write(directory.path().join(name), text).expect("written");
    };
    let pair = mesh.issue(&["a.com"]);
    write("cert-chain.pem", &pair.certificate);
    write("key.pem", &pair.key);
    write("root-cert.pem", &mesh.pem());
    let manifests = [
        gateway("g", &server("https", "{mode: ISTIO_MUTUAL}", "a.com")),
        routes("a", "a.com", "g", "hello"),
        service("hello", &[upstream.address]),
    ];
    let folder = directory.path().display().to_string();
    let (gateway, address) = start(&manifests, &["--mesh-certificates", &folder]);
    let uri = "spiffe://cluster.local/ns/default/sa/client";
    let served = ask(address, &mesh.client(Some(&mesh.issue_client(uri)), &[]));
    assert_eq!(served.expect("served"), 200);
    let told = upstream.last();
    let told = told.header("x-forwarded-client-cert").expect("told");
    assert!(told.contains(&format!(";URI={uri}")), "{told}");
    let strange = mesh.client(Some(&other.issue_client(uri)), &[]);
    assert_eq!(alert(address, &strange), Some(AlertDescription::UnknownCA));
    let without = alert(address, &mesh.client(None, &[]));
    assert_eq!(without, Some(AlertDescription::CertificateRequired));
    wait_for_failures(&gateway, "client_certificate", 2.0);
    // The agent renews what is there: the connections that follow get it.
    let renewed = mesh.issue(&["a.com"]);
    write("cert-chain.pem", &renewed.certificate);
    write("key.pem", &renewed.key);
    let client = mesh.client(Some(&mesh.issue_client(uri)), &[]);
    crate::support::gateway::wait_until("the new certificate", || {
        let client = connect(address, "a.com", &client).expect("TLS");
        client.conn.peer_certificates().expect("shown")[0] == renewed.der()
    });
    // Without the files the port is there and nobody is let in.
    let empty = tempfile::TempDir::new().expect("a directory");
    let empty = empty.path().display().to_string();
    let (gateway, address) = start(&manifests, &["--mesh-certificates", &empty]);
    assert!(ask(address, &client).is_err());
    let log = gateway.log();
    assert!(log.contains("no certificate of a mesh is here"), "{log}");
    assert!(log.contains(&empty), "it says where it looked: {log}");
}
