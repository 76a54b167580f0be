//! One line per request: Istio's default text line, the same fields as JSON, or the user's own form.
//!
//! The data side captures what a request said ([`RequestFields`]), writes the finished line into
//! its worker's buffer ([`AccessLogSink`]) and hands full buffers to one writer thread
//! ([`AccessLogWriter`]), which owns the file. A worker never waits for the file: when the writer
//! doesn't keep up, lines are dropped and counted.
//!
//! No formatting by the clock of the machine, no lookups in a snapshot: the caller passes names in
//! a [`LineContext`]. Reading order: `fields`, `format`, `template`, `filter`, `settings`, `escape`,
//! `timestamp`, `time_format`, `ring`, `writer`.

pub mod escape;
pub mod fields;
pub mod filter;
pub mod format;
pub mod ring;
pub mod settings;
pub mod template;
pub mod time_format;
pub mod timestamp;
pub mod writer;

pub use fields::RequestFields;
pub use filter::{Filter, FilterError};
pub use format::{AccessLogFormat, LineContext, LineWriter};
pub use ring::AccessLogSink;
pub use settings::{AccessLogPolicy, AccessLogSettings, LogSwitch};
pub use template::{JsonShape, Template, TemplateError};
pub use time_format::TimeFormat;
pub use writer::{AccessLogError, AccessLogHandle, AccessLogOutput, AccessLogWriter};
