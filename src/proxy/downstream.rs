//! A client's connection: who it is, what it waits for, and until when. Setting a deadline is two stores;
//! who keeps to it is the table of all connections.

mod table;

use std::cell::{Cell, OnceCell, RefCell};
use std::net::{IpAddr, Shutdown, SocketAddr};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Poll, Waker};

pub use table::DownstreamTable;

use super::listener::ListenerSlot;
use crate::net::{Buffer, Stream};
use crate::tls::TlsInfo;
use crate::upstream::ClientAddresses;

/// What a connection waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// The first bytes, before which nothing is known of it: those of TLS, or of the PROXY protocol.
    FirstBytes,
    /// The end of the TLS handshake.
    Handshake,
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
    /// Anything: a tunnel, which ends at its deadline if it has one.
    Tunnel,
    /// Anything: an HTTP/2 connection whose streams have deadlines of their own.
    Streams,
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
    /// Is it a stream of an HTTP/2 connection, on which HTTP/1.1 is spoken inside?
    pub http2: bool,
    /// May a response that it does not take wait in a large buffer?
    pub large_buffers: bool,
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
    /// The task of an HTTP/2 connection: it is told of what HTTP/1 connections notice by a shutdown.
    task: Cell<Option<Waker>>,
    /// Work that ends when the client is found gone.
    leaving: Cell<Option<Waker>>,
    position: Cell<usize>,
    addresses: OnceCell<Rc<ClientAddresses>>,
    /// What the TLS handshake agreed on.
    tls: Option<Rc<TlsInfo>>,
    /// What came of the first request while something else was read.
    early: Cell<Option<Box<Buffer>>>,
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
        Downstream::of(stream, peer, PeerText::new(peer.ip()), listener)
    }

    fn of(
        stream: Stream,
        peer: SocketAddr,
        peer_text: PeerText,
        listener: Rc<ListenerSlot>,
    ) -> Downstream {
        Downstream {
            stream,
            peer,
            listener,
            http2: false,
            large_buffers: true,
            peer_text,
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
            task: Cell::new(None),
            leaving: Cell::new(None),
            position: Cell::new(usize::MAX),
            addresses: OnceCell::new(),
            tls: None,
            early: Cell::new(None),
        }
    }

    /// The same connection, of whose first request `received` came already.
    pub fn with_early(self, received: Buffer) -> Downstream {
        self.early.set(Some(Box::new(received)).filter(|received| !received.is_empty()));
        self
    }

    /// What came already of the first request.
    pub fn take_early(&self) -> Option<Buffer> {
        self.early.take().map(|received| *received)
    }

    /// A connection in TLS.
    pub fn over_tls(
        stream: Stream,
        peer: SocketAddr,
        listener: Rc<ListenerSlot>,
        tls: Rc<TlsInfo>,
    ) -> Downstream {
        Downstream { tls: Some(tls), ..Downstream::new(stream, peer, listener) }
    }

    /// A stream of the HTTP/2 connection `parent`.
    /// `large_buffers`: may responses wait for it in large buffers?
    pub fn of_http2(stream: Stream, parent: &Downstream, large_buffers: bool) -> Downstream {
        let listener = Rc::clone(&parent.listener);
        let tls = parent.tls.clone();
        let text = parent.peer_text;
        Downstream {
            http2: true,
            large_buffers,
            tls,
            ..Downstream::of(stream, parent.peer, text, listener)
        }
    }

    /// What the TLS handshake agreed on; none: the connection is in clear text.
    pub fn tls(&self) -> Option<&TlsInfo> {
        self.tls.as_deref()
    }

    /// `x-forwarded-client-cert` of the client's certificate, if it sent one (behaviour 2.5.5).
    #[inline]
    pub fn client_certificate(&self) -> Option<&[u8]> {
        let certificate = self.tls.as_ref()?.client_certificate.as_ref()?;
        Some(certificate.forwarded.as_bytes())
    }

    /// Wake this task, of an HTTP/2 connection, when the connection is idle or a head incomplete for too
    /// long, or it is to be drained.
    pub fn call(&self, task: &Waker) {
        self.task.set(Some(task.clone()));
    }

    /// The client has given the present request up: end what is done for it.
    pub fn client_left(&self) {
        self.stream.shutdown(Shutdown::Both);
        self.leave();
    }

    /// The client is gone: neither its upstream nor what it waits for goes on.
    fn leave(&self) {
        self.gone.set(true);
        if let Some(upstream) = &*self.upstream.borrow() {
            upstream.shutdown(Shutdown::Both);
        }
        if let Some(leaving) = self.leaving.take() {
            leaving.wake();
        }
    }

    /// Do something for the client while it is there. None: it was gone before it was done, or began.
    pub fn unless_gone<F: Future>(
        &self,
        mut work: Pin<&mut F>,
    ) -> impl Future<Output = Option<F::Output>> {
        let mut begun = false;
        std::future::poll_fn(move |task| {
            if !begun && self.gone.get() {
                return Poll::Ready(None);
            }
            begun = true;
            // First the work: what it was given is not to be lost.
            if let Poll::Ready(done) = work.as_mut().poll(task) {
                return Poll::Ready(Some(done));
            }
            if self.gone.get() {
                return Poll::Ready(None);
            }
            self.leaving.set(Some(task.waker().clone()));
            Poll::Pending
        })
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
        let task = self.task.take();
        match self.phase.get() {
            // It says goodbye first.
            Phase::Idle | Phase::RequestHead if task.is_some() => {}
            Phase::Idle => self.end_idle(),
            // Either side may be what is waited for.
            Phase::Tunnel => self.cut(),
            // Reading ends; the task can still answer 408.
            Phase::RequestHead | Phase::RequestBody => self.stream.shutdown(Shutdown::Read),
            _ => self.stream.shutdown(Shutdown::Both),
        }
        if let Some(task) = task {
            task.wake();
        }
    }

    /// End a connection that waits for a next request; in order, so that a client of TLS does not take
    /// it for a cut.
    fn end_idle(&self) {
        self.stream.shutdown(Shutdown::Write);
        self.stream.shutdown(Shutdown::Both);
    }

    /// Cut the connection and its upstream, whatever it does.
    pub fn cut(&self) {
        self.stream.shutdown(Shutdown::Both);
        if let Some(upstream) = &*self.upstream.borrow() {
            upstream.shutdown(Shutdown::Both);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read;
    use std::pin::pin;
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
            let never = pin!(std::future::pending::<()>());
            assert!(downstream.unless_gone(never).await.is_none());
            downstream.set_upstream(Some(upstream));
            upstream_end.set_read_timeout(Some(Duration::from_secs(10))).expect("a socket");
            upstream_end.read(&mut [0]).expect("an end, not the time-out")
        })
        .expect("the runtime works");
        assert_eq!(read, 0);
    }
}
