//! Rules of `tls` of a Gateway's server (behaviour 11.2).

use super::Findings;
use crate::config::Severity;
use crate::config::gateway::{Gateway, Server, ServerTlsSettings, TlsMode, TlsProtocol};

/// The OpenSSL names that Istio knows. Others are left out of the list there, with a warning.
const CIPHER_SUITES: [&str; 15] = [
    "ECDHE-ECDSA-AES128-GCM-SHA256",
    "ECDHE-RSA-AES128-GCM-SHA256",
    "ECDHE-ECDSA-AES256-GCM-SHA384",
    "ECDHE-RSA-AES256-GCM-SHA384",
    "ECDHE-ECDSA-CHACHA20-POLY1305",
    "ECDHE-RSA-CHACHA20-POLY1305",
    "ECDHE-ECDSA-AES128-SHA",
    "ECDHE-RSA-AES128-SHA",
    "ECDHE-ECDSA-AES256-SHA",
    "ECDHE-RSA-AES256-SHA",
    "AES128-GCM-SHA256",
    "AES256-GCM-SHA384",
    "AES128-SHA",
    "AES256-SHA",
    "DES-CBC3-SHA",
];
/// How many of them, from the first, are spoken here. The others have no forward secrecy, or no
/// authenticated encryption.
const CIPHER_SUITES_SPOKEN: usize = 6;
/// Certificates of one server: RSA and ECDSA.
const CERTIFICATES_MAX: usize = 2;

type Of<'o> = Findings<'o, Gateway>;

/// Is a text there?
fn given(text: &Option<String>) -> bool {
    text.as_deref().is_some_and(|text| !text.is_empty())
}

pub(super) fn validate(findings: &mut Of<'_>, server: &Server, field: &str) {
    let here = format!("{field}.tls");
    let Some(tls) = &server.tls else {
        if server.is_tls() {
            let message = format!("protocol {} needs `tls`", server.protocol());
            findings.error(field, &message, "add `tls: {mode: SIMPLE, credentialName: …}`");
        }
        return;
    };
    if tls.https_redirect == Some(true) && !server.is_plain_http() {
        let message = "httpsRedirect does nothing on a server that does not take clear-text HTTP";
        let help = "set it on the server of port 80";
        findings.warn("IST0133", &format!("{here}.httpsRedirect"), message, help);
    }
    settings(findings, tls, &here);
    if server.is_tls() {
        return;
    }
    if server.is_plain_http() {
        let only_redirect = tls.mode.is_none_or(|mode| mode == TlsMode::Passthrough)
            && !given(&tls.server_certificate)
            && !given(&tls.private_key)
            && !given(&tls.ca_certificates)
            && !given(&tls.credential_name)
            && tls.credential_names.is_empty()
            && tls.tls_certificates.is_empty();
        if !only_redirect {
            let message = "a clear-text server may have no more of `tls` than `httpsRedirect`";
            findings.error(&here, message, "use protocol HTTPS");
        }
    } else {
        let message = format!("protocol {} has no `tls`", server.protocol());
        findings.error(&here, &message, "use protocol HTTPS or TLS, or remove `tls`");
    }
}

fn settings(findings: &mut Of<'_>, tls: &ServerTlsSettings, here: &str) {
    versions_and_ciphers(findings, tls, here);
    let mode = tls.mode.unwrap_or(TlsMode::Passthrough);
    let pair = given(&tls.server_certificate) && given(&tls.private_key);
    let certificates = [
        ("serverCertificate", given(&tls.server_certificate)),
        ("privateKey", given(&tls.private_key)),
        ("caCertificates", given(&tls.ca_certificates)),
        ("caCrl", given(&tls.ca_crl)),
        ("tlsCertificates", !tls.tls_certificates.is_empty()),
        ("credentialName", given(&tls.credential_name)),
        ("credentialNames", !tls.credential_names.is_empty()),
    ];
    if mode == TlsMode::IstioMutual {
        for (name, set) in certificates {
            if set && name != "caCrl" {
                let message = "ISTIO_MUTUAL takes its certificates from the mesh";
                findings.error(&format!("{here}.{name}"), message, "remove it");
            }
        }
        return;
    }
    let passthrough = matches!(mode, TlsMode::Passthrough | TlsMode::AutoPassthrough);
    if passthrough && let Some((name, _)) = certificates.iter().find(|(_, set)| *set) {
        let message = "certificates are not used in this mode";
        findings.warn("IST0133", &format!("{here}.{name}"), message, "use mode SIMPLE or MUTUAL");
    }
    let sources = [
        pair,
        given(&tls.credential_name),
        !tls.credential_names.is_empty(),
        !tls.tls_certificates.is_empty(),
    ];
    if sources.iter().filter(|set| **set).count() > 1 {
        findings.error(here, "certificates from more than one source", "keep one of them");
    }
    if passthrough {
        if given(&tls.ca_crl) && given(&tls.credential_name) {
            let message = "`caCrl` does not go with `credentialName`";
            findings.error(&format!("{here}.caCrl"), message, "put the list into the Secret");
        }
        return;
    }
    for (name, count) in [
        ("credentialNames", tls.credential_names.len()),
        ("tlsCertificates", tls.tls_certificates.len()),
    ] {
        if count > CERTIFICATES_MAX {
            let message = format!("{count} certificates: at most one RSA and one ECDSA are used");
            findings.warn("IST0133", &format!("{here}.{name}"), &message, "keep two of them");
        }
    }
    if given(&tls.credential_name) || !tls.credential_names.is_empty() {
        if given(&tls.ca_crl) {
            let message = "`caCrl` is not used with a credential";
            let help = "put the list into the Secret (ca.crl)";
            findings.warn("IST0133", &format!("{here}.caCrl"), message, help);
        }
        return;
    }
    if given(&tls.ca_crl) && mode == TlsMode::Simple {
        let message = "`caCrl` says nothing in mode SIMPLE: no client certificate is asked for";
        findings.error(&format!("{here}.caCrl"), message, "use mode MUTUAL, or remove it");
    }
    let mutual = matches!(mode, TlsMode::Mutual | TlsMode::OptionalMutual);
    if mutual && !given(&tls.ca_certificates) {
        let message = "this mode needs the CA of the clients";
        findings.error(here, message, "add `caCertificates`, or use `credentialName`");
    }
    let incomplete = tls.tls_certificates.iter().position(|certificate| {
        !given(&certificate.server_certificate) || !given(&certificate.private_key)
    });
    if let Some(index) = incomplete {
        let message = "`serverCertificate` and `privateKey` belong together";
        let field = format!("{here}.tlsCertificates[{index}]");
        findings.error(&field, message, "give both");
    } else if tls.tls_certificates.is_empty() && !pair {
        let message = "this mode needs a certificate and its key";
        let help = "add `credentialName`, or `serverCertificate` and `privateKey`";
        findings.error(here, message, help);
    }
}

