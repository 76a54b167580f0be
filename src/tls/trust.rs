//! Which certificates of a peer are good: authorities, revocations, names, pins.

use std::sync::{Arc, OnceLock};

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, CertificateRevocationListDer, ServerName, UnixTime};
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{
    CertificateError, DigitallySignedStruct, DistinguishedName, Error, RootCertStore,
    SignatureScheme,
};

use super::certificate;
use super::crypto::sha256;
use super::error::TlsError;
use super::pem;
use super::settings::{ClientCertificates, Trust};

/// What else than the chain must be right: names and pins.
#[derive(Debug, Default)]
struct Conditions {
    names: Vec<String>,
    key_digests: Vec<[u8; 32]>,
    certificate_digests: Vec<[u8; 32]>,
}

impl Conditions {
    fn new(trust: &Trust) -> Result<Conditions, TlsError> {
        let digest = |pin: &String, bytes: Option<Vec<u8>>| {
            bytes
                .and_then(|bytes| <[u8; 32]>::try_from(bytes).ok())
                .ok_or_else(|| TlsError::BadPin(pin.clone()))
        };
        let mut conditions =
            Conditions { names: trust.subject_alt_names.clone(), ..Conditions::default() };
        for pin in &trust.key_pins {
            let bytes = data_encoding::BASE64.decode(pin.as_bytes()).ok();
            conditions.key_digests.push(digest(pin, bytes)?);
        }
        for pin in &trust.certificate_pins {
            let plain = pin.replace(':', "");
            let bytes = data_encoding::HEXLOWER_PERMISSIVE.decode(plain.as_bytes()).ok();
            conditions.certificate_digests.push(digest(pin, bytes)?);
        }
        Ok(conditions)
    }

    fn pinned(&self) -> bool {
        !self.key_digests.is_empty() || !self.certificate_digests.is_empty()
    }

    fn check(&self, leaf: &CertificateDer<'_>) -> Result<(), Error> {
        let refused = || CertificateError::ApplicationVerificationFailure;
        if !self.names.is_empty() {
            let said = certificate::read(leaf).map_err(|_| CertificateError::BadEncoding)?;
            if !self.names.iter().any(|name| said.has_name(name)) {
                return Err(refused().into());
            }
        }
        if !self.pinned() || self.certificate_digests.contains(&sha256(leaf)) {
            return Ok(());
        }
        let key = certificate::public_key(leaf).ok_or(CertificateError::BadEncoding)?;
        if self.key_digests.contains(&sha256(&key)) { Ok(()) } else { Err(refused().into()) }
    }
}

/// What the checks of both sides say of the peer's signature in the handshake: that of the provider.
macro_rules! check_of_signatures {
    () => {
        fn verify_tls12_signature(
            &self,
            message: &[u8],
            leaf: &CertificateDer<'_>,
            signature: &DigitallySignedStruct,
        ) -> Result<HandshakeSignatureValid, Error> {
            let algorithms = &self.provider.signature_verification_algorithms;
            verify_tls12_signature(message, leaf, signature, algorithms)
        }

        fn verify_tls13_signature(
            &self,
            message: &[u8],
            leaf: &CertificateDer<'_>,
            signature: &DigitallySignedStruct,
        ) -> Result<HandshakeSignatureValid, Error> {
            let algorithms = &self.provider.signature_verification_algorithms;
            verify_tls13_signature(message, leaf, signature, algorithms)
        }

        fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
            self.provider.signature_verification_algorithms.supported_schemes()
        }
    };
}

fn authorities(text: &[u8]) -> Result<Arc<RootCertStore>, TlsError> {
    pem::authorities(text).map(Arc::new).map_err(TlsError::BadAuthorities)
}

/// The authorities of the system, read once for the process.
fn system_authorities() -> Result<Arc<RootCertStore>, TlsError> {
    static ROOTS: OnceLock<Arc<RootCertStore>> = OnceLock::new();
    let roots = ROOTS.get_or_init(|| {
        let mut roots = RootCertStore::empty();
        roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        Arc::new(roots)
    });
    if roots.is_empty() {
        return Err(TlsError::NoSystemAuthorities);
    }
    Ok(Arc::clone(roots))
}

fn revocations(trust: &Trust) -> Result<Vec<CertificateRevocationListDer<'static>>, TlsError> {
    let lists = trust.revocations.as_ref().map(|text| pem::revocations(&text.0)).transpose();
    Ok(lists.map_err(TlsError::BadRevocations)?.unwrap_or_default())
}

