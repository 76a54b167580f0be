//! The generator under a clock that is made up: the schedule, the dispatcher and the recorder against a
//! server whose answers are computed, so that the result can be computed by hand too.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use crate::dispatch::{Dispatcher, Job, Mix, Next};
use crate::profile::Profile;
use crate::record::tests::Kept;
use crate::record::{Exchange, Measure, Recorder, Tally};
use crate::schedule::{Arrivals, Load, Nanos, Rate, SECOND, Schedule, Share};

const MILLISECOND: Nanos = 1_000_000;
const MICROSECOND: Nanos = 1_000;

/// A server that answers each request after `service`, and nothing in the first `stall` of each second.
struct Server {
    service: Nanos,
    stall: Nanos,
}

impl Server {
    fn answers_at(&self, sent: Nanos) -> Nanos {
        let into_second = sent % SECOND;
        let begun = if into_second < self.stall { sent - into_second + self.stall } else { sent };
        begun + self.service
    }
}

struct Run {
    load: Load,
    connections: u32,
    seconds: u64,
    /// How late the timer wakes the generator.
    timer_late: Nanos,
}

/// An answer under way: when it comes, on which connection, when its request was due and sent, and whether
/// that found the connection idle.
type Answer = Reverse<(Nanos, u32, Nanos, Nanos, bool)>;

/// Plays a run; what was recorded.
fn play(server: &Server, run: &Run) -> Tally {
    let mut dispatcher = Dispatcher::new(Mix::new([1].into_iter(), 0), run.connections as usize);
    let mut recorder = Recorder::new(0, Tally::new(1), Kept::default());
    let share = Share { worker: 0, workers: 1, seed: 5 };
    let end = run.seconds * SECOND;
    dispatcher.begin(Schedule::new(&run.load, share, 0, 0, end));
    let mut under_way: BinaryHeap<Answer> = BinaryHeap::new();
    let send = |heap: &mut BinaryHeap<Answer>, slot: u32, job: Job, now: Nanos| {
        heap.push(Reverse((server.answers_at(now), slot, job.due, now, job.found_idle)));
    };
    let mut now = 0;
    for slot in 0..run.connections {
        if let Some(job) = dispatcher.free(slot, now) {
            send(&mut under_way, slot, job, now);
        }
    }
    loop {
        let timer = loop {
            match dispatcher.next(now) {
                Next::Give(slot, job) => send(&mut under_way, slot, job, now),
                Next::NotBefore(due) => break Some(due + run.timer_late),
                Next::AllBusy | Next::Over => break None,
            }
        };
        let answer = under_way.peek().map(|Reverse(answer)| answer.0);
        now = match (timer, answer) {
            (Some(timer), Some(answer)) if timer < answer => timer,
            (_, Some(answer)) => answer,
            (Some(timer), None) => timer,
            (None, None) => break,
        };
        if answer.is_some_and(|answer| answer <= now)
            && let Some(Reverse((done, slot, due, sent, found_idle))) = under_way.pop()
        {
            let exchange = Exchange {
                due,
                begun: sent,
                sent,
                first_byte: done,
                done,
                request: 0,
                found_idle,
                status: 200,
                body_bytes: 0,
            };
            recorder.completed(&exchange);
            if let Some(job) = dispatcher.free(slot, now) {
                send(&mut under_way, slot, job, now);
            }
        }
    }
    while let Some(job) = dispatcher.leave() {
        recorder.unstarted(job.due, job.request, now.max(end));
    }
    let mut total = Tally::new(1);
    recorder.finish(now).0.iter().for_each(|interval| total.add(&interval.tally));
    total
}

fn constant(rate: f64) -> Load {
    let rate = Profile::Constant(Rate::per_second(rate).expect("a rate"));
    Load::Open { rate, arrivals: Arrivals::Constant }
}

fn at(tally: &Tally, measure: Measure, quantile: f64) -> f64 {
    tally.times(measure).value_at_quantile(quantile) as f64
}

fn assert_within(value: f64, expected: f64, part: f64) {
    assert!((value / expected - 1.0).abs() <= part, "{value} is not {expected}");
}

const STALLING: Server = Server { service: 50 * MICROSECOND, stall: 100 * MILLISECOND };

