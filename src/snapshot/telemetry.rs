//! What the Telemetry resources of this gateway ask for (`telemetry.istio.io`), compiled: one policy for
//! the whole gateway, because they select workloads, not routes.

use crate::access_log::AccessLogPolicy;
use crate::metrics::MetricOverrides;

/// Millionths in a whole: what shares are written in.
pub const PPM: u32 = 1_000_000;

/// The policy.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct TelemetryPolicy {
    /// Spans (`tracing`).
    pub tracing: TracingPolicy,
    /// Which requests are logged (`accessLogging`).
    pub access_log: AccessLogPolicy,
    /// What is changed about Istio's standard metrics (`metrics`).
    pub metrics: MetricOverrides,
}

/// Which requests get spans, and what stands in them.
#[derive(Clone, Debug, PartialEq)]
pub struct TracingPolicy {
    /// How many of a million requests without a decision of their caller are sampled
    /// (`randomSamplingPercentage`); Istio's default is 1 %.
    pub sampling_ppm: u32,
    /// Send no spans, whatever is sampled (`disableSpanReporting`); contexts are passed on.
    pub spans_disabled: bool,
    /// Attributes beside the standard ones (`customTags`).
    pub custom_tags: Vec<CustomTag>,
}

impl Default for TracingPolicy {
    fn default() -> Self {
        TracingPolicy { sampling_ppm: PPM / 100, spans_disabled: false, custom_tags: Vec::new() }
    }
}

/// An attribute of every span.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CustomTag {
    /// Its name.
    pub name: Box<str>,
    /// Its value.
    pub value: TagValue,
}

/// Where the value of a [`CustomTag`] comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TagValue {
    /// This text: a literal, or a variable of the environment as it was when this was compiled.
    Text(Box<str>),
    /// A field of the request, in lower case, and what stands in for it. An empty one is left out.
    Header {
        /// Name of the field.
        name: Box<str>,
        /// Value when there is no such field.
        default: Box<str>,
    },
}
