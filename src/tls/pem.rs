//! Texts in PEM: a chain with the key that belongs to it, authorities, revocation lists. They are read and
//! judged here only, by the validation that tells of them and for the sides that serve with them. What is
//! said of them names no part of their contents: it may be a key.

use rustls::crypto::aws_lc_rs::sign::any_supported_type;
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, CertificateRevocationListDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;
use rustls::{InconsistentKeys, RootCertStore};
use x509_parser::prelude::FromDer;
use x509_parser::revocation_list::CertificateRevocationList;

/// What is wrong with a text. Each completes a sentence that begins with where the text stands.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PemError {
    /// No section of the kind.
    #[error("has no certificate in PEM (`-----BEGIN CERTIFICATE-----`)")]
    NoCertificate,
    /// No section of the kind.
    #[error("has no private key in PEM (`-----BEGIN PRIVATE KEY-----`; PKCS #8, PKCS #1 or SEC1)")]
    NoKey,
    /// A key under a passphrase.
    #[error("has a key that is encrypted: give it without a passphrase")]
    EncryptedKey,
    /// No section of the kind.
    #[error("has no revocation list in PEM (`-----BEGIN X509 CRL-----`)")]
    NoRevocations,
    /// A section that cannot be read.
    #[error("is damaged PEM: {0}")]
    Damaged(&'static str),
    /// A certificate that is none.
    #[error("has a certificate (number {0}) that cannot be read: {1}")]
    Certificate(usize, String),
    /// A key that cannot be used.
    #[error("has a private key that cannot be used: {0}")]
    Key(String),
    /// A revocation list that is none.
    #[error("has a revocation list (number {0}) that cannot be read")]
    Revocations(usize),
}

/// What is wrong with a certificate and its key.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum IdentityError {
    /// With the chain.
    #[error("the certificate {0}")]
    Chain(PemError),
    /// With the key.
    #[error("the key {0}")]
    Key(PemError),
    /// Each is good alone.
    #[error("the key does not belong to the certificate")]
    Mismatch,
}

/// The certificates of a text, DER.
pub(super) fn certificates(text: &[u8]) -> Result<Vec<CertificateDer<'static>>, PemError> {
    let all: Vec<CertificateDer<'static>> =
        CertificateDer::pem_slice_iter(text).collect::<Result<_, _>>().map_err(damaged)?;
    if all.is_empty() { Err(PemError::NoCertificate) } else { Ok(all) }
}

/// The first private key of a text.
fn private_key(text: &[u8]) -> Result<PrivateKeyDer<'static>, PemError> {
    PrivateKeyDer::from_pem_slice(text).map_err(|error| match error {
        pem::Error::NoItemsFound => {
            let encrypted = b"-----BEGIN ENCRYPTED PRIVATE KEY-----";
            match text.windows(encrypted.len()).any(|part| part == encrypted) {
                true => PemError::EncryptedKey,
                false => PemError::NoKey,
            }
        }
        other => damaged(other),
    })
}

/// A chain and its key, which belong together.
pub(super) fn identity(chain: &[u8], key: &[u8]) -> Result<CertifiedKey, IdentityError> {
    let chain = certificates(chain).map_err(IdentityError::Chain)?;
    let key = private_key(key).map_err(IdentityError::Key)?;
    let key = any_supported_type(&key)
        .map_err(|error| IdentityError::Key(PemError::Key(error.to_string())))?;
    let certified = CertifiedKey::new(chain, key);
    match certified.keys_match() {
        Ok(()) | Err(rustls::Error::InconsistentKeys(InconsistentKeys::Unknown)) => Ok(certified),
        Err(rustls::Error::InconsistentKeys(_)) => Err(IdentityError::Mismatch),
        Err(error) => Err(IdentityError::Chain(PemError::Certificate(1, error.to_string()))),
    }
}

/// Authorities, at least one.
pub(super) fn authorities(text: &[u8]) -> Result<RootCertStore, PemError> {
    let mut store = RootCertStore::empty();
    for (index, certificate) in certificates(text)?.into_iter().enumerate() {
        let bad = |error: rustls::Error| PemError::Certificate(index + 1, error.to_string());
        store.add(certificate).map_err(bad)?;
    }
    Ok(store)
}

/// Revocation lists, at least one.
pub(super) fn revocations(
    text: &[u8],
) -> Result<Vec<CertificateRevocationListDer<'static>>, PemError> {
    let lists: Vec<CertificateRevocationListDer<'static>> =
        CertificateRevocationListDer::pem_slice_iter(text)
            .collect::<Result<_, _>>()
            .map_err(damaged)?;
    if lists.is_empty() {
        return Err(PemError::NoRevocations);
    }
    for (index, list) in lists.iter().enumerate() {
        CertificateRevocationList::from_der(list.as_ref())
            .map_err(|_| PemError::Revocations(index + 1))?;
    }
    Ok(lists)
}

/// Can a chain and a key in PEM be served with, and do they belong together?
pub fn check_identity(chain: &[u8], key: &[u8]) -> Result<(), IdentityError> {
    identity(chain, key).map(drop)
}

