//! How far apart the proxy's core and the generator's are: the time a cache line takes from one to
//! the other.
//!
//! On a virtual machine the host moves the virtual cores between places that share a cache and
//! places that do not, every few seconds. The kernel's work on a connection touches lines that the
//! other core has written, so the distance moves every proxy's system time by a third or more. A
//! window is therefore compared only with windows of the same distance ([`Range::is_usual`]).

use std::sync::Barrier;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crate::sys;

/// Round trips of one batch. The fastest batch of a reading counts: it was not interrupted.
const BATCH: u64 = 40;
const BATCHES: u64 = 12;
/// Pause between readings: they take less than a thousandth of the cores' time.
const PAUSE: Duration = Duration::from_millis(150);
/// Longest wait for the other thread to run.
const PATIENCE: Duration = Duration::from_millis(20);
/// Readings within this factor of each other come from one place: siblings on one core are about
/// 15 ns apart, cores under one cache 30, others 160.
const SAME_PLACE: f64 = 1.6;

/// Least and largest reading over a window, ns one way.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Range {
    pub(crate) least_ns: f64,
    pub(crate) most_ns: f64,
}

impl Range {
    /// Whether the cores were about `usual_ns` apart all the time.
    pub(crate) fn is_usual(self, usual_ns: f64) -> bool {
        self.least_ns >= usual_ns / SAME_PLACE && self.most_ns <= usual_ns * SAME_PLACE
    }

    /// Whether they were farther apart than that all the time.
    pub(crate) fn is_farther(self, usual_ns: f64) -> bool {
        self.least_ns > usual_ns * SAME_PLACE
    }

    fn with(range: Option<Self>, reading_ns: f64) -> Self {
        range.map_or(Self { least_ns: reading_ns, most_ns: reading_ns }, |range| Self {
            least_ns: range.least_ns.min(reading_ns),
            most_ns: range.most_ns.max(reading_ns),
        })
    }
}

/// Takes readings between two cores while `work` runs; `None` when none could be taken.
pub(crate) fn while_running<T>(
    cores: (usize, usize),
    work: impl FnOnce() -> T,
) -> (T, Option<Range>) {
    let end = AtomicBool::new(false);
    thread::scope(|scope| {
        let watcher = scope.spawn(|| {
            let mut range = None;
            loop {
                if let Some(reading_ns) = read(cores) {
                    range = Some(Range::with(range, reading_ns));
                }
                if end.load(Ordering::Relaxed) {
                    return range;
                }
                thread::sleep(PAUSE);
            }
        });
        let result = work();
        end.store(true, Ordering::Relaxed);
        (result, watcher.join().ok().flatten())
    })
}

/// One reading, ns one way; `None` when a core had no time for it.
fn read((first, second): (usize, usize)) -> Option<f64> {
    let line = AtomicU64::new(0);
    // A thread that waits on the core where the other one starts would keep it from leaving.
    let both_pinned = Barrier::new(2);
    let started = Instant::now();
    // Waits until the line holds `value`, checking the clock seldom.
    let wait_for = |value: u64| {
        for turn in 1_u64.. {
            if line.load(Ordering::Acquire) == value {
                break;
            }
            std::hint::spin_loop();
            if turn % 4096 == 0 && started.elapsed() > PATIENCE {
                return false;
            }
        }
        true
    };
    thread::scope(|scope| {
        let answering = scope.spawn(|| {
            let pinned = sys::pin_to_core(second);
            both_pinned.wait();
            if pinned.is_err() {
                return;
            }
            // Without the right to it the reading only takes longer.
            let _ = sys::before_other_threads();
            for trip in 0..BATCH * BATCHES {
                if !wait_for(2 * trip + 1) {
                    return;
                }
                line.store(2 * trip + 2, Ordering::Release);
            }
        });
        let asking = scope.spawn(|| {
            let pinned = sys::pin_to_core(first);
            both_pinned.wait();
            pinned.ok()?;
            let _ = sys::before_other_threads();
            let mut least: Option<f64> = None;
            for batch in 0..BATCHES {
                let start = Instant::now();
                for trip in batch * BATCH..(batch + 1) * BATCH {
                    line.store(2 * trip + 1, Ordering::Release);
                    if !wait_for(2 * trip + 2) {
                        return None;
                    }
                }
                let one_way_ns = start.elapsed().as_nanos() as f64 / (2 * BATCH) as f64;
                least = Some(least.map_or(one_way_ns, |least| least.min(one_way_ns)));
            }
            least
        });
        let reading = asking.join().ok().flatten();
        let _ = answering.join();
        reading
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_told_apart() {
        let range = |least_ns, most_ns| Range { least_ns, most_ns };
        assert!(range(31.0, 45.0).is_usual(32.0));
        assert!(!range(15.0, 34.0).is_usual(32.0), "it was nearer once");
        assert!(!range(32.0, 168.0).is_usual(32.0), "it moved");
        assert!(!range(32.0, 168.0).is_farther(32.0), "it moved");
        assert!(range(164.0, 172.0).is_farther(32.0));
        assert!(range(164.0, 172.0).is_usual(164.0), "always apart is a place too");
    }

    #[test]
    fn readings_are_taken_between_two_cores() {
        let cores = sys::allowed_cores();
        let [first, second, ..] = cores[..] else { return };
        let (result, range) = while_running((first, second), || 7);
        assert_eq!(result, 7);
        // Each core may be busy for longer than a reading waits.
        if let Some(range) = range {
            assert!(range.least_ns > 0.0 && range.least_ns <= range.most_ns);
        }
    }
}
