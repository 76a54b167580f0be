//! Rules of `metadata` and of lists that all kinds have (behaviour 11.1).

use std::collections::BTreeMap;
use std::time::Duration;

use super::Findings;
use super::names::{is_dns_label, is_label_key, is_label_value, is_subdomain};
use crate::config::{Kind, Spec};

/// Annotations that only Istio itself sets; its webhook refuses them.
const INTERNAL_ANNOTATIONS: [&str; 3] = [
    "internal.istio.io/parents",
    "internal.istio.io/parent-namespace",
    "internal.istio.io/webhook-always-reject",
];
const DRY_RUN: &str = "istio.io/dry-run";

pub(super) fn validate<S: Spec>(findings: &mut Findings<'_, S>) {
    let meta = &findings.object.meta;
    // The names of Gateways become parts of other names.
    let (valid, form) = match S::KIND {
        Kind::Gateway => (is_dns_label(&meta.name), "letters, digits and dashes, no dots"),
        _ => (is_subdomain(&meta.name), "letters, digits, dashes and dots"),
    };
    if !valid {
        let message = format!("`{}` is not a name for a {}", meta.name, S::KIND.as_str());
        findings.error("metadata.name", &message, form);
    }
    if !is_dns_label(&meta.namespace) {
        let message = format!("`{}` is not a namespace", meta.namespace);
        findings.error("metadata.namespace", &message, "letters, digits and dashes");
    }
    for name in meta.annotations.keys() {
        let field = format!("metadata.annotations[{name}]");
        if INTERNAL_ANNOTATIONS.contains(&name.as_str()) {
            let message = format!("`{name}` may only be set by Istio itself");
            findings.error(&field, &message, "remove the annotation");
        }
        if name == DRY_RUN {
            let message = format!("a {} cannot be tried out", S::KIND.as_str());
            findings.error(&field, &message, "remove the annotation: it is for policies only");
        }
    }
}

/// Rules of `exportTo` lists.
pub(super) fn export_to<S: Spec>(findings: &mut Findings<'_, S>, scopes: &[String]) {
    let own = findings.object.meta.namespace.clone();
    let none = S::KIND == Kind::ServiceEntry;
    for (index, scope) in scopes.iter().enumerate() {
        let field = format!("spec.exportTo[{index}]");
        if scope == "~" && !none {
            let message = "only a ServiceEntry can be exported to nobody (`~`)";
            findings.error(&field, message, "write `.` to keep it in its namespace");
        } else if !matches!(scope.as_str(), "*" | "." | "~") && !is_dns_label(scope) {
            let message = format!("`{scope}` is not a namespace, `.` or `*`");
            findings.error(&field, &message, "write the name of a namespace");
        }
        let same = |other: &String| {
            other == scope || (scope == "." && *other == own) || (*other == "." && *scope == own)
        };
        if scopes[..index].iter().any(same) {
            findings.error(&field, &format!("`{scope}` is given twice"), "remove it");
        }
        if matches!(scope.as_str(), "*" | "~") && scopes.len() > 1 {
            findings.error(&field, &format!("`{scope}` stands alone"), "remove the others");
        }
    }
}

/// Rules of a map of labels.
pub(super) fn labels<S: Spec>(
    findings: &mut Findings<'_, S>,
    labels: &BTreeMap<String, String>,
    field: &str,
) {
    for (key, value) in labels {
        let field = format!("{field}[{key}]");
        if !is_label_key(key) {
            let help = "letters, digits, `-`, `_` and `.`, perhaps after a domain and `/`";
            findings.error(&field, &format!("`{key}` is not the name of a label"), help);
        }
        if !is_label_value(value) {
            let message = format!("`{value}` is not the value of a label");
            findings.error(&field, &message, "letters, digits, `-`, `_` and `.`");
        }
    }
}

/// Rules of a selector of workloads: labels without wildcards.
pub(super) fn selector<S: Spec>(
    findings: &mut Findings<'_, S>,
    labels: &BTreeMap<String, String>,
    field: &str,
) {
    for (key, value) in labels {
        if key.is_empty() || key.contains('*') || value.contains('*') {
            let field = if key.is_empty() { field.to_owned() } else { format!("{field}[{key}]") };
            let message = format!("`{key}: {value}` selects nothing: no empty names, no wildcards");
            findings.error(&field, &message, "write labels as the workloads have them");
        }
    }
}

/// Rules of durations.
pub(super) fn duration<S: Spec>(
    findings: &mut Findings<'_, S>,
    value: Option<impl Into<Duration>>,
    field: &str,
) {
    let Some(value) = value.map(Into::into) else { return };
    if value < Duration::from_millis(1) {
        findings.error(field, "a duration of less than 1ms", "leave it out for no limit");
    } else if value.subsec_nanos() % 1_000_000 != 0 {
        findings.error(field, "durations are whole milliseconds", "round it, such as 1ms or 0.5s");
    }
}
