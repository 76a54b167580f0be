//! A client's HTTP/2 connection: its streams are accepted here, and each is served by an exchange of its
//! own as if it were a connection of HTTP/1.1 with one request.

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Poll, Waker};
use std::time::{Duration, Instant};

use super::context::WorkerContext;
use super::downstream::{Downstream, Phase};
use super::exchange;
use super::grpc_web;
use crate::http2::server::{Accepted, ServerConnection, ServerStream};
use crate::http2::{self, IoProgress, IoSlots, PREFACE, StreamIo};
use crate::limits::{HTTP2_LARGE_BUFFERS_MAX, HTTP2_PREMATURE_RESETS_FROM, HTTP2_STREAMS_MAX};
use crate::net::{Buffer, Stream};

/// A stream that its client resets sooner than this was not served for nothing, but for no use.
const PREMATURE: Duration = Duration::from_secs(1);
/// Idle buffers that a connection keeps for its next streams.
const SPARE_BUFFERS_MAX: usize = 16;
/// How long a client has to read the last frames.
const LINGER_MS: u64 = 1000;

/// What the streams of a connection share.
#[derive(Default)]
struct Streams {
    /// Requests that are being served. One that its client has reset counts until it has ended.
    open: Cell<usize>,
    /// Streams that have ended, or were for no use.
    done: Cell<u64>,
    /// Of those: for no use.
    useless: Cell<u64>,
    /// Wakes the connection when its last stream has ended, or too many were for no use.
    connection: Cell<Option<Waker>>,
    spare_buffers: RefCell<Vec<Buffer>>,
}

impl Streams {
    /// A stream was for no use: it was malformed, one too many, or reset by the client soon and before
    /// it was complete. Told at once: what is left of serving it must not hide that.
    fn useless(&self) {
        self.done.set(self.done.get() + 1);
        self.useless.set(self.useless.get() + 1);
        if self.too_often_useless() {
            self.wake();
        }
    }

    /// A request has been served. `counted`: [`Streams::useless`] was told of it.
    fn ended(&self, counted: bool) {
        self.open.set(self.open.get().saturating_sub(1));
        self.done.set(self.done.get() + u64::from(!counted));
        if self.open.get() == 0 {
            self.wake();
        }
    }

    fn wake(&self) {
        if let Some(connection) = self.connection.take() {
            connection.wake();
        }
    }

    fn too_often_useless(&self) -> bool {
        self.done.get() >= HTTP2_PREMATURE_RESETS_FROM && self.useless.get() > self.done.get() / 2
    }
}

/// Serve a connection whose first bytes could be those of HTTP/2. When they are not, serve its first
/// requests as [`exchange::exchange`] does.
pub async fn serve(
    context: Rc<WorkerContext>,
    connection: Rc<Downstream>,
    mut received: Buffer,
) -> Option<Buffer> {
    let timeout = context.replica.borrow().snapshot.settings.request_head_timeout;
    let deadline_ms = context.clock.milliseconds(Instant::now()) + timeout.as_millis() as u64;
    connection.wait(Phase::RequestHead, deadline_ms);
    while http2::may_be_preface(&received) {
        if received.len() >= PREFACE.len() {
            serve_http2(&context, &connection, received).await;
            return None;
        }
        let (outcome, buffer) = connection.stream.receive(received).await;
        received = buffer;
        if !matches!(outcome, Ok(count) if count > 0) {
            break;
        }
    }
    // An HTTP/1 request, or the beginning of one.
    exchange::exchange(context, connection, received).await
}

