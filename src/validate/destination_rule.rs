//! Rules of DestinationRule (behaviour 11.4).

use std::collections::HashSet;
use std::net::IpAddr;
use std::time::Duration;

use super::Findings;
use super::names::{is_dns_label, is_domain, is_port, is_wildcard_domain};
use super::virtual_service::export_to;
use crate::config::destination_rule::{
    ClientTlsMode, ClientTlsSettings, ConnectionPoolSettings, DestinationRule, H2UpgradePolicy,
    LoadBalancerSettings, LocalityFailover, LocalityLbSetting, OutlierDetection, SimpleLb,
    TrafficPolicy,
};
use crate::config::scalar;

type Of<'o> = Findings<'o, DestinationRule>;

pub(super) fn validate(findings: &mut Of<'_>) {
    let spec = &findings.object.spec;
    if !is_wildcard_domain(&spec.host) {
        let message = format!("`{}` is not the host of a service", spec.host);
        findings.error("spec.host", &message, "");
    }
    export_to(findings, &spec.export_to);
    if let Some(policy) = &spec.traffic_policy {
        traffic_policy(findings, policy, "spec.trafficPolicy");
    }
    let mut names = HashSet::new();
    for (index, subset) in spec.subsets.iter().enumerate() {
        let field = format!("spec.subsets[{index}]");
        if !is_dns_label(&subset.name) {
            let message = format!("`{}` is not a name for a subset", subset.name);
            findings.error(&format!("{field}.name"), &message, "letters, digits and dashes");
        }
        if !names.insert(&subset.name) {
            let message = format!("a second subset named `{}`", subset.name);
            findings.error(&format!("{field}.name"), &message, "");
        }
        if let Some(policy) = &subset.traffic_policy {
            traffic_policy(findings, policy, &format!("{field}.trafficPolicy"));
        }
    }
    let own = &findings.object.meta.namespace;
    if let Some(selector) = &spec.workload_selector {
        let labels = &selector.match_labels;
        if labels
            .iter()
            .any(|(key, value)| key.is_empty() || key.contains('*') || value.contains('*'))
        {
            let field = "spec.workloadSelector.matchLabels";
            findings.error(field, "empty keys and wildcards select nothing", "");
        }
        if spec.export_to.iter().any(|scope| scope != "." && scope != own) {
            let message = "a rule with `workloadSelector` holds in its own namespace only";
            findings.error("spec.exportTo", message, "write `exportTo: [\".\"]` or leave it out");
        }
    }
}

fn traffic_policy(findings: &mut Of<'_>, policy: &TrafficPolicy, field: &str) {
    let empty = policy.load_balancer.is_none()
        && policy.connection_pool.is_none()
        && policy.outlier_detection.is_none()
        && policy.tls.is_none()
        && policy.port_level_settings.is_empty()
        && policy.tunnel.is_none()
        && policy.proxy_protocol.is_none()
        && policy.retry_budget.is_none();
    if empty {
        findings.error(field, "an empty policy", "remove it, or say something");
    }
    if let Some(tunnel) = &policy.tunnel {
        let field = format!("{field}.tunnel");
        if !matches!(tunnel.protocol.as_deref().unwrap_or(""), "" | "CONNECT" | "POST") {
            findings.error(&format!("{field}.protocol"), "neither CONNECT nor POST", "");
        }
        if !is_domain(&tunnel.target_host) && tunnel.target_host.parse::<IpAddr>().is_err() {
            findings.error(&format!("{field}.targetHost"), "not a host", "");
        }
        if !is_port(tunnel.target_port) {
            findings.error(&format!("{field}.targetPort"), "not a port (1 to 65535)", "");
        }
    }
    if policy.tunnel.is_some() && policy.proxy_protocol.is_some() {
        findings.error(field, "`tunnel` and `proxyProtocol` exclude each other", "");
    }
    blocks(
        findings,
        policy.load_balancer.as_ref(),
        policy.connection_pool.as_ref(),
        policy.outlier_detection.as_ref(),
        policy.tls.as_ref(),
        field,
    );
    for (index, settings) in policy.port_level_settings.iter().enumerate() {
        let field = format!("{field}.portLevelSettings[{index}]");
        if !settings.port.as_ref().is_some_and(|port| is_port(port.number)) {
            findings.error(&field, "a port entry needs `port: {number}`", "");
        }
        let empty = settings.load_balancer.is_none()
            && settings.connection_pool.is_none()
            && settings.outlier_detection.is_none()
            && settings.tls.is_none();
        if empty {
            findings.error(&field, "a port entry that says nothing", "remove it");
        }
        blocks(
            findings,
            settings.load_balancer.as_ref(),
            settings.connection_pool.as_ref(),
            settings.outlier_detection.as_ref(),
            settings.tls.as_ref(),
            &field,
        );
    }
}

