//! The working memory of one request, reused from request to request.

use super::header_edits::ResponseEdits;
use crate::access_log::RequestFields;
use crate::stream_info::StreamInfo;
use crate::trace::{Span, TraceContext};

/// What one request writes to while it is served. Pooled: its vectors keep their capacity.
pub struct Scratch {
    /// The record of the request.
    pub info: StreamInfo,
    /// The head that goes upstream, and the body bytes that leave with it.
    pub request: Vec<u8>,
    /// Where in `request` the value of `x-envoy-attempt-count` stands.
    pub attempt_count_at: usize,
    /// The head that goes to the client.
    pub response: Vec<u8>,
    /// Where a redirect leads.
    pub location: Vec<u8>,
    /// A path made canonical.
    pub path: Vec<u8>,
    /// A path rewritten.
    pub rewritten: Vec<u8>,
    /// Which destination of the route was chosen.
    pub destination: usize,
    /// Is the client told the reason of an answer that the gateway makes itself
    /// (`Settings::explain_header`)?
    pub tells_reason: bool,
    /// What route the answer is of, as the header that tells the reason shows it; only then written.
    pub reason_of: Vec<u8>,
    /// The hash by which an endpoint is picked, if the cluster has one and the request a key.
    pub hash: Option<u64>,
    /// An injected wait, ms; 0 for none.
    pub delay_ms: u64,
    /// The status of the response as outlier detection sees it: a gRPC error in a head stands for one of
    /// HTTP.
    pub outlier_status: u16,
    /// Most time from the end of the request to the end of the response, ms.
    pub timeout_ms: Option<u64>,
    /// Header operations that wait for the response.
    pub response_edits: ResponseEdits,
    /// Where heads are edited.
    pub spare: Vec<u8>,
    /// What the access log shows of the request.
    pub fields: RequestFields,
    /// Fields of the request that a tap asked for, as lines.
    pub tapped_headers: Vec<u8>,
    /// What the TLS of the last attempt said when it failed (`%UPSTREAM_TRANSPORT_FAILURE_REASON%`).
    pub transport_failure: String,
    /// The place of the request in a trace; none when traces are off.
    pub trace: Option<TraceContext>,
    /// What its span will tell, when it is sampled.
    pub span: Option<Box<Span>>,
    /// Positions of the endpoints tried.
    pub tried: Vec<usize>,
}

impl Scratch {
    /// Empty memory.
    pub fn new(info: StreamInfo) -> Scratch {
        Scratch {
            info,
            request: Vec::with_capacity(2048),
            attempt_count_at: 0,
            response: Vec::with_capacity(2048),
            location: Vec::new(),
            path: Vec::new(),
            rewritten: Vec::new(),
            destination: 0,
            tells_reason: false,
            reason_of: Vec::new(),
            hash: None,
            delay_ms: 0,
            outlier_status: 0,
            timeout_ms: None,
            response_edits: ResponseEdits::default(),
            spare: Vec::new(),
            fields: RequestFields::default(),
            tapped_headers: Vec::new(),
            transport_failure: String::new(),
            trace: None,
            span: None,
            tried: Vec::with_capacity(4),
        }
    }
}
