//! Istio's standard metrics, a piece at a time: with ten thousand routes they are hundreds of megabytes
//! of text, which no client needs in one piece.

use std::collections::BTreeMap;

use super::series_labels::{self, Source, Tail};
use crate::metrics::buckets::BOUND_TEXTS;
use crate::metrics::exemplar::Exemplar;
use crate::metrics::labels::SlotLabels;
use crate::metrics::names::{self, Metric};
use crate::metrics::overrides::FamilyOverride;
use crate::metrics::reading::{MessageReading, Reading};
use crate::metrics::series::{Buckets, Series};
use crate::metrics::tcp_series::TcpSeries;
use crate::metrics::text::{Format, Writer, label};

/// The bounds as OpenMetrics writes them: numbers with a point, large ones with an exponent.
const OPEN_METRICS_BOUNDS: [&str; BOUND_TEXTS.len()] = [
    "0.5", "1.0", "5.0", "10.0", "25.0", "50.0", "100.0", "250.0", "500.0", "1000.0", "2500.0",
    "5000.0", "10000.0", "30000.0", "60000.0", "300000.0", "600000.0", "1.8e+06", "3.6e+06",
];

/// What a family shows of a series.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Shown {
    Requests,
    /// Kept in microseconds, shown in milliseconds.
    Duration,
    RequestBytes,
    ResponseBytes,
}

/// The families of requests, in the order in which they are shown.
const FAMILIES: [(Metric, Shown); 4] = [
    (names::REQUESTS, Shown::Requests),
    (names::REQUEST_DURATION, Shown::Duration),
    (names::REQUEST_BYTES, Shown::RequestBytes),
    (names::RESPONSE_BYTES, Shown::ResponseBytes),
];

/// Series that a Telemetry resource made equal.
#[derive(Default)]
struct Merged {
    series: Series,
    exemplars: Vec<(usize, Exemplar)>,
}

/// Where the writing of the families of requests stands.
#[derive(Default)]
pub(super) struct HttpFamilies {
    family: usize,
    next: usize,
    /// The series of a family that Telemetry resources change.
    merged: Option<Vec<(String, Merged)>>,
    labels: Vec<u8>,
    line: Vec<u8>,
}

impl HttpFamilies {
    /// Write series until the text is as long as wanted. False: that was the last one.
    pub(super) fn write(
        &mut self,
        writer: &mut Writer,
        reading: &Reading,
        source: &Source,
        length: usize,
    ) -> bool {
        while let Some((metric, shown)) = FAMILIES.get(self.family).copied() {
            let changes = reading.overrides.0.get(metric.name);
            if reading.http.is_empty() || changes.is_some_and(|changes| changes.disabled) {
                self.next_family();
                continue;
            }
            if self.next == 0 {
                writer.head(metric);
                self.merged = changes
                    .filter(|changes| !changes.tags.is_empty())
                    .map(|changes| merge(reading, source, changes, writer.format));
            }
            let count = self.merged.as_ref().map_or(reading.http.len(), Vec::len);
            while self.next < count {
                self.write_one(writer, metric, shown, reading, source);
                self.next += 1;
                if writer.out.len() >= length && self.next < count {
                    return true;
                }
            }
            self.next_family();
        }
        false
    }

    fn next_family(&mut self) {
        self.family += 1;
        self.next = 0;
        self.merged = None;
    }

    fn write_one(
        &mut self,
        writer: &mut Writer,
        metric: Metric,
        shown: Shown,
        reading: &Reading,
        source: &Source,
    ) {
        self.labels.clear();
        let (series, exemplars) = match &self.merged {
            Some(merged) => {
                let (text, merged) = &merged[self.next];
                self.labels.extend_from_slice(text.as_bytes());
                (&merged.series, &merged.exemplars)
            }
            None => {
                let one = &reading.http[self.next];
                series_labels::write(
                    &mut self.labels,
                    source,
                    &one.slot,
                    Tail::Http(one.key),
                    writer.format,
                );
                (&one.series, &one.exemplars)
            }
        };
        let buckets = match shown {
            Shown::Requests => {
                writer.sample(metric.name, &self.labels, series.requests);
                return;
            }
            Shown::Duration => &series.duration_us,
            Shown::RequestBytes => &series.request_bytes,
            Shown::ResponseBytes => &series.response_bytes,
        };
        let exemplars = if shown == Shown::Duration { exemplars.as_slice() } else { &[] };
        write_buckets(writer, &mut self.line, metric, &self.labels, buckets, exemplars);
        writer.series(&format!("{}_sum", metric.name), &self.labels);
        match shown {
            Shown::Duration => {
                writer.whole(buckets.sum / 1000);
                let thousandths = (buckets.sum % 1000) as u16;
                writer.out.extend_from_slice(&[
                    b'.',
                    b'0' + (thousandths / 100) as u8,
                    b'0' + (thousandths / 10 % 10) as u8,
                    b'0' + (thousandths % 10) as u8,
                ]);
            }
            _ => writer.whole(buckets.sum),
        }
        writer.out.push(b'\n');
        writer.sample(&format!("{}_count", metric.name), &self.labels, series.requests);
    }
}

