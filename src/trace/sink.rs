//! One worker's end: spans gather, full batches go to the exporter. Nothing here ever waits.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{SyncSender, TrySendError};

use crate::limits::TRACE_BATCH_SPANS;
use crate::metrics::ControlStats;

use super::span::Span;

/// What goes to the exporter.
#[derive(Debug)]
pub(super) enum Message {
    /// Spans of requests that ended.
    Spans(Vec<Span>),
    /// Look whether to stop.
    Wake,
}

/// A worker's end. When dropped it hands over what it holds.
#[derive(Debug)]
pub struct SpanSink {
    batch: Vec<Span>,
    exporter: SyncSender<Message>,
    stats: Arc<ControlStats>,
}

impl SpanSink {
    pub(super) fn new(exporter: SyncSender<Message>, stats: Arc<ControlStats>) -> SpanSink {
        SpanSink { batch: Vec::new(), exporter, stats }
    }

    /// Take the span of a request that ended.
    pub fn record(&mut self, span: Span) {
        self.batch.push(span);
        if self.batch.len() >= TRACE_BATCH_SPANS && !self.hand_over() {
            self.drop_batch();
        }
    }

    /// Hand over what has gathered; the worker calls it every 100 ms or so and before it ends. When the
    /// exporter has no room the spans stay for the next call.
    pub fn flush(&mut self) {
        if !self.batch.is_empty() {
            self.hand_over();
        }
    }

    /// False when the exporter has no room or is gone; the spans are still in the batch then.
    fn hand_over(&mut self) -> bool {
        match self.exporter.try_send(Message::Spans(std::mem::take(&mut self.batch))) {
            Ok(()) => true,
            Err(TrySendError::Full(message) | TrySendError::Disconnected(message)) => {
                if let Message::Spans(batch) = message {
                    self.batch = batch;
                }
                false
            }
        }
    }

    fn drop_batch(&mut self) {
        self.stats.trace_spans_dropped.fetch_add(self.batch.len() as u64, Ordering::Relaxed);
        self.batch.clear();
    }
}

impl Drop for SpanSink {
    fn drop(&mut self) {
        self.flush();
        self.drop_batch();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::{Receiver, sync_channel};

    use super::*;
    use crate::trace::otlp::tests::span;

    fn received(receiver: &Receiver<Message>) -> usize {
        receiver.try_iter().map(|message| matches!(message, Message::Spans(_)) as usize).sum()
    }

    #[test]
    fn a_full_queue_drops_and_counts_whole_batches() {
        let (sender, receiver) = sync_channel(1);
        let stats = Arc::new(ControlStats::default());
        let mut sink = SpanSink::new(sender, Arc::clone(&stats));
        for _ in 0..2 * TRACE_BATCH_SPANS + 1 {
            sink.record(span());
        }
        let dropped = || stats.trace_spans_dropped.load(Ordering::Relaxed);
        assert_eq!(dropped(), TRACE_BATCH_SPANS as u64);
        // No room: it stays.
        sink.flush();
        assert_eq!(dropped(), TRACE_BATCH_SPANS as u64);
        assert_eq!(received(&receiver), 1);
        sink.flush();
        assert_eq!(received(&receiver), 1);
        sink.flush();
        assert_eq!(received(&receiver), 0, "nothing to flush");
    }

    #[test]
    fn a_dropped_sink_accounts_for_all_it_held() {
        let stats = Arc::new(ControlStats::default());
        let (sender, receiver) = sync_channel(1);
        let mut sink = SpanSink::new(sender.clone(), Arc::clone(&stats));
        sink.record(span());
        drop(sink);
        assert_eq!(received(&receiver), 1);
        let mut sink = SpanSink::new(sender, Arc::clone(&stats));
        sink.record(span());
        drop(receiver);
        drop(sink);
        assert_eq!(stats.trace_spans_dropped.load(Ordering::Relaxed), 1);
    }
}
