//! Which endpoints are out because they failed (Istio's `outlierDetection`, Envoy's outlier detector).
//! All workers share the counts of a cluster, so that five errors are five, whichever core met them.
//! An answer costs a few loads of memory that is hardly ever written; only errors and ejections write.
//! Time is an argument.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use crate::snapshot::OutlierDetection;

/// An endpoint is out for this long at most, unless `baseEjectionTime` is longer (Envoy's
/// `max_ejection_time`).
const EJECTION_MAX: Duration = Duration::from_secs(300);

/// What became of an attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// A response with this status.
    Response(u16),
    /// No connection, or one that ended before the response.
    Failed,
    /// No response in time.
    TimedOut,
}

/// What is known of one endpoint. It outlives reloads that keep the endpoint.
#[derive(Debug, Default)]
struct Host {
    consecutive_5xx: AtomicU32,
    consecutive_gateway: AtomicU32,
    consecutive_local: AtomicU32,
    ejected: AtomicBool,
    record: Mutex<Record>,
}

/// The ejections of an endpoint; times in ms since the cluster was first configured.
#[derive(Debug, Default)]
struct Record {
    /// How many ejections the present or next one counts as.
    multiplier: u32,
    ejected_at_ms: u64,
    returned_at_ms: u64,
}

impl Host {
    fn clear(&self) {
        for counter in [&self.consecutive_5xx, &self.consecutive_gateway, &self.consecutive_local] {
            // Most of the time it is 0: then the line stays unwritten, in every core's cache.
            if counter.load(Relaxed) != 0 {
                counter.store(0, Relaxed);
            }
        }
    }
}

/// The outlier detection of one cluster.
#[derive(Debug)]
pub struct OutlierDetector {
    settings: OutlierDetection,
    /// In the order of the cluster's endpoints.
    hosts: Vec<(SocketAddr, Arc<Host>)>,
    /// Grows with every change of who is out. Shared with the detectors of earlier configurations,
    /// which requests may still report to.
    changes: Arc<AtomicU64>,
    next_sweep_ms: AtomicU64,
    /// Held while somebody is ejected or brought back.
    deciding: Mutex<()>,
}

impl OutlierDetector {
    /// For a cluster with these endpoints; those that `previous` knows stay as they are.
    pub fn new(
        settings: &OutlierDetection,
        addresses: impl Iterator<Item = SocketAddr>,
        previous: Option<&OutlierDetector>,
    ) -> OutlierDetector {
        let known = |address| {
            let hosts = previous.iter().flat_map(|previous| &previous.hosts);
            hosts.clone().find(|(known, _)| *known == address).map(|(_, host)| Arc::clone(host))
        };
        OutlierDetector {
            settings: settings.clone(),
            hosts: addresses.map(|address| (address, known(address).unwrap_or_default())).collect(),
            changes: previous.map(|previous| Arc::clone(&previous.changes)).unwrap_or_default(),
            next_sweep_ms: previous
                .map_or(0, |previous| previous.next_sweep_ms.load(Relaxed))
                .into(),
            deciding: Mutex::default(),
        }
    }

    /// How often it changed who is out.
    #[inline]
    pub fn changes(&self) -> u64 {
        self.changes.load(Relaxed)
    }

    /// Is the endpoint at `position` out?
    pub fn is_ejected(&self, position: usize) -> bool {
        self.hosts.get(position).is_some_and(|(_, host)| host.ejected.load(Relaxed))
    }

    /// Note what became of an attempt at the endpoint at `position`. `now_ms` is asked only when the
    /// endpoint is to go. True: it was ejected.
    #[inline]
    pub fn report(&self, position: usize, outcome: Outcome, now_ms: impl FnOnce() -> u64) -> bool {
        let Some((_, host)) = self.hosts.get(position) else { return false };
        let status = match outcome {
            Outcome::Response(status) => {
                if self.settings.splits_local && host.consecutive_local.load(Relaxed) != 0 {
                    host.consecutive_local.store(0, Relaxed);
                }
                status
            }
            Outcome::Failed | Outcome::TimedOut if self.settings.splits_local => {
                let limit = self.settings.consecutive_local;
                return is_reached(&host.consecutive_local, limit) && self.eject(host, now_ms());
            }
            Outcome::Failed => 503,
            Outcome::TimedOut => 504,
        };
        let local = !matches!(outcome, Outcome::Response(_));
        if !local && !self.is_error(status) {
            host.clear();
            return false;
        }
        let mut reached = is_reached(&host.consecutive_5xx, self.settings.consecutive_5xx);
        if matches!(status, 502..=504) {
            let limit = self.settings.consecutive_gateway;
            reached |= is_reached(&host.consecutive_gateway, limit);
        } else if host.consecutive_gateway.load(Relaxed) != 0 {
            host.consecutive_gateway.store(0, Relaxed);
        }
        reached && self.eject(host, now_ms())
    }

