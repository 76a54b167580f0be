//! The blocks of a `trafficPolicy` that hold for a port → settings of its cluster (behaviour 4.2, 4.5 to
//! 4.7).

use std::time::Duration;

use crate::config::destination_rule as config;
use crate::config::destination_rule::{
    ClientTlsSettings, ConnectionPoolSettings, H2UpgradePolicy, LoadBalancerSettings,
    OutlierDetection, ProxyProtocol, RetryBudget, SimpleLb, TrafficPolicy,
};
use crate::http2::client::Http2KeepAlive;
use crate::limits::{
    CONNECT_TIMEOUT, PROXIED_IDLE_TIMEOUT, TCP_IDLE_TIMEOUT, UPSTREAM_IDLE_TIMEOUT,
};
use crate::net::TcpKeepalive;
use crate::snapshot::{
    self, Cluster, ClusterLimits, Http2Settings, LoadBalancerPolicy, ProxyProtocolVersion,
    RetryLimit, UpstreamProtocol,
};

/// The blocks that hold for one port of a subset.
#[derive(Clone, Copy, Debug, Default)]
pub struct UpstreamPolicy<'p> {
    /// Balancing.
    pub load_balancer: Option<&'p LoadBalancerSettings>,
    /// Ejection.
    pub outlier_detection: Option<&'p OutlierDetection>,
    /// TLS to the service.
    pub tls: Option<&'p ClientTlsSettings>,
    connection_pool: Option<&'p ConnectionPoolSettings>,
    proxy_protocol: Option<&'p ProxyProtocol>,
    retry_budget: Option<&'p RetryBudget>,
}

/// The blocks that policies and their port entries share.
#[derive(Clone, Copy)]
struct Blocks<'p> {
    load_balancer: Option<&'p LoadBalancerSettings>,
    connection_pool: Option<&'p ConnectionPoolSettings>,
    outlier_detection: Option<&'p OutlierDetection>,
    tls: Option<&'p ClientTlsSettings>,
}

impl<'p> UpstreamPolicy<'p> {
    /// Those of `port`: a port-level entry replaces the blocks at once (one that it does not set is the
    /// default, not the top level's); the subset's policy comes first where it sets the block (behaviour
    /// 4.2.1, 4.2.2). The PROXY protocol and the retry budget have no port entries.
    pub fn new(
        rule: Option<&'p TrafficPolicy>,
        subset: Option<&'p TrafficPolicy>,
        port: u32,
    ) -> UpstreamPolicy<'p> {
        let policies = [subset, rule];
        UpstreamPolicy {
            load_balancer: effective(policies, port, |blocks| blocks.load_balancer),
            connection_pool: effective(policies, port, |blocks| blocks.connection_pool),
            outlier_detection: effective(policies, port, |blocks| blocks.outlier_detection),
            tls: effective(policies, port, |blocks| blocks.tls),
            proxy_protocol: policies
                .iter()
                .flatten()
                .find_map(|policy| policy.proxy_protocol.as_ref()),
            retry_budget: policies.iter().flatten().find_map(|policy| policy.retry_budget.as_ref()),
        }
    }

    /// Put them into `cluster`; what needs its endpoints is left to others.
    pub fn apply(&self, cluster: &mut Cluster) {
        let (tcp, http) = (self.tcp(), self.http());
        cluster.connect_timeout =
            tcp.and_then(|tcp| tcp.connect_timeout).map_or(CONNECT_TIMEOUT, Duration::from);
        cluster.proxy_protocol = self.proxy_protocol.map(|protocol| match protocol.version {
            Some(config::ProxyProtocolVersion::V2) => ProxyProtocolVersion::V2,
            _ => ProxyProtocolVersion::V1,
        });
        let idle_timeout = http
            .and_then(|http| http.idle_timeout)
            .or(tcp.and_then(|tcp| tcp.idle_timeout))
            .map_or(UPSTREAM_IDLE_TIMEOUT, Duration::from);
        cluster.idle_timeout_ms = Some(milliseconds(idle_timeout)).filter(|ms| *ms > 0);
        let tcp_idle_timeout =
            tcp.and_then(|tcp| tcp.idle_timeout).map_or(TCP_IDLE_TIMEOUT, Duration::from);
        cluster.tcp_idle_timeout_ms = Some(milliseconds(tcp_idle_timeout)).filter(|ms| *ms > 0);
        if cluster.proxy_protocol.is_some() {
            // A connection serves one client only: it is of no use for long.
            let most = milliseconds(PROXIED_IDLE_TIMEOUT);
            cluster.idle_timeout_ms = Some(cluster.idle_timeout_ms.map_or(most, |ms| ms.min(most)));
        }
        cluster.connection_duration_max_ms = tcp
            .and_then(|tcp| tcp.max_connection_duration)
            .map(|duration| milliseconds(duration.into()))
            .filter(|ms| *ms > 0);
        cluster.requests_per_connection_max =
            http.and_then(|http| positive(http.max_requests_per_connection)).map_or(0, u64::from);
        if let Some(http) = http {
            if http.use_client_protocol == Some(true) {
                cluster.protocol = UpstreamProtocol::AsClient;
            } else if http.h2_upgrade_policy == Some(H2UpgradePolicy::Upgrade) {
                cluster.protocol = UpstreamProtocol::Http2;
            }
            let http2 = Http2Settings {
                streams_max: positive(http.max_concurrent_streams),
                keepalive: http.http2_keep_alive.as_ref().and_then(|keepalive| {
                    Some(Http2KeepAlive {
                        interval: keepalive.interval?.into(),
                        timeout: keepalive.timeout?.into(),
                    })
                }),
            };
            cluster.http2 = (http2 != Http2Settings::default()).then(|| Box::new(http2));
        }
        cluster.tcp_keepalive = tcp.and_then(|tcp| tcp.tcp_keepalive.as_ref()).map(|keepalive| {
            let duration = |value: Option<crate::config::scalar::Duration>| {
                value.map(Duration::from).filter(|value| !value.is_zero())
            };
            Box::new(TcpKeepalive {
                probes: keepalive.probes.filter(|probes| *probes > 0),
                time: duration(keepalive.time),
                interval: duration(keepalive.interval),
            })
        });
        cluster.load_balancer =
            self.load_balancer.map_or(LoadBalancerPolicy::LeastRequest, algorithm);
        cluster.warmup = self.load_balancer.and_then(warmup).map(Box::new);
        cluster.limits = self.limits().map(Box::new);
        cluster.outlier_detection = self.outlier_detection.map(outlier_detection).map(Box::new);
    }

    fn tcp(&self) -> Option<&'p config::TcpSettings> {
        self.connection_pool.and_then(|pool| pool.tcp.as_ref())
    }

    fn http(&self) -> Option<&'p config::HttpSettings> {
        self.connection_pool.and_then(|pool| pool.http.as_ref())
    }

    fn limits(&self) -> Option<ClusterLimits> {
        let (tcp, http) = (self.tcp(), self.http());
        let budget = self.retry_budget.map(|budget| RetryLimit::Budget {
            percent: budget.percent.unwrap_or(20.0),
            least: budget.min_retry_concurrency.unwrap_or(3),
        });
        let most = http.and_then(|http| positive(http.max_retries)).map(RetryLimit::Most);
        let limits = ClusterLimits {
            connections_max: tcp.and_then(|tcp| positive(tcp.max_connections)),
            pending_max: http.and_then(|http| positive(http.http1_max_pending_requests)),
            requests_max: http.and_then(|http| positive(http.http2_max_requests)),
            retries: budget.or(most),
        };
        (limits != ClusterLimits::default()).then_some(limits)
    }
}

