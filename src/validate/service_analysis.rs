//! What takes more than one object to see about services: names of ports, subsets and outlier
//! detection against the endpoints there are, protocols that contradict, subsets that a gateway
//! does not use (behaviour 4.7, 11.7).

use std::collections::{BTreeMap, BTreeSet, HashMap};

use super::{Findings, ValidateOptions};
use crate::config::destination_rule::{
    ClientTlsMode, ClientTlsSettings, DestinationRule, OutlierDetection,
};
use crate::config::kube::{Service, ServicePort};
use crate::config::naming::{is_exported, resolve_short_name, service_host};
use crate::config::virtual_service::VirtualService;
use crate::config::{Diagnostic, Object, ResourceSet};

/// Label that ties an EndpointSlice to its Service.
const SERVICE_NAME_LABEL: &str = "kubernetes.io/service-name";
/// Namespaces of the cluster itself, whose Services nobody here can rename.
const SYSTEM_NAMESPACES: [&str; 3] = ["kube-system", "kube-public", "kube-node-lease"];
/// Ports that Istio takes for TCP whatever their name is: SMTP, DNS, MySQL, MongoDB.
const TCP_PORTS: [u16; 4] = [25, 53, 3306, 27017];
/// `maxEjectionPercent` when it is not given.
const EJECTION_PERCENT: u64 = 10;

pub(super) fn validate(
    resources: &ResourceSet,
    options: &ValidateOptions,
    diagnostics: &mut Vec<Diagnostic>,
) {
    for object in resources.services() {
        port_names(&mut Findings::of(object, diagnostics));
    }
    contradicting_protocols(resources, diagnostics);
    mesh_subsets(resources, options, diagnostics);
    let workloads = Workloads::new(resources, options);
    for object in resources.destination_rules() {
        let mut findings = Findings::of(object, diagnostics);
        unverified(&mut findings);
        let namespace = &object.meta.namespace;
        let host = resolve_short_name(&object.spec.host, namespace, &options.cluster_domain);
        if let Some(endpoints) = workloads.by_host.get(&host) {
            subsets(&mut findings, endpoints);
            ejections(&mut findings, endpoints);
        }
    }
}

/// Ports that say nothing of what is spoken on them (IST0118, IST0150).
fn port_names(findings: &mut Findings<'_, Service>) {
    let object = findings.object;
    let meta = &object.meta;
    let external = object.spec.spec.kind.as_deref() == Some("ExternalName");
    let made_by_istio = meta.labels.contains_key("istio")
        || meta.labels.get("release").is_some_and(|release| release == "istio")
        || meta.labels.contains_key("gateway.istio.io/managed");
    if made_by_istio || SYSTEM_NAMESPACES.contains(&meta.namespace.as_str()) {
        return;
    }
    for (index, port) in object.spec.spec.ports.iter().enumerate() {
        let name = port.name.as_deref().unwrap_or("");
        let field = match port.name {
            Some(_) => format!("spec.ports[{index}].name"),
            None => format!("spec.ports[{index}]"),
        };
        if external && (name == "tcp" || !names_protocol(port)) {
            let message = format!("port {} of an ExternalName Service is taken for TCP", port.port);
            findings.warn("IST0150", &field, &message, "");
        } else if !names_protocol(port) {
            let message = match name {
                "" => format!("port {} has no name that says what is spoken on it", port.port),
                name => format!("`{name}` does not say what is spoken on port {}", port.port),
            };
            findings.info("IST0118", &field, &message, "");
        }
    }
}

/// Is it known what is spoken on a port (behaviour 6)?
fn names_protocol(port: &ServicePort) -> bool {
    if port.protocol.as_deref() == Some("UDP") || TCP_PORTS.contains(&port.port) {
        return true;
    }
    let name = port.app_protocol.as_deref().or(port.name.as_deref()).unwrap_or("");
    let lower = name.to_ascii_lowercase();
    let prefix = lower.split('-').next().unwrap_or_default();
    lower.starts_with("grpc-web")
        || matches!(lower.as_str(), "kubernetes.io/h2c" | "kubernetes.io/ws" | "kubernetes.io/wss")
        || super::PROTOCOLS.iter().any(|protocol| protocol.eq_ignore_ascii_case(prefix))
}

