//! What a cluster may have under way at once (Istio's `connectionPool`, Envoy's circuit breakers). The
//! counts are of the whole process: each is one number that all workers change. Clusters without limits
//! have none, and pay nothing.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

use crate::snapshot::{ClusterLimits, RetryLimit};

/// What is under way to a cluster.
#[derive(Debug, Default)]
#[repr(align(64))]
pub struct Counts {
    connections: AtomicU32,
    pending: AtomicU32,
    requests: AtomicU32,
    retries: AtomicU32,
}

/// What is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Counted {
    /// Connections open, idle ones too.
    Connection,
    /// Requests that wait for a connection.
    Pending,
    /// Requests under way.
    Request,
    /// Retries under way.
    Retry,
}

/// The limits of a cluster and what is under way.
#[derive(Clone, Debug)]
pub struct Limiter {
    limits: ClusterLimits,
    counts: Arc<Counts>,
}

/// One of what is counted, until it is dropped.
#[derive(Debug)]
pub struct Ticket {
    counts: Arc<Counts>,
    counted: Counted,
}

impl Drop for Ticket {
    fn drop(&mut self) {
        self.counts.of(self.counted).fetch_sub(1, Relaxed);
    }
}

impl Counts {
    fn of(&self, counted: Counted) -> &AtomicU32 {
        match counted {
            Counted::Connection => &self.connections,
            Counted::Pending => &self.pending,
            Counted::Request => &self.requests,
            Counted::Retry => &self.retries,
        }
    }
}

impl Limiter {
    /// With nothing under way, or what `previous` counts.
    pub fn new(limits: ClusterLimits, previous: Option<&Limiter>) -> Limiter {
        let counts = previous.map(|previous| Arc::clone(&previous.counts)).unwrap_or_default();
        Limiter { limits, counts }
    }

    /// One more until the ticket is dropped, unless the limit is reached.
    pub fn take(&self, counted: Counted) -> Option<Ticket> {
        let ticket = || Ticket { counts: Arc::clone(&self.counts), counted };
        self.count(counted).then(ticket)
    }

    /// One more until [`Limiter::give_back`], unless the limit is reached (false).
    pub fn count(&self, counted: Counted) -> bool {
        let most = match counted {
            Counted::Connection => self.limits.connections_max,
            Counted::Pending => self.limits.pending_max,
            Counted::Request => self.limits.requests_max,
            Counted::Retry => self.limits.retries.map(|limit| match limit {
                RetryLimit::Most(most) => most,
                RetryLimit::Budget { percent, least } => {
                    let under_way = self.counts.requests.load(Relaxed);
                    least.max((f64::from(under_way) * percent / 100.0) as u32)
                }
            }),
        };
        // Added first and looked at then: two workers at once never go beyond the limit.
        let before = self.counts.of(counted).fetch_add(1, Relaxed);
        let allowed = most.is_none_or(|most| before < most);
        if !allowed {
            self.give_back(counted);
        }
        allowed
    }

    /// One less.
    pub fn give_back(&self, counted: Counted) {
        self.counts.of(counted).fetch_sub(1, Relaxed);
    }

    /// One more, whatever the limit.
    pub fn take_anyway(&self, counted: Counted) -> Ticket {
        self.counts.of(counted).fetch_add(1, Relaxed);
        Ticket { counts: Arc::clone(&self.counts), counted }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_limit_holds_until_a_ticket_is_given_back() {
        let limits = ClusterLimits { requests_max: Some(2), ..ClusterLimits::default() };
        let limiter = Limiter::new(limits, None);
        let first = limiter.take(Counted::Request).expect("one");
        let _second = limiter.take(Counted::Request).expect("two");
        assert!(limiter.take(Counted::Request).is_none());
        assert!(limiter.take(Counted::Request).is_none(), "a refusal counts nothing");
        drop(first);
        assert!(limiter.take(Counted::Request).is_some());
        assert!(limiter.take(Counted::Connection).is_some(), "no limit");
    }

    #[test]
    fn counts_stay_over_reloads() {
        let limits = |most| ClusterLimits { pending_max: Some(most), ..ClusterLimits::default() };
        let first = Limiter::new(limits(5), None);
        let _tickets: Vec<_> = (0..4).map(|_| first.take(Counted::Pending).expect("5")).collect();
        let second = Limiter::new(limits(2), Some(&first));
        assert!(second.take(Counted::Pending).is_none());
        drop(second.take_anyway(Counted::Pending));
    }

    #[test]
    fn a_budget_is_a_share_of_the_requests_or_the_least() {
        let budget = RetryLimit::Budget { percent: 20.0, least: 3 };
        let limits = ClusterLimits { retries: Some(budget), ..ClusterLimits::default() };
        let retries = |requests: usize| {
            let limiter = Limiter::new(limits, None);
            let _under_way: Vec<_> =
                (0..requests).map(|_| limiter.take(Counted::Request)).collect();
            let taken: Vec<_> = (0..100).map_while(|_| limiter.take(Counted::Retry)).collect();
            taken.len()
        };
        assert_eq!([retries(0), retries(15), retries(25), retries(100)], [3, 3, 5, 20]);
    }
}
