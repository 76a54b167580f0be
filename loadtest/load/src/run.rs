//! A run from its plan to its result: starts the workers, gives them their times, collects what they tell.

use std::io;
use std::sync::atomic::AtomicBool;
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::sync::{Arc, OnceLock};
use std::thread;
use std::time::{Duration, SystemTime};

use crate::collect::Collector;
use crate::hlog::Row;
use crate::machine::{self, Machine, show_utc};
use crate::plan::Plan;
use crate::progress::Progress;
use crate::record::{Measure, Tally};
use crate::result::{Counts, RunResult, SCHEMA, Times, Tool, WorkerShare};
use crate::runtime::{Driver, DriverChoice};
use crate::schedule::{Clock, Nanos};
use crate::verdict;
use crate::worker::handover::{Ended, Report};
use crate::worker::{self, Assignment};

/// From the moment all connections are open to the first request.
const LEAD: Nanos = 20_000_000;
/// Tallies that a worker has in stock: none is made while it measures.
const STOCK: usize = 2;
/// How often the progress line is drawn.
const DRAWN_EVERY: Duration = Duration::from_millis(250);
/// How much longer than planned, with its grace, a run may take before it is given up.
const OVERDUE: Duration = Duration::from_secs(15);

/// Why there is no result.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RunError {
    /// io_uring was asked for.
    #[error("io_uring cannot be used here: {0}; try --driver epoll")]
    Driver(io::Error),
    /// A core that is not there.
    #[error("core {0} cannot be used: this process may run on {1:?}")]
    Core(usize, Vec<usize>),
    /// No thread.
    #[error("a worker could not be started: {0}")]
    Thread(io::Error),
    /// A worker's own words.
    #[error("{0}")]
    Worker(String),
    /// Workers that say nothing any more.
    #[error("the workers did not end in time")]
    Overdue,
}

/// What a run needs beside its plan.
pub(crate) struct Setting {
    pub(crate) driver: DriverChoice,
    /// Cores for the workers in turn; empty: they are not bound.
    pub(crate) cores: Vec<usize>,
    pub(crate) quiet: bool,
    pub(crate) label: String,
    pub(crate) command: Vec<String>,
    pub(crate) interrupted: &'static AtomicBool,
}

/// A result with what does not go into its document.
pub(crate) struct Outcome {
    pub(crate) result: RunResult,
    /// Of the interval log.
    pub(crate) rows: Vec<Row>,
    pub(crate) total: Tally,
    pub(crate) started: SystemTime,
}

