//! One line per request: Istio's default text line or the same fields as JSON.
//!
//! The data side captures what a request said ([`RequestFields`]), writes the finished line into
//! its worker's buffer ([`AccessLogSink`]) and hands full buffers to one writer thread
//! ([`AccessLogWriter`]), which owns the file. A worker never waits for the file: when the writer
//! doesn't keep up, lines are dropped and counted.
//!
//! No formatting by the clock of the machine, no lookups in a snapshot: the caller passes names in
//! a [`LineContext`]. Reading order: `fields`, `format`, `escape`, `timestamp`, `ring`, `writer`.

pub mod escape;
pub mod fields;
pub mod format;
pub mod ring;
pub mod timestamp;
pub mod writer;

pub use fields::RequestFields;
pub use format::{AccessLogFormat, LineContext, write_line};
pub use ring::AccessLogSink;
pub use writer::{AccessLogError, AccessLogHandle, AccessLogOutput, AccessLogWriter};
