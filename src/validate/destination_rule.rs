//! Rules of DestinationRule (behaviour 11.4).

use std::collections::HashSet;
use std::time::Duration;

use super::metadata::duration;
use super::names::{is_address, is_dns_label, is_domain, is_port, is_wildcard_domain};
use super::{Findings, load_balancer, metadata};
use crate::config::destination_rule::{
    ClientTlsMode, ClientTlsSettings, ConnectionPoolSettings, DestinationRule, H2UpgradePolicy,
    LoadBalancerSettings, OutlierDetection, TrafficPolicy,
};

type Of<'o> = Findings<'o, DestinationRule>;

pub(super) fn validate(findings: &mut Of<'_>) {
    metadata::validate(findings);
    let spec = &findings.object.spec;
    if !is_wildcard_domain(&spec.host) {
        let message = format!("`{}` is not the host of a service", spec.host);
        findings.error("spec.host", &message, "write the name of a Service, or a host");
    }
    metadata::export_to(findings, &spec.export_to);
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
            findings.error(&format!("{field}.name"), &message, "rename or remove it");
        }
        metadata::labels(findings, &subset.labels, &format!("{field}.labels"));
        if let Some(policy) = &subset.traffic_policy {
            traffic_policy(findings, policy, &format!("{field}.trafficPolicy"));
        }
    }
    let own = &findings.object.meta.namespace;
    if let Some(selector) = &spec.workload_selector {
        let field = "spec.workloadSelector.matchLabels";
        metadata::selector(findings, &selector.match_labels, field);
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
            findings.error(
                &format!("{field}.protocol"),
                "neither CONNECT nor POST",
                "CONNECT is usual",
            );
        }
        if !is_domain(&tunnel.target_host) && !is_address(&tunnel.target_host) {
            findings.error(
                &format!("{field}.targetHost"),
                "not a host",
                "write a domain name or an IP address",
            );
        }
        if !is_port(tunnel.target_port) {
            let field = format!("{field}.targetPort");
            findings.error(&field, "not a port (1 to 65535)", "such as 443");
        }
    }
    if let Some(budget) = &policy.retry_budget {
        let field = format!("{field}.retryBudget");
        if budget.percent.is_some_and(|percent| !(0.0..=100.0).contains(&percent)) {
            let field = format!("{field}.percent");
            findings.error(&field, "not a percentage (0 to 100)", "20 is the default");
        }
        duration(findings, budget.budget_interval, &format!("{field}.budgetInterval"));
    }
    if policy.tunnel.is_some() && policy.proxy_protocol.is_some() {
        findings.error(field, "`tunnel` and `proxyProtocol` exclude each other", "keep one");
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
            findings.error(&field, "a port entry needs `port: {number}`", "add it");
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
        let field = format!("{field}.loadBalancer");
        load_balancer::validate(findings, balancer, outlier.is_some(), &field);
    }
    if let Some(pool) = pool {
        connection_pool(findings, pool, &format!("{field}.connectionPool"));
    }
    if let Some(outlier) = outlier {
        outlier_detection(findings, outlier, &format!("{field}.outlierDetection"));
    }
    if let Some(tls) = tls {
        client_tls(findings, tls, &format!("{field}.tls"));
    }
}

fn outlier_detection(findings: &mut Of<'_>, outlier: &OutlierDetection, field: &str) {
    for (name, value) in [
        ("maxEjectionPercent", outlier.max_ejection_percent),
        ("minHealthPercent", outlier.min_health_percent),
    ] {
        if value.is_some_and(|value| !(0..=100).contains(&value)) {
            let field = format!("{field}.{name}");
            findings.error(&field, "not a percentage (0 to 100)", "100 is all of them");
        }
    }
    duration(findings, outlier.interval, &format!("{field}.interval"));
    duration(findings, outlier.base_ejection_time, &format!("{field}.baseEjectionTime"));
    if outlier.consecutive_errors.is_some_and(|errors| errors != 0) {
        let field = format!("{field}.consecutiveErrors");
        findings.warn("IST0002", &field, "deprecated", "use `consecutive5xxErrors`");
    }
    let split = outlier.split_external_local_origin_errors == Some(true);
    if !split && outlier.consecutive_local_origin_failures.unwrap_or(0) > 0 {
        let field = format!("{field}.consecutiveLocalOriginFailures");
        let message = "local failures are not told apart";
        findings.error(&field, message, "add `splitExternalLocalOriginErrors: true`");
    }
    for (index, code) in outlier.outlier_detection_http_error_codes.iter().enumerate() {
        if !(100..=599).contains(code) {
            let field = format!("{field}.outlierDetectionHttpErrorCodes[{index}]");
            findings.error(&field, &format!("{code} is not a status (100 to 599)"), "such as 503");
        }
    }
}

