//! A worker: one thread, one core, one ring, its share of the connections and of the load.

mod board;
mod connect;
pub(crate) mod handover;
mod http1;
mod http2;
mod http2_io;
mod judge;
mod tls_stream;
mod transport;

use std::cell::Cell;
use std::rc::Rc;
use std::sync::atomic::AtomicBool;
use std::sync::mpsc::{Receiver, Sender};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use self::board::Board;
use self::handover::{Ended, Handover, Report};
use crate::plan::Plan;
use crate::record::{Recorder, Tally};
use crate::runtime::{self, Driver};
use crate::schedule::{Clock, Nanos, Schedule, Share};
use crate::settings::Protocol;

/// Connections that are being opened together: more would overflow a listener's queue.
const OPENED_TOGETHER: usize = 128;
/// How often a worker looks at what it waits for without an event.
const SHORT: Duration = Duration::from_millis(1);
/// How often it looks for what has waited too long, at most.
const SWEEP_MAX: Duration = Duration::from_millis(50);
/// How long after the end given-up exchanges get to say so.
const LAST_WORDS: Nanos = 500_000_000;

/// The times of a run, the same for all workers; set when all are ready.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Times {
    /// Requests fall due from here on.
    pub(crate) start: Nanos,
    /// They count from here on.
    pub(crate) measured: Nanos,
    /// They fall due up to here.
    pub(crate) end: Nanos,
}

/// What a worker is given.
pub(crate) struct Assignment {
    pub(crate) plan: Arc<Plan>,
    pub(crate) clock: Clock,
    pub(crate) driver: Driver,
    pub(crate) worker: usize,
    /// The core to run on.
    pub(crate) core: Option<usize>,
    pub(crate) reports: Sender<Report>,
    pub(crate) emptied: Receiver<Tally>,
    /// Set when all workers are ready.
    pub(crate) times: Arc<OnceLock<Times>>,
    /// Somebody wants the run to end.
    pub(crate) interrupted: &'static AtomicBool,
}

/// Runs a worker on this thread until its part of the run is over.
pub(crate) fn run(assignment: Assignment) {
    let reports = assignment.reports.clone();
    let core = assignment.core.filter(|&id| {
        // Without it the scheduler may move the thread: the report says which cores were bound.
        core_affinity::set_for_current(core_affinity::CoreId { id })
    });
    let outcome = runtime::run(assignment.driver, work(assignment));
    let report = match outcome {
        Ok(Ok(ended)) => Report::Done(Ended { core, ..ended }),
        Ok(Err(error)) => Report::Failed(format!("a worker failed: {error}")),
        Err(message) => Report::Failed(message),
    };
    // Without a main thread there is nobody to tell.
    let _ = reports.send(report);
}

async fn work(assignment: Assignment) -> std::io::Result<Ended> {
    let Assignment { plan, clock, worker, reports, emptied, times, interrupted, .. } = assignment;
    let slots = share_of(plan.connections, plan.threads, worker) * plan.streams as usize;
    let seed = plan.seed.wrapping_add(worker as u64);
    let requests = plan.requests.len();
    let board = Board::new(Arc::clone(&plan), clock, assignment.driver, slots, seed, interrupted)?;
    let board = Rc::new(board);
    let sweeper = monoio::spawn(sweep(Rc::clone(&board)));

    open_all(&board, slots).await;
    let _ = reports.send(Report::Ready);
    let times = loop {
        if let Some(times) = times.get() {
            break *times;
        }
        monoio::time::sleep(SHORT).await;
    };

    let handover = Handover { worker, requests, reports, emptied };
    let recorder = Recorder::new(times.measured, Tally::new(requests), handover);
    let share = Share { worker: worker as u32, workers: plan.threads, seed: plan.seed };
    sleep_until(clock, times.start.saturating_sub(2_000_000)).await;
    let schedule = Schedule::new(&plan.load, share, times.start, times.measured, times.end);
    board.begin(schedule, recorder);
    let pacer = monoio::spawn({
        let board = Rc::clone(&board);
        async move { board.run_pacer().await }
    });

    let mut usage = (clock.now(), Usage::now());
    let mut end = times.end;
    let mut is_measured = false;
    while clock.now() < end {
        if board.is_interrupted() {
            end = end.min(clock.now());
            board.cut(end);
        }
        if !is_measured && clock.now() >= times.measured {
            is_measured = true;
            usage = (clock.now(), Usage::now());
        }
        board.turn(clock.now());
        let left = Duration::from_nanos(end.saturating_sub(clock.now()));
        monoio::time::sleep(left.min(SWEEP_MAX)).await;
    }
    let (since, before) = usage;
    let (now, after) = (clock.now(), Usage::now());
    let mut ended = Ended {
        core: None,
        measured: end.saturating_sub(times.measured),
        wall: now - since,
        cpu: after.cpu.saturating_sub(before.cpu),
        waited: after.waited.saturating_sub(before.waited),
        interrupted: false,
    };

    // A request that was due just before the end may still be given out.
    monoio::time::sleep(SHORT * 2).await;
    board.stop(clock.now());
    let grace = clock.now() + plan.grace().as_nanos() as Nanos;
    // A run that somebody ends does not wait for stragglers.
    while board.running() > 0 && clock.now() < grace && !board.is_interrupted() {
        monoio::time::sleep(SHORT).await;
    }
    ended.interrupted = end < times.end || board.running() > 0 && board.is_interrupted();
    board.abandon();
    let last = clock.now() + LAST_WORDS;
    while board.running() > 0 && clock.now() < last {
        monoio::time::sleep(SHORT).await;
    }
    pacer.await?;
    drop(board.finish(clock.now()));
    drop(sweeper);
    Ok(ended)
}

