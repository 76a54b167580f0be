//! All connections of clients of a worker, and the sweep that keeps their deadlines.
//!
//! Deadlines are not timers: each connection stores the time by which something must happen, and a
//! sweep about twice a second shuts those down that are late, which ends the operation they wait
//! in. A timer would cost more than parsing the head. A route's timeout is kept to the millisecond: one
//! timer for all requests of the worker, set to the earliest.

use std::cell::{Cell, RefCell};
use std::net::Shutdown;
use std::rc::Rc;
use std::task::{Poll, Waker};

use super::{Downstream, Phase};

/// All downstream connections of a worker.
pub struct DownstreamTable {
    connections: RefCell<Vec<Rc<Downstream>>>,
    /// How many of them are streams of others.
    streams: Cell<usize>,
    /// The least of the requests' and attempts' deadlines that the expiry waits for.
    expiry_at_ms: Cell<u64>,
    /// Wakes the expiry when an earlier one is set.
    expiry: Cell<Option<Waker>>,
}

impl Default for DownstreamTable {
    fn default() -> Self {
        DownstreamTable {
            connections: RefCell::default(),
            streams: Cell::default(),
            expiry_at_ms: Cell::new(u64::MAX),
            expiry: Cell::default(),
        }
    }
}

/// What a sweep found, by phase.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Swept {
    /// Idle for too long; tunnels also as old as they may be.
    pub idle: u64,
    /// Slow request heads.
    pub heads: u64,
    /// Bodies and sends without progress.
    pub stalled: u64,
    /// Clients that went away while their upstream was waited for.
    pub gone: u64,
}

impl DownstreamTable {
    /// Enter a connection.
    pub fn insert(&self, connection: Downstream) -> Rc<Downstream> {
        let connection = Rc::new(connection);
        self.streams.set(self.streams.get() + usize::from(connection.http2));
        let mut connections = self.connections.borrow_mut();
        connection.position.set(connections.len());
        connections.push(Rc::clone(&connection));
        connection
    }

    /// Take a connection out.
    pub fn remove(&self, connection: &Downstream) {
        let mut connections = self.connections.borrow_mut();
        let position = connection.position.get();
        if position < connections.len() {
            self.streams.set(self.streams.get() - usize::from(connection.http2));
            connections.swap_remove(position);
            if let Some(moved) = connections.get(position) {
                moved.position.set(position);
            }
        }
    }

    /// How many there are, not counting the streams of HTTP/2 connections.
    pub fn len(&self) -> usize {
        self.connections.borrow().len() - self.streams.get()
    }

    /// Is there none, and no stream whose record is still to be written?
    pub fn is_empty(&self) -> bool {
        self.connections.borrow().is_empty()
    }

    /// Bound a request and its present attempt (worker time, `u64::MAX` for no bound). Unlike the
    /// other deadlines these are kept to the millisecond.
    pub fn bound(&self, connection: &Downstream, request_ms: u64, attempt_ms: u64) {
        connection.request_deadline_ms.set(request_ms);
        connection.attempt_deadline_ms.set(attempt_ms);
        connection.timed_out.set(false);
        let earliest = request_ms.min(attempt_ms);
        if earliest < self.expiry_at_ms.get() {
            self.expiry_at_ms.set(earliest);
            if let Some(expiry) = self.expiry.take() {
                expiry.wake();
            }
        }
    }

    /// Shut down the upstreams of requests and attempts whose time is up at `now_ms`. Returns the next
    /// deadline.
    pub fn expire_requests(&self, now_ms: u64) -> u64 {
        let mut next = u64::MAX;
        for connection in self.connections.borrow().iter() {
            let deadline =
                connection.request_deadline_ms.get().min(connection.attempt_deadline_ms.get());
            if deadline > now_ms {
                next = next.min(deadline);
            } else if !connection.timed_out.replace(true)
                && let Some(upstream) = &*connection.upstream.borrow()
            {
                upstream.shutdown(Shutdown::Both);
            }
        }
        self.expiry_at_ms.set(next);
        next
    }

    /// Wait until a deadline before `known_ms` is set.
    pub async fn earlier_deadline(&self, known_ms: u64) {
        std::future::poll_fn(|task| {
            if self.expiry_at_ms.get() < known_ms {
                return Poll::Ready(());
            }
            self.expiry.set(Some(task.waker().clone()));
            Poll::Pending
        })
        .await;
    }

    /// Shut down what is late at `now_ms`, and the upstream work of clients that are gone.
    pub fn sweep(&self, now_ms: u64) -> Swept {
        let mut swept = Swept::default();
        for connection in self.connections.borrow().iter() {
            let phase = connection.phase.get();
            if connection.send_deadline_ms.get() <= now_ms {
                swept.stalled += 1;
                connection.expired.set(true);
                connection.send_until(u64::MAX);
                connection.stream.shutdown(Shutdown::Both);
            } else if connection.upstream_deadline_ms.get() <= now_ms {
                swept.stalled += 1;
                connection.upstream_until(u64::MAX);
                if let Some(upstream) = &*connection.upstream.borrow() {
                    upstream.shutdown(Shutdown::Both);
                }
            } else if connection.deadline_ms.get() <= now_ms {
                match phase {
                    Phase::Idle | Phase::Tunnel => swept.idle += 1,
                    Phase::RequestHead => swept.heads += 1,
                    // A handshake that is late is counted with its reason.
                    Phase::Lingering | Phase::FirstBytes | Phase::Handshake => {}
                    _ => swept.stalled += 1,
                }
                connection.expire();
            } else if phase == Phase::Upstream
                && !connection.gone.get()
                && connection.client_is_gone()
            {
                swept.gone += 1;
                connection.leave();
            }
        }
        swept
    }

    /// Tell HTTP/2 connections to look up: the worker drains.
    pub fn call_all(&self) {
        for connection in self.connections.borrow().iter() {
            if let Some(task) = connection.task.take() {
                task.wake();
            }
        }
    }

    /// Shut down the connections that wait for a next request, or have yet to say anything.
    pub fn close_idle(&self) {
        for connection in self.connections.borrow().iter() {
            if matches!(connection.phase.get(), Phase::Idle | Phase::FirstBytes) {
                connection.end_idle();
            }
        }
    }

    /// Cut every connection: the end of a drain.
    pub fn cut_all(&self) {
        for connection in self.connections.borrow().iter() {
            connection.cut();
        }
    }
}
