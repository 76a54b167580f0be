//! What a route does to a request and its response on their way: rewrites and header operations.

use crate::http::authority::HOST_BYTES_MAX;
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

/// When a request is tried again (Istio's `retries`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RetryPolicy {
    /// Attempts after the first.
    pub attempts: u32,
    /// Most time from the end of the request to the response head of one attempt, ms.
    pub per_try_timeout_ms: Option<u64>,
    /// The conditions.
    pub on: RetryConditions,
    /// Statuses, for [`RetryConditions::STATUS_CODES`].
    pub status_codes: Box<[u16]>,
    /// Base of the wait before a retry, ms (Envoy's `retry_back_off.base_interval`).
    pub back_off_ms: u64,
    /// Are endpoints that were tried avoided? Unset: unless a consistent hash picks.
    pub avoids_tried: Option<bool>,
}

impl Default for RetryPolicy {
    /// Istio's policy for routes without one.
    fn default() -> Self {
        RetryPolicy {
            attempts: crate::limits::DEFAULT_RETRIES,
            per_try_timeout_ms: None,
            on: RetryConditions::DEFAULT,
            status_codes: Box::default(),
            back_off_ms: 25,
            avoids_tried: None,
        }
    }
}

/// Conditions of a retry: a set of Envoy's `x-envoy-retry-on` and `x-envoy-retry-grpc-on`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RetryConditions(u16);

