//! The gateway's own metrics, the standard ones of a process, and on demand some under Envoy's names.

use crate::metrics::cluster_gauges::ClusterGauges;
use crate::metrics::counters::{COUNTERS, GAUGES};
use crate::metrics::names::{self, Metric};
use crate::metrics::reading::Reading;
use crate::metrics::text::{Writer, label};
use crate::metrics::usage::{RingUsage, ShownUsage};

/// A family and how its value is read.
type Column<T, V> = (Metric, fn(&T) -> V);

fn one_label(name: &str, value: &str) -> String {
    let mut labels = String::new();
    label(&mut labels, name, value);
    labels
}

fn of_number(name: &str, value: u32) -> String {
    one_label(name, itoa::Buffer::new().format(value))
}

/// Counters and gauges of the workers.
pub(super) fn workers(writer: &mut Writer, reading: &Reading) {
    let mut last = None;
    for field in COUNTERS {
        if last != Some(field.metric) {
            writer.head(field.metric);
            last = Some(field.metric);
        }
        let labels = field.label.map_or_else(String::new, |(name, value)| one_label(name, value));
        writer.sample(field.metric.name, labels.as_bytes(), (field.read)(&reading.counters));
    }
    for field in GAUGES {
        writer.head(field.metric);
        for (worker, gauges) in &reading.gauges {
            let labels = of_number("worker", worker.0);
            writer.sample(field.metric.name, labels.as_bytes(), (field.read)(gauges));
        }
    }
    for (metric, value) in
        [(names::WORKERS, reading.workers), (names::WORKERS_SILENT, reading.silent_workers)]
    {
        writer.head(metric);
        writer.sample(metric.name, b"", value as u64);
    }
    usage(writer, reading);
}

fn usage(writer: &mut Writer, reading: &Reading) {
    if reading.usages.is_empty() {
        return;
    }
    let fractions: [Column<ShownUsage, f64>; 2] = [
        (names::WORKER_CPU, |shown| shown.usage.cpu.as_secs_f64()),
        (names::WORKER_BUSY, |shown| shown.busy),
    ];
    for (metric, read) in fractions {
        writer.head(metric);
        for shown in &reading.usages {
            writer.fraction(
                metric.name,
                of_number("worker", shown.worker.0).as_bytes(),
                read(shown),
            );
        }
    }
    if reading.usages.iter().all(|shown| shown.usage.ring.is_none()) {
        return;
    }
    let rings: [Column<RingUsage, u64>; 2] = [
        (names::RING_SUBMISSIONS, |ring| ring.submissions),
        (names::RING_COMPLETIONS, |ring| ring.completions),
    ];
    for (metric, read) in rings {
        writer.head(metric);
        for shown in &reading.usages {
            let Some(ring) = &shown.usage.ring else { continue };
            writer.sample(metric.name, of_number("worker", shown.worker.0).as_bytes(), read(ring));
        }
    }
}

/// Numbers of the control side.
pub(super) fn control(writer: &mut Writer, reading: &Reading) {
    writer.head(names::RELOADS);
    for (result, value) in reading.reloads {
        writer.sample(names::RELOADS.name, one_label("result", result).as_bytes(), value);
    }
    for (metric, value) in &reading.control {
        writer.head(*metric);
        writer.sample(metric.name, b"", *value);
    }
}

/// What is open to each cluster.
pub(super) fn clusters(writer: &mut Writer, reading: &Reading) {
    let families: [Column<ClusterGauges, u64>; 4] = [
        (names::CLUSTER_REQUESTS_ACTIVE, |gauges| gauges.requests_active),
        (names::CLUSTER_IDLE, |gauges| gauges.idle),
        (names::CLUSTER_HTTP2, |gauges| gauges.http2),
        (names::CLUSTER_EJECTED, |gauges| gauges.ejected),
    ];
    each_cluster(writer, reading, "cluster", &families);
}

fn each_cluster(
    writer: &mut Writer,
    reading: &Reading,
    label_name: &str,
    families: &[Column<ClusterGauges, u64>],
) {
    if reading.clusters.is_empty() {
        return;
    }
    for (metric, read) in families {
        writer.head(*metric);
        for cluster in &reading.clusters {
            let labels = one_label(label_name, &cluster.name);
            writer.sample(metric.name, labels.as_bytes(), read(&cluster.gauges));
        }
    }
}

/// What the process uses, under the names that every client library of Prometheus gives.
pub(super) fn process(writer: &mut Writer, reading: &Reading) {
    let Some(process) = &reading.process else { return };
    writer.head(names::PROCESS_CPU);
    writer.fraction(names::PROCESS_CPU.name, b"", process.cpu.as_secs_f64());
    writer.head(names::PROCESS_START);
    writer.fraction(names::PROCESS_START.name, b"", process.started_unix_ms as f64 / 1000.0);
    for (metric, value) in [
        (names::PROCESS_RESIDENT, process.resident_bytes),
        (names::PROCESS_VIRTUAL, process.virtual_bytes),
        (names::PROCESS_THREADS, process.threads),
        (names::PROCESS_FDS, process.open_fds),
        (names::PROCESS_FDS_MAX, process.max_fds),
    ] {
        writer.head(metric);
        writer.sample(metric.name, b"", value);
    }
}

/// The same under Envoy's names. `uptime_s` is in seconds.
pub(super) fn envoy(writer: &mut Writer, reading: &Reading, uptime_s: u64) {
    let downstream_active = reading.gauges.iter().map(|(_, gauges)| gauges.downstream_active).sum();
    let requests = reading.http.iter().map(|one| one.series.requests).sum();
    for (metric, value) in [
        (names::ENVOY_UPTIME, uptime_s),
        (names::ENVOY_LIVE, 1),
        (names::ENVOY_CONCURRENCY, reading.workers as u64),
        (names::ENVOY_DOWNSTREAM_ACTIVE, downstream_active),
        (names::ENVOY_DOWNSTREAM_TOTAL, reading.counters.downstream_accepted),
        (names::ENVOY_DOWNSTREAM_REQUESTS, requests),
    ] {
        writer.head(metric);
        writer.sample(metric.name, b"", value);
    }
    let families: [Column<ClusterGauges, u64>; 3] = [
        (names::ENVOY_UPSTREAM_ACTIVE, ClusterGauges::connections),
        (names::ENVOY_UPSTREAM_REQUESTS_ACTIVE, |gauges| gauges.requests_active),
        (names::ENVOY_EJECTIONS_ACTIVE, |gauges| gauges.ejected),
    ];
    each_cluster(writer, reading, "envoy_cluster_name", &families);
    if !reading.destinations.is_empty() {
        writer.head(names::ENVOY_UPSTREAM_REQUESTS);
        for (cluster, count) in &reading.destinations {
            let labels = one_label("envoy_cluster_name", cluster);
            writer.sample(names::ENVOY_UPSTREAM_REQUESTS.name, labels.as_bytes(), *count);
        }
    }
}
