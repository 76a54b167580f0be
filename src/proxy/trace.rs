//! The trace of a request: its context when the head is here, its span when it has ended.

use super::context::{Replica, WorkerContext};
use super::downstream::Downstream;
use super::scratch::Scratch;
use crate::http::{HeaderField, KnownHeader, RequestHead};
use crate::snapshot::{CustomTag, Snapshot, TagValue};
use crate::stream_info::StreamInfo;
use crate::trace::span::{TEXT_BYTES_MAX, bounded_text};
use crate::trace::{Span, TraceContext};

/// Find the place of a request in a trace; of one that is sampled keep what its head says. Nothing when
/// traces are off: contexts pass as they came.
pub fn begin(
    context: &WorkerContext,
    head: &RequestHead<'_>,
    snapshot: &Snapshot,
    scratch: &mut Scratch,
) {
    let Some(propagation) = context.tracer.borrow().as_ref().map(|tracer| tracer.propagation)
    else {
        return;
    };
    let policy = &snapshot.settings.telemetry.tracing;
    let trace = TraceContext::new(
        propagation,
        &propagation.read(head.headers),
        !policy.spans_disabled,
        || context.random.borrow_mut().u64(..),
        || context.chance(policy.sampling_ppm),
    );
    scratch.info.trace_id = trace.trace_id;
    scratch.info.span_id = trace.span_id;
    scratch.info.trace_sampled = trace.sampled;
    scratch.trace = Some(trace);
    if trace.sampled && !policy.spans_disabled {
        scratch.span = Some(Box::new(span(trace, head, &policy.custom_tags, &scratch.info)));
    }
}

/// The span of a request, as far as its head tells it.
fn span(
    context: TraceContext,
    head: &RequestHead<'_>,
    tags: &[CustomTag],
    info: &StreamInfo,
) -> Span {
    let mut url = Vec::with_capacity(TEXT_BYTES_MAX);
    for part in [head.scheme.as_str().as_bytes(), b"://", head.authority, head.path] {
        url.extend_from_slice(&part[..part.len().min(TEXT_BYTES_MAX)]);
    }
    Span {
        context,
        method: bounded_text(head.method),
        url: bounded_text(&url),
        user_agent: value_of(head.headers, KnownHeader::UserAgent, b"user-agent"),
        tags: custom_tags(tags, head.headers),
        request_id: Box::default(),
        operation: Box::default(),
        route: Box::default(),
        cluster: Box::default(),
        peer: None,
        info: info.clone(),
    }
}

/// The custom attributes of a request; those without a value are left out.
fn custom_tags(tags: &[CustomTag], fields: &[HeaderField<'_>]) -> Vec<(Box<str>, Box<str>)> {
    let value = |tag: &CustomTag| match &tag.value {
        TagValue::Text(text) => text.clone(),
        TagValue::Header { name, default } => {
            let value = value_of(fields, KnownHeader::from_name(name.as_bytes()), name.as_bytes());
            if value.is_empty() { default.clone() } else { value }
        }
    };
    let named = tags.iter().map(|tag| (tag.name.clone(), value(tag)));
    named.filter(|(_, value)| !value.is_empty()).collect()
}

/// The first value of a field; empty for none.
fn value_of(fields: &[HeaderField<'_>], known: KnownHeader, name: &[u8]) -> Box<str> {
    let is_it =
        |field: &&HeaderField<'_>| field.known == known && field.name.eq_ignore_ascii_case(name);
    fields.iter().find(is_it).map(|field| bounded_text(field.value)).unwrap_or_default()
}

/// Hand the span of a request that has ended over, if it has one.
pub fn finish(
    context: &WorkerContext,
    connection: &Downstream,
    scratch: &mut Scratch,
    replica: &Replica,
) {
    let Some(mut span) = scratch.span.take() else { return };
    let mut tracer = context.tracer.borrow_mut();
    let Some(tracer) = tracer.as_mut() else { return };
    let info = &scratch.info;
    if let Some(route) = info.route {
        let route = replica.snapshot.route(route);
        span.operation = bounded_text(route.operation.as_bytes());
        span.route = bounded_text(route.names.route.as_bytes());
    }
    if let Some(cluster) = info.cluster {
        span.cluster = bounded_text(replica.snapshot.cluster(cluster).name.as_bytes());
    }
    span.peer = Some(connection.peer);
    span.info = info.clone();
    tracer.sink.record(*span);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn custom_tags_have_their_value_or_are_left_out() {
        let tag = |name: &str, value| CustomTag { name: name.into(), value };
        let header = |name: &str, default: &str| TagValue::Header {
            name: name.into(),
            default: default.into(),
        };
        let tags = [
            tag("stage", TagValue::Text("blue".into())),
            tag("user", header("x-user", "nobody")),
            tag("tenant", header("x-tenant", "none")),
            tag("gone", header("x-gone", "")),
            tag("agent", header("user-agent", "")),
            tag("empty", TagValue::Text("".into())),
        ];
        let field = |name: &'static str, value: &'static str| HeaderField {
            name: name.as_bytes(),
            value: value.as_bytes(),
            known: KnownHeader::from_name(name.as_bytes()),
        };
        let fields = [
            field("X-User", "jason"),
            field("x-user", "second"),
            field("x-tenant", ""),
            field("User-Agent", "curl"),
        ];
        let made = custom_tags(&tags, &fields);
        let made: Vec<(&str, &str)> =
            made.iter().map(|(name, value)| (&**name, &**value)).collect();
        assert_eq!(
            made,
            [("stage", "blue"), ("user", "jason"), ("tenant", "none"), ("agent", "curl")]
        );
    }
}
