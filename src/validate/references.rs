//! Names that point nowhere. Istio serves what is left, so these are warnings; it is the gateway's
//! users who see the 404s and 503s, and this says why.

use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;

use super::{Findings, ValidateOptions};
use crate::config::Diagnostic;
use crate::config::destination_rule::DestinationRule;
use crate::config::gateway::Gateway;
use crate::config::naming::{
    covers, intersect, is_exported, resolve_gateway, resolve_short_name, server_host,
    service_export_to, service_host,
};
use crate::config::service_entry::{Resolution, ServiceEntry};
use crate::config::virtual_service::{Destination, HttpRoute, VirtualService};
use crate::config::{Object, ResourceSet, Severity};

pub(super) fn validate(
    resources: &ResourceSet,
    options: &ValidateOptions,
    diagnostics: &mut Vec<Diagnostic>,
) {
    let known = Known::new(resources, options);
    for object in resources.virtual_services() {
        let mut findings = Findings::of(object, diagnostics);
        gateways(&mut findings, &known);
        for (index, route) in object.spec.http.iter().enumerate() {
            let field = format!("spec.http[{index}]");
            delegate(&mut findings, &known, route, &field);
            for (at, weighted) in route.route.iter().enumerate() {
                let field = format!("{field}.route[{at}].destination");
                destination(&mut findings, &known, weighted.destination.as_ref(), &field);
            }
            let mirror = format!("{field}.mirror");
            destination(&mut findings, &known, route.mirror.as_ref(), &mirror);
            for (at, mirror) in route.mirrors.iter().enumerate() {
                let field = format!("{field}.mirrors[{at}].destination");
                destination(&mut findings, &known, mirror.destination.as_ref(), &field);
            }
        }
    }
    for object in resources.destination_rules() {
        let host = known.full(&object.spec.host, &object.meta.namespace);
        if !host.starts_with('*') && known.services.of(&host).next().is_none() {
            let mut findings = Findings::of(object, diagnostics);
            let message = format!("no Service or ServiceEntry has the host `{host}`");
            findings.warn("IST0174", "spec.host", &message, "");
        }
    }
    for object in resources.service_entries() {
        workloads(resources, &mut Findings::of(object, diagnostics));
    }
    conflicts(resources, diagnostics);
}

/// The WorkloadEntries that a ServiceEntry selects. Pods are not read: what only they would fit has no
/// endpoint here.
fn workloads(resources: &ResourceSet, findings: &mut Findings<'_, ServiceEntry>) {
    let object = findings.object;
    let Some(selector) = &object.spec.workload_selector else { return };
    let is_static = object.spec.resolution == Some(Resolution::Static);
    let mut none = true;
    for workload in resources.workload_entries() {
        if workload.meta.namespace != object.meta.namespace || !selector.selects(workload) {
            continue;
        }
        none = false;
        let address = workload.spec.address.as_str();
        if is_static && address.parse::<IpAddr>().is_err() && !address.starts_with("unix://") {
            let message = format!(
                "resolution STATIC takes IP addresses: `{address}` of WorkloadEntry {} is left out",
                workload.meta.name
            );
            findings.warn("RNG0206", "spec.workloadSelector", &message, "use `resolution: DNS`");
        }
    }
    if none {
        let message = "no WorkloadEntry of its namespace has these labels: requests get 503";
        findings.warn("RNG0206", "spec.workloadSelector", message, "Pods are not read from files");
    }
}

/// Things by host, found without a look at every host.
struct ByHost<T> {
    exact: HashMap<String, Vec<T>>,
    wildcards: Vec<(String, T)>,
}

impl<T> ByHost<T> {
    fn new(all: impl Iterator<Item = (String, T)>) -> Self {
        let mut by_host = ByHost { exact: HashMap::new(), wildcards: Vec::new() };
        for (host, thing) in all {
            if host.starts_with('*') {
                by_host.wildcards.push((host, thing));
            } else {
                by_host.exact.entry(host).or_default().push(thing);
            }
        }
        by_host
    }

    /// Those of a host, then those of wildcards that cover it.
    fn of(&self, host: &str) -> impl Iterator<Item = &T> {
        let wildcards = self.wildcards.iter().filter(|(pattern, _)| covers(pattern, host));
        self.exact.get(host).into_iter().flatten().chain(wildcards.map(|(_, thing)| thing))
    }
}

