//! The scenarios: what is asked of a proxy and what is read from it.

use crate::options::Options;
use crate::service::Service;
use crate::table::thousands;

/// Connections of the HTTP/2 scenarios: fewer than elsewhere, since each carries several requests.
const HTTP2_CONNECTIONS: usize = 10;
/// Requests under way on each of them.
const HTTP2_STREAMS: usize = 10;

/// One scenario.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Scenario {
    /// Keep-alive connections, 100-byte bodies.
    Keepalive,
    /// The same with 10 KiB bodies.
    Body10k,
    /// The same with 1 MiB bodies: time per request is time per MiB.
    Body1m,
    /// A new connection for each request.
    Connect,
    /// Keep-alive connections over TLS 1.3, 100-byte bodies.
    Tls,
    /// A new connection with a full TLS 1.3 handshake for each request.
    TlsHandshake,
    /// Keep-alive connections over TLS 1.3, 1 MiB bodies.
    Tls1m,
    /// HTTP/2 in clear text, 100-byte bodies.
    Http2,
    /// The same over TLS 1.3.
    Http2Tls,
    /// Unary gRPC calls.
    Grpc,
    /// 1 MiB responses through a proxy of bytes.
    Tcp,
    /// Ringress with one host against many.
    Hosts,
    /// Ringress with a bare route against one with policies.
    Policy,
    /// What metrics and access logs cost.
    Telemetry,
    /// Memory of idle connections.
    Idle,
}

impl Scenario {
    /// Every scenario, in the order in which `--help` names them.
    pub(crate) const ALL: [Self; 15] = [
        Self::Keepalive,
        Self::Body10k,
        Self::Body1m,
        Self::Connect,
        Self::Tls,
        Self::TlsHandshake,
        Self::Tls1m,
        Self::Http2,
        Self::Http2Tls,
        Self::Grpc,
        Self::Tcp,
        Self::Hosts,
        Self::Policy,
        Self::Telemetry,
        Self::Idle,
    ];
    /// Those that run when none are named: all that have a required figure.
    pub(crate) const DEFAULT: [Self; 4] = [Self::Keepalive, Self::Body1m, Self::Hosts, Self::Idle];

    /// The word for it on the command line.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Keepalive => "keepalive",
            Self::Body10k => "10k",
            Self::Body1m => "1m",
            Self::Connect => "connect",
            Self::Tls => "tls",
            Self::TlsHandshake => "tls-handshake",
            Self::Tls1m => "tls-1m",
            Self::Http2 => "h2",
            Self::Http2Tls => "h2-tls",
            Self::Grpc => "grpc",
            Self::Tcp => "tcp",
            Self::Hosts => "hosts",
            Self::Policy => "policy",
            Self::Telemetry => "telemetry",
            Self::Idle => "idle",
        }
    }

    /// The scenario of that name.
    pub(crate) fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|scenario| scenario.name() == name)
    }

    /// What the proxies are configured to serve.
    pub(crate) fn service(self) -> Service {
        match self {
            Self::Tls | Self::TlsHandshake | Self::Tls1m => Service::Tls,
            Self::Http2 => Service::Http2,
            Self::Http2Tls => Service::Http2Tls,
            Self::Grpc => Service::Grpc,
            Self::Tcp => Service::Tcp,
            _ => Service::Http1,
        }
    }

    /// The path that is asked for; gRPC has its own.
    pub(crate) fn path(self) -> &'static str {
        match self {
            Self::Body10k => "/10k",
            Self::Body1m | Self::Tls1m | Self::Tcp => "/1m",
            _ => "/",
        }
    }

    /// Whether each request has a connection of its own.
    pub(crate) fn closes(self) -> bool {
        matches!(self, Self::Connect | Self::TlsHandshake)
    }

    /// Connections of the load generator, and requests under way on each.
    pub(crate) fn concurrency(self, options: &Options) -> (usize, usize) {
        match self {
            Self::Http2 | Self::Http2Tls | Self::Grpc => (HTTP2_CONNECTIONS, HTTP2_STREAMS),
            _ => (options.connections, 1),
        }
    }

    /// What it does, in words.
    pub(crate) fn title(self, options: &Options) -> String {
        let (connections, streams) = self.concurrency(options);
        let connections = thousands(connections as f64);
        let tls = "TLS 1.3 (ECDSA P-256, AES-128-GCM)";
        match self {
            Self::Keepalive => format!("{connections} keep-alive connections, 100-byte bodies"),
            Self::Body10k => format!("{connections} keep-alive connections, 10 KiB bodies"),
            Self::Body1m => {
                format!("{connections} keep-alive connections, 1 MiB bodies (µs per MiB)")
            }
            Self::Connect => format!(
                "a new connection per request, {connections} at a time, 100-byte bodies (the \
                 floor opens one upstream as well, the others keep theirs)"
            ),
            Self::Tls => {
                format!("{connections} keep-alive connections over {tls}, 100-byte bodies")
            }
            Self::TlsHandshake => format!(
                "a new connection over {tls} with a full handshake per request, {connections} at \
                 a time, 100-byte bodies (µs per handshake with its request)"
            ),
            Self::Tls1m => format!(
                "{connections} keep-alive connections over {tls}, 1 MiB bodies (µs per MiB)"
            ),
            Self::Http2 => format!(
                "HTTP/2 in clear text, {connections} connections with {streams} streams each, \
                 100-byte bodies, HTTP/1.1 to the upstream"
            ),
            Self::Http2Tls => format!(
                "HTTP/2 over {tls}, {connections} connections with {streams} streams each, \
                 100-byte bodies, HTTP/1.1 to the upstream"
            ),
            Self::Grpc => format!(
                "unary gRPC calls, HTTP/2 in clear text on both sides, {connections} connections \
                 with {streams} streams each, bodies of 12 and 100 bytes"
            ),
            Self::Tcp => {
                format!("TCP, {connections} kept connections, 1 MiB responses (µs per MiB)")
            }
            Self::Hosts => format!(
                "ringress, {connections} keep-alive connections, 100-byte bodies, one \
                 VirtualService per host"
            ),
            Self::Policy => format!(
                "ringress, {connections} keep-alive connections, 100-byte bodies, a route with a \
                 field match, rewrite, header operations, timeout and retries; at last before a \
                 cluster with hash balancing, limits, retry budget and outlier detection"
            ),
            Self::Telemetry => format!(
                "{connections} keep-alive connections, 100-byte bodies: ringress without metrics, with all \
                 but the access log, and with the access log to a file; peers with access logs (Istio's \
                 line as far as they know it)"
            ),
            Self::Idle => format!(
                "{} keep-alive connections, idle after one request each",
                thousands(options.idle_connections as f64)
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_lead_back_to_their_scenario() {
        for scenario in Scenario::ALL {
            assert_eq!(Scenario::named(scenario.name()), Some(scenario));
        }
    }
}
