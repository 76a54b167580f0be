//! The HTTP/2 connections of one worker to one endpoint: few, each shared by many requests.

use std::cell::{Cell, RefCell};
use std::rc::Rc;

use super::connection::{OwnPurpose, Purpose};
use crate::http2::client::ClientConnection;
use crate::limits::IDLE_UPSTREAM_CONNECTIONS_MAX;
use crate::net::oneshot;

/// How far a connection may be used.
#[derive(Clone, Copy, Debug)]
pub struct Http2Limits {
    /// Requests at a time.
    pub streams_max: usize,
    /// Requests in all; 0: no limit.
    pub requests_max: u64,
    /// Its age, ms.
    pub duration_max_ms: u64,
}

/// A connection that is open.
pub struct Http2Connection {
    connection: ClientConnection,
    /// What it is good for.
    purpose: Option<Box<OwnPurpose>>,
    opened_ms: u64,
    requests: Cell<u64>,
    /// Worker time since when no request is under way.
    idle_since_ms: Cell<Option<u64>>,
    /// When it was used last: a count of the uses of all the endpoint's connections.
    used: Cell<u64>,
    /// Nothing came while a request waited until its time was up: perhaps nobody is there.
    silent: Cell<bool>,
}

impl Http2Connection {
    /// One that was opened at `opened_ms`.
    pub fn new(
        connection: ClientConnection,
        purpose: Option<Box<OwnPurpose>>,
        opened_ms: u64,
    ) -> Rc<Http2Connection> {
        Rc::new(Http2Connection {
            connection,
            purpose,
            opened_ms,
            requests: Cell::new(0),
            idle_since_ms: Cell::new(None),
            used: Cell::new(0),
            silent: Cell::new(false),
        })
    }

    /// A stream for a request.
    pub fn stream(&self) -> crate::net::Stream {
        self.requests.set(self.requests.get() + 1);
        self.idle_since_ms.set(None);
        self.connection.stream()
    }

    /// How often something has been received on it.
    pub fn receives(&self) -> u64 {
        self.connection.receives()
    }

    /// The time of a request is up that began when [`Http2Connection::receives`] was `receives`. If
    /// nothing came since, no further request is given to it.
    pub fn timed_out(&self, receives: u64) {
        if self.receives() == receives {
            self.silent.set(true);
        }
    }

    fn is_idle(&self) -> bool {
        self.connection.active() == 0
    }

    /// Must it not be given another request, whatever is under way?
    fn is_used_up(&self, limits: &Http2Limits, now_ms: u64) -> bool {
        limits.requests_max > 0 && self.requests.get() >= limits.requests_max
            || now_ms.saturating_sub(self.opened_ms) >= limits.duration_max_ms
            || self.silent.get()
            || !self.connection.is_usable()
    }

    fn has_room(&self, limits: &Http2Limits) -> bool {
        self.connection.active() < self.connection.allowed().min(limits.streams_max)
    }
}

/// The connections to an endpoint, and who waits for one that is being opened.
#[derive(Default)]
pub struct Http2Connections {
    open: RefCell<Vec<Rc<Http2Connection>>>,
    opening: RefCell<Vec<BeingOpened>>,
    uses: Cell<u64>,
    /// Who waits for the end of a request on any of them.
    waiting: Rc<RefCell<Vec<oneshot::Sender<()>>>>,
}

/// A connection that is being opened. There is one for each purpose at a time.
struct BeingOpened {
    purpose: Option<Box<OwnPurpose>>,
    waiting: Vec<oneshot::Sender<Opened>>,
}

/// What became of a connection that was being opened by another request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Opened {
    /// It is there.
    Yes,
    /// It was refused, or something failed.
    No,
}

/// Only one request opens a connection for its purpose at a time. When this is dropped the others go on.
pub struct Opening<'c> {
    connections: &'c Http2Connections,
    purpose: Purpose<'c>,
}

impl Opening<'_> {
    /// It is open.
    pub fn succeeded(self, connection: Rc<Http2Connection>) {
        self.connections.use_now(&connection);
        let waiting = Rc::clone(&self.connections.waiting);
        connection.connection.when_a_request_ends(move || {
            // The borrow ends before a waker runs.
            let waiting = std::mem::take(&mut *waiting.borrow_mut());
            drop(waiting);
        });
        let excess = {
            let mut open = self.connections.open.borrow_mut();
            open.push(connection);
            take_excess(&mut open, IDLE_UPSTREAM_CONNECTIONS_MAX)
        };
        // The borrow has ended before connections are dropped.
        drop(excess);
        self.tell(Opened::Yes);
    }

    /// It could not be opened.
    pub fn failed(self) {
        self.tell(Opened::No);
    }

    fn tell(self, opened: Opened) {
        for waiter in self.end() {
            // Those that do not wait any more do not care.
            let _ = waiter.send(opened);
        }
    }

    fn end(&self) -> Vec<oneshot::Sender<Opened>> {
        let mut opening = self.connections.opening.borrow_mut();
        let mine = opening.iter().position(|other| self.purpose.is_served_by(&other.purpose));
        mine.map_or_else(Vec::new, |mine| opening.swap_remove(mine).waiting)
    }
}

