//! What a certificate says: subject, names, times.

use std::net::IpAddr;

use x509_parser::extensions::GeneralName;
use x509_parser::prelude::{FromDer, X509Certificate};
use x509_parser::x509::X509Name;

use super::error::TlsError;
use super::pem::{self, IdentityError};

/// What a certificate says about itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Certificate {
    /// Subject as RFC 2253 writes it, `CN=shop,O=Example`.
    pub subject: String,
    /// Issuer, written likewise.
    pub issuer: String,
    /// Serial number, hexadecimal in small letters.
    pub serial: String,
    /// DNS names, wildcards included.
    pub dns_names: Vec<String>,
    /// URIs (SPIFFE identities are such).
    pub uris: Vec<String>,
    /// Addresses.
    pub addresses: Vec<IpAddr>,
    /// Mail addresses.
    pub emails: Vec<String>,
    /// Not valid before, in seconds since 1970.
    pub not_before: i64,
    /// Not valid after, in seconds since 1970.
    pub not_after: i64,
}

impl Certificate {
    /// Is it valid for `host`: a DNS name, `*.` and a name, or an address? A wildcard name stands for
    /// one label, and a wildcard host is covered only by the same wildcard.
    pub fn covers(&self, host: &str) -> bool {
        if let Ok(address) = host.parse::<IpAddr>() {
            return self.addresses.contains(&address);
        }
        self.dns_names.iter().any(|name| name_covers(name, host))
    }

    /// Does it have this subject alternative name, of whichever kind?
    pub(super) fn has_name(&self, name: &str) -> bool {
        self.covers(name)
            || self.uris.iter().any(|uri| uri == name)
            || self.emails.iter().any(|email| email == name)
    }
}

fn name_covers(name: &str, host: &str) -> bool {
    let name = name.strip_suffix('.').unwrap_or(name);
    let host = host.strip_suffix('.').unwrap_or(host);
    if name.eq_ignore_ascii_case(host) {
        return true;
    }
    match (name.strip_prefix("*."), host.split_once('.')) {
        (Some(domain), Some((label, rest))) => {
            !label.is_empty() && label != "*" && domain.eq_ignore_ascii_case(rest)
        }
        _ => false,
    }
}

/// What a side of TLS uses, for those who look at it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct InUse {
    /// The certificates of its own chains, one chain after the other, leaf first.
    pub chains: Vec<Certificate>,
    /// The authorities that it trusts; empty when it trusts those of the system, or asks for none.
    pub authorities: Vec<Certificate>,
}

impl InUse {
    /// What cannot be read is left out.
    pub(super) fn of<'a>(
        chains: impl IntoIterator<Item = &'a [u8]>,
        authorities: Option<&[u8]>,
    ) -> InUse {
        let authorities = authorities.and_then(|text| pem::certificates(text).ok());
        InUse {
            chains: chains.into_iter().filter_map(|der| read(der).ok()).collect(),
            authorities: authorities.iter().flatten().filter_map(|der| read(der).ok()).collect(),
        }
    }
}

/// The first certificate of a PEM chain.
pub fn leaf(text: &[u8]) -> Result<Certificate, TlsError> {
    let chain = pem::certificates(text).map_err(IdentityError::Chain)?;
    read(&chain[0])
}

/// A certificate in DER.
pub(super) fn read(der: &[u8]) -> Result<Certificate, TlsError> {
    let (_, parsed) = X509Certificate::from_der(der)
        .map_err(|error| TlsError::BadCertificate(error.to_string()))?;
    let mut certificate = Certificate {
        subject: distinguished_name(parsed.subject()),
        issuer: distinguished_name(parsed.issuer()),
        serial: data_encoding::HEXLOWER.encode(parsed.raw_serial()),
        not_before: parsed.validity().not_before.timestamp(),
        not_after: parsed.validity().not_after.timestamp(),
        ..Certificate::default()
    };
    let names = parsed
        .subject_alternative_name()
        .map_err(|error| TlsError::BadCertificate(error.to_string()))?;
    for name in names.iter().flat_map(|extension| &extension.value.general_names) {
        match name {
            GeneralName::DNSName(name) => certificate.dns_names.push((*name).to_owned()),
            GeneralName::URI(uri) => certificate.uris.push((*uri).to_owned()),
            GeneralName::RFC822Name(email) => certificate.emails.push((*email).to_owned()),
            GeneralName::IPAddress(bytes) => certificate.addresses.extend(address(bytes)),
            _ => {}
        }
    }
    Ok(certificate)
}

/// The public key of a certificate (SubjectPublicKeyInfo, DER).
pub(super) fn public_key(der: &[u8]) -> Option<Vec<u8>> {
    let (_, parsed) = X509Certificate::from_der(der).ok()?;
    Some(parsed.public_key().raw.to_vec())
}

