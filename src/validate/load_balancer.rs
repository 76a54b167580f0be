//! Rules of `loadBalancer` of a DestinationRule (behaviour 11.4).

use std::collections::BTreeSet;

use super::Findings;
use super::metadata::duration;
use crate::config::destination_rule::{
    ConsistentHashLb, DestinationRule, LoadBalancerSettings, LocalityFailover, LocalityLbSetting,
    SimpleLb, Warmup,
};

const MAGLEV_SIZE_MAX: u64 = 5_000_011;
/// Labels that say where an endpoint is; `failover` orders by them already.
const TOPOLOGY_LABELS: [&str; 3] =
    ["topology.kubernetes.io/region", "topology.kubernetes.io/zone", "topology.istio.io/subzone"];

type Of<'o> = Findings<'o, DestinationRule>;

/// `ejects`: the policy has `outlierDetection`.
pub(super) fn validate(
    findings: &mut Of<'_>,
    balancer: &LoadBalancerSettings,
    ejects: bool,
    field: &str,
) {
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
    if let Some(slow_start) = &balancer.warmup {
        warmup(findings, slow_start, &format!("{field}.warmup"));
    }
    if balancer.warmup_duration_secs.is_some() {
        let field = format!("{field}.warmupDurationSecs");
        duration(findings, balancer.warmup_duration_secs, &field);
        findings.warn("IST0002", &field, "deprecated", "use `warmup: {duration: …}`");
    }
    if balancer.locality_lb_setting.is_some() && balancer.zone_aware_lb_setting.is_some() {
        let message = "`localityLbSetting` and `zoneAwareLbSetting` exclude each other";
        findings.error(field, message, "keep one of them");
    }
    if let Some(setting) = &balancer.locality_lb_setting {
        locality(findings, setting, &format!("{field}.localityLbSetting"));
        let field = format!("{field}.localityLbSetting");
        needs_ejection(findings, &setting.failover, &setting.failover_priority, ejects, &field);
    }
    if let Some(zones) = &balancer.zone_aware_lb_setting {
        let field = format!("{field}.zoneAwareLbSetting");
        failover(findings, &zones.failover, &field);
        for (index, label) in zones.failover_priority.iter().enumerate() {
            if TOPOLOGY_LABELS.contains(&label.as_str()) {
                let message = format!("`{label}`: regions and zones are taken care of already");
                findings.error(
                    &format!("{field}.failoverPriority[{index}]"),
                    &message,
                    "remove it",
                );
            }
        }
        needs_ejection(findings, &zones.failover, &zones.failover_priority, ejects, &field);
    }
    if let Some(hash) = &balancer.consistent_hash {
        consistent_hash(findings, hash, &format!("{field}.consistentHash"));
    }
}

fn warmup(findings: &mut Of<'_>, warmup: &Warmup, field: &str) {
    if warmup.duration.is_none() {
        findings.error(field, "`duration` is missing", "add `duration: 60s`");
    }
    if warmup.aggression.is_some_and(|aggression| aggression <= 0.0) {
        findings.error(&format!("{field}.aggression"), "not above 0", "1 grows evenly");
    }
    if warmup.minimum_percent.is_some_and(|share| !(0.0..=100.0).contains(&share)) {
        let field = format!("{field}.minimumPercent");
        findings.error(&field, "not a percentage (0 to 100)", "10 is usual");
    }
    duration(findings, warmup.duration, &format!("{field}.duration"));
}

fn consistent_hash(findings: &mut Of<'_>, hash: &ConsistentHashLb, field: &str) {
    let keys = [
        hash.http_header_name.is_some(),
        hash.http_cookie.is_some(),
        hash.use_source_ip.is_some(),
        hash.http_query_parameter_name.is_some(),
    ];
    match keys.iter().filter(|given| **given).count() {
        0 => {
            let message = "nothing to hash: requests are balanced as without it";
            let help =
                "add `httpHeaderName`, `httpCookie`, `useSourceIp` or `httpQueryParameterName`";
            findings.warn("IST0133", field, message, help);
        }
        1 => {}
        _ => findings.error(field, "more than one kind of key", "keep one of them"),
    }
    if let Some(cookie) = &hash.http_cookie {
        let field = format!("{field}.httpCookie");
        if cookie.name.is_empty() {
            findings.error(&field, "the cookie needs a name", "add `name`");
        }
        let mut names = BTreeSet::new();
        for (index, attribute) in cookie.attributes.iter().enumerate() {
            if attribute.name.is_empty() || !names.insert(&attribute.name) {
                let field = format!("{field}.attributes[{index}]");
                findings.error(&field, "attributes need different names", "remove or rename it");
            }
        }
    }
    let algorithms = [hash.ring_hash.is_some(), hash.maglev.is_some()];
    let deprecated = hash.minimum_ring_size.unwrap_or(0) > 0;
    if algorithms.iter().all(|given| *given) || (deprecated && algorithms.contains(&true)) {
        let message = "`ringHash`, `maglev` and `minimumRingSize` exclude each other";
        findings.error(field, message, "keep one of them");
    }
    if deprecated {
        let help = "use `ringHash: {minimumRingSize: …}`";
        findings.warn("IST0002", &format!("{field}.minimumRingSize"), "deprecated", help);
    }
    let Some(maglev) = &hash.maglev else { return };
    let field = format!("{field}.maglev");
    if let Some(size) = maglev.table_size {
        // The bound first: primes of 64 bits would be looked for all day.
        let prime =
            || size > 1 && (2..).take_while(|n| n * n <= size).all(|n| !size.is_multiple_of(n));
        if size >= MAGLEV_SIZE_MAX || !prime() {
            let message = format!("{size} is not a prime below {MAGLEV_SIZE_MAX}");
            findings.error(&format!("{field}.tableSize"), &message, "65537 is usual");
        }
    } else {
        // The reference of the API has this default, the webhook does not know it.
        let message = "without `tableSize` Istio's webhook refuses it; 65537 is used";
        findings.warn("IST0133", &field, message, "add `tableSize: 65537`");
    }
}

