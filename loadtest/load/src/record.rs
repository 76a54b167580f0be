//! What a worker writes down: histograms and counts of one interval at a time, handed over whole.
//!
//! Latencies are nanoseconds with three significant digits. Adding histograms of the same shape loses
//! nothing, so the sum over intervals and workers is what one recorder would have seen.

use hdrhistogram::Histogram;

use crate::failure::Failure;
use crate::schedule::{Nanos, SECOND};

/// The longest time that is recorded as such; what is longer counts as this.
const LONGEST: Nanos = 3600 * SECOND;
/// Significant decimal digits that a histogram keeps.
pub(crate) const DIGITS: u8 = 3;

/// A histogram of nanoseconds, of the one shape that all have.
pub(crate) fn new_histogram() -> Histogram<u64> {
    // The bounds are constants that the crate accepts.
    Histogram::new_with_bounds(1, LONGEST, DIGITS).unwrap_or_else(|_| unreachable!())
}

/// One HTTP exchange that ended well, in times of the run's clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Exchange {
    /// When the request should have gone out.
    pub(crate) due: Nanos,
    /// When the generator turned to it: a connection may have had to be opened first.
    pub(crate) begun: Nanos,
    /// When it did go out.
    pub(crate) sent: Nanos,
    /// When the first byte of the response had come.
    pub(crate) first_byte: Nanos,
    /// When the last had.
    pub(crate) done: Nanos,
    /// Which request of the scenario.
    pub(crate) request: u32,
    /// See [`crate::dispatch::Job::found_idle`].
    pub(crate) found_idle: bool,
    /// Of the response.
    pub(crate) status: u16,
    /// Bytes of its body, without framing.
    pub(crate) body_bytes: u64,
}

/// A connection that was opened, in times of the run's clock.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Opening {
    pub(crate) began: Nanos,
    /// With the TLS handshake.
    pub(crate) done: Nanos,
    /// It is for many requests.
    pub(crate) kept: bool,
    /// The handshake resumed a TLS session.
    pub(crate) resumed: bool,
}

/// The kinds of times that are recorded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Measure {
    /// From the moment a request was due to the last byte of its response.
    Latency,
    /// From the moment it was sent to the last byte.
    Service,
    /// From the moment it was sent to the first byte.
    FirstByte,
    /// From the moment it was due to the moment it was sent.
    SendLag,
    /// From the moment it was due to the moment the generator turned to it, only of requests that found an idle
    /// connection: the generator's own lateness.
    Lateness,
    /// Opening a connection, with the TLS handshake.
    Connect,
    /// From the moment a request was due to its failure.
    Failed,
}

impl Measure {
    /// All of them; a measure's place is its number.
    pub(crate) const ALL: [Measure; 7] = [
        Measure::Latency,
        Measure::Service,
        Measure::FirstByte,
        Measure::SendLag,
        Measure::Lateness,
        Measure::Connect,
        Measure::Failed,
    ];

    /// Its name in results and its tag in the interval log.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Measure::Latency => "latency",
            Measure::Service => "service_time",
            Measure::FirstByte => "first_byte",
            Measure::SendLag => "send_lag",
            Measure::Lateness => "lateness",
            Measure::Connect => "connect",
            Measure::Failed => "failed",
        }
    }
}

/// What happened in a time, of one worker or of all.
#[derive(Clone, Debug)]
pub(crate) struct Tally {
    /// By [`Measure`].
    times: Vec<Histogram<u64>>,
    /// Latency by request of the scenario; empty when there is only one.
    pub(crate) by_request: Vec<Histogram<u64>>,
    /// Responses that passed their checks.
    pub(crate) completed: u64,
    /// Of these, after the end: they do not count for the rate.
    pub(crate) after_end: u64,
    /// By [`Failure`].
    failures: [u64; Failure::ALL.len()],
    /// Requests that were due and never sent, as every connection was busy until the end.
    pub(crate) unstarted: u64,
    /// Latencies that are only a lower bound: unstarted, unfinished, timed out.
    pub(crate) lower_bounds: u64,
    /// Connections opened.
    pub(crate) connections: u64,
    /// Of these, by resuming a TLS session.
    pub(crate) resumed: u64,
    /// Received on connections in the measured time, with heads and framing, without TLS.
    pub(crate) bytes: u64,
    /// Of the bodies of completed responses.
    pub(crate) body_bytes: u64,
    /// How often each status came.
    pub(crate) statuses: Vec<(u16, u64)>,
}

