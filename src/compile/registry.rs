//! The services that destinations can name: Kubernetes Services and ServiceEntries with their
//! ports and endpoints (behaviour 5 and 6).

use std::collections::{BTreeMap, HashMap};
use std::net::{IpAddr, SocketAddr};

use super::naming::{covers, is_exported, service_export_to, service_host};
use crate::config::ResourceSet;
use crate::config::kube::{EndpointSlice, Endpoints, Service, ServicePort};
use crate::config::service_entry::{Resolution, ServiceEntry};
use crate::config::{Object, ObjectMeta};

/// Label that ties an EndpointSlice to its Service.
const SERVICE_NAME_LABEL: &str = "kubernetes.io/service-name";
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
}

/// A port of a service with its endpoints.
#[derive(Clone, Debug)]
pub struct PortRecord {
    /// The number that destinations name.
    pub number: u32,
    /// Its name, possibly empty.
    pub name: String,
    /// Endpoints of this port.
    pub endpoints: Vec<EndpointRecord>,
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
    /// Where it runs: `region/zone/subzone`, as far as it is known.
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
    /// Collect the services of `resources` that `viewer`, the gateway's namespace, sees.
    pub fn new(resources: &ResourceSet, viewer: &str, cluster_domain: &str) -> Registry {
        let mut registry = Registry::default();
        let slices = slices_by_service(resources);
        let endpoints: HashMap<(&str, &str), &Object<Endpoints>> = resources
            .endpoints()
            .map(|object| ((object.meta.namespace.as_str(), object.meta.name.as_str()), object))
            .collect();
        for object in resources.services() {
            let meta = &object.meta;
            let export_to = service_export_to(&meta.annotations);
            if !is_exported(&export_to, &meta.namespace, viewer) {
                continue;
            }
            let key = (meta.namespace.as_str(), meta.name.as_str());
            let own = slices.get(&key).map_or(&[][..], Vec::as_slice);
            let old = endpoints.get(&key).copied();
            registry.add(kubernetes_service(object, own, old, cluster_domain));
        }
        for object in resources.service_entries() {
            if is_exported(&object.spec.export_to, &object.meta.namespace, viewer) {
                for host in &object.spec.hosts {
                    registry.add(service_entry(&object.meta, &object.spec, host));
                }
            }
        }
        registry.wildcards.sort_by_key(|service| std::cmp::Reverse(service.host.len()));
        registry
    }

    /// The first of a host stays; endpoints of ServiceEntries of one namespace are put together.
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
                        Some(known) => known.endpoints.extend(port.endpoints),
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
}

type Slices<'r> = HashMap<(&'r str, &'r str), Vec<&'r Object<EndpointSlice>>>;

fn slices_by_service(resources: &ResourceSet) -> Slices<'_> {
    let mut slices: Slices<'_> = HashMap::new();
    for object in resources.endpoint_slices() {
        if let Some(service) = object.meta.labels.get(SERVICE_NAME_LABEL) {
            slices
                .entry((object.meta.namespace.as_str(), service.as_str()))
                .or_default()
                .push(object);
        }
    }
    slices
}

fn kubernetes_service(
    object: &Object<Service>,
    slices: &[&Object<EndpointSlice>],
    old: Option<&Object<Endpoints>>,
    cluster_domain: &str,
) -> ServiceRecord {
    let meta = &object.meta;
    let spec = &object.spec.spec;
    let publish_not_ready = spec.publish_not_ready_addresses.unwrap_or(false);
    let ports = spec
        .ports
        .iter()
        .filter(|port| port.protocol.as_deref() != Some("UDP"))
        .map(|port| {
            let mut endpoints = Vec::new();
            for slice in slices {
                from_slice(slice, port, publish_not_ready, &mut endpoints);
            }
            if let Some(old) = old {
                from_endpoints(old, port, publish_not_ready, &mut endpoints);
            }
            PortRecord {
                number: u32::from(port.port),
                name: port.name.clone().unwrap_or_default(),
                endpoints,
            }
        })
        .collect();
    ServiceRecord {
        host: service_host(&meta.name, &meta.namespace, cluster_domain),
        name: meta.name.clone(),
        namespace: meta.namespace.clone(),
        ports,
        publish_not_ready,
    }
}

fn add(endpoints: &mut Vec<EndpointRecord>, endpoint: EndpointRecord) {
    // The union of all slices, by address and port.
    match endpoints.iter_mut().find(|known| known.address == endpoint.address) {
        Some(known) => known.ready |= endpoint.ready,
        None => endpoints.push(endpoint),
    }
}

/// Labels of endpoints. In a cluster they are the Pod's. Files have no Pods: the labels of the object
/// that lists the endpoints stand for them, so that a slice per version makes subsets possible; those
/// that the cluster manages say nothing about the workload.
fn workload_labels(meta: &ObjectMeta) -> BTreeMap<String, String> {
    let is_managed = |label: &str| {
        ["kubernetes.io/", "endpointslice.kubernetes.io/", "service.kubernetes.io/"]
            .iter()
            .any(|prefix| label.starts_with(prefix))
    };
    meta.labels
        .iter()
        .filter(|(label, _)| !is_managed(label))
        .map(|(label, value)| (label.clone(), value.clone()))
        .collect()
}

