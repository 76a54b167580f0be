//! The rules of Telemetries (behaviour 9.3.5 and 11.6), and which of their fields a gateway does not
//! honour. Whether a Telemetry is for this gateway decides what is told of it.

use super::telemetry_parts::{
    self, LOG_PROVIDER, METRICS_PROVIDER, applicable, is_label_name, is_narrow, literal, narrow,
};
use super::{Findings, ValidateOptions};
use crate::access_log::Filter;
use crate::config::telemetry::{
    AccessLogging, CustomTag, Metrics, MetricsOverride, ProviderReference, TagOperation,
    TagOverride, TargetReference, Telemetry, Tracing,
};
use crate::config::{Diagnostic, Object, ResourceSet};

/// Code of what is not honoured.
const NOT_HONOURED: &str = "RNG0100";
/// Code of what Istio's validation accepts with a warning.
const WARNING: &str = "IST0133";
/// Objects that one Telemetry may name.
const TARGETS_MAX: usize = 16;
/// Bytes of a label's value.
const LABEL_BYTES_MAX: usize = 63;

type Found<'f, 'o> = &'f mut Findings<'o, Telemetry>;

pub(super) fn validate(
    resources: &ResourceSet,
    options: &ValidateOptions,
    diagnostics: &mut Vec<Diagnostic>,
) {
    let ours = applicable(resources, &options.labels, &options.namespace);
    for object in resources.telemetries() {
        let findings = &mut Findings::of(object, diagnostics);
        rules(findings);
        if ours.iter().any(|of_ours| std::ptr::eq(*of_ours, object)) {
            not_honoured(findings);
        }
    }
    let selecting: Vec<_> = narrow(resources, &options.labels, &options.namespace).collect();
    conflict(&selecting, "IST0159", "select this gateway", diagnostics);
    let mut namespaces: Vec<&str> =
        resources.telemetries().map(|object| object.meta.namespace.as_str()).collect();
    namespaces.sort_unstable();
    namespaces.dedup();
    for namespace in namespaces {
        let wide: Vec<_> = resources
            .telemetries()
            .filter(|object| object.meta.namespace == namespace && !is_narrow(&object.spec))
            .collect();
        conflict(&wide, "IST0160", "have no selector", diagnostics);
    }
}

/// Several objects where there should be one: the first is used.
fn conflict(
    objects: &[&Object<Telemetry>],
    code: &'static str,
    what: &str,
    diagnostics: &mut Vec<Diagnostic>,
) {
    let [first, _, ..] = objects else { return };
    let names: Vec<&str> = objects.iter().map(|object| object.meta.name.as_str()).collect();
    for object in objects {
        let message = format!(
            "the Telemetries {} in namespace {} {what}: {} is used",
            names.join(", "),
            first.meta.namespace,
            first.meta.name
        );
        Findings::of(object, diagnostics).warn(code, "spec", &message, "");
    }
}

fn rules(findings: Found<'_, '_>) {
    let spec = &findings.object.spec;
    let ways = [spec.selector.is_some(), spec.target_ref.is_some(), !spec.target_refs.is_empty()];
    if ways.into_iter().filter(|way| *way).count() > 1 {
        let message = "more than one of `selector`, `targetRef` and `targetRefs`";
        findings.error("spec", message, "keep one of them");
    }
    if let Some(selector) = &spec.selector {
        for (label, value) in &selector.match_labels {
            let field = format!("spec.selector.matchLabels[{label}]");
            if label.is_empty() {
                findings.error(&field, "a label without a name", "name it");
            }
            if label.contains('*') || value.contains('*') {
                findings.error(&field, "labels have no wildcards", "write the value");
            }
            if value.len() > LABEL_BYTES_MAX {
                findings.error(&field, "longer than 63 bytes", "labels are shorter");
            }
        }
    }
    if spec.target_refs.len() > TARGETS_MAX {
        findings.error("spec.targetRefs", "more than 16 targets", "use a selector");
    }
    if let Some(reference) = &spec.target_ref {
        target(findings, reference, "spec.targetRef");
    }
    for (index, reference) in spec.target_refs.iter().enumerate() {
        target(findings, reference, &format!("spec.targetRefs[{index}]"));
    }
    if spec.tracing.len() > 1 {
        let message = "several entries: Istio supports one, later ones are laid over it";
        findings.warn(WARNING, "spec.tracing", message, "merge them into one");
    }
    for (index, rule) in spec.tracing.iter().enumerate() {
        tracing(findings, rule, &format!("spec.tracing[{index}]"));
    }
    for (index, rule) in spec.metrics.iter().enumerate() {
        metrics(findings, rule, &format!("spec.metrics[{index}]"));
    }
    for (index, rule) in spec.access_logging.iter().enumerate() {
        access_logging(findings, rule, &format!("spec.accessLogging[{index}]"));
    }
}