impl Tally {
    /// Nothing yet, of a scenario with so many requests.
    pub(crate) fn new(requests: usize) -> Tally {
        Tally {
            times: Measure::ALL.iter().map(|_| new_histogram()).collect(),
            by_request: (0..if requests > 1 { requests } else { 0 })
                .map(|_| new_histogram())
                .collect(),
            completed: 0,
            after_end: 0,
            failures: [0; Failure::ALL.len()],
            unstarted: 0,
            lower_bounds: 0,
            connections: 0,
            resumed: 0,
            bytes: 0,
            body_bytes: 0,
            statuses: Vec::new(),
        }
    }

    pub(crate) fn times(&self, measure: Measure) -> &Histogram<u64> {
        &self.times[measure as usize]
    }

    fn time(&mut self, measure: Measure, nanos: Nanos) {
        self.times[measure as usize].saturating_record(nanos.max(1));
    }

    fn latency(&mut self, request: u32, nanos: Nanos) {
        self.time(Measure::Latency, nanos);
        if let Some(histogram) = self.by_request.get_mut(request as usize) {
            histogram.saturating_record(nanos.max(1));
        }
    }

    /// Failures of a kind.
    pub(crate) fn failed(&self, kind: Failure) -> u64 {
        self.failures[kind as usize]
    }

    /// Failures of all kinds.
    pub(crate) fn all_failed(&self) -> u64 {
        self.failures.iter().sum()
    }

    /// Requests that fell due: each ended in exactly one of the ways.
    pub(crate) fn offered(&self) -> u64 {
        self.completed + self.all_failed() + self.unstarted
    }

    fn status(&mut self, status: u16) {
        match self.statuses.iter_mut().find(|(seen, _)| *seen == status) {
            Some((_, count)) => *count += 1,
            None => self.statuses.push((status, 1)),
        }
    }

    /// Adds another's figures to these; nothing is lost.
    pub(crate) fn add(&mut self, other: &Tally) {
        let pairs = self.times.iter_mut().zip(&other.times);
        for (sum, part) in pairs.chain(self.by_request.iter_mut().zip(&other.by_request)) {
            // All have one shape: there is nothing that cannot be added.
            let _ = sum.add(part);
        }
        self.completed += other.completed;
        self.after_end += other.after_end;
        for (sum, part) in self.failures.iter_mut().zip(other.failures) {
            *sum += part;
        }
        self.unstarted += other.unstarted;
        self.lower_bounds += other.lower_bounds;
        self.connections += other.connections;
        self.resumed += other.resumed;
        self.bytes += other.bytes;
        self.body_bytes += other.body_bytes;
        for &(status, count) in &other.statuses {
            match self.statuses.iter_mut().find(|(seen, _)| *seen == status) {
                Some((_, sum)) => *sum += count,
                None => self.statuses.push((status, count)),
            }
        }
    }

    /// Empties it for the next use.
    pub(crate) fn clear(&mut self) {
        for histogram in self.times.iter_mut().chain(&mut self.by_request) {
            if !histogram.is_empty() {
                histogram.reset();
            }
        }
        self.completed = 0;
        self.after_end = 0;
        self.failures = [0; Failure::ALL.len()];
        self.unstarted = 0;
        self.lower_bounds = 0;
        self.connections = 0;
        self.resumed = 0;
        self.bytes = 0;
        self.body_bytes = 0;
        self.statuses.clear();
    }
}

/// The tally of one interval.
#[derive(Debug)]
pub(crate) struct Interval {
    /// Which, from 0.
    pub(crate) index: u64,
    /// When it was handed over, of the run's clock.
    pub(crate) end: Nanos,
    pub(crate) tally: Tally,
}

/// Where a worker's intervals go, and where emptied ones come from.
pub(crate) trait Intervals {
    /// An empty tally for the next.
    fn empty(&mut self) -> Tally;

    /// Takes a full one.
    fn give(&mut self, full: Interval);
}

/// Writes down what happens, by the second.
#[derive(Debug)]
pub(crate) struct Recorder<I> {
    measured_from: Nanos,
    index: u64,
    start: Nanos,
    tally: Tally,
    ended: bool,
    to: I,
}

/// Length of an interval.
pub(crate) const INTERVAL: Nanos = SECOND;

