//! Rules of ServiceEntry (behaviour 11.5).

use std::collections::HashSet;
use std::net::IpAddr;

use super::Findings;
use super::names::{is_domain, is_port, is_wildcard_domain};
use super::virtual_service::export_to;
use crate::config::service_entry::{Resolution, ServiceEntry};

pub(super) fn validate(findings: &mut Findings<'_, ServiceEntry>) {
    let spec = &findings.object.spec;
    if spec.hosts.is_empty() {
        findings.error("spec", "a ServiceEntry needs hosts", "add `hosts`");
    }
    for (index, host) in spec.hosts.iter().enumerate() {
        if host == "*" || !is_wildcard_domain(host) {
            let message = format!("`{host}` is not the host of a service");
            findings.error(&format!("spec.hosts[{index}]"), &message, "");
        }
    }
    if !spec.endpoints.is_empty() && spec.workload_selector.is_some() {
        findings.error("spec", "`endpoints` and `workloadSelector` exclude each other", "");
    }
    let (mut names, mut numbers) = (HashSet::new(), HashSet::new());
    for (index, port) in spec.ports.iter().enumerate() {
        let field = format!("spec.ports[{index}]");
        if !is_port(port.number) {
            let message = format!("{} is not a port (1 to 65535)", port.number);
            findings.error(&format!("{field}.number"), &message, "");
        }
        if port.name.is_empty() {
            findings.error(&field, "the port needs a name", "");
        }
        if !names.insert(&port.name) || !numbers.insert(port.number) {
            findings.error(&field, "a second port with this name or number", "");
        }
    }
    endpoints(findings, spec);
    export_to(findings, &spec.export_to);
}

fn endpoints(findings: &mut Findings<'_, ServiceEntry>, spec: &ServiceEntry) {
    let resolution = spec.resolution.unwrap_or(Resolution::None);
    match resolution {
        Resolution::None if !spec.endpoints.is_empty() => findings.error(
            "spec.endpoints",
            "resolution NONE has no endpoints",
            "use `resolution: STATIC` or `DNS`",
        ),
        Resolution::Dns | Resolution::DnsRoundRobin
            if spec.endpoints.is_empty() && spec.hosts.iter().any(|host| host.contains('*')) =>
        {
            findings.error("spec", "a wildcard host cannot be resolved", "add `endpoints`");
        }
        Resolution::DnsRoundRobin if spec.endpoints.len() > 1 => {
            findings.error("spec.endpoints", "DNS_ROUND_ROBIN takes one endpoint", "");
        }
        _ => {}
    }
    for (index, endpoint) in spec.endpoints.iter().enumerate() {
        let field = format!("spec.endpoints[{index}]");
        let is_address = endpoint.address.parse::<IpAddr>().is_ok();
        let is_path = endpoint.address.starts_with("unix://");
        let valid = match resolution {
            Resolution::Static => is_address || is_path,
            Resolution::Dns | Resolution::DnsRoundRobin => {
                is_address || is_domain(&endpoint.address)
            }
            _ => true,
        };
        if !valid {
            let message = format!("`{}` does not fit resolution {resolution:?}", endpoint.address);
            findings.error(&format!("{field}.address"), &message, "");
        }
        for (name, port) in &endpoint.ports {
            if !spec.ports.iter().any(|known| known.name == *name) {
                let message = format!("`{name}` is no port of this ServiceEntry");
                findings.error(&format!("{field}.ports[{name}]"), &message, "");
            }
            if !is_port(*port) {
                let message = format!("{port} is not a port (1 to 65535)");
                findings.error(&format!("{field}.ports[{name}]"), &message, "");
            }
        }
    }
}
