//! The client side: what the TLS settings of a cluster are made into, and connecting with it.

use std::sync::Arc;

use rustls::ClientConfig;
use rustls::client::UnbufferedClientConnection;
use rustls::pki_types::ServerName;
use rustls::sign::CertifiedKey;

use super::certificate::InUse;
use super::crypto;
use super::error::TlsError;
use super::handshake::{self, TlsInfo};
use super::identity;
use super::pools::TlsPools;
use super::session::Session;
use super::settings::{ClientSettings, Spoken};
use super::trust;
use crate::net::Stream;

/// A client side, shared by all workers; it keeps the sessions that it may resume, for all of them.
#[derive(Clone, Debug)]
pub struct ClientTls {
    config: Arc<ClientConfig>,
    server_name: Option<ServerName<'static>>,
    mesh: bool,
    /// Our own certificate, to be shown.
    identity: Option<Arc<CertifiedKey>>,
    /// PEM, to be shown.
    authorities: Option<Arc<[u8]>>,
}

impl ClientTls {
    /// Fails when certificates, keys or authorities are not good, or the name to ask for cannot be one.
    pub fn new(settings: &ClientSettings) -> Result<ClientTls, TlsError> {
        let provider = crypto::provider();
        let servers = trust::of_servers(&settings.trust, &provider)?;
        let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
            .with_protocol_versions(&[&rustls::version::TLS13, &rustls::version::TLS12])
            .map_err(|error| TlsError::BadSettings(error.to_string()))?
            .dangerous()
            .with_custom_certificate_verifier(servers);
        let own = settings.identity.as_ref().map(identity::load).transpose()?.map(Arc::new);
        let config = match &own {
            None => builder.with_no_client_auth(),
            Some(own) => builder.with_client_cert_resolver(Arc::new(
                rustls::sign::SingleCertAndKey::from(Arc::clone(own)),
            )),
        };
        let server_name = settings.server_name.as_deref().map(name).transpose()?;
        let authorities = settings.trust.authorities.as_ref().map(|pem| pem.0.as_slice().into());
        let (config, mesh) = (Arc::new(config), settings.mesh);
        Ok(ClientTls { config, server_name, mesh, identity: own, authorities })
    }

    /// The certificates that it uses. They are read anew.
    pub fn certificates(&self) -> InUse {
        let chain = self.identity.iter().flat_map(|own| &own.cert).map(AsRef::as_ref);
        InUse::of(chain, self.authorities.as_deref())
    }

    /// The protocols that ALPN offers, the most wanted first; to sidecars those of Istio's own proxies.
    fn protocols(&self, spoken: Spoken) -> &'static [&'static str] {
        match (spoken, self.mesh) {
            (Spoken::Http1, false) => &["http/1.1"],
            (Spoken::Http2, false) => &["h2"],
            (Spoken::Bytes, false) => &[],
            (Spoken::Http1, true) => &["istio-http/1.1", "istio", "http/1.1"],
            (Spoken::Http2, true) => &["istio-h2", "istio", "h2"],
            (Spoken::Bytes, true) => &["istio"],
        }
    }
}

/// A host without its port, or an address, in brackets or not.
fn name(host: &str) -> Result<ServerName<'static>, TlsError> {
    let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    let bare = bare.strip_suffix('.').unwrap_or(bare);
    ServerName::try_from(bare.to_owned()).map_err(|_| TlsError::BadServerName(host.to_owned()))
}

/// Shake hands with the server on `socket`, for what will be `spoken` in it. `host` is the host of the request without its port: the
/// name that is asked for when the settings have none. The caller bounds the time. The error's text is
/// the transport failure reason of the attempt.
pub async fn connect(
    socket: Stream,
    tls: &ClientTls,
    host: &str,
    spoken: Spoken,
    pools: &TlsPools,
) -> Result<(Stream, TlsInfo), TlsError> {
    let name = match &tls.server_name {
        Some(name) => name.clone(),
        None => name(host)?,
    };
    let protocols = tls.protocols(spoken).iter().map(|name| name.as_bytes().to_vec()).collect();
    let config = Arc::clone(&tls.config);
    let connection = UnbufferedClientConnection::new_with_alpn(config, name, protocols);
    let session = Session::Client(connection.map_err(TlsError::Handshake)?);
    let received = pools.buffers.take();
    let (socket, session, info, leftover) =
        handshake::run(socket, session, received, pools).await?;
    Ok((handshake::stream(socket, session, leftover, pools), info))
}
