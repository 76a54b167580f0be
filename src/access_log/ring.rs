//! One worker's end of the access log: lines gather in a buffer, full buffers go to the writer and
//! come back empty. Nothing here ever waits.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};

use data_encoding::HEXLOWER;

use crate::http::RequestHead;
use crate::limits::{ACCESS_LOG_BUFFER_BYTES, ACCESS_LOG_SPARE_BUFFERS_MAX};
use crate::metrics::ControlStats;
use crate::stream_info::StreamInfo;

use super::fields::RequestFields;
use super::format::{LineContext, LineWriter};
use super::settings::{AccessLogPolicy, AccessLogSettings};

/// Room for the line that fills a buffer, so that a buffer rarely grows.
const SLACK_BYTES: usize = 4 * 1024;

/// What goes to the writer.
#[derive(Debug)]
pub(super) enum Message {
    /// Whole lines.
    Lines {
        bytes: Vec<u8>,
        lines: u64,
        /// Where the emptied buffer goes.
        home: SyncSender<Vec<u8>>,
    },
    /// Look at the flags.
    Wake,
}

/// A worker's end. When dropped it hands over what it holds.
#[derive(Debug)]
pub struct AccessLogSink {
    settings: AccessLogSettings,
    lines_of: LineWriter,
    random: fastrand::Rng,
    buffer: Vec<u8>,
    lines: u64,
    dropped: u64,
    writer: SyncSender<Message>,
    home: SyncSender<Vec<u8>>,
    spares: Receiver<Vec<u8>>,
    control: Arc<ControlStats>,
}

impl AccessLogSink {
    pub(super) fn new(
        settings: AccessLogSettings,
        writer: SyncSender<Message>,
        control: Arc<ControlStats>,
    ) -> AccessLogSink {
        let (home, spares) = sync_channel(ACCESS_LOG_SPARE_BUFFERS_MAX);
        AccessLogSink {
            lines_of: LineWriter::new(settings.format.clone()),
            settings,
            random: fastrand::Rng::new(),
            // Taken with the first line: the log may never be turned on.
            buffer: Vec::new(),
            lines: 0,
            dropped: 0,
            writer,
            home,
            spares,
            control,
        }
    }

    /// Are requests logged under this policy?
    #[inline]
    pub fn is_on(&self, policy: &AccessLogPolicy) -> bool {
        self.settings.is_on(policy)
    }

    /// Copy what a line, or the filter, needs of the request; nothing when requests are not logged. The
    /// same policy must be given to [`AccessLogSink::record`]. `trace_id` is that of the trace which the request
    /// was made part of; all zero: none, the client's is shown.
    #[inline]
    pub fn capture(
        &self,
        policy: &AccessLogPolicy,
        fields: &mut RequestFields,
        head: &RequestHead<'_>,
        trace_id: [u8; 16],
    ) {
        if !self.is_on(policy) {
            fields.clear();
            return;
        }
        fields.capture(head, None, None);
        if let Some(template) = self.lines_of.template() {
            fields.capture_first(head, template.request_headers());
            if template.wants_trace_id() {
                if trace_id == [0; 16] {
                    fields.capture_trace_id(head);
                } else {
                    let mut digits = [0; 32];
                    HEXLOWER.encode_mut(&trace_id, &mut digits);
                    fields.set_trace_id(&digits);
                }
            }
        }
        if let Some(filter) = self.settings.filter(policy) {
            fields.capture_joined(head, filter.request_headers());
        }
    }

    /// Log a request that ended, unless it is not to be logged.
    #[inline]
    pub fn record(
        &mut self,
        policy: &AccessLogPolicy,
        info: &StreamInfo,
        fields: &RequestFields,
        context: &LineContext<'_>,
    ) {
        if !self.is_on(policy) || !self.is_chosen(policy, info, fields, context) {
            return;
        }
        if self.buffer.capacity() == 0 {
            self.buffer = new_buffer();
        }
        self.lines_of.write(&mut self.buffer, info, fields, context);
        self.lines += 1;
        if self.buffer.len() >= ACCESS_LOG_BUFFER_BYTES && !self.hand_over() {
            self.dropped += self.lines;
            self.lines = 0;
            self.buffer.clear();
            self.buffer.shrink_to(ACCESS_LOG_BUFFER_BYTES + SLACK_BYTES);
        }
    }

