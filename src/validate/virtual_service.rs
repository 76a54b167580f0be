//! Rules of VirtualService as a whole (behaviour 11.3); its rules are in `http_route`,
//! `route_policy` and `l4_route`.

use super::names::{
    is_address, is_dns_label, is_domain, is_partial_wildcard, is_port, is_wildcard_domain,
};
use super::{Findings, http_route, l4_route, metadata, shadowed};
use crate::config::virtual_service::{Destination, VirtualService};

type Of<'o> = Findings<'o, VirtualService>;

pub(super) fn validate(findings: &mut Of<'_>) {
    metadata::validate(findings);
    let spec = &findings.object.spec;
    let delegate = spec.hosts.is_empty();
    if delegate && !(spec.gateways.is_empty() && spec.tls.is_empty() && spec.tcp.is_empty()) {
        findings.error(
            "spec",
            "a VirtualService without hosts is a delegate: it has no gateways, tls or tcp",
            "add `hosts`",
        );
    }
    if spec.http.is_empty() && spec.tls.is_empty() && spec.tcp.is_empty() {
        findings.error("spec", "none of `http`, `tls`, `tcp`", "add routes");
    }
    hosts(findings);
    gateway_names(findings, &spec.gateways, "spec.gateways");
    metadata::export_to(findings, &spec.export_to);
    for (index, route) in spec.http.iter().enumerate() {
        http_route::validate(findings, route, &format!("spec.http[{index}]"), delegate);
    }
    shadowed::validate(findings);
    l4_route::validate(findings);
}

/// Is it bound to gateways only, as far as its hosts are concerned?
pub(super) fn is_at_gateway(spec: &VirtualService) -> bool {
    spec.gateways.iter().any(|gateway| gateway != "mesh")
}

fn hosts(findings: &mut Of<'_>) {
    let spec = &findings.object.spec;
    // Names of Istio's gateways between clusters, `outbound_.80_._.host`: with SNI only.
    let generated = |host: &str| !spec.tls.is_empty() && host.starts_with("outbound_.");
    for (index, host) in spec.hosts.iter().enumerate() {
        let field = format!("spec.hosts[{index}]");
        let valid = is_wildcard_domain(host) || is_address(host) || generated(host);
        if !valid {
            let message = format!("`{host}` is not a host name, `*.` before one, or `*`");
            findings.error(&field, &message, "wildcards stand for whole leading labels only");
        } else if is_partial_wildcard(host) {
            let message = format!("`{host}`: a wildcard for a part of a label is not served here");
            findings.error(&field, &message, "write `*.` before a domain, or the names themselves");
        }
        if spec.hosts[..index].iter().any(|other| overlaps(other, host)) {
            let message = format!("`{host}` overlaps another host of the list");
            findings.error(&field, &message, "remove one of them");
        }
        if *host == "*" && !is_at_gateway(spec) {
            let message = "the mesh has no host `*`";
            findings.error(&field, message, "bind it to a gateway: add `gateways`");
        }
    }
}

fn overlaps(one: &str, other: &str) -> bool {
    let covers = |pattern: &str, host: &str| match pattern.strip_prefix('*') {
        Some("") => true,
        Some(suffix) => host.ends_with(suffix) && host.len() > suffix.len(),
        None => pattern.eq_ignore_ascii_case(host),
    };
    covers(one, other) || covers(other, one)
}

/// Rules of lists of Gateways, of the VirtualService and of matches.
pub(super) fn gateway_names(findings: &mut Of<'_>, gateways: &[String], field: &str) {
    for (index, gateway) in gateways.iter().enumerate() {
        let field = format!("{field}[{index}]");
        let valid = match gateway.split_once('/') {
            // Istio's webhook refuses `./name`, its runtime takes it: so do we.
            Some((namespace, name)) => {
                (namespace == "." || is_dns_label(namespace)) && is_dns_label(name)
            }
            None => is_domain(gateway) || is_dns_label(gateway),
        };
        if !valid {
            let message = format!("`{gateway}` is not `name` or `namespace/name`");
            findings.error(&field, &message, "write the namespace and name of the Gateway");
        } else if let Some((name, rest)) =
            gateway.split_once('.').filter(|_| !gateway.contains('/'))
        {
            let namespace = rest.split('.').next().unwrap_or_default();
            let message = format!("`{gateway}` is the old form of a Gateway's name");
            findings.warn("IST0133", &field, &message, &format!("write `{namespace}/{name}`"));
        }
    }
}

/// Rules of a destination of any kind of route.
pub(super) fn destination(findings: &mut Of<'_>, to: &Destination, field: &str) {
    if to.host == "*" || !is_wildcard_domain(&to.host) {
        let message = format!("`{}` is not the host of a service", to.host);
        let help = "write the name of a Service, or a host of a ServiceEntry";
        findings.error(&format!("{field}.host"), &message, help);
    }
    if let Some(subset) = to.subset.as_deref()
        && !subset.is_empty()
        && !is_dns_label(subset)
    {
        let message = format!("`{subset}` is not a name of a subset");
        findings.error(&format!("{field}.subset"), &message, "letters, digits and dashes");
    }
    if let Some(port) = &to.port {
        check_port(findings, port.number, &format!("{field}.port.number"));
    }
}

pub(super) fn check_port(findings: &mut Of<'_>, number: u32, field: &str) {
    if !is_port(number) {
        let message = format!("{number} is not a port (1 to 65535)");
        findings.error(field, &message, "write the number of a port");
    }
}

/// Rules of the weights of a route's destinations.
pub(super) fn weights(findings: &mut Of<'_>, weights: &[Option<u32>], field: &str) {
    let total: u64 = weights.iter().map(|weight| u64::from(weight.unwrap_or(0))).sum();
    if weights.len() > 1 && total == 0 {
        findings.error(
            &format!("{field}.route"),
            "the weights of several destinations are all 0",
            "give at least one a weight",
        );
    } else if weights.len() > 1 {
        shares(findings, weights, total, field);
    }
    for (index, weight) in weights.iter().enumerate() {
        if weight.is_some_and(|weight| i32::try_from(weight).is_err()) {
            let field = format!("{field}.route[{index}].weight");
            findings.error(&field, "the weight is larger than 2147483647", "write a smaller one");
        }
    }
}

/// Weights are relative: what each comes to, when that is not what is written.
fn shares(findings: &mut Of<'_>, weights: &[Option<u32>], total: u64, field: &str) {
    if let Some(index) = weights.iter().position(Option::is_none) {
        let message = "no weight beside destinations that have one: it gets no requests";
        let help = "give it a weight, or remove it";
        findings.warn("RNG0211", &format!("{field}.route[{index}]"), message, help);
    } else if total != 100 {
        let shares: Vec<String> = weights
            .iter()
            .map(|weight| u64::from(weight.unwrap_or(0)) * 1000 / total)
            .map(|mille| format!("{}.{} %", mille / 10, mille % 10))
            .collect();
        let message = format!("the weights add up to {total}: {}", shares.join(", "));
        findings.info("RNG0211", &format!("{field}.route"), &message, "");
    }
}
