//! Certificates of ours with their keys, and the choice between them.

use std::sync::Arc;

use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls::{Error, InconsistentKeys, SignatureAlgorithm};

use super::certificate;
use super::error::TlsError;
use super::settings::Identity;

/// A chain and its key, which belong together.
pub(super) fn load(
    identity: &Identity,
    provider: &CryptoProvider,
) -> Result<CertifiedKey, TlsError> {
    let chain = certificates(&identity.chain.0).map_err(TlsError::BadCertificate)?;
    let subject = certificate::read(&chain[0])?.subject;
    let key = PrivateKeyDer::from_pem_slice(&identity.key.0)
        .map_err(|error| TlsError::BadKey(error.to_string()))?;
    let key = provider
        .key_provider
        .load_private_key(key)
        .map_err(|error| TlsError::BadKey(error.to_string()))?;
    let mut certified = CertifiedKey::new(chain, key);
    match certified.keys_match() {
        Ok(()) | Err(Error::InconsistentKeys(InconsistentKeys::Unknown)) => {}
        Err(Error::InconsistentKeys(_)) => return Err(TlsError::KeyMismatch { subject }),
        Err(error) => return Err(TlsError::BadCertificate(error.to_string())),
    }
    certified.ocsp = identity.ocsp_staple.as_ref().map(|staple| staple.0.clone());
    Ok(certified)
}

/// The certificates of a PEM text, at least one; other sections are passed over.
pub(super) fn certificates(pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, String> {
    let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    let chain = chain.map_err(|error| error.to_string())?;
    if chain.is_empty() {
        return Err("it has no PEM section CERTIFICATE".to_owned());
    }
    Ok(chain)
}

/// The identities of a server. The first whose key can sign in a way that the client knows is served.
#[derive(Debug)]
pub(super) struct Identities {
    keys: Vec<Arc<CertifiedKey>>,
}

impl Identities {
    /// Fails on the first identity that is not good.
    pub(super) fn load(
        identities: &[Identity],
        provider: &CryptoProvider,
    ) -> Result<Identities, TlsError> {
        if identities.is_empty() {
            return Err(TlsError::NoIdentity);
        }
        let mut keys = Vec::new();
        for identity in identities {
            keys.push(Arc::new(load(identity, provider)?));
        }
        // ECDSA is cheaper for both sides: it is preferred when the client knows both.
        keys.sort_by_key(|key| key.key.algorithm() == SignatureAlgorithm::RSA);
        Ok(Identities { keys })
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