impl Drop for Opening<'_> {
    fn drop(&mut self) {
        // Given up: who waits tries it itself.
        drop(self.end());
    }
}

/// Take out those that were used longest ago, of those that serve no request, until `most` are left.
fn take_excess(open: &mut Vec<Rc<Http2Connection>>, most: usize) -> Vec<Rc<Http2Connection>> {
    let mut taken = Vec::new();
    while open.len() > most {
        let idle = open.iter().enumerate().filter(|(_, connection)| connection.is_idle());
        let Some((oldest, _)) = idle.min_by_key(|(_, connection)| connection.used.get()) else {
            break;
        };
        taken.push(open.swap_remove(oldest));
    }
    taken
}

impl Http2Connections {
    /// One for another request of this purpose. Those that are used up are
    /// forgotten; they end when their requests do. With `anyhow` also one on which the endpoint allows no
    /// more at a time: the request waits there. Never more than our own limit.
    pub fn find(
        &self,
        purpose: Purpose<'_>,
        limits: &Http2Limits,
        now_ms: u64,
        anyhow: bool,
    ) -> Option<Rc<Http2Connection>> {
        let mut gone = Vec::new();
        let found = {
            let mut open = self.open.borrow_mut();
            gone.extend(open.extract_if(.., |connection| connection.is_used_up(limits, now_ms)));
            open.iter()
                .filter(|connection| purpose.is_served_by(&connection.purpose))
                .filter(|connection| match anyhow {
                    true => connection.connection.active() < limits.streams_max,
                    false => connection.has_room(limits),
                })
                .min_by_key(|connection| connection.connection.active())
                .cloned()
        };
        // The borrow ends before connections are dropped.
        drop(gone);
        if let Some(found) = &found {
            self.use_now(found);
        }
        found
    }

    fn use_now(&self, connection: &Http2Connection) {
        self.uses.set(self.uses.get() + 1);
        connection.used.set(self.uses.get());
    }

    /// Hear when the settings of one of this purpose have come; `None`: those of all are here.
    pub fn settling(&self, purpose: Purpose<'_>) -> Option<oneshot::Receiver<()>> {
        let open = self.open.borrow();
        let mut useful = open.iter().filter(|connection| {
            purpose.is_served_by(&connection.purpose)
                && !connection.silent.get()
                && connection.connection.is_usable()
        });
        useful.find_map(|connection| connection.connection.settling())
    }

    /// The settings of this purpose's have not come in time: no further request is given to those that have
    /// brought nothing, perhaps nobody is there. True: there were some that were not known as such.
    pub fn silence_unsettled(&self, purpose: Purpose<'_>) -> bool {
        let open = self.open.borrow();
        let unsettled = open.iter().filter(|connection| {
            purpose.is_served_by(&connection.purpose) && !connection.connection.is_settled()
        });
        unsettled.filter(|connection| !connection.silent.replace(true)).count() > 0
    }

    /// Open one for this purpose; `None`: another request does.
    pub fn open<'c>(&'c self, purpose: Purpose<'c>) -> Option<Opening<'c>> {
        let mut opening = self.opening.borrow_mut();
        if opening.iter().any(|other| purpose.is_served_by(&other.purpose)) {
            return None;
        }
        opening.push(BeingOpened { purpose: purpose.to_owned(), waiting: Vec::new() });
        // Made only now: dropping one lets the others go on.
        Some(Opening { connections: self, purpose })
    }

    /// Wait for the connection that another request opens for this purpose. `None`: it gave up.
    pub async fn opened(&self, purpose: Purpose<'_>) -> Option<Opened> {
        let receiver = {
            let mut opening = self.opening.borrow_mut();
            let opening =
                opening.iter_mut().find(|opening| purpose.is_served_by(&opening.purpose))?;
            let (sender, receiver) = oneshot::channel();
            opening.waiting.push(sender);
            receiver
        };
        receiver.receive().await
    }

    /// Wait until a request on any of them is over.
    pub async fn request_ended(&self) {
        let receiver = {
            let (sender, receiver) = oneshot::channel();
            let mut waiting = self.waiting.borrow_mut();
            // Requests may last for days: those that gave up waiting must not add up.
            waiting.retain(oneshot::Sender::is_awaited);
            waiting.push(sender);
            receiver
        };
        receiver.receive().await;
    }

    /// Close the one that was used longest ago, of those that serve no request. False: all do.
    pub fn close_idle(&self) -> bool {
        let closed = {
            let mut open = self.open.borrow_mut();
            let others = open.len().saturating_sub(1);
            take_excess(&mut open, others)
        };
        !closed.is_empty()
    }

    /// How many are open.
    pub fn open_count(&self) -> usize {
        self.open.borrow().len()
    }

    /// Forget all; they end when their requests do.
    pub fn retire(&self) {
        let open = std::mem::take(&mut *self.open.borrow_mut());
        drop(open);
    }

