//! Prometheus text exposition, version 0.0.4.

use std::fmt::Write;
use std::sync::atomic::Ordering;

use super::buckets::BOUND_TEXTS;
use super::counters::{COUNTERS, GAUGES};
use super::labels::{MetricLabels, SourceLabels};
use super::names::{self, Metric};
use super::series::{Buckets, Series, SeriesKey};
use super::slo_metrics;
use super::stats_thread::Collected;
use super::tcp_series::TcpSeries;
use crate::ids::MetricSlot;
use crate::stream_info::ResponseFlags;

/// The `Content-Type` of what [`render`] returns.
pub const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// The unit in which a sum is kept and the one in which it is shown.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Unit {
    /// Kept in microseconds, shown in milliseconds.
    Milliseconds,
    Bytes,
}

/// Everything there is to show.
pub fn render(collected: &Collected<'_>) -> String {
    let mut out = String::with_capacity(16 * 1024);
    istio(&mut out, collected);
    workers(&mut out, collected);
    control(&mut out, collected);
    slo_metrics::render(&mut out, collected.slos);
    out
}

fn istio(out: &mut String, collected: &Collected<'_>) {
    let source = source_labels(collected.source);
    let series: Vec<(String, &Series)> = collected
        .totals
        .series
        .iter()
        .map(|(slot, key, series)| {
            (series_labels(&source, collected.labels.labels(slot), key), series)
        })
        .collect();
    if !series.is_empty() {
        head(out, names::REQUESTS);
        for (labels, series) in &series {
            sample(out, names::REQUESTS.name, labels, series.requests);
        }
        histogram(out, names::REQUEST_DURATION, Unit::Milliseconds, &series, |s| &s.duration_us);
        histogram(out, names::REQUEST_BYTES, Unit::Bytes, &series, |s| &s.request_bytes);
        histogram(out, names::RESPONSE_BYTES, Unit::Bytes, &series, |s| &s.response_bytes);
    }
    messages(out, collected, &source);
    tcp(out, collected, &source);
    head(out, names::BUILD);
    let mut labels = String::new();
    label(&mut labels, "component", "proxy");
    label(&mut labels, "tag", collected.version);
    sample(out, names::BUILD.name, &labels, 1);
}

/// Istio counts messages before it knows how a call ended: protocol, code and flags are no labels, so that
/// what was counted apart by them is added up.
fn messages(out: &mut String, collected: &Collected<'_>, source: &str) {
    let mut of_slots: Vec<(MetricSlot, u64, u64)> = Vec::new();
    for (slot, _, series) in collected.totals.series.iter().filter(|(_, key, _)| key.is_grpc()) {
        match of_slots.last_mut() {
            Some((last, requests, responses)) if *last == slot => {
                *requests += series.request_messages;
                *responses += series.response_messages;
            }
            _ => of_slots.push((slot, series.request_messages, series.response_messages)),
        }
    }
    if of_slots.is_empty() {
        return;
    }
    let mut family = |metric: Metric, read: fn(&(MetricSlot, u64, u64)) -> u64| {
        head(out, metric);
        for of_slot in &of_slots {
            let mut labels = source.to_owned();
            for (name, value) in collected.labels.labels(of_slot.0).pairs() {
                label(&mut labels, name, value);
            }
            sample(out, metric.name, &labels, read(of_slot));
        }
    };
    family(names::REQUEST_MESSAGES, |of_slot| of_slot.1);
    family(names::RESPONSE_MESSAGES, |of_slot| of_slot.2);
}

fn tcp(out: &mut String, collected: &Collected<'_>, source: &str) {
    let series: Vec<(String, &TcpSeries)> = collected
        .totals
        .tcp
        .iter()
        .map(|(slot, flags, series)| {
            (tcp_labels(source, collected.labels.labels(slot), flags), series)
        })
        .collect();
    if series.is_empty() {
        return;
    }
    let mut family = |metric: Metric, read: fn(&TcpSeries) -> u64| {
        head(out, metric);
        for (labels, series) in &series {
            sample(out, metric.name, labels, read(series));
        }
    };
    family(names::TCP_SENT_BYTES, |series| series.sent_bytes);
    family(names::TCP_RECEIVED_BYTES, |series| series.received_bytes);
    family(names::TCP_CONNECTIONS_OPENED, |series| series.opened);
    family(names::TCP_CONNECTIONS_CLOSED, |series| series.closed);
}

fn histogram(
    out: &mut String,
    metric: Metric,
    unit: Unit,
    all: &[(String, &Series)],
    pick: fn(&Series) -> &Buckets,
) {
    head(out, metric);
    for (labels, series) in all {
        let buckets = pick(series);
        let mut cumulative = 0;
        let bounds = BOUND_TEXTS.iter().copied().chain(["+Inf"]);
        for (bound, count) in bounds.zip(&buckets.counts) {
            cumulative += count;
            let name = metric.name;
            let _ = writeln!(out, "{name}_bucket{{{labels},le=\"{bound}\"}} {cumulative}");
        }
        let _ = match unit {
            Unit::Milliseconds => {
                let (ms, us) = (buckets.sum / 1000, buckets.sum % 1000);
                writeln!(out, "{}_sum{{{labels}}} {ms}.{us:03}", metric.name)
            }
            Unit::Bytes => writeln!(out, "{}_sum{{{labels}}} {}", metric.name, buckets.sum),
        };
        let _ = writeln!(out, "{}_count{{{labels}}} {}", metric.name, series.requests);
    }
}