    #[inline]
    fn is_chosen(
        &mut self,
        policy: &AccessLogPolicy,
        info: &StreamInfo,
        fields: &RequestFields,
        context: &LineContext<'_>,
    ) -> bool {
        if let Some(filter) = self.settings.filter(policy) {
            let first = self.lines_of.template().map_or(0, |form| form.request_headers().len());
            if !filter.test(info, fields, context, first) {
                return false;
            }
        }
        self.settings.takes_all() || self.random.u32(..1_000_000) < self.settings.sample_ppm
    }

    /// Hand over what has gathered; the worker calls it every 100 ms or so and before it ends. When
    /// the writer has no room the lines stay for the next call.
    pub fn flush(&mut self) {
        if self.lines > 0 {
            self.hand_over();
        }
    }

    /// Lines dropped since the last call, for `WorkerCounters::access_log_dropped`.
    pub fn take_dropped(&mut self) -> u64 {
        std::mem::take(&mut self.dropped)
    }

    /// False when the writer has no room or is gone; the lines are still in the buffer then.
    fn hand_over(&mut self) -> bool {
        let bytes = std::mem::take(&mut self.buffer);
        let message = Message::Lines { bytes, lines: self.lines, home: self.home.clone() };
        match self.writer.try_send(message) {
            Ok(()) => {
                self.lines = 0;
                self.buffer = self.spares.try_recv().unwrap_or_else(|_| new_buffer());
                true
            }
            Err(TrySendError::Full(message) | TrySendError::Disconnected(message)) => {
                if let Message::Lines { bytes, .. } = message {
                    self.buffer = bytes;
                }
                false
            }
        }
    }
}

impl Drop for AccessLogSink {
    fn drop(&mut self) {
        self.flush();
        // Nobody asks this sink for its losses any more.
        self.control.access_log_lost.fetch_add(self.lines + self.dropped, Ordering::Relaxed);
    }
}

fn new_buffer() -> Vec<u8> {
    Vec::with_capacity(ACCESS_LOG_BUFFER_BYTES + SLACK_BYTES)
}