/// Makes the run.
pub(crate) fn run(plan: Plan, setting: &Setting) -> Result<Outcome, RunError> {
    let allowed = machine::cores();
    if let Some(&core) = setting.cores.iter().find(|core| !allowed.contains(core)) {
        return Err(RunError::Core(core, allowed));
    }
    let driver = Driver::choose(setting.driver).map_err(RunError::Driver)?;
    let plan = Arc::new(plan);
    let clock = Clock::new();
    let times = Arc::new(OnceLock::new());
    let (reports, incoming) = channel();
    let mut back = Vec::new();
    for worker in 0..plan.threads as usize {
        let (give_back, emptied) = channel();
        for _ in 0..STOCK {
            let _ = give_back.send(Tally::new(plan.requests.len()));
        }
        back.push(give_back);
        let core = setting.cores.get(worker % setting.cores.len().max(1)).copied();
        let assignment = Assignment {
            plan: Arc::clone(&plan),
            clock,
            driver,
            worker,
            core,
            reports: reports.clone(),
            emptied,
            times: Arc::clone(&times),
            interrupted: setting.interrupted,
        };
        thread::Builder::new()
            .name(format!("worker-{worker}"))
            .spawn(move || worker::run(assignment))
            .map_err(RunError::Thread)?;
    }
    drop(reports);

    wait_until_ready(&incoming, &plan)?;
    let start = clock.now() + LEAD;
    let measured = start + plan.warmup.as_nanos() as Nanos;
    let end = measured + plan.duration.as_nanos() as Nanos;
    let started = SystemTime::now() + Duration::from_nanos(measured - clock.now());
    let _ = times.set(worker::Times { start, measured, end });

    let names = plan.requests.iter().map(|request| request.name.clone()).collect();
    let mut collector = Collector::new(measured, names, back);
    let whole = plan.warmup + plan.duration;
    let mut progress = Progress::new(setting.quiet, whole);
    let mut ended = Vec::new();
    // Twice: requests that were never sent are counted one by one, faster than they fell due.
    let last = clock.now() + (whole * 2 + plan.grace() + OVERDUE).as_nanos() as Nanos;
    while ended.len() < plan.threads as usize {
        match incoming.recv_timeout(DRAWN_EVERY) {
            Ok(Report::Interval(worker, interval)) => {
                if let Some(second) = collector.take(worker, *interval) {
                    progress.second(second);
                }
            }
            Ok(Report::Done(one)) => ended.push(one),
            Ok(Report::Ready) | Err(RecvTimeoutError::Timeout) => {}
            Ok(Report::Failed(message)) => return Err(RunError::Worker(message)),
            Err(RecvTimeoutError::Disconnected) => break,
        }
        if clock.now() > last {
            return Err(RunError::Overdue);
        }
        progress.draw(Duration::from_nanos(clock.now().saturating_sub(start)));
    }
    progress.clear();
    collector.finish();
    Ok(summed_up(&plan, setting, driver, collector, &ended, started))
}

fn wait_until_ready(incoming: &Receiver<Report>, plan: &Plan) -> Result<(), RunError> {
    // Connections are opened some at a time, each within the time-out.
    let rounds = plan.connections * plan.streams / plan.threads / 100 + 2;
    let patience = plan.timeout * rounds + OVERDUE;
    for _ in 0..plan.threads {
        match incoming.recv_timeout(patience) {
            Ok(Report::Failed(message)) => return Err(RunError::Worker(message)),
            Ok(_) => {}
            Err(_) => return Err(RunError::Overdue),
        }
    }
    Ok(())
}

fn summed_up(
    plan: &Plan,
    setting: &Setting,
    driver: Driver,
    collector: Collector,
    ended: &[Ended],
    started: SystemTime,
) -> Outcome {
    let total = collector.total;
    let measured = ended.iter().map(|worker| worker.measured).max().unwrap_or(0);
    let measured_seconds = Duration::from_nanos(measured).as_secs_f64();
    let interrupted = ended.iter().any(|worker| worker.interrupted);
    let part = |time: Nanos, of: Nanos| time as f64 / of.max(1) as f64;
    let workers = ended.iter().map(|worker| WorkerShare {
        core: worker.core,
        busy: part(worker.cpu, worker.wall),
        waited: part(worker.waited, worker.wall),
    });
    let times = Measure::ALL
        .into_iter()
        .filter(|&measure| !total.times(measure).is_empty())
        .map(|measure| (measure.name().to_owned(), Times::of(total.times(measure))))
        .collect();
    let names = plan.requests.iter().map(|request| request.name.clone());
    let by_request = names.zip(&total.by_request).map(|(name, times)| (name, Times::of(times)));
    let mut result = RunResult {
        schema: SCHEMA,
        tool: Tool::this(),
        machine: Machine::here(),
        label: setting.label.clone(),
        started: show_utc(started),
        command: setting.command.clone(),
        driver: driver.to_string(),
        plan: plan.record(),
        interrupted,
        measured_seconds,
        counts: Counts::of(&total),
        completed_rate: (total.completed - total.after_end) as f64 / measured_seconds.max(1e-9),
        times,
        by_request: by_request.collect(),
        seconds: collector.seconds,
        workers: workers.collect(),
        findings: Vec::new(),
    };
    result.findings = verdict::findings(&result);
    Outcome { result, rows: collector.rows, total, started }
}
