//! Everything that ends a request without the upstream's answer, and the one table that turns each
//! into a status, response flags, details and a body.

use crate::http1::{RequestError, ResponseError};
use crate::stream_info::ResponseFlags;

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
    /// The destination's host, port or subset does not exist.
    NoCluster,
    /// No usable endpoint.
    NoHealthyUpstream,
    /// Connecting failed.
    UpstreamConnect,
    /// Connecting took too long.
    UpstreamConnectTimeout,
    /// The upstream closed or reset before its response head.
    UpstreamClosed,
    /// The upstream's response is malformed or over a limit.
    UpstreamProtocol(ResponseError),
    /// More interim responses than allowed, or a 101 that was not asked for.
    UpstreamInterim,
    /// The upstream closed within its response head.
    UpstreamTruncated,
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
            ProxyError::UpstreamProtocol(_)
            | ProxyError::UpstreamInterim
            | ProxyError::UpstreamTruncated => answer(
                502,
                ResponseFlags::UPSTREAM_PROTOCOL_ERROR,
                "upstream_reset_before_response_started{protocol_error}",
                "upstream connect error or disconnect/reset before headers. \
                 reset reason: protocol error",
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
