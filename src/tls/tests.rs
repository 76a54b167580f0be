//! Both sides against a peer of rustls in a thread, over loopback.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::rc::Rc;
use std::sync::Arc;

use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, CertifiedIssuer, IsCa,
    KeyIdMethod, KeyPair, KeyUsagePurpose, RevokedCertParams, SanType, SerialNumber,
};
use rustls::pki_types::{PrivateKeyDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, ServerConfig, ServerConnection};

use super::settings::ClientCertificates::{self, NotAsked, Optional, Required};
use super::settings::{Bytes, ClientSettings, Identity, ServerSettings, Spoken, TlsVersion, Trust};
use super::{ClientTls, ServerTls, TlsError, TlsInfo, TlsPools};
use crate::net::connect::loopback_pair;
use crate::net::runtime::{self, Driver, DriverChoice};
use crate::net::{BufferPool, Stream};

mod edges;
mod flow;
mod mangled;
mod revocation;

const HOST: &str = "shop.example.com";
const SPIFFE: &str = "spiffe://cluster.local/ns/a/sa/b";

struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
}

struct Pair {
    pem: String,
    key: KeyPair,
    der: rustls::pki_types::CertificateDer<'static>,
    /// The certificates of intermediates that are sent with it.
    issuers: Vec<rustls::pki_types::CertificateDer<'static>>,
}

impl Authority {
    fn new() -> Authority {
        let (params, key) = Authority::params();
        Authority { issuer: CertifiedIssuer::self_signed(params, key).expect("signed") }
    }

    fn params() -> (CertificateParams, KeyPair) {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let key = KeyPair::generate().expect("a key");
        // Authorities are told apart by their names.
        let name = data_encoding::HEXLOWER.encode(&super::crypto::sha256(&key.serialize_der()));
        params.distinguished_name.push(rcgen::DnType::CommonName, name);
        (params, key)
    }

    fn pem(&self) -> Bytes {
        Bytes(self.issuer.pem().into_bytes())
    }

    fn roots(&self) -> RootCertStore {
        let mut roots = RootCertStore::empty();
        roots.add(self.issuer.der().clone()).expect("an authority");
        roots
    }

    fn issue_with(&self, serial: u64, key: KeyPair) -> Pair {
        let mut params = CertificateParams::new(vec![HOST.to_owned()]).expect("a name");
        params.serial_number = Some(SerialNumber::from(serial));
        params.subject_alt_names.push(SanType::URI(SPIFFE.try_into().expect("ASCII")));
        let certificate = params.signed_by(&key, &self.issuer).expect("signed");
        Pair { pem: certificate.pem(), der: certificate.der().clone(), key, issuers: Vec::new() }
    }

    fn issue(&self, serial: u64) -> Pair {
        self.issue_with(serial, KeyPair::generate().expect("a key"))
    }

    fn revoke(&self, serial: u64) -> Bytes {
        let list = CertificateRevocationListParams {
            this_update: rcgen::date_time_ymd(2020, 1, 1),
            next_update: rcgen::date_time_ymd(2060, 1, 1),
            crl_number: SerialNumber::from(1),
            issuing_distribution_point: None,
            revoked_certs: vec![RevokedCertParams {
                serial_number: SerialNumber::from(serial),
                revocation_time: rcgen::date_time_ymd(2021, 1, 1),
                reason_code: None,
                invalidity_date: None,
            }],
            key_identifier_method: KeyIdMethod::Sha256,
        };
        Bytes(list.signed_by(&self.issuer).expect("signed").pem().expect("PEM").into_bytes())
    }
}

impl Pair {
    fn identity(&self) -> Identity {
        Identity {
            chain: Bytes(self.pem.clone().into_bytes()),
            key: Bytes(self.key.serialize_pem().into_bytes()),
            ocsp_staple: None,
        }
    }

    fn chain(&self) -> Vec<rustls::pki_types::CertificateDer<'static>> {
        std::iter::once(&self.der).chain(&self.issuers).cloned().collect()
    }

    fn key_der(&self) -> PrivateKeyDer<'static> {
        PrivateKeyDer::try_from(self.key.serialize_der()).expect("a key")
    }
}

fn server(authority: &Authority) -> ServerSettings {
    ServerSettings {
        identities: vec![authority.issue(1).identity()],
        http: true,
        ..ServerSettings::default()
    }
}

