//! The process while it runs: follow changes, obey signals, notice a worker that fails, drain.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::mpsc as std_mpsc;
use std::time::Duration;

use tokio::sync::mpsc;

use super::dns::NameTable;
use super::publish::{Bound, Publisher};
use super::reload::{Reading, Reloader};
use super::signals::{Asked, Signals};
use super::watch::ManifestWatcher;
use crate::access_log::AccessLogHandle;
use crate::config::{Diagnostic, Severity};
use crate::control::store::ObjectStatus;
use crate::ids::WorkerId;
use crate::metrics::ControlStats;
use crate::snapshot::Snapshot;
use crate::worker::{Command, WorkerEvent};

/// How long a reload waits for the first answers of names that it brings.
const NEW_NAMES_TIMEOUT: Duration = Duration::from_secs(2);
/// How often the files with certificates are looked at: they may be anywhere, behind links that are
/// swapped, and on file systems that tell of no change.
const CREDENTIAL_FILES_LOOK: Duration = Duration::from_secs(1);
/// Beyond the drain's own time, wait this long for a worker to say that it has drained.
const DRAIN_GRACE: Duration = Duration::from_secs(2);

/// Why the process ended although nobody asked.
#[derive(Debug, thiserror::Error)]
pub enum SupervisorError {
    /// A worker's task panicked.
    #[error(
        "worker {0} panicked: {1}; the other workers were drained. This is a defect of ringress: \
         please report it with this message"
    )]
    WorkerPanicked(u32, String),
    /// A worker failed.
    #[error("worker {0} failed: {1}")]
    WorkerFailed(u32, String),
}

/// What the supervisor tells the admin pages.
pub trait Observer {
    /// A configuration was put in force.
    fn published(
        &self,
        snapshot: Arc<Snapshot>,
        objects: &[ObjectStatus],
        diagnostics: &[Diagnostic],
    );
    /// The drain began.
    fn draining(&self);
}

/// Everything that runs.
pub struct Supervisor<O> {
    /// Reads the manifests.
    pub reloader: Reloader,
    /// Keeps names resolved.
    pub names: NameTable,
    /// Brings snapshots to the workers.
    pub publisher: Publisher,
    /// What the workers report.
    pub events: std_mpsc::Receiver<WorkerEvent>,
    /// Numbers that no worker counts.
    pub stats: Arc<ControlStats>,
    /// The access log, to open it again.
    pub access_log: Option<AccessLogHandle>,
    /// Tells when files change; none: they are not followed.
    pub watcher: Option<ManifestWatcher>,
    /// The signals.
    pub signals: Signals,
    /// How long a drain may take.
    pub drain_timeout: Duration,
    /// The admin pages.
    pub observer: O,
}

impl<O: Observer> Supervisor<O> {
    /// Run until a signal asks to stop and the drain is over, or a worker fails.
    pub async fn run(self) -> Result<(), SupervisorError> {
        let Supervisor {
            mut reloader,
            mut names,
            mut publisher,
            events,
            stats,
            access_log,
            mut watcher,
            mut signals,
            drain_timeout,
            observer,
        } = self;
        let (forward, mut events_here) = mpsc::unbounded_channel();
        // Workers report by a plain channel; this thread brings it into the runtime.
        let forwarder = std::thread::Builder::new().name("worker-events".into()).spawn(move || {
            while let Ok(event) = events.recv() {
                if forward.send(event).is_err() {
                    return;
                }
            }
        });
        if let Err(error) = forwarder {
            return Err(SupervisorError::WorkerFailed(0, format!("no thread: {error}")));
        }
        let mut failure = None;
        let follows = watcher.is_some();
        let mut looks = tokio::time::interval(CREDENTIAL_FILES_LOOK);
        looks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            let changed = async {
                match &mut watcher {
                    Some(watcher) => watcher.changed().await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                asked = signals.next() => match asked {
                    Asked::Stop => break,
                    // A test asks what a panic does to the process.
                    #[cfg(debug_assertions)]
                    Asked::Reload if std::env::var_os("RINGRESS_TEST_PANIC").is_some() => {
                        if let Some(worker) = publisher.workers().first() {
                            worker.send(Command::Panic);
                        }
                    }
                    Asked::Reload => {
                        names.start_over();
                        let parts = (&mut reloader, &mut names, &mut publisher);
                        reload(parts, &stats, &observer, true).await;
                    }
                    Asked::StopListening(after) => {
                        tracing::warn!(
                            after_ms = after.map(|after| after.as_millis() as u64),
                            "asked to accept no more connections; only a restart takes it back"
                        );
                        for worker in publisher.workers() {
                            worker.send(Command::StopListening(after));
                        }
                        observer.draining();
                    }
                    Asked::ReopenLog => {
                        if let Some(access_log) = &access_log {
                            access_log.reopen();
                        }
                    }
                },
                () = changed => {
                    let parts = (&mut reloader, &mut names, &mut publisher);
                    reload(parts, &stats, &observer, false).await;
                }
                _ = looks.tick(), if follows => if reloader.files_changed() {
                    let parts = (&mut reloader, &mut names, &mut publisher);
                    reload(parts, &stats, &observer, false).await;
                },
                () = names.changed() => {
                    renew(&mut reloader, &mut names, &mut publisher, &stats, &observer);
                }
                event = events_here.recv() => match event {
                    Some(WorkerEvent::Published(worker, generation)) => {
                        tracing::debug!(worker = worker.0, generation, "published");
                    }
                    Some(WorkerEvent::Panicked(worker, message)) => {
                        tracing::error!(worker = worker.0, %message, "a worker panicked");
                        failure = Some((worker, SupervisorError::WorkerPanicked(worker.0, message)));
                        break;
                    }
                    Some(WorkerEvent::Failed(worker, message)) => {
                        tracing::error!(worker = worker.0, %message, "a worker failed");
                        failure = Some((worker, SupervisorError::WorkerFailed(worker.0, message)));
                        break;
                    }
                    Some(WorkerEvent::Drained(..)) | None => {}
                },
            }
        }
        observer.draining();
        let gone = failure.as_ref().map(|(worker, _)| *worker);
        drain(&publisher, &mut events_here, &mut signals, drain_timeout, gone).await;
        match failure {
            Some((_, error)) => Err(error),
            None => Ok(()),
        }
    }
}

