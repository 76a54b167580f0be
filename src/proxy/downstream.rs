//! A client's connection: who it is, what it waits for, and until when.
//!
//! Deadlines are not timers: each connection stores the time by which something must happen, and a
//! sweep about twice a second shuts those down that are late, which ends the operation they wait
//! in. Setting a deadline is two stores; a timer would cost more than parsing the head. A route's
//! timeout is kept to the millisecond: one timer for all requests of the worker, set to the earliest.

use std::cell::{Cell, OnceCell, RefCell};
use std::net::{IpAddr, Shutdown, SocketAddr};
use std::rc::Rc;
use std::task::{Poll, Waker};

use super::listener::ListenerSlot;
use crate::net::Stream;
use crate::upstream::ClientAddresses;

/// What a connection waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// The next request.
    Idle,
    /// The rest of a request head.
    RequestHead,
    /// The next bytes of a request body.
    RequestBody,
    /// The upstream: no deadline of ours.
    Upstream,
    /// The client, to close after a response that ended the connection.
    Lingering,
    /// Anything: a tunnel.
    Tunnel,
}

/// How a request left its connection.
pub enum After {
    /// It can serve another one.
    Next,
    /// It must be closed, in order.
    Close,
    /// It must be cut: the client has a part of a response.
    Cut,
}

/// A client's connection.
pub struct Downstream {
    /// The socket.
    pub stream: Stream,
    /// The client's address.
    pub peer: SocketAddr,
    /// Where it was accepted.
    pub listener: Rc<ListenerSlot>,
    /// What `x-forwarded-for` gets: `peer` as text, an IPv4-mapped address as IPv4.
    peer_text: PeerText,
    phase: Cell<Phase>,
    deadline_ms: Cell<u64>,
    send_deadline_ms: Cell<u64>,
    upstream_deadline_ms: Cell<u64>,
    request_deadline_ms: Cell<u64>,
    attempt_deadline_ms: Cell<u64>,
    timed_out: Cell<bool>,
    expired: Cell<bool>,
    gone: Cell<bool>,
    /// The upstream that serves the present request: shut down when the client is gone.
    upstream: RefCell<Option<Stream>>,
    position: Cell<usize>,
    addresses: OnceCell<Rc<ClientAddresses>>,
}

#[derive(Clone, Copy)]
struct PeerText {
    bytes: [u8; 39],
    length: u8,
}

impl PeerText {
    fn new(address: IpAddr) -> PeerText {
        use std::io::Write;
        let address = address.to_canonical();
        let mut bytes = [0u8; 39];
        let mut rest = &mut bytes[..];
        // 39 bytes hold the longest textual IPv6 address.
        let written = write!(rest, "{address}").is_ok();
        let length = if written { 39 - rest.len() } else { 0 };
        PeerText { bytes, length: length as u8 }
    }
}

impl Downstream {
    /// A connection that was just accepted.
    pub fn new(stream: Stream, peer: SocketAddr, listener: Rc<ListenerSlot>) -> Downstream {
        Downstream {
            stream,
            peer,
            listener,
            peer_text: PeerText::new(peer.ip()),
            phase: Cell::new(Phase::Idle),
            deadline_ms: Cell::new(u64::MAX),
            send_deadline_ms: Cell::new(u64::MAX),
            upstream_deadline_ms: Cell::new(u64::MAX),
            request_deadline_ms: Cell::new(u64::MAX),
            attempt_deadline_ms: Cell::new(u64::MAX),
            timed_out: Cell::new(false),
            expired: Cell::new(false),
            gone: Cell::new(false),
            upstream: RefCell::new(None),
            position: Cell::new(usize::MAX),
            addresses: OnceCell::new(),
        }
    }

    /// The client's IP address as text.
    #[inline]
    pub fn peer_text(&self) -> &[u8] {
        &self.peer_text.bytes[..usize::from(self.peer_text.length)]
    }

    /// Wait for something until `deadline_ms` (worker time).
    #[inline]
    pub fn wait(&self, phase: Phase, deadline_ms: u64) {
        self.phase.set(phase);
        self.deadline_ms.set(deadline_ms);
    }

    /// Wait for something without a deadline.
    #[inline]
    pub fn wait_unbounded(&self, phase: Phase) {
        self.wait(phase, u64::MAX);
    }

    /// What is sent to the client must be taken by `deadline_ms` (worker time); `u64::MAX`: nothing
    /// is being sent.
    #[inline]
    pub fn send_until(&self, deadline_ms: u64) {
        self.send_deadline_ms.set(deadline_ms);
    }

    /// What is sent to the upstream must be taken by `deadline_ms` (worker time); `u64::MAX`:
    /// nothing is being sent.
    #[inline]
    pub fn upstream_until(&self, deadline_ms: u64) {
        self.upstream_deadline_ms.set(deadline_ms);
    }

    /// By when (worker time) the response must be complete; `u64::MAX`: whenever it likes.
    #[inline]
    pub fn request_deadline_ms(&self) -> u64 {
        self.request_deadline_ms.get()
    }

    /// The present attempt may take as long as it likes: it has brought a response head.
    #[inline]
    pub fn attempt_unbounded(&self) {
        self.attempt_deadline_ms.set(u64::MAX);
    }

