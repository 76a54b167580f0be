//! The certificate that every proxy serves, and the client that trusts nothing else.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use rustls::client::Resumption;
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::{ClientConfig, RootCertStore};

use crate::manifest::HELLO;
use crate::service::Protocol;

/// File of the certificate in the run's directory, PEM.
pub(crate) const CERTIFICATE_FILE: &str = "certificate.pem";
/// File of its key, PEM.
pub(crate) const KEY_FILE: &str = "key.pem";
/// Both in one file, as HAProxy wants them.
pub(crate) const BOTH_FILE: &str = "both.pem";

/// A certificate for [`HELLO`], signed by its own ECDSA P-256 key, and that key; both PEM.
#[derive(Debug, Clone)]
pub(crate) struct Identity {
    pub(crate) certificate: String,
    pub(crate) key: String,
}

impl Identity {
    /// Makes a new one.
    pub(crate) fn new() -> Result<Self, String> {
        let explain = |error: rcgen::Error| format!("no certificate could be made: {error}");
        let key = rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).map_err(explain)?;
        let parameters = rcgen::CertificateParams::new(vec![HELLO.to_owned()]).map_err(explain)?;
        let certificate = parameters.self_signed(&key).map_err(explain)?;
        Ok(Self { certificate: certificate.pem(), key: key.serialize_pem() })
    }

    /// Writes the files that proxies and load generator read.
    pub(crate) fn write(&self, directory: &Path) -> Result<(), String> {
        let both = format!("{}{}", self.certificate, self.key);
        let files =
            [(CERTIFICATE_FILE, &self.certificate), (KEY_FILE, &self.key), (BOTH_FILE, &both)];
        for (name, text) in files {
            fs::write(directory.join(name), text).map_err(|error| format!("{name}: {error}"))?;
        }
        Ok(())
    }
}

/// A client that trusts the certificate in `file` alone and resumes no session.
///
/// It offers one cipher suite and one group for the key exchange, so that every proxy does the same
/// work: TLS 1.3, AES-128-GCM, X25519.
pub(crate) fn client(file: &Path, protocol: Protocol) -> Result<Arc<ClientConfig>, String> {
    let explain = |reason: String| format!("{}: {reason}", file.display());
    let certificate =
        CertificateDer::from_pem_file(file).map_err(|error| explain(error.to_string()))?;
    let mut roots = RootCertStore::empty();
    roots.add(certificate).map_err(|error| explain(error.to_string()))?;
    let provider = CryptoProvider {
        cipher_suites: vec![aws_lc_rs::cipher_suite::TLS13_AES_128_GCM_SHA256],
        kx_groups: vec![aws_lc_rs::kx_group::X25519],
        ..aws_lc_rs::default_provider()
    };
    let mut config = ClientConfig::builder_with_provider(Arc::new(provider))
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(|error| error.to_string())?
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.resumption = Resumption::disabled();
    config.alpn_protocols = vec![protocol.alpn().as_bytes().to_vec()];
    Ok(Arc::new(config))
}

#[cfg(test)]
pub(crate) mod testing {
    //! A server with a certificate of its own, for tests.

    use std::fs;
    use std::path::PathBuf;
    use std::sync::Arc;

    use rustls::ServerConfig;
    use rustls::crypto::aws_lc_rs;
    use rustls::pki_types::pem::PemObject;
    use rustls::pki_types::{CertificateDer, PrivateKeyDer};

    use super::{BOTH_FILE, CERTIFICATE_FILE, Identity};

    /// A directory with the files of a new identity; removed when dropped.
    pub(crate) struct Directory(PathBuf);

    impl Directory {
        /// `name` is for this test alone.
        pub(crate) fn new(name: &str) -> Self {
            let name = format!("bench-proxy-{name}-{}", std::process::id());
            let path = std::env::temp_dir().join(name);
            fs::create_dir(&path).expect("a new directory");
            let directory = Self(path);
            Identity::new().expect("one").write(&directory.0).expect("written");
            directory
        }

        pub(crate) fn certificate(&self) -> PathBuf {
            self.0.join(CERTIFICATE_FILE)
        }

        /// A server that shows the certificate and speaks whatever the client wants.
        pub(crate) fn server(&self) -> Arc<ServerConfig> {
            let both = self.0.join(BOTH_FILE);
            let certificate = CertificateDer::from_pem_file(&both).expect("a certificate");
            let key = PrivateKeyDer::from_pem_file(&both).expect("a key");
            let provider = Arc::new(aws_lc_rs::default_provider());
            let mut config = ServerConfig::builder_with_provider(provider)
                .with_safe_default_protocol_versions()
                .expect("versions")
                .with_no_client_auth()
                .with_single_cert(vec![certificate], key)
                .expect("they belong together");
            config.alpn_protocols = vec![b"http/1.1".to_vec(), b"h2".to_vec()];
            Arc::new(config)
        }
    }

    impl Drop for Directory {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};

    use rustls::pki_types::ServerName;
    use rustls::{ClientConnection, Error, HandshakeKind, ServerConnection};

    use super::testing::Directory;
    use super::*;

    /// Hands the bytes of both sides over until neither has more.
    fn shake(client: &mut ClientConnection, server: &mut ServerConnection) -> Result<(), Error> {
        while client.wants_write() || server.wants_write() {
            let mut bytes = Vec::new();
            client.write_tls(&mut bytes).expect("a vector takes all");
            while !bytes.is_empty() {
                let mut rest = &bytes[..];
                server.read_tls(&mut rest).expect("room");
                bytes = rest.to_vec();
                server.process_new_packets()?;
            }
            server.write_tls(&mut bytes).expect("a vector takes all");
            while !bytes.is_empty() {
                let mut rest = &bytes[..];
                client.read_tls(&mut rest).expect("room");
                bytes = rest.to_vec();
                client.process_new_packets()?;
            }
        }
        Ok(())
    }

    #[test]
    fn the_client_accepts_this_certificate_and_shakes_hands_anew_each_time() {
        let directory = Directory::new("tls");
        let config = client(&directory.certificate(), Protocol::Http2).expect("good");
        for _ in 0..2 {
            let name = ServerName::try_from(HELLO).expect("a name");
            let mut client = ClientConnection::new(config.clone(), name).expect("a client");
            let mut server = ServerConnection::new(directory.server()).expect("a server");
            client.writer().write_all(b"ask").expect("room");
            shake(&mut client, &mut server).expect("trusted");
            assert_eq!(client.handshake_kind(), Some(HandshakeKind::Full));
            assert_eq!(client.alpn_protocol(), Some(&b"h2"[..]));
            let suite = client.negotiated_cipher_suite().map(|suite| suite.suite());
            assert_eq!(suite, Some(rustls::CipherSuite::TLS13_AES_128_GCM_SHA256));
            let mut asked = [0; 3];
            server.reader().read_exact(&mut asked).expect("what was asked");
            assert_eq!(&asked, b"ask");
        }
    }

    #[test]
    fn another_certificate_is_refused() {
        let (ours, other) = (Directory::new("ours"), Directory::new("other"));
        let config = client(&ours.certificate(), Protocol::Http1).expect("good");
        let name = ServerName::try_from(HELLO).expect("a name");
        let mut client = ClientConnection::new(config, name).expect("a client");
        let mut server = ServerConnection::new(other.server()).expect("a server");
        let outcome = shake(&mut client, &mut server);
        assert!(matches!(outcome, Err(Error::InvalidCertificate(_))), "{outcome:?}");
        assert!(super::client(Path::new("/none.pem"), Protocol::Http1).is_err());
    }
}
