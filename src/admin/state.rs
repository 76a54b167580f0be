//! What the admin server shows, filled in by others.

use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Instant;

use crate::explain::ExplainService;
use crate::metrics::StatsHandle;
use crate::snapshot::Snapshot;
use crate::upstream::SharedClustersCell;

use super::controls::Controls;
use super::report::StatusReport;

/// Should new connections come to this gateway?
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Readiness {
    /// Not every worker serves the first configuration yet.
    Starting = 0,
    /// Serving.
    Ready = 1,
    /// Shutting down: connections in flight are finished.
    Draining = 2,
}

/// The readiness as threads share it.
#[derive(Debug, Default)]
pub struct ReadinessFlag(AtomicU8);

impl ReadinessFlag {
    /// From now on say this.
    pub fn set(&self, readiness: Readiness) {
        self.0.store(readiness as u8, Ordering::Release);
    }

    /// What was said last; [`Readiness::Starting`] at first.
    pub fn get(&self) -> Readiness {
        match self.0.load(Ordering::Acquire) {
            1 => Readiness::Ready,
            2 => Readiness::Draining,
            _ => Readiness::Starting,
        }
    }
}

/// The newest [`StatusReport`].
#[derive(Debug, Default)]
pub struct StatusCell(RwLock<Arc<StatusReport>>);

impl StatusCell {
    /// Show this report from now on. Never waits for a page that is being rendered.
    pub fn publish(&self, report: StatusReport) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(report);
    }

    /// The report published last; an empty one before that.
    pub fn load(&self) -> Arc<StatusReport> {
        Arc::clone(&self.0.read().unwrap_or_else(PoisonError::into_inner))
    }
}

/// The configuration in force, to explain requests by. It costs the process one more copy of what each
/// worker has of its own: the workers' copies must not be touched by another thread.
#[derive(Debug, Default)]
pub struct SnapshotCell(RwLock<Option<Arc<Snapshot>>>);

impl SnapshotCell {
    /// Explain by this one from now on.
    pub fn publish(&self, snapshot: Arc<Snapshot>) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = Some(snapshot);
    }

    /// The one published last; none before that.
    pub fn load(&self) -> Option<Arc<Snapshot>> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// What `/server_info` shows and never changes.
#[derive(Clone, Debug)]
pub struct ServerInfo {
    /// Version of the binary.
    pub version: String,
    /// When the process started.
    pub started: Instant,
    /// Worker threads.
    pub workers: usize,
    /// `io_uring` or `epoll`.
    pub io_driver: String,
    /// Metrics are shown under Envoy's names too.
    pub envoy_metrics: bool,
    /// Our labels, which say which Gateways select us.
    pub labels: Vec<(String, String)>,
}

/// Everything that the pages read.
#[derive(Clone, Debug)]
pub struct AdminState {
    /// The configuration; the control loop publishes it.
    pub status: Arc<StatusCell>,
    /// What requests are explained by.
    pub snapshot: Arc<SnapshotCell>,
    /// What the workers share of the clusters: which endpoints are out.
    pub clusters: Arc<SharedClustersCell>,
    /// Explains.
    pub explain: Arc<ExplainService>,
    /// The numbers.
    pub stats: StatsHandle,
    /// Ready, or why not.
    pub readiness: Arc<ReadinessFlag>,
    /// What never changes.
    pub info: Arc<ServerInfo>,
    /// What the pages may change.
    pub controls: Arc<Controls>,
}
