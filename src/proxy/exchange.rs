//! The life of a request on an HTTP/1 connection, from its first byte to its record. Read this
//! first; `docs/architecture.md` follows it.
//!
//! [`serve`] is what an idle connection costs: a small future and a small buffer. When bytes arrive
//! the rest of the story runs in a pooled slot ([`exchange`]) and gives its memory back when the
//! connection is idle again.

use std::net::{Shutdown, SocketAddr};
use std::rc::Rc;
use std::time::{Duration, Instant};

use super::context::{Replica, WorkerContext};
use super::downstream::{After, Downstream, Phase};
use super::error::ProxyError;
use super::forward::forward;
use super::grpc_web;
use super::http2_connection;
use super::listener::ListenerSlot;
use super::local_reply;
use super::receiver::Receiver;
use super::request::{self, Decision, Plan};
use super::request_body::{self, Progress, RequestBody};
use super::scratch::Scratch;
use super::tap;
use super::trace;
use crate::http1::{HeadScanner, RequestError};
use crate::http2;
use crate::net::{Buffer, FuturePool, PooledFuture, Stream};

/// How long a client may keep sending after a response that ended the connection.
const LINGER_MS: u64 = 1000;
/// How much of that is read and thrown away.
const LINGER_BYTES_MAX: usize = 1024 * 1024;

/// Serve a connection until it ends.
pub fn serve(
    context: Rc<WorkerContext>,
    stream: Stream,
    peer: SocketAddr,
    listener: Rc<ListenerSlot>,
) -> impl Future<Output = ()> {
    let (stream, _) = grpc_web::layered(&context, stream, &listener, None);
    let connection = context.downstreams.insert(Downstream::new(stream, peer, listener));
    serve_connection(context, connection)
}

/// The same of a connection that is in the table already.
pub async fn serve_connection(context: Rc<WorkerContext>, connection: Rc<Downstream>) {
    context.count(|counters, gauges| {
        counters.downstream_accepted += 1;
        gauges.downstream_active += 1;
    });
    wait_for_request(&context, &connection, Instant::now());
    let mut first = true;
    // Something before the requests may have read the beginning of the first one.
    let mut waiting = match connection.take_early() {
        Some(early) => begin(&context, &connection, early, std::mem::take(&mut first)).await,
        None => Some(Buffer::idle()),
    };
    while let Some(buffer) = waiting {
        let (outcome, received) = connection.stream.receive(buffer).await;
        if !matches!(outcome, Ok(count) if count > 0) {
            break;
        }
        waiting = begin(&context, &connection, received, std::mem::take(&mut first)).await;
    }
    context.downstreams.remove(&connection);
    context.count(|counters, gauges| {
        counters.downstream_closed += 1;
        gauges.downstream_active -= 1;
    });
}

/// What becomes of received bytes, in a slot of its own: an exchange, or a whole connection when the first
/// ones are those of HTTP/2. It ends with the idle buffer when the connection is to wait for another request.
fn begin(
    context: &Rc<WorkerContext>,
    connection: &Rc<Downstream>,
    received: Buffer,
    first: bool,
) -> PooledFuture<'static, Option<Buffer>> {
    let (own, client) = (Rc::clone(context), Rc::clone(connection));
    // What a handshake agreed on is spoken, whatever comes; bytes are asked only where it agreed on nothing.
    match connection.tls().and_then(|tls| tls.alpn) {
        // Not of the pool: its slots have the size of an exchange.
        Some("h2") if first => FuturePool::new().place(|| async move {
            http2_connection::serve_http2(&own, &client, received).await;
            None
        }),
        None if first && http2::may_be_preface(&received) => {
            FuturePool::new().place(|| http2_connection::serve(own, client, received))
        }
        _ => context.exchanges.place(|| exchange(own, client, received)),
    }
}

/// The connection is idle from `now` on.
pub(super) fn wait_for_request(context: &WorkerContext, connection: &Downstream, now: Instant) {
    let timeout = context.replica.borrow().snapshot.settings.idle_timeout;
    let deadline = context.clock.milliseconds(now).saturating_add(timeout.as_millis() as u64);
    connection.wait(Phase::Idle, deadline);
}

