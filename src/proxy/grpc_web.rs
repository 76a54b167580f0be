//! gRPC-Web to gRPC and back, as Envoy's filter of that name does (behaviour 7.5.5): a layer around the
//! stream of a client of a port whose Gateway server has the protocol GRPC-WEB. What is above it sees gRPC
//! only; requests that are not gRPC-Web, and tunnels, pass as they are.
//!
//! A request becomes `application/grpc` with `te: trailers`; one in text (`application/grpc-web-text`) is
//! decoded from base64. The trailers of its response become the last frame of the body. A response in
//! which the status stands in the head already keeps it there, which clients read too.
//!
//! One piece at a time is turned, and the next is taken when it has been passed on: back-pressure goes
//! through, and what lies here is bounded by a head or a piece.

mod request;
mod response;
mod text;

use std::cell::RefCell;
use std::io;
use std::net::{Shutdown, SocketAddr};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use self::request::{Requests, Step};
use self::response::Responses;
use super::context::WorkerContext;
use super::listener::ListenerSlot;
use crate::net::{Buffer, BufferPool, FuturePool, Layer, PooledFuture, Stream};

/// The most of a response that is turned at once.
const PIECE_BYTES_MAX: usize = 16 * 1024;
/// What was written for a send is kept for the next up to this size.
const KEPT_BYTES_MAX: usize = 4 * 1024;

/// The stream of a client of `listener`, of which `received` came already, with the translation around it
/// if the listener wants that. What it did not take of `received` comes back.
pub fn layered(
    context: &WorkerContext,
    stream: Stream,
    listener: &ListenerSlot,
    received: Option<Buffer>,
) -> (Stream, Option<Buffer>) {
    if !listener.grpc_web.get() {
        return (stream, received);
    }
    let layer = GrpcWeb {
        inner: stream,
        buffers: Rc::clone(&context.buffers),
        receives: Rc::clone(&context.receives),
        sends: Rc::clone(&context.sends),
        incoming: RefCell::new(Incoming { received, ..Incoming::default() }),
        outgoing: RefCell::default(),
    };
    (Stream::over(layer), None)
}

type Receiving = PooledFuture<'static, (io::Result<usize>, Buffer)>;
type Sending = PooledFuture<'static, (Result<(), (io::Error, usize)>, Vec<u8>)>;

struct GrpcWeb {
    inner: Stream,
    buffers: Rc<BufferPool>,
    receives: Rc<FuturePool>,
    sends: Rc<FuturePool>,
    incoming: RefCell<Incoming>,
    outgoing: RefCell<Outgoing>,
}

/// Requests on their way in.
#[derive(Default)]
struct Incoming {
    requests: Requests,
    /// What the client sent and nobody took. None while it is in a receive in flight.
    received: Option<Buffer>,
    /// The small buffer, while a larger one is used.
    idle: Option<Buffer>,
    receiving: Option<Receiving>,
    /// What was written instead of what the client sent, and how much of it was taken.
    written: Vec<u8>,
    taken: usize,
}

/// Responses on their way out.
#[derive(Default)]
struct Outgoing {
    responses: Responses,
    sending: Option<Sending>,
    /// The bytes that the send in flight stands for.
    sending_of: SendOf,
    spare: Vec<u8>,
}

/// Which bytes a send stands for: one that is polled again is told from a new one after one that was
/// dropped.
#[derive(Clone, Copy, Default)]
struct SendOf {
    address: usize,
    length: usize,
    count: usize,
}

impl Incoming {
    fn take_written(&mut self, into: &mut [u8]) -> usize {
        let rest = &self.written[self.taken..];
        let count = rest.len().min(into.len());
        into[..count].copy_from_slice(&rest[..count]);
        self.taken += count;
        if self.taken == self.written.len() {
            self.taken = 0;
            self.written.clear();
            if self.written.capacity() > KEPT_BYTES_MAX {
                self.written = Vec::new();
            }
        }
        count
    }

    /// The buffer for the next receive: the small one between requests.
    fn receive_buffer(&mut self, buffers: &BufferPool) -> Buffer {
        let mut buffer =
            self.received.take().or_else(|| self.idle.take()).unwrap_or_else(Buffer::idle);
        if buffer.is_empty() {
            buffer.clear();
            let between = self.requests.is_between();
            if between && !buffer.is_idle_size() {
                buffers.give(buffer);
                buffer = self.idle.take().unwrap_or_else(Buffer::idle);
            } else if !between && buffer.is_idle_size() {
                self.idle = Some(buffer);
                buffer = buffers.take();
            }
            return buffer;
        }
        buffer.compact();
        if !buffer.is_full() {
            return buffer;
        }
        match buffers.grow(buffer) {
            Ok((larger, idle)) => {
                self.idle = idle.or(self.idle.take());
                larger
            }
            Err(full) => full,
        }
    }

