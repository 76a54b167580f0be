//! What a route does to a request and its response on their way.

use super::header_edits::HeaderEdits;
use super::retry_policy::RetryPolicy;
use crate::ids::ClusterId;
use crate::router::{StringMatch, Substitution};

/// What a route changes. Most routes have none.
#[derive(Clone, Debug, Default)]
pub struct RoutePolicy {
    /// What becomes of the path (Istio's `rewrite`).
    pub path: Option<PathRewrite>,
    /// Most time from the end of the request to the end of the response, ms, over all attempts
    /// (Istio's `timeout`).
    pub timeout_ms: Option<u64>,
    /// When it is tried again.
    pub retries: RetryPolicy,
    /// What goes wrong on purpose.
    pub fault: Option<Fault>,
    /// Where copies go.
    pub mirrors: Box<[Mirror]>,
    /// What browsers are told about other origins.
    pub cors: Option<Box<Cors>>,
    /// One for each destination, in their order; one for a route that answers itself.
    pub destinations: Box<[DestinationPolicy]>,
}

/// Where copies of requests go (Istio's `mirrors`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mirror {
    /// The cluster that gets them.
    pub cluster: ClusterId,
    /// Of a million requests this many are copied.
    pub ppm: u32,
}

/// What browsers are told about other origins (Istio's `corsPolicy`). Empty texts are not sent.
#[derive(Clone, Debug, Default)]
pub struct Cors {
    /// May every origin?
    pub any_origin: bool,
    /// Origins that may.
    pub origins: Box<[StringMatch]>,
    /// `access-control-allow-methods`.
    pub allow_methods: Box<str>,
    /// `access-control-allow-headers`.
    pub allow_headers: Box<str>,
    /// `access-control-expose-headers`.
    pub expose_headers: Box<str>,
    /// `access-control-max-age`, seconds.
    pub max_age: Box<str>,
    /// `access-control-allow-credentials`.
    pub credentials: bool,
    /// Are preflights of other origins answered here (`unmatchedPreflights: IGNORE`)?
    pub ignores_unmatched: bool,
}

/// Faults that are injected (Istio's `fault`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Fault {
    /// Of a million requests this many wait first.
    pub delay_ppm: u32,
    /// How long, ms.
    pub delay_ms: u64,
    /// Of a million requests this many get `abort` for an answer.
    pub abort_ppm: u32,
    /// What they get.
    pub abort: FaultStatus,
}

/// The answer of an injected fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FaultStatus {
    /// An HTTP status.
    Http(u16),
    /// A gRPC status.
    Grpc(u8),
}

/// The names of gRPC's statuses, in the order of their numbers.
const GRPC_STATUS: [&str; 17] = [
    "OK",
    "CANCELLED",
    "UNKNOWN",
    "INVALID_ARGUMENT",
    "DEADLINE_EXCEEDED",
    "NOT_FOUND",
    "ALREADY_EXISTS",
    "PERMISSION_DENIED",
    "RESOURCE_EXHAUSTED",
    "FAILED_PRECONDITION",
    "ABORTED",
    "OUT_OF_RANGE",
    "UNIMPLEMENTED",
    "INTERNAL",
    "UNAVAILABLE",
    "DATA_LOSS",
    "UNAUTHENTICATED",
];

impl FaultStatus {
    /// The gRPC status of this name, as `NOT_FOUND`.
    pub fn grpc(name: &str) -> Option<FaultStatus> {
        let number = GRPC_STATUS.iter().position(|status| *status == name)?;
        Some(FaultStatus::Grpc(number as u8))
    }
}

impl Default for FaultStatus {
    fn default() -> Self {
        FaultStatus::Http(503)
    }
}

/// What changes when a destination of a route is chosen: the route's operations and its own.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DestinationPolicy {
    /// The host that goes upstream.
    pub authority: Option<Box<str>>,
    /// Operations on the request.
    pub request: HeaderEdits,
    /// Operations on the response.
    pub response: HeaderEdits,
}

/// What becomes of a path.
#[derive(Clone, Debug)]
pub enum PathRewrite {
    /// This path.
    Full(Box<str>),
    /// This instead of the first bytes, which the route's prefix matched.
    Prefix {
        /// How many bytes the prefix has.
        length: usize,
        /// What comes in their place.
        replacement: Box<str>,
    },
    /// A substitution of every occurrence.
    Regex(Box<Substitution>),
}
