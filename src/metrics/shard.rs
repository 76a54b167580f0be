//! One worker's numbers between two hand-overs.

use std::cell::RefCell;

use hdrhistogram::{Counter, Histogram};

use crate::ids::{MetricSlot, WorkerId};
use crate::stream_info::{ResponseFlags, StreamInfo};

use super::cluster_gauges::{ClusterGauges, ClusterTable};
use super::counters::{WorkerCounters, WorkerGauges};
use super::exemplars::RecentExemplars;
use super::series::SeriesTable;
use super::tcp_series::{TcpSeries, TcpSeriesTable};

/// Longest latency that a histogram tells apart, microseconds (600 s); longer ones count as this.
pub const LATENCY_US_MAX: u64 = 600_000_000;
/// Significant decimal digits of a latency histogram.
pub const LATENCY_DIGITS: u8 = 3;

/// Classes of statuses: none sent, then 1xx to 5xx.
pub const STATUS_CLASSES: usize = 6;

/// Requests by class of status; index: [`status_class`].
pub type ClassCounts = [u64; STATUS_CLASSES];

/// The class of a status: its hundreds, 0 when none was sent. Those beyond 599 count as 5xx.
#[inline]
pub fn status_class(status: u16) -> usize {
    usize::from(status / 100).min(STATUS_CLASSES - 1)
}

/// What is kept of one route and destination between two hand-overs.
#[derive(Debug)]
pub(super) struct RouteNumbers {
    /// Microseconds. 32-bit counts halve the memory, and one interval never fills them.
    pub(super) latencies: Histogram<u32>,
    /// Index: [`status_class`].
    pub(super) classes: [u32; STATUS_CLASSES],
}

impl RouteNumbers {
    #[inline]
    fn record(&mut self, latency_us: u64, status: u16) {
        self.latencies.saturating_record(latency_us);
        self.classes[status_class(status)] += 1;
    }
}

/// An empty latency histogram, 1 µs to [`LATENCY_US_MAX`].
pub fn latency_histogram<T: Counter>() -> Histogram<T> {
    Histogram::new_with_bounds(1, LATENCY_US_MAX, LATENCY_DIGITS)
        .expect("these constant bounds are valid")
}

/// Everything that one worker counted since the last hand-over, and its gauges.
#[derive(Debug)]
pub struct MetricsShard {
    worker: WorkerId,
    /// Counters outside of requests; add to the fields directly.
    pub counters: WorkerCounters,
    /// Gauges; they go on in the next shard.
    pub gauges: WorkerGauges,
    pub(super) series: SeriesTable,
    pub(super) tcp: TcpSeriesTable,
    pub(super) exemplars: RecentExemplars,
    /// What the last look at the clusters found, if there was one since the last hand-over.
    pub(super) clusters: ClusterTable,
    pub(super) clusters_are_new: bool,
    /// Index: `HistogramSlot`.
    pub(super) routes: Vec<Option<RouteNumbers>>,
    pub(super) changed_routes: Vec<u32>,
}

impl MetricsShard {
    /// An empty shard of `worker`.
    pub fn new(worker: WorkerId) -> Box<MetricsShard> {
        Box::new(MetricsShard {
            worker,
            counters: WorkerCounters::default(),
            gauges: WorkerGauges::default(),
            series: SeriesTable::default(),
            tcp: TcpSeriesTable::default(),
            exemplars: RecentExemplars::default(),
            clusters: ClusterTable::default(),
            clusters_are_new: false,
            routes: Vec::new(),
            changed_routes: Vec::new(),
        })
    }

    /// Whose numbers these are.
    pub fn worker(&self) -> WorkerId {
        self.worker
    }

    /// Count a request that ended. Allocates only at the first use of a series or histogram in this
    /// shard, and a shard comes back with its memory: after two hand-overs nothing is allocated.
    #[inline]
    pub fn record_request(&mut self, info: &StreamInfo) {
        if !self.series.record(info) {
            self.counters.series_overflow += 1;
        } else if info.trace_sampled {
            self.exemplars.record(info);
        }
        let latency_us = info.duration_us.clamp(1, LATENCY_US_MAX);
        let slot = info.histogram_slot.index();
        match self.routes.get_mut(slot) {
            Some(Some(numbers)) => {
                if numbers.latencies.is_empty() {
                    self.changed_routes.push(slot as u32);
                }
                numbers.record(latency_us, info.response_code);
            }
            _ => self.first_of_route(slot, latency_us, info.response_code),
        }
    }