/// Serve the request whose first bytes are in `input`, and those pipelined behind it. Returns the
/// idle buffer, empty, when the connection is to wait for another request.
pub(super) async fn exchange(
    context: Rc<WorkerContext>,
    connection: Rc<Downstream>,
    input: Buffer,
) -> Option<Buffer> {
    let mut scratch = context.take_scratch();
    let mut receiver = Receiver::new(input);
    let after = loop {
        match one_request(&context, &connection, &mut receiver, &mut scratch).await {
            After::Next => {
                let pipelined = receiver.input.as_ref().is_some_and(|input| !input.is_empty());
                // What follows on a stream of HTTP/2 is of its one request, whatever it looks like.
                if pipelined && !context.draining.get() && !connection.http2 {
                    continue;
                }
                break if pipelined { After::Close } else { After::Next };
            }
            other => break other,
        }
    };
    context.give_scratch(scratch);
    match after {
        After::Next => Some(receiver.into_idle(&context)),
        After::Close => {
            linger(&context, &connection).await;
            None
        }
        After::Cut => {
            connection.stream.reset_on_close();
            None
        }
    }
}

/// One request and its response.
async fn one_request(
    context: &Rc<WorkerContext>,
    connection: &Rc<Downstream>,
    receiver: &mut Receiver,
    scratch: &mut Scratch,
) -> After {
    let started = Instant::now();
    connection.wait_unbounded(Phase::Upstream);
    let decision = match read_head(context, connection, receiver, scratch, started).await {
        Some(decision) => decision,
        None => return After::Close,
    };
    context.count(|_, gauges| gauges.requests_active += 1);
    if scratch.delay_ms > 0 {
        // Boxed: a timer is large, and an injected delay must not enlarge every exchange.
        let mut delay = Box::pin(crate::net::sleep(Duration::from_millis(scratch.delay_ms)));
        connection.unless_gone(delay.as_mut()).await;
    }
    let (after, replica) = match decision {
        Decision::Forward { plan, cluster, replica } => {
            let after =
                forward(context, connection, receiver, scratch, &plan, cluster, &replica).await;
            (after, replica)
        }
        Decision::Configured { plan, route, replica } => {
            let action = &replica.snapshot.route(route).action;
            let read = pass_over_body(receiver, scratch, &plan);
            let after =
                local_reply::send_configured(context, connection, &plan, action, read, scratch)
                    .await;
            (after, replica)
        }
        Decision::Reply { plan, error, replica } => {
            let plan = plan.as_ref();
            let read = plan.is_some_and(|plan| pass_over_body(receiver, scratch, plan));
            let after = local_reply::send(context, connection, plan, error, read, scratch).await;
            (after, replica)
        }
        // `read_head` returns only decisions.
        Decision::Incomplete => (After::Close, Rc::clone(&context.replica.borrow())),
    };
    let ended = Instant::now();
    connection.set_upstream(None);
    finish(context, connection, scratch, &replica, ended);
    if matches!(after, After::Next) {
        wait_for_request(context, connection, ended);
    }
    after
}

