//! The sum over all workers since the start of the process.

use hdrhistogram::Histogram;

use crate::ids::{HistogramSlot, MetricSlot, WorkerId};

use super::cluster_gauges::ClusterTable;
use super::counters::{WorkerCounters, WorkerGauges};
use super::exemplar::Exemplar;
use super::exemplars::Exemplars;
use super::history::History;
use super::labels::{HistogramKey, LabelTable};
use super::series::{SeriesKey, SeriesTable};
use super::shard::{MetricsShard, latency_histogram};
use super::tcp_series::TcpSeriesTable;

/// Cumulative numbers of the process.
#[derive(Debug, Default)]
pub struct Totals {
    /// Istio's series.
    pub series: SeriesTable,
    /// Istio's series of TCP connections.
    pub tcp: TcpSeriesTable,
    /// Counters, summed over the workers.
    pub counters: WorkerCounters,
    exemplars: Exemplars,
    workers: Vec<(WorkerId, WorkerGauges)>,
    /// In the order of `workers`.
    clusters: Vec<ClusterTable>,
    histograms: Vec<Option<Histogram<u64>>>,
    /// The same requests by time.
    pub history: History,
}

impl Totals {
    /// Nothing counted yet.
    pub fn new() -> Totals {
        Totals::default()
    }

    /// Add what `shard` counted and empty it; its memory stays for the next turn.
    pub fn absorb(&mut self, shard: &mut MetricsShard) {
        shard.series.drain_into(&mut self.series);
        shard.tcp.drain_into(&mut self.tcp);
        self.exemplars.absorb(&mut shard.exemplars);
        self.counters.add(&std::mem::take(&mut shard.counters));
        self.set_gauges(shard);
        if self.histograms.len() < shard.routes.len() {
            self.histograms.resize_with(shard.routes.len(), || None);
        }
        for slot in shard.changed_routes.drain(..) {
            let index = slot as usize;
            let Some(filled) = &mut shard.routes[index] else { continue };
            let total = self.histograms[index].get_or_insert_with(latency_histogram);
            let step = self.history.open(HistogramSlot(slot));
            for recorded in filled.latencies.iter_recorded() {
                let (value, count) = (recorded.value_iterated_to(), recorded.count_at_value());
                total.saturating_record_n(value, u64::from(count));
                step.add_latency(value, count);
            }
            step.add_classes(&std::mem::take(&mut filled.classes));
            filled.latencies.reset();
        }
    }

    /// The newest traced request of a bucket of `istio_request_duration_milliseconds` (an index as in
    /// [`super::buckets`]), if one fell into it.
    pub fn exemplar(&self, slot: MetricSlot, key: SeriesKey, bucket: usize) -> Option<Exemplar> {
        self.exemplars.get(slot, key, bucket)
    }

    fn set_gauges(&mut self, shard: &mut MetricsShard) {
        let (worker, gauges) = (shard.worker(), shard.gauges);
        let index = match self.workers.binary_search_by_key(&worker, |(id, _)| *id) {
            Ok(index) => {
                self.workers[index].1 = gauges;
                index
            }
            Err(index) => {
                self.workers.insert(index, (worker, gauges));
                self.clusters.insert(index, ClusterTable::default());
                index
            }
        };
        // The worker looks once a second, and shards come more often when somebody scrapes.
        if std::mem::take(&mut shard.clusters_are_new) {
            std::mem::swap(&mut self.clusters[index], &mut shard.clusters);
        }
    }

    /// What each worker has open to its clusters, in the order of [`Totals::gauges`].
    pub fn cluster_tables(&self) -> &[ClusterTable] {
        &self.clusters
    }

