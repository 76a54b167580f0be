//! Destinations → clusters: service port and subset, with the policy of the DestinationRule that
//! applies (behaviour 4.1, 4.2).

use std::collections::{BTreeMap, HashMap};

use super::CompileOptions;
use super::consistent_hash;
use super::locality::{self, Own};
use super::naming::{self, covers, is_exported, resolve_short_name};
use super::registry::{EndpointRecord, Registry, ServiceRecord};
use super::upstream_policy::UpstreamPolicy;
use crate::config::destination_rule::DestinationRule;
use crate::config::{Object, ResourceSet};
use crate::ids::ClusterId;
use crate::metrics::{LabelTable, MetricLabels};
use crate::snapshot::{Cluster, Endpoint};

/// Root namespace of the mesh.
const ROOT_NAMESPACE: &str = "istio-system";

/// Makes clusters as destinations name them.
pub struct ClusterCompiler<'r> {
    registry: &'r Registry,
    viewer: &'r str,
    options: &'r CompileOptions,
    labels: &'r mut LabelTable,
    known: HashMap<String, ClusterId>,
    clusters: Vec<Cluster>,
    /// DestinationRules by their full host.
    rules: HashMap<String, Vec<&'r Object<DestinationRule>>>,
    /// Those with wildcard hosts.
    wildcard_rules: Vec<(String, &'r Object<DestinationRule>)>,
}

impl<'r> ClusterCompiler<'r> {
    /// No cluster yet.
    pub fn new(
        resources: &'r ResourceSet,
        registry: &'r Registry,
        options: &'r CompileOptions,
        labels: &'r mut LabelTable,
    ) -> ClusterCompiler<'r> {
        let applies = |rule: &&Object<DestinationRule>| {
            let selector = rule.spec.workload_selector.as_ref();
            selector.is_none_or(|selector| {
                let mut wanted = selector.match_labels.iter();
                wanted.all(|(label, value)| options.labels.get(label) == Some(value))
            })
        };
        let mut rules: HashMap<String, Vec<&Object<DestinationRule>>> = HashMap::new();
        let mut wildcard_rules = Vec::new();
        for rule in resources.destination_rules().filter(applies) {
            let domain = &options.cluster_domain;
            let host = resolve_short_name(&rule.spec.host, &rule.meta.namespace, domain);
            if host.starts_with('*') {
                wildcard_rules.push((host, rule));
            } else {
                rules.entry(host).or_default().push(rule);
            }
        }
        ClusterCompiler {
            registry,
            viewer: &options.namespace,
            options,
            labels,
            known: HashMap::new(),
            clusters: Vec::new(),
            rules,
            wildcard_rules,
        }
    }

    /// The label table, for histogram slots.
    pub fn labels(&mut self) -> &mut LabelTable {
        self.labels
    }

    /// All clusters made.
    pub fn finish(self) -> Vec<Cluster> {
        self.clusters
    }

    /// The cluster of `host` (fully qualified), `port` and `subset`, and the port that it came to.
    /// `None` when the service, the port or the subset does not exist: requests get 503, flag NC.
    /// Without a port: the service's only one, else `server_port` (behaviour 3.6.2).
    pub fn cluster(
        &mut self,
        host: &str,
        port: Option<u32>,
        subset: &str,
        server_port: u32,
    ) -> (u32, Option<ClusterId>) {
        let Some(service) = self.registry.find(host) else {
            return (port.unwrap_or(server_port), None);
        };
        let number = match (port, service.ports.as_slice()) {
            (Some(number), _) => number,
            (None, [only]) => only.number,
            (None, _) => server_port,
        };
        let name = naming::cluster(host, number, subset);
        if let Some(id) = self.known.get(&name) {
            return (number, Some(*id));
        }
        let Some(cluster) = self.compile(service, name.clone(), number, subset) else {
            return (number, None);
        };
        let id = ClusterId(self.clusters.len() as u32);
        self.clusters.push(cluster);
        self.known.insert(name, id);
        (number, Some(id))
    }

    fn compile(
        &mut self,
        service: &ServiceRecord,
        name: String,
        number: u32,
        subset: &str,
    ) -> Option<Cluster> {
        let port = service.ports.iter().find(|port| port.number == number)?;
        let rules = self.rules_for(&service.host, &service.namespace);
        let mut selector = BTreeMap::new();
        let mut subset_policy = None;
        if !subset.is_empty() {
            // Several rules of one host: their subsets are put together, the first of a name stays.
            let found = rules
                .iter()
                .flat_map(|rule| &rule.spec.subsets)
                .find(|candidate| candidate.name == subset)?;
            selector = found.labels.clone();
            subset_policy = found.traffic_policy.as_ref();
        }
        let policy = rules.iter().find_map(|rule| rule.spec.traffic_policy.as_ref());
        let policy = UpstreamPolicy::new(policy, subset_policy, number);
        let records: Vec<&EndpointRecord> = port
            .endpoints
            .iter()
            .filter(|endpoint| {
                selector.iter().all(|(label, value)| endpoint.labels.get(label) == Some(value))
            })
            .collect();
        let (grouping, groups) = locality::group(
            Own { locality: self.options.locality.as_ref(), labels: &self.options.labels },
            policy.load_balancer.and_then(|settings| settings.locality_lb_setting.as_ref()),
            policy.outlier_detection.is_some(),
            &records,
        );
        let endpoints: Vec<Endpoint> = records
            .iter()
            .zip(groups)
            .map(|(endpoint, group)| Endpoint {
                address: endpoint.address,
                weight: endpoint.weight,
                healthy: endpoint.ready,
                group,
                metric_slot: self.labels.metric_slot(&endpoint_labels(service, endpoint)),
            })
            .collect();
        let consistent_hash = policy
            .load_balancer
            .and_then(|settings| settings.consistent_hash.as_ref())
            .and_then(|settings| consistent_hash::compile(settings, &endpoints))
            .map(Box::new);
        let metric_slot = self.labels.metric_slot(&service_labels(service));
        let mut cluster = Cluster {
            name,
            grouping,
            consistent_hash,
            endpoints,
            metric_slot,
            ..Cluster::default()
        };
        policy.apply(&mut cluster);
        Some(cluster)
    }

    /// The rules of a host: of the first level that has any (the gateway's namespace, the service's,
    /// the root's), those of the longest matching host, in Istio's order.
    fn rules_for(&self, host: &str, service_namespace: &str) -> Vec<&'r Object<DestinationRule>> {
        let levels = [self.viewer, service_namespace, ROOT_NAMESPACE];
        for (index, level) in levels.iter().enumerate() {
            let of_level = |rule: &&Object<DestinationRule>| {
                let namespace = &rule.meta.namespace;
                // The root namespace's public rules are the last level, also for a gateway in it.
                let later = index == 0
                    && self.viewer == ROOT_NAMESPACE
                    && !naming::is_private(&rule.spec.export_to, namespace);
                !later
                    && namespace == level
                    && is_exported(&rule.spec.export_to, namespace, self.viewer)
            };
            let exact = self.rules.get(host).into_iter().flatten().copied();
            let found: Vec<_> = exact.filter(of_level).collect();
            if !found.is_empty() {
                return found;
            }
            let covering = || {
                self.wildcard_rules
                    .iter()
                    .filter(|(pattern, rule)| covers(pattern, host) && of_level(rule))
            };
            let longest = covering().map(|(pattern, _)| pattern.len()).max();
            if let Some(longest) = longest {
                return covering()
                    .filter(|(pattern, _)| pattern.len() == longest)
                    .map(|(_, rule)| *rule)
                    .collect();
            }
        }
        Vec::new()
    }
}

