//! Why a TLS side could not be made, or a handshake or connection failed.

use std::io;

use rustls::{AlertDescription, CertificateError, Error, PeerIncompatible};

/// What went wrong, in words that an operator can act on.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A server needs a certificate.
    #[error("the server has no certificate: give it a Secret, or a certificate and a key")]
    NoIdentity,
    /// A certificate chain is not PEM, or is empty.
    #[error("the certificate is not readable: {0}")]
    BadCertificate(String),
    /// A key is not PEM, or of a kind that is not known.
    #[error("the private key is not readable: {0}")]
    BadKey(String),
    /// The key is another certificate's.
    #[error("the key does not belong to the certificate of {subject}")]
    KeyMismatch {
        /// Subject of the certificate.
        subject: String,
    },
    /// The authorities are not PEM, or there is none.
    #[error("the certificate authorities are not readable: {0}")]
    BadAuthorities(String),
    /// Client certificates are asked for and nothing says which are good.
    #[error("client certificates are asked for, but there is no authority to check them: add one")]
    NoAuthorities,
    /// The revocation lists are not PEM or not lists.
    #[error("the certificate revocation list is not readable: {0}")]
    BadRevocations(String),
    /// A pin is not what it should be.
    #[error("the certificate pin `{0}` is not a SHA-256 digest")]
    BadPin(String),
    /// The versions, suites and certificates leave nothing to agree on.
    #[error("the TLS settings do not fit together: {0}")]
    BadSettings(String),
    /// The name to ask a server for is neither a host name nor an address.
    #[error("`{0}` is not a host name or an address that a certificate could have")]
    BadServerName(String),
    /// The handshake failed on the wire.
    #[error("{}", words(.0))]
    Handshake(Error),
    /// The peer closed the connection in the handshake.
    #[error("the peer closed the connection during the TLS handshake")]
    Closed,
    /// The socket failed in the handshake.
    #[error("the connection failed during the TLS handshake: {0}")]
    Socket(#[from] io::Error),
    /// The peer's part of the handshake is larger than anything sensible.
    #[error("the peer's part of the TLS handshake is too large")]
    TooLarge,
}

impl TlsError {
    /// One word for logs and counters; never changes for a cause.
    pub fn reason(&self) -> &'static str {
        match self {
            TlsError::NoIdentity
            | TlsError::BadCertificate(_)
            | TlsError::BadKey(_)
            | TlsError::KeyMismatch { .. }
            | TlsError::BadAuthorities(_)
            | TlsError::NoAuthorities
            | TlsError::BadRevocations(_)
            | TlsError::BadPin(_)
            | TlsError::BadSettings(_)
            | TlsError::BadServerName(_) => "bad_settings",
            TlsError::Closed => "closed",
            TlsError::Socket(_) => "socket",
            TlsError::TooLarge => "too_large",
            TlsError::Handshake(error) => reason(error),
        }
    }
}

fn reason(error: &Error) -> &'static str {
    match error {
        Error::NoCertificatesPresented => "no_certificate",
        Error::InvalidCertificate(error) => certificate_reason(error),
        Error::AlertReceived(_) => "alert",
        Error::PeerIncompatible(_) => "incompatible",
        Error::NoApplicationProtocol => "alpn",
        Error::InvalidMessage(_) => "not_tls",
        Error::DecryptError => "decrypt",
        _ => "protocol",
    }
}

fn certificate_reason(error: &CertificateError) -> &'static str {
    match error {
        CertificateError::Expired
        | CertificateError::ExpiredContext { .. }
        | CertificateError::NotValidYet
        | CertificateError::NotValidYetContext { .. } => "expired",
        CertificateError::Revoked => "revoked",
        CertificateError::UnknownIssuer => "unknown_authority",
        CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
            "wrong_name"
        }
        CertificateError::UnknownRevocationStatus
        | CertificateError::ExpiredRevocationList
        | CertificateError::ExpiredRevocationListContext { .. } => "unknown_revocation",
        CertificateError::ApplicationVerificationFailure => "not_accepted",
        _ => "bad_certificate",
    }
}

/// What rustls says, in words about certificates and settings where it has none.
fn words(error: &Error) -> String {
    match error {
        Error::NoCertificatesPresented => "the client sent no certificate".to_owned(),
        Error::InvalidCertificate(error) => match certificate_reason(error) {
            "unknown_authority" => {
                "the peer's certificate is of an authority that is not trusted".to_owned()
            }
            "revoked" => "the peer's certificate is revoked".to_owned(),
            "expired" => format!("the peer's certificate is not valid at this time: {error}"),
            "wrong_name" => format!("the peer's certificate has none of the names: {error}"),
            "unknown_revocation" => {
                format!("no valid revocation list tells about the peer's certificate: {error}")
            }
            "not_accepted" => {
                "the peer's certificate has none of the names or digests that are accepted"
                    .to_owned()
            }
            _ => format!("the peer's certificate is not accepted: {error}"),
        },
        Error::AlertReceived(alert) => {
            format!("the peer refused: TLS alert {}", alert_name(*alert))
        }
        Error::NoApplicationProtocol => {
            "the client speaks neither HTTP/2 nor HTTP/1.1 (ALPN)".to_owned()
        }
        Error::PeerIncompatible(PeerIncompatible::NoCipherSuitesInCommon) => {
            "no cipher suite in common".to_owned()
        }
        Error::InvalidMessage(_) => format!("the peer does not speak TLS: {error}"),
        Error::DecryptError => "a record was changed on its way".to_owned(),
        _ => format!("the TLS handshake failed: {error}"),
    }
}

/// The alert's name as the standard writes it, `bad_certificate`.
fn alert_name(alert: AlertDescription) -> String {
    let mut name = String::new();
    let mut after_small = false;
    for letter in format!("{alert:?}").chars() {
        if letter.is_ascii_uppercase() && after_small {
            name.push('_');
        }
        after_small = letter.is_ascii_lowercase();
        name.push(letter.to_ascii_lowercase());
    }
    name
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn alerts_have_their_standard_names() {
        assert_eq!(alert_name(AlertDescription::BadCertificate), "bad_certificate");
        assert_eq!(alert_name(AlertDescription::UnknownCA), "unknown_ca");
        let error = TlsError::Handshake(Error::AlertReceived(AlertDescription::HandshakeFailure));
        assert_eq!(error.to_string(), "the peer refused: TLS alert handshake_failure");
        assert_eq!(error.reason(), "alert");
    }
}
