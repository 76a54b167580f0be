//! What a request may touch on its worker.

use std::cell::{Cell, RefCell};
use std::io::Write;
use std::rc::Rc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use httpdate::HttpDate;

use super::downstream::DownstreamTable;
use super::listener::ChainSlots;
use super::scratch::Scratch;
use super::tap::WorkerTaps;
use crate::access_log::AccessLogSink;
use crate::ids::WorkerId;
use crate::metrics::{WorkerCounters, WorkerGauges, WorkerMetrics};
use crate::net::runtime::Driver;
use crate::net::{BufferPool, FuturePool, PipePool};
use crate::snapshot::Snapshot;
use crate::stream_info::StreamInfo;
use crate::tls::TlsPools;
use crate::trace::Tracer;
use crate::upstream::ClusterStates;

/// Scratches kept when free.
const FREE_SCRATCHES_MAX: usize = 1024;
/// A scratch whose vectors grew beyond this is not kept.
const SCRATCH_BYTES_MAX: usize = 64 * 1024;

/// One worker's copy of a snapshot, and its own state beside it.
#[derive(Default)]
pub struct Replica {
    /// The compiled configuration.
    pub snapshot: Snapshot,
    /// Load balancers and pools; index: cluster id.
    pub clusters: ClusterStates,
    /// The slots of the chains of ports that take TLS.
    pub chains: ChainSlots,
}

/// The time as one worker tells it.
pub struct WorkerClock {
    epoch: Instant,
    /// Microseconds since the Unix epoch at `epoch`, corrected every second.
    unix_us_at_epoch: Cell<u64>,
    /// `Date` header value of the present second.
    date: Cell<[u8; 29]>,
    coarse_ms: Cell<u64>,
}

impl WorkerClock {
    /// A clock that starts now.
    pub fn new() -> WorkerClock {
        let clock = WorkerClock {
            epoch: Instant::now(),
            unix_us_at_epoch: Cell::new(0),
            date: Cell::new([b' '; 29]),
            coarse_ms: Cell::new(0),
        };
        clock.follow_wall_clock();
        clock
    }

    /// Called every tick: move the coarse time on.
    pub fn tick(&self) {
        self.coarse_ms.set(self.milliseconds(Instant::now()));
    }

    /// Called about once a second.
    pub fn follow_wall_clock(&self) {
        let now = SystemTime::now();
        let unix = now.duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
        let since = self.epoch.elapsed().as_micros() as u64;
        self.unix_us_at_epoch.set((unix.as_micros() as u64).saturating_sub(since));
        let mut date = [b' '; 29];
        // An HTTP date is exactly so long, whatever the time.
        if write!(&mut date[..], "{}", HttpDate::from(now)).is_ok() {
            self.date.set(date);
        }
    }

    /// Milliseconds from the worker's start to about now: as of the last tick, 100 ms ago at most.
    #[inline]
    pub fn coarse_milliseconds(&self) -> u64 {
        self.coarse_ms.get()
    }

    /// Milliseconds from the worker's start to `instant`.
    #[inline]
    pub fn milliseconds(&self, instant: Instant) -> u64 {
        instant.saturating_duration_since(self.epoch).as_millis() as u64
    }

    /// Microseconds since the Unix epoch at `instant`.
    #[inline]
    pub fn unix_microseconds(&self, instant: Instant) -> u64 {
        self.unix_us_at_epoch.get()
            + instant.saturating_duration_since(self.epoch).as_micros() as u64
    }

    /// The `Date` header value.
    #[inline]
    pub fn date(&self) -> [u8; 29] {
        self.date.get()
    }
}

impl Default for WorkerClock {
    fn default() -> Self {
        WorkerClock::new()
    }
}

