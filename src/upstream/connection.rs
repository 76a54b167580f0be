//! One HTTP/1 connection to an endpoint.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use crate::net::{Buffer, FuturePool, PooledFuture, Stream};

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
    local_address: Option<SocketAddr>,
    /// Requests that were sent on it before the present one.
    pub requests: u64,
}

impl Connection {
    /// A fresh connection, receiving into `buffer`.
    pub fn new(stream: Stream, futures: &Rc<FuturePool>, buffer: Buffer) -> Connection {
        let mut connection = Connection {
            local_address: None,
            stream,
            receiving: None,
            futures: Rc::clone(futures),
            requests: 0,
        };
        connection.begin_receive(buffer);
        connection
    }

    /// The socket, for sending.
    pub fn stream(&self) -> &Stream {
        &self.stream
    }

    /// Our end's address; asked of the kernel once.
    pub fn local_address(&mut self) -> Option<SocketAddr> {
        if self.local_address.is_none() {
            self.local_address = self.stream.local_address();
        }
        self.local_address
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
