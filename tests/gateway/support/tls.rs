//! Certificates of an authority that only the tests know, and a client that speaks TLS by the `rustls`
//! crate's own blocking stream, on a socket of its own.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, CertifiedIssuer, DnType,
    ExtendedKeyUsagePurpose, IsCa, KeyIdMethod, KeyPair, PublicKeyData, RevokedCertParams, SanType,
    SerialNumber,
};
use rustls::crypto::{CryptoProvider, WebPkiSupportedAlgorithms, aws_lc_rs};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::server::{Acceptor, WebPkiClientVerifier};
use rustls::{ClientConfig, ClientConnection, RootCertStore, ServerConfig, StreamOwned};

/// A certificate with its key, both PEM.
#[derive(Clone)]
pub struct Pair {
    /// The certificate.
    pub certificate: String,
    /// Its key.
    pub key: String,
    /// The public key (SubjectPublicKeyInfo, DER).
    pub public_key: Vec<u8>,
    /// The certificate's serial number.
    pub serial: u64,
}

impl Pair {
    /// The certificate, DER.
    pub fn der(&self) -> CertificateDer<'static> {
        CertificateDer::from_pem_slice(self.certificate.as_bytes()).expect("PEM")
    }
}

/// Every certificate has a number of its own, and so has every authority's name.
fn next_number() -> u64 {
    static NUMBER: AtomicU64 = AtomicU64::new(1);
    NUMBER.fetch_add(1, Ordering::Relaxed)
}

/// SHA-256.
pub fn sha256(bytes: &[u8]) -> Vec<u8> {
    let rustls::SupportedCipherSuite::Tls13(suite) =
        aws_lc_rs::cipher_suite::TLS13_AES_128_GCM_SHA256
    else {
        panic!("a suite of TLS 1.3");
    };
    suite.common.hash_provider.hash(bytes).as_ref().to_vec()
}

/// An authority.
pub struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
}

impl Authority {
    /// A new one.
    pub fn new() -> Authority {
        let mut params = CertificateParams::new(Vec::new()).expect("no names");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        // OpenSSL takes a certificate for its own issuer when both have one name.
        let name = format!("authority {} of the tests", next_number());
        params.distinguished_name.push(DnType::CommonName, name);
        let key = KeyPair::generate().expect("a key");
        Authority { issuer: CertifiedIssuer::self_signed(params, key).expect("an authority") }
    }

    /// Its certificate, PEM.
    pub fn pem(&self) -> String {
        self.issuer.pem()
    }

    /// A certificate for these names.
    pub fn issue(&self, names: &[&str]) -> Pair {
        self.issue_with(names, |_| {})
    }

    /// The same; `change` may change what it says.
    pub fn issue_with(&self, names: &[&str], change: impl FnOnce(&mut CertificateParams)) -> Pair {
        self.issue_for(&KeyPair::generate().expect("a key"), names, change)
    }

    /// A certificate with an RSA key; the others are for elliptic curves.
    pub fn issue_rsa(&self, names: &[&str]) -> Pair {
        let key = KeyPair::generate_for(&rcgen::PKCS_RSA_SHA256).expect("an RSA key");
        self.issue_for(&key, names, |_| {})
    }

    fn issue_for(
        &self,
        key: &KeyPair,
        names: &[&str],
        change: impl FnOnce(&mut CertificateParams),
    ) -> Pair {
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let mut params = CertificateParams::new(names).expect("names");
        params.extended_key_usages =
            vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        let serial = next_number();
        params.serial_number = Some(SerialNumber::from(serial));
        change(&mut params);
        let certificate = params.signed_by(key, &self.issuer).expect("signed");
        Pair {
            certificate: certificate.pem(),
            key: key.serialize_pem(),
            public_key: key.subject_public_key_info(),
            serial,
        }
    }

    /// A list that revokes these certificates, PEM.
    pub fn revoke(&self, revoked: &[&Pair]) -> String {
        let revoked = revoked.iter().map(|pair| RevokedCertParams {
            serial_number: SerialNumber::from(pair.serial),
            revocation_time: rcgen::date_time_ymd(2021, 1, 1),
            reason_code: None,
            invalidity_date: None,
        });
        let list = CertificateRevocationListParams {
            this_update: rcgen::date_time_ymd(2020, 1, 1),
            next_update: rcgen::date_time_ymd(4000, 1, 1),
            crl_number: SerialNumber::from(1),
            issuing_distribution_point: None,
            revoked_certs: revoked.collect(),
            key_identifier_method: KeyIdMethod::Sha256,
        };
        list.signed_by(&self.issuer).expect("signed").pem().expect("PEM")
    }

    /// A client's certificate with this URI.
    pub fn issue_client(&self, uri: &str) -> Pair {
        let uri = uri.to_owned();
        self.issue_with(&["client.example.com"], |params| {
            params.subject_alt_names.push(SanType::URI(uri.try_into().expect("ascii")));
        })
    }

