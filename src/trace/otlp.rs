//! Spans as the OpenTelemetry protocol has them. Attributes have the names that Envoy gives them, which
//! Kiali and the queries of people who run Istio know; what Envoy does not tell is in `ringress.*`.

use std::net::SocketAddr;

use opentelemetry_proto::tonic::collector::trace::v1::{
    ExportTraceServiceRequest, ExportTraceServiceResponse,
};
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::common::v1::{AnyValue, InstrumentationScope, KeyValue};
use opentelemetry_proto::tonic::resource::v1::Resource;
use opentelemetry_proto::tonic::trace::v1::span::SpanKind;
use opentelemetry_proto::tonic::trace::v1::status::StatusCode;
use opentelemetry_proto::tonic::trace::v1::{self as proto, ResourceSpans, ScopeSpans, Status};
use prost::Message;

use super::span::Span;

/// Flags of a span: sampled; it is known whether the parent is elsewhere; it is.
const SAMPLED: u32 = 1;
const PARENT_IS_REMOTE: u32 = 0x300;
/// `grpc-status` of errors that are the server's fault: unknown, deadline exceeded, unimplemented,
/// internal, unavailable, data loss.
const GRPC_SERVER_ERRORS: [u8; 6] = [2, 4, 12, 13, 14, 15];

/// A request to a collector that carries `spans` of the service `service`, encoded.
pub fn encode(service: &str, version: &str, spans: Vec<Span>) -> Vec<u8> {
    let scope = InstrumentationScope {
        name: "ringress".to_owned(),
        version: version.to_owned(),
        ..InstrumentationScope::default()
    };
    let spans = spans.into_iter().map(span).collect();
    let resource =
        Resource { attributes: vec![text("service.name", service)], ..Resource::default() };
    let request = ExportTraceServiceRequest {
        resource_spans: vec![ResourceSpans {
            resource: Some(resource),
            scope_spans: vec![ScopeSpans { scope: Some(scope), spans, ..ScopeSpans::default() }],
            ..ResourceSpans::default()
        }],
    };
    request.encode_to_vec()
}

/// Spans that the collector refused out of a request that it took, and why, by its answer. An answer that
/// cannot be read refuses nothing.
pub fn refused(answer: &[u8]) -> Option<(u64, String)> {
    let answer = ExportTraceServiceResponse::decode(answer).ok()?;
    let partial = answer.partial_success?;
    let count = u64::try_from(partial.rejected_spans).ok().filter(|count| *count > 0)?;
    Some((count, partial.error_message))
}

fn span(span: Span) -> proto::Span {
    let info = &span.info;
    let context = &span.context;
    let start_us = info.started_unix_us;
    let name = if span.operation.is_empty() { &span.method } else { &span.operation };
    let remote = if context.parent_id.is_some() { PARENT_IS_REMOTE } else { 0 };
    proto::Span {
        trace_id: context.trace_id.to_vec(),
        span_id: context.span_id.to_vec(),
        parent_span_id: context.parent_id.map(|id| id.to_vec()).unwrap_or_default(),
        flags: SAMPLED | remote,
        name: name.to_string(),
        kind: SpanKind::Server.into(),
        start_time_unix_nano: start_us.saturating_mul(1000),
        end_time_unix_nano: start_us.saturating_add(info.duration_us).saturating_mul(1000),
        attributes: attributes(&span),
        status: is_error(&span)
            .then(|| Status { code: StatusCode::Error.into(), ..Status::default() }),
        ..proto::Span::default()
    }
}

fn is_error(span: &Span) -> bool {
    let grpc = span.info.grpc_status.filter(|_| span.info.grpc);
    span.info.response_code >= 500
        || grpc.is_some_and(|status| GRPC_SERVER_ERRORS.contains(&status))
}

fn attributes(span: &Span) -> Vec<KeyValue> {
    let info = &span.info;
    let flags = info.flags.to_string();
    let mut all = vec![
        text("component", "proxy"),
        text("http.method", &span.method),
        text("http.url", &span.url),
        text("http.protocol", info.version.as_str()),
        number("http.status_code", u64::from(info.response_code)),
        text("response_flags", &flags),
        number("request_size", info.request_body_bytes),
        number("response_size", info.response_body_bytes),
        text("ringress.response_code_details", info.details),
    ];
    let attempts = u64::from(info.attempts);
    if attempts > 0 {
        all.push(number("ringress.attempts", attempts));
    }
    if let Some(status) = info.grpc_status.filter(|_| info.grpc) {
        all.push(number("grpc.status_code", u64::from(status)));
    }
    for (name, value) in [
        ("user_agent", &span.user_agent),
        ("guid:x-request-id", &span.request_id),
        ("upstream_cluster", &span.cluster),
        ("upstream_cluster.name", &span.cluster),
        ("ringress.route", &span.route),
    ] {
        if !value.is_empty() {
            all.push(text(name, value));
        }
    }
    let address = |address: SocketAddr| address.to_string();
    if let Some(peer) = span.peer {
        all.push(text("peer.address", &peer.ip().to_string()));
    }
    if let Some(upstream) = info.upstream_address.map(address) {
        all.push(text("upstream_address", &upstream));
    }
    all.extend(span.tags.iter().map(|(name, value)| text(name, value)));
    all
}