    /// The request is over, whatever it waited for.
    #[inline]
    pub fn clear_deadlines(&self) {
        self.request_deadline_ms.set(u64::MAX);
        self.attempt_deadline_ms.set(u64::MAX);
        self.timed_out.set(false);
    }

    /// Was the upstream shut down because the request's or the attempt's time was up?
    #[inline]
    pub fn timed_out(&self) -> bool {
        self.timed_out.get()
    }

    /// Did the last wait end because its deadline passed?
    pub fn expired(&self) -> bool {
        self.expired.get()
    }

    /// The client's address and ours that it called; asked of the kernel once.
    pub fn addresses(&self) -> &Rc<ClientAddresses> {
        self.addresses.get_or_init(|| {
            let own = self.stream.local_address().unwrap_or(self.listener.address);
            Rc::new((self.peer, own))
        })
    }

    /// Was the client found gone while the upstream was waited for?
    pub fn gone(&self) -> bool {
        self.gone.get()
    }

    /// Name the upstream connection that serves the present request. It is shut down at once when
    /// the client went away or the time was up while it was being made: no later sweep would do it.
    #[inline]
    pub fn set_upstream(&self, upstream: Option<Stream>) {
        if (self.gone.get() || self.timed_out.get())
            && let Some(upstream) = &upstream
        {
            upstream.shutdown(Shutdown::Both);
        }
        *self.upstream.borrow_mut() = upstream;
    }

    /// Has the client closed both directions, or reset? (A client that only finished sending still
    /// gets its response.)
    fn client_is_gone(&self) -> bool {
        self.stream.is_dead()
    }

    fn expire(&self) {
        self.expired.set(true);
        self.deadline_ms.set(u64::MAX);
        match self.phase.get() {
            // Reading ends; the task can still answer 408.
            Phase::RequestHead | Phase::RequestBody => self.stream.shutdown(Shutdown::Read),
            _ => self.stream.shutdown(Shutdown::Both),
        }
    }

    /// Cut the connection and its upstream, whatever it does.
    pub fn cut(&self) {
        self.stream.shutdown(Shutdown::Both);
        if let Some(upstream) = &*self.upstream.borrow() {
            upstream.shutdown(Shutdown::Both);
        }
    }
}

/// All downstream connections of a worker.
pub struct DownstreamTable {
    connections: RefCell<Vec<Rc<Downstream>>>,
    /// The least of the requests' and attempts' deadlines that the expiry waits for.
    expiry_at_ms: Cell<u64>,
    /// Wakes the expiry when an earlier one is set.
    expiry: Cell<Option<Waker>>,
}

impl Default for DownstreamTable {
    fn default() -> Self {
        DownstreamTable {
            connections: RefCell::default(),
            expiry_at_ms: Cell::new(u64::MAX),
            expiry: Cell::default(),
        }
    }
}

/// What a sweep found, by phase.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Swept {
    /// Idle for too long.
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
            connections.swap_remove(position);
            if let Some(moved) = connections.get(position) {
                moved.position.set(position);
            }
        }
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.connections.borrow().len()
    }

    /// Is there none?
    pub fn is_empty(&self) -> bool {
        self.len() == 0
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
                    Phase::Idle => swept.idle += 1,
                    Phase::RequestHead => swept.heads += 1,
                    Phase::Lingering => {}
                    _ => swept.stalled += 1,
                }
                connection.expire();
            } else if phase == Phase::Upstream
                && !connection.gone.get()
                && connection.client_is_gone()
            {
                swept.gone += 1;
                connection.gone.set(true);
                if let Some(upstream) = &*connection.upstream.borrow() {
                    upstream.shutdown(Shutdown::Both);
                }
            }
        }
        swept
    }

    /// Shut down the connections that wait for a next request.
    pub fn close_idle(&self) {
        for connection in self.connections.borrow().iter() {
            if connection.phase.get() == Phase::Idle {
                connection.stream.shutdown(Shutdown::Both);
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

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read;
    use std::time::Duration;

    use crate::net::connect::loopback_pair;
    use crate::net::runtime::{self, Driver, DriverChoice};

    #[test]
    fn a_client_that_went_away_before_its_upstream_was_there_ends_it() {
        let (driver, _) = Driver::choose(DriverChoice::Auto).expect("epoll at least");
        let read = runtime::run(driver, async {
            let (client, client_end) = loopback_pair(driver, None).await;
            let (upstream, mut upstream_end) = loopback_pair(driver, None).await;
            let address = SocketAddr::from(([127, 0, 0, 1], 80));
            let slot = ListenerSlot::new(address, &crate::snapshot::Snapshot::default());
            let peer = SocketAddr::from(([127, 0, 0, 1], 1));
            let table = DownstreamTable::default();
            let downstream = table.insert(Downstream::new(client, peer, Rc::new(slot)));
            downstream.wait_unbounded(Phase::Upstream);
            socket2::SockRef::from(&client_end).set_linger(Some(Duration::ZERO)).expect("a socket");
            drop(client_end);
            while table.sweep(0).gone == 0 {
                crate::net::sleep(Duration::from_millis(1)).await;
            }
            downstream.set_upstream(Some(upstream));
            upstream_end.set_read_timeout(Some(Duration::from_secs(10))).expect("a socket");
            upstream_end.read(&mut [0]).expect("an end, not the time-out")
        })
        .expect("the runtime works");
        assert_eq!(read, 0);
    }
}