    /// Receive more. 0: the client has finished.
    fn poll_more(&mut self, layer: &GrpcWeb, task: &mut Context<'_>) -> Poll<io::Result<usize>> {
        let receiving = match self.receiving.take() {
            Some(receiving) => receiving,
            None => {
                let buffer = self.receive_buffer(&layer.buffers);
                if buffer.is_full() {
                    // No head is as long: whoever reads it refuses it.
                    self.received = Some(buffer);
                    self.requests.pass_all();
                    return Poll::Ready(Ok(1));
                }
                layer.receives.place(|| layer.inner.receive(buffer))
            }
        };
        let receiving = self.receiving.insert(receiving);
        let (outcome, buffer) = ready!(Pin::new(receiving).poll(task));
        self.receiving = None;
        self.received = Some(buffer);
        Poll::Ready(outcome)
    }
}

impl Layer for GrpcWeb {
    fn poll_receive(&self, task: &mut Context<'_>, into: &mut [u8]) -> Poll<io::Result<usize>> {
        let incoming = &mut *self.incoming.borrow_mut();
        let mut filled = 0;
        loop {
            filled += incoming.take_written(&mut into[filled..]);
            // The next request is taken only by a receive that begins when it is waited for.
            if filled == into.len() || filled > 0 && incoming.requests.is_between() {
                return Poll::Ready(Ok(filled));
            }
            let received = incoming.received.as_deref().unwrap_or_default();
            let room = into.len() - filled;
            let step = incoming.requests.step(received, room, &mut incoming.written);
            if let Some(expected) = incoming.requests.begun() {
                self.outgoing.borrow_mut().responses.expect(expected);
            }
            let used = match step {
                Step::Pass(count) => {
                    into[filled..filled + count].copy_from_slice(&received[..count]);
                    filled += count;
                    count
                }
                Step::Written(count) => count,
                Step::More if filled > 0 => return Poll::Ready(Ok(filled)),
                Step::More => match ready!(incoming.poll_more(self, task)) {
                    Ok(0) => return Poll::Ready(Ok(0)),
                    Ok(_) => 0,
                    Err(error) => return Poll::Ready(Err(error)),
                },
            };
            if let Some(received) = incoming.received.as_mut().filter(|_| used > 0) {
                received.skip(used);
            }
        }
    }

    fn poll_send(&self, task: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let outgoing = &mut *self.outgoing.borrow_mut();
        let (address, length) = (bytes.as_ptr().addr(), bytes.len());
        loop {
            if let Some(sending) = &mut outgoing.sending {
                let (outcome, mut sent) = ready!(Pin::new(sending).poll(task));
                outgoing.sending = None;
                sent.clear();
                if sent.capacity() <= KEPT_BYTES_MAX {
                    outgoing.spare = sent;
                }
                let of = std::mem::take(&mut outgoing.sending_of);
                if let Err((error, _)) = outcome {
                    return Poll::Ready(Err(error));
                }
                if (of.address, of.length) == (address, length) {
                    return Poll::Ready(Ok(of.count));
                }
                continue;
            }
            let mut out = std::mem::take(&mut outgoing.spare);
            let piece = &bytes[..length.min(PIECE_BYTES_MAX)];
            let count = outgoing.responses.take(piece, &mut out)?;
            if outgoing.responses.switched() {
                self.incoming.borrow_mut().requests.pass_all();
            }
            if out.is_empty() {
                outgoing.spare = out;
                return Poll::Ready(Ok(count));
            }
            outgoing.sending_of = SendOf { address, length, count };
            let inner = self.inner.clone();
            let send = || async move { inner.send_all(out).await };
            outgoing.sending = Some(self.sends.place(send));
        }
    }

    fn shutdown(&self, how: Shutdown) {
        self.inner.shutdown(how);
    }

    fn reset_on_close(&self) {
        self.inner.reset_on_close();
    }

    fn is_dead(&self) -> bool {
        self.inner.is_dead()
    }

    fn local_address(&self) -> Option<SocketAddr> {
        self.inner.local_address()
    }
}

impl Drop for GrpcWeb {
    fn drop(&mut self) {
        if let Some(received) = self.incoming.get_mut().received.take() {
            self.buffers.give(received);
        }
    }
}