fn from_slice(
    slice: &Object<EndpointSlice>,
    port: &ServicePort,
    publish_not_ready: bool,
    endpoints: &mut Vec<EndpointRecord>,
) {
    let name = port.name.as_deref().unwrap_or_default();
    let Some(target) = slice
        .spec
        .ports
        .iter()
        .find(|target| target.name.as_deref().unwrap_or_default() == name)
        .and_then(|target| target.port)
    else {
        return;
    };
    let labels = workload_labels(&slice.meta);
    for endpoint in &slice.spec.endpoints {
        let conditions = endpoint.conditions.clone().unwrap_or_default();
        if conditions.terminating == Some(true) && !publish_not_ready {
            continue;
        }
        let ready = conditions.ready.unwrap_or(true) || publish_not_ready;
        let target_ref = endpoint.target_ref.as_ref();
        for address in &endpoint.addresses {
            let Ok(ip) = address.parse::<IpAddr>() else { continue };
            add(
                endpoints,
                EndpointRecord {
                    address: SocketAddr::new(ip, target),
                    labels: labels.clone(),
                    weight: 1,
                    ready,
                    locality: endpoint.zone.as_ref().map(|zone| format!("/{zone}")),
                    workload: target_ref.and_then(|target| target.name.as_deref()).map(workload),
                    namespace: slice.meta.namespace.clone(),
                },
            );
        }
    }
}

/// The workload of a Pod's name: without the hashes of ReplicaSet and Pod.
fn workload(pod: &str) -> String {
    let is_hash = |part: &str, length: std::ops::RangeInclusive<usize>| {
        length.contains(&part.len())
            && part.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit())
            && part.bytes().any(|byte| byte.is_ascii_digit())
    };
    let mut rest = pod;
    if let Some((front, last)) = rest.rsplit_once('-')
        && is_hash(last, 5..=5)
    {
        rest = front;
        if let Some((front, hash)) = rest.rsplit_once('-')
            && is_hash(hash, 6..=10)
        {
            rest = front;
        }
    }
    rest.to_owned()
}

fn from_endpoints(
    object: &Object<Endpoints>,
    port: &ServicePort,
    publish_not_ready: bool,
    endpoints: &mut Vec<EndpointRecord>,
) {
    let name = port.name.as_deref().unwrap_or_default();
    let labels = workload_labels(&object.meta);
    for subset in &object.spec.subsets {
        let Some(target) =
            subset.ports.iter().find(|target| target.name.as_deref().unwrap_or_default() == name)
        else {
            continue;
        };
        let Some(target_port) = target.port else { continue };
        let ready = subset.addresses.iter().map(|address| (address, true));
        let not_ready =
            subset.not_ready_addresses.iter().map(|address| (address, publish_not_ready));
        for (address, ready) in ready.chain(not_ready) {
            let Ok(ip) = address.ip.parse::<IpAddr>() else { continue };
            let target_ref = address.target_ref.as_ref();
            add(
                endpoints,
                EndpointRecord {
                    address: SocketAddr::new(ip, target_port),
                    labels: labels.clone(),
                    weight: 1,
                    ready,
                    locality: None,
                    workload: target_ref.and_then(|target| target.name.as_deref()).map(workload),
                    namespace: object.meta.namespace.clone(),
                },
            );
        }
    }
}

fn service_entry(meta: &ObjectMeta, spec: &ServiceEntry, host: &str) -> ServiceRecord {
    let ports = spec
        .ports
        .iter()
        .map(|port| {
            let mut endpoints = Vec::new();
            if spec.resolution == Some(Resolution::Static) {
                for endpoint in &spec.endpoints {
                    let Ok(ip) = endpoint.address.parse::<IpAddr>() else { continue };
                    // Behaviour 5.1: the endpoint's own port, the target port, the number.
                    let target = endpoint
                        .ports
                        .get(&port.name)
                        .copied()
                        .or(port.target_port)
                        .unwrap_or(port.number);
                    let Ok(target) = u16::try_from(target) else { continue };
                    endpoints.push(EndpointRecord {
                        address: SocketAddr::new(ip, target),
                        labels: endpoint.labels.clone(),
                        weight: endpoint.weight.unwrap_or(1).max(1),
                        ready: true,
                        locality: endpoint.locality.clone(),
                        workload: None,
                        namespace: meta.namespace.clone(),
                    });
                }
            }
            PortRecord { number: port.number, name: port.name.clone(), endpoints }
        })
        .collect();
    ServiceRecord {
        host: host.to_owned(),
        name: host.to_owned(),
        namespace: meta.namespace.clone(),
        ports,
        publish_not_ready: false,
    }
}

#[cfg(test)]
mod tests {
    use super::workload;

    #[test]
    fn workloads_lose_the_hashes_of_their_pods() {
        for (pod, expected) in [
            ("reviews-v2-5d8f8b6f7c-x2k9p", "reviews-v2"),
            ("hello-7f9c", "hello-7f9c"),
            ("database-0", "database-0"),
            ("hello", "hello"),
        ] {
            assert_eq!(workload(pod), expected, "{pod}");
        }
    }
}
