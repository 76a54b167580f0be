//! Traces: which trace a request belongs to, and the span that tells of it.
//!
//! The data side reads the context that a caller sent and writes the one that goes upstream
//! ([`Propagation`], [`TraceContext`]). Of a sampled request it keeps a [`Span`], which is handed over in
//! batches by the worker's [`SpanSink`]. One thread ([`SpanExporter`]) sends the spans to a collector by
//! OTLP. Nothing on a worker waits for the collector: what it does not take in time is dropped and counted.
//! A request that is not sampled allocates nothing.
//!
//! No configuration is read here: the caller decides who is sampled, and passes names and custom
//! attributes in. Reading order: `context`, `propagation`, `span`, `sink`, `otlp`, `collector`, `exporter`.
//! Why it is built so: `docs/decisions/0015-traces.md`.

pub mod collector;
pub mod context;
pub mod exporter;
pub mod otlp;
pub mod propagation;
pub mod sink;
pub mod span;

pub use collector::{Endpoint, EndpointError};
pub use context::TraceContext;
pub use exporter::SpanExporter;
pub use propagation::{Format, Propagation};
pub use sink::SpanSink;
pub use span::Span;

/// What a worker traces with.
#[derive(Debug)]
pub struct Tracer {
    /// How contexts are read and written.
    pub propagation: Propagation,
    /// Where spans go.
    pub sink: SpanSink,
}
