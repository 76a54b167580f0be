//! Who watches requests: taps that are open, and the way to the workers.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};

use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::mpsc::{Receiver, Sender, channel};

use crate::limits::{TAP_EVENTS_MAX, TAPS_MAX};
use crate::proxy::tap::{Offered, Tap, TapCounts, TapEvent, TapFilter, TapOrder, TapSink};

/// Passes an order to a worker; false: the worker has ended.
pub type ToWorker = Box<dyn Fn(TapOrder) -> bool + Send + Sync>;

/// The taps of the process.
#[derive(Default)]
pub struct Taps {
    workers: OnceLock<Vec<ToWorker>>,
    open: AtomicUsize,
    last_id: AtomicU64,
}

impl Taps {
    /// Tap these workers. Only the first call counts.
    pub fn connect(&self, workers: Vec<ToWorker>) {
        let _ = self.workers.set(workers);
    }

    fn workers(&self) -> &[ToWorker] {
        self.workers.get().map_or(&[], Vec::as_slice)
    }

    /// Open a tap. None: as many as there may be are open.
    pub(super) fn open(self: &Arc<Taps>, filter: TapFilter, rate_max: u32) -> Option<OpenTap> {
        let more = |open| (open < TAPS_MAX).then_some(open + 1);
        self.open.fetch_update(Ordering::AcqRel, Ordering::Acquire, more).ok()?;
        let id = self.last_id.fetch_add(1, Ordering::Relaxed) + 1;
        let guard = TapGuard { taps: Arc::clone(self), id };
        let (sender, events) = channel(TAP_EVENTS_MAX);
        let filter = Arc::new(filter);
        let counts = Arc::<TapCounts>::default();
        let mut workers = 0;
        for worker in self.workers() {
            let tap = Tap {
                id,
                filter: Arc::clone(&filter),
                rate_max,
                counts: Arc::clone(&counts),
                sink: Box::new(Sink(sender.clone())),
            };
            workers += usize::from(worker(TapOrder::Install(tap)));
        }
        Some(OpenTap { events, counts, workers, guard })
    }
}

/// A tap that is open.
pub(super) struct OpenTap {
    /// What the workers tell. It ends when no worker has the tap any more.
    pub(super) events: Receiver<TapEvent>,
    /// What they have seen.
    pub(super) counts: Arc<TapCounts>,
    /// How many will say that they have it.
    pub(super) workers: usize,
    /// Dropping it ends the tap.
    pub(super) guard: TapGuard,
}

/// Ends a tap when it is dropped.
pub(super) struct TapGuard {
    taps: Arc<Taps>,
    id: u64,
}

impl Drop for TapGuard {
    fn drop(&mut self) {
        for worker in self.taps.workers() {
            worker(TapOrder::Remove(self.id));
        }
        self.taps.open.fetch_sub(1, Ordering::AcqRel);
    }
}

/// The queue between workers and a page.
struct Sink(Sender<TapEvent>);

impl TapSink for Sink {
    fn offer(&self, event: TapEvent) -> Offered {
        match self.0.try_send(event) {
            Ok(()) => Offered::Taken,
            Err(TrySendError::Full(_)) => Offered::Full,
            Err(TrySendError::Closed(_)) => Offered::Gone,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Mutex;

    #[test]
    fn taps_are_bounded_and_removed() {
        let taps = Arc::<Taps>::default();
        let orders = Arc::<Mutex<Vec<String>>>::default();
        let seen = Arc::clone(&orders);
        taps.connect(vec![Box::new(move |order| {
            seen.lock().unwrap().push(match order {
                TapOrder::Install(tap) => format!("+{}", tap.id),
                TapOrder::Remove(id) => format!("-{id}"),
            });
            true
        })]);
        let mut open: Vec<OpenTap> =
            (0..TAPS_MAX).map(|_| taps.open(TapFilter::default(), 1).expect("room")).collect();
        assert!(taps.open(TapFilter::default(), 1).is_none(), "one too many");
        assert_eq!(open.first().map(|tap| tap.workers), Some(1));
        drop(open.remove(0));
        assert!(taps.open(TapFilter::default(), 1).is_some(), "there is room again");
        let orders = orders.lock().unwrap().join(" ");
        assert_eq!(orders, "+1 +2 +3 +4 -1 +5 -5");
    }

    #[test]
    fn a_full_queue_never_waits() {
        let (sender, mut events) = channel(1);
        let sink = Sink(sender);
        assert_eq!(sink.offer(TapEvent::Installed), Offered::Taken);
        assert_eq!(sink.offer(TapEvent::Installed), Offered::Full);
        assert!(matches!(events.try_recv(), Ok(TapEvent::Installed)));
        drop(events);
        assert_eq!(sink.offer(TapEvent::Installed), Offered::Gone);
    }
}
