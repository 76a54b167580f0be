//! Destinations → clusters: service port and subset, with the policy of the DestinationRule that
//! applies (behaviour 4.1, 4.2).

use std::cell::RefCell;
use std::collections::{BTreeMap, HashMap};

use super::CompileOptions;
use super::consistent_hash;
use super::credentials::{self, ClientSide};
use super::locality::{self, Own};
use super::naming::{self, covers, is_exported, resolve_short_name};
use super::registry::{Discovery, EndpointRecord, PortRecord, Registry, ServiceRecord};
use super::tls_sides::TlsSides;
use super::upstream_policy::UpstreamPolicy;
use crate::config::credential_files::{self, CredentialFiles};
use crate::config::destination_rule::{ClientTlsMode, ClientTlsSettings, DestinationRule};
use crate::config::{Object, ResourceSet};
use crate::ids::ClusterId;
use crate::metrics::labels::DEFAULT_CLUSTER;
use crate::metrics::{LabelTable, MetricLabels};
use crate::snapshot::{Cluster, ClusterTls, Endpoint, ResolvedNames, UpstreamProtocol};
use crate::tls::settings::ClientSettings;
use crate::validate::parts::Parts;

/// Root namespace of the mesh.
const ROOT_NAMESPACE: &str = "istio-system";