fn blocks(
    findings: &mut Of<'_>,
    balancer: Option<&LoadBalancerSettings>,
    pool: Option<&ConnectionPoolSettings>,
    outlier: Option<&OutlierDetection>,
    tls: Option<&ClientTlsSettings>,
    field: &str,
) {
    if let Some(balancer) = balancer {
        load_balancer(findings, balancer, &format!("{field}.loadBalancer"));
    }
    if let Some(pool) = pool {
        connection_pool(findings, pool, &format!("{field}.connectionPool"));
    }
    if let Some(outlier) = outlier {
        for (name, value) in [
            ("maxEjectionPercent", outlier.max_ejection_percent),
            ("minHealthPercent", outlier.min_health_percent),
        ] {
            if value.is_some_and(|value| !(0..=100).contains(&value)) {
                let field = format!("{field}.outlierDetection.{name}");
                findings.error(&field, "not a percentage (0 to 100)", "");
            }
        }
        duration(findings, outlier.interval, &format!("{field}.outlierDetection.interval"));
        let ejection = format!("{field}.outlierDetection.baseEjectionTime");
        duration(findings, outlier.base_ejection_time, &ejection);
        if outlier.consecutive_errors.is_some() {
            let field = format!("{field}.outlierDetection.consecutiveErrors");
            findings.warn("IST0002", &field, "deprecated", "use `consecutive5xxErrors`");
        }
    }
    if let Some(tls) = tls {
        client_tls(findings, tls, &format!("{field}.tls"));
    }
}