    fn is_error(&self, status: u16) -> bool {
        if self.settings.error_statuses.is_empty() {
            status >= 500
        } else {
            self.settings.error_statuses.contains(&status)
        }
    }

    /// Take an endpoint out, if so many may be out.
    fn eject(&self, host: &Host, now_ms: u64) -> bool {
        let _deciding = self.deciding.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        if host.ejected.load(Relaxed) {
            return false;
        }
        let out = self.hosts.iter().filter(|(_, host)| host.ejected.load(Relaxed)).count() + 1;
        if out * 100 > self.hosts.len() * self.settings.ejected_percent_max as usize {
            return false;
        }
        let mut record = host.record.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        record.ejected_at_ms = now_ms;
        if self.settings.base_ejection_ms.saturating_mul(record.multiplier.into())
            < self.ejection_max_ms()
        {
            record.multiplier += 1;
        }
        host.clear();
        host.ejected.store(true, Relaxed);
        self.changes.fetch_add(1, Relaxed);
        true
    }

    fn ejection_max_ms(&self) -> u64 {
        (EJECTION_MAX.as_millis() as u64).max(self.settings.base_ejection_ms)
    }

    /// Once in an interval, whichever worker comes first: bring back those whose time is over. Returns
    /// how many came back.
    pub fn sweep(&self, now_ms: u64) -> u64 {
        if now_ms < self.next_sweep_ms.load(Relaxed) {
            return 0;
        }
        let Ok(_deciding) = self.deciding.try_lock() else { return 0 };
        self.next_sweep_ms.store(now_ms + self.settings.interval_ms, Relaxed);
        let mut returned = 0;
        for (_, host) in &self.hosts {
            let mut record = host.record.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
            if host.ejected.load(Relaxed) {
                let time = self.settings.base_ejection_ms.saturating_mul(record.multiplier.into());
                let time = time.min(self.ejection_max_ms());
                if now_ms >= record.ejected_at_ms.saturating_add(time) {
                    record.returned_at_ms = now_ms;
                    host.clear();
                    host.ejected.store(false, Relaxed);
                    returned += 1;
                }
            } else if now_ms >= record.returned_at_ms + self.settings.interval_ms {
                // A good interval takes back one of the ejections that it counts as.
                record.multiplier = record.multiplier.saturating_sub(1);
            }
        }
        if returned > 0 {
            self.changes.fetch_add(1, Relaxed);
        }
        returned
    }
}