/// A block of the first of `policies` that has it.
fn effective<'p, T>(
    policies: [Option<&'p TrafficPolicy>; 2],
    port: u32,
    block: impl Fn(Blocks<'p>) -> Option<&'p T>,
) -> Option<&'p T> {
    for policy in policies.into_iter().flatten() {
        let at_port = policy
            .port_level_settings
            .iter()
            .find(|settings| settings.port.as_ref().is_some_and(|of| of.number == port));
        if let Some(settings) = at_port {
            return block(Blocks {
                load_balancer: settings.load_balancer.as_ref(),
                connection_pool: settings.connection_pool.as_ref(),
                outlier_detection: settings.outlier_detection.as_ref(),
                tls: settings.tls.as_ref(),
            });
        }
        let found = block(Blocks {
            load_balancer: policy.load_balancer.as_ref(),
            connection_pool: policy.connection_pool.as_ref(),
            outlier_detection: policy.outlier_detection.as_ref(),
            tls: policy.tls.as_ref(),
        });
        if found.is_some() {
            return found;
        }
    }
    None
}

/// A limit; 0 is none (behaviour 4.5.1).
fn positive(limit: Option<i32>) -> Option<u32> {
    limit.and_then(|limit| u32::try_from(limit).ok()).filter(|limit| *limit > 0)
}

fn milliseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

fn algorithm(settings: &LoadBalancerSettings) -> LoadBalancerPolicy {
    match settings.simple {
        Some(SimpleLb::RoundRobin) => LoadBalancerPolicy::RoundRobin,
        Some(SimpleLb::Random) => LoadBalancerPolicy::Random,
        _ => LoadBalancerPolicy::LeastRequest,
    }
}

/// Slow start, which only these two algorithms know (behaviour 4.3).
fn warmup(settings: &LoadBalancerSettings) -> Option<snapshot::Warmup> {
    if settings.consistent_hash.is_some() || algorithm(settings) == LoadBalancerPolicy::Random {
        return None;
    }
    let deprecated = settings.warmup_duration_secs;
    let warmup = settings.warmup.as_ref();
    let duration = warmup.and_then(|warmup| warmup.duration).or(deprecated)?;
    Some(snapshot::Warmup {
        duration_ms: milliseconds(duration.into()),
        minimum: warmup.and_then(|warmup| warmup.minimum_percent).unwrap_or(10.0) / 100.0,
        aggression: warmup.and_then(|warmup| warmup.aggression).unwrap_or(1.0),
    })
}

fn outlier_detection(settings: &OutlierDetection) -> snapshot::OutlierDetection {
    let duration = |value: Option<crate::config::scalar::Duration>, default| {
        value.map_or(default, |value| milliseconds(value.into()))
    };
    let percent = |value: Option<i32>| value.and_then(|value| u32::try_from(value).ok());
    let deprecated = settings.consecutive_errors.and_then(|limit| u32::try_from(limit).ok());
    snapshot::OutlierDetection {
        consecutive_5xx: settings.consecutive_5xx_errors.unwrap_or(5),
        consecutive_gateway: settings.consecutive_gateway_errors.or(deprecated).unwrap_or(0),
        splits_local: settings.split_external_local_origin_errors == Some(true),
        consecutive_local: settings.consecutive_local_origin_failures.unwrap_or(5),
        error_statuses: settings
            .outlier_detection_http_error_codes
            .iter()
            .filter_map(|code| u16::try_from(*code).ok())
            .collect(),
        interval_ms: duration(settings.interval, 10_000),
        base_ejection_ms: duration(settings.base_ejection_time, 30_000),
        ejected_percent_max: percent(settings.max_ejection_percent)
            .filter(|percent| *percent > 0)
            .unwrap_or(10),
        panic_percent: percent(settings.min_health_percent).unwrap_or(0),
    }
}
