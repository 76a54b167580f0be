//! What the judge and the compiler read alike out of Telemetries: which of them are for this gateway, and
//! what their values mean.

use std::collections::BTreeMap;

use crate::config::telemetry::{IstioMetric, ProviderReference, TargetReference, Telemetry};
use crate::config::{Object, ResourceSet};

/// Istio's root namespace: Telemetries without a selector in it are for the whole mesh.
pub const ROOT_NAMESPACE: &str = "istio-system";
/// The provider whose lines go where `--access-log` says; Istio has it built in.
pub const LOG_PROVIDER: &str = "envoy";
/// The provider whose metrics are served here; Istio has it built in.
pub const METRICS_PROVIDER: &str = "prometheus";
/// By this label a gateway knows the object of the Gateway API that it was made for.
const GATEWAY_NAME_LABEL: &str = "gateway.networking.k8s.io/gateway-name";
const GATEWAY_API_GROUP: &str = "gateway.networking.k8s.io";

/// The Telemetries that are for a gateway with these labels in this namespace, the widest first: each is
/// laid over those before it. As in Istio there is one of each kind: the oldest for the mesh, for the
/// namespace, and for the workload.
pub fn applicable<'r>(
    resources: &'r ResourceSet,
    labels: &BTreeMap<String, String>,
    namespace: &str,
) -> Vec<&'r Object<Telemetry>> {
    let wide = |of: &str| {
        let mut found = resources.telemetries();
        found.find(|object| object.meta.namespace == of && !is_narrow(&object.spec))
    };
    let mut found: Vec<_> = wide(ROOT_NAMESPACE).into_iter().collect();
    if namespace != ROOT_NAMESPACE {
        found.extend(wide(namespace));
    }
    found.extend(narrow(resources, labels, namespace).next());
    found
}

/// The Telemetries of a gateway's namespace that select it, the oldest first.
pub(super) fn narrow<'r>(
    resources: &'r ResourceSet,
    labels: &BTreeMap<String, String>,
    namespace: &str,
) -> impl Iterator<Item = &'r Object<Telemetry>> {
    resources.telemetries().filter(move |object| {
        object.meta.namespace == namespace
            && is_narrow(&object.spec)
            && selects(&object.spec, labels)
    })
}

/// Is it for some workloads only?
pub(super) fn is_narrow(spec: &Telemetry) -> bool {
    let selector = spec.selector.as_ref();
    selector.is_some_and(|selector| !selector.match_labels.is_empty())
        || spec.target_ref.is_some()
        || !spec.target_refs.is_empty()
}

fn selects(spec: &Telemetry, labels: &BTreeMap<String, String>) -> bool {
    let mut references = spec.target_ref.iter().chain(&spec.target_refs).peekable();
    if references.peek().is_some() {
        return references.any(|reference| is_target(reference, labels));
    }
    spec.selector.as_ref().is_some_and(|selector| {
        selector.match_labels.iter().all(|(label, value)| labels.get(label) == Some(value))
    })
}

fn is_target(reference: &TargetReference, labels: &BTreeMap<String, String>) -> bool {
    reference.group == GATEWAY_API_GROUP
        && reference.kind == "Gateway"
        && labels.get(GATEWAY_NAME_LABEL) == Some(&reference.name)
}

/// Is one of these the provider of this name? None of them: nothing is said.
pub fn names(providers: &[ProviderReference], provider: &str) -> Option<bool> {
    let mut names = providers.iter().map(|reference| reference.name.as_str());
    (!providers.is_empty()).then(|| names.any(|name| name.eq_ignore_ascii_case(provider)))
}

/// All families of Istio's metrics, as they are called where they are shown.
const FAMILIES: [(IstioMetric, &str); 10] = [
    (IstioMetric::RequestCount, "istio_requests_total"),
    (IstioMetric::RequestDuration, "istio_request_duration_milliseconds"),
    (IstioMetric::RequestSize, "istio_request_bytes"),
    (IstioMetric::ResponseSize, "istio_response_bytes"),
    (IstioMetric::TcpOpenedConnections, "istio_tcp_connections_opened_total"),
    (IstioMetric::TcpClosedConnections, "istio_tcp_connections_closed_total"),
    (IstioMetric::TcpSentBytes, "istio_tcp_sent_bytes_total"),
    (IstioMetric::TcpReceivedBytes, "istio_tcp_received_bytes_total"),
    (IstioMetric::GrpcRequestMessages, "istio_request_messages_total"),
    (IstioMetric::GrpcResponseMessages, "istio_response_messages_total"),
];

/// The families that a metric of the API means.
pub fn families(metric: IstioMetric) -> impl Iterator<Item = &'static str> {
    FAMILIES
        .into_iter()
        .filter(move |(of, _)| metric == IstioMetric::AllMetrics || metric == *of)
        .map(|(_, family)| family)
}

/// May a label of Prometheus have this name, and does nothing else need it?
pub fn is_label_name(name: &str) -> bool {
    let mut bytes = name.bytes();
    let starts = bytes.next().is_some_and(|byte| byte.is_ascii_alphabetic() || byte == b'_');
    let goes_on = bytes.all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
    // `le` names the buckets of histograms; names with two underscores in front are Prometheus' own.
    starts && goes_on && name != "le" && !name.starts_with("__")
}

/// The value of an expression that is a literal: a text in quotes, a number, `true` or `false`.
pub fn literal(expression: &str) -> Option<String> {
    let text = expression.trim();
    for quote in ['"', '\''] {
        let inner = text.strip_prefix(quote).and_then(|text| text.strip_suffix(quote));
        if let Some(inner) = inner {
            return (!inner.contains([quote, '\\'])).then(|| inner.to_owned());
        }
    }
    (matches!(text, "true" | "false") || text.parse::<i64>().is_ok()).then(|| text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn literals_are_read_and_nothing_else() {
        for (expression, value) in [
            ("\"a b\"", Some("a b")),
            (" 'x' ", Some("x")),
            ("''", Some("")),
            ("12", Some("12")),
            ("true", Some("true")),
            ("'a' + 'b'", None),
            ("'a\\n'", None),
            ("request.host", None),
            ("'", None),
            ("", None),
        ] {
            assert_eq!(literal(expression).as_deref(), value, "{expression}");
        }
    }

    #[test]
    fn labels_are_named_as_prometheus_wants() {
        for name in ["a", "_a", "request_host", "A1"] {
            assert!(is_label_name(name), "{name}");
        }
        for name in ["", "1a", "a-b", "a.b", "le", "__name__"] {
            assert!(!is_label_name(name), "{name}");
        }
    }

    #[test]
    fn every_metric_is_a_family_that_is_shown() {
        assert_eq!(families(IstioMetric::AllMetrics).count(), 10);
        assert_eq!(
            families(IstioMetric::RequestCount).collect::<Vec<_>>(),
            ["istio_requests_total"]
        );
        let shown = std::fs::read_to_string("src/metrics/names.rs").expect("the names");
        for family in families(IstioMetric::AllMetrics) {
            assert!(shown.contains(&format!("\"{family}\"")), "{family}");
        }
    }
}
