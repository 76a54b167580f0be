//! Rules of DestinationRule (behaviour 11.4).

use std::collections::HashSet;
use std::time::Duration;

use super::Findings;
use super::names::{is_dns_label, is_port, is_wildcard_domain};
use super::virtual_service::export_to;
use crate::config::destination_rule::{
    ClientTlsMode, ClientTlsSettings, ConnectionPoolSettings, DestinationRule,
    LoadBalancerSettings, OutlierDetection, TrafficPolicy,
};

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
    if let Some(size) = hash.maglev.as_ref().and_then(|maglev| maglev.table_size) {
        let prime = size > 1 && (2..).take_while(|n| n * n <= size).all(|n| size % n != 0);
        if size >= 5_000_011 || !prime {
            let message = format!("{size} is not a prime below 5000011");
            findings.error(&format!("{field}.maglev.tableSize"), &message, "65537 is usual");
        }
    }
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
        let allowed = Duration::from_millis(1)..=Duration::from_secs(3600);
        if timeout.is_some_and(|timeout| !allowed.contains(&timeout)) {
            let field = format!("{field}.tcp.connectTimeout");
            findings.error(&field, "not between 1ms and 1h", "");
        }
    }
    if let Some(http) = &pool.http {
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
