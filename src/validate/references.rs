//! Names that point nowhere. Istio serves what is left, so these are warnings; it is the gateway's
//! users who see the 404s and 503s, and this says why.

use std::collections::{BTreeMap, BTreeSet};

use super::{Findings, ValidateOptions};
use crate::config::Diagnostic;
use crate::config::gateway::Gateway;
use crate::config::virtual_service::{Destination, VirtualService};
use crate::config::{Object, ResourceSet, Severity};

pub(super) fn validate(
    resources: &ResourceSet,
    options: &ValidateOptions,
    diagnostics: &mut Vec<Diagnostic>,
) {
    let known = Known::new(resources, options);
    for object in resources.virtual_services() {
        let mut findings = Findings::of(object, diagnostics);
        gateways(&mut findings, &known, options);
        let spec = &object.spec;
        for (index, route) in spec.http.iter().enumerate() {
            let field = format!("spec.http[{index}]");
            for (at, weighted) in route.route.iter().enumerate() {
                if let Some(to) = &weighted.destination {
                    destination(
                        &mut findings,
                        &known,
                        options,
                        to,
                        &format!("{field}.route[{at}].destination"),
                    );
                }
            }
            if let Some(to) = &route.mirror {
                destination(&mut findings, &known, options, to, &format!("{field}.mirror"));
            }
        }
    }
    for object in resources.destination_rules() {
        let host = full(&object.spec.host, &object.meta.namespace, options);
        if !host.starts_with('*') && known.service(&host).is_none() {
            let mut findings = Findings::of(object, diagnostics);
            let message = format!("no Service or ServiceEntry has the host `{host}`");
            findings.warn("IST0174", "spec.host", &message, "");
        }
    }
    conflicts(resources, diagnostics);
}

/// The host that a name stands for in a resource of `namespace`.
fn full(name: &str, namespace: &str, options: &ValidateOptions) -> String {
    if name.contains('.') || name == "*" {
        name.trim_end_matches('.').to_owned()
    } else {
        format!("{name}.{namespace}.svc.{}", options.cluster_domain)
    }
}

struct Known<'r> {
    gateways: BTreeMap<(String, String), &'r Object<Gateway>>,
    /// Ports of each host.
    services: BTreeMap<String, BTreeSet<u32>>,
    /// Subsets of each host.
    subsets: BTreeMap<String, BTreeSet<String>>,
}

impl<'r> Known<'r> {
    fn new(resources: &'r ResourceSet, options: &ValidateOptions) -> Known<'r> {
        let gateways = resources
            .gateways()
            .map(|object| ((object.meta.namespace.clone(), object.meta.name.clone()), object))
            .collect();
        let mut services: BTreeMap<String, BTreeSet<u32>> = BTreeMap::new();
        for object in resources.services() {
            let host = full(&object.meta.name, &object.meta.namespace, options);
            let ports = object.spec.spec.ports.iter().map(|port| u32::from(port.port));
            services.entry(host).or_default().extend(ports);
        }
        for object in resources.service_entries() {
            for host in &object.spec.hosts {
                let ports = object.spec.ports.iter().map(|port| port.number);
                services.entry(host.clone()).or_default().extend(ports);
            }
        }
        let mut subsets: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
        for object in resources.destination_rules() {
            let host = full(&object.spec.host, &object.meta.namespace, options);
            let names = object.spec.subsets.iter().map(|subset| subset.name.clone());
            subsets.entry(host).or_default().extend(names);
        }
        Known { gateways, services, subsets }
    }

    fn service(&self, host: &str) -> Option<&BTreeSet<u32>> {
        self.services.get(host).or_else(|| {
            self.services.iter().find_map(|(pattern, ports)| {
                let suffix = pattern.strip_prefix('*')?;
                host.ends_with(suffix).then_some(ports)
            })
        })
    }

    fn has_subset(&self, host: &str, subset: &str) -> bool {
        self.subsets.iter().any(|(pattern, names)| {
            let covers = match pattern.strip_prefix('*') {
                Some(suffix) => host.ends_with(suffix),
                None => pattern == host,
            };
            covers && names.contains(subset)
        })
    }
}

fn gateways(
    findings: &mut Findings<'_, VirtualService>,
    known: &Known<'_>,
    options: &ValidateOptions,
) {
    let object = findings.object;
    let namespace = &object.meta.namespace;
    let mut bound: Vec<&Object<Gateway>> = Vec::new();
    let mut missing = false;
    for (index, name) in object.spec.gateways.iter().enumerate() {
        if name == "mesh" {
            continue;
        }
        let (of, short) = match name.split_once('/') {
            Some((".", short)) => (namespace.as_str(), short),
            Some((of, short)) => (of, short),
            None => {
                let legacy = format!(".svc.{}", options.cluster_domain);
                let name = name.strip_suffix(&legacy).unwrap_or(name);
                match name.split_once('.') {
                    Some((short, of)) => (of, short),
                    None => (namespace.as_str(), name),
                }
            }
        };
        match known.gateways.get(&(of.to_owned(), short.to_owned())) {
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
        let host = full(host, namespace, options);
        let served = bound.iter().flat_map(|gateway| &gateway.spec.servers).any(|server| {
            server.hosts.iter().any(|pattern| {
                let pattern = pattern.split_once('/').map_or(pattern.as_str(), |(_, host)| host);
                intersects(pattern, &host)
            })
        });
        if !served {
            findings.warn(
                "IST0132",
                &format!("spec.hosts[{index}]"),
                &format!("no server of its gateways has the host `{host}`"),
                "add the host to a server of the Gateway",
            );
        }
    }
}

fn intersects(one: &str, other: &str) -> bool {
    let covers = |pattern: &str, host: &str| match pattern.strip_prefix('*') {
        Some("") => true,
        Some(suffix) => host.ends_with(suffix),
        None => pattern == host,
    };
    covers(one, other) || covers(other, one)
}

fn destination(
    findings: &mut Findings<'_, VirtualService>,
    known: &Known<'_>,
    options: &ValidateOptions,
    to: &Destination,
    field: &str,
) {
    let host = full(&to.host, &findings.object.meta.namespace, options);
    let Some(ports) = known.service(&host) else {
        findings.warn(
            "IST0101",
            &format!("{field}.host"),
            &format!("no Service or ServiceEntry has the host `{host}`"),
            "requests get 503 (NC); names with a dot are not expanded",
        );
        return;
    };
    match &to.port {
        Some(port) if !ports.contains(&port.number) => {
            let list: Vec<String> = ports.iter().map(ToString::to_string).collect();
            findings.warn(
                "IST0101",
                &format!("{field}.port.number"),
                &format!("`{host}` has no port {}", port.number),
                &format!("its ports: {}", list.join(", ")),
            );
        }
        None if ports.len() > 1 => findings.warn(
            "IST0112",
            field,
            &format!("`{host}` has several ports: say which"),
            "add `port: {number}`",
        ),
        _ => {}
    }
    if let Some(subset) = to.subset.as_deref()
        && !subset.is_empty()
        && !known.has_subset(&host, subset)
    {
        findings.warn(
            "IST0101",
            &format!("{field}.subset"),
            &format!("no DestinationRule of `{host}` has the subset `{subset}`"),
            "requests get 503 (NC)",
        );
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