    /// Close what is idle for longer than `idle_timeout_ms` or older than `duration_max_ms`.
    pub fn sweep(&self, now_ms: u64, idle_timeout_ms: u64, duration_max_ms: u64) {
        let limits = Http2Limits { streams_max: 1, requests_max: 0, duration_max_ms };
        let mut gone = Vec::new();
        gone.extend(self.open.borrow_mut().extract_if(.., |connection| {
            if !connection.is_idle() {
                connection.idle_since_ms.set(None);
            } else if connection.idle_since_ms.get().is_none() {
                connection.idle_since_ms.set(Some(now_ms));
            }
            let idle_ms =
                connection.idle_since_ms.get().map_or(0, |since| now_ms.saturating_sub(since));
            idle_ms >= idle_timeout_ms || connection.is_used_up(&limits, now_ms)
        }));
        drop(gone);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::task::{Context, Poll, Waker};

    use crate::http2::IoSlots;
    use crate::http2::client::Driver as Http2Driver;
    use crate::net::FuturePool;
    use crate::net::connect::loopback_pair;
    use crate::net::runtime::{self, Driver, DriverChoice};

    fn of_host(host: &[u8]) -> Purpose<'_> {
        Purpose { client: None, host: Some(host) }
    }

    #[test]
    fn each_purpose_has_an_opening_of_its_own() {
        let connections = Http2Connections::default();
        let one = connections.open(of_host(b"one.com")).expect("the first");
        assert!(connections.open(of_host(b"ONE.com")).is_none());
        let other = connections.open(of_host(b"other.com")).expect("of another host");
        let every = connections.open(Purpose::default()).expect("of no host");
        let mut task = Context::from_waker(Waker::noop());
        let mut waits_for_one = Box::pin(connections.opened(of_host(b"one.com")));
        let mut waits_for_other = Box::pin(connections.opened(of_host(b"other.com")));
        assert!(waits_for_one.as_mut().poll(&mut task).is_pending());
        assert!(waits_for_other.as_mut().poll(&mut task).is_pending());
        one.failed();
        assert_eq!(waits_for_one.as_mut().poll(&mut task), Poll::Ready(Some(Opened::No)));
        assert!(waits_for_other.as_mut().poll(&mut task).is_pending());
        drop(other);
        assert_eq!(waits_for_other.as_mut().poll(&mut task), Poll::Ready(None));
        drop(every);
        // Nobody opens any more: nobody waits.
        let mut late = Box::pin(connections.opened(of_host(b"one.com")));
        assert_eq!(late.as_mut().poll(&mut task), Poll::Ready(None));
        assert!(connections.open(of_host(b"one.com")).is_some());
    }

    /// A connection, what moves its bytes, and the endpoint's end.
    async fn connection(driver: Driver) -> (Rc<Http2Connection>, Http2Driver, std::net::TcpStream) {
        let (stream, end) = loopback_pair(driver, None).await;
        let slots = IoSlots { receives: FuturePool::new(), sends: FuturePool::new() };
        let begun = crate::http2::client::begin(stream, slots).await;
        let (connection, moving) = begun.expect("the endpoint is there");
        (Http2Connection::new(connection, None, 0), moving, end)
    }

    #[test]
    fn the_idle_connection_that_was_used_longest_ago_makes_room() {
        let (driver, _) = Driver::choose(DriverChoice::Auto).expect("epoll at least");
        runtime::run(driver, async {
            let connections = Http2Connections::default();
            let mut all = Vec::new();
            for _ in 0..3 {
                let (connection, moving, end) = connection(driver).await;
                let opening = connections.open(Purpose::default()).expect("one at a time");
                opening.succeeded(Rc::clone(&connection));
                all.push((connection, moving, end));
            }
            let is_kept = |index: usize| {
                let kept = |other: &Rc<Http2Connection>| Rc::ptr_eq(other, &all[index].0);
                connections.open.borrow().iter().any(kept)
            };
            connections.use_now(&all[0].0);
            let stream = all[1].0.stream();
            assert!(connections.close_idle());
            assert!(is_kept(0) && is_kept(1) && !is_kept(2));
            assert!(connections.close_idle());
            assert!(!is_kept(0) && is_kept(1));
            assert!(!connections.close_idle(), "it serves a request");
            drop(stream);
            assert!(connections.close_idle());
        })
        .expect("the runtime works");
    }

    #[test]
    fn a_connection_on_which_a_request_timed_out_in_silence_gets_no_more() {
        let (driver, _) = Driver::choose(DriverChoice::Auto).expect("epoll at least");
        runtime::run(driver, async {
            let limits =
                Http2Limits { streams_max: usize::MAX, requests_max: 0, duration_max_ms: u64::MAX };
            let (connection, _moving, _end) = connection(driver).await;
            let receives = connection.receives();
            // Something came meanwhile.
            connection.timed_out(receives.wrapping_add(1));
            assert!(!connection.is_used_up(&limits, 0));
            connection.timed_out(receives);
            assert!(connection.is_used_up(&limits, 0));
        })
        .expect("the runtime works");
    }
}
