//! The cryptography that rustls runs with: aws-lc-rs.

use std::sync::{Arc, OnceLock};

use rustls::SupportedCipherSuite;
use rustls::crypto::{CryptoProvider, aws_lc_rs};

use super::cipher_suites;

/// The provider with all of its suites; one for the process.
pub(super) fn provider() -> Arc<CryptoProvider> {
    static PROVIDER: OnceLock<Arc<CryptoProvider>> = OnceLock::new();
    Arc::clone(PROVIDER.get_or_init(|| Arc::new(aws_lc_rs::default_provider())))
}

/// The provider with the TLS 1.2 suites that `names` call (all of them when it is empty) and all of
/// TLS 1.3, which cannot be chosen.
pub(super) fn provider_with(names: &[String]) -> Arc<CryptoProvider> {
    if names.is_empty() {
        return provider();
    }
    let mut narrowed = aws_lc_rs::default_provider();
    narrowed.cipher_suites = cipher_suites::chosen(names, &narrowed.cipher_suites);
    Arc::new(narrowed)
}

/// SHA-256.
pub(super) fn sha256(bytes: &[u8]) -> [u8; 32] {
    let suite = aws_lc_rs::cipher_suite::TLS13_AES_128_GCM_SHA256;
    let mut digest = [0; 32];
    if let SupportedCipherSuite::Tls13(suite) = suite {
        let output = suite.common.hash_provider.hash(bytes);
        let length = output.as_ref().len().min(digest.len());
        digest[..length].copy_from_slice(&output.as_ref()[..length]);
    }
    digest
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_digest_is_that_of_the_standard() {
        // FIPS 180-2, appendix B.1.
        let expected = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        assert_eq!(data_encoding::HEXLOWER.encode(&super::sha256(b"abc")), expected);
    }
}