/// Serve a connection that speaks HTTP/2, whose first bytes (perhaps none) are in `received`.
pub async fn serve_http2(
    context: &Rc<WorkerContext>,
    connection: &Rc<Downstream>,
    received: Buffer,
) {
    let timeout = context.replica.borrow().snapshot.settings.request_head_timeout;
    let deadline_ms = context.clock.milliseconds(Instant::now()) + timeout.as_millis() as u64;
    connection.wait(Phase::Idle, deadline_ms);
    let slots =
        IoSlots { receives: Rc::clone(&context.receives), sends: Rc::clone(&context.sends) };
    let io = StreamIo::of_client(connection.stream.clone(), received, slots);
    let progress = io.progress();
    let Ok(http2) = ServerConnection::handshake(io).await else {
        context.count(|counters, _| counters.downstream_protocol_errors += 1);
        return;
    };
    context.count(|counters, _| counters.downstream_http2_connections += 1);
    let mut running = Running {
        context: Rc::clone(context),
        connection: Rc::clone(connection),
        http2,
        progress,
        streams: Rc::default(),
        draining: false,
        closing: false,
        waits: Waits::Nothing,
        seen_sends: 0,
    };
    running.wait_idle();
    let orderly = poll_fn(|task| running.poll(task)).await;
    let drained = running.draining;
    let streams = Rc::clone(&running.streams);
    // The streams that are left hear that the connection is gone.
    drop(running);
    streams.spare_buffers.borrow_mut().clear();
    connection.send_until(u64::MAX);
    if !orderly || drained {
        // The client must be able to read why, and the end of what was under way: a close with bytes of
        // its unread (it grants windows while it reads) would take both away.
        exchange::linger(context, connection).await;
    }
}

/// What a connection has a deadline for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Waits {
    Nothing,
    /// The next stream.
    Idle,
    /// The rest of the head with this number.
    Head(u64),
}

/// A connection while it serves streams.
struct Running {
    context: Rc<WorkerContext>,
    connection: Rc<Downstream>,
    http2: ServerConnection,
    progress: Rc<IoProgress>,
    streams: Rc<Streams>,
    /// No further streams are taken.
    draining: bool,
    /// The last frames are on their way.
    closing: bool,
    waits: Waits,
    seen_sends: u64,
}

impl Running {
    /// Ready when the connection has ended: in order?
    fn poll(&mut self, task: &mut std::task::Context<'_>) -> Poll<bool> {
        self.streams.connection.set(Some(task.waker().clone()));
        self.connection.call(task.waker());
        if self.context.draining.get() && !self.draining {
            self.draining = true;
            self.http2.drain();
        }
        if self.connection.expired() && !self.closing {
            // Idle, or in the middle of a head, for too long.
            self.close();
            self.http2.close();
        }
        loop {
            if !self.closing && (self.progress.flooded.get() || self.streams.too_often_useless()) {
                self.context.count(|counters, _| counters.downstream_http2_floods += 1);
                self.close();
                self.http2.calm();
            }
            let local = self.connection.addresses().1;
            let key = || self.context.random.borrow_mut().u128(..).to_be_bytes();
            match self.http2.poll_accept(task, Some(local), key) {
                Poll::Pending => break,
                Poll::Ready(None) => return Poll::Ready(!self.closing),
                Poll::Ready(Some(Err(error))) => {
                    let broken = error.kind() != std::io::ErrorKind::UnexpectedEof;
                    if broken && !self.closing && !self.connection.gone() {
                        self.context.count(|counters, _| counters.downstream_protocol_errors += 1);
                    }
                    return Poll::Ready(false);
                }
                Poll::Ready(Some(Ok(Accepted::Malformed))) => {
                    self.context.count(|counters, _| counters.downstream_protocol_errors += 1);
                    self.streams.useless();
                }
                Poll::Ready(Some(Ok(Accepted::Stream(stream)))) => self.begin(stream),
            }
        }
        if self.progress.flooded.get() && !self.closing {
            // Found by the last look at the socket: nobody else would wake us for it.
            task.waker().wake_by_ref();
        }
        self.watch();
        Poll::Pending
    }

    /// Serve a stream beside the connection.
    fn begin(&mut self, stream: ServerStream) {
        if !self.draining && self.connection.listener.route_table.get().is_none() {
            // What it was accepted for is no more: another connection may be served.
            self.draining = true;
            self.http2.drain();
        }
        if self.streams.open.get() >= HTTP2_STREAMS_MAX as usize {
            // Streams that were reset make room for others before they have ended here.
            stream.refuse();
            self.streams.useless();
            return;
        }
        self.streams.open.set(self.streams.open.get() + 1);
        crate::net::spawn(serve_stream(
            Rc::clone(&self.context),
            Rc::clone(&self.connection),
            Rc::clone(&self.streams),
            stream,
        ));
    }

