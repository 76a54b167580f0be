//! Fields of Istio that are read but not honoured yet. Each use of one is a warning with its place:
//! nothing is ignored in silence. The list shrinks as features come.

use super::{Findings, ValidateOptions};
use crate::config::Diagnostic;
use crate::config::ResourceSet;
use crate::config::destination_rule::{DestinationRule, LoadBalancerSettings, TrafficPolicy};
use crate::config::gateway::Gateway;
use crate::config::kube::Service;
use crate::config::service_entry::{Resolution, ServiceEntry, WorkloadEntry};
use crate::config::virtual_service::{HttpRoute, VirtualService};

/// Code of every finding of this file.
const CODE: &str = "RNG0100";

pub(super) fn validate(
    resources: &ResourceSet,
    options: &ValidateOptions,
    diagnostics: &mut Vec<Diagnostic>,
) {
    for object in resources.gateways() {
        let selected = object
            .spec
            .selector
            .iter()
            .all(|(label, value)| options.labels.get(label) == Some(value));
        if selected {
            gateway(&mut Findings::of(object, diagnostics));
        }
    }
    for object in resources.virtual_services() {
        // Rules for sidecars are not ours; one without hosts is a delegate, perhaps of ours.
        if object.spec.hosts.is_empty()
            || object.spec.gateways.iter().any(|gateway| gateway != "mesh")
        {
            virtual_service(&mut Findings::of(object, diagnostics));
        }
    }
    for object in resources.destination_rules() {
        destination_rule(&mut Findings::of(object, diagnostics));
    }
    for object in resources.service_entries() {
        service_entry(&mut Findings::of(object, diagnostics));
    }
    for object in resources.workload_entries() {
        workload(&mut Findings::of(object, diagnostics), &object.spec, "spec");
    }
    for object in resources.services() {
        service(&mut Findings::of(object, diagnostics));
    }
}

/// Warn about a field when it is set.
fn unless_absent<S: crate::config::Spec>(
    findings: &mut Findings<'_, S>,
    set: bool,
    field: String,
    effect: &str,
) {
    if set {
        let message = format!("not honoured yet: {effect}");
        findings.warn(CODE, &field, &message, "");
    }
}

fn gateway(findings: &mut Findings<'_, Gateway>) {
    for (index, server) in findings.object.spec.servers.iter().enumerate() {
        let field = format!("spec.servers[{index}]");
        // A server without a port is an error already.
        if server.port.is_none() {
            continue;
        }
        let curves = server.tls.as_ref().is_some_and(|tls| !tls.ecdh_curves.is_empty());
        let effect = "all groups for the key exchange that are known are offered";
        unless_absent(findings, curves, format!("{field}.tls.ecdhCurves"), effect);
        if !server.is_plain_http() && !server.is_tls() && !server.is_bytes() {
            let message =
                format!("protocol {} is not served: nothing listens for it", server.protocol());
            findings.warn(CODE, &format!("{field}.port.protocol"), &message, "");
            continue;
        }
        let unix = server.bind.as_deref().is_some_and(|bind| bind.starts_with("unix://"));
        unless_absent(findings, unix, format!("{field}.bind"), "nothing listens there");
    }
}

fn virtual_service(findings: &mut Findings<'_, VirtualService>) {
    let spec = &findings.object.spec;
    for (index, route) in spec.http.iter().enumerate() {
        http_route(findings, route, &format!("spec.http[{index}]"));
    }
}

fn http_route(findings: &mut Findings<'_, VirtualService>, route: &HttpRoute, field: &str) {
    for (index, condition) in route.match_.iter().enumerate() {
        let field = format!("{field}.match[{index}]");
        for (map, names) in
            [("headers", &condition.headers), ("withoutHeaders", &condition.without_headers)]
        {
            for name in names.keys().filter(|name| name.starts_with("@request.auth.claims")) {
                let field = format!("{field}.{map}[{name}]");
                unless_absent(findings, true, field, "no token is validated: it never matches");
            }
        }
    }
}

fn destination_rule(findings: &mut Findings<'_, DestinationRule>) {
    let spec = &findings.object.spec;
    if let Some(policy) = &spec.traffic_policy {
        traffic_policy(findings, policy, "spec.trafficPolicy");
    }
    for (index, subset) in spec.subsets.iter().enumerate() {
        if let Some(policy) = &subset.traffic_policy {
            traffic_policy(findings, policy, &format!("spec.subsets[{index}].trafficPolicy"));
        }
    }
}

fn traffic_policy(
    findings: &mut Findings<'_, DestinationRule>,
    policy: &TrafficPolicy,
    field: &str,
) {
    let tunnel = policy.tunnel.is_some();
    unless_absent(findings, tunnel, format!("{field}.tunnel"), "connections are direct");
    let interval = policy.retry_budget.as_ref().is_some_and(|of| of.budget_interval.is_some());
    let budget_field = format!("{field}.retryBudget.budgetInterval");
    unless_absent(findings, interval, budget_field, "the requests of the moment are counted");
    blocks(findings, policy.load_balancer.as_ref(), field);
    for (index, settings) in policy.port_level_settings.iter().enumerate() {
        let field = format!("{field}.portLevelSettings[{index}]");
        blocks(findings, settings.load_balancer.as_ref(), &field);
    }
}

fn blocks(
    findings: &mut Findings<'_, DestinationRule>,
    balancer: Option<&LoadBalancerSettings>,
    field: &str,
) {
    if let Some(balancer) = balancer {
        let field = format!("{field}.loadBalancer");
        let rows = [
            ("backendUtilization", balancer.backend_utilization.is_some(), "LEAST_REQUEST is used"),
            ("zoneAwareLbSetting", balancer.zone_aware_lb_setting.is_some(), "all zones are equal"),
        ];
        for (name, set, effect) in rows {
            unless_absent(findings, set, format!("{field}.{name}"), effect);
        }
    }
}

fn service_entry(findings: &mut Findings<'_, ServiceEntry>) {
    let spec = &findings.object.spec;
    if spec.resolution == Some(Resolution::DynamicDns) {
        let message = "DYNAMIC_DNS has no effect at an ingress gateway: requests get 503 (UH)";
        findings.warn(CODE, "spec.resolution", message, "");
    }
    for (index, endpoint) in spec.endpoints.iter().enumerate() {
        workload(findings, endpoint, &format!("spec.endpoints[{index}]"));
    }
}

/// An endpoint, written in a ServiceEntry or as an object of its own.
fn workload<S: crate::config::Spec>(
    findings: &mut Findings<'_, S>,
    entry: &WorkloadEntry,
    field: &str,
) {
    let unix = entry.address.starts_with("unix://");
    unless_absent(findings, unix, format!("{field}.address"), "it is never connected to");
}

fn service(findings: &mut Findings<'_, Service>) {
    let object = findings.object;
    let local = object.spec.spec.internal_traffic_policy.as_deref() == Some("Local");
    unless_absent(
        findings,
        local,
        "spec.internalTrafficPolicy".into(),
        "the endpoints of all nodes are used",
    );
    let label = "istio.io/persistent-session";
    unless_absent(
        findings,
        object.meta.labels.contains_key(label),
        format!("metadata.labels[{label}]"),
        "sessions are not kept, and endpoints that terminate get no more requests",
    );
}
