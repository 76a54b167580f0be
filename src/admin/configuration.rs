//! `/config_dump`, `/clusters`, `/listeners`: what was compiled, in our words and in Envoy's.

use std::fmt::Write;
use std::net::SocketAddr;

use axum::extract::State;
use axum::response::Response;
use serde::Serialize;

use super::parameters::{Format, Parameters, QueryError, text};
use super::report::{ClusterReport, EndpointReport, StatusReport};
use super::server::json;
use super::state::AdminState;

/// What Envoy shows for a limit that is none.
const NO_LIMIT: u32 = u32::MAX;

/// `/config_dump`, or one part of it.
pub(super) async fn config_dump(
    State(state): State<AdminState>,
    mut query: Parameters,
) -> Result<Response, QueryError> {
    let resource = query.take("resource")?;
    for of_envoy in ["mask", "name_regex", "include_eds"] {
        if query.take(of_envoy)?.is_some() {
            let text =
                format!("`{of_envoy}` is not honoured here; ?resource= picks a part of the dump");
            return Err(QueryError(text));
        }
    }
    query.end(&["resource"])?;
    let report = state.status.load();
    match resource {
        None => Ok(json(&*report)),
        Some(name) => part(&report, &name),
    }
}

fn part(report: &StatusReport, name: &str) -> Result<Response, QueryError> {
    let snapshot = &report.snapshot;
    Ok(match name {
        "sources" => json(&report.sources),
        "objects" => json(&report.objects),
        "diagnostics" => json(&report.diagnostics),
        "listeners" => json(&snapshot.listeners),
        "virtual_hosts" => json(&snapshot.virtual_hosts),
        "routes" => json(&snapshot.routes),
        "clusters" => json(&snapshot.clusters),
        other => {
            return Err(QueryError(format!(
                "`resource={other}` is no part of the dump: there are sources, objects, diagnostics, \
                 listeners, virtual_hosts, routes, clusters"
            )));
        }
    })
}

#[derive(Serialize)]
struct ClustersPage<'a> {
    cluster_statuses: Vec<ClusterStatus<'a>>,
}

#[derive(Serialize)]
struct ClusterStatus<'a> {
    name: &'a str,
    observability_name: &'a str,
    added_via_api: bool,
    load_balancer: &'a str,
    connect_timeout_ms: u128,
    circuit_breakers: CircuitBreakers,
    host_statuses: Vec<HostStatus>,
}

#[derive(Serialize)]
struct CircuitBreakers {
    thresholds: [Thresholds; 1],
}

#[derive(Serialize)]
struct Thresholds {
    priority: &'static str,
    max_connections: u32,
    max_pending_requests: u32,
    max_requests: u32,
    max_retries: u32,
}

#[derive(Serialize)]
struct HostStatus {
    address: Address,
    weight: u32,
    health_status: HealthStatus,
}

#[derive(Serialize)]
struct HealthStatus {
    eds_health_status: &'static str,
}

#[derive(Serialize)]
struct Address {
    socket_address: SocketAddressFields,
}

#[derive(Serialize)]
struct SocketAddressFields {
    address: String,
    port_value: u16,
}

impl From<SocketAddr> for Address {
    fn from(address: SocketAddr) -> Address {
        let socket_address =
            SocketAddressFields { address: address.ip().to_string(), port_value: address.port() };
        Address { socket_address }
    }
}

impl Thresholds {
    fn of(cluster: &ClusterReport) -> Thresholds {
        Thresholds {
            priority: "DEFAULT",
            max_connections: cluster.max_connections.unwrap_or(NO_LIMIT),
            max_pending_requests: cluster.max_pending_requests.unwrap_or(NO_LIMIT),
            max_requests: cluster.max_requests.unwrap_or(NO_LIMIT),
            max_retries: cluster.max_retries.unwrap_or(NO_LIMIT),
        }
    }
}

impl From<&EndpointReport> for HostStatus {
    fn from(endpoint: &EndpointReport) -> HostStatus {
        let eds_health_status = if endpoint.healthy { "HEALTHY" } else { "UNHEALTHY" };
        HostStatus {
            address: endpoint.address.into(),
            weight: endpoint.weight,
            health_status: HealthStatus { eds_health_status },
        }
    }
}

/// `/clusters`.
pub(super) async fn clusters(
    State(state): State<AdminState>,
    mut query: Parameters,
) -> Result<Response, QueryError> {
    let format = Format::of(&mut query)?;
    query.end(&["format"])?;
    let report = state.status.load();
    let clusters = &report.snapshot.clusters;
    if format == Format::Text {
        return Ok(text(clusters.iter().map(cluster_text).collect()));
    }
    let statuses = clusters.iter().map(|cluster| ClusterStatus {
        name: &cluster.name,
        observability_name: &cluster.name,
        added_via_api: true,
        load_balancer: cluster.load_balancer,
        connect_timeout_ms: cluster.connect_timeout_ms,
        circuit_breakers: CircuitBreakers { thresholds: [Thresholds::of(cluster)] },
        host_statuses: cluster.endpoints.iter().map(HostStatus::from).collect(),
    });
    Ok(json(&ClustersPage { cluster_statuses: statuses.collect() }))
}

/// `name::statistic::value` and `name::address::statistic::value`. Writing to a string never fails.
fn cluster_text(cluster: &ClusterReport) -> String {
    let name = &cluster.name;
    let limits = Thresholds::of(cluster);
    let mut out = format!("{name}::observability_name::{name}\n");
    for (limit, value) in [
        ("max_connections", limits.max_connections),
        ("max_pending_requests", limits.max_pending_requests),
        ("max_requests", limits.max_requests),
        ("max_retries", limits.max_retries),
    ] {
        let _ = writeln!(out, "{name}::default_priority::{limit}::{value}");
    }
    let _ = writeln!(out, "{name}::added_via_api::true");
    // `outbound|PORT|SUBSET|HOST`
    let hostname = name.rsplit('|').next().unwrap_or_default();
    for endpoint in &cluster.endpoints {
        let address = endpoint.address;
        let health = if endpoint.healthy { "healthy" } else { "/failed_eds_health" };
        let _ = writeln!(out, "{name}::{address}::hostname::{hostname}");
        let _ = writeln!(out, "{name}::{address}::health_flags::{health}");
        let _ = writeln!(out, "{name}::{address}::weight::{}", endpoint.weight);
    }
    out
}

#[derive(Serialize)]
struct ListenersPage<'a> {
    listener_statuses: Vec<ListenerStatus<'a>>,
}

#[derive(Serialize)]
struct ListenerStatus<'a> {
    name: &'a str,
    local_address: Address,
    gateways: &'a [String],
}

/// `/listeners`.
pub(super) async fn listeners(
    State(state): State<AdminState>,
    mut query: Parameters,
) -> Result<Response, QueryError> {
    let format = Format::of(&mut query)?;
    query.end(&["format"])?;
    let report = state.status.load();
    let listeners = report.snapshot.listeners.iter();
    Ok(match format {
        Format::Text => text(
            listeners
                .map(|listener| format!("{}::{}\n", listener.name, listener.address))
                .collect(),
        ),
        Format::Json => json(&ListenersPage {
            listener_statuses: listeners
                .map(|listener| ListenerStatus {
                    name: &listener.name,
                    local_address: listener.address.into(),
                    gateways: &listener.gateways,
                })
                .collect(),
        }),
    })
}
