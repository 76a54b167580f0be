//! What `/config_dump` and its relatives show: plain data that the control loop fills in after each
//! reload. Values of Secrets have no place here.

use std::net::SocketAddr;

use serde::Serialize;

use crate::snapshot::{LoadBalancerPolicy, RetryLimit, RouteAction, Snapshot};

/// Everything about the configuration.
#[derive(Clone, Debug, Default, Serialize)]
pub struct StatusReport {
    /// Generation of the snapshot that is published.
    pub generation: u64,
    /// When it was published, milliseconds since the Unix epoch.
    pub published_unix_ms: u64,
    /// What was read.
    pub sources: Vec<SourceReport>,
    /// Every object, refused ones included.
    pub objects: Vec<ObjectReport>,
    /// Diagnostics that belong to no object (a file that is no YAML).
    pub diagnostics: Vec<DiagnosticReport>,
    /// What was compiled from the objects.
    pub snapshot: SnapshotReport,
}

/// One place that configuration comes from.
#[derive(Clone, Debug, Default, Serialize)]
pub struct SourceReport {
    /// The directory or file.
    pub path: String,
    /// Files read.
    pub files: usize,
    /// Objects read.
    pub objects: usize,
}

/// How an object fared.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum ObjectState {
    /// Its newest version is served.
    Live,
    /// It is refused and no older version is served.
    Refused,
    /// Its newest version is refused; the last good one is served.
    KeptLastGood,
}

/// One object.
#[derive(Clone, Debug, Serialize)]
pub struct ObjectReport {
    /// `Gateway`, `VirtualService`, …
    pub kind: String,
    /// Namespace.
    pub namespace: String,
    /// Name.
    pub name: String,
    /// File of its newest version.
    pub file: String,
    /// Line of its newest version, from 1.
    pub line: u32,
    /// How it fared.
    pub state: ObjectState,
    /// What was found wrong or odd.
    pub diagnostics: Vec<DiagnosticReport>,
}

/// One finding.
#[derive(Clone, Debug, Serialize)]
pub struct DiagnosticReport {
    /// `error`, `warning` or `notice`.
    pub severity: String,
    /// Stable code.
    pub code: String,
    /// The finding and what to do.
    pub message: String,
    /// File.
    pub file: String,
    /// Line, from 1; 0 when unknown.
    pub line: u32,
    /// Column, from 1; 0 when unknown.
    pub column: u32,
}

/// A snapshot in words.
#[derive(Clone, Debug, Default, Serialize)]
pub struct SnapshotReport {
    /// Bound addresses.
    pub listeners: Vec<ListenerReport>,
    /// Virtual hosts of all listeners.
    pub virtual_hosts: Vec<VirtualHostReport>,
    /// Routes in order.
    pub routes: Vec<RouteReport>,
    /// Clusters with their endpoints.
    pub clusters: Vec<ClusterReport>,
}

/// A listener.
#[derive(Clone, Debug, Serialize)]
pub struct ListenerReport {
    /// `http.<port>`
    pub name: String,
    /// Bound address.
    pub address: SocketAddr,
    /// The Gateways that asked for it.
    pub gateways: Vec<String>,
}

/// A virtual host.
#[derive(Clone, Debug, Serialize)]
pub struct VirtualHostReport {
    /// Name of its listener.
    pub listener: String,
    /// What it answers to: exact names, `*.suffix` or `*`.
    pub domains: Vec<String>,
    /// Indices into `routes`, in matching order.
    pub routes: Vec<usize>,
}

/// A route.
#[derive(Clone, Debug, Serialize)]
pub struct RouteReport {
    /// `%ROUTE_NAME%`, possibly empty.
    pub name: String,
    /// `namespace/name`.
    pub virtual_service: String,
    /// Where requests go.
    pub destinations: Vec<DestinationReport>,
}

