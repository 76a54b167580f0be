//! Puts the workers' intervals together: second by second for the eye and the log, and all in one sum.

use std::collections::BTreeMap;
use std::sync::mpsc::Sender;
use std::time::Duration;

use crate::hlog::{self, Row};
use crate::record::{INTERVAL, Interval, Measure, Tally};
use crate::result::Second;
use crate::schedule::Nanos;

/// An interval of which some workers have not told yet.
#[derive(Debug)]
struct Part {
    end: Nanos,
    tally: Tally,
}

/// What has come so far.
#[derive(Debug)]
pub(crate) struct Collector {
    measured: Nanos,
    names: Vec<String>,
    /// Where emptied tallies go back to, by worker.
    back: Vec<Sender<Tally>>,
    /// The interval after the last that each worker told of.
    told: Vec<u64>,
    open: BTreeMap<u64, Part>,
    /// The sum of everything.
    pub(crate) total: Tally,
    pub(crate) seconds: Vec<Second>,
    pub(crate) rows: Vec<Row>,
}

impl Collector {
    /// `names` are those of the requests, `back` leads to the workers.
    pub(crate) fn new(measured: Nanos, names: Vec<String>, back: Vec<Sender<Tally>>) -> Collector {
        Collector {
            measured,
            told: vec![0; back.len()],
            open: BTreeMap::new(),
            total: Tally::new(names.len()),
            seconds: Vec::new(),
            rows: Vec::new(),
            names,
            back,
        }
    }

    /// Takes an interval of a worker; the second that is complete by it, if one is.
    pub(crate) fn take(&mut self, worker: usize, interval: Interval) -> Option<Second> {
        let Interval { index, end, mut tally, .. } = interval;
        match self.open.get_mut(&index) {
            Some(part) => {
                part.tally.add(&tally);
                part.end = part.end.max(end);
            }
            None => {
                let mut sum = Tally::new(self.names.len());
                sum.add(&tally);
                self.open.insert(index, Part { end, tally: sum });
            }
        }
        tally.clear();
        if let Some(back) = self.back.get(worker) {
            // A worker that has ended needs none.
            let _ = back.send(tally);
        }
        if let Some(told) = self.told.get_mut(worker) {
            *told = index + 1;
        }
        let complete = self.told.iter().copied().min().unwrap_or(0);
        let mut last = None;
        while let Some(first) = self.open.first_entry().filter(|first| *first.key() < complete) {
            let (index, part) = first.remove_entry();
            last = Some(self.close(index, &part));
        }
        last
    }

    /// Every worker has ended: what is open is complete.
    pub(crate) fn finish(&mut self) {
        while let Some((index, part)) = self.open.pop_first() {
            self.close(index, &part);
        }
    }

    fn close(&mut self, index: u64, part: &Part) -> Second {
        let tally = &part.tally;
        let start = Duration::from_nanos(index * INTERVAL);
        let end = Duration::from_nanos(part.end.saturating_sub(self.measured));
        let length = end.saturating_sub(start);
        let mut log = |tag: String, histogram: &hdrhistogram::Histogram<u64>| {
            if !histogram.is_empty() {
                let max = histogram.max();
                self.rows.push(Row { tag, start, length, max, histogram: hlog::encode(histogram) });
            }
        };
        for measure in Measure::ALL {
            log(measure.name().to_owned(), tally.times(measure));
        }
        for (name, histogram) in self.names.iter().zip(&tally.by_request) {
            log(format!("request:{name}"), histogram);
        }
        self.total.add(tally);
        let latency = tally.times(Measure::Latency);
        let counts = (tally.completed, tally.all_failed());
        let second = Second::of(start.as_secs_f64(), length.as_secs_f64(), counts, latency);
        // The last responses come after the end: they belong to the last second that has a length.
        let has_content = second.completed + second.failed > 0 || !latency.is_empty();
        if has_content || length >= Duration::from_millis(500) {
            self.seconds.push(second.clone());
        }
        second
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::channel;

    use super::*;
    use crate::record::tests::Kept;
    use crate::record::{Exchange, Recorder};
    use crate::schedule::SECOND;

    fn intervals(offset: Nanos) -> Vec<Interval> {
        let mut recorder = Recorder::new(SECOND, Tally::new(2), Kept::default());
        for step in 0..30 {
            let due = SECOND + offset + step * SECOND / 10;
            recorder.completed(&Exchange {
                due,
                begun: due,
                sent: due,
                first_byte: due + 10,
                done: due + 1000 * (step + 1),
                request: (step % 2) as u32,
                found_idle: true,
                status: 200,
                body_bytes: 0,
            });
        }
        recorder.finish(4 * SECOND).0
    }

    #[test]
    fn seconds_are_complete_when_all_workers_told_and_the_log_holds_the_sum() {
        let names = vec!["a".to_owned(), "b".to_owned()];
        let (senders, emptied): (Vec<_>, Vec<_>) = (0..2).map(|_| channel()).unzip();
        let mut collector = Collector::new(SECOND, names, senders);
        let (first, second) = (intervals(0), intervals(50_000_000));
        for interval in first {
            assert_eq!(collector.take(0, interval), None, "the other worker is missing");
        }
        let complete = second.into_iter().filter_map(|part| collector.take(1, part)).count();
        collector.finish();
        assert_eq!(complete, 3);
        assert_eq!(collector.seconds.iter().map(|second| second.completed).sum::<u64>(), 60);
        assert_eq!(collector.total.completed, 60);
        let founded = |second: &Second| (second.samples, second.p50_founded, second.p99_founded);
        assert_eq!(founded(&collector.seconds[0]), (20, true, false), "20 samples hold no p99");
        let text = hlog::write(std::time::UNIX_EPOCH, &[], &collector.rows);
        for measure in [Measure::Latency, Measure::Service, Measure::Lateness] {
            let logged = hlog::read(&text, measure.name()).expect("rows");
            assert_eq!(&logged.histogram, collector.total.times(measure));
        }
        let logged = hlog::read(&text, "request:b").expect("rows");
        assert_eq!(logged.histogram, collector.total.by_request[1]);
        let back: Vec<_> = emptied[0].try_iter().collect();
        assert_eq!(back.len(), 3, "tallies go back");
        assert!(back.iter().all(|tally| tally.offered() == 0));
    }
}
