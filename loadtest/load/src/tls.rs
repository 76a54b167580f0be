//! TLS towards the target: whom to trust, and which protocol to ask for.

use std::path::PathBuf;
use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{Resumption, WebPkiServerVerifier};
use rustls::crypto::{CryptoProvider, aws_lc_rs, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};

use crate::settings::Protocol;

/// Whose certificates are accepted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Trust {
    /// Those that the system's authorities sign.
    System,
    /// Those that the authorities in this PEM file sign.
    File(PathBuf),
    /// All.
    Anyone,
}

/// Why TLS cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TlsError {
    /// The file.
    #[error("{}: {error}", .path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        error: rustls::pki_types::pem::Error,
    },
    /// Nothing in it, or nothing on the system.
    #[error("{0} holds no certificate of an authority")]
    NoAuthority(String),
    /// A name that no certificate can have.
    #[error("\"{0}\" cannot be the server name of a TLS handshake: give one with --host")]
    Name(String),
    /// rustls.
    #[error("TLS cannot be set up: {0}")]
    Setup(String),
}

/// All that a handshake needs.
#[derive(Clone, Debug)]
pub(crate) struct Tls {
    pub(crate) config: Arc<ClientConfig>,
    pub(crate) name: ServerName<'static>,
}

impl Tls {
    /// For a server of this name. Without `resume` every connection makes a full handshake; with it sessions are
    /// shared by all workers.
    pub(crate) fn new(
        name: &str,
        protocol: Protocol,
        trust: &Trust,
        resume: bool,
    ) -> Result<Tls, TlsError> {
        let server_name = ServerName::try_from(name.to_owned());
        let server_name = server_name.map_err(|_| TlsError::Name(name.to_owned()))?;
        let provider = Arc::new(aws_lc_rs::default_provider());
        let verifier: Arc<dyn ServerCertVerifier> = match trust {
            Trust::Anyone => Arc::new(AcceptAnyone(Arc::clone(&provider))),
            Trust::System | Trust::File(_) => {
                let roots = Arc::new(roots(trust)?);
                let builder =
                    WebPkiServerVerifier::builder_with_provider(roots, Arc::clone(&provider));
                builder.build().map_err(|error| TlsError::Setup(error.to_string()))?
            }
        };
        let mut config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|error| TlsError::Setup(error.to_string()))?
            .dangerous()
            .with_custom_certificate_verifier(verifier)
            .with_no_client_auth();
        config.alpn_protocols = vec![match protocol {
            Protocol::Http1 => b"http/1.1".to_vec(),
            Protocol::Http2 => b"h2".to_vec(),
        }];
        if !resume {
            config.resumption = Resumption::disabled();
        }
        Ok(Tls { config: Arc::new(config), name: server_name })
    }
}

fn roots(trust: &Trust) -> Result<RootCertStore, TlsError> {
    let mut roots = RootCertStore::empty();
    let source = match trust {
        Trust::File(path) => {
            let failed = |error| TlsError::File { path: path.clone(), error };
            let certificates = CertificateDer::pem_file_iter(path).map_err(failed)?;
            let certificates = certificates.collect::<Result<Vec<_>, _>>().map_err(failed)?;
            roots.add_parsable_certificates(certificates);
            path.display().to_string()
        }
        Trust::System | Trust::Anyone => {
            roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
            "the system".to_owned()
        }
    };
    if roots.is_empty() { Err(TlsError::NoAuthority(source)) } else { Ok(roots) }
}

/// Takes every certificate, and checks only that the server has its key.
#[derive(Debug)]
struct AcceptAnyone(Arc<CryptoProvider>);

impl ServerCertVerifier for AcceptAnyone {
    fn verify_server_cert(
        &self,
        _certificate: &CertificateDer<'_>,
        _chain: &[CertificateDer<'_>],
        _name: &ServerName<'_>,
        _ocsp: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        verify_tls12_signature(message, certificate, signed, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        verify_tls13_signature(message, certificate, signed, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_trusted_is_told() {
        let folder = tempfile::tempdir().expect("a folder");
        let empty = folder.path().join("empty.pem");
        std::fs::write(&empty, "no certificate\n").expect("written");
        for (name, trust, part) in [
            ("a.b", Trust::File(empty), "holds no certificate"),
            ("a.b", Trust::File("/none.pem".into()), "/none.pem"),
            ("a b", Trust::Anyone, "server name"),
        ] {
            let error = Tls::new(name, Protocol::Http1, &trust, false).map(drop).expect_err(part);
            assert!(error.to_string().contains(part), "{error}");
        }
        let tls = Tls::new("127.0.0.1", Protocol::Http2, &Trust::Anyone, false).expect("good");
        assert_eq!(tls.config.alpn_protocols, [b"h2"]);
    }
}