impl<I: Intervals> Recorder<I> {
    /// Only requests that are due from `measured_from` on count: those before are warm-up.
    pub(crate) fn new(measured_from: Nanos, empty: Tally, to: I) -> Recorder<I> {
        Recorder { measured_from, index: 0, start: measured_from, tally: empty, ended: false, to }
    }

    /// Hands over what was recorded when the interval is over.
    pub(crate) fn turn(&mut self, now: Nanos) {
        if now >= self.start + INTERVAL {
            self.hand_over(now);
        }
    }

    fn hand_over(&mut self, now: Nanos) {
        let index = now.saturating_sub(self.measured_from) / INTERVAL;
        let tally = std::mem::replace(&mut self.tally, self.to.empty());
        self.to.give(Interval { index: self.index, end: now, tally });
        // Intervals in which nothing happened at all are left out.
        self.index = index.max(self.index + 1);
        self.start = (self.measured_from + self.index * INTERVAL).min(now);
    }

    /// The measured time is over: what comes now are its last responses.
    pub(crate) fn end(&mut self) {
        self.ended = true;
    }

    fn is_measured(&self, due: Nanos) -> bool {
        due >= self.measured_from
    }

    /// An exchange ended well.
    pub(crate) fn completed(&mut self, exchange: &Exchange) {
        self.turn(exchange.done);
        if !self.is_measured(exchange.due) {
            return;
        }
        let &Exchange { due, begun, sent, first_byte, done, .. } = exchange;
        self.tally.completed += 1;
        self.tally.body_bytes += exchange.body_bytes;
        self.tally.after_end += u64::from(self.ended);
        self.tally.latency(exchange.request, done.saturating_sub(due));
        self.tally.time(Measure::Service, done.saturating_sub(sent));
        self.tally.time(Measure::FirstByte, first_byte.saturating_sub(sent));
        self.sent(due, begun, sent, exchange.found_idle);
        self.tally.status(exchange.status);
    }

    fn sent(&mut self, due: Nanos, begun: Nanos, sent: Nanos, found_idle: bool) {
        self.tally.time(Measure::SendLag, sent.saturating_sub(due));
        if found_idle {
            self.tally.time(Measure::Lateness, begun.saturating_sub(due));
        }
    }

    /// A request failed at `now`; `status` is that of the response if there was one.
    pub(crate) fn failed(
        &mut self,
        due: Nanos,
        request: u32,
        now: Nanos,
        kind: Failure,
        status: Option<u16>,
    ) {
        self.turn(now);
        if !self.is_measured(due) {
            return;
        }
        self.tally.failures[kind as usize] += 1;
        let time = now.saturating_sub(due);
        self.tally.time(Measure::Failed, time);
        if kind.is_lower_bound() {
            self.tally.latency(request, time);
            self.tally.lower_bounds += 1;
        }
        if let Some(status) = status {
            self.tally.status(status);
        }
    }

    /// A request that was due was never sent; the run ended at `now`.
    pub(crate) fn unstarted(&mut self, due: Nanos, request: u32, now: Nanos) {
        if self.is_measured(due) {
            self.tally.unstarted += 1;
            self.tally.lower_bounds += 1;
            self.tally.latency(request, now.saturating_sub(due));
        }
    }

    /// A connection was opened. Kept ones of the warm-up count too: there are
    /// hardly others.
    pub(crate) fn connected(&mut self, opening: &Opening) {
        let &Opening { began, done, kept, resumed } = opening;
        if kept || self.is_measured(began) {
            self.tally.connections += 1;
            self.tally.resumed += u64::from(resumed);
            self.tally.time(Measure::Connect, done.saturating_sub(began));
        }
    }

    /// Bytes came at `now`.
    pub(crate) fn received(&mut self, bytes: usize, now: Nanos) {
        if now >= self.measured_from {
            self.tally.bytes += bytes as u64;
        }
    }

