//! Requests by time: what was counted in each second of the last ten minutes, and in each ten seconds of
//! the hour before. The stats thread keeps it; readers get a [`HistoryView`], which shares the steps and
//! holds nothing up.
//!
//! Memory: a step holds only routes that had requests, and of each only the latencies that occurred, two to
//! four bytes for each different one. When that is more than [`HISTORY_BYTES_MAX`], seconds are put together
//! earlier, then the oldest time is forgotten: the view says how far it reaches and how fine it is.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use hdrhistogram::Histogram;

use super::latency_counts::{LatencyCounts, bucket_of, largest_of};
use super::shard::{ClassCounts, STATUS_CLASSES, latency_histogram};
use crate::ids::HistogramSlot;
use crate::limits::{HISTORY_BYTES_MAX, HISTORY_COARSE_STEPS_MAX, HISTORY_STEPS_MAX};

/// Steps that one coarse step is made of.
pub const STEPS_OF_COARSE: u64 = 10;

/// What one route and destination had in a step.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RouteStep {
    /// Which.
    pub slot: HistogramSlot,
    /// Requests by class of their status.
    pub classes: ClassCounts,
    /// Their latencies.
    pub latencies: LatencyCounts,
}

impl RouteStep {
    fn bytes(&self) -> usize {
        size_of::<RouteStep>() + self.latencies.bytes()
    }
}

/// What was counted in a piece of time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    /// Its number: one for each second since the start; that of the last second of a coarse step.
    pub number: u64,
    /// Its end, milliseconds since the Unix epoch.
    pub end_unix_ms: u64,
    /// How long it was.
    pub length: Duration,
    /// Routes with requests, by slot.
    pub routes: Box<[RouteStep]>,
}

impl Step {
    /// What a slot had in it.
    pub fn route(&self, slot: HistogramSlot) -> Option<&RouteStep> {
        let at = self.routes.binary_search_by_key(&slot, |route| route.slot).ok()?;
        self.routes.get(at)
    }

    fn bytes(&self) -> usize {
        size_of::<Step>() + self.routes.iter().map(RouteStep::bytes).sum::<usize>()
    }

    /// Several steps in a row as one.
    fn together(steps: &[Arc<Step>]) -> Option<Step> {
        let last = steps.last()?;
        let mut routes: Vec<&RouteStep> = steps.iter().flat_map(|step| &step.routes).collect();
        routes.sort_by_key(|route| route.slot);
        let mut pairs = Vec::new();
        let together = routes.chunk_by(|one, next| one.slot == next.slot).map(|same| {
            let mut classes = ClassCounts::default();
            pairs.clear();
            for route in same {
                add_classes(&mut classes, &route.classes);
                let narrow = |(bucket, count)| (bucket, u32::try_from(count).unwrap_or(u32::MAX));
                pairs.extend(route.latencies.iter().map(narrow));
            }
            let slot = same.first().map_or(HistogramSlot::UNROUTED, |route| route.slot);
            RouteStep { slot, classes, latencies: LatencyCounts::from_pairs(&mut pairs) }
        });
        let routes = together.collect();
        let length = steps.iter().map(|step| step.length).sum();
        Some(Step { number: last.number, end_unix_ms: last.end_unix_ms, length, routes })
    }
}

/// Add counts to counts.
pub fn add_classes(sum: &mut ClassCounts, more: &ClassCounts) {
    for (sum, more) in sum.iter_mut().zip(more) {
        *sum += more;
    }
}

/// What a slot had since the last step ended.
#[derive(Debug, Default)]
pub struct OpenStep {
    classes: ClassCounts,
    pairs: Vec<(u32, u32)>,
}

impl OpenStep {
    /// Count requests that took `value_us`.
    pub fn add_latency(&mut self, value_us: u64, count: u32) {
        self.pairs.push((bucket_of(value_us), count));
    }

    /// Count requests by class.
    pub fn add_classes(&mut self, counts: &[u32; STATUS_CLASSES]) {
        for (sum, count) in self.classes.iter_mut().zip(counts) {
            *sum += u64::from(*count);
        }
    }
}

/// The steps.
#[derive(Debug, Default)]
pub struct History {
    /// Index: `HistogramSlot`.
    open: Vec<OpenStep>,
    /// One second each, the oldest first.
    fine: VecDeque<Arc<Step>>,
    /// Ten seconds each, older than those.
    coarse: VecDeque<Arc<Step>>,
    bytes: usize,
    closed: u64,
}

impl History {
    /// Where to count what a slot had.
    pub fn open(&mut self, slot: HistogramSlot) -> &mut OpenStep {
        let index = slot.index();
        if index >= self.open.len() {
            self.open.resize_with(index + 1, OpenStep::default);
        }
        &mut self.open[index]
    }

