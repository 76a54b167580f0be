//! Everything that ends a request without the upstream's answer, and the one table that turns each
//! into a status, response flags, details and a body.

use crate::http1::{RequestError, ResponseError};
use crate::snapshot::FaultStatus;
use crate::stream_info::ResponseFlags;
use crate::upstream::Outcome;

/// Why the gateway answers itself, or answers nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProxyError {
    /// The request is malformed or over a limit.
    Request(RequestError),
    /// The head did not arrive in time.
    RequestHeadTimeout,
    /// The body made no progress.
    RequestBodyTimeout,
    /// HTTP/1.0, where that is refused.
    LowVersion,
    /// The path cannot be made canonical.
    PathNormalization,
    /// The request's chunked body is malformed.
    RequestBody,
    /// `CONNECT`, which no configuration of a Gateway allows.
    ConnectNotAllowed,
    /// No virtual host or no route.
    NoRoute,
    /// The host is of another server of the TLS port: the client uses one connection for both.
    Misdirected,
    /// The destination's host, port or subset does not exist.
    NoCluster,
    /// No usable endpoint.
    NoHealthyUpstream,
    /// A limit of the cluster (`connectionPool`) is reached.
    UpstreamOverflow,
    /// Connecting failed.
    UpstreamConnect,
    /// Connecting took too long.
    UpstreamConnectTimeout,
    /// The upstream closed or reset before its response head.
    UpstreamClosed,
    /// The upstream refused the stream, or was going away: it did nothing of the request.
    UpstreamRefused,
    /// The request cannot be sent in HTTP/2 to this upstream: it is an upgrade, and the upstream takes
    /// no extended CONNECT (RFC 8441), or its method, host or a field is none of HTTP/2.
    UpstreamUnsupported,
    /// The upstream's response is malformed or over a limit.
    UpstreamProtocol(ResponseError),
    /// More interim responses than allowed, or a 101 that was not asked for.
    UpstreamInterim,
    /// The upstream closed within its response head.
    UpstreamTruncated,
    /// The route's timeout ran out.
    RequestTimeout,
    /// The last attempt took longer than an attempt may.
    PerTryTimeout,
    /// The route is told to fail.
    FaultAbort(FaultStatus),
    /// The client went away before it had a response.
    DownstreamGone,
}

/// What a [`ProxyError`] means to the client, the log and the metrics.
#[derive(Clone, Copy, Debug)]
pub struct Answer {
    /// Status to send.
    pub status: u16,
    /// Response flags.
    pub flags: ResponseFlags,
    /// `%RESPONSE_CODE_DETAILS%`.
    pub details: &'static str,
    /// Body, `text/plain`; empty for none.
    pub body: &'static str,
    /// Must the connection be closed after it?
    pub close: bool,
}

const NO_FLAGS: ResponseFlags = ResponseFlags::NONE;

