//! One HTTP/1 connection to an endpoint.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use super::http2::Http2Connection;
use super::pool::ConnectionPlace;
use crate::net::{Buffer, FuturePool, PooledFuture, Stream};

/// The address of a client and the one of ours that it called.
pub type ClientAddresses = (SocketAddr, SocketAddr);

/// What a connection must be good for, beyond leading to its endpoint.
#[derive(Clone, Copy, Default)]
pub struct Purpose<'p> {
    /// The client that the endpoint is told of (PROXY protocol): it serves that one only.
    pub client: Option<&'p Rc<ClientAddresses>>,
    /// The host that its TLS asks for: what it answers is for requests to that one only.
    pub host: Option<&'p [u8]>,
}

/// What a connection is good for.
pub struct OwnPurpose {
    client: Option<Rc<ClientAddresses>>,
    host: Option<Box<[u8]>>,
}

impl Purpose<'_> {
    /// The same, to be kept; none: every request.
    pub fn to_owned(self) -> Option<Box<OwnPurpose>> {
        if self.client.is_none() && self.host.is_none() {
            return None;
        }
        Some(Box::new(OwnPurpose { client: self.client.cloned(), host: self.host.map(Box::from) }))
    }

    /// Is a connection that is good for `own` good for this?
    #[inline]
    pub fn is_served_by(self, own: &Option<Box<OwnPurpose>>) -> bool {
        match own {
            None => self.client.is_none() && self.host.is_none(),
            Some(own) => {
                let same_host = match (&own.host, self.host) {
                    (None, None) => true,
                    (Some(own), Some(host)) => own.eq_ignore_ascii_case(host),
                    _ => false,
                };
                own.client.as_ref() == self.client && same_host
            }
        }
    }
}

/// The HTTP/2 connection of a stream.
struct Http2Parent {
    parent: Rc<Http2Connection>,
    /// What it had received when the stream was made.
    receives: u64,
}

type Receiving = PooledFuture<'static, (io::Result<usize>, Buffer)>;

/// A connection to an endpoint.
///
/// A receive is always in flight while the connection is idle or waits for a response head. That
/// one operation does three things: it becomes the read of the next response (no extra operation),
/// it tells at checkout, without a system call, that the upstream has closed meanwhile, and it
/// catches bytes that nobody asked for, which must never be taken for the answer to the next
/// request.
pub struct Connection {
    stream: Stream,
    receiving: Option<Receiving>,
    futures: Rc<FuturePool>,
    /// Boxed: it is asked for once, and the connection moved with every request.
    local_address: Option<Box<SocketAddr>>,
    /// Requests that were sent on it before the present one.
    pub requests: u32,
    /// Worker time when it was opened, seconds.
    opened_seconds: u32,
    /// What it is good for, if that is not every request.
    pub purpose: Option<Box<OwnPurpose>>,
    /// Of a stream of an HTTP/2 connection: that connection. The stream serves one request, and is not
    /// a connection to count.
    http2: Option<Http2Parent>,
    /// Its place among the connections that the cluster may have, if that limits them.
    pub place: Option<Box<ConnectionPlace>>,
}

impl Connection {
    /// A connection that was opened at `opened_ms`, receiving into `buffer`.
    pub fn new(
        stream: Stream,
        futures: &Rc<FuturePool>,
        buffer: Buffer,
        opened_ms: u64,
    ) -> Connection {
        let mut connection = Connection {
            local_address: None,
            stream,
            receiving: None,
            futures: Rc::clone(futures),
            requests: 0,
            opened_seconds: (opened_ms / 1000) as u32,
            purpose: None,
            http2: None,
            place: None,
        };
        connection.begin_receive(buffer);
        connection
    }

    /// A stream of the HTTP/2 connection `parent`, receiving into `buffer`.
    pub fn over_http2(
        parent: Rc<Http2Connection>,
        futures: &Rc<FuturePool>,
        buffer: Buffer,
    ) -> Connection {
        let connection = Connection::new(parent.stream(), futures, buffer, 0);
        let receives = parent.receives();
        Connection { http2: Some(Http2Parent { parent, receives }), ..connection }
    }

    /// Is it a stream of an HTTP/2 connection?
    #[inline]
    pub fn is_http2(&self) -> bool {
        self.http2.is_some()
    }

    /// The time of the request on it is up.
    pub fn timed_out(&self) {
        if let Some(http2) = &self.http2 {
            http2.parent.timed_out(http2.receives);
        }
    }

    /// How long ago it was opened, milliseconds (in whole seconds).
    pub fn age_ms(&self, now_ms: u64) -> u64 {
        (now_ms / 1000).saturating_sub(self.opened_seconds.into()) * 1000
    }

    /// The socket, for sending.
    pub fn stream(&self) -> &Stream {
        &self.stream
    }

    /// Our end's address; asked of the kernel once.
    pub fn local_address(&mut self) -> Option<SocketAddr> {
        if self.local_address.is_none() {
            self.local_address = self.stream.local_address().map(Box::new);
        }
        self.local_address.as_deref().copied()
    }

    /// Start the receive that the next response arrives by.
    pub fn begin_receive(&mut self, buffer: Buffer) {
        self.receiving = Some(self.futures.place(|| self.stream.receive(buffer)));
    }

    /// The outcome of the receive in flight; 0 bytes mean that the upstream has closed. `None` when
    /// none is in flight.
    pub async fn received(&mut self) -> Option<(io::Result<usize>, Buffer)> {
        match self.receiving.as_mut() {
            None => None,
            Some(receiving) => {
                let outcome = receiving.await;
                self.receiving = None;
                Some(outcome)
            }
        }
    }

    /// Has nothing happened on the connection since it became idle? False: the upstream has closed
    /// it, or sent bytes that no request asked for. Either way it must not be used again.
    pub fn is_quiet(&mut self) -> bool {
        let Some(receiving) = self.receiving.as_mut() else { return false };
        let mut context = Context::from_waker(Waker::noop());
        match Pin::new(receiving).poll(&mut context) {
            Poll::Pending => true,
            Poll::Ready(_) => {
                self.receiving = None;
                false
            }
        }
    }
}
