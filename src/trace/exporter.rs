//! The thread that sends spans to a collector: batches by size and time, some tries, then drops and counts.

use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::thread;
use std::time::{Duration, Instant};

use hyper::body::Bytes;
use tokio::runtime::Runtime;
use tokio::sync::watch;

use crate::limits::{TRACE_EXPORT_SPANS_MAX, TRACE_QUEUE_BATCHES_MAX};
use crate::metrics::ControlStats;

use super::collector::{Collector, Endpoint, PostError};
use super::otlp;
use super::sink::{Message, SpanSink};
use super::span::Span;

/// Spans wait at most this long for others to go with.
const GATHER_TIME: Duration = Duration::from_secs(1);
/// How long it may sleep when nothing comes.
const IDLE_TIME: Duration = Duration::from_secs(60);
/// Pauses before the further tries of a request. With [`TRIES_TIME_MAX`] they bound how long a batch keeps
/// those behind it waiting.
const PAUSES: [Duration; 3] =
    [Duration::from_millis(250), Duration::from_millis(750), Duration::from_millis(2000)];
/// All tries of a request are over after this time.
const TRIES_TIME_MAX: Duration = Duration::from_secs(8);

/// The running thread.
#[derive(Debug)]
pub struct SpanExporter {
    queue: SyncSender<Message>,
    stats: Arc<ControlStats>,
    /// When it must have ended, once that is known.
    ends_at: watch::Sender<Option<Instant>>,
    /// Disconnected when the thread is at its end.
    ended: Receiver<()>,
}

impl SpanExporter {
    /// Start it. `service` is the `service.name` of all spans. Fails when the system gives no thread or no
    /// runtime.
    pub fn start(
        endpoint: Endpoint,
        service: String,
        stats: Arc<ControlStats>,
    ) -> io::Result<SpanExporter> {
        let (queue, receiver) = sync_channel(TRACE_QUEUE_BATCHES_MAX);
        let (ends_at, ending) = watch::channel(None);
        let (end, ended) = sync_channel(0);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let state = State {
            target: endpoint.to_string(),
            collector: Collector::new(endpoint),
            service,
            stats: Arc::clone(&stats),
            ending,
            failing: false,
        };
        thread::Builder::new().name("traces".to_owned()).spawn(move || {
            state.run(&runtime, &receiver);
            // Its threads may be stuck in a lookup of the collector's name.
            runtime.shutdown_background();
            drop(end);
        })?;
        Ok(SpanExporter { queue, stats, ends_at, ended })
    }

    /// An end for a worker.
    pub fn sink(&self) -> SpanSink {
        SpanSink::new(self.queue.clone(), Arc::clone(&self.stats))
    }

    /// Send what was handed over and end. False when that took longer than `timeout`: what is left is lost.
    pub fn shutdown(self, timeout: Duration) -> bool {
        // The thread gives up a little earlier, to count what it could not send.
        self.ends_at.send_replace(Some(Instant::now() + timeout * 3 / 4));
        // When it is full the thread is awake.
        let _ = self.queue.try_send(Message::Wake);
        !matches!(self.ended.recv_timeout(timeout), Err(RecvTimeoutError::Timeout))
    }
}

struct State {
    target: String,
    collector: Collector,
    service: String,
    stats: Arc<ControlStats>,
    ending: watch::Receiver<Option<Instant>>,
    /// The last request failed; said once, not per batch.
    failing: bool,
}

impl State {
    fn run(mut self, runtime: &Runtime, queue: &Receiver<Message>) {
        loop {
            let (spans, more) = self.gather(queue);
            if !spans.is_empty() {
                runtime.block_on(self.export(spans));
            } else if !more {
                return;
            }
        }
    }

    /// The next spans to send, and whether more may come.
    fn gather(&self, queue: &Receiver<Message>) -> (Vec<Span>, bool) {
        let mut spans = Vec::new();
        let mut until = Instant::now() + IDLE_TIME;
        while spans.len() < TRACE_EXPORT_SPANS_MAX {
            let stopping = self.ending.borrow().is_some();
            let message = if stopping {
                queue.try_recv().map_err(|_| RecvTimeoutError::Disconnected)
            } else {
                queue.recv_timeout(until.saturating_duration_since(Instant::now()))
            };
            match message {
                Ok(Message::Spans(batch)) => {
                    if spans.is_empty() {
                        until = Instant::now() + GATHER_TIME;
                    }
                    spans.extend(batch);
                }
                Ok(Message::Wake) => {}
                Err(RecvTimeoutError::Timeout) => break,
                Err(RecvTimeoutError::Disconnected) => return (spans, false),
            }
        }
        (spans, true)
    }

    /// Send them, or drop and count them.
    async fn export(&mut self, spans: Vec<Span>) {
        let count = spans.len() as u64;
        let body = Bytes::from(otlp::encode(&self.service, env!("CARGO_PKG_VERSION"), spans));
        let mut ending = self.ending.clone();
        let outcome = tokio::select! {
            outcome = self.send(body) => outcome,
            () = time_is_up(&mut ending) => Err(PostError::Ending),
        };
        match outcome {
            Ok(answer) => {
                let (refused, reason) = otlp::refused(&answer).unwrap_or_default();
                let refused = refused.min(count);
                self.stats.trace_spans_exported.fetch_add(count - refused, Ordering::Relaxed);
                self.stats.trace_spans_dropped.fetch_add(refused, Ordering::Relaxed);
                if refused > 0 {
                    tracing::warn!("{} refused {refused} span(s): {reason}", self.target);
                }
                if self.failing {
                    self.failing = false;
                    tracing::info!("{} takes spans again", self.target);
                }
            }
            Err(error) => {
                self.stats.trace_spans_dropped.fetch_add(count, Ordering::Relaxed);
                if !self.failing {
                    self.failing = true;
                    tracing::warn!(
                        "cannot send spans to {}: {error}; spans are dropped and counted \
                         (ringress_trace_spans_dropped_total) until it takes them; check --tracing-otlp",
                        self.target
                    );
                }
            }
        }
    }

    /// Try until it is taken, it cannot be, or the tries are used up.
    async fn send(&mut self, body: Bytes) -> Result<Bytes, PostError> {
        let began = Instant::now();
        let mut pauses = PAUSES.iter();
        loop {
            let error = match self.collector.post(body.clone()).await {
                Ok(answer) => return Ok(answer),
                Err(error) => error,
            };
            self.stats.trace_export_failures.fetch_add(1, Ordering::Relaxed);
            let pause = pauses.next().filter(|pause| began.elapsed() + **pause < TRIES_TIME_MAX);
            let Some(pause) = pause.filter(|_| error.is_transient()) else { return Err(error) };
            if self.ending.borrow().is_some() {
                return Err(error);
            }
            // The end of the process is no time to wait for a better one.
            let _ = tokio::time::timeout(*pause, self.ending.changed()).await;
        }
    }
}

/// Wait until the exporter must have ended.
async fn time_is_up(ending: &mut watch::Receiver<Option<Instant>>) {
    let ends_at = match ending.wait_for(Option::is_some).await {
        Ok(ends_at) => *ends_at,
        // Nobody is left who could say.
        Err(_) => None,
    };
    match ends_at {
        Some(ends_at) => tokio::time::sleep_until(ends_at.into()).await,
        None => std::future::pending().await,
    }
}

#[cfg(test)]
mod tests;