/// The check of client certificates; none: they are not asked for.
pub(super) fn of_clients(
    asked: ClientCertificates,
    trust: &Trust,
    provider: &Arc<CryptoProvider>,
) -> Result<Option<Arc<dyn ClientCertVerifier>>, TlsError> {
    let mandatory = match asked {
        ClientCertificates::NotAsked => return Ok(None),
        ClientCertificates::Optional => false,
        ClientCertificates::Required => true,
    };
    let conditions = Conditions::new(trust)?;
    let chain: Option<Arc<dyn ClientCertVerifier>> = match &trust.authorities {
        _ if trust.skip_verification => None,
        Some(pem) => {
            let roots = authorities(&pem.0)?;
            let mut builder =
                WebPkiClientVerifier::builder_with_provider(roots, Arc::clone(provider));
            let lists = revocations(trust)?;
            if !lists.is_empty() {
                // As Envoy does: every certificate of the chain must have a valid list of its issuer, and
                // not be in it. Lists of one authority alone refuse the chains of all others.
                builder = builder.with_crls(lists).enforce_revocation_expiration();
            }
            let built = builder.build();
            Some(built.map_err(|error| TlsError::BadSettings(error.to_string()))?)
        }
        // A pin says of itself which certificate is good.
        None if conditions.pinned() => None,
        None => return Err(TlsError::NoAuthorities),
    };
    let provider = Arc::clone(provider);
    let conditions = if trust.skip_verification { Conditions::default() } else { conditions };
    Ok(Some(Arc::new(ClientCheck { mandatory, chain, conditions, provider })))
}

#[derive(Debug)]
struct ClientCheck {
    mandatory: bool,
    /// None: any chain.
    chain: Option<Arc<dyn ClientCertVerifier>>,
    conditions: Conditions,
    provider: Arc<CryptoProvider>,
}

impl ClientCertVerifier for ClientCheck {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        self.chain.as_ref().map_or(&[], |chain| chain.root_hint_subjects())
    }

    fn client_auth_mandatory(&self) -> bool {
        self.mandatory
    }

    fn verify_client_cert(
        &self,
        leaf: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        if let Some(chain) = &self.chain {
            chain.verify_client_cert(leaf, intermediates, now)?;
        }
        self.conditions.check(leaf)?;
        Ok(ClientCertVerified::assertion())
    }

    check_of_signatures!();
}

/// The check of the certificates of servers.
pub(super) fn of_servers(
    trust: &Trust,
    provider: &Arc<CryptoProvider>,
) -> Result<Arc<dyn ServerCertVerifier>, TlsError> {
    let conditions = Conditions::new(trust)?;
    let chain = if trust.skip_verification {
        None
    } else {
        let roots = match &trust.authorities {
            Some(pem) => authorities(&pem.0)?,
            None => system_authorities()?,
        };
        let mut builder = WebPkiServerVerifier::builder_with_provider(roots, Arc::clone(provider));
        let lists = revocations(trust)?;
        if !lists.is_empty() {
            builder = builder.with_crls(lists).enforce_revocation_expiration();
        }
        Some(builder.build().map_err(|error| TlsError::BadSettings(error.to_string()))?)
    };
    let conditions = if trust.skip_verification { Conditions::default() } else { conditions };
    let any_name = trust.any_name;
    Ok(Arc::new(ServerCheck { chain, conditions, any_name, provider: Arc::clone(provider) }))
}

#[derive(Debug)]
struct ServerCheck {
    /// None: any chain.
    chain: Option<Arc<WebPkiServerVerifier>>,
    conditions: Conditions,
    /// Who the authorities vouch for is good, whatever its name (sidecars have no DNS name).
    any_name: bool,
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for ServerCheck {
    fn verify_server_cert(
        &self,
        leaf: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        if let Some(chain) = &self.chain {
            let outcome =
                chain.verify_server_cert(leaf, intermediates, server_name, ocsp_response, now);
            match outcome {
                // The name is looked at last, when the chain was found good; names that were given
                // stand in its place.
                Err(Error::InvalidCertificate(
                    CertificateError::NotValidForName
                    | CertificateError::NotValidForNameContext { .. },
                )) if self.any_name || !self.conditions.names.is_empty() => {}
                outcome => {
                    outcome?;
                }
            }
        }
        self.conditions.check(leaf)?;
        Ok(ServerCertVerified::assertion())
    }

    check_of_signatures!();
}