/// Receive until the head is complete, and decide. `None`: the client went away before it said
/// anything that wants an answer.
async fn read_head(
    context: &WorkerContext,
    connection: &Downstream,
    receiver: &mut Receiver,
    scratch: &mut Scratch,
    started: Instant,
) -> Option<Decision> {
    let mut scanner: Option<HeadScanner> = None;
    loop {
        let input = receiver.input.as_ref()?;
        let may_be_complete = match &mut scanner {
            None => true,
            Some(scanner) => scanner.may_be_complete(input),
        };
        if may_be_complete {
            match request::prepare(context, connection, input, scratch, started) {
                Decision::Incomplete => {}
                decision => return Some(decision),
            }
        }
        if scanner.is_none() {
            scanner = Some(HeadScanner::default());
            let timeout = context.replica.borrow().snapshot.settings.request_head_timeout;
            let deadline = context.clock.milliseconds(started) + timeout.as_millis() as u64;
            connection.wait(Phase::RequestHead, deadline);
        }
        if input.is_full() && !receiver.grow(context) {
            let error = ProxyError::Request(RequestError::HeadTooLarge);
            return Some(request::reject(context, scratch, started, error));
        }
        let (outcome, received) = connection.stream.receive(receiver.input.take()?).await;
        receiver.input = Some(received);
        match outcome {
            Ok(0) if connection.expired() => {
                let error = ProxyError::RequestHeadTimeout;
                return Some(request::reject(context, scratch, started, error));
            }
            Ok(0) | Err(_) => return None,
            Ok(_) => {}
        }
    }
}

/// Take a request that is answered here out of the receive buffer. A body that is here completely
/// can be passed over (true); otherwise the connection ends after the answer.
fn pass_over_body(receiver: &mut Receiver, scratch: &mut Scratch, plan: &Plan) -> bool {
    let Some(input) = receiver.input.as_mut() else { return false };
    input.advance(plan.head_bytes);
    let progress = Progress::default();
    scratch.request.clear();
    let body = request_body::begin(plan.body, input, &mut scratch.request, &progress);
    scratch.info.request_body_bytes = progress.body_bytes.get();
    matches!(body, Ok(RequestBody::Done))
}

/// Write the record of a request.
fn finish(
    context: &WorkerContext,
    connection: &Downstream,
    scratch: &mut Scratch,
    replica: &Replica,
    ended: Instant,
) {
    // It must not keep a configuration alive while it waits in its pool.
    scratch.response_edits.clear();
    let failure = scratch.transport_failure.as_str();
    let info = &mut scratch.info;
    info.duration_us = ended.saturating_duration_since(info.started).as_micros() as u64;
    if !replica.snapshot.settings.requests_uncounted {
        context.metrics.record(info);
    }
    context.count(|_, gauges| gauges.requests_active -= 1);
    if let Some(sink) = context.access_log.borrow_mut().as_mut() {
        let response = &scratch.response;
        let snapshot = &replica.snapshot;
        let line = super::record::line_context(snapshot, info, connection, failure, response);
        sink.record(&snapshot.settings.telemetry.access_log, info, &scratch.fields, &line);
    }
    if context.taps.any() {
        tap::pass(context, connection, scratch, replica);
    }
    trace::finish(context, connection, scratch, replica);
}

/// Let the client read the last response before the connection goes: end our side, then take what
/// it still sends. Closing at once could destroy the response on its way (RFC 9112 section 9.6).
pub(super) async fn linger(context: &WorkerContext, connection: &Downstream) {
    connection.stream.shutdown(Shutdown::Write);
    let deadline = context.clock.milliseconds(Instant::now()) + LINGER_MS;
    connection.wait(Phase::Lingering, deadline);
    let mut buffer = context.buffers.take();
    let mut taken = 0;
    loop {
        let (outcome, received) = connection.stream.receive(buffer).await;
        buffer = received;
        match outcome {
            Ok(count) if count > 0 && taken < LINGER_BYTES_MAX => {
                taken += count;
                buffer.clear();
            }
            _ => break,
        }
    }
    context.buffers.give(buffer);
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An idle connection costs its future, a kilobyte of buffer and four small blocks; together
    /// they must stay below 2 KiB. And the slot of an exchange is written once per request.
    #[test]
    fn futures_stay_small() {
        fn of_four<F, A, B, C, D>(_: impl FnOnce(A, B, C, D) -> F) -> usize {
            size_of::<F>()
        }
        fn of_three<F, A, B, C>(_: impl FnOnce(A, B, C) -> F) -> usize {
            size_of::<F>()
        }
        let (idle, busy) = (of_four(serve), of_three(exchange));
        assert!(idle <= 256 && busy <= 2304, "an idle connection: {idle}, an exchange: {busy}");
    }
}
