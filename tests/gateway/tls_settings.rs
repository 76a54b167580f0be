//! What a Gateway server's TLS is made of, from manifest to handshake: versions, cipher suites, two
//! certificates, staples.

use std::sync::{Arc, Mutex};

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::version::{TLS12, TLS13};
use rustls::{AlertDescription, DigitallySignedStruct, ProtocolVersion, SignatureScheme};

use crate::support::Upstream;
use crate::support::tls::{Authority, connect, only_schemes, secret_of};
use crate::tls_clients::{alert, ask, started, wait_for_failures};

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