    #[cold]
    fn first_of_route(&mut self, slot: usize, latency_us: u64, status: u16) {
        if slot >= self.routes.len() {
            self.routes.resize_with(slot + 1, || None);
        }
        let empty = RouteNumbers { latencies: latency_histogram(), classes: [0; STATUS_CLASSES] };
        self.routes[slot].insert(empty).record(latency_us, status);
        self.changed_routes.push(slot as u32);
    }

    /// Put `spare` in the place of `current` and give the filled one. The gauges go on in `spare`.
    pub fn hand_over(
        current: &mut Box<MetricsShard>,
        mut spare: Box<MetricsShard>,
    ) -> Box<MetricsShard> {
        spare.gauges = current.gauges;
        spare.worker = current.worker;
        std::mem::replace(current, spare)
    }
}

/// The shard as a worker's tasks share it: one thread, no task holds it over an await.
#[derive(Debug)]
pub struct WorkerMetrics(RefCell<Box<MetricsShard>>);

impl WorkerMetrics {
    /// Empty numbers of `worker`.
    pub fn new(worker: WorkerId) -> WorkerMetrics {
        WorkerMetrics(RefCell::new(MetricsShard::new(worker)))
    }

    /// Count a request that ended.
    #[inline]
    pub fn record(&self, info: &StreamInfo) {
        self.0.borrow_mut().record_request(info);
    }

    /// Add to what is counted of TCP connections with these labels and flags.
    #[inline]
    pub fn record_tcp(&self, slot: MetricSlot, flags: ResponseFlags, counts: &TcpSeries) {
        self.0.borrow_mut().tcp.add(slot, flags, counts);
    }

    /// Put down what is open to each cluster of the snapshot of this generation, in the order of their
    /// ids. Allocates only when there are more clusters than before.
    pub fn look_at_clusters(&self, generation: u64, clusters: impl Iterator<Item = ClusterGauges>) {
        let mut shard = self.0.borrow_mut();
        shard.clusters.generation = generation;
        shard.clusters.clusters.clear();
        shard.clusters.clusters.extend(clusters);
        shard.clusters_are_new = true;
    }

    /// Change counters and gauges; `change` must not call back into this object.
    #[inline]
    pub fn update(&self, change: impl FnOnce(&mut WorkerCounters, &mut WorkerGauges)) {
        let mut shard = self.0.borrow_mut();
        let shard = &mut **shard;
        change(&mut shard.counters, &mut shard.gauges);
    }

    /// Swap in `spare` and give the filled shard.
    pub fn hand_over(&self, spare: Box<MetricsShard>) -> Box<MetricsShard> {
        MetricsShard::hand_over(&mut self.0.borrow_mut(), spare)
    }

    /// The last shard, when the worker ends.
    pub fn into_shard(self) -> Box<MetricsShard> {
        self.0.into_inner()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::HistogramSlot;
    use std::time::Instant;

    #[test]
    fn gauges_survive_a_hand_over_and_counters_move_out() {
        let metrics = WorkerMetrics::new(WorkerId(3));
        metrics.update(|counters, gauges| {
            counters.downstream_accepted += 2;
            gauges.downstream_active += 2;
        });
        let filled = metrics.hand_over(MetricsShard::new(WorkerId(0)));
        assert_eq!((filled.worker(), filled.counters.downstream_accepted), (WorkerId(3), 2));
        metrics.update(|_, gauges| gauges.downstream_active -= 1);
        let next = metrics.into_shard();
        assert_eq!(next.worker(), WorkerId(3));
        assert_eq!(next.gauges.downstream_active, 1);
        assert_eq!(next.counters, WorkerCounters::default());
    }

    #[test]
    fn latencies_beyond_the_range_count_at_its_ends() {
        let mut shard = MetricsShard::new(WorkerId(0));
        let mut info = StreamInfo::new(Instant::now(), 0);
        info.histogram_slot = HistogramSlot(2);
        for duration_us in [0, u64::MAX, 42] {
            info.duration_us = duration_us;
            shard.record_request(&info);
        }
        let histogram = &shard.routes[2].as_ref().unwrap().latencies;
        assert_eq!((histogram.len(), histogram.min()), (3, 1));
        assert!(histogram.max() >= LATENCY_US_MAX);
        assert_eq!(shard.changed_routes, [2]);
        assert!(shard.routes[0].is_none());
    }

    #[test]
    fn statuses_count_in_their_classes() {
        let mut shard = MetricsShard::new(WorkerId(0));
        let mut info = StreamInfo::new(Instant::now(), 0);
        for status in [0, 101, 200, 204, 301, 404, 499, 503, 999, u16::MAX] {
            info.response_code = status;
            shard.record_request(&info);
        }
        assert_eq!(shard.routes[0].as_ref().unwrap().classes, [1, 1, 2, 1, 2, 3]);
    }
}