#[test]
fn a_stall_of_a_tenth_of_each_second_is_seen_as_it_is() {
    // With a connection for every request of a stall: one that is due x after its beginning waits
    // 100 ms - x. A tenth of the requests wait, evenly between 0 and 100 ms: the latency beyond which
    // a part q of all lies is 100 ms * (1 - q / 0.1).
    let run =
        Run { load: constant(1000.0), connections: 200, seconds: 60, timer_late: 10 * MICROSECOND };
    let tally = play(&STALLING, &run);
    assert_eq!(tally.completed, 60_000);
    for (quantile, milliseconds) in [(0.95, 50.0), (0.99, 90.0), (0.999, 99.0), (0.9999, 100.0)] {
        let expected = milliseconds * MILLISECOND as f64;
        assert_within(at(&tally, Measure::Latency, quantile), expected, 0.02);
    }
    assert_within(at(&tally, Measure::Latency, 0.5), 60.0 * MICROSECOND as f64, 0.02);
}

#[test]
fn waiting_for_a_busy_connection_counts() {
    // One connection: the request under way when the stall begins waits 100 ms; those that fall due
    // meanwhile wait for it and then for those before them, 50 µs each: one that is due x after the
    // beginning waits 100 ms - x + (x / 1 ms) * 50 µs, from 100 ms down to 5 ms, and about 5 more
    // during the rest. At p99.9 that is within 1 ms of 99.
    let run = Run { load: constant(1000.0), connections: 1, seconds: 60, timer_late: 0 };
    let tally = play(&STALLING, &run);
    assert_eq!(tally.completed, 60_000);
    assert_within(at(&tally, Measure::Latency, 0.999), 99.0 * MILLISECOND as f64, 0.02);
    assert_within(at(&tally, Measure::Latency, 0.99), 90.5 * MILLISECOND as f64, 0.02);
    // What a tool without the correction would tell: one slow request in a second, of a thousand.
    assert_within(at(&tally, Measure::Service, 0.99), 50.0 * MICROSECOND as f64, 0.02);
    assert!(at(&tally, Measure::SendLag, 0.99) > 80.0 * MILLISECOND as f64);
    assert!(at(&tally, Measure::Lateness, 1.0) < 2.0, "the generator itself was never late");
}

#[test]
fn every_rate_is_kept_exactly_when_the_server_keeps_up() {
    let server = Server { service: 100 * MICROSECOND, stall: 0 };
    for rate in [1_000.0, 7_777.0, 30_000.0, 100_000.0] {
        let run =
            Run { load: constant(rate), connections: 64, seconds: 3, timer_late: 20 * MICROSECOND };
        let tally = play(&server, &run);
        assert_eq!(tally.completed as f64, rate * 3.0, "{rate}/s");
        assert_eq!(tally.unstarted, 0);
        assert!(at(&tally, Measure::Lateness, 1.0) <= 20_100.0, "late by the timer alone");
    }
}

#[test]
fn what_a_slow_server_leaves_undone_is_not_forgotten() {
    // 10 connections of 10 ms each answer 1,000 a second of the 2,000 that fall due.
    let server = Server { service: 10 * MILLISECOND, stall: 0 };
    let run = Run { load: constant(2000.0), connections: 10, seconds: 10, timer_late: 0 };
    let tally = play(&server, &run);
    assert_eq!(tally.offered(), 20_000);
    assert_within(tally.completed as f64, 10_000.0, 0.01);
    assert_eq!(tally.unstarted, 20_000 - tally.completed);
    // The backlog grows by 1,000 a second: the last that was due waited for half of the run.
    assert_eq!(tally.times(Measure::Latency).len(), 20_000);
    assert_within(tally.times(Measure::Latency).max() as f64, 5.0 * SECOND as f64, 0.02);
}

#[test]
fn a_closed_loop_asks_a_slow_server_less() {
    let run = Run { load: Load::Closed, connections: 4, seconds: 10, timer_late: 0 };
    let tally = play(&STALLING, &run);
    // 4 connections, 20,000 a second each, in 0.9 of the time.
    assert_within(tally.completed as f64, 4.0 * 20_000.0 * 9.0, 0.01);
    assert_within(at(&tally, Measure::Latency, 0.999), 50.0 * MICROSECOND as f64, 0.02);
}
