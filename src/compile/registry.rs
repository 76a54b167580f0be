//! The services that destinations can name: Kubernetes Services and ServiceEntries with their
//! ports and endpoints (behaviour 5 and 6).

mod kubernetes;
mod service_entries;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, HashMap};
use std::net::{IpAddr, SocketAddr};

use super::dns::DnsAnswers;
use super::naming::covers;
use crate::config::ResourceSet;

/// Label of a workload that says where it runs, with dots in the place of slashes.
const LOCALITY_LABEL: &str = "istio-locality";
/// ExternalName Services may point at each other, at most this often in a row.
const ALIAS_HOPS_MAX: usize = 8;

/// A service that a destination can name.
#[derive(Clone, Debug)]
pub struct ServiceRecord {
    /// Fully qualified name, or the host of a ServiceEntry.
    pub host: String,
    /// The short name: what `destination_service_name` shows.
    pub name: String,
    /// Namespace of the object.
    pub namespace: String,
    /// Its ports.
    pub ports: Vec<PortRecord>,
    /// Endpoints count as usable although they are not ready (`publishNotReadyAddresses`).
    pub publish_not_ready: bool,
    /// How its endpoints are found.
    pub discovery: Discovery,
    /// The host that an ExternalName Service stands for.
    pub alias_of: Option<String>,
    /// Names of which the certificate of its servers must have one, where no DestinationRule says so.
    pub subject_alt_names: Vec<String>,
}

/// How the endpoints of a service are found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Discovery {
    /// They are listed.
    Listed,
    /// By names: all addresses are endpoints.
    Dns,
    /// By a name: its first address is the endpoint.
    DnsFirst,
}

/// A port of a service with its endpoints.
#[derive(Clone, Debug)]
pub struct PortRecord {
    /// The number that destinations name.
    pub number: u32,
    /// Its name, possibly empty.
    pub name: String,
    /// Do its endpoints speak HTTP/2 (behaviour 6.2)?
    pub http2: bool,
    /// Endpoints of this port.
    pub endpoints: Vec<EndpointRecord>,
    /// The names whose addresses are among the endpoints, as far as there are answers.
    pub names: Vec<NameRecord>,
}

/// A name that endpoints come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NameRecord {
    /// The name, in lower case.
    pub name: String,
    /// Labels of its endpoints.
    pub labels: BTreeMap<String, String>,
}

/// An endpoint of one port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EndpointRecord {
    /// Where it listens.
    pub address: SocketAddr,
    /// Labels of what runs there: subsets choose by them.
    pub labels: BTreeMap<String, String>,
    /// Relative weight, at least 1.
    pub weight: u32,
    /// Ready to serve.
    pub ready: bool,
    /// Where it runs, `region/zone/subzone`, as far as that is known.
    pub locality: Option<String>,
    /// Name of the workload behind it, if it is known.
    pub workload: Option<String>,
    /// Namespace of that workload.
    pub namespace: String,
}

/// All services that the gateway sees, by host.
#[derive(Debug, Default)]
pub struct Registry {
    services: HashMap<String, ServiceRecord>,
    /// ServiceEntries with wildcard hosts, longest first.
    wildcards: Vec<ServiceRecord>,
}

impl Registry {
    /// Collect the services of `resources` that `viewer`, the gateway's namespace, sees; `answers`
    /// are the addresses of their names.
    pub fn new(
        resources: &ResourceSet,
        viewer: &str,
        cluster_domain: &str,
        answers: &DnsAnswers,
    ) -> Registry {
        let kubernetes = kubernetes::services(resources, viewer, cluster_domain, answers);
        let entries = service_entries::services(resources, viewer, answers);
        let mut all: Vec<(Option<&str>, ServiceRecord)> = kubernetes.chain(entries).collect();
        // The oldest of a host comes first, whatever its kind is (behaviour 5.5).
        all.sort_by_key(|(created, _)| *created);
        let mut registry = Registry::default();
        for (_, service) in all {
            registry.add(service);
        }
        registry.wildcards.sort_by_key(|service| std::cmp::Reverse(service.host.len()));
        registry
    }

    /// The first of a host stays; endpoints of one namespace are put together.
    fn add(&mut self, service: ServiceRecord) {
        if service.host.starts_with('*') {
            self.wildcards.push(service);
            return;
        }
        match self.services.get_mut(&service.host) {
            None => {
                self.services.insert(service.host.clone(), service);
            }
            Some(first) if first.namespace == service.namespace => {
                for port in service.ports {
                    match first.ports.iter_mut().find(|known| known.number == port.number) {
                        Some(known) => {
                            for endpoint in port.endpoints {
                                add(&mut known.endpoints, endpoint);
                            }
                            known.names.extend(port.names);
                        }
                        None => first.ports.push(port),
                    }
                }
            }
            Some(_) => {}
        }
    }

    /// The service of `host`.
    pub fn find(&self, host: &str) -> Option<&ServiceRecord> {
        self.services
            .get(host)
            .or_else(|| self.wildcards.iter().find(|service| covers(&service.host, host)))
    }

    /// The services with a host of their own, by host.
    pub fn services(&self) -> Vec<&ServiceRecord> {
        let mut services: Vec<_> = self.services.values().collect();
        services.sort_by(|one, other| one.host.cmp(&other.host));
        services
    }

    /// The host that requests to `host` are for: where an ExternalName Service points at a service
    /// that is known, that one's (behaviour 5.7).
    pub fn target<'h>(&'h self, host: &'h str) -> &'h str {
        let mut target = host;
        for _ in 0..ALIAS_HOPS_MAX {
            match self.find(target).and_then(|service| service.alias_of.as_deref()) {
                Some(next) if self.find(next).is_some() => target = next,
                _ => return target,
            }
        }
        // They point at each other in a circle: its name is left to the resolver.
        host
    }
}

/// Add an endpoint to those of a port: there is one per address. It is ready where any says so.
fn add(endpoints: &mut Vec<EndpointRecord>, endpoint: EndpointRecord) {
    match endpoints.iter_mut().find(|known| known.address == endpoint.address) {
        Some(known) => known.ready |= endpoint.ready,
        None => endpoints.push(endpoint),
    }
}

/// Does a Service's port speak HTTP/2: by its `appProtocol`, else by what its name begins with
/// (behaviour 6.1)?
fn is_http2_port(name: &str, app_protocol: Option<&str>) -> bool {
    match app_protocol.map(str::to_ascii_lowercase).as_deref() {
        None | Some("") => matches!(name.split('-').next(), Some("http2" | "grpc")),
        Some("http2" | "grpc" | "grpc-web" | "kubernetes.io/h2c") => true,
        Some(_) => false,
    }
}

/// The label that says where a workload runs.
fn labelled_locality(labels: &BTreeMap<String, String>) -> Option<String> {
    let label = labels.get(LOCALITY_LABEL).filter(|label| !label.is_empty())?;
    Some(if label.contains('/') { label.clone() } else { label.replace('.', "/") })
}

/// The addresses of what stands where an address or a name may stand, and the name.
fn resolve<'a>(
    written: &str,
    discovery: Discovery,
    answers: &'a DnsAnswers,
) -> (std::borrow::Cow<'a, [IpAddr]>, Option<String>) {
    if let Ok(address) = written.parse() {
        return (vec![address].into(), None);
    }
    let name = written.to_ascii_lowercase();
    let found = answers.get(&name);
    let used = match discovery {
        Discovery::Listed => return (Vec::new().into(), None),
        Discovery::Dns => found,
        Discovery::DnsFirst => &found[..found.len().min(1)],
    };
    (used.into(), Some(name))
}
