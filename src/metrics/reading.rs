//! The numbers of one scrape, copied off the stats thread: ten thousand series are some five megabytes, their
//! text is a hundred times that.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::cluster_gauges::{ClusterGauges, ClusterTable};
use super::counters::{WorkerCounters, WorkerGauges};
use super::exemplar::Exemplar;
use super::labels::{SlotLabels, SourceLabels};
use super::names::{self, Metric};
use super::overrides::MetricOverrides;
use super::series::{Series, SeriesKey};
use super::slo_metrics::{self, SloFamily};
use super::stats_thread::Collected;
use super::tcp_series::TcpSeries;
use super::usage::{ProcessUsage, ShownUsage};
use crate::ids::{MetricSlot, WorkerId};
use crate::stream_info::ResponseFlags;

/// One HTTP series.
#[derive(Clone, Debug)]
pub(super) struct HttpReading {
    pub(super) slot: Arc<SlotLabels>,
    pub(super) key: SeriesKey,
    pub(super) series: Series,
    /// Buckets of the duration that have one, ascending.
    pub(super) exemplars: Vec<(usize, Exemplar)>,
}

/// One TCP series.
#[derive(Clone, Debug)]
pub(super) struct TcpReading {
    pub(super) slot: Arc<SlotLabels>,
    pub(super) flags: ResponseFlags,
    pub(super) series: TcpSeries,
}

/// Messages of gRPC under one label set.
#[derive(Clone, Debug)]
pub(super) struct MessageReading {
    pub(super) slot: Arc<SlotLabels>,
    pub(super) requests: u64,
    pub(super) responses: u64,
}

/// A cluster with its name.
#[derive(Clone, Debug)]
pub(super) struct ClusterReading {
    pub(super) name: String,
    pub(super) gauges: ClusterGauges,
}

/// Everything that a page shows.
#[derive(Clone, Debug)]
pub struct Reading {
    pub(super) source: SourceLabels,
    pub(super) version: String,
    pub(super) overrides: Arc<MetricOverrides>,
    pub(super) http: Vec<HttpReading>,
    pub(super) messages: Vec<MessageReading>,
    pub(super) tcp: Vec<TcpReading>,
    pub(super) counters: WorkerCounters,
    pub(super) gauges: Vec<(WorkerId, WorkerGauges)>,
    pub(super) usages: Vec<ShownUsage>,
    pub(super) workers: usize,
    pub(super) silent_workers: usize,
    pub(super) reloads: [(&'static str, u64); 2],
    pub(super) control: Vec<(Metric, u64)>,
    /// Families of objectives with their samples.
    pub(super) slos: Vec<SloFamily>,
    cluster_tables: Vec<ClusterTable>,
    pub(super) clusters: Vec<ClusterReading>,
    /// Requests that ended, by cluster.
    pub(super) destinations: BTreeMap<String, u64>,
    pub(super) process: Option<ProcessUsage>,
}

impl Reading {
    /// Copy what `collected` has now.
    pub fn of(collected: &Collected<'_>) -> Reading {
        let (totals, labels) = (collected.totals, collected.labels);
        let http = totals.series.iter().map(|(slot, key, series)| HttpReading {
            slot: Arc::clone(labels.slot_labels(slot)),
            key,
            series: *series,
            exemplars: (0..series.duration_us.counts.len())
                .filter(|bucket| series.duration_us.counts[*bucket] > 0)
                .filter_map(|bucket| Some((bucket, totals.exemplar(slot, key, bucket)?)))
                .collect(),
        });
        let tcp = totals.tcp.iter().map(|(slot, flags, series)| TcpReading {
            slot: Arc::clone(labels.slot_labels(slot)),
            flags,
            series: *series,
        });
        let mut destinations = BTreeMap::new();
        for (key, count) in totals.histogram_counts(labels) {
            *destinations.entry(key.destination.clone()).or_default() += count;
        }
        let stats = collected.control;
        let read = |value: &std::sync::atomic::AtomicU64| value.load(Ordering::Relaxed);
        Reading {
            source: collected.source.clone(),
            version: collected.version.to_owned(),
            overrides: Arc::clone(labels.overrides()),
            http: http.collect(),
            messages: messages(collected),
            tcp: tcp.collect(),
            counters: totals.counters,
            gauges: totals.gauges().to_vec(),
            usages: collected.usage.iter().copied().collect(),
            workers: collected.workers,
            silent_workers: collected.silent_workers,
            reloads: [
                ("success", read(&stats.reloads_succeeded)),
                ("failure", read(&stats.reloads_failed)),
            ],
            control: vec![
                (names::OBJECT_REFUSALS, read(&stats.object_refusals)),
                (names::OBJECTS_REFUSED, read(&stats.objects_refused)),
                (names::CONFIG_GENERATION, read(&stats.generation)),
                (names::DNS_LOOKUPS, read(&stats.dns_lookups)),
                (names::DNS_LOOKUP_FAILURES, read(&stats.dns_lookup_failures)),
                (names::DNS_NAMES, read(&stats.dns_names)),
                (names::DNS_NAMES_UNRESOLVED, read(&stats.dns_names_unresolved)),
                (names::ACCESS_LOG_WRITTEN, read(&stats.access_log_written)),
                (names::ACCESS_LOG_LOST, read(&stats.access_log_lost)),
                (names::ACCESS_LOG_ERRORS, read(&stats.access_log_errors)),
                (names::TRACE_SPANS_EXPORTED, read(&stats.trace_spans_exported)),
                (names::TRACE_SPANS_DROPPED, read(&stats.trace_spans_dropped)),
                (names::TRACE_EXPORT_FAILURES, read(&stats.trace_export_failures)),
            ],
            slos: slo_metrics::families(collected.slos),
            cluster_tables: totals.cluster_tables().to_vec(),
            clusters: Vec::new(),
            destinations,
            process: None,
        }
    }

    /// Give the clusters of `generation` their names, in the order of their ids. Workers that serve
    /// another generation are left out until their next look, within a second.
    pub fn name_clusters(&mut self, generation: u64, names: impl ExactSizeIterator<Item = String>) {
        let sums = ClusterTable::sum(&self.cluster_tables, generation, names.len());
        let named = names.zip(sums).map(|(name, gauges)| ClusterReading { name, gauges });
        self.clusters = named.collect();
    }

    /// Show what the process uses, too.
    pub fn set_process(&mut self, process: ProcessUsage) {
        self.process = Some(process);
    }
}

/// Istio counts messages before it knows how a call ended: protocol, code and flags are no labels, so that
/// what was counted apart by them is added up.
fn messages(collected: &Collected<'_>) -> Vec<MessageReading> {
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
    let named = of_slots.into_iter().map(|(slot, requests, responses)| MessageReading {
        slot: Arc::clone(collected.labels.slot_labels(slot)),
        requests,
        responses,
    });
    named.collect()
}
