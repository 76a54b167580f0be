//! Rules of ServiceEntry and WorkloadEntry (behaviour 11.5).

use std::collections::HashSet;

use super::names::{
    is_address, is_dns_label, is_domain, is_partial_wildcard, is_port, is_socket_path, is_subnet,
    is_wildcard_domain,
};
use super::{Findings, PROTOCOLS, metadata};
use crate::config::service_entry::{
    Location, Resolution, ServiceEntry, ServicePort, WorkloadEntry,
};

/// Protocols that have the host on the wire.
const NAMED_PROTOCOLS: [&str; 7] =
    ["HTTP", "HTTPS", "HTTP2", "GRPC", "GRPC-WEB", "HTTP_PROXY", "TLS"];
/// Protocols of which the gateway sees connections, not requests.
const CONNECTION_PROTOCOLS: [&str; 6] = ["TCP", "HTTPS", "TLS", "MONGO", "REDIS", "MYSQL"];
/// Protocols of hosts that are resolved as requests name them.
const DYNAMIC_PROTOCOLS: [&str; 4] = ["HTTP", "HTTP2", "GRPC", "TLS"];
const UNIX: &str = "unix://";
/// Label of objects that a waypoint serves.
const USE_WAYPOINT: &str = "istio.io/use-waypoint";

type Of<'o> = Findings<'o, ServiceEntry>;

pub(super) fn validate(findings: &mut Of<'_>) {
    metadata::validate(findings);
    let spec = &findings.object.spec;
    hosts(findings, spec);
    if let Some(selector) = &spec.workload_selector {
        metadata::selector(findings, &selector.labels, "spec.workloadSelector.labels");
        if !spec.endpoints.is_empty() {
            let message = "`endpoints` and `workloadSelector` exclude each other";
            findings.error("spec", message, "keep one of them");
        }
        if selector.labels.is_empty() {
            let message = "no labels: it selects all workloads of the namespace";
            findings.warn("IST0133", "spec.workloadSelector", message, "add `labels`");
        }
        if matches!(resolution(spec), Resolution::None | Resolution::DynamicDns) {
            let message = "without resolution STATIC or DNS its workloads are not used";
            let help = "use `resolution: STATIC`";
            findings.warn("IST0133", "spec.workloadSelector", message, help);
        }
    }
    ports(findings, spec);
    endpoints(findings, spec);
    addresses(findings, spec);
    metadata::export_to(findings, &spec.export_to);
}

fn resolution(spec: &ServiceEntry) -> Resolution {
    spec.resolution.unwrap_or(Resolution::None)
}

fn protocol(port: &ServicePort) -> String {
    port.protocol.as_deref().unwrap_or("").to_ascii_uppercase()
}

fn hosts(findings: &mut Of<'_>, spec: &ServiceEntry) {
    if spec.hosts.is_empty() {
        findings.error("spec", "a ServiceEntry needs hosts", "add `hosts`");
    }
    for (index, host) in spec.hosts.iter().enumerate() {
        let field = format!("spec.hosts[{index}]");
        if host == "*" || !is_wildcard_domain(host) {
            let message = format!("`{host}` is not the host of a service");
            findings.error(&field, &message, "write a domain name, perhaps with `*.` before it");
        } else if is_partial_wildcard(host) && resolution(spec) != Resolution::DynamicDns {
            let message = format!("`{host}`: a wildcard for a part of a label");
            findings.warn("IST0133", &field, &message, "write `*.` before a domain");
        }
    }
}