fn target(findings: Found<'_, '_>, reference: &TargetReference, field: &str) {
    for (name, value) in [("kind", &reference.kind), ("name", &reference.name)] {
        if value.is_empty() {
            findings.error(field, &format!("a target without `{name}`"), "name the target");
        }
    }
    if reference.namespace.as_deref().is_some_and(|namespace| !namespace.is_empty()) {
        let message = "a target is in the namespace of its Telemetry";
        findings.error(&format!("{field}.namespace"), message, "remove it");
    }
}

fn providers(findings: Found<'_, '_>, providers: &[ProviderReference], field: &str) {
    for (index, provider) in providers.iter().enumerate() {
        if provider.name.is_empty() {
            let field = format!("{field}.providers[{index}]");
            findings.error(&field, "a provider without a name", "name it");
        }
    }
}

fn tracing(findings: Found<'_, '_>, rule: &Tracing, field: &str) {
    providers(findings, &rule.providers, field);
    if rule.providers.len() > 1 {
        let message = "several providers: the first one is used";
        findings.warn(WARNING, &format!("{field}.providers"), message, "keep one");
    }
    if rule.random_sampling_percentage.is_some_and(|share| !(0.0..=100.0).contains(&share)) {
        let field = format!("{field}.randomSamplingPercentage");
        findings.error(&field, "not from 0 to 100", "write per cent");
    }
    for (name, tag) in rule.custom_tags.iter().flatten() {
        custom_tag(findings, name, tag, &format!("{field}.customTags[{name}]"));
    }
}

fn custom_tag(findings: Found<'_, '_>, name: &str, tag: &CustomTag, field: &str) {
    if name.is_empty() {
        findings.error(field, "a tag without a name", "name it");
    }
    let ways = [
        tag.literal.is_some(),
        tag.environment.is_some(),
        tag.header.is_some(),
        tag.formatter.is_some(),
    ];
    if ways.into_iter().filter(|way| *way).count() != 1 {
        let message = "not one of `literal`, `environment`, `header` and `formatter`";
        findings.error(field, message, "set exactly one");
    }
    let values = [
        ("literal.value", tag.literal.as_ref().map(|tag| &tag.value)),
        ("environment.name", tag.environment.as_ref().map(|tag| &tag.name)),
        ("header.name", tag.header.as_ref().map(|tag| &tag.name)),
        ("formatter.value", tag.formatter.as_ref().map(|tag| &tag.value)),
    ];
    for (name, value) in values {
        if value.is_some_and(|value| value.trim().is_empty()) {
            findings.error(&format!("{field}.{name}"), "empty", "give it a value");
        }
    }
}

fn metrics(findings: Found<'_, '_>, rule: &Metrics, field: &str) {
    providers(findings, &rule.providers, field);
    if rule.reporting_interval.is_some_and(|interval| interval.0.as_millis() == 0) {
        let field = format!("{field}.reportingInterval");
        findings.error(&field, "less than 1ms", "use at least 1ms");
    }
    for (index, change) in rule.overrides.iter().enumerate() {
        let field = format!("{field}.overrides[{index}]");
        if let Some(of) = &change.match_ {
            if of.metric.is_some() && of.custom_metric.is_some() {
                let message = "`metric` and `customMetric` exclude each other";
                findings.error(&format!("{field}.match"), message, "keep one of them");
            }
            if of.custom_metric.as_deref() == Some("") {
                let field = format!("{field}.match.customMetric");
                findings.error(&field, "empty", "name the metric");
            }
        }
        for (name, tag) in &change.tag_overrides {
            tag_override(findings, name, tag, &format!("{field}.tagOverrides[{name}]"));
        }
    }
}