/// A configuration of the peer as a client.
fn client_config(
    authority: &Authority,
    own: Option<&Pair>,
    change: impl FnOnce(&mut rustls::crypto::CryptoProvider),
    versions: &[&'static rustls::SupportedProtocolVersion],
) -> Arc<ClientConfig> {
    let mut provider = rustls::crypto::aws_lc_rs::default_provider();
    change(&mut provider);
    let builder = ClientConfig::builder_with_provider(Arc::new(provider))
        .with_protocol_versions(versions)
        .expect("versions")
        .with_root_certificates(authority.roots());
    let mut config = match own {
        None => builder.with_no_client_auth(),
        Some(own) => builder.with_client_auth_cert(own.chain(), own.key_der()).expect("a pair"),
    };
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Arc::new(config)
}

fn plain_client(authority: &Authority, own: Option<&Pair>) -> Arc<ClientConfig> {
    client_config(authority, own, |_| {}, rustls::ALL_VERSIONS)
}

/// The client peer: sends `ping`, waits for `pong`, closes in order.
fn client_peer(config: Arc<ClientConfig>, mut socket: TcpStream) -> std::io::Result<()> {
    let name = ServerName::try_from(HOST).expect("a name");
    let mut connection = ClientConnection::new(config, name).expect("a connection");
    let mut stream = rustls::Stream::new(&mut connection, &mut socket);
    stream.write_all(b"ping")?;
    let mut answer = [0; 4];
    stream.read_exact(&mut answer)?;
    assert_eq!(&answer, b"pong");
    stream.conn.send_close_notify();
    stream.flush()?;
    Ok(())
}

/// Run `work` in a runtime with pools.
fn in_runtime<T>(work: impl AsyncFnOnce(Driver, TlsPools) -> T) -> T {
    let (driver, _) = Driver::choose(DriverChoice::Auto).expect("epoll at least");
    runtime::run(driver, async {
        let pools = TlsPools::new(Rc::new(BufferPool::default()));
        work(driver, pools).await
    })
    .expect("the runtime works")
}

/// Wait for a thread without stopping the runtime, which closes sockets meanwhile.
async fn ended<T>(thread: std::thread::JoinHandle<T>) -> std::thread::Result<T> {
    while !thread.is_finished() {
        crate::net::sleep(std::time::Duration::from_millis(1)).await;
    }
    thread.join()
}

async fn receive_some(stream: &Stream, pools: &TlsPools) -> std::io::Result<Vec<u8>> {
    let (outcome, buffer) = stream.receive(pools.buffers.take()).await;
    let bytes = outcome.map(|_| buffer.to_vec());
    pools.buffers.give(buffer);
    bytes
}

/// One connection of `peer` to a server side of ours, with a question and its answer.
fn serve(tls: &ServerTls, config: Arc<ClientConfig>) -> (Result<TlsInfo, TlsError>, bool) {
    in_runtime(async |driver, pools| {
        let (ours, theirs) = loopback_pair(driver, None).await;
        let peer = std::thread::spawn(move || client_peer(config, theirs).is_ok());
        let accepted = super::server::accept(ours, tls, pools.buffers.take(), &pools).await;
        let outcome = match accepted {
            Err(error) => Err(error),
            Ok((stream, info)) => {
                let got = receive_some(&stream, &pools).await.expect("a question");
                assert_eq!(got, b"ping");
                stream.send_all(b"pong".to_vec()).await.0.expect("sent");
                assert_eq!(receive_some(&stream, &pools).await.expect("in order"), b"");
                Ok(info)
            }
        };
        (outcome, ended(peer).await.expect("the peer did not panic"))
    })
}

fn refused(tls: &ServerTls, config: Arc<ClientConfig>) -> &'static str {
    let (outcome, served) = serve(tls, config);
    assert!(!served, "the client sees that it is refused");
    outcome.expect_err("refused").reason()
}

#[test]
fn a_client_is_served_and_its_session_resumed() {
    let authority = Authority::new();
    let tls = ServerTls::new(&server(&authority)).expect("good settings");
    for versions in [&[&rustls::version::TLS13], &[&rustls::version::TLS12]] {
        let config = client_config(&authority, None, |_| {}, versions);
        let (first, served) = serve(&tls, Arc::clone(&config));
        let first = first.expect("accepted");
        assert!(served && !first.resumed);
        assert_eq!(first.alpn, Some("h2"));
        assert_eq!(first.client_certificate, None);
        let (second, _) = serve(&tls, Arc::clone(&config));
        assert!(second.expect("accepted").resumed, "{versions:?}");
        // Another server has other ticket keys.
        let other = ServerTls::new(&server(&authority)).expect("good settings");
        assert!(!serve(&other, config).0.expect("accepted").resumed);
    }
}

