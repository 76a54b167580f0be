//! The record of one request: layers write to it, metrics and access log read it and nothing else.

use std::net::SocketAddr;
use std::time::Instant;

use crate::http::Version;
use crate::ids::{ClusterId, HistogramSlot, MetricSlot, RouteId};

/// Why a request ended oddly: a set of Envoy's response flags.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct ResponseFlags(pub u32);

macro_rules! response_flags {
    ($($(#[$doc:meta])* $name:ident = $bit:literal, $text:literal;)*) => {
        impl ResponseFlags {
            $($(#[$doc])* pub const $name: ResponseFlags = ResponseFlags(1 << $bit);)*

            /// Every flag with its short name, in the order in which Envoy prints them.
            pub const ALL: &'static [(ResponseFlags, &'static str)] = &[$((ResponseFlags::$name, $text),)*];
        }
    };
}

response_flags! {
    /// No usable endpoint.
    NO_HEALTHY_UPSTREAM = 0, "UH";
    /// The upstream could not be connected to.
    UPSTREAM_CONNECTION_FAILURE = 1, "UF";
    /// A limit of the cluster was hit.
    UPSTREAM_OVERFLOW = 2, "UO";
    /// No route.
    NO_ROUTE_FOUND = 3, "NR";
    /// Retries exhausted.
    UPSTREAM_RETRY_LIMIT_EXCEEDED = 4, "URX";
    /// The upstream closed before it answered.
    UPSTREAM_CONNECTION_TERMINATION = 5, "UC";
    /// The route's timeout ran out.
    UPSTREAM_REQUEST_TIMEOUT = 6, "UT";
    /// The upstream reset the stream.
    UPSTREAM_REMOTE_RESET = 7, "UR";
    /// The client closed early.
    DOWNSTREAM_CONNECTION_TERMINATION = 8, "DC";
    /// A delay was injected.
    DELAY_INJECTED = 9, "DI";
    /// An error was injected.
    FAULT_INJECTED = 10, "FI";
    /// The client broke the protocol.
    DOWNSTREAM_PROTOCOL_ERROR = 11, "DPE";
    /// The upstream broke the protocol.
    UPSTREAM_PROTOCOL_ERROR = 12, "UPE";
    /// The route's destination does not exist.
    NO_CLUSTER_FOUND = 13, "NC";
    /// No progress for too long.
    STREAM_IDLE_TIMEOUT = 14, "SI";
    /// An overload limit was hit.
    OVERLOAD_MANAGER = 15, "OM";
    /// The connection was as old as it may be.
    DURATION_TIMEOUT = 16, "DT";
}

impl ResponseFlags {
    /// No flag.
    pub const NONE: ResponseFlags = ResponseFlags(0);

    /// Add the flags of `other`.
    #[inline]
    pub fn insert(&mut self, other: ResponseFlags) {
        self.0 |= other.0;
    }

    /// Is every flag of `other` set?
    #[inline]
    pub fn contains(self, other: ResponseFlags) -> bool {
        self.0 & other.0 == other.0
    }

    /// Is no flag set?
    #[inline]
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Append the comma list that logs and metrics show, `-` when no flag is set.
    pub fn write_to(self, out: &mut Vec<u8>) {
        if self.is_empty() {
            out.push(b'-');
            return;
        }
        let mut first = true;
        for (flag, text) in Self::ALL {
            if self.contains(*flag) {
                if !first {
                    out.push(b',');
                }
                out.extend_from_slice(text.as_bytes());
                first = false;
            }
        }
    }
}

impl std::fmt::Display for ResponseFlags {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut text = Vec::with_capacity(8);
        self.write_to(&mut text);
        f.write_str(&String::from_utf8_lossy(&text))
    }
}

/// The record of one request.
#[derive(Clone, Debug)]
pub struct StreamInfo {
    /// When the first byte of the request was read.
    pub started: Instant,
    /// Wall-clock time of `started`, microseconds since the Unix epoch (for the access log).
    pub started_unix_us: u64,
    /// From `started` to the last byte of the response, microseconds.
    pub duration_us: u64,
    /// From the request sent upstream to its response head, microseconds; none for local replies.
    pub upstream_service_time_us: Option<u64>,
    /// Version that the client spoke.
    pub version: Version,
    /// Status sent to the client, 0 when none was.
    pub response_code: u16,
    /// Why it ended oddly.
    pub flags: ResponseFlags,
    /// `%RESPONSE_CODE_DETAILS%`: one word for where the response came from.
    pub details: &'static str,
    /// Is it a gRPC request (content-type `application/grpc…`)?
    pub grpc: bool,
    /// `grpc-status` of a gRPC response, if there was one.
    pub grpc_status: Option<u8>,
    /// Messages of a gRPC request.
    pub request_messages: u64,
    /// Messages of a gRPC response.
    pub response_messages: u64,
    /// Request bytes on the wire, head included.
    pub request_bytes: u64,
    /// Response bytes on the wire, head included.
    pub response_bytes: u64,
    /// Request body bytes (`%BYTES_RECEIVED%`).
    pub request_body_bytes: u64,
    /// Response body bytes (`%BYTES_SENT%`).
    pub response_body_bytes: u64,
    /// Attempts made upstream, 0 for local replies.
    pub attempts: u32,
    /// The route that matched.
    pub route: Option<RouteId>,
    /// The cluster that was chosen.
    pub cluster: Option<ClusterId>,
    /// The endpoint of the last attempt.
    pub upstream_address: Option<SocketAddr>,
    /// Our address on the upstream connection.
    pub upstream_local_address: Option<SocketAddr>,
    /// The labels that this request counts under.
    pub metric_slot: MetricSlot,
    /// The latency histogram that this request counts in.
    pub histogram_slot: HistogramSlot,
    /// Its trace; all zero for none.
    pub trace_id: [u8; 16],
    /// Our span in it; all zero for none.
    pub span_id: [u8; 8],
    /// Are the spans of its trace kept?
    pub trace_sampled: bool,
}

impl StreamInfo {
    /// The record of a request whose first byte came at `started`.
    pub fn new(started: Instant, started_unix_us: u64) -> StreamInfo {
        StreamInfo {
            started,
            started_unix_us,
            duration_us: 0,
            upstream_service_time_us: None,
            version: Version::Http11,
            response_code: 0,
            flags: ResponseFlags::NONE,
            details: "-",
            grpc: false,
            grpc_status: None,
            request_messages: 0,
            response_messages: 0,
            request_bytes: 0,
            response_bytes: 0,
            request_body_bytes: 0,
            response_body_bytes: 0,
            attempts: 0,
            route: None,
            cluster: None,
            upstream_address: None,
            upstream_local_address: None,
            metric_slot: MetricSlot::UNKNOWN,
            histogram_slot: HistogramSlot::UNROUTED,
            trace_id: [0; 16],
            span_id: [0; 8],
            trace_sampled: false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_print_as_a_comma_list() {
        assert_eq!(ResponseFlags::NONE.to_string(), "-");
        let mut flags = ResponseFlags::UPSTREAM_CONNECTION_FAILURE;
        flags.insert(ResponseFlags::UPSTREAM_RETRY_LIMIT_EXCEEDED);
        assert_eq!(flags.to_string(), "UF,URX");
    }
}