fn load_balancer(findings: &mut Of<'_>, balancer: &LoadBalancerSettings, field: &str) {
    let policies = [
        balancer.simple.is_some(),
        balancer.consistent_hash.is_some(),
        balancer.backend_utilization.is_some(),
    ];
    if policies.iter().filter(|given| **given).count() > 1 {
        let message = "`simple`, `consistentHash` and `backendUtilization` exclude each other";
        findings.error(field, message, "keep one of them");
    }
    if balancer.simple == Some(SimpleLb::Passthrough) {
        let message = "PASSTHROUGH sends to the address that the client called: here the gateway's own. \
                       LEAST_REQUEST is used; in Istio such requests fail";
        findings.warn("RNG0205", &format!("{field}.simple"), message, "name an algorithm");
    }
    if let Some(warmup) = &balancer.warmup {
        let field = format!("{field}.warmup");
        if warmup.duration.is_none() {
            findings.error(&field, "`duration` is missing", "");
        }
        if warmup.aggression.is_some_and(|aggression| aggression <= 0.0) {
            findings.error(&format!("{field}.aggression"), "not above 0", "");
        }
        if warmup.minimum_percent.is_some_and(|share| !(0.0..=100.0).contains(&share)) {
            findings.error(&format!("{field}.minimumPercent"), "not a percentage (0 to 100)", "");
        }
        duration(findings, warmup.duration, &format!("{field}.duration"));
    }
    duration(findings, balancer.warmup_duration_secs, &format!("{field}.warmupDurationSecs"));
    if balancer.locality_lb_setting.is_some() && balancer.zone_aware_lb_setting.is_some() {
        let message = "`localityLbSetting` and `zoneAwareLbSetting` exclude each other";
        findings.error(field, message, "");
    }
    if let Some(locality) = &balancer.locality_lb_setting {
        locality_setting(findings, locality, &format!("{field}.localityLbSetting"));
    }
    if let Some(zones) = &balancer.zone_aware_lb_setting {
        let field = format!("{field}.zoneAwareLbSetting");
        failover(findings, &zones.failover, &zones.failover_priority, &field);
    }
    let Some(hash) = &balancer.consistent_hash else { return };
    let field = format!("{field}.consistentHash");
    let keys = [
        hash.http_header_name.is_some(),
        hash.http_cookie.is_some(),
        hash.use_source_ip == Some(true),
        hash.http_query_parameter_name.is_some(),
    ];
    if keys.iter().filter(|given| **given).count() != 1 {
        findings.error(&field, "exactly one kind of key is needed", "");
    }
    if hash.http_cookie.as_ref().is_some_and(|cookie| cookie.name.is_empty()) {
        findings.error(&format!("{field}.httpCookie"), "the cookie needs a name", "");
    }
    for (index, attribute) in hash.http_cookie.iter().flat_map(|c| &c.attributes).enumerate() {
        let before = hash.http_cookie.iter().flat_map(|cookie| &cookie.attributes).take(index);
        let again = before.into_iter().any(|other| other.name == attribute.name);
        if attribute.name.is_empty() || again {
            let field = format!("{field}.httpCookie.attributes[{index}]");
            findings.error(&field, "attributes need different names", "");
        }
    }
    let algorithms = [hash.ring_hash.is_some(), hash.maglev.is_some()];
    if algorithms.iter().all(|given| *given)
        || (hash.minimum_ring_size.unwrap_or(0) > 0 && algorithms.contains(&true))
    {
        let message = "`ringHash`, `maglev` and `minimumRingSize` exclude each other";
        findings.error(&field, message, "keep one of them");
    }
    if let Some(size) = hash.maglev.as_ref().and_then(|maglev| maglev.table_size) {
        // The bound first: primes of 64 bits would be looked for all day.
        let prime =
            || size > 1 && (2..).take_while(|n| n * n <= size).all(|n| !size.is_multiple_of(n));
        if size >= 5_000_011 || !prime() {
            let message = format!("{size} is not a prime below 5000011");
            findings.error(&format!("{field}.maglev.tableSize"), &message, "65537 is usual");
        }
    }
}

/// Rules of locality (behaviour 4.4).
fn locality_setting(findings: &mut Of<'_>, locality: &LocalityLbSetting, field: &str) {
    if !locality.distribute.is_empty() && !locality.failover.is_empty() {
        findings.error(field, "`distribute` and `failover` exclude each other", "");
    }
    for (index, distribute) in locality.distribute.iter().enumerate() {
        let field = format!("{field}.distribute[{index}]");
        let sum: u64 = distribute.to.values().map(|share| u64::from(*share)).sum();
        if distribute.to.values().any(|share| !(1..=100).contains(share)) || sum != 100 {
            let message = format!("the shares are not 1 to 100 each and 100 together, but {sum}");
            findings.error(&format!("{field}.to"), &message, "");
        }
        let mut before = locality.distribute.iter().take(index);
        if before.any(|other| other.from == distribute.from) {
            findings.error(&format!("{field}.from"), "this locality is given twice", "");
        }
    }
    failover(findings, &locality.failover, &locality.failover_priority, field);
}

fn failover(
    findings: &mut Of<'_>,
    failover: &[LocalityFailover],
    priority: &[String],
    field: &str,
) {
    for (index, region) in failover.iter().enumerate() {
        let field = format!("{field}.failover[{index}]");
        if region.from == region.to {
            findings.error(&field, "a region cannot take over from itself", "");
        }
        for (name, region) in [("from", &region.from), ("to", &region.to)] {
            if region.contains(['/', '*']) {
                findings.error(&format!("{field}.{name}"), "regions only, no `/` or `*`", "");
            }
        }
    }
    for (index, label) in priority.iter().enumerate() {
        if !failover.is_empty() && label.starts_with("topology.") {
            let message = format!("`failover` does not go with the topology label `{label}`");
            findings.error(&format!("{field}.failoverPriority[{index}]"), &message, "");
        }
    }
}