fn attribute(key: &str, value: Value) -> KeyValue {
    KeyValue {
        key: key.to_owned(),
        value: Some(AnyValue { value: Some(value) }),
        ..KeyValue::default()
    }
}

fn text(key: &str, value: &str) -> KeyValue {
    attribute(key, Value::StringValue(value.to_owned()))
}

fn number(key: &str, value: u64) -> KeyValue {
    attribute(key, Value::IntValue(i64::try_from(value).unwrap_or(i64::MAX)))
}

#[cfg(test)]
pub(super) mod tests {
    use std::time::Instant;

    use super::*;
    use crate::stream_info::{ResponseFlags, StreamInfo};
    use crate::trace::{Format, Propagation, TraceContext};
    use opentelemetry_proto::tonic::collector::trace::v1::ExportTracePartialSuccess;

    /// A span of a request.
    pub(in crate::trace) fn span() -> Span {
        let mut info = StreamInfo::new(Instant::now(), 1_700_000_000_000_000);
        info.duration_us = 1500;
        info.response_code = 200;
        info.attempts = 2;
        info.upstream_address = Some(([127, 0, 0, 1], 8080).into());
        Span {
            context: TraceContext {
                trace_id: [1; 16],
                span_id: [2; 8],
                parent_id: Some([3; 8]),
                sampled: true,
                keeps_state: false,
                b3_single: false,
                propagation: Propagation::new(&[Format::W3c]),
            },
            method: "GET".into(),
            url: "http://hello.com/a".into(),
            user_agent: "test".into(),
            tags: vec![("stage".into(), "blue".into())],
            request_id: "id".into(),
            operation: "hello:80/*".into(),
            route: "main".into(),
            cluster: "outbound|80||hello".into(),
            peer: None,
            info,
        }
    }

    fn encoded(one: Span) -> proto::Span {
        let bytes = encode("edge", "1.0", vec![one]);
        let request = ExportTraceServiceRequest::decode(&bytes[..]).expect("well-formed");
        let resource = request.resource_spans[0].resource.clone().expect("there");
        assert_eq!(resource.attributes, [text("service.name", "edge")]);
        request.resource_spans[0].scope_spans[0].spans[0].clone()
    }

    #[test]
    fn a_span_has_its_place_its_time_and_its_attributes() {
        let one = encoded(span());
        assert_eq!((one.trace_id, one.span_id), (vec![1; 16], vec![2; 8]));
        assert_eq!((one.parent_span_id, one.flags), (vec![3; 8], 0x301));
        assert_eq!(one.name, "hello:80/*");
        assert_eq!(one.start_time_unix_nano, 1_700_000_000_000_000_000);
        assert_eq!(one.end_time_unix_nano - one.start_time_unix_nano, 1_500_000);
        assert_eq!(one.status, None);
        for wanted in [
            text("http.method", "GET"),
            number("http.status_code", 200),
            number("ringress.attempts", 2),
            text("upstream_address", "127.0.0.1:8080"),
            text("response_flags", "-"),
            text("stage", "blue"),
        ] {
            assert!(one.attributes.contains(&wanted), "{wanted:?} in {:?}", one.attributes);
        }
        assert!(!one.attributes.iter().any(|attribute| attribute.key == "grpc.status_code"));
    }

    #[test]
    fn faults_of_the_server_are_errors() {
        let failed = |change: fn(&mut Span)| {
            let mut one = span();
            change(&mut one);
            encoded(one).status.is_some_and(|status| status.code == i32::from(StatusCode::Error))
        };
        assert!(failed(|one| one.info.response_code = 503));
        assert!(!failed(|one| one.info.response_code = 404));
        let grpc = |one: &mut Span, status| {
            one.info.grpc = true;
            one.info.grpc_status = Some(status);
        };
        assert!(failed(|one| {
            one.info.grpc = true;
            one.info.grpc_status = Some(14)
        }));
        let mut fine = span();
        grpc(&mut fine, 5);
        assert!(encoded(fine).status.is_none());
    }

    #[test]
    fn a_request_that_met_nothing_is_named_by_its_method() {
        let mut one = span();
        one.operation = "".into();
        one.cluster = "".into();
        one.context.parent_id = None;
        one.info.upstream_address = None;
        one.info.flags = ResponseFlags::NO_ROUTE_FOUND;
        let one = encoded(one);
        assert_eq!((one.name.as_str(), one.flags), ("GET", 1));
        assert!(one.parent_span_id.is_empty());
        assert!(one.attributes.contains(&text("response_flags", "NR")));
        assert!(!one.attributes.iter().any(|attribute| attribute.key.starts_with("upstream")));
    }

    #[test]
    fn refused_spans_are_read_from_the_answer() {
        assert_eq!(refused(b""), None);
        assert_eq!(refused(b"\xff\xff not protobuf"), None);
        let answer = |rejected_spans| {
            let error_message = "too old".to_owned();
            let partial_success = Some(ExportTracePartialSuccess { rejected_spans, error_message });
            ExportTraceServiceResponse { partial_success }.encode_to_vec()
        };
        assert_eq!(refused(&answer(3)), Some((3, "too old".to_owned())));
        assert_eq!(refused(&answer(0)), None);
        assert_eq!(refused(&answer(-1)), None);
    }
}
