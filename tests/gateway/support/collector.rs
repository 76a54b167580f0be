//! A collector of spans: OTLP over HTTP, decoded by OpenTelemetry's own messages.

use std::sync::{Arc, Mutex};

use http_body_util::Full;
use hyper::Response;
use hyper::body::Bytes;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::trace::v1::Span;
use prost::Message;

use super::gateway::wait_until;
use super::upstream::{Seen, Upstream};

/// A span as it came.
#[derive(Clone, Debug)]
pub struct Received {
    /// `service.name` of its resource.
    pub service: String,
    /// The span.
    pub span: Span,
}

impl Received {
    /// The value of an attribute, numbers as text.
    pub fn attribute(&self, key: &str) -> Option<String> {
        let found = self.span.attributes.iter().find(|attribute| attribute.key == key)?;
        match found.value.clone()?.value? {
            Value::StringValue(text) => Some(text),
            Value::IntValue(number) => Some(number.to_string()),
            other => panic!("{key} is {other:?}"),
        }
    }
}

/// A collector on loopback.
pub struct Collector {
    upstream: Upstream,
    received: Arc<Mutex<Vec<Received>>>,
}

impl Collector {
    /// Start it.
    pub fn start() -> Collector {
        let received = Arc::new(Mutex::new(Vec::new()));
        let store = Arc::clone(&received);
        let upstream = Upstream::start_with("collector", move |seen: &Seen| {
            store.lock().expect("not poisoned").extend(decode(seen));
            Response::new(Full::new(Bytes::new()))
        });
        Collector { upstream, received }
    }

    /// The value of `--tracing-otlp`.
    pub fn url(&self) -> String {
        format!("http://{}", self.upstream.address)
    }

    /// The spans so far.
    pub fn received(&self) -> Vec<Received> {
        self.received.lock().expect("not poisoned").clone()
    }

    /// Wait for this many spans; no more may have come.
    pub fn wait_for(&self, count: usize) -> Vec<Received> {
        wait_until("the spans", || self.received().len() >= count);
        let received = self.received();
        assert_eq!(received.len(), count, "{received:?}");
        received
    }
}

fn decode(seen: &Seen) -> Vec<Received> {
    assert_eq!((seen.method.as_str(), seen.target.as_str()), ("POST", "/v1/traces"));
    assert_eq!(seen.header("content-type"), Some("application/x-protobuf"));
    let request = ExportTraceServiceRequest::decode(&seen.body[..]).expect("well-formed");
    let mut all = Vec::new();
    for resource in request.resource_spans {
        let attributes = resource.resource.map(|resource| resource.attributes).unwrap_or_default();
        let service = attributes.into_iter().find_map(|attribute| {
            let value = attribute.value?.value?;
            match value {
                Value::StringValue(text) if attribute.key == "service.name" => Some(text),
                _ => None,
            }
        });
        let service = service.expect("a service");
        let spans = resource.scope_spans.into_iter().flat_map(|scope| scope.spans);
        all.extend(spans.map(|span| Received { service: service.clone(), span }));
    }
    all
}
