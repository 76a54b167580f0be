//! The certificate of a client, in the words that go into header fields and logs.

use std::fmt::Write;

use rustls::pki_types::CertificateDer;

use super::certificate::{self, Certificate};
use super::crypto::sha256;

/// A client's certificate; made once per connection.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PeerCertificate {
    /// What the certificate says.
    pub certificate: Certificate,
    /// SHA-256 of the certificate, hexadecimal in small letters.
    pub sha256: String,
    /// The element of `X-Forwarded-Client-Cert` that tells of it, as Envoy writes one:
    /// `Hash=…;Cert="…";Subject="…";URI=…;DNS=…`.
    pub forwarded: String,
}

impl PeerCertificate {
    /// None: the client sent none, or one that cannot be read (it was accepted unseen).
    pub(super) fn of(chain: &[CertificateDer<'_>]) -> Option<PeerCertificate> {
        let leaf = chain.first()?;
        let certificate = certificate::read(leaf).ok()?;
        let sha256 = data_encoding::HEXLOWER.encode(&sha256(leaf));
        let mut forwarded = format!("Hash={sha256};Cert=\"{}\"", encoded_pem(leaf));
        // Writing to a string does not fail.
        let _ = write!(forwarded, ";Subject=\"{}\"", certificate.subject);
        if certificate.uris.is_empty() {
            // Envoy writes the part without a value.
            forwarded.push_str(";URI=");
        }
        for uri in &certificate.uris {
            let _ = write!(forwarded, ";URI={}", quoted(uri));
        }
        for name in &certificate.dns_names {
            let _ = write!(forwarded, ";DNS={}", quoted(name));
        }
        Some(PeerCertificate { certificate, sha256, forwarded })
    }
}

/// Values of a certificate come from outside: what could end the value, or the header field, is
/// written as a URL would. Such characters are in no well-formed name.
fn quoted(value: &str) -> String {
    let mut safe = String::new();
    for byte in value.bytes() {
        match byte {
            0x21..=0x7e if !matches!(byte, b'"' | b',' | b';' | b'\\') => {
                safe.push(char::from(byte));
            }
            _ => {
                let _ = write!(safe, "%{byte:02X}");
            }
        }
    }
    safe
}

/// The certificate as PEM, URL-encoded.
fn encoded_pem(der: &[u8]) -> String {
    let body = data_encoding::BASE64.encode(der);
    let mut encoded = String::with_capacity(body.len() * 5 / 4 + 80);
    encoded.push_str("-----BEGIN%20CERTIFICATE-----%0A");
    for (at, letter) in body.bytes().enumerate() {
        if at > 0 && at % 64 == 0 {
            encoded.push_str("%0A");
        }
        match letter {
            b'+' => encoded.push_str("%2B"),
            b'/' => encoded.push_str("%2F"),
            b'=' => encoded.push_str("%3D"),
            _ => encoded.push(char::from(letter)),
        }
    }
    encoded.push_str("%0A-----END%20CERTIFICATE-----%0A");
    encoded
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_parts_are_those_of_envoy() {
        let mut params =
            rcgen::CertificateParams::new(vec!["client.example.com".to_owned()]).expect("a name");
        params.distinguished_name = rcgen::DistinguishedName::new();
        params.distinguished_name.push(rcgen::DnType::CommonName, "client");
        let uri = "spiffe://td/ns/a/sa/b".try_into().expect("ASCII");
        params.subject_alt_names.push(rcgen::SanType::URI(uri));
        let key = rcgen::KeyPair::generate().expect("a key");
        let signed = params.self_signed(&key).expect("signed");
        let peer = PeerCertificate::of(&[signed.der().clone()]).expect("readable");
        let (hash, rest) = peer.forwarded.split_once(";Cert=\"").expect("two parts");
        assert_eq!(hash, format!("Hash={}", peer.sha256));
        let (pem, rest) = rest.split_once("\";").expect("more parts");
        assert_eq!(rest, "Subject=\"CN=client\";URI=spiffe://td/ns/a/sa/b;DNS=client.example.com");
        let decoded = pem
            .replace("%0A", "\n")
            .replace("%20", " ")
            .replace("%2B", "+")
            .replace("%2F", "/")
            .replace("%3D", "=");
        assert_eq!(decoded, signed.pem().replace("\r\n", "\n"));
    }

    #[test]
    fn names_cannot_write_other_parts() {
        assert_eq!(quoted("a;URI=b,\"c\r\n"), "a%3BURI=b%2C%22c%0D%0A");
    }
}