/// Rules of locality (behaviour 4.4).
fn locality(findings: &mut Of<'_>, setting: &LocalityLbSetting, field: &str) {
    if !setting.distribute.is_empty() && !setting.failover.is_empty() {
        let help = "keep one of them";
        findings.error(field, "`distribute` and `failover` exclude each other", help);
    }
    let sources: Vec<&str> = setting.distribute.iter().map(|one| one.from.as_str()).collect();
    for (index, distribute) in setting.distribute.iter().enumerate() {
        let field = format!("{field}.distribute[{index}]");
        let sum: u64 = distribute.to.values().map(|share| u64::from(*share)).sum();
        if distribute.to.values().any(|share| !(1..=100).contains(share)) || sum != 100 {
            let message = format!("the shares are not 1 to 100 each and 100 together, but {sum}");
            findings.error(&format!("{field}.to"), &message, "let them sum up to 100");
        }
        locality_form(findings, &sources, index, &format!("{field}.from"));
        let targets: Vec<&str> = distribute.to.keys().map(String::as_str).collect();
        for at in 0..targets.len() {
            locality_form(findings, &targets, at, &format!("{field}.to[{}]", targets[at]));
        }
    }
    failover(findings, &setting.failover, field);
    for (index, label) in setting.failover_priority.iter().enumerate() {
        if !setting.failover.is_empty() && TOPOLOGY_LABELS.contains(&label.as_str()) {
            let message = format!("`failover` does not go with the topology label `{label}`");
            let field = format!("{field}.failoverPriority[{index}]");
            findings.error(&field, &message, "remove the label, or `failover`");
        }
    }
}

/// A locality of a list: its form, and that none before it covers it or is covered by it.
fn locality_form(findings: &mut Of<'_>, all: &[&str], index: usize, field: &str) {
    let text = all[index];
    let stars = text.matches('*').count();
    if stars > 1 || (stars == 1 && !text.ends_with('*')) || text.split('/').any(str::is_empty) {
        let message = format!("`{text}` is not region/zone/subzone, perhaps with `*` at its end");
        findings.error(field, &message, "such as us-east1/zone-a or us-east1/*");
        return;
    }
    let parts = |text: &str| -> Vec<String> {
        text.splitn(3, '/').take_while(|part| *part != "*").map(str::to_owned).collect()
    };
    let own = parts(text);
    let overlaps = |other: &&str| {
        let other = parts(other);
        let shared = own.len().min(other.len());
        own[..shared] == other[..shared]
    };
    if let Some(other) = all[..index].iter().find(|other| overlaps(other)) {
        let message = format!("`{text}` overlaps `{other}`");
        findings.error(field, &message, "let each locality be covered once");
    }
}

fn failover(findings: &mut Of<'_>, failover: &[LocalityFailover], field: &str) {
    for (index, region) in failover.iter().enumerate() {
        let field = format!("{field}.failover[{index}]");
        if region.from == region.to {
            let help = "let `to` be another region";
            findings.error(&field, "a region cannot take over from itself", help);
        }
        for (name, region) in [("from", &region.from), ("to", &region.to)] {
            if region.contains(['/', '*']) {
                let help = "write the region alone";
                findings.error(&format!("{field}.{name}"), "regions only, no `/` or `*`", help);
            }
        }
    }
}

/// Without ejection no endpoint ever counts as failed (behaviour 4.4.2).
fn needs_ejection(
    findings: &mut Of<'_>,
    failover: &[LocalityFailover],
    priority: &[String],
    ejects: bool,
    field: &str,
) {
    let fails_over = !failover.is_empty() || !priority.is_empty();
    if fails_over && !ejects {
        let message = "nothing fails over without `outlierDetection`: no endpoint is ever ejected";
        findings.warn("IST0133", field, message, "add `outlierDetection` to the same policy");
    }
}
