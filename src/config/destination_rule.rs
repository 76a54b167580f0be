//! `DestinationRule` (networking.istio.io).

use std::collections::BTreeMap;

use serde::Deserialize;

use super::scalar::Duration;
use super::virtual_service::PortSelector;

/// Spec of a DestinationRule.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct DestinationRule {
    /// Host of the service.
    pub host: String,
    /// Policy of all subsets.
    pub traffic_policy: Option<TrafficPolicy>,
    /// Named parts of the service.
    pub subsets: Vec<Subset>,
    /// Namespaces that see it.
    pub export_to: Vec<String>,
    /// Gateways that it applies to.
    pub workload_selector: Option<WorkloadSelector>,
}

/// The gateways that a rule holds for.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct WorkloadSelector {
    /// Labels that the gateway has.
    pub match_labels: BTreeMap<String, String>,
}

/// A named part of a service.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct Subset {
    /// Its name.
    pub name: String,
    /// Labels that its endpoints have.
    pub labels: BTreeMap<String, String>,
    /// Its own policy.
    pub traffic_policy: Option<TrafficPolicy>,
}

/// How a service is called.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct TrafficPolicy {
    /// Balancing.
    pub load_balancer: Option<LoadBalancerSettings>,
    /// Limits and timeouts.
    pub connection_pool: Option<ConnectionPoolSettings>,
    /// Ejection of bad endpoints.
    pub outlier_detection: Option<OutlierDetection>,
    /// TLS to the service.
    pub tls: Option<ClientTlsSettings>,
    /// Policies of single ports.
    pub port_level_settings: Vec<PortTrafficPolicy>,
    /// Tunnelling.
    pub tunnel: Option<TunnelSettings>,
    /// PROXY protocol to the service.
    pub proxy_protocol: Option<ProxyProtocol>,
    /// Limit of retries.
    pub retry_budget: Option<RetryBudget>,
}

/// Policy of one port.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct PortTrafficPolicy {
    /// The port.
    pub port: Option<PortSelector>,
    /// Balancing.
    pub load_balancer: Option<LoadBalancerSettings>,
    /// Limits and timeouts.
    pub connection_pool: Option<ConnectionPoolSettings>,
    /// Ejection of bad endpoints.
    pub outlier_detection: Option<OutlierDetection>,
    /// TLS to the service.
    pub tls: Option<ClientTlsSettings>,
}

/// `loadBalancer`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct LoadBalancerSettings {
    /// An algorithm.
    pub simple: Option<SimpleLb>,
    /// By a hash of the request.
    pub consistent_hash: Option<ConsistentHashLb>,
    /// By the load that endpoints report.
    pub backend_utilization: Option<BackendUtilization>,
    /// By locality.
    pub locality_lb_setting: Option<LocalityLbSetting>,
    /// By zone.
    pub zone_aware_lb_setting: Option<ZoneAwareLbSetting>,
    /// Deprecated.
    pub warmup_duration_secs: Option<Duration>,
    /// Slow start.
    pub warmup: Option<Warmup>,
}

/// `loadBalancer.simple`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
#[allow(missing_docs, reason = "Istio's names; their meaning is Istio's")]
pub enum SimpleLb {
    Unspecified,
    LeastConn,
    Random,
    Passthrough,
    RoundRobin,
    LeastRequest,
}

/// `loadBalancer.consistentHash`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct ConsistentHashLb {
    /// Field to hash.
    pub http_header_name: Option<String>,
    /// Cookie to hash.
    pub http_cookie: Option<HttpCookie>,
    /// Hash the client's address.
    pub use_source_ip: Option<bool>,
    /// Parameter to hash.
    pub http_query_parameter_name: Option<String>,
    /// Ring.
    pub ring_hash: Option<RingHash>,
    /// Maglev.
    pub maglev: Option<Maglev>,
    /// Deprecated.
    pub minimum_ring_size: Option<u64>,
}

/// A cookie to hash.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct HttpCookie {
    /// Name.
    pub name: String,
    /// Path.
    pub path: Option<String>,
    /// Lifetime; with it the cookie is generated.
    pub ttl: Option<Duration>,
    /// Further attributes.
    pub attributes: Vec<CookieAttribute>,
}

/// An attribute of a cookie.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct CookieAttribute {
    /// Name.
    pub name: String,
    /// Value.
    pub value: Option<String>,
}

/// `ringHash`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct RingHash {
    /// Entries at least.
    pub minimum_ring_size: Option<u64>,
}

/// `maglev`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct Maglev {
    /// Entries, a prime.
    pub table_size: Option<u64>,
}

/// `localityLbSetting`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct LocalityLbSetting {
    /// Shares by locality.
    pub distribute: Vec<LocalityDistribute>,
    /// Where to go when a region fails.
    pub failover: Vec<LocalityFailover>,
    /// Labels by closeness.
    pub failover_priority: Vec<String>,
    /// On or off.
    pub enabled: Option<bool>,
}

/// Shares of one locality.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct LocalityDistribute {
    /// Of the caller.
    pub from: String,
    /// Shares.
    pub to: BTreeMap<String, u32>,
}

/// Failover of one region.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct LocalityFailover {
    /// Region that fails.
    pub from: String,
    /// Region that takes over.
    pub to: String,
}

/// `loadBalancer.backendUtilization`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct BackendUtilization {
    /// How long reports are gathered before they count.
    pub weight_stabilization_period: Option<Duration>,
    /// How long a report counts.
    pub weight_expiration_period: Option<Duration>,
    /// How often weights change.
    pub weight_update_period: Option<Duration>,
    /// How much errors take from a weight, in percent.
    pub error_utilization_penalty_percent: Option<u32>,
    /// Reported figures that count.
    pub metric_names_for_computing_utilization: Vec<String>,
}