/// ServiceEntries that say different things of one host and port (IST0177).
fn contradicting_protocols(resources: &ResourceSet, diagnostics: &mut Vec<Diagnostic>) {
    // Where it is seen (a namespace, or all), host, port → who says so first, and what.
    type Place<'r> = (String, &'r str, u32);
    let mut said: HashMap<Place<'_>, (String, String)> = HashMap::new();
    for object in resources.service_entries() {
        let spec = &object.spec;
        let scopes: BTreeSet<String> = match spec.export_to.is_empty() {
            true => BTreeSet::from(["*".to_owned()]),
            false => spec
                .export_to
                .iter()
                .map(|scope| if scope == "." { &object.meta.namespace } else { scope }.clone())
                .collect(),
        };
        for (index, port) in spec.ports.iter().enumerate() {
            let protocol = port.protocol.as_deref().unwrap_or("").to_ascii_uppercase();
            let mut told = false;
            for (host, scope) in
                spec.hosts.iter().flat_map(|host| scopes.iter().map(move |scope| (host, scope)))
            {
                let public = said.get(&("*".to_owned(), host.as_str(), port.number));
                let place = (scope.clone(), host.as_str(), port.number);
                let other = said
                    .get(&place)
                    .into_iter()
                    .chain(public)
                    .find(|(_, other)| *other != protocol)
                    .cloned();
                if let Some((owner, other)) = other.filter(|_| !told) {
                    told = true;
                    let or_none = |name: &str| match name {
                        "" => "no protocol".to_owned(),
                        name => format!("protocol {name}"),
                    };
                    let message = format!(
                        "{owner} gives port {} of `{host}` {}, this {}",
                        port.number,
                        or_none(&other),
                        or_none(&protocol)
                    );
                    let field = format!("spec.ports[{index}].protocol");
                    Findings::of(object, diagnostics).warn("IST0177", &field, &message, "");
                }
                said.entry(place).or_insert_with(|| (object.key().to_string(), protocol.clone()));
            }
        }
    }
}

/// Subsets by which the mesh calls a service, while a gateway's VirtualService names none (IST0140).
fn mesh_subsets(
    resources: &ResourceSet,
    options: &ValidateOptions,
    diagnostics: &mut Vec<Diagnostic>,
) {
    let full = |host: &str, object: &Object<VirtualService>| {
        resolve_short_name(host, &object.meta.namespace, &options.cluster_domain)
    };
    // Hosts that a VirtualService of their own divides into subsets.
    let mut divided: HashMap<String, String> = HashMap::new();
    for object in resources.virtual_services() {
        let hosts: Vec<String> = object.spec.hosts.iter().map(|host| full(host, object)).collect();
        for to in object.spec.http.iter().flat_map(|route| &route.route) {
            let Some(to) = &to.destination else { continue };
            let host = full(&to.host, object);
            if to.subset.as_deref().is_some_and(|subset| !subset.is_empty())
                && hosts.contains(&host)
            {
                divided.entry(host).or_insert_with(|| object.key().to_string());
            }
        }
    }
    if divided.is_empty() {
        return;
    }
    for object in resources.virtual_services() {
        let own = object.key().to_string();
        if !super::virtual_service::is_at_gateway(&object.spec) {
            continue;
        }
        for (index, route) in object.spec.http.iter().enumerate() {
            for (at, to) in route.route.iter().enumerate() {
                let Some(to) = &to.destination else { continue };
                if to.subset.as_deref().is_some_and(|subset| !subset.is_empty()) {
                    continue;
                }
                let other = divided.get(&full(&to.host, object)).filter(|other| **other != own);
                if let Some(other) = other {
                    let message =
                        format!("the subsets of {other} have no effect on these requests");
                    let field = format!("spec.http[{index}].route[{at}].destination");
                    Findings::of(object, diagnostics).warn("IST0140", &field, &message, "");
                }
            }
        }
    }
}

/// The endpoints of each host that lists any, with their labels.
struct Workloads {
    by_host: HashMap<String, Vec<BTreeMap<String, String>>>,
}

impl Workloads {
    fn new(resources: &ResourceSet, options: &ValidateOptions) -> Workloads {
        let mut listed: HashMap<String, BTreeMap<String, BTreeMap<String, String>>> =
            HashMap::new();
        let seen = |scopes: &[String], owner: &str| is_exported(scopes, owner, &options.namespace);
        for object in resources.endpoint_slices() {
            let Some(service) = object.meta.labels.get(SERVICE_NAME_LABEL) else { continue };
            let host = service_host(service, &object.meta.namespace, &options.cluster_domain);
            let of_host = listed.entry(host).or_default();
            for address in object.spec.endpoints.iter().flat_map(|endpoint| &endpoint.addresses) {
                of_host.insert(address.clone(), object.meta.labels.clone());
            }
        }
        for object in resources.endpoints() {
            let meta = &object.meta;
            let host = service_host(&meta.name, &meta.namespace, &options.cluster_domain);
            let of_host = listed.entry(host).or_default();
            for subset in &object.spec.subsets {
                for address in subset.addresses.iter().chain(&subset.not_ready_addresses) {
                    of_host.insert(address.ip.clone(), meta.labels.clone());
                }
            }
        }
        for object in resources.service_entries() {
            if !seen(&object.spec.export_to, &object.meta.namespace) {
                continue;
            }
            for host in &object.spec.hosts {
                let of_host = listed.entry(host.clone()).or_default();
                for (index, endpoint) in object.spec.endpoints.iter().enumerate() {
                    // One address may stand for several workloads behind different ports.
                    let key = format!("{} {} {index}", endpoint.address, object.key());
                    of_host.insert(key, endpoint.labels.clone());
                }
                let Some(selector) = &object.spec.workload_selector else { continue };
                for workload in resources.workload_entries() {
                    if workload.meta.namespace == object.meta.namespace
                        && selector.selects(workload)
                    {
                        let labels = workload.meta.labels.iter().chain(&workload.spec.labels);
                        let labels = labels.map(|(name, value)| (name.clone(), value.clone()));
                        of_host.insert(workload.key().to_string(), labels.collect());
                    }
                }
            }
        }
        let by_host = listed
            .into_iter()
            .filter(|(_, endpoints)| !endpoints.is_empty())
            .map(|(host, endpoints)| (host, endpoints.into_values().collect()))
            .collect();
        Workloads { by_host }
    }
}

