//! A connection as `h2` wants it: reads and writes of tokio's traits over a [`Stream`], whose operations
//! own their buffers. Small writes are gathered and leave in one send.

use std::cell::Cell;
use std::io;
use std::net::Shutdown;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::flood::FrameBudget;
use crate::net::{Buffer, BufferPool, FuturePool, PooledFuture, Stream};

/// Bytes that are gathered before a write waits for the socket.
const GATHERED_BYTES_MAX: usize = 64 * 1024;
/// A send buffer that grew beyond this is given back when it is empty: most connections write little.
const KEPT_BYTES_MAX: usize = 16 * 1024;

type Receiving = PooledFuture<'static, (io::Result<usize>, Buffer)>;
type Sending = PooledFuture<'static, (Result<(), (io::Error, usize)>, Vec<u8>)>;

/// Slots for the operations of connections; one of each kind of a worker.
#[derive(Clone)]
pub struct IoSlots {
    /// Receives into a [`Buffer`].
    pub receives: Rc<FuturePool>,
    /// Sends of gathered bytes.
    pub sends: Rc<FuturePool>,
}

/// What is to be known of a connection's bytes while `h2` owns it.
#[derive(Default)]
pub struct IoProgress {
    /// Bytes are waiting for the peer to take them.
    pub sending: Cell<bool>,
    /// Sends that are done.
    pub sends: Cell<u64>,
    /// Receives that brought something.
    pub receives: Cell<u64>,
    /// Woken by the next.
    pub on_received: Cell<Option<Waker>>,
    /// Are the peer's settings here? They are read when those who drive the connection have been polled.
    pub settled: Cell<bool>,
    /// Heads of messages whose first frame has begun.
    pub heads_begun: Cell<u64>,
    /// Is the last of them still to be completed?
    pub head_open: Cell<bool>,
    /// The peer sent more frames without use than are borne.
    pub flooded: Cell<bool>,
}

/// The bytes of a connection.
pub struct StreamIo {
    stream: Stream,
    slots: IoSlots,
    progress: Rc<IoProgress>,
    budget: FrameBudget,
    received: Option<Buffer>,
    receiving: Option<Receiving>,
    ended: bool,
    gathered: Vec<u8>,
    spare: Vec<u8>,
    sending: Option<Sending>,
}

impl StreamIo {
    /// A client's connection, whose first bytes are in `received`.
    pub fn of_client(stream: Stream, received: Buffer, slots: IoSlots) -> StreamIo {
        StreamIo::new(stream, received, slots, FrameBudget::of_client())
    }

    /// A connection to an endpoint.
    pub fn of_endpoint(stream: Stream, slots: IoSlots) -> StreamIo {
        StreamIo::new(stream, Buffer::idle(), slots, FrameBudget::of_server())
    }

    fn new(stream: Stream, received: Buffer, slots: IoSlots, budget: FrameBudget) -> StreamIo {
        StreamIo {
            stream,
            slots,
            progress: Rc::default(),
            budget,
            received: Some(received),
            receiving: None,
            ended: false,
            gathered: Vec::new(),
            spare: Vec::new(),
            sending: None,
        }
    }

    /// How its bytes get on.
    pub fn progress(&self) -> Rc<IoProgress> {
        Rc::clone(&self.progress)
    }

    /// Begin to receive. A buffer that was filled is followed by a larger one.
    fn begin_receive(&mut self) {
        let buffer = match self.received.take() {
            Some(mut buffer) if !(buffer.is_idle_size() && buffer.is_full()) => {
                buffer.clear();
                buffer
            }
            _ => BufferPool::default().take(),
        };
        let stream = &self.stream;
        self.receiving = Some(self.slots.receives.place(|| stream.receive(buffer)));
    }

    /// Wait for the send under way, then begin the next if there is something to be sent.
    fn poll_send_gathered(&mut self, task: &mut Context<'_>) -> Poll<io::Result<()>> {
        if let Some(sending) = &mut self.sending {
            let (outcome, mut bytes) = ready!(Pin::new(sending).poll(task));
            self.sending = None;
            self.progress.sending.set(false);
            self.progress.sends.set(self.progress.sends.get().wrapping_add(1));
            bytes.clear();
            if bytes.capacity() <= KEPT_BYTES_MAX {
                self.spare = bytes;
            }
            outcome.map_err(|(error, _)| error)?;
        }
        if !self.gathered.is_empty() {
            let bytes = std::mem::replace(&mut self.gathered, std::mem::take(&mut self.spare));
            let stream = self.stream.clone();
            self.progress.sending.set(true);
            let place = || async move { stream.send_all(bytes).await };
            self.sending = Some(self.slots.sends.place(place));
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncRead for StreamIo {
    fn poll_read(
        self: Pin<&mut Self>,
        task: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let io = self.get_mut();
        loop {
            if let Some(receiving) = &mut io.receiving {
                let (outcome, buffer) = ready!(Pin::new(receiving).poll(task));
                io.receiving = None;
                io.received = Some(buffer);
                io.ended |= outcome? == 0;
            }
            if let Some(buffer) = io.received.as_mut().filter(|buffer| !buffer.is_empty()) {
                let count = buffer.len().min(into.remaining());
                into.put_slice(&buffer[..count]);
                io.progress.receives.set(io.progress.receives.get() + 1);
                if let Some(waiting) = io.progress.on_received.take() {
                    waiting.wake();
                }
                if !io.budget.received(&buffer[..count]) {
                    io.progress.flooded.set(true);
                }
                io.progress.settled.set(io.budget.first_complete());
                io.progress.heads_begun.set(io.budget.heads_begun());
                io.progress.head_open.set(io.budget.head_open());
                // Not `advance`: whether it was filled is asked when the next receive begins.
                buffer.skip(count);
                return Poll::Ready(Ok(()));
            }
            if io.ended {
                return Poll::Ready(Ok(()));
            }
            io.begin_receive();
        }
    }
}

impl AsyncWrite for StreamIo {
    fn poll_write(
        self: Pin<&mut Self>,
        task: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let io = self.get_mut();
        while io.gathered.len() >= GATHERED_BYTES_MAX {
            ready!(io.poll_send_gathered(task))?;
        }
        let count = bytes.len().min(GATHERED_BYTES_MAX - io.gathered.len());
        io.gathered.extend_from_slice(&bytes[..count]);
        io.budget.sent(count);
        Poll::Ready(Ok(count))
    }

    fn poll_flush(self: Pin<&mut Self>, task: &mut Context<'_>) -> Poll<io::Result<()>> {
        let io = self.get_mut();
        while io.sending.is_some() || !io.gathered.is_empty() {
            ready!(io.poll_send_gathered(task))?;
        }
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, task: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.as_mut().poll_flush(task))?;
        self.stream.shutdown(Shutdown::Write);
        Poll::Ready(Ok(()))
    }
}
