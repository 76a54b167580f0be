//! Certificates of ours with their keys, and the choice between them.

use std::sync::Arc;

use rustls::SignatureAlgorithm;
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;

use super::error::TlsError;
use super::pem;
use super::settings::Identity;

/// A chain and its key, which belong together.
pub(super) fn load(identity: &Identity) -> Result<CertifiedKey, TlsError> {
    let mut certified = pem::identity(&identity.chain.0, &identity.key.0)?;
    certified.ocsp = identity.ocsp_staple.as_ref().map(|staple| staple.0.clone());
    Ok(certified)
}

/// The identities of a server. The first whose key can sign in a way that the client knows is served.
#[derive(Debug)]
pub(super) struct Identities {
    keys: Vec<Arc<CertifiedKey>>,
}

impl Identities {
    /// Fails on the first identity that is not good.
    pub(super) fn load(identities: &[Identity]) -> Result<Identities, TlsError> {
        if identities.is_empty() {
            return Err(TlsError::NoIdentity);
        }
        let mut keys = Vec::new();
        for identity in identities {
            keys.push(Arc::new(load(identity)?));
        }
        // ECDSA is cheaper for both sides: it is preferred when the client knows both.
        keys.sort_by_key(|key| key.key.algorithm() == SignatureAlgorithm::RSA);
        Ok(Identities { keys })
    }
}

impl Identities {
    /// The certificates of all chains, DER.
    pub(super) fn certificates(&self) -> impl Iterator<Item = &[u8]> {
        self.keys.iter().flat_map(|key| &key.cert).map(AsRef::as_ref)
    }
}

impl ResolvesServerCert for Identities {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let schemes = hello.signature_schemes();
        let good = self.keys.iter().find(|key| key.key.choose_scheme(schemes).is_some());
        // None fits: the handshake fails on the first one with the alert that says so.
        good.or(self.keys.first()).cloned()
    }
}