fn tag_override(findings: Found<'_, '_>, name: &str, tag: &TagOverride, field: &str) {
    if name.is_empty() {
        findings.warn(WARNING, field, "a label without a name has no effect", "name it");
    }
    let value = tag.value.as_deref().unwrap_or_default();
    match tag.operation {
        Some(TagOperation::Upsert) if value.is_empty() => {
            findings.error(field, "UPSERT without a value", "give it a value");
        }
        Some(TagOperation::Remove) if tag.value.is_some() => {
            findings.error(field, "REMOVE with a value", "remove the value");
        }
        _ => {}
    }
}

fn access_logging(findings: Found<'_, '_>, rule: &AccessLogging, field: &str) {
    providers(findings, &rule.providers, field);
    if let Some(filter) = &rule.filter
        && let Err(error) = Filter::parse(&filter.expression)
    {
        let field = format!("{field}.filter.expression");
        findings.error(&field, &error.to_string(), "mend the expression");
    }
}

fn not_honoured(findings: Found<'_, '_>) {
    let spec = &findings.object.spec;
    for (index, rule) in spec.tracing.iter().enumerate() {
        untraced(findings, rule, &format!("spec.tracing[{index}]"));
    }
    for (index, rule) in spec.metrics.iter().enumerate() {
        unmeasured(findings, rule, &format!("spec.metrics[{index}]"));
    }
    for (index, rule) in spec.access_logging.iter().enumerate() {
        let field = format!("spec.accessLogging[{index}]");
        other_providers(findings, &rule.providers, LOG_PROVIDER, &field);
    }
}

fn tell(findings: Found<'_, '_>, field: &str, effect: &str) {
    findings.warn(NOT_HONOURED, field, &format!("not honoured yet: {effect}"), "");
}

/// Providers of the mesh configuration, which is not read: only Istio's own are known here.
fn other_providers(
    findings: Found<'_, '_>,
    providers: &[ProviderReference],
    known: &str,
    field: &str,
) {
    for (index, provider) in providers.iter().enumerate() {
        if telemetry_parts::names(std::slice::from_ref(provider), known) == Some(false) {
            let effect = format!("only the provider `{known}` is served here");
            tell(findings, &format!("{field}.providers[{index}].name"), &effect);
        }
    }
}

fn untraced(findings: Found<'_, '_>, rule: &Tracing, field: &str) {
    let rows = [
        (
            "useRequestIdForTraceSampling",
            rule.use_request_id_for_trace_sampling.is_some(),
            "the decision is drawn for each request without one, and not kept in its id",
        ),
        (
            "enableIstioTags",
            rule.enable_istio_tags.is_some(),
            "spans have the attributes that docs/observability.md lists",
        ),
        (
            "disableContextPropagation",
            rule.disable_context_propagation == Some(true),
            "contexts of traces are passed on",
        ),
    ];
    for (name, set, effect) in rows {
        if set {
            tell(findings, &format!("{field}.{name}"), effect);
        }
    }
    for (name, tag) in rule.custom_tags.iter().flatten() {
        if tag.formatter.is_some() {
            let field = format!("{field}.customTags[{name}].formatter");
            tell(findings, &field, "the tag is left out");
        }
    }
}

fn unmeasured(findings: Found<'_, '_>, rule: &Metrics, field: &str) {
    other_providers(findings, &rule.providers, METRICS_PROVIDER, field);
    if rule.reporting_interval.is_some() {
        let field = format!("{field}.reportingInterval");
        tell(findings, &field, "metrics of TCP are as new as the scrape that asks for them");
    }
    for (index, change) in rule.overrides.iter().enumerate() {
        unchanged(findings, change, &format!("{field}.overrides[{index}]"));
    }
}

fn unchanged(findings: Found<'_, '_>, change: &MetricsOverride, field: &str) {
    if change.match_.as_ref().is_some_and(|of| of.custom_metric.is_some()) {
        let field = format!("{field}.match.customMetric");
        tell(findings, &field, "only Istio's standard metrics are changed");
    }
    for (name, tag) in &change.tag_overrides {
        let field = format!("{field}.tagOverrides[{name}]");
        if !name.is_empty() && !is_label_name(name) {
            tell(findings, &field, "no label of Prometheus can have this name; it is left out");
        }
        let value = tag.value.as_deref().unwrap_or_default();
        if tag.operation != Some(TagOperation::Remove) && literal(value).is_none() {
            let effect = "only literals are known as values, such as `'text'`; it is left out";
            tell(findings, &format!("{field}.value"), effect);
        }
    }
}