fn connection_pool(findings: &mut Of<'_>, pool: &ConnectionPoolSettings, field: &str) {
    if pool.tcp.is_none() && pool.http.is_none() {
        findings.error(field, "neither `tcp` nor `http`", "add one of them, or remove it");
    }
    if let Some(tcp) = &pool.tcp {
        if tcp.max_connections.is_some_and(|limit| limit < 0) {
            let field = format!("{field}.tcp.maxConnections");
            findings.error(&field, "cannot be negative", "leave it out for no limit");
        }
        let timeout: Option<Duration> = tcp.connect_timeout.map(Into::into);
        // 0s turns the idle timeout off.
        let idle = tcp.idle_timeout.filter(|time| !time.0.is_zero());
        duration(findings, idle, &format!("{field}.tcp.idleTimeout"));
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
            findings.error(&field, "not between 1ms and 1h", "10s is the default");
        } else {
            duration(findings, timeout, &format!("{field}.tcp.connectTimeout"));
        }
    }
    if let Some(http) = &pool.http {
        duration(findings, http.idle_timeout, &format!("{field}.http.idleTimeout"));
        if http.use_client_protocol == Some(true)
            && http.h2_upgrade_policy == Some(H2UpgradePolicy::Upgrade)
        {
            let field = format!("{field}.http.useClientProtocol");
            findings.error(&field, "does not go with h2UpgradePolicy UPGRADE", "keep one");
        }
        if let Some(ping) = &http.http2_keep_alive {
            let field = format!("{field}.http.http2KeepAlive");
            if ping.interval.is_none() || ping.timeout.is_none() {
                findings.error(&field, "both `interval` and `timeout` are needed", "add the other");
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
                let field = format!("{field}.http.{name}");
                findings.error(&field, "cannot be negative", "leave it out for no limit");
            }
        }
    }
}

fn client_tls(findings: &mut Of<'_>, tls: &ClientTlsSettings, field: &str) {
    let given = |text: &Option<String>| text.as_deref().is_some_and(|text| !text.is_empty());
    let credential = tls.credential_name.as_deref().filter(|name| !name.is_empty());
    let simple = tls.mode == Some(ClientTlsMode::Simple);
    let mutual = tls.mode == Some(ClientTlsMode::Mutual);
    let files = [
        ("clientCertificate", given(&tls.client_certificate)),
        ("privateKey", given(&tls.private_key)),
        ("caCertificates", given(&tls.ca_certificates)),
        ("caCrl", given(&tls.ca_crl)),
    ];
    if let Some(rest) = credential.and_then(|name| name.strip_prefix("configmap://")) {
        let own = &findings.object.meta.namespace;
        let (namespace, name) = rest.split_once('/').unwrap_or((own, rest));
        if namespace != own || name.is_empty() {
            let message = format!("a ConfigMap is read from the rule's own namespace `{own}` only");
            let help = format!("write `configmap://{own}/name`");
            findings.error(&format!("{field}.credentialName"), &message, &help);
        }
    }
    if tls.insecure_skip_verify == Some(true) {
        let rest = [
            ("caCertificates", given(&tls.ca_certificates), simple || mutual),
            ("subjectAltNames", !tls.subject_alt_names.is_empty(), simple || mutual),
            ("credentialName", credential.is_some(), simple),
        ];
        for (name, _, _) in rest.iter().filter(|(_, set, counts)| *set && *counts) {
            let message = "`insecureSkipVerify` excludes what would be verified";
            let help = "remove it, or `insecureSkipVerify`";
            findings.error(&format!("{field}.{name}"), message, help);
        }
    }
    if credential.is_some() && (simple || mutual) {
        for (name, _) in files.iter().filter(|(_, set)| *set) {
            let message = "`credentialName` excludes certificate files";
            findings.error(&format!("{field}.{name}"), message, "keep one of them");
        }
        return;
    }
    for (name, set) in &files[..2] {
        if mutual && !set {
            let message = format!("mode MUTUAL needs `{name}`");
            let help = "add `credentialName`, or `clientCertificate` and `privateKey`";
            findings.error(field, &message, help);
        }
    }
}
