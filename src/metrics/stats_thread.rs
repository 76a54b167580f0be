//! The thread that adds the workers' numbers up. Each round it gives every worker an empty shard
//! and gets the filled one back, so that a worker does constant work and shares nothing.

use std::io;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::sync::{Arc, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use hdrhistogram::Histogram;

use crate::ids::WorkerId;

use super::control_stats::ControlStats;
use super::labels::{HistogramKey, LabelTable, SharedLabels, SourceLabels};
use super::overrides::MetricOverrides;
use super::reading::Reading;
use super::shard::{MetricsShard, WorkerMetrics};
use super::slo::{Objective, SloBook};
use super::totals::Totals;
use super::usage::{UsageProbe, UsageTable};

/// What a worker gets asked: its shard for this empty one.
#[derive(Debug)]
pub struct SwapRequest {
    /// Taken by the answer; still here when the request is dropped unanswered.
    spare: Option<Box<MetricsShard>>,
    reply: Sender<Message>,
}

impl SwapRequest {
    /// Answer on the worker's thread: swap and send the filled shard. Constant time, no allocation
    /// but a queue node.
    pub fn answer(mut self, metrics: &WorkerMetrics) {
        if let Some(spare) = self.spare.take() {
            let shard = metrics.hand_over(spare);
            // The stats thread is gone only when the process ends.
            let _ = self.reply.send(Message::Shard { shard, answered: true });
        }
    }
}

impl Drop for SwapRequest {
    /// A request that no worker answered (its queue was full, the worker is gone) returns the
    /// spare, so that a scrape doesn't wait for it.
    fn drop(&mut self) {
        if let Some(shard) = self.spare.take() {
            let _ = self.reply.send(Message::Shard { shard, answered: false });
        }
    }
}

/// The way to a worker: the worker's mailbox implements it.
pub trait ShardSource: Send {
    /// Pass the request to the worker without blocking, which calls [`SwapRequest::answer`]. When
    /// that is impossible, drop it.
    fn request_swap(&self, request: SwapRequest);
}

impl<F: Fn(SwapRequest) + Send> ShardSource for F {
    fn request_swap(&self, request: SwapRequest) {
        self(request);
    }
}

/// What the stats thread needs.
#[derive(Debug)]
pub struct StatsOptions {
    /// The meaning of the slots.
    pub labels: SharedLabels,
    /// The gateway's own labels.
    pub source: SourceLabels,
    /// Numbers that no worker counts.
    pub control: Arc<ControlStats>,
    /// `tag` of `istio_build`: the version.
    pub version: String,
    /// How often to collect when nobody asks (`limits::STATS_INTERVAL`).
    pub interval: Duration,
}

/// What there is to show at one moment.
#[derive(Debug)]
pub struct Collected<'a> {
    /// The sums.
    pub totals: &'a Totals,
    /// The meaning of the slots.
    pub labels: &'a LabelTable,
    /// The gateway's own labels.
    pub source: &'a SourceLabels,
    /// Numbers that no worker counts.
    pub control: &'a ControlStats,
    /// What was promised, and what was kept of it.
    pub slos: &'a SloBook,
    /// What the workers use of the machine.
    pub usage: &'a UsageTable,
    /// The version.
    pub version: &'a str,
    /// Registered workers.
    pub workers: usize,
    /// Workers that did not answer in time: their newest numbers are missing.
    pub silent_workers: usize,
}

