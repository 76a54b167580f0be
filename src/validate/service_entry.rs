//! Rules of ServiceEntry and WorkloadEntry (behaviour 11.5).

use std::collections::HashSet;
use std::net::IpAddr;

use super::Findings;
use super::names::{is_domain, is_port, is_wildcard_domain};
use super::virtual_service::export_to;
use crate::config::Spec;
use crate::config::service_entry::{Resolution, ServiceEntry, ServicePort, WorkloadEntry};

const PROTOCOLS: [&str; 13] = [
    "HTTP",
    "HTTPS",
    "HTTP2",
    "GRPC",
    "GRPC-WEB",
    "HTTP_PROXY",
    "TCP",
    "TLS",
    "UDP",
    "MONGO",
    "MYSQL",
    "REDIS",
    "HBONE",
];
/// Protocols in which the host is not on the wire.
const TCP_PROTOCOLS: [&str; 4] = ["TCP", "MONGO", "MYSQL", "REDIS"];

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
        if port.target_port.is_some_and(|port| port != 0 && !is_port(port)) {
            findings.error(&format!("{field}.targetPort"), "not a port (1 to 65535)", "");
        }
        let protocol = port.protocol.as_deref().unwrap_or("");
        if !protocol.is_empty() && !PROTOCOLS.contains(&protocol.to_ascii_uppercase().as_str()) {
            let message = format!("unknown protocol `{protocol}`");
            let help = format!("one of: {}", PROTOCOLS.join(", "));
            findings.error(&format!("{field}.protocol"), &message, &help);
        }
        if port.name.is_empty() {
            findings.error(&field, "the port needs a name", "");
        }
        if !names.insert(&port.name) || !numbers.insert(port.number) {
            findings.error(&field, "a second port with this name or number", "");
        }
    }
    endpoints(findings, spec);
    addresses(findings, spec);
    export_to(findings, &spec.export_to);
}

fn addresses(findings: &mut Findings<'_, ServiceEntry>, spec: &ServiceEntry) {
    let resolution = spec.resolution.unwrap_or(Resolution::None);
    let by_address = matches!(resolution, Resolution::None | Resolution::Static);
    for (index, address) in spec.addresses.iter().enumerate() {
        let field = format!("spec.addresses[{index}]");
        let (ip, length) = match address.split_once('/') {
            Some((ip, length)) => (ip, Some(length)),
            None => (address.as_str(), None),
        };
        let bits = match ip.parse::<IpAddr>() {
            Ok(IpAddr::V4(_)) => 32,
            Ok(IpAddr::V6(_)) => 128,
            Err(_) => {
                findings.error(&field, &format!("`{address}` is not an IP address or range"), "");
                continue;
            }
        };
        match length.map(str::parse::<u32>) {
            None => {}
            Some(Ok(length)) if length <= bits && by_address => {}
            Some(Ok(length)) if length <= bits => {
                let message = "a range of addresses needs resolution NONE or STATIC";
                findings.error(&field, message, "");
            }
            Some(_) => findings.error(&field, &format!("`{address}` is not a range"), ""),
        }
    }
    let tcp = |port: &ServicePort| {
        let protocol = port.protocol.as_deref().unwrap_or("").to_ascii_uppercase();
        TCP_PROTOCOLS.contains(&protocol.as_str())
    };
    if let Some(index) = spec.ports.iter().position(tcp) {
        if spec.hosts.len() > 1 && resolution != Resolution::None {
            let message = "with a TCP port there can be one host only";
            findings.error("spec.hosts", message, "write a ServiceEntry for each host");
        }
        if spec.addresses.is_empty() && spec.workload_selector.is_none() {
            let message = "other ServiceEntries with this TCP port cannot be told from it";
            let field = format!("spec.ports[{index}]");
            findings.warn("IST0134", &field, message, "add `addresses`");
        }
    }
    if resolution == Resolution::DynamicDns {
        if spec.hosts.iter().any(|host| !host.starts_with('*')) {
            findings.error("spec.hosts", "DYNAMIC_DNS is for wildcard hosts", "");
        }
        if !spec.addresses.is_empty() || !spec.endpoints.is_empty() {
            findings.error("spec", "DYNAMIC_DNS has no `addresses` and `endpoints`", "");
        }
    }
}

fn endpoints(findings: &mut Findings<'_, ServiceEntry>, spec: &ServiceEntry) {
    let resolution = spec.resolution.unwrap_or(Resolution::None);
    if spec.workload_selector.is_some()
        && matches!(resolution, Resolution::None | Resolution::DynamicDns)
    {
        let message = "without resolution STATIC or DNS its workloads are not used";
        findings.warn("IST0133", "spec.workloadSelector", message, "requests get 503 (UH)");
    }
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
        if endpoint.address.starts_with("unix://") && spec.ports.len() > 1 {
            findings.error(&field, "a unix path serves one port", "");
        }
        workload(findings, endpoint, &field);
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
        for name in endpoint.ports.keys() {
            if !spec.ports.iter().any(|known| known.name == *name) {
                let message = format!("`{name}` is no port of this ServiceEntry");
                findings.error(&format!("{field}.ports[{name}]"), &message, "");
            }
        }
    }
}

/// Rules of an endpoint, written in a ServiceEntry or as an object of its own.
fn workload<S: Spec>(findings: &mut Findings<'_, S>, entry: &WorkloadEntry, field: &str) {
    if let Some(path) = entry.address.strip_prefix("unix://") {
        if !entry.ports.is_empty() {
            findings.error(field, "a unix path has no ports", "");
        }
        if !path.starts_with(['/', '@']) || path.ends_with('/') {
            findings.error(&format!("{field}.address"), "not the path of a socket", "");
        }
    }
    for (name, port) in &entry.ports {
        if !is_port(*port) {
            let message = format!("{port} is not a port (1 to 65535)");
            findings.error(&format!("{field}.ports[{name}]"), &message, "");
        }
    }
}

/// Rules of a WorkloadEntry.
pub(super) fn validate_workload(findings: &mut Findings<'_, WorkloadEntry>) {
    let entry = &findings.object.spec;
    workload(findings, entry, "spec");
    let address = entry.address.as_str();
    if address.is_empty() {
        // One of another network is reached through that network's gateway.
        if entry.network.as_deref().unwrap_or_default().is_empty() {
            findings.error("spec", "a WorkloadEntry needs an `address`", "");
        }
    } else if !address.starts_with("unix://")
        && address.parse::<IpAddr>().is_err()
        && !is_domain(address)
    {
        let message = format!("`{address}` is neither an IP address nor a name");
        findings.error("spec.address", &message, "");
    }
}