fn source_labels(source: &SourceLabels) -> String {
    let mut out = String::new();
    label(&mut out, "reporter", "source");
    for (name, value) in source.pairs() {
        label(&mut out, name, value);
    }
    out
}

/// All labels of a series in Istio's order; `source` holds the first ones.
fn series_labels(source: &str, destination: &MetricLabels, key: SeriesKey) -> String {
    let mut out = String::with_capacity(1024);
    out.push_str(source);
    for (name, value) in destination.pairs() {
        label(&mut out, name, value);
    }
    label(&mut out, "request_protocol", if key.is_grpc() { "grpc" } else { "http" });
    label(&mut out, "response_code", itoa::Buffer::new().format(key.response_code()));
    if let Some(status) = key.grpc_status() {
        label(&mut out, "grpc_response_status", itoa::Buffer::new().format(status));
    }
    label(&mut out, "response_flags", &key.flags().to_string());
    // Istio knows the policy only where the request arrives, which is not here.
    label(&mut out, "connection_security_policy", "unknown");
    out
}

/// All labels of a TCP series in Istio's order; `source` holds the first ones.
fn tcp_labels(source: &str, destination: &MetricLabels, flags: ResponseFlags) -> String {
    let mut out = String::with_capacity(1024);
    out.push_str(source);
    for (name, value) in destination.pairs() {
        label(&mut out, name, value);
    }
    label(&mut out, "request_protocol", "tcp");
    label(&mut out, "response_flags", &flags.to_string());
    label(&mut out, "connection_security_policy", "unknown");
    out
}

fn workers(out: &mut String, collected: &Collected<'_>) {
    let mut last = None;
    for field in COUNTERS {
        if last != Some(field.metric) {
            head(out, field.metric);
            last = Some(field.metric);
        }
        let mut labels = String::new();
        if let Some((name, value)) = field.label {
            label(&mut labels, name, value);
        }
        sample(out, field.metric.name, &labels, (field.read)(&collected.totals.counters));
    }
    for field in GAUGES {
        head(out, field.metric);
        for (worker, gauges) in collected.totals.gauges() {
            let mut labels = String::new();
            label(&mut labels, "worker", itoa::Buffer::new().format(worker.0));
            sample(out, field.metric.name, &labels, (field.read)(gauges));
        }
    }
    for (metric, value) in
        [(names::WORKERS, collected.workers), (names::WORKERS_SILENT, collected.silent_workers)]
    {
        head(out, metric);
        sample(out, metric.name, "", value as u64);
    }
}

fn control(out: &mut String, collected: &Collected<'_>) {
    let stats = collected.control;
    head(out, names::RELOADS);
    for (result, value) in
        [("success", &stats.reloads_succeeded), ("failure", &stats.reloads_failed)]
    {
        let mut labels = String::new();
        label(&mut labels, "result", result);
        sample(out, names::RELOADS.name, &labels, value.load(Ordering::Relaxed));
    }
    for (metric, value) in [
        (names::OBJECTS_REFUSED_TOTAL, &stats.objects_refused_total),
        (names::OBJECTS_REFUSED, &stats.objects_refused),
        (names::CONFIG_GENERATION, &stats.generation),
        (names::DNS_LOOKUPS, &stats.dns_lookups),
        (names::DNS_LOOKUP_FAILURES, &stats.dns_lookup_failures),
        (names::DNS_NAMES, &stats.dns_names),
        (names::DNS_NAMES_UNRESOLVED, &stats.dns_names_unresolved),
        (names::ACCESS_LOG_WRITTEN, &stats.access_log_written),
        (names::ACCESS_LOG_LOST, &stats.access_log_lost),
        (names::ACCESS_LOG_ERRORS, &stats.access_log_errors),
    ] {
        head(out, metric);
        sample(out, metric.name, "", value.load(Ordering::Relaxed));
    }
}

pub(super) fn head(out: &mut String, metric: Metric) {
    let _ = writeln!(out, "# HELP {} {}", metric.name, metric.help);
    let _ = writeln!(out, "# TYPE {} {}", metric.name, metric.kind.as_str());
}

fn sample(out: &mut String, name: &str, labels: &str, value: u64) {
    out.push_str(name);
    if !labels.is_empty() {
        out.push('{');
        out.push_str(labels);
        out.push('}');
    }
    out.push(' ');
    out.push_str(itoa::Buffer::new().format(value));
    out.push('\n');
}

/// Append `name="value"`, with a comma before it unless it is the first.
pub(super) fn label(out: &mut String, name: &str, value: &str) {
    if !out.is_empty() {
        out.push(',');
    }
    out.push_str(name);
    out.push_str("=\"");
    for character in value.chars() {
        match character {
            '\\' => out.push_str("\\\\"),
            '"' => out.push_str("\\\""),
            '\n' => out.push_str("\\n"),
            other => out.push(other),
        }
    }
    out.push('"');
}

#[cfg(test)]
mod tests;