/// `line` is room to work in.
fn write_buckets(
    writer: &mut Writer,
    line: &mut Vec<u8>,
    metric: Metric,
    labels: &[u8],
    buckets: &Buckets,
    exemplars: &[(usize, Exemplar)],
) {
    // All lines begin alike, up to the bound.
    line.clear();
    line.extend_from_slice(metric.name.as_bytes());
    line.extend_from_slice(b"_bucket{");
    line.extend_from_slice(labels);
    line.extend_from_slice(if labels.is_empty() { b"le=\"" } else { b",le=\"" });
    let bounds = match writer.format {
        Format::Prometheus => &BOUND_TEXTS,
        Format::OpenMetrics => &OPEN_METRICS_BOUNDS,
    };
    let mut exemplars = exemplars.iter().peekable();
    let mut cumulative = 0;
    let bounds = bounds.iter().copied().chain(["+Inf"]);
    for (index, (bound, count)) in bounds.zip(&buckets.counts).enumerate() {
        cumulative += count;
        writer.out.extend_from_slice(line);
        writer.out.extend_from_slice(bound.as_bytes());
        writer.out.extend_from_slice(b"\"} ");
        writer.whole(cumulative);
        if let Some((_, exemplar)) = exemplars.next_if(|(bucket, _)| *bucket == index)
            && writer.format == Format::OpenMetrics
        {
            exemplar.write_to(&mut writer.out);
        }
        writer.out.push(b'\n');
    }
}

/// Add up the series that `changes` make equal.
fn merge(
    reading: &Reading,
    source: &Source,
    changes: &FamilyOverride,
    format: Format,
) -> Vec<(String, Merged)> {
    let mut merged: BTreeMap<String, Merged> = BTreeMap::new();
    for one in &reading.http {
        let labels =
            series_labels::changed(source, &one.slot, Tail::Http(one.key), changes, format);
        let sum = merged.entry(labels).or_default();
        sum.series.add(&one.series);
        for (bucket, exemplar) in &one.exemplars {
            match sum.exemplars.binary_search_by_key(bucket, |(bucket, _)| *bucket) {
                Err(place) => sum.exemplars.insert(place, (*bucket, *exemplar)),
                Ok(place) if sum.exemplars[place].1.unix_ms < exemplar.unix_ms => {
                    sum.exemplars[place].1 = *exemplar;
                }
                Ok(_) => {}
            }
        }
    }
    merged.into_iter().collect()
}

/// Messages, connections and the version: a line per series.
pub(super) fn others(writer: &mut Writer, reading: &Reading, source: &Source) {
    let messages = &reading.messages;
    let numbers = |read: fn(&MessageReading) -> u64| {
        messages.iter().map(move |one| (&*one.slot, Tail::Messages, read(one)))
    };
    family(writer, reading, source, names::REQUEST_MESSAGES, numbers(|one| one.requests));
    family(writer, reading, source, names::RESPONSE_MESSAGES, numbers(|one| one.responses));
    let tcp = &reading.tcp;
    let numbers = |read: fn(&TcpSeries) -> u64| {
        tcp.iter().map(move |one| (&*one.slot, Tail::Tcp(one.flags), read(&one.series)))
    };
    family(writer, reading, source, names::TCP_SENT_BYTES, numbers(|one| one.sent_bytes));
    family(writer, reading, source, names::TCP_RECEIVED_BYTES, numbers(|one| one.received_bytes));
    family(writer, reading, source, names::TCP_CONNECTIONS_OPENED, numbers(|one| one.opened));
    family(writer, reading, source, names::TCP_CONNECTIONS_CLOSED, numbers(|one| one.closed));
    writer.head(names::BUILD);
    let mut labels = String::new();
    label(&mut labels, "component", "proxy");
    label(&mut labels, "tag", &reading.version);
    writer.sample(names::BUILD.name, labels.as_bytes(), 1);
}

fn family<'r>(
    writer: &mut Writer,
    reading: &Reading,
    source: &Source,
    metric: Metric,
    series: impl ExactSizeIterator<Item = (&'r SlotLabels, Tail, u64)>,
) {
    let changes = reading.overrides.0.get(metric.name);
    if series.len() == 0 || changes.is_some_and(|changes| changes.disabled) {
        return;
    }
    writer.head(metric);
    match changes.filter(|changes| !changes.tags.is_empty()) {
        None => {
            let mut labels = Vec::with_capacity(1024);
            for (slot, tail, value) in series {
                labels.clear();
                series_labels::write(&mut labels, source, slot, tail, writer.format);
                writer.sample(metric.name, &labels, value);
            }
        }
        Some(changes) => {
            let mut merged: BTreeMap<String, u64> = BTreeMap::new();
            for (slot, tail, value) in series {
                let labels = series_labels::changed(source, slot, tail, changes, writer.format);
                *merged.entry(labels).or_default() += value;
            }
            for (labels, value) in merged {
                writer.sample(metric.name, labels.as_bytes(), value);
            }
        }
    }
}