fn address(bytes: &[u8]) -> Option<IpAddr> {
    if let Ok(bytes) = <[u8; 4]>::try_from(bytes) {
        return Some(IpAddr::from(bytes));
    }
    <[u8; 16]>::try_from(bytes).ok().map(IpAddr::from)
}

/// RFC 2253: the last part first, special characters escaped.
fn distinguished_name(name: &X509Name<'_>) -> String {
    let parts: Vec<_> = name
        .iter_rdn()
        .map(|part| {
            let attributes: Vec<_> = part
                .iter()
                .map(|attribute| {
                    let oid = attribute.attr_type().to_id_string();
                    let key = attribute_key(&oid).unwrap_or(&oid);
                    let value = attribute.as_str().map_or_else(
                        |_| format!("#{}", data_encoding::HEXUPPER.encode(attribute.as_slice())),
                        escape,
                    );
                    format!("{key}={value}")
                })
                .collect();
            attributes.join("+")
        })
        .collect();
    parts.into_iter().rev().collect::<Vec<_>>().join(",")
}

/// The short names that OpenSSL writes.
fn attribute_key(oid: &str) -> Option<&'static str> {
    Some(match oid {
        "2.5.4.3" => "CN",
        "2.5.4.4" => "SN",
        "2.5.4.5" => "serialNumber",
        "2.5.4.6" => "C",
        "2.5.4.7" => "L",
        "2.5.4.8" => "ST",
        "2.5.4.9" => "street",
        "2.5.4.10" => "O",
        "2.5.4.11" => "OU",
        "2.5.4.12" => "title",
        "2.5.4.42" => "GN",
        "0.9.2342.19200300.100.1.1" => "UID",
        "0.9.2342.19200300.100.1.25" => "DC",
        "1.2.840.113549.1.9.1" => "emailAddress",
        _ => return None,
    })
}

/// Escape what RFC 2253 reserves; control characters and other than ASCII become `\XX`.
fn escape(value: &str) -> String {
    let mut escaped = String::new();
    let last = value.len().saturating_sub(1);
    for (at, byte) in value.bytes().enumerate() {
        let reserved = matches!(byte, b',' | b'+' | b'"' | b'\\' | b'<' | b'>' | b';')
            || (byte == b' ' && (at == 0 || at == last))
            || (byte == b'#' && at == 0);
        match byte {
            _ if reserved => {
                escaped.push('\\');
                escaped.push(char::from(byte));
            }
            0x20..=0x7e => escaped.push(char::from(byte)),
            _ => escaped.push_str(&format!("\\{byte:02X}")),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_certificate_tells_its_names_and_times() {
        let mut params = rcgen::CertificateParams::new(vec![
            "shop.example.com".to_owned(),
            "*.example.org".to_owned(),
            "10.1.2.3".to_owned(),
        ])
        .expect("names");
        params.distinguished_name = rcgen::DistinguishedName::new();
        params.distinguished_name.push(rcgen::DnType::OrganizationName, "Example, Inc.");
        params.distinguished_name.push(rcgen::DnType::CommonName, "shop");
        params.subject_alt_names.push(rcgen::SanType::URI(
            "spiffe://cluster.local/ns/a/sa/b".try_into().expect("ASCII"),
        ));
        params.not_before = rcgen::date_time_ymd(2020, 1, 1);
        params.not_after = rcgen::date_time_ymd(2040, 1, 1);
        let key = rcgen::KeyPair::generate().expect("a key");
        let pem = params.self_signed(&key).expect("signed").pem();
        let certificate = leaf(pem.as_bytes()).expect("readable");
        assert_eq!(certificate.subject, "CN=shop,O=Example\\, Inc.");
        assert_eq!(certificate.dns_names, ["shop.example.com", "*.example.org"]);
        assert_eq!(certificate.not_before, 1_577_836_800);
        assert!(certificate.covers("SHOP.example.com"));
        assert!(certificate.covers("a.example.org"));
        assert!(certificate.covers("*.example.org"));
        assert!(certificate.covers("10.1.2.3"));
        for host in ["example.org", "a.b.example.org", "*.a.example.org", "10.1.2.4", "*.com"] {
            assert!(!certificate.covers(host), "{host}");
        }
        assert!(certificate.has_name("spiffe://cluster.local/ns/a/sa/b"));
        assert!(!certificate.has_name("spiffe://cluster.local/ns/a/sa/c"));
    }

    #[test]
    fn what_is_no_certificate_is_told() {
        let error = leaf(b"nothing").expect_err("no PEM").to_string();
        assert!(error.contains("no certificate in PEM"), "{error}");
        let pem = b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
        assert!(leaf(pem).is_err());
    }
}
