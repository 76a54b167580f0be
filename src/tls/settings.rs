//! What is asked of a TLS side, in plain data: the contract between the compiler, which fills it in from
//! manifests, Secrets and files, and [`super::ServerTls`] and [`super::ClientTls`], which are made of it.
//! Equal settings make equal sides: a reload compares them to keep what did not change.

/// PEM or DER as it was read. Never printed: it may be a key.
#[derive(Clone, Default, PartialEq, Eq, Hash)]
pub struct Bytes(pub Vec<u8>);

impl std::fmt::Debug for Bytes {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "<{} bytes>", self.0.len())
    }
}

/// A certificate with its chain, and its key.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Identity {
    /// Certificate chain, leaf first, PEM.
    pub chain: Bytes,
    /// Private key, PEM (PKCS #8, PKCS #1 or SEC1).
    pub key: Bytes,
    /// An OCSP response to staple, DER.
    pub ocsp_staple: Option<Bytes>,
}

/// A TLS version that is spoken here.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum TlsVersion {
    /// TLS 1.2.
    V1_2,
    /// TLS 1.3.
    V1_3,
}

/// Are clients asked for a certificate?
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum ClientCertificates {
    /// No (`SIMPLE`).
    #[default]
    NotAsked,
    /// Yes; one that comes must be good (`OPTIONAL_MUTUAL`).
    Optional,
    /// Yes, and none is served without (`MUTUAL`, `ISTIO_MUTUAL`).
    Required,
}

/// Which certificates of a peer are good.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Trust {
    /// Authorities, PEM; none: those of the system.
    pub authorities: Option<Bytes>,
    /// Revocation lists, PEM.
    pub revocations: Option<Bytes>,
    /// Names of which the certificate must have one; empty: see where it is used.
    pub subject_alt_names: Vec<String>,
    /// Of a client side: without `subject_alt_names` any name is good, the authorities alone decide
    /// (`ISTIO_MUTUAL`, whose certificates name no host).
    pub any_name: bool,
    /// SHA-256 of the public key, base64 (`verifyCertificateSpki`).
    pub key_pins: Vec<String>,
    /// SHA-256 of the certificate, hexadecimal, colons allowed (`verifyCertificateHash`). One of either
    /// list is enough.
    pub certificate_pins: Vec<String>,
    /// Accept any certificate (`insecureSkipVerify`).
    pub skip_verification: bool,
}

/// A server side of TLS: one HTTPS or TLS server of a Gateway.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct ServerSettings {
    /// At most one RSA and one ECDSA; the client's signature algorithms choose.
    pub identities: Vec<Identity>,
    /// Are clients asked for a certificate?
    pub client_certificates: ClientCertificates,
    /// Which of them are good.
    pub trust: Trust,
    /// Lowest version; none: 1.2.
    pub version_min: Option<TlsVersion>,
    /// Highest version; none: 1.3.
    pub version_max: Option<TlsVersion>,
    /// OpenSSL names of TLS 1.2 suites that are spoken; empty: all that are known. Unknown ones were told
    /// by validation and are passed over here.
    pub cipher_suites: Vec<String>,
    /// Does HTTP flow in it? Then ALPN offers `h2` and `http/1.1`.
    pub http: bool,
}

/// A client side of TLS: the connections to a cluster.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct ClientSettings {
    /// Our certificate (`MUTUAL`, `ISTIO_MUTUAL`).
    pub identity: Option<Identity>,
    /// Which certificates of servers are good. Without `subject_alt_names` the name that is asked for
    /// must be in the certificate.
    pub trust: Trust,
    /// The name that is asked for; none: the host of the request, without its port.
    pub server_name: Option<String>,
    /// Are the servers sidecars of a mesh (`ISTIO_MUTUAL`)? They know its connections by protocol names of
    /// Istio's: without one, a sidecar that also takes clear text passes the TLS on unopened.
    pub mesh: bool,
}

/// What is spoken inside a client side's TLS: ALPN offers it and nothing else.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Spoken {
    /// HTTP/1.1.
    Http1,
    /// HTTP/2.
    Http2,
    /// Whatever the client of the gateway speaks: nothing is promised.
    Bytes,
}