type Job = Box<dyn FnOnce(&Collected<'_>) + Send>;

enum Message {
    Register(WorkerId, Box<dyn ShardSource>),
    Observe(WorkerId, UsageProbe),
    Shard { shard: Box<MetricsShard>, answered: bool },
    Final(Box<MetricsShard>),
    Collect { timeout: Duration, job: Job },
    Objectives(Arc<[Objective]>),
    Overrides(MetricOverrides),
    Stop,
}

/// The running thread.
#[derive(Debug)]
pub struct StatsThread {
    handle: StatsHandle,
    thread: JoinHandle<()>,
}

impl StatsThread {
    /// Start it. Fails when the system gives no thread.
    pub fn start(options: StatsOptions) -> io::Result<StatsThread> {
        let (sender, receiver) = mpsc::channel();
        let own = sender.clone();
        let thread = thread::Builder::new().name("stats".to_owned()).spawn(move || {
            State {
                options,
                sender: own,
                workers: Vec::new(),
                jobs: Vec::new(),
                round: 0,
                totals: Totals::new(),
                step_began: Instant::now(),
                step_ends: None,
                slos: SloBook::default(),
                usage: UsageTable::default(),
            }
            .run(&receiver);
        })?;
        Ok(StatsThread { handle: StatsHandle { sender }, thread })
    }

    /// A way to it that can be cloned and sent.
    pub fn handle(&self) -> StatsHandle {
        self.handle.clone()
    }

    /// Stop it; questions still open get no answer.
    pub fn shutdown(self) {
        let _ = self.handle.sender.send(Message::Stop);
        // A panic of the thread was printed by the panic hook; there is nothing to add here.
        let _ = self.thread.join();
    }
}

/// A way to the stats thread.
#[derive(Clone, Debug)]
pub struct StatsHandle {
    sender: Sender<Message>,
}

impl StatsHandle {
    /// From now on collect from this worker too.
    pub fn register_worker(&self, worker: WorkerId, source: Box<dyn ShardSource>) {
        let _ = self.sender.send(Message::Register(worker, source));
    }

    /// From now on ask `probe` for what this worker uses, on the stats thread.
    pub fn observe_worker(&self, worker: WorkerId, probe: UsageProbe) {
        let _ = self.sender.send(Message::Observe(worker, probe));
    }

    /// The last numbers of a worker that ends.
    pub fn deposit(&self, shard: Box<MetricsShard>) {
        let _ = self.sender.send(Message::Final(shard));
    }

    /// Collect from all workers, then run `job` on the stats thread. A worker that has not answered
    /// after `timeout` is left out. `job` is dropped without being run when the thread has stopped.
    pub fn collect(&self, timeout: Duration, job: impl FnOnce(&Collected<'_>) + Send + 'static) {
        let _ = self.sender.send(Message::Collect { timeout, job: Box::new(job) });
    }

    /// From now on measure these objectives.
    pub fn set_objectives(&self, objectives: Arc<[Objective]>) {
        let _ = self.sender.send(Message::Objectives(objectives));
    }

    /// From now on show Istio's metrics so, until the next call.
    pub fn set_overrides(&self, overrides: MetricOverrides) {
        let _ = self.sender.send(Message::Overrides(overrides));
    }

    /// A copy of everything, given to `done`; see [`StatsHandle::collect`]. Its text is not written on
    /// the stats thread.
    pub fn scrape(&self, timeout: Duration, done: impl FnOnce(Reading) + Send + 'static) {
        self.collect(timeout, |collected| done(Reading::of(collected)));
    }

    /// The latency histograms, given to `done`; see [`StatsHandle::collect`].
    pub fn merged_histograms(
        &self,
        timeout: Duration,
        done: impl FnOnce(Vec<(HistogramKey, Histogram<u64>)>) + Send + 'static,
    ) {
        self.collect(timeout, |collected| {
            done(collected.totals.merged_histograms(collected.labels));
        });
    }
}

struct Worker {
    id: WorkerId,
    source: Box<dyn ShardSource>,
    /// The empty shard, while it is here.
    spare: Option<Box<MetricsShard>>,
    /// The round that the request under way was made in. While there is one, no other is made.
    in_flight: Option<u64>,
    /// The newest round that wants this worker's numbers.
    wanted: u64,
    /// The newest round whose request ended, and the newest that was answered.
    ended: u64,
    answered: u64,
}

impl Worker {
    /// Ask for the shard, unless a request is under way: then the next one follows it, because what
    /// comes back may have left the worker before this round began.
    fn ask(&mut self, reply: &Sender<Message>) {
        if self.in_flight.is_some() || self.ended >= self.wanted {
            return;
        }
        self.in_flight = Some(self.wanted);
        let spare = self.spare.take().unwrap_or_else(|| MetricsShard::new(self.id));
        self.source.request_swap(SwapRequest { spare: Some(spare), reply: reply.clone() });
    }
}

struct OpenJob {
    round: u64,
    deadline: Instant,
    job: Job,
}

struct State {
    options: StatsOptions,
    sender: Sender<Message>,
    workers: Vec<Worker>,
    jobs: Vec<OpenJob>,
    round: u64,
    totals: Totals,
    /// When the open step of the history began.
    step_began: Instant,
    /// The round that ends it, and when that began.
    step_ends: Option<(u64, Instant, SystemTime)>,
    slos: SloBook,
    usage: UsageTable,
}

impl State {
    fn run(mut self, receiver: &Receiver<Message>) {
        let mut next_round = Instant::now() + self.options.interval;
        loop {
            let now = Instant::now();
            if now >= next_round {
                // A worker that did not answer in a second does not hold the others' step open.
                self.end_step();
                self.begin_round();
                self.step_ends = Some((self.round, now, SystemTime::now()));
                self.usage.refresh(now);
                next_round = now + self.options.interval;
            }
            if self.step_ends.is_some_and(|(round, ..)| round <= self.ended_round()) {
                self.end_step();
            }
            self.finish_jobs(now);
            let wake = self.jobs.iter().map(|open| open.deadline).fold(next_round, Instant::min);
            match receiver.recv_timeout(wake.saturating_duration_since(now)) {
                Ok(Message::Stop) | Err(RecvTimeoutError::Disconnected) => return,
                Ok(message) => self.handle(message),
                Err(RecvTimeoutError::Timeout) => {}
            }
        }
    }

    fn handle(&mut self, message: Message) {
        match message {
            Message::Register(id, source) => {
                self.workers.retain(|worker| worker.id != id);
                self.workers.push(Worker {
                    id,
                    source,
                    spare: None,
                    in_flight: None,
                    wanted: self.round,
                    ended: self.round,
                    answered: self.round,
                });
            }
            Message::Observe(id, probe) => self.usage.register(id, probe, Instant::now()),
            Message::Shard { mut shard, answered } => {
                if answered {
                    self.totals.absorb(&mut shard);
                }
                let id = shard.worker();
                if let Some(worker) = self.workers.iter_mut().find(|worker| worker.id == id) {
                    worker.spare = Some(shard);
                    if let Some(round) = worker.in_flight.take() {
                        worker.ended = round;
                        if answered {
                            worker.answered = round;
                        }
                    }
                    worker.ask(&self.sender);
                }
            }
            Message::Final(mut shard) => self.totals.absorb(&mut shard),
            Message::Collect { timeout, job } => {
                // Who does not wait for the workers' numbers does not ask them either.
                if !timeout.is_zero() {
                    self.begin_round();
                }
                let deadline = Instant::now() + timeout;
                self.jobs.push(OpenJob { round: self.round, deadline, job });
            }
            Message::Objectives(objectives) => self.slos.set(&objectives),
            Message::Overrides(overrides) => {
                let mut labels =
                    self.options.labels.write().unwrap_or_else(PoisonError::into_inner);
                labels.set_overrides(overrides);
            }
            Message::Stop => {}
        }
    }

    fn begin_round(&mut self) {
        self.round += 1;
        for worker in &mut self.workers {
            worker.wanted = self.round;
            worker.ask(&self.sender);
        }
    }

    /// End the step that a round was begun for, with all that came of it.
    fn end_step(&mut self) {
        let Some((_, ended, at)) = self.step_ends.take() else { return };
        let unix_ms = at.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as u64);
        let length = ended.saturating_duration_since(self.step_began);
        let step = self.totals.history.close(unix_ms, length);
        if !self.slos.objectives().is_empty() {
            let labels = self.options.labels.read().unwrap_or_else(PoisonError::into_inner);
            self.slos.add(&step, labels.histogram_keys());
        }
        self.step_began = ended;
    }

    /// The newest round that every worker's request ended in.
    fn ended_round(&self) -> u64 {
        self.workers.iter().map(|worker| worker.ended).min().unwrap_or(self.round)
    }

    fn finish_jobs(&mut self, now: Instant) {
        let ended = self.ended_round();
        let ready = |open: &mut OpenJob| open.round <= ended || open.deadline <= now;
        let ready: Vec<OpenJob> = self.jobs.extract_if(.., ready).collect();
        if ready.is_empty() {
            return;
        }
        let labels = self.options.labels.read().unwrap_or_else(PoisonError::into_inner);
        for open in ready {
            let silent = self.workers.iter().filter(|worker| worker.answered < open.round).count();
            (open.job)(&Collected {
                totals: &self.totals,
                labels: &labels,
                source: &self.options.source,
                control: &self.options.control,
                slos: &self.slos,
                usage: &self.usage,
                version: &self.options.version,
                workers: self.workers.len(),
                silent_workers: silent,
            });
        }
    }
}

#[cfg(test)]
mod tests;