/// Read the manifests and the files that they name again and put in force what is good. Unless a person
/// `asked`, only when they are others than before.
async fn reload<O: Observer>(
    (reloader, names, publisher): (&mut Reloader, &mut NameTable, &mut Publisher),
    stats: &ControlStats,
    observer: &O,
    asked: bool,
) {
    let mut reading = reloader.read();
    // Something else in the directory changed, or a file was written as it was.
    if !asked {
        match reloader.unless_same(reading) {
            Some(other) => reading = other,
            None => return,
        }
    }
    report(&reading);
    // A destination that moves to a name is not without endpoints while that is looked up.
    if names.follow(&reading.snapshot) {
        names.settled(NEW_NAMES_TIMEOUT).await;
        reloader.set_answers(names.answers().0);
        reading = reloader.compile_again(reading);
    }
    let errors = reading.errors();
    let diagnostics = reading.diagnostics.clone();
    let (bound, failed) = publisher.bind(&reading.snapshot);
    for error in &failed {
        tracing::error!("{error}; the listener is left out");
    }
    let (snapshot, objects) = reloader.commit(reading);
    let snapshot = publisher.publish(snapshot, bound);
    let refused = reloader.refused_count() as u64;
    stats.reload_succeeded(snapshot.generation, refused);
    if errors == 0 && failed.is_empty() {
        tracing::info!(generation = snapshot.generation, "reloaded");
    } else {
        tracing::warn!(
            generation = snapshot.generation,
            refused,
            "reloaded, with refusals: the last good versions stay in force"
        );
    }
    observer.published(snapshot, &objects, &diagnostics);
}

/// Publish what is in force with addresses that changed.
fn renew<O: Observer>(
    reloader: &mut Reloader,
    names: &mut NameTable,
    publisher: &mut Publisher,
    stats: &ControlStats,
    observer: &O,
) {
    let (answers, changes) = names.answers();
    reloader.set_answers(answers);
    let (snapshot, objects, diagnostics) = reloader.renew();
    // Addresses of services open no port.
    let snapshot = publisher.publish(snapshot, Bound::default());
    stats.renewed(snapshot.generation);
    tracing::info!(generation = snapshot.generation, "addresses changed: {changes}");
    observer.published(snapshot, &objects, diagnostics);
}

/// Print what was found, at most each finding once.
pub fn report(reading: &Reading) {
    let mut said = BTreeSet::new();
    for found in &reading.diagnostics {
        let text = found.to_text(false);
        if !said.insert(text.clone()) {
            continue;
        }
        match found.severity {
            Severity::Error => tracing::error!("{text}"),
            Severity::Warning => tracing::warn!("{text}"),
            Severity::Info => tracing::info!("{text}"),
        }
    }
}

/// Let the workers finish what is in flight.
async fn drain(
    publisher: &Publisher,
    events: &mut mpsc::UnboundedReceiver<WorkerEvent>,
    signals: &mut Signals,
    timeout: Duration,
    gone: Option<WorkerId>,
) {
    tracing::info!(timeout_ms = timeout.as_millis() as u64, "draining");
    let mut waiting: BTreeSet<WorkerId> = BTreeSet::new();
    for worker in publisher.workers() {
        if Some(worker.id) != gone && worker.send(Command::Drain(timeout)) {
            waiting.insert(worker.id);
        }
    }
    let deadline = tokio::time::sleep(timeout + DRAIN_GRACE);
    tokio::pin!(deadline);
    while !waiting.is_empty() {
        tokio::select! {
            () = &mut deadline => {
                tracing::warn!(workers = waiting.len(), "not all workers drained in time");
                return;
            }
            asked = signals.next() => if asked == Asked::Stop {
                tracing::warn!("asked to stop again: not waiting any longer");
                return;
            },
            event = events.recv() => match event {
                Some(WorkerEvent::Drained(worker, cut)) => {
                    if cut > 0 {
                        tracing::warn!(worker = worker.0, connections = cut, "cut at the deadline");
                    }
                    waiting.remove(&worker);
                }
                Some(WorkerEvent::Panicked(worker, message)) => {
                    tracing::error!(worker = worker.0, %message, "panicked while draining");
                    waiting.remove(&worker);
                }
                Some(WorkerEvent::Failed(worker, _)) => {
                    waiting.remove(&worker);
                }
                Some(WorkerEvent::Published(..)) => {}
                None => return,
            },
        }
    }
    tracing::info!("drained");
}
