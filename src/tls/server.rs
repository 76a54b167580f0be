//! The server side: what a Gateway's server is made into, and accepting a connection with it.

use std::sync::Arc;

use rustls::ServerConfig;
use rustls::crypto::aws_lc_rs::Ticketer;
use rustls::server::{NoServerSessionStorage, UnbufferedServerConnection};

use super::certificate::InUse;
use super::client_hello::{self, ClientHello, Parsed};
use super::crypto;
use super::error::TlsError;
use super::handshake::{self, TlsInfo};
use super::identity::Identities;
use super::pools::TlsPools;
use super::session::Session;
use super::settings::{ServerSettings, TlsVersion};
use super::trust;
use crate::net::{Buffer, Stream};

/// Tickets for later sessions in a TLS 1.3 handshake. A client uses a ticket once, but one that opens
/// connections side by side seldom resumes them at the same moment, and each ticket costs an encryption
/// and a record in every handshake.
const TICKETS_PER_HANDSHAKE: usize = 1;

/// A server side, shared by all workers.
///
/// Its session tickets are encrypted with keys of its own that change every six hours (the last ones
/// are still accepted). A ticket of another server is not accepted: a session that was begun under
/// other rules for client certificates, or with another certificate, is never resumed here. Equal
/// settings are kept over a reload, and so are their tickets.
#[derive(Clone, Debug)]
pub struct ServerTls {
    config: Arc<ServerConfig>,
    /// The same without ALPN.
    without_alpn: Arc<ServerConfig>,
    /// Those of `config`, to be shown.
    identities: Arc<Identities>,
    /// PEM, to be shown.
    authorities: Option<Arc<[u8]>>,
}

impl ServerTls {
    /// Fails when certificates, keys or authorities are not good, or fit nothing.
    pub fn new(settings: &ServerSettings) -> Result<ServerTls, TlsError> {
        let provider = crypto::provider_with(&settings.cipher_suites);
        let identities = Arc::new(Identities::load(&settings.identities)?);
        let clients = trust::of_clients(settings.client_certificates, &settings.trust, &provider)?;
        let versions = versions(settings.version_min, settings.version_max)?;
        let builder = ServerConfig::builder_with_provider(provider)
            .with_protocol_versions(&versions)
            .map_err(|error| TlsError::BadSettings(error.to_string()))?;
        let builder = match clients {
            Some(clients) => builder.with_client_cert_verifier(clients),
            None => builder.with_no_client_auth(),
        };
        let mut config = builder.with_cert_resolver(Arc::clone(&identities) as Arc<_>);
        config.ticketer =
            Ticketer::new().map_err(|error| TlsError::BadSettings(error.to_string()))?;
        // Tickets carry the sessions: nothing is kept here, and no lock is shared by the cores.
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.send_tls13_tickets = TICKETS_PER_HANDSHAKE;
        let without_alpn = Arc::new(config.clone());
        if settings.http {
            config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        }
        let authorities = settings.trust.authorities.as_ref().map(|pem| pem.0.as_slice().into());
        Ok(ServerTls { config: Arc::new(config), without_alpn, identities, authorities })
    }

    /// The certificates that it uses. They are read anew.
    pub fn certificates(&self) -> InUse {
        InUse::of(self.identities.certificates(), self.authorities.as_deref())
    }

    /// What a client gets that said this. One that offers only protocols that are not known here is not
    /// refused, which rustls would do: like Envoy it goes on as if it had offered none.
    fn config_for(&self, hello: &ClientHello) -> &Arc<ServerConfig> {
        let is_ours =
            |name: &String| self.config.alpn_protocols.iter().any(|own| own == name.as_bytes());
        if hello.alpn.iter().any(is_ours) { &self.config } else { &self.without_alpn }
    }
}

fn versions(
    min: Option<TlsVersion>,
    max: Option<TlsVersion>,
) -> Result<Vec<&'static rustls::SupportedProtocolVersion>, TlsError> {
    let min = min.unwrap_or(TlsVersion::V1_2);
    let max = max.unwrap_or(TlsVersion::V1_3);
    let spoken = |version| min <= version && version <= max;
    let mut versions = Vec::new();
    if spoken(TlsVersion::V1_3) {
        versions.push(&rustls::version::TLS13);
    }
    if spoken(TlsVersion::V1_2) {
        versions.push(&rustls::version::TLS12);
    }
    if versions.is_empty() {
        let message = "the lowest TLS version is above the highest".to_owned();
        return Err(TlsError::BadSettings(message));
    }
    Ok(versions)
}

/// Shake hands with the client on `socket`, of whom `received` came already (its ClientHello, or the
/// beginning of it, or nothing). The caller bounds the time. When it fails the client was told by an
/// alert; dropping the last handle of the socket closes it.
pub async fn accept(
    socket: Stream,
    tls: &ServerTls,
    received: Buffer,
    pools: &TlsPools,
) -> Result<(Stream, TlsInfo), TlsError> {
    let (config, server_name) = match client_hello::parse(&received) {
        Parsed::Hello(hello) => (tls.config_for(&hello), hello.server_name),
        Parsed::Incomplete | Parsed::NotTls => (&tls.config, None),
    };
    let connection = UnbufferedServerConnection::new(Arc::clone(config));
    let session = Session::Server(connection.map_err(TlsError::Handshake)?);
    let (socket, session, info, leftover) =
        handshake::run(socket, session, received, pools).await?;
    Ok((handshake::stream(socket, session, leftover, pools), TlsInfo { server_name, ..info }))
}