macro_rules! retry_conditions {
    ($($(#[$doc:meta])* $name:ident = $bit:literal, $text:literal;)*) => {
        impl RetryConditions {
            $($(#[$doc])* pub const $name: RetryConditions = RetryConditions(1 << $bit);)*

            /// The names of the conditions in the set.
            pub fn names(self) -> impl Iterator<Item = &'static str> {
                [$((RetryConditions::$name, $text)),*]
                    .into_iter()
                    .filter(move |(condition, _)| self.has_any(&[*condition]))
                    .map(|(_, name)| name)
            }

            /// The condition of this name.
            pub fn named(name: &str) -> Option<RetryConditions> {
                match name {
                    $($text => Some(RetryConditions::$name),)*
                    _ => None,
                }
            }
        }
    };
}

retry_conditions! {
    /// Any 5xx, or no response.
    SERVER_ERROR = 0, "5xx";
    /// 502, 503, 504, or no response.
    GATEWAY_ERROR = 1, "gateway-error";
    /// No response.
    RESET = 2, "reset";
    /// No response, and nothing of the request was sent.
    RESET_BEFORE_REQUEST = 3, "reset-before-request";
    /// No connection.
    CONNECT_FAILURE = 4, "connect-failure";
    /// 409.
    RETRIABLE_4XX = 5, "retriable-4xx";
    /// The upstream refused the stream (HTTP/2).
    REFUSED_STREAM = 6, "refused-stream";
    /// One of the policy's statuses.
    STATUS_CODES = 7, "retriable-status-codes";
    /// Fields that Istio has no way to name.
    HEADERS = 8, "retriable-headers";
    /// A response with `x-envoy-ratelimited`.
    RATE_LIMITED = 9, "envoy-ratelimited";
    /// Of HTTP/3 only.
    HTTP3 = 10, "http3-post-connect-failure";
    /// gRPC status 1.
    CANCELLED = 11, "cancelled";
    /// gRPC status 4.
    DEADLINE_EXCEEDED = 12, "deadline-exceeded";
    /// gRPC status 13.
    INTERNAL = 13, "internal";
    /// gRPC status 8.
    RESOURCE_EXHAUSTED = 14, "resource-exhausted";
    /// gRPC status 14.
    UNAVAILABLE = 15, "unavailable";
}

impl RetryConditions {
    /// Istio's, when a policy names none.
    pub const DEFAULT: RetryConditions = RetryConditions(
        Self::CONNECT_FAILURE.0
            | Self::REFUSED_STREAM.0
            | Self::UNAVAILABLE.0
            | Self::CANCELLED.0
            | Self::STATUS_CODES.0,
    );

    /// Add the conditions of `other`.
    pub fn insert(&mut self, other: RetryConditions) {
        self.0 |= other.0;
    }

    /// Is one of these in the set?
    #[inline]
    pub fn has_any(self, others: &[RetryConditions]) -> bool {
        others.iter().any(|other| self.0 & other.0 != 0)
    }
}

/// Why an attempt brought no response.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AttemptFailure {
    /// There was no connection.
    Connect,
    /// It ended before anything of the request was sent.
    BeforeRequest,
    /// It ended, or took longer than an attempt may.
    Reset,
}

impl RetryPolicy {
    /// Is an attempt that failed like this worth another?
    pub fn wants_after(&self, failure: AttemptFailure) -> bool {
        use RetryConditions as On;
        let anyhow = self.on.has_any(&[On::SERVER_ERROR, On::GATEWAY_ERROR, On::RESET]);
        anyhow
            || match failure {
                AttemptFailure::Connect => {
                    self.on.has_any(&[On::CONNECT_FAILURE, On::RESET_BEFORE_REQUEST])
                }
                AttemptFailure::BeforeRequest => self.on.has_any(&[On::RESET_BEFORE_REQUEST]),
                AttemptFailure::Reset => false,
            }
    }

    /// Is a response worth another attempt? `grpc_status` is that of its head, `rate_limited` whether it
    /// has `x-envoy-ratelimited`.
    pub fn wants_instead_of(
        &self,
        status: u16,
        grpc_status: Option<u8>,
        rate_limited: bool,
    ) -> bool {
        use RetryConditions as On;
        if rate_limited {
            return self.on.has_any(&[On::RATE_LIMITED]);
        }
        let by_grpc_status = match grpc_status {
            Some(1) => self.on.has_any(&[On::CANCELLED]),
            Some(4) => self.on.has_any(&[On::DEADLINE_EXCEEDED]),
            Some(8) => self.on.has_any(&[On::RESOURCE_EXHAUSTED]),
            Some(13) => self.on.has_any(&[On::INTERNAL]),
            Some(14) => self.on.has_any(&[On::UNAVAILABLE]),
            _ => false,
        };
        let by_status = match status {
            409 => self.on.has_any(&[On::RETRIABLE_4XX]),
            502..=504 => self.on.has_any(&[On::SERVER_ERROR, On::GATEWAY_ERROR]),
            500..=599 => self.on.has_any(&[On::SERVER_ERROR]),
            _ => false,
        };
        by_grpc_status
            || by_status
            || self.on.has_any(&[On::STATUS_CODES]) && self.status_codes.contains(&status)
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

/// Header operations, worked out beforehand: set, add and remove of all levels come down to names
/// that are dropped and fields that are added.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HeaderEdits {
    /// Names in lower case.
    pub drop: Box<[Box<str>]>,
    /// Fields to add behind the others; a value that comes out empty is left out.
    pub append: Box<[(Box<str>, HeaderText)]>,
}

/// How a message ends is decided by the gateway alone: a second opinion is how requests are smuggled.
const FRAMING: [&str; 6] =
    ["connection", "content-length", "keep-alive", "te", "transfer-encoding", "upgrade"];

impl HeaderEdits {
    /// Does a field of this name frame a message, so that no operation may touch it?
    pub fn is_framing(name: &str) -> bool {
        FRAMING.iter().any(|framing| name.eq_ignore_ascii_case(framing))
    }

    /// Does it change nothing?
    pub fn is_empty(&self) -> bool {
        self.drop.is_empty() && self.append.is_empty()
    }
}

/// The value of a field: literal text and variables (Envoy's substitution format).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HeaderText(pub Box<[HeaderPart]>);

/// A part of a value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HeaderPart {
    /// As it is.
    Literal(Box<str>),
    /// What is known of the request or response.
    Variable(Variable),
}

/// A variable of Envoy's substitution format that a gateway knows.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "Envoy's names; their meaning is Envoy's")]
pub enum Variable {
    DownstreamRemoteAddress,
    DownstreamRemoteAddressWithoutPort,
    DownstreamRemotePort,
    DownstreamLocalAddress,
    DownstreamLocalAddressWithoutPort,
    DownstreamLocalPort,
    Protocol,
    StartTime,
    ResponseCode,
    ResponseCodeDetails,
    ResponseFlags,
    RouteName,
    UpstreamCluster,
    UpstreamHost,
    /// `%REQ(name?alternative):length%`: names in lower case.
    RequestHeader {
        name: Box<str>,
        alternative: Option<Box<str>>,
        length: usize,
    },
}

/// Why a value cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HeaderTextError {
    /// A `%` that begins nothing.
    #[error("a `%` without its partner")]
    Unpaired,
    /// Nothing that the gateway knows.
    #[error("`%{0}%` is not a variable that a gateway knows")]
    Unknown(String),
}

impl HeaderText {
    /// Read Envoy's format; `%%` is a plain percent sign.
    ///
    /// # Errors
    /// See [`HeaderTextError`].
    pub fn parse(value: &str) -> Result<HeaderText, HeaderTextError> {
        let mut parts = Vec::new();
        let mut literal = String::new();
        let mut rest = value;
        while let Some((before, behind)) = rest.split_once('%') {
            literal.push_str(before);
            if let Some(behind) = behind.strip_prefix('%') {
                literal.push('%');
                rest = behind;
                continue;
            }
            let (operator, behind) = behind.split_once('%').ok_or(HeaderTextError::Unpaired)?;
            if !literal.is_empty() {
                parts.push(HeaderPart::Literal(std::mem::take(&mut literal).into()));
            }
            let variable =
                variable(operator).ok_or_else(|| HeaderTextError::Unknown(operator.to_owned()))?;
            parts.push(HeaderPart::Variable(variable));
            rest = behind;
        }
        literal.push_str(rest);
        if !literal.is_empty() {
            parts.push(HeaderPart::Literal(literal.into()));
        }
        Ok(HeaderText(parts.into()))
    }
}

fn variable(operator: &str) -> Option<Variable> {
    Some(match operator {
        // A peer that is believed speaks for its client: the direct address is not told apart.
        "DOWNSTREAM_REMOTE_ADDRESS" => Variable::DownstreamRemoteAddress,
        "DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT" => Variable::DownstreamRemoteAddressWithoutPort,
        "DOWNSTREAM_REMOTE_PORT" => Variable::DownstreamRemotePort,
        "DOWNSTREAM_LOCAL_ADDRESS" => Variable::DownstreamLocalAddress,
        "DOWNSTREAM_LOCAL_ADDRESS_WITHOUT_PORT" => Variable::DownstreamLocalAddressWithoutPort,
        "DOWNSTREAM_LOCAL_PORT" => Variable::DownstreamLocalPort,
        "PROTOCOL" => Variable::Protocol,
        "START_TIME" => Variable::StartTime,
        "RESPONSE_CODE" => Variable::ResponseCode,
        "RESPONSE_CODE_DETAILS" => Variable::ResponseCodeDetails,
        "RESPONSE_FLAGS" => Variable::ResponseFlags,
        "ROUTE_NAME" => Variable::RouteName,
        "UPSTREAM_CLUSTER" | "UPSTREAM_CLUSTER_RAW" => Variable::UpstreamCluster,
        "UPSTREAM_HOST" | "UPSTREAM_REMOTE_ADDRESS" => Variable::UpstreamHost,
        _ => {
            let (names, length) = operator.strip_prefix("REQ(")?.rsplit_once(')')?;
            let length = match length {
                "" => usize::MAX,
                _ => length.strip_prefix(':')?.parse().ok()?,
            };
            let (name, alternative) = match names.split_once('?') {
                Some((name, alternative)) => (name, Some(alternative)),
                None => (names, None),
            };
            if name.is_empty() || name.len() > HOST_BYTES_MAX {
                return None;
            }
            Variable::RequestHeader {
                name: name.to_ascii_lowercase().into(),
                alternative: alternative.map(|name| name.to_ascii_lowercase().into()),
                length,
            }
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn literal(text: &str) -> HeaderPart {
        HeaderPart::Literal(text.into())
    }

    #[test]
    fn responses_and_failures_are_weighed() {
        let policy = |names: &[&str], codes: &[u16]| {
            let mut on = RetryConditions::default();
            for name in names {
                on.insert(RetryConditions::named(name).expect("known"));
            }
            RetryPolicy { on, status_codes: codes.into(), ..RetryPolicy::default() }
        };
        let default = RetryPolicy::default();
        assert!(default.wants_after(AttemptFailure::Connect));
        assert!(!default.wants_after(AttemptFailure::Reset));
        assert!(!default.wants_instead_of(503, None, false));
        assert!(default.wants_instead_of(200, Some(14), false));
        for (names, yes, no) in [
            (&["5xx"][..], &[500, 503, 599][..], &[200, 404, 409][..]),
            (&["gateway-error"], &[502, 503, 504], &[500, 501, 505]),
            (&["retriable-4xx"], &[409], &[404, 429]),
            (&["retriable-status-codes"], &[418, 503], &[500]),
            (&["reset"], &[], &[503]),
        ] {
            let policy = policy(names, &[418, 503]);
            for status in yes {
                assert!(policy.wants_instead_of(*status, None, false), "{names:?} {status}");
                assert!(!policy.wants_instead_of(*status, None, true), "limited: {status}");
            }
            for status in no {
                assert!(!policy.wants_instead_of(*status, None, false), "{names:?} {status}");
            }
        }
        assert!(policy(&["envoy-ratelimited"], &[]).wants_instead_of(429, None, true));
        let early = policy(&["reset-before-request"], &[]);
        assert!(early.wants_after(AttemptFailure::BeforeRequest));
        assert!(!early.wants_after(AttemptFailure::Reset));
        assert!(policy(&["gateway-error"], &[]).wants_after(AttemptFailure::Reset));
    }

    #[test]
    fn values_are_text_and_variables() {
        let parsed = HeaderText::parse("a %PROTOCOL% 100%% %REQ(X-User?:Path):8%").expect("good");
        let header = Variable::RequestHeader {
            name: "x-user".into(),
            alternative: Some(":path".into()),
            length: 8,
        };
        assert_eq!(
            *parsed.0,
            [
                literal("a "),
                HeaderPart::Variable(Variable::Protocol),
                literal(" 100% "),
                HeaderPart::Variable(header),
            ]
        );
        assert_eq!(HeaderText::parse("").expect("good"), HeaderText::default());
    }

    #[test]
    fn what_is_not_known_is_named() {
        assert_eq!(HeaderText::parse("50% off"), Err(HeaderTextError::Unpaired));
        for bad in ["NOPE", "REQ()", "REQ(a", "REQ(a):x", "REQ(a)b", " PROTOCOL"] {
            let error = HeaderText::parse(&format!("%{bad}%")).expect_err(bad);
            assert_eq!(error, HeaderTextError::Unknown(bad.to_owned()));
        }
    }
}