fn ports(findings: &mut Of<'_>, spec: &ServiceEntry) {
    let (mut names, mut numbers) = (HashSet::new(), HashSet::new());
    for (index, port) in spec.ports.iter().enumerate() {
        let field = format!("spec.ports[{index}]");
        if !is_port(port.number) {
            let message = format!("{} is not a port (1 to 65535)", port.number);
            findings.error(&format!("{field}.number"), &message, "write the number of a port");
        }
        if port.target_port.is_some_and(|port| port != 0 && !is_port(port)) {
            let help = "leave it out when it is the same";
            findings.error(&format!("{field}.targetPort"), "not a port (1 to 65535)", help);
        }
        let protocol = protocol(port);
        if !protocol.is_empty() && !PROTOCOLS.contains(&protocol.as_str()) {
            let message = format!("unknown protocol `{protocol}`");
            let help = format!("one of: {}", PROTOCOLS.join(", "));
            findings.error(&format!("{field}.protocol"), &message, &help);
        }
        if port.name.is_empty() {
            findings.error(&field, "the port needs a name", "add `name`");
        } else if !is_dns_label(&port.name) {
            let message = format!("`{}` is not the name of a port", port.name);
            findings.error(&format!("{field}.name"), &message, "letters, digits and dashes");
        }
        if !names.insert(&port.name) || !numbers.insert(port.number) {
            let help = "give each port a name and a number of its own";
            findings.error(&field, "a second port with this name or number", help);
        }
        if matches!(protocol.as_str(), "" | "TCP") && spec.addresses.is_empty() {
            let message = "other ServiceEntries with this TCP port cannot be told from it";
            findings.warn("IST0134", &field, message, "add `addresses`, or a protocol");
        }
    }
    let nameless = |port: &ServicePort| !NAMED_PROTOCOLS.contains(&protocol(port).as_str());
    let several = spec.hosts.len() > 1;
    if several && resolution(spec) != Resolution::None && spec.ports.iter().any(nameless) {
        let message = "with a TCP port there can be one host only";
        findings.error("spec.hosts", message, "write a ServiceEntry for each host");
    }
}

fn addresses(findings: &mut Of<'_>, spec: &ServiceEntry) {
    let resolved = matches!(resolution(spec), Resolution::Dns | Resolution::DnsRoundRobin);
    let by_connection =
        |port: &ServicePort| CONNECTION_PROTOCOLS.contains(&protocol(port).as_str());
    let shared = resolved && !spec.addresses.is_empty() && spec.hosts.len() > 1;
    if shared && spec.ports.iter().any(by_connection) {
        let message = "connections to `addresses` cannot tell which of the hosts is meant";
        findings.warn("IST0133", "spec.hosts", message, "write a ServiceEntry for each host");
    }
    let by_address = matches!(resolution(spec), Resolution::None | Resolution::Static);
    for (index, address) in spec.addresses.iter().enumerate() {
        let field = format!("spec.addresses[{index}]");
        if !is_subnet(address) {
            let message = format!("`{address}` is not an IP address or range");
            findings.error(&field, &message, "write it as 10.1.2.3 or 10.0.0.0/8");
        } else if address.contains('/') && !by_address {
            let message = "a range of addresses needs resolution NONE or STATIC";
            findings.error(&field, message, "write single addresses, or another resolution");
        }
    }
}

fn endpoints(findings: &mut Of<'_>, spec: &ServiceEntry) {
    let resolution = resolution(spec);
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
            let help = "keep one, or use `resolution: DNS`";
            findings.error("spec.endpoints", "DNS_ROUND_ROBIN takes one endpoint", help);
        }
        Resolution::DynamicDns => dynamic(findings, spec),
        _ => {}
    }
    for (index, endpoint) in spec.endpoints.iter().enumerate() {
        let field = format!("spec.endpoints[{index}]");
        address(findings, spec, endpoint, &field);
        metadata::labels(findings, &endpoint.labels, &format!("{field}.labels"));
        for (name, port) in &endpoint.ports {
            let field = format!("{field}.ports[{name}]");
            if !spec.ports.iter().any(|known| known.name == *name) {
                let message = format!("`{name}` is no port of this ServiceEntry");
                findings.error(&field, &message, "use a name of `spec.ports`");
            }
            if !is_port(*port) {
                let message = format!("{port} is not a port (1 to 65535)");
                findings.error(&field, &message, "write the number of a port");
            }
        }
    }
}