/// Everything of one worker that a request may touch. Shared by its tasks, never by another thread.
pub struct WorkerContext {
    /// What its I/O runs on.
    pub driver: Driver,
    /// The configuration in force; a request keeps the one it began with.
    pub replica: RefCell<Rc<Replica>>,
    /// Receive buffers.
    pub buffers: Rc<BufferPool>,
    /// What TLS connections share.
    pub tls: TlsPools,
    /// What TLS said of the connection to an endpoint that failed last.
    pub tls_failure: RefCell<String>,
    /// Pipes that tunnels move bytes through.
    pub pipes: PipePool,
    /// This worker's counters.
    pub metrics: WorkerMetrics,
    /// Where access log lines go; none when the log is off.
    pub access_log: RefCell<Option<AccessLogSink>>,
    /// What requests are traced with; none when traces are off.
    pub tracer: RefCell<Option<Tracer>>,
    /// Who watches requests as they pass.
    pub taps: WorkerTaps,
    /// Randomness for balancing and request ids (not for secrets).
    pub random: RefCell<fastrand::Rng>,
    /// The time.
    pub clock: WorkerClock,
    /// Downstream connections.
    pub downstreams: DownstreamTable,
    /// Set when the process is to end: answer with `Connection: close`.
    pub draining: Cell<bool>,
    /// Copies of requests under way.
    pub mirrors_active: Cell<u64>,
    /// Slots for exchanges.
    pub exchanges: Rc<FuturePool>,
    /// Slots for receives from upstreams.
    pub receives: Rc<FuturePool>,
    /// Slots for sends of HTTP/2 connections.
    pub sends: Rc<FuturePool>,
    /// Slots for what only some requests need, so that the others stay small: connects, request
    /// bodies that stream, tunnels.
    pub connects: Rc<FuturePool>,
    /// See `connects`.
    pub http2_connects: Rc<FuturePool>,
    /// See `connects`.
    pub pumps: Rc<FuturePool>,
    /// See `connects`.
    pub tunnels: Rc<FuturePool>,
    #[expect(
        clippy::vec_box,
        reason = "a scratch is handed out and back: a pointer moves, not it"
    )]
    scratches: RefCell<Vec<Box<Scratch>>>,
}

impl WorkerContext {
    /// The context of a worker that has no configuration yet.
    pub fn new(
        id: WorkerId,
        driver: Driver,
        access_log: Option<AccessLogSink>,
    ) -> Rc<WorkerContext> {
        let buffers: Rc<BufferPool> = Rc::default();
        Rc::new(WorkerContext {
            tls: TlsPools::new(Rc::clone(&buffers)),
            driver,
            replica: RefCell::default(),
            buffers,
            tls_failure: RefCell::default(),
            pipes: PipePool::default(),
            metrics: WorkerMetrics::new(id),
            access_log: RefCell::new(access_log),
            tracer: RefCell::new(None),
            taps: WorkerTaps::default(),
            random: RefCell::new(fastrand::Rng::new()),
            clock: WorkerClock::new(),
            downstreams: DownstreamTable::default(),
            draining: Cell::new(false),
            mirrors_active: Cell::new(0),
            exchanges: FuturePool::new(),
            receives: FuturePool::new(),
            sends: FuturePool::new(),
            connects: FuturePool::new(),
            http2_connects: FuturePool::new(),
            pumps: FuturePool::new(),
            tunnels: FuturePool::new(),
            scratches: RefCell::default(),
        })
    }

    /// Working memory for a request.
    pub fn take_scratch(&self) -> Box<Scratch> {
        let scratch = self.scratches.borrow_mut().pop();
        scratch.unwrap_or_else(|| Box::new(Scratch::new(StreamInfo::new(self.clock.epoch, 0))))
    }

    /// Give working memory back.
    pub fn give_scratch(&self, scratch: Box<Scratch>) {
        let mut free = self.scratches.borrow_mut();
        let bytes = scratch.request.capacity() + scratch.response.capacity();
        if free.len() < FREE_SCRATCHES_MAX && bytes <= SCRATCH_BYTES_MAX {
            free.push(scratch);
        }
    }

    /// Are the fields of requests kept until they end, for those who show them?
    #[inline]
    pub fn keeps_fields(&self, snapshot: &Snapshot) -> bool {
        self.taps.any() || self.is_logging(snapshot)
    }

    /// How long a body or a send may make no progress.
    pub fn progress_timeout(&self) -> Duration {
        self.replica.borrow().snapshot.settings.progress_timeout
    }

    /// How long a body or a send may make no progress, milliseconds.
    pub fn progress_timeout_ms(&self) -> u64 {
        self.progress_timeout().as_millis() as u64
    }

    /// Are requests that were routed by this configuration logged?
    #[inline]
    pub fn is_logging(&self, snapshot: &Snapshot) -> bool {
        let policy = &snapshot.settings.telemetry.access_log;
        self.access_log.borrow().as_ref().is_some_and(|sink| sink.is_on(policy))
    }

    /// True `ppm` times in a million.
    pub fn chance(&self, ppm: u32) -> bool {
        ppm > 0 && self.random.borrow_mut().u32(..1_000_000) < ppm
    }

    /// Change this worker's counters and gauges.
    #[inline]
    pub fn count(&self, change: impl FnOnce(&mut WorkerCounters, &mut WorkerGauges)) {
        self.metrics.update(change);
    }
}
