//! Kubernetes Services with their EndpointSlices or Endpoints (behaviour 6).

use std::collections::{BTreeMap, HashMap};
use std::net::{IpAddr, SocketAddr};

use super::{
    Discovery, DnsAnswers, EndpointRecord, NameRecord, PortRecord, ServiceRecord, add,
    labelled_locality, resolve, service_entries,
};
use crate::compile::naming::{is_exported, service_export_to, service_host};
use crate::config::kube::{Endpoint, EndpointSlice, Endpoints, PortOrName, Service, ServicePort};
use crate::config::service_entry::WorkloadSelector;
use crate::config::{Object, ObjectMeta, ResourceSet};

/// Label that ties an EndpointSlice to its Service.
const SERVICE_NAME_LABEL: &str = "kubernetes.io/service-name";

/// All Services that `viewer` sees, with the time when each was made.
pub(super) fn services<'r>(
    resources: &'r ResourceSet,
    viewer: &'r str,
    cluster_domain: &'r str,
    answers: &'r DnsAnswers,
) -> impl Iterator<Item = (Option<&'r str>, ServiceRecord)> {
    let slices = slices_by_service(resources);
    let endpoints: HashMap<(&str, &str), &Object<Endpoints>> = resources
        .endpoints()
        .map(|object| ((object.meta.namespace.as_str(), object.meta.name.as_str()), object))
        .collect();
    resources.services().filter_map(move |object| {
        let meta = &object.meta;
        let export_to = service_export_to(&meta.annotations);
        if !is_exported(&export_to, &meta.namespace, viewer) {
            return None;
        }
        let mut service = ServiceRecord {
            host: service_host(&meta.name, &meta.namespace, cluster_domain),
            name: meta.name.clone(),
            namespace: meta.namespace.clone(),
            ports: Vec::new(),
            publish_not_ready: object.spec.spec.publish_not_ready_addresses.unwrap_or(false),
            discovery: Discovery::Listed,
            alias_of: None,
            subject_alt_names: Vec::new(),
        };
        match object.spec.spec.alias() {
            Some(name) => by_name(&mut service, object, name, answers),
            None => {
                let key = (meta.namespace.as_str(), meta.name.as_str());
                let own = slices.get(&key).map_or(&[][..], Vec::as_slice);
                listed(&mut service, object, own, endpoints.get(&key).copied());
                workloads(&mut service, object, resources);
            }
        }
        Some((meta.creation_timestamp.as_deref(), service))
    })
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

fn served_ports(object: &Object<Service>) -> impl Iterator<Item = &ServicePort> {
    object.spec.spec.ports.iter().filter(|port| port.protocol.as_deref() != Some("UDP"))
}

fn speaks_http2(port: &ServicePort) -> bool {
    super::is_http2_port(port.name.as_deref().unwrap_or_default(), port.app_protocol.as_deref())
}

/// Like a ServiceEntry with resolution DNS; target ports mean nothing here.
fn by_name(
    service: &mut ServiceRecord,
    object: &Object<Service>,
    name: &str,
    answers: &DnsAnswers,
) {
    service.discovery = Discovery::Dns;
    service.alias_of = Some(name.trim_end_matches('.').to_ascii_lowercase());
    let (addresses, resolved) = resolve(name, Discovery::Dns, answers);
    let names: Vec<NameRecord> =
        resolved.map(|name| NameRecord { name, labels: BTreeMap::new() }).into_iter().collect();
    let ports = served_ports(object).map(|port| {
        let mut endpoints = Vec::new();
        for address in addresses.iter() {
            let endpoint = EndpointRecord {
                address: SocketAddr::new(*address, port.port),
                labels: BTreeMap::new(),
                weight: 1,
                ready: true,
                locality: None,
                workload: None,
                namespace: object.meta.namespace.clone(),
            };
            add(&mut endpoints, endpoint);
        }
        PortRecord {
            number: u32::from(port.port),
            name: port.name.clone().unwrap_or_default(),
            http2: speaks_http2(port),
            endpoints,
            names: names.clone(),
        }
    });
    service.ports = ports.collect();
}

fn listed(
    service: &mut ServiceRecord,
    object: &Object<Service>,
    slices: &[&Object<EndpointSlice>],
    old: Option<&Object<Endpoints>>,
) {
    let publish_not_ready = service.publish_not_ready;
    let ports = served_ports(object).map(|port| {
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
            http2: speaks_http2(port),
            endpoints,
            names: Vec::new(),
        }
    });
    service.ports = ports.collect();
}

/// WorkloadEntries that the selector fits, as if they were Pods. A named target port is the one that the
/// WorkloadEntry gives the name; a number is overridden by its port of the Service port's name.
fn workloads(service: &mut ServiceRecord, object: &Object<Service>, resources: &ResourceSet) {
    let labels = &object.spec.spec.selector;
    if labels.is_empty() {
        return;
    }
    let selector = WorkloadSelector { labels: labels.clone() };
    for workload in service_entries::selected(resources, &object.meta.namespace, &selector) {
        let entry = &workload.entry;
        let Ok(address) = entry.address.parse::<IpAddr>() else { continue };
        for (port, record) in served_ports(object).zip(&mut service.ports) {
            let own = |name: &str| {
                entry
                    .ports
                    .get(name)
                    .and_then(|port| u16::try_from(*port).ok())
                    .filter(|port| *port > 0)
            };
            let target = match &port.target_port {
                Some(PortOrName::Name(name)) => own(name),
                Some(PortOrName::Port(number)) if *number > 0 => {
                    Some(own(&record.name).unwrap_or(*number))
                }
                _ => Some(own(&record.name).unwrap_or(port.port)),
            };
            let Some(target) = target else { continue };
            add(
                &mut record.endpoints,
                workload.endpoint((address, target).into(), &service.namespace),
            );
        }
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
    // Names are not resolved for a slice, as in Istio.
    if slice.spec.address_type.as_deref() == Some("FQDN") {
        return;
    }
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
                    locality: locality(endpoint, &labels),
                    workload: target_ref.and_then(|target| target.name.as_deref()).map(workload),
                    namespace: slice.meta.namespace.clone(),
                },
            );
        }
    }
}

/// A slice knows the zone only: the region in front of it stays empty.
fn locality(endpoint: &Endpoint, labels: &BTreeMap<String, String>) -> Option<String> {
    let zone = endpoint.zone.as_deref().filter(|zone| !zone.is_empty());
    labelled_locality(labels).or_else(|| zone.map(|zone| format!("/{zone}")))
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
                    locality: labelled_locality(&labels),
                    workload: target_ref.and_then(|target| target.name.as_deref()).map(workload),
                    namespace: object.meta.namespace.clone(),
                },
            );
        }
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