fn asking(authority: &Authority, asked: ClientCertificates, trust: Trust) -> ServerTls {
    let settings = ServerSettings { client_certificates: asked, trust, ..server(authority) };
    ServerTls::new(&settings).expect("good settings")
}

#[test]
fn client_certificates_are_asked_for_and_checked() {
    let authority = Authority::new();
    let stranger = Authority::new();
    let own = authority.issue(7);
    let foreign = stranger.issue(8);
    let trust = || Trust { authorities: Some(authority.pem()), ..Trust::default() };
    let with = |pair| plain_client(&authority, pair);

    let tls = asking(&authority, NotAsked, Trust::default());
    assert_eq!(serve(&tls, with(Some(&own))).0.expect("accepted").client_certificate, None);

    for asked in [Optional, Required] {
        let tls = asking(&authority, asked, trust());
        let info = serve(&tls, with(Some(&own))).0.expect("accepted");
        let peer = info.client_certificate.expect("a certificate");
        assert!(peer.forwarded.contains(&format!("URI={SPIFFE};DNS={HOST}")), "{peer:?}");
        assert_eq!(refused(&tls, with(Some(&foreign))), "unknown_authority");
        // Without a check the signature still shows that the client has the key.
        let lax = Trust { skip_verification: true, ..trust() };
        let tls = asking(&authority, asked, lax);
        let info = serve(&tls, with(Some(&foreign))).0.expect("accepted");
        assert!(info.client_certificate.is_some());
    }
    let tls = asking(&authority, Optional, trust());
    assert_eq!(serve(&tls, with(None)).0.expect("accepted").client_certificate, None);
    let tls = asking(&authority, Required, trust());
    assert_eq!(refused(&tls, with(None)), "no_certificate");
}

#[test]
fn names_pins_and_revocations_are_checked() {
    let authority = Authority::new();
    let own = authority.issue(7);
    let good = || Trust { authorities: Some(authority.pem()), ..Trust::default() };
    let key_digest = super::crypto::sha256(&super::certificate::public_key(&own.der).expect("key"));
    let key_pin = data_encoding::BASE64.encode(&key_digest);
    let hex = data_encoding::HEXUPPER.encode(&super::crypto::sha256(&own.der));
    let colons: Vec<_> = hex.as_bytes().chunks(2).map(String::from_utf8_lossy).collect();
    let other_hex = "00".repeat(32);
    let accepted = [
        Trust { subject_alt_names: vec!["x".into(), SPIFFE.into()], ..good() },
        Trust { subject_alt_names: vec![HOST.into()], ..good() },
        Trust { key_pins: vec![key_pin.clone()], ..good() },
        Trust { certificate_pins: vec![colons.join(":")], ..good() },
        Trust {
            certificate_pins: vec![other_hex.clone()],
            key_pins: vec![key_pin.clone()],
            ..good()
        },
        Trust { key_pins: vec![key_pin], ..Trust::default() },
        Trust { revocations: Some(authority.revoke(8)), ..good() },
    ];
    for trust in accepted {
        let tls = asking(&authority, Required, trust);
        serve(&tls, plain_client(&authority, Some(&own))).0.expect("accepted");
    }
    let unaccepted = [
        (Trust { subject_alt_names: vec![format!("{SPIFFE}/")], ..good() }, "not_accepted"),
        (Trust { certificate_pins: vec![other_hex], ..good() }, "not_accepted"),
        (Trust { revocations: Some(authority.revoke(7)), ..good() }, "revoked"),
        (Trust { revocations: Some(Authority::new().revoke(8)), ..good() }, "unknown_revocation"),
    ];
    for (trust, reason) in unaccepted {
        let tls = asking(&authority, Required, trust);
        assert_eq!(refused(&tls, plain_client(&authority, Some(&own))), reason);
    }
}

#[test]
fn bad_settings_are_told() {
    let authority = Authority::new();
    let good = server(&authority);
    let error = |settings: ServerSettings| ServerTls::new(&settings).expect_err("bad").to_string();
    let none = ServerSettings { identities: Vec::new(), ..good.clone() };
    assert!(error(none).contains("has no certificate"));
    let mut mixed = good.clone();
    mixed.identities[0].key = authority.issue(2).identity().key;
    assert!(error(mixed).contains("the key does not belong to the certificate"));
    let mut empty = good.clone();
    empty.identities[0].key = Bytes(b"nothing".to_vec());
    assert!(error(empty).contains("the key has no private key in PEM"));
    let unchecked = ServerSettings { client_certificates: Required, ..good.clone() };
    assert!(error(unchecked).contains("no authority"));
    let versions = ServerSettings {
        version_min: Some(TlsVersion::V1_3),
        version_max: Some(TlsVersion::V1_2),
        ..good.clone()
    };
    assert!(error(versions).contains("above the highest"));
    let trust = Trust { key_pins: vec!["AAAA".into()], ..Trust::default() };
    let pin = ServerSettings { client_certificates: Required, trust, ..good };
    assert!(error(pin).contains("is not a SHA-256 digest"));
}

