//! What takes more than one object to see about Gateways: conflicts of servers, the gateway's own
//! Service, certificates that two share (behaviour 2.3, 7.6, 11.7).

use std::collections::{BTreeMap, HashMap};

use super::{Findings, ValidateOptions};
use crate::config::gateway::{Gateway, Server, ServerTlsSettings};
use crate::config::kube::PortOrName;
use crate::config::naming::normalized_host;
use crate::config::{Diagnostic, Object, ResourceSet};

pub(super) fn validate(
    resources: &ResourceSet,
    options: &ValidateOptions,
    diagnostics: &mut Vec<Diagnostic>,
) {
    conflicts(resources, diagnostics);
    duplicate_certificates(resources, diagnostics);
    let ports = ServicePorts::of_gateway(resources, options);
    for object in resources.gateways() {
        let mut findings = Findings::of(object, diagnostics);
        if !is_subset(&object.spec.selector, &options.labels) {
            let labels: Vec<String> =
                options.labels.iter().map(|(key, value)| format!("{key}={value}")).collect();
            let message = format!(
                "it selects other gateways than this one ({}): nothing of it is served",
                labels.join(",")
            );
            findings.info("IST0127", "spec.selector", &message, "");
            continue;
        }
        for (index, server) in object.spec.servers.iter().enumerate() {
            let field = format!("spec.servers[{index}]");
            if let Some(ports) = &ports {
                ports.check(&mut findings, server, &field);
            }
        }
    }
}

/// Are all labels of `narrow` among those of `wide`?
fn is_subset(narrow: &BTreeMap<String, String>, wide: &BTreeMap<String, String>) -> bool {
    narrow.iter().all(|(label, value)| wide.get(label) == Some(value))
}

/// What a port speaks: servers of one family share it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Family {
    ClearHttp,
    Tls,
    Tcp,
}

impl Family {
    fn of(server: &Server) -> Family {
        if server.is_plain_http() {
            Family::ClearHttp
        } else if server.is_tls() {
            Family::Tls
        } else {
            Family::Tcp
        }
    }

    fn as_str(self) -> &'static str {
        match self {
            Family::ClearHttp => "clear-text HTTP",
            Family::Tls => "TLS",
            Family::Tcp => "TCP",
        }
    }
}

/// A server that came first.
struct Taken<'r> {
    gateway: &'r Object<Gateway>,
    family: Family,
}

impl Taken<'_> {
    /// Do both Gateways select one gateway for sure?
    fn shares_gateway(&self, other: &Object<Gateway>) -> bool {
        let (one, other) = (&self.gateway.spec.selector, &other.spec.selector);
        is_subset(one, other) || is_subset(other, one)
    }
}

/// Servers of which Istio uses only the first: of one port and host, and of one port that speak
/// different things (IST0145).
fn conflicts(resources: &ResourceSet, diagnostics: &mut Vec<Diagnostic>) {
    let mut by_host: HashMap<(u32, &str, String), Vec<Taken<'_>>> = HashMap::new();
    let mut by_port: HashMap<(u32, &str), Vec<Taken<'_>>> = HashMap::new();
    for object in resources.gateways() {
        let mut findings = Findings::of(object, diagnostics);
        for (index, server) in object.spec.servers.iter().enumerate() {
            let field = format!("spec.servers[{index}]");
            let Some(port) = server.port.as_ref().filter(|port| port.number != 0) else { continue };
            let bind = server.bind.as_deref().unwrap_or("");
            let family = Family::of(server);
            let first = by_port.entry((port.number, bind)).or_default();
            let other_family = first.iter().find(|taken| {
                let mixed = taken.family != family || family == Family::Tcp;
                mixed && taken.shares_gateway(object)
            });
            if let Some(taken) = other_family {
                let message = format!(
                    "port {} speaks {} for {} already",
                    port.number,
                    taken.family.as_str(),
                    taken.gateway.key()
                );
                let help = "use another port: of one port only the first kind of server is used";
                findings.warn("IST0145", &format!("{field}.port"), &message, help);
                continue;
            }
            if !first.iter().any(|taken| {
                taken.family == family && taken.gateway.spec.selector == object.spec.selector
            }) {
                first.push(Taken { gateway: object, family });
            }
            for (at, host) in server.hosts.iter().enumerate() {
                let key = (port.number, bind, normalized_host(host, &object.meta.namespace));
                let taken = by_host.entry(key).or_default();
                let other = taken.iter().find(|taken| {
                    taken.gateway.key() != object.key() && taken.shares_gateway(object)
                });
                if let Some(other) = other {
                    let message = format!("{} has the same port and host", other.gateway.key());
                    let help =
                        "clear-text servers are merged; of TLS servers only the first is used";
                    findings.warn("IST0145", &format!("{field}.hosts[{at}]"), &message, help);
                } else if taken.iter().all(|taken| taken.gateway.key() != object.key()) {
                    taken.push(Taken { gateway: object, family });
                }
            }
        }
    }
}