    /// Hands over the rest.
    pub(crate) fn finish(mut self, now: Nanos) -> I {
        self.hand_over(now.max(self.start));
        self.to
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// Keeps every interval.
    #[derive(Debug, Default)]
    pub(crate) struct Kept(pub(crate) Vec<Interval>);

    impl Intervals for Kept {
        fn empty(&mut self) -> Tally {
            Tally::new(2)
        }

        fn give(&mut self, full: Interval) {
            self.0.push(full);
        }
    }

    fn exchange(due: Nanos, done: Nanos) -> Exchange {
        let sent = due + (done - due) / 2;
        Exchange {
            due,
            begun: sent,
            sent,
            first_byte: done,
            done,
            request: 0,
            found_idle: true,
            status: 200,
            body_bytes: 7,
        }
    }

    #[test]
    fn warm_up_is_left_out_and_the_rest_comes_by_the_second() {
        let mut recorder = Recorder::new(SECOND, Tally::new(1), Kept::default());
        recorder.completed(&exchange(SECOND - 1, SECOND + 5));
        recorder.completed(&exchange(SECOND, SECOND + 1000));
        recorder.completed(&exchange(SECOND * 2, SECOND * 2 + 2000));
        recorder.end();
        recorder.completed(&exchange(SECOND * 2, SECOND * 2 + 3000));
        recorder.failed(SECOND * 4, 0, SECOND * 4 + 9, Failure::Status, Some(503));
        recorder.unstarted(SECOND * 4, 0, SECOND * 5);
        let kept = recorder.finish(SECOND * 5).0;
        let seen: Vec<_> =
            kept.iter().map(|interval| (interval.index, interval.tally.completed)).collect();
        assert_eq!(seen, [(0, 1), (1, 2), (3, 0)]);
        let mut sum = Tally::new(1);
        kept.iter().for_each(|interval| sum.add(&interval.tally));
        assert_eq!((sum.offered(), sum.completed, sum.after_end), (5, 3, 1));
        assert_eq!(sum.failed(Failure::Status), 1);
        assert_eq!(sum.statuses, [(200, 3), (503, 1)]);
        assert_eq!((sum.unstarted, sum.lower_bounds), (1, 1));
        assert_eq!(sum.times(Measure::Latency).len(), 4, "the unstarted one is among them");
        assert!(sum.times(Measure::Latency).max() >= SECOND);
        assert_eq!(sum.times(Measure::Service).len(), 3);
    }

    #[test]
    fn connections_of_the_warm_up_count_only_where_they_are_kept() {
        let mut recorder = Recorder::new(SECOND, Tally::new(1), Kept::default());
        for kept in [false, true] {
            for began in [SECOND - 9, SECOND] {
                recorder.connected(&Opening { began, done: SECOND + 5, kept, resumed: kept });
            }
        }
        recorder.received(100, SECOND - 1);
        recorder.received(30, SECOND);
        recorder.completed(&exchange(SECOND - 1, SECOND + 5));
        recorder.completed(&exchange(SECOND, SECOND + 5));
        let kept = recorder.finish(2 * SECOND).0;
        let tally = &kept[0].tally;
        assert_eq!((tally.connections, tally.resumed), (3, 2));
        assert_eq!(tally.times(Measure::Connect).len(), 3);
        assert_eq!((tally.bytes, tally.body_bytes), (30, 7));
    }

    #[test]
    fn tallies_of_workers_and_intervals_add_up_without_loss() {
        let mut whole = Recorder::new(0, Tally::new(2), Kept::default());
        let mut parts = [0, 1].map(|_| Recorder::new(0, Tally::new(2), Kept::default()));
        let mut random = fastrand::Rng::with_seed(3);
        for step in 0..20_000_u64 {
            let due = step * SECOND / 4000;
            let mut one = exchange(due, due + 1 + random.u64(..SECOND / 3));
            one.request = random.u32(..2);
            whole.completed(&one);
            parts[(step % 2) as usize].completed(&one);
        }
        let sum = |kept: Kept| {
            let mut sum = Tally::new(2);
            kept.0.iter().for_each(|interval| sum.add(&interval.tally));
            sum
        };
        let whole = sum(whole.finish(6 * SECOND));
        let [mut first, second] = parts.map(|part| sum(part.finish(6 * SECOND)));
        first.add(&second);
        for measure in Measure::ALL {
            assert_eq!(first.times(measure), whole.times(measure), "{}", measure.name());
        }
        assert_eq!(first.by_request, whole.by_request);
        assert_eq!(first.completed, 20_000);
        first.clear();
        assert_eq!(first.offered(), 0);
        assert!(first.times(Measure::Latency).is_empty());
    }

    #[test]
    fn times_beyond_the_longest_are_kept_as_the_longest() {
        let mut recorder = Recorder::new(0, Tally::new(1), Kept::default());
        recorder.completed(&exchange(0, 3 * LONGEST));
        let kept = recorder.finish(3 * LONGEST).0;
        let latency = kept.last().map(|interval| interval.tally.times(Measure::Latency).max());
        assert!(latency.is_some_and(|max| max >= LONGEST - LONGEST / 1000));
    }
}