#[test]
fn versions_and_suites_are_those_of_the_settings() {
    let authority = Authority::new();
    let only = |version| {
        let settings = ServerSettings {
            version_min: Some(version),
            version_max: Some(version),
            cipher_suites: vec!["ECDHE-ECDSA-AES128-GCM-SHA256".into(), "AES128-SHA".into()],
            ..server(&authority)
        };
        ServerTls::new(&settings).expect("good settings")
    };
    let client = plain_client(&authority, None);
    let info = serve(&only(TlsVersion::V1_2), Arc::clone(&client)).0.expect("accepted");
    assert_eq!(info.version, TlsVersion::V1_2);
    assert_eq!(info.cipher, "ECDHE-ECDSA-AES128-GCM-SHA256");
    let info = serve(&only(TlsVersion::V1_3), client).0.expect("accepted");
    assert_eq!(info.version, TlsVersion::V1_3);
    let old = client_config(&authority, None, |_| {}, &[&rustls::version::TLS12]);
    assert_eq!(refused(&only(TlsVersion::V1_3), old), "incompatible");
}

#[test]
fn the_client_chooses_between_rsa_and_ecdsa() {
    let authority = Authority::new();
    let rsa = KeyPair::generate_for(&rcgen::PKCS_RSA_SHA256).expect("an RSA key");
    let mut settings = server(&authority);
    settings.identities.insert(0, authority.issue_with(9, rsa).identity());
    let tls = ServerTls::new(&settings).expect("good settings");
    let cipher = |wanted: &'static str| {
        let narrow = |provider: &mut rustls::crypto::CryptoProvider| {
            let suites = &mut provider.cipher_suites;
            suites.retain(|suite| format!("{suite:?}").contains(wanted));
        };
        let config = client_config(&authority, None, narrow, &[&rustls::version::TLS12]);
        serve(&tls, config).0.expect("accepted").cipher
    };
    assert!(cipher("ECDHE_RSA").starts_with("ECDHE-RSA-"));
    assert!(cipher("ECDHE_ECDSA").starts_with("ECDHE-ECDSA-"));
}

/// The server peer: answers `ping` with `pong` as often as it is asked.
fn server_peer(config: Arc<ServerConfig>, mut socket: TcpStream) {
    let mut connection = ServerConnection::new(config).expect("a connection");
    let mut stream = rustls::Stream::new(&mut connection, &mut socket);
    let mut question = [0; 4];
    while stream.read_exact(&mut question).is_ok() {
        assert_eq!(&question, b"ping");
        if stream.write_all(b"pong").is_err() {
            return;
        }
    }
}

fn server_config(pair: &Pair, clients: Option<&Authority>) -> Arc<ServerConfig> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .expect("versions");
    let builder = match clients {
        None => builder.with_no_client_auth(),
        Some(authority) => {
            let roots = Arc::new(authority.roots());
            let check =
                rustls::server::WebPkiClientVerifier::builder_with_provider(roots, provider);
            builder.with_client_cert_verifier(check.build().expect("good"))
        }
    };
    let mut config = builder.with_single_cert(pair.chain(), pair.key_der()).expect("a pair");
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Arc::new(config)
}

fn ask(tls: &ClientTls, host: &str, config: Arc<ServerConfig>) -> Result<TlsInfo, TlsError> {
    ask_for(tls, host, Spoken::Http1, config)
}

fn ask_for(
    tls: &ClientTls,
    host: &str,
    spoken: Spoken,
    config: Arc<ServerConfig>,
) -> Result<TlsInfo, TlsError> {
    in_runtime(async |driver, pools| {
        let (ours, theirs) = loopback_pair(driver, None).await;
        let peer = std::thread::spawn(move || server_peer(config, theirs));
        let outcome = match super::client::connect(ours, tls, host, spoken, &pools).await {
            Err(error) => Err(error),
            Ok((stream, info)) => {
                for _ in 0..3 {
                    stream.send_all(b"ping".to_vec()).await.0.expect("sent");
                    assert_eq!(receive_some(&stream, &pools).await.expect("answered"), b"pong");
                }
                Ok(info)
            }
        };
        ended(peer).await.expect("the peer did not panic");
        outcome
    })
}