/// A destination of a route.
#[derive(Clone, Debug, Serialize)]
pub struct DestinationReport {
    /// Name of the cluster; none when it does not exist (requests get 503, flag NC).
    pub cluster: Option<String>,
    /// Relative weight.
    pub weight: u32,
}

/// A cluster.
#[derive(Clone, Debug, Serialize)]
pub struct ClusterReport {
    /// `outbound|PORT|SUBSET|HOST`
    pub name: String,
    /// Istio's word for the load balancer.
    pub load_balancer: &'static str,
    /// Connect timeout, milliseconds.
    pub connect_timeout_ms: u128,
    /// Most connections; none: no limit.
    pub max_connections: Option<u32>,
    /// Most requests that wait for a connection; none: no limit.
    pub max_pending_requests: Option<u32>,
    /// Most requests under way; none: no limit.
    pub max_requests: Option<u32>,
    /// Most retries under way; none: no limit, or a share of the requests.
    pub max_retries: Option<u32>,
    /// Endpoints.
    pub endpoints: Vec<EndpointReport>,
}

/// An endpoint.
#[derive(Clone, Debug, Serialize)]
pub struct EndpointReport {
    /// Its address.
    pub address: SocketAddr,
    /// Relative weight.
    pub weight: u32,
    /// Ready to serve.
    pub healthy: bool,
}

impl SnapshotReport {
    /// Put `snapshot` into words. The virtual hosts come from the compiler: a route table is made
    /// for matching and no longer holds them as they were written.
    pub fn of(snapshot: &Snapshot, virtual_hosts: Vec<VirtualHostReport>) -> SnapshotReport {
        let listeners = snapshot.listeners.iter().map(|listener| ListenerReport {
            name: listener.name.clone(),
            address: listener.address,
            gateways: listener.gateways.clone(),
        });
        let routes = snapshot.routes.iter().map(|route| {
            let destinations = match &route.action {
                RouteAction::Forward(forward) => forward.destinations().iter(),
                RouteAction::Redirect(_) | RouteAction::DirectResponse(_) => [].iter(),
            };
            RouteReport {
                name: route.names.route.clone(),
                virtual_service: route.names.virtual_service.clone(),
                destinations: destinations
                    .map(|destination| DestinationReport {
                        cluster: destination
                            .cluster
                            .and_then(|id| snapshot.clusters.get(id.index()))
                            .map(|cluster| cluster.name.clone()),
                        weight: destination.weight,
                    })
                    .collect(),
            }
        });
        let clusters = snapshot.clusters.iter().map(|cluster| ClusterReport {
            name: cluster.name.clone(),
            load_balancer: match cluster.load_balancer {
                _ if cluster.consistent_hash.is_some() => "CONSISTENT_HASH",
                LoadBalancerPolicy::LeastRequest => "LEAST_REQUEST",
                LoadBalancerPolicy::RoundRobin => "ROUND_ROBIN",
                LoadBalancerPolicy::Random => "RANDOM",
            },
            connect_timeout_ms: cluster.connect_timeout.as_millis(),
            max_connections: cluster.limits.as_ref().and_then(|limits| limits.connections_max),
            max_pending_requests: cluster.limits.as_ref().and_then(|limits| limits.pending_max),
            max_requests: cluster.limits.as_ref().and_then(|limits| limits.requests_max),
            max_retries: cluster.limits.as_ref().and_then(|limits| match limits.retries {
                Some(RetryLimit::Most(most)) => Some(most),
                Some(RetryLimit::Budget { .. }) | None => None,
            }),
            endpoints: cluster
                .endpoints
                .iter()
                .map(|endpoint| EndpointReport {
                    address: endpoint.address,
                    weight: endpoint.weight,
                    healthy: endpoint.healthy,
                })
                .collect(),
        });
        SnapshotReport {
            listeners: listeners.collect(),
            virtual_hosts,
            routes: routes.collect(),
            clusters: clusters.collect(),
        }
    }
}