impl ProxyError {
    /// The table. No wildcard: a new error does not compile until it has its row.
    pub fn answer(self) -> Answer {
        let answer =
            |status, flags, details, body, close| Answer { status, flags, details, body, close };
        let broken_response = |details| {
            answer(
                502,
                ResponseFlags::UPSTREAM_PROTOCOL_ERROR,
                details,
                "upstream connect error or disconnect/reset before headers. \
                 reset reason: protocol error",
                false,
            )
        };
        match self {
            ProxyError::Request(error) => answer(
                error.status(),
                ResponseFlags::DOWNSTREAM_PROTOCOL_ERROR,
                error.details(),
                "",
                true,
            ),
            ProxyError::RequestHeadTimeout => {
                answer(408, NO_FLAGS, "request_header_timeout", "request timeout", true)
            }
            ProxyError::RequestBodyTimeout => answer(
                408,
                ResponseFlags::STREAM_IDLE_TIMEOUT,
                "request_body_timeout",
                "request timeout",
                true,
            ),
            ProxyError::LowVersion => answer(426, NO_FLAGS, "low_version", "", true),
            ProxyError::PathNormalization => {
                answer(400, NO_FLAGS, "path_normalization_failed", "", true)
            }
            ProxyError::RequestBody => answer(
                400,
                ResponseFlags::DOWNSTREAM_PROTOCOL_ERROR,
                "http1.invalid_chunked_body",
                "",
                true,
            ),
            ProxyError::ConnectNotAllowed => answer(405, NO_FLAGS, "connect_not_allowed", "", true),
            ProxyError::NoRoute => {
                answer(404, ResponseFlags::NO_ROUTE_FOUND, "route_not_found", "", false)
            }
            // The client repeats it on a connection of its own (RFC 9110 section 15.5.20); Istio: 404.
            ProxyError::Misdirected => {
                answer(421, ResponseFlags::NO_ROUTE_FOUND, "misdirected_request", "", false)
            }
            ProxyError::NoCluster => {
                answer(503, ResponseFlags::NO_CLUSTER_FOUND, "cluster_not_found", "", false)
            }
            ProxyError::NoHealthyUpstream => answer(
                503,
                ResponseFlags::NO_HEALTHY_UPSTREAM,
                "no_healthy_upstream",
                "no healthy upstream",
                false,
            ),
            ProxyError::UpstreamOverflow => answer(
                503,
                ResponseFlags::UPSTREAM_OVERFLOW,
                "upstream_reset_before_response_started{overflow}",
                "upstream connect error or disconnect/reset before headers. \
                 reset reason: overflow",
                false,
            ),
            ProxyError::UpstreamConnect => answer(
                503,
                ResponseFlags::UPSTREAM_CONNECTION_FAILURE,
                "upstream_reset_before_response_started{remote_connection_failure}",
                "upstream connect error or disconnect/reset before headers. \
                 reset reason: remote connection failure",
                false,
            ),
            ProxyError::UpstreamConnectTimeout => answer(
                503,
                ResponseFlags::UPSTREAM_CONNECTION_FAILURE,
                "upstream_reset_before_response_started{connection_timeout}",
                "upstream connect error or disconnect/reset before headers. \
                 reset reason: connection timeout",
                false,
            ),
            ProxyError::UpstreamClosed => answer(
                503,
                ResponseFlags::UPSTREAM_CONNECTION_TERMINATION,
                "upstream_reset_before_response_started{connection_termination}",
                "upstream connect error or disconnect/reset before headers. \
                 reset reason: connection termination",
                false,
            ),
            ProxyError::UpstreamRefused => answer(
                503,
                ResponseFlags::UPSTREAM_REMOTE_RESET,
                "upstream_reset_before_response_started{remote_refused_stream_reset}",
                "upstream connect error or disconnect/reset before headers. \
                 reset reason: remote refused stream reset",
                false,
            ),
            // Envoy resets it with a protocol error of its own.
            ProxyError::UpstreamUnsupported => answer(
                503,
                ResponseFlags::UPSTREAM_PROTOCOL_ERROR,
                "upstream_reset_before_response_started{request_not_sendable_in_http2}",
                "upstream connect error or disconnect/reset before headers. \
                 reset reason: protocol error",
                false,
            ),
            ProxyError::UpstreamProtocol(error) => broken_response(error.details()),
            ProxyError::UpstreamInterim => broken_response(
                "upstream_reset_before_response_started{protocol_error|interim_responses}",
            ),
            ProxyError::UpstreamTruncated => broken_response(
                "upstream_reset_before_response_started{protocol_error|truncated_head}",
            ),
            ProxyError::RequestTimeout => answer(
                504,
                ResponseFlags::UPSTREAM_REQUEST_TIMEOUT,
                "response_timeout",
                "upstream request timeout",
                false,
            ),
            ProxyError::PerTryTimeout => answer(
                504,
                ResponseFlags::UPSTREAM_REQUEST_TIMEOUT,
                "upstream_per_try_timeout",
                "upstream request timeout",
                false,
            ),
            ProxyError::FaultAbort(status) => answer(
                match status {
                    FaultStatus::Http(status) => status,
                    FaultStatus::Grpc(status) => http_status(status),
                },
                ResponseFlags::FAULT_INJECTED,
                "fault_filter_abort",
                "fault filter abort",
                false,
            ),
            ProxyError::DownstreamGone => answer(
                0,
                ResponseFlags::DOWNSTREAM_CONNECTION_TERMINATION,
                "downstream_remote_disconnect",
                "",
                true,
            ),
        }
    }
}

impl ProxyError {
    /// What outlier detection makes of an attempt that ended so; none: nothing, it was not the
    /// endpoint's fault.
    pub fn outcome(self) -> Option<Outcome> {
        match self {
            ProxyError::UpstreamConnect
            | ProxyError::UpstreamClosed
            | ProxyError::UpstreamRefused
            | ProxyError::UpstreamProtocol(_)
            | ProxyError::UpstreamInterim
            | ProxyError::UpstreamTruncated => Some(Outcome::Failed),
            ProxyError::UpstreamConnectTimeout
            | ProxyError::RequestTimeout
            | ProxyError::PerTryTimeout => Some(Outcome::TimedOut),
            _ => None,
        }
    }

    /// What a gRPC client is told instead of the status.
    pub fn grpc_status(self) -> u8 {
        match self {
            ProxyError::RequestTimeout | ProxyError::PerTryTimeout => 4,
            ProxyError::FaultAbort(FaultStatus::Grpc(status)) => status,
            _ => grpc_status(self.answer().status),
        }
    }
}

/// The gRPC status that stands for an HTTP one (gRPC's HTTP-to-status mapping, as Envoy's).
fn grpc_status(status: u16) -> u8 {
    match status {
        400 => 13,
        401 => 16,
        403 => 7,
        404 => 12,
        429 | 502 | 503 | 504 => 14,
        _ => 2,
    }
}

/// The HTTP status that stands for a gRPC one (Envoy's mapping).
pub(super) fn http_status(grpc_status: u8) -> u16 {
    match grpc_status {
        0 => 200,
        1 => 499,
        3 | 9 | 11 => 400,
        4 => 504,
        5 => 404,
        6 | 10 => 409,
        7 => 403,
        8 => 429,
        12 => 501,
        14 => 503,
        16 => 401,
        _ => 500,
    }
}