#[test]
fn servers_are_asked_and_checked() {
    let authority = Authority::new();
    let pair = authority.issue(3);
    let config = server_config(&pair, None);
    let trust = || Trust { authorities: Some(authority.pem()), ..Trust::default() };
    let made = |settings: ClientSettings| ClientTls::new(&settings).expect("good settings");
    let plain = || ClientSettings { trust: trust(), ..ClientSettings::default() };

    let tls = made(plain());
    // A session that held one protocol is resumed for another.
    for (spoken, alpn, resumed) in [
        (Spoken::Http2, Some("h2"), false),
        (Spoken::Http2, Some("h2"), true),
        (Spoken::Http1, Some("http/1.1"), true),
        (Spoken::Bytes, None, true),
    ] {
        let info = ask_for(&tls, HOST, spoken, Arc::clone(&config)).expect("connected");
        assert_eq!((info.alpn, info.resumed), (alpn, resumed));
    }

    let reason =
        |tls: &ClientTls, host| ask(tls, host, Arc::clone(&config)).expect_err("refused").reason();
    assert_eq!(reason(&tls, "other.example.com"), "wrong_name");
    assert_eq!(reason(&tls, "a b"), "bad_settings");
    let named = made(ClientSettings { server_name: Some(HOST.into()), ..plain() });
    ask(&named, "other.example.com", Arc::clone(&config)).expect("the name of the settings");
    let with_names = |names: &[&str], authorities: Bytes| {
        let subject_alt_names = names.iter().map(|name| (*name).to_owned()).collect();
        let trust = Trust { subject_alt_names, authorities: Some(authorities), ..Trust::default() };
        made(ClientSettings { trust, ..ClientSettings::default() })
    };
    let tls = with_names(&[SPIFFE], authority.pem());
    ask(&tls, "other.example.com", Arc::clone(&config)).expect("it has the name");
    assert_eq!(reason(&with_names(&["spiffe://x"], authority.pem()), HOST), "not_accepted");
    let stranger = with_names(&[SPIFFE], Authority::new().pem());
    assert_eq!(reason(&stranger, "other.example.com"), "unknown_authority");
    // Sidecars are asked for by the name of a cluster, which is in no certificate.
    let sidecars = |authority: Bytes| {
        let trust = Trust { authorities: Some(authority), any_name: true, ..Trust::default() };
        made(ClientSettings { trust, ..ClientSettings::default() })
    };
    let name = "outbound_.80_._.hello.default.svc.cluster.local";
    ask(&sidecars(authority.pem()), name, Arc::clone(&config)).expect("whoever they are");
    assert_eq!(reason(&sidecars(Authority::new().pem()), name), "unknown_authority");
    let lax = Trust { skip_verification: true, ..Trust::default() };
    let tls = made(ClientSettings { trust: lax, ..ClientSettings::default() });
    ask(&tls, "other.example.com", Arc::clone(&config)).expect("not checked");
    let revoked = Trust { revocations: Some(authority.revoke(3)), ..trust() };
    let tls = made(ClientSettings { trust: revoked, ..ClientSettings::default() });
    assert_eq!(reason(&tls, HOST), "revoked");

    let mutual = server_config(&pair, Some(&authority));
    let own = Some(authority.issue(4).identity());
    let tls = made(ClientSettings { identity: own, ..plain() });
    ask(&tls, HOST, mutual).expect("it has a certificate");
}

/// Connect the two sides, `work` on ours, `peer` on the other.
fn converse<T>(
    receive_buffer_bytes: Option<usize>,
    peer: impl FnOnce(ClientConnection, TcpStream) + Send + 'static,
    work: impl AsyncFnOnce(Stream, TlsPools) -> T,
) -> T {
    let authority = Authority::new();
    let tls = ServerTls::new(&server(&authority)).expect("good settings");
    let config = plain_client(&authority, None);
    in_runtime(async |driver, pools| {
        let (ours, theirs) = loopback_pair(driver, receive_buffer_bytes).await;
        let thread = std::thread::spawn(move || {
            let name = ServerName::try_from(HOST).expect("a name");
            peer(ClientConnection::new(config, name).expect("a connection"), theirs);
        });
        let accepted = super::server::accept(ours, &tls, pools.buffers.take(), &pools).await;
        let result = work(accepted.expect("accepted").0, pools).await;
        ended(thread).await.expect("the peer did not panic");
        result
    })
}

fn pattern(length: usize, seed: usize) -> Vec<u8> {
    (0..length).map(|at| ((at * 31 + at / 251 + seed) % 256) as u8).collect()
}