    /// What a client that trusts it needs; with `client` it shows that certificate. The protocols are
    /// offered by ALPN.
    pub fn client(&self, client: Option<&Pair>, protocols: &[&str]) -> Arc<ClientConfig> {
        let versions = [&rustls::version::TLS13, &rustls::version::TLS12];
        let mut config = self.client_of(client, &versions, |_| {});
        config.alpn_protocols = protocols.iter().map(|name| name.as_bytes().to_vec()).collect();
        Arc::new(config)
    }

    /// A client of these versions only; `change` may narrow what it knows.
    pub fn client_of(
        &self,
        client: Option<&Pair>,
        versions: &[&'static rustls::SupportedProtocolVersion],
        change: impl FnOnce(&mut CryptoProvider),
    ) -> ClientConfig {
        let mut provider = aws_lc_rs::default_provider();
        change(&mut provider);
        let builder = ClientConfig::builder_with_provider(Arc::new(provider))
            .with_protocol_versions(versions)
            .expect("versions")
            .with_root_certificates(self.roots());
        match client {
            None => builder.with_no_client_auth(),
            Some(pair) => {
                let key = PrivateKeyDer::from_pem_slice(pair.key.as_bytes()).expect("PEM");
                builder.with_client_auth_cert(vec![pair.der()], key).expect("a pair")
            }
        }
    }

    /// It alone.
    pub fn roots(&self) -> RootCertStore {
        let mut roots = RootCertStore::empty();
        roots.add(self.issuer.der().clone()).expect("an authority");
        roots
    }
}

/// Let a client offer the signature schemes only whose names begin so.
pub fn only_schemes(provider: &mut CryptoProvider, prefix: &str) {
    let known = provider.signature_verification_algorithms;
    let kept: Vec<_> = known
        .mapping
        .iter()
        .copied()
        .filter(|(scheme, _)| format!("{scheme:?}").starts_with(prefix))
        .collect();
    assert!(!kept.is_empty(), "there is a scheme {prefix}…");
    // It must live as long as a static one; a test makes few of them.
    let mapping = Box::leak(kept.into_boxed_slice());
    provider.signature_verification_algorithms =
        WebPkiSupportedAlgorithms { all: known.all, mapping };
}

/// A Secret `name` in the gateway's namespace with these texts.
pub fn secret(name: &str, values: &[(&str, &str)]) -> String {
    let mut text = format!(
        "apiVersion: v1\nkind: Secret\nmetadata: {{name: {name}, namespace: istio-system}}\nstringData:\n"
    );
    for (key, value) in values {
        text.push_str(&format!("  {key}: |\n"));
        for line in value.lines() {
            text.push_str(&format!("    {line}\n"));
        }
    }
    text
}

/// The Secret of a pair, as `kubectl create secret tls` makes it.
pub fn secret_of(name: &str, pair: &Pair) -> String {
    secret(name, &[("tls.crt", &pair.certificate), ("tls.key", &pair.key)])
}

/// A connection in TLS.
pub type Connection = StreamOwned<ClientConnection, TcpStream>;

/// Connect and shake hands, asking for the server `name`.
pub fn connect(
    address: SocketAddr,
    name: &str,
    config: &Arc<ClientConfig>,
) -> std::io::Result<Connection> {
    let socket = TcpStream::connect(address)?;
    socket.set_read_timeout(Some(Duration::from_secs(20)))?;
    let name = ServerName::try_from(name.to_owned()).expect("a name");
    let connection = ClientConnection::new(Arc::clone(config), name).expect("a client");
    let mut stream = StreamOwned::new(connection, socket);
    stream.flush()?;
    // The handshake ends with what the server says last.
    while stream.conn.is_handshaking() {
        stream.conn.complete_io(&mut stream.sock)?;
    }
    Ok(stream)
}

/// Send a GET for `host` and read the whole answer, head and body as text.
pub fn get(stream: &mut Connection, host: &str, path: &str) -> std::io::Result<String> {
    write!(stream, "GET {path} HTTP/1.1\r\nHost: {host}\r\n\r\n")?;
    let mut read = Vec::new();
    let mut byte = [0];
    while !read.ends_with(b"\r\n\r\n") {
        if stream.read(&mut byte)? == 0 {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
        read.push(byte[0]);
    }
    let head = String::from_utf8_lossy(&read).into_owned();
    let length = head
        .lines()
        .find_map(|line| line.strip_prefix("content-length: "))
        .and_then(|length| length.trim().parse().ok())
        .unwrap_or(0);
    let mut body = vec![0; length];
    stream.read_exact(&mut body)?;
    Ok(head + &String::from_utf8_lossy(&body))
}

/// The status of an answer.
pub fn status(answer: &str) -> u16 {
    answer.split(' ').nth(1).and_then(|status| status.parse().ok()).expect("a status")
}

/// What a server in TLS saw of a connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shaken {
    /// The name that it was asked for.
    pub server_name: Option<String>,
    /// Did the client show a certificate?
    pub client_certificate: bool,
    /// The protocols that it offered by ALPN.
    pub offered: Vec<String>,
    /// The one that was agreed on.
    pub protocol: Option<String>,
    /// Was an earlier session resumed?
    pub resumed: bool,
}

/// A server that speaks TLS and answers every request of HTTP/1.1 with its name.
pub struct TlsUpstream {
    /// Where it listens.
    pub address: SocketAddr,
    shaken: Arc<Mutex<Vec<Shaken>>>,
}

/// The side of a server with this certificate; clients need one of `clients`, if there are any.
pub fn server_config(pair: &Pair, clients: Option<&Authority>) -> ServerConfig {
    let provider = Arc::new(aws_lc_rs::default_provider());
    let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .expect("versions");
    let builder = match clients {
        None => builder.with_no_client_auth(),
        Some(authority) => {
            let roots = Arc::new(authority.roots());
            let verifier = WebPkiClientVerifier::builder_with_provider(roots, provider)
                .build()
                .expect("a verifier");
            builder.with_client_cert_verifier(verifier)
        }
    };
    let key = PrivateKeyDer::from_pem_slice(pair.key.as_bytes()).expect("PEM");
    builder.with_single_cert(vec![pair.der()], key).expect("a pair")
}

impl TlsUpstream {
    /// Start with this certificate; clients need one of `clients`, if there are any.
    pub fn start(name: &str, pair: &Pair, clients: Option<&Authority>) -> TlsUpstream {
        let mut config = server_config(pair, clients);
        config.alpn_protocols = ["http/1.1", "istio", "h2"].map(|name| name.into()).to_vec();
        let config = Arc::new(config);
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("bound");
        let shaken = Arc::new(Mutex::new(Vec::new()));
        let (name, seen) = (name.to_owned(), Arc::clone(&shaken));
        std::thread::spawn(move || {
            for socket in listener.incoming().map_while(Result::ok) {
                let (config, name, seen) = (Arc::clone(&config), name.clone(), Arc::clone(&seen));
                std::thread::spawn(move || {
                    // A client may leave at any time.
                    let _ = answer(socket, config, &name, &seen);
                });
            }
        });
        TlsUpstream { address, shaken }
    }