/// How many of `all` fall to a worker.
fn share_of(all: u32, workers: u32, worker: usize) -> usize {
    let surplus = usize::from((worker as u32) < all % workers);
    (all / workers) as usize + surplus
}

async fn sleep_until(clock: Clock, until: Nanos) {
    let left = until.saturating_sub(clock.now());
    monoio::time::sleep(Duration::from_nanos(left)).await;
}

/// Starts the tasks of all slots, some at a time, and waits until each has its connection or none. A run that
/// somebody ends meanwhile gives up those that are being opened.
async fn open_all(board: &Rc<Board>, slots: usize) {
    let opened = Rc::new(Cell::new(0_usize));
    let mut connection = http2::Connection::new();
    for slot in 0..slots {
        while slot >= opened.get() + OPENED_TOGETHER {
            wait_for_opening(board).await;
        }
        let opened = Rc::clone(&opened);
        let tell = move || opened.set(opened.get() + 1);
        let (board, number) = (Rc::clone(board), slot as u32);
        match board.plan.protocol {
            Protocol::Http1 => drop(monoio::spawn(http1::run(board, number, tell))),
            Protocol::Http2 => {
                if slot % board.plan.streams as usize == 0 {
                    connection = http2::Connection::new();
                }
                drop(monoio::spawn(http2::run(board, number, Rc::clone(&connection), tell)));
            }
        }
    }
    while opened.get() < slots {
        wait_for_opening(board).await;
    }
}

async fn wait_for_opening(board: &Board) {
    if board.is_interrupted() {
        board.abandon();
    }
    monoio::time::sleep(SHORT).await;
}

async fn sweep(board: Rc<Board>) {
    let pause = (board.plan.timeout / 20).clamp(SHORT, SWEEP_MAX);
    loop {
        monoio::time::sleep(pause).await;
        board.sweep(board.clock.now());
    }
}

/// What the scheduler has given this thread so far, nanoseconds.
#[derive(Clone, Copy, Debug, Default)]
struct Usage {
    cpu: Nanos,
    waited: Nanos,
}

impl Usage {
    /// Zero where the kernel does not say.
    fn now() -> Usage {
        let text = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
        let mut numbers = text.split_ascii_whitespace().map(|word| word.parse().unwrap_or(0));
        Usage { cpu: numbers.next().unwrap_or(0), waited: numbers.next().unwrap_or(0) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn workers_share_all_connections() {
        for (all, workers) in [(1, 1), (64, 3), (7, 7), (100, 8)] {
            let shares = (0..workers as usize).map(|worker| share_of(all, workers, worker));
            assert_eq!(shares.sum::<usize>(), all as usize);
        }
    }

    #[test]
    fn the_kernel_says_what_a_thread_used() {
        let before = Usage::now();
        let mut sum = 0_u64;
        let began = std::time::Instant::now();
        while began.elapsed() < Duration::from_millis(30) {
            sum = std::hint::black_box(sum.wrapping_add(1));
        }
        assert!(Usage::now().cpu > before.cpu);
    }
}
