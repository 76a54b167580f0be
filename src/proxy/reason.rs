//! Every reason for which the gateway answers itself, and what each looks like: the status and body
//! that the client gets, flags and details in the access log, the counter that grows.
//! `docs/answers.md` is this table as text; a test compares the two.

use super::error::{Answer, ProxyError};
use super::header_edits;
use crate::snapshot::{RouteAction, RouteNames};
use crate::stream_info::ResponseFlags;

/// Why an answer is the gateway's own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// It cannot be served.
    Error(ProxyError),
    /// The route redirects.
    Redirect,
    /// The route has a fixed response.
    DirectResponse,
    /// It is a preflight, which the route's CORS policy answers.
    Preflight,
}

impl Reason {
    /// Why a route that was found answers itself. Only a preflight is answered on a route that
    /// forwards.
    pub fn of_route(action: &RouteAction) -> Reason {
        match action {
            RouteAction::Redirect(_) => Reason::Redirect,
            RouteAction::DirectResponse(_) => Reason::DirectResponse,
            RouteAction::Forward(_) => Reason::Preflight,
        }
    }

    /// The row of the table. Status and body of a redirect and of a fixed response are the route's:
    /// here they are 0 and empty.
    pub fn answer(self) -> Answer {
        let configured = |status, details| Answer {
            status,
            flags: ResponseFlags::NONE,
            details,
            body: "",
            close: false,
        };
        match self {
            Reason::Error(error) => error.answer(),
            Reason::Redirect | Reason::DirectResponse => configured(0, "direct_response"),
            Reason::Preflight => configured(200, "cors_response"),
        }
    }

    /// The series that grows by such an answer beside `istio_requests_total`, which counts them all
    /// by status and flags; as Prometheus shows it. No wildcard: a new error does not compile until
    /// somebody has decided.
    pub fn metric(self) -> Option<&'static str> {
        const PROTOCOL: &str =
            "ringress_downstream_connection_errors_total{kind=\"protocol_error\"}";
        const PROGRESS: &str =
            "ringress_downstream_connection_errors_total{kind=\"progress_timeout\"}";
        const LEFT: &str = "ringress_downstream_connection_errors_total{kind=\"io_error\"}";
        match self {
            Reason::Redirect | Reason::DirectResponse | Reason::Preflight => None,
            Reason::Error(error) => match error {
                ProxyError::Request(_) | ProxyError::RequestBody => Some(PROTOCOL),
                ProxyError::RequestHeadTimeout => {
                    Some("ringress_downstream_connection_errors_total{kind=\"head_timeout\"}")
                }
                ProxyError::RequestBodyTimeout => Some(PROGRESS),
                ProxyError::UpstreamConnect => {
                    Some("ringress_upstream_connect_failures_total{kind=\"failure\"}")
                }
                ProxyError::UpstreamConnectTimeout => {
                    Some("ringress_upstream_connect_failures_total{kind=\"timeout\"}")
                }
                ProxyError::UpstreamProtocol(_)
                | ProxyError::UpstreamInterim
                | ProxyError::UpstreamTruncated => Some("ringress_upstream_protocol_errors_total"),
                ProxyError::UpstreamOverflow => Some("ringress_upstream_overflows_total"),
                ProxyError::DownstreamGone => Some(LEFT),
                ProxyError::LowVersion
                | ProxyError::PathNormalization
                | ProxyError::ConnectNotAllowed
                | ProxyError::NoRoute
                | ProxyError::Misdirected
                | ProxyError::NoCluster
                | ProxyError::NoHealthyUpstream
                | ProxyError::UpstreamClosed
                | ProxyError::UpstreamRefused
                | ProxyError::UpstreamUnsupported
                | ProxyError::RequestTimeout
                | ProxyError::PerTryTimeout
                | ProxyError::FaultAbort(_) => None,
            },
        }
    }
}

/// What follows the details in `x-ringress-reason` when a route was found.
pub fn write_route(out: &mut Vec<u8>, names: &RouteNames) {
    out.clear();
    if !names.route.is_empty() {
        out.extend_from_slice(b"; route=");
        write_name(out, &names.route);
    }
    // A server's own redirect to https is of no VirtualService.
    if !names.virtual_service.is_empty() {
        out.extend_from_slice(b"; virtual-service=");
        write_name(out, &names.virtual_service);
    }
}

/// A name from a manifest: nothing in it may end the field, or look like another parameter.
fn write_name(out: &mut Vec<u8>, name: &str) {
    let safe = |byte: u8| byte.is_ascii_graphic() && !matches!(byte, b';' | b',' | b'"');
    out.extend(name.bytes().map(|byte| if safe(byte) { byte } else { b'_' }));
}

/// Put `x-ringress-reason` at the end of the head in `out`, which a body may follow; `spare` is working
/// memory.
pub fn write_header(
    (out, spare): (&mut Vec<u8>, &mut Vec<u8>),
    details: &'static str,
    of_route: &[u8],
) {
    header_edits::append_field(out, spare, |out| {
        for part in [b"x-ringress-reason: ", details.as_bytes(), of_route, b"\r\n"] {
            out.extend_from_slice(part);
        }
    });
}

#[cfg(test)]
mod tests;