/// A service: who sees it, and its ports.
struct Service<'r> {
    owner: &'r str,
    export_to: Vec<String>,
    ports: Vec<u32>,
}

struct Known<'r> {
    options: &'r ValidateOptions,
    gateways: HashMap<(&'r str, &'r str), &'r Object<Gateway>>,
    services: ByHost<Service<'r>>,
    /// What ExternalName Services point at, by their hosts.
    aliases: HashMap<String, String>,
    rules: ByHost<&'r Object<DestinationRule>>,
    /// VirtualServices without hosts.
    delegates: HashMap<(&'r str, &'r str), &'r Object<VirtualService>>,
}

impl<'r> Known<'r> {
    fn new(resources: &'r ResourceSet, options: &'r ValidateOptions) -> Known<'r> {
        let gateways = resources.gateways();
        let gateways = gateways
            .map(|object| ((object.meta.namespace.as_str(), object.meta.name.as_str()), object))
            .collect();
        let full = |name: &str, namespace: &str| {
            resolve_short_name(name, namespace, &options.cluster_domain)
        };
        let services = resources.services().map(|object| {
            let meta = &object.meta;
            let host = service_host(&meta.name, &meta.namespace, &options.cluster_domain);
            let ports = object.spec.spec.ports.iter().map(|port| u32::from(port.port)).collect();
            let export_to = service_export_to(&meta.annotations);
            (host, Service { owner: &meta.namespace, export_to, ports })
        });
        let entries = resources.service_entries().flat_map(|object| {
            object.spec.hosts.iter().map(|host| {
                let ports = object.spec.ports.iter().map(|port| port.number).collect();
                let export_to = object.spec.export_to.clone();
                (host.clone(), Service { owner: &object.meta.namespace, export_to, ports })
            })
        });
        let services = ByHost::new(services.chain(entries));
        let aliases = resources.services().filter_map(|object| {
            let meta = &object.meta;
            let name = object.spec.spec.alias()?.trim_end_matches('.').to_ascii_lowercase();
            Some((service_host(&meta.name, &meta.namespace, &options.cluster_domain), name))
        });
        let rules = resources
            .destination_rules()
            .map(|object| (full(&object.spec.host, &object.meta.namespace), object));
        let delegates = resources
            .virtual_services()
            .filter(|object| object.spec.hosts.is_empty())
            .map(|object| ((object.meta.namespace.as_str(), object.meta.name.as_str()), object))
            .collect();
        let (aliases, rules) = (aliases.collect(), ByHost::new(rules));
        Known { options, gateways, services, aliases, rules, delegates }
    }

    /// Where an ExternalName Service points at a service that is known, that one's host.
    fn target(&self, host: String) -> String {
        match self.aliases.get(&host) {
            Some(target) if self.services.of(target).next().is_some() => target.clone(),
            _ => host,
        }
    }

    /// The host that a name stands for in a resource of `namespace`.
    fn full(&self, name: &str, namespace: &str) -> String {
        resolve_short_name(name, namespace, &self.options.cluster_domain)
    }
}

/// A delegate that is not there takes its rule with it, in silence in Istio.
fn delegate(
    findings: &mut Findings<'_, VirtualService>,
    known: &Known<'_>,
    route: &HttpRoute,
    field: &str,
) {
    let Some(delegate) = &route.delegate else { return };
    let own = findings.object.meta.namespace.as_str();
    let namespace = delegate.namespace_for(own);
    let message = match known.delegates.get(&(namespace, delegate.name.as_str())) {
        None => format!(
            "no VirtualService without hosts is called `{namespace}/{}`: the rule is left out",
            delegate.name
        ),
        Some(found) if !is_exported(&found.spec.export_to, &found.meta.namespace, own) => {
            format!(
                "`{namespace}/{}` is not exported to `{own}`: the rule is left out",
                delegate.name
            )
        }
        Some(_) => return,
    };
    findings.warn("RNG0204", &format!("{field}.delegate"), &message, "");
}