    /// How many requests each latency histogram has, with what it measures.
    pub fn histogram_counts<'l>(
        &self,
        labels: &'l LabelTable,
    ) -> impl Iterator<Item = (&'l HistogramKey, u64)> {
        let slots = self.histograms.iter().enumerate();
        slots.filter_map(|(slot, histogram)| {
            let key = labels.histogram_key(HistogramSlot(slot as u32));
            Some((key, histogram.as_ref()?.len()))
        })
    }

    /// The gauges of each worker, ordered by worker.
    pub fn gauges(&self) -> &[(WorkerId, WorkerGauges)] {
        &self.workers
    }

    /// Every latency histogram that has a value, microseconds, with what it measures.
    pub fn merged_histograms(&self, labels: &LabelTable) -> Vec<(HistogramKey, Histogram<u64>)> {
        let slots = self.histograms.iter().enumerate();
        slots
            .filter_map(|(slot, histogram)| Some((slot, histogram.as_ref()?)))
            .map(|(slot, histogram)| {
                let slot = HistogramSlot(slot as u32);
                (labels.histogram_key(slot).clone(), histogram.clone())
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stream_info::{ResponseFlags, StreamInfo};
    use proptest::prelude::*;
    use std::time::Instant;

    prop_compose! {
        fn record()(
            slot in 0u32..4, histogram in 0u32..3,
            code in prop::sample::select(vec![0u16, 200, 404, 503]),
            flags in 0u32..4, grpc in any::<bool>(), status in prop::option::of(0u8..20),
            messages in 0u64..5, duration_us in 0u64..2_000_000, request in 0u64..100_000, response in 0u64..10_000_000,
        ) -> StreamInfo {
            let mut info = StreamInfo::new(Instant::now(), 0);
            info.metric_slot = MetricSlot(slot);
            info.histogram_slot = HistogramSlot(histogram);
            info.response_code = code;
            info.flags = ResponseFlags(flags);
            info.grpc = grpc;
            info.grpc_status = status;
            info.request_messages = messages;
            info.response_messages = messages * 2;
            info.duration_us = duration_us;
            info.request_bytes = request;
            info.response_bytes = response;
            info
        }
    }

    fn sorted(totals: &Totals) -> Vec<(u32, String, super::super::series::Series)> {
        let mut all: Vec<_> = totals
            .series
            .iter()
            .map(|(slot, key, series)| (slot.0, format!("{key:?}"), *series))
            .collect();
        all.sort_by(|a, b| (a.0, &a.1).cmp(&(b.0, &b.1)));
        all
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(48))]

        /// Many shards, handed over at any time, add up to one shard that saw everything.
        #[test]
        fn merging_shards_loses_nothing(
            records in prop::collection::vec((record(), 0usize..3, any::<bool>()), 0..120),
        ) {
            let mut one = MetricsShard::new(WorkerId(0));
            let mut workers: Vec<_> = (0..3).map(|id| MetricsShard::new(WorkerId(id))).collect();
            let mut spares: Vec<_> =
                (0..3).map(|id| Some(MetricsShard::new(WorkerId(id)))).collect();
            let mut merged = Totals::new();
            for (info, worker, swap) in &records {
                one.record_request(info);
                one.counters.downstream_accepted += 1;
                one.gauges.downstream_active += 1;
                let shard = &mut workers[*worker];
                shard.record_request(info);
                shard.counters.downstream_accepted += 1;
                shard.gauges.downstream_active += 1;
                if *swap {
                    let spare = spares[*worker].take().unwrap();
                    let mut filled = MetricsShard::hand_over(&mut workers[*worker], spare);
                    merged.absorb(&mut filled);
                    spares[*worker] = Some(filled);
                }
            }
            for shard in &mut workers {
                merged.absorb(shard);
            }
            let mut single = Totals::new();
            single.absorb(&mut one);

            prop_assert_eq!(sorted(&merged), sorted(&single));
            prop_assert_eq!(merged.counters, single.counters);
            let active: u64 = merged.gauges().iter().map(|(_, g)| g.downstream_active).sum();
            prop_assert_eq!(active, records.len() as u64);
            let labels = LabelTable::new();
            let (merged, single) =
                (merged.merged_histograms(&labels), single.merged_histograms(&labels));
            prop_assert_eq!(merged.len(), single.len());
            for ((_, a), (_, b)) in merged.iter().zip(&single) {
                prop_assert_eq!(a, b);
            }
        }
    }
}
