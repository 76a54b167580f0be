//! What is counted, per what, and how it is shown.
//!
//! Each worker counts into its own [`MetricsShard`]: plain integers under small indices, no
//! atomics, no strings, no hashing. The control side gives the indices meaning in a [`LabelTable`].
//! One stats thread swaps the workers' shards for empty ones, adds them up and renders the total.
//!
//! Reading order: `labels`, `buckets`, `series`, `tcp_series`, `exemplar`, `exemplars`, `counters`, `cluster_gauges`,
//! `shard`, `latency_counts`, `history`, `totals`, `slo`, `usage`, `stats_thread`, `reading` (what a scrape takes off
//! the stats thread), `text`, `slo_metrics`, `prometheus`. Adding a label to an Istio metric costs one series per
//! value of it in every worker; adding a counter costs one field in `counters` and one name in `names`.
//!
//! No network, no files and no runtime here, and nothing reads a request but through
//! [`crate::stream_info::StreamInfo`].

pub mod buckets;
pub mod cluster_gauges;
pub mod control_stats;
pub mod counters;
pub mod exemplar;
pub mod exemplars;
pub mod history;
pub mod labels;
pub mod latency_counts;
pub mod names;
pub mod overrides;
pub mod prometheus;
pub mod reading;
pub mod series;
pub mod shard;
pub mod slo;
mod slo_metrics;
pub mod stats_thread;
pub mod tcp_series;
pub mod text;
pub mod totals;
pub mod usage;

pub use cluster_gauges::{ClusterGauges, ClusterTable};
pub use control_stats::ControlStats;
pub use counters::{WorkerCounters, WorkerGauges};
pub use exemplar::Exemplar;
pub use labels::{HistogramKey, LabelTable, MetricLabels, SharedLabels, SourceLabels};
pub use overrides::{FamilyOverride, MetricOverrides, TagOverride};
pub use prometheus::Exposition;
pub use reading::Reading;
pub use shard::{MetricsShard, WorkerMetrics};
pub use stats_thread::{ShardSource, StatsHandle, StatsOptions, StatsThread, SwapRequest};
pub use tcp_series::TcpSeries;
pub use text::Format;
pub use totals::Totals;
pub use usage::{ProcessUsage, RingUsage, UsageProbe, WorkerUsage};