/// Count one more; is that `limit` or more? With a limit of 0 nothing is counted.
fn is_reached(counter: &AtomicU32, limit: u32) -> bool {
    limit > 0 && counter.fetch_add(1, Relaxed).saturating_add(1) >= limit
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings() -> OutlierDetection {
        OutlierDetection {
            consecutive_5xx: 3,
            interval_ms: 1000,
            base_ejection_ms: 2000,
            ejected_percent_max: 50,
            ..OutlierDetection::default()
        }
    }

    fn addresses(count: u16) -> impl Iterator<Item = SocketAddr> {
        (1..=count).map(|port| SocketAddr::from(([127, 0, 0, 1], port)))
    }

    fn detector(settings: &OutlierDetection, count: u16) -> OutlierDetector {
        OutlierDetector::new(settings, addresses(count), None)
    }

    /// Report statuses of endpoint 0; which of them ejected it?
    fn after(detector: &OutlierDetector, statuses: &[u16]) -> Vec<bool> {
        let report = |status: &u16| detector.report(0, Outcome::Response(*status), || 0);
        statuses.iter().map(report).collect()
    }

    #[test]
    fn errors_in_a_row_eject_and_a_good_answer_begins_again() {
        let detector = detector(&settings(), 2);
        assert_eq!(after(&detector, &[500, 503, 200, 500, 404, 599, 500]), [false; 7]);
        assert_eq!(after(&detector, &[502]), [true]);
        assert!(detector.is_ejected(0) && !detector.is_ejected(1));
        assert_eq!(detector.changes(), 1);
        assert_eq!(after(&detector, &[500, 500, 500, 500]), [false; 4], "it is out already");
    }

    #[test]
    fn no_more_than_the_share_is_ejected() {
        for (count, percent, ejected) in
            [(9, 10, 0), (10, 10, 1), (1, 99, 0), (1, 100, 1), (4, 50, 2), (5, 50, 2), (3, 100, 3)]
        {
            let settings = OutlierDetection { ejected_percent_max: percent, ..settings() };
            let detector = detector(&settings, count);
            for _ in 0..3 {
                for position in 0..usize::from(count) {
                    detector.report(position, Outcome::Failed, || 0);
                }
            }
            let out = (0..usize::from(count)).filter(|position| detector.is_ejected(*position));
            assert_eq!(out.count(), ejected, "{percent} % of {count}");
        }
    }

    #[test]
    fn gateway_errors_are_counted_beside_the_others() {
        let settings =
            OutlierDetection { consecutive_5xx: 0, consecutive_gateway: 2, ..settings() };
        let detector = detector(&settings, 2);
        assert_eq!(after(&detector, &[500, 500, 500, 503, 500, 502]), [false; 6]);
        assert!(detector.report(0, Outcome::TimedOut, || 0));
    }

    #[test]
    fn local_failures_are_told_apart_when_asked() {
        let split = OutlierDetection {
            splits_local: true,
            consecutive_local: 2,
            consecutive_5xx: 2,
            ..settings()
        };
        let of = |outcomes: &[Outcome]| {
            let detector = detector(&split, 2);
            let ejected = outcomes.iter().map(|outcome| detector.report(0, *outcome, || 0));
            ejected.collect::<Vec<_>>()
        };
        let (failed, error) = (Outcome::Failed, Outcome::Response(500));
        assert_eq!(of(&[failed, error, failed]), [false; 3]);
        assert_eq!(of(&[error, failed, error]), [false, false, true]);
        assert_eq!(of(&[failed, Outcome::TimedOut]), [false, true]);
        let none = OutlierDetection { consecutive_local: 0, ..split.clone() };
        let detector = detector(&none, 2);
        assert!((0..10).all(|_| !detector.report(0, failed, || 0)));
    }

    #[test]
    fn the_statuses_that_count_can_be_named() {
        let named = OutlierDetection { error_statuses: Box::new([429]), ..settings() };
        assert_eq!(after(&detector(&named, 2), &[429, 429, 429]), [false, false, true]);
        assert_eq!(after(&detector(&named, 2), &[500, 500, 500]), [false; 3]);
    }

    #[test]
    fn ejections_last_longer_each_time_until_it_behaves() {
        let detector = detector(&settings(), 2);
        let eject = |now_ms| (0..3).any(|_| detector.report(0, Outcome::Failed, || now_ms));
        let out = || detector.is_ejected(0);
        assert!(eject(10_000));
        assert_eq!((detector.sweep(11_900), out()), (0, true));
        // Before the interval is over nobody looks.
        assert_eq!((detector.sweep(12_100), out()), (0, true));
        assert_eq!((detector.sweep(13_000), out()), (1, false));
        assert_eq!(detector.changes(), 2);
        assert!(eject(13_500), "twice as long now");
        assert_eq!((detector.sweep(16_000), detector.sweep(17_500)), (0, 1));
        // Two good intervals.
        assert_eq!((detector.sweep(18_600), detector.sweep(19_700)), (0, 0));
        assert!(eject(20_000));
        assert_eq!((detector.sweep(21_000), detector.sweep(22_000)), (0, 1));
    }

    #[test]
    fn endpoints_that_stay_are_out_after_a_reload_too() {
        let first = detector(&settings(), 2);
        assert_eq!(after(&first, &[500, 500, 500]), [false, false, true]);
        let second = OutlierDetector::new(&settings(), addresses(3).skip(1), Some(&first));
        assert!(!second.is_ejected(0));
        let third = OutlierDetector::new(&settings(), addresses(3), Some(&first));
        assert!(third.is_ejected(0));
        // Who began with the old configuration reports to it: the new one learns of it.
        let before = third.changes();
        assert_eq!(first.sweep(60_000), 1);
        assert!(!third.is_ejected(0) && third.changes() > before);
    }
}
