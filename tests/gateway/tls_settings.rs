//! The settings of a Gateway server's TLS one by one, from manifest to handshake: revocation lists, pins,
//! versions, cipher suites, two certificates, staples, the certificate of a mesh.

use std::io::ErrorKind;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::version::{TLS12, TLS13};
use rustls::{
    AlertDescription, ClientConfig, DigitallySignedStruct, ProtocolVersion, SignatureScheme,
};

use crate::support::manifests::service;
use crate::support::tls::{
    Authority, Pair, connect, get, only_schemes, secret, secret_of, sha256, status,
};
use crate::support::{Gateway, Upstream};
use crate::tls::{gateway, routes, server, start};

/// `a.com` with this `tls` block before `upstream`, and more manifests.
fn started(upstream: &Upstream, tls: &str, more: &[String]) -> (Gateway, SocketAddr) {
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
fn ask(address: SocketAddr, config: &Arc<ClientConfig>) -> std::io::Result<u16> {
    let mut client = connect(address, "a.com", config)?;
    Ok(status(&get(&mut client, "a.com", "/")?))
}

/// The alert that a client was refused with; none: the connection was closed without one.
fn alert(address: SocketAddr, config: &Arc<ClientConfig>) -> Option<AlertDescription> {
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

fn wait_for_failures(gateway: &Gateway, reason: &str, count: f64) {
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
fn versions_can_be_narrowed() {
    let upstream = Upstream::start("hello");
    let authority = Authority::new();
    let cert = secret_of("cert", &authority.issue(&["a.com"]));
    let old = Arc::new(authority.client_of(None, &[&TLS12], |_| {}));
    let new = Arc::new(authority.client_of(None, &[&TLS13], |_| {}));
    for (versions, speaks_old, speaks_new) in [
        ("minProtocolVersion: TLSV1_3", false, true),
        ("maxProtocolVersion: TLSV1_2", true, false),
        ("minProtocolVersion: TLSV1_2, maxProtocolVersion: TLSV1_2", true, false),
        ("minProtocolVersion: TLSV1_2", true, true),
        ("minProtocolVersion: TLS_AUTO, maxProtocolVersion: TLSV1_3", true, true),
        ("minProtocolVersion: TLSV1_0", true, true),
    ] {
        let tls = format!("{{mode: SIMPLE, credentialName: cert, {versions}}}");
        let (gateway, address) = started(&upstream, &tls, std::slice::from_ref(&cert));
        for (config, speaks, version) in [
            (&old, speaks_old, ProtocolVersion::TLSv1_2),
            (&new, speaks_new, ProtocolVersion::TLSv1_3),
        ] {
            if speaks {
                let client = connect(address, "a.com", config).expect("TLS");
                assert_eq!(client.conn.protocol_version(), Some(version), "{versions}");
            } else {
                let alert = alert(address, config);
                assert_eq!(alert, Some(AlertDescription::ProtocolVersion), "{versions}");
                wait_for_failures(&gateway, "protocol", 1.0);
            }
        }
        let told = gateway.log().contains("TLS before 1.2 is never spoken here");
        assert_eq!(told, versions.contains("TLSV1_0"), "{versions}");
    }
}

#[test]
fn only_the_named_cipher_suites_are_spoken() {
    let upstream = Upstream::start("hello");
    let authority = Authority::new();
    let cert = secret_of("cert", &authority.issue(&["a.com"]));
    let tls = "{mode: SIMPLE, credentialName: cert, \
               cipherSuites: [ECDHE-ECDSA-AES128-GCM-SHA256, AES128-SHA, MADE-UP-SUITE]}";
    let (gateway, address) = started(&upstream, tls, &[cert]);
    let old = Arc::new(authority.client_of(None, &[&TLS12], |_| {}));
    let client = connect(address, "a.com", &old).expect("TLS");
    let suite = client.conn.negotiated_cipher_suite().expect("one was agreed on").suite();
    assert_eq!(suite, rustls::CipherSuite::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256);
    // One who does not have it has nothing in common, unless it speaks TLS 1.3.
    let others = |provider: &mut rustls::crypto::CryptoProvider| {
        provider.cipher_suites.retain(|known| known.suite() != suite);
    };
    let config = Arc::new(authority.client_of(None, &[&TLS12], others));
    assert_eq!(alert(address, &config), Some(AlertDescription::HandshakeFailure));
    wait_for_failures(&gateway, "protocol", 1.0);
    let config = Arc::new(authority.client_of(None, &[&TLS12, &TLS13], others));
    assert_eq!(ask(address, &config).expect("served"), 200);
    let log = gateway.log();
    assert!(log.contains("unknown cipher suite `MADE-UP-SUITE`"), "{log}");
    assert!(log.contains("never spoken here: AES128-SHA"), "{log}");
}

#[test]
fn the_client_chooses_between_rsa_and_ecdsa() {
    let upstream = Upstream::start("hello");
    let authority = Authority::new();
    let (rsa, ecdsa) = (authority.issue_rsa(&["a.com"]), authority.issue(&["a.com"]));
    let directory = tempfile::TempDir::new().expect("a directory");
    let file = |name: &str, text: &str| {
        let path = directory.path().join(name);
        std::fs::write(&path, text).expect("written");
        path.display().to_string()
    };
    let files = format!(
        "{{mode: SIMPLE, tlsCertificates: [{{serverCertificate: {}, privateKey: {}}}, \
         {{serverCertificate: {}, privateKey: {}}}]}}",
        file("rsa.pem", &rsa.certificate),
        file("rsa.key", &rsa.key),
        file("ecdsa.pem", &ecdsa.certificate),
        file("ecdsa.key", &ecdsa.key),
    );
    let secrets = [secret_of("rsa", &rsa), secret_of("ecdsa", &ecdsa)];
    for (tls, more) in [
        ("{mode: SIMPLE, credentialNames: [rsa, ecdsa]}", &secrets[..]),
        ("{mode: SIMPLE, credentialNames: [ecdsa, rsa]}", &secrets),
        (&files, &[]),
    ] {
        let (_gateway, address) = started(&upstream, tls, more);
        for version in [&TLS12, &TLS13] {
            for (prefix, expected) in [("RSA", &rsa), ("ECDSA", &ecdsa), ("", &ecdsa)] {
                let config =
                    authority.client_of(None, &[version], |known| only_schemes(known, prefix));
                let client = connect(address, "a.com", &Arc::new(config)).expect("TLS");
                let shown = client.conn.peer_certificates().expect("shown")[0].clone();
                assert_eq!(shown, expected.der(), "{tls} {version:?} {prefix}");
            }
        }
    }
}

/// The check of a client that keeps what the server stapled.
#[derive(Debug)]
struct Stapled {
    check: Arc<WebPkiServerVerifier>,
    staple: Mutex<Vec<u8>>,
}

impl ServerCertVerifier for Stapled {
    fn verify_server_cert(
        &self,
        leaf: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        staple: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        *self.staple.lock().expect("not poisoned") = staple.to_vec();
        self.check.verify_server_cert(leaf, intermediates, name, &[], now)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        leaf: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.check.verify_tls12_signature(message, leaf, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        leaf: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.check.verify_tls13_signature(message, leaf, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.check.supported_verify_schemes()
    }
}

#[test]
fn the_staple_of_a_secret_is_shown() {
    let upstream = Upstream::start("hello");
    let authority = Authority::new();
    // Nobody but the client looks into it; it is binary.
    let staple = crate::support::pattern(600);
    let encoded = data_encoding::BASE64.encode(&staple);
    let cert = secret_of("cert", &authority.issue(&["a.com"]))
        + &format!("data:\n  tls.ocsp-staple: {encoded}\n");
    let (_gateway, address) = started(&upstream, "{mode: SIMPLE, credentialName: cert}", &[cert]);
    for version in [&TLS12, &TLS13] {
        let mut config = authority.client_of(None, &[version], |_| {});
        let provider = Arc::clone(config.crypto_provider());
        let check =
            WebPkiServerVerifier::builder_with_provider(Arc::new(authority.roots()), provider);
        let check = check.build().expect("a verifier");
        let check = Arc::new(Stapled { check, staple: Mutex::default() });
        config.dangerous().set_certificate_verifier(Arc::clone(&check) as Arc<_>);
        assert_eq!(ask(address, &Arc::new(config)).expect("served"), 200);
        assert!(*check.staple.lock().expect("not poisoned") == staple, "{version:?}");
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