fn duration(findings: &mut Of<'_>, value: Option<scalar::Duration>, field: &str) {
    super::route_policy::duration(findings, value.map(Into::into), field);
}

fn connection_pool(findings: &mut Of<'_>, pool: &ConnectionPoolSettings, field: &str) {
    if pool.tcp.is_none() && pool.http.is_none() {
        findings.error(field, "neither `tcp` nor `http`", "");
    }
    if let Some(tcp) = &pool.tcp {
        if tcp.max_connections.is_some_and(|limit| limit < 0) {
            findings.error(&format!("{field}.tcp.maxConnections"), "cannot be negative", "");
        }
        let timeout: Option<Duration> = tcp.connect_timeout.map(Into::into);
        duration(
            findings,
            tcp.max_connection_duration,
            &format!("{field}.tcp.maxConnectionDuration"),
        );
        if let Some(keepalive) = &tcp.tcp_keepalive {
            let field = format!("{field}.tcp.tcpKeepalive");
            duration(findings, keepalive.time, &format!("{field}.time"));
            duration(findings, keepalive.interval, &format!("{field}.interval"));
        }
        let allowed = Duration::from_millis(1)..=Duration::from_secs(3600);
        if timeout.is_some_and(|timeout| !allowed.contains(&timeout)) {
            let field = format!("{field}.tcp.connectTimeout");
            findings.error(&field, "not between 1ms and 1h", "");
        }
    }
    if let Some(http) = &pool.http {
        if http.use_client_protocol == Some(true)
            && http.h2_upgrade_policy == Some(H2UpgradePolicy::Upgrade)
        {
            let field = format!("{field}.http.useClientProtocol");
            findings.error(&field, "does not go with h2UpgradePolicy UPGRADE", "");
        }
        if let Some(ping) = &http.http2_keep_alive {
            let field = format!("{field}.http.http2KeepAlive");
            if ping.interval.is_none() || ping.timeout.is_none() {
                findings.error(&field, "both `interval` and `timeout` are needed", "");
            }
            duration(findings, ping.interval, &format!("{field}.interval"));
            duration(findings, ping.timeout, &format!("{field}.timeout"));
        }
        for (name, value) in [
            ("http1MaxPendingRequests", http.http1_max_pending_requests),
            ("http2MaxRequests", http.http2_max_requests),
            ("maxRequestsPerConnection", http.max_requests_per_connection),
            ("maxRetries", http.max_retries),
            ("maxConcurrentStreams", http.max_concurrent_streams),
        ] {
            if value.is_some_and(|value| value < 0) {
                findings.error(&format!("{field}.http.{name}"), "cannot be negative", "");
            }
        }
    }
}

fn client_tls(findings: &mut Of<'_>, tls: &ClientTlsSettings, field: &str) {
    let files = tls.client_certificate.is_some() && tls.private_key.is_some();
    if tls.mode == Some(ClientTlsMode::Mutual) && !files && tls.credential_name.is_none() {
        findings.error(
            field,
            "MUTUAL needs a client certificate",
            "add `credentialName`, or `clientCertificate` and `privateKey`",
        );
    }
    if tls.credential_name.is_some()
        && (tls.client_certificate.is_some() || tls.private_key.is_some())
    {
        findings.error(field, "`credentialName` excludes certificate files", "");
    }
    if tls.insecure_skip_verify == Some(true)
        && (tls.ca_certificates.is_some() || !tls.subject_alt_names.is_empty())
    {
        findings.error(field, "insecureSkipVerify excludes what would be verified", "");
    }
}