    /// Keep the connection's deadlines: for the next stream, for the rest of a head, and for what is
    /// being sent.
    fn watch(&mut self) {
        let waits = if self.progress.head_open.get() {
            Waits::Head(self.progress.heads_begun.get())
        } else if self.streams.open.get() == 0 {
            Waits::Idle
        } else {
            Waits::Nothing
        };
        if !self.closing && waits != self.waits {
            self.waits = waits;
            match waits {
                Waits::Nothing => self.connection.wait_unbounded(Phase::Streams),
                Waits::Idle => self.wait_idle(),
                Waits::Head(_) => {
                    let timeout =
                        self.context.replica.borrow().snapshot.settings.request_head_timeout;
                    let now_ms = self.context.clock.milliseconds(Instant::now());
                    let deadline_ms = now_ms.saturating_add(timeout.as_millis() as u64);
                    self.connection.wait(Phase::RequestHead, deadline_ms);
                }
            }
        }
        let sends = self.progress.sends.get();
        if !self.progress.sending.get() {
            self.connection.send_until(u64::MAX);
            self.seen_sends = u64::MAX;
        } else if sends != self.seen_sends {
            self.seen_sends = sends;
            let now_ms = self.context.clock.coarse_milliseconds();
            let timeout_ms = self.context.progress_timeout_ms();
            self.connection.send_until(now_ms.saturating_add(timeout_ms));
        }
    }

    fn wait_idle(&mut self) {
        self.waits = Waits::Idle;
        exchange::wait_for_request(&self.context, &self.connection, Instant::now());
    }

    /// The last frames leave within a second, or not at all.
    fn close(&mut self) {
        self.closing = true;
        let now_ms = self.context.clock.milliseconds(Instant::now());
        self.connection.wait(Phase::Lingering, now_ms + LINGER_MS);
    }
}

/// One request and its response.
async fn serve_stream(
    context: Rc<WorkerContext>,
    parent: Rc<Downstream>,
    streams: Rc<Streams>,
    layer: ServerStream,
) {
    let began = Instant::now();
    let stream = Stream::over(layer.clone());
    let (stream, _) = grpc_web::layered(&context, stream, &parent.listener, None);
    let few = streams.open.get() <= HTTP2_LARGE_BUFFERS_MAX;
    let downstream = context.downstreams.insert(Downstream::of_http2(stream, &parent, few));
    let spare = streams.spare_buffers.borrow_mut().pop();
    // The head is there: the first receive is ready at once.
    let (outcome, received) = downstream.stream.receive(spare.unwrap_or_else(Buffer::idle)).await;
    let mut premature = false;
    if matches!(outcome, Ok(count) if count > 0) {
        let mut serving = context
            .exchanges
            .place(|| exchange::exchange(Rc::clone(&context), Rc::clone(&downstream), received));
        let idle_buffer = poll_fn(|task| {
            if let Poll::Ready(buffer) = Pin::new(&mut serving).poll(task) {
                return Poll::Ready(buffer);
            }
            if downstream.gone() || layer.poll_reset(task).is_pending() {
                return Poll::Pending;
            }
            // What is done for the client ends now, upstream too.
            premature = began.elapsed() < PREMATURE;
            if premature {
                streams.useless();
            }
            context.count(|counters, _| counters.downstream_io_errors += 1);
            downstream.client_left();
            Pin::new(&mut serving).poll(task)
        })
        .await;
        if let Some(buffer) = idle_buffer {
            let mut spare = streams.spare_buffers.borrow_mut();
            if spare.len() < SPARE_BUFFERS_MAX {
                spare.push(buffer);
            }
        }
    }
    context.downstreams.remove(&downstream);
    drop((downstream, layer));
    streams.ended(premature);
}