/// Subsets that select none of the endpoints (IST0173).
fn subsets(findings: &mut Findings<'_, DestinationRule>, endpoints: &[BTreeMap<String, String>]) {
    for (index, subset) in findings.object.spec.subsets.iter().enumerate() {
        let selected = endpoints.iter().any(|labels| {
            subset.labels.iter().all(|(label, value)| labels.get(label) == Some(value))
        });
        if !selected {
            let message = format!(
                "subset `{}` selects none of the {} endpoint(s): its requests get 503 (UH)",
                subset.name,
                endpoints.len()
            );
            findings.warn("IST0173", &format!("spec.subsets[{index}].labels"), &message, "");
        }
    }
}

/// Outlier detection that may not eject even one endpoint (RNG0302).
fn ejections(findings: &mut Findings<'_, DestinationRule>, endpoints: &[BTreeMap<String, String>]) {
    let spec = &findings.object.spec;
    let check = |findings: &mut Findings<'_, DestinationRule>,
                 outlier: &OutlierDetection,
                 count: usize,
                 field: &str| {
        let percent = outlier.max_ejection_percent.and_then(|percent| u64::try_from(percent).ok());
        let percent = percent.filter(|percent| *percent > 0).unwrap_or(EJECTION_PERCENT);
        let count = count as u64;
        if count == 0 || 100 <= percent * count {
            return;
        }
        let message =
            format!("nothing is ever ejected: one of {count} endpoint(s) is more than {percent} %");
        let help = format!("set `maxEjectionPercent: {}` or more", 100u64.div_ceil(count));
        findings.warn("RNG0302", &format!("{field}.outlierDetection"), &message, &help);
    };
    if let Some(policy) = &spec.traffic_policy {
        let field = "spec.trafficPolicy";
        if let Some(outlier) = &policy.outlier_detection {
            check(findings, outlier, endpoints.len(), field);
        }
        for (index, port) in policy.port_level_settings.iter().enumerate() {
            if let Some(outlier) = &port.outlier_detection {
                let field = format!("{field}.portLevelSettings[{index}]");
                check(findings, outlier, endpoints.len(), &field);
            }
        }
    }
    for (index, subset) in spec.subsets.iter().enumerate() {
        let Some(policy) = &subset.traffic_policy else { continue };
        let Some(outlier) = &policy.outlier_detection else { continue };
        let selected = endpoints.iter().filter(|labels| {
            subset.labels.iter().all(|(label, value)| labels.get(label) == Some(value))
        });
        let field = format!("spec.subsets[{index}].trafficPolicy");
        check(findings, outlier, selected.count(), &field);
    }
}

/// TLS to a service without `caCertificates`, which Istio's analyzer takes for TLS without verification
/// (IST0128, IST0129). The words are of what is done here.
fn unverified(findings: &mut Findings<'_, DestinationRule>) {
    let spec = &findings.object.spec;
    let Some(policy) = &spec.traffic_policy else { return };
    let bound = spec.workload_selector.is_some();
    let is_unverified = |tls: &ClientTlsSettings| {
        let given = |text: &Option<String>| text.as_deref().is_some_and(|text| !text.is_empty());
        let on = matches!(tls.mode, Some(ClientTlsMode::Simple | ClientTlsMode::Mutual));
        // Istio reads a credential for the gateways that a selector names only.
        on && !given(&tls.ca_certificates) && !(given(&tls.credential_name) && bound)
    };
    if policy.tls.as_ref().is_some_and(is_unverified) {
        let message = of_verification(policy.tls.as_ref());
        findings.warn("IST0128", "spec.trafficPolicy.tls", message, "");
    }
    for (index, port) in policy.port_level_settings.iter().enumerate() {
        if port.tls.as_ref().is_some_and(is_unverified) {
            let message = of_verification(port.tls.as_ref());
            let field = format!("spec.trafficPolicy.portLevelSettings[{index}].tls");
            findings.warn("IST0129", &field, message, "");
        }
    }
}

/// How the server is verified when there are no `caCertificates`.
fn of_verification(tls: Option<&ClientTlsSettings>) -> &'static str {
    let credential = tls.and_then(|tls| tls.credential_name.as_deref());
    if tls.is_some_and(|tls| tls.insecure_skip_verify == Some(true)) {
        "the server's certificate is not verified: `insecureSkipVerify` is set"
    } else if credential.is_some_and(|name| !name.is_empty()) {
        "there are no `caCertificates`: the CA of the credential verifies the server"
    } else {
        "there are no `caCertificates`: the certificate authorities of the system verify the server"
    }
}
