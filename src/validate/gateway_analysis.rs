//! What takes more than one object to see about Gateways: conflicts of servers, the gateway's own
//! Service, certificates (behaviour 2.3, 2.6, 11.7).

use std::collections::{BTreeMap, HashMap};

use super::{Findings, ValidateOptions};
use crate::config::gateway::{Gateway, Server, ServerTlsSettings, TlsMode};
use crate::config::kube::{PortOrName, Secret};
use crate::config::naming::normalized_host;
use crate::config::{Diagnostic, Object, ResourceSet};

/// Where certificate and key stand in a Secret; the first that is there is used.
const PAIRS: [(&str, &str); 2] = [("cert", "key"), ("tls.crt", "tls.key")];
/// Where the CA of clients stands.
const CA_KEYS: [&str; 2] = ["cacert", "ca.crt"];

pub(super) fn validate(
    resources: &ResourceSet,
    options: &ValidateOptions,
    diagnostics: &mut Vec<Diagnostic>,
) {
    conflicts(resources, diagnostics);
    duplicate_certificates(resources, diagnostics);
    let ports = ServicePorts::of_gateway(resources, options);
    let secrets: HashMap<(&str, &str), &Object<Secret>> = resources
        .secrets()
        .map(|object| ((object.meta.namespace.as_str(), object.meta.name.as_str()), object))
        .collect();
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
            if let Some(tls) = &server.tls {
                credentials(&mut findings, tls, &secrets, options, &format!("{field}.tls"));
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

/// The Secrets that a server names, in the gateway's namespace (behaviour 2.6). Manifests without
/// any Secret say nothing: Secrets are often kept elsewhere.
fn credentials(
    findings: &mut Findings<'_, Gateway>,
    tls: &ServerTlsSettings,
    secrets: &HashMap<(&str, &str), &Object<Secret>>,
    options: &ValidateOptions,
    field: &str,
) {
    let mode = tls.mode.unwrap_or(TlsMode::Passthrough);
    let used = matches!(mode, TlsMode::Simple | TlsMode::Mutual | TlsMode::OptionalMutual);
    if secrets.is_empty() || !used {
        return;
    }
    let namespace = options.namespace.as_str();
    let single = tls.credential_name.iter().map(|name| (name, format!("{field}.credentialName")));
    let list = tls.credential_names.iter().enumerate();
    let list = list.map(|(index, name)| (name, format!("{field}.credentialNames[{index}]")));
    // Other forms, `configmap://…`, name no Secret of this namespace.
    let names = single.chain(list).filter(|(name, _)| !name.is_empty() && !name.contains("://"));
    for (position, (name, field)) in names.enumerate() {
        let Some(secret) = secrets.get(&(namespace, name.as_str())) else {
            let elsewhere = secrets.keys().find(|(_, other)| other == name);
            let help = match elsewhere {
                Some((other, _)) => format!("move the Secret from {other} to {namespace}"),
                None => format!("add a Secret `{name}` to namespace {namespace}"),
            };
            let message = format!("there is no Secret {namespace}/{name} in these manifests");
            findings.warn("IST0101", &field, &message, &help);
            continue;
        };
        if let Some(problem) = pair_problem(&secret.spec) {
            let message = format!("Secret {namespace}/{name} {problem}");
            findings.warn("IST0161", &field, &message, "");
        }
        // The CA comes from the first one only.
        let mutual = matches!(mode, TlsMode::Mutual | TlsMode::OptionalMutual);
        let own_ca = CA_KEYS.iter().any(|key| has(&secret.spec, key));
        let beside = secrets.contains_key(&(namespace, format!("{name}-cacert").as_str()));
        let named = tls.ca_cert_credential_name.as_deref().is_some_and(|name| !name.is_empty());
        if mutual && position == 0 && !own_ca && !beside && !named {
            let message = format!("Secret {namespace}/{name} has no CA to verify clients with");
            let help = format!("add `ca.crt` to it, or a Secret `{name}-cacert`");
            findings.warn("IST0161", &field, &message, &help);
        }
    }
}

fn has(secret: &Secret, key: &str) -> bool {
    secret.data.contains_key(key) || secret.string_data.contains_key(key)
}

/// Why a Secret holds no usable certificate and key. Says nothing of their values.
fn pair_problem(secret: &Secret) -> Option<String> {
    let Some((certificate, key)) =
        PAIRS.iter().find(|(one, other)| has(secret, one) || has(secret, other))
    else {
        return Some("has neither `tls.crt` and `tls.key` nor `cert` and `key`".to_owned());
    };
    for (name, begins) in [(certificate, "-----BEGIN CERTIFICATE"), (key, "-----BEGIN ")] {
        let text = match (secret.string_data.get(*name), secret.data.get(*name)) {
            (Some(text), _) => text.clone().into_bytes(),
            (None, Some(encoded)) => {
                let plain: String = encoded.split_whitespace().collect();
                match data_encoding::BASE64.decode(plain.as_bytes()) {
                    Ok(bytes) => bytes,
                    Err(_) => return Some(format!("has a `{name}` that is not base64")),
                }
            }
            (None, None) => return Some(format!("has no `{name}`")),
        };
        if text.is_empty() {
            return Some(format!("has an empty `{name}`"));
        }
        if !String::from_utf8_lossy(&text).contains(begins) {
            return Some(format!("has a `{name}` that is not PEM"));
        }
    }
    None
}
