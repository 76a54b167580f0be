//! The idle connections to one endpoint.

use std::cell::{Cell, RefCell};
use std::net::SocketAddr;

use super::connection::Connection;
use crate::limits::IDLE_UPSTREAM_CONNECTIONS_MAX;

struct Idle {
    connection: Connection,
    /// Worker time when it became idle, milliseconds.
    since_ms: u64,
}

/// What one worker keeps about one endpoint. It outlives reloads that keep the endpoint.
pub struct EndpointPool {
    address: SocketAddr,
    idle: RefCell<Vec<Idle>>,
    active_requests: Cell<u32>,
    retired: Cell<bool>,
}

impl EndpointPool {
    /// An empty pool.
    pub fn new(address: SocketAddr) -> EndpointPool {
        EndpointPool {
            address,
            idle: RefCell::default(),
            active_requests: Cell::new(0),
            retired: Cell::new(false),
        }
    }

    /// Where the endpoint is.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Requests of this worker that the endpoint is answering now.
    pub fn active_requests(&self) -> u32 {
        self.active_requests.get()
    }

    /// Idle connections now.
    pub fn idle_connections(&self) -> usize {
        self.idle.borrow().len()
    }

    /// Count a request; its end is [`EndpointPool::request_ended`].
    pub fn request_began(&self) {
        self.active_requests.set(self.active_requests.get() + 1);
    }

    /// The request that was counted is over.
    pub fn request_ended(&self) {
        self.active_requests.set(self.active_requests.get().saturating_sub(1));
    }

    /// The connection that was used last and is still quiet. The second value counts those that
    /// the endpoint had closed while idle, which are dropped.
    pub fn check_out(&self) -> (Option<Connection>, u64) {
        let mut closed = 0;
        loop {
            // The borrow ends before a dead connection is dropped.
            let popped = self.idle.borrow_mut().pop();
            let Some(mut idle) = popped else { return (None, closed) };
            if idle.connection.is_quiet() {
                return (Some(idle.connection), closed);
            }
            closed += 1;
        }
    }

    /// Keep a connection, on which a receive is in flight, for the next request. False, and the
    /// connection is closed, when enough are kept or the pool is retired.
    pub fn check_in(&self, connection: Connection, now_ms: u64) -> bool {
        let mut idle = self.idle.borrow_mut();
        if self.retired.get() || idle.len() >= IDLE_UPSTREAM_CONNECTIONS_MAX {
            return false;
        }
        idle.push(Idle { connection, since_ms: now_ms });
        true
    }

    /// The configuration has the endpoint no more: close the idle connections, and keep none of
    /// those that come back. Returns how many were closed.
    pub fn retire(&self) -> u64 {
        self.retired.set(true);
        // The borrow ends before the connections are dropped.
        let idle = std::mem::take(&mut *self.idle.borrow_mut());
        idle.len() as u64
    }

    /// Close the connections that have been idle for `idle_timeout_ms` or that the endpoint has
    /// closed. Returns how many of each.
    pub fn sweep(&self, now_ms: u64, idle_timeout_ms: u64) -> (u64, u64) {
        let (mut expired, mut closed) = (0, 0);
        self.idle.borrow_mut().retain_mut(|idle| {
            if now_ms.saturating_sub(idle.since_ms) >= idle_timeout_ms {
                expired += 1;
                return false;
            }
            let quiet = idle.connection.is_quiet();
            closed += u64::from(!quiet);
            quiet
        });
        (expired, closed)
    }
}