fn versions_and_ciphers(findings: &mut Of<'_>, tls: &ServerTlsSettings, here: &str) {
    if matches!(tls.min_protocol_version, Some(TlsProtocol::V1_0 | TlsProtocol::V1_1)) {
        let field = format!("{here}.minProtocolVersion");
        findings.warn("RNG0301", &field, "TLS before 1.2 is never spoken here", "use TLSV1_2");
    }
    let version = |version: Option<TlsProtocol>| version.unwrap_or(TlsProtocol::Auto);
    let (lowest, highest) = (version(tls.min_protocol_version), version(tls.max_protocol_version));
    if highest != TlsProtocol::Auto && (highest < TlsProtocol::V1_2 || highest < lowest) {
        let field = format!("{here}.maxProtocolVersion");
        let message = match highest < TlsProtocol::V1_2 {
            true => "TLS before 1.2 is never spoken here: no version is left",
            false => "it is below `minProtocolVersion`: no version is left",
        };
        findings.add(Severity::Error, "RNG0315", &field, message, "use TLSV1_3, or remove it");
    }
    cipher_suites(findings, tls, here);
}

/// Names that Istio leaves out are left out here; names that it knows and that are not spoken here are
/// told, and are an error when no other is left. TLS 1.3 has suites of its own.
fn cipher_suites(findings: &mut Of<'_>, tls: &ServerTlsSettings, here: &str) {
    let spoken = &CIPHER_SUITES[..CIPHER_SUITES_SPOKEN];
    let unspoken: Vec<&str> = CIPHER_SUITES[CIPHER_SUITES_SPOKEN..]
        .iter()
        .copied()
        .filter(|known| tls.cipher_suites.iter().any(|name| name == known))
        .collect();
    if !unspoken.is_empty() {
        let none_left = !tls.cipher_suites.iter().any(|name| spoken.contains(&name.as_str()))
            && tls.min_protocol_version != Some(TlsProtocol::V1_3);
        let (severity, effect) = match none_left {
            true => (Severity::Error, "no suite is left for TLS 1.2"),
            false => (Severity::Warning, "they are left out"),
        };
        let message = format!("never spoken here: {}; {effect}", unspoken.join(", "));
        let help = format!("use one of {}", spoken.join(", "));
        findings.add(severity, "RNG0314", &format!("{here}.cipherSuites"), &message, &help);
    }
    for (index, name) in tls.cipher_suites.iter().enumerate() {
        let field = format!("{here}.cipherSuites[{index}]");
        // What does not begin like a name is an operator of OpenSSL's lists.
        let is_name = name.starts_with(|first: char| first.is_ascii_alphanumeric());
        if is_name && name != "ALL" && !CIPHER_SUITES.contains(&name.as_str()) {
            let message = format!("unknown cipher suite `{name}`: it is left out");
            let help = "use OpenSSL's name, such as ECDHE-RSA-AES128-GCM-SHA256";
            findings.warn("IST0133", &field, &message, help);
        } else if tls.cipher_suites[..index].contains(name) {
            let message = format!("`{name}` is given twice");
            findings.warn("IST0133", &field, &message, "remove it");
        }
    }
}
