//! The connections to one endpoint: those that are idle, and who waits for one.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;

use super::connection::{Connection, Purpose};
use super::http2::Http2Connections;
use super::limits::Ticket;
use crate::limits::IDLE_UPSTREAM_CONNECTIONS_MAX;
use crate::net::oneshot;
use crate::tls::ClientTls;

/// From so many on the list of those who wait is looked through for those who gave up.
const WAITING_LOOKED_AT: usize = 16;

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
    /// Worker time when the endpoint was first seen, milliseconds.
    since_ms: u64,
    /// What TLS its connections were made with; none: they are in clear text.
    tls: Option<Arc<ClientTls>>,
    limited: Rc<Limited>,
    http2: Http2Connections,
}

/// Of a cluster that limits its connections: those of this worker to the endpoint.
#[derive(Default)]
struct Limited {
    open: Cell<u32>,
    waiting: RefCell<VecDeque<oneshot::Sender<Freed>>>,
}

/// What a request that waited gets.
pub enum Freed {
    /// A connection that another request has done with.
    Connection(Connection),
    /// Room for another one.
    Room,
}

/// A place among the connections that a cluster may have. A connection holds it until it is dropped.
pub struct ConnectionPlace {
    limited: Rc<Limited>,
    /// Counts it for the whole process.
    _ticket: Ticket,
}

impl Drop for ConnectionPlace {
    fn drop(&mut self) {
        self.limited.open.set(self.limited.open.get().saturating_sub(1));
        self.limited.tell(Freed::Room);
    }
}

impl Limited {
    /// Give `freed` to the first that still waits; it comes back when nobody does.
    fn tell(&self, mut freed: Freed) -> Option<Freed> {
        loop {
            // The borrow ends before a waker runs.
            let first = self.waiting.borrow_mut().pop_front();
            let Some(first) = first else { return Some(freed) };
            match first.send(freed) {
                Ok(()) => return None,
                Err(back) => freed = back,
            }
        }
    }
}

impl EndpointPool {
    /// An empty pool of an endpoint that is new at `now_ms`.
    pub fn new(address: SocketAddr, now_ms: u64) -> EndpointPool {
        EndpointPool {
            address,
            idle: RefCell::default(),
            active_requests: Cell::new(0),
            retired: Cell::new(false),
            since_ms: now_ms,
            tls: None,
            limited: Rc::default(),
            http2: Http2Connections::default(),
        }
    }

    /// The same, of connections in TLS by this side; none: in clear text.
    pub fn with_tls(self, tls: Option<&Arc<ClientTls>>) -> EndpointPool {
        EndpointPool { tls: tls.cloned(), ..self }
    }

    /// An empty pool of the same endpoint, which is no newer than this.
    pub fn successor(&self) -> EndpointPool {
        EndpointPool::new(self.address, self.since_ms)
    }

    /// Are its connections as a cluster with this side wants them? Equal settings share one side.
    pub fn is_of(&self, tls: Option<&Arc<ClientTls>>) -> bool {
        self.tls.as_ref().map(Arc::as_ptr) == tls.map(Arc::as_ptr)
    }

    /// Where the endpoint is.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Its HTTP/2 connections.
    pub fn http2(&self) -> &Http2Connections {
        &self.http2
    }