    /// End a step of this length. Returns it.
    pub fn close(&mut self, end_unix_ms: u64, length: Duration) -> Arc<Step> {
        let routes = self.open.iter_mut().enumerate().filter_map(|(slot, open)| {
            if open.pairs.is_empty() {
                return None;
            }
            let latencies = LatencyCounts::from_pairs(&mut open.pairs);
            open.pairs.clear();
            let slot = HistogramSlot(slot as u32);
            Some(RouteStep { slot, classes: std::mem::take(&mut open.classes), latencies })
        });
        let routes = routes.collect();
        // Windows are looked for by time: it goes on, also when the machine's clock is set back.
        let newest = self.fine.back().or(self.coarse.back()).map_or(0, |step| step.end_unix_ms);
        let end_unix_ms = end_unix_ms.max(newest);
        let step = Arc::new(Step { number: self.closed, end_unix_ms, length, routes });
        self.closed += 1;
        self.bytes += step.bytes();
        self.fine.push_back(Arc::clone(&step));
        self.keep_within(HISTORY_STEPS_MAX, HISTORY_COARSE_STEPS_MAX, HISTORY_BYTES_MAX);
        step
    }

    fn keep_within(&mut self, fine: usize, coarse: usize, bytes: usize) {
        let foldable = |history: &History| history.fine.len() as u64 >= 2 * STEPS_OF_COARSE;
        while self.fine.len() > fine || (self.bytes > bytes && foldable(self)) {
            self.fold_oldest();
        }
        while self.coarse.len() > coarse || self.bytes > bytes {
            let Some(oldest) = self.coarse.pop_front().or_else(|| self.fine.pop_front()) else {
                break;
            };
            self.bytes -= oldest.bytes();
        }
    }

    /// The seconds of the oldest ten become one step.
    fn fold_oldest(&mut self) {
        let Some(oldest) = self.fine.front().map(|step| step.number / STEPS_OF_COARSE) else {
            return;
        };
        let count =
            self.fine.iter().take_while(|step| step.number / STEPS_OF_COARSE == oldest).count();
        let steps: Vec<Arc<Step>> = self.fine.drain(..count).collect();
        self.bytes -= steps.iter().map(|step| step.bytes()).sum::<usize>();
        if let Some(step) = Step::together(&steps) {
            self.bytes += step.bytes();
            self.coarse.push_back(Arc::new(step));
        }
    }

    /// All steps, to read elsewhere.
    pub fn view(&self) -> HistoryView {
        HistoryView {
            steps: self.coarse.iter().chain(&self.fine).cloned().collect(),
            coarse: self.coarse.len(),
        }
    }
}

/// The steps of one moment, the oldest first.
#[derive(Clone, Debug, Default)]
pub struct HistoryView {
    steps: Vec<Arc<Step>>,
    coarse: usize,
}

/// A piece of a [`HistoryView`].
#[derive(Clone, Copy, Debug)]
pub struct Window<'v> {
    /// Its steps, the oldest first.
    pub steps: &'v [Arc<Step>],
    /// Are some of them coarse?
    pub coarse: bool,
}

impl HistoryView {
    /// The newest steps that cover `length` before `until_unix_ms` (None: now), or what there is of it.
    pub fn window(&self, length: Duration, until_unix_ms: Option<u64>) -> Window<'_> {
        let end = match until_unix_ms {
            Some(until) => self.steps.partition_point(|step| step.end_unix_ms <= until),
            None => self.steps.len(),
        };
        let mut covered = Duration::ZERO;
        let mut start = end;
        // A step ends a little after its second: half of one does not count.
        let enough = length.saturating_sub(Duration::from_millis(500));
        while start > 0 && covered < enough {
            start -= 1;
            covered += self.steps[start].length;
        }
        Window { steps: &self.steps[start..end], coarse: start < self.coarse.min(end) }
    }

    /// How far back it reaches.
    pub fn kept(&self) -> Duration {
        self.steps.iter().map(|step| step.length).sum()
    }
}

impl Window<'_> {
    /// How much time it covers.
    pub fn covered(&self) -> Duration {
        self.steps.iter().map(|step| step.length).sum()
    }

    /// When it begins, milliseconds since the Unix epoch; none when it is empty.
    pub fn from_unix_ms(&self) -> Option<u64> {
        let first = self.steps.first()?;
        Some(first.end_unix_ms.saturating_sub(first.length.as_millis() as u64))
    }
}

/// Sums over steps.
#[derive(Clone, Debug)]
pub struct Summary {
    /// Requests by class of their status.
    pub classes: ClassCounts,
    /// Their latencies, microseconds.
    pub latencies: Histogram<u64>,
}

impl Default for Summary {
    fn default() -> Self {
        Summary { classes: ClassCounts::default(), latencies: latency_histogram() }
    }
}

impl Summary {
    /// Add what a route had in a step.
    pub fn add(&mut self, route: &RouteStep) {
        add_classes(&mut self.classes, &route.classes);
        for (bucket, count) in route.latencies.iter() {
            self.latencies.saturating_record_n(largest_of(bucket), count);
        }
    }

    /// Add what another one summed up.
    pub fn merge(&mut self, other: &Summary) {
        add_classes(&mut self.classes, &other.classes);
        // The same bounds: nothing is out of range.
        let _ = self.latencies.add(&other.latencies);
    }

    /// Requests.
    pub fn requests(&self) -> u64 {
        self.classes.iter().sum()
    }

    /// Answers of 500 and more, and requests without one.
    pub fn errors(&self) -> u64 {
        errors(&self.classes)
    }
}

/// Answers of 500 and more, and requests without one.
pub fn errors(classes: &ClassCounts) -> u64 {
    classes[0] + classes[STATUS_CLASSES - 1]
}

#[cfg(test)]
mod tests;
