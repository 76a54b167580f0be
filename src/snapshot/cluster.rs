//! A cluster: its endpoints, how one of them is picked, and the limits of what may be sent to it.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use super::ConsistentHash;
use crate::http2::client::Http2KeepAlive;
use crate::ids::MetricSlot;
use crate::net::TcpKeepalive;
use crate::tls::ClientTls;

/// A logical upstream: service port and optional subset.
#[derive(Clone, Debug, Default)]
pub struct Cluster {
    /// Istio's name: `outbound|<port>|<subset>|<host>`.
    pub name: String,
    /// How long a connect may take.
    pub connect_timeout: Duration,
    /// Kept connections are closed when they were idle for this long, ms; none: never.
    pub idle_timeout_ms: Option<u64>,
    /// Connections that are routed as a whole are closed when no byte moved for this long, ms
    /// (`connectionPool.tcp.idleTimeout`); none: never.
    pub tcp_idle_timeout_ms: Option<u64>,
    /// Connections of this age are not used for another request, ms; none: no limit.
    pub connection_duration_max_ms: Option<u64>,
    /// Requests after which a connection is not kept; 0: no limit.
    pub requests_per_connection_max: u64,
    /// What is spoken to its endpoints.
    pub protocol: UpstreamProtocol,
    /// Settings of HTTP/2 connections; none: the usual ones.
    pub http2: Option<Box<Http2Settings>>,
    /// Probes of idle connections by the kernel.
    pub tcp_keepalive: Option<Box<TcpKeepalive>>,
    /// The header that tells the endpoint of the client, at the start of every connection.
    pub proxy_protocol: Option<ProxyProtocolVersion>,
    /// TLS on every connection; none: clear text.
    pub tls: Option<Box<ClusterTls>>,
    /// How endpoints are picked.
    pub load_balancer: LoadBalancerPolicy,
    /// How requests with a key are picked for, before `load_balancer`.
    pub consistent_hash: Option<Box<ConsistentHash>>,
    /// What [`Endpoint::group`] means.
    pub grouping: Grouping,
    /// Share of the load that endpoints get which are new.
    pub warmup: Option<Box<Warmup>>,
    /// Limits that count over all workers; none: there are none.
    pub limits: Option<Box<ClusterLimits>>,
    /// When endpoints are taken out for a while; none: never.
    pub outlier_detection: Option<Box<OutlierDetection>>,
    /// Its endpoints; unhealthy ones are known but never picked.
    pub endpoints: Vec<Endpoint>,
    /// The names that endpoints come from. No request reads it.
    pub resolved: Option<Box<ResolvedNames>>,
    /// Labels of requests that got no endpoint.
    pub metric_slot: MetricSlot,
}

/// What is spoken to the endpoints of a cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum UpstreamProtocol {
    /// HTTP/1.1.
    #[default]
    Http1,
    /// HTTP/2, with prior knowledge (the port's protocol, `h2UpgradePolicy: UPGRADE`).
    Http2,
    /// What the client speaks (`useClientProtocol`).
    AsClient,
}

/// Settings of the HTTP/2 connections of a cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Http2Settings {
    /// Requests at a time on a connection (`http.maxConcurrentStreams`); none: what the endpoint allows.
    pub streams_max: Option<u32>,
    /// PINGs (`http.http2KeepAlive`).
    pub keepalive: Option<Http2KeepAlive>,
}

/// TLS to a cluster.
#[derive(Clone, Debug)]
pub struct ClusterTls {
    /// The side that is spoken.
    pub side: Arc<ClientTls>,
    /// Does the host of the request say which server is asked for (no `sni`)? Then a connection is good
    /// for one host only.
    pub needs_host: bool,
}

/// Names of a cluster whose addresses are found while it serves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ResolvedNames {
    /// The names, in lower case.
    pub names: Vec<String>,
    /// Only the first address of each is used (`DNS_ROUND_ROBIN`).
    pub first_only: bool,
}

/// How an endpoint is picked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum LoadBalancerPolicy {
    /// Power of two choices on active requests (Istio's default).
    #[default]
    LeastRequest,
    /// Each in turn.
    RoundRobin,
    /// Any.
    Random,
}

/// One address of a cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    /// Where to connect.
    pub address: SocketAddr,
    /// Relative weight, at least 1.
    pub weight: u32,
    /// Ready to serve.
    pub healthy: bool,
    /// Which group of the cluster it belongs to (see [`Grouping`]).
    pub group: u16,
    /// Labels of requests that went to it.
    pub metric_slot: MetricSlot,
}

/// How the endpoints of a cluster are divided by locality (Istio's `localityLbSetting`).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Grouping {
    /// Not at all.
    #[default]
    One,
    /// Groups are priorities, 0 first: the next one gets what the healthy part of those before it
    /// cannot take (`failover`, `failoverPriority`; Envoy's priority levels).
    Priorities,
    /// Groups have these shares of the load; endpoints of further groups get nothing (`distribute`;
    /// Envoy's locality weights).
    Shares(Box<[u32]>),
}

/// Slow start of new endpoints (Istio's `warmup`, Envoy's `slow_start_config`).
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Warmup {
    /// How long an endpoint is new, ms.
    pub duration_ms: u64,
    /// Least share of its weight, 0 to 1.
    pub minimum: f64,
    /// 1: the share grows evenly; above: faster at first.
    pub aggression: f64,
}

/// Limits of a cluster (Istio's `connectionPool`, Envoy's circuit breakers).
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct ClusterLimits {
    /// Connections (`tcp.maxConnections`).
    pub connections_max: Option<u32>,
    /// Requests that wait for a connection (`http.http1MaxPendingRequests`).
    pub pending_max: Option<u32>,
    /// Requests under way (`http.http2MaxRequests`).
    pub requests_max: Option<u32>,
    /// Retries under way.
    pub retries: Option<RetryLimit>,
}

/// How many retries may be under way.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum RetryLimit {
    /// This many (`http.maxRetries`).
    Most(u32),
    /// A share of the requests under way, but this many in any case (`retryBudget`).
    Budget {
        /// The share in percent.
        percent: f64,
        /// Retries that are always allowed.
        least: u32,
    },
}

/// When endpoints are taken out for a while (Istio's `outlierDetection`).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OutlierDetection {
    /// Errors in a row; 0: not counted.
    pub consecutive_5xx: u32,
    /// 502, 503, 504 in a row; 0: not counted.
    pub consecutive_gateway: u32,
    /// Attempts that bring no response are counted apart; otherwise each counts as a 503 or 504.
    pub splits_local: bool,
    /// Attempts in a row that brought no response; 0: not counted.
    pub consecutive_local: u32,
    /// Statuses that are errors instead of 5xx; empty: 5xx.
    pub error_statuses: Box<[u16]>,
    /// Time between two looks at which endpoints may come back, ms.
    pub interval_ms: u64,
    /// Time of the first ejection, ms; the n-th in a row takes n times as long.
    pub base_ejection_ms: u64,
    /// Part of the endpoints that may be out, percent.
    pub ejected_percent_max: u32,
    /// When a smaller part than this is in, all endpoints are used, percent; 0: never.
    pub panic_percent: u32,
}

/// Version of the PROXY protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProxyProtocolVersion {
    /// One line of text.
    V1,
    /// Binary.
    V2,
}
