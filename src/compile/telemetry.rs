//! The Telemetries of this gateway → [`TelemetryPolicy`]: those of the mesh, of the namespace and of the
//! workload laid over each other, section by section as Istio merges them.

use std::collections::BTreeMap;

use crate::access_log::{AccessLogPolicy, Filter, LogSwitch};
use crate::config::telemetry::{
    AccessLogging, CustomTag as TagSpec, IstioMetric, MetricSelector, Metrics, MetricsOverride,
    TagOperation, Telemetry, Tracing, WorkloadMode,
};
use crate::config::{Object, ResourceSet};
use crate::metrics::{FamilyOverride, MetricOverrides, TagOverride};
use crate::snapshot::telemetry::PPM;
use crate::snapshot::{CustomTag, TagValue, TelemetryPolicy, TracingPolicy};
use crate::validate::telemetry_parts::{
    LOG_PROVIDER, METRICS_PROVIDER, applicable, families, is_label_name, literal, names,
};

/// What the Telemetries for a gateway with these labels in this namespace ask for; `unless_said` stands where
/// they say nothing of traces.
pub fn compile(
    resources: &ResourceSet,
    labels: &BTreeMap<String, String>,
    namespace: &str,
    unless_said: &TelemetryPolicy,
) -> TelemetryPolicy {
    let levels = applicable(resources, labels, namespace);
    TelemetryPolicy {
        tracing: tracing(&unless_said.tracing, levels.iter().flat_map(|level| &level.spec.tracing)),
        access_log: access_log(&levels),
        metrics: metrics(&levels),
    }
}

fn includes_gateways(mode: Option<WorkloadMode>) -> bool {
    mode.unwrap_or_default().includes_gateways()
}

/// Later rules stand over earlier ones, and all over what the options say, field by field.
fn tracing<'r>(
    unless_said: &TracingPolicy,
    rules: impl Iterator<Item = &'r Tracing>,
) -> TracingPolicy {
    let mut policy = unless_said.clone();
    for rule in rules.filter(|rule| includes_gateways(rule.match_.and_then(|of| of.mode))) {
        if let Some(percent) = rule.random_sampling_percentage {
            policy.sampling_ppm = (percent / 100.0 * f64::from(PPM)).round() as u32;
        }
        if let Some(disabled) = rule.disable_span_reporting {
            policy.spans_disabled = disabled;
        }
        if let Some(tags) = &rule.custom_tags {
            policy.custom_tags = tags
                .iter()
                .filter_map(|(name, tag)| {
                    Some(CustomTag { name: name.as_str().into(), value: tag_value(tag)? })
                })
                .collect();
        }
    }
    policy
}

fn tag_value(tag: &TagSpec) -> Option<TagValue> {
    if let Some(literal) = &tag.literal {
        return Some(TagValue::Text(literal.value.as_str().into()));
    }
    if let Some(variable) = &tag.environment {
        let value = std::env::var(&variable.name).ok().or_else(|| variable.default_value.clone());
        return value.map(|value| TagValue::Text(value.into()));
    }
    let header = tag.header.as_ref()?;
    Some(TagValue::Header {
        name: header.name.to_ascii_lowercase().into(),
        default: header.default_value.as_deref().unwrap_or_default().into(),
    })
}

/// The narrowest level that names providers says which are in use; what its rules and those around it
/// say of ours is laid over each other.
fn access_log(levels: &[&Object<Telemetry>]) -> AccessLogPolicy {
    let rules = |level: &Object<Telemetry>| -> Vec<AccessLogging> {
        let of_gateways =
            |rule: &&AccessLogging| includes_gateways(rule.match_.and_then(|of| of.mode));
        level.spec.access_logging.iter().filter(of_gateways).cloned().collect()
    };
    let levels: Vec<Vec<AccessLogging>> = levels.iter().map(|level| rules(level)).collect();
    let in_use = levels.iter().rev().find_map(|rules| {
        let named: Vec<bool> =
            rules.iter().filter_map(|rule| names(&rule.providers, LOG_PROVIDER)).collect();
        (!named.is_empty()).then(|| named.contains(&true))
    });
    if in_use == Some(false) {
        return AccessLogPolicy { switch: LogSwitch::Off, filter: None };
    }
    let mut policy = AccessLogPolicy::default();
    // A rule without providers is for those of the rule before it; the first one for the default ones.
    let mut is_ours = None;
    for rule in levels.iter().flatten() {
        is_ours = names(&rule.providers, LOG_PROVIDER).or(is_ours);
        if is_ours == Some(false) {
            continue;
        }
        if rule.disabled == Some(true) {
            policy = AccessLogPolicy { switch: LogSwitch::Off, filter: None };
            continue;
        }
        // Turned off before and not turned on by its name: the default is what it was.
        policy.switch = if is_ours.is_some() { LogSwitch::On } else { LogSwitch::Unset };
        // The judge has refused what is not well-formed.
        policy.filter =
            rule.filter.as_ref().and_then(|filter| Filter::parse(&filter.expression).ok());
    }
    policy
}

/// The changes of all levels, later ones over earlier ones.
fn metrics(levels: &[&Object<Telemetry>]) -> MetricOverrides {
    let rules: Vec<&Metrics> = levels.iter().flat_map(|level| &level.spec.metrics).collect();
    let named = |rule: &&Metrics| names(&rule.providers, METRICS_PROVIDER);
    let in_use = rules.iter().rev().find_map(named).unwrap_or(true);
    let mut overrides = MetricOverrides::default();
    if !in_use {
        // Other providers stand in the place of ours: nothing is shown, as nothing would be made.
        disable_all(&mut overrides);
        return overrides;
    }
    let (mut is_ours, mut none_at_all) = (true, false);
    for rule in rules {
        is_ours = names(&rule.providers, METRICS_PROVIDER).unwrap_or(is_ours);
        if !is_ours {
            continue;
        }
        for change in &rule.overrides {
            let of = change.match_.clone().unwrap_or_default();
            if !includes_gateways(of.mode) {
                continue;
            }
            // As in Istio ALL_METRICS, disabled, lasts until any later change, which brings all back.
            none_at_all =
                of.metric == Some(IstioMetric::AllMetrics) && change.disabled == Some(true);
            if !none_at_all {
                apply(change, &of, &mut overrides);
            }
        }
    }
    if none_at_all {
        disable_all(&mut overrides);
    }
    overrides
}

fn disable_all(overrides: &mut MetricOverrides) {
    for family in families(IstioMetric::AllMetrics) {
        overrides.0.entry(family.to_owned()).or_default().disabled = true;
    }
}

fn apply(change: &MetricsOverride, of: &MetricSelector, overrides: &mut MetricOverrides) {
    if of.custom_metric.is_some() {
        return;
    }
    for family in families(of.metric.unwrap_or(IstioMetric::AllMetrics)) {
        let FamilyOverride { disabled, tags } = overrides.0.entry(family.to_owned()).or_default();
        *disabled = change.disabled.unwrap_or(*disabled);
        for (name, tag) in change.tag_overrides.iter().filter(|(name, _)| is_label_name(name)) {
            let outcome = match tag.operation {
                Some(TagOperation::Remove) => Some(TagOverride::Remove),
                _ => tag.value.as_deref().and_then(literal).map(TagOverride::Set),
            };
            if let Some(outcome) = outcome {
                tags.insert(name.clone(), outcome);
            }
        }
    }
}

#[cfg(test)]
mod tests;