/// A certificate as the settings name it.
fn certificate(tls: &ServerTlsSettings) -> Option<(String, &'static str)> {
    let given = |text: &Option<String>| text.clone().filter(|text| !text.is_empty());
    match (given(&tls.credential_name), given(&tls.server_certificate), given(&tls.private_key)) {
        (Some(name), _, _) => Some((format!("credential {name}"), "credentialName")),
        (None, Some(file), Some(key)) => Some((format!("file {file} {key}"), "serverCertificate")),
        _ => None,
    }
}

/// Two Gateways with one certificate: an HTTP/2 connection for one is used for hosts of the other
/// (IST0138, behaviour 7.6).
fn duplicate_certificates(resources: &ResourceSet, diagnostics: &mut Vec<Diagnostic>) {
    let mut users: HashMap<String, Vec<&Object<Gateway>>> = HashMap::new();
    for object in resources.gateways() {
        for tls in object.spec.servers.iter().filter_map(|server| server.tls.as_ref()) {
            if let Some((name, _)) = certificate(tls) {
                users.entry(name).or_default().push(object);
            }
        }
    }
    for object in resources.gateways() {
        for (index, server) in object.spec.servers.iter().enumerate() {
            let Some((name, field)) = server.tls.as_ref().and_then(certificate) else { continue };
            let other = users.get(&name).into_iter().flatten().find(|other| {
                other.key() != object.key()
                    && is_subset(&object.spec.selector, &other.spec.selector)
            });
            if let Some(other) = other {
                let message = format!(
                    "{} uses the same certificate: requests may come over a connection to its hosts",
                    other.key()
                );
                let field = format!("spec.servers[{index}].tls.{field}");
                Findings::of(object, diagnostics).warn("IST0138", &field, &message, "");
            }
        }
    }
}

/// Ports of the Services in front of this gateway.
struct ServicePorts {
    services: Vec<String>,
    numbers: Vec<u32>,
}

impl ServicePorts {
    /// None when the manifests have no Service of this gateway: it may be elsewhere.
    fn of_gateway(resources: &ResourceSet, options: &ValidateOptions) -> Option<ServicePorts> {
        let mut ports = ServicePorts { services: Vec::new(), numbers: Vec::new() };
        for object in resources.services() {
            let spec = &object.spec.spec;
            let ours = object.meta.namespace == options.namespace
                && !spec.selector.is_empty()
                && is_subset(&spec.selector, &options.labels);
            if !ours {
                continue;
            }
            ports.services.push(object.key().to_string());
            for port in &spec.ports {
                ports.numbers.push(u32::from(port.port));
                if let Some(PortOrName::Port(target)) = port.target_port {
                    ports.numbers.push(u32::from(target));
                }
            }
        }
        (!ports.services.is_empty()).then_some(ports)
    }

    fn check(&self, findings: &mut Findings<'_, Gateway>, server: &Server, field: &str) {
        let Some(port) = server.port.as_ref().filter(|port| port.number != 0) else { return };
        if !self.numbers.contains(&port.number) {
            let message = format!(
                "{} has no port {}: clients of the Service do not reach it",
                self.services.join(", "),
                port.number
            );
            findings.warn("IST0162", &format!("{field}.port.number"), &message, "");
        }
    }
}