/// Are these authorities in PEM, at least one?
pub fn check_authorities(text: &[u8]) -> Result<(), PemError> {
    authorities(text).map(drop)
}

/// Are these revocation lists in PEM, at least one?
pub fn check_revocations(text: &[u8]) -> Result<(), PemError> {
    revocations(text).map(drop)
}

/// In words that show nothing of the text.
fn damaged(error: pem::Error) -> PemError {
    PemError::Damaged(match error {
        pem::Error::MissingSectionEnd { .. } => "a section has no end (`-----END …-----`)",
        pem::Error::IllegalSectionStart { .. } => "the first line of a section is malformed",
        pem::Error::Base64Decode(_) => "a section is not base64",
        _ => "a section cannot be read",
    })
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, KeyPair, generate_simple_self_signed};

    use super::*;

    fn pair(name: &str) -> (String, String) {
        let made = generate_simple_self_signed([name.to_owned()]).expect("a certificate");
        (made.cert.pem(), made.signing_key.serialize_pem())
    }

    #[test]
    fn a_pair_is_a_chain_and_its_own_key() {
        let (chain, key) = pair("a.com");
        let (other, other_key) = pair("b.com");
        let check = |chain: &str, key: &str| check_identity(chain.as_bytes(), key.as_bytes());
        assert_eq!(check(&chain, &key), Ok(()));
        assert_eq!(check(&format!("{chain}{other}"), &key), Ok(()), "leaf first");
        assert_eq!(check(&format!("{key}{chain}"), &format!("{chain}{key}")), Ok(()));
        assert_eq!(check(&other, &key), Err(IdentityError::Mismatch));
        assert_eq!(check(&format!("{other}{chain}"), &key), Err(IdentityError::Mismatch));
        assert_eq!(check(&other, &other_key), Ok(()));
        assert_eq!(check("", &key), Err(IdentityError::Chain(PemError::NoCertificate)));
        assert_eq!(check(&chain, &chain), Err(IdentityError::Key(PemError::NoKey)));
        let encrypted = key.replace("PRIVATE KEY", "ENCRYPTED PRIVATE KEY");
        assert_eq!(check(&chain, &encrypted), Err(IdentityError::Key(PemError::EncryptedKey)));
        let cut = &key[..key.len() / 2];
        assert!(matches!(check(&chain, cut), Err(IdentityError::Key(PemError::Damaged(_)))));
        let junk = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
        let said = check(junk, &key).expect_err("no certificate");
        assert!(matches!(said, IdentityError::Chain(PemError::Certificate(1, _))), "{said}");
        let junk = junk.replace("CERTIFICATE", "PRIVATE KEY");
        let said = check(&chain, &junk).expect_err("no key");
        assert!(matches!(said, IdentityError::Key(PemError::Key(_))), "{said}");
    }

    #[test]
    fn what_is_said_shows_nothing_of_a_key() {
        let (chain, key) = pair("a.com");
        let body = key.lines().nth(1).expect("a line").to_owned();
        for damaged in [key.replace("-----END", "----"), key.replace(&body, &format!("!{body}"))] {
            let said = check_identity(chain.as_bytes(), damaged.as_bytes()).expect_err("damaged");
            assert!(!format!("{said} {said:?}").contains(&body[..16]), "{said:?}");
        }
    }

    #[test]
    fn authorities_are_certificates() {
        let (one, _) = pair("a.com");
        let (two, _) = pair("b.com");
        assert_eq!(check_authorities(format!("# roots\n{one}{two}").as_bytes()), Ok(()));
        assert_eq!(check_authorities(b"x"), Err(PemError::NoCertificate));
        let junk = format!("{one}-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n");
        let said = check_authorities(junk.as_bytes()).expect_err("the second is none");
        assert!(matches!(said, PemError::Certificate(2, _)), "{said}");
    }

    #[test]
    fn revocation_lists_are_lists() {
        let (certificate, _) = pair("a.com");
        let said = check_revocations(certificate.as_bytes());
        assert_eq!(said, Err(PemError::NoRevocations));
        let junk = b"-----BEGIN X509 CRL-----\nAAAA\n-----END X509 CRL-----\n";
        assert_eq!(check_revocations(junk), Err(PemError::Revocations(1)));
        let key = KeyPair::generate().expect("a key");
        let mut params = CertificateParams::new(Vec::new()).expect("no names");
        params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        params.key_usages = vec![rcgen::KeyUsagePurpose::CrlSign];
        let issuer = rcgen::Issuer::new(params, key);
        let list = rcgen::CertificateRevocationListParams {
            this_update: rcgen::date_time_ymd(2025, 1, 1),
            next_update: rcgen::date_time_ymd(2035, 1, 1),
            crl_number: rcgen::SerialNumber::from(1),
            issuing_distribution_point: None,
            revoked_certs: Vec::new(),
            key_identifier_method: rcgen::KeyIdMethod::Sha256,
        };
        let list = list.signed_by(&issuer).expect("signed").pem().expect("PEM");
        assert_eq!(check_revocations(list.as_bytes()), Ok(()));
    }
}