    /// The connections so far.
    pub fn shaken(&self) -> Vec<Shaken> {
        self.shaken.lock().expect("not poisoned").clone()
    }
}

fn answer(
    mut socket: TcpStream,
    config: Arc<ServerConfig>,
    name: &str,
    seen: &Mutex<Vec<Shaken>>,
) -> std::io::Result<()> {
    socket.set_read_timeout(Some(Duration::from_secs(60)))?;
    let mut acceptor = Acceptor::default();
    let accepted = loop {
        acceptor.read_tls(&mut socket)?;
        if let Some(accepted) =
            acceptor.accept().map_err(|(error, _)| std::io::Error::other(error))?
        {
            break accepted;
        }
    };
    let offered = accepted.client_hello().alpn().into_iter().flatten();
    let offered = offered.map(|name| String::from_utf8_lossy(name).into_owned()).collect();
    let connection = match accepted.into_connection(config) {
        Ok(connection) => connection,
        Err((error, mut alert)) => {
            alert.write_all(&mut socket)?;
            return Err(std::io::Error::other(error));
        }
    };
    let mut stream = StreamOwned::new(connection, socket);
    while stream.conn.is_handshaking() {
        if let Err(error) = stream.conn.complete_io(&mut stream.sock) {
            // Closed with the client's first bytes unread, the alert could be lost.
            stream.sock.shutdown(Shutdown::Write)?;
            std::io::copy(&mut stream.sock, &mut std::io::sink())?;
            return Err(error);
        }
    }
    seen.lock().expect("not poisoned").push(Shaken {
        server_name: stream.conn.server_name().map(str::to_owned),
        client_certificate: stream.conn.peer_certificates().is_some(),
        offered,
        protocol: stream
            .conn
            .alpn_protocol()
            .map(|name| String::from_utf8_lossy(name).into_owned()),
        resumed: stream.conn.handshake_kind() == Some(rustls::HandshakeKind::Resumed),
    });
    let mut head = Vec::new();
    let mut byte = [0];
    while stream.read(&mut byte)? == 1 {
        head.push(byte[0]);
        if head.ends_with(b"\r\n\r\n") {
            head.clear();
            let length = name.len();
            write!(stream, "HTTP/1.1 200 OK\r\ncontent-length: {length}\r\n\r\n{name}")?;
            stream.flush()?;
        }
    }
    Ok(())
}