/// Makes clusters as destinations name them.
pub struct ClusterCompiler<'r> {
    registry: &'r Registry,
    viewer: &'r str,
    options: &'r CompileOptions,
    parts: Parts<'r>,
    labels: &'r mut LabelTable,
    sides: &'r RefCell<TlsSides>,
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
        files: &'r CredentialFiles,
        labels: &'r mut LabelTable,
        sides: &'r RefCell<TlsSides>,
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
            parts: Parts::new(resources, files, &options.namespace),
            labels,
            sides,
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
        let registry = self.registry;
        let host = registry.target(host);
        let Some(service) = registry.find(host) else {
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

    /// Host, port and subset of everything that can be named: all ports of all services, each without a
    /// subset and with those of its DestinationRules.
    pub fn names(&self) -> Vec<(String, u32, String)> {
        let mut names = Vec::new();
        for service in self.registry.services() {
            let rules = self.rules_for(&service.host, &service.namespace);
            let subsets = rules.iter().flat_map(|rule| &rule.spec.subsets);
            let subsets: Vec<&str> =
                [""].into_iter().chain(subsets.map(|subset| subset.name.as_str())).collect();
            for port in &service.ports {
                names.extend(
                    subsets
                        .iter()
                        .map(|subset| (service.host.clone(), port.number, (*subset).to_owned())),
                );
            }
        }
        names
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
            .filter(|endpoint| has_labels(&endpoint.labels, &selector))
            .collect();
        let (grouping, groups) = locality::group(
            Own { locality: self.options.locality.as_ref(), labels: &self.options.labels },
            policy.load_balancer.and_then(|settings| settings.locality_lb_setting.as_ref()),
            policy.outlier_detection.is_some(),
            &records,
        );
        let principal = policy.tls.and_then(|settings| principal(settings, service));
        let principal = principal.unwrap_or_default();
        let endpoints: Vec<Endpoint> = records
            .iter()
            .zip(groups)
            .map(|(endpoint, group)| Endpoint {
                address: endpoint.address,
                weight: endpoint.weight,
                healthy: endpoint.ready,
                group,
                metric_slot: self.labels.metric_slot(&MetricLabels {
                    destination_principal: principal.clone(),
                    ..endpoint_labels(service, endpoint)
                }),
            })
            .collect();
        let resolved = resolved_names(service, port, &selector);
        if service.discovery != Discovery::Listed && endpoints.is_empty() && resolved.is_none() {
            // Istio makes no cluster of a service that nothing could ever be resolved for.
            return None;
        }
        let consistent_hash = policy
            .load_balancer
            .and_then(|settings| settings.consistent_hash.as_ref())
            .and_then(|settings| consistent_hash::compile(settings, &endpoints))
            .map(Box::new);
        let metric_slot = self.labels.metric_slot(&MetricLabels {
            destination_version: selector.get("version").cloned().unwrap_or_default(),
            ..MetricLabels::of_service(&service.host, &service.name)
        });
        let mut cluster = Cluster {
            name,
            grouping,
            consistent_hash,
            endpoints,
            resolved,
            metric_slot,
            protocol: if port.http2 { UpstreamProtocol::Http2 } else { UpstreamProtocol::Http1 },
            ..Cluster::default()
        };
        policy.apply(&mut cluster);
        if let Some(settings) = policy.tls {
            // The block is of one of these rules; its files are named from where that stands.
            let rule = rules.iter().copied().find(|rule| has_settings(rule, settings))?;
            let side = ClientSide {
                cluster: &cluster.name,
                service_names: &service.subject_alt_names,
                rule,
            };
            let made = credentials::client_settings(settings, &side, &self.parts)
                .map_err(|_| ())
                .and_then(|settings| self.tls(settings));
            match made {
                Ok(tls) => cluster.tls = tls.map(Box::new),
                // Validation told why. What is to be sent by TLS is never sent in clear text.
                Err(()) => {
                    cluster.endpoints = Vec::new();
                    cluster.resolved = None;
                }
            }
        }
        Some(cluster)
    }

    /// The side of TLS to a cluster.
    fn tls(&self, settings: Option<ClientSettings>) -> Result<Option<ClusterTls>, ()> {
        let Some(settings) = settings else { return Ok(None) };
        let needs_host = settings.server_name.is_none();
        let side = self.sides.borrow_mut().client(&settings).map_err(|_| ())?;
        Ok(Some(ClusterTls { side, needs_host }))
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

/// Are these settings, and not equal ones, of this rule?
fn has_settings(rule: &Object<DestinationRule>, settings: &ClientTlsSettings) -> bool {
    credential_files::client_settings(rule).any(|(_, own)| std::ptr::eq(own, settings))
}

fn has_labels(labels: &BTreeMap<String, String>, selector: &BTreeMap<String, String>) -> bool {
    selector.iter().all(|(label, value)| labels.get(label) == Some(value))
}

/// The names that the endpoints of a port with these labels come from.
fn resolved_names(
    service: &ServiceRecord,
    port: &PortRecord,
    selector: &BTreeMap<String, String>,
) -> Option<Box<ResolvedNames>> {
    let own = port.names.iter().filter(|name| has_labels(&name.labels, selector));
    let names: Vec<String> = own.map(|name| name.name.clone()).collect();
    let first_only = service.discovery == Discovery::DnsFirst;
    (!names.is_empty()).then(|| Box::new(ResolvedNames { names, first_only }))
}

/// The SPIFFE id that every endpoint proves: the only one that its certificate may have. Of several, or
/// of any, it is known only to the connection, and metrics say `unknown`.
fn principal(settings: &ClientTlsSettings, service: &ServiceRecord) -> Option<String> {
    let is_verified = settings.mode != Some(ClientTlsMode::Disable)
        && settings.insecure_skip_verify != Some(true);
    let names = match settings.subject_alt_names.as_slice() {
        [] => &service.subject_alt_names,
        _ => &settings.subject_alt_names,
    };
    match names.as_slice() {
        [only] if is_verified && only.starts_with("spiffe://") => Some(only.clone()),
        _ => None,
    }
}

/// The labels of requests that an endpoint was picked for. The service's namespace and the Kubernetes
/// cluster are known only with an endpoint, as in Istio.
fn endpoint_labels(service: &ServiceRecord, endpoint: &EndpointRecord) -> MetricLabels {
    let label = |names: &[&str]| names.iter().find_map(|name| endpoint.labels.get(*name)).cloned();
    let mut labels = MetricLabels {
        destination_service_namespace: service.namespace.clone(),
        destination_cluster: DEFAULT_CLUSTER.to_owned(),
        ..MetricLabels::of_service(&service.host, &service.name)
    };
    let app = label(&["app"]);
    let canonical = label(&["service.istio.io/canonical-name", "app.kubernetes.io/name", "app"]);
    let workload = endpoint.workload.clone().or_else(|| canonical.clone());
    if workload.is_some() {
        labels.destination_workload_namespace = endpoint.namespace.clone();
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