/// `zoneAwareLbSetting`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct ZoneAwareLbSetting {
    /// On or off.
    pub enabled: Option<bool>,
    /// Where load goes when a region fails.
    pub failover: Vec<LocalityFailover>,
    /// Labels that say what is near.
    pub failover_priority: Vec<String>,
    /// Endpoints at least.
    pub min_cluster_size: Option<u32>,
}

/// `warmup`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct Warmup {
    /// How long.
    pub duration: Option<Duration>,
    /// Share at the start.
    pub minimum_percent: Option<f64>,
    /// Form of the curve.
    pub aggression: Option<f64>,
}

/// `connectionPool`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct ConnectionPoolSettings {
    /// Of TCP.
    pub tcp: Option<TcpSettings>,
    /// Of HTTP.
    pub http: Option<HttpSettings>,
}

/// `connectionPool.tcp`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct TcpSettings {
    /// Connections at most.
    pub max_connections: Option<i32>,
    /// Time to connect.
    pub connect_timeout: Option<Duration>,
    /// Keep-alive probes.
    pub tcp_keepalive: Option<TcpKeepalive>,
    /// Life of a connection.
    pub max_connection_duration: Option<Duration>,
    /// Idle time.
    pub idle_timeout: Option<Duration>,
}

/// `connectionPool.tcp.tcpKeepalive`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct TcpKeepalive {
    /// Probes.
    pub probes: Option<u32>,
    /// Idle time before the first.
    pub time: Option<Duration>,
    /// Time between them.
    pub interval: Option<Duration>,
}

/// `connectionPool.http`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct HttpSettings {
    /// Requests that may wait for a connection.
    pub http1_max_pending_requests: Option<i32>,
    /// Requests at most.
    pub http2_max_requests: Option<i32>,
    /// Requests of one connection.
    pub max_requests_per_connection: Option<i32>,
    /// Retries at the same time.
    pub max_retries: Option<i32>,
    /// Idle time.
    pub idle_timeout: Option<Duration>,
    /// Whether HTTP/2 is spoken.
    pub h2_upgrade_policy: Option<H2UpgradePolicy>,
    /// Speak what the client speaks.
    pub use_client_protocol: Option<bool>,
    /// Streams of one connection.
    pub max_concurrent_streams: Option<i32>,
    /// HTTP/2 PINGs.
    pub http2_keep_alive: Option<Http2KeepAlive>,
}

/// `connectionPool.http.http2KeepAlive`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct Http2KeepAlive {
    /// Time between PINGs.
    pub interval: Option<Duration>,
    /// Time for the answer.
    pub timeout: Option<Duration>,
}

/// `connectionPool.http.h2UpgradePolicy`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
#[allow(missing_docs, reason = "Istio's names; their meaning is Istio's")]
pub enum H2UpgradePolicy {
    Default,
    DoNotUpgrade,
    Upgrade,
}

/// `outlierDetection`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct OutlierDetection {
    /// Deprecated.
    pub consecutive_errors: Option<i32>,
    /// Tell local errors apart.
    pub split_external_local_origin_errors: Option<bool>,
    /// Local errors in a row.
    pub consecutive_local_origin_failures: Option<u32>,
    /// 502, 503, 504 in a row.
    pub consecutive_gateway_errors: Option<u32>,
    /// 5xx in a row.
    #[serde(rename = "consecutive5xxErrors")]
    pub consecutive_5xx_errors: Option<u32>,
    /// Time between sweeps.
    pub interval: Option<Duration>,
    /// Time of the first ejection.
    pub base_ejection_time: Option<Duration>,
    /// Share of endpoints ejected at most.
    pub max_ejection_percent: Option<i32>,
    /// Panic threshold.
    pub min_health_percent: Option<i32>,
    /// Status codes that count.
    pub outlier_detection_http_error_codes: Vec<u32>,
}

/// `tls`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct ClientTlsSettings {
    /// How.
    pub mode: Option<ClientTlsMode>,
    /// File.
    pub client_certificate: Option<String>,
    /// File.
    pub private_key: Option<String>,
    /// File.
    pub ca_certificates: Option<String>,
    /// Secret.
    pub credential_name: Option<String>,
    /// Names that the server must have one of.
    pub subject_alt_names: Vec<String>,
    /// Server name.
    pub sni: Option<String>,
    /// Do not verify.
    pub insecure_skip_verify: Option<bool>,
    /// File.
    pub ca_crl: Option<String>,
}

/// `tls.mode`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
#[allow(missing_docs, reason = "Istio's names; their meaning is Istio's")]
pub enum ClientTlsMode {
    Disable,
    Simple,
    Mutual,
    IstioMutual,
}

/// `tunnel`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct TunnelSettings {
    /// CONNECT or POST.
    pub protocol: Option<String>,
    /// Host behind the tunnel.
    pub target_host: String,
    /// Port behind the tunnel.
    pub target_port: u32,
}

/// `proxyProtocol`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct ProxyProtocol {
    /// V1 or V2.
    pub version: Option<ProxyProtocolVersion>,
}

/// `proxyProtocol.version`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[allow(missing_docs, reason = "Istio's names; their meaning is Istio's")]
pub enum ProxyProtocolVersion {
    V1,
    V2,
}

/// `retryBudget`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct RetryBudget {
    /// Share of active requests.
    pub percent: Option<f64>,
    /// Retries always allowed.
    pub min_retry_concurrency: Option<u32>,
    /// Window.
    pub budget_interval: Option<Duration>,
}