fn gateways(findings: &mut Findings<'_, VirtualService>, known: &Known<'_>) {
    let object = findings.object;
    let namespace = &object.meta.namespace;
    let mut bound: Vec<&Object<Gateway>> = Vec::new();
    let mut missing = false;
    for (index, name) in object.spec.gateways.iter().enumerate() {
        let Some((of, short)) = resolve_gateway(name, namespace, &known.options.cluster_domain)
        else {
            continue;
        };
        match known.gateways.get(&(of, short)) {
            Some(gateway) => bound.push(gateway),
            None => {
                missing = true;
                findings.warn(
                    "IST0101",
                    &format!("spec.gateways[{index}]"),
                    &format!("there is no Gateway {of}/{short}"),
                    "its requests get 404 until the Gateway exists",
                );
            }
        }
    }
    if bound.is_empty() || missing {
        return;
    }
    for (index, host) in object.spec.hosts.iter().enumerate() {
        let host = known.full(host, namespace);
        let served = bound.iter().any(|gateway| {
            let mut hosts = gateway.spec.servers.iter().flat_map(|server| &server.hosts);
            hosts.any(|written| {
                let own = server_host(written, &gateway.meta.namespace, namespace);
                own.is_some_and(|own| intersect(own, &host).is_some())
            })
        });
        if !served {
            findings.warn(
                "IST0132",
                &format!("spec.hosts[{index}]"),
                &format!("no server of its gateways has the host `{host}` for {namespace}"),
                "add the host to a server of the Gateway",
            );
        }
    }
}

fn destination(
    findings: &mut Findings<'_, VirtualService>,
    known: &Known<'_>,
    to: Option<&Destination>,
    field: &str,
) {
    let (Some(to), object) = (to, findings.object) else { return };
    let namespace = &object.meta.namespace;
    let host = known.target(known.full(&to.host, namespace));
    // At a gateway it is the gateway that must see the service; in the mesh, who calls it.
    let at_gateway = object.spec.gateways.iter().any(|gateway| gateway != "mesh");
    let viewer = if at_gateway { &known.options.namespace } else { namespace };
    let mut hidden_in = None;
    let service = known.services.of(&host).find(|service| {
        let visible = is_exported(&service.export_to, service.owner, viewer);
        if !visible {
            hidden_in = Some(service.owner);
        }
        visible
    });
    let Some(service) = service else {
        let (message, help) = match hidden_in {
            Some(owner) => (
                format!("`{host}` of namespace {owner} is not exported to {viewer}"),
                "requests get 503 (NC) until its exportTo allows it",
            ),
            None => (
                format!("no Service or ServiceEntry has the host `{host}`"),
                "requests get 503 (NC); names with a dot are not expanded",
            ),
        };
        findings.warn("IST0101", &format!("{field}.host"), &message, help);
        return;
    };
    match &to.port {
        Some(port) if !service.ports.contains(&port.number) => {
            let list: Vec<String> = service.ports.iter().map(ToString::to_string).collect();
            findings.warn(
                "IST0101",
                &format!("{field}.port.number"),
                &format!("`{host}` has no port {}", port.number),
                &format!("its ports: {}", list.join(", ")),
            );
        }
        None if service.ports.len() > 1 => findings.warn(
            "IST0112",
            field,
            &format!("`{host}` has several ports: say which"),
            "add `port: {number}`",
        ),
        _ => {}
    }
    if let Some(subset) = to.subset.as_deref().filter(|subset| !subset.is_empty()) {
        let mut rules = known.rules.of(&host);
        if !rules.any(|rule| rule.spec.subsets.iter().any(|known| known.name == subset)) {
            findings.warn(
                "IST0101",
                &format!("{field}.subset"),
                &format!("no DestinationRule of `{host}` has the subset `{subset}`"),
                "requests get 503 (NC)",
            );
        }
    }
}

/// Two Gateways with the same selector, port and host (IST0145).
fn conflicts(resources: &ResourceSet, diagnostics: &mut Vec<Diagnostic>) {
    let mut taken: BTreeMap<(String, u32, String), String> = BTreeMap::new();
    for object in resources.gateways() {
        let selector = format!("{:?}", object.spec.selector);
        for (index, server) in object.spec.servers.iter().enumerate() {
            let Some(port) = &server.port else { continue };
            for (at, host) in server.hosts.iter().enumerate() {
                let key = (selector.clone(), port.number, host.clone());
                let own = object.key().to_string();
                match taken.get(&key) {
                    Some(first) if *first != own => {
                        let mut findings = Findings::of(object, diagnostics);
                        findings.add(
                            Severity::Warning,
                            "IST0145",
                            &format!("spec.servers[{index}].hosts[{at}]"),
                            &format!("{first} has the same port and host"),
                            "clear-text servers are merged; of TLS servers only the first is used",
                        );
                    }
                    Some(_) => {}
                    None => {
                        taken.insert(key, own);
                    }
                }
            }
        }
    }
}
