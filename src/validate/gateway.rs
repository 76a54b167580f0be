//! Rules of Gateway (behaviour 11.2).

use std::collections::HashSet;
use std::net::IpAddr;

use super::Findings;
use super::names::{is_dns_label, is_host, is_port};
use crate::config::gateway::{Gateway, Server, TlsMode, TlsProtocol};

const PROTOCOLS: [&str; 9] =
    ["HTTP", "HTTPS", "GRPC", "GRPC-WEB", "HTTP2", "MONGO", "TCP", "TLS", "HTTP_PROXY"];

pub(super) fn validate(findings: &mut Findings<'_, Gateway>) {
    let spec = &findings.object.spec;
    if spec.servers.is_empty() {
        findings.error("spec", "a Gateway needs at least one server", "add `servers`");
    }
    let mut port_names = HashSet::new();
    for (index, server) in spec.servers.iter().enumerate() {
        let field = format!("spec.servers[{index}]");
        port(findings, server, &field);
        if let Some(port) = &server.port
            && !port.name.is_empty()
            && !port_names.insert(&port.name)
        {
            let message = format!("a second server port named `{}`", port.name);
            findings.error(&format!("{field}.port.name"), &message, "give each a name of its own");
        }
        bind(findings, server, &field);
        hosts(findings, server, &field);
        tls(findings, server, &field);
    }
}

fn port(findings: &mut Findings<'_, Gateway>, server: &Server, field: &str) {
    let Some(port) = &server.port else {
        findings.error(field, "a server needs a port", "add `port: {number, name, protocol}`");
        return;
    };
    let unix = server.bind.as_deref().is_some_and(|bind| bind.starts_with("unix://"));
    if unix != (port.number == 0) || (!unix && !is_port(port.number)) {
        findings.error(
            &format!("{field}.port.number"),
            &format!(
                "{} is not a port of this server (1 to 65535, 0 for a unix path)",
                port.number
            ),
            "",
        );
    }
    if port.name.is_empty() {
        findings.error(&format!("{field}.port"), "the port needs a name", "add `name`");
    }
    if !PROTOCOLS.contains(&server.protocol().as_str()) {
        findings.error(
            &format!("{field}.port.protocol"),
            &format!("unknown protocol `{}`", port.protocol),
            &format!("one of: {}", PROTOCOLS.join(", ")),
        );
    }
    if port.target_port.is_some() {
        findings.error(
            &format!("{field}.port.targetPort"),
            "`targetPort` is not supported",
            "the target port comes from the gateway's Service, or --port-map",
        );
    }
}

fn bind(findings: &mut Findings<'_, Gateway>, server: &Server, field: &str) {
    let Some(bind) = server.bind.as_deref().filter(|bind| !bind.is_empty()) else { return };
    let valid = match bind.strip_prefix("unix://") {
        Some(path) => path.starts_with('/') || path.starts_with('@'),
        None => bind.parse::<IpAddr>().is_ok(),
    };
    if !valid {
        let message =
            format!("`{bind}` is neither an IP address nor unix:// with an absolute path");
        findings.error(&format!("{field}.bind"), &message, "");
    }
}

fn hosts(findings: &mut Findings<'_, Gateway>, server: &Server, field: &str) {
    if server.hosts.is_empty() {
        findings.error(field, "a server needs hosts", "add `hosts: [\"*\"]` or names");
    }
    for (index, text) in server.hosts.iter().enumerate() {
        let field = format!("{field}.hosts[{index}]");
        let host = match text.split_once('/') {
            None => text.as_str(),
            Some((namespace, host)) => {
                if !matches!(namespace, "*" | ".") && !is_dns_label(namespace) {
                    let message = format!("`{namespace}` is not a namespace, `.` or `*`");
                    findings.error(&field, &message, "");
                }
                host
            }
        };
        if !is_host(host) {
            let message = format!("`{host}` is not a host name, `*.` before one, or `*`");
            findings.error(&field, &message, "wildcards stand for whole leading labels only");
        } else if !host.contains(['.', ':', '*']) {
            let message = format!("the short name `{host}` cannot be a host of a Gateway");
            findings.error(&field, &message, "use the full name that clients send");
        }
    }
}

fn tls(findings: &mut Findings<'_, Gateway>, server: &Server, field: &str) {
    let here = format!("{field}.tls");
    let Some(tls) = &server.tls else {
        if server.is_tls() {
            let message = format!("protocol {} needs `tls`", server.protocol());
            findings.error(field, &message, "add `tls: {mode, …}`");
        }
        return;
    };
    if server.is_plain_http() {
        let only_redirect = tls.mode.is_none()
            && tls.credential_name.is_none()
            && tls.credential_names.is_empty()
            && tls.server_certificate.is_none()
            && tls.tls_certificates.is_empty();
        if !only_redirect {
            findings.error(
                &here,
                "a clear-text server may have no more of `tls` than `httpsRedirect`",
                "use protocol HTTPS",
            );
        }
        return;
    }
    if !server.is_tls() {
        findings.error(&here, &format!("protocol {} has no `tls`", server.protocol()), "");
        return;
    }
    if tls.https_redirect == Some(true) {
        let field = format!("{here}.httpsRedirect");
        findings.warn("IST0106", &field, "httpsRedirect does nothing on a TLS server", "");
    }
    let files = tls.server_certificate.is_some() || tls.private_key.is_some();
    let sources = [
        tls.credential_name.is_some(),
        !tls.credential_names.is_empty(),
        files,
        !tls.tls_certificates.is_empty(),
    ];
    let given = sources.iter().filter(|given| **given).count();
    if given > 1 {
        findings.error(&here, "certificates from more than one source", "keep one of them");
    }
    let mode = tls.mode.unwrap_or(TlsMode::Passthrough);
    match mode {
        TlsMode::Simple | TlsMode::Mutual | TlsMode::OptionalMutual if given == 0 => {
            findings.error(
                &here,
                "this mode needs a certificate",
                "add `credentialName`, or `serverCertificate` and `privateKey`",
            );
        }
        TlsMode::IstioMutual if given > 0 => {
            findings.error(&here, "ISTIO_MUTUAL takes no certificates", "remove them");
        }
        TlsMode::Passthrough | TlsMode::AutoPassthrough if given > 0 => {
            findings.warn("IST0106", &here, "certificates are not used in this mode", "");
        }
        _ => {}
    }
    if files && tls.credential_name.is_none() {
        let pair = tls.server_certificate.is_some() && tls.private_key.is_some();
        if !pair {
            findings.error(&here, "`serverCertificate` and `privateKey` belong together", "");
        }
        let mutual = matches!(mode, TlsMode::Mutual | TlsMode::OptionalMutual);
        if mutual && tls.ca_certificates.is_none() && tls.ca_cert_credential_name.is_none() {
            findings.error(&here, "this mode needs `caCertificates`", "");
        }
    }
    if matches!(tls.min_protocol_version, Some(TlsProtocol::V1_0 | TlsProtocol::V1_1)) {
        let field = format!("{here}.minProtocolVersion");
        findings.warn("RNG0301", &field, "TLS before 1.2 is never spoken here", "use TLSV1_2");
    }
}
