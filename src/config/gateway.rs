//! `Gateway` (networking.istio.io).

use std::collections::BTreeMap;

use serde::Deserialize;

/// Spec of a Gateway.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct Gateway {
    /// Ports and hosts.
    pub servers: Vec<Server>,
    /// Labels of the gateways that serve it.
    pub selector: BTreeMap<String, String>,
}

/// One port of a Gateway with its hosts.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct Server {
    /// Port.
    pub port: Option<Port>,
    /// Address or `unix://` path to bind.
    pub bind: Option<String>,
    /// `[namespace/]host`.
    pub hosts: Vec<String>,
    /// TLS settings.
    pub tls: Option<ServerTlsSettings>,
    /// Unused by gateways.
    pub default_endpoint: Option<String>,
    /// Stat prefix.
    pub name: Option<String>,
}

/// A server's port.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct Port {
    /// Number: a port of the gateway's own Service.
    pub number: u32,
    /// HTTP, HTTPS, GRPC, GRPC-WEB, HTTP2, MONGO, TCP, TLS.
    pub protocol: String,
    /// Name.
    pub name: String,
    /// Deprecated; refused by validation.
    pub target_port: Option<u32>,
}

/// TLS of a server.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct ServerTlsSettings {
    /// Answer plain requests with a redirect to https.
    pub https_redirect: Option<bool>,
    /// How TLS is ended; `PASSTHROUGH` when unset.
    pub mode: Option<TlsMode>,
    /// File.
    pub server_certificate: Option<String>,
    /// File.
    pub private_key: Option<String>,
    /// File.
    pub ca_certificates: Option<String>,
    /// File.
    pub ca_crl: Option<String>,
    /// Pairs of files.
    pub tls_certificates: Vec<TlsCertificate>,
    /// Secret.
    pub credential_name: Option<String>,
    /// Secrets, RSA and ECDSA.
    pub credential_names: Vec<String>,
    /// Secret with the CA.
    pub ca_cert_credential_name: Option<String>,
    /// Names that a client certificate must have one of.
    pub subject_alt_names: Vec<String>,
    /// Pins.
    pub verify_certificate_spki: Vec<String>,
    /// Pins.
    pub verify_certificate_hash: Vec<String>,
    /// Lowest version.
    pub min_protocol_version: Option<TlsProtocol>,
    /// Highest version.
    pub max_protocol_version: Option<TlsProtocol>,
    /// OpenSSL names.
    pub cipher_suites: Vec<String>,
    /// Curves of the key exchange.
    pub ecdh_curves: Vec<String>,
    /// Accept untrusted client certificates.
    pub insecure_skip_verify: Option<bool>,
}

/// A pair of files.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct TlsCertificate {
    /// File.
    pub server_certificate: Option<String>,
    /// File.
    pub private_key: Option<String>,
    /// File.
    pub ca_certificates: Option<String>,
}

/// `tls.mode`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
#[allow(missing_docs, reason = "Istio's names; their meaning is Istio's")]
pub enum TlsMode {
    Passthrough,
    Simple,
    Mutual,
    AutoPassthrough,
    IstioMutual,
    OptionalMutual,
}

/// A TLS version.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[allow(missing_docs, reason = "Istio's names; their meaning is Istio's")]
pub enum TlsProtocol {
    #[serde(rename = "TLS_AUTO")]
    Auto,
    #[serde(rename = "TLSV1_0")]
    V1_0,
    #[serde(rename = "TLSV1_1")]
    V1_1,
    #[serde(rename = "TLSV1_2")]
    V1_2,
    #[serde(rename = "TLSV1_3")]
    V1_3,
}

impl Server {
    /// The protocol in upper case, empty when there is no port.
    pub fn protocol(&self) -> String {
        self.port.as_ref().map(|port| port.protocol.to_ascii_uppercase()).unwrap_or_default()
    }

    /// Does it take HTTP in clear text?
    pub fn is_plain_http(&self) -> bool {
        matches!(self.protocol().as_str(), "HTTP" | "HTTP2" | "GRPC" | "GRPC-WEB" | "HTTP_PROXY")
    }

    /// Does it answer requests in clear text with a redirect to https, whatever the routes say?
    pub fn redirects_to_https(&self) -> bool {
        self.is_plain_http()
            && self.tls.as_ref().is_some_and(|tls| tls.https_redirect == Some(true))
    }

    /// Does it take bytes that are not looked into?
    pub fn is_bytes(&self) -> bool {
        matches!(self.protocol().as_str(), "TCP" | "MONGO" | "MYSQL" | "REDIS")
    }

    /// Does it take TLS?
    pub fn is_tls(&self) -> bool {
        matches!(self.protocol().as_str(), "HTTPS" | "TLS")
    }
}
