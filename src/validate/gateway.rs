//! Rules of Gateway (behaviour 11.2).

use super::names::{is_address, is_dns_label, is_host, is_port, is_socket_path};
use super::{Findings, PROTOCOLS, metadata, server_tls};
use crate::config::gateway::{Gateway, Server};
use std::collections::HashSet;

pub(super) fn validate(findings: &mut Findings<'_, Gateway>) {
    metadata::validate(findings);
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
        server_tls::validate(findings, server, &field);
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
            "write the port that clients use, such as 80 or 443",
        );
    }
    if port.name.is_empty() {
        findings.error(&format!("{field}.port"), "the port needs a name", "add `name: http`");
    }
    if !PROTOCOLS.contains(&server.protocol().as_str()) {
        findings.error(
            &format!("{field}.port.protocol"),
            &format!("unknown protocol `{}`", port.protocol),
            &format!("one of: {}", PROTOCOLS.join(", ")),
        );
    }
    if port.target_port.is_some_and(|port| port != 0) {
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
        Some(path) => is_socket_path(path),
        None => is_address(bind),
    };
    if !valid {
        let message =
            format!("`{bind}` is neither an IP address nor unix:// with an absolute path");
        findings.error(
            &format!("{field}.bind"),
            &message,
            "leave it out to listen on all addresses",
        );
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
                    let help = "write `./host` for the Gateway's own namespace, `*/host` for all";
                    findings.error(&field, &message, help);
                }
                host
            }
        };
        if !is_host(host) {
            let message = format!("`{host}` is not a host name, `*.` before one, or `*`");
            findings.error(&field, &message, "wildcards stand for whole leading labels only");
        } else if !host.contains(['.', '*']) {
            let message = format!("the short name `{host}` cannot be a host of a Gateway");
            findings.error(&field, &message, "use the full name that clients send");
        }
    }
}
