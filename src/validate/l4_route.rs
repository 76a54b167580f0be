//! Rules of `tls` and `tcp` of a VirtualService (behaviour 11.3). They are judged wholly although
//! they are not served yet: what is wrong in them is told before they are.

use super::names::{is_address, is_dns_label, is_subnet, is_wildcard_domain};
use super::virtual_service::{check_port, destination, gateway_names, weights};
use super::{Findings, metadata};
use crate::config::naming::covers;
use crate::config::virtual_service::{RouteDestination, TlsMatchAttributes, VirtualService};

type Of<'o> = Findings<'o, VirtualService>;

pub(super) fn validate(findings: &mut Of<'_>) {
    let spec = &findings.object.spec;
    for (index, route) in spec.tls.iter().enumerate() {
        let field = format!("spec.tls[{index}]");
        if route.match_.is_empty() {
            findings.error(&field, "a tls route needs a match", "add `match: [{sniHosts: […]}]`");
        }
        for (position, condition) in route.match_.iter().enumerate() {
            let field = format!("{field}.match[{position}]");
            sni_hosts(findings, condition, &field);
            subnets(
                findings,
                &condition.destination_subnets,
                &format!("{field}.destinationSubnets"),
            );
            of_connection(
                findings,
                &field,
                condition.port,
                &condition.gateways,
                condition.source_namespace.as_deref(),
            );
            metadata::labels(findings, &condition.source_labels, &format!("{field}.sourceLabels"));
        }
        destinations(findings, &route.route, &field, "tls");
    }
    for (index, route) in spec.tcp.iter().enumerate() {
        let field = format!("spec.tcp[{index}]");
        for (position, condition) in route.match_.iter().enumerate() {
            let field = format!("{field}.match[{position}]");
            subnets(
                findings,
                &condition.destination_subnets,
                &format!("{field}.destinationSubnets"),
            );
            if let Some(subnet) = condition.source_subnet.as_deref().filter(|text| !text.is_empty())
            {
                subnet_form(findings, subnet, &format!("{field}.sourceSubnet"));
            }
            of_connection(
                findings,
                &field,
                condition.port,
                &condition.gateways,
                condition.source_namespace.as_deref(),
            );
            metadata::labels(findings, &condition.source_labels, &format!("{field}.sourceLabels"));
        }
        destinations(findings, &route.route, &field, "tcp");
    }
}

fn sni_hosts(findings: &mut Of<'_>, condition: &TlsMatchAttributes, field: &str) {
    let spec = &findings.object.spec;
    if condition.sni_hosts.is_empty() {
        let help = "add `sniHosts` with the names that clients ask for";
        findings.error(field, "a tls match needs `sniHosts`", help);
    }
    for (index, name) in condition.sni_hosts.iter().enumerate() {
        let field = format!("{field}.sniHosts[{index}]");
        if is_address(name) {
            let message = format!("`{name}`: clients send no SNI for an IP address");
            findings.warn("IST0133", &field, &message, "write a host name");
        } else if !is_wildcard_domain(name) && !name.starts_with("outbound_.") {
            let message = format!("`{name}` is not a host name, `*.` before one, or `*`");
            findings.error(&field, &message, "write the name that clients ask for");
        } else if !spec.hosts.iter().any(|host| covers(host, name)) {
            let message = format!("`{name}` is not within the hosts of the VirtualService");
            findings.error(&field, &message, "add it to `spec.hosts`");
        }
    }
}

fn subnets(findings: &mut Of<'_>, subnets: &[String], field: &str) {
    for (index, subnet) in subnets.iter().enumerate() {
        subnet_form(findings, subnet, &format!("{field}[{index}]"));
    }
}

fn subnet_form(findings: &mut Of<'_>, subnet: &str, field: &str) {
    if !is_subnet(subnet) {
        let message = format!("`{subnet}` is not an IP address or range");
        findings.error(field, &message, "write it as 10.0.0.0/8 or 10.1.2.3");
    }
}

/// What both kinds of matches ask of a connection.
fn of_connection(
    findings: &mut Of<'_>,
    field: &str,
    port: Option<u32>,
    gateways: &[String],
    source_namespace: Option<&str>,
) {
    if let Some(port) = port.filter(|port| *port != 0) {
        check_port(findings, port, &format!("{field}.port"));
    }
    gateway_names(findings, gateways, &format!("{field}.gateways"));
    if let Some(namespace) = source_namespace
        && !namespace.is_empty()
        && !is_dns_label(namespace)
    {
        let message = format!("`{namespace}` is not a namespace");
        findings.error(&format!("{field}.sourceNamespace"), &message, "write one namespace");
    }
}

fn destinations(findings: &mut Of<'_>, route: &[RouteDestination], field: &str, kind: &str) {
    if route.is_empty() {
        let help = "add `route: [{destination: {host: …}}]`";
        findings.error(field, &format!("a {kind} route needs destinations"), help);
    }
    for (index, weighted) in route.iter().enumerate() {
        let field = format!("{field}.route[{index}]");
        match &weighted.destination {
            Some(to) => destination(findings, to, &format!("{field}.destination")),
            None => findings.error(&field, "a destination is missing", "add `destination: {host}`"),
        }
    }
    let shares: Vec<_> = route.iter().map(|weighted| weighted.weight).collect();
    weights(findings, &shares, field);
}