fn service_labels(service: &ServiceRecord) -> MetricLabels {
    MetricLabels {
        destination_service_namespace: service.namespace.clone(),
        ..MetricLabels::of_service(&service.host, &service.name)
    }
}

fn endpoint_labels(service: &ServiceRecord, endpoint: &EndpointRecord) -> MetricLabels {
    let label = |names: &[&str]| names.iter().find_map(|name| endpoint.labels.get(*name)).cloned();
    let mut labels = service_labels(service);
    let app = label(&["app"]);
    let canonical = label(&["service.istio.io/canonical-name", "app.kubernetes.io/name", "app"]);
    let workload = endpoint.workload.clone().or_else(|| canonical.clone());
    if workload.is_some() {
        labels.destination_workload_namespace = endpoint.namespace.clone();
        labels.destination_cluster = "Kubernetes".to_owned();
    }
    let set = |field: &mut String, value: Option<String>| {
        if let Some(value) = value {
            *field = value;
        }
    };
    set(&mut labels.destination_canonical_service, canonical.or_else(|| workload.clone()));
    set(&mut labels.destination_workload, workload);
    set(&mut labels.destination_app, app);
    set(&mut labels.destination_version, label(&["version"]));
    set(
        &mut labels.destination_canonical_revision,
        label(&["service.istio.io/canonical-revision", "app.kubernetes.io/version", "version"]),
    );
    labels
}