    /// How long it has been known, milliseconds.
    pub fn age_ms(&self, now_ms: u64) -> u64 {
        now_ms.saturating_sub(self.since_ms)
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

    /// Has this worker a connection to the endpoint, of those that hold a place?
    pub fn has_limited(&self) -> bool {
        self.limited.open.get() > 0
    }

    /// The place of a connection that is to be opened, which `ticket` counts.
    pub fn place(&self, ticket: Ticket) -> Box<ConnectionPlace> {
        self.limited.open.set(self.limited.open.get() + 1);
        Box::new(ConnectionPlace { limited: Rc::clone(&self.limited), _ticket: ticket })
    }

    /// Wait until a connection that holds a place is done with or closed. None: nobody can tell.
    pub async fn freed(&self) -> Option<Freed> {
        let receiver = {
            let (sender, receiver) = oneshot::channel();
            let mut waiting = self.limited.waiting.borrow_mut();
            // Connections may last for days: those that gave up waiting must not add up. Looked at when
            // their number has doubled.
            if waiting.len() >= WAITING_LOOKED_AT && waiting.len().is_power_of_two() {
                waiting.retain(oneshot::Sender::is_awaited);
            }
            waiting.push_back(sender);
            receiver
        };
        receiver.receive().await
    }

    /// The connection that was used last and is still quiet, of those that are good for `purpose`. The
    /// second value counts those that the endpoint had closed while idle, which are dropped.
    pub fn check_out(&self, purpose: Purpose<'_>) -> (Option<Connection>, u64) {
        let mut closed = 0;
        loop {
            // The borrow ends before a dead connection is dropped.
            let popped = {
                let mut idle = self.idle.borrow_mut();
                let fits = |idle: &Idle| purpose.is_served_by(&idle.connection.purpose);
                match idle.last().is_some_and(fits) {
                    true => idle.pop(),
                    false => idle.iter().rposition(fits).map(|position| idle.remove(position)),
                }
            };
            let Some(mut idle) = popped else { return (None, closed) };
            if idle.connection.is_quiet() {
                return (Some(idle.connection), closed);
            }
            closed += 1;
        }
    }

    /// Keep a connection, on which a receive is in flight, for the next request; one that waits gets it
    /// at once.
    pub fn check_in(&self, connection: Connection, now_ms: u64) -> CheckedIn {
        let mut connection = connection;
        if connection.place.is_some() {
            match self.limited.tell(Freed::Connection(connection)) {
                None => return CheckedIn::HandedOver,
                Some(Freed::Room) => return CheckedIn::Closed,
                Some(Freed::Connection(back)) => connection = back,
            }
        }
        let mut idle = self.idle.borrow_mut();
        if self.retired.get() || idle.len() >= IDLE_UPSTREAM_CONNECTIONS_MAX {
            // The borrow ends before the connection is dropped.
            drop(idle);
            return CheckedIn::Closed;
        }
        idle.push(Idle { connection, since_ms: now_ms });
        CheckedIn::Idle
    }

    /// Close the connection that has been idle for longest. False: none is.
    pub fn close_idle(&self) -> bool {
        // The borrow ends before the connection is dropped.
        let oldest = {
            let mut idle = self.idle.borrow_mut();
            if idle.is_empty() { None } else { Some(idle.remove(0)) }
        };
        oldest.is_some()
    }

    /// The configuration has the endpoint no more: close the idle connections, and keep none of
    /// those that come back. Returns how many were closed.
    pub fn retire(&self) -> u64 {
        self.retired.set(true);
        self.http2.retire();
        // The borrow ends before the connections are dropped.
        let idle = std::mem::take(&mut *self.idle.borrow_mut());
        idle.len() as u64
    }

    /// Close the connections that have been idle for `idle_timeout_ms`, were opened more than
    /// `duration_max_ms` ago, or that the endpoint has closed. Returns how many for reasons of ours and
    /// how many that the endpoint closed.
    pub fn sweep(&self, now_ms: u64, idle_timeout_ms: u64, duration_max_ms: u64) -> (u64, u64) {
        self.http2.sweep(now_ms, idle_timeout_ms, duration_max_ms);
        let (mut expired, mut closed) = (0, 0);
        // Dropped after the borrow.
        let mut gone = Vec::new();
        let mut idle = self.idle.borrow_mut();
        let over = idle.extract_if(.., |idle| {
            let late = now_ms.saturating_sub(idle.since_ms) >= idle_timeout_ms
                || idle.connection.age_ms(now_ms) >= duration_max_ms;
            expired += u64::from(late);
            let quiet = late || idle.connection.is_quiet();
            closed += u64::from(!quiet);
            late || !quiet
        });
        gone.extend(over);
        drop(idle);
        drop(gone);
        (expired, closed)
    }
}

/// What became of a connection that was given back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CheckedIn {
    /// It waits for a request.
    Idle,
    /// A request that waited has it.
    HandedOver,
    /// It is closed: enough are kept, or the pool is retired.
    Closed,
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::pin::pin;
    use std::task::{Context, Poll, Waker};

    #[test]
    fn those_who_gave_up_waiting_do_not_add_up() {
        let pool = EndpointPool::new(([127, 0, 0, 1], 80).into(), 0);
        let mut task = Context::from_waker(Waker::noop());
        let mut patient = pin!(pool.freed());
        assert!(patient.as_mut().poll(&mut task).is_pending());
        for _ in 0..1000 {
            assert!(pin!(pool.freed()).poll(&mut task).is_pending());
            assert!(pool.limited.waiting.borrow().len() <= WAITING_LOOKED_AT);
        }
        assert!(pool.limited.tell(Freed::Room).is_none(), "one still waits");
        assert!(matches!(patient.as_mut().poll(&mut task), Poll::Ready(Some(Freed::Room))));
    }
}