/// Send an emptied buffer home, unless it grew much or its worker has enough.
pub(super) fn recycle(mut bytes: Vec<u8>, home: &SyncSender<Vec<u8>>) {
    if bytes.capacity() <= 2 * ACCESS_LOG_BUFFER_BYTES {
        bytes.clear();
        let _ = home.try_send(bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::access_log::{AccessLogFormat, Filter, LogSwitch};
    use std::time::Instant;

    fn log(sink: &mut AccessLogSink) {
        let info = StreamInfo::new(Instant::now(), 0);
        let policy = AccessLogPolicy::default();
        sink.record(&policy, &info, &RequestFields::new(), &LineContext::default());
    }

    fn lines(message: Message) -> (Vec<u8>, u64, SyncSender<Vec<u8>>) {
        match message {
            Message::Lines { bytes, lines, home } => (bytes, lines, home),
            Message::Wake => panic!("lines expected"),
        }
    }

    #[test]
    fn a_full_queue_drops_and_counts_whole_lines() {
        let (sender, receiver) = sync_channel(1);
        let control = Arc::new(ControlStats::default());
        let mut sink =
            AccessLogSink::new(AccessLogFormat::Json.into(), sender, Arc::clone(&control));
        let total = 1_000;
        for _ in 0..total {
            log(&mut sink);
        }
        let dropped = sink.take_dropped();
        assert!(dropped > 0);
        assert_eq!(sink.take_dropped(), 0);
        let (bytes, sent, _) = lines(receiver.try_recv().unwrap());
        assert!(receiver.try_recv().is_err());
        assert!(bytes.len() >= ACCESS_LOG_BUFFER_BYTES);
        assert_eq!(bytes.iter().filter(|byte| **byte == b'\n').count() as u64, sent);
        // Room again: what gathered since goes out.
        sink.flush();
        let (_, rest, _) = lines(receiver.try_recv().unwrap());
        assert_eq!(sent + dropped + rest, total);
    }

    #[test]
    fn a_flush_without_room_keeps_the_lines() {
        let (sender, receiver) = sync_channel(1);
        let mut sink = AccessLogSink::new(AccessLogFormat::Text.into(), sender, Arc::default());
        sink.flush();
        assert!(receiver.try_recv().is_err(), "nothing to flush");
        log(&mut sink);
        sink.flush();
        log(&mut sink);
        sink.flush();
        assert_eq!(sink.take_dropped(), 0);
        assert_eq!(lines(receiver.try_recv().unwrap()).1, 1);
        sink.flush();
        assert_eq!(lines(receiver.try_recv().unwrap()).1, 1);
    }

    /// How many of ten requests are logged.
    fn logged(settings: AccessLogSettings, policy: &AccessLogPolicy) -> u64 {
        let (sender, receiver) = sync_channel(4);
        let mut sink = AccessLogSink::new(settings, sender, Arc::default());
        let mut info = StreamInfo::new(Instant::now(), 0);
        for code in 0..10 {
            info.response_code = 200 + code;
            sink.record(policy, &info, &RequestFields::new(), &LineContext::default());
        }
        let has_buffer = sink.buffer.capacity() > 0;
        drop(sink);
        let count = receiver.try_iter().map(|message| lines(message).1).sum();
        assert_eq!(has_buffer, count > 0, "a log without lines costs no buffer");
        count
    }

    #[test]
    fn the_policy_stands_over_the_settings() {
        let on = AccessLogSettings::default();
        let off = AccessLogSettings { on: false, ..on.clone() };
        let filter = |text: &str| Filter::parse(text).ok();
        let filtered = AccessLogSettings { filter: filter("response.code < 203"), ..on.clone() };
        let sampled = AccessLogSettings { sample_ppm: 0, ..on.clone() };
        let unset = AccessLogPolicy::default();
        let policy = |switch, filter| AccessLogPolicy { switch, filter };
        for (settings, policy, expected) in [
            (&on, &unset, 10),
            (&off, &unset, 0),
            (&off, &policy(LogSwitch::On, None), 10),
            (&on, &policy(LogSwitch::Off, None), 0),
            (&filtered, &unset, 3),
            (&filtered, &policy(LogSwitch::Unset, filter("response.code > 208")), 1),
            (&off, &policy(LogSwitch::Unset, filter("response.code > 208")), 0),
            (&sampled, &unset, 0),
        ] {
            assert_eq!(logged(settings.clone(), policy), expected, "{settings:?} {policy:?}");
        }
    }

    #[test]
    fn a_buffer_comes_back() {
        let (sender, receiver) = sync_channel(4);
        let mut sink = AccessLogSink::new(AccessLogFormat::Text.into(), sender, Arc::default());
        log(&mut sink);
        sink.flush();
        let (bytes, _, home) = lines(receiver.recv().unwrap());
        let address = bytes.as_ptr();
        recycle(bytes, &home);
        log(&mut sink);
        sink.flush();
        log(&mut sink);
        sink.flush();
        let used: Vec<_> = receiver.try_iter().map(|message| lines(message).0.as_ptr()).collect();
        assert_eq!(used.len(), 2);
        assert_eq!(used[1], address);
    }

    #[test]
    fn a_dropped_sink_accounts_for_all_it_held() {
        let control = Arc::new(ControlStats::default());
        let (sender, receiver) = sync_channel(1);
        let mut sink =
            AccessLogSink::new(AccessLogFormat::Text.into(), sender.clone(), Arc::clone(&control));
        log(&mut sink);
        drop(sink);
        assert_eq!(lines(receiver.try_recv().unwrap()).1, 1);
        let mut sink =
            AccessLogSink::new(AccessLogFormat::Text.into(), sender, Arc::clone(&control));
        log(&mut sink);
        drop(receiver);
        drop(sink);
        assert_eq!(control.access_log_lost.load(Ordering::Relaxed), 1);
    }
}