fn address(findings: &mut Of<'_>, spec: &ServiceEntry, endpoint: &WorkloadEntry, field: &str) {
    let resolution = resolution(spec);
    let network = endpoint.network.as_deref().is_some_and(|network| !network.is_empty());
    if endpoint.address.is_empty() && network && resolution == Resolution::Static {
        let message = "no address: only gateways of its network reach it";
        findings.warn("IST0133", field, message, "add `address`");
        return;
    }
    let field_of_address = format!("{field}.address");
    if let Some(path) = endpoint.address.strip_prefix(UNIX) {
        if !endpoint.ports.is_empty() || spec.ports.len() != 1 {
            let message = "a unix path has no ports, and serves one port";
            findings.error(field, message, "remove `ports`, and keep one of `spec.ports`");
        }
        if !is_socket_path(path) {
            let help = "write `unix:///path` or `unix://@name`";
            findings.error(&field_of_address, "not the path of a socket", help);
            return;
        }
    }
    let is_path = endpoint.address.starts_with(UNIX);
    let valid = match resolution {
        Resolution::Static => is_address(&endpoint.address) || is_path,
        Resolution::Dns | Resolution::DnsRoundRobin => {
            is_address(&endpoint.address) || is_domain(&endpoint.address)
        }
        // Having endpoints at all is told already.
        Resolution::None | Resolution::DynamicDns => true,
    };
    if !valid {
        let message = format!("`{}` does not fit resolution {resolution:?}", endpoint.address);
        let help = match resolution {
            Resolution::Static => "write an IP address, or use `resolution: DNS`",
            _ => "write a domain name or an IP address",
        };
        findings.error(&field_of_address, &message, help);
    }
}

/// Rules of a WorkloadEntry.
pub(super) fn validate_workload(findings: &mut Findings<'_, WorkloadEntry>) {
    metadata::validate(findings);
    let entry = &findings.object.spec;
    metadata::labels(findings, &entry.labels, "spec.labels");
    for (name, port) in &entry.ports {
        if !is_port(*port) {
            let message = format!("{port} is not a port (1 to 65535)");
            findings.error(&format!("spec.ports[{name}]"), &message, "write the number of a port");
        }
    }
    let address = entry.address.as_str();
    if let Some(path) = address.strip_prefix(UNIX) {
        if !entry.ports.is_empty() {
            findings.error("spec", "a unix path has no ports", "remove `ports`");
        }
        if !is_socket_path(path) {
            let help = "write `unix:///path` or `unix://@name`";
            findings.error("spec.address", "not the path of a socket", help);
        }
    } else if address.is_empty() {
        // One of another network is reached through that network's gateway.
        if entry.network.as_deref().unwrap_or_default().is_empty() {
            let help = "add the IP address or the name of the workload";
            findings.error("spec", "a WorkloadEntry needs an `address`", help);
        }
    } else if !is_address(address) && !is_domain(address) {
        let message = format!("`{address}` is neither an IP address nor a name");
        findings.error("spec.address", &message, "write one of them");
    }
}

fn dynamic(findings: &mut Of<'_>, spec: &ServiceEntry) {
    if spec.hosts.iter().any(|host| !host.starts_with('*')) {
        let help = "use `resolution: DNS` for a single host";
        findings.error("spec.hosts", "DYNAMIC_DNS is for wildcard hosts", help);
    }
    if !spec.addresses.is_empty() || !spec.endpoints.is_empty() {
        let message = "DYNAMIC_DNS has no `addresses` and `endpoints`";
        findings.error("spec", message, "remove them");
    }
    let waypoint = findings.object.meta.labels.get(USE_WAYPOINT);
    let waypoint = waypoint.filter(|name| !name.is_empty() && !name.eq_ignore_ascii_case("none"));
    if spec.location == Some(Location::MeshInternal) && waypoint.is_some() {
        let message = "DYNAMIC_DNS inside of the mesh does not go with a waypoint";
        findings.error("spec.location", message, "use `location: MESH_EXTERNAL`");
    }
    for (index, port) in spec.ports.iter().enumerate() {
        let protocol = protocol(port);
        if !DYNAMIC_PROTOCOLS.contains(&protocol.as_str()) {
            let message = format!("DYNAMIC_DNS does not go with protocol `{protocol}`");
            let help = format!("one of: {}", DYNAMIC_PROTOCOLS.join(", "));
            findings.error(&format!("spec.ports[{index}].protocol"), &message, &help);
        }
    }
}
