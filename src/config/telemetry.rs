//! `Telemetry` (telemetry.istio.io).

use std::collections::BTreeMap;

use serde::Deserialize;

use super::scalar::Duration;

/// Spec of a Telemetry.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct Telemetry {
    /// The workloads that it is for; without any, all of its namespace.
    pub selector: Option<WorkloadSelector>,
    /// The one object that it is for.
    pub target_ref: Option<TargetReference>,
    /// The objects that it is for.
    pub target_refs: Vec<TargetReference>,
    /// Spans.
    pub tracing: Vec<Tracing>,
    /// Metrics.
    pub metrics: Vec<Metrics>,
    /// The access log.
    pub access_logging: Vec<AccessLogging>,
}

/// Labels of workloads.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct WorkloadSelector {
    /// All of them are needed.
    pub match_labels: BTreeMap<String, String>,
}

/// An object of the Gateway API, or a Service.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct TargetReference {
    /// Group of its API.
    pub group: String,
    /// Kind.
    pub kind: String,
    /// Name.
    pub name: String,
    /// Its namespace, which must be that of the Telemetry.
    pub namespace: Option<String>,
}

/// A provider of the mesh configuration (`extensionProviders`).
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct ProviderReference {
    /// Its name.
    pub name: String,
}

/// Which side of a connection a rule is for; a gateway is the client of its upstreams.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
#[allow(missing_docs, reason = "Istio's names; their meaning is Istio's")]
pub enum WorkloadMode {
    #[default]
    ClientAndServer,
    Client,
    Server,
}

impl WorkloadMode {
    /// Is a rule with this mode for a gateway?
    pub fn includes_gateways(self) -> bool {
        self != WorkloadMode::Server
    }
}

/// `match` of tracing and access logging.
#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct ModeSelector {
    /// Side.
    pub mode: Option<WorkloadMode>,
}

/// A rule about spans.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct Tracing {
    /// When it applies.
    #[serde(rename = "match")]
    pub match_: Option<ModeSelector>,
    /// Where spans go; only the first one is used.
    pub providers: Vec<ProviderReference>,
    /// Per cent of the requests without a decision of their caller.
    pub random_sampling_percentage: Option<f64>,
    /// Send no spans.
    pub disable_span_reporting: Option<bool>,
    /// Attributes of spans.
    pub custom_tags: Option<BTreeMap<String, CustomTag>>,
    /// Take the decision by the request id.
    pub use_request_id_for_trace_sampling: Option<bool>,
    /// Add Istio's own attributes.
    pub enable_istio_tags: Option<bool>,
    /// Pass no context of traces on.
    pub disable_context_propagation: Option<bool>,
}

/// An attribute of spans: one of its fields is set.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct CustomTag {
    /// A text.
    pub literal: Option<LiteralTag>,
    /// A variable of the environment.
    pub environment: Option<NamedTag>,
    /// A field of the request.
    pub header: Option<NamedTag>,
    /// Command operators of the access log.
    pub formatter: Option<LiteralTag>,
}

/// A text.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct LiteralTag {
    /// The text.
    pub value: String,
}

/// Something with a name, and what stands in for it.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct NamedTag {
    /// The name.
    pub name: String,
    /// The value when there is none.
    pub default_value: Option<String>,
}

/// A rule about metrics.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct Metrics {
    /// Which exposition it is for.
    pub providers: Vec<ProviderReference>,
    /// Changes, later ones over earlier ones.
    pub overrides: Vec<MetricsOverride>,
    /// How often metrics of TCP are brought up to date.
    pub reporting_interval: Option<Duration>,
}

/// A change of metrics.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct MetricsOverride {
    /// Which metrics; without it all.
    #[serde(rename = "match")]
    pub match_: Option<MetricSelector>,
    /// Do not make them.
    pub disabled: Option<bool>,
    /// Changes of their labels, by name.
    pub tag_overrides: BTreeMap<String, TagOverride>,
}

/// Which metrics.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct MetricSelector {
    /// One of Istio's.
    pub metric: Option<IstioMetric>,
    /// Another one.
    pub custom_metric: Option<String>,
    /// Side.
    pub mode: Option<WorkloadMode>,
}

/// Istio's metrics.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
#[allow(missing_docs, reason = "Istio's names; their meaning is Istio's")]
pub enum IstioMetric {
    AllMetrics,
    RequestCount,
    RequestDuration,
    RequestSize,
    ResponseSize,
    TcpOpenedConnections,
    TcpClosedConnections,
    TcpSentBytes,
    TcpReceivedBytes,
    GrpcRequestMessages,
    GrpcResponseMessages,
}

/// A change of a label.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct TagOverride {
    /// What is done; `UPSERT` when unset.
    pub operation: Option<TagOperation>,
    /// The new value, an expression in CEL.
    pub value: Option<String>,
}

/// What is done to a label.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
#[allow(missing_docs, reason = "Istio's names; their meaning is Istio's")]
pub enum TagOperation {
    Upsert,
    Remove,
}

/// A rule about the access log.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct AccessLogging {
    /// When it applies.
    #[serde(rename = "match")]
    pub match_: Option<ModeSelector>,
    /// Where lines go.
    pub providers: Vec<ProviderReference>,
    /// Log nothing.
    pub disabled: Option<bool>,
    /// Which requests are logged.
    pub filter: Option<LogFilter>,
}

/// Which requests are logged.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct LogFilter {
    /// An expression in CEL.
    pub expression: String,
}
