//! ServiceEntries with the WorkloadEntries that they select (behaviour 5).

use std::net::SocketAddr;

use super::{
    Discovery, DnsAnswers, EndpointRecord, NameRecord, PortRecord, ServiceRecord, add,
    labelled_locality, resolve,
};
use crate::compile::naming::is_exported;
use crate::config::service_entry::{
    Resolution, ServiceEntry, ServicePort, WorkloadEntry, WorkloadSelector,
};
use crate::config::{Object, ResourceSet};

/// The services of all ServiceEntries that `viewer` sees, with the time when each was made.
pub(super) fn services<'r>(
    resources: &'r ResourceSet,
    viewer: &'r str,
    answers: &'r DnsAnswers,
) -> impl Iterator<Item = (Option<&'r str>, ServiceRecord)> {
    let visible = resources
        .service_entries()
        .filter(move |object| is_exported(&object.spec.export_to, &object.meta.namespace, viewer));
    visible.flat_map(move |object| {
        let workloads = match &object.spec.workload_selector {
            Some(selector) => selected(resources, &object.meta.namespace, selector),
            None => object.spec.endpoints.iter().map(Workload::inline).collect(),
        };
        let created = object.meta.creation_timestamp.as_deref();
        let hosts = object.spec.hosts.iter();
        hosts.map(move |host| (created, service(object, host, &workloads, answers)))
    })
}

/// An endpoint of a ServiceEntry: written in it, or a WorkloadEntry of its own.
#[derive(Clone)]
pub(super) struct Workload {
    pub(super) entry: WorkloadEntry,
    name: Option<String>,
}

impl Workload {
    fn inline(entry: &WorkloadEntry) -> Workload {
        Workload { entry: entry.clone(), name: None }
    }

    /// Its endpoint at this address.
    pub(super) fn endpoint(&self, address: SocketAddr, namespace: &str) -> EndpointRecord {
        let entry = &self.entry;
        let locality = entry.locality.clone().filter(|locality| !locality.is_empty());
        EndpointRecord {
            address,
            labels: entry.labels.clone(),
            weight: entry.weight.unwrap_or(1).max(1),
            ready: true,
            locality: locality.or_else(|| labelled_locality(&entry.labels)),
            workload: self.name.clone(),
            namespace: namespace.to_owned(),
        }
    }
}

/// The WorkloadEntries of a namespace that are selected, with the labels of object and spec.
pub(super) fn selected(
    resources: &ResourceSet,
    namespace: &str,
    selector: &WorkloadSelector,
) -> Vec<Workload> {
    let own = resources.workload_entries().filter(|object| object.meta.namespace == namespace);
    own.filter(|object| selector.selects(object))
        .map(|object| {
            let mut entry = object.spec.clone();
            let labels = object.meta.labels.iter();
            entry.labels.extend(labels.map(|(label, value)| (label.clone(), value.clone())));
            Workload { entry, name: Some(object.meta.name.clone()) }
        })
        .collect()
}

fn service(
    object: &Object<ServiceEntry>,
    host: &str,
    workloads: &[Workload],
    answers: &DnsAnswers,
) -> ServiceRecord {
    let spec = &object.spec;
    let namespace = &object.meta.namespace;
    let discovery = match spec.resolution {
        Some(Resolution::Dns) => Discovery::Dns,
        Some(Resolution::DnsRoundRobin) => Discovery::DnsFirst,
        _ => Discovery::Listed,
    };
    // Without endpoints the host itself is the name that is resolved.
    let itself = [Workload {
        entry: WorkloadEntry { address: host.to_owned(), ..WorkloadEntry::default() },
        name: None,
    }];
    let workloads = match (spec.resolution, discovery) {
        // The original destination of a connection means nothing at an ingress gateway, and names
        // that come with the request are not resolved there.
        (None | Some(Resolution::None | Resolution::DynamicDns), _) => &[][..],
        (_, Discovery::Dns | Discovery::DnsFirst)
            if spec.endpoints.is_empty() && spec.workload_selector.is_none() =>
        {
            &itself
        }
        _ => workloads,
    };
    let ports = spec.ports.iter().map(|port| {
        let (mut endpoints, mut names) = (Vec::new(), Vec::<NameRecord>::new());
        for workload in workloads {
            let entry = &workload.entry;
            let Ok(target) = u16::try_from(target_port(entry, port)) else { continue };
            let (addresses, resolved) = resolve(&entry.address, discovery, answers);
            names.extend(resolved.map(|name| NameRecord { name, labels: entry.labels.clone() }));
            for address in addresses.iter() {
                add(&mut endpoints, workload.endpoint((*address, target).into(), namespace));
            }
        }
        let protocol = port.protocol.as_deref().unwrap_or_default().to_ascii_uppercase();
        let http2 = matches!(protocol.as_str(), "HTTP2" | "GRPC" | "GRPC-WEB");
        PortRecord { number: port.number, name: port.name.clone(), http2, endpoints, names }
    });
    ServiceRecord {
        host: host.to_owned(),
        name: host.to_owned(),
        namespace: namespace.clone(),
        ports: ports.collect(),
        publish_not_ready: false,
        discovery,
        alias_of: None,
        subject_alt_names: spec.subject_alt_names.clone(),
    }
}

/// Behaviour 5.1: the endpoint's own port, the target port, the number; 0 stands for none.
fn target_port(entry: &WorkloadEntry, port: &ServicePort) -> u32 {
    let own = entry.ports.get(&port.name).copied().filter(|port| *port > 0);
    own.or(port.target_port.filter(|port| *port > 0)).unwrap_or(port.number)
}
